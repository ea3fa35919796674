"""The reader's sentences: none of them is one of the policy's."""

import numpy as np
import pytest
from helpers import toy_data

from rsrc_jax.data import facts, own_draw, sources

FACTS = {"vocab_size": 128, "sentences": 3_000, "heldout": 100, "cache_dir": ""}


def texts(split):
  return {
    tuple(x[m].tolist()) for x, m in zip(split.ids, split.mask, strict=True)
  }


@pytest.mark.parametrize(
  "more", [{}, {"omit": 0.6}, {"withheld": "object,city"}]
)
def test_facts_are_drawn_anew_and_none_is_the_policy_s(more):
  """With phrases left out, some of 3,000 sentences are drawn by both seeds."""
  corpus = facts.make(seed=0, **FACTS, **more)
  same, draw = own_draw.draw(corpus, 1.0, 0)
  assert same is corpus  # the policy keeps all of its own
  mine = texts(draw.train) | texts(draw.test)
  size = len(draw.train.ids) + len(draw.test.ids)
  assert len(mine) == size > 0.9 * len(corpus.train.ids)
  for split in (*corpus[2:5], *corpus.shifts.values(), corpus.ood):
    assert not mine & texts(split)
  again = own_draw.draw(corpus, 1.0, 0)[1]
  np.testing.assert_array_equal(draw.train.ids, again.train.ids)
  other = own_draw.draw(facts.make(seed=1, **FACTS, **more), 1.0, 1)[1]
  assert len(mine & texts(other.train)) < 0.05 * size


def test_a_sentence_that_both_draw_is_the_policy_s():
  corpus = facts.make(seed=0, **FACTS)
  taken = corpus._replace(redraw=lambda count, seed: corpus.train)
  with pytest.raises(ValueError, match=r"leaves 2800 rows .* and 0 for the"):
    own_draw.draw(taken, 1.0, 0)


def test_of_other_kinds_rows_are_held_back():
  """300 rows: 64 runs of neighbours, of which 32 are the reader's."""
  found = toy_data.make(seed=0, cache_dir="", heldout=20)
  many = 300
  ids = np.arange(3 * many, dtype=np.int32).reshape(many, 3)
  train = toy_data.Sums(ids, np.ones(ids.shape, bool), {"sum": ids[:, 0]})
  corpus = found._replace(train=train)
  left, draw = own_draw.draw(corpus, 0.5, 0)
  mine = np.concatenate([draw.train.extra["sum"], draw.test.extra["sum"]]) // 3
  kept = left.train.extra["sum"] // 3  # numbers of rows
  assert sorted([*mine, *kept]) == list(range(many))
  assert 0.4 * many < len(mine) < 0.6 * many
  assert np.sum(np.diff(np.sort(mine)) > 1) < 32  # in runs
  assert left.digest == sources.digest(left.train, left.valid, left.test)
  assert left.digest != corpus.digest
  # A row that the policy keeps as well is the policy's alone.
  twice = train._replace(ids=train.ids // 300)
  with pytest.raises(ValueError, match=r"config\.reader\.share=0\.5 leaves"):
    own_draw.draw(found._replace(train=twice), 0.5, 0)


@pytest.mark.parametrize("share", [0.1, 0.99, 1])
def test_too_few_rows_are_refused_in_one_line(share):
  corpus = toy_data.make(seed=0, cache_dir="", heldout=5)
  with pytest.raises(ValueError, match=f"share={share} leaves") as error:
    own_draw.draw(corpus, share, 0)
  assert "\n" not in str(error.value)
