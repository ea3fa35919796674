"""cards.py: a CUDA plug-in or JAX_PLATFORMS=cuda without a card."""

import pytest

from rsrc_jax.runtime import cards

PLUGIN = ["jax_cuda13_plugin"]


def test_a_card_is_what_the_driver_shows_and_nobody_hides(tmp_path):
  (tmp_path / "nvidia-caps").mkdir()
  assert not cards.visible({}, tmp_path)
  (tmp_path / "nvidia0").touch()
  assert cards.visible({}, tmp_path)
  assert cards.visible({"CUDA_VISIBLE_DEVICES": "0,1"}, tmp_path)
  for hidden in ("", "-1"):
    assert not cards.visible({"CUDA_VISIBLE_DEVICES": hidden}, tmp_path)


@pytest.mark.parametrize(
  ("platforms", "plugins", "there", "says"),
  [
    ("cuda", [], True, r'no CUDA plug-in: pip install "rsrc-jax\[cuda13\]"'),
    ("cuda", PLUGIN, False, "no NVIDIA card is visible.*JAX_PLATFORMS=cpu"),
    ("gpu,cpu", PLUGIN, False, "JAX_PLATFORMS=gpu,cpu, but no NVIDIA card"),
  ],
)
def test_a_card_that_was_asked_for_and_is_not_there(
  platforms, plugins, there, says
):
  with pytest.raises(ValueError, match=says) as refused:
    cards.judge({"JAX_PLATFORMS": platforms}, plugins, there=there)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
  ("environment", "plugins", "there"),
  [
    ({}, [], False),
    ({}, PLUGIN, True),
    ({"JAX_PLATFORMS": "cpu"}, PLUGIN, False),
    ({"JAX_PLATFORMS": "cuda"}, PLUGIN, True),
  ],
)
def test_what_is_as_it_was_asked_for_is_left_alone(environment, plugins, there):
  assert cards.judge(environment, plugins, there=there) == []


def test_a_plug_in_without_a_card_runs_on_the_cpu_and_says_so(
  tmp_path, monkeypatch
):
  """The plug-in is a module by its name; it would fail if it were imported."""
  (tmp_path / "jax_cuda13_plugin.py").write_text("raise SystemExit")
  monkeypatch.syspath_prepend(tmp_path)
  environment = {"CUDA_VISIBLE_DEVICES": ""}
  [line] = cards.check(environment)
  assert "jax_cuda13_plugin is installed, but no NVIDIA card" in line
  assert environment["JAX_PLATFORMS"] == "cpu"
  assert cards.check(environment) == []  # it is asked for now


def test_a_card_that_jax_passed_over_is_an_error():
  unused = lambda environment={}, plugins=PLUGIN, backend="cpu", there=True: (
    cards.unused(environment, plugins, backend, there=there)
  )
  assert "could not start it" in unused()
  assert unused(backend="gpu") is None
  assert unused(plugins=[]) is None and unused(there=False) is None
  assert unused({"JAX_PLATFORMS": "cpu"}) is None
