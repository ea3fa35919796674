"""C -> D -> V: compress, decompress, verify."""

from typing import Any

import jax
import jax.numpy as jnp

from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.lm.keys import prompt_keys, row_keys
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.ops import rewards
from rsrc_jax.rl import injection, verifier
from rsrc_jax.types import (
  Batch,
  Controls,
  Episode,
  Pattern,
  Policy,
  Rollout,
  SourceInfo,
  SupervisedBatch,
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
  info: SourceInfo | None = None,
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
  del info
  if not 0 <= lessons <= group:
    raise ValueError(
      f"config.patterns.cdv.lessons={lessons} must be 0 to group={group}."
    )
  if decodes > 1 and not verify.needs_decode:
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

  def play(params, frozen, carry, batch: Batch, key, given: Controls):
    s = batch.source
    # The second child of the step's key is the constraints' (build.given).
    k_c, _, k_cut, k_d = jax.random.split(key, 4)

    with jax.named_scope("C"):
      c = rollout.sample(
        policy, params, C, C.prompt(s, given.constraints),
        row_keys(k_c, batch.row), samples=group,
        constraints=given.constraints, stats=bool(paid),
      )  # fmt: skip
    code = tokens.without_end(c.output, C.end)  # [B, G, k]: ids, never text
    d = decoded = None
    if verify.needs_decode:
      with jax.named_scope("D"):
        d = rollout.sample(
          policy, params, D, D.prompt(tokens.flatten(code)),
          prompt_keys(k_d, batch.row, group), samples=decodes,
        )  # fmt: skip
      decoded = tokens.without_end(d.output, D.end)
      decoded = Tokens(*(x.reshape(-1, group, *x.shape[1:]) for x in decoded))

    with jax.named_scope("V"):
      known = read(params, s, code)
      without = likelihood.without_code(
        policy, frozen["base"], roles["text"], s
      )
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
    return likelihood.of_source(policy, params, D, s, code)

  def lesson(s: Tokens, code: Tokens, known, key) -> SupervisedBatch:
    _, index = jax.lax.top_k(known, lessons)
    best = Tokens(*(jnp.take_along_axis(x, index[..., None], 1) for x in code))
    return likelihood.decode_batch(
      D, s, tokens.flatten(best), key, dropout, empty
    )

  return Pattern(paid.init if paid else tuple, play)


def _imitation(c: Rollout, best: jax.Array) -> SupervisedBatch:
  """The best output of each group, as C wrote it. best [B]"""
  index = best[:, None, None]
  target = Tokens(*(jnp.take_along_axis(x, index, 1) for x in c.output))
  return SupervisedBatch(c.prompt, target, jnp.ones(target.ids.shape[:2]))
