"""Vocabularies: nothing is lost, and no text can write a special."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rsrc_jax.data import tokenizer

SENTENCES = [
  "The quick brown fox jumps over the lazy dog.",
  "Return the name of the file, or None where there is none.",
  "A <C> in angle brackets is text, and so are <pad> and <unk>.",
] * 5
SIZE = 330


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  path = str(tmp_path_factory.mktemp("model") / "m.model")
  tokenizer.train_sentencepiece(SENTENCES, vocab_size=SIZE, path=path)
  return path


@pytest.fixture(scope="module")
def vocab(model):
  return tokenizer.from_sentencepiece(model)


def test_from_words():
  vocab = tokenizer.from_words(["red", "blue"], ["@"])
  assert vocab.encode("blue red green") == [9, 8, tokenizer.UNKNOWN]
  assert vocab.encode("<end> red") == [tokenizer.UNKNOWN, 8]
  assert vocab.decode([8, 9, 10]) == "red blue @"
  assert vocab.pieces([0, 8]) == ["<pad>", "red"]
  assert np.flatnonzero(vocab.text).tolist() == [8, 9]
  assert np.flatnonzero(vocab.code).tolist() == [8, 9, 10]
  with pytest.raises(ValueError, match="must all differ"):
    tokenizer.from_words(["red"], ["red"])


def test_characters_that_cannot_be_seen_are_shown(tmp_path):
  path = str(tmp_path / "some.model")
  texts = ["soft\u00adly", "soft\u00adness", "so\u200dft"]
  tokenizer.train_sentencepiece(texts, vocab_size=282, path=path)
  vocab = tokenizer.from_sentencepiece(path)
  assert vocab.decode(vocab.encode("so\u00adft")) == "so\u00adft"
  assert "<U+00AD>" in vocab.pieces(vocab.encode("so\u00adft"))
  assert all("".join(vocab.pieces([i])).isprintable() for i in range(282))


def test_words_with_asks():
  """8 specials, 2 words and a blank: the control tags are ids 11 to 14."""
  plain = tokenizer.from_words(["red", "blue"], ["@"])
  vocab = tokenizer.from_words(["red", "blue"], ["@"], asks=True)
  assert plain.control_tags == {} and plain.size == 11 and vocab.size == 15
  assert vocab.control_tags == {
    "use": 11,
    "avoid": 12,
    "slot": 13,
    "question": 14,
  }
  assert vocab.pieces(range(15)) == [
    *plain.pieces(range(11)),
    *tokenizer.CONTROL_TAGS,
  ]
  for mask, other in ((vocab.text, plain.text), (vocab.code, plain.code)):
    assert mask.tolist() == [*other, False, False, False, False]
  with pytest.raises(ValueError, match="must all differ"):
    tokenizer.from_words(["<use>"], [], asks=True)


def test_ids_and_masks(vocab):
  """Specials, then 256 byte pieces, then what was learnt."""
  assert vocab.size == SIZE
  assert tuple(vocab.pieces(range(8))) == tokenizer.SPECIALS
  assert vocab.pieces([8, 263]) == ["<0x00>", "<0xFF>"]
  assert np.flatnonzero(vocab.text).tolist() == list(range(7, SIZE))
  assert np.flatnonzero(vocab.code).tolist() == list(range(264, SIZE))


def test_first_word_is_like_others(vocab):
  first, *_, again = vocab.encode("the dog and the")
  assert first == again and vocab.pieces([first]) == ["▁the"]
  assert vocab.encode("") == [] and vocab.decode([]) == ""


@pytest.fixture(scope="module")
def asking(model):
  return tokenizer.from_sentencepiece(model, asks=True)


def test_asks_stand_behind_the_model(vocab, asking):
  ids = list(range(SIZE, SIZE + 4))
  assert asking.size == SIZE + 4 and asking.pieces(ids) == list(
    tokenizer.CONTROL_TAGS
  )
  assert list(asking.control_tags.values()) == ids and vocab.control_tags == {}
  for mask, other in ((asking.text, vocab.text), (asking.code, vocab.code)):
    assert mask.tolist() == [*other, False, False, False, False]
  assert asking.pieces(range(SIZE)) == vocab.pieces(range(SIZE))
  # They are left out, as the other control symbols are.
  dog = vocab.encode("the dog")
  assert asking.decode([ids[0], *dog, ids[3], tokenizer.V]) == "the dog"
  assert asking.decode(np.array([*dog, ids[1]], np.int32)) == "the dog"


def test_models_without_asks_are_what_they_were(tmp_path):
  """Golden: name and sha256 of sentencepiece 0.2.3's model, no tags."""
  if sentencepiece.__version__ != "0.2.3":
    pytest.skip("the bytes of a model are those of a version")
  path, _ = tokenizer.cached_sentencepiece(
    SENTENCES, vocab_size=SIZE, cache_dir=str(tmp_path)
  )
  assert Path(path).name == "2fd700c17acd6c17-83681fcce92a1e40.model"


