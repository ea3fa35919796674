"""The data kind "reasoning": texts with a question and its exact answer each.

The tasks are made by reasoning-gym.

Stojanovski, Stanley, Sharratt, Jones, Adefioye, Kaddour & Köpf, "REASONING GYM:
Reasoning Environments for Reinforcement Learning with Verifiable Rewards"
(arXiv:2505.24760). The package is optional (extra "reasoning", Apache-2.0). Of
its families, those are here whose tasks consist of a text and a question on it.
A code is written before the question is known.
"""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rsrc_jax import rules
from rsrc_jax.data import sources, tokenizer
from rsrc_jax.types import QASources

# What stands before the question of a task, and what stands before its text.
FAMILIES = {
  "family_relationships": ("\n\n", ""),
  "needle_haystack": ("\n", ""),
  "syllogism": ("\n\n", "Consider these statements:\n"),
}


class Task(NamedTuple):
  """A text, a question on it and its answer.

  Each is one line, without instructions on the form of the answer.
  """

  source: str
  question: str
  answer: str


def draw_tasks(
  family: str, count: int, seed: int, options: Mapping[str, Any]
) -> list[Task]:
  """`count` tasks of one of FAMILIES, some of which may be equal.

  Args:
    family: a key of FAMILIES.
    count: how many tasks.
    seed: which tasks.
    options: settings of the family, as reasoning-gym names them.

  Raises:
    ValueError: reasoning-gym is not installed, or does not know the family or
      an option.
  """
  if family not in FAMILIES:
    raise ValueError(
      f"config.data.family={family!r}: one of {', '.join(FAMILIES)}."
    )
  try:
    gym = importlib.import_module("reasoning_gym")
  except ImportError as error:
    raise ValueError(
      f"reasoning-gym can't be imported ({error}): pip install "
      '"rsrc-jax[reasoning]"'
    ) from error
  try:
    made = gym.create_dataset(family, seed=seed, size=count, **options)
  except (TypeError, AssertionError) as error:
    raise ValueError(
      f"config.data.options={dict(options)!r}: {family} says: {error}"
    ) from error
  return [parted(family, one["question"], one["answer"]) for one in made]


def parted(family: str, said: str, answer: str) -> Task:
  """Splits what a task says into source and question, up to its first "?".

  Raises:
    ValueError: there is no question in it.
  """
  between, opening = FAMILIES[family]
  source, found, question = said.removeprefix(opening).partition(between)
  asked = re.match(r"[^?]*\?", question)
  if not found or not asked:
    raise ValueError(f"{family}: no question is found in {said!r}.")
  line = lambda text: " ".join(text.split())
  return Task(line(source), line(asked[0]), line(answer))


RULES = {
  "family": rules.one_of(*FAMILIES),
  **dict.fromkeys(
    ("tasks", "vocab_size", "max_tokens", "heldout"), rules.whole(1)
  ),
  # By family; reasoning-gym checks its own settings.
  "options": {rules.OTHERS: {rules.OTHERS: rules.anything}},
  "path": sources.no_path,
  "asks": rules.flag,
}


def make(
  *,
  seed: int,
  cache_dir: str,
  family: str,
  tasks: int,
  options: Mapping[str, Mapping[str, Any]],
  vocab_size: int,
  max_tokens: int,
  heldout: int,
  path: str = "",
  asks: bool = False,
) -> sources.Corpus:
  """Tasks of reasoning-gym as a corpus of QASources.

  Args:
    seed: which tasks.
    cache_dir: the folder in which the vocabulary is kept.
    family: a key of FAMILIES.
    tasks: how many are made, equal ones included.
    options: family -> its settings, as reasoning-gym names them.
    vocab_size: V, the control tags included.
    max_tokens: S.
    heldout: tasks of valid, and of test.
    path: must be empty. Tasks are made, not read.
    asks: whether the vocabulary has tokenizer.CONTROL_TAGS.

  Raises:
    ValueError: reasoning-gym is not installed or refuses a setting, or too few
      tasks are left.
  """
  rules.check_some(RULES, locals(), "config.data")
  return corpus(
    family=family,
    tasks_made=draw_tasks(family, tasks, seed, options.get(family, {})),
    vocab_size=vocab_size,
    max_tokens=max_tokens,
    heldout=heldout,
    cache_dir=cache_dir,
    asks=asks,
  )


def corpus(
  *,
  family: str,
  tasks_made: Iterable[Task],
  vocab_size: int,
  max_tokens: int,
  heldout: int,
  cache_dir: str,
  asks: bool = False,
) -> sources.Corpus:
  """Tasks as a corpus of QASources.

  Of the tasks with one source only the last is kept, in the place of the first.

  Args:
    family: the name of the corpus.
    tasks_made: as from `draw_tasks`.
    vocab_size: V, the control tags included. The vocabulary is made from the
      training split.
    max_tokens: S. Tasks with longer sources are left out, none is cut.
    heldout: tasks of valid, and of test.
    cache_dir: the folder in which the vocabulary is kept.
    asks: whether the vocabulary has tokenizer.CONTROL_TAGS.

  Returns:
    Corpus with splits QASources of [n, S], [n, Q] and [n, W - 1].

  Raises:
    ValueError: too few tasks are left.
  """
  found = {task.source: task for task in tasks_made}
  rows = list(found.values())
  train = rows[2 * heldout :]
  remedy = "raise config.data.tasks, or lower config.data.heldout"
  if heldout < 1 or len(train) < sources.LEAST:
    raise ValueError(
      f"config.data.heldout={heldout} leaves {len(train)} of {len(rows)} "
      f"different tasks to train on, and {sources.LEAST} are needed: {remedy}."
    )
  model, _ = tokenizer.cached_sentencepiece(
    [text for task in train for text in task],
    vocab_size=vocab_size,
    cache_dir=cache_dir,
    asks=asks,
  )
  vocab = tokenizer.from_sentencepiece(model, asks)
  cuts = rows[:heldout], rows[heldout : 2 * heldout], train
  encoded = [[Task(*map(vocab.encode, task)) for task in cut] for cut in cuts]
  fitting = _fitting(encoded, max_tokens, remedy)
  every = [task for cut in fitting for task in cut]
  widths = [max(map(len, part)) for part in zip(*every, strict=True)]
  test, valid, train = (_padded(cut, widths) for cut in fitting)
  return sources.Corpus(
    name=family,
    vocab=vocab,
    train=train,
    valid=valid,
    test=test,
    entropy_bits=None,
    slots=None,
    digest=sources.digest(train, valid, test),
    ood=None,
    ood_name="",
  )


def _fitting(
  encoded: list[list[Task]], max_tokens: int, remedy: str
) -> list[list[Task]]:
  """The tasks of test, valid and train whose source is short enough."""
  fitting = [
    [task for task in cut if len(task.source) <= max_tokens] for cut in encoded
  ]
  if min(map(len, fitting)) < sources.LEAST:
    longest = max(len(task.source) for cut in encoded for task in cut)
    raise ValueError(
      f"config.data.max_tokens={max_tokens} leaves {len(fitting[2])} tasks to "
      f"train on and {min(len(fitting[0]), len(fitting[1]))} held out, and "
      f"{sources.LEAST} of each are needed: sources have up to {longest} "
      f"tokens; raise it, or {remedy}."
    )
  return fitting


def _padded(encoded: list[Task], widths: list[int]) -> QASources:
  source, question, answer = (
    sources.padded(part, width)
    for part, width in zip(zip(*encoded, strict=True), widths, strict=True)
  )
  return QASources(*source, question, answer)
