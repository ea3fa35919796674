"""What a run began with: digests of files, kept, compared and named."""

import json
import os

import ml_collections
import pytest

from rsrc_jax.runtime import contents, inputs


@pytest.fixture
def reads(tmp_path, monkeypatch):
  """The paths that were read, with a cache folder of their own."""
  found, real = [], contents._hash
  monkeypatch.setenv("RSRC_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(contents, "SETTLED", -1.0)

  def counted(path):
    found.append(path.name)
    return real(path)

  monkeypatch.setattr(contents, "_hash", counted)
  return found


def test_a_large_file_is_read_once(tmp_path, reads, monkeypatch):
  large, small = tmp_path / "large", tmp_path / "small"
  large.write_bytes(b"a" * contents.KEPT_FROM)
  small.write_bytes(b"a")
  first = [contents.of_file(x) for x in (large, small)]
  assert [contents.of_file(x) for x in (large, small)] == first
  assert reads == ["large", "small", "small"]
  # A file is the same where its content is.
  (tmp_path / "copy").write_bytes(large.read_bytes())
  assert contents.of_file(tmp_path / "copy") == first[0] != first[1]
  reads.clear()
  os.utime(large, (1, 1))
  assert contents.of_file(large) == first[0] and reads == ["large"]
  with large.open("r+b") as file:
    file.write(b"b")
  os.utime(large, (1, 1))  # its size and its time are as before
  assert contents.of_file(large) != first[0] and reads == ["large"] * 2
  large.unlink()
  large.write_bytes(b"a" * contents.KEPT_FROM)  # another inode
  assert contents.of_file(large) == first[0] and reads == ["large"] * 3
  entry = next((tmp_path / "cache" / "digests").glob("*.json"))
  entry.write_text("{}")
  assert contents.of_file(large) == first[0]
  # What has just changed may change again in the same tick of the clock.
  monkeypatch.setattr(contents, "SETTLED", 60.0)
  large.write_bytes(b"c" * contents.KEPT_FROM)
  reads.clear()
  assert contents.of_file(large) == contents.of_file(large)
  assert reads == ["large"] * 2


def test_without_a_cache_folder_files_are_read(tmp_path, reads, monkeypatch):
  (tmp_path / "cache").write_text("no folder")
  (tmp_path / "large").write_bytes(b"a" * contents.KEPT_FROM)
  for _ in range(2):
    contents.of_file(tmp_path / "large")
  assert reads == ["large"] * 2


def test_the_kept_digests_are_bounded(tmp_path, reads, monkeypatch):
  monkeypatch.setattr(contents, "KEPT", 2)
  monkeypatch.setattr(contents, "KEPT_FROM", 1)
  for name in "abcde":
    (tmp_path / name).write_text(name)
    contents.of_file(tmp_path / name)
  assert len(list((tmp_path / "cache" / "digests").iterdir())) == 3


def test_what_is_no_file_is_refused_in_a_line(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for path, said in ((tmp_path / "pipe", "regular"), (tmp_path / "no", "read")):
    with pytest.raises(ValueError, match=said) as error:
      contents.of_file(path)
    assert str(path) in str(error.value)


@pytest.fixture
def config(tmp_path):
  """A config that names files of each kind."""
  for name in ("text/a.txt", "text/more/b.md", "text/.hidden", "p.py", "s.py",
               "runs/1/checkpoints/base/2/x", "runs/1/checkpoints/code/4/x",
               "runs/1/checkpoints/code/8/x", "reader/w"):  # fmt: skip
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(name)
  at = lambda name: str(tmp_path / name)
  return ml_collections.ConfigDict({
    "seed": 0, "loop": "rsrc_jax.train",
    "init": f"{at('runs/1')}:code",
    "data": {"path": at("text"), "source": "text", "instructions": "a/b\n"},
    "arms": {"code": {"pattern": at("p.py"), "write": "free"},
             "more": {"overrides": (("x", at("p.py")),)}},
    "verifier": {"reader_checkpoint": at("reader"), "gain": 1.0},
    "report": {"sections": (at("s.py"),)},
    "model": {"path": at("not there"), "width": 3},
  })  # fmt: skip


NAMES = {
  "config.init/base", "config.init/code", "config.data.path/a.txt",
  "config.data.path/more/b.md", "config.arms.code.pattern",
  "config.arms.more.overrides[0][1]", "config.verifier.reader_checkpoint/w",
}  # fmt: skip


def test_files_are_found_by_the_settings_that_name_them(config, tmp_path):
  os.mkfifo(tmp_path / "text" / "pipe.txt")
  (tmp_path / "text" / "link.txt").symlink_to(tmp_path / "nothing")
  found = inputs.of_settings(config)
  assert set(found) == NAMES
  own = {"data.path": [tmp_path / "text" / "a.txt"]}
  found = inputs.of_settings(config, own)
  assert set(found) == NAMES - {"config.data.path/more/b.md"}


def test_a_name_of_any_bytes_can_be_stored(config, tmp_path):
  path = os.path.join(os.fsencode(tmp_path / "text"), b"caf\xe9.txt")
  with open(path, "w") as file:
    file.write("x")
  inputs.record(inputs.of_settings(config), tmp_path, tmp_path)
  assert "config.data.path/caf\\xe9.txt" in inputs.recorded(tmp_path)


def begun(config, workdir, **more):
  """A run directory as it is when a run has begun."""
  workdir.mkdir()
  (workdir / "config.json").write_text("{}")
  found = inputs.of_settings(config) | more
  inputs.record(found, workdir, workdir)
  return found


def refusal(found, workdir, **settings):
  with pytest.raises(ValueError) as error:
    inputs.check(found, workdir, **settings)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  "file, name",
  [
    ("text/a.txt", "config.data.path/a.txt"),
    ("p.py", "config.arms.code.pattern"),
    ("reader/w", "config.verifier.reader_checkpoint/w"),
    ("runs/1/checkpoints/code/8/x", "config.init/code"),
  ],
)
def test_a_changed_file_is_named(config, tmp_path, file, name):
  workdir = tmp_path / "run"
  before = begun(config, workdir)
  inputs.check(inputs.of_settings(config), workdir)  # nothing has changed
  os.utime(tmp_path / file, (1, 1))
  inputs.check(inputs.of_settings(config), workdir)  # nor by a touch
  (tmp_path / file).write_text("another")
  after = inputs.of_settings(config)
  said = refusal(after, workdir)
  assert f"{workdir} holds a run on another {name} (digest" in said
  assert f"{before[name][:12]} then, {after[name][:12]} now)" in said
  assert "restore it to go on with that run, or give another --work" in said
  assert "to read that run." in refusal(after, workdir, to="read that run")


def test_files_that_came_or_went_are_named(config, tmp_path):
  workdir = tmp_path / "run"
  begun(config, workdir)
  (tmp_path / "text" / "c.txt").write_text("c")
  said = refusal(inputs.of_settings(config), workdir)
  assert "config.data.path/c.txt (digest none then, " in said
  (tmp_path / "text" / "a.txt").unlink()
  said = refusal(inputs.of_settings(config), workdir)
  assert "config.data.path/a.txt" in said and "none now) and 1 more" in said


def test_a_folder_that_is_gone_is_left_to_its_reader(config, tmp_path):
  """The run may have a copy of its text, of which the corpus is compared."""
  workdir = tmp_path / "run"
  before = begun(config, workdir, corpus="c" * 64)
  (tmp_path / "text").rename(tmp_path / "moved")
  now = inputs.of_settings(config) | {"corpus": "c" * 64}
  inputs.check(now, workdir)
  inputs.record(now, workdir, workdir)
  assert inputs.recorded(workdir) == before  # it does not forget
  said = refusal(now | {"corpus": "d" * 64}, workdir)
  assert "another corpus (digest cccccccccccc then, dddddddddddd now)" in said
  assert "no file that its settings name" in said
  assert "environment.json to go on" in said


def test_a_run_that_recorded_nothing_is_noted(config, tmp_path, capsys):
  found = inputs.of_settings(config)
  inputs.check(found, tmp_path)  # no run
  assert capsys.readouterr().err == ""
  (tmp_path / "config.json").write_text("{}")
  inputs.check(found, tmp_path)
  said = capsys.readouterr().err
  assert said.startswith("note: ") and said.count("\n") == 1
  assert "has no inputs.json" in said
  inputs.check(found, tmp_path, quiet=True)
  assert capsys.readouterr().err == ""
  (tmp_path / "inputs.json").write_text(json.dumps(found)[:9])
  assert "inputs.json is damaged" in refusal(found, tmp_path)
