"""How far from the machine: update and decoding against what they must do.

  ./.venv/bin/python benchmarks/floor.py                  (3 minutes, two cores)
  ./.venv/bin/python benchmarks/floor.py --dtype=bfloat16 (on an accelerator)

The floor of a call is the longer of two times: its FLOPs (a walk over its
jaxpr) at the rate of a large matrix product, and the bytes that it can't help
moving at a bandwidth, both measured in the same run. The bandwidth is that of
adding to an array in place, as large as what the call moves and over and over,
so that what fits into a cache stays there as weights do from step to step. The
update: weights, gradient and two moments, once each way, and the logits once
out and once in. A decoding step: the weights and what is seen of the cache
once, what is written of it once. "share" is floor / measured. A Llama of 4
layers, width 256, tied; one size changes at a time. Devices: the rows over all
of them, where there are more than one; devices that a CPU is told to have share
its cores, so that nothing can be learnt of them there. Then the growth of both
with each size: the exponent b of seconds ~ size ** b, fitted to the rows by
least squares of logarithms. Last, the time inside one update, by what it is
spent on, from the profiler. Written to floor.md.
"""

import argparse
import collections
import glob
import gzip
import json
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax.accounting import flops
from rsrc_jax.lm import rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import transformer
from rsrc_jax.ops import distributions
from rsrc_jax.runtime import sharding
from rsrc_jax.types import Tokens

HERE = Path(__file__).resolve().parent
WIDTH, DEPTH, HEADS, HIDDEN, PROMPT, GROUP = 256, 4, 4, 704, 64, 8
USUAL = {"sequences": 64, "length": 32, "vocabulary": 4_096}
CHANGES = (
  {}, {"sequences": 8}, {"sequences": 16}, {"sequences": 256},
  {"length": 8}, {"length": 128}, {"vocabulary": 512}, {"vocabulary": 16_384},
)  # fmt: skip
# What a part of a program is called in the table, by its name in the trace.
PARTS = (
  ("the head: logits and their softmax", r"log_softmax|^(transpose\()?jvp\(\)"),
  ("the MLPs", r"_mlp/"),
  ("projections around attention, norms", r"_heads|/o/|_norm"),
  ("attention, rotation", r"Block"),
)


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--dtype", default="float32")
  flags.add_argument("--rounds", type=int, default=5)
  asked = flags.parse_args()
  rate = product_rate(asked.dtype)
  rows = []
  for change in CHANGES:
    rows.append(one({**USUAL, **change}, change, asked, rate))
    print(line(rows[-1]), flush=True)
  if jax.device_count() > 1:
    rows.append(one(USUAL, {"devices": jax.device_count()}, asked, rate))
    print(line(rows[-1]), flush=True)
  text = table(asked, rate, rows, profile(asked))
  print(text)
  (HERE / "floor.md").write_text(text + "\n")


def timed(f, *args, rounds: int) -> float:
  """Median seconds of a call that is compiled."""
  jax.block_until_ready(f(*args))
  seconds = []
  for _ in range(rounds):
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds)


def product_rate(dtype: str) -> float:
  """FLOPs a second in a product of 2048 x 2048."""
  a = jnp.ones((2048, 2048), dtype)
  return 2 * 2048**3 / timed(jax.jit(lambda a: a @ a), a, rounds=9)


