"""What a run says: one line a metric, none twice, none lost."""

import io
import json
import sys
import types

import pytest
from rich.console import Console

from rsrc_jax.runtime import run_log


class Clock:
  """Seconds that pass when told to, in the place of the time module."""

  def __init__(self, monkeypatch):
    self.now = 1000.0
    monkeypatch.setattr(
      run_log, "time", types.SimpleNamespace(monotonic=lambda: self.now)
    )


def console(**settings):
  return Console(file=io.StringIO(), width=120, **settings)


def said(log):
  return log.console.file.getvalue()


@pytest.fixture
def make(tmp_path):
  """Opens logs of one run directory, as sessions of one run; closes them."""
  logs = []

  def make(**settings):
    logs.append(run_log.Log(tmp_path, console=console(**settings)))
    return logs[-1]

  yield make
  for log in logs:
    log.close()


def lines(log):
  return [json.loads(line) for line in log.path.read_text().splitlines()]


def steps(log):
  """(phase, step) of every line."""
  return [(line["phase"], line["step"]) for line in lines(log)]


def test_lines(make, monkeypatch):
  clock, log = Clock(monkeypatch), make()
  log.start("code", "code (1/1)", 0, 100)
  log.train(1, {"loss": 0.5, "reward": 2})
  log.compiled(1)
  clock.now += 4.0
  log.train(11, {"loss": 0.25})
  log.valid(11, {"nll_bits": 7.5, "bits_conveyed": None})
  # No rate before the first step is over; then 10 steps in 4 seconds.
  assert lines(log) == [
    {"phase": "code", "step": 1, "split": "train", "loss": 0.5, "reward": 2.0,
     "steps_per_second": 0.0},
    {"phase": "code", "step": 11, "split": "train", "loss": 0.25,
     "steps_per_second": 2.5},
    {"phase": "code", "step": 11, "split": "valid", "nll_bits": 7.5,
     "bits_conveyed": None},
  ]  # fmt: skip
  assert list((log.workdir / "tensorboard" / "code").glob("events.*"))


def test_resuming_forgets_what_will_be_logged_again(make):
  """Later lines of the phase that goes on, and nothing else."""
  log = make()
  for phase, ends in [("base", (2, 4, 6)), ("code", (2, 4, 6))]:
    log.start(phase, phase, 0, 6)
    for step in ends:
      log.train(step, {"loss": 1.0 * step})
      log.valid(step, {"nll_bits": 2.0})
    log.end()
  again = make()
  again.start("code", "code", 4, 6)
  kept = [("base", s) for s in (2, 2, 4, 4, 6, 6)]
  kept += [("code", s) for s in (2, 2, 4, 4)]
  assert steps(again) == kept
  again.train(6, {"loss": 7.0})
  assert steps(again) == [*kept, ("code", 6)]
  assert lines(again)[-1]["loss"] == 7.0


def test_dead_groups_are_followed_over_a_resume(make):
  """Most were dead from step 20 on: a hundred steps are over at 120."""
  log = make()
  log.start("code", "code", 0, 200)
  for step in (20, 40, 60, 80, 100, 120):
    log.train(step, {"C_dead_groups": 0.9 * (step > 20)})
  assert [x.step for x in log.watch.new] == [120]
  again = make()  # from the checkpoint of step 80
  again.start("code", "code", 80, 200)
  new = []
  for step in (100, 120, 140, 160):
    again.train(step, {"C_dead_groups": 0.9})
    new += again.watch.new
  assert [x.step for x in new] == [120]
  later = make()  # it was said before: not again
  later.start("code", "code", 140, 200)
  later.train(160, {"C_dead_groups": 0.9})
  assert later.watch.new == () and len(later.watch.told) == 1
  later.start("english_rl", "english_rl", 0, 200)
  assert later.watch.told == ()


def test_a_phase_from_its_start_forgets_all_of_it(make):
  log = make()
  log.start("base", "base", 0, 4)
  log.train(2, {"loss": 1.0})
  again = make()
  again.start("base", "base", 0, 4)
  assert lines(again) == []


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_a_line_cut_short_by_a_kill_is_left_out(make, cut):
  log = make()
  log.start("code", "code", 0, 10)
  for step in (2, 4):
    log.train(step, {"loss": 1.0})
  whole = log.path.read_text()
  last = whole.splitlines()[-1]
  log.path.write_text(whole + last[:cut])
  assert len(run_log.read_jsonl(log.path)) == 2
  again = make()
  again.start("code", "code", 4, 10)
  again.train(6, {"loss": 1.0})
  assert steps(again) == [("code", 2), ("code", 4), ("code", 6)]


def test_a_last_line_without_its_newline_is_whole(make):
  log = make()
  log.start("code", "code", 0, 10)
  log.train(2, {"loss": 1.0})
  log.path.write_text(log.path.read_text().rstrip("\n"))
  again = make()
  again.start("code", "code", 2, 10)
  again.train(4, {"loss": 1.0})
  assert steps(again) == [("code", 2), ("code", 4)]


def test_plain_output(make, monkeypatch):
  """Without a terminal: what it is doing, then a line every ten seconds."""
  clock, log = Clock(monkeypatch), make(force_terminal=False)
  log.start("code", "code (5/5)", 0, 100)
  assert said(log) == "code (5/5): step 0 of 100, compiling\n"
  clock.now += 30.0
  log.train(1, {"loss": 1.0})  # no rate yet: nothing to foretell
  log.compiled(1)
  clock.now += 10.0
  log.train(51, {"loss": 0.125, "reward": 0.5, "length": 3.0})
  clock.now += 1.0
  log.train(56, {"loss": 0.125})  # a second later
  # 50 steps in 10 seconds; 49 are left: 9.8 s.
  _, compiled, line, *more = said(log).splitlines()
  assert compiled == "compiling the step of code: 30.0 s"
  assert line == (
    "code (5/5): 51/100  5.0 steps/s  reward 0.5 length 3 loss 0.125  10 s left"
  )
  assert not more and len(lines(log)) == 3


def test_plain_output_of_a_resumed_phase(make):
  log = make(force_terminal=False)
  log.start("base", "base (1/5)", 40, 100)
  assert said(log) == "base (1/5): step 40 of 100, compiling\n"


def test_terminal_output(make):
  """A live display: compiling, then the rate; a second end does nothing."""
  log = make(force_terminal=True)
  log.start("code", "code (5/5)", 0, 100)
  assert "code (5/5)" in said(log) and "compiling" in said(log)
  log.compiled(1)
  log.train(50, {"loss": 0.125})
  log.note("Evaluating.")
  log.end()
  log.end()
  assert "loss 0.125" in said(log) and "50/100" in said(log)
  assert "Evaluating." in said(log)


def test_mean():
  window = [{"loss": 1.0, "reward": 0.0}, {"loss": 2.0, "reward": 1.0}]
  assert run_log.mean(iter(window)) == {"loss": 1.5, "reward": 0.5}
  assert all(type(x) is float for x in run_log.mean(window).values())


def test_what_is_waited_for_is_one_line(capsys, monkeypatch):
  console = Console(file=sys.stdout, width=80)
  with run_log.waiting("reading the corpus", console):
    assert capsys.readouterr().out == "reading the corpus ..."
  assert capsys.readouterr().out == " 0.0 s\n"
  with pytest.raises(ValueError), run_log.waiting("making", console):
    raise ValueError
  assert capsys.readouterr().out == "making ...\n"
