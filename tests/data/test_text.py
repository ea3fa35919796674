"""The corpus of real text: encoded, padded, and refused where it is small."""

import random

import numpy as np
import pytest

from rsrc_jax.data import sources, text
from rsrc_jax.metrics import capability

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
  arguments = {
    "vocab_size": 320,
    "max_tokens": 40,
    "min_tokens": 4,
    "heldout": 0.2,
    "cache_dir": str(cache),
  }
  return text.make(path=str(path), **(arguments | changes))


def test_corpus(tmp_path):
  (tmp_path / "a.txt").write_text(story(2, 300, 5))
  found = corpus(tmp_path / "a.txt", tmp_path / "cache")
  again = corpus(tmp_path / "a.txt", tmp_path / "cache")
  other = corpus(tmp_path / "a.txt", tmp_path / "cache", seed=1)
  assert found.digest == again.digest != other.digest
  assert (found.name, found.entropy_bits, found.slots) == ("text", None, None)
  assert found.vocab.size == 320
  whole = set(story(2, 300, 5).split("\n\n"))
  for split in (found.train, found.valid, found.test):
    assert split.ids.shape == split.mask.shape == (len(split.ids), 40)
    assert (split.ids.dtype, split.mask.dtype) == (np.int32, bool)
    assert len(split.ids) >= sources.LEAST
    lengths = split.mask.sum(1)
    assert lengths.min() >= 4
    np.testing.assert_array_equal(
      split.mask, np.arange(40) < lengths[:, None]
    )  # padded on the right
    assert (split.ids[~split.mask] == 0).all()
    assert found.vocab.text[split.ids[split.mask]].all()
    for ids, length in zip(split.ids, lengths, strict=True):
      assert found.vocab.decode(ids[:length]) in whole


@pytest.mark.parametrize(
  "count, changes, message",
  [
    (50, {}, r"gives \d+ sentences to train, \d+ to validate .* 32 of each"),
    (
      300,
      {"max_tokens": 4},
      r"needed: give more text, raise config.data.max_tokens=4",
    ),
    (
      300,
      {"min_tokens": 41},
      r"config.data.min_tokens=41 must be 1 to config.data.max_tokens",
    ),
    (
      300,
      {"min_tokens": 0},
      r"config.data.min_tokens=0 must be .* at least 1",
    ),
    (
      300,
      {"vocab_size": 5000},
      r"config.data.vocab_size=5000: .* at most; lower it",
    ),
  ],
)
def test_corpus_refuses(tmp_path, count, changes, message):
  (tmp_path / "a.txt").write_text(story(3, count, 5))
  with pytest.raises(ValueError, match=message) as error:
    corpus(tmp_path / "a.txt", tmp_path / "cache", **changes)
  assert "\n" not in str(error.value)


def test_another_kind_of_text_shares_nothing_with_training(
  tmp_path, monkeypatch
):
  (tmp_path / "a.txt").write_text(story(2, 300, 5))
  found = corpus(tmp_path / "a.txt", tmp_path / "cache", max_tokens=200)
  assert "numpy" in found.ood_name and len(found.ood.ids) > 100
  capability.check_disjoint(found.train, found.ood)
  # Where hardly any of it fits, there is none.
  monkeypatch.setattr(text.sentences, "others", lambda docs, train: train[:9])
  few = corpus(tmp_path / "a.txt", tmp_path / "cache")
  assert few.ood is None
