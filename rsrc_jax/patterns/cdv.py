"""C -> D -> V: compress, decompress, verify."""

from typing import Any

import jax
import jax.numpy as jnp

from rsrc_jax import augment, injection, prompts, rollout, verifier
from rsrc_jax.metrics import compression
from rsrc_jax.ops import rewards
from rsrc_jax.roles import Role
from rsrc_jax.types import (
  About,
  Ask,
  Batch,
  Episode,
  Lesson,
  Params,
  Pattern,
  Policy,
  Rollout,
  Tokens,
)


def make(
  policy: Policy,
  roles: dict[str, Role],
  verify: verifier.Verifier,
  *,
  group: int,
  decodes: int,
  length_price: float,
  lessons: int,
  dropout: float,
  imitate: bool = False,
  empty: bool = False,
  gate: dict[str, Any] | None = None,
  monitor: bool = False,
  about: About | None = None,
) -> Pattern:
  """Builds the pattern.

  Args:
    policy: the model's functions, shared by all roles.
    roles: "C", "D" and "text" (the source without a code).
    verify: V, from verifier.make.
    group: codes of a source, G.
    decodes: free-running decodes of a code, J. With one, D is decoded greedily
      and gets no policy gradient, a group of one having none to give; and not
      at all if V does not hear d.
    length_price: share of the reward that a code at full budget costs.
    lessons: how many of a group's codes, the best by D's likelihood of s, D
      learns s from by likelihood. 0 turns that off and leaves D to GRPO. With
      it on, D is calibrated on the codes that C is about to prefer, and its
      gradient no longer depends on V: V then rewards C alone.
    dropout: share of those lessons whose code is cut to a random shorter
      length, the empty code among them, so that D knows what no code means.
    imitate: C also learns the best code of its group by likelihood. Alone, with
      no weight on the policy gradient, that is expert iteration and not GRPO.
    empty: those lessons' codes are dropped whole instead.
    gate: settings of injection.make, for an arm that injects ids; None: C is
      paid for fidelity and length alone.
    monitor: measure the use of injected ids even where it is not paid for.
    about: unused; every pattern is told.
  """
  del about
  if not 0 <= lessons <= group:
    raise ValueError(
      f"config.patterns.cdv.lessons={lessons} must be 0 to group={group}."
    )
  if decodes > 1 and not verify.hears:
    raise ValueError(
      f"config.patterns.cdv.decodes={decodes}: a V that does not hear d "
      "rewards all decodes alike, and D learns nothing from them. Set it to 1, "
      "or weigh config.verifier.slots, edit or reader."
    )
  C = roles["C"]
  paid = gate and injection.make(
    policy, C, length_price=length_price, monitor=monitor, **gate
  )
  D = roles["D"] if decodes > 1 else roles["D"].greedy()

  def play(params, frozen, carry, batch: Batch, key, given: Ask):
    s = batch.source
    # The second child of the step's key is the constraints' (build.given).
    k_c, _, k_cut, k_d = jax.random.split(key, 4)

    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(s, given.constraints),
        augment.row_keys(k_c, batch.row), samples=group,
        constraints=given.constraints, stats=bool(paid),
      )  # fmt: skip
    code = prompts.without_end(c.output, C.end)  # [B, G, k]: ids, never text
    d = decoded = None
    if verify.hears:
      with jax.named_scope("D"):
        d = rollout.sample(
          policy, params, D, D.prompt(prompts.flatten(code)),
          _code_keys(k_d, batch.row, group), samples=decodes,
        )  # fmt: skip
      decoded = prompts.without_end(d.output, D.end)
      decoded = Tokens(*(x.reshape(-1, group, *x.shape[1:]) for x in decoded))

    with jax.named_scope("V"):
      known = read(params, s, code)
      without = unconditional(policy, frozen["base"], roles["text"], s)
      gain = verifier.relative_gain(known, without[:, None])
      fidelity, scores = verify.score(frozen["reader"], s, decoded, gain)

    length = jnp.sum(code.mask, -1)
    budget = given.constraints.budget
    budget = C.length if budget is None else budget
    reward = rewards.priced(
      jnp.mean(fidelity, -1), length, budget=budget, price=length_price
    )
    if paid:
      reward, parts, carry = paid.pay(
        params, carry, s, c, code, jnp.mean(fidelity, -1), known, read, given,
      )  # fmt: skip
      scores |= parts
    rollouts, returns = {"C": c}, {"C": reward}
    if decodes > 1:
      rollouts["D"] = d
      returns["D"] = fidelity.reshape(-1, decodes)
    best = jnp.argmax(known, -1)
    metrics = scores | {
      "C_loops": rollout.loops(c.output),
      "reward": jnp.mean(reward),
      "fidelity": jnp.mean(fidelity),
      "fidelity_best": jnp.mean(jnp.max(jnp.mean(fidelity, -1), -1)),
      "length": jnp.mean(length * 1.0),
      "gain": jnp.mean(gain),
      "gain_best": jnp.mean(jnp.take_along_axis(gain, best[:, None], 1)),
      "novel_fraction": jnp.mean(
        compression.novel_fraction(Tokens(*(x[:, None] for x in s)), code)
      ),
    }
    if d is not None:
      metrics["D_loops"] = rollout.loops(d.output)
    taught = {}
    if lessons:
      taught["D"] = lesson(s, code, known, k_cut)
    if imitate:
      taught["C"] = _imitation(c, best)
    return Episode(rollouts, returns, taught, metrics), carry

  def read(params, s: Tokens, code: Tokens):
    return likelihood(policy, params, D, s, code)

  def lesson(s: Tokens, code: Tokens, known, key) -> Lesson:
    _, index = jax.lax.top_k(known, lessons)
    best = Tokens(*(jnp.take_along_axis(x, index[..., None], 1) for x in code))
    return code_lesson(D, s, prompts.flatten(best), key, dropout, empty)

  return Pattern(paid.init if paid else tuple, play)


