"""models/lora.py: adapters beside a frozen tree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.lm import tokens
from rsrc_jax.models import lora, transformer

POLICY = transformer.make(**{**tiny.SETTINGS, "depth": 2})


@functools.cache
def base():
  """The frozen tree; the first test that needs it makes it."""
  return jax.jit(POLICY.init)(jax.random.key(0))


def adapters(rank=2, targets=lora.TARGETS):
  """As if trained: B is not zero any more."""
  found = lora.init(jax.random.key(1), base(), rank=rank, targets=targets)
  noise = lambda x: x + 0.3 * jax.random.normal(jax.random.key(2), x.shape)
  return jax.tree.map(noise, found)


@jax.jit
def hidden(params):
  text = tiny.tokens(np.random.default_rng(0), 2, 3, 5)
  return POLICY.apply(params, text, tokens.positions(text.mask))[0]


def test_fresh_adapters_change_nothing():
  fresh = lora.init(jax.random.key(1), base(), rank=2)
  assert fresh["blocks"]["q"]["lora_a"].shape == (2, 16, 2)
  assert set(fresh) == {"blocks"} and len(fresh["blocks"]) == 7
  np.testing.assert_array_equal(
    hidden(lora.attach(base(), fresh, 2.0)), hidden(base())
  )


def test_attached_equals_merged():
  trained = adapters()
  want = hidden(lora.merge(base(), trained, 0.5))
  got = hidden(lora.attach(base(), trained, 0.5))
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert np.abs(want - hidden(base())).max() > 1e-2


def test_targets_are_a_choice():
  some = adapters(targets="blocks/(q|v)$")
  assert set(some["blocks"]) == {"q", "v"}
  full = lora.attach(base(), some, 1.0)
  assert full["blocks"]["k"] is base()["blocks"]["k"]  # shared, not copied
  assert full["embed"] is base()["embed"]


def test_gradients_reach_the_adapters_as_through_the_merged_matrix():
  """d/dA = scale * dW B^T and d/dB = scale * A^T dW."""
  trained = adapters()
  probe = jax.random.normal(jax.random.key(3), (2, 3, 5, 16))
  loss = lambda params: jnp.sum(hidden(params) * probe)
  got = jax.grad(lambda a: loss(lora.attach(base(), a, 0.5)))(trained)
  merged = jax.grad(loss)(lora.merge(base(), trained, 0.5))
  for name, node in trained["blocks"].items():
    dw = merged["blocks"][name]["kernel"]
    a, b = node["lora_a"], node["lora_b"]
    want_a = 0.5 * jnp.matmul(dw, jnp.swapaxes(b, -1, -2))
    want_b = 0.5 * jnp.matmul(jnp.swapaxes(a, -1, -2), dw)
    found = got["blocks"][name]
    for x, y in ((found["lora_a"], want_a), (found["lora_b"], want_b)):
      np.testing.assert_allclose(x, y, atol=1e-4 * float(jnp.abs(y).max()))


def test_bad_settings_are_refused():
  with pytest.raises(ValueError, match=r"lora\.rank=0"):
    lora.init(jax.random.key(0), base(), rank=0)
  with pytest.raises(ValueError, match="'qq' matches none of blocks/down"):
    lora.init(jax.random.key(0), base(), rank=1, targets="qq")
