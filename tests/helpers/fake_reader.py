"""Readers that are tables of numbers: honest ones and one that is fooled."""

import jax
import jax.numpy as jnp

from helpers import scripted, tiny
from rsrc_jax.lm import tokens
from rsrc_jax.types import Policy, Tokens


def _honest(params, prompt: Tokens, step):
  """Repeats what it read, then ends; at a loss if it read nothing.

  What it expects next has params["odds"] to 1 against each other id.
  """
  words = tokens.with_end(Tokens(prompt.ids[1:-1], prompt.mask[1:-1]), 1)
  some = jnp.sum(words.mask) > 1
  at = jnp.minimum(step, words.ids.shape[0] - 1)
  expected = jax.nn.one_hot(words.ids[at], tiny.VOCAB) * words.mask[at]
  return expected * some * jnp.log(params["odds"])


def _fooled(params, prompt: Tokens, step):
  """Finds six words and the end likelier as soon as it read any id at all."""
  del step
  ids, some = jnp.arange(tiny.VOCAB), jnp.sum(prompt.mask) > 2
  usual = ((ids >= 8) & (ids < 14)) | (ids == 1)
  return usual * some * jnp.log(params["odds"])


def _policy(wanted) -> Policy:
  init = lambda key: {"odds": jnp.float32(24.0)}
  return scripted.policy(wanted, init, tiny.VOCAB)


HONEST, FOOLED = _policy(_honest), _policy(_fooled)
