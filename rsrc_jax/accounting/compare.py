"""Is arm A better than arm B? Over seeds, in pairs, with an interval.

  python -m rsrc_jax.accounting compare 'runs/tiny-seed*:code' 'runs/tiny-*:sft'
    [--metric rsrc_i|rsrc_t|rsrc_life|k] [--served N]

One summary is one seed, and claims are counted over seeds. Of every pair of
summaries with the same seed we take the log ratio of the metric. The prior of
the energy model is shared by runs on one machine, so the ratio is taken draw by
draw, and most of the prior cancels.

The metrics are ours and are defined in metrics/rsrc.py; e_i is of C and D.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsrc_jax.accounting import energy, summaries
from rsrc_jax.accounting.summaries import Run
from rsrc_jax.metrics import rsrc, statistics
from rsrc_jax.metrics.statistics import Interval

LABELS = {
  "rsrc_i": "RSRC_i (ours)",
  "rsrc_t": "RSRC_t (ours)",
  "rsrc_life": "RSRC_life (ours)",
  "k": "k (ours)",
}
SEEDS = 3  # below this, an interval over seeds says nothing
ROUNDING = 1e-9  # a log ratio this small is float arithmetic


class Result(NamedTuple):
  """What the pairs of seeds say. Values are nats, or bits where signed."""

  better: str  # "A", "B" or ""
  signed: bool  # no ratio exists: differences of signed bits saved
  values: np.ndarray  # [seeds], A against B
  interval: Interval | None  # None where the seeds are too few
  model: tuple[float, float] | None  # 5-95 % over draws of the mean over seeds
  lines: list[str]  # what is shown below the table; the last is the verdict


def main(argv: Sequence[str]) -> int:
  """The command line; 0 whatever the verdict, 2 on bad input."""
  flags = _flags().parse_args(argv)
  console = Console(width=min(100, Console().width), highlight=False)
  try:
    a, b = summaries.read(flags.a), summaries.read(flags.b)
    a, b, left_out = summaries.pairs(a, b)
    priced = flags.metric in ("rsrc_t", "rsrc_life")
    served = summaries.served_by([*a, *b], flags.served) if priced else 1.0
    result = compare(a, b, flags.metric, served)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  console.print(table(a, b, flags.metric, served, result))
  for line in (*left_out, *result.lines):
    console.print(line, soft_wrap=True, markup=False)
  return 0


def _flags() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m rsrc_jax.accounting compare",
    description="Whether arm A is better than arm B, over pairs of seeds.",
    epilog="PATHS: a glob, a run directory or a summary.json. Quote a glob.",
  )
  parser.add_argument("a", metavar="A", help="PATHS:ARM")
  parser.add_argument("b", metavar="B", help="PATHS:ARM")
  parser.add_argument("--metric", choices=tuple(LABELS), default="rsrc_i")
  parser.add_argument(
    "--served", type=float, help="samples served, n; default: the summaries'"
  )
  return parser


def compare(a: list[Run], b: list[Run], metric: str, served: float) -> Result:
  """The verdict on pairs of runs, seed by seed.

  Where k (for rsrc_t: k - k_0) is 0 in a run there is no ratio, and the signed
  bits saved are compared instead, by their difference.

  Raises:
    ValueError: the summaries lack something, or the energy is unavailable.
  """
  both = list(zip(a, b, strict=True))
  zero = [
    f"{name} on seed {run.seed}"
    for name, runs in (("A", a), ("B", b))
    for run in runs
    if _gain(run, metric) <= 0
  ]
  if zero:
    what = "k - k_0" if metric == "rsrc_t" else "k"
    line = (
      f"No ratio of {LABELS[metric]}: {what} is not above 0 for "
      f"{', '.join(zero)}. Signed bits saved are compared instead, A - B."
    )
    values = np.array([_saved(x) - _saved(y) for x, y in both])
    return _judge("signed bits saved", True, values, None, [line])
  logs = [log_metric(x, metric, served) - log_metric(y, metric, served)
          for x, y in both]  # fmt: skip
  logs = np.stack(logs)  # [seeds, draws]
  model, lines = None, []
  if metric != "k":
    model = tuple(np.quantile(logs.mean(0), (0.05, 0.95)).tolist())
    machines = {
      summaries.get(r.path, r.summary, "ledger", "machine", "name")
      for r in (*a, *b)
    }
    differ = "; it does not cancel between machines" * (len(machines) > 1)
    lines.append(
      "Energy model alone, 5-95 % over its draws of the mean A / B: "
      f"{_ratios(*model)}{differ}."
    )
  return _judge(LABELS[metric], False, logs.mean(1), model, lines)


def _gain(run: Run, metric: str) -> float:
  """What stands above the fraction, bits a sample."""
  if metric != "rsrc_t":
    return summaries.of(run, "k")
  if not summaries.trained(run):
    raise ValueError(
      f"{run.path}, arm {run.arm}: it was not trained and has no RSRC_t; use "
      "--metric rsrc_life"
    )
  return summaries.of(run, "k") - summaries.of(run, "k_untrained")


def _saved(run: Run) -> float:
  return summaries.of(run, "bits_saved", "median")


def log_metric(run: Run, metric: str, served: float) -> np.ndarray:
  """ln of a metric, [draws]; [1] for k, which needs no energy.

  Raises:
    ValueError: the energy is unavailable or 0 J.
  """
  k = summaries.of(run, "k")
  if metric == "k":
    return np.log([k])
  life = metric == "rsrc_life" and summaries.trained(run)
  train = _joules(run, "train") if life or metric == "rsrc_t" else None
  each = None if metric == "rsrc_t" else _joules(run, "C") + _joules(run, "D")
  try:
    if metric == "rsrc_t":
      value = rsrc.rsrc_t(served, k, summaries.of(run, "k_untrained"), train)
    elif life:
      value = rsrc.rsrc_life(served, k, train, each)
    else:  # without training, life is RSRC_i
      value = rsrc.rsrc_i(k, each)
  except ValueError as error:
    raise ValueError(f"{run.path}, arm {run.arm}: {error}") from None
  return np.log(value)


def _joules(run: Run, part: str) -> np.ndarray:
  """Joules of "train", or a sample's of "C" or "D", [draws]."""
  get = lambda *keys: summaries.get(run.path, run.summary, *keys)
  use = get("rsrc", "arms", run.arm, "use", part)
  ledger, entry = get("ledger"), get("rsrc", "arms", run.arm)
  if len(ledger.get("machines", ())) > 1:
    raise ValueError(
      f"{run.path} ran on {', '.join(ledger['machines'])}: its joules can't be "
      "paired with another run's; use --metric k"
    )
  # A compressor uses the host alone, and is charged for nothing else.
  terms = [
    term
    for term in ledger.get("terms", ())
    if entry.get("kind") != "compressor" or term.get("name") == "host"
  ]
  make = lambda kind, facts: kind(*(facts[name] for name in kind._fields))
  try:
    found = energy.joules(
      make(energy.Use, use),
      make(energy.Machine, ledger["machine"]),
      [make(energy.Term, term) for term in terms],
      pue=ledger["pue"],
    )
  except (KeyError, TypeError) as error:
    raise ValueError(
      f"{run.path} has an incomplete ledger ({error}) for {part} of {run.arm}: "
      "use --metric k"
    ) from None
  if found is None:
    raise ValueError(
      f"{run.path} has no energy for {part} of {run.arm}: use --metric k"
    )
  return found


