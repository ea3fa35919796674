"""Random keys: a draw is a function of seed, step, row, sample and position.

Every key is a numbered child of another. The numbers are named here, a class
for each parent, so that no two draws share a key by accident. A child's number
is also its place among those that jax.random.split makes: with jax's threefry,
split(key, n)[i] is fold_in(key, i), whatever n is. So a program that splits a
key and one that folds a number in can share a parent.

Stored results rest on these numbers: a new draw gets a new number, and an old
one keeps its own.
"""

import enum

import jax
import jax.numpy as jnp


@enum.unique
class Step(enum.IntEnum):
  """Children of a step's key that are the same whatever pattern is played."""

  CONSTRAINTS = 1  # what C is asked and forbidden, see rl/constraints.py
  HELD_OUT = 7  # the parent of a look at held-out reward; see HeldOut
  REWRITE = 11  # the parent of what ccv draws beside cdv; see Rewrite
  STREAM = 13  # the parent of what cc draws; see Stream


@enum.unique
class Cdv(enum.IntEnum):
  """Children of a step's key in C -> D -> V, alone or as ccv.fresh."""

  C = 0  # C's samples
  D_BATCH = 2  # which codes are cut in what D learns by likelihood, how short
  D = 3  # D's samples


@enum.unique
class Qa(enum.IntEnum):
  """Children of a step's key in C -> (Q -> A) -> V."""

  C = 0  # C's samples
  QUESTIONS = 2  # what is asked
  A = 3  # A's samples
  A_BATCH = 4  # what A reads in what it learns by likelihood


@enum.unique
class Rewrite(enum.IntEnum):
  """Children of Step.REWRITE."""

  SLOTS = 0  # where new codes are stored
  PARENTS = 1  # which old codes are rewritten
  R = 2  # R's samples
  FROM_START = 3  # which new codes are replaced by the starting policy's


@enum.unique
class Stream(enum.IntEnum):
  """Children of Step.STREAM."""

  FACTS = 0  # what the sources of a stream have in common
  ROUNDS = 1  # the parent of each round's key, folded in by its number


@enum.unique
class Round(enum.IntEnum):
  """Children of the key of a round of cc."""

  C = 0  # C's samples
  CC = 1  # CC's samples
  EXTRACT = 2  # the random extract that stands for a memory in the warm-up
  VALUE = 3  # unused by a greedy C: what each memory is worth
  D_BATCH = 4  # what is dropped from what D learns by likelihood


@enum.unique
class HeldOut(enum.IntEnum):
  """Children of Step.HELD_OUT, and of any other key that plays a batch once."""

  CONSTRAINTS = 0
  PLAY = 1  # stands for a step's key


@enum.unique
class Supervised(enum.IntEnum):
  """Children of a step's key where the roles are warmed up."""

  C = 0  # the noise by which extracts are drawn
  D_BATCH = 1  # which extracts are cut, how short
  V = 2  # what is noised for the reader
  CONSTRAINTS = 3  # what C is asked; see Asked


@enum.unique
class Asked(enum.IntEnum):
  """Children of Supervised.CONSTRAINTS, beside one for each row."""

  # The parent of Demonstration, and the key of row 1 as well: what is drawn
  # from the one and from the other are different children of it.
  DEMONSTRATION = 1


@enum.unique
class Demonstration(enum.IntEnum):
  """Children of Asked.DEMONSTRATION."""

  ASKED = 0  # which sources keep what they ask for
  SHOWN = 1  # where injected ids are woven in


@enum.unique
class Row(enum.IntEnum):
  """Children of a row's key in rl/constraints.py.

  The row's key itself says which ids are hidden.
  """

  INJECTED = 1
  AVOIDED = 2
  BUDGET = 3
  DECOYS = 4
  KEPT_INJECTED = 5  # which of the injected ids stay while few are asked for
  KEPT_AVOIDED = 6


@enum.unique
class Seed(enum.IntEnum):
  """Children of the seed's own key, beside one for each step."""

  RECURSIVE = 2  # the first parameters of a recursive model; step 2's as well


# Beside seed and step in the seed of a generator of numpy on the host.
MIXTURE = 3  # which pattern of a mixture is played


def step_key(seed: int | jax.Array, step: jax.Array) -> jax.Array:
  """The key of a step's rollouts: resuming needs nothing but the step."""
  return jax.random.fold_in(jax.random.key(seed), step)


def child(key: jax.Array, number: int | jax.Array) -> jax.Array:
  """The child of a key that has this number."""
  return jax.random.fold_in(key, number)


def fold(keys: jax.Array, number: int) -> jax.Array:
  """That child of each of the keys. [B] -> [B]"""
  return jax.vmap(lambda key: child(key, number))(keys)


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
  """One key a row, folded in by its number: no batch shows in it. -> [B]"""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def prompt_keys(key: jax.Array, rows: jax.Array, count: int) -> jax.Array:
  """One key for each of `count` prompts of a row: rows [B] -> [B * count]."""
  each = lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(
    jnp.arange(count)
  )
  return jax.vmap(each)(row_keys(key, rows)).reshape(-1)
