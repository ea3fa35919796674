"""The stage before all others: the reader, which V asks about s and d.

A language model with parameters and sentences of its own, frozen afterwards. A
run trains it where the V of an arm weighs it, with the block `config.reader`,
and ends if it says nothing of s or can be fooled (rl/reader_battery.py).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.lm import keys
from rsrc_jax.rl import learner, reader, reader_battery
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.stages import stage
from rsrc_jax.types import Params, Tokens, TrainState

ROWS = 512  # of its held-out sentences, at most, that it is measured on


def make(setup: Setup, name: str = stage.READER) -> stage.Stage:
  """The reader's stage, with the block `config.reader`.

  Raises:
    ValueError: the setup was made for a run without a reader.
  """
  config, draw = setup.config, setup.reader
  if draw is None:
    raise ValueError(
      "config.verifier.reader weighs a reader, and the setup was made without "
      "sentences for one: make it again with make_setup."
    )
  settings = config.reader
  tx = learner.optimizer(steps=settings.steps, **settings.optimizer)
  role = setup.roles["V"]

  def begin(params: Params, seed: jax.Array) -> TrainState:
    if setup.checkpoint is None:
      own = setup.policy.init(keys.reader(seed))
    else:
      own = stage.copy_of(params)
    return TrainState(jnp.int32(0), own, tx.init(own), (), (), seed)

  init = stage.jit_init(setup, begin)
  step = reader.make_step(setup.policy, role, tx)
  return stage.Stage(
    name=name,
    steps=settings.steps,
    batch_size=settings.batch_size,
    data_seed=config.seed,
    init=init,
    step=stage.jit_step(setup, step, init),
    start=stage.UNTRAINED,
    rows=draw.train,
    verdict=functools.partial(verdict, setup),
  )


def verdict(setup: Setup, charge: Callable, params: Params) -> dict[str, Any]:
  """What the trained reader is worth, for the summary.

  charge: (section, jitted function) -> the function, charged to the ledger.

  -> its steps, its rows, its mean word for s and for each attack, the limits,
  whether it is `accepted`, and `said`: why, in one line.
  """
  config, settings = setup.config, setup.config.reader
  role, corpus, draw = setup.roles["V"], setup.corpus, setup.reader
  score = charge("V", jax.jit(functools.partial(_words, setup.policy, role)))
  place = functools.partial(sharding.rows, setup.mesh)
  s = Tokens(draw.test.ids[:ROWS], draw.test.mask[:ROWS])
  tags = [
    *corpus.vocab.tags.values(),
    tuple(corpus.vocab.control_tags.values()),
  ]
  played = reader_battery.attacks(
    s, setup.roles["D"].length,
    counts=np.bincount(
      corpus.train.ids[corpus.train.mask], minlength=corpus.vocab.size
    ),
    tags=_flat(tags),
    slots=corpus.slots, seed=config.seed,
  )  # fmt: skip
  words = reader_battery.measure(
    lambda s, d: processes.fetch(score(params, place(s), place(d))),
    s, played, settings.batch_size,
  )  # fmt: skip
  limits = {x: settings[x] for x in ("least", "tolerance")}
  accepted, said = reader_battery.judged(
    words, who=f"V's reader (config.seed={config.seed})", **limits
  )
  return {
    "steps": settings.steps,
    "rows": {"train": len(draw.train.ids), "test": len(s.ids)},
    "digest": sources.digest(draw.train, draw.test),
    "word": words.pop(reader_battery.TRUE),
    "attacks": words,
    **limits,
    "accepted": accepted,
    "said": said,
  }


def _words(policy, role, params, s, decoded):
  """s [B, S], decoded [B, A, 1, T] -> [B, A]"""
  return reader.gain(policy, params, role, s, decoded)[..., 0]


def _flat(tags: Any) -> list[int]:
  """The ids in nested tuples."""
  if isinstance(tags, int | np.integer):
    return [int(tags)]
  return [x for part in tags for x in _flat(part)]
