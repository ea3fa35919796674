"""Scripted cheats: which gate pays which, and that the default pays none."""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.random_vocabulary import cheats as script
from experiments.random_vocabulary import policies
from rsrc_jax.metrics import compression
from rsrc_jax.types import Tokens

CASES = policies.cases()
NAMES = [row.name for row in CASES]
CHEATS = [row.name for row in CASES if row.kind == "cheat"]
# Everything that does nothing but append listed ids that say nothing.
ROTE = CHEATS[:9]
BOUND, FAR = script.BETAS.values()
COST = 0.75 * script.PRICE / policies.BUDGET  # R lost by a token: 9 of 12 words


@functools.cache
def measured():
  return script.measure(CASES)


@functools.cache
def pays(column, beta, mode="bonus"):
  """Case -> what trying it earns."""
  found = script.pays(measured(), column, beta, mode)
  return dict(zip(NAMES, found.tolist(), strict=True))


def of(name, array):
  """Of a case's code (not of its plain message)."""
  return np.asarray(array)[NAMES.index(name), 1]


def test_the_script_covers_the_cheats_it_says():
  assert len(CHEATS) == 17 and len(ROTE) == 9 and len(NAMES) == 23
  assert ROTE[0].startswith("list in order") and ROTE[-1] == "uniform noise"
  assert len(set(NAMES)) == len(NAMES)
  np.testing.assert_allclose((BOUND, FAR), (0.075, 0.3))


@pytest.mark.parametrize("beta", [BOUND, FAR], ids=["bound", "4x"])
@pytest.mark.parametrize("column", [script.DEFAULT, "B L_t"])
def test_the_default_pays_honest_use_and_no_cheat(column, beta):
  found = pays(column, beta)
  for name in CHEATS:
    assert found[name] < -1e-3, name
  assert found["junk (.5) for junk"] == 0.0
  for name in ("woven", "woven, law of content", "confident (.6)"):
    assert found[name] > 1e-3, name


def test_the_pay_of_a_list_and_of_a_woven_word_by_hand():
  """A list costs 8 tokens' price; two woven words earn 2 g / 8 of beta R."""
  for beta in (BOUND, FAR):
    found = pays(script.DEFAULT, beta)
    for name in ROTE:
      np.testing.assert_allclose(found[name], -8 * COST, rtol=1e-4)
    woven = beta * 0.75 * 2 * 0.7844 / 8
    np.testing.assert_allclose(found["woven"], woven, rtol=1e-3)
    # Ungated, beyond the bound: beta R for all 8, less their price.
    plain = pays("none", beta)["list in order, learnt (.999)"]
    np.testing.assert_allclose(plain, beta * 0.75 - 8 * COST, atol=1e-6)


@pytest.mark.parametrize("column", script.GATES)
def test_under_the_bound_no_gate_pays_what_is_appended(column):
  found = pays(column, BOUND)
  for name in (*CHEATS, "list (.5), decoys mislead D"):
    assert found[name] <= 0.0, name


def test_without_load_no_bonus_pays_a_list():
  """With L = 0 a list loses its price at any bonus."""
  for beta in (1e-3, 1.0, 1e3):
    for name in ROTE:
      loss = pays(script.DEFAULT, beta)[name]
      np.testing.assert_allclose(loss, -8 * COST, rtol=1e-4)


def test_beyond_the_bound_each_gate_alone_fails_somewhere():
  paid = lambda column: {n for n in ROTE if pays(column, FAR)[n] > 0}
  assert paid("none") == set(ROTE)
  # The literal gate: all but what is learnt or even, whose varentropy is small.
  even = {ROTE[0], "list in any order, leak 0.001", "uniform noise"}
  assert paid("A") == set(ROTE) - even
  # The density gate: little, and only of habits that are half learnt.
  half = {
    "list in order, half learnt (.5)",
    "list in any order, leak 0.5",
    "spike plus flat tail",
  }
  assert paid("B") == half
  # With load, none of them.
  assert paid("A L") == paid("B L") == paid("C") == set()


