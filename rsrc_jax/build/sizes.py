"""Bytes that a run needs at least, from its settings, by the settings to blame.

Everything is a lower bound: what must be in memory at once whatever XLA does.
The shapes of parameters are those of the model's init, traced and not run.
"""

import functools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsrc_jax.build import overrides
from rsrc_jax.models import transformer
from rsrc_jax.runtime import memory, weights

FLOAT, INT = 4, 4
TRAINED = 4  # copies of what an arm trains: it, its gradient and two moments


def check(
  settings: dict[str, Any], mesh: Mesh, opened: weights.Checkpoint | None
) -> None:
  """Refuses a run that is too large for its devices.

  Args:
    settings: of the run, as plain dicts, checked by build/checks.py.
    mesh: of the run.
    opened: the pretrained model, if there is one.

  Raises:
    ValueError: the parameters, the codes of a step or the data do not fit.
  """
  stored_dtype(settings)
  room, copies = memory.free(mesh), 1 + TRAINED * bool(trains_all(settings))
  copies += bool(_heard(settings))
  memory.check(needs(settings, mesh, opened, copies), room)
  for arm in overrides.running(settings["only"], settings["arms"]):
    if overrides.pairs(settings["arms"], arm):
      own = overrides.applied(settings, arm)
      try:
        memory.check(needs(own, mesh, opened, copies), room)
      except ValueError as error:
        raise ValueError(f"config.arms.{arm}.overrides: {error}") from None


def needs(
  settings: dict[str, Any],
  mesh: Mesh,
  opened: weights.Checkpoint | None,
  copies: int,
) -> dict[str, float]:
  """Bytes a device, by the settings that ask for them.

  copies: of the parameters, those in training included.
  """
  parts = mesh.shape["fsdp"] * mesh.shape["tensor"]
  rows = mesh.shape["data"] * mesh.shape["fsdp"]
  stored = jnp.dtype((settings.get("lora") or {}).get("base", "float32"))
  if opened is None:
    count = parameters(settings)
    asked = _named(settings, "config.model", "width", "depth", "hidden")
    asked += ", " + _named(settings, "config.data", "vocab_size", "symbols")
  else:
    count = sum(
      math.prod(x.shape) for x in jax.tree.leaves(weights.tree(opened.settings))
    )
    asked = f"config.model.path={str(opened.folder)!r}"
  found = {f"{asked}: {copies} times its parameters": (
    copies * count * stored.itemsize / parts
  )}  # fmt: skip
  # They are in memory one after the other.
  name, sequences = max(_sequences(settings).items(), key=lambda x: x[1])
  each = _length(settings) * (2 * _width(settings, opened) * FLOAT + INT)
  found[f"{name} at a width of {_width(settings, opened)}"] = (
    sequences * each / rows
  )
  for name, count in _stored(settings).items():
    found[name] = count * _length(settings) * INT  # each process has them all
  return found


def parameters(settings: dict[str, Any]) -> int:
  """How many parameters the model of a config has, without a checkpoint."""
  data = settings["data"]
  ids = data.get("vocab_size", 1) + data.get("symbols", 0)
  model = {"vocab_size": ids}
  return _count(json.dumps(model | settings["model"]))


@functools.lru_cache(maxsize=64)
def _count(model: str) -> int:
  given = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in json.loads(model).items()
  }
  init = transformer.make(**given).init
  shapes = jax.eval_shape(init, jax.random.key(0))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def trains_all(settings: dict[str, Any]) -> str:
  """The name of the first stage that trains all parameters, or ""."""
  if _heard(settings):
    return "reader"
  if settings["pretrain"]["steps"]:
    return "base"
  for arm in overrides.running(settings["only"], settings["arms"]):
    lora = overrides.applied(settings, arm).get("lora") or {}
    if not lora.get("rank"):
      return arm
  return ""


def _heard(settings: dict[str, Any]) -> list[str]:
  """The arms that are trained and whose V weighs the reader."""
  names = overrides.running(settings["only"], settings["arms"])
  return overrides.hearing(settings, names)


def stored_dtype(settings: dict[str, Any]) -> np.dtype:
  """The dtype in which the base is kept.

  Raises:
    ValueError: bfloat16 for weights that are trained.
  """
  kept = (settings.get("lora") or {}).get("base", "float32")
  if kept != "float32" and (name := trains_all(settings)):
    raise ValueError(
      f"config.lora.base={kept!r} would round away small updates of trained "
      f"weights, and {name!r} trains all weights: leave it out with "
      "config.only, or set config.lora.base='float32'."
    )
  return jnp.dtype(kept)


def _sequences(settings) -> dict[str, int]:
  """How many sequences are in memory at once, by the settings."""
  rows = settings["batch_size"]
  found = {
    f"config.pretrain.batch_size={settings['pretrain']['batch_size']}": (
      settings["pretrain"]["batch_size"] * bool(settings["pretrain"]["steps"])
    ),
    f"config.eval.batch_size={settings['eval']['batch_size']}": (
      settings["eval"]["batch_size"]
    ),
  }
  if _heard(settings):
    own = settings["reader"]["batch_size"]
    found[f"config.reader.batch_size={own}"] = own
  for name, block in settings["patterns"].items():
    group = block.get("group", 1)
    asked = f"config.batch_size={rows}"
    if group > 1:
      asked += f" times config.patterns.{name}.group={group}"
    found[asked] = rows * group
  return found


def _stored(settings) -> dict[str, int]:
  """How many texts are kept, by the settings."""
  found = {
    f"config.data.{name}={settings['data'][name]}": settings["data"][name]
    for name in ("sentences", "tasks") if name in settings["data"]
  }  # fmt: skip
  for name, block in settings["patterns"].items():
    if count := block.get("buffer"):
      found[f"config.patterns.{name}.buffer={count}"] = count
  return found


def _length(settings) -> int:
  """Tokens of a text and its code, at least."""
  longest = settings["data"].get("max_tokens", settings["budget"])
  listed = settings["augment"]["inject"] + settings["augment"]["ban"]
  return longest + settings["budget"] + listed


def _width(settings, opened) -> int:
  own = settings["model"].get("width")
  return own or (opened.settings["width"] if opened else 1)


def _named(settings, block: str, *names: str) -> str:
  own = settings[block.removeprefix("config.")]
  return ", ".join(f"{block}.{x}={own[x]}" for x in names if x in own)
