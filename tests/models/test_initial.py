"""Initial parameters: each leaf is a function of the seed and its path."""

import jax
import numpy as np
import pytest
from helpers.runs import shrunk

from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.lm import keys
from rsrc_jax.models import lora, recursive, transformer

SIZES = {
  "vocab_size": 96, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2,
  "hidden": 48,
}  # fmt: skip
EMBED = [-0.29328147, 0.019668894, 0.20601629]
PRODUCT = [0.2945969, 0.0010414438, 0.035095096]
TRM = {"vocab_size": 5, "cells": 16, "width": 32, "depth": 2, "hidden": 48}


def drawn(make=transformer.make, **settings):
  init = make(**settings).init
  tree = jax.jit(lambda seed: init(keys.parameters(seed)))(np.uint32(3))
  return leaves(tree)


def leaves(tree):
  return {
    jax.tree_util.keystr(path): np.asarray(x)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_a_leaf_or_a_layer_more_moves_no_other():
  plain = drawn(**SIZES)
  more = drawn(
    **SIZES | {"depth": 3}, absolute=8, tied=False, qkv_bias=True, qk_norm=True
  )
  assert {"['positions']", "['unembed']", "['blocks']['q']['bias']"} <= {*more}
  for name, x in plain.items():
    y = more[name]
    same = y[: len(x)] if name.startswith("['blocks']") else y
    assert (same == x).all(), name


def test_a_recursive_leaf_more_moves_no_other():
  plain = drawn(recursive.make, **TRM)
  more = drawn(
    recursive.make, **TRM | {"depth": 3}, steps=4, halting=True, identities=2
  )
  for name, x in plain.items():
    y = more[name]
    same = y[: len(x)] if name.startswith("['net']") else y
    assert (same == x).all(), name


def test_adapters_of_more_products_move_no_other():
  base = transformer.make(**SIZES).init(keys.parameters(3))
  key = keys.parameters(3)
  few = leaves(lora.init(key, base, rank=2, targets="blocks/(q|v)$"))
  all_ = leaves(lora.init(key, base, rank=2))
  assert len(all_) > len(few)
  for name, x in few.items():
    assert (all_[name] == x).all(), name


def test_no_two_leaves_and_no_two_layers_are_alike():
  seen = [
    x.ravel()[:64]
    for name, leaf in drawn(**SIZES).items()
    if leaf.std() > 0
    for x in (leaf if name.startswith("['blocks']") else [leaf])
  ]
  for i, x in enumerate(seen):
    for y in seen[:i]:
      assert abs(np.corrcoef(x, y)[0, 1]) < 0.6


@pytest.mark.parametrize(
  "make, settings, width",
  [(transformer.make, SIZES | {"absolute": 64}, 32), (recursive.make, TRM, 32)],
)
def test_the_scale_of_every_leaf(make, settings, width):
  """Products: 1 / rows of variance; tables: 1 / width; norms are 1."""
  cut = 0.8796  # deviation of a normal that is cut at 2, which jax corrects for
  for name, x in drawn(make, **settings).items():
    if name.endswith("['scale']"):
      assert (x == 1).all()
      continue
    rows = x.shape[-2] if name.endswith("['kernel']") else width
    deviation = rows**-0.5
    if "cell_" in name:
      deviation = x.shape[-1] ** -0.5
    if make is recursive.make and "kernel" not in name:
      deviation *= cut
    if name == "['head']['kernel']":
      deviation = width**-0.5 * cut
    error = 4 * deviation / x.size**0.5  # of four deviations of the estimate
    assert abs(x.mean()) < error, name
    assert abs(x.std() - deviation) < error, name


def test_values_of_a_seed():
  """Written down at the commit that began to draw by name."""
  found = drawn(**SIZES)
  assert found["['embed']"][0, :3] == pytest.approx(EMBED, rel=1e-4)
  product = found["['blocks']['q']['kernel']"]
  assert product[1, 0, :3] == pytest.approx(PRODUCT, rel=1e-4)


def test_they_are_one_program(tmp_path):
  setup = make_setup(shrunk(**{"model.hidden": 40}), tmp_path)
  jax.block_until_ready(initial_params(setup))  # constants of the trace
  jax.clear_caches()
  found = []
  listen = lambda name, *_, **__: "backend_compile" in name and found.append(1)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    initial_params(setup)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(found) == 1


def test_the_mesh_moves_nothing(tmp_path):
  one = initial_params(make_setup(shrunk(), tmp_path))
  mesh = {"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}
  cut = initial_params(make_setup(shrunk(**mesh), tmp_path))
  kernel = cut["blocks"]["q"]["kernel"]
  assert not kernel.sharding.is_fully_replicated
  jax.tree.map(np.testing.assert_array_equal, one, cut)
