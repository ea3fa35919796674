"""Where the time of a GRPO step goes, beside what the machine could do.

  ./tools/bench                                 the step of configs/tiny.py
  ./tools/bench --bench=larger                  1.2M parameters, 64 rollouts

Prints compile time, the time of each phase run on its own (median of several),
the whole step, model FLOPs (of the phases by closed form, of the whole step by
a walk over its jaxpr), and the share of the rate that a matrix product reaches
on this machine in the same run. Phases run alone miss what XLA fuses or
overlaps in the whole step, which may not have them all: D is decoded while
training only where V hears d.
"""

import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from rsrc_jax.accounting import flops
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.output import tables
from rsrc_jax.runtime import sharding
from rsrc_jax.stages import plan
from rsrc_jax.types import Tokens

ROOT = Path(__file__).resolve().parent.parent
CONFIG = config_flags.DEFINE_config_file(
  "config", str(ROOT / "configs" / "tiny.py"), "Whose step to time."
)
BENCH = flags.DEFINE_enum(
  "bench", "config", ["config", "larger"], "The config, or a larger model."
)
REPEATS = flags.DEFINE_integer("repeats", 20, "Timed calls of each phase.")


def larger(config):
  """1.2M parameters; 8 sources x 8 codes of 8 tokens, sources of 24."""
  config.model.update(
    {"width": 128, "depth": 6, "heads": 4, "kv_heads": 4, "hidden": 344}
  )
  config.data = {
    "source": "text", "path": "", "vocab_size": 1_024, "max_tokens": 23,
    "min_tokens": 8, "heldout": 0.1,
  }  # fmt: skip
  config.batch_size, config.budget = 8, 8
  config.patterns.cdv.group = 8
  config.eval.budgets = (8,)
  return config


def timed(f, *args) -> tuple[float, float]:
  """-> seconds of the first call (compiling), median seconds of the others."""
  begun = time.perf_counter()
  jax.block_until_ready(f(*args))
  first = time.perf_counter() - begun
  runs = []
  for _ in range(REPEATS.value):
    begun = time.perf_counter()
    jax.block_until_ready(f(*args))
    runs.append(time.perf_counter() - begun)
  return first, statistics.median(runs)


