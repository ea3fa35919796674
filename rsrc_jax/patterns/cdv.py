"""C -> D -> V: compress, decompress, verify."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import keys, likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.ops import rewards
from rsrc_jax.rl import hearing, injected_ids, injection, numbers, verifier
from rsrc_jax.types import (
  Batch,
  Context,
  Controls,
  Episode,
  Metrics,
  Params,
  Pattern,
  Policy,
  Rollout,
  SupervisedBatch,
  Tokens,
)

# Settings that a step can be given as arguments: see rl/numbers.py.
NUMBERS = (
  "length_price", "dropout", "temperature",
  *(f"gate.{name}" for name in injection.NUMBERS),
)  # fmt: skip


def _groups(settings, run):
  """The rule of group sizes that depend on each other."""
  if settings.get("demonstrate"):
    if not run.get("inject", 1):
      return "demonstrate", "0 with config.augment.inject=0: no id to show"
    if settings.get("imitate"):
      return "demonstrate", f"0 with {rules.HERE}.imitate=True"
  if settings.get("frozen_d"):
    for name in ("lessons", "taught", "demonstrate"):
      if settings.get(name):
        return name, f"0 with {rules.HERE}.frozen_d=True: D learns nothing"
    if settings.get("decodes", 1) > 1:
      return "decodes", f"1 with {rules.HERE}.frozen_d=True: D learns nothing"
  taught, group = settings.get("taught", 0), settings.get("group", 2)
  if settings.get("lessons", 0) > group:
    return "lessons", f"0 to {rules.HERE}.group={group}"
  if taught == 1 or (taught and settings.get("decodes", 1) > 1):
    return "taught", (
      f"0, or at least 2 with {rules.HERE}.decodes=1: D's own group are "
      "decodes of one code, beside one decode of each of the others"
    )
  return None


COMPARED = "a code is judged against the others of its source"
RULES = {
  "group": rules.whole(2, why=COMPARED),
  "decodes": rules.whole(1),
  "length_price": rules.share(),
  "lessons": rules.whole(),
  "dropout": rules.share(),
  "imitate": rules.flag,
  "demonstrate": rules.number(0),
  "empty": rules.flag,
  "frozen_d": rules.flag,
  "gate": rules.optional(injection.RULES),
  "taught": rules.whole(),
  "temperature": rules.number(above=0),
  "shapes": rules.whole(1),
  rules.BLOCK: (_groups,),
}


class Parts(NamedTuple):
  """What the functions of this pattern share; the settings as in `make`."""

  policy: Policy
  C: Role
  D: Role
  text: Role
  verify: verifier.Verifier
  gate: injection.Gate | None
  group: int
  decodes: int
  taught: int
  temperature: float
  length_price: float
  lessons: int
  dropout: float
  imitate: bool
  empty: bool
  demonstrate: float
  frozen_d: bool
  block: str  # of the config


def make(
  context: Context,
  *,
  group: int,
  decodes: int,
  length_price: float,
  lessons: int,
  dropout: float,
  imitate: bool = False,
  demonstrate: float = 0.0,
  empty: bool = False,
  gate: dict[str, Any] | None = None,
  monitor: bool = False,
  taught: int = 0,
  temperature: float = 1.0,
  shapes: int = 1,
  frozen_d: bool = False,
  field: str = "config.patterns.cdv",
) -> Pattern:
  """Builds the pattern.

  Args:
    context: roles "C", "D" and "text"; V.
    group: codes of a source, G.
    decodes: free-running decodes of a code that V hears, J. With one, and no
      group of its own, D is decoded greedily. D is not decoded at all if V
      hears nothing.
    length_price: share of what a code conveys that it costs at full length, of
      the sources whose budget is not announced (see rewards.priced).
    lessons: how many of a group's codes, the best by D's likelihood of s, D
      learns s from by likelihood. 0 turns that off and leaves D to GRPO. With
      it on, D is calibrated on the codes that C is about to prefer, and its
      gradient no longer depends on V: V then rewards C alone.
    dropout: share of those codes that are cut to a random shorter length, the
      empty code among them, so that D learns s without a code.
    imitate: C also learns the best code of its group by likelihood. Alone, with
      no weight on the policy gradient, that is expert iteration and not GRPO.
    empty: those codes are dropped whole instead.
    demonstrate: weight at first of a lesson in which C writes, and D reads, the
      best code of each group with one of the injected ids in it: see
      `demonstrations`. It falls to 0 as the bonus does (Schedule.bonus). Not
      with `imitate`.
    gate: settings of injection.make, for an arm that injects ids; None: C is
      paid for fidelity and length alone.
    monitor: measure the use of injected ids even where it is not paid for.
    taught: size of D's own group: decodes of one code of each source, drawn at
      random, from which D learns by its policy gradient. Every code is decoded
      once for V, in the same batch. 0: D's group are all decodes of all codes,
      if there are several.
    temperature: times D's own, of the decodes that V hears. The lower it is,
      the more a code's reward says of the code and the less of the draw.
    shapes: batch sizes at which D's decoding goes on as rows end; see
      lm/compaction.py.
    frozen_d: D is the base's, as its warm-up left it, and learns nothing: V
      hears what that one makes of a code. Parameters of the arm are C's alone,
      so its codes are to be judged by the base's D too (evals, type
      "fresh_decoder" with steps=0 and settle=0), not by what C's training has
      made of D.
    field: the block of the config that these settings come from, for errors.

  Raises:
    ValueError: a setting is out of its range.
  """
  given = {k: v for k, v in locals().items() if k != "gate"}
  rules.check_some(RULES, given, field)
  _check(field, decodes, taught, context.verify)
  policy, roles = context.policy, context.roles
  C, block = roles["C"], field.removeprefix("config.")
  paid = gate and injection.make(
    policy, C, monitor=monitor, block=block, **gate
  )
  D = roles["D"]._replace(shapes=shapes)
  p = Parts(
    policy, C, D if max(decodes, taught) > 1 else D.greedy(), roles["text"],
    context.verify, paid, group, decodes, taught, temperature,
    length_price, lessons,
    dropout, imitate, empty, demonstrate, frozen_d, block,
  )  # fmt: skip

  return Pattern(paid.init if paid else tuple, functools.partial(play, p))


def play(
  p: Parts,
  params: Params,
  frozen: dict[str, Params],
  carry: Any,
  batch: Batch,
  key: jax.Array,
  controls: Controls,
) -> tuple[Episode, Any]:
  """types.Pattern.play; key: a step's, whose children are keys.Cdv."""
  s, p = batch.source, numbers.replaced(p, controls.numbers, p.block)
  readers = frozen["base"] if p.frozen_d else params  # parameters of D
  c = write(p, params, batch, keys.child(key, keys.Cdv.C), controls)
  code = tokens.without_end(c.output, p.C.end)  # [B, G, k]: ids, never text
  d = heard = None
  if p.verify.hears:
    d, heard = decode(p, readers, batch, code, key)
  with jax.named_scope("V"):
    log_lik = read(p, readers, s, code)
    base_log_lik = likelihood.without_code(p.policy, frozen["base"], p.text, s)[
      :, None
    ]
    parts, scores = hearing.worth(
      p.verify, frozen["reader"], s, heard, log_lik, base_log_lik,
      controls.numbers,
    )  # fmt: skip
  reward, parts, paid, carry = pay(
    p, params, readers, carry, s, c, code, parts, log_lik, controls
  )
  gain = likelihood.relative_gain(log_lik, base_log_lik)
  metrics = scores | paid | measure(s, code, reward, parts, gain, log_lik)
  metrics |= rollout.passes((p.C, c), *([(p.D, d)] if d is not None else []))
  rollouts, returns, parts = {"C": c}, {"C": reward}, {"C": parts}
  if heard is not None and heard.group is not None:
    rollouts["D"] = heard.group
    with jax.named_scope("V"):
      returns["D"], parts["D"] = hearing.group_worth(
        p.verify, frozen["reader"], s, heard, p.D.end, controls.numbers
      )
  sft_batches = {}
  if p.lessons:
    sft_batches["D"] = best_codes_batch(
      p, s, code, log_lik, keys.child(key, keys.Cdv.D_BATCH)
    )
  if p.imitate:
    sft_batches["C"] = imitation_batch(c, jnp.argmax(log_lik, -1))
  if p.demonstrate:
    sft_batches |= demonstrations(
      p, params, batch, c, jnp.argmax(log_lik, -1),
      keys.child(key, keys.Cdv.SHOWN), controls.bonus, sft_batches.get("D"),
    )  # fmt: skip
  return Episode(rollouts, returns, sft_batches, metrics, parts=parts), carry


