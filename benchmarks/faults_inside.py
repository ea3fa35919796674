"""Trials of benchmarks/faults.py that share a process and its programs.

  python benchmarks/faults_inside.py PART SEED SCRATCH SECONDS 0,1,2,...

prints {"begin": n} before each trial and a line of JSON after it, until there
are none left or the seconds are over.
"""

import contextlib
import dataclasses
import io
import json
import math
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from helpers.runs import Killed, Runs, final_state

from benchmarks import faults
from rsrc_jax.runtime import checkpoint, configs, digests, finite, run_log
from rsrc_jax.sweep import files
from rsrc_jax.training import lane
from rsrc_jax.types import TrainState

REAL_TIME, REAL_ADVANCE = time.time, lane.advance
PAGE = 4096
LIMIT = 100  # seconds of a trial; a hang is a loss


def main() -> None:
  """One part's trials."""
  part, seed, scratch, seconds, left = sys.argv[1:]
  end = time.monotonic() + float(seconds)
  trial = {
    "damage": damage, "disk": disk, "clock": clock, "nan": nan, "cost": cost
  }[part](Path(scratch) / part)  # fmt: skip
  signal.signal(signal.SIGALRM, _too_long)
  for number in map(int, left.split(",")):
    if time.monotonic() > end:
      return
    say(begin=number)
    begun = time.monotonic()
    signal.alarm(LIMIT)
    try:
      rng = random.Random(f"{seed}-{part}-{number}")
      found = trial(number if part == "cost" else rng)
    except Exception as error:
      reason = f"{type(error).__name__}: {error}"[:400]
      found = {"form": "error", "outcome": "lost", "why": reason}
    signal.alarm(0)
    say(trial=number, **found, seconds=round(time.monotonic() - begun, 3))


def say(**found: Any) -> None:
  """A line for the parent."""
  print(json.dumps(found), flush=True)


def _too_long(number, frame):
  raise TimeoutError(f"more than {LIMIT} s")


# Damaged files: a small state, saved twice before and once more.


def damage(folder: Path):
  """-> a trial."""
  shutil.rmtree(folder, ignore_errors=True)
  whole, nll = folder / "whole", {2: 2.0, 4: 1.0, 6: 3.0}
  saver = opened(whole)
  for step in nll:
    checkpoint.save(saver, state(step), host(step), {"nll_bits": nll[step]})
  checkpoint.close(saver)
  steps = sorted(int(x.name) for x in whole.iterdir())

  def trial(rng: random.Random) -> dict[str, Any]:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run)
    both = rng.random() < 0.25
    how = rng.choice(("cut", "bit", "gone"))
    hit = [hurt(run / str(x), how, rng) for x in steps[-1 - both :]]
    form = {"cut": "cut short", "bit": "a bit", "gone": "removed"}[how]
    form += ", the two newest" if both else ", the newest"
    return {"form": form, "files": hit} | judged(run, steps)

  return trial


def hurt(folder: Path, how: str, rng: random.Random) -> str:
  """Damages a file of a checkpoint. -> its name"""
  files = sorted(x for x in folder.rglob("*") if x.is_file())
  if how != "gone":
    files = [x for x in files if x.stat().st_size]
  path = rng.choice(files)
  content = bytearray(path.read_bytes())
  if how == "gone":
    path.unlink()
  elif how == "cut":
    path.write_bytes(content[: rng.randrange(len(content))])
  else:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
  return str(path.relative_to(folder))


def judged(run: Path, steps: list[int]) -> dict[str, Any]:
  """What comes back of a damaged folder: to a reader, and to a run."""
  wrong = []
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    reader = checkpoint.open_reader(run)
    best = checkpoint.restore(reader, state(0), best="nll_bits")
    checkpoint.close(reader)
  if best is not None:
    wrong += differing(best)
    if int(best[0].step) != 4 and not told_of(caught, 4):
      wrong.append(f"best is {int(best[0].step)}")
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    saver = opened(run)
    found = checkpoint.restore(saver, state(0))
    kept = sorted(int(x.name) for x in run.iterdir() if x.name.isdigit())
    if found is not None:
      wrong += differing(found)
      step = int(found[0].step)
      passed = [x for x in steps if x > step]
      wrong += [
        f"nothing said of {x}" for x in passed if not told_of(caught, x)
      ]
      note = "read" if step == steps[-1] else "the one before"
      # It goes on: the next checkpoint is whole, and so is the best one.
      checkpoint.save(saver, state(8), host(8), {"nll_bits": 9.0})
      wrong += differing(checkpoint.restore(saver, state(0)))
      if 4 in kept and not (run / "4").exists():
        wrong.append("the best one was removed")
    else:
      note = "none"
      wrong += [f"nothing said of {x}" for x in steps if not told_of(caught, x)]
    checkpoint.close(saver)
  if any("\n" in str(x.message) for x in caught):
    wrong.append("a warning of several lines")
  outcome = "survived" if found is not None else "refused"
  extra = {"why": wrong[:3]} if wrong else {}
  return {"outcome": "lost" if wrong else outcome, "note": note, **extra}