def test_asks_take_their_room_from_the_model(tmp_path):
  """V = 330 with control tags is the model of 326 and four ids."""
  cached = lambda size, **asks: tokenizer.cached_sentencepiece(
    SENTENCES, vocab_size=size, cache_dir=str(tmp_path), **asks
  )
  path, trained = cached(SIZE, asks=True)
  assert trained and tokenizer.from_sentencepiece(path, True).size == SIZE
  assert cached(SIZE - 4) == (path, False)
  assert cached(SIZE)[0] != path
  # The bounds that the messages name are of V.
  for size in (270, 1000):
    with pytest.raises(ValueError, match=f"data.vocab_size={size}: ") as error:
      cached(size, asks=True)
    bound = int(re.search(r"(?:take|fills) (\d+)", str(error.value))[1])
    found = tokenizer.from_sentencepiece(cached(bound, asks=True)[0], True)
    assert found.size == bound


specials = st.sampled_from(
  (*tokenizer.SPECIALS, "<use>", "<0x41>", "▁", " ", "\0", "é")
)


@settings(deadline=None)
@given(st.text() | st.lists(specials | st.text(max_size=3)).map("".join))
@example("▁a ▁ b")
@example("<C><D>")
@example("<use><avoid> <slot> <question>")
def test_any_text_comes_back_and_holds_no_special(vocab, asking, text):
  ids = vocab.encode(text)
  assert asking.encode(text) == ids and asking.decode(ids) == text
  assert vocab.decode(ids) == text
  assert vocab.decode(np.array(ids, np.int32)) == text
  assert all(i > tokenizer.UNKNOWN for i in ids)
  assert vocab.text[ids].all()


@settings(deadline=None)
@given(st.lists(st.integers(0, SIZE - 1)))
def test_any_ids_decode(vocab, ids):
  """What a model samples is a string, if not always one that encodes back."""
  vocab.decode(ids).encode()
  assert len(vocab.pieces(ids)) == len(ids)
  assert all(vocab.pieces(ids))


def test_training_is_deterministic_and_silent(model, tmp_path, capfd):
  path = tmp_path / "new" / "m.model"
  tokenizer.train_sentencepiece(SENTENCES, vocab_size=SIZE, path=str(path))
  assert path.read_bytes() == Path(model).read_bytes()
  assert [file.name for file in path.parent.iterdir()] == ["m.model"]
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [-1, 0, 8, 280, 1000])
def test_vocabulary_that_the_text_cannot_fill(tmp_path, capfd, size):
  path = str(tmp_path / "m.model")
  with pytest.raises(ValueError, match=f"data.vocab_size={size}: ") as error:
    tokenizer.train_sentencepiece(SENTENCES, vocab_size=size, path=path)
  message = str(error.value)
  assert "\n" not in message and "trainer_interface" not in message
  assert not list(tmp_path.iterdir())
  assert capfd.readouterr() == ("", "")
  # The size that the message names is one that works.
  bound = int(re.search(r"(?:take|fills) (\d+)", message)[1])
  tokenizer.train_sentencepiece(SENTENCES, vocab_size=bound, path=path)


def test_nothing_to_train_on(tmp_path):
  with pytest.raises(ValueError, match="needs sentences to train on"):
    tokenizer.train_sentencepiece([], vocab_size=300, path=str(tmp_path / "m"))


def test_cache_trains_once(tmp_path, monkeypatch):
  cache = str(tmp_path / "deep" / "cache")
  cached = tokenizer.cached_sentencepiece
  path, trained = cached(SENTENCES, vocab_size=SIZE, cache_dir=cache)
  assert trained and Path(path).parent == Path(cache)
  with monkeypatch.context() as m:
    m.setattr(tokenizer, "_train", None)  # a call would raise
    again = cached(SENTENCES, vocab_size=SIZE, cache_dir=cache)
  assert again == (path, False)
  for sentences, size in ((SENTENCES, SIZE - 1), (SENTENCES[1:], SIZE)):
    other, trained = cached(sentences, vocab_size=size, cache_dir=cache)
    assert trained and other != path
  assert len(list(Path(cache).iterdir())) == 3  # and no temporary files


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_damaged_cache_is_trained_again(tmp_path, damage):
  cached = tokenizer.cached_sentencepiece
  arguments = {"vocab_size": SIZE, "cache_dir": str(tmp_path)}
  path, _ = cached(SENTENCES, **arguments)
  good = Path(path).read_bytes()
  middle = len(good) // 2
  bad = {
    "empty": b"",
    "cut": good[:middle],
    "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
  }[damage]
  Path(path).write_bytes(bad)
  assert cached(SENTENCES, **arguments) == (path, True)
  assert Path(path).read_bytes() == good
  assert cached(SENTENCES, **arguments) == (path, False)


def test_cache_that_cannot_be_written(tmp_path):
  file = tmp_path / "file"
  file.write_text("in the way")
  with pytest.raises(
    ValueError, match=r"cache_dir=.* can't be used.*RSRC_CACHE"
  ):
    tokenizer.cached_sentencepiece(
      SENTENCES, vocab_size=SIZE, cache_dir=str(file)
    )


def test_model_that_is_missing_damaged_or_foreign(tmp_path):
  path = tmp_path / "m.model"
  with pytest.raises(FileNotFoundError, match=r"model_path=.* is not a file"):
    tokenizer.from_sentencepiece(str(path))
  for content in (b"", b"not a model", b"\n"):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model_path=.*train it again"):
      tokenizer.from_sentencepiece(str(path))
  foreign = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(SENTENCES),
    model_writer=foreign,
    vocab_size=50,
    minloglevel=2,
  )
  path.write_bytes(foreign.getvalue())
  with pytest.raises(ValueError, match="of another kind: ids 0 to 7 must be"):
    tokenizer.from_sentencepiece(str(path))
