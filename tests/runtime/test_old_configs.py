"""What runs have stored, as the present revision reads it."""

import fnmatch
import json
from pathlib import Path

import ml_collections
import pytest

from rsrc_jax import runs
from rsrc_jax.runtime import configs, old_configs, provenance

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").glob("*.py"))


def test_removed_settings_are_passed_over_at_their_default():
  gate = {"name": "density", "typical": None}
  stored = {
    "seed": 1, "subsets": 1, "rarity_bonus": {"C": 0.0, "D": 0},
    "patterns": {"cdv": {"gate": gate}, "extract": {}},
    "arms": {"trm": {"rising": False, "model": {"cycles": 3}}},
  }  # fmt: skip
  assert old_configs.upgraded(stored) == old_configs.ADDED | {
    "seed": 1,
    "patterns": {
      "cdv": {"gate": {"name": "density"}, "frozen_d": False}, "extract": {},
    },
    "arms": {"trm": {"model": {"cycles": 3}}},
  }  # fmt: skip
  assert stored["subsets"] == 1  # it is not changed in place


@pytest.mark.parametrize(
  "stored, message",
  [
    ({"subsets": 4}, "subsets=4.*only 1 can"),
    ({"rarity_bonus": {"C": 0.1}}, "rarity_bonus.C=0.1"),
    ({"patterns": {"cdv": {"gate": {"typical": 1.0}}}}, "typical=1.0"),
    ({"arms": {"trm": {"rising": True}}}, "arms.trm.rising=True"),
    ({"verifier": {"edit": 1.0, "ratio": 0.5}}, "verifier.ratio=0.5"),
  ],
)
def test_any_other_value_is_named(stored, message):
  with pytest.raises(ValueError, match=message) as error:
    old_configs.upgraded(stored)
  assert "\n" not in str(error.value)


def test_the_former_plateau_rule_is_passed_over_whatever_it_was():
  """Its levels are read as ended by the timer; a newer block stays as it is."""
  block = {
    "name": "plateau", "every": 20, "levels": 10, "decay": 0.7, "patience": 4,
    "margin": 0.003, "settle": 2, "min_steps": 60, "max_steps": 100,
  }  # fmt: skip
  pairs = [["curriculum.patience", 9], ["curriculum.levels", 2]]
  stored = {"curriculum": block, "arms": {"F": {"overrides": pairs}}}
  found = old_configs.upgraded(stored)
  assert found["curriculum"] == {
    "name": "plateau", "every": 20, "levels": 10, "max_steps": 100,
    "window": 0, "look": 10, "errors": 2.0,
  }  # fmt: skip
  assert found["arms"]["F"]["overrides"] == pairs[1:]
  assert "decay" in block and len(pairs) == 2  # nothing is changed in place
  config = configs.load_config("random_vocabulary")
  fields = set(config.curriculum) - set(found["curriculum"])
  assert fields == {"hidden", "temperature", "budgets", "explore_steps"}
  newer = {"curriculum": {"name": "plateau", "window": 20}}
  assert old_configs.upgraded(newer)["curriculum"]["window"] == 20


def test_settings_and_names_that_came_since_are_filled_in():
  found = old_configs.upgraded({"init": "a:b", "loop": "refine"})
  assert found["init"] == "a:b" and found["report"]["headline"] == "code"
  assert found["loop"] == "rsrc_jax.recursive.loop"
  # And inside a block, where the run has one.
  found = old_configs.upgraded({"loss": {"per_token": True}})
  assert "augment" not in found and found["loss"] == {
    "per_token": True, "entropy_reference": 1.0, "hold": None,
  }  # fmt: skip
  mine = old_configs.upgraded({"loss": {"entropy_reference": 3.0}})
  assert mine["loss"]["entropy_reference"] == 3.0


