"""The shares of reconstructions and codes that are Python."""

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.runs import shrunk

from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.data import functions, locked, sentences, text
from rsrc_jax.evaluation import python
from rsrc_jax.stages import plan
from rsrc_jax.types import Tokens

FULL = "def f(x):\n return x + 1"


def test_shares_of_texts():
  found = python.shares(
    source=[FULL] * 4,
    code=["x", "def f(", "", FULL],
    decoded=[FULL, "return x", "def g(x):\n return", "x +"],
  )
  assert found == {
    "source_parses": 1.0, "source_defines": 1.0,
    "code_parses": 0.5, "code_defines": 0.25,
    # "return x" is refused by the compiler and not by the parser.
    "d_parses": 0.75, "d_defines": 0.5, "wrong_parses": pytest.approx(2 / 3),
  }  # fmt: skip
  assert "wrong_parses" not in python.shares([FULL], ["x"], [FULL])
  assert functions.parses("return x") is not None


def test_texts_are_of_the_tokens_that_are_there():
  ids, mask = np.array([[5, 6, 0]]), np.array([[True, True, False]])
  assert python.said(str, Tokens(ids, mask)) == ["[5, 6]"]
  with pytest.raises(ValueError, match=r"rows=0 must be .* at least 1"):
    python.make(tiny, rows=0)


@pytest.mark.slow
def test_an_arm_on_functions_is_measured(tmp_path, monkeypatch):
  """Those of this library, in a small vocabulary: every source is Python."""
  files = sorted(Path(functions.__file__).parents[1].rglob("*.py"))
  cuts = [
    sentences.Cut(x.name, tuple(locked.functions_of(x.name, x, {})))
    for x in files
  ]
  found = locked.Shipped(cuts, {}, {"text": locked.FUNCTIONS}, {})
  monkeypatch.setattr(locked, "read", lambda *_: found)
  monkeypatch.setattr(locked, "notes", lambda _: [])
  monkeypatch.setattr(text, "_other_functions", lambda _: [])
  config = shrunk(**{"only": "lead", "model.absolute": 200})
  config.data = {
    "source": "text", "path": "functions", "vocab_size": 512,
    "max_tokens": 160, "min_tokens": 8, "heldout": 0.2, "symbols": 32,
  }  # fmt: skip
  config.evals = {"python": {"type": "python"}}
  setup = make_setup(config, tmp_path)
  params, stage = initial_params(setup), plan.make_stages(setup)[-1]
  evaluate = python.make(setup, rows=48)
  found = evaluate(stage, params, (), {"base": params})
  assert found["source_parses"] == found["source_defines"] == 1.0
  assert found["code_parses"] < 0.5  # three tokens of a def
  assert found["d_defines"] == found["wrong_parses"] == 0.0  # untrained
