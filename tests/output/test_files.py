"""Files that are whole at every moment, whatever fails."""

import errno
import json
import os

import pytest

from rsrc_jax.output import files


def fails(number):
  def fail(*arguments, **settings):
    raise OSError(number, os.strerror(number))

  return fail


def names(folder):
  return sorted(x.name for x in folder.iterdir())


def test_a_file_is_replaced_and_leaves_nothing_else(tmp_path):
  path = tmp_path / "new" / "a.json"
  files.write_text(path, "old")
  files.write_json(path, {"Ω ⊕": [1, 2.5, None]})
  assert json.loads(path.read_text()) == {"Ω ⊕": [1, 2.5, None]}
  assert "Ω ⊕" in path.read_text() and path.read_text().endswith("}\n")
  assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, call):
  path = tmp_path / "a.json"
  files.write_text(path, "old")
  where = files.Path if call == "open" else files.os
  with monkeypatch.context() as patch:
    patch.setattr(where, call, fails(errno.ENOSPC))
    with pytest.raises(OSError) as found:
      files.write_text(path, "new")
  assert found.value.filename == str(path)
  assert path.read_text() == "old" and names(tmp_path) == ["a.json"]
  said = files.said(found.value)
  assert said == f"{path}: No space left on device: free some space"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_in_a_write_leaves_the_old_file(tmp_path, monkeypatch, call):
  path = tmp_path / "a.json"
  files.write_text(path, "old")

  def killed(*arguments):
    raise KeyboardInterrupt  # as little as a kill can be caught

  monkeypatch.setattr(files.os, call, killed)
  with pytest.raises(KeyboardInterrupt):
    files.write_text(path, "new")
  assert path.read_text() == "old"


def test_one_of_several_makes_a_file(tmp_path):
  path = tmp_path / "1.json"
  assert files.create(path, {"a": 1}) and not files.create(path, {"a": 2})
  assert json.loads(path.read_text()) == {"a": 1}
  assert names(tmp_path) == ["1.json"]


def test_a_line_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
  path, write = tmp_path / "a.jsonl", os.write
  files.append(path, {"n": 1})
  sizes = iter([3, None])

  def half(where, data):
    if (size := next(sizes)) is None:
      fails(errno.ENOSPC)()
    return write(where, data[:size])

  with monkeypatch.context() as patch:
    patch.setattr(files.os, "write", half)
    with pytest.raises(OSError, match="No space"):
      files.append(path, {"n": 2})
  assert path.read_text() == '{"n": 1}\n'
  files.append(path, {"n": 3})
  assert files.read_jsonl(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_without_room():
  with pytest.raises(OSError) as found:
    files.append("/dev/full", {"n": 1})
  assert found.value.errno == errno.ENOSPC
  assert found.value.filename == "/dev/full"


@pytest.mark.parametrize(
  "text, lines",
  [
    ('{"n": 1}\n{"n": 2}', 2),
    ('{"n": 1}\n{"n": ', 1),
    ("", 0),
    ('{"s": "\u2028"}\n', 1),
  ],
)
def test_a_last_line_that_was_being_written_is_left_out(tmp_path, text, lines):
  path = tmp_path / "a.jsonl"
  path.write_text(text)
  assert len(files.read_jsonl(path)) == lines


@pytest.mark.parametrize("line", ['{"n": ', "[1]", "NaN", "\x00\x00"])
def test_another_line_that_is_not_whole_is_named(tmp_path, line):
  path = tmp_path / "ledger.jsonl"
  path.write_text(f'{{"n": 1}}\n{line}\n{{"n": 3}}\n')
  with pytest.raises(ValueError) as refused:
    files.read_jsonl(path)
  said = str(refused.value)
  assert said.startswith(f"{path}, line 2 is not whole") and "sed -i 2d" in said


def test_a_json_file_that_is_not_whole_is_named(tmp_path):
  path = tmp_path / "summary.json"
  path.write_text('{"seed": 0, "arms": {"co')
  with pytest.raises(ValueError, match=r"y\.json is not whole.* Remove it\."):
    files.read_json(path, "Remove it.")
