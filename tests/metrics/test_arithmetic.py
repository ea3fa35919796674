"""metrics/arithmetic.py, against sentences that are coded by hand."""

import numpy as np
import pytest

from rsrc_jax.metrics import arithmetic

# Two tokens and an end; the second sentence has one token.
BITS = np.array([[3.0, 2.0, 1.0], [4.0, 0.5, 99.0]])
LENGTH = np.array([2, 1])


def coded(bits, spare=0.0):
  return arithmetic.coded(BITS, LENGTH, bits, spare)


def test_a_code_of_no_bits_says_nothing():
  found = coded(0.0)
  np.testing.assert_allclose(found.nll_bits, [6.0, 4.5])
  assert found.tokens.tolist() == [0, 0] and not found.exact.any()


def test_a_prefix_that_fits_is_decoded_and_the_rest_is_open():
  # 4 bits hold the first token of each; a bit of the second is known too.
  found = coded(4.0)
  np.testing.assert_allclose(found.nll_bits, [2.0, 0.5])
  assert found.tokens.tolist() == [1, 1]
  np.testing.assert_allclose(found.share, [0.5, 1.0])
  assert found.exact.tolist() == [False, False]  # neither end is known


def test_a_sentence_that_fits_with_its_end_is_exact():
  assert coded(5.0).exact.tolist() == [False, True]
  found = coded(6.0)
  assert found.exact.all() and found.tokens.tolist() == [2, 1]
  np.testing.assert_allclose(found.nll_bits, 0.0)


def test_a_bit_to_spare_is_what_a_coder_of_one_length_needs():
  assert coded(6.0, 1.0).exact.tolist() == [False, True]
  np.testing.assert_allclose(coded(6.0, 1.0).nll_bits, [1.0, 0.0])
  np.testing.assert_allclose(coded(0.5, 1.0).nll_bits, [6.0, 4.5])
  # Equal intervals of width w: one lies inside of any interval of width 2 w.
  width = 2.0**-5
  for low in np.random.default_rng(0).uniform(0, 1 - 2 * width, 200):
    first = np.ceil(low / width) * width
    assert first + width <= low + 2 * width + 1e-12


def test_sums_of_equal_slots_are_not_lost_to_rounding():
  # Eight words of a tenth of a bit, and an end for nothing, fill .8 bits.
  bits = np.full((1, 9), 0.1)
  bits[0, -1] = 0.0
  assert arithmetic.coded(bits, np.array([8]), 0.8).exact.all()


def test_a_later_token_is_not_right_behind_one_that_is_not():
  bits = np.array([[1.0, 9.0, 0.0, 0.0]])
  found = arithmetic.coded(bits, np.array([3]), 5.0)
  assert found.tokens.tolist() == [1]
  np.testing.assert_allclose(found.nll_bits, [5.0])


def test_capacity_is_of_the_alphabet():
  assert arithmetic.capacity(8, 3) == 9.0
  np.testing.assert_allclose(arithmetic.capacity(112, 3), 20.422, atol=1e-3)


@pytest.mark.parametrize(
  "length, bits, spare, said",
  [([2, 1], -1.0, 0.0, "bits=-1"), ([2, 1], 1.0, -1.0, "spare=-1"),
   ([3, 1], 1.0, 0.0, "length=3")],
)  # fmt: skip
def test_what_cannot_be_is_refused(length, bits, spare, said):
  with pytest.raises(ValueError, match=said):
    arithmetic.coded(BITS, np.array(length), bits, spare)
