"""roles.py: the tokens of a prompt; an empty constraint adds none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from helpers import tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import tokens
from rsrc_jax.types import Constraints, Tokens

USE, AVOID, SLOT = 21, 22, 23
HEARS = tiny.ROLES["C"]._replace(
  use_tag=USE, avoid_tag=AVOID, length_tag=SLOT, length=4
)
C, SEPARATOR = tokenizer.C, tokenizer.SEPARATOR
TEXT = Tokens(
  jnp.asarray(np.array([[9, 10, 11], [12, 0, 0]], np.int32)),
  jnp.asarray(np.array([[True, True, True], [True, False, False]])),
)


def asks(injected=None, avoided=None, budget=None):
  none = jnp.full((2, 1, 1), -1, jnp.int32)
  lists = lambda x: None if x is None else jnp.asarray(x, jnp.int32)[:, None]
  budget = None if budget is None else jnp.asarray(budget, jnp.int32)[:, None]
  return Constraints(none, none, lists(injected), lists(avoided), None, budget)


def read(prompt):
  """What the model sees: the real tokens of each row."""
  ids, mask = (np.asarray(x) for x in prompt)
  assert not ids[~mask].any() and mask[:, -1].all()
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def test_layout():
  asked = asks([[15, 16], [17, -1]], [[-1, 9], [-1, -1]], [4, 2])
  prompt = HEARS.prompt(TEXT, asked)
  assert read(prompt) == [
    [C, 9, 10, 11, USE, 15, 16, AVOID, 9, *[SLOT] * 4, SEPARATOR],
    [C, 12, USE, 17, SLOT, SLOT, SEPARATOR],
  ]
  # Tag, text, two constraints of a tag and two ids each, slots, separator.
  assert prompt.ids.shape == (2, 1 + 3 + 3 + 3 + 4 + 1)
  assert prompt.ids.dtype == jnp.int32 and prompt.mask.dtype == bool


def test_a_budget_is_said_where_it_is_announced():
  asked = asks(budget=[4, 2])
  both = asked._replace(announced=jnp.array([[True], [True]]))
  assert read(HEARS.prompt(TEXT, both)) == read(HEARS.prompt(TEXT, asked))
  one = asked._replace(announced=jnp.array([[False], [True]]))
  said, unsaid = read(HEARS.prompt(TEXT, asked)), read(HEARS.prompt(TEXT))
  assert read(HEARS.prompt(TEXT, one)) == [unsaid[0], said[1]]


def test_an_ask_in_words():
  """Of several ids; masked with what they announce, so that rows line up."""
  told = HEARS._replace(use_tag=(18, 19, 18), avoid_tag=None, length_tag=None)
  asked = asks([[15, 16], [-1, -1]])
  prompt = told.prompt(TEXT, asked)
  assert read(prompt) == [
    [C, 9, 10, 11, 18, 19, 18, 15, 16, SEPARATOR],
    [C, 12, SEPARATOR],
  ]
  assert prompt.ids.shape == (2, 1 + 3 + 3 + 2 + 1)


def test_a_role_hears_what_it_has_tokens_for():
  asked = asks([[15, 16], [17, -1]], [[9, -1], [12, -1]], [4, 2])
  plain = read(HEARS.prompt(TEXT))
  assert plain == [[C, 9, 10, 11, SEPARATOR], [C, 12, SEPARATOR]]
  deaf = HEARS._replace(use_tag=None, avoid_tag=None, length_tag=None)
  assert read(deaf.prompt(TEXT, asked)) == plain
  assert deaf.prompt(TEXT, asked).ids.shape == deaf.prompt(TEXT).ids.shape
  only = HEARS._replace(avoid_tag=None, length_tag=None)
  assert read(only.prompt(TEXT, asked))[1] == [C, 12, USE, 17, SEPARATOR]
  # And what the arm does not know is not there, heard or not.
  assert read(HEARS.prompt(TEXT, asks())) == plain


@functools.partial(jax.jit, static_argnames="role")
def last(role, text, asked, params):
  """The hidden state that the first output token is read off, and its place."""
  prompt = role.prompt(text, asked)
  hidden, _ = tiny.POLICY.apply(
    params,
    Tokens(*(x[:, None] for x in prompt)),
    tokens.positions(prompt.mask[:, None]),
  )
  return hidden[:, 0, -1]


def test_an_ask_of_nothing_is_no_ask():
  """The model computes the same; one id more and it computes another thing."""
  params = tiny.params()
  role = HEARS._replace(support=None)  # arrays are no static arguments
  plain = last(role, TEXT, None, params)
  nothing = asks([[-1, -1]] * 2, [[-1, -1]] * 2, [0, 0])
  empty = last(role, TEXT, nothing, params)
  np.testing.assert_allclose(empty, plain, atol=1e-5)
  for changed in (
    nothing._replace(injected=jnp.array([[[15, -1]]] * 2)),
    nothing._replace(avoided=jnp.array([[[9, -1]], [[12, -1]]])),
    nothing._replace(budget=jnp.array([[1], [1]])),
  ):
    assert jnp.abs(last(role, TEXT, changed, params) - plain).max() > 1e-2
  # Each row has its own constraint.
  one = nothing._replace(injected=jnp.array([[[15, -1]], [[-1, -1]]]))
  found = last(role, TEXT, one, params)
  np.testing.assert_allclose(found[1], plain[1], atol=1e-5)
  # The place of an id among its pads has no effect.
  moved = one._replace(injected=jnp.array([[[-1, 15]], [[-1, -1]]]))
  np.testing.assert_allclose(last(role, TEXT, moved, params), found, atol=1e-5)
