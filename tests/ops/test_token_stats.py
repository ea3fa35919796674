"""Statistics of a next-token distribution: whole, in blocks and in shards."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.token_stats_reference import CASES, FIELDS, MISSING, case, gradient
from helpers.token_stats_reference import reference as float64
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from rsrc_jax.ops import token_stats, vocab_sums

from_logits = jax.jit(token_stats.from_logits)
from_hidden = jax.jit(token_stats.from_hidden, static_argnames="block")
from_hidden_plain = jax.jit(token_stats.from_hidden_plain)
part_sums = jax.jit(vocab_sums.part_sums)
merge = jax.jit(vocab_sums.merge)
NO_IDS = np.zeros((1, 0), np.int32)


def assert_stats(found, expected, atol=1e-5):
  """All but lse to atol; a float32 lse is no finer than its last digit."""
  for name, f, e in zip(FIELDS, found, expected, strict=True):
    assert f.dtype == jnp.float32
    rtol = 1e-7 if name in ("lse", "log_prob") else 0
    np.testing.assert_allclose(f, e, rtol=rtol, atol=atol, err_msg=name)


@functools.partial(jax.jit, static_argnames=("function", "block"))
def gradients(function, cotangents, inputs, ids, mask, block=None):
  """d sum(cotangents * statistics) to `inputs`, and the statistics."""
  keywords = {} if block is None else {"block": block}

  def apply(*inputs):
    return function(*inputs, *ids, mask, **keywords)

  stats, pull = jax.vjp(apply, *inputs)
  return pull(type(stats)(*cotangents)), stats


def random_cotangents(shape, seed=0):
  rng = np.random.default_rng(seed)
  return tuple(rng.normal(size=(6, *shape)).astype(np.float32))


def head(seed=0, shape=(2, 3), size=37, width=4, count=5):
  """hidden, unembedding and ids whose statistics are neither flat nor peaked.

  One id is injected twice, and one is a pad.
  """
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(*shape, width)).astype(np.float32)
  unembedding = rng.normal(size=(size, width)).astype(np.float32)
  sampled = rng.integers(size, size=shape, dtype=np.int32)
  injected = rng.integers(size, size=(*shape, count), dtype=np.int32)
  injected[..., 1] = injected[..., 0]
  injected[..., 2] = -1
  return (hidden, unembedding), (sampled, injected)


def head_mask(kind, size=37, shape=(2, 3)):
  """None, [V] or [..., V]; a run of ids is masked, and then any block of it."""
  if kind == "none":
    return None
  rng = np.random.default_rng(1)
  mask = rng.random((size,) if kind == "vector" else (*shape, size)) < 0.6
  mask[..., 8:20] = False
  mask[..., 30] = True
  return mask


# --- values -----------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
  "size", [2_000, pytest.param(50_000, marks=pytest.mark.slow)]
)
def test_float64_parity(name, size):
  it = case(name, size=size)
  expected = float64(*it)
  assert_stats(from_logits(*it), expected)
  # The same logits as hidden @ unembedding: rows of the identity pick them.
  # What is masked is finite there, as 0 * inf would be nan.
  weights = np.where(np.isfinite(it.logits), it.logits, 1e4).T
  rows = np.eye(len(weights.T), dtype=np.float32)
  assert_stats(from_hidden(rows, weights, *it[1:]), expected)


def test_statistics_by_hand():
  # p = 1/8, 2/8, 5/8 over three ids; the fourth, the likeliest, is masked.
  logits = np.log(np.array([[1.0, 2.0, 5.0, 9.0]], np.float32))
  mask = np.array([True, True, True, False])
  injected = np.array([[0, 2, 2, 3, -1]], np.int32)
  found = from_logits(logits, np.array([1], np.int32), injected, mask)
  a, b, c = math.log(8), math.log(4), math.log(8 / 5)  # surprisals
  h = (a + 2 * b + 5 * c) / 8
  v = ((a - h) ** 2 + 2 * (b - h) ** 2 + 5 * (c - h) ** 2) / 8
  # H2 = -ln(1 + 4 + 25)/64; the mass is 1/8 + 5/8, the pair counted once.
  expected = [math.log(8), -b, h, v, math.log(64 / 30), 6 / 8]
  np.testing.assert_allclose(np.ravel(found), expected, atol=1e-6)


@pytest.mark.parametrize(
  "logits, entropy",
  [
    ([0.0] * 7, math.log(7)),
    ([3.0, -1e4, -1e4, -1e4, -1e4, -1e4, -1e4], 0.0),
    ([3.0, 3.0, -1e4, -1e4, -1e4, -1e4, -1e4], math.log(2)),
    ([3.0, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf], 0.0),
  ],
  ids=["uniform", "one-hot", "a tie of two", "one allowed"],
)
def test_varentropy_is_exactly_0_of_a_uniform_support(logits, entropy):
  found = from_logits(np.array([logits], np.float32), np.zeros(1, int), NO_IDS)
  assert found.varentropy[0] == 0.0
  np.testing.assert_allclose(found.entropy[0], entropy, rtol=1e-6)
  np.testing.assert_allclose(found.collision[0], entropy, rtol=1e-6)


def test_varentropy_of_two_ids():
  # V = p (1 - p) ln^2(p / (1 - p)), whose logit is z: symmetric, 0 at z = 0.
  z = np.linspace(-6, 6, 121, dtype=np.float32)
  logits = np.stack([z, np.zeros_like(z)], -1)
  found = from_logits(logits, np.zeros(121, int), np.zeros((121, 0), int))
  p = 1 / (1 + np.exp(-z.astype(np.float64)))
  np.testing.assert_allclose(found.varentropy, p * (1 - p) * z**2, atol=1e-6)


@pytest.mark.parametrize("size, most", [(512, 10.69), (2048, 15.51)])
def test_varentropy_is_bounded_and_a_spike_reaches_it(size, most):
  bound = math.log(size - 1) ** 2 / 4 + 1
  # A spike of mass p over a uniform tail: logit ln(p (K - 1) / (1 - p)).
  p = np.linspace(0.01, 0.99, 99)
  logits = np.zeros((99, size), np.float32)
  logits[:, 0] = np.log(p * (size - 1) / (1 - p))
  ids = np.zeros(99, int), np.zeros((99, 0), int)
  spikes = np.asarray(from_logits(logits, *ids).varentropy)
  assert spikes.max() <= bound
  assert 0.55 < p[spikes.argmax()] < 0.66
  np.testing.assert_allclose(spikes.max(), most, atol=0.006)
  rng = np.random.default_rng(0)
  scale = rng.uniform(0, 12, (99, 1))
  logits = (rng.standard_t(3, logits.shape) * scale).astype(np.float32)
  assert (from_logits(logits, *ids).varentropy <= bound).all()


@pytest.mark.parametrize("name", ["normal_5", "zipf", "peaked", "half_masked"])
def test_varentropy_is_the_slope_of_entropy_in_log_temperature(name):
  it = case(name, rows=1, size=1000)
  z = np.where(np.isfinite(it.logits), it.logits, 0.0).astype(np.float64)
  step = 1e-4
  hot, cold = (float64(z / np.exp(t), *it[1:]).entropy for t in (step, -step))
  found = from_logits(*it)
  slope = (hot - cold) / (2 * step)
  np.testing.assert_allclose(found.varentropy, slope, rtol=1e-5)
  # By the gradient: d/dlnT of H(z / T) at T = 1 is -sum z dH/dz.
  only_entropy = tuple(np.float32([k == 2]) for k in range(6))
  (dz,), _ = gradients(
    token_stats.from_logits, only_entropy, it[:1], it[1:3], it.mask
  )
  np.testing.assert_allclose(-np.sum(z * dz), slope[0], rtol=1e-4)


@pytest.mark.parametrize(
  "block",
  [*(pytest.param(x, marks=pytest.mark.slow) for x in (1, 5, 36, 37)),
   12, 1000],
)  # fmt: skip
def test_any_block_size(block):
  arrays, ids = head()
  mask = head_mask("full")
  logits = np.einsum("...d,vd->...v", *map(np.float64, arrays))
  found = from_hidden(*arrays, *ids, mask, block=block)
  assert_stats(found, float64(logits, *ids, mask))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_any_parts_merged_in_any_order(seed):
  """Parts of any ids, some of none, merged along a random tree."""
  rng = np.random.default_rng(seed)
  it = case(CASES[seed % len(CASES)], size=24, seed=seed)
  mask = np.ones((2, 24), bool) if it.mask is None else it.mask
  owner = rng.integers(6, size=24)
  ids = np.concatenate([it.sampled[:, None], np.sort(it.injected)], -1)
  again = np.zeros_like(ids, bool)
  again[:, 2:] = ids[:, 2:] == ids[:, 1:-1]
  ids = np.where(again, -1, ids)
  parts = [part_sums(it.logits, mask & (owner == k), ids) for k in range(6)]
  while len(parts) > 1:
    one, two = (parts.pop(rng.integers(len(parts))) for _ in range(2))
    parts.append(merge(one, two))
  assert_stats(vocab_sums.finish(parts[0]), float64(*it))


# --- edges ------------------------------------------------------------------


def test_ids_that_are_pads_masked_or_missing():
  logits = np.log(np.array([[1.0, 2.0, 5.0, 8.0]] * 4, np.float32))
  mask = np.array([True, True, True, False])
  # A pad, an id past the end and a masked id are not to be sampled.
  sampled = np.array([-1, 4, 3, 0], np.int32)
  injected = np.array([[-1, -1], [3, 4], [1, 3], [1, 1]], np.int32)
  (dz,), stats = gradients(
    token_stats.from_logits,
    tuple(np.float32(k == 1) * np.ones(4, np.float32) for k in range(6)),
    (logits,),
    (sampled, injected),
    mask,
  )
  np.testing.assert_array_equal(stats.log_prob[:3], np.float32(MISSING))
  np.testing.assert_array_equal(np.asarray(dz)[:3], 0.0)
  np.testing.assert_allclose(stats.log_prob[3], math.log(1 / 8), rtol=1e-6)
  np.testing.assert_allclose(stats.mass, [0, 0, 2 / 8, 2 / 8], rtol=1e-6)
  no_ids = from_logits(logits, sampled, NO_IDS.repeat(4, 0))
  np.testing.assert_array_equal(no_ids.mass, 0.0)


@pytest.mark.parametrize("block", [None, 3])
def test_everything_is_finite(block):
  """Rows that have broken such code, values and gradients of all six."""
  rows = [
    [1e4, 1e4, 9.99e3, 0, 0, 0, 0, 0],  # a huge offset
    [1e4, -1e4, 0, 0, 0, 0, 0, 0],  # a huge spread
    [0, -1e29, -1e20, -1e10, 0, 0, 0, 0],  # allowed, and beyond exp
    [1e29, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],  # one allowed
    [5, 5, 5, 5, 5, 5, 5, 5],  # none allowed
    [-5e4, 5, 5, 5, 5, 5, 5, 5],  # masked on either side
  ]
  logits = np.array(rows, np.float32)
  mask = np.ones(logits.shape, bool)
  mask[4, 1:] = mask[5] = mask[6, 3:5] = False
  ids = np.zeros(7, int), np.array([[0, 3]] * 7, np.int32)
  if block is None:
    function = token_stats.from_logits
    inputs = (np.where(mask, logits, -np.inf),)
  else:
    function = token_stats.from_hidden
    inputs = (np.eye(7, dtype=np.float32), logits.T)
  found, stats = gradients(
    function, random_cotangents((7,)), inputs, ids, mask, block=block
  )
  for leaf in (*found, *stats):
    assert np.isfinite(leaf).all()
  dz = np.asarray(found[0] if block is None else found[1].T)
  assert (dz[~mask] == 0.0).all()
  # Certain, and nothing at all: no surprise in either.
  for name in ("entropy", "varentropy", "collision"):
    assert getattr(stats, name)[4] == 0.0
    assert getattr(stats, name)[5] == 0.0
  assert stats.mass[4] == 1.0 and stats.mass[5] == 0.0
  assert stats.log_prob[4] == 0.0
  assert stats.log_prob[5] == stats.lse[5] == np.float32(MISSING)


def test_nan_is_not_hidden():
  logits = np.array([[0.0, np.nan, 1.0]], np.float32)
  found = from_logits(logits, np.zeros(1, int), np.zeros((1, 1), int))
  assert np.isnan(found).all()


def test_bfloat16_is_summed_in_float32():
  it = case("normal_5", size=5000)
  low = jnp.asarray(it.logits, jnp.bfloat16)
  assert_stats(
    from_logits(low, *it[1:]), float64(np.asarray(low, np.float64), *it[1:])
  )
  arrays, ids = head(size=300)
  low = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
  whole = [np.asarray(x, np.float64) for x in low]
  cotangents = random_cotangents((2, 3))
  found, stats = gradients(
    token_stats.from_hidden, cotangents, low, ids, None, block=64
  )
  logits = np.einsum("...d,vd->...v", *whole)
  assert_stats(stats, float64(logits, *ids))
  exact, _ = gradients(
    token_stats.from_hidden_plain,
    cotangents,
    list(map(jnp.float32, low)),
    ids,
    None,
  )
  for f, e in zip(found, exact, strict=True):
    assert f.dtype == jnp.bfloat16
    # 8 bits of a float32 result.
    np.testing.assert_allclose(
      np.asarray(f, np.float32), e, rtol=2**-8, atol=1e-5
    )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"block": 0}, "block is 0"),
    ({"sampled": np.zeros(2, int)}, r"sampled \(2,\) does not fit"),
    ({"injected": np.zeros(3, int)}, r"injected \(3,\) does not fit"),
    ({"mask": np.ones(1, bool)}, r"mask \(1,\) does not fit"),
    ({"unembedding": np.ones((5, 3))}, r"unembedding \(5, 3\) does not fit"),
  ],
)
def test_shapes_that_do_not_fit(change, message):
  arguments = {
    "hidden": np.ones((3, 2), np.float32),
    "unembedding": np.ones((5, 2), np.float32),
    "sampled": np.zeros(3, int),
    "injected": np.zeros((3, 1), int),
  }
  with pytest.raises(ValueError, match=message):
    token_stats.from_hidden(**(arguments | change))


# --- gradients --------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_finite_differences(name):
  """All six cotangents, alone and together, against moved float64 logits."""
  it = case(name, rows=3, size=12, count=4)
  together = random_cotangents((3,))
  alone = [
    tuple(np.full(3, k == j, np.float32) for j in range(6)) for k in range(6)
  ]
  for cotangents in (together, *alone):
    (found,), _ = gradients(
      token_stats.from_logits, cotangents, it[:1], it[1:3], it.mask
    )
    expected = gradient(*it, cotangents)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    if it.mask is not None:
      assert (np.asarray(found)[~it.mask] == 0.0).all()


@pytest.mark.parametrize(
  "kind, block",
  [("none", 37), ("vector", 8), ("full", 8),
   *(pytest.param(*x, marks=pytest.mark.slow)
     for x in (("none", 8), ("vector", 37), ("full", 37)))],
)  # fmt: skip
def test_gradient_to_hidden_and_unembedding(kind, block):
  arrays, ids = head()
  mask = head_mask(kind)
  cotangents = random_cotangents((2, 3))
  found, stats = gradients(
    token_stats.from_hidden, cotangents, arrays, ids, mask, block=block
  )
  plain, _ = gradients(
    token_stats.from_hidden_plain, cotangents, arrays, ids, mask
  )
  # Through the product by hand: dz @ E and dz' @ h, with dz moved in float64.
  hidden, weights = (np.float64(x).reshape(-1, 4) for x in arrays)
  if kind == "full":
    mask = mask.reshape(6, 37)
  rows = (hidden @ weights.T, ids[0].ravel(), ids[1].reshape(6, -1), mask)
  dz = gradient(*rows, [c.ravel() for c in cotangents])
  for f, p, e in zip(found, plain, (dz @ weights, dz.T @ hidden), strict=True):
    np.testing.assert_allclose(f, e.reshape(f.shape), atol=2e-5)
    np.testing.assert_allclose(f, p, atol=1e-5)
  assert_stats(jax.tree.map(jnp.ravel, stats), float64(*rows))


# --- shards -----------------------------------------------------------------


@pytest.mark.parametrize(
  "kind, check_vma",
  [pytest.param("none", False, marks=pytest.mark.slow), ("vector", True),
   ("full", False)],
)  # fmt: skip
def test_sharded_vocabulary(kind, check_vma):
  """Rows over one axis, ids over another; 48 ids as 4 shards of 12."""
  arrays, ids = head(shape=(4, 3), size=48)
  mask = head_mask(kind, size=48, shape=(4, 3))
  if mask is not None:
    mask[..., 12:24] = False  # a whole shard, for some rows or for all
  P = PartitionSpec
  mesh = jax.make_mesh((2, 4), ("data", "model"), (AxisType.Auto,) * 2)
  row = P("data")
  masks = {"none": None, "vector": P("model"), "full": P("data", None, "model")}
  sharded = jax.shard_map(
    functools.partial(
      token_stats.from_hidden_sharded, axis_name="model", block=5
    ),
    mesh=mesh,
    in_specs=(row, P("model"), row, row, masks[kind]),
    out_specs=row,
    check_vma=check_vma,
  )
  cotangents = random_cotangents((4, 3))
  found, stats = gradients(sharded, cotangents, arrays, ids, mask)
  expected, whole = gradients(
    token_stats.from_hidden_plain, cotangents, arrays, ids, mask
  )
  assert_stats(stats, whole, atol=2e-6)
  for f, e in zip(found, expected, strict=True):
    np.testing.assert_allclose(f, e, atol=1e-5)


def test_gradient_taken_inside_of_the_shards():
  """A loss and its gradient per device, as a sharded learner takes them."""
  arrays, ids = head(shape=(4, 3), size=48)
  P = PartitionSpec
  mesh = jax.make_mesh((2, 4), ("data", "model"), (AxisType.Auto,) * 2)

  def loss(stats):
    return jnp.sum(jnp.stack(stats) * jnp.arange(1.0, 7.0)[:, None, None] ** 2)

  def inside(hidden, shard, *ids):
    def total(hidden, shard):
      stats = token_stats.from_hidden_sharded(
        hidden, shard, *ids, axis_name="model", block=5
      )
      return jax.lax.psum(loss(stats), "data")

    return jax.grad(total, (0, 1))(hidden, shard)

  row, column = P("data"), P("model")
  found = jax.jit(
    jax.shard_map(
      inside,
      mesh=mesh,
      in_specs=(row, column, row, row),
      out_specs=(row, column),
    )
  )(*arrays, *ids)
  expected = jax.jit(
    jax.grad(
      lambda *arrays: loss(token_stats.from_hidden_plain(*arrays, *ids)), (0, 1)
    )
  )(*arrays)
  for f, e in zip(found, expected, strict=True):
    np.testing.assert_allclose(f, e, rtol=1e-5, atol=2e-4)


# --- memory -----------------------------------------------------------------


@pytest.mark.parametrize("backward", [False, True])
def test_no_buffer_of_rows_by_vocabulary(backward):
  """Compiled, not run: [N, V] logits are 32 MiB, a broadcast mask 8 MiB."""
  rows, size, width = 256, 32_768, 8
  arrays = (
    jax.ShapeDtypeStruct((rows, width), jnp.float32),
    jax.ShapeDtypeStruct((size, width), jnp.float32),
  )
  ids = (
    jax.ShapeDtypeStruct((rows,), jnp.int32),
    jax.ShapeDtypeStruct((rows, 4), jnp.int32),
  )
  mask = jax.ShapeDtypeStruct((size,), bool)

  def temporary(function):
    def total(arrays, ids, mask):
      return sum(map(jnp.sum, function(*arrays, *ids, mask)))

    run = jax.grad(total) if backward else total
    compiled = jax.jit(run).lower(arrays, ids, mask).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  blocked = functools.partial(token_stats.from_hidden, block=256)
  assert temporary(blocked) < rows * size
  # The yardstick does store them: the measure sees what it is meant to see.
  assert temporary(token_stats.from_hidden_plain) >= rows * size * 4
