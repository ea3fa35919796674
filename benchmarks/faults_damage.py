"""Trials of benchmarks/faults.py with the files of a checkpoint alone."""

import random
import shutil
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import faults_runs
from rsrc_jax.runtime import checkpoint, checksums, finite
from rsrc_jax.types import TrainState

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
    if x.dtype != y.dtype or faults_runs.bytes_of(x) != faults_runs.bytes_of(y)
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
  checksums.crc32({str(i): x for i, x in enumerate(jax.tree.leaves(state))})
  found["restore"] = clock() - begun
  finite.finite(state.params)
  found["save"] = clock() - begun
  checkpoint.close(saver)
  shutil.rmtree(folder)
  return found
