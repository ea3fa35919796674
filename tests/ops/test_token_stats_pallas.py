"""The fused kernels: both structures interpreted, and lowered, on a CPU."""

import functools
import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny
from helpers import token_stats_reference as oracle
from jax import export

from rsrc_jax.lm import rollout
from rsrc_jax.ops import token_stats, token_stats_pallas
from rsrc_jax.types import Constraints, TokenStats

# backend, rows, block: the smallest tiles that each lowering takes.
SMALL = {"tpu": (32, 128), "gpu": (16, 64)}
BACKENDS = tuple(SMALL)
# What both structures share is tried on one of them in the quick suite.
ONE_BACKEND = ("tpu", pytest.param("gpu", marks=pytest.mark.slow))


def lowerings():
  """(backend, dtype, mask): two of them in the quick suite."""
  quick = {("tpu", jnp.float32, (77, 1000)), ("gpu", jnp.bfloat16, (1000,))}
  for case in itertools.product(
    BACKENDS, (jnp.float32, jnp.bfloat16), (None, (1000,), (77, 1000))
  ):
    yield pytest.param(*case, marks=() if case in quick else pytest.mark.slow)


@pytest.fixture
def small_parts(monkeypatch):
  """Cuts a width of 24 into parts of 16, where there are parts."""
  monkeypatch.setattr(token_stats_pallas, "CHUNK", 32)
  monkeypatch.setattr(token_stats_pallas, "WIDTH", 32)


@functools.partial(jax.jit, static_argnames="backend")
def interpreted(hidden, unembedding, sampled, injected, mask, backend):
  rows, block = SMALL[backend]
  return token_stats_pallas.from_hidden(
    hidden, unembedding, sampled, injected, mask,
    rows=rows, block=block, backend=backend, interpret=True,
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames="backend")
def with_gradient(operands, rest, cotangents, backend):
  """-> (d_hidden, d_unembedding) of the weighed statistics, and these."""

  def total(operands):
    stats = interpreted(*operands, *rest, backend)
    return weighed(stats, cotangents), stats

  return jax.grad(total, has_aux=True)(operands)


def carried(logits, width=16):
  """Operands whose product is exactly these finite logits [R, V]."""
  assert len(logits) <= width
  hidden = np.eye(len(logits), width, dtype=np.float32)
  return hidden, np.pad(logits.T, ((0, 0), (0, width - len(logits))))


