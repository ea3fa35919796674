"""What the plots of several experiments share: numbers over seeds, verdicts.

A claim is a paired difference over seeds with its 95 % interval (Student's t)
and, beside it, the difference that so many seeds would have shown four times in
five.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rsrc_jax.metrics import contrasts, statistics


def summaries(results: Path, name: str) -> list[dict]:
  """What is stored as NAME-SEED.json, in the order of seeds; [] for nothing."""
  found = [json.loads(x.read_text()) for x in results.glob(f"{name}-*.json")]
  return sorted(found, key=lambda run: run["seed"])


def load(folder: Path, config: str) -> list[dict]:
  """The stored summaries of a config, in the order of their seeds."""
  runs = summaries(folder / "results", config)
  if not runs:
    raise SystemExit(
      f"{folder.name}/results holds no {config}-SEED.json: run "
      f"./tools/sweep run --config=configs/{config}.py --into={folder.name} "
      "first (README.md)."
    )
  return runs


def examined(runs: list[dict], arm: str, name: str) -> np.ndarray | None:
  """A score of an arm's own examination, [seeds]; None where one lacks it."""
  found = [run["examined"].get(arm, {}).get(name) for run in runs]
  return None if None in found else np.array(found)


def shown(values: np.ndarray | None, digits: int = 2) -> str:
  """Mean ± half of the interval over seeds."""
  if values is None:
    return ""
  if len(values) < 2:
    return f"{values.mean():.{digits}f}"
  mean, half = statistics.seed_interval(values)
  return f"{mean:.{digits}f} ± {half:.{digits}f}"


def contrast(claim: str, a: np.ndarray, b: np.ndarray, digits: int = 2) -> str:
  """A row of the table of claims: a - b over seeds, and what it says."""
  if len(a) < 2:
    return f"| {claim} | {(a - b).mean():+.{digits}f} | | one seed |"
  mean, half = statistics.seed_interval(a - b)
  least = contrasts.minimum_detectable(a[:, None], b[:, None])
  verdict = "can't tell" if abs(mean) <= half else "yes" if mean > 0 else "no"
  return (
    f"| {claim} | {mean:+.{digits}f} [{mean - half:+.{digits}f}, "
    f"{mean + half:+.{digits}f}] | {least:.{digits}f} | **{verdict}** |"
  )


def corrected(
  family: Iterable[str], p: Mapping[str, float], alpha: float
) -> dict[str, float]:
  """Holm's p of a family of tests; one that has no p yet counts as p = 1."""
  whole = dict.fromkeys(family, 1.0) | dict(p)
  return {k: x.p for k, x in statistics.holm(whole, 1 - alpha).items()}


def word(mean: float, p: float, alpha: float) -> str:
  """The verdict on "more than 0" that a corrected p bears."""
  if p > alpha:
    return "can't tell"
  return "yes" if mean > 0 else "no, the contrary"


def preliminary(registered: Iterable[int], seeds: Iterable[int]) -> list[str]:
  """A line where registered seeds are missing, else none."""
  missing = sorted(set(registered) - set(seeds))
  if not missing:
    return []
  return [f"**Preliminary**: seeds {missing} are not run; no verdict is final."]


def markdown(heads: list[str], rows: list[list[str]]) -> str:
  """A table of a head and rows of cells."""
  lines = [f"| {' | '.join(x)} |" for x in (heads, *rows)]
  return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


CLAIMS = (
  "| claim | difference [95 %] | could have been seen | verdict |",
  "|---|---|---|---|",
)


def made_with(runs: list[dict]) -> str:
  """Seeds, minutes and revision of the runs."""
  seeds = ", ".join(str(run["seed"]) for run in runs)
  minutes = [run["seconds"] / 60 for run in runs]
  revisions = {(run["made_with"]["git"] or "unknown")[:7] for run in runs}
  return (
    f"Seeds {seeds}; {min(minutes):.0f} to {max(minutes):.0f} minutes a run; "
    f"revision {', '.join(sorted(revisions))}. Mean ± 95 % interval over seeds."
  )


def save(folder: Path, figure, text: str) -> None:
  """Writes figure.svg, figure.png and table.md, the same bytes every time."""
  plt.rcParams["svg.hashsalt"] = "rsrc"
  figure.savefig(folder / "figure.svg", metadata={"Date": None})
  figure.savefig(folder / "figure.png", dpi=120, metadata={"Software": None})
  (folder / "table.md").write_text(text + "\n")
  print(text)


def lines(axis, x, series: dict[str, tuple[list, Callable | str]]) -> None:
  """Curves over seeds: the mean, and every seed as a dot."""
  for label, (values, colour) in series.items():
    values = np.array(values)  # [x, seeds]
    axis.plot(x, values.mean(-1), "-", color=colour, label=label)
    for at, each in zip(x, values, strict=True):
      axis.plot([at] * len(each), each, ".", color=colour, alpha=0.5)
  axis.grid(alpha=0.3)
  axis.legend(frameon=False, fontsize=8)
