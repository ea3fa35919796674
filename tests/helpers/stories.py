"""Made-up text, and small corpora of it."""

import random

from rsrc_jax.data import text

WORDS = """river stone house garden winter letter window paper teacher market
  bridge morning forest silver candle engine harbour village mountain shadow"""


def story(seed, count, words=9):
  """`count` paragraphs of one random sentence each."""
  rng = random.Random(seed)
  sentences = (
    " ".join(rng.choices(WORDS.split(), k=words)).capitalize() + "."
    for _ in range(count)
  )
  return "\n\n".join(sentences)


def corpus(path, cache, **changes):
  """The corpus of a path, by default one of short sentences."""
  arguments = {
    "vocab_size": 320,
    "max_tokens": 40,
    "min_tokens": 4,
    "heldout": 0.2,
    "cache_dir": str(cache),
  }
  return text.make(path=str(path), **(arguments | changes))
