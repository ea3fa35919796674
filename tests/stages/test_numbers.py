"""Settings as arguments of the step: arms of one shape share one program."""

import jax
import numpy as np
import pytest
from helpers.runs import shrunk

from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.data import sources
from rsrc_jax.rl import numbers
from rsrc_jax.stages import plan
from rsrc_jax.stages.stage import frozen_of
from rsrc_jax.training import together

GATE = {
  "name": "density", "load_bearing": "message", "bonus": 0.1, "mode": "bonus",
  "share": 0.5, "threshold": 0.1, "nats_per_token": 2.0, "others": 1,
  "decay": 0.9, "beyond_bound": True,
}  # fmt: skip
# Every number of the step's, other than the base's.
OTHER = {
  "kl": 0.02, "loss.clip_low": 0.1, "loss.clip_high": 0.2,
  "loss.importance_cap": 1.5, "loss.weights.C": 0.5, "loss.weights.D": 0.7,
  "loss.lesson_weights.C": 0.6, "loss.lesson_weights.D": 0.8,
  "loss.entropy_bonus.C": 0.1, "shaping.gain": 0.5, "verifier.edit": 0.7,
  "patterns.cdv.length_price": 0.3, "patterns.cdv.dropout": 0.4,
  "patterns.cdv.temperature": 0.7,
  "patterns.cdv.gate.bonus": 0.3, "patterns.cdv.gate.share": 0.2,
  "patterns.cdv.gate.threshold": 0.3, "patterns.cdv.gate.decay": 0.5,
  "patterns.cdv.gate.nats_per_token": 1.0, "curriculum.hidden": 0.4,
  "curriculum.steps": 77,
}  # fmt: skip


def config_of(**arms):
  config = shrunk(
    only="", kl=0.01,
    **{
      "augment.inject": 2, "augment.ban": 1, "data.asks": True,
      "verifier.edit": 1.0, "shaping.gain": 1.0,
      "patterns.cdv.length_price": 0.1,
    },
  )  # fmt: skip
  config.patterns.cdv.gate = GATE
  config.arms = {
    name: {"pattern": "cdv", "write": "force", "overrides": tuple(own.items())}
    for name, own in arms.items()
  }
  return config


def stages_of(folder, **arms):
  setup = make_setup(config_of(**arms), folder)
  return setup, {x.name: x for x in plan.make_stages(setup)}


def test_what_differs_in_numbers_is_one_step(tmp_path):
  _, stages = stages_of(
    tmp_path, a={}, b=OTHER, c={"augment.force": False}, d={"kl": 0.0},
    e={"patterns.cdv.group": 2}, f={"loss.entropy_bonus.C": 0.0},
    g={"augment.ban": 0}, h={"shaping.gain": 0.0},
  )  # fmt: skip
  steps = {name: id(x.step) for name, x in stages.items()}
  assert steps["a"] == steps["b"] == steps["c"]
  assert len(set(steps.values())) == 7  # base, a, and those that skip a part
  order = list(stages.values())
  groups = [[order[i].name for i in x] for x in together.groups(order)]
  assert ["a", "b", "c"] in groups


def test_what_is_only_drawn_by_is_no_program_of_its_own(tmp_path):
  """Lengths and their shares are in the controls; a hold has numbers."""
  lengths = {"budgets": (1, 2, 3), "augment.unannounced": 0.5}
  held = {"loss.hold": {"first": 0.5, "rate": 0.1}}
  setup, stages = stages_of(
    tmp_path, a={}, b={"budgets": (3,)}, c=lengths,
    d=lengths | {"augment.unannounced": 0.2, "augment.cut": 0.5},
    e=lengths | {"budgets": (2,), "augment.ease": 0.6},
    f=held, g={"loss.hold": {"first": 0.4, "rate": 0.2}},
  )  # fmt: skip
  steps = {name: id(x.step) for name, x in stages.items()}
  assert steps["c"] == steps["d"] == steps["e"] and steps["f"] == steps["g"]
  assert len(set(steps.values())) == 5  # base, no budgets, b, c and f
  # Each its own numbers, and a state to hold by.
  params = initial_params(setup)
  state = stages["g"].init(params)
  assert state.entropy.level == 0.0 and stages["c"].init(params).entropy == ()
  given = stages["g"].controls(
    state, frozen_of(stages["g"], {"base": params}),
    sources.batch(setup.corpus.train, 0, 8),
  )  # fmt: skip
  assert float(given.numbers["loss.hold.rate"]) == pytest.approx(0.2)


