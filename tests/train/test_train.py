"""train.py: the shrunk default, whole; stopped, killed and gone on with."""

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.runs import (
  SHRUNK,
  assert_same_run,
  command,
  numbers,
  run,
  shrunk,
)

from rsrc_jax import train
from rsrc_jax.accounting import account
from rsrc_jax.accounting.ledger import SCOPES
from rsrc_jax.accounting.totals import totals
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.runtime import run_log, sharding
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An uninterrupted run, by the command line."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  done = run(workdir)
  assert done.returncode == 0, done.stderr
  return workdir, done


def test_a_run_leaves_what_a_reader_needs(whole):
  workdir, done = whole
  for name in ("config.json", "environment.json", "metrics.jsonl",
               "samples.jsonl", "summary.json", "report.html"):  # fmt: skip
    assert (workdir / name).stat().st_size > 0
  assert list((workdir / "tensorboard").rglob("events*"))
  assert list((workdir / "figures").glob("*.png"))
  assert str(workdir / "report.html") in done.stdout
  assert "compiling" in done.stderr
  environment = json.loads((workdir / "environment.json").read_text())
  assert environment["packages"]["jax"] == jax.__version__


def test_the_summary_holds_every_promised_key(whole):
  summary = json.loads((whole[0] / "summary.json").read_text())
  for key in ("seed", "source", "budget_tokens", "steps", "seconds", "params",
              "channel_utilisation"):  # fmt: skip
    assert summary[key] is not None
  heldout = summary["heldout"]
  arms = [heldout["code"], heldout["english"]["english_rl"],
          heldout["controls"]["no_code"],
          heldout["controls"]["shuffled_code"]]  # fmt: skip
  for arm in arms:
    assert set(arm) == {
      "bits_conveyed", "nll_bits", "token_accuracy", "exact_match",
      "edit_similarity", "mean_tokens", "novel_fraction", "verified_bits",
    }  # fmt: skip
    assert arm["bits_conveyed"] == pytest.approx(24.0 - arm["nll_bits"])
  assert heldout["english"]["english_rl"]["novel_fraction"] == 0.0
  assert heldout["controls"]["no_code"]["mean_tokens"] == 0.0


def test_the_ledger_holds_all_of_the_time_and_every_phase(whole):
  summary = json.loads((whole[0] / "summary.json").read_text())
  ledger = summary["ledger"]
  lines = run_log.read_jsonl(whole[0] / "ledger.jsonl")
  assert [x["kind"] for x in lines][:2] == ["open", "phase"]
  wall = lines[-1]["at"] - lines[0]["at"]
  wall += lines[1]["seconds"]  # the data were built before the ledger opened
  assert ledger["wall_seconds"] == pytest.approx(wall, rel=0.01)
  # No D: the default's V does not hear d while training.
  expected = {"prefill", "C", "V", "update", "evaluation",
              "checkpoint", "test", "service", "idle"}  # fmt: skip
  assert set(ledger["phases"]["code"]) == expected
  for by in ledger["phases"].values():
    for phase in by.values():
      assert phase["joules"]["median"] > 0 or phase["seconds"] == 0
  code = ledger["programs"]["code"]
  # Rollouts of full length, on paper and in the program.
  assert code["walker"] == pytest.approx(code["closed_form"], rel=0.05)
  assert code["peak_bytes"] > 0
  # XLA can't know how often the sampling loop runs: held against one trip. It
  # would do much less if something were counted that nobody reads.
  assert [x.split("/")[1] for x in code["xla_unknown_loops"]] == ["C"]
  assert code["walker_once"] == pytest.approx(code["xla_corrected"], rel=0.02)
  assert (ledger["sessions"], ledger["failed"], ledger["lost"]) == (1, 0, [])


