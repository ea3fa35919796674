"""What the statistics of a next token cost: logits whole, in blocks, fused.

  ./.venv/bin/python benchmarks/token_stats.py [--out=FILE] [--blocks=512]

For each vocabulary, forward and forward with backward: the time of
`from_hidden_plain` (logits in memory), `from_hidden` (blocks of ids) and, on a
GPU or TPU, the Pallas kernel, in rounds that take turns; the extra memory that
the compiler plans for each; and the floor: the bytes that must move at this
machine's rate of copying, the products at its rate of multiplying. Then the
largest errors against float64. The last lines are the verdict: at 50,000 ids
the blocked version should need at most a tenth of the plain one's memory and
at most 1.5 times its time. Prints markdown.
"""

import functools
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from rsrc_jax.ops import token_stats, token_stats_pallas
from tests.helpers import token_stats_reference as oracle

ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed calls of each version.")
WIDTH = flags.DEFINE_integer("width", 128, "D, of hidden and unembedding.")
SIZES = flags.DEFINE_list(
  "sizes", ["2000:512", "50000:512", "150000:256"], "V:rows of each problem."
)
BLOCKS = flags.DEFINE_list("blocks", [], "Block sizes besides the default.")
INTERPRET = flags.DEFINE_bool("interpret", False, "Pallas on a CPU, tiny.")
OUT = flags.DEFINE_string("out", None, "Also write the markdown here.")

INJECTED = 8  # ids of a row's list
JUDGED = 50_000  # the vocabulary of the verdict
MEMORY, TIME = 0.1, 1.5  # of the plain version's
FIELDS = ("entropy", "varentropy", "collision", "log_prob", "mass")


class Cost(NamedTuple):
  """Of one version of one pass."""

  seconds: float  # median
  spread: float  # of the rounds, (third - first quartile) / median
  extra: int  # bytes that the compiler plans besides arguments and results
  slower: float  # median over the rounds of its time / plain's


def versions(vocab: int, rows: int) -> dict:
  """name -> f(hidden, unembedding, sampled, injected) -> TokenStats."""
  found = {
    "plain": token_stats.from_hidden_plain,
    f"blocked {token_stats.BLOCK}": token_stats.from_hidden,
  }
  for block in map(int, BLOCKS.value):
    found[f"blocked {block}"] = functools.partial(
      token_stats.from_hidden, block=block
    )
  backend = jax.default_backend()
  kernel = token_stats_pallas.from_hidden
  if backend in ("tpu", "gpu"):
    found["Pallas"] = functools.partial(kernel, backend=backend)
  elif INTERPRET.value and vocab * rows <= 2**21:
    found["Pallas, interpreted"] = functools.partial(kernel, interpret=True)
  return found


def passes(f) -> dict:
  """The forward pass, and all statistics' gradient after it."""

  def total(hidden, unembedding, *ids):
    return sum(jnp.sum(x) for x in f(hidden, unembedding, *ids))

  return {"forward": f, "with backward": jax.value_and_grad(total, (0, 1))}


