"""The plateau rule: its line, its looks, and each shipped curriculum with it.

Rewards of the hand-made tests are dyadic fractions, whose sums are exact.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import plateaus
from rsrc_jax.rl import curriculum, plateau
from rsrc_jax.rl.plateau import Rule


@functools.cache
def judged(rule):
  """rewards [n] -> flat, slope, error after each of them, [n]."""

  def one(watch, reward):
    watch = plateau.saw(watch, reward)
    return watch, plateau.flat(rule, watch)

  return jax.jit(lambda x: jax.lax.scan(one, plateau.begin(rule), x)[1])


def looks(rewards, rule):
  """After which rewards, from 1, the rule found them flat."""
  flat, _, _ = judged(rule)(np.asarray(rewards, np.float32))
  return (np.flatnonzero(flat) + 1).tolist()


def test_a_line_by_hand():
  """Rewards 0, 1, 0, 1 at -3/2, -1/2, 1/2, 3/2: sum of squares 5.

  Slope (1/2 * -1/2 ... ) = (0 - 1/2 + 0 + 3/2) / 5 = 1/5. About the mean 1/2
  the line is -3/10, -1/10, 1/10, 3/10; residuals -1/5, 3/5, -3/5, 1/5, whose
  squares sum to 4/5. Variance 4/5 / 2 = 2/5, error sqrt(2/5 / 5) = sqrt(2)/5.
  """
  slope, error = plateau.trend(jnp.array([0.0, 1.0, 0.0, 1.0]))
  np.testing.assert_allclose(slope, 0.2, rtol=1e-6)
  np.testing.assert_allclose(error, np.sqrt(2) / 5, rtol=1e-6)


def test_a_line_is_that_of_numpy_and_takes_any_leading_axes():
  y = np.random.default_rng(0).normal(0.4, 0.01, (3, 2, 90))
  x = np.arange(90)
  slope, error = plateau.trend(jnp.asarray(y, jnp.float32))
  for i in np.ndindex(3, 2):
    (b, _), covariance = np.polyfit(x, y[i], 1, cov=True)
    # The error is that of independent residuals with n - 2 degrees of freedom.
    assert abs(slope[i] - b) < 2e-8
    np.testing.assert_allclose(error[i], covariance[0, 0] ** 0.5, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e-3])
def test_equal_rewards_are_flat_to_the_bit(value):
  """Rounding of their mean is no rise: they end a level even at no error."""
  slope, error = plateau.trend(jnp.full(7, value, jnp.float32))
  assert slope == error == 0.0
  assert looks([value] * 8, Rule(5, 1, 0.0)) == [5, 6, 7, 8]


def test_looks_are_at_multiples_and_never_before_the_window():
  flat = [0.5] * 20
  assert looks(flat, Rule(5, 1)) == list(range(5, 21))
  assert looks(flat, Rule(5, 4)) == [8, 12, 16, 20]
  assert looks(flat, Rule(8, 4)) == [8, 12, 16, 20]
  assert looks(flat, Rule(21, 1)) == []


def test_a_fall_is_flat_and_a_rise_is_not():
  """An exact line has no error, so that any rise at all is one."""
  rise = np.arange(20) / 64
  assert looks(rise, Rule(6, 1)) == []
  assert looks(rise[::-1], Rule(6, 1)) == list(range(6, 21))


def test_a_slope_is_held_against_its_error():
  """0 1 0 1 has slope 1/5 and error sqrt(2)/5: .71 of them."""
  rewards = [0.0, 1.0, 0.0, 1.0]
  assert looks(rewards, Rule(4, 1, 0.7)) == []
  assert looks(rewards, Rule(4, 1, 0.72)) == [4]
  # A rise that is 100 times as fast, in 100 times the noise, is judged alike.
  assert looks([100 * x for x in rewards], Rule(4, 1, 0.72)) == [4]


def test_what_is_not_finite_is_left_out_and_counted():
  """The window lacks it; looks stay at multiples of what was played."""
  rewards = [0.5, float("nan"), 0.5, float("inf"), 0.5, 0.5]
  assert looks(rewards, Rule(3, 1)) == [5, 6]
  assert looks(rewards, Rule(3, 3)) == [6]
  _, slope, error = judged(Rule(3, 1))(np.float32(rewards))
  assert np.isnan(slope[:4]).all() and np.isfinite(slope[4:]).all()
  assert np.isfinite(error[4:]).all()


def test_records_are_for_a_step_and_in_order():
  ends = plateau.none_ended(2)
  assert plateau.record(ends) == []
  ends = plateau.end(ends, 0, True, 30, plateau.TIMER, jnp.nan, jnp.nan)
  ends = plateau.end(ends, 1, False, 31, plateau.PLATEAU, 1.0, 1.0)
  ends = plateau.end(ends, 1, True, 50, plateau.PLATEAU, 0.25, 0.5)
  assert plateau.record(ends, every=2) == [
    {"step": 30, "by": "timer", "slope": None, "error": None},
    {"step": 50, "by": "plateau", "slope": 0.125, "error": 0.25},
  ]


# Every shipped curriculum that has the rule, played by its own functions.


CASES = plateaus.shipped()
SEEDS = 32
QUIET, LOUD = plateaus.NOISE, plateaus.MOST_NOISE
# Rises of the reward in a step, and the noise of a reward.
PLAYED = (
  (0.0, QUIET), (0.0, LOUD), (2e-4, LOUD), (3e-4, QUIET), (3e-4, LOUD),
  (1e-3, LOUD),
)  # fmt: skip


def played(case):
  """(slope, noise) -> Ends of SEEDS arms of a case."""
  return _played(json.dumps(case.block, sort_keys=True), case.steps)


@functools.cache
def _played(block, steps):
  block = json.loads(block)
  name, every = block.pop("name"), max(block.pop("every"), 1)
  relax = getattr(curriculum, name)(**block)
  steps = np.arange(steps, dtype=np.int32)
  told = (steps + 1) % every == 0
  draws = np.random.default_rng(0).normal(size=(SEEDS, steps.size))

  def one(state, x):
    step, told, reward = x
    state = relax.update(state, step)
    seen = relax.observe(state, reward)
    return jax.tree.map(functools.partial(jnp.where, told), seen, state), ()

  def play(of, draws):
    slope, noise = of
    rewards = slope * steps + noise * draws
    return jax.lax.scan(one, relax.init(), (steps, told, rewards))[0].ends

  run = jax.jit(jax.vmap(jax.vmap(play, (None, 0)), (0, None)))
  found = jax.device_get(run(np.float32(PLAYED), np.float32(draws)))
  return {
    of: jax.tree.map(lambda x, i=i: x[i], found) for i, of in enumerate(PLAYED)
  }


def ids(case):
  return f"{case.config}-{case.arms[0]}"


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_shipped_curriculum_relaxes_at_its_plateaus(case):
  """Constant reward: by the rule, before the timer. Rising: by the timer.

  The last row is the arm's own end, which matters where it ends at a plateau.
  """
  found = played(case)
  last = slice(None) if case.until == "plateau" else slice(-1)
  for noise in (QUIET, LOUD):
    ends = found[0.0, noise]
    by = ends.by[:, last]
    assert by.size and (by != plateau.GOES_ON).all()
    flat = by == plateau.PLATEAU
    assert flat.mean() > 0.98
    length = np.diff(ends.step[:, :-1], prepend=0)
    assert (length[flat[:, : length.shape[1]]] < case.most).all()
  for of in ((3e-4, QUIET), (3e-4, LOUD), (1e-3, LOUD)):
    by = found[of].by
    assert (by == plateau.PLATEAU).mean() < 0.02
    # And every level but the last ended all the same, by the timer.
    assert (by[:, :-1] != plateau.GOES_ON).all()


def test_the_rates_are_those_of_the_curriculum_itself():
  """benchmarks/plateaus.py and the functions of a run, where both happen."""
  names = [(x.config, x.block["name"]) for x in CASES]
  number = names.index(("mixed", "plateau"))
  case, of = CASES[number], (2e-4, LOUD)
  slow = plateaus.rates(case, of[0], noise=of[1], levels=4_000).plateau
  by = played(case)[of].by[:, :-1]
  assert 0.05 < slow < 0.95
  spread = 3 * np.sqrt(slow * (1 - slow) / by.size)
  assert abs((by == plateau.PLATEAU).mean() - slow) < spread + 0.02


def test_configs_that_should_have_the_rule_have_it():
  found = {case.config for case in CASES}
  assert found >= {
    "cc", "mixed", "qa", "random_vocabulary", "random_vocabulary_large",
    "random_vocabulary_smollm2", "random_vocabulary_text",
  }  # fmt: skip
  early = {(x.config, arm) for x in CASES if x.until == "plateau"
           for arm in x.arms}  # fmt: skip
  assert early >= {("cc", "code"), ("qa", "code"), ("qa", "english_rl")}


def test_the_stored_rates_are_of_the_shipped_configs():
  """plateaus.md, and what docs/forced_vocabulary.md says of it."""
  text = (plateaus.HERE / "plateaus.md").read_text()
  rows = [x.strip("|").split("|") for x in text.splitlines() if "|" in x][2:]
  found = [(row[0].strip(), *map(int, row[2:5])) for row in rows]
  assert found == [
    (x.config, x.rule.window * x.every, x.rule.look * x.every, x.most)
    for x in CASES
  ]
  rates = np.array([[float(x) for x in row[5:10]] for row in rows])
  assert rates[:, 0].max() < 1e-4 and rates[:, 1].max() == 0.0056
  assert rates[:, 3:].max() == 0.0021
  # Once more, of fewer levels: within four deviations.
  few = plateaus.rates(CASES[0], plateaus.SLOW, levels=1_000).plateau
  assert abs(few - rates[0, 2]) < 4 * np.sqrt(0.02 / 1_000)
