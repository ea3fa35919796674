"""Figures of the experiment, each a function of stored results.

Colours are Okabe and Ito's, some darkened; English arms are dashed, and every
arm has a marker of its own, so that nothing hangs on colour alone.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.random_vocabulary import (
  costs,
  stored,
  training,
  use_tables,
)
from experiments.random_vocabulary.stored import Tier
from rsrc_jax.metrics import statistics
from rsrc_jax.report import style


class Look(NamedTuple):
  """How an arm is drawn everywhere."""

  color: str
  marker: str
  line: str


LOOKS = {
  "E1": Look("#8a96a3", "v", "--"),
  "E2": Look("#a8487f", "D", "--"),
  "E3": Look("#3e4c59", "<", "--"),
  "E3o": Look("#000000", ">", "--"),
  "E4": Look("#56a8d6", "s", "--"),
  "E5": Look("#0072b2", "P", "--"),
  "B1": Look("#00855f", "^", "-"),
  "B2": Look("#b08900", "h", "-"),
  "B4": Look("#e69f00", "p", "-"),
  "B5": Look("#cc79a7", "X", "-"),
  "B6": Look("#7a5195", "*", "-"),
  "F": Look("#d55e00", "o", "-"),
  "F_ask": Look("#d55e00", "d", ":"),
  "X1": Look("#8a96a3", ".", ":"),
}
INJECTED = ("B2", "B4", "F")  # arms whose gate differs
PHASED = {"inject": "injected ids", "ban": "banned tokens", "bonus": "bonus",
          "hidden": "hidden vocabulary"}  # fmt: skip
OTHERS = "#c3cad2"


def look(arm: str) -> Look:
  return LOOKS.get(arm, Look(style.FAINT, ".", ":"))


def draw(
  tier: Tier,
  append: Tier,
  best: str | None,
  crossplay: dict[str, Any],
  folder: Path,
) -> list[str]:
  """Writes every figure that has data; says which have none."""
  makers = {
    "1_budget_curves": lambda: budget_curves(tier),
    "2_gain_by_step": lambda: gain_by_step(tier),
    "3_quality_by_language": lambda: quality_by_language(tier),
    "4_varentropy": lambda: varentropy(tier),
    "5_rote": lambda: rote(tier, append),
    "6_schedule": lambda: schedule(tier),
    "7_questions": lambda: questions(tier, best),
    "8_crossplay": lambda: cross(crossplay),
    "10_compute": lambda: compute(tier),
  }
  said = []
  for name, make in makers.items():
    if not style.save(f"figure_{name}", make, folder):
      for ending in ("svg", "png"):  # of results that are no longer there
        (folder / f"figure_{name}.{ending}").unlink(missing_ok=True)
      said.append(f"Figure {name}: not run, there is nothing to draw.")
  said.append("Figure 9, memory over steps: another experiment's, no cc here.")
  return [*said, "Figure 11, sample cards: samples.md."]


def budget_curves(tier: Tier) -> Figure:
  """Gain against k; English arms on the left, codes on the right, F on both."""
  figure, panels = _row(2, 9.6, 4.2, sharey=True)
  for axes, english in zip(panels, (True, False), strict=True):
    for arm in stored.arms(tier):
      if arm != "F" and arm.startswith("E") != english:
        continue
      curves = stored.gain_curves(tier, arm).values()
      _band(axes, arm, tier.budgets, np.array([x.mean(-1) for x in curves]))
    axes.set(title="English" if english else "codes",
             xlabel="budget k, tokens", xscale="log")  # fmt: skip
    axes.set_xticks(tier.budgets, list(map(str, tier.budgets)))
    axes.minorticks_off()
    _legend(axes)
  panels[0].set_ylabel("gain: edit similarity of d over no code")
  return figure


def gain_by_step(tier: Tier) -> Figure:
  """Not η: the share of s's surprise that c takes away, in held-out looks."""
  figure, (axes,) = _row(1, 7.4, 4.2)
  k = stored.shown(tier)
  for arm in stored.arms(tier):
    _band(axes, arm, *training.series(tier, arm, "held_gain"), marks=8)
  if axes.has_data():
    axes.axhline(1, color=style.FAINT, ls=":", lw=1)
  axes.set(
    title="Relative gain of D's likelihood under the constraints of the step, "
    f"k = {k}",
    xlabel="step", ylabel="1 - NLL_D(s; c) / NLL_base(s), ceiling 1",
  )  # fmt: skip
  _legend(axes)
  return figure


