"""build/texts.py: text and ids of a setup, there and back."""

import numpy as np
import pytest
from helpers.runs import shrunk

from rsrc_jax.build import texts
from rsrc_jax.build.setup import make_setup
from rsrc_jax.types import Tokens


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
  return make_setup(shrunk(), tmp_path_factory.mktemp("texts"))


def test_rows_of_a_split_come_as_they_are_and_as_text(setup):
  batch = texts.batch_of(setup, "test", 5)
  test = setup.corpus.test
  np.testing.assert_array_equal(batch.source.ids, test.ids[:5])
  np.testing.assert_array_equal(batch.row, np.arange(5))
  assert len(texts.batch_of(setup, "valid").row) == 8
  assert len(texts.batch_of(setup, "valid", 10_000).row) == 32  # all there are
  said = texts.decode(setup, batch.source)
  assert (
    len(said) == 5 and said[0].split() == texts.pieces(setup, batch.source)[0]
  )


def test_own_texts_come_back(setup):
  own = texts.decode(setup, texts.batch_of(setup, "train", 3).source)
  short = " ".join(own[0].split()[:4])
  batch = texts.batch_of(setup, [*own, short])
  assert batch.source.ids.shape == setup.corpus.train.ids[:4].shape
  assert batch.source.mask.sum(-1).tolist() == [12, 12, 12, 4]
  assert texts.decode(setup, batch.source) == [*own, short]
  assert len(texts.batch_of(setup, own, 2).row) == 2


def test_more_axes_become_nested_lists_and_pads_are_left_out(setup):
  ids = texts.batch_of(setup, "test", 6).source.ids[:, :2]
  mask = np.array([[True, False]] * 6)
  grouped = Tokens(ids.reshape(2, 3, 2), mask.reshape(2, 3, 2))
  found = texts.pieces(setup, grouped)
  assert [[len(x) for x in group] for group in found] == [[1, 1, 1]] * 2
  assert texts.pieces(setup, Tokens(ids[4], mask[4])) == found[1][1]
  assert texts.decode(setup, grouped)[1][1] == found[1][1][0]


@pytest.mark.parametrize(
  "asked, said",
  [
    ("dev", "texts='dev' is none of train, valid, test"),
    ([], "at least one text"),
    ([""], "'' has 0 tokens; the model reads 1 to 12"),
    (["red " * 13], "has 13 tokens"),
    (["a gnu sold lamps"], "has words that the vocabulary lacks; it knows"),
  ],
)
def test_what_cannot_be_read_is_said_in_one_line(setup, asked, said):
  with pytest.raises(ValueError) as error:
    texts.batch_of(setup, asked)
  assert said in str(error.value) and "\n" not in str(error.value)