def write(
  p: Parts, params: Params, batch: Batch, key: jax.Array, controls: Controls
) -> Rollout:
  """G codes of each source. -> outputs [B, G, k]"""
  return rollout.sample(
    p.policy, params, p.C, p.C.prompt(batch.source, controls.constraints),
    keys.row_keys(key, batch.row), samples=p.group,
    constraints=controls.constraints, stats=bool(p.gate),
  )  # fmt: skip


def decode(
  p: Parts, params: Params, batch: Batch, code: Tokens, key: jax.Array
) -> tuple[Rollout, hearing.Heard]:
  """D reads every code [B, G, k], and some of them several times."""
  each = keys.prompt_keys(keys.child(key, keys.Cdv.D), batch.row, p.group)
  return hearing.decode(
    p.policy, params, p.D, code, each, keys.child(key, keys.Cdv.EMPTY),
    decodes=p.decodes, size=p.taught, temperature=p.temperature,
    own=_one_of_each(p, batch, key) if p.taught else None,
  )  # fmt: skip


def _one_of_each(p: Parts, batch: Batch, key: jax.Array) -> jax.Array:
  """Draws one of each source's codes. -> [B] int32"""
  each = keys.row_keys(keys.child(key, keys.Cdv.TAUGHT), batch.row)
  return jax.vmap(lambda k: jax.random.randint(k, (), 0, p.group))(each)


