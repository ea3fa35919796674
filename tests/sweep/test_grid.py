"""Grids: what is combined, in which order, and what is refused."""

import pytest

from rsrc_jax.sweep import grid


def test_a_product_has_every_run_in_the_order_that_was_written():
  found = grid.product(
    {"a.b": (1, 2), "c": ["x", "y"]},
    grid.zipped({"d": (3, 4), "e": (5, 6)}),
    grid.seeds(2),
  )
  assert len(found) == 2 * 2 * 2 * 2
  assert found[0] == {"a.b": 1, "c": "x", "d": 3, "e": 5, "seed": 0}
  assert found[1]["seed"] == 1 and found[2]["d"] == 4
  assert [x["a.b"] for x in found] == [1] * 8 + [2] * 8
  assert grid.product() == [{}]
  assert grid.product({"a": ()}) == []


def test_chained_grids_and_names_that_are_joined():
  first = [{"name": "low", "kl": 0.0}, {"name": "high", "kl": 1.0}]
  second = [{"name": "wide", "width": 8}]
  assert grid.chain(first, second) == [*first, *second]
  assert grid.chain(first)[0] is not first[0]
  both = grid.product(first, second)
  assert [x["name"] for x in both] == ["low_wide", "high_wide"]
  assert grid.seeds((5, 3), "data.seed") == [{"data.seed": 5}, {"data.seed": 3}]


@pytest.mark.parametrize(
  "make, said",
  [
    (lambda: grid.product({"a": {1, 2}}), "a={1, 2}: give a list"),
    (lambda: grid.product({"a": "xy"}), "a='xy': give a list"),
    (lambda: grid.zipped({"a": (1,), "b": (1, 2)}), "equally many values"),
    (lambda: grid.product({"a": (1,)}, [{"a": 2}]), "two parts .* set a"),
  ],
)
def test_what_has_no_order_or_is_set_twice_is_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
