"""A run's own copy of its text: sentences and tokenizer, in its directory.

With it a run goes on and is examined where Python, packages or config.data.path
are others or gone.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rsrc_jax.data import left_out, sentences
from rsrc_jax.output import files

SENTENCES, TOKENIZER = "sentences.json.gz", "tokenizer.model"
MOST = 256 << 20  # bytes of sentences: no copy is made of a larger text


class Text(NamedTuple):
  """Sentences of real text, before they are encoded."""

  asked: Mapping[str, Any]  # path, seed and heldout, which chose them
  splits: sentences.Splits
  ood: list[str]  # of another kind of text
  ood_name: str
  left: tuple[left_out.LeftOut, ...]
  origin: Mapping[str, str]  # of a shipped text: locked.Shipped
  tokenizer: Mapping[str, Any] | None = None  # asked for, and its sha256
  folder: Path | None = None  # of the copy that this was read from


def read(folder: Path, asked: Mapping[str, Any]) -> Text | None:
  """The copy in a folder; None where there is none of the text that is asked.

  Raises:
    ValueError: it is damaged.
  """
  path = folder / SENTENCES
  if not path.is_file():
    return None
  try:
    stored = json.loads(gzip.decompress(path.read_bytes()))
    if (model := stored["tokenizer"]) is not None:
      model = {"sha256": model["sha256"], **model}
    text = Text(
      asked=dict(stored["asked"]),
      splits=sentences.Splits(*map(_sentences, stored["splits"])),
      ood=_sentences(stored["ood"]),
      ood_name=stored["ood_name"],
      left=left_out.table(left_out.tally_of(stored["left"])),
      origin=dict(stored["origin"]),
      tokenizer=model,
      folder=folder,
    )
  except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as e:
    raise _damaged(path, e) from e
  return text if text.asked == dict(asked) else None


def tokenizer(text: Text, asked: Mapping[str, Any]) -> str:
  """The path of the copy's SentencePiece model; "" if it has none as asked.

  Raises:
    ValueError: it is damaged or gone.
  """
  if text.folder is None or text.tokenizer is None:
    return ""
  sha256 = text.tokenizer["sha256"]
  if dict(text.tokenizer) != {**asked, "sha256": sha256}:
    return ""
  path = text.folder / TOKENIZER
  try:
    data = path.read_bytes()
  except OSError as error:
    raise _damaged(path, error) from error
  if hashlib.sha256(data).hexdigest() != sha256:
    raise _damaged(path, "other bytes than when it was written")
  return str(path)


def write(
  folder: Path,
  text: Text,
  model: str | None = None,
  asked: Mapping[str, Any] | None = None,
) -> str:
  """Writes the copy, unless the folder has it. -> a note, or ""

  Equal texts give equal bytes (with one version of zlib).

  Args:
    folder: of the copy, in the run directory.
    text: what the run reads.
    model: the path of its SentencePiece model, and
    asked: what was asked of it.

  Raises:
    ValueError: the folder has a copy of other text, or a damaged one.
  """
  if text.folder is not None:
    return ""
  size = sum(len(x) for part in (*text.splits, text.ood) for x in part)
  if size > MOST:
    return (
      f"the run keeps no copy of its text, which has {size >> 20} million "
      "characters: it needs config.data.path to go on and to be examined."
    )
  if (before := read(folder, text.asked)) is not None:
    if before.splits != text.splits:
      raise ValueError(
        f"{folder.parent} holds a run on other text than "
        f"config.data.path={text.asked['path']!r} has now: give another "
        "--workdir, or put the text back as it was."
      )
    return ""
  stored = text._asdict() | {"tokenizer": None}
  del stored["folder"]
  if model is not None:
    data = Path(model).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    stored["tokenizer"] = {**asked, "sha256": sha256}
    files.write_bytes(folder / TOKENIZER, data)
  packed = json.dumps(stored, ensure_ascii=False, sort_keys=True).encode()
  files.write_bytes(folder / SENTENCES, gzip.compress(packed, 6, mtime=0))
  return ""


def _sentences(values: Any) -> list[str]:
  if not all(isinstance(x, str) for x in values):
    raise TypeError("not a list of sentences")
  return list(values)


def _damaged(path: Path, why: Any) -> ValueError:
  reason = str(why).partition("\n")[0]
  return ValueError(
    f"{path} is damaged ({reason}): put it back, or remove its folder to read "
    "config.data.path again."
  )
