"""train.py: the shrunk default, whole; stopped, killed and gone on with."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from helpers.runs import (
  SHRUNK,
  Killed,
  Runs,
  Signals,
  assert_same_run,
  command,
  environment,
  final_state,
  numbers,
  shrunk,
)

from benchmarks.faults_inside import negative, poisoned, unclosed
from rsrc_jax import runs, train
from rsrc_jax.accounting import account
from rsrc_jax.accounting.ledger import SCOPES
from rsrc_jax.accounting.totals import totals
from rsrc_jax.data import sources
from rsrc_jax.runtime import run_log, sharding
from rsrc_jax.runtime.configs import load
from rsrc_jax.training import lane

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tiny_runs):
  """The folder of an uninterrupted run."""
  return tiny_runs.whole


class Story(NamedTuple):
  """A run by the command line that was ended twice, and went on."""

  workdir: Path
  terminated: subprocess.CompletedProcess
  done: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def restarted(tmp_path_factory) -> Story:
  """Terminated in the base, then killed in an arm while it saved."""
  workdir = tmp_path_factory.mktemp("restarted") / "run"
  start = lambda *end: subprocess.run(
    command(workdir, end=end), cwd=ROOT, env=environment(),
    capture_output=True, text=True, timeout=900,
  )  # fmt: skip
  terminated = start("TERM", "base:4")
  killed = start("KILL", "writing:code:4")
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  done = start()
  assert done.returncode == 0, done.stderr
  return Story(workdir, terminated, done)


@pytest.mark.processes
def test_a_run_leaves_what_a_reader_needs(restarted):
  workdir, done = restarted.workdir, restarted.done
  for name in ("config.json", "environment.json", "metrics.jsonl",
               "samples.jsonl", "summary.json", "report.html"):  # fmt: skip
    assert (workdir / name).stat().st_size > 0
  assert list((workdir / "tensorboard").rglob("events*"))
  assert list((workdir / "figures").glob("*.png"))
  assert str(workdir / "report.html") in done.stdout
  assert "compiling" in done.stderr
  made = json.loads((workdir / "environment.json").read_text())
  assert made["packages"]["jax"] == jax.__version__


@pytest.mark.processes
def test_a_killed_run_ends_as_if_nothing_had_happened(restarted, whole):
  """kill -9 in the middle of a checkpoint; and a command is a call."""
  workdir = restarted.workdir
  assert_same_run(workdir, whole)
  both = totals(run_log.read_jsonl(workdir / "ledger.jsonl"))
  assert both["sessions"] == 3 and len(both["lost"]) <= 1
  once = totals(run_log.read_jsonl(whole / "ledger.jsonl"))
  for arm in ("base", "english_rl", "code"):
    flops = lambda ledger, arm=arm: sum(
      p["flops"] for n, p in ledger["phases"][arm].items()
      if n in SCOPES
    )  # fmt: skip
    assert flops(both) >= flops(once)  # redone steps count twice


def test_the_summary_holds_every_promised_key(whole):
  summary = json.loads((whole / "summary.json").read_text())
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
      "d_entropy_bits",
    }  # fmt: skip
    assert arm["bits_conveyed"] == pytest.approx(24.0 - arm["nll_bits"])
  assert heldout["english"]["english_rl"]["novel_fraction"] == 0.0
  assert heldout["controls"]["no_code"]["mean_tokens"] == 0.0


def test_the_curve_charges_each_arm_its_own_alphabet(whole):
  summary = json.loads((whole / "summary.json").read_text())
  vocab = runs.open(whole).setup.corpus.vocab
  ids = {"english_rl": vocab.text.sum(), "code": vocab.code.sum()}
  assert [(x["arm"], x["budget"]) for x in summary["curve"]] == [
    (arm, k) for arm in ids for k in (1, 2, 3)
  ]
  for row in summary["curve"]:
    scores = summary["heldout"]["budget_curve"][row["arm"]][str(row["budget"])]
    assert row["exact"] == scores["exact_match"]
    assert row["mean_tokens"] == scores["mean_tokens"] <= row["budget"]
    assert row["channel_bits"] == pytest.approx(
      row["mean_tokens"] * np.log2(ids[row["arm"]])
    )
  full = [x for x in summary["curve"] if x["budget"] == 3]
  assert [x["bits_conveyed"] for x in full] == [
    summary["heldout"]["arms"][x["arm"]]["bits_conveyed"] for x in full
  ]


def test_the_ledger_holds_all_of_the_time_and_every_phase(whole):
  summary = json.loads((whole / "summary.json").read_text())
  ledger = summary["ledger"]
  lines = run_log.read_jsonl(whole / "ledger.jsonl")
  assert [x["kind"] for x in lines][:2] == ["open", "phase"]
  wall = lines[-1]["at"] - lines[0]["at"]
  wall += lines[1]["seconds"]  # the data were built before the ledger opened
  assert ledger["wall_seconds"] == pytest.approx(wall, rel=0.01)
  expected = {"prefill", "C", "D", "V", "update", "evaluation",
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
  assert [x.split("/")[1] for x in code["xla_unknown_loops"]] == ["C", "D"]
  assert code["walker_once"] == pytest.approx(code["xla_corrected"], rel=0.02)
  assert (ledger["sessions"], ledger["failed"], ledger["lost"]) == (1, 0, [])


def test_what_every_arm_cost_is_in_the_summary(whole):
  summary = json.loads((whole / "summary.json").read_text())
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
  summary = json.loads((whole / "summary.json").read_text())
  found = account.scalars(summary)
  assert found["rsrc/code/k"] == 0.0
  assert found["ledger//compile/seconds"] > 0  # shared by all arms
  assert all(np.isfinite(x) for x in found.values())
  events = list((whole / "tensorboard" / "run").glob("events*"))
  assert b"rsrc/code/bits_saved" in events[0].read_bytes()


def test_metrics_lines_carry_what_was_spent(whole):
  lines = run_log.read_jsonl(whole / "metrics.jsonl")
  for split in ("train", "valid"):
    flops = [
      x["flops"] for x in lines if x["phase"] == "code" and x["split"] == split
    ]
    assert flops == sorted(flops) and flops[0] > 0
  assert all(x["joules"] > 0 for x in lines)


def test_the_trajectory_is_what_was_logged(whole):
  summary = json.loads((whole / "summary.json").read_text())
  found = summary["trajectory"]
  assert set(found) == {"english_rl", "code"}
  assert [x["step"] for x in found["code"]] == [4, 8]
  assert found["code"][0]["flops"] < found["code"][1]["flops"]
  assert (
    found["code"][1]["flops"]
    == summary["rsrc"]["arms"]["code"]["training_flops"]
  )


@pytest.mark.slow
def test_a_ledger_changes_nothing_that_is_learnt(tiny_runs, whole, tmp_path):
  tiny_runs.run(tmp_path / "run", **{"ledger.enabled": False})
  assert not (tmp_path / "run" / "ledger.jsonl").exists()
  assert_same_run(tmp_path / "run", whole)


def test_samples_show_tokens_and_text(whole):
  lines = run_log.read_jsonl(whole / "samples.jsonl")
  assert {x["arm"] for x in lines} == {"english_rl", "code"}
  for line in lines:
    assert len(line["code_ids"]) == len(line["code_novel"]) <= 3
    words = set(line["source_ids"])
    assert line["code_novel"] == [i not in words for i in line["code_ids"]]


def test_a_finished_run_is_not_done_again(tiny_runs, whole, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(whole, workdir)
  begun = (workdir / "metrics.jsonl").stat().st_mtime_ns
  summary = tiny_runs.run(workdir)
  assert summary == json.loads((whole / "summary.json").read_text())
  assert (workdir / "metrics.jsonl").stat().st_mtime_ns == begun
  assert numbers(workdir) == numbers(whole)


def test_another_config_is_refused(tiny_runs, whole):
  with pytest.raises(ValueError, match=r"config\.seed=0") as error:
    tiny_runs.run(whole, seed=5)
  assert "--workdir" in str(error.value)


@pytest.mark.processes
def test_a_terminated_run_saves_and_says_how_to_go_on(restarted):
  """That it ends as if nothing had happened is tested above."""
  said = restarted.terminated.stderr
  assert restarted.terminated.returncode == 3, said
  assert "base saved at step 5" in said
  assert f"--workdir={restarted.workdir}" in said


@pytest.mark.slow
def test_ctrl_c_saves_too(tiny_runs, whole, tmp_path):
  workdir = tmp_path / "run"
  log = Signals(workdir, signal.SIGINT, at=3)  # in the base, of six steps
  with pytest.raises(train.Interrupted, match="base saved at step 4"):
    tiny_runs.run(workdir, signals=True, log=log)
  tiny_runs.run(workdir)
  assert_same_run(workdir, whole)


@pytest.mark.slow
def test_a_run_that_diverges_by_itself_is_on_the_bill(tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(FloatingPointError, match="learning_rate"):
    train.train(
      shrunk(**{"pretrain.optimizer.learning_rate": 1e30, "only": "code"}),
      workdir,
    )
  assert_on_the_bill(workdir)


def assert_on_the_bill(workdir):
  """What a session cost that failed in the base."""
  lines = run_log.read_jsonl(workdir / "ledger.jsonl")
  sums = totals(lines)
  assert sums["failed"] == 1 and lines[-1]["kind"] == "close"
  assert sums["phases"]["base"]["update"]["flops"] > 0


@pytest.mark.parametrize(
  "of, step, said",
  [
    ("loss", 5, "the loss is nan at step 5; its checkpoint of step 4 is kept"),
    ("parameters", 4, "parameters are not finite after step 4; nothing of it"),
  ],
)
def test_nan_is_never_saved(
  tiny_runs, whole, tmp_path, monkeypatch, of, step, said
):
  """It comes between two lines of the log, and the base goes on without it.

  What it has cost until then is on the bill.
  """
  with monkeypatch.context() as patched:
    patched.setattr(lane, "advance", poisoned("base", step, of))
    with pytest.raises(FloatingPointError, match=said) as error:
      tiny_runs.run(tmp_path, log_every=6)
  assert "base (1/3)" in str(error.value) and "\n" not in str(error.value)
  assert "lower learning_rate" in str(error.value)
  assert_on_the_bill(tmp_path)
  saved = (tmp_path / "checkpoints" / "base").glob("[0-9]*")
  assert [x.name for x in saved] == (["4"] if step == 5 else [])
  with pytest.raises(train.Interrupted, match="english_rl saved"):
    tiny_runs.run(tmp_path, stop=12)
  found, true = (final_state(x, "base") for x in (tmp_path, whole))
  for name, x in true.items():
    np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(x))


def test_a_clock_that_is_set_back_charges_nothing(
  tiny_runs, tmp_path, monkeypatch
):
  """While a run was down, and while it runs."""
  clock = [time.time(), 0.0]
  monkeypatch.setattr("time.time", lambda: clock[0] + clock[1])
  for _ in range(3):
    with pytest.raises(Killed):
      tiny_runs.run(tmp_path, kill=2)
    unclosed(tmp_path)
    clock[1] -= 3600
  lines = run_log.read_jsonl(tmp_path / "ledger.jsonl")
  lost = [x["at_most_seconds"] for x in lines if x["kind"] == "lost"]
  assert lost == [0.0, 0.0] and negative(tmp_path) == []


def test_nothing_is_compiled_after_the_first_step(tiny_runs, whole):
  """One program a phase, and one for both RL arms: their limits are data."""
  assert whole.exists()
  phases = {phase.name: phase for phase in tiny_runs.stages}
  assert phases["code"].step is phases["english_rl"].step
  for phase in phases.values():
    assert phase.step._cache_size() == 1
  for name in ("code", "english_rl"):
    assert phases[name].controls._cache_size() == 1


def test_seeds_share_one_program(tiny_runs, tmp_path):
  """A seed is an input of the step: a sweep compiles it once."""
  other = Runs.of(shrunk(seed=7), tmp_path)
  one, two = (lowered_step(x.setup, x.stages[-1]) for x in (tiny_runs, other))
  assert one == two


def lowered_step(setup, arm) -> str:
  """The text of an arm's step; nothing is compiled."""
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  batch = sources.batch(setup.corpus.train, 0, arm.batch_size)
  state = jax.eval_shape(arm.init, params)
  frozen = {"base": params, "reader": params}
  controls = jax.eval_shape(arm.controls, state, frozen, batch)
  return arm.step.lower(state, frozen, batch, controls).as_text()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"budget": 40}, "config.budget=40"),
    ({"only": "cod"}, "config.only"),
    ({"mesh.data": 64}, "config.mesh"),
    ({"data.path": "/nowhere"}, "cdv_text"),
    ({"data.sentences": 40}, "data.heldout"),
    ({"steps": 0}, "config.steps=0"),
    ({"verifier.edit": -1.0}, "verifier"),
    ({"model.heads": 3}, "heads"),
    ({"eval.budgets": (9,)}, "config.eval.budgets"),
    ({"micro_batches": 3}, "config.micro_batches=3"),
    ({"ledger.pue": 0.9}, "config.ledger.pue=0.9"),
    ({"ledger.samples_served": 0}, "config.ledger.samples_served=0"),
    ({"ledger.service_seconds": 0.0}, "config.ledger.service_seconds=0.0"),
    ({"eval.test_rows": 0}, "config.eval.test_rows=0"),
    ({"seed": -1}, "config.seed=-1"),
    ({"temperature": 0.0}, "config.temperature=0.0"),
    ({"augment.ban": 2}, "config.augment.ban=2 needs tokens"),
    ({"budgets": (1, 2)}, r"config.budgets=\(1, 2\) needs tokens"),
  ],
)
def test_bad_settings_are_one_clear_line(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message.replace(".", r"\.")) as error:
    train.train(shrunk(**changes), tmp_path / "run")
  assert "\n" not in str(error.value)
  assert not (tmp_path / "run" / "checkpoints").exists()


