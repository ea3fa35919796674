"""The ledger: nested, exact, whole after failures and kills."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsrc_jax.accounting import energy, energy_sources, metering
from rsrc_jax.accounting import ledger as ledgers
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.accounting.totals import joules, totals, training_joules
from rsrc_jax.output import files
from rsrc_jax.runtime import run_log


class Clock:
  """A meter whose time a test moves by hand."""

  def __init__(self):
    self.seconds = self.cpu = 0.0

  def pass_(self, seconds, cpu=0.0):
    self.seconds += seconds
    self.cpu += cpu

  def meter(self):
    machine = energy.Machine("test machine", 2, 4.0, ())
    terms = (energy.Term("host", "modelled", "machine", None),)
    read = lambda: energy.Use(self.seconds, self.cpu, {})
    return energy.Meter(machine, terms, read, lambda: None)


def phases(lines):
  return {
    arm: {name: round(p["seconds"], 9) for name, p in by.items()}
    for arm, by in totals(lines)["phases"].items()
  }


def test_nested_phases_are_exclusive_and_sum_to_the_wall(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  clock.pass_(1.0)
  with ledger.phase("evaluation"):
    clock.pass_(2.0)
    with ledger.phase("C"):
      clock.pass_(3.0)
    with ledger.phase("compile"):
      clock.pass_(5.0)
    clock.pass_(7.0)
  clock.pass_(11.0)
  with ledger.phase("checkpoint"):
    clock.pass_(13.0)
  clock.pass_(17.0)
  ledger.close()
  lines = ledger.read()
  assert [x.get("phase") for x in lines if x["kind"] == "phase"] == [
    "evaluation/C", "evaluation/compile", "evaluation", "checkpoint",
  ]  # fmt: skip
  assert phases(lines)[""] == {
    "compile": 5.0, "evaluation": 12.0, "checkpoint": 13.0, "idle": 29.0,
  }  # fmt: skip
  assert totals(lines)["wall_seconds"] == pytest.approx(clock.seconds)


def test_a_failed_phase_is_closed_counted_and_the_error_passes(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  with pytest.raises(RuntimeError, match="boom"), ledger.phase("evaluation"):
    clock.pass_(2.0)
    with ledger.phase("D"):
      clock.pass_(3.0, cpu=1.0)
      raise RuntimeError("boom")
  ledger.resume("code", None)
  with ledger.phase("checkpoint", "code"):
    clock.pass_(1.0)
  sums = totals(ledger.read())
  assert sums["failed"] == 2
  assert phases(ledger.read())[""]["evaluation"] == 5.0
  use, _ = ledger.spent("code")
  assert (use.seconds, use.cpu_seconds) == (6.0, 1.0)


def test_a_fused_step_is_shared_out_by_flops(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  with ledger.phase("step") as spend:
    clock.pass_(10.0, cpu=20.0)
    work = {"C": 1.0, "C/prefill": 2.0, "D/prefill": 1.0, "update/C": 5.0}
    spend(steps=4, flops=work | {"": 1.0}, recompute=2.5)
  by = totals(ledger.read())["phases"][""]
  seconds = {k: v["seconds"] for k, v in by.items() if k != "idle"}
  assert seconds == pytest.approx({"prefill": 3.0, "C": 1.0, "update": 6.0})
  assert by["update"]["flops"] == 6.0 and by["update"]["recompute"] == 2.5
  assert not by["C"]["measured"]
  assert by["C"]["cpu_seconds"] == pytest.approx(2.0)
  assert by["C"]["joules"]["p5"] < by["C"]["joules"]["p95"]


def test_a_section_of_a_role_is_a_phase_of_its_own(tmp_path):
  """Behind those that are known; its prompts are prompts like all others."""
  clock = Clock()
  books = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  with books.phase("step") as spend:
    clock.pass_(10.0)
    spend(
      steps=1, flops={"E": 3.0, "E/prefill": 2.0, "V/prefill": 4.0, "": 1.0}
    )
  by = totals(books.read())["phases"][""]
  assert {k: v["flops"] for k, v in by.items() if k != "idle"} == {
    "prefill": 2.0, "V": 4.0, "update": 1.0, "E": 3.0,
  }  # fmt: skip
  assert [*by][-1] == "E"


def test_test_and_service_are_not_training(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  ledger.resume("code", None)
  with ledger.phase("step", "code") as spend:
    clock.pass_(1.0)
    spend(flops={"C": 8.0})
  clock.pass_(100.0)
  with ledger.phase("test", "code"), ledger.phase("compile"):
    clock.pass_(50.0)
  with ledger.phase("service", "code") as spend:
    clock.pass_(25.0)
    spend(flops={"D": 1e9})
  use, flops = ledger.spent("code")
  assert (use.seconds, flops) == (1.0, 8.0)
  assert phases(ledger.read())["code"] == {
    "C": 1.0, "test": 150.0, "service": 25.0, "idle": 0.0,
  }  # fmt: skip


def test_a_checkpoint_knows_what_is_rolled_back(tmp_path):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  ledger = Ledger(path, clock.meter())
  ledger.resume("code", None)

  def step(ledger, seconds):
    with ledger.phase("step", "code") as spend:
      clock.pass_(seconds)
      spend(flops={"C": seconds})

  step(ledger, 1.0)
  saved = json.loads(json.dumps(ledger.position()))
  with ledger.phase("checkpoint", "code"):
    clock.pass_(0.5)
  step(ledger, 2.0)
  # Killed here: no close. A half-written line is dropped.
  with path.open("a") as file:
    file.write('{"kind": "pha')
  again = Ledger(path, clock.meter())
  again.resume("code", saved)
  step(again, 2.0)
  again.close()
  sums = totals(again.read())
  assert sums["sessions"] == 2
  assert sums["rolled_back"] == {"seconds": 2.0, "flops": 2.0}
  assert [x["session"] for x in sums["lost"]] == [0]
  assert sums["lost"][0]["at_most_seconds"] >= 0
  # What was rolled back stays on the bill.
  assert again.spent("code")[0].seconds == 5.5
  assert again.spent("code")[1] == 5.0


def test_without_a_checkpoint_all_of_the_arm_is_rolled_back(tmp_path):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  for arm in ("base", "code"):
    ledger = Ledger(path, clock.meter())
    ledger.resume(arm, None)
    with ledger.phase("step", arm):
      clock.pass_(1.0)
    ledger.close()
  again = Ledger(path, clock.meter())
  again.resume("code", None)
  sums = totals(again.read())
  assert sums["rolled_back"]["seconds"] == 1.0  # the base's is not
  assert sums["lost"] == []


def test_a_lost_file_is_made_good_from_the_checkpoint(tmp_path):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  ledger = Ledger(path, clock.meter())
  ledger.resume("code", None)
  for _ in range(5):
    with ledger.phase("step", "code") as spend:
      clock.pass_(1.0)
      spend(flops={"C": 3.0})
  saved = ledger.position()
  path.unlink()
  again = Ledger(path, clock.meter())
  again.carry(saved)
  again.resume("code", saved)
  use, flops = again.spent("code")
  assert (use.seconds, flops) == (5.0, 15.0)
  # Killed again and again before the next checkpoint: it is carried once.
  for _ in range(3):
    with again.phase("step", "code"):
      clock.pass_(1.0)
    again = Ledger(path, clock.meter())
    again.carry(saved)
    again.resume("code", saved)
  assert again.spent("code")[0].seconds == 8.0
  assert totals(again.read())["rolled_back"]["seconds"] == 3.0


def test_a_full_disk_loses_nothing_of_the_bill(tmp_path, monkeypatch):
  """The sums go on into the checkpoint; the next session writes them."""
  path, clock = tmp_path / "ledger.jsonl", Clock()
  ledger = Ledger(path, clock.meter())
  ledger.resume("code", None)

  def step(ledger):
    with ledger.phase("step", "code") as spend:
      clock.pass_(1.0)
      spend(flops={"C": 3.0})

  def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  step(ledger)
  with monkeypatch.context() as patch:
    patch.setattr(files.os, "write", full)
    step(ledger)  # no error in the middle of a step
    step(ledger)
  step(ledger)  # room again: the file has no gap
  with pytest.raises(OSError, match="No space") as found:
    ledger.check()
  assert found.value.filename == str(path)
  saved = json.loads(json.dumps(ledger.position()))
  ledger.close()
  assert [x["kind"] for x in ledger.read()] == ["open", "phase"]
  again = Ledger(path, clock.meter())
  again.carry(saved)
  again.resume("code", saved)
  use, flops = again.spent("code")
  assert (use.seconds, flops) == (4.0, 12.0)


def test_a_file_that_cannot_be_made_ends_the_session_at_once(tmp_path):
  with pytest.raises(OSError):
    Ledger(tmp_path / "no" / "ledger.jsonl", Clock().meter())


@pytest.mark.parametrize("line", ['{"kind": "ph', '{"kind": "phase"}', "[]"])
def test_a_damaged_line_is_named(tmp_path, line):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  Ledger(path, clock.meter()).close()
  first, last = path.read_text().splitlines()
  path.write_text(f"{first}\n{line}\n{last}\n")
  with pytest.raises(ValueError, match=r"ledger\.jsonl.*(line 2|2\. line)"):
    Ledger(path, clock.meter())


def test_a_clock_that_was_set_back_takes_no_time_away(tmp_path, monkeypatch):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  Ledger(path, clock.meter())  # killed
  monkeypatch.setattr(ledgers.time, "time", lambda: 0.0)
  ledger = Ledger(path, clock.meter())
  with ledger.phase("step", "code"):
    clock.pass_(1.0)
  ledger.close()
  [lost] = totals(ledger.read())["lost"]
  assert lost["at_most_seconds"] == 0.0
  assert totals(ledger.read())["wall_seconds"] == pytest.approx(1.0)


def test_a_cut_file_is_made_good_by_what_is_missing_and_no_more(tmp_path):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  ledger = Ledger(path, clock.meter())
  for arm in ("base", "code"):
    ledger.resume(arm, None)
    for _ in range(3):
      with ledger.phase("step", arm):
        clock.pass_(1.0)
  saved = ledger.position()
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(lines[:4]))  # open, resume?, and some of the base
  again = Ledger(path, clock.meter())
  again.carry(saved)
  assert again.spent("base", "code")[0].seconds == 6.0
  again.carry(saved)
  assert again.spent("base", "code")[0].seconds == 6.0


def test_compiling_is_shared_and_an_arm_named_twice_counts_once(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  ledger.resume("base", None)
  with ledger.phase("compile", "base"):
    clock.pass_(4.0)
  with ledger.phase("step", "base"):
    clock.pass_(1.0)
  ledger.resume("code", None)
  with ledger.phase("evaluation", "code"), ledger.phase("compile"):
    clock.pass_(2.0)
  with ledger.phase("test", "code"), ledger.phase("compile"):
    clock.pass_(9.0)
  assert phases(ledger.read())[""]["compile"] == 6.0
  assert ledger.spent("base", "base")[0].seconds == 7.0
  assert ledger.spent("lead")[0].seconds == 6.0


def test_a_phase_is_of_the_arm_named_or_of_the_phase_around_it(tmp_path):
  clock = Clock()
  ledger = Ledger(tmp_path / "ledger.jsonl", clock.meter())
  with ledger.phase("checkpoint"):
    clock.pass_(1.0)
  with ledger.phase("test", "code"):
    clock.pass_(2.0)
    with ledger.phase("C"):
      clock.pass_(3.0)
      ledger.program(name="C")
    with ledger.phase("D", "english"):
      clock.pass_(4.0)
  clock.pass_(5.0)
  ledger.close()
  found = [(x["arm"], x.get("phase", x["kind"])) for x in ledger.read()]
  assert found == [
    ("", "open"), ("", "checkpoint"), ("code", "program"), ("code", "test/C"),
    ("english", "test/D"), ("code", "test"), ("code", "close"),
  ]  # fmt: skip


@pytest.mark.parametrize("on", [True, False])
def test_a_charged_function_is_at_hand_uncharged(tmp_path, on):
  """Work of arm "code" that is called within a phase, and outside of any."""
  path = tmp_path / "ledger.jsonl" if on else None
  ledger = Ledger(path, Clock().meter())
  double = jax.jit(lambda x: 2 * x)
  trips = lambda out: {"C": 3}
  found = metering.charged(ledger, "C", double, trips, "code")
  assert found.uncharged is double and found.loops(None) == {"C": 3}
  assert found(jnp.float32(2)) == 4
  with ledger.phase("evaluation", "base"):
    assert found(jnp.float32(3)) == 6
  charged = [
    (x["arm"], x["phase"]) for x in ledger.read() if x["kind"] == "phase"
  ]
  assert charged == on * [
    ("", "compile"), ("code", "C"), ("code", "evaluation/C"),
    ("base", "evaluation"),
  ]  # fmt: skip


def test_every_session_is_priced_by_its_own_meter(tmp_path):
  path, clock = tmp_path / "ledger.jsonl", Clock()
  counted = energy.Term("host", "rapl", "package", 0.001)
  first = clock.meter()._replace(
    terms=(counted,),
    read=lambda: energy.Use(
      clock.seconds, clock.cpu, {"host": 100.0 * clock.seconds}
    ),
  )
  for meter in (first, clock.meter()):
    ledger = Ledger(path, meter)
    ledger.resume("code", None)
    with ledger.phase("step", "code"):
      clock.pass_(10.0, cpu=10.0)
    ledger.close()
  lines = ledger.read()
  found = training_joules(lines, ("code",), 1.0)
  modelled = joules(energy.Use(10.0, 10.0, {}), ledger.opening, 1.0)
  np.testing.assert_allclose(found, 1000.0 + modelled)


def test_unawaited_work_is_charged_where_it_was_asked_for(tmp_path):
  """The dispatch returns at once; the phase waits for what it was handed."""
  meter = energy_sources.open_meter()
  ledger = Ledger(tmp_path / "ledger.jsonl", meter)
  x = jnp.ones((1000, 1000))

  @jax.jit
  def slow(x):
    return jax.lax.fori_loop(0, 12, lambda _, y: jnp.tanh(y @ x), x)

  jax.block_until_ready(slow(x))
  begun = time.perf_counter()
  with ledger.phase("update") as spend:
    out = spend(slow(x))
    dispatched = time.perf_counter() - begun
  with ledger.phase("evaluation"):
    jax.block_until_ready(out)
  by = totals(ledger.read())["phases"][""]
  both = by["update"]["seconds"] + by["evaluation"]["seconds"]
  assert by["update"]["seconds"] >= 0.95 * both
  assert dispatched < 0.5 * both  # it was not awaited by the call itself
  ledger.close()


def test_no_ledger_costs_nothing_and_writes_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  ledger = Ledger(None, Clock().meter())
  ledger.resume("code", None)
  with ledger.phase("step", "code") as spend:
    assert spend(3) == 3
  ledger.close()
  assert ledger.read() == [] and list(tmp_path.iterdir()) == []


def test_a_phase_costs_less_than_a_percent_of_a_small_step(tmp_path):
  """0.4 ms is a percent of the default's step, were each in its own phase.

  benchmarks/ledger.py has the whole loop with and without the ledger.
  """
  ledger = Ledger(tmp_path / "ledger.jsonl", energy_sources.open_meter())
  runs = []
  for _ in range(5):
    begun = time.perf_counter()
    for step in range(200):
      with ledger.phase("step") as spend:
        spend(step=step, flops={"C": 1.0, "D": 2.0})
    runs.append((time.perf_counter() - begun) / 200)
  assert min(runs) < 0.4e-3
  ledger.close()


LOOP = """
  import json, sys, time
  from pathlib import Path
  from rsrc_jax.accounting import energy, energy_sources
  from rsrc_jax.accounting.ledger import Ledger

  folder, kill = Path(sys.argv[1]), int(sys.argv[2])
  path, saved = folder / "ledger.jsonl", folder / "checkpoint.json"
  ledger = Ledger(path, energy_sources.open_meter())
  host = json.loads(saved.read_text()) if saved.exists() else {"step": 0}
  ledger.resume("code", host.get("ledger"))
  for step in range(host["step"], 30):
    with ledger.phase("step", "code") as spend:
      time.sleep(0.02)
      spend(step=step + 1, flops={"C": 1.0})
    if step == kill:
      (folder / "ready").touch()
      time.sleep(60)
    if (step + 1) % 10 == 0:
      host = {"step": step + 1, "ledger": ledger.position()}
      with ledger.phase("checkpoint", "code"):
        saved.write_text(json.dumps(host))
        time.sleep(0.02)
  ledger.close()