def problem(seed=0, rows=37, vocab=203, width=24, count=4):
  """Nothing fits a tile: rows, ids and width are all ragged."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32) * 0.5
  mask = rng.random((rows, vocab)) < 0.5
  mask[:, 0] = True
  return (
    draw(rows, width),
    draw(vocab, width),
    rng.integers(vocab, size=rows).astype(np.int32),
    rng.integers(-1, vocab, size=(rows, count)).astype(np.int32),
    mask,
  )


def weighed(stats, cotangents):
  """A sum in which what is missing has no part."""
  real = lambda x: jnp.where(x > oracle.MISSING / 2, x, 0.0)
  return sum(
    jnp.sum(real(x) * c) for x, c in zip(stats, cotangents, strict=True)
  )


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_of_every_case(backend):
  for name in oracle.CASES:
    case = oracle.case(name, rows=5, size=300)
    finite = np.where(np.isfinite(case.logits), case.logits, 0)
    mask = case.mask
    if mask is None:  # one shape of arguments: one compilation
      mask = np.ones(case.logits.shape, bool)
    got = interpreted(
      *carried(finite), case.sampled, case.injected, mask, backend
    )
    want = oracle.reference(*case)
    # At an offset of 1e4 float32 resolves the lse to 1e-3.
    for field, tolerance in zip(
      oracle.FIELDS, (1e-3, *[1e-5] * 5), strict=True
    ):
      np.testing.assert_allclose(
        getattr(got, field), getattr(want, field), rtol=1e-6, atol=tolerance,
        err_msg=f"{name} {field}",
      )  # fmt: skip
    if name.startswith("uniform") or name == "one_unmasked":
      assert np.all(np.asarray(got.varentropy) == 0)


@pytest.mark.parametrize(
  "masked", ["rows", pytest.param("ids", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ragged_sizes_and_gradients(small_parts, backend, masked):
  """Statistics as the plain ones, gradients as differences have them."""
  hidden, unembedding, *ids, mask = problem()
  mask = {"rows": mask, "ids": mask[0]}[masked]
  rng = np.random.default_rng(2)
  cotangents = rng.normal(size=(6, len(hidden))).astype(np.float32)
  (d_hidden, d_unembedding), got = with_gradient(
    (hidden, unembedding), (*ids, mask), cotangents, backend
  )
  want = jax.jit(token_stats.from_hidden_plain)(hidden, unembedding, *ids, mask)
  for field, x, y in zip(oracle.FIELDS, got, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-5, err_msg=field)
  logits = np.float64(hidden) @ np.float64(unembedding).T
  dz = oracle.gradient(logits, *ids, mask, cotangents)
  np.testing.assert_allclose(d_hidden, dz @ unembedding, rtol=0, atol=2e-5)
  np.testing.assert_allclose(d_unembedding, dz.T @ hidden, rtol=0, atol=2e-5)


@pytest.mark.parametrize("backend", ONE_BACKEND)
def test_masked_ids_get_no_gradient(small_parts, backend):
  """Of an id masked in every row, and of rows with one id allowed, or none."""
  hidden, unembedding, sampled, injected, mask = problem()
  unembedding = unembedding * 1e4  # logits of 1e4
  mask[:, 7] = False
  sampled[0], mask[0] = 5, np.arange(mask.shape[1]) == 5
  sampled[1], mask[2] = 7, False
  (d_hidden, d_unembedding), stats = with_gradient(
    (hidden, unembedding),
    (sampled, injected, mask),
    np.ones((6, len(hidden)), np.float32),
    backend,
  )
  for x in (d_hidden, d_unembedding, *stats):
    assert np.all(np.isfinite(x))
  assert np.all(np.asarray(d_unembedding)[7] == 0)
  # One id: nothing to be uncertain of. Only lse moves, with its logit.
  one = TokenStats(*(float(x[0]) for x in stats))
  assert (one.log_prob, one.entropy, one.varentropy, one.collision) == (0,) * 4
  np.testing.assert_allclose(d_hidden[0], unembedding[5], rtol=1e-6)
  missing = float(np.float32(oracle.MISSING))
  assert float(stats.log_prob[1]) == missing
  # None: as ops.token_stats has it, and no gradient at all.
  assert [float(x[2]) for x in stats] == [missing, missing, 0, 0, 0, 0]
  assert np.all(np.asarray(d_hidden)[2] == 0)


@pytest.mark.parametrize("backend", ONE_BACKEND)
def test_bfloat16_operands(backend):
  """Products of bfloat16 are exact in float32: the statistics lose nothing."""
  hidden, unembedding, *rest = problem(4)
  rest[-1] = None  # and without a mask
  hidden, unembedding = (
    jnp.asarray(x, jnp.bfloat16) for x in (hidden, unembedding)
  )
  got = interpreted(hidden, unembedding, *rest, backend)
  wide = [np.asarray(x, np.float64) for x in (hidden, unembedding)]
  want = oracle.reference(wide[0] @ wide[1].T, *rest)
  for field, x, y in zip(oracle.FIELDS, got, want, strict=True):
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("backend", ONE_BACKEND)
def test_leading_axes(backend):
  *operands, injected, mask = problem(5, rows=30)
  hidden, unembedding, sampled = operands
  want = jax.jit(token_stats.from_hidden_plain)(*operands, injected, mask)
  hidden, sampled, injected, mask = (
    x.reshape(5, 6, *x.shape[1:]) for x in (hidden, sampled, injected, mask)
  )
  got = interpreted(hidden, unembedding, sampled, injected, mask, backend)
  for x, y in zip(got, want, strict=True):
    np.testing.assert_allclose(x, y.reshape(5, 6), rtol=1e-5, atol=2e-5)


def lowered(f, backend, *args) -> str:
  """The module that f becomes for a device that isn't here."""
  call = "__gpu$xla.gpu.triton"
  device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  lower = export.export(
    jax.jit(f),
    platforms=["tpu" if backend == "tpu" else "cuda"],
    disabled_checks=[export.DisabledSafetyCheck.custom_call(call)],
  )
  if backend == "tpu":
    return lower(*args).mlir_module()
  with jax.sharding.use_abstract_mesh(mesh), warnings.catch_warnings():
    # From jax 0.11 on.
    warnings.filterwarnings("ignore", "The Pallas Triton backend is deprec")
    return lower(*args).mlir_module()