def told_of(caught, step: int) -> bool:
  """Whether a warning says that a checkpoint can't be read."""
  said = f"checkpoint {step} of "
  return any(
    said in str(x.message) and "can't be read" in str(x.message) for x in caught
  )


def differing(found: tuple[TrainState, dict]) -> list[str]:
  """What of a restored checkpoint is not what was saved."""
  step = int(found[0].step)
  true = jax.tree_util.tree_leaves_with_path(state(step))
  read = jax.tree_util.tree_leaves_with_path(found[0])
  wrong = [
    f"step {step}: wrong {jax.tree_util.keystr(path)}"
    for (path, x), (_, y) in zip(true, read, strict=True)
    if x.dtype != y.dtype or faults.bytes_of(x) != faults.bytes_of(y)
  ]
  return wrong + (
    [] if found[1] == host(step) else [f"step {step}: wrong host"]
  )


def opened(folder: Path) -> checkpoint.Saver:
  """As a run opens its checkpoints."""
  return checkpoint.open_saver(
    folder, keep_last=2, keep_best=1, metric="nll_bits"
  )


def state(step: int) -> TrainState:
  """A state of a hundred thousand numbers, of several dtypes."""
  draw = np.random.default_rng(step).normal
  params = {
    f"layer_{i}": {"w": jnp.float32(draw(size=(64, 96))), "b": jnp.zeros(96)}
    for i in range(4)
  }
  params["half"] = jnp.asarray(draw(size=(32, 8)), jnp.bfloat16)
  moments = optax.adamw(1e-3).init(params)
  carry = {"ids": jnp.arange(60).reshape(4, 15) + step, "on": jnp.ones(4, bool)}
  return TrainState(
    jnp.int32(step), params, moments, carry, {"best": jnp.float32(-np.inf)},
    jnp.uint32(7),
  )  # fmt: skip


def host(step: int) -> dict[str, Any]:
  """As a lane stores it."""
  return {
    "iterator": {"next_index": step}, "window": [{"loss": 0.1 * step}],
    "ledger": {"lines": step, "carried": {}},
  }  # fmt: skip


# A small run of the default, whole or with a fault, through main.main.


@dataclasses.dataclass
class Program:
  """Runs of one config, which share their programs, by the command line."""

  runs: Runs
  folder: Path
  whole: Path
  report: bool

  @classmethod
  def of(cls, folder: Path, *, report: bool, **changes) -> "Program":
    """Makes the uninterrupted run too. report: each run draws one."""
    from rsrc_jax import main as program  # loads a config

    shutil.rmtree(folder, ignore_errors=True)
    name, small = faults.FORMS["default"]
    small = {**small, "checkpoint.every": 4} | changes
    config = configs.load(faults.ROOT / "configs" / f"{name}.py")
    config.update_from_flattened_dict(small)
    made = cls(Runs.of(config, folder), folder, folder / "whole", report)
    flags.FLAGS(["rsrc", f"--config={faults.ROOT}/configs/{name}.py"])
    program.CONFIG.value.update_from_flattened_dict(small)
    program.named.loop_of = lambda config: SimpleNamespace(
      train=lambda config, workdir: made.runs.run(workdir, kill=made.kill),
      show=show if report else lambda *_: ("none", []),
    )
    code, said = made.run(made.whole)
    if code:
      sys.exit(f"the uninterrupted run ends with {code}: {said}")
    return made

  kill = 0  # at which question whether to stop a run ends without a word

  def run(self, workdir: Path, kill: int = 0) -> tuple[int | str, str]:
    """main.main -> exit code, or what it raised; what it said"""
    from rsrc_jax import main as program

    flags.FLAGS.workdir, self.kill = str(workdir), kill
    said, code = io.StringIO(), 0
    try:
      with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        program.main(["rsrc"])
    except SystemExit as ended:
      code = ended.code or 0
    except Killed:
      code = "killed"
    except Exception as error:
      code = type(error).__name__
      said.write(f"{code}: {error}")
    return code, said.getvalue()


