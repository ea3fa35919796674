"""What made a run, and the refusal to go on with another."""

import importlib.metadata
import json
import platform
import subprocess

import jax
import ml_collections
import pytest

import rsrc_jax
from rsrc_jax.runtime import provenance


def config(**changes):
  found = ml_collections.ConfigDict(
    {
      "seed": 0,
      "budget": 3,
      "log_every": 20,
      "mesh": {"data": 1, "fsdp": 1},
      "checkpoint": {"every": 200},
      "loss": {"weights": {"C": 16.0, "D": 1.0}, "clip_low": 0.2},
      "eval": {"budgets": (1, 2, 3)},
      "only": "",
    }
  )
  found.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  return found


def read(path):
  return json.loads(path.read_text())


def test_record(tmp_path):
  provenance.record(config(), tmp_path)
  assert read(tmp_path / "config.json") == json.loads(config().to_json())
  assert read(tmp_path / "environment.json") == provenance.environment()


def test_the_same_config_goes_on(tmp_path):
  provenance.record(config(), tmp_path)
  before = read(tmp_path / "config.json")
  provenance.record(config(), tmp_path)
  assert read(tmp_path / "config.json") == before


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"seed": 1}, "config.seed=0, and now it is 1: give another --workdir"),
    ({"loss__clip_low": 0.3}, "config.loss.clip_low=0.2, and now it is 0.3"),
    (
      {"loss__weights__C": 1.0},
      r"config.loss.weights.C=16.0, and now it is 1.0",
    ),
    (
      {"eval__budgets": (1, 2)},
      r"config.eval.budgets=\[1, 2, 3\], and now it is \[1, 2\]",
    ),
    ({"only": "code"}, "config.only='', and now it is 'code'"),
  ],
)
def test_another_config_is_refused(tmp_path, changes, message):
  provenance.record(config(), tmp_path)
  before = read(tmp_path / "config.json")
  with pytest.raises(ValueError, match=message) as error:
    provenance.check(config(**changes), tmp_path)
  assert str(tmp_path) in str(error.value)
  assert read(tmp_path / "config.json") == before


def test_a_new_field_is_another_config(tmp_path):
  more = config()
  more.loss.weights.V = 2.0
  provenance.record(config(), tmp_path)
  with pytest.raises(ValueError, match=r"loss.weights.V=None.* it is 2.0"):
    provenance.check(more, tmp_path)


def test_a_field_that_is_gone_is_another_config(tmp_path):
  """As an arm that is taken out of config.arms would be."""
  more = config()
  more.loss.weights.V = 2.0
  provenance.record(more, tmp_path)
  with pytest.raises(ValueError, match=r"loss.weights.V=2.0.* it is None"):
    provenance.check(config(), tmp_path)


@pytest.mark.parametrize(
  "changes", [{"checkpoint__every": 50}, {"mesh__data": 8}, {"log_every": 1}]
)
def test_free_settings_may_change(tmp_path, changes):
  provenance.record(config(), tmp_path)
  provenance.check(config(**changes), tmp_path)
  provenance.record(config(**changes), tmp_path)
  changed = json.loads(config(**changes).to_json())
  assert read(tmp_path / "config.json") == changed


def test_environment():
  found = provenance.environment()
  assert found["python"] == platform.python_version()
  assert set(found["packages"]) == {"rsrc-jax", *provenance.PACKAGES}
  assert found["packages"]["rsrc-jax"] == rsrc_jax.__version__
  for name in ("jax", "flax", "orbax-checkpoint"):
    assert found["packages"][name] == importlib.metadata.version(name)
  assert found["packages"]["jax"] == jax.__version__
  assert found["backend"] == jax.default_backend()
  assert len(found["devices"]) == jax.device_count()
  json.dumps(found)


def test_a_package_that_is_not_there(monkeypatch):
  monkeypatch.setattr(provenance, "PACKAGES", ["jax", "no-such-package"])
  found = provenance.environment()["packages"]
  assert found["jax"] == jax.__version__ and found["no-such-package"] is None


@pytest.mark.parametrize(
  "changed, expected",
  [("", "abc123"), (" M rsrc_jax/train.py", "abc123+"), (None, None)],
)
def test_revision(monkeypatch, changed, expected):
  """Clean, changed, and not under version control."""

  def run(command, **settings):
    if changed is None:
      raise subprocess.CalledProcessError(128, command)
    text = "abc123\n" if "rev-parse" in command else changed + "\n"
    return subprocess.CompletedProcess(command, 0, text, "")

  monkeypatch.setattr(provenance.subprocess, "run", run)
  assert provenance.revision() == expected


def test_an_installed_package_has_no_revision(monkeypatch):
  """Its folder may be in a checkout of something else."""
  monkeypatch.setattr(provenance.places, "is_clone", lambda: False)
  assert provenance.revision() is None


def test_revision_without_git(monkeypatch):
  def run(command, **settings):
    raise FileNotFoundError(command[0])

  monkeypatch.setattr(provenance.subprocess, "run", run)
  assert provenance.revision() is None
