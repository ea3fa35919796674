"""streams.py: codes without a memory, on the sources that cc is read on."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from rsrc_jax.evaluation import streams
from rsrc_jax.stages.stage import Stage
from rsrc_jax.types import Tokens

R, PLACE, ROWS, S = 3, 1, 7, 4
IDS = np.arange(10, 10 + ROWS * S).reshape(ROWS, S)


def setup(**arms):
  settings = {"rounds": R, "shared": ("b",), "drift": 0.0}
  arms = {
    "memory": {"pattern": "cc"}, "plain": {"pattern": "cdv"}, **arms,
  }  # fmt: skip
  config = ml_collections.ConfigDict({
    "arms": arms, "patterns": {"cc": settings}, "seed": 0, "budget": 2,
    "eval": {"batch_size": ROWS, "test_rows": ROWS, "samples": 1},
  })  # fmt: skip
  corpus = SimpleNamespace(
    test=Tokens(IDS.astype(np.int32), np.ones(IDS.shape, bool)),
    questions=[(1, None), (2, None)], facts=("a", "b"), answers=None,
    slots=(0, PLACE), vocab=SimpleNamespace(pieces=list),
  )  # fmt: skip
  return SimpleNamespace(
    config=config, corpus=corpus, policy=None, roles={"D": None}, mesh=None
  )


@pytest.fixture
def evaluate(monkeypatch):
  """D says the code, and V is told the word at the shared place."""
  monkeypatch.setattr(streams.sharding, "rows", lambda mesh, batch: batch)
  monkeypatch.setattr(
    streams.code_judge, "make_reader", lambda policy, D: lambda p, code: code
  )
  judge = lambda params, s, code, d: {
    "nll_bits": s.ids[:, PLACE] * params, "exact_match": d.ids[:, 0] * 1.0,
    "edit_similarity": s.ids[:, 2] * 1.0,
    "mean_tokens": jnp.sum(code.mask, -1) * 1.0,
  }  # fmt: skip
  monkeypatch.setattr(streams.code_judge, "make_judge", lambda policy, D: judge)
  return streams.make(setup(), arm="memory")


def stage(name, write):
  return Stage(name, 1, 1, 0, None, None, write=write)


def first_two(params, frozen, batch, key):
  return jax.tree.map(lambda x: x[:, :2], batch.source)


def test_codes_are_read_on_the_rounds_behind_the_first(evaluate):
  """Two whole streams; the seventh row belongs to none."""
  found = evaluate(stage("plain", first_two), 2.0, (), {})
  later = [1, 2, 4, 5]
  mean = lambda x: pytest.approx(np.mean(x))
  assert found == {
    # Word 1 is that of the stream's first source, rows 0 and 3.
    "nll_bits": mean(2 * IDS[[0, 0, 3, 3], PLACE]),
    "alone_nll_bits": mean(2 * IDS[later, PLACE]),
    "exact": mean(IDS[later, 0]), "alone_exact": mean(IDS[later, 0]),
    "edit": mean(IDS[later, 2]), "alone_edit": mean(IDS[later, 2]),
    "tokens": 2.0, "alone_tokens": 2.0,
  }  # fmt: skip


def test_arms_with_a_memory_or_without_codes_are_left_out(evaluate):
  assert evaluate(stage("memory", first_two), 2.0, (), {}) == {}
  assert evaluate(stage("plain", None), 2.0, (), {}) == {}


@pytest.mark.parametrize("arm", ["plain", "nobody"])
def test_the_streams_are_those_of_an_arm_of_cc(arm):
  with pytest.raises(ValueError, match="must be an arm of the pattern cc: mem"):
    streams.make(setup(), arm=arm)
