"""An outer loop: a run, and another that begins where its arm has ended."""

from pathlib import Path

from rsrc_jax import runs
from rsrc_jax import train as training
from rsrc_jax.build.setup import make_setup
from rsrc_jax.stages import plan


def train(config, workdir):
  """Two generations with the same compiled programs."""
  workdir = Path(workdir)
  setup = make_setup(config, workdir / "cache")
  stages = plan.make_stages(setup)
  first = training.run(setup, stages, workdir / "0")
  params = runs.open(workdir / "0").params(config.report.headline)
  second = training.run(setup, stages, workdir / "1", params=params)
  programs = {x.name: x.step._cache_size() for x in stages}
  return {"generations": [first, second], "programs": programs}
