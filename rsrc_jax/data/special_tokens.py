"""What the files of a checkpoint say of special tokens and of the end.

They are read in the order in which `transformers` 5 reads them. A token is
found by look-up; its spelling is never encoded.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = "tokenizer_config.json"
NAMES = (
  "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
  "mask_token",
)  # fmt: skip
# What a tokenizer_class has where tokenizer_config.json does not say.
DEFAULTS = {
  "LlamaTokenizer": {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
  },
  "GemmaTokenizer": {
    "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>",
    "pad_token": "<pad>", "mask_token": "<mask>",
  },
  "Qwen2Tokenizer": dict.fromkeys(
    ("eos_token", "unk_token", "pad_token"), "<|endoftext|>"
  ),
}  # fmt: skip
# Tokens that end a turn, if a file lists them among the ends.
TURNS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>")
# Tokens of turns, which no text may hold, whatever the files call them.
MARKERS = (
  *TURNS, "<|im_start|>", "<start_of_turn>", "<|start_header_id|>",
  "<|end_header_id|>",
)  # fmt: skip


class Declared(NamedTuple):
  """What the files beside a tokenizer say of its tokens."""

  names: dict[str, str]  # "bos_token" -> its spelling; absent: there is none
  files: dict[str, str]  # the same keys -> the file that says so, or a class
  special: frozenset[str]  # spellings of the tokens that are called special
  added: dict[int, dict[str, Any]]  # id -> what AddedToken takes


class End(NamedTuple):
  """An id that a file names as an end."""

  id: int
  file: str


def read(path: Path) -> dict[str, Any]:
  """The object in a JSON file; {} if there is no such file.

  Raises:
    ValueError: the file holds something else.
  """
  if not path.is_file():
    return {}
  try:
    found = json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path} can't be read as JSON: {error}") from None
  if not isinstance(found, dict):
    raise ValueError(f"{path} holds {type(found).__name__}, not an object.")
  return found


def declared(folder: Path) -> Declared:
  """Reads tokenizer_config.json and the files that older versions wrote.

  special_tokens_map.json and added_tokens.json count only where
  tokenizer_config.json has no added_tokens_decoder; the first of them then
  replaces what tokenizer_config.json names.

  Raises:
    ValueError: a file is damaged, or names something that is no token.
  """
  info = read(folder / CONFIG)
  kind = str(info.get("tokenizer_class") or "").removesuffix("Fast")
  sources = [
    (f"tokenizer_class {kind}", DEFAULTS.get(kind, {})),
    (CONFIG, info),
  ]
  old = "added_tokens_decoder" not in info
  if old:
    name = "special_tokens_map.json"
    sources.append((name, read(folder / name)))
  names, files, special = {}, {}, set()
  for file, said in sources:
    for key, value in said.items():
      if key in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(value, dict):  # tokens with names, as bos_token has one
          value = {k: _content(x, k, folder / file) for k, x in value.items()}
          names |= value
          files |= dict.fromkeys(value, file)
          value = value.values()
        special |= {_content(x, key, folder / file) for x in value or ()}
      elif key in NAMES or (key.endswith("_token") and isinstance(value, str)):
        names[key], files[key] = _content(value, key, folder / file), file
  names = {k: v for k, v in names.items() if v}
  special |= {*names.values()}
  added = _added(folder, special, None if old else info["added_tokens_decoder"])
  special |= {x["content"] for x in added.values() if x["special"]}
  return Declared(names, files, frozenset(special - {None}), added)


def _added(folder: Path, special: Collection[str], decoder: Any) -> dict:
  """id -> fields of AddedToken, of added_tokens_decoder or the older file."""
  if decoder is None:
    path = folder / "added_tokens.json"
    tokens = {i: {"content": x} for x, i in read(path).items()}
  else:
    path, tokens = folder / CONFIG, decoder
  try:
    found = {}
    for i, token in tokens.items():
      content = token["content"]
      flag = bool(token.get("special", content in special))
      found[int(i)] = {
        "content": content,
        "special": flag,
        "normalized": bool(token.get("normalized", not flag)),
        **{
          k: bool(token.get(k, False))
          for k in ("single_word", "lstrip", "rstrip")
        },
      }
  except (AttributeError, KeyError, TypeError, ValueError):
    raise ValueError(
      f"{path}: its added tokens are no ids with tokens."
    ) from None
  return found


def _content(token: Any, key: str, path: Path) -> str | None:
  if isinstance(token, dict):
    token = token.get("content", token)
  if token is None or isinstance(token, str):
    return token
  raise ValueError(f"{path}: {key}={token!r} is no token.")


def listed(folder: Path, key: str) -> list[tuple[str, Any]]:
  """(file, value) of each value of a key, in the order of `generate`.

  generation_config.json comes first. Without it, `generate` reads config.json
  and then its text_config. A value that is None names nothing.
  """
  config = read(folder / "config.json")
  inner = config.get("text_config")
  outer = [config, inner if isinstance(inner, dict) else {}]
  places = [("generation_config.json", read(folder / "generation_config.json"))]
  places += [("config.json", x) for x in outer]
  found = []
  for file, said in places:
    value = said.get(key)
    values = value if isinstance(value, list) else [value]
    found += [(file, x) for x in values if x is not None]
  return list(dict.fromkeys((f, _hashable(x)) for f, x in found))


def _hashable(value: Any) -> Any:
  return value if isinstance(value, int | float | str) else repr(value)


def why_not(
  value: Any, names: Mapping[int, str], special: Collection[int], size: int
) -> str:
  """Why a value that a file gives cannot be a special id; "" if it can.

  Args:
    value: of eos_token_id or bos_token_id.
    names: id -> its token.
    special: ids of special tokens.
    size: V, rows of the model.
  """
  if not isinstance(value, int) or isinstance(value, bool):
    return "is no id"
  if value not in names:
    return "is no id of the tokenizer"
  if value >= size:
    return f"({names[value]!r}) has no row in the model, which has {size}"
  if value not in special:
    return f"is {names[value]!r}, an ordinary piece"
  return ""


def pick_end(
  usable: list[End],
  skipped: list[str],
  turn: int | None,
  names: Mapping[int, str],
) -> tuple[int, list[str]]:
  """Of the ids that files name as ends, the one that ends an output.

  It is the end of a turn, or else the first: Gemma's eos ends a document, and
  its files list the end of a turn as well.

  Args:
    usable: in the order of the files; at least one.
    skipped: what is wrong with other ids.
    turn: the id with which the chat template ends a turn, if it is known.
    names: id -> its token.

  Returns:
    id, notes.
  """
  turns = [x for x in usable if x.id == turn] or [
    x for x in usable if names[x.id] in TURNS
  ]
  end, say = (turns or usable)[0], lambda i: f"{i} {names[i]!r}"
  taken = f"outputs end with {say(end.id)} of {end.file}"
  first, notes = usable[0], []
  if skipped:
    notes.append(f"{'; '.join(skipped)}: {taken}.")
  if end.file != first.file:
    notes.append(
      f"{first.file} names {say(first.id)} as the end, which ends no turn: "
      f"{taken}."
    )
  if turn not in (None, end.id):
    notes.append(
      f"the chat template ends a turn with {say(turn)}, which no file names as "
      f"an end: {taken}."
    )
  return end.id, notes
