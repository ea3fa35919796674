"""rollout.py: what is scored is what was sampled."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny

from rsrc_jax.data import tokenizer
from rsrc_jax.lm import rollout
from rsrc_jax.lm.keys import row_keys
from rsrc_jax.models import transformer
from rsrc_jax.ops import token_stats
from rsrc_jax.runtime import sharding
from rsrc_jax.types import Constraints, Tokens, TokenStats


def limits(seed: int = 0, rows: int = tiny.ROWS) -> Constraints:
  """Per-row bans and allowed lists; some rows are free, all lists padded."""
  rng = np.random.default_rng(seed)
  codes = np.flatnonzero(tiny.CODE)
  banned = np.full((rows, 1, 4), -1)
  allowed = np.full((rows, 1, 6), -1)
  for i in range(rows):
    banned[i, 0, : rng.integers(0, 4)] = rng.choice(codes, 1)
    if i % 3:
      allowed[i, 0] = rng.choice(codes, 6, replace=False)
  return Constraints(
    jnp.asarray(banned, jnp.int32), jnp.asarray(allowed, jnp.int32)
  )


@functools.partial(jax.jit, static_argnames=("temperature", "top_p", "name"))
def both(params, batch, key, limits, name="C", temperature=1.0, top_p=1.0):
  """A rollout and the score of what it wrote."""
  role = tiny.ROLES[name]._replace(temperature=temperature, top_p=top_p)
  out = rollout.sample(
    tiny.POLICY, params, role, role.prompt(batch.source),
    row_keys(key, batch.row), samples=tiny.GROUP,
    constraints=limits,
  )  # fmt: skip
  scored, entropy = rollout.score(
    tiny.POLICY, params, role, out.prompt, out.output, limits
  )
  return out, scored, entropy


@pytest.mark.parametrize("name", ["C", "D"])
@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.7, 0.8)])
def test_score_repeats_what_sample_recorded(name, temperature, top_p):
  for seed in range(3):
    out, scored, _ = both(
      tiny.params(seed), tiny.batch(seed), jax.random.key(seed),
      limits(seed) if name == "C" else None,
      name, temperature, top_p,
    )  # fmt: skip
    chex.assert_trees_all_close(scored, out.log_probs, atol=1e-5)
    # A nucleus of one token has log-probability 0; a cut one would be -1e30.
    assert jnp.all(scored <= 1e-6) and jnp.all(scored > -20.0)
    assert jnp.mean(scored) < -0.05


@pytest.mark.parametrize(
  "temperature", [0.7, pytest.param(1.0, marks=pytest.mark.slow)]
)
def test_a_large_vocabulary_is_scored_in_blocks(temperature, monkeypatch):
  """Without stored logits: the same values, and the same gradient."""
  batch, lists = tiny.batch(), limits()
  role = tiny.ROLES["C"]._replace(temperature=temperature)
  out, *_ = both(
    tiny.params(), batch, jax.random.key(0), lists, "C", temperature
  )
  stored = []
  real = rollout.distributions.log_probs
  monkeypatch.setattr(
    rollout.distributions, "log_probs",
    lambda *args, **kwargs: stored.append(1) or real(*args, **kwargs),
  )  # fmt: skip

  def scored(params):
    logp, entropy = rollout.score(
      tiny.POLICY, params, role, out.prompt, out.output, lists
    )
    return jnp.sum(logp) + 0.3 * jnp.sum(entropy), (logp, entropy)

  want = jax.jit(jax.grad(scored, has_aux=True))(tiny.params())
  assert stored
  stored.clear()
  monkeypatch.setattr(rollout, "LARGE", 1)
  again = lambda params: scored(params)  # traced anew
  got = jax.jit(jax.grad(again, has_aux=True))(tiny.params())
  assert not stored
  chex.assert_trees_all_close(got[1], want[1], atol=1e-5)
  for a, b in zip(
    jax.tree.leaves(got[0]), jax.tree.leaves(want[0]), strict=True
  ):
    assert jnp.abs(a - b).max() <= 1e-5 * jnp.abs(b).max() + 1e-7


@pytest.mark.parametrize(
  "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def test_scanned_layers_write_what_unrolled_ones_do(dtype):
  """And what is scored from the stacked ones is what was sampled."""
  batch, key = tiny.batch(), jax.random.key(0)
  role, found = tiny.ROLES["D"], {}
  settings = {**tiny.SETTINGS, "depth": 2, "dtype": dtype}
  params = transformer.make(**settings).init(jax.random.key(1))

  def written(policy, params):
    out = rollout.sample(
      policy, params, role, role.prompt(batch.source),
      row_keys(key, batch.row), samples=2,
    )  # fmt: skip
    return out, rollout.score(policy, params, role, out.prompt, out.output)[0]

  for scan in (False, True):
    policy = transformer.make(**settings, scan=scan)
    out, scored = jax.jit(functools.partial(written, policy))(params)
    close = 1e-5 if dtype == "float32" else 0.05
    chex.assert_trees_all_close(scored, out.log_probs, atol=close)
    found[scan] = out.output
  same = found[True].ids == found[False].ids
  # In bfloat16 the two round differently, which moves a draw between two ids.
  assert jnp.mean(same) >= (1.0 if dtype == "float32" else 0.9)


@pytest.mark.parametrize("constrained", [True, False])
def test_a_sharded_vocabulary_is_scored_where_it_is(constrained, monkeypatch):
  """As on one device, and no device is sent the table."""
  mesh = sharding.make_mesh(data=2, tensor=4)
  batch, lists = tiny.batch(), limits() if constrained else None
  role, params = tiny.ROLES["C"], tiny.params()
  out, *_ = both(params, batch, jax.random.key(0), lists, "C", 1.0)
  monkeypatch.setattr(rollout, "LARGE", 1)
  for name in ("from_hidden", "from_hidden_sharded"):  # in several blocks
    real = getattr(token_stats, name)
    monkeypatch.setattr(token_stats, name, functools.partial(real, block=3))

  def graded(policy, params, out, lists):
    def loss(params):
      logp, entropy = rollout.score(
        policy, params, role, out.prompt, out.output, lists
      )
      return jnp.sum(logp) + 0.3 * jnp.sum(entropy), (logp, entropy)

    return jax.grad(loss, has_aux=True)(params)

  want = jax.jit(functools.partial(graded, tiny.POLICY))(params, out, lists)
  head = token_stats.over(mesh, rows=("data", "fsdp"), ids="tensor")
  spread = tiny.POLICY._replace(head=head)
  where = sharding.shardings(mesh, params)
  step = jax.jit(functools.partial(graded, spread), out_shardings=(where, None))
  placed, rows = sharding.put(params, where), sharding.rows(mesh, (out, lists))
  program = step.lower(placed, *rows).compile()
  got = program(placed, *rows)
  chex.assert_trees_all_close(got[1], want[1], atol=1e-5)
  chex.assert_trees_all_close(got[0], want[0], atol=1e-4, rtol=1e-4)
  table = f"f32[{tiny.VOCAB},{tiny.SETTINGS['width']}]"
  assert table not in program.as_text()


def test_scoring_without_the_bans_or_the_temperature_is_noticed():
  batch, key, lists = tiny.batch(), jax.random.key(0), limits()
  role = tiny.ROLES["C"]
  out, _, _ = both(tiny.params(), batch, key, lists, "C", 0.7)

  @jax.jit
  def wrong(params, out):
    score = lambda *asked: rollout.score(
      tiny.POLICY, params, asked[0], out.prompt, out.output, asked[1]
    )[0]
    return score(role._replace(temperature=0.7), None), score(role, lists)

  for scored in wrong(tiny.params(), out):
    assert jnp.max(jnp.abs(scored - out.log_probs)) > 1e-2


def test_bans_and_allowed_sets_hold_for_their_own_row_only():
  lists = limits()
  out, _, _ = both(tiny.params(), tiny.batch(), jax.random.key(3), lists)
  used = set()
  for i in range(tiny.ROWS):
    ids = np.asarray(out.output.ids[i])[np.asarray(out.output.mask[i])]
    codes = set(ids.tolist()) - {tokenizer.END}
    assert not codes & set(np.asarray(lists.banned[i, 0]).tolist())
    allowed = set(np.asarray(lists.allowed[i, 0]).tolist()) - {-1}
    assert not allowed or codes <= allowed
    assert all(tiny.CODE[c] for c in codes)
    used |= codes
  # A list of one row applied to all would leave far fewer.
  assert len(used) > 8


def test_every_code_of_a_group_can_have_a_list_of_its_own():
  allowed = jnp.arange(8, 8 + tiny.GROUP)[None, :, None]
  allowed = jnp.broadcast_to(allowed, (tiny.ROWS, tiny.GROUP, 1))
  lists = Constraints(jnp.full_like(allowed, -1), allowed)
  out, scored, _ = both(tiny.params(), tiny.batch(), jax.random.key(3), lists)
  written = out.output.mask & (out.output.ids != tokenizer.END)
  right = out.output.ids == allowed
  assert jnp.all(right | ~written) and jnp.any(written)
  chex.assert_trees_all_close(scored, out.log_probs, atol=1e-5)


def test_a_banned_id_has_no_gradient():
  """Its logit is cut, so its row of an untied output table gets none."""
  none = jax.tree.map(lambda x: jnp.full_like(x, -1), limits())
  lists = none._replace(banned=none.banned.at[:, :, 0].set(15))
  out, _, _ = both(tiny.params(), tiny.batch(), jax.random.key(0), lists)

  def total(table):
    policy = tiny.POLICY._replace(unembed=lambda p, h: h @ table.T)
    scored, entropy = rollout.score(
      policy, tiny.params(), tiny.ROLES["C"], out.prompt, out.output, lists
    )
    return jnp.sum(scored) + jnp.sum(entropy)

  grad = jax.jit(jax.grad(total))(tiny.params()["embed"])
  assert jnp.all(grad[15] == 0.0) and jnp.all(jnp.isfinite(grad))
  assert jnp.any(grad[14] != 0.0)


def test_rows_do_not_depend_on_their_batch():
  """Reversed and halved batches give every row what it had before."""
  params, key, batch, lists = (
    tiny.params(), jax.random.key(5), tiny.batch(), limits(),
  )  # fmt: skip
  want, _, _ = both(params, batch, key, lists)
  for order in (np.arange(8)[::-1], np.array([6, 1, 3, 4])):
    take = lambda tree, order=order: jax.tree.map(lambda x: x[order], tree)
    got, scored, _ = both(params, take(batch), key, take(lists))
    chex.assert_trees_all_equal(got.output, take(want).output)
    chex.assert_trees_all_close(got.log_probs, scored, atol=1e-5)
    chex.assert_trees_all_close(got.log_probs, take(want).log_probs, atol=1e-5)


def test_padding_of_the_prompt_changes_nothing():
  params, key, batch = tiny.params(), jax.random.key(5), tiny.batch()
  wide = batch._replace(
    source=Tokens(*(jnp.pad(x, ((0, 0), (0, 3))) for x in batch.source))
  )
  want, _, _ = both(params, batch, key, limits())
  got, scored, _ = both(params, wide, key, limits())
  chex.assert_trees_all_equal(got.output, want.output)
  chex.assert_trees_all_close(scored, want.log_probs, atol=1e-5)


def test_samples_steps_and_roles_never_share_noise():
  params, batch = tiny.params(), tiny.batch()
  a, _, _ = both(params, batch, jax.random.key(0), None)
  b, _, _ = both(params, batch, jax.random.key(1), None)
  assert jnp.any(a.output.ids != b.output.ids)
  group = np.asarray(a.output.ids)
  assert all(len({tuple(x) for x in row}) > 1 for row in group)


def test_outputs_stop_at_the_end_token():
  out, _, _ = both(tiny.params(), tiny.batch(), jax.random.key(2), None, "D")
  ids, mask = np.asarray(out.output.ids), np.asarray(out.output.mask)
  ended = ids == tokenizer.END
  assert ended.any() and not ended.all()
  after = np.cumsum(ended, -1) - ended > 0
  np.testing.assert_array_equal(mask, ~after)
  assert not ids[~mask].any() and not np.asarray(out.log_probs)[~mask].any()


def test_sampling_stops_early_when_all_have_ended():
  """A policy that always ends: the decode loop must not run at all."""
  calls = []

  def unembed(params, hidden):
    del params
    jax.debug.callback(lambda: calls.append(1))
    logits = jnp.zeros((*hidden.shape[:-1], tiny.VOCAB))
    return logits.at[..., tokenizer.END].set(50.0)

  policy = tiny.POLICY._replace(unembed=unembed)
  batch, role = tiny.batch(), tiny.ROLES["D"]
  keys = row_keys(jax.random.key(0), batch.row)
  jax.jit(
    lambda params: rollout.sample(
      policy, params, role, role.prompt(batch.source), keys, samples=2
    )
  )(tiny.params())
  jax.effects_barrier()
  assert len(calls) == 1


def test_greedy_takes_the_most_likely_token():
  out, scored, _ = both(
    tiny.params(), tiny.batch(), jax.random.key(0), None, "C", 0.0
  )
  again, _, _ = both(
    tiny.params(), tiny.batch(), jax.random.key(9), None, "C", 0.0
  )
  chex.assert_trees_all_equal(out.output, again.output)
  sampled, _, _ = both(tiny.params(), tiny.batch(), jax.random.key(9), None)
  first = lambda x: x[:, :, 0]
  assert jnp.all(
    first(scored) >= jnp.max(first(sampled.log_probs), -1)[:, None]
  )


def test_likelihood_sums_over_the_target():
  """Against a token-by-token product of one-step predictions."""
  params, batch, role = tiny.params(), tiny.batch(), tiny.ROLES["D"]
  target = tiny.tokens(np.random.default_rng(7), 8, 1, 4)
  prompt = role.prompt(batch.source)
  score = jax.jit(
    lambda params, upto: rollout.score(tiny.POLICY, params, role, prompt, upto)
  )
  want = 0.0
  for t in range(4):
    # What comes later is not there: its ids and its mask are gone.
    now = target.mask & (jnp.arange(4) <= t)
    scored, _ = score(params, Tokens(jnp.where(now, target.ids, 0), now))
    want += scored[:, :, t]
  got = jax.jit(
    lambda params: rollout.likelihood(tiny.POLICY, params, role, prompt, target)
  )(params)
  chex.assert_trees_all_close(got, want, atol=2e-5)


TAGS = {"use_tag": 20, "avoid_tag": 21, "length_tag": 22}
TEMPERATURES = jnp.asarray(
  np.linspace(0.5, 2.0, tiny.ROWS, dtype=np.float32)[:, None]
)
BUDGETS = jnp.asarray(np.array([[1, 2, 3, 3, 2, 1, 2, 3]], np.int32).T)


def everything(seed: int = 0) -> Constraints:
  """Bans, lists, injected and avoided ids, temperatures and budgets."""
  rng = np.random.default_rng(seed)
  words = np.flatnonzero(tiny.WORDS)
  draw = lambda n: jnp.asarray(
    [[rng.choice(words, n, replace=False)] for _ in range(tiny.ROWS)], jnp.int32
  )
  return limits(seed)._replace(
    injected=draw(2).at[0, 0, 1].set(-1), avoided=draw(2),
    temperature=TEMPERATURES, budget=BUDGETS,
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("name", "temperature", "top_p"))
def drawn(params, batch, key, lists, name="C", temperature=0.8, top_p=1.0):
  """A rollout that is asked for all there is, with statistics."""
  role = role_of(name, temperature, top_p)
  return rollout.sample(
    tiny.POLICY, params, role, role.prompt(batch.source, lists),
    row_keys(key, batch.row), samples=tiny.GROUP, constraints=lists,
    stats=True,
  )  # fmt: skip


def role_of(name, temperature, top_p):
  role = tiny.ROLES[name]._replace(**TAGS)
  return role._replace(temperature=temperature, top_p=top_p)


@functools.partial(jax.jit, static_argnames=("name", "top_p"))
def scored(params, out, name="C", top_p=1.0):
  """The score of a rollout, without its temperature, without its masks."""
  role, lists = role_of(name, 0.8, top_p), out.constraints
  score = lambda lists: rollout.score(
    tiny.POLICY, params, role, out.prompt, out.output, lists
  )[0]
  none = jnp.full_like(lists.banned, -1)
  free = lists._replace(banned=none, allowed=none)
  return score(lists), score(lists._replace(temperature=None)), score(free)


# The tiny roles of words differ in their tag alone: D is all of them.
@pytest.mark.parametrize(
  "name, top_p",
  [("C", 1.0), ("C", 0.8), ("D", 1.0),
   *(pytest.param(x, 1.0, marks=pytest.mark.slow) for x in ("text", "V"))],
)  # fmt: skip
def test_score_repeats_what_was_sampled_under_all_asks(name, top_p):
  """And notices the temperature or the masks if they are left out."""
  out = drawn(
    tiny.params(), tiny.batch(), jax.random.key(0), everything(), name,
    top_p=top_p,
  )  # fmt: skip
  found, cold, free = scored(tiny.params(), out, name, top_p)
  chex.assert_trees_all_close(found, out.log_probs, atol=1e-5)
  assert jnp.all(found <= 1e-6) and jnp.mean(found) < -0.05
  assert jnp.max(jnp.abs(cold - found)) > 0.05
  assert jnp.max(jnp.abs(free - found)) > 0.05


def test_a_temperature_multiplies_that_of_the_role():
  """0.8 times 0.5 is what a role of 0.4 samples; greedy stays greedy."""
  args = (tiny.params(), tiny.batch(), jax.random.key(0))
  ones = everything()._replace(temperature=jnp.ones((tiny.ROWS, 1)))
  halves = ones._replace(temperature=jnp.full((tiny.ROWS, 1), 0.5))
  got = drawn(*args, halves)
  want = drawn(*args, ones, temperature=0.4)
  chex.assert_trees_all_equal(got.output, want.output)
  chex.assert_trees_all_close(got.log_probs, want.log_probs, atol=1e-5)
  other = drawn(*args, ones)
  assert (other.output.ids != want.output.ids).any()
  greedy = drawn(*args, halves, temperature=0.0)
  again = drawn(*args, ones, temperature=0.0)
  chex.assert_trees_all_equal(greedy.output, again.output)


def test_outputs_are_cut_at_their_budget():
  """Without an end token, and nothing is recorded behind it."""
  shut = everything()
  assert (shut.banned[:, :, -1] == -1).all()  # nothing of it is lost
  shut = shut._replace(banned=shut.banned.at[:, :, -1].set(tokenizer.END))
  out = drawn(tiny.params(), tiny.batch(), jax.random.key(1), shut)
  ids, mask = np.asarray(out.output.ids), np.asarray(out.output.mask)
  assert not (ids[mask] == tokenizer.END).any()
  # Nothing but the budget ends them: all are filled.
  expected = np.broadcast_to(BUDGETS, (tiny.ROWS, tiny.GROUP))
  np.testing.assert_array_equal(mask.sum(-1), expected)
  found, _, _ = scored(tiny.params(), out)
  chex.assert_trees_all_close(found, out.log_probs, atol=1e-5)
  for x in (out.log_probs, *out.stats):
    assert not np.asarray(x)[~mask].any()
  # With an end they may stop earlier, and never later.
  free = drawn(tiny.params(), tiny.batch(), jax.random.key(1), everything())
  lengths = np.asarray(free.output.mask).sum(-1)
  assert (lengths <= expected).all() and (lengths < expected).any()
  # The loop ends with the largest budget.
  small = shut._replace(budget=jnp.minimum(BUDGETS, 2))
  short = drawn(tiny.params(), tiny.batch(), jax.random.key(1), small)
  count = lambda x: rollout.loops(x, tiny.ROLES["C"]).tolist()
  assert count(short.output) == [1.0] and count(out.output) == [2.0]
  # A smaller budget is asked for in the prompt, so another token is written.
  assert (short.prompt.mask != out.prompt.mask).any()


def test_statistics_are_those_of_the_masked_law_at_temperature_1():
  """Against token_stats on teacher-forced logits of the whole output."""
  params, batch, lists = tiny.params(), tiny.batch(), everything()
  out = drawn(params, batch, jax.random.key(2), lists)
  role = tiny.ROLES["C"]

  @jax.jit
  def forced(params, out):
    """One row of prompt and output a sample, in one piece."""
    ids = jnp.repeat(out.prompt.ids[:, None], tiny.GROUP, 1)
    mask = jnp.repeat(out.prompt.mask[:, None], tiny.GROUP, 1)
    whole = Tokens(
      jnp.concatenate([ids, out.output.ids], -1).reshape(
        -1, 1, P + tiny.BUDGET
      ),
      jnp.concatenate([mask, out.output.mask], -1).reshape(
        -1, 1, P + tiny.BUDGET
      ),
    )
    at = jnp.maximum(jnp.cumsum(whole.mask, -1) - 1, 0)
    hidden, _ = tiny.POLICY.apply(params, whole, at)
    logits = tiny.POLICY.unembed(params, hidden[:, 0, P - 1 : -1])
    logits = logits.reshape(tiny.ROWS, tiny.GROUP, tiny.BUDGET, -1)
    may = rollout.allowed_ids(role, lists)[:, :, None]
    injected = jnp.broadcast_to(
      lists.injected[:, :, None], (*logits.shape[:3], 2)
    )
    return token_stats.from_logits(logits, out.output.ids, injected, may)

  P = out.prompt.ids.shape[-1]
  want, mask = forced(params, out), out.output.mask
  for name in TokenStats._fields:
    x, y = getattr(out.stats, name), getattr(want, name)
    np.testing.assert_allclose(
      x, jnp.where(mask, y, 0.0), atol=2e-5, err_msg=name
    )
  assert float(jnp.max(jnp.where(mask, out.stats.mass, 0.0))) > 0.01
  assert float(jnp.min(jnp.where(mask, out.stats.varentropy, 9.0))) > 1e-3


def test_statistics_do_not_see_how_it_was_sampled():
  """The first token's law is one and the same whatever cut it."""
  args = (tiny.params(), tiny.batch(), jax.random.key(3))
  free = everything()
  base = drawn(*args, free)
  hot = free._replace(temperature=TEMPERATURES * 3.0)
  for out in (
    drawn(*args, hot),
    drawn(*args, free, temperature=0.4),
    drawn(*args, free, top_p=0.8),
  ):
    assert (out.output.ids != base.output.ids).any()
    for name in ("lse", "entropy", "varentropy", "collision", "mass"):
      x, y = (getattr(o.stats, name)[:, :, 0] for o in (out, base))
      np.testing.assert_allclose(x, y, atol=1e-5, err_msg=name)
    # log_prob is of the sampled id, under that law.
    same = out.output.ids[:, :, 0] == base.output.ids[:, :, 0]
    gap = out.stats.log_prob[:, :, 0] - base.stats.log_prob[:, :, 0]
    np.testing.assert_allclose(jnp.where(same, gap, 0.0), 0.0, atol=1e-5)
  # Of one allowed id nothing is uncertain.
  none = jax.tree.map(lambda x: jnp.full_like(x, -1), limits())
  one = free._replace(
    allowed=none.allowed.at[:, :, 0].set(15),
    banned=none.banned.at[:, :, 0].set(tokenizer.END),
  )
  out = drawn(*args, one)
  for name in ("entropy", "varentropy", "collision", "log_prob"):
    np.testing.assert_allclose(getattr(out.stats, name), 0.0, atol=1e-6)


def test_statistics_are_recorded_where_asked_for():
  out, _, _ = both(tiny.params(), tiny.batch(), jax.random.key(0), None)
  assert out.stats is None
