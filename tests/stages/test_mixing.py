"""Patterns in turn on one set of weights, arms from arms, a pattern of a file.

The shrunk run at the end mixes three patterns in two phases, starts an arm from
the arm that mixed, and plays there a pattern that stands beside this file.
"""

import collections
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import toy_pattern
from helpers.runs import (
  Killed,
  Runs,
  assert_same_run,
  final_state,
  numbers,
  shrunk,
)

from rsrc_jax import runs, train
from rsrc_jax.build.setup import make_setup
from rsrc_jax.rl import mixing
from rsrc_jax.runtime import checkpoint, run_log
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan, rl, stage
from rsrc_jax.types import Batch, Pattern, Tokens, TrainState

ROOT = Path(__file__).resolve().parents[2]
TOY = str(ROOT / "tests" / "helpers" / "toy_pattern.py")

PHASES = ((("cdv", 1.0),), (("cdv", 0.5), ("qa", 0.25), ("ccv", 0.25)))
PLATEAU = {
  "name": "plateau", "every": 2, "hidden": 0.5, "levels": 1,
  "temperature": 1.0, "budgets": 1.0, "window": 0, "look": 2, "errors": 1e9,
  "max_steps": 3, "explore_steps": 8,
}  # fmt: skip
LINEAR = {
  "name": "linear", "every": 0, "hidden": 0.9, "steps": 4, "explore_steps": 8,
}  # fmt: skip


# 1. Whose turn it is.


def picks(seed, steps, phase, phases=PHASES):
  return [mixing.draw_pattern(phases, seed, step, phase) for step in steps]


def test_a_pick_is_a_function_of_seed_step_and_phase():
  there = picks(3, range(50), 1)
  np.random.seed(1)  # noqa: NPY002
  back = picks(3, reversed(range(50)), 1)
  assert there == back[::-1]
  assert there != picks(4, range(50), 1) != picks(5, range(50), 1)
  # Not of what the weights add up to, and not of the phases before.
  scaled = (PHASES[0], tuple((name, 8 * w) for name, w in PHASES[1]))
  assert picks(3, range(50), 1, scaled) == there
  assert picks(3, range(50), 0, PHASES[1:]) == there


def test_a_phase_plays_its_own_patterns_and_the_last_one_stays():
  assert set(picks(0, range(50), 0)) == {"cdv"}
  assert set(picks(0, range(50), 1)) == {"cdv", "qa", "ccv"}
  for phase in (2, 7):
    assert picks(0, range(50), phase) == picks(0, range(50), 1)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_patterns_are_played_as_often_as_they_weigh(seed):
  phases = ((("a", 3.0), ("b", 0.5), ("c", 1.5)),)
  steps = 6_000
  found = collections.Counter(picks(seed, range(steps), 0, phases))
  for name, weight in phases[0]:
    p = weight / 5.0
    bound = 4 * np.sqrt(steps * p * (1 - p))
    assert abs(found[name] - steps * p) < bound, name


# 2. What can't be played.


def check(phases=PHASES, watched="cdv", curriculum=PLATEAU):
  return mixing.check("mixed", phases, watched, curriculum)


def test_phases_are_tuples_of_names_and_weights():
  listed = [[["cdv", 1]], [["cdv", 0.5], ["qa", 0.25], ["ccv", 0.25]]]
  found = check(listed)
  assert found == PHASES and hash(found) == hash(PHASES)
  assert check(PHASES[1:], curriculum=LINEAR) == PHASES[1:]  # one never ends
  # More levels than phases: the last one stays.
  assert check(curriculum=PLATEAU | {"levels": 5}) == PHASES


