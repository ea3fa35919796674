"""models/transformer.py: what must not change what the model computes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.accounting import flops
from rsrc_jax.lm import tokens
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
  params, text, policy=POLICY, prefix=None, cache=None, index=0, start=0
):
  """[N, T] tokens -> hidden [N, T, D]."""
  grouped = Tokens(*(x[:, None] for x in text))
  out, cache = policy.apply(
    params,
    grouped,
    tokens.positions(grouped.mask, start),
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
  pad = lambda x: np.insert(x, [where] * 3, 0, axis=1)
  padded = Tokens(pad(plain.ids), pad(plain.mask))
  want, _ = hidden(params, plain)
  got, _ = hidden(params, padded)
  got = np.delete(got, where + np.arange(3), axis=1)
  chex.assert_trees_all_close(got, want, atol=1e-5)


def test_one_hot_mixtures_are_ids_and_have_a_gradient():
  params, rng = tiny.params(), np.random.default_rng(3)
  text = tiny.tokens(rng, 2, 3, lengths=[3, 3])
  text = Tokens(*(x[:, None] for x in text))
  place = tokens.positions(text.mask)
  run = jax.jit(tiny.POLICY.apply)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def mixed(weights, ids):
    out, cache = tiny.POLICY.apply(
      params, text._replace(ids=ids), place, weights=weights
    )
    return jnp.sum(out[:, 0, -1] ** 3), (out, cache)

  other = (text.ids + 1) % tiny.VOCAB  # ids are not read beside a mixture
  one, two = (jax.nn.one_hot(x, tiny.VOCAB) for x in (text.ids, other))
  grads, got = mixed(one, other)
  chex.assert_trees_all_close(got, run(params, text, place), atol=1e-6)
  assert np.all(np.asarray(grads) != 0)  # of ids that were not chosen too
  # Halves of two ids are an id whose embedding is their mean.
  half = one.at[0, 0, 0].set(0.5 * (one + two)[0, 0, 0])
  rows = params["embed"][jnp.stack([text.ids, other])[:, 0, 0, 0]]
  free = tiny.VOCAB - 1  # no text holds it
  odd = {**params, "embed": params["embed"].at[free].set(rows.mean(0))}
  mean = text._replace(ids=text.ids.at[0, 0, 0].set(free))
  _, got = mixed(half, other)
  chex.assert_trees_all_close(got, run(odd, mean, place), atol=1e-6)


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
  want, _ = hidden(params, tokens.concat(prompt, rest))
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
      params, rest, tokens.positions(rest.mask, 4), prefix=prefix
    )
    return jnp.sum(out * probe), out

  def repeated(params):
    rows = Tokens(*(jnp.repeat(x, 3, 0) for x in prompt))
    out, _ = hidden(params, tokens.concat(rows, tokens.flatten(rest)))
    out = out[:, 4:].reshape(probe.shape)
    return jnp.sum(out * probe), out

  found = (
    jax.device_get(jax.jit(jax.grad(x, has_aux=True))(params))
    for x in (shared, repeated)
  )
  (g1, out1), (g2, out2) = found
  chex.assert_trees_all_close(out1, out2, atol=1e-5)
  for a, b in zip(jax.tree.leaves(g1), jax.tree.leaves(g2), strict=True):
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


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


LOOPED = transformer.make(**SETTINGS, loops=2)


def repeated(params, times=2):
  """The same blocks one after the other, as layers of their own."""
  again = lambda x: np.concatenate([x] * times)
  return {**params, "blocks": jax.tree.map(again, params["blocks"])}


def test_loops_are_the_same_blocks_again():
  """Bit for bit an untied model of twice the depth, of the same values."""
  params, tokens = params_of(), tiny.tokens(np.random.default_rng(4), 3, 6)
  untied = transformer.make(**{**SETTINGS, "depth": 4})
  want, deep = hidden(repeated(params), tokens, untied)
  got, cache = hidden(params, tokens, LOOPED)
  chex.assert_trees_all_equal(got, want)
  chex.assert_trees_all_equal(cache, deep)
  assert len(cache.k) == 4
  shapes = lambda policy: jax.eval_shape(policy.init, jax.random.key(0))
  chex.assert_trees_all_equal_shapes(shapes(LOOPED), shapes(POLICY))


def test_windows_belong_to_the_layers_of_every_loop():
  params, rng = params_of(), np.random.default_rng(5)
  tokens = tiny.tokens(rng, 2, 7, lengths=[7, 7])
  looped = transformer.make(**SETTINGS, loops=2, windows=(2, 0))
  untied = transformer.make(
    **{**SETTINGS, "depth": 4}, windows=(2, 0, 2, 0), scan=True
  )
  want, _ = hidden(repeated(params), tokens, untied)
  got, _ = hidden(params, tokens, looped)
  chex.assert_trees_all_close(got, want, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_looped_decoding_equals_one_pass(scan):
  """A prompt's prefix, then a cache for each loop, by the unrolled blocks.

  Four layers of large weights multiply the rounding of each.
  """
  policy = transformer.make(**SETTINGS, loops=2, scan=scan, reinject=True)
  params, rng = params_of(), np.random.default_rng(1)
  prompt = tiny.tokens(rng, 3, 4, lengths=[4, 4, 4])
  rest = tiny.tokens(rng, 3, 3, lengths=[3, 3, 3])
  want, _ = hidden(params, tokens.concat(prompt, rest), policy)
  _, prefix = hidden(params, prompt, policy)
  again, _ = hidden(params, rest, policy, prefix=prefix, start=4)
  chex.assert_trees_all_close(again, want[:, 4:], atol=1e-4)
  cache, apart = policy.init_cache(3, 1, 3), policy.unrolled(params)
  got = []
  for t in range(3):
    one = Tokens(rest.ids[:, t : t + 1], rest.mask[:, t : t + 1])
    out, cache = hidden(
      apart, one, policy, prefix=prefix, cache=cache, index=t, start=4 + t
    )
    got.append(out[:, 0])
  chex.assert_trees_all_close(jnp.stack(got, 1), want[:, 4:], atol=1e-4)


def test_looped_variants_agree_with_their_gradient():
  """Also: the tied gradient is the sum over the untied copies."""
  params, rng = params_of(), np.random.default_rng(3)
  tokens = tiny.tokens(rng, 3, 6)
  probe = jnp.asarray(rng.normal(size=(3, 6, 16)), jnp.float32)
  untied = transformer.make(**{**SETTINGS, "depth": 4})
  of = lambda policy: lambda p: jnp.sum(hidden(p, tokens, policy)[0] * probe)
  grad = lambda policy, p: jax.device_get(jax.jit(jax.grad(of(policy)))(p))
  want, *found = (
    jax.tree.leaves(grad(policy, params)["blocks"])
    for policy in (
      LOOPED,
      transformer.make(**SETTINGS, loops=2, scan=True),
      transformer.make(**SETTINGS, loops=2, remat=True),
    )
  )
  copies = jax.tree.leaves(grad(untied, repeated(params))["blocks"])
  for a, c, *others in zip(want, copies, *found, strict=True):
    size, loops = np.abs(a).max(), c.reshape(2, 2, *c.shape[1:])
    for b in others:
      assert np.abs(a - b).max() <= 1e-5 * size
    assert np.abs(a - loops.sum(0)).max() <= 1e-5 * size
    every = tuple(range(1, loops.ndim))
    assert (loops != 0).any(every).all()  # both loops have a say


@pytest.mark.parametrize("scan", [False, True])
def test_a_trace_ends_in_what_apply_returns(scan):
  """And each loop before is what a policy of so few loops returns."""
  params, text = params_of(), tiny.tokens(np.random.default_rng(6), 3, 6)
  of = lambda loops: transformer.make(
    **SETTINGS, loops=loops, scan=scan, reinject=True
  )
  grouped = Tokens(*(x[:, None] for x in text))
  where = tokens.positions(grouped.mask)
  trace = jax.jit(of(3).trace, static_argnames="layers")
  states, cache = trace(params, grouped, where)
  each, _ = trace(params, grouped, where, layers=True)
  assert states.shape == (3, 3, 1, 6, 16) and each.shape[0] == 6
  for loops, state in enumerate(np.asarray(states), 1):
    want, segment = hidden(params, text, of(loops))
    chex.assert_trees_all_close(state[:, 0], want, atol=1e-6)
  chex.assert_trees_all_equal(state[:, 0], want)  # of all loops: bit for bit
  chex.assert_trees_all_close(cache, segment, atol=1e-6)
  chex.assert_trees_all_close(each[1::2], states, atol=1e-6)


def test_the_embedding_is_added_before_further_loops_alone():
  params, tokens = params_of(), tiny.tokens(np.random.default_rng(7), 3, 6)
  once, _ = hidden(params, tokens, transformer.make(**SETTINGS, reinject=True))
  chex.assert_trees_all_equal(once, hidden(params, tokens)[0])
  # Blocks that add nothing leave x: 2 x after one loop more, the same normed.
  still = jax.tree.map(np.zeros_like, params["blocks"])
  for loops, times in ((1, 1.0), (3, 3.0)):
    policy = transformer.make(**SETTINGS, loops=loops, reinject=True, epsilon=1)
    got, _ = hidden({**params, "blocks": still}, tokens, policy)
    x = times * params["embed"][tokens.ids]
    want = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1)
    want = want * params["norm"]["scale"]
    chex.assert_trees_all_close(got, want, atol=1e-5)


def test_equal_layers_passed_are_equal_flops():
  """Depth 4 once, 2 twice, 1 four times: counted in the traced programs."""

  def flops_of(depth, loops):
    policy = transformer.make(**{**SETTINGS, "depth": depth}, loops=loops)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    text = tiny.tokens(np.random.default_rng(0), 3, 1, 6)
    where = tokens.positions(text.mask)
    f = lambda p: policy.unembed(p, policy.apply(p, text, where)[0])
    size = sum(x.size for x in jax.tree.leaves(params["blocks"]))
    found = flops.count(jax.jit(f).trace(params).jaxpr, ())
    return flops.evaluate(found, {})["hardware"], size

  (a, four), (b, two), (c, one) = map(flops_of, (4, 2, 1), (1, 2, 4))
  assert a == b == c > 0
  assert four == 2 * two == 4 * one


def test_no_loops_are_refused():
  with pytest.raises(ValueError, match="loops=0"):
    transformer.make(**SETTINGS, loops=0)
