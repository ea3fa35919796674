"""The tokenizer of a checkpoint, whichever library reads it.

tokenizer.json is read with `tokenizers`, tokenizer.model with SentencePiece.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from rsrc_jax.data.special_tokens import MARKERS, Declared


class Spelling(NamedTuple):
  """A tokenizer, independent of the library that reads it."""

  file: Path
  names: dict[int, str]  # of all ids, in the tokenizer's own spelling
  ids: dict[str, int]  # the other way round
  special: frozenset[int]
  bytes: frozenset[int]  # pieces that stand for a single byte
  encode: Callable[[str], list[int]]  # of a text: without special tokens
  # Of a part of a prompt, with them; and whether it is the first part.
  encode_prompt: Callable[[str, bool], list[int]]
  decode: Callable[[list[int]], str]  # leaves special tokens out


def read(folder: Path, declared: Declared, ends: Iterable[int]) -> Spelling:
  """Opens tokenizer.json, or else tokenizer.model.

  Args:
    folder: of the checkpoint.
    declared: what the other files say of its tokens.
    ends: ids that files name as ends. They are special, unless they are
      ordinary pieces.

  Raises:
    ValueError: neither file is there, one is damaged, or an added token does
      not get the id that a file gives it.
  """
  if (folder / "tokenizer.json").is_file():
    return _from_json(folder / "tokenizer.json", declared, {*ends})
  if (folder / "tokenizer.model").is_file():
    return _from_model(folder / "tokenizer.model", declared, {*ends})
  raise ValueError(f"{folder} has neither tokenizer.json nor tokenizer.model.")


def _from_json(path: Path, declared: Declared, ends: set[int]) -> Spelling:
  # In a source, the characters "<|im_end|>" are plain text, not the token.
  plain, special_too = (
    _opened(path, declared, ends, plain) for plain in (True, False)
  )
  names = {i: token for token, i in special_too.get_vocab().items()}
  added = special_too.get_added_tokens_decoder()
  # A letter is one, even if some file pads with it.
  special = frozenset(
    i for i, x in added.items() if x.special and len(x.content) > 1
  )
  encode = lambda made: (
    lambda text: made.encode(text, add_special_tokens=False).ids
  )
  unknown = declared.names.get("unk_token")
  return Spelling(
    file=path,
    names=names,
    ids={token: i for i, token in names.items()},
    special=special,
    bytes=frozenset(i for i, name in names.items() if _is_byte(name)),
    encode=_without(
      encode(plain), {i: names[i] for i in special if names[i] != unknown}
    ),
    encode_prompt=lambda text, first: encode(special_too)(text),
    decode=lambda ids: special_too.decode(
      [int(i) for i in ids if i not in special], skip_special_tokens=False
    ),
  )


def _opened(path: Path, declared: Declared, ends: set[int], plain: bool):
  """A tokenizers.Tokenizer that knows all added tokens and which are special.

  plain: whether spellings of special tokens are text to it.
  """
  import tokenizers

  try:
    made = tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:  # the library raises Exception itself
    raise ValueError(f"{path} can't be read: {error}") from None
  made.no_padding()
  made.no_truncation()
  tokens = sorted(declared.added.items())
  # All at once: each call builds the search for all added tokens anew.
  made.add_tokens([tokenizers.AddedToken(**fields) for _, fields in tokens])
  for i, fields in tokens:
    token = fields["content"]
    _check_id(path, token, made.token_to_id(token), i)
  added = made.get_added_tokens_decoder()
  spelled = {*declared.special, *MARKERS}
  spelled |= {added[i].content for i in ends if i in added}
  more = []
  for token in sorted(spelled):
    i = made.token_to_id(token)
    if i in added and not added[i].special:
      flags = {x: getattr(added[i], x) for x in FLAGS}
      more.append(tokenizers.AddedToken(token, special=True, **flags))
    elif i is not None and i not in added and token in declared.special:
      more.append(tokenizers.AddedToken(token, special=True, normalized=False))
  made.add_special_tokens(more)
  made.encode_special_tokens = plain
  return made


def _check_id(path: Path, token: str, got: int | None, said: int) -> None:
  if got != said:
    raise ValueError(
      f"{path} gives {token!r} the id {got}, and a file beside it says {said}: "
      "they are not of one tokenizer."
    )


FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def _without(encode: Callable, special: Mapping[int, str]) -> Callable:
  """`encode`, where a spelling of a special token is never that token.

  A model of words or a unigram model has special tokens among its pieces. The
  spelling is then cut in two.
  """

  def encode_text(text: str) -> list[int]:
    ids = encode(text)
    found = {special[i] for i in ids if i in special}
    if not found:
      return ids
    mark = max(found, key=len)
    before, there, after = text.partition(mark)
    if not there:
      raise ValueError(
        f"{text!r} holds the special token {mark!r} for its tokenizer: take it "
        "out of the text."
      )
    return encode_text(before + mark[0]) + encode_text(mark[1:] + after)

  return encode_text


def _from_model(path: Path, declared: Declared, ends: set[int]) -> Spelling:
  model, inner = _model(path, declared, ends)
  size = model.vocab_size()
  names = {i: model.id_to_piece(i) for i in range(size)}
  known = {*names.values()}
  more = {
    i: x for i, x in declared.added.items()
    if i not in names and x["content"] not in known
  }  # fmt: skip
  names |= {i: x["content"] for i, x in more.items()}
  special = {
    i for i in range(size)
    if model.is_control(i) or model.is_unknown(i) or model.is_unused(i)
  }  # fmt: skip
  special |= {i for i, x in more.items() if x["special"] or i in ends}
  ids = {name: i for i, name in names.items()}
  for i, x in declared.added.items():
    _check_id(path, x["content"], ids[x["content"]], i)

  def encoder(marks: Collection[str]) -> Callable[[str], list[int]]:
    """SentencePiece matches neither control symbols nor what it lacks."""
    marks = sorted(filter(None, marks), key=len, reverse=True)
    if not marks:
      return lambda text, first=True: model.encode(text) if text else []
    cut = re.compile(f"({'|'.join(map(re.escape, marks))})")

    def encode(text, first=True):
      found, reader = [], model if first else inner
      for n, part in enumerate(cut.split(text)):
        if part:
          found += [ids[part]] if n % 2 else reader.encode(part)
          reader = inner
      return found

    return encode

  def decode(sequence):
    """SentencePiece decodes its own pieces, and raises for all others."""
    text, run, reader = "", [], model
    for i in [*(int(i) for i in sequence if i not in special), None]:
      if i is not None and i < size:
        run.append(i)
        continue
      if run:
        text, run, reader = text + reader.decode(run), [], inner
      text += names.get(i, "")
    return text

  return Spelling(
    file=path,
    names=names,
    ids=ids,
    special=frozenset(special),
    bytes=frozenset(i for i in range(size) if model.is_byte(i)),
    encode=encoder([x["content"] for i, x in more.items() if i not in special]),
    encode_prompt=encoder([names[i] for i in {*special, *more}]),
    decode=decode,
  )


def _model(path: Path, declared: Declared, ends: set[int]):
  """The model, and as it reads text that is no beginning.

  Special tokens become control symbols. SentencePiece matches user-defined
  symbols in every text, such as Gemma's <end_of_turn>, and never control
  symbols.
  """
  import sentencepiece
  from sentencepiece import sentencepiece_model_pb2 as schema

  proto = schema.ModelProto()
  model, inner = (sentencepiece.SentencePieceProcessor() for _ in range(2))
  kind = schema.ModelProto.SentencePiece
  try:
    proto.ParseFromString(path.read_bytes())
    known = {x.piece for x in proto.pieces}
    for i, piece in enumerate(proto.pieces):
      token = declared.added.get(i)
      if token and token["content"] not in known:  # it fills a place left free
        piece.piece, piece.type = token["content"], kind.USER_DEFINED
      if piece.type == kind.USER_DEFINED and (
        piece.piece in declared.special or piece.piece in MARKERS or i in ends
      ):
        piece.type = kind.CONTROL
      if piece.type == kind.NORMAL and piece.piece in declared.special:
        piece.type = kind.CONTROL
    model.LoadFromSerializedProto(proto.SerializeToString())
    proto.normalizer_spec.add_dummy_prefix = False
    inner.LoadFromSerializedProto(proto.SerializeToString())
  except Exception:  # protobuf and SentencePiece have errors of their own
    raise ValueError(f"{path} is no SentencePiece model.") from None
  return model, inner


def _is_byte(name: str) -> bool:
  return len(name) == 6 and name.startswith("<0x") and name.endswith(">")