def quality_by_language(tier: Tier) -> Figure:
  """Pareto: gain at one k against the share of tokens that no text holds."""
  figure, (axes,) = _row(1, 6.6, 4.4)
  k, means = stored.shown(tier), {}
  for arm in stored.arms(tier):
    x = stored.each(tier, arm, lambda f: stored.foreign_share(f["codes"]), k)
    curves = stored.gain_curves(tier, arm)
    y = {s: z[tier.budgets.index(k)].mean() for s, z in curves.items()}
    seeds = sorted(set(x) & set(y))
    if seeds:
      x, y = ([z[s] for s in seeds] for z in (x, y))
      _dots(axes, arm, x, y)
      means[arm] = (np.mean(x), np.mean(y))
  beaten = lambda p: any(
    q != p and q[0] <= p[0] and q[1] >= p[1] for q in means.values()
  )
  front = sorted(p for p in means.values() if not beaten(p))
  if len(front) > 1:
    axes.plot(*zip(*front, strict=True), color=style.FAINT, lw=0.9, zorder=1)
  axes.set(
    title=f"Quality and English, k = {k}",
    xlabel="share of the tokens of c that no text holds",
    ylabel="gain: edit similarity of d over no code",
  )
  _legend(axes)
  return figure


def varentropy(tier: Tier) -> Figure:
  """Injected positions by H2, V and the mass m on the list; others pale."""
  seen = {arm: _positions(tier, arm) for arm in INJECTED}
  if not any(len(x) for x in seen.values()):
    return Figure()
  figure = Figure(figsize=(9.6, 7.6), constrained_layout=True)
  panels = figure.subplots(3, 3, sharex=True, sharey=True, squeeze=False)
  for row, (arm, points) in zip(panels, seen.items(), strict=True):
    last = points[:, 0].max() if len(points) else 0
    for third, axes in enumerate(row):
      low, high = last * third / 3, last * (third + 1) / 3
      now = points[(points[:, 0] > low) & (points[:, 0] <= high)]
      axes.scatter(now[:, 4], now[:, 5], s=10, color=OTHERS, marker="x")
      dots = axes.scatter(
        now[:, 1], now[:, 2], c=now[:, 3], s=22, cmap="cividis", vmin=0, vmax=1,
        edgecolor="white", lw=0.4,
      )  # fmt: skip
      axes.set_title(f"{arm}, {('start', 'middle', 'end')[third]} of its use")
    row[0].set_ylabel("varentropy V, nats²")
  for axes in panels[-1]:
    axes.set_xlabel("collision entropy H₂, nats")
  figure.colorbar(dots, ax=panels, label="m: mass on the injected ids",
                  shrink=0.6)  # fmt: skip
  figure.suptitle(
    "Means of held-out looks: injected positions (dots), others (crosses); "
    f"k = {stored.shown(tier)}", fontsize=10,
  )  # fmt: skip
  return figure


def _positions(tier: Tier, arm: str) -> np.ndarray:
  """Looks that saw ids used: step, H2, V, m; H2, V elsewhere. [n, 6]"""
  names = ("step", "held_collision_used", "held_varentropy_used",
           "held_mass_used", "held_collision_other",
           "held_varentropy_other")  # fmt: skip
  rows = [
    [line[name] for name in names]
    for found in stored.each(
      tier, arm, lambda x: x, stored.shown(tier)
    ).values()
    for line in training.looks(found)
    if (line.get("held_use_rate") or 0) > 0
    and all(line.get(name) is not None for name in names)
  ]
  return np.array(rows, float).reshape(-1, len(names))


