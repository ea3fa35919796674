"""When it is said that groups teach nothing: by hand, and over a resume."""

import pytest

from rsrc_jax.metrics import dead_groups
from rsrc_jax.metrics.dead_groups import Stretch, Watch
from rsrc_jax.runtime.configs import load_config


def lines(shares, every=20, role="C"):
  """Windows of `every` steps with these shares of dead groups."""
  return [
    {"phase": "code", "split": "train", "step": every * (i + 1)}
    | ({} if x is None else {f"{role}_dead_groups": x})
    for i, x in enumerate(shares)
  ]


def said(shares, **how):
  """(role, step, steps) of all that is new, in order."""
  watch, found = Watch(), []
  for line in lines(shares, **how):
    watch = dead_groups.follow(watch, line["step"], line)
    found += [(x.role, x.step, x.steps) for x in watch.new]
  assert tuple(x[0] for x in found) == tuple(x.role for x in watch.told)
  return found


@pytest.mark.parametrize(
  "shares, how, found",
  [
    ([0.6] * 20, {}, [("C", 100, 100)]),  # five windows, and never again
    ([0.6] * 4, {}, []),
    ([0.5] * 20, {}, []),  # half of them are not most
    # The fifth is alive: it begins anew, and 6 to 10 are the five.
    ([0.6] * 4 + [0.4] + [1.0] * 9, {}, [("C", 200, 100)]),
    ([0.9] * 9, {"every": 30}, [("C", 120, 120)]),
    ([0.9] * 2, {"every": 250}, [("C", 250, 250)]),
    # A window in which the role was not played neither ends nor adds.
    ([0.9, None] * 5, {"role": "A"}, [("A", 180, 100)]),
    ([0.9] * 3 + [0.1] * 3 + [0.9] * 5 + [0.1, *[0.9] * 9], {},
     [("C", 220, 100)]),
  ],
)  # fmt: skip
def test_most_groups_for_a_hundred_steps_in_a_row(shares, how, found):
  assert said(shares, **how) == found


def test_each_role_is_told_of_by_itself():
  both = [
    a | {"D_dead_groups": 0.8 * (i >= 2)}
    for i, a in enumerate(lines([0.75] * 9))
  ]
  watch = dead_groups.followed(both, "code")
  assert [(x.role, x.step) for x in watch.told] == [("C", 100), ("D", 140)]
  assert watch.told[0] == Stretch("C", 100, 100, 75.0)


@pytest.mark.parametrize("cut", range(10))
def test_a_resumed_run_says_it_once(cut):
  """What is kept in metrics.jsonl is enough to go on."""
  every = lines([0.1, *[0.9] * 9])
  watch = dead_groups.followed(every[:cut], "code")
  before, after = len(watch.told), []
  for line in every[cut:]:
    watch = dead_groups.follow(watch, line["step"], line)
    after += watch.new
  assert before + len(after) == 1
  assert watch == dead_groups.followed(every, "code")
  assert watch.told[0].step == 120
  assert dead_groups.followed(every, "lead") == Watch()


def test_the_remedies_are_settings():
  text = dead_groups.warning("code", "cdv", Stretch("C", 240, 120, 90.0))
  assert text == (
    "Warning: code: 75 % of C's groups were dead over 120 steps up to step 240:"
    " their rewards are all equal and teach nothing. Raise "
    "config.loss.entropy_bonus.C, config.temperature, config.patterns.cdv.group"
    " or config.shaping.gain."
  )
  for config, pattern, roles in (
    ("tiny", "cdv", "CD"), ("qa", "qa", "CA"), ("ccv", "ccv", "R"),
    ("cc", "cc", ("CC",)),
  ):  # fmt: skip
    block = load_config(config)
    for role in roles:
      for name in dead_groups.remedies(role, pattern):
        at = block
        if name.startswith("shaping.") and "shaping" not in block:
          continue
        for part in name.split("."):
          assert part in at, (config, name)
          at = at[part]
  assert "patterns.mine.group" in dead_groups.remedies("C", "there/mine.py")
