"""Random keys: a draw is a function of seed, step, row, sample and position.

Every key is a numbered child of another key. The numbers have names here, one
class for each parent, so that no two draws share a key by accident. Initial
parameters have no numbers: their keys fold in the path of each leaf
(models/initial.py).

Stored results depend on these numbers. A new draw gets a new number, and an old
draw keeps its number.
"""

import enum

import jax
import jax.numpy as jnp

from rsrc_jax.models import initial


@enum.unique
class Step(enum.IntEnum):
  """Children of a step's key that all patterns share."""

  CONSTRAINTS = 1  # of rl/constraints.py
  HELD_OUT = 7  # the parent of a held-out batch's keys; see HeldOut
  REWRITE = 11  # the parent of the draws of ccv beyond cdv; see Rewrite
  STREAM = 13  # the parent of the draws of cc; see Stream
  READER = 17  # the parent of the noise that the reader learns from; see Reader
  PROBES = 19  # Q's samples, in qa with probes


@enum.unique
class Cdv(enum.IntEnum):
  """Children of a step's key in C -> D -> V, alone or as ccv.fresh."""

  C = 0  # C's samples
  D_BATCH = 2  # which codes of D's supervised batch are cut, and their length
  D = 3  # D's samples
  TAUGHT = 4  # the code of each source whose decodes D learns from
  EMPTY = 5  # D's samples of the empty code
  SHOWN = 6  # which injected id a demonstration has, and where


@enum.unique
class Qa(enum.IntEnum):
  """Children of a step's key in C -> (Q -> A) -> V."""

  C = 0  # C's samples
  QUESTIONS = 2  # which questions
  A = 3  # A's samples
  A_BATCH = 4  # the codes of A's supervised batch
  TAUGHT = 5  # the codes of each source from whose answers A learns by RL


@enum.unique
class Rewrite(enum.IntEnum):
  """Children of Step.REWRITE."""

  SLOTS = 0  # where new codes are stored
  PARENTS = 1  # which old codes are rewritten
  R = 2  # R's samples
  FROM_START = 3  # which new codes come from the starting policy instead
  D = 4  # the parent of D's samples of rewrites; see Judged
  MORE = 5  # which further codes come from the starting policy
  MORE_START = 6  # its samples for these


@enum.unique
class Chains(enum.IntEnum):
  """Children of a batch's key in ccv.examine; its passes are 1 to 9."""

  TRIES = 0  # C's samples from the source
  START = 10  # the starting policy's, beyond its greedy code
  SECOND = 11  # a second sample of C, as long as the rewrite
  EQUAL = 12  # C's samples, as long as the best rewrite
  ALONE = 13  # R's samples, where all that it reads is one parent


@enum.unique
class Stream(enum.IntEnum):
  """Children of Step.STREAM."""

  FACTS = 0  # the common facts of a stream
  ROUNDS = 1  # the parent of each round's key, folded in by its number
  GOES_ON = 2  # which streams go on from the step before
  UNSHARED = 3  # which streams have nothing in common


@enum.unique
class Round(enum.IntEnum):
  """Children of the key of a round of cc."""

  C = 0  # C's samples
  CC = 1  # CC's samples
  EXTRACT = 2  # the random extract in the place of a memory in the warm-up
  VALUE = 3  # for the value of a memory; a greedy C does not use it
  D_BATCH = 4  # what is dropped from D's supervised batch
  D = 5  # the parent of D's samples of C's codes; see Judged
  VALUE_D = 6  # the same of the codes by which memories are valued
  CHOICE = 7  # for the choice of the next source; a greedy C does not use it
  CHOICE_D = 8  # the parent of D's samples for that choice


@enum.unique
class Judged(enum.IntEnum):
  """Children of a key with which D decodes the codes that V hears."""

  EACH = 0  # of every code
  EMPTY = 1  # of the empty code


@enum.unique
class Fresh(enum.IntEnum):
  """Children of a batch's key in evaluation/fresh_ids.py."""

  SUBSET = 0  # which ids a code may use
  SAMPLES = 1  # C's and D's samples


@enum.unique
class Answers(enum.IntEnum):
  """Children of a key in evaluation/answers.py."""

  WHICH = 0  # the parent of which question of each kind a source is asked
  A = 1  # the parent of A's samples, by the kind of the question
  QUESTIONS = 2  # the questions of a lesson
  NOTHING = 3  # which of its texts are left out


@enum.unique
class HeldOut(enum.IntEnum):
  """Children of Step.HELD_OUT, and of other keys that play one batch."""

  CONSTRAINTS = 0
  PLAY = 1  # used in the place of a step's key