@pytest.mark.parametrize("backend, dtype, mask", tuple(lowerings()))
def test_lowers_without_a_device(backend, dtype, mask):
  """One kernel forward, two more backward, and no logits outside of them."""
  array = jax.ShapeDtypeStruct
  args = (
    array((77, 768), dtype),
    array((1000, 768), dtype),
    array((77,), jnp.int32),
    array((77, 5), jnp.int32),
    None if mask is None else array(mask, bool),
  )

  def total(*args):
    stats = token_stats_pallas.from_hidden(*args, backend=backend)
    return weighed(stats, np.ones(6))

  target = {"tpu": "tpu_custom_call", "gpu": "__gpu$xla.gpu.triton"}[backend]
  for f, calls in ((total, 1), (jax.grad(total, (0, 1)), 3)):
    module = lowered(f, backend, *args)
    found = re.findall(r"custom_call @([\w$.]+)", module)
    assert found == [target] * calls
    assert "dot_general" not in re.sub(r'"[^"]*"', "", module)
    assert not re.search(r"77x1000xf32|77x1000xbf16", module)


@pytest.mark.parametrize(
  "changed, says",
  [
    ({"backend": "cpu"}, "backend is 'cpu'"),
    ({"rows": 0}, "rows is 0: on TPU a multiple of 32"),
    ({"rows": 8}, "rows is 8: on TPU a multiple of 32"),
    ({"block": 64}, "block is 64: on TPU a multiple of 128"),
    ({"backend": "gpu", "block": 96}, "block is 96: on GPU a power of 2"),
    ({"unembedding": np.zeros((9, 3))}, r"unembedding \(9, 3\) does not fit"),
    ({"sampled": np.zeros(3, int)}, r"sampled \(3,\) does not fit"),
    ({"injected": np.zeros((3, 2), int)}, r"injected \(3, 2\) does not fit"),
    ({"mask": np.ones(8, bool)}, r"mask \(8,\) .* it should be \(9,\)"),
  ],
)
def test_errors_name_the_field(changed, says):
  args = {
    "hidden": np.zeros((2, 4)),
    "unembedding": np.zeros((9, 4)),
    "sampled": np.zeros(2, int),
    "injected": np.zeros((2, 3), int),
  }
  with pytest.raises(ValueError, match=says):
    token_stats_pallas.from_hidden(**(args | changed))


# --- as the head of a policy --------------------------------------------------


@pytest.mark.parametrize("backend, limited", [("tpu", False), ("gpu", True)])
def test_scores_are_those_of_the_blocked_head(backend, limited, monkeypatch):
  """One mask for all rows, and one for each source, shared by its codes."""
  monkeypatch.setattr(rollout, "LARGE", 1)
  rng = np.random.default_rng(0)
  role, source = tiny.ROLES["C"], tiny.tokens(rng, 3, 4)
  output = tiny.tokens(rng, 3, 2, 3)
  limits = None
  if limited:
    none = np.full((3, 1, 1), -1, np.int32)
    limits = Constraints(rng.integers(20, 24, (3, 1, 2), np.int32), none)

  @jax.jit
  def score(params):
    heads = None, token_stats_pallas.head(backend, interpret=True)
    return [
      rollout.score(
        tiny.POLICY._replace(head=head), params, role, role.prompt(source),
        output, limits,
      )
      for head in heads
    ]  # fmt: skip

  want, got = score(tiny.params())
  assert float(jnp.abs(want[0]).max()) > 1
  for x, y in zip(got, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_a_machine_without_an_accelerator_is_told():
  with pytest.raises(ValueError, match="and this is cpu: take the blocked one"):
    token_stats_pallas.head()
