"""Vocabularies: ids, their text, and where they may occur."""

import io
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import sentencepiece

from rsrc_jax.data import cached, readable
from rsrc_jax.output import files

# The first ids of every vocabulary, in this order.
SPECIALS = (
  "<pad>",
  "<end>",
  "<text>",
  "<C>",
  "<D>",
  "<V>",
  "<sep>",
  "<unk>",
)
PAD, END, TEXT, C, D, V, SEPARATOR, UNKNOWN = range(len(SPECIALS))
# The last ids of a vocabulary whose prompts can state constraints.
CONTROL_TAGS = ("<use>", "<avoid>", "<slot>", "<question>")

# SentencePiece uses this symbol for a space, and does not escape it in a text.
SPACE = "\u2581"

# The ids before and after the text that a role reads, by default.
TAGS = MappingProxyType(
  {
    "text": ((TEXT,), (SEPARATOR,)),
    "C": ((C,), (SEPARATOR,)),
    "D": ((D,), (SEPARATOR,)),
    "V": ((V,), (SEPARATOR,)),
  }
)

# BPE counts integers, on one thread, so equal sentences give equal bytes.
# Control symbols never match in a text, and a text is not normalised.
# from_sentencepiece adds the space before the first word.
SENTENCEPIECE = {
  "model_type": "bpe",
  "byte_fallback": True,
  "normalization_rule_name": "identity",
  "add_dummy_prefix": False,
  "remove_extra_whitespaces": False,
  "max_sentence_length": 1 << 20,
  "num_threads": 1,
  "pad_id": PAD,
  "pad_piece": SPECIALS[PAD],
  "bos_id": -1,
  "eos_id": END,
  "eos_piece": SPECIALS[END],
  "control_symbols": list(SPECIALS[TEXT:UNKNOWN]),
  "unk_id": UNKNOWN,
  "unk_piece": SPECIALS[UNKNOWN],
}


class Vocabulary(NamedTuple):
  """A tokenizer as functions and masks."""

  size: int  # V
  text: np.ndarray  # [V] bool: ids that a source may contain
  code: np.ndarray  # [V] bool: ids that a code may contain; no specials, bytes
  encode: Callable[[str], list[int]]
  decode: Callable[[list[int]], str]
  # A string for each id that can be read and told from others: see `readable`.
  pieces: Callable[[list[int]], list[str]]
  # use, avoid, slot, question -> its id, which is in neither mask, or the ids
  # of some words of text. {}: prompts cannot state constraints.
  control_tags: Mapping[str, int | tuple[int, ...]] = MappingProxyType({})
  end: int = END  # the end token of outputs
  # role -> the ids before and after its text
  tags: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = TAGS


def from_words(
  words: list[str], blanks: list[str], asks: bool = False
) -> Vocabulary:
  """One id for each word, and `blanks`: symbols that no text contains.

  asks: whether CONTROL_TAGS are added after all other ids, which keep theirs.

  Raises:
    ValueError: a word or a blank occurs twice.
  """
  names = [*SPECIALS, *words, *blanks, *(CONTROL_TAGS if asks else ())]
  if len(set(names)) != len(names):
    raise ValueError("words and blanks must all differ.")
  ids = np.arange(len(names))
  last = len(SPECIALS) + len(words) + len(blanks)
  special = (ids < len(SPECIALS)) | (ids >= last)
  # A text that spells a special has an unknown word.
  index = {name: i for i, name in enumerate(names) if not special[i]}

  def pieces(sequence: list[int]) -> list[str]:
    return [names[i] for i in sequence]

  return Vocabulary(
    size=len(names),
    text=~special & (ids < len(SPECIALS) + len(words)),
    code=~special,
    encode=lambda text: [index.get(w, UNKNOWN) for w in text.split()],
    decode=lambda sequence: " ".join(pieces(sequence)),
    pieces=pieces,
    control_tags=_tag_ids(len(names)) if asks else {},
  )


def _tag_ids(size: int) -> dict[str, int]:
  """The ids of CONTROL_TAGS, which are the last of `size` ids."""
  first = size - len(CONTROL_TAGS)
  return {name.strip("<>"): first + i for i, name in enumerate(CONTROL_TAGS)}


