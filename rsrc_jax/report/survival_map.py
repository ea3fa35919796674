"""The survival map: what a joule of training has bought against one of use.

log RSRC_t(n) (ours) over log RSRC_i (ours), with 5-95 % bars, the Pareto front
and lines of equal RSRC_life: 1 / life = 1 / RSRC_t(n) + 1 / RSRC_i, exact where
the untrained system saves nothing (k_0 = 0). The document "Recursive
Self-Referential Compression (RSRC)" speaks of a survival map and gives no
formula: axes, lines and definitions are ours.

  python -m rsrc_jax.accounting map RUN_OR_SUMMARY_OR_GLOB... --output FOLDER

Nothing is dropped for not fitting a logarithm: what saves no bits lies in the
gutters marked 0, what needed no training in the one marked ∞.
"""

import argparse
import csv
import glob
import io
import json
import math
import pathlib
import statistics
import sys
from typing import Any

from rsrc_jax.report import style, survival_plot
from rsrc_jax.report.style import ARMS, amount, arm, interval

AXES = ("rsrc_i", "rsrc_t", "rsrc_life")
INTERVALS = (*AXES, "bits_saved", "bits_saved_frozen", "training_joules",
             "joules", "joules_C", "joules_D")  # fmt: skip
NUMBERS = ("k", "k_untrained", "raw_bits", "wire_bits", "residual_bits",
           "flops_C", "flops_D", "training_flops", "log10_eta_i",
           "log10_eta_t", "state_bits", "net_bits")  # fmt: skip
THRESHOLDS = ("break_even_samples", "m_star_joules", "m_star_flops")
FACTS = ("mark", "seed", "seeds", "seeds_at_zero", "name", "label", "kind",
         "source", "verifier", "definitions", "samples_served", "place_i",
         "place_t", "on_front", "on_trained_front")  # fmt: skip
COLUMNS = (
  *FACTS,
  *(f"{key}{end}" for key in INTERVALS for end in ("", "_p5", "_p95")),
  *NUMBERS,
  *THRESHOLDS,
)
Point = dict[str, Any]  # by COLUMNS, and n_star_NAME for every baseline


def points(summaries: list[dict], samples: float | None = None) -> list[Point]:
  """Marks of the map, from the `rsrc` blocks of one or several seeds.

  Args:
    summaries: of runs of one experiment. One gives a mark an arm ("run"),
      several give a mark an arm and seed ("seed") and their mean ("mean").
    samples: n, the service volume that RSRC_t and RSRC_life are shown for; by
      default what the runs declare.

  Returns:
    Flat dicts. Energies in J, RSRC in bit/J, the rest in bits or samples;
    infinities are floats, what is unknown is None.

  Raises:
    ValueError: no block, or blocks that do not belong on one map.
  """
  blocks = [s.get("rsrc") or {} for s in summaries]
  if not summaries or not all(block.get("arms") for block in blocks):
    raise ValueError('there is no "rsrc" block: give summaries that have one.')
  for key in ("definitions", "verifier"):
    if len(found := {str(block.get(key)) for block in blocks}) > 1:
      raise ValueError(
        f"{key} differs ({', '.join(sorted(found))}): one map shows one."
      )
  declared = {amount(block.get("samples_served")) for block in blocks}
  if samples is None and (len(declared) > 1 or None in declared):
    raise ValueError(
      f"samples_served is {', '.join(map(style.short, declared))}: RSRC_t(n) "
      "compares at one n only; give --samples."
    )
  found = [
    at(_point(summary, name, entry), samples or next(iter(declared)))
    for summary in summaries
    for name, entry in summary["rsrc"]["arms"].items()
    if isinstance(entry, dict)
  ]
  if len(summaries) > 1:
    found = [point | {"mark": "seed"} for point in found]
    names = dict.fromkeys(point["name"] for point in found)
    found += [_mean([p for p in found if p["name"] == n]) for n in names]
  return _with_fronts(found)


def at(point: Point, n: float) -> Point:
  """The same mark for another service volume n.

  RSRC_t is proportional to n. Between the ends of RSRC_life all energies move
  together, as modelled ones do: they share the watts they were priced with.
  """
  before = point["samples_served"]
  if before is None or n == before:
    return point | {"samples_served": n}
  moved = point | {"samples_served": n}
  if style.number(point["log10_eta_t"]) is not None:
    moved["log10_eta_t"] += math.log10(n / before)
  if point["k"] is not None and point["state_bits"] is not None:
    moved["net_bits"] = n * max(point["k"], 0.0) - point["state_bits"]
  for end, other in (("", ""), ("_p5", "_p95"), ("_p95", "_p5")):
    value = point[f"rsrc_t{end}"]
    moved[f"rsrc_t{end}"] = value if value is None else value * n / before
    bits = point["k"] if not end else point[f"bits_saved{end}"]
    # What was not trained has paid nothing; what is unknown stays unknown.
    trained = point["kind"] not in survival_plot.UNTRAINED
    spent = point[f"training_joules{other}"] if trained else 0.0
    moved[f"rsrc_life{end}"] = life(n, bits, spent, point[f"joules{other}"])
  return moved


