"""The corpus of real text: encoded, padded, and refused where it is small."""

import random

import numpy as np
import pytest
from helpers.stories import corpus, story

from rsrc_jax.data import left_out, sources, text
from rsrc_jax.metrics import capability


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
  monkeypatch.setattr(text.sentences, "others", lambda cuts, train: train[:9])
  few = corpus(tmp_path / "a.txt", tmp_path / "cache")
  assert few.ood is None


SYLLABLES = {
  "hindi": (["कि", "मा", "ती", "गौ", "रू", "ने", "पू", "शै"], " ", "।"),
  "chinese": (list("水山人木火土日月年春河門書車"), "", "。"),
}


@pytest.mark.parametrize("script", SYLLABLES)
def test_a_corpus_of_another_script(tmp_path, script, monkeypatch):
  """What it needs is said without a word of capitals."""
  monkeypatch.setattr(text, "_other_sentences", lambda _: [])
  parts, between, end = SYLLABLES[script]
  rng = random.Random(0)
  word = lambda: "".join(rng.choices(parts, k=2))
  lines = [between.join(word() for _ in range(7)) + end for _ in range(400)]
  file = tmp_path / "a.txt"
  file.write_text("\n\n".join(lines), encoding="utf-8")
  found = corpus(file, tmp_path, vocab_size=340)
  assert len(found.train.ids) + len(found.valid.ids) + len(found.test.ids) > 390
  ids = found.test.ids[0][found.test.mask[0]]
  assert found.vocab.decode(ids) in lines
  file.write_text("\n\n".join(x[:-1] for x in lines), encoding="utf-8")
  with pytest.raises(ValueError) as error:
    corpus(file, tmp_path)
  message = str(error.value)
  assert "capital" not in message and "\n" not in message
  assert "400 sentences: no full stop or the like at its end" in message


def test_what_is_left_out_is_in_the_corpus(tmp_path):
  (tmp_path / "a.txt").write_text(
    story(2, 300, 5) + "\n\nno capital begins it."
  )
  (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
  found = corpus(tmp_path, tmp_path / "cache", max_tokens=27)
  rows = {row.reason: row for row in found.left_out}
  assert rows["not UTF-8 text"].examples == ("b.txt",)
  assert rows["begins with a small letter"].examples == (
    "no capital begins it.",
  )
  assert rows["more than 27 tokens (config.data.max_tokens)"].count > 10
  assert found.left_out[0].kind == left_out.FILES
