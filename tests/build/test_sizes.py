"""What a run needs in memory, from its settings alone."""

import jax
import pytest
from helpers import small_checkpoint

from rsrc_jax.build import setup, sizes
from rsrc_jax.recursive import checks as recursive_checks
from rsrc_jax.runtime import configs, memory, sharding


def mesh(**axes):
  return sharding.make_mesh(**{"data": 1, **axes})


def test_parameters_are_those_of_the_model(tmp_path):
  config = configs.load_config("tiny", **{"data.sentences": 400,
                                          "data.heldout": 32})  # fmt: skip
  made = setup.make_setup(config, tmp_path)
  shapes = jax.eval_shape(made.policy.init, jax.random.key(0))
  want = sum(x.size for x in jax.tree.leaves(shapes))
  assert sizes.parameters(config.to_dict()) == want == 102_720


def test_a_width_of_a_million_is_refused_with_both_numbers(monkeypatch):
  """Blocks of 2 layers: q and o [D, D] alone are 4e12 numbers a layer pair."""
  monkeypatch.setattr(memory, "free", lambda mesh: 32e9)
  config = configs.load_config("tiny", **{"model.width": 10**6})
  with pytest.raises(
    ValueError, match=r"config\.model\.width=1000000"
  ) as error:
    setup.prepare(config)
  said = str(error.value)
  assert "32.0 GB are free" in said and "config.mesh.fsdp" in said
  # 2 layers of q, o [D, D] and k, v [D, D / 2], five copies of 4 bytes: 3 D D
  # * 2 * 20 = 120,000 GB; the rest is below a thousandth of it.
  assert "120,0" in said and "\n" not in said


@pytest.mark.parametrize(
  "field, value",
  [
    ("batch_size", 2**24), ("eval.batch_size", 2**26),
    ("pretrain.batch_size", 2**26), ("patterns.cdv.group", 2**22),
    ("data.sentences", 2**31 - 1),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(field, value, monkeypatch):
  monkeypatch.setattr(memory, "free", lambda mesh: 8e9)
  with pytest.raises(ValueError, match=rf"config\.{field}={value}.*8.0 GB"):
    setup.prepare(configs.load_config("tiny", **{field: value}))


def test_needs_are_split_over_the_mesh_and_counted_by_what_is_trained():
  one = configs.load_config("tiny").to_dict()
  needed = lambda at, copies=1: [*sizes.needs(one, at, None, copies).values()]
  whole, parts = needed(mesh()), needed(mesh(fsdp=2))
  assert parts[0] == whole[0] / 2 and parts[1] == whole[1] / 2
  assert needed(mesh(), 5)[0] == 5 * whole[0] == 5 * 4 * 102_720
  assert sizes.trains_all(one) == "base"
  lora = {"rank": 4, "base": "bfloat16", "alpha": 1.0, "targets": "q"}
  adapted = one | {"pretrain": one["pretrain"] | {"steps": 0}, "lora": lora}
  assert sizes.trains_all(adapted) == ""
  assert str(sizes.stored_dtype(adapted)) == "bfloat16"
  full = {**adapted["arms"], "code": {"overrides": (("lora.rank", 0),)}}
  assert sizes.trains_all(adapted | {"arms": full}) == "code"
  with pytest.raises(ValueError, match=r"round away small updates.*'code'"):
    sizes.stored_dtype(adapted | {"arms": full})


def test_recursive_models_are_held_against_the_machine_too(monkeypatch):
  monkeypatch.setattr(memory, "free", lambda mesh: 16e9)
  for field, value in (
    ("model.width", 10**6), ("batch_size", 2**20), ("data.train", 2**28),
    ("arms.trm.model.width", 2**20),
  ):  # fmt: skip
    config = configs.load_config("trm")
    config.arms.trm.model.width = 48
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=r"16\.0 GB are free") as error:
      recursive_checks.check(config)
    last = field.rpartition(".")[2]
    assert f"{last}={value}" in str(error.value)


def test_a_checkpoint_is_held_against_the_machine(tmp_path, monkeypatch):
  config = configs.load_config("smollm2")
  config.model.path = str(small_checkpoint.make(tmp_path / "checkpoint"))
  setup.prepare(config)
  monkeypatch.setattr(memory, "free", lambda mesh: 100e3)
  with pytest.raises(ValueError, match=r"config\.\w+.*0.0 GB are free"):
    setup.prepare(config)