def _judge(
  label: str,
  signed: bool,
  values: np.ndarray,
  model: tuple[float, float] | None,
  lines: list[str],
) -> Result:
  """A verdict on one value a seed, in words."""
  n = len(values)
  if n < SEEDS:
    verdict = (
      f"{n} seed{'s' * (n > 1)} cannot tell which is better: at least {SEEDS} "
      "are needed."
    )
    return Result("", signed, values, None, model, [*lines, verdict])
  found = statistics.t_interval(values)
  if found.high - found.low < ROUNDING:
    lines = [*lines, "The seeds don't differ at all: is it one run, copied?"]
  clear = max(found.low, -found.high) > ROUNDING
  # The seeds may agree on what only the prior of the energy model decides.
  blurred = clear and model is not None and model[0] <= 0 <= model[1]
  better = ("A" if values.mean() > 0 else "B") if clear and not blurred else ""
  if better:
    verdict = _won(label, signed, values, found)
  else:
    verdict = _level(label, signed, values, found, blurred)
  return Result(better, signed, values, found, model, [*lines, verdict])


def _won(label: str, signed: bool, values: np.ndarray, found: Interval) -> str:
  """Told from the side of the better arm, so that A and B only trade names."""
  mean = values.mean()
  better, worse, by, low, high = (
    ("A", "B", mean, found.low, found.high)
    if mean > 0
    else ("B", "A", -mean, -found.high, -found.low)
  )
  size = (
    f"{by:.3g} bits a sample above that" if signed else f"{_ratio(by)} that"
  )
  span = (_bits if signed else _ratios)(low, high)
  return (
    f"{better} better: {label} of {better}: {size} of {worse}, 95 % interval "
    f"{span} over {len(values)} seeds (Student's t)."
  )