def matmul_rate(size: int = 1024) -> float:
  """FLOP/s of a square float32 product, the best of several."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(lambda x: x @ x)
  jax.block_until_ready(product(x))
  best = np.inf
  for _ in range(10):
    begun = time.perf_counter()
    jax.block_until_ready(product(x))
    best = min(best, time.perf_counter() - begun)
  return 2 * size**3 / best


def flops_per_token(params, seen: float, loops: int) -> dict[str, float]:
  """Forward FLOPs of a token in the blocks, and of its logits.

  seen: keys that a token attends to, on average; two products of 2 D each.
  loops: how often the blocks are run.
  """
  blocks = sum(x.size for x in jax.tree.leaves(params["blocks"]))
  depth = params["blocks"]["q"]["kernel"].shape[0]
  vocab, width = params["embed"].shape
  return {
    "block": loops * (2.0 * blocks + 4.0 * depth * width * seen),
    "logits": 2.0 * vocab * width,
  }


def phases_of(setup, arm, batch, limits, params):
  """The parts of a step as functions of the parameters, with their FLOPs."""
  config, roles, policy = setup.config, setup.roles, setup.policy
  C, D = roles["C"], roles["D"].greedy()
  B, G = config.batch_size, config.patterns.cdv.group
  s, keys = batch.source, row_keys(jax.random.key(0), batch.row)
  sample_c = lambda p: rollout.sample(
    policy, p, C, C.prompt(s), keys, samples=G, constraints=limits
  )
  c = jax.jit(sample_c)(params)
  code = tokens.flatten(tokens.without_end(c.output, C.end))
  code_keys = jax.random.split(jax.random.key(1), B * G)
  target = tokens.with_end(s, D.end)
  target = Tokens(*(jnp.repeat(x, G, 0)[:, None] for x in target))
  first = lambda t: Tokens(*(x[::G] for x in t))

  def total_c(p):
    scored, _ = rollout.score(policy, p, C, c.prompt, c.output, c.constraints)
    return jnp.sum(scored)

  def total_d(p):
    prompt = D.prompt(first(code))
    return jnp.sum(rollout.likelihood(policy, p, D, prompt, first(target)))

  loops = config.model.get("loops", 1)
  one = flops_per_token(params, s.ids.shape[1], loops)
  P, T, S = s.ids.shape[1] + 2, C.length, s.ids.shape[1] + 1
  read = (T + 2 + S - 1) * one["block"] + S * one["logits"]
  wrote = B * P * one["block"] + B * one["logits"]
  wrote += B * G * (T - 1) * (one["block"] + one["logits"])
  return {
    "prefill C": (
      lambda p: rollout._prefill(policy.apply, p, C.prompt(s)),
      B * P * one["block"],
    ),
    "decode C (prefill in it)": (sample_c, wrote),
    "decode D, greedy": (
      lambda p: rollout.sample(
        policy, p, D, D.prompt(code), code_keys, samples=1
      ),
      B * G * read,
    ),
    "verify (likelihood of s)": (
      lambda p: rollout.likelihood(policy, p, D, D.prompt(code), target),
      B * G * read,
    ),
    "update C": (jax.grad(total_c), 3 * wrote),
    "update D": (jax.grad(total_d), 3 * B * read),
  }


def time_step(arm, state, frozen, batch) -> tuple[float, list[float]]:
  """-> seconds of the first whole step, and of each of the following."""

  def step(state):
    controls = arm.controls(state, frozen, batch)
    state, metrics = arm.step(state, frozen, batch, controls)
    return jax.block_until_ready(state), metrics

  runs = []
  for _ in range(1 + 3 * REPEATS.value):
    begun = time.perf_counter()
    state, _ = step(state)
    runs.append(time.perf_counter() - begun)
  return runs[0], runs[1:]


def main(argv):
  """Prints the table."""
  del argv
  config = CONFIG.value
  if BENCH.value == "larger":
    config = larger(config)
  config.only = "code"
  setup = make_setup(config, ROOT / ".cache")
  _, arm = plan.make_stages(setup)
  params = jax.jit(setup.policy.init)(jax.random.key(0))
  frozen = {"base": params, "reader": params}
  batch = sharding.put(
    sources.batch(setup.corpus.train, 0, config.batch_size),
    sharding.batch_sharding(setup.mesh),
  )
  # Placed as the loop places it, or the second step would compile anew.
  put = lambda tree: sharding.put(tree, sharding.shardings(setup.mesh, tree))
  frozen, state = put(frozen), put(arm.init(jax.tree.map(jnp.copy, params)))
  controls = arm.controls(state, frozen, batch)

  counted = flops.count(arm.step.trace(state, frozen, batch, controls).jaxpr)
  # The one loop, or the first, writes codes; what it can at most.
  trips = [setup.roles[role].length - 1 for role in "CD"]
  trips = dict(zip(counted.loops, trips, strict=False))
  total = flops.evaluate(counted, trips)["hardware"]
  rate = matmul_rate()
  table = Table("phase", "compile s", "ms", "MFLOP", "of matmul rate")
  row = lambda name, first, seconds, work, style=None: table.add_row(
    name, f"{first:.1f}", f"{1e3 * seconds:.2f}", f"{work / 1e6:.0f}",
    f"{work / seconds / rate:.1%}", style=style,
  )  # fmt: skip
  for name, (f, work) in phases_of(
    setup, arm, batch, controls.constraints, params
  ).items():
    first, seconds = timed(jax.jit(f), params)
    row(name, first, seconds, work)
  first, runs = time_step(arm, state, frozen, batch)
  seconds = statistics.median(runs)
  row("whole step", first, seconds, total, "bold")

  console = Console()
  tables.show(table, console)
  count = sum(x.size for x in jax.tree.leaves(params))
  group = config.patterns.cdv.group
  console.print(
    f"{count} parameters, {config.batch_size} sources x {group} codes of at "
    f"most {config.budget} tokens, sources of at most "
    f"{batch.source.ids.shape[1]}; matrix product {rate / 1e9:.0f} GFLOP/s on "
    f"{jax.devices()[0].device_kind}; whole step: {1 / seconds:.1f} a second "
    f"({60 / seconds:.0f} a minute), spread "
    f"{1e3 * min(runs):.1f} to {1e3 * max(runs):.1f} ms.",
    highlight=False,
  )


if __name__ == "__main__":
  app.run(main)
