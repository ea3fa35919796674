"""answers.py: A before and after lessons, on codes that stay as they are."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from helpers import scripted, tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.evaluation import answers
from rsrc_jax.stages.stage import Stage
from rsrc_jax.types import Batch, Tokens

K, S, ROWS, LONG = 2, 4, 24, 6
END, UNKNOWN = tokenizer.END, tokenizer.UNKNOWN
NAMES = ("who", "what", "where", "when")
WORDS = np.array([
  np.isin(np.arange(tiny.VOCAB), np.arange(8 + 3 * i, 11 + 3 * i))
  for i in range(4)
])  # fmt: skip
ASKED = 0  # the one fact of training
LESSONS = 12


def wanted(params, prompt, step):
  """A says the first word that can answer, then ends; `sure` in nats."""
  order = jnp.argsort(~prompt.mask, stable=True)
  ids = jnp.where(prompt.mask, prompt.ids, 0)[order]
  fact = jnp.clip(ids[jnp.argmax(ids >= 20)] - 20, 0, 3)
  fits = jnp.asarray(WORDS)[fact, ids]
  word = jnp.where(jnp.any(fits), ids[jnp.argmax(fits)], UNKNOWN)
  said = jnp.where(step == 0, word, END)
  return params["sure"] * jax.nn.one_hot(said, tiny.VOCAB)


def sources(count, seed):
  """A word of each fact, in random order."""
  rng = np.random.default_rng(seed)
  ids = [[8 + 3 * i + rng.integers(3) for i in rng.permutation(4)]
         for _ in range(count)]  # fmt: skip
  return Tokens(np.array(ids, np.int32), np.ones((count, S), bool))


TEST, TRAIN = sources(ROWS, 0), sources(ROWS, 1)


def setup(**changes):
  config = ml_collections.ConfigDict({
    "seed": 3, "budget": K, "eval": {"batch_size": 8, "test_rows": ROWS},
    "arms": {"plain": {"pattern": "cdv"}, "memory": {"pattern": "cc"}},
    "patterns": {
      "qa": {"each": 2, "unasked": NAMES[1:], "pairs": 0.0, "dropout": 0.25},
      "cc": {"rounds": 3, "shared": (), "drift": 0.0},
    },
  })  # fmt: skip
  config.update(changes)
  corpus = SimpleNamespace(
    test=TEST, train=TRAIN, questions=[(20 + i, i) for i in range(4)],
    facts=NAMES, answers=WORDS, slots=None,
  )  # fmt: skip
  policy = scripted.policy(wanted, None, tiny.VOCAB)
  return SimpleNamespace(
    config=config, corpus=corpus, policy=policy, roles=tiny.ROLES, mesh=None
  )


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  monkeypatch.setattr(answers.sharding, "rows", lambda mesh, batch: batch)


def stage(name="plain", **how):
  return Stage(name, 1, 1, 0, None, None, **how)


def first_two(params, frozen, batch, key, k):
  """Codes that keep two of four facts."""
  assert k == K
  return jax.tree.map(lambda x: x[:, :K], batch.source)


def test_what_is_right_from_codes_that_keep_half():
  """Untaught, this A says anything but the right word; lessons turn it."""
  evaluate = answers.make(
    setup(), budget=K, lessons=(1, LESSONS), pool=ROWS, batch_size=8,
    learning_rate=1.0,
  )  # fmt: skip
  start = {"sure": jnp.float32(-3.0)}
  found = evaluate(stage(write=first_two), start, (), {})
  ids = TEST.ids
  word = ids[WORDS[ASKED][ids]]  # the right answers, [ROWS]
  says = lambda code: np.array([
    next((x for x in row if WORDS[ASKED][x]), UNKNOWN) for row in code
  ])  # fmt: skip
  code = ids[:, :K]
  for taught in (f"code{LESSONS}", f"source{LESSONS}"):
    is_right = lambda name, taught=taught: found[f"{taught}_{name}"]
    assert is_right("code_asked") == np.mean(says(code) == word)
    other = np.mean(says(np.roll(code, 1, 0)) == word)
    assert is_right("other_asked") == other
    assert is_right("source_asked") == 1 and is_right("nothing_asked") == 0
    assert 0.2 < is_right("code_unasked") < 0.8
    sampled = is_right("code_asked_sampled")
    assert 0 < sampled <= is_right("code_asked") + 0.25
  assert found["tokens"] == K
  assert found["untaught_code_asked"] == found["untaught_source_asked"] == 0
  assert found["code1_source_asked"] == 0  # one step does not turn it
  assert {x.split("_")[0] for x in found} == {
    "tokens", "untaught", "code1", f"code{LESSONS}", f"source{LESSONS}"
  }  # fmt: skip
  assert start["sure"] == -3.0  # the arm's own weights stay


def test_a_reader_may_begin_with_the_base(monkeypatch):
  """The codes are the arm's; whoever is asked and taught begins elsewhere."""
  seen, base, arm = [], object(), object()
  ask = lambda reader, *rest: seen.append(reader) or {"code_asked": np.ones(2)}
  monkeypatch.setattr(answers, "make_ask", lambda policy, asker: ask)
  monkeypatch.setattr(answers.jax, "jit", lambda f: f)
  taught = lambda lesson, init, start, *rest: [(5, ("taught", start))]
  monkeypatch.setattr(answers, "teaching", taught)

  def write(params, frozen, batch, key, k):
    assert params is arm
    return first_two(params, frozen, batch, key, k)

  for weights, first in (("arm", arm), ("base", base)):
    seen.clear()
    evaluate = answers.make(
      setup(), budget=K, lessons=(5,), teach=("code",), weights=weights
    )
    found = evaluate(stage(write=write), arm, (), {"base": base})
    assert seen == [first, ("taught", first)]
    assert found["code5_code_asked"] == found["untaught_code_asked"] == 1


