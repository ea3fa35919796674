"""Made-up text, and small corpora of it."""

import random

from rsrc_jax.data import locked, sentences, text

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


def shipped(monkeypatch, seed, **versions):
  """Puts another text in the place of the shipped ones."""
  docs = [
    sentences.Document("a.txt", part)
    for part in story(seed, 300, 5).split("\n\n")
  ]
  origin = {"text": locked.ALL, "python": "3.11.7", "packages": "aa"} | versions
  found = locked.Shipped(
    sentences.cut(docs), {("files", "why"): (1, ["x"])}, origin, {}
  )
  monkeypatch.setattr(locked, "read", lambda *_: found)
  monkeypatch.setattr(locked, "notes", lambda _: [])
  monkeypatch.setattr(locked, "origin", lambda _: origin)
