"""tools/beside.py: what an image lacks, by lists and by wheels made here."""

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def beside():
  spec = importlib.util.spec_from_file_location(
    "beside", ROOT / "tools" / "beside.py"
  )
  module = importlib.util.module_from_spec(spec)
  before = list(sys.path)
  spec.loader.exec_module(module)
  sys.path[:] = before
  return module


# name: lines of requirements, as in a wheel.
NEEDS = {
  "grain": ["etils[epath]", "array-record>=0.8", "numpy", "tf; extra == 'x'"],
  "array-record": ["grain", "absl-py", "colorama; sys_platform == 'win32'"],
  "etils": ["zipp; extra == 'epath'", "simple; extra == 'epy'"],
  "zipp": [],
}
LINUX = {"sys_platform": "linux"}


def lacking(beside, wanted, have):
  asked = []

  def requires(names):
    asked.extend(names)
    return {x: NEEDS[x] for x in names}

  wanted = list(map(Requirement, wanted))
  return beside.lacking(wanted, have, requires, LINUX), asked


def test_what_is_missing_comes_with_what_it_needs_itself(beside):
  have = {"numpy": "2.0", "absl-py": "2.5", "jax": "0.11.2", "etils": "1"}
  found, asked = lacking(beside, ["grain>=0.2", "jax>=0.10"], have)
  # etils is there but for its extra; grain and array-record need each other.
  assert found == dict.fromkeys(["grain", "array-record", "zipp"], "missing")
  assert sorted(asked) == ["array-record", "etils", "grain", "zipp"]


def test_a_complete_image_is_asked_nothing(beside):
  assert lacking(beside, ["jax<0.12", "numpy"],
                 {"jax": "0.11.2", "numpy": "2.5"}) == ({}, [])  # fmt: skip


def test_what_is_out_of_bounds_is_told_and_jax_is_never_replaced(beside):
  found, _ = lacking(beside, ["zipp>=3"], {"zipp": "2.1"})
  assert found == {"zipp": "2.1 is there, not >=3"}
  assert beside.keep_own(found) == found
  with pytest.raises(ValueError, match=r"jax won't do \(0.9 is .*image"):
    beside.keep_own({"jax": "0.9 is there, not >=0.10.2"})


def test_pips_list_is_read_and_a_line_without_a_version_refused(beside):
  text = "# comment\nJinja2==3.1\nml_collections==1.1.0+local\n\n"
  assert beside.listing(text) == {
    "jinja2": "3.1", "ml-collections": "1.1.0+local",
  }  # fmt: skip
  with pytest.raises(ValueError, match="pip list --format=freeze"):
    beside.listing("jax @ file:///wheels/jax-0.11.2-py3-none-any.whl")


def test_a_lock_is_read_whole_and_a_python_without_one_refused(beside):
  lock = beside.pinned("3.12")
  text = (ROOT / "requirements" / "py312.lock").read_text()
  assert "".join(lock.values()) == text
  assert lock["ml-collections"].startswith("ml-collections==1.")
  with pytest.raises(ValueError, match=r"Python 3.9 has no lock: there are 3"):
    beside.pinned("3.9")


def wheel(folder, name, needs=()):
  """A wheel of one module that says its name; -> its line of a lock."""
  path = folder / f"{name}-1.0-py3-none-any.whl"
  info = f"{name}-1.0.dist-info"
  about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
  about += "".join(f"Requires-Dist: {x}\n" for x in needs)
  files = {
    f"{name}.py": f"said = {name!r}\n",
    f"{info}/METADATA": about,
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\n"
                     "Root-Is-Purelib: true\nTag: py3-none-any\n",
  }  # fmt: skip
  record = "".join(f"{x},,\n" for x in [*files, f"{info}/RECORD"])
  with zipfile.ZipFile(path, "w") as archive:
    for file, text in {**files, f"{info}/RECORD": record}.items():
      archive.writestr(file, text)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return f"{name}==1.0 --hash=sha256:{digest}\n"


@pytest.mark.slow
def test_carried_wheels_are_put_beside_without_a_network(
  beside, tmp_path, monkeypatch, capsys
):
  """Only those that this interpreter lacks, and only with the lock's hash."""
  folder = tmp_path / "wheels"
  folder.mkdir()
  lock = {
    "lacked": wheel(folder, "lacked", ["helper_of_it>=1", "numpy"]),
    "helper-of-it": wheel(folder, "helper_of_it"),
    "numpy": wheel(folder, "numpy"),
  }
  monkeypatch.setattr(beside, "BESIDE", tmp_path / ".beside")
  monkeypatch.setattr(beside, "pinned", lambda python: lock)
  wanted = [Requirement("lacked"), Requirement("numpy")]
  beside.install(folder, wanted)
  assert "2 packages" in capsys.readouterr().out
  found = {x.name for x in (tmp_path / ".beside").glob("*.py")}
  assert found == {"lacked.py", "helper_of_it.py"}
  beside.check(wanted, quiet=True)
  lock["lacked"] = lock["lacked"].replace("sha256:", "sha256:0")[:-2] + "\n"
  with pytest.raises(ValueError, match="pip install failed"):
    beside.install(folder, wanted)


def test_a_check_names_what_is_missing_in_one_line(beside, capsys):
  beside.check([Requirement("numpy")], quiet=False)
  assert "has all 1 requirements" in capsys.readouterr().out
  with pytest.raises(ValueError, match=r"lacks no-such-thing: .*running\.md"):
    beside.check([Requirement("no-such-thing>=1")], quiet=True)