@enum.unique
class Supervised(enum.IntEnum):
  """Children of a step's key in the warm-up of the roles; 2 was one."""

  C = 0  # the noise of the extracts
  D_BATCH = 1  # which extracts are cut, and their length
  CONSTRAINTS = 3  # of C's targets; see SupervisedConstraints


@enum.unique
class SupervisedConstraints(enum.IntEnum):
  """Children of Supervised.CONSTRAINTS, in addition to one for each row."""

  # The parent of Demonstration. It is the key of row 1 as well, but the draws
  # of both are different children of it.
  DEMONSTRATION = 1


@enum.unique
class Demonstration(enum.IntEnum):
  """Children of SupervisedConstraints.DEMONSTRATION."""

  HALF = 0  # which sources keep their constraints
  WOVEN = 1  # where injected ids are woven in


@enum.unique
class Row(enum.IntEnum):
  """Children of a row's key in rl/constraints.py.

  The row's key itself draws the hidden ids.
  """

  INJECTED = 1
  AVOIDED = 2
  BUDGET = 3
  DECOYS = 4
  KEPT_INJECTED = 5  # which of the injected ids stay as the level rises
  KEPT_AVOIDED = 6
  UNANNOUNCED = 7  # whether the prompt leaves the budget out
  CUT = 8  # whether a code whose budget is not announced is cut at BUDGET
  BARE = 9  # whether the row has no list of injected ids


@enum.unique
class DBatch(enum.IntEnum):
  """Children of a key that cuts the codes of a supervised batch."""

  DROP = 0  # which codes
  LENGTH = 1  # to how many tokens


@enum.unique
class QuestionDraw(enum.IntEnum):
  """Children of a row's key where questions are drawn."""

  WHICH = 0  # which ask about two facts
  ONE = 1  # the fact of the others
  TWO = 2  # the two facts


@enum.unique
class Reader(enum.IntEnum):
  """Children of Step.READER."""

  SHARE = 0  # how much of each row's text is replaced
  WHICH = 1  # which tokens
  EMPTY = 2  # which copies are empty
  LENGTH = 3  # which have the length of another text
  LACKS = 4  # which lack some tokens
  LOST = 5  # how many
  GONE = 6  # and which


@enum.unique
class Entering(enum.IntEnum):
  """Children of a step's key in the training of a recursive model."""

  DUE = 0  # when each cell's target is due
  EXPLORE = 1  # which items may not halt early
  LEAST = 2  # before which step


@enum.unique
class Examined(enum.IntEnum):
  """Children of a key that is handed on from batch to batch."""

  NEXT = 0  # of the batches that follow
  BATCH = 1  # of this one


# With seed and step, the seed of a NumPy generator on the host.
MIXTURE = 3  # which pattern of a mixture is played


def parameters(seed: int | jax.Array) -> jax.Array:
  """The key of a seed's initial parameters, whose leaves fold in their paths.

  It is named too, since the numbered children of the seed's key are steps.
  """
  return initial.named(jax.random.key(seed), "parameters")


def reader(seed: int | jax.Array) -> jax.Array:
  """The key of the reader's initial parameters, beside `parameters`."""
  return initial.named(jax.random.key(seed), "reader")


def step_key(seed: int | jax.Array, step: jax.Array) -> jax.Array:
  """The key of a step; resuming needs only the seed and the step."""
  return jax.random.fold_in(jax.random.key(seed), step)


def child(key: jax.Array, number: int | jax.Array) -> jax.Array:
  """The child of a key with this number."""
  return jax.random.fold_in(key, number)


def fold(keys: jax.Array, number: int) -> jax.Array:
  """The child with this number of each key. [B] -> [B]"""
  return jax.vmap(lambda key: child(key, number))(keys)


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  """One key for each row number, independent of the batch. [B] -> [B]"""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def prompt_keys(key: jax.Array, rows: jax.Array, count: int) -> jax.Array:
  """One key for each of `count` prompts of a row: rows [B] -> [B * count]."""
  each = lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(
    jnp.arange(count)
  )
  return jax.vmap(each)(row_keys(key, rows)).reshape(-1)


def uniform(keys: jax.Array, samples: int, length: int) -> jax.Array:
  """[B] keys -> [B, G, T]; a number depends on its key, sample and place."""
  sample = lambda key, g: jax.random.uniform(
    jax.random.fold_in(key, g), (length,)
  )
  of_row = lambda key: jax.vmap(lambda g: sample(key, g))(jnp.arange(samples))
  return jax.vmap(of_row)(keys)
