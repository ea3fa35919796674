"""What tables say of the use of injected ids."""

import math

import pytest

from rsrc_jax.metrics import use


@pytest.mark.parametrize(
  "bits, rate, said",
  [(0.14, 1.0, "junk"), (0.99, None, "junk"), (-5.2, 0.1, "junk"),
   (1.0, 0.5, "kept"), (8.4, 0.7, "kept"), (0.0, 0.0, "-"),
   (None, None, "-"), (math.nan, 0.1, "-")],
)  # fmt: skip
def test_use_is_junk_below_a_bit_a_swapped_id(bits, rate, said):
  assert use.label(bits, rate) == said
