"""evaluate.py: means over a split, and the controls."""

import numpy as np
import pytest

from rsrc_jax.evaluation import code_judge
from rsrc_jax.metrics import capability
from rsrc_jax.types import Batch, Tokens

SPLIT = Tokens(
  np.arange(8, 28, dtype=np.int32).reshape(5, 4), np.ones((5, 4), bool)
)


def write(batch):
  return Tokens(batch.source.ids[:, :2], batch.source.mask[:, :2])


def read(code):
  return Tokens(code.ids + 1, code.mask)


def judge(source, code, decoded):
  """Counts the code's first token as the bits that are left."""
  np.testing.assert_array_equal(decoded.ids, code.ids + 1)
  return {"nll_bits": np.asarray(code.ids[:, 0], np.float32)}


def saved(source, code, decoded):
  """Half of d's first token, less what the end token would cost."""
  nothing = np.zeros(len(code.ids))
  return capability.Saved(decoded.ids[:, 0] / 2, nothing, nothing + 1)


@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_every_row_counts_once_whatever_the_batch(batch_size):
  """First tokens 8, 12, 16, 20, 24: mean 16; 24 bits less 16 are 8."""
  metrics, table = code_judge.judge_split(
    write, read, judge, saved, SPLIT, rows=99, batch_size=batch_size,
    entropy_bits=24.0,
  )  # fmt: skip
  # d starts with 9, 13, 17, 21, 25: half of them less 1 is 7.5 on average.
  assert metrics == {
    "bits_conveyed": 8.0, "nll_bits": 16.0, "verified_bits": 7.5,
  }  # fmt: skip
  np.testing.assert_array_equal(table["row"], np.arange(5))
  np.testing.assert_array_equal(table["source"].ids, SPLIT.ids)


def test_bits_are_null_where_the_entropy_is_not_known():
  metrics, _ = code_judge.judge_split(
    write, read, judge, saved, SPLIT, rows=3, batch_size=3, entropy_bits=None
  )
  assert metrics["bits_conveyed"] is None and metrics["nll_bits"] == 12.0


def test_controls():
  batch = Batch(SPLIT, np.arange(5, dtype=np.int32))
  code = write(batch)
  assert not code_judge.no_code(batch, code).mask.any()
  other = code_judge.shuffled_code(batch, code)
  np.testing.assert_array_equal(other.ids[1:], code.ids[:-1])
  assert (other.ids != code.ids).all()
  np.testing.assert_array_equal(
    code_judge.source_given(batch, code).ids, SPLIT.ids
  )
  cut = code_judge.cut_to(1)(batch, code)
  np.testing.assert_array_equal(np.asarray(cut.mask).sum(-1), 1)
  np.testing.assert_array_equal(cut.ids[:, 0], code.ids[:, 0])


def test_channel_utilisation():
  """A perfect code of every one of 1 + 3 + 9 = 13 codes uses all of it."""
  full = code_judge.channel_utilisation(np.log2(13.0), 0.0, ids=3, budget=2)
  assert full == pytest.approx(1.0, rel=1e-5)
  assert code_judge.channel_utilisation(5.0, 5.0, ids=3, budget=2) == 0.0
  assert code_judge.channel_utilisation(5.0, 6.0, ids=3, budget=2) < 0.0