def life(
  n: float, k: float | None, training: float | None, e_i: float | None
) -> float | None:
  """RSRC_life(n) (ours): n k / (E_t + n e_i), bit/J; None where one is unknown.

  Args:
    n: samples served.
    k: bits saved a sample; less than 0 counts as 0, which is sending s raw.
    training: E_t, J; 0 where nothing was trained.
    e_i: J a sample.
  """
  if k is None or training is None or e_i is None or training + n * e_i <= 0:
    return None
  return n * max(k, 0.0) / (training + n * e_i)


def front(pairs: list[tuple[float | None, float | None]]) -> list[bool]:
  """Which (x, y) no other one beats: at least as good in both, better in one.

  Infinities count; a pair with an unknown part neither wins nor beats.
  """
  known = [pair for pair in pairs if None not in pair]
  beaten = lambda p: any(
    q != p and q[0] >= p[0] and q[1] >= p[1] for q in known
  )
  return [None not in p and not beaten(p) for p in pairs]


def write(
  points: list[Point], folder: str | pathlib.Path, name: str = "survival_map"
) -> str:
  """Writes folder/name.png, .svg, .csv and .json; the same bytes every time.

  Returns:
    The SVG, to put into a page.

  Raises:
    ValueError: no points.
  """
  if not points:
    raise ValueError("points is empty: there is nothing to draw.")
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  levels = survival_plot.levels(survival_plot.frame(points))
  (folder / f"{name}.csv").write_text(_csv(points, levels), encoding="utf-8")
  table = {"iso_life_bit_per_joule": levels, "points": plain(points)}
  text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
  (folder / f"{name}.json").write_text(text, encoding="utf-8")
  return style.save(name, lambda: survival_plot.figure(points), folder)


def plain(value: Any) -> Any:
  """For JSON, which knows no infinity."""
  if isinstance(value, dict):
    return {key: plain(v) for key, v in value.items()}
  if isinstance(value, list):
    return [plain(v) for v in value]
  if isinstance(value, float) and math.isinf(value):
    return str(value)
  return value


def main(arguments: list[str]) -> int:
  """The command line; names every file that could not be drawn, and why."""
  parser = argparse.ArgumentParser(
    prog="python -m rsrc_jax.accounting map",
    description="Draws the survival map of one or several seeds.",
  )
  parser.add_argument("runs", nargs="+", metavar="RUN",
    help="run directory, summary.json, or a pattern of them")  # fmt: skip
  parser.add_argument("--output", required=True, type=pathlib.Path)
  parser.add_argument("--samples", type=float,
    help="n, the samples served; default: as the runs declare")  # fmt: skip
  asked = parser.parse_args(arguments)
  if asked.samples is not None and not 0 < asked.samples < math.inf:
    print(f"error: --samples is {asked.samples}: give a positive number of "
          "samples served.", file=sys.stderr)  # fmt: skip
    return 2
  summaries = []
  for run in asked.runs:
    for path in sorted(glob.glob(run)) or [run]:
      summary, problem = _read(pathlib.Path(path))
      summaries += [summary] * (not problem)
      if problem:
        print(f"{path}: {problem}", file=sys.stderr)
  try:
    found = points(summaries, asked.samples)
    write(found, asked.output)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  for ending in ("png", "svg", "csv", "json"):
    print(asked.output / f"survival_map.{ending}")
  return 0


def _read(path: pathlib.Path) -> tuple[dict, str]:
  """A summary, or what is wrong with it in one line."""
  path = path / "summary.json" if path.is_dir() else path
  try:
    summary = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}, "no such file: give a run that has finished."
  except (ValueError, OSError):
    return {}, "cannot be read as JSON: give a summary.json."
  block = summary.get("rsrc") if isinstance(summary, dict) else None
  if not (block or {}).get("arms"):
    return {}, 'has no "rsrc" block: run it again, older runs kept no ledger.'
  return summary, ""