@pytest.mark.parametrize(
  "phases, message",
  [
    ((), "a pattern at least"),
    ((PHASES[0], ()), "a pattern at least"),
    (((("cdv", 0.0),),), "cdv has the weight 0.0: .* above 0"),
    (((("cdv", 1.0), ("qa", -1.0)),), "qa has the weight -1.0: .* above 0"),
    (((("cdv", float("inf")),),), "cdv has the weight inf: .* above 0"),
    (((("cdv", float("nan")),),), "cdv has the weight nan: .* above 0"),
    ((PHASES[0], (("qa", 0.0),)), "qa has the weight 0.0"),
  ],
)
def test_phases_that_play_nothing(phases, message):
  with pytest.raises(ValueError, match=message) as error:
    check(phases)
  assert str(error.value).startswith("config.arms.mixed.phases")


def test_what_the_curriculum_watches_must_be_played():
  with pytest.raises(ValueError, match="never plays it") as error:
    check(watched="cc")
  assert "config.arms.mixed.pattern='cc'" in str(error.value)
  assert "config.arms.mixed.phases" in str(error.value)
  assert check(watched="qa") == PHASES  # in one phase is enough


@pytest.mark.parametrize(
  "curriculum, phases, least",
  [
    (LINEAR, PHASES, 1),
    (PLATEAU | {"levels": 1}, (*PHASES, PHASES[1]), 2),
    (PLATEAU | {"levels": 2}, (*PHASES, *PHASES, PHASES[1]), 4),
  ],
)
def test_a_phase_that_never_ends(curriculum, phases, least):
  with pytest.raises(ValueError, match="never ends") as error:
    check(phases, curriculum=curriculum)
  said = str(error.value)
  assert f"{len(phases)} levels" in said
  assert f"level {curriculum.get('levels', 0)} never ends" in said
  assert f"name='plateau' with levels >= {least}" in said


def test_every_pattern_has_a_carry_of_its_own():
  """A step of one leaves the others' alone, and the rest of the state its."""
  patterns = {
    "a": Pattern(lambda: jnp.int32(1), None),
    "b": Pattern(lambda: (jnp.int32(5), jnp.zeros(2)), None),
    TOY: Pattern(tuple, None),
  }
  carry = mixing.init_carries(patterns)()
  assert set(carry) == set(patterns) and carry["a"] == 1

  def step(state, frozen, batch):
    state = state._replace(carry=state.carry + frozen, step=state.step + 1)
    return state, {"batch": batch}

  state = TrainState(jnp.int32(0), {}, (), carry, (), jnp.uint32(0))
  after, metrics = mixing.with_own_carry(step, "a")(state, 10, "rows")
  assert after.carry["a"] == 11 and after.step == 1
  assert after.carry["b"] is carry["b"] and set(after.carry) == set(carry)
  assert metrics == {"batch": "rows"} and state.carry["a"] == 1


def test_a_path_names_a_carry_in_a_checkpoint(tmp_path):
  """A pattern of a file may be mixed too: its slashes do no harm."""
  carry = {TOY: toy_pattern.Carry(jnp.int32(4), jnp.float32(0.5)), "cdv": ()}
  state = TrainState(jnp.int32(3), {}, (), carry, (), jnp.uint32(0))
  saver = checkpoint.open_saver(tmp_path, keep_last=1, keep_best=1, metric="x")
  checkpoint.save(saver, state, {}, {"x": 1.0})
  found, _ = checkpoint.restore(saver, state)
  checkpoint.close(saver)
  assert found.carry == carry


def test_examinations_of_a_mixture_are_told_apart():
  """Each under its pattern's name, with a carry of its own."""

  def look(add):
    def examine(params, frozen, carry, batch, code, key):
      found = params + carry + add + batch.row
      return {"score": found}, {"source": batch.source, "code": code}

    return examine

  patterns = {
    "a": Pattern(None, None, look(100)),
    "b": Pattern(None, None, look(200)),
    "c": Pattern(None, None),
  }
  tokens = Tokens(jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool))
  batch = Batch(tokens, jnp.arange(2))
  asked = (jnp.float32(1.0), {}, {"a": 10, "b": 20}, batch, tokens, None)
  scores, shown = rl.make_examine(patterns, True)(*asked)
  assert {k: x.tolist() for k, x in scores.items()} == {
    "a.score": [111, 112], "b.score": [221, 222],
  }  # fmt: skip
  assert set(shown) == {f"{x}.{y}" for x in "ab" for y in ("source", "code")}
  assert rl.make_examine({"c": patterns["c"]}, True) is None
  # Where nothing is mixed, nothing is renamed.
  alone = rl.make_examine({"a": patterns["a"]}, False)
  scores, _ = alone(asked[0], {}, 10, *asked[3:])
  assert scores["score"].tolist() == [111, 112]