def read(p: Parts, params: Params, s: Tokens, code: Tokens) -> jax.Array:
  """ln p_D(s | c): s [B, S], code [B, G, k] -> [B, G]."""
  return likelihood.of_source(p.policy, params, p.D, s, code)


def pay(
  p: Parts,
  params: Params,
  readers: Params,
  carry: Any,
  s: Tokens,
  c: Rollout,
  code: Tokens,
  parts: dict[str, jax.Array],
  log_lik: jax.Array,
  controls: Controls,
) -> tuple[jax.Array, dict[str, jax.Array], Metrics, Any]:
  """C's reward of codes [B, G, k], its parts, metrics and the gate's carry.

  params: C's; readers: D's. parts: of hearing.worth. log_lik [B, G]: nats,
  ln p_D(s|c).
  """
  value, price = sum(parts.values()), p.length_price
  if controls.priced is not None:
    price = price * controls.priced
  reward = rewards.priced(
    value, jnp.sum(code.mask, -1), budget=p.C.length, price=price
  )
  parts = parts | {"price": reward - value}
  if not p.gate:
    return reward, parts, {}, carry
  reward, bonus, paid, carry = p.gate.pay(
    params, carry, s, c, code, value, log_lik,
    lambda _, s, code: read(p, readers, s, code), price, controls,
  )  # fmt: skip
  return reward, parts | {"bonus": bonus}, paid, carry


def measure(
  s: Tokens,
  code: Tokens,
  reward: jax.Array,
  parts: dict[str, jax.Array],
  gain: jax.Array,
  log_lik: jax.Array,
) -> Metrics:
  """Means over the codes of a batch; `_best` over the best of each group.

  `fidelity` is what a code is worth before price and bonus.
  """
  best = jnp.argmax(log_lik, -1)
  value = sum(x for k, x in parts.items() if k not in ("price", "bonus"))
  return {
    "reward": jnp.mean(reward),
    "fidelity": jnp.mean(value),
    "fidelity_best": jnp.mean(jnp.max(value, -1)),
    "length": jnp.mean(jnp.sum(code.mask, -1) * 1.0),
    "gain": jnp.mean(gain),
    "gain_best": jnp.mean(jnp.take_along_axis(gain, best[:, None], 1)),
    "novel_fraction": jnp.mean(
      compression.novel_fraction(tokens.expand(s), code)
    ),
  }


def best_codes_batch(
  p: Parts, s: Tokens, code: Tokens, log_lik: jax.Array, key: jax.Array
) -> SupervisedBatch:
  """D learns s from the codes of each group that it reads best."""
  _, index = jax.lax.top_k(log_lik, p.lessons)
  best = tokens.flatten(tokens.take(code, index))
  return likelihood.decode_batch(p.D, s, best, key, p.dropout, p.empty)


def imitation_batch(c: Rollout, best: jax.Array) -> SupervisedBatch:
  """C learns the best output of each group, as it wrote it. best [B]"""
  target = tokens.take(c.output, best[:, None])
  return SupervisedBatch(c.prompt, target, jnp.ones(target.ids.shape[:2]))


def demonstrations(
  p: Parts,
  params: Params,
  batch: Batch,
  c: Rollout,
  best: jax.Array,
  key: jax.Array,
  left: jax.Array,
  lessons: SupervisedBatch | None,
) -> dict[str, SupervisedBatch]:
  """C writes, and D reads, each group's best code with an injected id in it.

  Each of the N is tried in a random place, and shown is the one that D reads
  best: an id drawn at random would say nothing of s, and teach D to pass it
  over. best [B]: of the group; left []: share of the weight that remains.
  lessons: D's own, which these are added to.
  """
  s = batch.source
  written = tokens.at(tokens.take(c.output, best[:, None]), 0)
  tried, holds = injected_ids.shown(
    written, c.constraints.injected, p.C.end, keys.row_keys(key, batch.row)
  )
  with jax.named_scope("V"):
    known = read(p, params, s, tokens.without_end(tried, p.C.end))
  chosen = jnp.argmax(jnp.where(holds, known, -jnp.inf), -1)
  code = tokens.take(tried, chosen[:, None])
  some = jnp.any(holds, -1, keepdims=True)
  weights = p.demonstrate * left * some
  C = SupervisedBatch(c.prompt, code, weights, some * 1.0)
  plain = tokens.without_end(tokens.at(code, 0), p.C.end)
  D = likelihood.decode_batch(p.D, s, plain, key, 0.0)  # none is cut: no draw
  D = D._replace(weights=weights)
  if lessons is not None:
    D = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), lessons, D)
  return {"C": C, "D": D}


def _check(field: str, decodes, taught, verify) -> None:
  if max(decodes, taught) > 1 and not verify.hears:
    name = "taught" if taught else "decodes"
    raise ValueError(
      f"{field}.{name}={max(decodes, taught)}: without a V that hears the "
      "decode all decodes are rewarded alike, so that D learns nothing. Set "
      f"it to {0 if taught else 1}, or weigh config.verifier.slots, edit or "
      "reader."
    )
