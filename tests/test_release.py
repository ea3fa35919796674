"""What a release says of itself: version, citation, licence, public CI."""

import re
from pathlib import Path

import yaml

import rsrc_jax

ROOT = Path(__file__).resolve().parents[1]


def test_the_citation_is_of_this_version_and_licence():
  said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  # The keys that version 1.2.0 of the format requires, and none without text.
  assert str(said["cff-version"]) == "1.2.0"
  assert {"message", "title", "authors"} <= set(said)
  assert all(said.values()) and all(x["name"] for x in said["authors"])
  assert str(said["version"]) == rsrc_jax.__version__
  [licence] = re.findall(
    r"^license = (.+)$", (ROOT / "setup.cfg").read_text(), re.M
  )
  assert said["license"] == licence
  assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_changelog_begins_with_this_version():
  text = (ROOT / "CHANGELOG.md").read_text()
  versions = re.findall(r"^## \[(.+?)\] - (.+)$", text, re.M)
  assert versions[0][0] == rsrc_jax.__version__
  for _, date in versions:
    assert date == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", date)
  kinds = set(re.findall(r"^### (.+)$", text, re.M))
  assert kinds <= {
    "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
  }  # fmt: skip


def test_public_ci_runs_the_tests_on_every_python_with_a_lock():
  workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
  [job] = workflow["jobs"].values()
  pythons = job["strategy"]["matrix"]["python"]
  assert all(isinstance(x, str) for x in pythons)  # 3.10 would be read as 3.1
  locks = (ROOT / "requirements").glob("py3*.lock")
  names = sorted(x.stem for x in locks)
  assert [f"py{x.replace('.', '')}" for x in pythons] == names
  runs = [x for x in job["steps"] if "run" in x]
  assert [x["run"] for x in runs] == ["./tools/test"]
  assert runs[0]["env"] == {"PYTHON": "python${{ matrix.python }}"}
  for step in job["steps"]:
    assert "run" in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def test_public_ci_keeps_the_compile_cache_of_the_tests():
  workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
  [steps] = [x["steps"] for x in workflow["jobs"].values()]
  [kept] = [x["with"] for x in steps if "actions/cache" in x.get("uses", "")]
  assert kept["path"] == ".cache"
  assert 'parent.parent / ".cache"' in (ROOT / "tests/conftest.py").read_text()
  assert kept["key"].startswith(kept["restore-keys"])