def from_sentencepiece(
  model_path: str, asks: bool = False, symbols: int = 0
) -> Vocabulary:
  """The Vocabulary of a model of train_sentencepiece.

  decode(encode(text)) == text for every text. encode adds a space before the
  first word, so that a word has the same ids there as elsewhere, and decode
  removes one. Characters that the model lacks, and its symbol for a space,
  become byte pieces.

  Args:
    model_path: file of the model.
    asks: whether CONTROL_TAGS are the last ids. The model does not have them:
      no text encodes to one, and decode drops them like specials.
    symbols: how many ids follow those of the model that codes may hold and no
      text: none encodes to one. decode writes their names, as `pieces` does.

  Returns:
    Vocabulary whose sources may hold all but the specials, the symbols and
    CONTROL_TAGS, and whose codes may hold neither specials, tags nor byte
    pieces.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not such a model.
  """
  path = Path(model_path)
  if not path.is_file():
    raise FileNotFoundError(
      f"model_path={str(path)!r} is not a file: make one with "
      "train_sentencepiece."
    )
  model = sentencepiece.SentencePieceProcessor()
  try:
    model.LoadFromSerializedProto(path.read_bytes())
    ids = range(model.vocab_size())
    names = [model.id_to_piece(i) for i in ids]
  except RuntimeError as error:
    raise ValueError(
      f"model_path={str(path)!r} is not a SentencePiece model, or a damaged "
      "one: remove it and train it again."
    ) from error
  normal = np.array(
    [i >= len(SPECIALS) and not model.is_byte(i) for i in ids], bool
  )
  space = [model.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]

  def encode(text: str) -> list[int]:
    # One call for each part, because a call with a list starts threads.
    first, *rest = f" {text}".split(SPACE)
    ids = model.encode(first) if text else []
    for part in rest:
      ids += space + model.encode(part)
    return ids

  def decode(sequence: list[int]) -> str:
    ids = [int(i) for i in sequence if i < len(normal) + symbols]
    parts = [
      model.decode([*run]) if of_text else "".join(names[i] for i in run)
      for of_text, run in itertools.groupby(ids, lambda i: i < len(normal))
    ]
    return "".join(parts).removeprefix(" ")

  probe = f" {SPACE} {''.join(SPECIALS)}\n\u00e9"
  if (
    tuple(names[: len(SPECIALS)]) != SPECIALS or decode(encode(probe)) != probe
  ):
    raise ValueError(
      f"model_path={str(path)!r} is a SentencePiece model of another kind: "
      f"ids 0 to {UNKNOWN} must be {' '.join(SPECIALS)}, and every text must "
      "come back as it was; make one with train_sentencepiece."
    )
  shown = [
    readable.text(x.replace(SPACE, " ")) if ok else x
    for x, ok in zip(names, normal, strict=True)
  ]
  blanks = _symbol_names(shown, symbols)
  names = [*shown, *blanks, *(CONTROL_TAGS if asks else ())]
  place, room = np.arange(len(names)), len(names) - len(normal)
  of_code = (place >= len(normal)) & (place < len(normal) + symbols)
  return Vocabulary(
    size=len(names),
    text=(place >= UNKNOWN) & (place < len(normal)),
    code=np.pad(normal, (0, room)) | of_code,
    encode=encode,
    decode=decode,
    pieces=lambda sequence: [names[i] for i in sequence],
    control_tags=_tag_ids(len(names)) if asks else {},
  )


def _symbol_names(pieces: list[str], count: int) -> list[str]:
  """Names of ids that no text contains, none of them that of a piece."""
  taken, found = {*pieces}, []
  for number in range(count):
    name = f"<s{number}>"
    while name in taken:
      name += "\u27e8code\u27e9"
    found.append(name)
  return found


def train_sentencepiece(
  sentences: list[str], *, vocab_size: int, path: str
) -> None:
  """Writes a BPE model: SPECIALS, 256 byte pieces, characters, merges.

  The file depends only on the sentences, their order, `vocab_size` and the
  version of sentencepiece. It is written atomically.

  Raises:
    ValueError: `vocab_size` is more, or less, than the sentences can fill.
  """
  files.write_bytes(path, _train(sentences, vocab_size))


def cached_sentencepiece(
  sentences: list[str], *, vocab_size: int, cache_dir: str, asks: bool = False
) -> tuple[str, bool]:
  """Trains a model on first use, and reads it from the cache after that.

  See `cached`: a cached file equals the result of training, and a damaged file
  is trained again.

  Args:
    sentences: of the training split only.
    vocab_size: V.
    cache_dir: a folder, made if missing.
    asks: leave room in V for CONTROL_TAGS. The model then equals that of a
      vocabulary smaller by their number.

  Returns:
    The path of the model, and whether it was trained now.

  Raises:
    ValueError: `cache_dir` can't be used, or see train_sentencepiece.
  """
  room = len(CONTROL_TAGS) if asks else 0
  pieces = vocab_size - room
  made_from = (sentences, pieces, SENTENCEPIECE, sentencepiece.__version__)
  key = cached.digest(json.dumps(made_from, sort_keys=True).encode())
  try:
    if (path := cached.find(cache_dir, key, "model")) is not None:
      return str(path), False
    model = _train(sentences, pieces, room)
    return str(cached.put(cache_dir, key, "model", model)), True
  except OSError as error:
    raise cached.unusable(cache_dir, error) from error


def _train(sentences: list[str], pieces: int, room: int = 0) -> bytes:
  """A serialised model. room: ids that follow it, for the messages."""
  if not sentences:
    raise ValueError("a tokenizer needs sentences to train on: got none.")
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([f" {sentence}" for sentence in sentences]),
      model_writer=model,
      vocab_size=max(pieces, len(SPECIALS)),  # fewer: the error has no remedy
      minloglevel=2,
      **SENTENCEPIECE,
    )
  except RuntimeError as error:
    most = re.search(r"value <= (\d+)", str(error))
    least = re.search(r"required_chars\. -?\d+ vs (\d+)", str(error))
    if most:
      bound = int(most[1]) + room
      remedy = f"the training split fills {bound} at most; lower it"
    elif least:
      bound = int(least[1]) + room
      remedy = f"specials, bytes and characters take {bound}; raise it"
    else:
      raise
    raise ValueError(
      f"config.data.vocab_size={pieces + room}: {remedy} or change the text."
    ) from error
  return model.getvalue()
