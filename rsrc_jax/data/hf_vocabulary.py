"""The tokenizer of a Hugging Face checkpoint, as a Vocabulary.

The words around a role's text come from the checkpoint's chat template. What
the files say is compared with `transformers` by tests/golden/tokenizers.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rsrc_jax.data import chat_template, hf_tokenizer, readable, special_tokens
from rsrc_jax.data.chat_template import MARK
from rsrc_jax.data.hf_tokenizer import Spelling
from rsrc_jax.data.special_tokens import Declared, End
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


def vocabulary(
  folder: str | Path, size: int, instructions: Mapping[str, str] = INSTRUCTIONS
) -> Vocabulary:
  """The Vocabulary of a checkpoint.

  Warns of what a user would want to know: an id that is taken from another
  file than usual, a template that is missing or gets a system turn.

  Args:
    folder: has tokenizer.json or tokenizer.model, and the files beside it.
    size: V, the rows of the model. Ids beyond the tokenizer's, and special ids
      beyond the model's, are in no text, code or prompt.
    instructions: role -> its instruction, where {} is the text; and "use" and
      "avoid" -> the words before a constraint's ids. A special token that one
      spells is that token.

  Returns:
    Vocabulary whose sources may contain all ids but specials. Its codes may
    contain neither specials nor pieces of characters.

  Raises:
    ValueError: no tokenizer, one that does not fit the model, a special token
      that it lacks, no end token, or a template or an instruction that loses
      the text.
  """
  folder, told = Path(folder), {**INSTRUCTIONS, **instructions}
  _check(told)
  spelling, declared, listed = _read(folder, size)
  template, notes = chat_template.find(folder)
  try:
    encode = _encoder(spelling, declared, size)
    bos, more = _bos(spelling, declared, folder, size)
    tags, said = _tags(encode, template, declared, told, bos)
    turn = _turn(spelling, declared, template, tags["C"][0])
    end, also = _end(spelling, declared, listed, turn, size)
    eos, _ = _named(spelling, declared, "eos_token", size)
    first = next(x for x in (bos, eos, end) if x is not None)
    control_tags = {x: tuple(encode(told[x], x)) for x in CONTROL_TAGS}
  except ValueError as error:
    raise ValueError(f"{folder}: {error}") from None
  notes += more + also + said + _unsaid(template, spelling, told)
  for note in dict.fromkeys(notes):
    warnings.warn(f"{folder}: {note}", stacklevel=2)
  shown, whole = readable.names(
    {i: x for i, x in spelling.names.items() if i < size},
    spelling.special | spelling.bytes,
    spelling.decode,
    size,
  )
  ids = np.arange(size)
  text = np.isin(ids, [*spelling.names]) & ~np.isin(ids, [*spelling.special])
  return Vocabulary(
    size=size,
    text=text,
    code=text & np.isin(ids, [*whole]),
    encode=spelling.encode,
    decode=spelling.decode,
    pieces=lambda sequence: [shown[i] for i in sequence],
    control_tags=control_tags,
    end=end,
    tags={"text": ((first,), ()), **tags},
  )


def _check(told: Mapping[str, str]) -> None:
  """Raises ValueError for an instruction without its text, or of no role."""
  for name, instruction in told.items():
    setting = f"config.data.instructions.{name}={instruction!r}"
    if name not in INSTRUCTIONS:
      raise ValueError(f"{setting}: give {', '.join(INSTRUCTIONS)}.")
    if not isinstance(instruction, str):
      raise ValueError(f"{setting}: give a string.")
    if name not in CONTROL_TAGS and instruction.count("{}") != 1:
      raise ValueError(f"{setting} needs one {{}} in the place of the text.")


def _read(folder: Path, size: int) -> tuple[Spelling, Declared, list]:
  """The tokenizer, what is said of its tokens, and values of eos_token_id."""
  declared = special_tokens.declared(folder)
  listed = special_tokens.listed(folder, "eos_token_id")
  ends = [i for _, i in listed if isinstance(i, int)]
  spelling = hf_tokenizer.read(folder, declared, ends)
  beyond = sorted(
    i for i in spelling.names if i >= size and i not in spelling.special
  )
  if beyond:
    raise ValueError(
      f"{folder}: the tokenizer has {max(spelling.names) + 1} ids and the "
      f"model {size}: they are not of one checkpoint. Id {beyond[0]}, an "
      f"ordinary piece, is {spelling.names[beyond[0]]!r}."
    )
  # A class names tokens that a tokenizer need not have.
  absent = {
    k for k, x in declared.names.items()
    if x not in spelling.ids and declared.files[k].startswith("tokenizer_class")
  }  # fmt: skip
  lost = {declared.names[k] for k in absent}
  names = {k: x for k, x in declared.names.items() if k not in absent}
  special = declared.special - (lost - {*names.values()})
  return spelling, declared._replace(names=names, special=special), listed


def _turn(spelling, declared, template, before) -> int | None:
  """The id with which a chat template ends a turn, if it does so.

  before: the ids before a user's text. What begins a turn there ends none.
  """
  if not template:
    return None
  behind = chat_template.behind_answer(template, declared.names).lstrip()
  first = spelling.encode_prompt(behind, False)[:1]
  begins = [i for i in before if i in spelling.special][-1:]
  return next(
    (i for i in first if i in spelling.special and first != begins), None
  )


def _end(spelling, declared, listed, turn, size) -> tuple[int, list[str]]:
  """The id that ends an output, and notes."""
  names, usable, skipped = spelling.names, [], []
  for file, value in listed:
    reason = special_tokens.why_not(value, names, spelling.special, size)
    if not reason:
      usable.append(End(value, file))
    elif not usable or usable[0].file == file:
      skipped.append(f"eos_token_id={value!r} of {file} {reason}")
  found, reason = _named(spelling, declared, "eos_token", size)
  if found is not None:
    usable.append(End(found, declared.files["eos_token"]))
  elif reason:
    skipped.append(reason)
  if not usable:
    skipped = skipped or [f"{special_tokens.CONFIG} names no eos_token"]
    raise ValueError(
      f"{'; '.join(skipped)}: no output could end. Give the id of a special "
      "token as eos_token_id in generation_config.json."
    )
  return special_tokens.pick_end(usable, skipped, turn, names)


def _named(spelling, declared, key: str, size: int) -> tuple[int | None, str]:
  """(the id of a named token, "") or (None, why there is none)."""
  token = declared.names.get(key)
  if token is None:
    return None, ""
  found, said = spelling.ids.get(token), f"{key} {token!r} of "
  said += declared.files[key]
  if found is None:
    return None, f"{said} is not in {spelling.file.name}"
  if found >= size:
    return None, f"{said} has the id {found}, and the model {size} rows"
  return found, ""


def _bos(spelling, declared, folder, size) -> tuple[int | None, list[str]]:
  """The id of the bos token, if there is one, and notes."""
  bos, reason = _named(spelling, declared, "bos_token", size)
  if bos is not None or not reason:
    return bos, []
  for file, value in special_tokens.listed(folder, "bos_token_id"):
    if not special_tokens.why_not(
      value, spelling.names, spelling.special, size
    ):
      name = spelling.names[value]
      return value, [f"{reason}: {value} {name!r} of {file} is taken."]
  raise ValueError(
    f"{reason}: name a token that is there, or give its id as bos_token_id in "
    "generation_config.json."
  )


def _encoder(spelling: Spelling, declared: Declared, size: int):
  """encode(a prompt or a part of one, what it is of), with special tokens."""
  lacking = sorted(declared.special - spelling.ids.keys())

  def encode(text: str, of: str, first: bool = False) -> list[int]:
    lost = [x for x in lacking if x in text]
    ids = spelling.encode_prompt(text, first)
    lost += [spelling.names[i] for i in ids if i >= size]
    if lost:
      raise ValueError(
        f"the prompt of {of} has the special token {lost[0]!r}, which "
        + (
          f"has no row in the model ({size} rows)."
          if lost[0] in spelling.ids
          else f"is not in {spelling.file.name}."
        )
      )
    return ids

  return encode


def _tags(encode, template, declared, told, bos):
  """-> role -> (ids before, ids after) its text; notes."""
  tags, notes = {}, []
  for role in ("C", "D", "V"):
    text = told[role].replace("{}", MARK)
    if template:
      before, after, more = chat_template.around(template, text, declared.names)
      begin, notes = [], notes + more
    else:
      before, _, after = text.partition(MARK)
      after += "\n\n"
      begin = [] if bos is None else [bos]
    before = [*begin, *encode(before, role, not begin)]
    tags[role] = tuple(before), tuple(encode(after, role))
  return tags, notes


def _unsaid(template, spelling: Spelling, told: Mapping[str, str]) -> list[str]:
  """Notes on what may not be what the user thinks."""
  turns, notes = [x for x in special_tokens.TURNS if x in spelling.ids], []
  if turns and not template:
    notes.append(
      f"there is no chat template, though the tokenizer has {turns[0]!r}: "
      "roles read their instruction without turns. For a model of "
      f"conversations, add its {chat_template.JINJA}."
    )
  for role, text in told.items():
    spelled = [spelling.names[i] for i in spelling.special]
    notes += [
      f"config.data.instructions.{role} has the special token {x!r}: it is "
      "that token, not its letters."
      for x in sorted(spelled)
      if x and x in text
    ]
  return notes