@pytest.mark.parametrize(
  "name, literal, density",
  [
    ("list in order, half learnt (.9)", (0.6, 1), (0, 0.02)),
    ("list in order, half learnt (.5)", (0.6, 1), (0, 0.3)),
    ("list in any order, leak 0.001", (0, 1), (0, 0.01)),
    ("list in any order, leak 0.1", (0, 1), (0, 0.01)),
    ("list in any order, leak 0.3", (0, 1), (0, 0.15)),
  ],
)
def test_gates_at_the_tokens_of_a_list(name, literal, density):
  uses = of(name, measured().uses)
  assert uses.sum() == 8
  for gate, (low, high) in (("literal", literal), ("density", density)):
    values = of(name, measured().gates[gate])[uses]
    assert low <= values.min() and values.max() <= high


def test_swapping_a_list_changes_nothing_while_it_is_paid():
  """The swap test: D's surprise stays, though an ungated bonus is above 0."""
  uses, gap, _ = script.dependence(policies.arrays(CASES))
  _, parts = script.rewarded(measured(), "none", FAR)
  for name in ROTE:
    assert of(name, gap) == 0.0 and of(name, uses).sum() == 8
    assert of(name, parts["bonus"]) > 0.2
  # Two woven words: 2 * 4 bits.
  np.testing.assert_allclose(of("woven", gap), 8 * np.log(2), rtol=1e-6)
  assert (np.asarray(gap)[:, 0] >= 0).all()


def test_one_that_works_does_not_carry_seven_that_do_not():
  name = "one useful, 7 of the list (.5)"
  uses = of(name, measured().uses)
  # Each on its own: the one that works, and seven zeros.
  each = of(name, measured().load["token"])
  assert sorted(each[uses].tolist()) == [0.0] * 7 + [1.0]
  assert each[0] == 1.0 and not each[~uses].any()
  # The message's: (4 ln 2 - 0.5) / (0.5 * 8) for all of them.
  shared = of(name, measured().load["code"])
  np.testing.assert_allclose(shared, (4 * np.log(2) - 0.5) / 4, rtol=1e-6)
  # So the literal gate pays the seven under a shared L, and not under L_t.
  assert pays("A L", FAR)[name] > 0.0
  for column in ("A L_t", "B L_t"):
    np.testing.assert_allclose(pays(column, FAR)[name], -7 * COST, rtol=1e-4)


def test_repeating_pays_once():
  for name in ("one listed id, 8 times", "a useful id, 8 times"):
    assert of(name, measured().uses).sum() == 1
  # A copy must not hide that the id says something: L is that of one.
  useful = "a useful id, 8 times"
  assert of(useful, measured().load["code"]) == 1.0
  for column in script.GATES:
    np.testing.assert_allclose(pays(column, FAR)[useful], -7 * COST, rtol=1e-4)
  x = policies.arrays(CASES)
  ids = of("one listed id, 8 times", x.ids)
  written = ids[of("one listed id, 8 times", x.mask)]
  assert len(set(written.tolist())) == 10 and len(written) == 17


def test_copying_is_seen_and_costs_its_length():
  x = policies.arrays(CASES)
  s = np.stack([policies.WORDS, policies.FRAME], -1).ravel()
  source = Tokens(jnp.asarray(s), jnp.ones(s.shape, bool))
  code = lambda name: Tokens(of(name, x.ids), of(name, x.mask))
  assert compression.novel_fraction(source, code("copying s")) == 0.0
  assert compression.edit_similarity(source, code("copying s")) == 1.0
  # 2 of 9 words are not those of s.
  np.testing.assert_allclose(
    compression.novel_fraction(source, code("woven")), 2 / 9, rtol=1e-6
  )
  # Twelve tokens of the frame at 0.3 / 32 each, reconstruction complete.
  for column in script.GATES:
    found = pays(column, FAR)["copying s"]
    np.testing.assert_allclose(found, -12 * 0.3 / 32, rtol=1e-4)


def test_writing_nothing_is_worth_nothing():
  reward, _ = script.rewarded(measured(), script.DEFAULT, FAR)
  plain = 0.75 * (1 - 0.3 * 9 / 32)
  np.testing.assert_allclose(of("empty c", reward), 0.0, atol=1e-6)
  one = (1 / 12) * (1 - 0.3 / 32)
  np.testing.assert_allclose(of("c of one word", reward), one, rtol=1e-5)
  found = pays(script.DEFAULT, FAR)
  np.testing.assert_allclose(found["empty c"], -plain, rtol=1e-5)
  np.testing.assert_allclose(found["c of one word"], one - plain, rtol=1e-5)


