"""Work and loops are booked under the section of the role that samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny, toy_pattern

from rsrc_jax.accounting import flops, ledger, metering, totals
from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import joined
from rsrc_jax.patterns import cc, ccv, cdv, extract, qa
from rsrc_jax.rl import verifier
from rsrc_jax.types import Constraints, Context, Rollout, SourceInfo, Tokens

VERIFY = verifier.make(
  tiny.POLICY,
  tiny.ROLES["V"],
  weights={"edit": 1.0},
  shaping={"gain": 1.0},
  positions=None,
)
ASKED = SourceInfo(
  ("a", "b", "c"), np.array([20, 21, 22], np.int32),
  np.arange(tiny.VOCAB) // 4 == np.arange(2, 5)[:, None], (0, 2, 4), 7,
)  # fmt: skip
CONTEXT = Context(tiny.POLICY, tiny.ROLES, VERIFY, ASKED)
CDV = {
  "group": 2, "decodes": 2, "length_price": 0.1, "lessons": 1, "dropout": 0.1,
}  # fmt: skip
CCV = {
  "fresh": CDV, "buffer": 8, "parents": 4, "group": 2, "length_price": 0.1,
  "over_parent": 0.5, "targets": "next", "left": 0.5, "warmup": 0,
}  # fmt: skip
CC = {
  "rounds": 2, "pool": 2, "memory": 3, "shared": ("a",), "drift": 0.1,
  "group": 2, "candidates": 2, "over_memory": 0.5, "over_empty": 0.5,
  "rollback": True, "warmup": 1, "imitate": True, "dropout": 0.1,
}  # fmt: skip
QA = {
  "group": 2, "each": 2, "unasked": (), "pairs": 0.5, "answers": 2,
  "lessons": True, "from_source": 0.1, "dropout": 0.1, "length_price": 0.1,
}  # fmt: skip
PROBES = {"count": 2, "length": 2, "reads": "source", "opponent": 0.5}
OWN = SourceInfo(unknown=7, answer_tokens=3)
PATTERNS = {
  "cdv": (lambda: cdv.make(CONTEXT, **CDV), {"C", "D"}),
  "ccv": (
    lambda: ccv.make(CONTEXT, **CCV),
    {"C", "D", "C#2", "C#3", "D#2", "reference"},
  ),
  "joint": (  # the further codes of the first policy are sampled
    lambda: ccv.make(CONTEXT, **CCV, joint=2),
    {"C", "D", "C#2", "C#3", "D#2", "reference", "reference#2"},
  ),
  "cc": (lambda: cc.make(CONTEXT, **CC), {"C", "D", "C#2", "C#3", "D#2"}),
  "misled": (
    lambda: cc.make(CONTEXT, **CC, choose="misled"),
    {"C", "D", "C#2", "C#3", "C#4", "D#2", "D#3"},
  ),
  "qa": (lambda: qa.make(CONTEXT, **QA), {"C", "D"}),
  "probes": (
    lambda: qa.make(
      CONTEXT._replace(info=OWN), **QA | {"each": 1, "pairs": 0.0},
      probes=PROBES,
    ),
    {"C", "Q", "V", "D"},
  ),
  "toy": (lambda: toy_pattern.make(CONTEXT, group=2, price=0.1), {"E"}),
}  # fmt: skip


def played(pattern):
  """The FLOPs of a step by scope, and its metrics: traced, never run."""
  sections = tuple(role.scope for _, role in pattern.roles)
  params = jax.eval_shape(tiny.POLICY.init, jax.random.key(0))
  frozen = {"base": params, "reader": params, "start": params}
  batch = tiny.batch()
  two = tokens.cut(batch.source, jnp.full(len(batch.row), 2))
  two = Tokens(*(x[:, :2] for x in two))
  batch = batch._replace(question=two, answer=two)
  none = jnp.full((len(batch.row), 1, 1), -1, jnp.int32)
  args = (
    params, frozen, jax.eval_shape(pattern.init), batch, jax.random.key(0),
    tiny.ask(Constraints(none, none)),
  )  # fmt: skip
  jaxpr, (episode, _) = jax.make_jaxpr(pattern.play, return_shape=True)(*args)
  scopes = tuple(dict.fromkeys((*ledger.SCOPES, *sections)))
  return flops.count(jaxpr, scopes), episode.metrics


@pytest.mark.parametrize("name", PATTERNS)
def test_every_loop_is_counted_under_the_name_that_the_program_has(name):
  make, expected = PATTERNS[name]
  count, metrics = played(make())
  ends = metering.LOOPS
  told = {k.removesuffix(ends) for k in metrics if k.endswith(ends)}
  # Loops without products, of a sort or a draw, cost next to nothing.
  busy = {x for term, work in count.terms.items() if work.products
          for x in term.loops}  # fmt: skip
  assert told == busy == expected


def test_a_role_of_a_user_has_a_section_of_its_own():
  count, _ = played(PATTERNS["toy"][0]())
  spent = flops.evaluate(count, {"E": 2.0})["scopes"]
  assert spent["E"]["hardware"] > 0 and spent["E/prefill"]["hardware"] > 0
  assert not [x for x in spent if x.startswith(("C", "D"))]
  assert {totals.scope_phase(x) for x in ("E", "E/prefill")} == {"E", "prefill"}


def test_sections_of_roles():
  C, D = tiny.ROLES["C"], tiny.ROLES["D"]
  assert (C.scope, D.scope) == ("C", "D")
  R = joined(C, D, "R")
  assert (R.name, R.scope, R.tag) == ("R", "C", (C.tag, D.tag))
  E = joined(C, D, "E", "memory")
  assert (E.name, E.scope) == ("E", "memory")
  assert C._replace(name="").scope == ""
  with C._replace(name="").charged():
    pass


def test_passes_are_named_by_section_in_the_order_of_the_calls():
  C, D = tiny.ROLES["C"], tiny.ROLES["D"]
  R = joined(C, D, "R")
  mask = jnp.arange(4) < jnp.array([[[3], [2]]])
  three = Rollout(None, Tokens(mask * 1, mask), None, None)
  found = rollout.passes((C, three), (D, jnp.float32(5)), (R, jnp.float32(7)))
  assert found == {"C_loops": 2.0, "D_loops": 5.0, "C#2_loops": 7.0}
  more = rollout.passes((C, three), (R, three), after=found | {"reward": 1.0})
  assert more == {"C#3_loops": 2.0, "C#4_loops": 2.0}
  assert all(x.endswith(metering.LOOPS) for x in found)


def test_codes_of_a_rule_are_counted_as_cs():
  pattern = extract.make(CONTEXT, lessons=1, dropout=0.0)
  batch = tiny.batch()
  code = Tokens(*(x[:, : tiny.BUDGET] for x in batch.source))
  episode, _ = jax.eval_shape(
    pattern.play, (), (), (), batch, jax.random.key(0), code
  )
  assert set(episode.metrics) == {"length", "C_loops"}
