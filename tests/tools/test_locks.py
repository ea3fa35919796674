"""The locks, setup.cfg and the launcher name the same Pythons and packages."""

import configparser
import functools
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("py*.lock"))
PYTHONS = [f"3.{x.stem.removeprefix('py3')}" for x in LOCKS]


@functools.cache
def setup():
  config = configparser.ConfigParser()
  config.read(ROOT / "setup.cfg")
  return config


def wanted():
  lines = setup()["options"]["install_requires"].splitlines()
  lines += setup()["options.extras_require"]["test"].splitlines()
  return [Requirement(x) for x in lines if x.strip()]


def pins(lock):
  found = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.M)
  return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda x: x.stem)
def test_a_lock_holds_what_is_wanted_within_its_bounds(lock):
  have = pins(lock)
  names = {canonicalize_name(x.name): x for x in wanted()}
  assert names.keys() <= have.keys()
  wrong = [
    f"{name} {have[name]}"
    for name, one in names.items()
    if not one.specifier.contains(have[name])
  ]
  assert wrong == []
  assert have["jax"] == have["jaxlib"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda x: x.stem)
def test_every_package_of_a_lock_has_a_hash(lock):
  blocks = re.split(r"^(?=[\w.-]+==)", lock.read_text(), flags=re.M)[1:]
  assert len(blocks) == len(pins(lock))
  assert [x.split()[0] for x in blocks if "--hash=sha256:" not in x] == []


def test_locks_classifiers_and_python_requires_agree():
  said = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
  bound = SpecifierSet(setup()["options"]["python_requires"])
  inside = [f"3.{x}" for x in range(100) if f"3.{x}" in bound]
  assert PYTHONS == said == inside


def test_pages_name_the_oldest_and_the_newest_python():
  ends = f"Python {PYTHONS[0]} to {PYTHONS[-1]}"
  for page in ("README.md", "docs/running.md"):
    assert ends in (ROOT / page).read_text(), page


def test_every_extra_that_a_message_or_page_names_is_there():
  files = [
    x
    for folder in ("rsrc_jax", "tools", "configs", "benchmarks", "docs")
    for x in (ROOT / folder).rglob("*")
    if x.suffix in (".py", ".md")
  ]
  named = {
    extra
    for x in files
    for extra in re.findall(r"rsrc-jax\[([\w,]+)\]", x.read_text())
  }
  assert {"arc", "reasoning", "energy", "cuda13"} <= named
  assert named <= set(setup()["options.extras_require"])