# The run.


def arm(pattern, start, **more):
  return {
    "pattern": pattern, "write": "force", "start": start, "overrides": (),
    **more,
  }  # fmt: skip


MIXED = arm("cdv", "base", phases=PHASES)
# It calls every reward flat: with a look every other step, three rewards a
# level and one level to go, it ends after 4 + 4 steps.
TOYS = arm(TOY, "turns", until="plateau") | {
  "overrides": (
    ("curriculum.every", 0), ("curriculum.window", 3),
    ("curriculum.max_steps", 9), ("optimizer.decay", 0.0),
  ),
}  # fmt: skip
TOY_STEPS = 8  # of 10


def config(arms, **changes):
  found = shrunk(
    **{
      "only": "", "seed": 1, "steps": 10, "log_every": 2, "eval.every": 99,
      "checkpoint.every": 5, "eval.budgets": (3,), "ledger.enabled": False,
    }
    | changes
  )  # fmt: skip
  asked = load(ROOT / "configs" / "qa.py").patterns.qa
  rewritten = load(ROOT / "configs" / "ccv.py").patterns.ccv
  found.patterns.qa = asked.to_dict() | {"group": 4, "each": 2}
  # Its carry is what counts here, so R learns from its reward alone.
  found.patterns.ccv = rewritten.to_dict() | {
    "buffer": 16, "parents": 4, "group": 4, "targets": "none", "warmup": 0,
    "left": 0.0,
  }  # fmt: skip
  found.patterns.ccv.fresh = found.patterns.cdv.to_dict() | {"lessons": 0}
  found.patterns.toy_pattern = {"group": 4, "price": 0.5}
  for name in ("A", "R", "E"):
    found.loss.weights[name] = found.loss.lesson_weights[name] = 1.0
    found.loss.entropy_bonus[name] = 0.0
  found.curriculum = dict(PLATEAU)
  found.arms = arms
  return found


def lora(found, rank=2):
  found.lora = {
    "rank": rank, "alpha": 4, "targets": "q|v", "base": "float32",
  }  # fmt: skip
  return found


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
  """with_arms(...): the same data and model, other arms."""
  made = make_setup(
    config({"toy": TOYS, "turns": MIXED}), tmp_path_factory.mktemp("cache")
  )

  def with_arms(arms, changed=lambda found: found, **changes):
    return made._replace(config=changed(config(arms, **changes)))

  return made, with_arms


# 4. Arms that start from arms.


def names(setup):
  return [phase.name for phase in plan.make_stages(setup)]


def test_arms_are_trained_behind_what_they_start_from(setup):
  _, with_arms = setup
  plain = arm("cdv", "base")
  assert names(with_arms({"a": plain, "b": plain})) == ["base", "a", "b"]
  # Against the order of their names, which is that of a config.
  chain = {
    "a": arm("cdv", "c"), "b": plain, "c": arm("cdv", "d"), "d": plain,
  }  # fmt: skip
  found = plan.make_stages(with_arms(chain))
  assert [x.name for x in found] == ["base", "b", "d", "c", "a"]
  assert [x.start for x in found] == ["untrained", "base", "base", "d", "c"]
  # `only` keeps what it names, in that order where it can.
  assert names(with_arms(chain, only="c,d")) == ["base", "d", "c"]
  assert names(with_arms(chain, only="d,b")) == ["base", "d", "b"]
  del plain["start"]  # the configs before there were any
  assert names(with_arms({"a": plain})) == ["base", "a"]


