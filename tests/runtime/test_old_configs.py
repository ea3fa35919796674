"""What runs have stored, as the present revision reads it."""

import fnmatch
import json
from pathlib import Path

import ml_collections
import pytest

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
    "patterns": {"cdv": {"gate": {"name": "density"}}, "extract": {}},
    "arms": {"trm": {"model": {"cycles": 3}}},
  }
  assert stored["subsets"] == 1  # it is not changed in place


@pytest.mark.parametrize(
  "stored, message",
  [
    ({"subsets": 4}, "subsets=4.*only 1 can"),
    ({"rarity_bonus": {"C": 0.1}}, "rarity_bonus.C=0.1"),
    ({"patterns": {"cdv": {"gate": {"typical": 1.0}}}}, "typical=1.0"),
    ({"arms": {"trm": {"rising": True}}}, "arms.trm.rising=True"),
  ],
)
def test_any_other_value_is_named(stored, message):
  with pytest.raises(ValueError, match=message) as error:
    old_configs.upgraded(stored)
  assert "\n" not in str(error.value)


def test_settings_and_names_that_came_since_are_filled_in():
  found = old_configs.upgraded({"init": "a:b", "loop": "refine"})
  assert found["init"] == "a:b" and found["report"]["headline"] == "code"
  assert found["loop"] == "rsrc_jax.recursive.loop"


def test_settings_of_a_block_that_came_since_are_filled_in():
  """Where the block is there; another value stays; nothing is set in place."""
  stored = {"patterns": {"cc": {"pool": 2}, "qa": {"each": 4}, "cdv": {}}}
  found = old_configs.upgraded(stored)["patterns"]
  assert found == {
    "cc": {"pool": 2, "choose": "hardest"}, "qa": {"each": 4, "probes": None},
    "cdv": {},
  }  # fmt: skip
  assert stored["patterns"]["cc"] == {"pool": 2}
  other = {"patterns": {"cc": {"choose": "misled"}}}
  assert old_configs.upgraded(other)["patterns"] == other["patterns"]
  config = configs.load(ROOT / "configs" / "cc.py")
  older = config.copy_and_resolve_references()
  del older.patterns.cc.choose
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
  assert provenance.identity(ml_collections.ConfigDict(older)) == name