def likelihood(
  policy: Policy, params: Params, D: Role, s: Tokens, code: Tokens
) -> jax.Array:
  """ln p_D(s | c) of every code, teacher-forced.

  s [B, S], code [B, G, k] -> [B, G] nats, end included.
  """
  target = prompts.with_end(s, D.end)
  target = Tokens(
    *(jnp.repeat(x, code.ids.shape[1], 0)[:, None] for x in target)
  )
  prompt = D.prompt(prompts.flatten(code))
  return rollout.likelihood(policy, params, D, prompt, target).reshape(
    code.ids.shape[:2]
  )


def unconditional(
  policy: Policy, params: Params, text: Role, s: Tokens
) -> jax.Array:
  """ln p(s) of a language model that reads nothing. s [B, S] -> [B] nats"""
  empty = Tokens(s.ids[:, :0], s.mask[:, :0])
  target = Tokens(*(x[:, None] for x in prompts.with_end(s, text.end)))
  prompt = text.prompt(empty)
  return rollout.likelihood(policy, params, text, prompt, target)[:, 0]


def code_lesson(
  role: Role,
  s: Tokens,
  code: Tokens,
  key: jax.Array,
  dropout: float,
  empty: bool = False,
) -> Lesson:
  """s [B, S] to be learnt from code [B * M, k], some cut short, or `empty`."""
  rows, k = code.ids.shape
  k_drop, k_length = jax.random.split(key)
  short = jax.random.randint(k_length, (rows,), 0, k)
  short = jnp.zeros_like(short) if empty else short
  drop = jax.random.uniform(k_drop, (rows,)) < dropout
  code = prompts.cut(code, jnp.where(drop, short, k))
  repeat = rows // s.ids.shape[0]
  target = prompts.with_end(s, role.end)
  target = Tokens(*(jnp.repeat(x, repeat, 0)[:, None] for x in target))
  return Lesson(role.prompt(code), target, jnp.ones((rows, 1)))


def _imitation(c: Rollout, best: jax.Array) -> Lesson:
  """The best output of each group, as C wrote it. best [B]"""
  index = best[:, None, None]
  target = Tokens(*(jnp.take_along_axis(x, index, 1) for x in c.output))
  return Lesson(c.prompt, target, jnp.ones(target.ids.shape[:2]))


def _code_keys(key, rows, group):
  """One key a code: [B] rows -> [B * G] keys."""
  per_code = lambda k: jax.vmap(lambda g: jax.random.fold_in(k, g))(
    jnp.arange(group)
  )
  return jax.vmap(per_code)(augment.row_keys(key, rows)).reshape(-1)
