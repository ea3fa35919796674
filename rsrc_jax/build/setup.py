"""From a config to a Setup: data, model functions, roles and mesh.

A block of the config is the keyword arguments of one make(). Names in the
config (`config.model_name`, `arm.pattern`) are file names. Layers below this
folder do not read the config.
"""

import importlib
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from rsrc_jax import types
from rsrc_jax.build import checks, overrides, sizes
from rsrc_jax.build.corpus import make_corpus
from rsrc_jax.data import own_draw, sources, tokenizer
from rsrc_jax.lm import keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import capability
from rsrc_jax.ops import token_stats, token_stats_pallas
from rsrc_jax.runtime import cache as caches
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Params, Policy


class Setup(NamedTuple):
  """The parts that all stages of a run share."""

  config: ml_collections.ConfigDict
  corpus: sources.Corpus
  policy: Policy
  roles: dict[str, Role]
  mesh: Mesh
  checkpoint: weights.Checkpoint | None = None  # at config.model.path
  reader: own_draw.Draw | None = None  # its sentences, if a V weighs it


def make_setup(
  config: ml_collections.ConfigDict,
  cache: str | Path | None = None,
  kept: str | Path | None = None,
  *,
  examine: bool = False,
  prepared: tuple[Mesh, weights.Checkpoint | None] | None = None,
) -> Setup:
  """Reads the data and builds the model's functions; nothing is compiled.

  Args:
    config: of the run.
    cache: a folder for trained tokenizers; by default the one that runs share.
    kept: the folder of the run's own copy of its text (corpus_log.folder).
    examine: take the copy even where config.data.path has files.
    prepared: of `prepare`, where the caller has checked the config already.

  Raises:
    ValueError: a setting cannot work; the message names it and a remedy.
  """
  cache = caches.tokenizers(Path.cwd()) if cache is None else cache
  mesh, opened = prepare(config) if prepared is None else prepared
  corpus = make_corpus(config, cache, opened, kept, examine)
  draw = None
  # Of any arm, run or not: arms of several runs have the same data.
  if "reader" in config and overrides.hearing(config.to_dict(), [*config.arms]):
    corpus, draw = own_draw.draw(corpus, config.reader.share, config.seed)
  for split in (corpus.valid, corpus.test, *(draw or ())):
    capability.check_disjoint(corpus.train, split)
  module = importlib.import_module(f"rsrc_jax.models.{config.model_name}")
  settings = {"vocab_size": corpus.vocab.size, **config.model}
  if opened is not None:
    settings = opened.settings | settings
    del settings["path"]
  elif settings["vocab_size"] < corpus.vocab.size:
    raise ValueError(
      f"config.model has vocab_size={settings['vocab_size']}, less than the "
      f"{corpus.vocab.size} ids of config.data: leave it out, or lower "
      "config.data.symbols or config.data.vocab_size."
    )
  policy = module.make(**settings)
  policy = policy._replace(head=_head(config, mesh) or policy.head)
  roles = make_roles(config, corpus)
  return Setup(config, corpus, policy, roles, mesh, opened, draw)


def prepare(
  config: ml_collections.ConfigDict,
) -> tuple[Mesh, weights.Checkpoint | None]:
  """All checks that need no data, in milliseconds.

  -> the mesh, and the pretrained model of config.model.path, not yet read

  Raises:
    ValueError: a setting cannot work; the message names it and a remedy.
  """
  checks.check(config)
  mesh = sharding.make_mesh(**config.mesh)
  checks.check_mesh(config, mesh)
  opened = None
  if config.model_name == "pretrained":
    opened = weights.open_folder(config.model.path)
  sizes.check(config.to_dict(), mesh, opened)
  return mesh, opened


def _head(config, mesh: Mesh):
  """The function for log-probabilities without stored logits; Policy.head.

  Raises:
    ValueError: this machine cannot run `config.head`.
  """
  name, cut = config.get("head") or "", mesh.shape["tensor"] > 1
  if name and cut:
    raise ValueError(
      f"config.head={name!r} needs the whole vocabulary on each device: set "
      "config.mesh.tensor=1, or config.head=''."
    )
  if name:
    try:
      return token_stats_pallas.head()
    except ValueError as error:
      raise ValueError(f"config.head={name!r}: {error}") from None
  if cut:
    return token_stats.over(mesh, rows=sharding.BATCH[0], ids="tensor")
  return None


def initial_params(setup: Setup) -> Params:
  """The parameters before any training: random, or those of a checkpoint."""
  if setup.checkpoint is None:
    init = lambda seed: setup.policy.init(keys.parameters(seed))
    seed = np.uint32(setup.config.seed)
    where = sharding.shardings(setup.mesh, jax.eval_shape(init, seed))
    return jax.jit(init, out_shardings=where)(seed)
  return weights.load(
    setup.checkpoint, setup.mesh,
    sizes.stored_dtype(setup.config.to_dict()),
  )  # fmt: skip


def make_info(corpus: sources.Corpus) -> types.SourceInfo:
  """The properties of the sources for patterns."""
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
  """The roles by name, from the config and the vocabulary.

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
  # Also where only an arm has budgets: without one the prompt has no such tag.
  sampling["length_tag"] = tags.get("slot")
  return {
    "text": role("text", longest + 1, vocab.text, section="V"),
    "C": role("C", config.budget, vocab.code)._replace(**sampling),
    "D": role("D", longest + 1, vocab.text),
    "V": role("V", longest + 1, vocab.text),
  }
