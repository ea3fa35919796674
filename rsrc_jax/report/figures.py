"""The figures of a run: dicts that were read from its files in, SVG out."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rsrc_jax.report import style
from rsrc_jax.report.style import (
  ENGLISH,
  FAINT,
  INK,
  PHASES,
  End,
  arm,
  arm_label,
  arms_of,
  number,
  ordered,
  phases_of,
)

Series = tuple[np.ndarray, np.ndarray]  # steps [n], values [n]


class Panel(NamedTuple):
  """One quantity over the steps."""

  key: str
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
OPEN_LABEL = "nll of s given c, bits a source (fewer is up)"
OPEN = Panel(
  "nll_bits", "Bits of s that c leaves open, validation", OPEN_LABEL, "valid",
  noisy=False, down=True,
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


def series(metrics: list[dict], phase: str, split: str, key: str) -> Series:
  """What one phase logged under `key`. The last word on a step counts."""
  points = {}
  for line in metrics:
    if line.get("phase") == phase and line.get("split") == split:
      # What concerns one role is logged under its name.
      value = number(line.get(key, line.get(f"C_{key}")))
      step = number(line.get("step"))
      if step is not None and value is not None:
        points[step] = value
  steps = sorted(points)
  return np.asarray(steps), np.asarray([points[step] for step in steps])


def draw(summary: dict, metrics: list[dict]) -> dict[str, Callable[[], Figure]]:
  """File name -> a function that draws it, in the order of the report."""
  makers = {
    "budget": lambda: budget(summary),
    "learning": lambda: learning(metrics),
    "vocabulary": lambda: over_steps(metrics, NOVEL, HIDDEN),
    "length": lambda: over_steps(metrics, LENGTH, ENTROPY),
  }
  # Runs from before the ledger have neither; that is no gap in their report.
  if any(number(m.get("flops")) is not None for m in metrics):
    makers["compute"] = lambda: compute(metrics)
  if (summary.get("ledger") or {}).get("phases"):
    makers["ledger"] = lambda: ledger(summary["ledger"])
  return makers


def budget(summary: dict) -> Figure:
  """What each arm conveys, and how well d reads, against the budget k."""
  curves = (summary.get("heldout") or {}).get("budget_curve") or {}
  figure, (left, right) = style.panels()
  bits = any(
    number((m or {}).get("bits_conveyed")) is not None
    for points in curves.values()
    for m in points.values()
  )
  if bits:
    ends = _curves(left, curves, "bits_conveyed")
    ends += _bounds(left, summary, sorted(_budgets(curves)))
    left.set(title="Bits conveyed", ylabel="bits a source")
    left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
  else:
    ends = _curves(left, curves, "nll_bits")
    left.set(title="Bits of s that c leaves open", ylabel=OPEN_LABEL)
    left.invert_yaxis()
  style.label(left, ends)
  ends = _curves(right, curves, "edit_similarity")
  right.set(
    title="How close the free-running d is to s", ylabel="edit similarity"
  )
  right.set_ylim(0.0, 1.03)
  style.label(right, ends)
  for axes in (left, right):
    axes.set_xlabel("budget k, tokens of the code")
    axes.set_xticks(sorted(_budgets(curves)))
  return figure


def learning(metrics: list[dict]) -> Figure:
  """Held-out score and reward of every arm over its steps."""
  bits = any(number(m.get("bits_conveyed")) is not None for m in metrics)
  return over_steps(metrics, SCORE if bits else OPEN, REWARD)


def compute(metrics: list[dict]) -> Figure:
  """Held-out capability of every arm against what training it has cost."""
  figure, both = style.panels()
  panel = next(
    p
    for p in (VERIFIED, SCORE, OPEN)
    if p is OPEN or any(number(m.get(p.key)) is not None for m in metrics)
  )
  phases = {str(m["phase"]) for m in metrics if m.get("phase")} - {"base"}
  for axes, key, unit in zip(
    both, ("flops", "joules"), ("training FLOPs", "training joules"),
    strict=True,
  ):  # fmt: skip
    found = {n: _against(metrics, n, panel.key, key) for n in ordered(phases)}
    found = {n: xy for n, xy in found.items() if xy[0].size}
    top = max((x[-1] for x, _ in found.values()), default=1.0)
    power = _thousands(top)
    ends = [
      style.line(axes, name, x / 10.0**power, y)
      for name, (x, y) in found.items()
    ]
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(title=panel.title, ylabel=panel.unit)
    axes.set_xlabel(f"{unit} up to here, base included{_times(power)}")
    if panel.down:
      axes.invert_yaxis()
    style.label(axes, ends)
  return figure


def ledger(books: dict) -> Figure:
  """Seconds and FLOPs of every arm, phase by phase, as bars."""
  arms = arms_of(books["phases"])
  shown = {n: books["phases"][n] or {} for n in arms}
  figure = Figure(figsize=(10.8, 1.35 + 0.34 * len(arms)))
  figure.subplots_adjust(
    left=0.125, right=0.985, bottom=0.62 / figure.get_figheight(),
    top=1 - 0.28 / figure.get_figheight(), wspace=0.1,
  )  # fmt: skip
  both = figure.subplots(1, 2, sharey=True)
  seen = {}
  flops = [_total(by, "flops") for by in shown.values()]
  power = _thousands(max(flops, default=0.0))
  titles = {"seconds": "Seconds", "flops": f"FLOPs{_times(power)}"}
  for axes, key in zip(both, ("seconds", "flops"), strict=True):
    for row, name in enumerate(arms):
      left = 0.0
      for phase in phases_of(shown[name]):
        entry = shown[name][phase] or {}
        value = number(entry.get(key)) or 0.0
        value /= 10.0**power if key == "flops" else 1.0
        if value > 0:
          seen[phase] = PHASES.get(phase, INK)
          # Seconds within one program are shares of it, not readings.
          shared = key == "seconds" and entry.get("measured") is False
          axes.barh(
            row, value, 0.68, left, color=seen[phase], edgecolor="white",
            lw=0.6, hatch="//////" if shared else "",
          )  # fmt: skip
        left += value
    axes.set_title(titles[key])
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
  both[0].set_yticks(range(len(arms)), [arm_label(name) for name in arms])
  both[0].set_ylim(len(arms) - 0.45, -0.55)
  legend = [Patch(color=seen[phase], label=phase) for phase in phases_of(seen)]
  figure.legend(
    handles=legend, loc="lower center", ncols=max(len(legend), 1),
    frameon=False, fontsize=8.5, handlelength=1.0, columnspacing=1.1,
    borderaxespad=0.1,
  )  # fmt: skip
  return figure


def over_steps(metrics: list[dict], *panels: Panel) -> Figure:
  """All arms over their steps, one panel beside the other."""
  figure, both = style.panels()
  phases = {str(m["phase"]) for m in metrics if m.get("phase")} - {"base"}
  for axes, panel in zip(both, panels, strict=True):
    ends = []
    # Every arm logs the schedule of the curriculum; only codes are under it.
    for name in ordered(phases - set(() if panel.english else ENGLISH)):
      # Rules without a policy log some quantities in validation only.
      for split in (panel.split, "valid"):
        steps, values = series(metrics, name, split, panel.key)
        if steps.size:
          if panel.noisy:
            axes.plot(steps, values, color=arm(name).color, alpha=0.2, lw=0.9)
            values = style.smooth(values)
          ends.append(style.line(axes, name, steps, values))
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


def _thousands(top: float) -> int:
  """A power of ten in thousands; matplotlib's offset would be overlooked."""
  return 3 * math.floor(math.log10(top) / 3) if top > 0 else 0


