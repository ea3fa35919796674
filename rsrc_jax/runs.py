"""A finished run: its config, its setup and its trained parameters.

  run = runs.open("runs/tiny-seed0")
  codes = run.codes("code", texts.batch_of(run.setup, "test"))
  d = run.read("code", codes)

The run's folder is not changed.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from rsrc_jax.build import identity
from rsrc_jax.build import setup as building
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import Setup, make_setup
from rsrc_jax.evaluation import code_judge
from rsrc_jax.models import lora
from rsrc_jax.output import files
from rsrc_jax.runtime import (
  cache,
  checkpoint,
  corpus_log,
  inputs,
  old_configs,
  sharding,
)
from rsrc_jax.stages import plan, stage
from rsrc_jax.types import Batch, Params, Tokens, TrainState

METRIC = "nll_bits"  # the validation metric of `best`


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run. Parameters are restored on demand.

  stages: by name, in the order of training: "reader" where V asks one, "base",
    and then the arms.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  setup: Setup
  stages: dict[str, stage.Stage]

  @functools.cached_property
  def summary(self) -> dict[str, Any]:
    """The summary of train.train."""
    return files.read_json(
      self.workdir / "summary.json", "Give the run's command: it is made again."
    )

  @functools.cached_property
  def untrained(self) -> Params:
    """The initial parameters of the base."""
    return initial_params(self.setup)

  @functools.cached_property
  def base(self) -> Params:
    """The trained parameters of the base."""
    if not self.stages["base"].steps:
      return self.untrained
    return self._restored("base", self.untrained).params

  def params(self, arm: str, *, best: bool = False) -> Params:
    """The policy's parameters after an arm's last step.

    Args:
      arm: one of `stages`.
      best: instead, at the kept checkpoint with the best validation metric.

    Raises:
      ValueError: no such arm, it has not finished, or it has no validation.
    """
    if arm == "base" and not best:
      return self.base
    found = self.state(arm, best=best).params
    return self.stages[arm].bind(found, {"base": self.base})

  def merged(self, arm: str, *, best: bool = False) -> Params:
    """The same as plain parameters, with adapters merged into the base."""
    block = {}
    if arm in self.config.arms:
      block = arm_config(self.config, arm).get("lora") or {}
    if not block.get("rank"):
      return self.params(arm, best=best)
    adapters = self.state(arm, best=best).params
    return lora.merge(self.base, adapters, block.alpha / block.rank)

  def carry(self, arm: str, *, best: bool = False) -> Any:
    """The carry of the arm's pattern at the end of training."""
    return self.state(arm, best=best).carry

  def frozen(self, arm: str) -> dict[str, Params]:
    """The parameters that an arm reads and does not train."""
    self._check(arm)
    start = self.stages[arm].start
    trained = {"base": self.base}
    if stage.READER in self.stages:
      trained[stage.READER] = self.params(stage.READER)
    if start not in (stage.BASE, stage.UNTRAINED):
      trained[start] = self.params(start)
    return stage.frozen_of(self.stages[arm], trained)

  def codes(self, arm: str, batch: Batch, *, best: bool = False) -> Tokens:
    """The codes that an arm writes for sources [B, S]. -> [B, k]

    As in validation: greedy, with nothing forced and the largest budget. Each
    new B is compiled once.

    Raises:
      ValueError: the arm writes no codes, or see `params`.
    """
    self._check(arm)
    if (write := self.stages[arm].write) is None:
      writers = [name for name, x in self.stages.items() if x.write]
      raise ValueError(
        f"{self.workdir}: {arm} writes no codes, but {', '.join(writers)}."
      )
    key = jax.random.key(self.config.seed)
    params, frozen = self.params(arm, best=best), self.frozen(arm)
    return self._by_rows(lambda x: write(params, frozen, x, key), batch)

  def read(self, arm: str, codes: Tokens, *, best: bool = False) -> Tokens:
    """What an arm's D reads from codes [B, k], greedily. -> d [B, T]"""
    params = self.params(arm, best=best)
    return self._by_rows(lambda x: self._reader(params, x), codes)

  def scores(
    self, arm: str, batch: Batch, codes: Tokens, *, best: bool = False
  ) -> dict[str, np.ndarray]:
    """How well an arm's D tells sources [B, S] from codes [B, k]. -> [B] each

    As on the test split (docs/run_directory.md): nll_bits is -log2 p(s | c);
    token_accuracy, exact_match and edit_similarity are of d.
    """
    params, d = self.params(arm, best=best), self.read(arm, codes, best=best)
    rows = (batch.source, codes, d)
    return self._by_rows(lambda x: self._judge(params, *x), rows)

  @functools.cached_property
  def _reader(self):
    policy, D = self.setup.policy, self.setup.roles["D"]
    return jax.jit(code_judge.make_reader(policy, D))

  @functools.cached_property
  def _judge(self):
    policy, D = self.setup.policy, self.setup.roles["D"]
    return jax.jit(code_judge.make_judge(policy, D))

  def _by_rows(self, function: Callable[[Any], Any], tree: Any) -> Any:
    """Calls it with as many rows as the mesh divides; drops the repeated."""
    mesh, rows = self.setup.mesh, len(jax.tree.leaves(tree)[0])
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    index = np.arange(-(-rows // ways) * ways) % rows
    repeated = jax.tree.map(lambda x: np.asarray(x)[index], tree)
    found = function(sharding.rows(mesh, repeated))
    return jax.tree.map(lambda x: np.asarray(x)[:rows], found)

  def state(self, arm: str, *, best: bool = False) -> TrainState:
    """The train state in a stage's checkpoint."""
    self._check(arm)
    first = self.stages[arm].start == stage.UNTRAINED
    start = self.untrained if first else self.base
    return self._restored(arm, start, best=best)

  def _check(self, arm: str) -> None:
    if arm not in self.stages:
      raise ValueError(
        f"{self.workdir} has no arm {arm!r}, but {', '.join(self.stages)}."
      )

  def _restored(self, name: str, start: Params, *, best: bool = False):
    folder = self.workdir / "checkpoints" / name
    like = jax.eval_shape(self.stages[name].init, start)
    like = jax.tree.map(
      lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
      like, sharding.shardings(self.setup.mesh, like),
    )  # fmt: skip
    found = None
    if folder.is_dir():
      saver = checkpoint.open_reader(folder)
      found = checkpoint.restore(saver, like, best=METRIC if best else "")
      checkpoint.close(saver)
    if best and found is None:
      raise ValueError(
        f"{self.workdir}: no checkpoint of {name} has a validation {METRIC}."
      )
    step, steps = int(found[0].step) if found else 0, self.stages[name].steps
    ended = found and self.stages[name].at_its_plateau(found[0])
    if step != steps and not ended and not best:
      raise ValueError(
        f"{self.workdir}: {name} is at step {step} of {steps}; run its config "
        "again with this --workdir to go on."
      )
    return found[0]


def open(
  workdir: str | Path, config: ml_collections.ConfigDict | None = None
) -> Run:
  """Opens the run of a folder.

  Args:
    workdir: the run directory.
    config: replaces the stored one (`read_config`), for example with a mesh of
      this machine, or with arms of a rule that were not run.

  Raises:
    ValueError: there is no run, it cannot be opened, or its data, its tokenizer
      or a file of it is another one than it began with.
  """
  workdir = Path(workdir)
  config = read_config(workdir) if config is None else config
  if "pretrain" not in config:
    raise ValueError(
      f"{workdir} is a run of config.loop={config.get('loop')!r}; only those "
      "of rsrc_jax.train can be opened."
    )
  kept = corpus_log.folder(workdir)
  setup = make_setup(config, cache.tokenizers(workdir), kept, examine=True)
  _check_inputs(setup, workdir)
  stages = {x.name: x for x in plan.make_stages(setup)}
  return Run(workdir, config, setup, stages)


def _check_inputs(setup: Setup, workdir: Path) -> None:
  """Refuses a setup on other data, or of other files, than its run began with.

  Where the corpus is the run's, the files that it was made of may be others.
  """
  found, stored = identity.of(setup), inputs.recorded(workdir) or {}
  if found["corpus"] == stored.get("corpus"):
    found = {k: v for k, v in found.items() if "config.data.path" not in k}
  elif _other_data(workdir, setup.config):  # on purpose
    found = {k: v for k, v in found.items() if k not in inputs.MADE}
  inputs.check(found, workdir, to="read that run")


def _other_data(workdir: Path, config: ml_collections.ConfigDict) -> bool:
  """Whether a config asks for other data than that of a run.

  A file in another place is compared by its content.
  """
  if not (workdir / "config.json").is_file():
    return False
  both = (read_config(workdir), config)
  theirs, ours = (old_configs.flat(x.to_dict()) for x in both)
  of_data = ("data.", "seed", "model_name")
  return any(
    theirs.get(x) != ours.get(x)
    for x in {**theirs, **ours}
    if x.startswith(of_data) and x != "data.path"
  )


def find(folder: str | Path, name: str) -> Path:
  """The folder of the finished run NAME-ID in a sweep's folder.

  Raises:
    ValueError: there is none, or more than one, of different settings.
  """
  every = Path(folder).glob(f"{name}-*/summary.json")
  found = sorted(x.parent for x in every)
  found = [x for x in found if x.name.rpartition("-")[0] == name]
  if len(found) != 1:
    there = ", ".join(x.name for x in found) or "none"
    raise ValueError(
      f"{folder} should hold one ended run called {name}, and holds {there}."
    )
  return found[0]


def read_config(workdir: str | Path) -> ml_collections.ConfigDict:
  """The config of a run of any revision, with tuples for JSON's lists.

  Raises:
    ValueError: there is no run, or it depends on a removed setting.
  """
  path = Path(workdir) / "config.json"
  if not path.is_file():
    raise ValueError(f"{workdir} holds no run: it has no config.json.")
  stored = files.read_json(path, "Put it back from a copy.")
  try:
    stored = old_configs.upgraded(stored)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  return ml_collections.ConfigDict(_with_tuples(stored))


def initial_params(setup: Setup) -> Params:
  """The parameters before any training.

  With config.init = "RUN:ARM" they are those of another run's arm, with
  adapters merged.

  Raises:
    ValueError: RUN:ARM does not exist, or its policy is different.
  """
  if not (init := setup.config.get("init") or ""):
    return building.initial_params(setup)
  workdir, _, arm = init.rpartition(":")
  if not workdir or not arm:
    raise ValueError(
      f"config.init={init!r}: give RUN:ARM, a run's folder and one of its arms."
    )
  try:
    run = open(workdir)
    params = run.merged(arm)
  except ValueError as error:
    raise ValueError(f"config.init={init!r}: {error}") from None
  _check_same_policy(setup, run, params)
  return sharding.put(params, sharding.shardings(setup.mesh, params))


def _check_same_policy(setup: Setup, run: Run, params: Params) -> None:
  """Raises ValueError if shapes differ, or ids stand for other tokens."""
  init = f"config.init={setup.config.init!r}"
  shapes = lambda tree: {
    jax.tree_util.keystr(path): x.shape
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }
  ours = shapes(jax.eval_shape(setup.policy.init, jax.random.key(0)))
  theirs = shapes(params)
  for name in {**ours, **theirs}:
    if ours.get(name) != theirs.get(name):
      raise ValueError(
        f"{init}: params{name} is {theirs.get(name)} there and "
        f"{ours.get(name)} here; give both runs the same config.model."
      )
  here, there = (
    x.corpus.vocab.pieces(list(range(x.corpus.vocab.size)))
    for x in (setup, run.setup)
  )
  for i, (a, b) in enumerate(zip(here, there, strict=True)):
    if a != b:
      raise ValueError(
        f"{init}: id {i} is {b!r} there and {a!r} here; give both runs the "
        "same config.data."
      )


def _with_tuples(x):
  if isinstance(x, dict):
    return {name: _with_tuples(value) for name, value in x.items()}
  return tuple(map(_with_tuples, x)) if isinstance(x, list) else x
