"""From a config to functions: the one place where the config's blocks meet.

A block is the keyword arguments of one make(); a file name is the registry
(`config.model_name`, `arm.pattern`). Nothing below this module sees a config.
"""

import importlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from rsrc_jax import types
from rsrc_jax.build import checks
from rsrc_jax.build.corpus import make_corpus
from rsrc_jax.data import sources, tokenizer
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import capability
from rsrc_jax.ops import token_stats
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Params, Policy


class Setup(NamedTuple):
  """What all stages of a run share."""

  config: ml_collections.ConfigDict
  corpus: sources.Corpus
  policy: Policy
  roles: dict[str, Role]
  mesh: Mesh
  checkpoint: weights.Checkpoint | None = None  # that config.model.path names


def make_setup(config: ml_collections.ConfigDict, cache: Path) -> Setup:
  """Reads the data and builds the model's functions; nothing is compiled.

  cache: a folder for trained tokenizers.

  Raises:
    ValueError: a setting that can't work, named, with the remedy.
  """
  mesh = sharding.make_mesh(**config.mesh)
  checks.check(config, mesh)
  opened = _opened(config)
  if opened is not None:
    weights.check_memory(opened, mesh, _copies(config), _stored(config))
  corpus = make_corpus(config, cache, opened)
  for split in (corpus.valid, corpus.test):
    capability.check_disjoint(corpus.train, split)
  module = importlib.import_module(f"rsrc_jax.models.{config.model_name}")
  settings = {"vocab_size": corpus.vocab.size, **config.model}
  if opened is not None:
    settings = opened.settings | settings
    del settings["path"]
  policy = module.make(**settings)
  if mesh.shape["tensor"] > 1:
    head = token_stats.over(mesh, rows=sharding.BATCH[0], ids="tensor")
    policy = policy._replace(head=head)
  return Setup(config, corpus, policy, make_roles(config, corpus), mesh, opened)


def initial_params(setup: Setup) -> Params:
  """The parameters before any training: drawn, or a checkpoint's."""
  if setup.checkpoint is None:
    params = setup.policy.init(jax.random.key(setup.config.seed))
    return sharding.put(params, sharding.shardings(setup.mesh, params))
  return weights.load(setup.checkpoint, setup.mesh, _stored(setup.config))


def _copies(config) -> int:
  """Of the parameters that a run holds at once, at the least.

  The frozen base; where an arm trains all of them, what it trains, its gradient
  and two moments.
  """
  return 5 if _trains_all(config) else 1


def _trains_all(config) -> str:
  """The first stage that trains more than adapters, or nothing."""
  names = [x for x in config.only.split(",") if x] or [*config.arms]
  blocks = {
    x: arm_config(config, x).get("lora") for x in names if x in config.arms
  }
  arms = [x for x, block in blocks.items() if not block or not block.rank]
  return "base" if config.pretrain.steps else next(iter(arms), "")


def _stored(config) -> np.dtype:
  """In what the weights of a checkpoint are kept.

  Raises:
    ValueError: less than float32, of weights that are trained.
  """
  kept = (config.get("lora") or {}).get("base", "float32")
  if kept not in ("float32", "bfloat16"):
    raise ValueError(
      f"config.lora.base={kept!r} is neither 'float32' nor 'bfloat16'."
    )
  if kept != "float32" and (name := _trains_all(config)):
    raise ValueError(
      f"config.lora.base={kept!r} loses the small steps of weights that are "
      f"trained, and {name!r} trains all of them: leave it out with "
      "config.only, or set config.lora.base='float32'."
    )
  return jnp.dtype(kept)


def _opened(config) -> weights.Checkpoint | None:
  if config.model_name != "pretrained":
    return None
  return weights.open_folder(config.model.path)


def arm_config(
  config: ml_collections.ConfigDict, arm: str
) -> ml_collections.ConfigDict:
  """The config as one arm sees it: its overrides applied."""
  mine = config.copy_and_resolve_references()
  mine.update_from_flattened_dict(dict(config.arms[arm].get("overrides", ())))
  return mine


def make_info(corpus: sources.Corpus) -> types.SourceInfo:
  """What a pattern is told of the sources."""
  if corpus.questions is None:
    train, own = corpus.train, 0
    if isinstance(train, types.QASources):
      own = train.answer.ids.shape[-1] + 1
    return types.SourceInfo(
      slots=corpus.slots, unknown=tokenizer.UNKNOWN, answer_tokens=own
    )
  ids = np.asarray([q for q, _ in corpus.questions], np.int32)
  return types.SourceInfo(
    corpus.facts, ids, corpus.answers, corpus.slots, tokenizer.UNKNOWN
  )


def make_roles(config, corpus) -> dict[str, Role]:
  """Every role by its name, as the config and the vocabulary say.

  Raises:
    ValueError: the budget is longer than the longest source.
  """
  vocab, longest = corpus.vocab, corpus.train.ids.shape[-1]
  if config.budget > longest:
    raise ValueError(
      f"config.budget={config.budget} is longer than the longest source, "
      f"{longest} tokens: there is nothing to compress. Lower it."
    )
  end = np.arange(vocab.size) == vocab.end

  def role(name, length, support, section=""):
    tag, separator = vocab.tags[name]
    return Role(
      tag, separator, vocab.end, length, support | end, name=name,
      section=section,
    )  # fmt: skip

  sampling = {"temperature": config.temperature, "top_p": config.top_p}
  tags = vocab.control_tags
  sampling |= {"use_tag": tags.get("use"), "avoid_tag": tags.get("avoid")}
  if config.budgets:
    sampling["length_tag"] = tags.get("slot")
  return {
    "text": role("text", longest + 1, vocab.text, section="V"),
    "C": role("C", config.budget, vocab.code)._replace(**sampling),
    "D": role("D", longest + 1, vocab.text),
    "V": role("V", longest + 1, vocab.text),
  }
