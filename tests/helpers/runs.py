"""A shrunk default run: its command, its config, and what must be equal."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.runtime import checkpoint, provenance, run_log
from rsrc_jax.stages import plan

ROOT = Path(__file__).resolve().parents[2]

# The default config, small enough to run whole in seconds.
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
  "eval.every": 4,
  "eval.rows": 16,
  "eval.test_rows": 24,
  "eval.batch_size": 16,
  "eval.samples": 3,
  "checkpoint.every": 4,
  "only": "english_rl,code",
  "ledger.service_seconds": 0.02,
}


def command(workdir, **changes):
  """The command line of a shrunk run."""
  flags = [f"--config.{k}={v}" for k, v in {**SHRUNK, **changes}.items()]
  return [
    sys.executable, "-m", "rsrc_jax.main", f"--workdir={workdir}",
    f"--config={ROOT}/configs/tiny.py", *flags,
  ]  # fmt: skip


def run(workdir, **changes):
  return subprocess.run(
    command(workdir, **changes), cwd=ROOT, capture_output=True, text=True,
    timeout=300,
  )  # fmt: skip


def shrunk(**changes):
  """The same config in this process."""
  name = f"{ROOT}/configs/tiny.py"
  module = {}
  exec(Path(name).read_text(), module)
  config = module["get_config"]()
  config.update_from_flattened_dict({**SHRUNK, **changes})
  return config


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