def rote(tier: Tier, append: Tier) -> Figure:
  """Rote share and bonus paid: arms of the tier above, append tier below."""
  figure = Figure(figsize=(9.6, 6.6), constrained_layout=True)
  panels = figure.subplots(2, 2)
  names = {"held_rote_share": "rote share of codes with injected ids",
           "held_pay_bonus": "bonus paid a code"}  # fmt: skip
  about = {"B2": "B2, no gate", "B4": "B4, gate B·L", "F": "F, gate B·L"}
  for axes, (name, label) in zip(panels[0], names.items(), strict=True):
    for arm in INJECTED:
      steps, values = training.series(tier, arm, name)
      if name == "held_rote_share":
        steps, values = _while_used(tier, arm, steps, values)
      _band(axes, arm, steps, values, label=about[arm], marks=8)
    axes.set(
      xlabel="step",
      ylabel=label,
      title=f"Tier {tier.name}, k = {stored.shown(tier)}",
    )
    _legend(axes)
  arms = stored.arms(append)
  for axes, (name, label) in zip(panels[1], names.items(), strict=True):
    for x, arm in enumerate(arms):
      steps, values = training.series(append, arm, name)
      if len(steps):
        end = use_tables.fifths(values)[-1]
        axes.bar(x, end.mean(), color="#56a8d6", width=0.6)
        axes.plot([x] * len(end), end, "o", color=style.INK, ms=3.5)
    axes.set_xticks(range(len(arms)), arms, rotation=45, ha="right")
    axes.set_axisbelow(True)
    axes.set(ylabel=label, title="Tier append, end (gate_bonus)")
  return figure


def _while_used(tier, arm, steps, values) -> tuple[np.ndarray, np.ndarray]:
  """Only looks in which every seed used ids: a share of none is no share."""
  if not len(steps):
    return steps, values
  same, rate = training.series(tier, arm, "held_use_rate")
  used = dict(zip(same, (rate > 0).all(0), strict=True)) if len(same) else {}
  keep = np.array([used.get(step, True) for step in steps])
  return steps[keep], values[:, keep]


def schedule(tier: Tier, arm: str = "F") -> Figure:
  """What F was constrained to, and the reward that decided it."""
  k = stored.shown(tier)
  found = stored.each(tier, arm, lambda x: x.get("held") and x, k)
  figure, panels = _row(2, 10.4, 4.0)
  styles = ("-", "--", ":", "-.")
  for (name, label), dashes in zip(PHASED.items(), styles, strict=True):
    for i, one in enumerate(found.values()):
      lines = [x for x in training.drawn(one) if name in x]
      if lines:
        panels[0].plot(
          [x["step"] for x in lines], [x[name] for x in lines], ls=dashes,
          color=LOOKS["F"].color, alpha=1.0 if i == 0 else 0.3, lw=1.3,
          label=None if i else label,
        )  # fmt: skip
  for i, (seed, one) in enumerate(found.items()):
    lines = [x for x in training.looks(one) if "held_reward" in x]
    color = list(LOOKS.values())[4 + i % 6].color
    if not lines:
      continue
    steps = [x["step"] for x in lines]
    reward = [x["held_reward"] for x in lines]
    panels[1].plot(steps, reward, color=color, lw=1.2, label=f"seed {seed}")
    phases = [x["phase"] for x in lines]
    new = [j for j in range(1, len(lines)) if phases[j] and phases[j - 1]
           is not None and int(phases[j]) > int(phases[j - 1])]  # fmt: skip
    panels[1].plot([steps[j] for j in new], [reward[j] for j in new], "v",
                   color=color, ms=5)  # fmt: skip
  panels[0].set(title=f"{arm}, k = {k}: share still in force", xlabel="step",
                ylabel="share (first seed bold)")  # fmt: skip
  panels[1].set(title="Held-out reward, ▾ where constraints were relaxed",
                xlabel="step", ylabel="reward")  # fmt: skip
  for axes in panels:
    _legend(axes)
  return figure


def questions(tier: Tier, best: str | None) -> Figure:
  """Answers from c, from d and from the best English codes, by budget."""
  figure, (axes,) = _row(1, 7.0, 4.2)
  shown = [("F", "code", "-", "F, from c"), ("F", "decoded", "--", "F, from d")]
  if best is not None:
    shown += [(best, "code", "-", f"{best}, from c"),
              (best, "decoded", "--", f"{best}, from d")]  # fmt: skip
  shown.append(("F", "question", ":", "question alone (F)"))
  for arm, way, look, label in shown:
    curve = lambda x, way=way: [
      np.mean(x["questions"][str(k)][way]) for k in tier.budgets
    ]
    rows = stored.each(tier, arm, curve)
    _band(axes, arm, tier.budgets, np.array(list(rows.values())), label=label,
          line=look)  # fmt: skip
  top = stored.mean(tier, "U0", lambda x: x["questions"]["source"])
  if top:
    axes.axhline(np.mean(list(top.values())), color=style.FAINT, ls=":", lw=1)
    axes.set_title("Questions answered; dotted at the top: from s")
  axes.set(xlabel="budget k, tokens", ylabel="share of questions answered")
  axes.set_xticks(tier.budgets)
  _legend(axes)
  return figure


