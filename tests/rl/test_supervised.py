"""pretrain.py: the base learns the language, and the roles learn extracts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import extracts
from rsrc_jax.rl import constraints, injected_ids, supervised
from rsrc_jax.types import Tokens, TrainState


def train(steps, roles=tiny.ROLES, asked=(), **changes):
  settings = dict(budget=tiny.BUDGET, warmup_from=5, dropout=0.1)
  tx = optax.adam(1e-2)
  step = jax.jit(
    supervised.make_step(
      tiny.POLICY,
      roles,
      tx,
      constraints.make("free", tiny.CODE, **dict(asked)),
      **settings | changes,
    )
  )
  params = tiny.params()
  state = TrainState(
    jnp.int32(0), params, tx.init(params), (), (), jnp.uint32(0)
  )
  metrics = []
  for _ in range(steps):
    state, m = step(state, None, tiny.batch(), ())
    metrics.append({k: float(v) for k, v in m.items()})
  return metrics


def test_all_roles_learn_from_the_step_they_are_taught():
  metrics = train(40)
  before, after = metrics[4], metrics[-1]
  for name in ("text_nll", "C_nll", "D_nll"):
    assert after[name] < 0.7 * before[name]
  # Until then the loss is the language alone.
  for m in metrics[:5]:
    np.testing.assert_allclose(m["loss"], m["text_nll"], rtol=1e-5)
  assert metrics[5]["loss"] > 2 * metrics[5]["text_nll"]


def test_c_is_never_shown_what_it_may_not_write():
  """Byte pieces stand in sources and in no code: one would cost 1e30 nats."""
  C = tiny.ROLES["C"]
  byte = np.asarray(tiny.batch().source.ids)[0, 0]
  support = C.support & (np.arange(tiny.VOCAB) != byte)
  roles = tiny.ROLES | {"C": C._replace(support=support)}
  assert train(2, roles)[-1]["C_nll"] < 100


# Codes of three, of two and of one token in four slots; U of two ids, of one,
# of none.
CODE = Tokens(
  *(
    jnp.asarray(np.array(rows, kind))
    for rows, kind in (
      ([[8, 9, 10, 11], [8, 9, 10, 0], [8, 9, 0, 0], [8, 0, 0, 0]], np.int32),
      ([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], bool),
    )
  )
)
USED = jnp.asarray(np.array([[15, 16], [15, -1], [15, 16], [15, 16]], np.int32))


def rows(code):
  ids, mask = (np.asarray(x) for x in code)
  assert not ids[~mask].any()
  return [row[m].tolist() for row, m in zip(ids, mask, strict=True)]


def test_weave_puts_ids_in_the_place_of_others():
  """At most half of a code: 2 of 4, 1 of 3, 1 of 2, 0 of 1."""
  weave = jax.jit(supervised.weave)
  places = set()
  for seed in range(20):
    found = rows(weave(CODE, USED, jax.random.key(seed), jnp.arange(4)))
    for new, old, ids in zip(
      found, rows(CODE), [[15, 16], [15], [15], []], strict=True
    ):
      kept = [a if a != b else 0 for a, b in zip(new, old, strict=True)]
      assert sorted(x for x in kept if x) == ids
    places.add(tuple(found[0]))
  # Anywhere: of twelve ordered places, some ten in twenty draws.
  assert len(places) > 5
  # Without ids nothing changes.
  none = weave(CODE, USED * 0 - 1, jax.random.key(0), jnp.arange(4))
  assert rows(none) == rows(CODE)


def test_append_makes_room_at_the_end():
  found = rows(injected_ids.append(CODE, USED, CODE.ids.shape[-1]))
  assert found == [[8, 9, 15, 16], [8, 9, 10, 15], [8, 9, 15, 16], [8, 15, 16]]
  # Within the budget; one token of the code always stays.
  budget = jnp.array([[3], [3], [2], [1]])
  short = extracts.keep(
    CODE, -jnp.arange(4.0)[None].repeat(4, 0), 4, budget[:, 0]
  )
  found = rows(jax.jit(injected_ids.append)(short, USED, budget[:, 0]))
  assert found == [[8, 15, 16], [8, 9, 15], [8, 15], [8]]
  assert rows(
    injected_ids.append(CODE, USED * 0 - 1, CODE.ids.shape[-1])
  ) == rows(CODE)


# Tokens that stand in no text of this world.
TAGS = {
  "use_tag": tokenizer.TEXT,
  "avoid_tag": tokenizer.V,
  "length_tag": tokenizer.UNKNOWN,
}


@pytest.mark.parametrize("show", ["", "weave", "append"])
def test_c_is_shown_what_to_do_with_the_injected(show, monkeypatch):
  """On half of the sources; D is trained on the extract unchanged."""
  many = 64
  roles = tiny.ROLES | {"C": tiny.ROLES["C"]._replace(**TAGS)}
  taught = {}
  monkeypatch.setattr(
    supervised.learner, "nll_loss",
    lambda policy, params, role, lesson, count: taught.setdefault(
      role.tag, lesson
    ).weights.sum() * params["norm"]["scale"].sum(),
  )  # fmt: skip
  tx = optax.sgd(0.0)
  strangers = tiny.CODE & ~tiny.WORDS  # 20 to 23: in no source
  limit = constraints.make("free", strangers, inject=2, budgets=(2, 3))

  def step(seed):
    taught.clear()
    step = supervised.make_step(
      tiny.POLICY, roles, tx, limit, budget=tiny.BUDGET,
      warmup_from=0, dropout=0.0, demonstrate=show,
    )  # fmt: skip
    params = tiny.params()
    state = TrainState(
      jnp.int32(0), params, tx.init(params), (), (), jnp.uint32(seed)
    )
    batch = tiny.batch(rows=many)
    out = jax.jit(lambda s: (step(s, None, batch, ())[0].step, dict(taught)))
    return jax.device_get(out(state)[1])

  lessons = step(0)
  c, d = lessons[roles["C"].tag], lessons[roles["D"].tag]
  prompts = rows(c.prompt)
  heard = np.array([TAGS["use_tag"] in row[1:-1] for row in prompts])
  assert 0.25 < heard.mean() < 0.75  # within four deviations of a half
  end = tokenizer.END
  shown = rows(Tokens(*(x[:, 0] for x in c.target)))
  shown = [[i for i in row if i != end] for row in shown]
  read = [row[1:-1] for row in rows(d.prompt)]
  for row, new, old, use in zip(prompts, shown, read, heard, strict=True):
    slots = row.count(TAGS["length_tag"])
    assert len(old) <= slots <= 3 and len(new) <= slots
    used = [i for i in new if strangers[i]]
    assert not any(strangers[i] for i in old)
    assert set(used) <= set(row) and (use or not used)
    if show == "":
      assert new == old
    elif show == "weave" and use:
      assert len(used) == min(2, len(old) // 2) and len(new) == len(old)
    elif show == "append" and use:
      assert len(used) == min(2, slots - 1) and new[-len(used) :] == used


def test_a_target_ends_as_a_sampled_code_does():
  """At its budget without an end; before it, or where it has none, with one."""
  C = tiny.ROLES["C"]._replace(**TAGS, length=4)
  end, none = C.end, constraints.make("free", tiny.CODE)
  batch = tiny.batch(rows=4)
  limits = none(jax.random.key(0), batch, tiny.schedule()).constraints
  how = supervised.Warmup(
    None, {"C": C}, none, budget=4, warmup_from=0, dropout=0.0
  )

  def targets(limits, **changes):
    own = how._replace(**changes)
    found = supervised.code_batch(own, batch.source, CODE, limits)
    assert found.target.ids.shape == (4, 1, 4) and found.weights.all()
    slots = [x.count(TAGS["length_tag"]) for x in rows(found.prompt)]
    return rows(Tokens(*(x[:, 0] for x in found.target))), slots

  full = [[8, 9, 10, 11], [8, 9, 10, end], [8, 9, end], [8, end]]
  assert targets(limits) == (full, [0] * 4)  # one budget: 4
  # Each at its budget but the third, whose source has no more tokens.
  limits = limits._replace(budget=jnp.array([[4], [3], [3], [1]]))
  told = [[8, 9, 10, 11], [8, 9, 10], [8, 9, end], [8]]
  assert targets(limits) == (told, [4, 3, 3, 1])
  # Not announced: they end by themselves, except at the largest budget.
  unsaid = limits._replace(announced=jnp.zeros((4, 1), bool))
  assert targets(unsaid) == (full, [0] * 4)
  half = limits._replace(announced=jnp.array([[1], [0], [1], [0]], bool))
  mixed = [told[0], full[1], told[2], full[3]]
  assert targets(half) == (mixed, [4, 0, 3, 0])
  # Where the end is banned no target has one.
  shut = [[8, 9, 10, 11], [8, 9, 10], [8, 9], [8]]
  assert targets(unsaid, ends=False)[0] == shut


def test_unknown_demonstration():
  with pytest.raises(
    ValueError, match=r"pretrain\.demonstrate='show'.*'weave'"
  ):
    train(0, demonstrate="show")