"""


def run(folder, kill=-1):
  folder.mkdir(exist_ok=True)
  command = [sys.executable, "-c", textwrap.dedent(LOOP), str(folder)]
  return subprocess.Popen([*command, str(kill)], env={**os.environ})


def test_a_killed_process_resumes_with_its_bill(tmp_path):
  """kill -9 after step 15, checkpoint at 10: five steps are done twice."""
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert run(whole).wait() == 0
  process = run(killed, kill=14)
  while not (killed / "ready").exists():
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert run(killed).wait() == 0

  read = lambda folder: run_log.read_jsonl(folder / "ledger.jsonl")
  one, two = (totals(read(x)) for x in (whole, killed))
  # What was rolled back: steps 11 to 15 of the process that was killed.
  steps = [x for x in read(killed) if x.get("phase") == "step"]
  again = [x for x in steps if x["session"] == 0 and x["step"] > 10]
  seconds = lambda lines: sum(x["seconds"] for x in lines)
  assert len(steps) == 35 and len(again) == 5
  assert two["rolled_back"]["seconds"] == pytest.approx(seconds(again))
  assert two["phases"]["code"]["C"]["seconds"] == pytest.approx(seconds(steps))
  assert one["phases"]["code"]["C"]["seconds"] >= 30 * 0.02
  assert two["phases"]["code"]["C"]["flops"] == 35.0
  assert two["rolled_back"]["flops"] == 5.0
  assert len(two["lost"]) == 1 and one["lost"] == []
  assert np.isfinite(two["lost"][0]["at_most_seconds"])
