"""Rules of settings, and what they say."""

import math

import pytest

from rsrc_jax import rules
from rsrc_jax.rules import BLOCK, HERE, OTHERS, number, one_of, optional, whole


def pair(settings, run):
  """The rule of a block: b is at most a, and rows divide by a."""
  if settings["b"] > settings["a"]:
    return "b", f"at most {HERE}.a={settings['a']}"
  if run.get("rows", 0) % settings["a"]:
    return "a", "a divisor of the rows"
  return None


RULES = {
  "a": whole(1, why="one is the least"),
  "b": whole(0, 9),
  "rate": number(above=0),
  "kind": one_of("x", 4),
  "inner": optional({"share": rules.share(), "on": rules.flag}),
  "weights": {OTHERS: number(0)},
  "sizes": rules.items(whole(1)),
  BLOCK: (pair,),
}
FINE = {
  "a": 3, "b": 2, "rate": 0.1, "kind": 4, "inner": None,
  "weights": {"C": 0, "D": 1.5}, "sizes": (1, 2),
}  # fmt: skip


def said(run=None, **changes):
  """What is wrong with the settings, one text for each problem."""
  found = rules.problems(RULES, FINE | changes, "config.z", run)
  return [str(x) for x in found]


def test_settings_that_will_do_are_passed():
  assert said() == said({"rows": 6}) == said(inner={"share": 1, "on": True})
  assert said() == []
  rules.check(RULES, FINE, "config.z")


@pytest.mark.parametrize(
  "changes, text",
  [
    ({"a": 0}, "config.z.a=0 must be a whole number, at least 1: one is"),
    ({"a": 1.0}, "config.z.a=1.0 must be a whole number"),
    ({"a": True}, "config.z.a=True must be a whole number"),
    ({"a": 10**12}, "config.z.a=1000000000000 must be .*: at most 2147483647"),
    ({"b": 10}, "config.z.b=10 must be a whole number, 0 to 9"),
    ({"b": None}, "config.z.b=None must be"),
    ({"rate": 0.0}, "config.z.rate=0.0 must be a finite number above 0"),
    ({"rate": math.nan}, "config.z.rate=nan must be a finite number above 0"),
    ({"rate": math.inf}, "config.z.rate=inf must be a finite number above 0"),
    (
      {"rate": 10**400},
      "config.z.rate=1.* must be a finite number above 0: at most 1e.30",
    ),
    ({"kind": 4.0}, "config.z.kind=4.0 must be one of 'x', 4"),
    ({"inner": 3}, "config.z.inner=3 must be a block of settings"),
    ({"inner": {"share": 2}}, r"config.z.inner.share=2 .* from 0 to 1"),
    ({"inner": {"on": 1}}, "config.z.inner.on=1 must be True or False"),
    ({"weights": {"C": -1}}, "config.z.weights.C=-1 must be .* at least 0"),
    ({"sizes": (1, 0)}, r"config.z.sizes=\(1, 0\) must be .* in which 0 is"),
    ({"sizes": 1}, "config.z.sizes=1 must be a tuple"),
    ({"rat": 1}, "config.z.rat=1 is no setting; the nearest is config.z.rate"),
    # A block is looked at as a whole where its fields are right.
    ({"b": 4}, "config.z.b=4 must be at most config.z.a=3"),
  ],
)
def test_a_wrong_setting_is_one_line_with_its_path(changes, text):
  (found,) = said(**changes)
  with pytest.raises(ValueError, match=f"^{text}") as error:
    rules.check(RULES, FINE | changes, "config.z")
  assert str(error.value) == found and "\n" not in found
  assert found.endswith(".")


def test_a_block_is_held_against_the_run_only_where_it_is_known():
  assert said({"rows": 4}) == ["config.z.a=3 must be a divisor of the rows."]
  assert len(said({"rows": 4}, rate=-1)) == 1  # fields come first


def test_numbers_of_what_has_no_rule_are_finite():
  fine = {"a": [1, 2.5, "x", None, True], "b": {"c": ()}}
  assert rules.anything(fine) == ""
  for wrong in (math.nan, [1, math.inf], {"x": {"y": 10**31}}):
    assert "finite" in rules.anything(wrong)


def test_an_end_that_is_not_included_is_out_of_range():
  rule = number(0, below=1)
  assert [bool(rule(x)) for x in (0, 0.5, 1, -0.1)] == [
    False,
    False,
    True,
    True,
  ]
  assert rule(1) == "a number in [0, 1)"
  assert number(above=0, most=1)(0) == "a number in (0, 1]"
  assert number()(math.nan) == "a finite number"


def test_long_values_are_cut():
  assert rules.shown("x" * 200).startswith("'xxx")
  assert len(rules.shown("x" * 200)) < 80


def test_a_block_may_name_a_field_that_stands_at_its_default():
  """As config.arms.ff_small.model.cycles=2 does of cycles_with_gradient."""
  rule = {
    "a": whole(),
    BLOCK: (lambda settings, run: ("b", "a multiple of a"),),
  }
  (problem,) = rules.problems(rule, {"a": 2}, "config.x")
  assert str(problem) == "config.x.b=(not set) must be a multiple of a."
