"""Grids for get_sweep(): lists of overrides, made of smaller ones.

  def get_sweep():
    return product(
      {"model.width": (32, 64), "steps": (100, 200)},
      zipped({"loss.weights.C": (1.0, 2.0), "kl": (0.0, 0.1)}),
      seeds(3),
    )

has 2 x 2 x 2 x 3 runs. A grid is a list of dicts, each with the settings of a
run by dotted name; "name" is what the run is called. All functions are pure,
and the order of a grid is that in which it was written.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Grid = list[dict[str, Any]]


def product(*parts: Mapping[str, Sequence] | Iterable[Mapping]) -> Grid:
  """Every run of the first part with every run of the others.

  parts: a grid, or a dict: a field's dotted name -> its values. Names ("name")
  of several parts are joined with "_".

  Raises:
    ValueError: two parts set one field, or values have no order.
  """
  grids = [_by_field(x) if isinstance(x, Mapping) else chain(x) for x in parts]
  found = [{}]
  for grid in grids:
    found = [_joined(a, b) for a, b in itertools.product(found, grid)]
  return found


def zipped(fields: Mapping[str, Sequence]) -> Grid:
  """The first value of every field, then the second of every field, ...

  Raises:
    ValueError: the fields have not equally many values.
  """
  counts = {name: len(_values(name, x)) for name, x in fields.items()}
  if len(set(counts.values())) > 1:
    raise ValueError(f"zipped fields need equally many values, not {counts}.")
  return [
    dict(zip(fields, row, strict=True))
    for row in zip(*fields.values(), strict=True)
  ]


def seeds(which: int | Sequence[int], field: str = "seed") -> Grid:
  """Seeds 0 to which - 1, or those that are given."""
  which = range(which) if isinstance(which, int) else which
  return [{field: seed} for seed in which]


def chain(*grids: Iterable[Mapping[str, Any]]) -> Grid:
  """The runs of the first grid, then those of the second, ..."""
  return [dict(run) for grid in grids for run in grid]


def _by_field(fields: Mapping[str, Sequence]) -> Grid:
  values = [_values(name, x) for name, x in fields.items()]
  rows = itertools.product(*values)
  return [dict(zip(fields, row, strict=True)) for row in rows]


def _values(name: str, values: Sequence) -> Sequence:
  if isinstance(values, str | set | frozenset | Mapping):
    raise ValueError(
      f"{name}={values!r}: give a list or a tuple of the field's values, which "
      "has an order."
    )
  return list(values)


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
  for name in a.keys() & b.keys() - {"name"}:
    raise ValueError(
      f"two parts of the product set {name} ({a[name]!r} and {b[name]!r}): "
      "leave it out of one."
    )
  both = {**a, **b}
  if "name" in a and "name" in b:
    both["name"] = f"{a['name']}_{b['name']}"
  return both
