"""The capability of trained arms and their service, measured on the test split.

The service of each arm is timed, and general compressors are measured for
comparison. accounting/account.py makes the summary's blocks of these numbers.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.accounting import compressors, energy, metering
from rsrc_jax.accounting.account import Measured
from rsrc_jax.accounting.ledger import NOTHING, Ledger
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge
from rsrc_jax.metrics import capability
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.stages.stage import Stage
from rsrc_jax.types import Params, Tokens

DICTIONARY = 32_768  # most bytes of training text in zlib's dictionary
ROUNDS = 5  # of timing; each round times all arms in turn


class Part(NamedTuple):
  """A call that serves one batch of samples."""

  f: Callable  # jitted
  loops: Callable[[Any], dict[str, float]]  # output -> iterations of its loops
  args: tuple


class Ruler(NamedTuple):
  """Functions for measurements that are the same for all arms."""

  token_bits: Callable[[Tokens], np.ndarray]  # the frozen base's l_V(s)
  answer: Callable[..., Tokens]  # reads a text and answers with one token


def ruler(setup: Setup, base: Params) -> Ruler:
  """Jits the functions of `measure`. base: the parameters of the frozen V."""
  policy, roles = setup.policy, setup.roles
  coder = jax.jit(code_judge.make_coder(policy, roles["text"]))
  answer = jax.jit(code_judge.make_answerer(policy, roles["D"]))
  size = setup.config.eval.batch_size
  place = functools.partial(sharding.rows, setup.mesh)

  def token_bits(split: Tokens) -> np.ndarray:
    rows = len(split.ids)
    found = [
      processes.fetch(
        coder(base, place(sources.batch(split, start, size).source))
      )
      for start in range(0, rows, size)
    ]
    return np.concatenate(found)[:rows].astype(np.float64)

  return Ruler(token_bits, answer)


def measure(
  setup: Setup,
  arm: Stage,
  params: Params,
  frozen: Any,
  table: dict[str, Any],
  before: dict[str, Any],
  ruler: Ruler,
  judge: code_judge.CodeJudge,
  ledger: Ledger,
) -> tuple[Measured, dict[str, Part]]:
  """Capability of one trained arm, and the parts of its service, untimed.

  Args:
    setup: of the run.
    arm: the stage of the arm.
    params: its parameters.
    frozen: the base's, for the rules that write codes.
    table: of code_judge.judge_split on the test split, as trained.
    before: the same with untrained parameters.
    ruler: from `ruler`.
    judge: decodes codes.
    ledger: time and energy are charged to it.
  """
  s, c, d = table["source"], table["code"], table["decoded"]
  with ledger.phase("test", arm.name):
    frozen_bits = ruler.token_bits(s)
    with_frozen = arm.saved(s, c, d, token_bits=frozen_bits)
  rows = setup.config.eval.batch_size
  batch, code = sources.batch(s, 0, rows), sources.batch(c, 0, rows).source
  batch, code = judge.place(batch), judge.place(code)
  key = jax.random.key(setup.config.seed)
  none = lambda out: {"D": 0}  # one token needs no loop
  write, read = arm.write, judge.read
  parts = {
    "C": Part(write.uncharged, write.loops, (params, frozen, batch, key)),
    "D": Part(read.uncharged, read.loops, (params, code)),
    "read_s": Part(ruler.answer, none, (params, batch.source)),
    "read_c": Part(ruler.answer, none, (params, code)),
  }
  bits = before["scores"]["verified_bits"]
  saved = arm.saved(s, c, d)
  return Measured(saved, with_frozen.bits, bits, {}, {}, {}), parts


def serve(
  setup: Setup,
  measured: dict[str, Measured],
  parts: dict[str, dict[str, Part]],
  ledger: Ledger,
) -> dict[str, Measured]:
  """Times the service of all arms, in rounds.

  The speed of a machine drifts, so each round times all arms in turn. A part's
  use is that of its median round.
  """
  samples, settings = setup.config.eval.batch_size, setup.config.ledger
  every = [(arm, name) for arm in parts for name in parts[arm]]
  counts, rounds = {}, {key: [] for key in every}
  for arm, name in every:
    part = parts[arm][name]
    with ledger.phase("service", arm):
      title = f"service {name}"
      counts[arm, name] = metering.compiled(ledger, title, part.f, *part.args)
  for arm, name in every * ROUNDS:
    part = parts[arm][name]
    with ledger.phase("service", arm) as spend:
      use, calls, out = _window(part, settings.service_seconds / ROUNDS, ledger)
      work = metering.work([(counts[arm, name], part.loops(out), calls)])
      spend(samples=calls * samples, **work)
    flops = sum(work["flops"].values()) / (calls * samples)
    rounds[arm, name].append((energy.times(use, 1 / (calls * samples)), flops))
  of = lambda arm: {name: rounds[arm, name] for name in parts[arm]}
  return {arm: _timed(measured[arm], of(arm)) for arm in parts}


def _timed(measured: Measured, rounds: dict[str, list]) -> Measured:
  """Adds the service from each part's rounds of (use, FLOPs) per sample."""
  found = {
    name: sorted(x, key=lambda x: x[0].seconds) for name, x in rounds.items()
  }
  return measured._replace(
    use={name: x[len(x) // 2][0] for name, x in found.items()},
    flops={name: x[0][1] for name, x in found.items()},
    spread={
      name: [x[0][0].seconds, x[-1][0].seconds] for name, x in found.items()
    },
  )


def _window(part: Part, seconds: float, ledger: Ledger):
  """Calls a part repeatedly. -> its use, the number of calls, an output"""
  out = jax.block_until_ready(part.f(*part.args))
  begun, calls, use = ledger.meter.read(), 0, NOTHING
  while processes.any_of(use.seconds < seconds):
    jax.block_until_ready(part.f(*part.args))
    use, calls = energy.minus(ledger.meter.read(), begun), calls + 1
  return use, calls, out


def peers(setup: Setup, meter: energy.Meter) -> dict[str, compressors.Baseline]:
  """General compressors on the same test sources, as packed ids."""
  config, corpus, settings = setup.config, setup.corpus, setup.config.ledger
  first = lambda split, n: jax.tree.map(lambda x: x[:n], split)
  test = first(corpus.test, config.eval.test_rows)
  dtype = np.uint8 if corpus.vocab.size <= 256 else np.dtype("<u2")
  pack = lambda split: [
    ids[real].astype(dtype).tobytes()
    for ids, real in zip(split.ids, split.mask, strict=True)
  ]
  some = first(corpus.train, DICTIONARY)
  words = int(corpus.vocab.text.sum())
  raw = capability.uniform_bits(test, words)
  spent = np.arange(raw.shape[1]) <= np.sum(test.mask, -1)[:, None]
  found = compressors.measure(
    pack(test),
    np.sum(raw * spent, -1),
    dictionary=b"".join(pack(some))[:DICTIONARY],
    seconds=min(0.3, settings.service_seconds),
    read=meter.read,
  )
  return {name: peer for name, peer in found.items() if peer.decode is not None}
