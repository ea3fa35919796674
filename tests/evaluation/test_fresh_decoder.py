"""fresh_decoder.py: when a new D stops, what is kept, and that it learns."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.evaluation import evals, fresh_decoder
from rsrc_jax.evaluation.fresh_decoder import Codes, Tools, Training
from rsrc_jax.types import Tokens

HOW = Training(
  look=1, patience=2, least=0.1, steps=9, settle=0, batch_size=2,
  learning_rate=1.0, seed=0,
)  # fmt: skip
ROWS = Tokens(np.zeros((3, 2), np.int32), np.ones((3, 2), bool))
FALLING = {float(n): 9.0 - n for n in range(9)}
CODES = {name: Codes(ROWS, ROWS) for name in ("train", "valid")}


def scripted(curve):
  """Parameters are the sum of all rates; their NLL is read off a dict."""
  step = lambda params, moments, rate, codes: (params + float(rate), moments)
  nll = lambda params, codes: np.full(3, curve[params])
  return Tools(step, nll, None, lambda params: ())


def trained(curve, **changes):
  said = []
  kept, facts = fresh_decoder.train(
    scripted(dict(curve)), HOW._replace(**changes), 0.0, CODES, said.append
  )
  return kept, facts, said


def test_it_stops_after_looks_that_are_no_better_and_keeps_the_best():
  kept, facts, said = trained(enumerate([9.0, 5.0, 4.0, 3.95, 4.5, 0.0]))
  # The third step is better by less than `least`; two looks end it.
  assert kept == 2.0
  assert facts == {"steps": 4.0, "valid_nll": 4.0, "ended": 1.0}
  assert said[:2] == [
    "step 1: 5.000 bits on the validation split",
    "step 2: 4.000 bits on the validation split",
  ]
  assert said[-1] == "settled: 4.000 bits after 4 steps"


def test_one_that_goes_on_falling_is_said_not_to_have_ended():
  kept, facts, _ = trained(FALLING, steps=3)
  assert kept == 3.0
  assert facts == {"steps": 3.0, "valid_nll": 6.0, "ended": 0.0}


def test_without_steps_the_start_itself_reads():
  kept, facts, _ = trained(FALLING, steps=0, settle=0)
  assert kept == 0.0
  assert facts == {"steps": 0.0, "valid_nll": 9.0, "ended": 0.0}
  fresh_decoder.rules.check_some(
    fresh_decoder.RULES, {"steps": 0, "settle": 0}, "config.evals"
  )


def test_the_last_steps_are_looked_at_even_between_two_looks():
  _, facts, said = trained(FALLING, steps=3, look=2)
  assert [x.split(":")[0] for x in said] == ["step 2", "step 3", "settled"]
  assert facts["valid_nll"] == 6.0


def test_it_settles_from_the_best_and_keeps_what_is_better():
  """From 1 at the rates 1 and .5 to 2.5."""
  flat = {0.0: 9.0, 1.0: 5.0, 2.0: 5.0, 3.0: 5.0}
  kept, facts, said = trained(flat | {2.5: 4.99}, settle=2)
  assert (kept, facts) == (
    2.5, {"steps": 5.0, "valid_nll": 4.99, "ended": 1.0}
  )  # fmt: skip
  assert said[-1] == "settled: 4.990 bits after 5 steps"
  kept, facts, _ = trained(flat | {2.5: 5.01}, settle=2)
  assert (kept, facts["valid_nll"], facts["steps"]) == (1.0, 5.0, 5.0)


def test_every_code_is_read_once_before_any_is_read_again():
  ids = np.arange(5)[:, None]
  codes = Codes(*[Tokens(ids, np.ones(ids.shape, bool))] * 2)
  stream = fresh_decoder._batches(codes, 2, 0)
  seen = np.concatenate([next(stream).code.ids[:, 0] for _ in range(5)])
  assert sorted(seen[:5]) == sorted(seen[5:]) == [*range(5)]


def test_an_evaluation_is_given_what_it_names():
  of_old = lambda stage, params, carry: {"a": params}
  of_new = lambda stage, params, carry, frozen: {"a": frozen["base"]}
  given = {"frozen": {"base": 2}, "note": print}
  assert evals.call(of_old, None, 1, (), **given) == {"a": 1}
  assert evals.call(of_new, None, 1, (), **given) == {"a": 2}


@pytest.mark.parametrize(
  "settings, said",
  [({"patience": 0}, "patience=0"), ({"starts": ("own",)}, "starts="),
   ({"learning_rate": 0.0}, "learning_rate=0.0"), ({"look": 0}, "look=0")],
)  # fmt: skip
def test_settings_that_cannot_be(settings, said):
  setup = SimpleNamespace(policy=tiny.POLICY, roles=tiny.ROLES)
  with pytest.raises(ValueError, match=f"config.evals: .*{said}"):
    fresh_decoder.make(setup, **settings)


@pytest.mark.slow
def test_a_new_decoder_learns_a_code_that_its_arm_does_not_read():
  """Codes are the first tokens of s; the arm's own D is random."""
  rng = np.random.default_rng(0)
  draw = lambda n: np.repeat(rng.integers(8, 12, (n, 1)), tiny.SOURCE, 1)
  split = lambda n: Tokens(
    draw(n).astype(np.int32), np.ones((n, tiny.SOURCE), bool)
  )
  corpus = SimpleNamespace(
    train=split(64), valid=split(16), test=split(16), entropy_bits=2.0
  )
  setup = SimpleNamespace(
    corpus=corpus, policy=tiny.POLICY, roles=tiny.ROLES,
    config=SimpleNamespace(eval=SimpleNamespace(batch_size=16), seed=0),
  )  # fmt: skip
  write = lambda params, frozen, batch, key: Tokens(
    jnp.asarray(batch.source.ids[:, :1]), jnp.ones((len(batch.row), 1), bool)
  )
  arm = SimpleNamespace(name="arm", write=write)
  said = []
  evaluate = fresh_decoder.make(
    setup, look=20, patience=3, steps=200, settle=20, batch_size=32,
    learning_rate=1e-2,
  )  # fmt: skip
  params = tiny.params()
  before = jax.tree.map(np.asarray, params)
  found = evals.call(
    evaluate, arm, params, (), frozen={"base": tiny.params(1)},
    note=said.append,
  )  # fmt: skip
  assert found["own_bits"] < 0.0 and found["own_exact"] == 0.0
  assert found["base_bits"] > 1.9 and found["base_exact"] == 1.0
  assert found["base_edit"] == 1.0 and found["base_steps"] <= 220
  np.testing.assert_allclose(found["base_bits"], 2.0 - found["base_nll"])
  assert said[0].startswith("arm: a new D from base, step 20: ")
  # The arm's parameters are as they were.
  jax.tree.map(np.testing.assert_array_equal, before, params)
  none = SimpleNamespace(name="none", write=None)
  assert evals.call(evaluate, none, params, (), frozen={}, note=print) == {}
