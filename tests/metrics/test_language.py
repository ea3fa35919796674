"""metrics/language.py: no mean over a mask is a number of bits."""

import math

import numpy as np
import pytest

from rsrc_jax.metrics import language
from rsrc_jax.types import Tokens

TEXT = np.array([True, True, True, False, False])
MASK = 1e30 / math.log(2)  # what a model of text gives to ids 3 and 4


def code(ids, mask=None):
  ids = np.asarray(ids)
  return Tokens(ids, np.ones(ids.shape, bool) if mask is None else mask)


def test_a_code_of_only_blank_ids_has_no_bits():
  found = language.measure(code([[3, 4], [4, 4]]), np.full((2, 2), MASK), TEXT)
  assert found == (1.0, None)


def test_foreign_tokens_are_counted_and_the_others_have_bits():
  mask = np.array([[True, True], [True, False]])
  bits = np.array([[2.0, MASK], [5.0, MASK]])
  found = language.measure(code([[0, 3], [2, 0]], mask), bits, TEXT)
  assert found.foreign == pytest.approx(1 / 3)
  assert found.bits == 3.5


def test_english_has_no_foreign_token():
  found = language.measure(code([[0, 1]]), np.array([[1.0, 2.0]]), TEXT)
  assert found == (0.0, 1.5)


def test_no_token_is_no_number():
  nothing = code(np.zeros((2, 3), int), np.zeros((2, 3), bool))
  assert language.measure(nothing, np.zeros((2, 3)), TEXT) == (None, None)


@pytest.mark.parametrize("wrong", [MASK, math.inf, math.nan])
def test_a_mask_at_an_id_of_texts_is_refused(wrong):
  with pytest.raises(ValueError, match="a mask's bits"):
    language.measure(code([[0, 1]]), np.array([[1.0, wrong]]), TEXT)