def bandwidth(size: int, passes: int = 8) -> float:
  """Bytes a second, read and written, of `size` bytes changed in place."""
  repeat = jax.jit(
    lambda x: jax.lax.fori_loop(0, passes, lambda _, x: x + 1, x),
    donate_argnums=0,
  )
  x, seconds = repeat(jnp.ones(max(1, size // 4), jnp.float32)), []
  for _ in range(9):
    jax.block_until_ready(x)
    start = time.perf_counter()
    x = jax.block_until_ready(repeat(x))
    seconds.append(time.perf_counter() - start)
  return 2 * x.nbytes * passes / statistics.median(seconds)


class Case(NamedTuple):
  """Compiled programs of one size, and their arguments."""

  sample: jax.stages.Wrapped
  update: jax.stages.Wrapped
  params: dict
  moments: tuple
  prompt: Tokens
  keys: jax.Array
  output: Tokens


def build(sizes: dict, dtype: str, data: int = 1) -> Case:
  size, length = sizes["vocabulary"], sizes["length"]
  policy = transformer.make(
    vocab_size=size, width=WIDTH, depth=DEPTH, heads=HEADS, kv_heads=HEADS,
    hidden=HIDDEN, dtype=dtype,
  )  # fmt: skip
  role = Role(0, 0, size, length, np.ones(size, bool))  # no id ends it
  tx = optax.adamw(1e-5)

  @jax.jit
  def sample(params, prompt, keys):
    with jax.named_scope("C"):
      return rollout.sample(policy, params, role, prompt, keys, samples=GROUP)

  @jax.jit
  def update(params, moments, prompt, output):
    def loss(params):
      logp, _ = rollout.score(policy, params, role, prompt, output)
      return -jnp.mean(logp * jnp.sin(output.ids * 1.0))

    found, moments = tx.update(jax.grad(loss)(params), moments, params)
    return optax.apply_updates(params, found), moments

  mesh = sharding.make_mesh(data=data)
  params = policy.init(jax.random.key(0))
  params = sharding.put(params, sharding.shardings(mesh, params))
  rng, rows = np.random.default_rng(0), sizes["sequences"] // GROUP
  ids = rng.integers(0, size, (rows, PROMPT)).astype(np.int32)
  prompt = Tokens(ids, np.ones(ids.shape, bool))
  keys = jax.random.split(jax.random.key(0), rows)
  prompt = sharding.rows(mesh, prompt)
  output = sample(params, prompt, keys).output
  return Case(sample, update, params, tx.init(params), prompt, keys, output)


def one(sizes: dict, change: dict, asked, rate: float) -> dict:
  case = build(sizes, asked.dtype, change.get("devices", 1))
  length, n = sizes["length"], sizes["sequences"]
  count = flops.count(
    case.sample.trace(case.params, case.prompt, case.keys).jaxpr, ("C",)
  )
  most = flops.evaluate(count, dict.fromkeys(count.loops, length - 1))
  least = flops.evaluate(count, dict.fromkeys(count.loops, 0))
  given = (case.params, case.moments, case.prompt, case.output)
  learnt = flops.evaluate(flops.count(case.update.trace(*given).jaxpr))
  again = (case.params, case.prompt, case.keys)
  decoding = timed(case.sample, *again, rounds=asked.rounds)
  short = build({**sizes, "length": 1}, asked.dtype, change.get("devices", 1))
  prefill = timed(
    short.sample, short.params, short.prompt, short.keys, rounds=asked.rounds
  )
  updating = timed(case.update, *given, rounds=asked.rounds)
  weights = sum(x.nbytes for x in jax.tree.leaves(case.params))
  logits = n * length * sizes["vocabulary"] * 4
  step = (decoding - prefill) / (length - 1)
  kv_cache = (
    2 * n * HEADS * (WIDTH // HEADS) * DEPTH * jnp.dtype(asked.dtype).itemsize
  )
  work = (most["hardware"] - least["hardware"]) / (length - 1)
  # How ids are drawn is ours, and no part of the floor.
  work -= n * distributions.draw_flops(sizes["vocabulary"])
  seen = kv_cache * (length / 2) + kv_cache / GROUP * PROMPT
  return {
    "sizes": sizes, "change": change, "update": updating, "step": step,
    "update_floor": floor(
      rate, learnt["hardware"], 8 * weights + 2 * logits
    ),
    "step_floor": floor(rate, work, weights + kv_cache + seen),
  }  # fmt: skip


def floor(rate: float, work: float, moved: float) -> tuple[float, str]:
  """-> seconds, and which of the two binds."""
  by = {"products": work / rate, "bytes": moved / bandwidth(int(moved))}
  return max(by.values()), max(by, key=by.get)


def line(x: dict) -> str:
  said = ", ".join(f"{k} {v:,}" for k, v in x["change"].items()) or "as said"
  cell = lambda seconds, floor: (
    f"{1e3 * seconds:,.1f} | {1e3 * floor[0]:,.1f} ({floor[1]}) "
    f"| **{100 * floor[0] / seconds:.0f} %**"
  )
  return (
    f"| {said} | {cell(x['update'], x['update_floor'])} "
    f"| {cell(x['step'], x['step_floor'])} |"
  )


def growth(rows: list[dict]) -> list[str]:
  """Lines of a table: exponents over the rows in which one size changes."""
  lines = []
  for size in USUAL:
    own = [x for x in rows if set(x["change"]) <= {size}]
    x = np.log([r["sizes"][size] for r in own])
    fit = lambda values, x=x: np.polyfit(x, np.log(values), 1)[0]
    cells = [
      fit([r[what] if isinstance(r[what], float) else r[what][0] for r in own])
      for what in ("update", "update_floor", "step", "step_floor")
    ]
    sizes = ", ".join(f"{n:,}" for n in sorted(r["sizes"][size] for r in own))
    shown = " | ".join(f"{b:.2f}" for b in cells)
    lines.append(f"| {size} ({sizes}) | {shown} |")
  return lines


def profile(asked) -> list[tuple[str, float]]:
  """-> (what, share) of the time inside the usual update."""
  case = build(USUAL, asked.dtype)
  given = (case.params, case.moments, case.prompt, case.output)
  jax.block_until_ready(case.update(*given))
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, create_perfetto_trace=True):
      for _ in range(asked.rounds):
        jax.block_until_ready(case.update(*given))
    path = glob.glob(f"{folder}/**/perfetto_trace.json.gz", recursive=True)[0]
    with gzip.open(path) as file:
      events = json.load(file)["traceEvents"]
  text = case.update.lower(*given).compile().as_text()
  found = re.findall(r'%([\w.\-]+) = .*?op_name="jit\(update\)/([^"]*)"', text)
  names, spent = dict(found), collections.Counter()
  for event in events:
    if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
      spent[part(names.get(event["name"], ""))] += event["dur"]
  whole = sum(spent.values())
  return [(name, us / whole) for name, us in spent.most_common()]


def part(name: str) -> str:
  for said, pattern in PARTS:
    if re.search(pattern, name):
      return said
  return "the optimizer, the embedding and the rest"


def table(asked, rate: float, rows: list[dict], spent: list) -> str:
  return "\n".join([
    "# Against the floor",
    "",
    f"Printed by benchmarks/floor.py --dtype={asked.dtype}. "
    f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax "
    f"{jax.__version__}: {rate / 1e9:,.0f} GFLOP/s in products, "
    f"{bandwidth(2**24) / 1e9:,.1f} GB/s in place in 17 MB and "
    f"{bandwidth(2**28) / 1e9:,.1f} GB/s in 268 MB. A Llama of {DEPTH} layers, "
    f"width {WIDTH}; {USUAL['sequences']} sequences in groups of {GROUP}, "
    f"prompts of {PROMPT}, {USUAL['length']} new tokens, "
    f"{USUAL['vocabulary']:,} ids. Milliseconds.",
    "",
    "| | update | its floor | share | decoding step | its floor | share |",
    "|---|---|---|---|---|---|---|",
    *map(line, rows),
    *(["| several devices | not run | | | | | |"] * (jax.device_count() == 1)),
    "",
    "| growth with | update | its floor | decoding step | its floor |",
    "|---|---|---|---|---|",
    *growth(rows),
    "",
    "| inside an update | share of its time |",
    "|---|---|",
    *[f"| {name} | {100 * x:.0f} % |" for name, x in spent],
  ])  # fmt: skip


if __name__ == "__main__":
  main()
