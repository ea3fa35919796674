"""What a run depends on beside its settings: WORKDIR/inputs.json.

The file holds a digest of each thing that the run reads, by name. A file is
called after the setting that names it, such as config.data.path/a.txt. What the
run makes of files has names of its own: "corpus", "tokenizer", "puzzles". Who
goes on with the run, or reads it, compares.
"""

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rsrc_jax.data import locked, sentences
from rsrc_jax.runtime import contents, run_log

FILE = "inputs.json"
SHORT = 12  # digits of a digest in a message
# Settings whose files change no number of a run.
UNREAD = ("report.", "checkpoint.", "mesh.", "ledger.")
# Settings that name a file or a folder to read end in one of these.
PLACES = ("path", "folder", "checkpoint")
# What can have changed where no file has.
MADE = {
  "corpus": "the rows of its splits",
  "tokenizer": "its vocabulary and prompts",
  "puzzles": "its puzzles",
}


def of_settings(
  config: Any, files: Mapping[str, Iterable[Path]] | None = None
) -> dict[str, str]:
  """Digests of the files that settings name.

  These are Python files of the user's, whatever setting names them; the file or
  folder of each setting that ends in PLACES; the checkpoints of config.init.

  Args:
    config: of the run, a ConfigDict or its values as JSON has them.
    files: by the name of a setting, without `config.`: which files of its
      folder are read. By default those of `below`; for text, its suffixes.

  Returns:
    name -> digest. What does not exist is left to its reader to refuse.

  Raises:
    ValueError: a file can't be read; names it.
  """
  found, files = {}, dict(files or {})
  if not isinstance(config, dict):
    config = json.loads(config.to_json_best_effort())
  data = _block(config, "data")
  if data.get("source") == "text" and not locked.word(data.get("path") or ""):
    of_text = lambda x: x.suffix.lower() in sentences.SUFFIXES
    files.setdefault("data.path", filter(of_text, below(Path(data["path"]))))
  for name, value in _strings(config, ""):
    if name.startswith(UNREAD) or not value:
      continue
    if name == "data.path" and locked.word(value):
      continue  # no path, even where a folder is called so
    if name == "init":
      found |= _stages(value)
      continue
    path, is_place = os.path.expanduser(value), _is_place(name)
    # Path.is_file raises where a text is no name of a file.
    if os.path.isfile(path) and (is_place or _is_code(value)):
      found[f"config.{name}"] = contents.of_file(Path(path))
    elif os.path.isdir(path) and is_place:
      of = files.get(name)
      every = below(Path(path)) if of is None else sorted(of)
      found |= {
        f"config.{name}/{_inside(path, x)}": contents.of_file(x) for x in every
      }
  return found


def again(config: dict[str, Any], workdir: Path) -> dict[str, str]:
  """`of_settings` of a run that is not built, by what it has recorded.

  Of its weights these are the files that it has read. What it made of files is
  not made again.

  config: its config.json.
  """
  place = _block(config, "model").get("path") or ""
  prefix = "config.model.path/"
  names = [x for x in recorded(workdir) or {} if x.startswith(prefix)]
  paths = [Path(place).expanduser() / x[len(prefix) :] for x in names]
  return of_settings(config, {"model.path": [x for x in paths if x.is_file()]})


def below(folder: Path) -> list[Path]:
  """The regular files of a folder and its folders that are not hidden."""
  found = []
  for where, folders, names in os.walk(folder):
    folders[:] = sorted(x for x in folders if not x.startswith("."))
    for path in (Path(where, x) for x in sorted(names) if x[0] != "."):
      # A pipe would be read for ever; a broken link is nothing.
      if path.exists() and stat.S_ISREG(path.stat().st_mode):
        found.append(path)
  return found