def show(summary, workdir):
  """The report, as train.show draws it."""
  from rsrc_jax import train

  return train.show(summary, workdir)


def end_of(made: Program, workdir: Path, form: str, note: str, wrong: list):
  """Lets a run that had a fault go on to its end, and compares it."""
  code, said = made.run(workdir)
  if code:
    wrong = [*wrong, f"goes on: {code} {said[-300:]}"]
  else:
    found = faults.differences(workdir, made.whole)
    wrong += [x for x in found if x != "no report" or made.report]
  extra = {"why": wrong[:4]} if wrong else {}
  outcome = "lost" if wrong else "survived"
  return {"form": form, "outcome": outcome, "note": note, **extra}


def disk(folder: Path):
  """-> a trial; this process needs a mount namespace of its own."""
  made = Program.of(folder, report=True)
  room = folder / "room"
  room.mkdir()
  mount(room, 1 << 30)
  made.run(room / "run")
  pages = (1 << 30) - shutil.disk_usage(room).free
  pages = pages // PAGE
  subprocess.run(["umount", "-l", room], check=True)

  def trial(rng: random.Random) -> dict[str, Any]:
    page = rng.randrange(1, pages)
    mount(room, page * PAGE)
    code, said = made.run(room / "run")
    errors = [x for x in said.splitlines() if x.startswith("error:")]
    note = "one line" if code == 2 and len(errors) == 1 else f"raised {code}"
    note = "goes on" if code == 0 else note
    mount(room, 1 << 30, "remount,")
    found = end_of(made, room / "run", "full at a page", note, [])
    subprocess.run(["umount", "-l", room], check=True)
    return found | {"page": page, "of": pages, "said": said[-200:]}

  return trial


def mount(folder: Path, size: int, more: str = "") -> None:
  """A disk of so many bytes."""
  subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"{more}size={size}", "none", folder],
    check=True,
  )  # fmt: skip


def clock(folder: Path):
  """-> a trial."""
  made, number = Program.of(folder, report=False), [0]
  whole = sum(x.steps for x in made.runs.stages)

  def trial(rng: random.Random) -> dict[str, Any]:
    step, killed = rng.randrange(whole), rng.random() < 0.5
    number[0] += 1
    workdir, done = folder / f"run-{number[0]}", [0]

    def advance(now, until, counts):
      after = REAL_ADVANCE(now, until, counts)
      done[0] += after.step - now.step
      if done[0] > step:
        time.time = lambda: REAL_TIME() - 3600
      return after

    lane.advance = advance
    try:
      if killed:  # its next session begins before its last one ended
        made.run(workdir, kill=rng.randrange(1, 8))
        unclosed(workdir)
        time.time = lambda: REAL_TIME() - 3600
      found = end_of(made, workdir, "an hour back", "", [])
      wrong = negative(workdir)
    finally:
      time.time, lane.advance = REAL_TIME, REAL_ADVANCE
    found["form"] += " while it is down" if killed else " while it runs"
    del found["note"]
    shutil.rmtree(workdir)
    if wrong:
      found |= {"outcome": "lost", "why": wrong[:3]}
    return found

  return trial


def unclosed(workdir: Path) -> None:
  """Takes the last line of the ledger, which a killed process has not written.

  Within one process, what ends a run still closes its ledger.
  """
  path = workdir / "ledger.jsonl"
  *lines, last = path.read_text().splitlines(keepends=True)
  if json.loads(last)["kind"] == "close":
    path.write_text("".join(lines))


def negative(workdir: Path) -> list[str]:
  """Seconds below zero, of the ledger and the summary."""

  def search(x, path):
    if isinstance(x, dict):
      return [y for k, v in x.items() for y in search(v, f"{path}.{k}")]
    if isinstance(x, list):
      return [y for v in x for y in search(v, path)]
    if "seconds" in path and isinstance(x, int | float) and x < 0:
      return [f"{path}={x}"]
    return []

  lines = run_log.read_jsonl(workdir / "ledger.jsonl")
  summary = files.read(workdir / "summary.json")
  return search(lines, "ledger") + search(summary, "summary")


