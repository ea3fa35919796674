"""The GRPO update and decoding of three models, beside what the card can do.

A floor is that of benchmarks/floor.py: the longer of FLOPs at the measured rate
of products and of the bytes that must move at the measured bandwidth. The
update must read and write the weights, their gradient and two moments once, in
float32. A decoding step must read the weights once, in the dtype of the
activations, and of the cache what is seen. Logits are in the floor only where
they are stored: below rollout.LARGE ids.
"""

import functools
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import generation
from benchmarks.gpu import device as gpu_device
from benchmarks.gpu.table import DTYPES, SIZES
from benchmarks.gpu.timing import (
  Rates,
  bound,
  fed_back,
  in_turns,
  peak_gib,
  pieces,
  planned_gib,
)
from rsrc_jax.accounting import flops
from rsrc_jax.lm import rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import architecture, pretrained
from rsrc_jax.rl import learner
from rsrc_jax.types import Constraints, Episode, Rollout, Tokens

LLAMA = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
SHAPES = {
  "4M": generation.SMALL,
  "135M": LLAMA | {  # SmolLM2-135M, as in tools/aot_compile.py
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1_536,
    "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "rope_theta": 1e5, "tie_word_embeddings": True,
  },
  "1B": LLAMA | {  # Llama-3.2-1B, its rotation unscaled
    "vocab_size": 128_256, "hidden_size": 2_048, "intermediate_size": 8_192,
    "num_hidden_layers": 16, "num_attention_heads": 32, "head_dim": 64,
    "num_key_value_heads": 8, "rope_theta": 5e5, "tie_word_embeddings": True,
  },
}  # fmt: skip
PROMPTS, PROMPT, GROUP, NEW = 8, 64, 8, 64
TINY = {
  "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
  "head_dim": 8, "rope_theta": 1e4,
}  # fmt: skip
SCANNED = 16  # layers from which on the update scans them, to compile sooner


class Case(NamedTuple):
  """A model of random weights, its batch, and functions that are jitted."""

  arch: architecture.Architecture
  # (params, optimizer's state, work) -> (params, state), both donated
  update: Callable
  sample: Callable  # (params, prompt, keys, budget [B, 1]) -> Rollout
  params: Any
  state: Any
  work: tuple  # of the loss
  prompt: Tokens  # [B, P]
  keys: jax.Array  # [B]
  new: int  # T


