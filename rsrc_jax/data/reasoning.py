"""Texts with a question and its exact answer each, made by reasoning-gym.

Stojanovski, Stanley, Sharratt, Jones, Adefioye, Kaddour & Köpf, "REASONING GYM:
Reasoning Environments for Reinforcement Learning with Verifiable Rewards"
(arXiv:2505.24760). The package is optional (extra "reasoning", Apache-2.0); its
families whose tasks fall apart into something to read and something to ask are
here. What a code must keep is not known before the question is.
"""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rsrc_jax.data import sources, tokenizer
from rsrc_jax.types import QASources

# Where the question of a task begins, and what stands before the text.
FAMILIES = {
  "family_relationships": ("\n\n", ""),
  "needle_haystack": ("\n", ""),
  "syllogism": ("\n\n", "Consider these statements:\n"),
}


class Task(NamedTuple):
  """One line each, without instructions of form."""

  source: str
  question: str
  answer: str


def tasks(
  family: str, count: int, seed: int, options: Mapping[str, Any]
) -> list[Task]:
  """`count` tasks of one of FAMILIES, some of which may be alike.

  options: of the family, as reasoning-gym names them.

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
      "'rsrc-jax[reasoning]'"
    ) from error
  try:
    made = gym.create_dataset(family, seed=seed, size=count, **options)
  except (TypeError, AssertionError) as error:
    raise ValueError(
      f"config.data.options={dict(options)!r}: {family} says: {error}"
    ) from error
  return [parted(family, one["question"], one["answer"]) for one in made]


def parted(family: str, said: str, answer: str) -> Task:
  """A task's text, taken apart; the question ends at its question mark."""
  between, opening = FAMILIES[family]
  source, found, question = said.removeprefix(opening).partition(between)
  asked = re.match(r"[^?]*\?", question)
  if not found or not asked:
    raise ValueError(f"{family}: no question is found in {said!r}.")
  line = lambda text: " ".join(text.split())
  return Task(line(source), line(asked[0]), line(answer))


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
  """Tasks as a corpus of Quiz; of those with the same source only the first.

  Args:
    family: what the corpus is called.
    tasks_made: those of `tasks`.
    vocab_size: V, asks included; made from the training split.
    max_tokens: S; tasks with longer sources are left out, none is cut.
    heldout: tasks of valid, and of test.
    cache_dir: where the vocabulary is kept.
    asks: whether the vocabulary has tokenizer.ASKS.

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
    [text for task in train for text in task], vocab_size=vocab_size,
    cache_dir=cache_dir, asks=asks,
  )  # fmt: skip
  vocab = tokenizer.from_sentencepiece(model, asks)
  cuts = rows[:heldout], rows[heldout : 2 * heldout], train
  encoded = [[Task(*map(vocab.encode, task)) for task in cut] for cut in cuts]
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
  every = [task for cut in fitting for task in cut]
  widths = [max(map(len, part)) for part in zip(*every, strict=True)]
  test, valid, train = (_quiz(cut, widths) for cut in fitting)
  return sources.Corpus(
    family, vocab, train, valid, test, None, None,
    sources.digest(train, valid, test), None, "",
  )  # fmt: skip


def _quiz(encoded: list[Task], widths: list[int]) -> QASources:
  source, question, answer = (
    sources.padded(part, width)
    for part, width in zip(zip(*encoded, strict=True), widths, strict=True)
  )
  return QASources(*source, question, answer)