def test_a_decompressor_that_does_not_listen():
  """The code does not matter to D, nor then to the reward: no bonus either."""
  x = policies.arrays(CASES)
  name = "list (.5), D ignores c"
  surprise = script.surprise(x, x.ids)
  nothing = script.surprise(x._replace(mask=np.zeros_like(x.mask)), x.ids)
  assert of(name, surprise) == of(name, nothing)
  # The code of a sentence in other words is as good, unless D listens.
  other = script.surprise(x, np.where(x.mask, x.ids + 1_000, 0))
  assert of(name, other) == of(name, surprise)
  assert of("woven", other) > of("woven", surprise) + 10
  for column in script.GATES:
    reward, parts = script.rewarded(measured(), column, FAR)
    assert of(name, reward) == of(name, parts["bonus"]) == 0.0


def test_decodes_that_know_nothing_score_at_most_the_floor():
  found = policies.battery()
  floor = found[policies.FLOOR]
  # The frame, and one slot in 12: (12 + 12 / 12) / 24. One source in 12.
  np.testing.assert_allclose(floor["edit"], 13 / 24, rtol=1e-6)
  np.testing.assert_allclose(floor["exact"], 1 / 12, rtol=1e-6)
  knowing = found["s itself"]
  assert set(knowing.values()) == {1.0}
  others = set(found) - {policies.FLOOR, "s itself"}
  assert len(others) == 5
  for name in others:
    for metric in ("exact", "slots", "edit"):
      assert found[name][metric] <= floor[metric], (name, metric)
    assert found[name]["gain"] == 0.0
  # A raw score would pay generic text half of everything: the gain does not.
  assert found["generic text"]["edit"] == 0.5
  reward, _ = script.rewarded(measured(), "none", FAR)
  assert of("list (.5), generic d", reward) == 0.0


def test_honest_confidence_is_hardly_paid():
  """The known false negative, and the two that would pay it."""
  name = "confident (.6)"
  density = of(name, measured().gates["density"])[of(name, measured().uses)]
  np.testing.assert_allclose(density, 0.1117, atol=1e-4)
  assert of(name, measured().load["code"]) == 1.0
  woven = pays("B L", BOUND)["woven"]
  assert 0 < pays("B L", BOUND)[name] < 0.15 * woven
  assert pays("C L", BOUND)[name] > pays("C L", BOUND)["woven"]


def test_junk_for_junk_is_paid_by_gates_alone_even_under_the_bound():
  name = "junk (.5) for junk"
  for column in ("none", "A", "B"):
    assert pays(column, BOUND)[name] > 0.0
  for column in ("A L", "B L", "A L_t", "B L_t"):
    assert pays(column, FAR)[name] == 0.0


def test_decoys_that_mislead_need_a_measured_threshold():
  """L of a list that says nothing is 1 where its decoys say the wrong thing."""
  name, settled = "list (.5), decoys mislead D", "the same, threshold measured"
  for load in ("code", "token"):
    assert of(name, measured().load[load]).max() == 1.0
    assert of(settled, measured().load[load]).max() == 0.0
  for column in ("A L", "B L"):
    assert pays(column, FAR)[name] > 0.0
    assert pays(column, FAR)[settled] < 0.0


def test_multiplying_has_no_bound_and_pays_habits_that_are_half_learnt():
  """One listed id is enough: it lifts the factor from 1 - gamma to g's."""
  found = pays("B", 0.0, "multiply")
  assert found["list in order, half learnt (.5)"] > 0.0
  assert found["list in order, learnt (.999)"] < 0.0
  once = pays("A", 0.0, "multiply")["one listed id, 8 times"]
  assert once > 0.0 > pays("A", BOUND)["one listed id, 8 times"]


def test_the_stored_page_is_what_the_script_writes():
  stored = Path(script.__file__).with_name("cheats.md").read_text()
  assert stored == script.page()