def _point(summary: dict, name: str, entry: dict) -> Point:
  """One arm of one summary, flat."""
  block = summary["rsrc"]
  joules = entry.get("joules_per_sample") or {}
  flops = entry.get("flops_per_sample") or {}
  known = entry | {
    "joules": joules.get("total"),
    "joules_C": joules.get("C"),
    "joules_D": joules.get("D"),
    "flops_C": flops.get("C"),
    "flops_D": flops.get("D"),
    "raw_bits": block.get("raw_bits"),
  }
  known |= {f"m_star_{k}": v for k, v in (entry.get("m_star") or {}).items()}
  # Known arms have a name of their own everywhere; the others say theirs.
  label = arm(name).label if name in ARMS else entry.get("label") or name
  point = dict.fromkeys(COLUMNS) | {
    "mark": "run",
    "seed": summary.get("seed"),
    "name": name,
    "label": str(label).replace("_", " "),
    "kind": str(entry.get("kind")),
    "source": _source(entry, block),
    "verifier": block.get("verifier"),
    "definitions": block.get("definitions"),
    "samples_served": amount(block.get("samples_served")),
  }
  for key in INTERVALS:
    # A number alone has no ends, and is drawn without bars.
    value = interval(known.get(key)) or (amount(known.get(key)), None, None)
    point |= zip((key, f"{key}_p5", f"{key}_p95"), value, strict=True)
  point |= {key: amount(known.get(key)) for key in (*NUMBERS, *THRESHOLDS)}
  for peer, value in (entry.get("n_star") or {}).items():
    point[f"n_star_{peer}"] = amount(value)
  return point


def _source(entry: dict, block: dict) -> str:
  """Where the joules come from; baselines share the machine of the arms."""
  if entry.get("source"):
    return str(entry["source"])
  others = {e.get("source") for e in block["arms"].values() if e} - {None}
  return str(others.pop()) if len(others) == 1 else "unknown"


def _mean(seeds: list[Point]) -> Point:
  """Seeds of one arm: geometric means of bit/J, medians of thresholds.

  Seeds at 0 have no logarithm: they are left out of the geometric mean and
  counted. Its ends are the means of the seeds' ends: the error of the energies
  is common to all seeds, and does not average out.
  """
  mean = seeds[0] | {"mark": "mean", "seed": None, "seeds": len(seeds)}
  zero = [p for p in seeds if p["rsrc_i"] == 0 or p["k"] == 0]
  mean["seeds_at_zero"] = len(zero)
  keys = dict.fromkeys(key for p in seeds for key in p)
  for key in keys:
    values = [p.get(key) for p in seeds]
    stem = key.removesuffix("_p5").removesuffix("_p95")
    if stem in AXES:
      mean[key] = _geometric(
        [v for p, v in zip(seeds, values, strict=True) if (p[stem] or 0) > 0]
        or values
      )
    elif key in THRESHOLDS or key.startswith("n_star_"):
      # Undefined on one seed is undefined for all: no verdict is dropped.
      mean[key] = None if None in values else statistics.median_high(values)
    elif stem in (*INTERVALS, *NUMBERS):
      # fsum: the same on every version of Python.
      mean[key] = None if None in values else math.fsum(values) / len(values)
  if len({p["source"] for p in seeds}) > 1:
    mean["source"] = "several"
  return mean


def _geometric(values: list[float | None]) -> float | None:
  if None in values:
    return None
  if min(values) <= 0:
    return min(values)
  return math.exp(math.fsum(map(math.log, values)) / len(values))


def _with_fronts(found: list[Point]) -> list[Point]:
  """Adds where each mark lies, and which ones are on the two fronts."""
  for point in found:
    for axis in "it":
      point[f"place_{axis}"] = survival_plot.place(point[f"rsrc_{axis}"])
    point["on_front"] = point["on_trained_front"] = False
  whole = [p for p in found if p["mark"] != "seed"]
  trained = [p for p in whole if p["kind"] not in survival_plot.UNTRAINED]
  for key, group in (("on_front", whole), ("on_trained_front", trained)):
    flags = front([(p["rsrc_i"], p["rsrc_t"]) for p in group])
    for point, flag in zip(group, flags, strict=True):
      point[key] = flag
  return found


def _csv(points: list[Point], levels: list[float]) -> str:
  """All marks, then a row for each line of equal life."""
  extra = dict.fromkeys(k for p in points for k in p if k not in COLUMNS)
  stream = io.StringIO()
  writer = csv.DictWriter(
    stream, [*COLUMNS, *extra], restval="", lineterminator="\n"
  )
  writer.writeheader()
  writer.writerows(points)
  for level in levels:
    writer.writerow({"mark": "iso-life", "rsrc_life": level})
  return stream.getvalue()