def cross(found: dict[str, Any]) -> Figure:
  """How well D of one seed reads the codes of another's C."""
  if not found:
    return Figure()
  figure, panels = _row(len(found), 3.0 * len(found) + 0.6, 3.4)
  for axes, (arm, entry) in zip(panels, found.items(), strict=True):
    values = np.array(entry["matrix"], float)
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(values):
      axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                color="white" if value < 0.5 else "black")  # fmt: skip
    axes.set(title=arm, xlabel="D of seed", ylabel="codes of seed")
    seeds = entry.get("seeds", range(len(values)))
    axes.set_xticks(range(len(values)), list(map(str, seeds)))
    axes.set_yticks(range(len(values)), list(map(str, seeds)))
    axes.grid(False)
  return figure


def compute(tier: Tier) -> Figure:
  """Area of gain against the FLOPs of all its budgets, with RSRC (ours)."""
  figure, (axes,) = _row(1, 8.4, 4.8)
  k, spent = stored.shown(tier), costs.training_flops(tier)
  for point in costs.points(costs.at_budget(tier, k)):
    gain = stored.gains(tier, point["name"])
    if not gain or not spent.get(point["name"]):
      continue
    y = [x.mean() for x in gain.values()]
    _dots(axes, point["name"], [spent[point["name"]]] * len(y), y,
          label=f"{point['name']}: RSRC_i {style.short(point['rsrc_i'])}, "
          f"RSRC_t {style.short(point['rsrc_t'])}")  # fmt: skip
  axes.set(
    title=f"RSRC_i and RSRC_t(n) (ours) at k = {k}, bit/J", xscale="log",
    xlabel="training FLOPs, sum over budgets, base included",
    ylabel="area of gain",
  )  # fmt: skip
  if axes.has_data():
    axes.legend(frameon=False, fontsize=7.5, loc="center left",
                bbox_to_anchor=(1.0, 0.5))  # fmt: skip
  return figure


def _row(n: int, width: float, height: float, **kwargs):
  figure = Figure(figsize=(width, height), constrained_layout=True)
  return figure, figure.subplots(1, n, squeeze=False, **kwargs)[0]


def _band(
  axes: Axes, arm: str, x: Any, values: np.ndarray, *, label: str | None = None,
  line: str | None = None, marks: int | None = None,
) -> None:  # fmt: skip
  """Mean over seeds and its 95 % interval; values [seeds, n]."""
  if not len(x) or not len(values):
    return
  mark, strong = look(arm), arm == "F"
  axes.plot(
    x, values.mean(0), color=mark.color, marker=mark.marker,
    ls=line or mark.line, lw=2.4 if strong else 1.5, label=label or arm,
    markevery=max(1, len(x) // marks) if marks else 1,
    zorder=4 if strong else 3,
  )  # fmt: skip
  if len(values) > 1:
    ends = [statistics.seed_interval(column) for column in values.T]
    low, high = np.array([(m - h, m + h) for m, h in ends]).T
    axes.fill_between(x, low, high, color=mark.color, alpha=0.12, lw=0)


def _dots(axes: Axes, arm: str, x, y, label: str | None = None) -> None:
  """Every seed pale, their mean bold."""
  mark = look(arm)
  axes.plot(x, y, mark.marker, color=mark.color, alpha=0.3, ms=4)
  axes.plot(
    [np.mean(x)], [np.mean(y)], mark.marker, color=mark.color, ms=8,
    markeredgecolor="white", label=label or arm, ls="",
  )  # fmt: skip


def _legend(axes: Axes) -> None:
  if axes.get_legend_handles_labels()[0]:
    axes.legend(frameon=False, fontsize=8, ncols=2)
