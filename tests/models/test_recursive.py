"""models/recursive.py: against torch, itself written out, and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsrc_jax.accounting import flops
from rsrc_jax.models import recursive, recursive_architecture

GOLDEN = "tests/golden/recursive/{}.npz"
SIZES = {
  "vocab_size": 4, "cells": 5, "width": 8, "depth": 2, "hidden": 12,
  "cell_hidden": 6, "heads": 2,
}  # fmt: skip


def make(**settings):
  """The model, compiled: its calls one by one are hundreds of programs."""
  model = recursive.make(**settings)
  return model._replace(
    init=jax.jit(model.init), superstep=jax.jit(model.superstep),
    probe=jax.jit(model.probe),
  )  # fmt: skip


def golden(core, rootdir):
  """-> model, parameters and all that torch said (golden/recursive/make.py)."""
  found = dict(np.load(rootdir / GOLDEN.format(core)))
  model = make(**SIZES, core=core, cycles=3, inner=2)
  return model, params_of(found, "", core), found


def params_of(found, prefix, core):
  net = {}
  for name in ("gate", "up", "down", *("qkvo" if core == "attention" else "")):
    net[name] = {"kernel": found[f"{prefix}net_{name}"]}
  if core == "mixer":  # ours are [out, in]: products from the left
    for name in ("cell_gate", "cell_up", "cell_down"):
      net[name] = found[f"{prefix}net_{name}"].swapaxes(1, 2)
  return {
    "net": net, "embed": found[f"{prefix}embed"],
    "head": {"kernel": found[f"{prefix}head"].T},
  }  # fmt: skip


@pytest.mark.parametrize("core", recursive_architecture.CORES)
def test_two_supersteps_and_their_gradient_are_those_of_torch(
  core, pytestconfig
):
  model, params, want = golden(core, pytestconfig.rootpath)
  question, target = (
    jnp.asarray(want[k], jnp.int32) for k in ("question", "target")
  )
  step = jnp.zeros(len(question), jnp.int32)
  state = recursive.State(want["z_h"], want["z_l"])
  # 18 calls of a net one upon another make much of the last digits.
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=5e-4)
  for n in (1, 2):
    before = state
    state, said = model.superstep(params, question, state, step)
    for name, found in (("z_h", state.z_h), ("z_l", state.z_l),
                        ("logits", said.logits)):  # fmt: skip
      close(found, want[f"{name}_{n}"])

  def loss(params):
    said = model.superstep(params, question, before, step)[1]
    return optax.softmax_cross_entropy_with_integer_labels(
      said.logits, target
    ).mean()

  value, found = jax.jit(jax.value_and_grad(loss))(params)
  close(value, want["loss"])
  expected = params_of(want, "grad_", core)
  jax.tree.map(close, found, expected)


def small(**settings):
  model = make(**{**SIZES, "cycles": 2, "inner": 2, **settings})
  key = jax.random.key(0)
  question = jax.random.randint(key, (3, 5), 0, 4)
  return model, model.init(key), question, jnp.asarray([0, 1, 2], jnp.int32)


def gradient(model, params, question, step, state=None):
  state = model.begin(len(question)) if state is None else state
  f = lambda p, z: model.superstep(p, question, z, step)[1].logits.sum()
  return jax.jit(jax.grad(f, argnums=(0, 1)))(params, state)


def test_a_loop_is_the_same_as_the_calls_written_out():
  for with_gradient in (1, 2):
    found = [
      small(cycles_with_gradient=with_gradient, unroll=unroll)
      for unroll in (True, False)
    ]
    one, other = (
      (model.superstep(params, q, model.begin(3), s)[1].logits,
       gradient(model, params, q, s)[0])
      for model, params, q, s in found
    )  # fmt: skip
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
      one, other,
    )  # fmt: skip


def test_no_gradient_goes_to_the_state_or_through_the_first_cycles():
  model, params, question, step = small()
  _, to_state = gradient(model, params, question, step)
  assert all((x == 0).all() for x in to_state)
  # The gradient is that of the last cycle from the state before it.
  one = make(**SIZES, cycles=1, inner=2)
  halfway, _ = one.superstep(params, question, model.begin(3), step)
  expected, _ = gradient(one, params, question, step, halfway)
  found, _ = gradient(model, params, question, step)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    found, expected,
  )  # fmt: skip


@pytest.mark.parametrize("core", recursive_architecture.CORES)
def test_an_untied_net_of_equal_weights_is_the_tied_one(core):
  tied, params, question, step = small(core=core, cycles_with_gradient=2)
  untied = make(
    **SIZES, core=core, cycles=2, inner=2, cycles_with_gradient=2, untied=True
  )
  assert untied.calls == 6
  shapes = jax.eval_shape(untied.init, jax.random.key(0))
  repeated = jax.tree.map(
    lambda w, like: jnp.broadcast_to(w, like.shape),
    params["net"],
    shapes["net"],
  )
  found, expected = (
    model.superstep(p, question, model.begin(3), step)[1].logits
    for model, p in ((untied, {**params, "net": repeated}), (tied, params))
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("untied", (False, True))
def test_the_last_probe_is_the_readout(untied):
  model, params, question, step = small(untied=untied, cycles_with_gradient=2)
  args = (params, question, model.begin(3), step)
  probed = model.probe(*args)
  assert probed.shape == (model.calls, 3, 5, 4)
  np.testing.assert_allclose(
    probed[-1], model.superstep(*args)[1].logits, rtol=1e-5, atol=1e-6
  )
  halfway = model.superstep(*args)[0]
  np.testing.assert_array_equal(
    model.read(params, halfway).logits.shape, (3, 5, 4)
  )


@pytest.mark.parametrize("core", recursive_architecture.CORES)
def test_items_do_not_see_each_other(core):
  model, params, question, step = small(core=core, steps=4)
  params["step"] = jax.random.normal(jax.random.key(1), params["step"].shape)
  together = model.superstep(params, question, model.begin(3), step)[1].logits
  for i in range(3):
    alone = model.superstep(
      params, question[i : i + 1], model.begin(1), step[i : i + 1]
    )[1].logits
    np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_identities_and_the_halting_head_begin_at_nothing():
  model, params, question, step = small(identities=3, halting=True)
  say = lambda identity: model.superstep(
    params, question, model.begin(3), step, identity
  )[1]
  one, other = say(jnp.zeros(3, jnp.int32)), say(jnp.arange(3))
  np.testing.assert_array_equal(one.logits, other.logits)
  np.testing.assert_array_equal(one.halt, recursive.HALT_BIAS)
  params["identity"] = params["identity"].at[2].set(1.0)
  changed = say(jnp.arange(3)).logits != one.logits
  np.testing.assert_array_equal(changed.any((1, 2)), [False, False, True])


@pytest.mark.parametrize("core", recursive_architecture.CORES)
def test_the_formula_counts_what_the_program_does(core):
  model, params, question, step = small(core=core, halting=True)
  state = model.begin(3)
  call = lambda p: model.superstep(p, question, state, step)[1].logits
  counted = flops.evaluate(flops.count(jax.make_jaxpr(call)(params)))
  head = 2 * 3 * (5 * 4 + 1) * 8  # logits, and the halting head
  assert counted["hardware"] == model.calls * model.call_flops(3) + head


def test_sizes_that_do_not_fit_are_named():
  for settings, message in (
    ({"core": "sideways"}, "core='sideways'"),
    ({"core": "attention", "heads": 3}, "heads=3"),
    ({"cycles_with_gradient": 3}, "cycles_with_gradient=3"),
    ({"inner": 0}, "inner=0"),
    ({"untied": True}, "an untied net"),
  ):
    with pytest.raises(ValueError, match=message):
      small(**settings)
