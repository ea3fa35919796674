"""A kind of data is a file: one of the package, or one of the user's."""

from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import toy_data

from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.recursive import puzzles
from rsrc_jax.runtime import configs, named, sharding


def shrunk(source, **data):
  config = configs.load("configs/tiny.py")
  config.data = {"source": source, **data}
  config.model.width, config.model.hidden, config.model.depth = 16, 24, 1
  config.only, config.budget, config.eval.budgets = "code", 2, (2,)
  config.batch_size = 8
  return config


TOY = str(Path(toy_data.__file__))


def test_the_kinds_that_there_are():
  assert named.named("data", "make") == ("facts", "reasoning", "text")


def test_a_kind_from_a_file_of_the_users_is_read(tmp_path):
  """Nothing of the package is edited; what comes with the rows arrives."""
  setup = make_setup(shrunk(TOY, heldout=20), tmp_path)
  corpus = setup.corpus
  assert corpus.name == "sums" and len(corpus.train.ids) == 60
  value = lambda ids: toy_data.DIGITS.index(corpus.vocab.decode([int(ids)]))
  stream = sources.batches(corpus.train, batch_size=8, seed=0)
  for batch in (next(stream), sources.batch(corpus.valid, 15, 8)):
    assert batch.question is None and batch.answer is None
    for ids, total in zip(batch.source.ids, batch.extra["sum"], strict=True):
      assert value(ids[0]) + value(ids[2]) == total
  # As a training step gets it: on the mesh, and traced.
  batch = sharding.rows(setup.mesh, next(stream))
  doubled = jax.jit(lambda batch: 2 * batch.extra["sum"])(batch)
  np.testing.assert_array_equal(doubled, 2 * batch.extra["sum"])


def test_the_digest_holds_what_comes_with_the_rows():
  train = toy_data.make(seed=0, cache_dir="", heldout=20).train
  assert sources.digest(train) == sources.digest(train._replace())
  changed = train._replace(extra={"sum": train.extra["sum"] + 1})
  assert sources.digest(train) != sources.digest(changed)
  bare = train._replace(extra=None)
  assert sources.batch(bare, 0, 4).extra is None


@pytest.mark.parametrize(
  "source, data, message",
  [
    ("novels", {}, r"source='novels' is none of facts, reasoning, text, nor"),
    ("sudoku", {}, "source='sudoku' is none of facts"),
    ("no/such.py", {}, "source='no/such.py' is not a file"),
    (__file__, {}, r"has no function make\(\)"),
    (TOY, {}, r"config.data does not fit '.*toy_data.py': .*heldout"),
    (TOY, {"heldout": 20, "colour": 1}, "config.data.colour=1 is no setting"),
    ("facts", {"path": "a.txt"}, "path='a.txt' must be .*source='text'"),
    ("reasoning", {"path": "a.txt"}, "path='a.txt' must be .*source='text'"),
  ],
)
def test_what_is_no_kind_is_named(source, data, message, tmp_path):
  if source in ("facts", "reasoning"):
    name = {"facts": "tiny", "reasoning": "qa_reasoning"}[source]
    data = configs.load(f"configs/{name}.py").data.to_dict() | data
    del data["source"]
  with pytest.raises(ValueError, match=message) as error:
    make_setup(shrunk(source, **data), tmp_path)
  assert "\n" not in str(error.value)


PUZZLES = """
import numpy as np
from rsrc_jax.data.grids import Puzzles, take, without_identity

def puzzles(*, seed, side, fill):
  \"\"\"Blank grids; the answer is `fill` in every cell.\"\"\"
  blank = np.zeros((9, side * side), np.int32)
  found = Puzzles(blank, blank + fill, blank + 1)
  parts = [take(found, slice(i, i + 3)) for i in (0, 3, 6)]
  return without_identity("toy", side, fill + 1, *parts, lambda x, rng: x)
"""


def test_the_puzzles_that_there_are():
  assert named.named("data", "puzzles") == ("arc", "maze", "sudoku")


def test_a_kind_of_puzzle_from_a_file_of_the_users(tmp_path):
  """It gets those settings of config.data that it takes."""
  path = tmp_path / "toy.py"
  path.write_text(PUZZLES)
  block = {**configs.load("configs/trm.py").data, "name": str(path), "side": 3}
  data = puzzles.load(**block, fill=2, seed=0)
  assert (data.name, data.cells, data.vocab_size) == ("toy", 9, 3)
  batch = puzzles.batch(data, np.array([0, 2]), np.random.default_rng(0))
  assert batch.answer.tolist() == [[2] * 9] * 2
  with pytest.raises(ValueError, match=r"config.data does not fit .*'fill'"):
    puzzles.load(**block, seed=0)