def test_what_every_arm_cost_is_in_the_summary(whole):
  summary = json.loads((whole[0] / "summary.json").read_text())
  arms = summary["rsrc"]["arms"]
  assert {"code", "english_rl", "untrained", "identity"} < set(arms)
  base, code = (summary["ledger"]["phases"][x] for x in ("base", "code"))
  after = ("test", "service")
  spent = sum(
    p["flops"] for by in (base, code) for n, p in by.items() if n not in after
  )
  assert arms["code"]["training_flops"] == pytest.approx(spent)
  for name in ("code", "english_rl"):
    arm = arms[name]
    # Eight steps teach nothing: what was lost costs more than is saved.
    assert arm["k"] == 0.0 == arm["rsrc_i"]["median"]
    assert arm["bits_saved"]["median"] < 0
    assert arm["state"] == {"weights": 32 * summary["params"], "carry": 0}
    assert arm["source"] == "modelled"
  assert arms["identity"]["k"] == 0.0
  assert arms["zlib"]["verified"]


def test_tensorboard_has_the_totals(whole):
  summary = json.loads((whole[0] / "summary.json").read_text())
  found = account.scalars(summary)
  assert found["rsrc/code/k"] == 0.0
  assert found["ledger//compile/seconds"] > 0  # shared by all arms
  assert all(np.isfinite(x) for x in found.values())
  events = list((whole[0] / "tensorboard" / "run").glob("events*"))
  assert b"rsrc/code/bits_saved" in events[0].read_bytes()


def test_metrics_lines_carry_what_was_spent(whole):
  lines = run_log.read_jsonl(whole[0] / "metrics.jsonl")
  for split in ("train", "valid"):
    flops = [
      x["flops"] for x in lines if x["phase"] == "code" and x["split"] == split
    ]
    assert flops == sorted(flops) and flops[0] > 0
  assert all(x["joules"] > 0 for x in lines)


def test_the_trajectory_is_what_was_logged(whole):
  summary = json.loads((whole[0] / "summary.json").read_text())
  found = summary["trajectory"]
  assert set(found) == {"english_rl", "code"}
  assert [x["step"] for x in found["code"]] == [4, 8]
  assert found["code"][0]["flops"] < found["code"][1]["flops"]
  assert (
    found["code"][1]["flops"]
    == summary["rsrc"]["arms"]["code"]["training_flops"]
  )


def test_a_ledger_changes_nothing_that_is_learnt(whole, tmp_path):
  train.train(shrunk(**{"ledger.enabled": False}), tmp_path / "run")
  assert not (tmp_path / "run" / "ledger.jsonl").exists()
  assert_same_run(tmp_path / "run", whole[0])


def test_samples_show_tokens_and_text(whole):
  lines = run_log.read_jsonl(whole[0] / "samples.jsonl")
  assert {x["arm"] for x in lines} == {"english_rl", "code"}
  for line in lines:
    assert len(line["code_ids"]) == len(line["code_novel"]) <= 3
    words = set(line["source_ids"])
    assert line["code_novel"] == [i not in words for i in line["code_ids"]]


