"""The curve of lengths: which budgets an arm has, and a row by hand."""

from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest

from rsrc_jax.build import writers
from rsrc_jax.evaluation import curve, heldout
from rsrc_jax.types import Batch

SCORES = {
  "bits_conveyed": 12.0, "mean_tokens": 3.0, "exact_match": 0.25,
  "edit_similarity": 0.75, "novel_fraction": 0.5, "nll_bits": 12.0,
}  # fmt: skip


def config(budgets, *, unannounced=None, arms=None):
  augment = {} if unannounced is None else {"unannounced": unannounced}
  return ml_collections.ConfigDict(
    {"budget": 8, "budgets": budgets, "augment": augment, "arms": arms or {},
     "eval": {"budgets": (2, 3, 4, 6)}}
  )  # fmt: skip


@pytest.mark.parametrize(
  "settings, rule, found",
  [
    (config((1, 2, 3, 4, 6, 8)), False, [2, 3, 4, 6]),
    (config((1, 2, 3, 4, 6, 8), unannounced=0.0), False, [2, 3, 4, 6]),
    (config((2, 3), unannounced=0.5), False, [None, 2, 3]),
    (config((3,)), False, [3]),
    (config((3,), unannounced=0.5), False, [None, 3]),
    (config(()), False, [2, 3, 4, 6]),  # cut
    (config((3,), unannounced=0.5), True, [2, 3, 4, 6]),  # a rule has all
  ],
)
def test_an_arm_is_measured_at_the_budgets_that_it_covers(
  settings, rule, found
):
  assert curve.asked(settings, rule=rule) == found


def test_a_row_charges_the_arms_own_alphabet():
  """12 bits by 3 tokens of 16 ids, of 4 bits each: 12 / (3 x 4) = 1."""
  assert curve.row("code", 3, SCORES, 16) == {
    "arm": "code", "budget": 3, "mean_tokens": 3.0, "bits_conveyed": 12.0,
    "exact": 0.25, "edit_similarity": 0.75, "novel_fraction": 0.5,
    "bits_per_token": 4.0, "channel_bits": 12.0, "bits_per_channel_bit": 1.0,
  }  # fmt: skip
  free = curve.row("code", None, SCORES, 4)
  assert free["budget"] is None and free["bits_per_channel_bit"] == 2.0
  text = curve.row("code", 3, SCORES | {"bits_conveyed": None}, 16)
  assert text["bits_per_token"] is text["bits_per_channel_bit"] is None
  empty = curve.row("code", 3, SCORES | {"mean_tokens": 0.0}, 16)
  assert empty["channel_bits"] == 0.0
  assert empty["bits_per_token"] is empty["bits_per_channel_bit"] is None
  unknown = curve.row("code", 3, SCORES, None)
  assert unknown["channel_bits"] is unknown["bits_per_channel_bit"] is None


@pytest.mark.parametrize(
  "budgets, overrides, asked, found",
  [
    ((2, 3, 4, 6), (("augment.unannounced", 0.5),),
     [("told", 2), ("told", 3), ("told", 4), ("told", 6)],
     [None, 2, 3, 4, 6]),
    # What it writes when it is asked for nothing is not measured again.
    ((2, 3, 4, 6), (("budgets", (2, 3)),), [("told", 2)], [2, 3]),
    ((2, 3, 4, 6), (("budgets", (3,)),), [], [3]),
    ((), (), [("cut", None)] * 4, [2, 3, 4, 6]),
    ((), (("budget", 6),), [("cut", None)] * 3, [2, 3, 4, 6]),
  ],
)  # fmt: skip
def test_a_writer_is_told_its_budget_or_its_codes_are_cut(
  budgets, overrides, asked, found
):
  """The arm's own overrides count."""
  settings = config(
    budgets, unannounced=0.0, arms={"code": {"overrides": overrides}}
  )
  calls = []

  def measure(alter, k=None):
    calls.append(("told" if alter is None else "cut", k))
    return {"k": k}, None

  shared = SimpleNamespace(setup=SimpleNamespace(config=settings))
  arm = SimpleNamespace(name="code", rule=False)
  curves = heldout._by_budget(shared, arm, measure, SCORES)
  assert calls == asked and list(curves) == found
  again = len(found) - len(calls)
  assert [x is SCORES for x in curves.values()].count(True) == again


def test_a_writer_that_is_told_nothing_takes_the_largest_of_its_budgets():
  """An arm with one budget below the run's was never asked for the run's."""
  batch = Batch(None, np.arange(2))
  one = lambda budgets, k=None: writers.budget_of(config(budgets), batch, k)
  assert one((3,)).tolist() == [3, 3]
  assert one((2, 3, 4), 2).tolist() == [2, 2]
  assert one(()) is None