def test_the_numbers_of_an_arm(tmp_path):
  """OTHER holds them all, and each reaches the step as it is."""
  setup, stages = stages_of(tmp_path, b=OTHER)
  params = initial_params(setup)
  given = stages["b"].controls(
    stages["b"].init(params),
    frozen_of(stages["b"], {"base": params}),
    sources.batch(setup.corpus.train, 0, 8),
  )
  theirs = {x: v for x, v in OTHER.items() if not x.startswith("curriculum.")}
  found = {x: float(v) for x, v in given.numbers.items()}
  zero = {x for x, v in found.items() if v == 0}
  assert found == pytest.approx(theirs | dict.fromkeys(zero, 0.0))
  assert zero == {
    "loss.entropy_bonus.D", "verifier.slots", "verifier.reader",
  }  # fmt: skip


def test_a_zero_that_leaves_a_part_out_is_a_constant():
  flat = {"kl": 0.0, "loss.clip_low": 0.0, "patterns.cdv.length_price": 0.0}
  own = {"cdv": ("length_price",)}
  key = lambda **more: numbers.static(flat | more, own)
  assert key() != key(kl=0.1)
  assert key(kl=0.2) == key(kl=0.1)
  assert key() == key(**{"loss.clip_low": 0.5})
  assert key() == key(**{"patterns.cdv.length_price": 0.5})
  assert key() == key(**{"patterns.qa.length_price": 0.5})  # is not played
  assert key() != key(**{"patterns.cdv.group": 3})


@pytest.mark.slow
def test_arguments_give_what_constants_gave(tmp_path):
  """Two arms that differ in every number: one program, and the same values."""
  setup, stages = stages_of(tmp_path, a={}, b=OTHER)
  params = initial_params(setup)
  frozen = frozen_of(stages["a"], {"base": params})
  batch = sources.batch(setup.corpus.train, 0, 8)
  found = {}
  for name in "ab":
    stage = stages[name]
    for _ in range(2):  # the second call is of another state
      state = stage.init(params)
      given = stage.controls(state, frozen, batch)
      found[name] = jax.device_get(stage.step(state, frozen, batch, given))
  assert stages["a"].step is stages["b"].step
  assert stages["a"].step._cache_size() == 1
  for name in "ab":
    _, alone = stages_of(
      tmp_path / name, **{name: dict(OTHER) if name == "b" else {}}
    )
    constant = jax.jit(alone[name].step.__wrapped__)
    state = alone[name].init(params)
    given = alone[name].controls(state, frozen, batch)
    want = jax.device_get(
      constant(state, frozen, batch, given._replace(numbers=None))
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      found[name], want,
    )  # fmt: skip
  assert found["a"][1]["reward"] != found["b"][1]["reward"]


@pytest.mark.slow
def test_what_has_no_weight_is_not_computed(tmp_path):
  """FLOPs of the jaxpr: without the KL, and without the entropy's gradient."""
  setup, stages = stages_of(
    tmp_path, a={}, no_kl={"kl": 0.0}, no_c={"loss.weights.C": 0.0}
  )
  params = initial_params(setup)
  frozen = frozen_of(stages["a"], {"base": params})
  batch = sources.batch(setup.corpus.train, 0, 8)
  flops = {}
  for name in ("a", "no_kl", "no_c"):
    stage = stages[name]
    state = stage.init(params)
    given = stage.controls(state, frozen, batch)
    made = stage.step.lower(state, frozen, batch, given).compile()
    flops[name] = made.cost_analysis()["flops"]
  assert flops["no_kl"] < flops["a"] and flops["no_c"] < flops["a"]
