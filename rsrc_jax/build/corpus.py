"""From config.data to a Corpus; config.data.source names the kind of data."""

import inspect
from pathlib import Path

import ml_collections
import numpy as np

from rsrc_jax.data import hf_vocabulary, sources
from rsrc_jax.runtime import named, weights


def make_corpus(
  config: ml_collections.ConfigDict,
  cache_dir: str | Path,
  checkpoint: weights.Checkpoint | None = None,
  kept: str | Path | None = None,
  examine: bool = False,
) -> sources.Corpus:
  """Reads or makes the data of a run.

  config.data.source is the name of a file in rsrc_jax/data, or the path of a
  .py file, with make(*, seed, cache_dir, **block) -> Corpus. The rest of
  config.data is the block.

  Args:
    config: of the run.
    cache_dir: a folder for trained tokenizers.
    checkpoint: a pretrained model, whose vocabulary is used. The kind of data
      must have a parameter `vocab`.
    kept: the folder of the run's own copy of its text, and
    examine: whether it comes before the files of config.data.path; for kinds
      of data with a parameter `kept`, see data.text.

  Raises:
    ValueError: there is no such kind, it has no such setting, or see its
      make().
  """
  settings = config.data.to_dict()
  source = settings.pop("source")
  make = named.find("data", source, "make", "config.data.source")
  if checkpoint is not None:
    settings["vocab"] = hf_vocabulary.vocabulary(
      checkpoint.folder,
      checkpoint.settings["vocab_size"],
      settings.pop("instructions", None) or hf_vocabulary.INSTRUCTIONS,
    )
  settings |= {"seed": config.seed, "cache_dir": cache_dir}
  if "kept" in inspect.signature(make).parameters:
    settings |= {"kept": kept, "examine": examine}
  named.check_arguments(make, settings, "config.data", source)
  corpus = make(**settings)
  return corpus._replace(notes=(*corpus.notes, *_long(config.budget, corpus)))


def _long(budget: int, corpus: sources.Corpus) -> tuple[str, ...]:
  """The warning of a budget that half of the sources do not fill."""
  median = float(np.median(corpus.train.mask.sum(-1)))
  if budget <= median:
    return ()
  return (
    f"config.budget={budget} is longer than half of the sources (their median "
    f"has {median:g} tokens): for these a copy of the source is a code, and "
    "nothing has to be compressed. Lower it, or raise config.data.min_tokens.",
  )
