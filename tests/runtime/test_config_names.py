"""Configs by path and by name, settings by keyword, and the folders of both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rsrc_jax.runtime import configs, places

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")


def test_a_shipped_config_is_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("tiny", "tiny.py", "configs/tiny.py", Path("configs/tiny")):
    assert configs.find(name) == TINY
  mine = tmp_path / "configs" / "tiny.py"
  mine.parent.mkdir()
  mine.write_text("def get_config(width): return width\n")
  assert configs.find("configs/tiny.py") == "configs/tiny.py"  # the user's
  assert configs.find("tiny") == TINY
  assert configs.find(mine) == str(mine)
  assert configs.find(f"{mine}:8") == f"{mine}:8"


@pytest.mark.parametrize(
  "name, near",
  [
    ("tyny", ", of which the nearest are tiny"),
    ("configs/smolm2.py", ", of which the nearest are smollm2, smollm2_cpu"),
    ("", ""),
  ],
)
def test_an_unknown_config_names_the_nearest_and_the_list(name, near):
  with pytest.raises(ValueError) as error:
    configs.find(name)
  said = str(error.value)
  assert said.startswith(f"config {name!r}: no such file") and "\n" not in said
  count = len([*(ROOT / "configs").glob("*.py")])
  assert f"none of the {count} shipped configs{near}" in said
  assert said.endswith("./tools/run --list shows them all.")


def test_both_forms_of_the_flag_are_resolved():
  line = ["--workdir=tiny", "--config=tiny", "--config.only=code", "-config",
          "tiny", "--", "tiny"]  # fmt: skip
  assert configs.resolved(line) == [
    "--workdir=tiny", f"--config={TINY}", "--config.only=code", "-config",
    TINY, "--", "tiny",
  ]  # fmt: skip
  with pytest.raises(ValueError, match=r"none of the .* shipped"):
    configs.resolved(["--config=nope"])


def test_settings_are_changed_by_name_and_by_block():
  config = configs.load_config(
    "tiny", steps=7, budgets=[1, 2], model={"width": 32, "dtype": "bfloat16"},
    **{"loss.weights.C": 2, "arms.code.write": "free"},
  )  # fmt: skip
  assert (config.steps, config.budgets) == (7, (1, 2))
  assert (config.model.width, config.model.depth) == (32, 2)
  assert config.loss.weights.C == 2.0 and config.arms.code.write == "free"
  gate = {"bonus": 0.1}  # a block where there was none
  given = {"patterns": {"cdv": {"gate": gate}}, "evals": {"far": {"type": "x"}}}
  other = configs.load_config("tiny", **given)
  assert (
    other.patterns.cdv.gate.to_dict() == gate and other.evals.far.type == "x"
  )
  assert other.patterns.cdv.group == config.patterns.cdv.group
  config.arms.mine = {"pattern": "cdv"}  # a new one is set on the config
  assert configs.load_config().to_dict() == configs.load(TINY).to_dict()


@pytest.mark.parametrize(
  "settings, said",
  [
    ({"stepps": 3}, "config.stepps=3: .* Did you mean config.steps?"),
    ({"width": 3}, "config.width=3: .* Did you mean config.model.width?"),
    ({"model.widht": 3}, "config.model.widht=3: .* config.model.width?"),
    ({"model": {"widht": 3}}, "config.model.widht=3: .* config.model.width?"),
    ({"steps.x": 3}, "config.steps.x=3: there is no such setting"),
    ({"zzzz": 3}, "config.zzzz=3: there is no such setting.$"),
    ({"model": 3}, "config.model=3 is a block of settings"),
    ({"steps": 1.5}, "config.steps=1.5 must be an int, such as 1500"),
    ({"only": 3}, "config.only=3 must be a str, such as ''"),
  ],
)
def test_a_wrong_setting_is_named_with_the_nearest(settings, said):
  with pytest.raises(ValueError, match=said) as error:
    configs.load_config("tiny", **settings)
  assert "\n" not in str(error.value)


def test_the_folders_of_a_clone_and_of_an_installed_package(
  tmp_path, monkeypatch
):
  assert places.configs() == ROOT / "configs" and places.is_clone()
  assert places.home() == ROOT and places.command() == "./tools/run"
  assert places.command("/there/bin/rsrc") == "rsrc"
  package = tmp_path / "site-packages" / "rsrc_jax"
  (package / "configs").mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  assert places.configs(package) == package / "configs"
  assert not places.is_clone(package) and places.home(package) == tmp_path


@pytest.mark.processes
def test_a_first_word_starts_another_command(tmp_path):
  """Run from elsewhere; in a process, because flags are a process's own."""

  def ran(*words):
    return subprocess.run(
      [sys.executable, "-m", "rsrc_jax.main", *words], cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
      text=True,
    )  # fmt: skip

  helped = ran("accounting", "--help")
  assert helped.returncode == 0 and "accounting published" in helped.stdout
  wrong = ran("--config=nope")
  assert wrong.returncode == 1 and wrong.stdout == ""
  assert wrong.stderr.startswith("error: config 'nope': no such file")
  assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
  "words, said",
  [
    (["--config.nope=1"], "config.nope=1: there is no such setting."),
    (
      ["--config.patterns.cdv.gruop=3"],
      "Did you mean config.patterns.cdv.grou",
    ),
    (["--config.widht=3"], "Did you mean config.model.width?"),
    (["--config.steps=abc"], "config.steps=abc must be an int, such as 1500."),
    (["--config.steps=1.5"], "config.steps=1.5 must be an int, such as 1500."),
    (["--config.kl=x"], "config.kl=x must be a float, such as 0.0."),
    (["--config.model=3"], "config.model=3 is a block of settings"),
    (["--config.steps.x=3"], "config.steps.x=3: there is no such setting."),
    (["--config.steps", "abc"], "config.steps=abc must be an int, such as"),
    (["--config.augment.force=maybe"], "maybe"),
    (["--confg.steps=3"], "Unknown command line flag"),
    (["--config=configs/tyny.py"], "of which the nearest are tiny"),
  ],
)
@pytest.mark.filterwarnings("ignore:the load_module")  # of ml_collections
def test_a_wrong_flag_is_one_line(words, said):
  if not any(x.startswith("--config=") for x in words):
    words = [f"--config={TINY}", *words]
  with pytest.raises(ValueError) as error:
    configs.from_flags(words)
  assert said in str(error.value) and "\n" not in str(error.value)
