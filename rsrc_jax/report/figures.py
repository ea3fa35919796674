"""The figures of a run: dicts that were read from its files in, figures out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsrc_jax.report import (
  curve_figure,
  heldout_figure,
  ledger_figure,
  plateau_figure,
  style,
)
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.series import FIRST, Series, has, logged_by, series


class Panel(NamedTuple):
  """One quantity over the steps."""

  key: str  # of series.LOGGED
  title: str
  unit: str
  split: str = "train"
  noisy: bool = True  # draw a moving average over the single steps
  zero: bool = False  # start the axis at zero
  down: bool = False  # less is better, so less is up
  english: bool = True  # holds for the English arms too


SCORE = Panel(
  "bits_conveyed", "Bits conveyed, validation", "bits a source", "valid",
  noisy=False,
)  # fmt: skip
OPEN = Panel(
  "nll_bits", "Bits of s that c leaves open, validation",
  heldout_figure.OPEN_LABEL, "valid", noisy=False, down=True,
)  # fmt: skip
REWARD = Panel("reward", "Reward of C while it trains", "reward")
NOVEL = Panel(
  "novel_fraction", "Tokens of c that are not in s", "share of c", zero=True
)
HIDDEN = Panel(
  "hidden", "Vocabulary hidden from C", "share of the vocabulary",
  noisy=False, zero=True, english=False,
)  # fmt: skip
LENGTH = Panel("length", "Length of the code", "tokens", zero=True)
ENTROPY = Panel("entropy", "Entropy of C", "nats a token", zero=True)
VERIFIED = Panel(
  "verified_bits", "Verified bits saved, validation", "bits a source", "valid"
)


def makers(run: Run) -> dict[str, Callable[[], Figure]]:
  """File name -> a function that draws it, in the order of the report."""
  summary, metrics, arms = run.summary, run.metrics, run.arms
  # Runs from before the curve have its budgets alone.
  found = (
    {"curve": lambda: curve_figure.curve(summary, arms)}
    if summary.get("curve")
    else {"budget": lambda: heldout_figure.budget(summary, arms)}
  )
  found |= {
    "learning": lambda: learning(metrics, arms),
    "vocabulary": lambda: over_steps(metrics, arms, NOVEL, HIDDEN),
    "length": lambda: over_steps(metrics, arms, LENGTH, ENTROPY),
  }
  # Runs from before the ledger have neither; that is no gap in their report.
  if has(metrics, "flops"):
    found["compute"] = lambda: compute(metrics, arms)
  if any((summary.get("plateaus") or {}).values()):
    found["plateaus"] = lambda: plateau_figure.plateaus(run)
  if (summary.get("ledger") or {}).get("phases"):
    found["ledger"] = lambda: ledger_figure.ledger(summary["ledger"], arms)
  return found


def learning(metrics: list[dict], arms: Arms) -> Figure:
  """Held-out score and reward of every arm over its steps."""
  score = SCORE if has(metrics, SCORE.key) else OPEN
  return over_steps(metrics, arms, score, REWARD)


def over_steps(metrics: list[dict], arms: Arms, *panels: Panel) -> Figure:
  """All arms over their steps, two panels side by side."""
  figure, both = style.panels()
  names = logged_by(metrics) - {*FIRST}
  for axes, panel in zip(both, panels, strict=True):
    ends = []
    # Every arm logs the schedule of the curriculum; only codes are under it.
    held = names - set(() if panel.english else arms.english)
    for name in style.ordered(held, arms.looks):
      # Rules without a policy log some quantities in validation only.
      for split in (panel.split, "valid"):
        steps, values = series(metrics, name, split, panel.key)
        if steps.size:
          look = style.arm(name, arms.looks)
          if panel.noisy:
            axes.plot(steps, values, color=look.color, alpha=0.2, lw=0.9)
            values = style.smooth(values)
          front = name == arms.headline
          ends.append(style.line(axes, look, steps, values, front))
          break
    axes.set(title=panel.title, ylabel=panel.unit, xlabel="step of the arm")
    if panel.zero and ends:
      # A little below, so that a line at zero can be seen.
      top = max(axes.dataLim.y1, 0.0) or 1.0
      axes.set_ylim(-0.03 * top, 1.07 * top)
    if panel.down:
      axes.invert_yaxis()
    style.label(axes, ends)
  return figure


def compute(metrics: list[dict], arms: Arms) -> Figure:
  """Held-out capability of every arm against what training it has cost."""
  figure, both = style.panels()
  panel = next(
    p for p in (VERIFIED, SCORE, OPEN) if p is OPEN or has(metrics, p.key)
  )
  names = style.ordered(logged_by(metrics) - {*FIRST}, arms.looks)
  for axes, key, unit in zip(
    both, ("flops", "joules"), ("training FLOPs", "training joules"),
    strict=True,
  ):  # fmt: skip
    found = {n: _against(metrics, n, panel.key, key) for n in names}
    found = {n: xy for n, xy in found.items() if xy[0].size}
    top = max((x[-1] for x, _ in found.values()), default=1.0)
    power = ledger_figure.thousands(top)
    ends = [
      style.line(
        axes, style.arm(name, arms.looks), x / 10.0**power, y,
        name == arms.headline,
      )
      for name, (x, y) in found.items()
    ]  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(title=panel.title, ylabel=panel.unit)
    axes.set_xlabel(
      f"{unit} up to here, base included{ledger_figure.times(power)}"
    )
    if panel.down:
      axes.invert_yaxis()
    style.label(axes, ends)
  return figure


def _against(metrics: list[dict], arm: str, y: str, x: str) -> Series:
  """Validation scores of an arm against a running total, step by step."""
  at, spent = series(metrics, arm, "valid", x)
  steps, scores = series(metrics, arm, "valid", y)
  both = np.intersect1d(at, steps)
  return spent[np.isin(at, both)], scores[np.isin(steps, both)]