def test_a_start_that_is_left_out(setup):
  _, with_arms = setup
  arms = {"toy": TOYS, "turns": MIXED, "other": arm("cdv", "base")}
  with pytest.raises(ValueError, match="is no arm that is trained") as error:
    plan.make_stages(with_arms(arms, only="toy,other"))
  assert "config.arms.toy.start='turns'" in str(error.value)
  assert "base, other" in str(error.value)
  for arms in (
    {"a": arm("cdv", "a")},
    {"a": arm("cdv", "b"), "b": arm("cdv", "a")},
    {"a": arm("cdv", "nobody")},
  ):
    with pytest.raises(ValueError, match=r"config\.arms\.a\.start="):
      plan.make_stages(with_arms(arms))


def test_adapters_can_start_from_the_base_alone(setup):
  _, with_arms = setup
  arms = {"a": arm("cdv", "base"), "b": arm("cdv", "a")}
  with pytest.raises(ValueError, match="start='base'") as error:
    plan.make_stages(with_arms(arms, lora))
  assert "start='a'" in str(error.value)
  assert "config.lora.rank=2" in str(error.value)
  # An arm that trains everything may, by a rank of its own.
  arms["b"]["overrides"] = (("lora.rank", 0),)
  assert names(with_arms(arms, lora)) == ["base", "a", "b"]
  arms["b"]["overrides"] = ()
  assert names(with_arms(arms, lambda x: lora(x, 0))) == ["base", "a", "b"]


def test_a_role_without_a_weight_is_named(setup):
  """Q is a role of qa only where it has probes."""
  _, with_arms = setup
  own = {"count": 2, "length": 1, "reads": "source", "opponent": 0.5}
  asked = arm("qa", "base") | {"overrides": (("patterns.qa.probes", own),)}
  with pytest.raises(ValueError, match=r"lacks Q, a role") as error:
    plan.make_stages(with_arms({"a": asked}))
  assert "set config.loss.weights.Q" in str(error.value)
  assert "\n" not in str(error.value)
  asked["overrides"] += (("loss.weights.Q", 1.0),)
  assert names(with_arms({"a": asked})) == ["base", "a"]


def test_what_an_arm_reads_and_never_trains(setup):
  _, with_arms = setup
  arms = {"b": arm("cdv", "a"), "a": arm("cdv", "base")}
  _, a, b = plan.make_stages(with_arms(arms))
  trained = {"base": "the base's", "a": "a's", "b": "b's"}
  found = {"base": "the base's", "reader": {}}
  assert stage.frozen_of(a, trained) == found
  assert stage.frozen_of(b, trained) == found | {"start": "a's"}
  trained["reader"] = found["reader"] = "the reader's"
  assert stage.frozen_of(a, trained) == found


def test_rules_can_not_be_mixed_with_policies(setup):
  _, with_arms = setup
  phases = (PHASES[0], (("cdv", 0.5), ("extract", 0.5)))
  with pytest.raises(ValueError, match=r"config\.arms\.m\.phases: extract"):
    plan.make_stages(with_arms({"m": arm("cdv", "base", phases=phases)}))


# 3. and 5. All of it, whole; stopped, killed and gone on with.


@pytest.fixture(scope="module")
def runner(setup, tmp_path_factory):
  """(run, phases, workdir of a whole run): all runs share their programs."""
  made, _ = setup
  # What the patterns of the mixture measure of themselves has tests of its own.
  phases = [
    x._replace(examine=None) if x.programs else x
    for x in plan.make_stages(made)
  ]
  runs = Runs(made, phases, tmp_path_factory.mktemp("mixed"))
  return runs.run, phases, runs.whole


def lines_of(workdir, phase, split="train"):
  return [
    x
    for x in run_log.read_jsonl(workdir / "metrics.jsonl")
    if x["phase"] == phase and x["split"] == split
  ]


def leaves(workdir, phase, part):
  """Of the last checkpoint, by the end of their names."""
  found = final_state(workdir, phase)
  return {
    k.removeprefix(part): np.asarray(x)
    for k, x in found.items()
    if k.startswith(part)
  }


