"""What a built run depends on, as digests: see runtime/inputs.py."""

import json

import numpy as np

from rsrc_jax.build.setup import Setup
from rsrc_jax.data.tokenizer import Vocabulary
from rsrc_jax.runtime import contents, inputs, weights


def of(setup: Setup) -> dict[str, str]:
  """name -> digest of the files that a run reads and of what it makes of them.

  Its corpus and its vocabulary are those that it uses, wherever they are from.

  Raises:
    ValueError: a file can't be read; names it.
  """
  config, files = setup.config, {}
  if setup.checkpoint is not None:
    files["model.path"] = weights.files_read(setup.checkpoint)
  return inputs.of_settings(config, files) | {
    "corpus": setup.corpus.digest,
    "tokenizer": of_vocabulary(setup.corpus.vocab),
  }


def of_vocabulary(vocab: Vocabulary) -> str:
  """A digest of the tokens, of where they may occur, and of the prompts."""
  used = np.flatnonzero(vocab.text | vocab.code).tolist()
  rest = (vocab.size, vocab.end, dict(vocab.tags), dict(vocab.control_tags))
  return contents.of_texts([
    vocab.text.tobytes(),
    vocab.code.tobytes(),
    json.dumps(rest, default=int, sort_keys=True),
    *vocab.pieces(used),
  ])  # fmt: skip
