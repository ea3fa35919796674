"""models/transformer.py: what must not change what the model computes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from rsrc_jax import prompts
from rsrc_jax.models import transformer
from rsrc_jax.types import Tokens

SETTINGS = {**tiny.SETTINGS, "depth": 2}
POLICY = transformer.make(**SETTINGS)


@jax.jit
def params_of():
  """Random weights, large enough to tell one input from another."""
  return jax.tree.map(lambda x: x * 1.5, POLICY.init(jax.random.key(0)))


@functools.partial(jax.jit, static_argnames="policy")
def hidden(
  params, tokens, policy=POLICY, prefix=None, cache=None, index=0, start=0
):
  """[N, T] tokens -> hidden [N, T, D]."""
  grouped = Tokens(*(x[:, None] for x in tokens))
  out, cache = policy.apply(
    params,
    grouped,
    prompts.positions(grouped.mask, start),
    prefix=prefix,
    cache=cache,
    index=index,
  )
  return out[:, 0], cache


def test_logits_are_float32_for_bfloat16_activations():
  policy = transformer.make(**SETTINGS, dtype="bfloat16")
  params = jax.jit(policy.init)(jax.random.key(0))
  tokens = tiny.tokens(np.random.default_rng(0), 2, 5)
  out, _ = hidden(params, tokens, policy)
  assert out.dtype == jnp.bfloat16
  assert policy.unembed(params, out).dtype == jnp.float32


@pytest.mark.parametrize("where", [0, 2, 4])
def test_pads_anywhere_change_nothing(where):
  """Left, inner and near-right padding agree with no padding at all."""
  params, rng = params_of(), np.random.default_rng(0)
  plain = tiny.tokens(rng, 3, 5, lengths=[5, 5, 5])
  pad = lambda x: jnp.insert(x, jnp.array([where] * 3), 0, axis=1)
  padded = Tokens(pad(plain.ids), pad(plain.mask))
  want, _ = hidden(params, plain)
  got, _ = hidden(params, padded)
  got = jnp.delete(got, where + jnp.arange(3), axis=1)
  chex.assert_trees_all_close(got, want, atol=1e-5)


def test_the_future_is_not_seen():
  params, rng = params_of(), np.random.default_rng(0)
  a = tiny.tokens(rng, 2, 6, lengths=[6, 6])
  b = a._replace(ids=a.ids.at[:, 4:].set(9))
  x, _ = hidden(params, a)
  y, _ = hidden(params, b)
  chex.assert_trees_all_close(x[:, :4], y[:, :4], atol=1e-5)
  assert jnp.max(jnp.abs(x[:, 4:] - y[:, 4:])) > 1e-2


def test_cached_decoding_equals_one_pass():
  params, rng = params_of(), np.random.default_rng(1)
  prompt = tiny.tokens(rng, 3, 4, lengths=[4, 4, 4])
  rest = tiny.tokens(rng, 3, 5, lengths=[5, 5, 5])
  want, _ = hidden(params, prompts.concat(prompt, rest))
  _, prefix = hidden(params, prompt)
  cache = POLICY.init_cache(3, 1, 5)
  got = []
  for t in range(5):
    one = Tokens(rest.ids[:, t : t + 1], rest.mask[:, t : t + 1])
    out, cache = hidden(
      params, one, prefix=prefix, cache=cache, index=t, start=4 + t
    )
    got.append(out[:, 0])
  chex.assert_trees_all_close(jnp.stack(got, 1), want[:, 4:], atol=1e-5)


def test_a_shared_prefix_equals_a_repeated_one_with_its_gradient():
  """[B, P] + [B, G, T] against [B*G, P + T]: outputs and gradients."""
  params, rng = params_of(), np.random.default_rng(2)
  prompt = tiny.tokens(rng, 2, 4, lengths=[4, 4])
  rest = tiny.tokens(rng, 2, 3, 5, lengths=np.full((2, 3), 5))
  probe = jnp.asarray(rng.normal(size=(2, 3, 5, 16)), jnp.float32)

  def shared(params):
    _, prefix = hidden(params, prompt)
    out, _ = POLICY.apply(
      params, rest, prompts.positions(rest.mask, 4), prefix=prefix
    )
    return jnp.sum(out * probe), out

  def repeated(params):
    rows = Tokens(*(jnp.repeat(x, 3, 0) for x in prompt))
    out, _ = hidden(params, prompts.concat(rows, prompts.flatten(rest)))
    out = out[:, 4:].reshape(probe.shape)
    return jnp.sum(out * probe), out

  g1, out1 = jax.jit(jax.grad(shared, has_aux=True))(params)
  g2, out2 = jax.jit(jax.grad(repeated, has_aux=True))(params)
  chex.assert_trees_all_close(out1, out2, atol=1e-5)
  for a, b in zip(jax.tree.leaves(g1), jax.tree.leaves(g2), strict=True):
    assert jnp.max(jnp.abs(a - b)) <= 1e-5 * jnp.max(jnp.abs(b))


def test_scanned_layers_equal_unrolled_ones():
  scanned = transformer.make(**SETTINGS, scan=True)
  params, rng = params_of(), np.random.default_rng(3)
  tokens = tiny.tokens(rng, 3, 6)
  want, _ = hidden(params, tokens)
  got, prefix = hidden(params, tokens, scanned)
  chex.assert_trees_all_close(got, want, atol=1e-5)
  # And a scanned prefix serves an unrolled continuation.
  _, plain = hidden(params, tokens)
  one = tiny.tokens(rng, 3, 1)
  a, _ = hidden(params, one, prefix=plain, start=6)
  b, _ = hidden(params, one, scanned, prefix=prefix, start=6)
  chex.assert_trees_all_close(a, b, atol=1e-5)


def test_untied_embeddings_have_their_own_table():
  policy = transformer.make(**SETTINGS, tied=False)
  params = jax.jit(policy.init)(jax.random.key(0))
  out = jnp.ones((1, 16))
  want = params["unembed"].sum(-1)
  chex.assert_trees_all_close(policy.unembed(params, out)[0], want, atol=1e-5)


def test_sizes_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="width=18"):
    transformer.make(**{**SETTINGS, "width": 18})
  with pytest.raises(ValueError, match="kv_heads=3"):
    transformer.make(**{**SETTINGS, "kv_heads": 3})