# What only one of the patterns measures.
OWN = {"qa": "A_nll", "ccv": "R_gain_best", "cdv": "v_edit"}


def test_the_second_phase_plays_all_patterns(runner):
  """Who played, window by window: what was measured says it."""
  _, phases, workdir = runner
  assert [x.name for x in phases] == ["base", "turns", "toy"]
  mixed = phases[1]
  assert set(mixed.programs) == {"cdv", "qa", "ccv"}
  # Three steps are the most of the first level, and nothing else ends it.
  played = [mixed.draw_pattern(step, int(step >= 3)) for step in range(10)]
  assert played == picks(1, range(3), 0) + picks(1, range(3, 10), 1)
  assert set(played) == {"cdv", "qa", "ccv"}
  lines = lines_of(workdir, "turns")
  assert [x["step"] for x in lines] == [2, 4, 6, 8, 10]
  for line in lines:
    window = played[line["step"] - 2 : line["step"]]
    assert (OWN["qa"] in line) == ("qa" in window)
    assert (OWN["ccv"] in line) == ("ccv" in window)
  assert [x["curriculum_phase"] for x in lines] == [0, 0.5, 1, 1, 1]
  assert [x["hidden"] for x in lines] == [0.5, 0.25, 0, 0, 0]
  # Held-out reward is that of the pattern that the arm names.
  held = lines_of(workdir, "turns", "held")
  assert [x["step"] for x in held] == [2, 4, 6, 8, 10]
  for line in held:
    assert f"held_{OWN['cdv']}" in line
    assert not {"held_R_age", "held_right"} & set(line)


def test_a_buffer_is_carried_by_its_pattern_alone(runner):
  _, phases, workdir = runner
  carry = leaves(workdir, "turns", ".carry")
  assert carry and all(k.startswith("['ccv']") for k in carry)
  steps = [x for k, x in carry.items() if k.endswith(".step")]
  played = [phases[1].draw_pattern(step, int(step >= 3)) for step in range(10)]
  assert steps == [played.count("ccv")]
  (stored,) = (x for k, x in carry.items() if k == "['ccv'].source.mask")
  assert stored.any(-1).sum() == min(16, 8 * played.count("ccv"))


def test_each_pattern_is_one_program(runner):
  _, phases, _ = runner
  for phase in phases:
    for step in (phase.programs or {"": phase.step}).values():
      assert step._cache_size() == 1
  assert phases[1].observe._cache_size() == 1
  assert phases[2].observe is None  # it sees its own rewards


def test_an_arm_begins_with_what_it_starts_from(runner):
  """And reads it, frozen: the other arm's last parameters, not the base's."""
  _, _, workdir = runner
  start = {
    name: sum(np.square(x, dtype=np.float64).sum() for x in found.values())
    for name in ("base", "turns", "toy")
    if (found := leaves(workdir, name, ".params"))
  }
  summary = json.loads((workdir / "summary.json").read_text())
  said = [x["toy_start"] for x in lines_of(workdir, "toy")]
  said.append(summary["examined"]["toy"]["start"])
  np.testing.assert_allclose(said, start["turns"], rtol=1e-5)
  # And it begins with them: the first update or two are still small.
  begins = lines_of(workdir, "toy")[0]["toy_params"]
  np.testing.assert_allclose(begins, start["turns"], rtol=1e-4)
  assert abs(start["turns"] / start["base"] - 1) > 1e-3
  assert abs(start["turns"] / start["toy"] - 1) > 1e-4


