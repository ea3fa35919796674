"""data/reasoning.py: texts with a question each, ours and reasoning-gym's."""

import importlib.util

import jax
import numpy as np
import pytest
from helpers.tasks import made

from rsrc_jax.build.setup import initial_params, make_setup
from rsrc_jax.data import reasoning, sources
from rsrc_jax.data.reasoning import Task
from rsrc_jax.runtime import configs
from rsrc_jax.stages import plan
from rsrc_jax.types import QASources

SETTINGS = {
  "family": "needle_haystack", "vocab_size": 340, "max_tokens": 40,
  "heldout": 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return str(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def found(cache):
  return reasoning.corpus(tasks_made=made(), cache_dir=cache, **SETTINGS)


def spelled(vocab, text):
  return [
    vocab.decode(ids[mask].tolist())
    for ids, mask in zip(text.ids, text.mask, strict=True)
  ]


@pytest.mark.parametrize(
  "family, said, expected",
  [
    (
      "family_relationships",
      "Al is married to Di. They have a child called Cy.\n\nWhat is Di to Al?"
      " Answer with a single word.",
      (
        "Al is married to Di. They have a child called Cy.",
        "What is Di to Al?",
      ),
    ),
    (
      "needle_haystack",
      "Al likes tea. Di likes rain. \nWho likes tea? Only the name.",
      ("Al likes tea. Di likes rain.", "Who likes tea?"),
    ),
    (
      "syllogism",
      "Consider these statements:\n1. All a are b\n2. No b are c\n\nDoes it "
      "follow that:\nNo a are c?\n(Answer Yes or No)",
      ("1. All a are b 2. No b are c", "Does it follow that: No a are c?"),
    ),
  ],
)  # fmt: skip
def test_a_task_is_taken_apart(family, said, expected):
  assert reasoning.parted(family, said, " yes ") == Task(*expected, "yes")


@pytest.mark.parametrize("said", ["Al likes tea.", "Al likes tea.\nWho does"])
def test_a_task_without_a_question_is_refused(said):
  with pytest.raises(ValueError, match="no question is found in 'Al likes"):
    reasoning.parted("needle_haystack", said, "Al")


def test_rows_keep_their_questions(found):
  """Of all splits, streamed or in order; no source is in two of them."""
  right = {task.source: task for task in made()}
  seen = []
  for split in (found.train, found.valid, found.test):
    assert isinstance(split, QASources)
    stream = sources.batches(split, batch_size=16, seed=3)
    for batch in (sources.batch(split, 8, len(split.ids)), next(stream)):
      texts = (
        spelled(found.vocab, x)
        for x in (batch.source, batch.question, batch.answer)
      )
      for source, question, answer in zip(*texts, strict=True):
        assert (question, answer) == right[source][1:]
    seen.append(set(spelled(found.vocab, split)))
  assert len(set.union(*seen)) == sum(map(len, seen)) > 300
  assert [len(x) for x in seen[1:]] == [40, 40]


def test_a_source_is_there_once(cache):
  """The same text with another question is not another source."""
  again = [task._replace(question="Who likes?") for task in made()]
  twice = reasoning.corpus(
    tasks_made=[*made(), *again], cache_dir=cache, **SETTINGS
  )
  once = reasoning.corpus(tasks_made=again, cache_dir=cache, **SETTINGS)
  assert len(twice.train.ids) == len(once.train.ids)


def test_the_digest_holds_answers(found):
  train = found.train
  answer = train.answer._replace(ids=train.answer.ids + 1)
  assert sources.digest(train) != sources.digest(train._replace(answer=answer))
  assert sources.digest(train) == sources.digest(train._replace())


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"heldout": 0}, r"heldout=0 leaves \d+ of \d+"),
    ({"heldout": 190}, r"heldout=190 leaves \d+ of \d+.*raise"),
    ({"max_tokens": 3}, r"max_tokens=3 leaves 0 tasks.*up to \d+ tokens"),
    ({"vocab_size": 9_999}, "vocab_size=9999"),
  ],
)  # fmt: skip
def test_bad_settings_name_the_remedy(cache, changes, error):
  with pytest.raises(ValueError, match=error):
    reasoning.corpus(tasks_made=made(), cache_dir=cache, **(SETTINGS | changes))


def test_what_is_not_there_is_named(monkeypatch):
  with pytest.raises(ValueError, match="family='riddles': one of family_rel"):
    reasoning.draw_tasks("riddles", 4, 0, {})
  monkeypatch.setitem(reasoning.importlib.sys.modules, "reasoning_gym", None)
  with pytest.raises(ValueError, match=r'pip install "rsrc-jax\[reasoning\]"'):
    reasoning.draw_tasks("syllogism", 4, 0, {})


@pytest.mark.slow
def test_the_config_trains_on_them(monkeypatch, tmp_path):
  """A step of configs/qa_reasoning.py, on tasks of our own."""
  monkeypatch.setattr(
    reasoning, "draw_tasks", lambda family, n, seed, _: made(n)
  )
  settings = configs.load("configs/qa_reasoning.py")
  settings.data.update(tasks=400, vocab_size=340, heldout=40)
  settings.only, settings.batch_size, settings.budget = "qa_cold", 4, 3
  settings.eval.budgets = (3,)
  setup = make_setup(settings, tmp_path)
  _, arm = plan.make_stages(setup)
  params = initial_params(setup)
  state = arm.init(params)
  batch = next(sources.batches(setup.corpus.train, batch_size=4, seed=0))
  frozen = {"base": params}
  controls = arm.controls(state, frozen, batch)
  state, metrics = arm.step(state, frozen, batch, controls)
  assert int(state.step) == 1
  assert all(np.isfinite(x) for x in jax.device_get(metrics).values())


@pytest.mark.skipif(
  importlib.util.find_spec("reasoning_gym") is None,
  reason="needs the extra reasoning",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", reasoning.FAMILIES)
def test_the_package_makes_tasks(family):
  some = reasoning.draw_tasks(family, 200, 5, {})
  assert some == reasoning.draw_tasks(family, 200, 5, {})
  assert some != reasoning.draw_tasks(family, 200, 6, {})
  for task in some:
    assert task.question.endswith("?") and "nswer" not in task.question
    assert task.source and "?" not in task.source and "\n" not in task.source
    assert 0 < len(task.answer.split()) < 4
  with pytest.raises(ValueError, match=r"options=.*colour"):
    reasoning.draw_tasks(family, 4, 0, {"colour": 1})
