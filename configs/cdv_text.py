"""C -> D -> V on real text: docstring sentences, or your own files.

  ./tools/run --config=configs/cdv_text.py
  ./tools/run --config=configs/cdv_text.py --config.data.path=FILE_OR_FOLDER

Reads .txt, .md and .py (docstrings). The default is the docstrings of Python
and of the packages of the lock; --config.data.path=stdlib is Python's alone,
functions is short functions of both (docs/running.md).
The text and a SentencePiece model of its training split are made on first use
and kept in the cache.

Cost: 10 minutes on one busy core, measured with stdlib; as many steps on the
default's text, not timed.
Expect: not the effect of configs/tiny.py at this size: on stdlib the first four
tokens leave 66.9 bits of a sentence open, the code 85.6 (experiments/cdv_text).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside


def get_config() -> ml_collections.ConfigDict:
  """The default's settings on sentences of 8 to 24 tokens, four tokens a code.

  Nothing here was picked to favour an arm: what differs from configs/tiny.py is
  what the longer texts and the larger vocabulary ask for.
  """
  config = beside(__file__, "tiny")
  config.steps = 600
  config.batch_size = 16
  config.budget = 4
  config.data = {
    "source": "text",
    "path": "docstrings",  # or "stdlib", "functions", or a file or folder
    "vocab_size": 1_024,
    "symbols": 0,  # ids beside these for codes alone, which no text contains
    "max_tokens": 24,
    "min_tokens": 8,
    "heldout": 0.1,  # share of the documents, for each of two splits
  }
  config.pretrain.steps = 800
  config.pretrain.warmup_from = 400
  config.pretrain.batch_size = 64
  config.curriculum.steps, config.curriculum.explore_steps = 400, 600
  config.eval.rows = 256
  config.eval.batch_size = 256
  config.eval.test_rows = 2_048
  config.eval.budgets = (1, 2, 4)
  return config