def test_lessons_read_what_they_are_on():
  train = answers.Texts(
    TRAIN, Tokens(*(np.concatenate([x, x[:, :2]], 1) for x in TRAIN))
  )
  seen = []

  def lesson(params, state, batch, text, key):
    seen.append((batch, text, jax.random.key_data(key).tolist()))
    return params + 1, state

  for what in ("code", "source"):
    seen.clear()
    found = list(
      answers.teaching(lesson, lambda p: None, 0, train, what, (2, 5), 4, 7)
    )
    assert found == [(2, 2), (5, 5)] and len(seen) == 5
    assert len({str(key) for *_, key in seen}) == 5
    for batch, text, _ in seen:
      assert len(set(batch.row.tolist())) == 4 and text.ids.shape == (4, LONG)
      np.testing.assert_array_equal(batch.source.ids, TRAIN.ids[batch.row])
      full = getattr(train, what)
      real = np.asarray(text.mask).sum(-1)
      assert (real == full.ids.shape[-1]).all()
      ids = np.asarray(text.ids)[:, : full.ids.shape[-1]]
      np.testing.assert_array_equal(ids, full.ids[batch.row])


def test_a_memory_is_read_before_its_code():
  """Three rounds of two streams; the first round has no memory yet."""
  read, apart = answers.reader(setup(), K, "memory")
  rng = np.random.default_rng(0)
  said = {
    name: tiny.tokens(rng, 2, 3, size, lengths=np.full((2, 3), size))
    for name, size in (("source", S), ("cc", 3), ("code", K))
  }
  examine = lambda params, frozen, carry, batch, code, key: ({}, said)
  batch = Batch(jax.tree.map(lambda x: x[:6], TEST), np.arange(6))
  one = stage("memory", examine=examine, write=first_two)
  found = read(one, {}, {}, (), batch)
  later = lambda name: np.asarray(said[name].ids)[:, 1:].reshape(4, -1)
  between = np.full((4, 1), tokenizer.SEPARATOR)
  expected = np.concatenate([later("cc"), between, later("code")], 1)
  np.testing.assert_array_equal(found.code.ids, expected)
  np.testing.assert_array_equal(found.source.ids, later("source"))
  # The text so many rows before is of another stream.
  assert apart == 2
  # Another arm reads codes alone, of the same rounds; nothing is shared here.
  found = read(stage(write=first_two), {}, {}, (), batch)
  np.testing.assert_array_equal(found.source.ids, TEST.ids[[1, 2, 4, 5]])
  np.testing.assert_array_equal(found.code.ids, TEST.ids[[1, 2, 4, 5], :K])


def test_arms_without_codes_or_not_asked_for_are_left_out():
  evaluate = answers.make(setup(), budget=K, arms=("memory",))
  assert evaluate(stage(write=first_two), {}, (), {}) == {}
  assert evaluate(stage("memory"), {}, (), {}) == {}


@pytest.mark.parametrize(
  "how, said",
  [
    ({"budget": K + 1}, "budget=3 must be at most config.budget=2"),
    ({"streams": "plain"}, "streams='plain' must be an arm of the pattern cc"),
    ({"arms": ("nobody",)}, "must be of the arms memory, plain"),
    ({"pool": 8}, "batch_size=.* must be at most the pool of 8"),
    ({"teach": ("d",)}, r"teach=\('d',\) must be a tuple in which 'd'"),
    ({"streams": "nobody"}, "streams='nobody' must be of the arms memory"),
    ({"teach": ()}, r"teach=\(\) must be 'code', 'source' or both"),
    ({"lessons": ()}, r"lessons=\(\) must be"),
  ],
)
def test_settings_that_cannot_work(how, said):
  with pytest.raises(ValueError, match=said):
    answers.make(setup(), **{"budget": K} | how)


def test_there_has_to_be_something_to_ask():
  none = setup()
  del none.config.patterns["qa"]
  with pytest.raises(ValueError, match="the questions are those"):
    answers.make(none, budget=K)