def test_the_likelihood_was_a_scorer_of_v_and_is_shaping():
  """The default's V of the stored results, and one of an arm."""
  scorers = {"slots": 0.0, "edit": 0.0, "gain": 1.0, "ratio": 0.0, "reader": 0}
  cdv = {"group": 16, "decodes": 1, "length_price": 0.0}
  pairs = [["verifier.gain", 0.5], ["verifier.edit", 0.5]]
  stored = {
    "verifier": scorers, "patterns": {"cdv": cdv},
    "arms": {"code": {"overrides": []}, "both": {"overrides": pairs}},
  }  # fmt: skip
  found = old_configs.upgraded(json.loads(json.dumps(stored)))
  assert found == old_configs.ADDED | {
    "verifier": {"slots": 0.0, "edit": 0.0, "reader": 0},
    "shaping": {"gain": 1.0}, "patterns": {"cdv": cdv | {"frozen_d": False}},
    "arms": {
      "code": {"overrides": []},
      "both": {"overrides": [["shaping.gain", 0.5], ["verifier.edit", 0.5]]},
    },
  }  # fmt: skip
  assert old_configs.upgraded(found) == found
  assert stored["arms"]["both"]["overrides"] is pairs  # nothing in place


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_run_of_before_shaping_is_one_of_its_config(file, tmp_path):
  """Every shipped config, as stored when gain was V's, opens and is checked."""
  config = configs.load(file)
  stored = json.loads(config.to_json_best_effort())
  if "shaping" not in stored:  # a recursive model has no V
    assert "verifier" not in stored
    return
  config.verifier, config.shaping = {"edit": 0.0}, {"gain": 1.0}
  del stored["shaping"]
  stored["verifier"] = {"edit": 0.0, "gain": 1.0, "ratio": 0.0}
  (tmp_path / "config.json").write_text(json.dumps(stored))
  provenance.check(config, tmp_path)
  assert provenance.stored_identity(tmp_path) == provenance.identity(config)
  assert runs.read_config(tmp_path).shaping.gain == 1.0


def test_settings_of_a_block_that_came_since_are_filled_in():
  """Where the block is there; another value stays; nothing is set in place."""
  stored = {"patterns": {"cc": {"pool": 2}, "qa": {"each": 4}, "cdv": {}}}
  found = old_configs.upgraded(stored)["patterns"]
  assert found == {
    "cc": {"pool": 2, "choose": "hardest", "carry": 0.0, "unshared": 0.0},
    "qa": {"each": 4, "probes": None},
    "cdv": {"frozen_d": False},
  }  # fmt: skip
  assert stored["patterns"]["cc"] == {"pool": 2}
  other = {"patterns": {"cc": {
    "choose": "misled", "carry": 0.5, "unshared": 0.25,
  }}}  # fmt: skip
  assert old_configs.upgraded(other)["patterns"] == other["patterns"]
  config = configs.load(ROOT / "configs" / "cc.py")
  older = config.copy_and_resolve_references()
  for name in ("choose", "carry", "unshared"):
    del older.patterns.cc[name]
  assert provenance.identity(older) == provenance.identity(config)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_config_has_a_removed_setting(file):
  plain = json.loads(configs.load(file).to_json_best_effort())
  names = old_configs.flat(plain)
  old = [
    x for x in names if any(fnmatch.fnmatch(x, y) for y in old_configs.REMOVED)
  ]
  assert old == []
  assert old_configs.upgraded(plain) == old_configs.ADDED | plain


def test_the_name_of_a_run_is_of_what_its_numbers_depend_on():
  config = configs.load(ROOT / "configs" / "tiny.py")
  name = provenance.identity(config)
  assert len(name) == 12 and int(name, 16) >= 0

  def other(**changes):
    mine = config.copy_and_resolve_references()
    mine.update_from_flattened_dict(
      {k.replace("__", "."): v for k, v in changes.items()}
    )
    return provenance.identity(mine)

  turned = dict(reversed(config.to_dict().items()))
  assert provenance.identity(ml_collections.ConfigDict(turned)) == name
  assert other(mesh__data=8, log_every=3, checkpoint__every=10) == name
  changes = (
    {"seed": 1}, {"only": "code"}, {"init": "a:b"}, {"eval__budgets": (1,)},
    {"loss__weights__D": 0.5}, {"data__path": "x"},
  )  # fmt: skip
  names = [other(**x) for x in changes]
  assert len({name, *names}) == 1 + len(changes)
  older = config.to_dict()
  for key in old_configs.ADDED:
    older.pop(key, None)
  for added, value in old_configs.ADDED_WITHIN.items():
    *blocks, last = added.split(".")
    block = older
    for part in blocks:
      block = block.get(part, {})
    if block.get(last) == value:  # else the run does something else today
      block.pop(last, None)
  assert provenance.identity(ml_collections.ConfigDict(older)) == name