def check(
  found: Mapping[str, str],
  workdir: Path,
  *,
  to: str = "go on with that run, or give another --workdir",
  quiet: bool = False,
) -> None:
  """Refuses a run that began with something else than what is there now.

  A setting of whose files nothing is found is passed over: its reader says it,
  or the run has a copy. So is what an older revision did not record.

  Args:
    found: name -> digest, of `of_settings` and others.
    workdir: the run directory.
    to: what the caller wants to do, for the message.
    quiet: without the note that a run of an older revision recorded nothing.

  Raises:
    ValueError: names what has changed, in one line.
  """
  if not (workdir / "config.json").exists():
    return
  if (stored := recorded(workdir)) is None:
    if not quiet:
      _note(
        f"{workdir} has no {FILE}: which text, tokenizer, weights and Python "
        "files it began with is not recorded and can't be compared."
      )
    return
  changed = differences(stored, found)
  if not changed:
    return
  name, (before, now) = next(iter(changed.items()))
  more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
  short = lambda x: x[:SHORT] if x else "none"
  raise ValueError(
    f"{workdir} holds a run on another {name} (digest {short(before)} then, "
    f"{short(now)} now){more}: {_remedy(changed)} to {to}."
  )


def differences(
  stored: Mapping[str, str], found: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
  """name -> digest before and now, files first."""
  fields = {_field(x) for x in stored} & {_field(x) for x in found}
  names = sorted({*stored, *found}, key=lambda x: (x in MADE, x))
  return {
    x: (stored.get(x), found.get(x))
    for x in names
    if _field(x) in fields and stored.get(x) != found.get(x)
  }


def recorded(workdir: Path) -> dict[str, str] | None:
  """The content of inputs.json; None where a run has none.

  Raises:
    ValueError: it is no JSON; names it.
  """
  path = workdir / FILE
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise ValueError(
      f"{path} is damaged ({error}): remove it to go on without a comparison."
    ) from None


def record(found: Mapping[str, str], workdir: Path, folder: Path) -> None:
  """Writes folder/inputs.json; what the run has recorded already stays.

  folder: the run directory, or where a process that does not own it writes.
  """
  stored = recorded(workdir) or {}
  run_log.write_json(folder / FILE, dict(sorted({**stored, **found}.items())))


def _remedy(changed: Mapping[str, Any]) -> str:
  if not set(changed) <= set(MADE):
    return "restore it"
  made = " and ".join(MADE[x] for x in changed)
  return (
    f"{made} changed, and no file that its settings name; use the packages and "
    "the revision of its environment.json"
  )


def _block(config: dict[str, Any], name: str) -> dict[str, Any]:
  found = config.get(name)
  return found if isinstance(found, dict) else {}


def _inside(folder: str, file: Path) -> str:
  """The name of a file in a folder, as text that every encoding can hold."""
  name = os.fsencode(os.path.relpath(file, folder))
  return name.decode("utf-8", "backslashreplace")


def _field(name: str) -> str:
  return name.split("/")[0]


def _is_place(name: str) -> bool:
  """Whether a setting names a file or folder: data.path, x.folders[0]."""
  return name.split("[")[0].removesuffix("s").endswith(PLACES)


def _is_code(value: str) -> bool:
  return value.endswith(".py") or os.sep in value


def _stages(init: str) -> dict[str, str]:
  """Digests of the last checkpoints of RUN:ARM, that of its base among them."""
  run, _, arm = init.rpartition(":")
  found = {}
  for name in ("base", arm):
    folder = Path(run, "checkpoints", name)
    steps = [x for x in folder.glob("[0-9]*") if x.name.isdigit()]
    if run and steps:
      last = max(steps, key=lambda x: int(x.name))
      every = sorted(map(contents.of_file, below(last)))
      found[f"config.init/{name}"] = contents.of_texts(every)
  return found


def _strings(tree: Any, name: str) -> Iterator[tuple[str, str]]:
  """(dotted name, text) of each text in a config, in lists as well."""
  if isinstance(tree, str):
    yield name, tree
  elif isinstance(tree, dict):
    for key, value in tree.items():
      yield from _strings(value, f"{name}.{key}" if name else key)
  elif isinstance(tree, list | tuple):
    for number, value in enumerate(tree):
      yield from _strings(value, f"{name}[{number}]")


def _note(text: str) -> None:
  print(f"note: {text}", file=sys.stderr)
