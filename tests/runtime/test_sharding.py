"""sharding.py: names to specs, and meshes that can't be."""

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import tiny
from jax.sharding import PartitionSpec as P

from rsrc_jax.accounting import hlo
from rsrc_jax.runtime import sharding
from rsrc_jax.types import TrainState


def test_a_mesh_takes_the_devices_that_are_left():
  assert dict(sharding.make_mesh(fsdp=2).shape) == {
    "data": 4, "fsdp": 2, "tensor": 1,
  }  # fmt: skip
  assert sharding.make_mesh(data=1).size == 1
  assert dict(sharding.make_mesh(data=2, fsdp=-1).shape)["fsdp"] == 4
  assert dict(sharding.make_mesh(data=1, tensor=-1).shape)["tensor"] == 8


@pytest.mark.parametrize("sizes", [dict(data=16), dict(data=3, tensor=4)])
def test_a_mesh_larger_than_the_machine_is_refused(sizes):
  with pytest.raises(ValueError, match=r"config.mesh.*there are 8"):
    sharding.make_mesh(**sizes)


@pytest.mark.parametrize(
  "sizes", [dict(data=1, fsdp=0), dict(data=-2), dict(data=-1, fsdp=-1)]
)
def test_sizes_must_be_positive(sizes):
  with pytest.raises(ValueError, match="positive"):
    sharding.make_mesh(**sizes)


def test_a_batch_that_does_not_divide_is_refused():
  mesh = sharding.make_mesh(data=2, fsdp=4)
  sharding.check_batch(mesh, "config.batch_size", 16)
  with pytest.raises(
    ValueError, match=r"config.batch_size=12 .* multiple of 8"
  ):
    sharding.check_batch(mesh, "config.batch_size", 12)


def test_rules_reach_parameters_and_their_moments():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  params = tiny.params()
  state = TrainState(
    jnp.int32(0), params, optax.adamw(1e-3).init(params), (), (),
    jnp.uint32(0),
  )  # fmt: skip
  where = sharding.shardings(mesh, state)
  moments = where.opt_state[0].mu
  for tree in (where.params, moments):
    assert tree["embed"].spec == P("tensor", "fsdp")
    blocks = tree["blocks"]
    for name in ("q", "k", "v", "gate", "up"):
      assert blocks[name]["kernel"].spec == P(None, "fsdp", "tensor")
    for name in ("o", "down"):
      assert blocks[name]["kernel"].spec == P(None, "tensor", "fsdp")
    assert tree["norm"]["scale"].spec == P()
  assert where.step.spec == P()


def test_a_weight_that_does_not_divide_is_refused():
  mesh = sharding.make_mesh(data=1, fsdp=1, tensor=8)
  tree = {"embed": jax.ShapeDtypeStruct((12, 16), jnp.float32)}
  with pytest.raises(ValueError, match=r"embed: dimension 12 .*tensor=8"):
    sharding.shardings(mesh, tree)


def test_what_devices_say_is_counted_with_their_loops():
  """Five sums of [4, 3] floats in a loop, and one gather of [8, 3]."""
  mesh = sharding.make_mesh(data=2)

  def work(x):
    body = lambda x, _: (jax.lax.psum(x, "data") * 0.5, None)
    x, _ = jax.lax.scan(body, x, None, length=5)
    return jax.lax.all_gather(x, "data", tiled=True)

  f = jax.jit(
    jax.shard_map(
      work, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False
    )
  )
  text = f.lower(jnp.zeros((8, 3))).compile().as_text()
  found = hlo.collectives(text)
  assert found["all-reduce"] == (5, 5 * 4 * 3 * 4)
  assert found["all-gather"] == (1, 8 * 3 * 4)
