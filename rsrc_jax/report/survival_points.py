"""The marks of a survival map: one arm of one run each, as a flat dict."""

import math
import statistics
from typing import Any

from rsrc_jax.report import numbers, style, survival_layout
from rsrc_jax.report.numbers import amount, quantiles
from rsrc_jax.report.style import Looks

UNTRAINED = ("compressor", "untrained")  # kinds without training energy
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


def at(point: Point, n: float) -> Point:
  """The same mark for another service volume n.

  RSRC_t is proportional to n. Between the ends of RSRC_life all energies move
  together, as modelled ones do: they share the watts they were priced with.
  """
  before = point["samples_served"]
  if before is None or n == before:
    return point | {"samples_served": n}
  moved = point | {"samples_served": n}
  if numbers.number(point["log10_eta_t"]) is not None:
    moved["log10_eta_t"] += math.log10(n / before)
  if point["k"] is not None and point["state_bits"] is not None:
    moved["net_bits"] = n * max(point["k"], 0.0) - point["state_bits"]
  for end, other in (("", ""), ("_p5", "_p95"), ("_p95", "_p5")):
    value = point[f"rsrc_t{end}"]
    moved[f"rsrc_t{end}"] = value if value is None else value * n / before
    bits = point["k"] if not end else point[f"bits_saved{end}"]
    # What was not trained has paid nothing; what is unknown stays unknown.
    trained = point["kind"] not in UNTRAINED
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


def from_entry(summary: dict, name: str, looks: Looks) -> Point:
  """One arm of one summary, flat; its place is not known yet."""
  block = summary["rsrc"]
  entry = block["arms"][name]
  joules, flops = (
    _block(entry, x) for x in ("joules_per_sample", "flops_per_sample")
  )
  known = entry | {
    "joules": joules.get("total"),
    "joules_C": joules.get("C"),
    "joules_D": joules.get("D"),
    "flops_C": flops.get("C"),
    "flops_D": flops.get("D"),
    "raw_bits": block.get("raw_bits"),
  }
  known |= {f"m_star_{k}": v for k, v in _block(entry, "m_star").items()}
  # Known arms have a name of their own everywhere; the others say theirs.
  own = str(entry.get("label") or name).replace("_", " ")
  label = style.arm(name, looks).label if name in looks else own
  point = dict.fromkeys(COLUMNS) | {
    "mark": "run",
    "seed": summary.get("seed"),
    "name": name,
    "label": str(label),
    "kind": str(entry.get("kind")),
    "source": _source(entry, block),
    "verifier": block.get("verifier"),
    "definitions": block.get("definitions"),
    "samples_served": amount(block.get("samples_served")),
  }
  for key in INTERVALS:
    # A number alone has no ends, and is drawn without bars.
    value = quantiles(known.get(key)) or (amount(known.get(key)), None, None)
    point |= zip((key, f"{key}_p5", f"{key}_p95"), value, strict=True)
  point |= {key: amount(known.get(key)) for key in (*NUMBERS, *THRESHOLDS)}
  for peer, value in _block(entry, "n_star").items():
    point[f"n_star_{peer}"] = amount(value)
  return point


def _block(entry: dict, key: str) -> dict:
  """A part of an entry; {} where it is none."""
  found = entry.get(key)
  return found if isinstance(found, dict) else {}


def _source(entry: dict, block: dict) -> str:
  """Where the joules come from; baselines share the machine of the arms."""
  if entry.get("source"):
    return str(entry["source"])
  arms = [e for e in block["arms"].values() if isinstance(e, dict)]
  others = {str(e["source"]) for e in arms if e.get("source")}
  return str(others.pop()) if len(others) == 1 else "unknown"


def mean_of(seeds: list[Point]) -> Point:
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


def with_fronts(found: list[Point]) -> list[Point]:
  """Adds where each mark lies, and which ones are on the two fronts."""
  for point in found:
    for axis in "it":
      point[f"place_{axis}"] = survival_layout.place(point[f"rsrc_{axis}"])
    point["on_front"] = point["on_trained_front"] = False
  whole = [p for p in found if p["mark"] != "seed"]
  trained = [p for p in whole if p["kind"] not in UNTRAINED]
  for key, group in (("on_front", whole), ("on_trained_front", trained)):
    flags = front([(p["rsrc_i"], p["rsrc_t"]) for p in group])
    for point, flag in zip(group, flags, strict=True):
      point[key] = flag
  return found