def test_a_finished_run_is_not_done_again(whole, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(whole[0], workdir)
  begun = (workdir / "metrics.jsonl").stat().st_mtime_ns
  again = run(workdir)
  assert again.returncode == 0
  assert (workdir / "metrics.jsonl").stat().st_mtime_ns == begun
  assert numbers(workdir) == numbers(whole[0])


def test_another_config_is_refused(whole):
  done = run(whole[0], seed=5)
  assert done.returncode == 2
  assert "config.seed=0" in done.stderr and "--workdir" in done.stderr


def test_a_killed_run_ends_as_if_nothing_had_happened(whole, tmp_path):
  """kill -9 at random moments, again and again until it gets through."""
  workdir, dice = tmp_path / "run", random.Random(0)
  kills = 0
  for attempt in range(12):
    child = subprocess.Popen(
      command(workdir), cwd=ROOT, stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for = dice.choice(
      [
        "checkpoints/base/4",
        "checkpoints/english_rl/4",
        "checkpoints/code/4",
        "checkpoints/code",
      ]
    )
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
      if attempt < 3 and (workdir / wait_for).exists():
        time.sleep(dice.random())
        break
      time.sleep(0.02)
    if child.poll() is None:
      child.send_signal(signal.SIGKILL)
      child.wait()
      kills += 1
    elif child.returncode == 0:
      break
  assert child.returncode == 0
  assert kills >= 1
  assert_same_run(workdir, whole[0])
  lines = run_log.read_jsonl(workdir / "ledger.jsonl")
  sums = totals(lines)
  assert sums["sessions"] == kills + 1 or len(sums["lost"]) <= kills
  once = totals(run_log.read_jsonl(whole[0] / "ledger.jsonl"))
  for arm in ("base", "english_rl", "code"):
    flops = lambda ledger, arm=arm: sum(
      p["flops"] for n, p in ledger["phases"][arm].items()
      if n in SCOPES
    )  # fmt: skip
    assert flops(totals) >= flops(once)  # redone steps count twice


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_and_says_how_to_go_on(whole, tmp_path, number):
  workdir = tmp_path / "run"
  child = subprocess.Popen(
    command(workdir), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline and child.poll() is None:
    if (workdir / "checkpoints" / "english_rl").exists():
      break
    time.sleep(0.02)
  child.send_signal(number)
  _, said = child.communicate(timeout=120)
  assert child.returncode == 3, said
  assert "saved at step" in said and f"--workdir={workdir}" in said
  done = run(workdir)
  assert done.returncode == 0, done.stderr
  assert_same_run(workdir, whole[0])


def test_a_run_that_fails_is_on_the_bill(tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(FloatingPointError, match="learning_rate"):
    train.train(
      shrunk(**{"pretrain.optimizer.learning_rate": 1e30, "only": "code"}),
      workdir,
    )
  lines = run_log.read_jsonl(workdir / "ledger.jsonl")
  sums = totals(lines)
  assert sums["failed"] == 1 and lines[-1]["kind"] == "close"
  assert sums["phases"]["base"]["update"]["flops"] > 0


def test_nothing_is_compiled_after_the_first_step(tmp_path, monkeypatch):
  """One program a phase, and one for both RL arms: their limits are data."""
  built, real = [], plan.make_stages
  monkeypatch.setattr(
    plan, "make_stages", lambda setup: built.extend(real(setup)) or built
  )
  train.train(shrunk(), tmp_path / "run")
  phases = {phase.name: phase for phase in built}
  assert phases["code"].step is phases["english_rl"].step
  for phase in phases.values():
    assert phase.step._cache_size() == 1
  for name in ("code", "english_rl"):
    assert phases[name].given._cache_size() == 1


def test_seeds_share_one_program(tmp_path):
  """A seed is an input of the step: a sweep compiles it once."""
  texts = []
  for seed in (0, 7):
    setup = make_setup(shrunk(seed=seed), tmp_path)
    arm = plan.make_stages(setup)[-1]
    params = setup.policy.init(jax.random.key(0))
    batch = sources.batch(setup.corpus.train, 0, arm.batch_size)
    state, frozen = arm.init(params), {"base": params, "reader": params}
    given = jax.eval_shape(arm.given, 0, state.curriculum, frozen, batch)
    texts.append(arm.step.lower(state, frozen, batch, given).as_text())
  assert texts[0] == texts[1]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"budget": 40}, "config.budget=40"),
    ({"only": "cod"}, "config.only"),
    ({"mesh.data": 64}, "config.mesh"),
    ({"data.path": "/nowhere"}, "cdv_text"),
    ({"data.sentences": 40}, "data.heldout"),
    ({"steps": 0}, "config.steps=0"),
    ({"verifier.gain": -1.0}, "verifier"),
    ({"model.heads": 3}, "heads"),
    ({"eval.budgets": (9,)}, "config.eval.budgets"),
    ({"micro_batches": 3}, "config.micro_batches=3"),
    ({"ledger.pue": 0.9}, "config.ledger.pue=0.9"),
    ({"ledger.samples_served": 0}, "config.ledger.samples_served=0"),
    ({"ledger.service_seconds": 0.0}, "config.ledger.service_seconds=0.0"),
    ({"eval.test_rows": 0}, "config.eval.test_rows=0"),
    ({"seed": -1}, "config.seed=-1"),
    ({"temperature": 0.0}, "config.temperature=0.0"),
    ({"augment.ban": 2}, "config.augment.ban=2 is asked"),
    ({"budgets": (1, 2)}, r"config.budgets=\(1, 2\) is asked"),
  ],
)
def test_bad_settings_are_one_clear_line(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message.replace(".", r"\.")) as error:
    train.train(shrunk(**changes), tmp_path / "run")
  assert "\n" not in str(error.value)
  assert not (tmp_path / "run" / "checkpoints").exists()


