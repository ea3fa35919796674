"""A shrunk default run: its command, its config, and what must be equal."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import train
from rsrc_jax.build import identity
from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.runtime import checkpoint, inputs, provenance, run_log
from rsrc_jax.stages import plan

ROOT = Path(__file__).resolve().parents[2]

# The default config, small enough to run whole in seconds. D has no group of
# its own: its update would take a second more to compile, in every run.
SHRUNK = {
  "steps": 8,
  "batch_size": 8,
  "log_every": 3,
  "data.sentences": 400,
  "data.heldout": 32,
  "model.width": 16,
  "model.depth": 1,
  "model.hidden": 24,
  "pretrain.steps": 6,
  "pretrain.warmup_from": 2,
  "pretrain.batch_size": 8,
  "patterns.cdv.group": 4,
  "patterns.cdv.taught": 0,
  "eval.every": 4,
  "eval.rows": 16,
  "eval.test_rows": 24,
  "eval.batch_size": 16,
  "eval.samples": 3,
  "checkpoint.every": 4,
  "only": "english_rl,code",
  "ledger.service_seconds": 0.02,
}


def command(workdir, *, end=(), **changes):
  """The command line of a shrunk run; `end` is where it is to end itself."""
  flags = [f"--config.{k}={v}" for k, v in {**SHRUNK, **changes}.items()]
  program = ["-m", "rsrc_jax.main"]
  if end:
    program = [str(ROOT / "tests" / "helpers" / "ended_run.py"), *end]
  return [
    sys.executable, *program, f"--workdir={workdir}",
    f"--config={ROOT}/configs/tiny.py", *flags,
  ]  # fmt: skip


def run(workdir, **changes):
  """Runs the command to its end."""
  return subprocess.run(
    command(workdir, **changes), cwd=ROOT, env=environment(),
    capture_output=True, text=True, timeout=900,
  )  # fmt: skip


def environment(devices=None):
  """Of a child process: it finds the library, and has as many devices."""
  flags = os.environ["XLA_FLAGS"]
  if devices is not None:
    name = "--xla_force_host_platform_device_count"
    kept = [x for x in flags.split() if not x.startswith(name)]
    flags = " ".join([*kept, f"{name}={devices}"])
  paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
  return {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths}


def shrunk(**changes):
  """The same config in this process."""
  name = f"{ROOT}/configs/tiny.py"
  module = {}
  exec(Path(name).read_text(), module)
  config = module["get_config"]()
  config.update_from_flattened_dict({**SHRUNK, **changes})
  return config


class Killed(BaseException):
  """Nothing catches it and nothing is saved."""


class Runs:
  """Runs that share one setup and its compiled stages.

  whole: the folder of an uninterrupted one; it is made when first asked for.
  """

  def __init__(self, setup, stages, folder):
    self.setup, self.stages, self.folder = setup, stages, folder

  @classmethod
  def of(cls, config, folder):
    """Of a config, with all its stages."""
    setup = make_setup(config, folder)
    return cls(setup, plan.make_stages(setup), folder)

  @functools.cached_property
  def whole(self):
    workdir = self.folder / "whole"
    self.run(workdir)
    return workdir

  def run(self, workdir, *, stop=0, kill=0, signals=False, log=None, **changes):
    """Trains; it ends at the `stop`-th or `kill`-th call of `stop`.

    signals: it is ended by signals instead; changes: of the config, none that a
    stage was built of.
    """
    asked = itertools.count(1)

    def answer():
      number = next(asked)
      if number == kill:
        raise Killed
      return number >= stop > 0

    config = self.setup.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    setup = self.setup._replace(config=config)
    meter = train.open_meter()
    return train.run(
      setup, self.stages, workdir, stop=None if signals else answer, log=log,
      meter=meter, since=meter.read(),
    )  # fmt: skip


class Signals(run_log.Log):
  """Sends its own process a signal at a step, as a user would."""

  def __init__(self, workdir, number, at):
    super().__init__(workdir, quiet=True)
    self.number, self.at = number, at

  def train(self, step, metrics):
    super().train(step, metrics)
    if step == self.at:
      signal.raise_signal(self.number)


def numbers(workdir):
  """All that must be equal between two runs; times are not among it."""
  lines = run_log.read_jsonl(workdir / "metrics.jsonl")
  for line in lines:
    # What was done twice after a kill is on the bill.
    for name in ("steps_per_second", "flops", "joules"):
      line.pop(name, None)
  summary = json.loads((workdir / "summary.json").read_text())
  for name in ("seconds", "ledger", "rsrc", "trajectory"):
    summary.pop(name, None)
  samples = (workdir / "samples.jsonl").read_text()
  return lines, summary, samples


def final_state(workdir, phase):
  """The last checkpoint of a phase, as raw arrays."""
  folder = workdir / "checkpoints" / phase
  newest = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
  import orbax.checkpoint as ocp

  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  path = (folder / str(newest) / "state").resolve()
  with ocp.StandardCheckpointer() as reader:
    # Onto one device, wherever the arrays lived that were written.
    like = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
      reader.metadata(path).item_metadata.tree,
    )
    return reader.restore(path, like)


def assert_same_run(a, b, phases=("base", "english_rl", "code")):
  """Metrics, results and every array of every phase, bitwise."""
  assert numbers(a) == numbers(b)
  for phase in phases:
    x, y = final_state(a, phase), final_state(b, phase)
    assert x.keys() == y.keys()
    for name in x:
      np.testing.assert_array_equal(np.asarray(x[name]), np.asarray(y[name]))


def ended(workdir, config, steps=None):
  """A run that looks ended, without any training: a second instead of minutes.

  Each stage's parameters are those it begins with, plus its number among the
  stages. The arms have checkpoints at half of their steps, which validation
  likes better, and at the end; `steps`: up to which step they came, at most.
  """
  setup = make_setup(config, workdir)
  params = initial_params(setup)
  inputs.record(identity.of(setup), workdir, workdir)
  provenance.record(config, workdir)
  for number, stage in enumerate(plan.make_stages(setup), 1):
    saver = checkpoint.open_saver(
      workdir / "checkpoints" / stage.name, keep_last=2, keep_best=1,
      metric="nll_bits",
    )  # fmt: skip
    state = stage.init(params)
    for part, nll in ((1, 1.0), (2, 2.0)):
      step = stage.steps * part // 2
      if stage.name != "base" and steps is not None and step > steps:
        break
      moved = jax.tree.map(lambda x, by=number * part: x + by, state.params)
      valid = {"nll_bits": nll} if stage.write else {}
      checkpoint.save(
        saver, state._replace(step=jnp.int32(step), params=moved), {}, valid
      )
    checkpoint.close(saver)
  return params