def nan(folder: Path):
  """-> a trial. Checkpoints come between two lines of the log."""
  made, number = Program.of(folder, report=False, log_every=5), [0]

  def trial(rng: random.Random) -> dict[str, Any]:
    stage = rng.choice(made.runs.stages)
    step, of = rng.randint(1, stage.steps), rng.choice(("loss", "parameters"))
    if of == "parameters" and rng.random() < 0.5:
      step = 4  # a checkpoint is due, and every loss was finite
    number[0] += 1
    workdir = folder / f"run-{number[0]}"
    lane.advance = poisoned(stage.name, step, of)
    try:
      code, said = made.run(workdir)
    finally:
      lane.advance = REAL_ADVANCE
    wrong = [] if code == 2 else [f"ended with {code}"]
    errors = [x for x in said.splitlines() if x.startswith("error:")]
    named = [f"at step {step};", f"after step {step};"]
    if of == "parameters":  # the loss of the next step shows it
      named.append(f"at step {step + 1};")
    if (
      len(errors) != 1
      or stage.name not in errors[0]
      or not any(x in errors[0] for x in named)
    ):
      wrong.append(f"said {errors}")
    wrong += not_finite(workdir)
    kept = "kept" if "is kept" in said else "none yet"
    found = end_of(
      made, workdir, f"NaN in the {of}", f"checkpoint {kept}", wrong
    )
    shutil.rmtree(workdir)
    return found | {"stage": stage.name, "step": step}

  return trial


def poisoned(stage: str, step: int, of: str):
  """lane.advance, with NaN after a step of a stage."""

  def advance(now, until, counts):
    if now.stage.name != stage or not now.step < step <= until:
      return REAL_ADVANCE(now, until, counts)
    now = REAL_ADVANCE(now, step, counts)
    params = jax.tree.map(
      lambda x: jax.device_put(np.full(x.shape, math.nan, x.dtype), x.sharding),
      now.state.params,
    )
    window = list(now.window)
    if of == "loss":
      window[-1] = {**window[-1], "loss": np.float32(math.nan)}
    now = now._replace(state=now.state._replace(params=params), window=window)
    return REAL_ADVANCE(now, until, counts) if step < until else now

  return advance


def not_finite(workdir: Path) -> list[str]:
  """Checkpoints with parameters that are not finite."""
  return [
    f"{folder.name}: {name} was saved"
    for folder in (workdir / "checkpoints").iterdir()
    if any(x.name.isdigit() for x in folder.iterdir())
    for name, x in final_state(workdir, folder.name).items()
    if name.startswith(".params") and not np.isfinite(np.asarray(x)).all()
  ]


# What digests cost.


def cost(folder: Path):
  """-> a trial: by its number, of the default's state or of 500 MB."""

  def trial(number: int) -> dict[str, Any]:
    form, numbers, leaves, rounds = (
      ("of the default's state, 1.5 MB", 123_000, 22, 9),
      ("of a state of 500 MB", 41_666_664, 24, 3),
    )[number]
    draw = np.random.default_rng(0).standard_normal
    tree = lambda: {
      f"layer_{i}": jnp.asarray(draw(numbers // leaves, np.float32))
      for i in range(leaves)
    }
    state = TrainState(
      jnp.int32(1), tree(), (tree(), tree()), (), (), jnp.uint32(1)
    )
    rows = [measured(folder / "run", state) for _ in range(rounds)]
    median = {k: statistics.median(x[k] for x in rows) for k in rows[0]}
    return {"form": form, "outcome": "measured", **median}

  return trial


def measured(folder: Path, state: TrainState) -> dict[str, float]:
  """Seconds of a save and a restore, and of the digests in each."""
  shutil.rmtree(folder, ignore_errors=True)
  saver, found, clock = opened(folder), {}, time.perf_counter
  begun = clock()
  finite.check_params("", 1, state.params, saved=None, block="")
  checkpoint.save(saver, state, {"window": []}, {"nll_bits": 1.0})
  found["whole_save"], begun = clock() - begun, clock()
  checkpoint.restore(saver, state)
  found["whole_restore"], begun = clock() - begun, clock()
  digests.crc32({str(i): x for i, x in enumerate(jax.tree.leaves(state))})
  found["restore"] = clock() - begun
  finite.finite(state.params)
  found["save"] = clock() - begun
  checkpoint.close(saver)
  shutil.rmtree(folder)
  return found


if __name__ == "__main__":
  main()