# The research question's config, as small; a phase lasts three steps at most.
GATED = SHRUNK | {
  "log_every": 5,
  "eval.every": 8,
  "budget": 4,
  "budgets": (2, 3, 4),
  "eval.budgets": (3,),
  "curriculum.levels": 4,
  "only": "F",
  "curriculum.every": 2,
  "curriculum.patience": 1,
  "curriculum.settle": 0,
  "curriculum.min_steps": 1,
  "curriculum.max_steps": 3,
  "ledger.enabled": False,
}


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
  """(run, phases): runs share their programs; `stops` end one early."""
  config = load(ROOT / "configs" / "random_vocabulary.py")
  config.update_from_flattened_dict(GATED)
  setup = make_setup(config, tmp_path_factory.mktemp("cache"))
  phases = plan.make_stages(setup)

  def run(workdir, stop=0):
    """Trains; from the `stop`-th question on the answer is to stop."""
    asked = itertools.count(1)

    @contextlib.contextmanager
    def requests():
      yield lambda: next(asked) >= stop > 0

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(train, "make_setup", lambda *_: setup)
      patch.setattr(train.plan, "make_stages", lambda _: phases)
      patch.setattr(train, "stop_requests", requests)
      return train.train(config, workdir)

  whole = tmp_path_factory.mktemp("gated") / "run"
  run(whole)
  return run, setup, phases, whole


def test_the_curriculum_advances_on_held_out_reward(gated):
  _, _, phases, workdir = gated
  lines = run_log.read_jsonl(workdir / "metrics.jsonl")
  assert {x["phase"] for x in lines} == {"base", "F"}
  held = [x for x in lines if x["split"] == "held"]
  assert [x["step"] for x in held] == [2, 4, 6, 8]
  assert all(np.isfinite(x) for line in held for x in line.values()
             if not isinstance(x, str))  # fmt: skip
  assert all("held_reward" in x and "held_use_rate" in x for x in held)
  # Eight steps of at most three are two phases at least; all shrinks alike.
  first, last = [x for x in lines if "curriculum_phase" in x]
  assert 0 <= first["curriculum_phase"] < last["curriculum_phase"] <= 4
  for name in ("hidden", "inject", "ban", "bonus"):
    assert last[name] < first[name]
  assert last["v0"] > 0 and 0 <= last["pay_load"] <= 1
  # One program each: a state that was observed goes on where it was.
  _, arm = phases
  assert arm.step._cache_size() == arm.observe._cache_size() == 1
  assert arm.given._cache_size() == 1


def test_nothing_is_learnt_from_what_is_held_out(gated):
  """Looking changes the curriculum's observations and not a bit else."""
  _, setup, (_, arm), _ = gated
  params = setup.policy.init(jax.random.key(0))
  state = arm.init(jax.tree.map(np.copy, params))
  state = sharding.put(state, sharding.shardings(setup.mesh, state))
  frozen = {"base": params, "reader": params}
  frozen = sharding.put(frozen, sharding.shardings(setup.mesh, frozen))
  before = jax.device_get(state)
  after, metrics = train._held_out(setup, arm, state, frozen)
  assert after.curriculum.seen == 1 and before.curriculum.seen == 0
  assert after.curriculum.average == np.float32(metrics["held_reward"])
  for x, y in zip(
    jax.tree.leaves(before._replace(curriculum=())),
    jax.tree.leaves(jax.device_get(after)._replace(curriculum=())),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)


STOPS = (("base", 4), ("F", 2), ("F", 5))


def test_a_stopped_plateau_goes_on_bitwise(gated, tmp_path):
  """Stopped in the base, right after a look at the reward and between two."""
  run, _, _, whole = gated
  workdir, where = tmp_path / "run", []
  for stop in (5, 7, 5):  # how often the loop asks is no promise: see below
    with pytest.raises(train.Interrupted) as error:
      run(workdir, stop)
    where.append(str(error.value).split(" of ")[0])
  run(workdir)
  assert where == [f"{x} saved at step {n}" for x, n in STOPS]
  assert_same_run(workdir, whole, ("base", "F"))
