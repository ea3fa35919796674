"""fresh_ids.py and asked_use.py: scores of policies that are known by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.evaluation import asked_use, fresh_ids
from rsrc_jax.rl import constraints
from rsrc_jax.types import Tokens

ROWS, N, USE = 6, 2, 23
SURE = 50.0
# Codes may have 12 words of sources and the ids 20 to 22; 23 asks for ids.
CODE = tiny.CODE & (np.arange(tiny.VOCAB) < USE)


def wanted(obeys, reads):
  """A C that writes its first listed id and then s, or s alone; a D that says
  what it reads over and over, or always the same.
  """

  def next_logits(params, prompt, step):
    del params
    ids, mask = prompt.ids, prompt.mask
    there = jnp.cumsum(mask) - 1  # the n-th token of the prompt
    at = lambda n: jnp.sum(jnp.where(mask & (there == n), ids, 0))
    use = jnp.argmax(jnp.where(mask, ids == USE, False))
    asked = jnp.any(mask & (ids == USE)) & obeys
    first = ids[(use + 1) % ids.size]
    of_c = jnp.where(asked & (step == 0), first, at(1 + step - asked))
    size = jnp.sum(mask) - 2
    of_d = at(1 + step % jnp.maximum(size, 1))
    of_d = of_d if reads else jnp.int32(8)
    of_d = jnp.where(step < tiny.SOURCE, of_d, tokenizer.END)
    word = jnp.where(ids[0] == tokenizer.C, of_c, of_d)
    return SURE * jax.nn.one_hot(word, tiny.VOCAB)

  return next_logits


def setup(obeys=True, reads=True, inject=N, withheld=0):
  """Sources repeat three words, so that a code of three says all."""
  rng = np.random.default_rng(0)
  ids = np.stack([8 + rng.permutation(12)[: tiny.BUDGET] for _ in range(ROWS)])
  ids = np.tile(ids, (1, tiny.SOURCE // tiny.BUDGET)).astype(np.int32)
  split = Tokens(ids, np.ones(ids.shape, bool))
  vocab = SimpleNamespace(
    code=CODE, text=tiny.WORDS, end=tokenizer.END, control_tags={"use": USE}
  )
  config = ml_collections.ConfigDict({
    "seed": 0, "budget": tiny.BUDGET, "budgets": (),
    "augment": {"inject": inject, "ban": 0, "pool": 0, "force": True,
                "fixed_length": False, "seed": -1, "withheld": withheld},
    "eval": {"batch_size": 4},
    "arms": {"arm": {"overrides": ()}, "rule": {"overrides": ()}},
  })  # fmt: skip
  policy = scripted.policy(wanted(obeys, reads), lambda key: {}, tiny.VOCAB)
  C = tiny.ROLES["C"]._replace(use_tag=USE, support=CODE | _END)
  D = tiny.ROLES["D"]._replace(support=tiny.CODE | _END)
  corpus = SimpleNamespace(
    vocab=vocab, test=split, valid=split, entropy_bits=10.0
  )
  return SimpleNamespace(
    config=config, corpus=corpus, policy=policy, roles={"C": C, "D": D}
  )


_END = np.arange(tiny.VOCAB) == tokenizer.END
ARM = SimpleNamespace(name="arm", write=True, rule=False)


def test_use_that_replaces_a_word_costs_it_and_is_no_junk():
  """C writes an id and two of three words; D repeats them."""
  found = asked_use.make(setup(), rows=ROWS)(ARM, {}, ())
  assert found["use_rate"] == 1.0 and found["decoy_rate"] == 0.0
  assert found["tokens_listed"] == found["tokens_bare"] == tiny.BUDGET
  assert found["exact_bare"] == found["edit_bare"] == 1.0
  np.testing.assert_allclose(found["bits_bare"], 10.0, atol=1e-3)
  # An id that stands for no word misleads D in whatever place: a swap changes
  # nothing, and it is junk. Without it the two words stand in other places.
  np.testing.assert_allclose(found["swap_bits"], 0.0, atol=1e-3)
  assert found["junk_share"] == 1.0
  assert found["exact_listed"] == 0.0 and found["bits_listed"] < 0


def test_nobody_uses_what_nobody_reads_off():
  found = asked_use.make(setup(obeys=False), rows=ROWS)(ARM, {}, ())
  assert found["use_rate"] == found["swap_bits"] == found["junk_share"] == 0.0
  np.testing.assert_allclose(found["bits_listed"], 10.0, atol=1e-3)
  assert {k for k, v in found.items() if not np.isfinite(v)} == set()
  # A rule writes nothing, and an arm without a list is asked for nothing.
  assert asked_use.make(setup(inject=0))(ARM, {}, ()) == {}
  rule = SimpleNamespace(name="rule", write=True, rule=True)
  assert asked_use.make(setup())(rule, {}, ()) == {}


def test_fresh_subsets_are_all_that_codes_hold():
  """Words of s are found in few subsets: what is not is lost."""
  made = setup(withheld=5, obeys=False)
  evaluate = fresh_ids.make(made, allowed=5, samples=3, rows=ROWS)
  found = evaluate(ARM, {}, ())
  scopes = {name.split("_")[0] for name in found}
  assert scopes == {"free", "all", "trained", "withheld"}
  assert {name.split("_", 1)[1] for name in found} == {
    "bits", "edit", "exact", "agreement", "agreed",
  }  # fmt: skip
  assert found["free_exact"] == found["free_edit"] == 1.0
  np.testing.assert_allclose(found["free_bits"], 10.0, atol=1e-3)
  for scope in ("all", "trained", "withheld"):
    assert found[f"{scope}_edit"] < 1.0 > found[f"{scope}_exact"]
    # Of an empty code this D knows nothing, and its d's differ.
    assert found[f"{scope}_agreed"] <= found[f"{scope}_agreement"] < 1.0
  # It is sure of what it reads.
  assert found["free_agreement"] == found["free_agreed"] == 1.0
  # A D that says the same of every code agrees with itself, and is wrong.
  mute = fresh_ids.make(setup(reads=False), allowed=5, rows=ROWS)(ARM, {}, ())
  assert mute["free_agreed"] == 1.0 and mute["free_exact"] == 0.0


def test_a_subset_is_drawn_for_each_source():
  ids = CODE & (np.arange(tiny.VOCAB) > 10)
  limits = constraints.relaxed("free", CODE)(tiny.batch(rows=40), None)
  keys = jax.vmap(jax.random.key)(jnp.arange(40))
  found = fresh_ids.within(limits, ids, 5, 2, keys)
  assert found.allowed.shape == (40, 1, 5) and found.injected.shape == (
    40,
    1,
    2,
  )
  rows = [set(row.ravel().tolist()) for row in np.asarray(found.allowed)]
  assert all(len(x) == 5 and x <= set(np.flatnonzero(ids)) for x in rows)
  assert len(set(map(frozenset, rows))) > 30
  np.testing.assert_array_equal(found.injected, found.allowed[..., :2])
  assert fresh_ids.within(limits, ids, 5, 0, keys).injected is None


def test_agreement_is_of_pairs():
  """Two of three texts are equal: one pair of three; one token of four off."""
  rows = [[[8, 9, 10, 11]] * 2 + [[8, 9, 10, 12]]]
  d = Tokens(jnp.asarray(rows), jnp.ones((1, 3, 4), bool))
  similarity, equal = fresh_ids.agree(d)
  np.testing.assert_allclose(similarity, [(1 + 0.75 + 0.75) / 3])
  np.testing.assert_allclose(equal, [1 / 3])


@pytest.mark.parametrize(
  "make, settings, message",
  [
    (fresh_ids.make, {"allowed": 0}, "allowed=0: 1 to 15"),
    (fresh_ids.make, {"allowed": 16}, "allowed=16: 1 to 15"),
    (fresh_ids.make, {"allowed": 2, "samples": 1}, "samples=1"),
    (fresh_ids.make, {"allowed": 2, "split": "train"}, "split='train'"),
    (asked_use.make, {"rows": 0}, "rows=0"),
    (asked_use.make, {"split": "train"}, "split='train'"),
  ],
)
def test_settings_that_cannot_be(make, settings, message):
  with pytest.raises(ValueError, match=message):
    make(setup(), **settings)
