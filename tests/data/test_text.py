"""The corpus of real text: encoded, padded, and refused where it is small."""

import random

import numpy as np
import pytest
from helpers.stories import corpus, story

from rsrc_jax.data import (
  left_out,
  locked,
  sentences,
  sources,
  text,
  tokenizer,
)
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


def test_symbols_are_ids_that_codes_have_and_texts_have_not(tmp_path):
  (tmp_path / "a.txt").write_text(story(2, 300, 5))
  plain = corpus(tmp_path / "a.txt", tmp_path / "cache", asks=True)
  found = corpus(tmp_path / "a.txt", tmp_path / "cache", asks=True, symbols=40)
  # Nothing else is another: the splits, the pieces, what may be where.
  assert found.digest == plain.digest and found.vocab.size == 320 + 40
  model = 320 - 4  # four tags follow the pieces, or the symbols
  np.testing.assert_array_equal(found.vocab.code[:model], plain.vocab.code[:-4])
  np.testing.assert_array_equal(found.vocab.text[:model], plain.vocab.text[:-4])
  own = np.arange(model, model + 40)
  assert found.vocab.code[own].all() and not found.vocab.text[own].any()
  assert not (found.vocab.code | found.vocab.text)[model + 40 :].any()
  assert min(found.vocab.control_tags.values()) == model + 40
  names = found.vocab.pieces(range(360))
  assert len({*names}) == 360 and names[model] == "<s0>"
  river = found.vocab.encode("river")
  assert found.vocab.decode([*river, model + 1, *river]) == "river<s1> river"
  assert found.vocab.decode([*river, 359, *river]) == "river river"  # a tag
  assert not np.isin(found.vocab.encode("<s0> <s1>"), own).any()


def test_names_of_symbols_are_no_pieces():
  assert tokenizer._symbol_names(["<s1>", "a"], 3) == [
    "<s0>", "<s1>⟨code⟩", "<s2>",
  ]  # fmt: skip


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"symbols": -1}, r"config.data.symbols=-1 must be .* 0 to 8388608"),
    ({"symbols": 2**24}, r"config.data.symbols=16777216 must be .* to 8388608"),
    (
      {"symbols": 8, "vocab": tokenizer.from_words(["a"], [])},
      r"config.data.symbols=8 must be 0 with a pretrained vocabulary",
    ),
  ],
)
def test_symbols_that_make_no_sense(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message) as error:
    corpus(tmp_path / "a.txt", tmp_path / "cache", **changes)
  assert "\n" not in str(error.value)


def test_few_sentences_are_named_and_one_line_is_refused(tmp_path):
  (tmp_path / "a.txt").write_text(story(2, 300, 5))
  (note,) = corpus(tmp_path / "a.txt", tmp_path / "cache").notes
  assert "sentences to train on, fewer than 1,000: " in note
  assert text.few(1_000, "a.txt") == ()
  (tmp_path / "b.txt").write_text("The river has a bridge of stone.\n\n" * 900)
  with pytest.raises(ValueError) as error:
    corpus(tmp_path / "b.txt", tmp_path / "cache")
  said = str(error.value)
  assert "899 sentences repeat one of 1, such as 'The river has" in said
  assert "\n" not in said


def test_functions_fill_a_small_vocabulary(tmp_path, monkeypatch):
  """Lines and indents come back as they were."""
  code = lambda n: (
    f"def f{n}(x, y{n}):\n if x > {n}:\n  return x + {n}\n return y{n}"
  )
  cuts = [
    sentences.Cut(f"{n}.py", tuple(code(100 * n + m) for m in range(9)))
    for n in range(60)
  ]
  origin = {"text": locked.FUNCTIONS}
  found = locked.Shipped(cuts, {}, origin, {})
  monkeypatch.setattr(locked, "read", lambda *_: found)
  monkeypatch.setattr(locked, "notes", lambda _: [])
  monkeypatch.setattr(text, "_other_functions", lambda _: [])
  made = corpus("functions", tmp_path, vocab_size=330, max_tokens=90)
  assert made.ood_name.startswith("functions of numpy")
  files, numbers = [], set()
  for split in (made.train, made.valid, made.test):
    rows = [
      made.vocab.decode(x[m].tolist())
      for x, m in zip(split.ids, split.mask, strict=True)
    ]
    numbers |= {int(x[5 : x.index("(")]) for x in rows}
    assert all(x == code(int(x[5 : x.index("(")])) for x in rows)
    files.append({int(x[5 : x.index("(")]) // 100 for x in rows})
  assert len(numbers) > 500
  a, b, c = files
  assert not (a & b or a & c or b & c)


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
