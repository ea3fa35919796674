"""The shipped text: which files it is of, its cache, and its record."""

import hashlib
import sys
from pathlib import Path

import pytest

from rsrc_jax.data import left_out, locked, scripts, sentences

ROOT = Path(__file__).resolve().parents[2]


def install(folder, name, files, version="1.0"):
  """A distribution as pip leaves it behind, without pip."""
  about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
  about.mkdir(parents=True)
  (about / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
  )
  for path, text in files.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
  rows = [*files, f"{about.name}/METADATA", f"{about.name}/RECORD"]
  (about / "RECORD").write_text("".join(f"{row},,\n" for row in rows))


def doc(words):
  return f'"""The {words} of this package are all in one place."""\n'


@pytest.fixture
def packages(tmp_path):
  folder = tmp_path / "packages"
  install(folder, "Bee.hive", {"hive/b.py": doc("bees"), "hive/a.py": doc("a")})
  install(
    folder,
    "ant",
    {
      "ant.py": doc("ants"),
      "tests/test_ant.py": doc("tests"),
      "../bin/ant.py": doc("scripts"),
      "bad.py": "print 'x'\n",
      "data.txt": "No.",
    },
  )
  install(folder, "extra", {"extra.py": doc("others")})
  return folder


def found_in(folder, names, left):
  versions = {}
  files = locked._package_files(names, folder, versions, left)
  return locked.Found([], files, versions, left)


def test_files_of_the_packages_that_are_named(packages):
  left = {}
  found = found_in(packages, ["bee-hive", "ant", "wasp"], left)
  assert [name for name, _ in found.packages] == [
    "ant/ant.py",
    "ant/bad.py",
    "bee-hive/hive/a.py",
    "bee-hive/hive/b.py",
  ]
  assert found.versions == {"ant": "1.0", "bee-hive": "1.0"}
  assert left_out.said(left_out.table(left)) == (
    "1 packages: of the lock, but not installed, such as 'wasp'"
  )
  stored = locked._stored(found)
  assert [kept for _, (kept,) in stored["cuts"]] == [
    f"The {x} of this package are all in one place."
    for x in ("ants", "a", "bees")
  ]
  (row,) = stored["left"]
  assert row.reason.startswith("not Python") and row.examples == ("ant/bad.py",)


def test_the_cache_is_of_the_files_and_is_made_again(
  packages, tmp_path, monkeypatch
):
  cache, made = tmp_path / "cache", []
  stored = locked._stored
  monkeypatch.setattr(locked, "_stored", lambda x: made.append(1) or stored(x))
  monkeypatch.setattr(
    locked, "_found", lambda _: found_in(packages, ["ant", "wasp"], {})
  )
  first = locked.read(locked.ALL, cache)
  assert locked.read(locked.ALL, cache) == first and len(made) == 1
  (file,) = cache.iterdir()
  file.write_bytes(file.read_bytes()[:-9])
  assert locked.read(locked.ALL, cache) == first and len(made) == 2
  (packages / "ant.py").write_text(doc("emmets"))
  other = locked.read(locked.ALL, cache)
  assert other.cuts != first.cuts and other.digests != first.digests
  reasons = [row.reason for row in left_out.table(other.left)]
  assert "of the lock, but not installed" in reasons
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="set RSRC_CACHE"):
    locked.read(locked.ALL, tmp_path / "file")


def test_notes_where_packages_are_not_those_on_record(monkeypatch):
  known = {"packages": {"ant": "1.0", "numpy": "1"}, "digest": "d"}
  monkeypatch.setattr(locked, "on_record", lambda: {locked._lock_name(): known})
  text = lambda versions, digest: locked.Shipped(
    [], {}, {"packages": locked._versions(versions)}, {"packages": digest}
  )
  assert locked.notes(text({"ant": "1.0"}, "d")) == []
  assert "are not those of py3" in locked.notes(text({"ant": "2.0"}, "d"))[0]
  assert "files of theirs" in locked.notes(text({"ant": "1.0"}, "e"))[0]


def test_words_for_the_shipped_texts():
  assert [*map(locked.word, ("stdlib", "", None))] == ["stdlib"] * 3
  assert locked.word("docstrings") == "docstrings"
  assert locked.word("./docstrings") == locked.word("book.txt") == ""


def test_every_lock_is_on_record():
  """After a lock has changed: python -m rsrc_jax.data.locked --lock=FILE."""
  records = locked.on_record()
  locks = sorted((ROOT / "requirements").glob("py*.lock"))
  assert sorted(records) == [lock.name for lock in locks]
  for lock in locks:
    sha256 = hashlib.sha256(lock.read_bytes()).hexdigest()
    assert records[lock.name]["lock"] == sha256
    assert locked.HELD_OUT in records[lock.name]["packages"]


@pytest.mark.slow
def test_the_text_of_this_environment_is_the_one_on_record(tmp_path):
  """Where it was installed by the lock. About 40 s of CPU."""
  name = f"py{sys.version_info[0]}{sys.version_info[1]}.lock"
  text = locked.read(locked.ALL, tmp_path)
  if "not those of" in "".join(locked.notes(text)):
    pytest.skip(f"the packages are not those of {name}")
  assert text.digests["packages"] == locked.on_record()[name]["digest"]
  assert locked.notes(text) == []
  different = {scripts.words(s) for cut in text.cuts for s in cut.sentences}
  assert len(different) > 70_000
  splits = sentences.split(text.cuts, heldout=0.1)
  assert len(splits.train) > 55_000 and min(map(len, splits)) > 5_000