def _level(
  label: str,
  signed: bool,
  values: np.ndarray,
  found: Interval,
  blurred: bool,
) -> str:
  span = (_bits if signed else _ratios)(found.low, found.high)
  least = statistics.detectable(values)
  least = f"{least:.3g} bits a sample" if signed else _ratio(least)
  what = "difference" if signed else "ratio"
  but = ", but the energy model alone covers 1x" if blurred else ""
  return (
    f"no difference shown: {label} of A {'-' if signed else '/'} that of B has "
    f"the 95 % interval {span} over {len(values)} seeds (Student's t){but}. By "
    f"their spread, the smallest {what} these seeds could have shown is "
    f"{least} (80 % power, two-sided 5 %, noncentral t)."
  )


def _ratio(log_ratio: float) -> str:
  return f"{np.exp(np.clip(log_ratio, -700, 700)):.3g}x"


def _ratios(low: float, high: float) -> str:
  return f"{_ratio(low)} to {_ratio(high)}"


def _bits(low: float, high: float) -> str:
  return f"{low:+.3g} to {high:+.3g} bits a sample"


def table(
  a: list[Run], b: list[Run], metric: str, served: float, result: Result
) -> Table:
  """One row a seed. Energy is at the median of the model's draws."""
  signed = result.signed
  unit = "bits a sample" if signed or metric == "k" else "bit/J"
  label = "signed bits saved" if signed else LABELS[metric]
  n = f", n = {served:g}" if metric in ("rsrc_t", "rsrc_life") else ""
  made = Table(
    title=f"{label}, {unit}{n}",
    box=box.SIMPLE_HEAD,
    show_edge=False,
    title_justify="left",
  )
  last = "A - B" if signed else "A / B"
  arms = (f"A\n{a[0].arm}", f"B\n{b[0].arm}")
  for name in ("seed", "k of A", "k of B", *arms, last):
    made.add_column(Text(name), justify="right")
  value = lambda run: (
    _saved(run)
    if signed
    else np.exp(np.median(log_metric(run, metric, served)))
  )
  for x, y, against in zip(a, b, result.values, strict=True):
    numbers = (summaries.of(x, "k"), summaries.of(y, "k"), value(x), value(y))
    made.add_row(
      str(x.seed),
      *(f"{number:.4g}" for number in numbers),
      f"{against:+.3g}" if signed else _ratio(against),
    )
  return made