def speed(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  rates = gpu_device.rates(toy, out)
  yield from pieces(
    (
      f"{size}, {dtype}, update",
      functools.partial(one, f"{size}, {dtype}", size, dtype, rates, toy),
    )
    for dtype in DTYPES
    for size in SIZES
  )


def one(
  name: str, size: str, dtype: str, rates: Rates, toy: bool
) -> Iterator[tuple[str, dict]]:
  """The rows of a size. Its two programs are compiled side by side."""
  case = build(size, dtype, toy=toy)
  full = jnp.full((PROMPTS, 1), case.new, jnp.int32)
  sample = case.sample.trace(case.params, case.prompt, case.keys, full)
  update = case.update.trace(case.params, case.state, case.work)
  with futures.ThreadPoolExecutor() as pool:
    programs = [pool.submit(compiled, x) for x in (sample, update)]
  # The update last: it donates the weights.
  yield from pieces(
    (f"{name}, {row}", lambda run=run, traced=traced, program=program: run(
      name, case, traced, program.result(), dtype, rates
    ))
    for row, run, traced, program in (
      ("decoding step", decoding, sample, programs[0]),
      ("update", updating, update, programs[1]),
    )
  )  # fmt: skip


def build(size: str, dtype: str, *, toy: bool, abstract: bool = False) -> Case:
  """Everything of a size, made on the device by one program.

  abstract: shapes alone, with which the programs can be lowered anywhere.
  """
  shape, new = SHAPES[size] | (TINY if toy else {}), 4 if toy else NEW
  kwargs = pretrained.settings(shape)
  scan = kwargs["depth"] >= SCANNED
  policy = pretrained.make(**kwargs, dtype=dtype, scan=scan)
  vocab = kwargs["vocab_size"]
  role = Role(0, 0, vocab, new, np.ones(vocab, bool))  # no id ends it
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
  loss = learner.make_loss(
    policy, {"C": role}, weights={"C": 1.0}, lesson_weights={},
    entropy_bonus={}, clip_low=0.2, clip_high=0.2, importance_cap=2.0,
    per_token=True,
  )  # fmt: skip

  def update(params, state, work):
    grad = jax.grad(lambda p: loss(p, work, learner.counts(work[0]), 0.0)[0])
    change, state = tx.update(grad(params), state, params)
    return optax.apply_updates(params, change), state

  def sample(params, prompt, keys, budget):
    none = jnp.full((len(budget), 1, 1), -1, jnp.int32)
    held = Constraints(none, none, budget=budget)
    with jax.named_scope("C"):
      return rollout.sample(
        policy, params, role, prompt, keys, samples=GROUP, constraints=held
      )

  def make(key):
    params = policy.init(key)
    return params, tx.init(params), *batch(key, vocab, new)

  made = jax.eval_shape if abstract else lambda f, key: jax.jit(f)(key)
  params, state, work, prompt, keys = made(make, jax.random.key(0))
  return Case(
    architecture.resolved(architecture.Architecture(**kwargs, dtype=dtype)),
    jax.jit(update, donate_argnums=(0, 1)), jax.jit(sample),
    params, state, work, prompt, keys, new,
  )  # fmt: skip


def batch(key: jax.Array, vocab: int, new: int) -> tuple:
  """Random prompts [B, P] and outputs [B, G, T] -> work, prompt, keys [B]."""
  draw = lambda key, *shape: Tokens(
    jax.random.randint(key, shape, 0, vocab), jnp.ones(shape, bool)
  )
  a, b, c, d = jax.random.split(key, 4)
  prompt, output = draw(a, PROMPTS, PROMPT), draw(b, PROMPTS, GROUP, new)
  logp = jnp.full(output.ids.shape, -np.log(vocab), jnp.float32)
  drawn = Rollout(prompt, output, logp, None)
  advantages = jax.random.normal(c, (PROMPTS, GROUP))
  episode = Episode({"C": drawn}, {"C": advantages}, {}, {})
  work = (episode, {"C": advantages}, None)
  return work, prompt, jax.random.split(d, PROMPTS)


def compiled(traced: Any) -> tuple[Any, float]:
  """-> the compiled program, and the seconds that it took."""
  begun = time.perf_counter()
  program = traced.lower().compile()
  return program, time.perf_counter() - begun


def bytes_of(tree: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def updating(
  name: str, case: Case, traced: Any, built: tuple, dtype: str, rates: Rates
) -> Iterator[tuple[str, dict]]:
  """The row of the update. built: of `compiled`."""
  program, taken = built
  count = flops.evaluate(flops.count(traced.jaxpr))
  weights = bytes_of(case.params)
  call = fed_back(program, (case.params, case.state), case.work)
  # The first call donates the buffers that `case` names: none is used again.
  seconds = in_turns({"": call}, inner=3)[""]
  vocab = case.arch.vocab_size
  tokens = PROMPTS * GROUP * case.new
  logits = tokens * vocab * 4 if vocab < rollout.LARGE else 0
  yield (
    f"{name}, update",
    cells_of(
      seconds, tokens, count, 8 * weights + 2 * logits, dtype, rates
    )
    | {"planned, GiB": planned_gib(program), "compiled in, s": taken,
       "peak so far, GiB": peak_gib()},
  )  # fmt: skip


def decoding(
  name: str, case: Case, traced: Any, built: tuple, dtype: str, rates: Rates
) -> Iterator[tuple[str, dict]]:
  """The rows of the pass over the prompts and of a decoding step.

  One program does both: a budget of one token ends after the prompt, so that
  the steps are what a full budget takes more.
  """
  program, taken = built
  given = (case.params, case.prompt, case.keys)
  short, whole = (jnp.full((PROMPTS, 1), n, jnp.int32) for n in (1, case.new))
  seconds = in_turns({
    "prompt": lambda: program(*given, short),
    "whole": lambda: program(*given, whole),
  })  # fmt: skip
  counted = flops.count(traced.jaxpr, ("C",))
  at = lambda trips: flops.evaluate(
    counted, dict.fromkeys(counted.loops, trips)
  )
  first, last = at(0), at(case.new - 1)
  steps = case.new - 1
  each = {k: (last[k] - first[k]) / steps for k in ("hardware", "model")}
  size = jnp.dtype(dtype).itemsize
  weights = bytes_of(case.params) * size // 4
  more = {"planned, GiB": planned_gib(program), "compiled in, s": taken,
          "peak so far, GiB": peak_gib()}  # fmt: skip
  yield (
    f"{name}, prefill",
    cells_of(seconds["prompt"], PROMPTS * PROMPT, first, weights, dtype, rates)
    | more,
  )
  yield (
    f"{name}, decoding step",
    cells_of(
      (seconds["whole"] - seconds["prompt"]) / steps, PROMPTS * GROUP, each,
      weights + cache_bytes(case, size), dtype, rates,
    ) | more,
  )  # fmt: skip


def cache_bytes(case: Case, size: int) -> float:
  """Of keys and values: a step writes one a sequence, and reads on average
  half of the new ones, and the prompt's once for each group."""
  arch = case.arch
  one = 2 * arch.depth * arch.kv_heads * arch.size * size
  return one * PROMPTS * (GROUP * (1 + case.new / 2) + PROMPT)


def cells_of(
  seconds: float, tokens: int, count: dict, moved: float, dtype: str,
  rates: Rates,
) -> dict:  # fmt: skip
  """count: FLOPs, with ("hardware") and without ("model") recomputation."""
  least, by = bound(count["hardware"], moved, rates, dtype)
  return {
    "ms": 1e3 * seconds,
    "tokens a second": tokens / seconds,
    "floor, ms": 1e3 * least,
    "bound by": by,
    "share of the floor": least / seconds,
    "MFU": count["model"] / seconds / rates.products[dtype],
  }