# The research question's config, as small; a level lasts six steps at most.
GATED = SHRUNK | {
  "log_every": 5,
  "eval.every": 8,
  "budget": 4,
  "budgets": (2, 3, 4),
  "eval.budgets": (3,),
  "curriculum.levels": 4,
  "only": "F",
  "curriculum.every": 2,
  "curriculum.window": 3,
  "curriculum.look": 1,
  "curriculum.max_steps": 6,
  "ledger.enabled": False,
}


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
  """Runs of it, which share their programs; one has been made."""
  config = load(ROOT / "configs" / "random_vocabulary.py")
  config.update_from_flattened_dict(GATED)
  runs = Runs.of(config, tmp_path_factory.mktemp("gated"))
  assert runs.whole.exists()
  return runs


@pytest.mark.slow
def test_the_curriculum_advances_on_held_out_reward(gated):
  lines = run_log.read_jsonl(gated.whole / "metrics.jsonl")
  assert {x["phase"] for x in lines} == {"base", "F"}
  held = [x for x in lines if x["split"] == "held"]
  assert [x["step"] for x in held] == [2, 4, 6, 8]
  assert all(np.isfinite(x) for line in held for x in line.values()
             if not isinstance(x, str))  # fmt: skip
  assert all("held_reward" in x and "held_use_rate" in x for x in held)
  # A level of six steps, and two steps of another; all shrinks alike.
  first, last = [x for x in lines if "curriculum_phase" in x]
  assert 0 <= first["curriculum_phase"] < last["curriculum_phase"] <= 4
  for name in ("hidden", "inject", "ban", "bonus"):
    assert last[name] < first[name]
  assert last["v0"] > 0 and 0 <= last["pay_load"] <= 1
  # Three looks see the first level to its end, by the rule or by the timer.
  summary = json.loads((gated.whole / "summary.json").read_text())
  ((arm, ends),) = summary["plateaus"].items()
  (end,) = ends
  assert arm == "F" and end["step"] == 6 and end["by"] in ("plateau", "timer")
  rewards = np.array([x["held_reward"] for x in held[:3]])
  slope = (rewards[2] - rewards[0]) / 4  # of three, two steps apart
  np.testing.assert_allclose(end["slope"], slope, rtol=1e-3, atol=1e-7)
  rest = np.abs(rewards - rewards.mean() - 2 * slope * np.arange(-1, 2))
  error = np.sqrt((rest**2).sum() / 2) / 2
  np.testing.assert_allclose(end["error"], error, rtol=1e-3, atol=1e-7)
  assert (end["by"] == "plateau") == (slope <= 2 * error)
  # One program each: a state that was observed goes on where it was.
  _, arm = gated.stages
  assert arm.step._cache_size() == arm.observe._cache_size() == 1
  assert arm.controls._cache_size() == 1