def _times(power: int) -> str:
  return f", $10^{{{power}}}$" if power else ""


def _total(phases: dict, key: str) -> float:
  return sum(number((entry or {}).get(key)) or 0.0 for entry in phases.values())


def _against(metrics: list[dict], phase: str, y: str, x: str) -> Series:
  """Validation scores of an arm against a running total, step by step."""
  at, spent = series(metrics, phase, "valid", x)
  steps, scores = series(metrics, phase, "valid", y)
  both = np.intersect1d(at, steps)
  return spent[np.isin(at, both)], scores[np.isin(steps, both)]


def _budgets(curves: dict) -> set[int]:
  return {int(k) for points in curves.values() for k in points}


def _curves(axes: Axes, curves: dict, key: str) -> list[End]:
  """A line an arm over k."""
  ends = []
  for name in ordered(curves):
    points = {
      int(k): number((m or {}).get(key)) for k, m in curves[name].items()
    }
    k = sorted(k for k, value in points.items() if value is not None)
    if k:
      ends.append(style.line(axes, name, k, [points[i] for i in k]))
  return ends


def _bounds(axes: Axes, summary: dict, ks: list[int]) -> list[End]:
  """What no code, and no extract, of k tokens can exceed."""
  bounds, ends = summary.get("bounds") or {}, []
  top = number(summary.get("budget_tokens")) or ks[-1]
  capacity = number(bounds.get("channel_bits"))
  extract = number(bounds.get("english_extract_bits"))
  entropy = number(summary.get("entropy_bits"))
  by_k = bounds.get("english_extract_bits_by_k") or {}
  by_k = {int(k): number(v) for k, v in by_k.items()}
  by_k = {k: by_k[k] for k in ks if by_k.get(k) is not None}
  dashed = {"color": INK, "lw": 1.2, "ls": (0, (5, 3)), "zorder": 2}
  if capacity is not None:
    # log2 of the number of codes: proportional to k but for 0.01 bits.
    line = [capacity * k / top for k in ks]
    axes.plot(ks, line, **dashed)
    ends.append(End(line[-1], "channel capacity", INK))
  dotted = dashed | {"color": FAINT, "ls": (0, (1.5, 2))}
  if by_k:
    axes.plot(list(by_k), list(by_k.values()), **dotted, marker="_")
    ends.append(End(list(by_k.values())[-1], "any extract of s", FAINT))
  elif extract is not None:
    axes.plot([ks[0], ks[-1]], [extract] * 2, **dotted)
    ends.append(End(extract, f"any extract, k = {top:.0f}", FAINT))
  if entropy is not None:
    axes.axhline(entropy, color="#cbd2d9", lw=1.2, zorder=1)
    ends.append(End(entropy, "all of s", FAINT))
  return ends