def problem(vocab: int, rows: int, width: int) -> tuple:
  """hidden [rows, D], unembedding [V, D], sampled, injected: logits N(0, 4)."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return jax.device_put((
    draw(rows, width) * 2 / np.sqrt(width, dtype=np.float32),
    draw(vocab, width),
    rng.integers(vocab, size=rows).astype(np.int32),
    rng.integers(vocab, size=(rows, INJECTED)).astype(np.int32),
  ))  # fmt: skip


def seconds_of(f, args) -> float:
  begun = time.perf_counter()
  jax.block_until_ready(f(*args))
  return time.perf_counter() - begun


def measure(fs: dict, args) -> dict[str, Cost]:
  """Costs of functions that do the same, timed in turns."""
  compiled = {name: jax.jit(f).lower(*args).compile() for name, f in fs.items()}
  for f in compiled.values():
    seconds_of(f, args)
  taken = {name: [] for name in fs}
  for turn in range(ROUNDS.value):
    names = list(fs) if turn % 2 else list(fs)[::-1]
    for name in names:
      taken[name].append(seconds_of(compiled[name], args))
  costs = {}
  for name, runs in taken.items():
    low, middle, high = np.quantile(runs, [0.25, 0.5, 0.75])
    ratios = [x / y for x, y in zip(runs, taken["plain"], strict=True)]
    plan = compiled[name].memory_analysis()
    costs[name] = Cost(
      middle, (high - low) / middle, plan.temp_size_in_bytes,
      statistics.median(ratios),
    )  # fmt: skip
  return costs


def rates(size: int = 1024, copied: int = 2**25) -> tuple[float, float]:
  """Bytes a second read and written by a copy; FLOP/s of a square product."""
  best = lambda f, x: min(seconds_of(f, (x,)) for _ in range(8))
  x = jnp.ones(copied, jnp.float32)
  copy = jax.jit(lambda x: x + 1)
  y = jnp.ones((size, size), jnp.float32)
  product = jax.jit(lambda y: y @ y)
  return 2 * x.nbytes / best(copy, x), 2 * size**3 / best(product, y)


def floor(args, backward: bool, bandwidth: float, rate: float) -> dict:
  """Seconds below which no version can go. The gradient is two products more.

  A version without stored logits computes them twice: one product more yet.
  """
  hidden, unembedding = args[:2]
  rows, width = hidden.shape
  moved = sum(x.nbytes for x in args) + 6 * 4 * rows
  if backward:
    moved += hidden.nbytes + unembedding.nbytes
  work = 2.0 * rows * width * unembedding.shape[0]
  return {
    "bytes": moved,
    "moving": moved / bandwidth,
    "products": (3 if backward else 1) * work / rate,
  }


def cost_table(sizes, bandwidth, rate) -> tuple[list[str], dict]:
  """-> markdown, {(vocab, pass): {version: Cost}}."""
  lines = [
    "| V | rows | pass | version | ms | spread | plain's time "
    "| extra MB | plain's extra | of the floor |",
    "|" + "---|" * 10,
  ]
  found = {}
  for vocab, rows in sizes:
    args = problem(vocab, rows, WIDTH.value)
    kinds = {name: passes(f) for name, f in versions(vocab, rows).items()}
    for which in ("forward", "with backward"):
      costs = measure({k: v[which] for k, v in kinds.items()}, args)
      found[vocab, which] = costs
      least = floor(args, which != "forward", bandwidth, rate)
      bound = max(least["moving"], least["products"])
      head = f"| {vocab} | {rows} | {which} |"
      lines += [
        f"{head} {name} | {1e3 * x.seconds:.1f} | {x.spread:.0%} "
        f"| x {x.slower:.2f} | {x.extra / 1e6:.2f} "
        f"| x {x.extra / max(1, costs['plain'].extra):.3f} "
        f"| x {x.seconds / bound:.1f} |"
        for name, x in costs.items()
      ]
      lines.append(
        f"| {vocab} | {rows} | {which} | floor | {1e3 * bound:.1f} | | | | "
        f"| {least['bytes'] / 1e6:.1f} MB: {1e3 * least['moving']:.1f} ms, "
        f"products: {1e3 * least['products']:.1f} ms |"
      )
  return lines, found


def errors(f, vocab: int) -> dict[str, dict[str, float]]:
  """case -> field -> largest error of f. Logits are carried by one-hot rows."""
  f, found = jax.jit(f), {}
  for name in oracle.CASES:
    case = oracle.case(name, rows=4, size=vocab, count=INJECTED)
    # What is masked may be infinite there, which no product carries.
    logits = np.where(np.isfinite(case.logits), case.logits, 0.0)
    hidden = np.eye(len(logits), 16, dtype=np.float32)
    unembedding = np.pad(logits.T, ((0, 0), (0, 16 - len(logits))))
    got = f(hidden, unembedding, case.sampled, case.injected, case.mask)
    want = oracle.reference(*case)
    # Ids that can't be sampled hold the same constant, of another precision.
    real = want.log_prob > oracle.MISSING / 2
    found[name] = {
      field: np.abs(np.float64(getattr(got, field)) - getattr(want, field))[
        real
      ].max()
      for field in FIELDS
    }
  return found


def error_table() -> list[str]:
  """Largest errors by case; on a CPU, of Pallas interpreted and small."""
  small = 2_000
  fs = {
    f"plain, V = {JUDGED}": (token_stats.from_hidden_plain, JUDGED),
    f"blocked, V = {JUDGED}": (token_stats.from_hidden, JUDGED),
  }
  interpret = jax.default_backend() not in ("tpu", "gpu")
  for backend in ("tpu", "gpu"):
    if interpret or jax.default_backend() == backend:
      kernel = functools.partial(
        token_stats_pallas.from_hidden, backend=backend, interpret=interpret
      )
      size = small if interpret else JUDGED
      note = "interpreted, " if interpret else ""
      fs[f"Pallas {backend}, {note}V = {size}"] = (kernel, size)
  lines = [
    "| version | case | H | V | H2 | log-probability | mass |",
    "|" + "---|" * 7,
  ]
  for name, (f, vocab) in fs.items():
    found = errors(f, vocab)
    row = lambda values: " | ".join(f"{x:.1e}" for x in values)
    worst = [max(x[field] for x in found.values()) for field in FIELDS]
    if name.startswith(("plain", "blocked")):
      lines += [
        f"| {name} | {case} | {row(x[field] for field in FIELDS)} |"
        for case, x in found.items()
      ]
    lines.append(f"| {name} | **worst** | {row(worst)} |")
  return lines


def verdict(found) -> list[str]:
  """Whether the blocked version keeps its promise; worst of both passes."""
  name = f"blocked {token_stats.BLOCK}"
  ours = [x for (vocab, _), x in found.items() if vocab == JUDGED]
  if not ours:
    return [f"No verdict: V = {JUDGED} was not measured."]
  memory = max(x[name].extra / max(1, x["plain"].extra) for x in ours)
  slower = max(x[name].slower for x in ours)
  said = lambda value, most: "holds" if value <= most else "FAILS"
  return [
    f"- memory at V = {JUDGED}, {name}: {memory:.3f} of plain's, "
    f"at most {MEMORY}: **{said(memory, MEMORY)}**",
    f"- time at V = {JUDGED}, {name}: {slower:.2f} of plain's, "
    f"at most {TIME}: **{said(slower, TIME)}**",
  ]


def main(argv):
  """Prints the report."""
  del argv
  sizes = [tuple(map(int, x.split(":"))) for x in SIZES.value]
  bandwidth, rate = rates()
  costs, found = cost_table(sizes, bandwidth, rate)
  lines = [
    "# Token statistics",
    "",
    f"{jax.devices()[0].device_kind}, jax {jax.__version__}, float32, "
    f"D = {WIDTH.value}, {INJECTED} injected ids, {ROUNDS.value} rounds. "
    f"Copying moves {bandwidth / 1e9:.1f} GB/s, a product of 1024 x 1024 "
    f"reaches {rate / 1e9:.0f} GFLOP/s.",
    "Spread: interquartile range over median. Extra: the compiler's plan, "
    "without arguments and results.",
    "",
    *costs,
    "",
  ]
  if jax.default_backend() not in ("tpu", "gpu"):
    lines += ["Pallas: not run: interpret mode only.", ""]
  lines += ["## Largest errors against float64", "", *error_table(), ""]
  lines += ["## Verdict", "", *verdict(found)]
  text = "\n".join(lines) + "\n"
  print(text)
  if OUT.value:
    Path(OUT.value).write_text(text)


if __name__ == "__main__":
  app.run(main)
