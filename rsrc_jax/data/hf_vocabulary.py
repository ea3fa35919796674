"""The tokenizer of a Hugging Face checkpoint, as a Vocabulary.

It reads tokenizer.json with `tokenizers`, or tokenizer.model with
SentencePiece. The words around a role's text come from the checkpoint's chat
template.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.data.tokenizer import Vocabulary

# The default instruction of each role; {} is the text.
INSTRUCTIONS = {
  "C": "Compress this text into a few tokens, from which you can restore it:"
       "\n\n{}",
  "D": "Restore the text that was compressed into these tokens:\n\n{}",
  "V": "Correct this text:\n\n{}",
  # After the text, before the ids of a constraint.
  "use": "\n\nUse these tokens:",
  "avoid": "\n\nDo not use these tokens:",
}  # fmt: skip
CONTROL_TAGS = ("use", "avoid")
# Tokens that end a turn, if generation_config.json lists them among the ends.
TURNS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>")
MARK = "\u241fTEXT\u241f"  # the place of the text in a rendered template


class Spelling(NamedTuple):
  """A tokenizer, independent of the library that reads it."""

  size: int
  encode: Callable[[str], list[int]]  # of a text, without special tokens
  encode_prompt: Callable[[str], list[int]]  # of a template, with specials
  decode: Callable[[list[int]], str]
  token: Callable[[int], str]
  special: frozenset[int]
  bytes: frozenset[int]  # pieces that stand for a single byte


def vocabulary(
  folder: str | Path, size: int, instructions: Mapping[str, str] = INSTRUCTIONS
) -> Vocabulary:
  """The Vocabulary of a checkpoint.

  Args:
    folder: has tokenizer.json or tokenizer.model, and tokenizer_config.json.
    size: V of the model; ids beyond the tokenizer's are in no text or code.
    instructions: role -> its instruction, where {} is the text; and "use" and
      "avoid" -> the words before a constraint's ids.

  Returns:
    Vocabulary whose sources may contain all ids but specials. Its codes may
    contain neither specials nor pieces of characters.

  Raises:
    ValueError: no tokenizer, one that does not fit the model, no end token, or
      a template or an instruction that loses the text.
  """
  folder = Path(folder)
  spelling = _spelling(folder)
  if spelling.size > size:
    raise ValueError(
      f"{folder}: the tokenizer has {spelling.size} ids and the model {size}: "
      "they are not of one checkpoint."
    )
  info = _json(folder / "tokenizer_config.json")
  names = {
    x: _content(info.get(f"{x}_token")) for x in ("bos", "eos", "pad", "unk")
  }
  tags = _tags(spelling, info.get("chat_template"), names, instructions, folder)
  end = _end(spelling, tags, names, folder)
  ids = np.arange(size)
  text = (ids < spelling.size) & ~np.isin(ids, [*spelling.special])
  whole = np.zeros(size, bool)
  for i in np.flatnonzero(text):
    # A piece of a character decodes to the replacement character.
    whole[i] = i not in spelling.bytes and (
      "\ufffd" not in spelling.decode([int(i)])
    )
  return Vocabulary(
    size=size,
    text=text,
    code=text & whole,
    encode=spelling.encode,
    decode=spelling.decode,
    pieces=lambda sequence: [spelling.token(int(i)) for i in sequence],
    control_tags={
      name: tuple(
        spelling.encode_prompt(instructions.get(name, INSTRUCTIONS[name]))
      )
      for name in CONTROL_TAGS
    },
    end=end,
    tags=tags,
  )


def _tags(spelling, template, names, instructions, folder):
  """role -> (ids before, ids after) its text."""
  first = _ids(spelling, names["bos"])
  found = {"text": (first or _ids(spelling, names["eos"]), ())}
  for role in ("C", "D", "V"):
    instruction = instructions.get(role, INSTRUCTIONS[role])
    if instruction.count("{}") != 1:
      raise ValueError(
        f"config.data.instructions.{role}={instruction!r} needs one {{}} "
        "in the place of the text."
      )
    text = instruction.replace("{}", MARK)
    if template:
      text = _render(template, text, names, folder)
    else:
      text = f"{names['bos'] or ''}{text}\n\n"
    before, mark, after = text.partition(MARK)
    if not mark:
      raise ValueError(f"{folder}: the chat template drops the user's message.")
    found[role] = tuple(
      tuple(spelling.encode_prompt(part)) for part in (before, after)
    )
  return found


def _render(template: str, message: str, names: dict, folder: Path) -> str:
  """The chat template around one message of a user, in a sandbox."""
  import jinja2
  from jinja2.sandbox import ImmutableSandboxedEnvironment

  def refuse(message):
    raise jinja2.TemplateError(message)

  environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True
  )
  # A template may print the date, which is fixed here: otherwise prompts would
  # change from day to day.
  environment.globals |= {
    "raise_exception": refuse,
    "strftime_now": lambda form: "26 Jul 2024",
  }
  try:
    return environment.from_string(template).render(
      messages=[{"role": "user", "content": message}],
      add_generation_prompt=True,
      **{f"{k}_token": v or "" for k, v in names.items()},
    )
  except jinja2.TemplateError as error:
    raise ValueError(f"{folder}: the chat template fails: {error}") from None


def _end(spelling, tags, names, folder: Path) -> int:
  """The id that ends an output: the end of a turn, or else eos.

  Gemma's eos ends a document. Its template ends a turn with another token,
  which generation_config.json lists.
  """
  ends = _json(folder / "generation_config.json").get("eos_token_id")
  ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
  turns = [i for i in ends if spelling.token(i) in TURNS]
  if turns:
    return turns[0]
  eos = _ids(spelling, names["eos"]) or tuple(ends)
  if not eos:
    raise ValueError(
      f"{folder}: tokenizer_config.json names no eos_token: no output "
      "could end."
    )
  return eos[0]


def _ids(spelling: Spelling, name: str | None) -> tuple[int, ...]:
  return tuple(spelling.encode_prompt(name)) if name else ()


def _content(token: Any) -> str | None:
  return token["content"] if isinstance(token, dict) else token


def _json(path: Path) -> dict[str, Any]:
  return json.loads(path.read_text()) if path.is_file() else {}


def _spelling(folder: Path) -> Spelling:
  if (folder / "tokenizer.json").is_file():
    return _from_json(folder / "tokenizer.json")
  if (folder / "tokenizer.model").is_file():
    return _from_model(folder / "tokenizer.model")
  raise ValueError(f"{folder} has neither tokenizer.json nor tokenizer.model.")


def _from_json(path: Path) -> Spelling:
  import tokenizers

  def opened(plain):
    try:
      made = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
      raise ValueError(f"{path} can't be read: {error}") from None
    made.no_padding()
    made.no_truncation()
    made.encode_special_tokens = plain
    return made

  # In a source, the characters "<|im_end|>" are plain text, not the token.
  plain, special_too = opened(True), opened(False)
  added = special_too.get_added_tokens_decoder()
  special = frozenset(i for i, token in added.items() if token.special)
  names = {i: token for token, i in special_too.get_vocab().items()}
  encode = lambda made: (
    lambda text: made.encode(text, add_special_tokens=False).ids
  )
  return Spelling(
    size=max(names) + 1,
    encode=encode(plain),
    encode_prompt=encode(special_too),
    decode=lambda ids: special_too.decode([int(i) for i in ids]),
    token=lambda i: names.get(i, ""),
    special=special,
    bytes=frozenset(i for i, name in names.items() if _is_byte(name)),
  )


def _from_model(path: Path) -> Spelling:
  import sentencepiece

  model = sentencepiece.SentencePieceProcessor()
  try:
    model.LoadFromSerializedProto(path.read_bytes())
  except RuntimeError:
    raise ValueError(f"{path} is no SentencePiece model.") from None
  ids = range(model.vocab_size())
  names = {model.id_to_piece(i): i for i in ids}
  special = frozenset(
    i for i in ids
    if model.is_control(i) or model.is_unknown(i) or model.is_unused(i)
  )  # fmt: skip
  marks = sorted((model.id_to_piece(i) for i in special), key=len, reverse=True)

  def encode_prompt(text):
    """Encodes control symbols separately, which SentencePiece never does."""
    for mark in marks:
      if mark and mark in text:
        before, _, after = text.partition(mark)
        return [*encode_prompt(before), names[mark], *encode_prompt(after)]
    return model.encode(text) if text else []

  return Spelling(
    size=len(ids),
    encode=lambda text: model.encode(text),
    encode_prompt=encode_prompt,
    decode=lambda ids: model.decode([int(i) for i in ids]),
    token=model.id_to_piece,
    special=special,
    bytes=frozenset(i for i in ids if model.is_byte(i)),
  )


def _is_byte(name: str) -> bool:
  return len(name) == 6 and name.startswith("<0x") and name.endswith(">")
