"""The shares of reconstructions and codes that are Python."""

import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.data import functions
from rsrc_jax.evaluation import python
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