def test_a_pattern_of_a_file_trains_and_is_measured(runner):
  """No module was edited: its name is a path."""
  _, phases, workdir = runner
  assert Path(TOY).parent == ROOT / "tests" / "helpers"
  # Its role has a section of the ledger, which the others' roles have not.
  assert [x.sections for x in phases] == [(), ("C", "D"), ("E",)]
  assert not (ROOT / "rsrc_jax" / "patterns" / "toy_pattern.py").exists()
  lines = lines_of(workdir, "toy")
  # Windows of two steps: how many were played before the one and the other.
  assert [x["toy_played"] for x in lines] == [0.5, 2.5, 4.5, 6.5]
  usual = [x["toy_usual"] for x in lines]
  assert 0 < usual[1] != usual[2] and all(x["toy_said"] > 0 for x in lines)
  assert all(np.isfinite(x["E_nll"]) and "E_entropy" in x for x in lines)
  carry = leaves(workdir, "toy", ".carry")
  assert carry[".played"] == TOY_STEPS and carry[".usual"] > 0
  # What it examined: held-out sources, their codes, and a fresh carry.
  summary = json.loads((workdir / "summary.json").read_text())
  assert set(summary["examined"]) == {"toy"}
  found = summary["examined"]["toy"]
  assert set(found) == {"said", "code", "start", "played"}
  assert found["played"] == TOY_STEPS and 0 <= found["said"] <= 3
  mean = summary["heldout"]["toy"]["mean_tokens"]
  assert abs(found["code"] - mean) < 1.5  # of two thirds of the rows
  shown = run_log.read_jsonl(workdir / "shown.jsonl")
  assert [x["index"] for x in shown] == [0, 1, 2]
  samples = run_log.read_jsonl(workdir / "samples.jsonl")
  mine = [x for x in samples if x["arm"] == "toy"]
  for one, other in zip(shown, mine, strict=True):
    assert set(one) == {"arm", "index", "source", "said"}
    assert one["source"] == other["source_pieces"]
  # It trained: what the arm ends with is not what it began with.
  a, b = (leaves(workdir, x, ".params") for x in ("turns", "toy"))
  assert all((a[k] != b[k]).any() for k in a)


def test_an_arm_ends_at_its_plateau_and_says_so(runner):
  """Before its steps are over; what is read of the run is of that step."""
  _, phases, workdir = runner
  assert [(x.steps, x.ends_every) for x in phases[1:]] == [(10, 0), (10, 2)]
  lines = lines_of(workdir, "toy")
  assert lines[-1]["step"] == TOY_STEPS
  assert [x["curriculum_phase"] for x in lines] == [0, 0, 1, 1]
  summary = json.loads((workdir / "summary.json").read_text())
  assert set(summary["plateaus"]) == {"toy"}  # the other has no rule
  ends = summary["plateaus"]["toy"]
  assert [(x["step"], x["by"]) for x in ends] == [
    (4, "plateau"),
    (8, "plateau"),
  ]
  assert all(np.isfinite([x["slope"], x["error"]]).all() for x in ends)
  assert final_state(workdir, "toy")[".step"] == TOY_STEPS
  # Its run is finished, not one that has to go on.
  found = runs.open(workdir)
  assert int(found.state("toy").step) == TOY_STEPS


# How often the loop asks is no promise: where it stopped is checked.
STOPS = ({"stop": 11}, {"kill": 10}, {"stop": 7})
WHERE = [
  "turns saved at step 1",
  "turns killed behind step 5",
  "toy saved at step 1",
]


def test_a_mixture_goes_on_bitwise(runner, tmp_path):
  """Stopped in each phase and in the toy's; killed two steps after a save."""
  run, _, whole = runner
  workdir, where = tmp_path / "run", []
  for what in STOPS:
    with pytest.raises((train.Interrupted, Killed)) as error:
      run(workdir, **what)
    if error.type is Killed:
      folder = workdir / "checkpoints" / "turns"
      saved = max(int(x.name) for x in folder.iterdir() if x.name.isdigit())
      where.append(f"turns killed behind step {saved}")
    else:
      where.append(str(error.value).split(" of ")[0])
  run(workdir)
  assert where == WHERE
  assert_same_run(workdir, whole, ("base", "turns", "toy"))
  lines, summary, _ = numbers(workdir)
  assert len(lines) == len(run_log.read_jsonl(whole / "metrics.jsonl"))
  assert summary["examined"]["toy"]
  assert (workdir / "shown.jsonl").read_text() == (
    whole / "shown.jsonl"
  ).read_text()
