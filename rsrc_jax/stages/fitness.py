"""What the trained base is worth as a model of text, beside counted n-grams.

A base that is worse than a trigram has not learnt its language: what arms then
learn from it is how to make up for that. A run says so and goes on. Sources
whose entropy is known (facts) have a better yardstick, and are not counted.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.lm import likelihood
from rsrc_jax.metrics import ngram
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.types import Params, Tokens

ORDERS = (2, 3)
NAMES = {2: "bigram", 3: "trigram"}
# Bits a token by which the validation split may be worse than the training
# split before a base is said to know its sentences by heart.
BY_HEART = 0.25


def is_counted(setup: Setup) -> bool:
  """Whether a run compares its base with n-grams: it is trained, on text."""
  corpus = setup.corpus
  plain = isinstance(corpus.train, Tokens) and corpus.entropy_bits is None
  return bool(setup.config.pretrain.steps) and plain


def verdict(setup: Setup, charge: Callable, params: Params) -> dict[str, Any]:
  """The block `base` of the summary; see docs/run_directory.md.

  Args:
    setup: of the run.
    charge: (section, jitted function) -> the function, charged to the ledger.
    params: of the base.

  Returns:
    `rows` by split; `bits` and `bits_per_token` of the base, the end token
    included, and the same of each n-gram under `ngram`, by order; whether the
    base is `fit`, by the validation split; and `said`: that in one line.
  """
  config, corpus, role = setup.config, setup.corpus, setup.roles["text"]
  score = charge(
    "V",
    jax.jit(functools.partial(_bits, setup.policy, role)),
  )
  first = lambda split, n: Tokens(split.ids[:n], split.mask[:n])
  splits = {
    "train": first(corpus.train, config.eval.rows),
    "valid": first(corpus.valid, config.eval.rows),
    "test": first(corpus.test, config.eval.test_rows),
  }
  total = lambda split: _total(setup, score, params, split)
  found = {
    "rows": {name: len(split.ids) for name, split in splits.items()},
    **_means({name: total(x) for name, x in splits.items()}, splits),
    "ngram": {},
  }
  for order in ORDERS:
    counted = ngram.fit(
      *corpus.train, order=order, support=int(role.support.sum()), end=role.end
    )
    bits = {
      name: float(ngram.bits(counted, *splits[name]).sum())
      for name in ("valid", "test")
    }
    found["ngram"][str(order)] = _means(bits, splits)
  fit, said = judged(found, config.pretrain.to_dict())
  return {"accepted": True, "fit": fit, "said": said, **found}


def judged(found: dict[str, Any], settings: dict[str, Any]) -> tuple[bool, str]:
  """Whether a base is fit, and why, in one line.

  found: bits of the base and of the n-grams, as `verdict` returns them.
  settings: config.pretrain.
  """
  order = max(ORDERS)
  own, counted = found["bits"], found["ngram"][str(order)]["bits"]
  each = found["bits_per_token"]
  fit = own["valid"] <= counted["valid"]
  numbers = (
    f"{own['valid']:.1f} bits a sentence of the validation split without a "
    f"code ({each['valid']:.2f} a token), and a counted {NAMES[order]} "
    f"{counted['valid']:.1f}"
  )
  if fit:
    return True, f"the base is fit: it leaves {numbers}."
  steps = settings["steps"]
  if each["valid"] - each["train"] > BY_HEART:
    remedy = (
      f"it has {each['train']:.2f} a token on sentences it was trained on: "
      f"give more text, lower config.pretrain.steps={steps} or set "
      f"config.pretrain.patience={settings.get('patience', 0)} to end it by "
      "the validation split, or raise config.pretrain.optimizer.weight_decay="
      f"{settings['optimizer']['weight_decay']}"
    )
  else:
    remedy = (
      "it is hardly better on sentences it was trained on: raise "
      f"config.pretrain.steps={steps}, or config.model.width and depth"
    )
  return False, (
    f"the base is unfit: it leaves {numbers}; {remedy}. The run goes on, and "
    "what its arms gain may only make up for this."
  )


def _bits(policy, role, params, source: Tokens) -> jax.Array:
  """[B, S] -> [B] bits of a sentence and its end."""
  return -likelihood.without_code(policy, params, role, source) / np.log(2.0)


def _total(setup: Setup, score: Callable, params: Params, split) -> float:
  """Bits of all sentences of a split."""
  size, found = setup.config.eval.batch_size, []
  for start in range(0, len(split.ids), size):
    batch = sharding.rows(setup.mesh, sources.batch(split, start, size).source)
    found.append(processes.fetch(score(params, batch)))
  bits = np.concatenate(found)[: len(split.ids)]
  return float(np.sum(bits, dtype=np.float64))


def _means(totals: dict[str, float], splits: dict[str, Tokens]) -> dict:
  """Bits a sentence and a token, the end among them, by split."""
  ends = {name: len(splits[name].ids) for name in totals}
  count = {name: int(splits[name].mask.sum()) + ends[name] for name in totals}
  return {
    "bits": {name: x / ends[name] for name, x in totals.items()},
    "bits_per_token": {name: x / count[name] for name, x in totals.items()},
  }