@pytest.mark.slow
def test_nothing_is_learnt_from_what_is_held_out(gated):
  """Looking changes the curriculum's observations and not a bit else."""
  setup, (_, arm) = gated.setup, gated.stages
  params = jax.jit(setup.policy.init)(jax.random.key(0))
  state = arm.init(jax.tree.map(np.copy, params))
  state = sharding.put(state, sharding.shardings(setup.mesh, state))
  frozen = {"base": params, "reader": params}
  frozen = sharding.put(frozen, sharding.shardings(setup.mesh, frozen))
  before = jax.device_get(state)
  run = lane.Shared(setup, None, None, None)
  now = lane.Lane(run, arm, "", frozen, None, None, {}, state, 0, [])
  after, metrics = lane.held_out(now)
  seen = after.curriculum.watch
  assert seen.seen == 1 and before.curriculum.watch.seen == 0
  assert seen.rewards[-1] == np.float32(metrics["held_reward"])
  for x, y in zip(
    jax.tree.leaves(before._replace(curriculum=())),
    jax.tree.leaves(jax.device_get(after)._replace(curriculum=())),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)


STOPS = (("base", 4), ("F", 2), ("F", 5))


@pytest.mark.slow
def test_a_stopped_plateau_goes_on_bitwise(gated, tmp_path):
  """Stopped in the base, right after a look at the reward and between two."""
  workdir, where = tmp_path / "run", []
  for stop in (5, 7, 5):  # how often the loop asks is no promise: see below
    with pytest.raises(train.Interrupted) as error:
      gated.run(workdir, stop=stop)
    where.append(str(error.value).split(" of ")[0])
  gated.run(workdir)
  assert where == [f"{x} saved at step {n}" for x, n in STOPS]
  assert_same_run(workdir, gated.whole, ("base", "F"))
