"""V: scores the free-running d against s, in [0, 1]. V is never trained.

V is a weighted mixture of scorers. `slots` and `edit` are rules without
parameters. `reader` is a frozen language model whose parameters are an argument
of the step. `gain` and `ratio` depend on the policy: they compare the
likelihood of s under D, given c, with that under a frozen model without c. They
are dense where the others are coarse, and D can only raise them by predicting s
better. They are teacher-forced and never reported without other scores.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.lm import likelihood, rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.rl.numbers import Numbers, under
from rsrc_jax.types import Metrics, Params, Policy, Tokens

SCORERS = ("slots", "edit", "gain", "ratio", "reader")


def _some(settings, run):
  """The rule that V scores something."""
  del run
  if not any(w > 0 for w in settings.values()):
    return "gain", (
      f"above 0, or another of {', '.join(SCORERS)} in {rules.HERE}: V scores "
      "nothing"
    )
  return None


RULES = dict.fromkeys(SCORERS, rules.number(0)) | {rules.BLOCK: (_some,)}


class Verifier(NamedTuple):
  """V as a function, and whether it needs a decode d.

  score(frozen, s [B, S], d [B, G, J, T], gain [B, G], numbers) -> fidelity
  [B, G, J] in [0, 1], and the mean of each scorer used. If V scores no decode,
  d is None and J is 1. numbers: of types.Controls; they may hold other weights
  of the scorers used.
  """

  score: Callable[..., tuple[jax.Array, Metrics]]
  needs_decode: bool


def make(
  policy: Policy,
  reader: Role,
  *,
  weights: dict[str, float],
  positions: tuple[int, ...] | None,
) -> Verifier:
  """Builds V.

  Args:
    policy: the frozen reader's functions (its parameters are an argument).
    reader: the role in which the frozen model reads a text and writes s.
    weights: of `slots` (facts at known positions), `edit` (edit similarity
      over tokens), `gain` (log-likelihood gain of D over no code), `ratio`
      (ln p(s) / (ln p(s) + ln p_D(s|c)): half where nothing was gained, and
      still rising where `gain` is 0, for a D that is misled) and `reader`
      (log-likelihood gain about s of a frozen model that reads d); normalised
      to sum to 1.
    positions: of the slots, None where the source has no facts.

  Raises:
    ValueError: unknown scorers, no positive weight, slots without positions.
  """
  used = {name: w for name, w in weights.items() if w > 0}
  if not used or set(weights) - set(SCORERS) or min(weights.values()) < 0:
    raise ValueError(
      f"config.verifier={dict(weights)}: at least one of {SCORERS} must be "
      "positive, and none negative or other."
    )
  if "slots" in used and positions is None:
    raise ValueError(
      "config.verifier.slots needs a source with facts "
      "(config.data.source='facts'); for text set config.verifier.slots=0 and "
      "give a weight to edit, gain or reader."
    )

  def score(
    frozen: Params,
    source: Tokens,
    decoded: Tokens | None,
    gain: jax.Array,
    numbers: Numbers = None,
  ) -> tuple[jax.Array, Metrics]:
    shape = (*gain.shape, 1) if decoded is None else decoded.ids.shape[:3]
    s = tokens.expand(tokens.expand(source))
    s = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, x.shape[-1])), s)
    scorers = {
      "slots": lambda: compression.slots(s, decoded, positions),
      "edit": lambda: compression.edit_similarity(s, decoded),
      "gain": lambda: jnp.clip(gain, 0.0, 1.0)[..., None],
      "ratio": lambda: (1.0 / (2.0 - jnp.minimum(gain, 1.0)))[..., None],
      "reader": lambda: _reader_gain(policy, frozen, reader, s, decoded),
    }
    scores = {name: scorers[name]() for name in used}
    share = under(numbers, "verifier", used)
    total = sum(share.values())
    fidelity = sum(share[name] / total * scores[name] for name in used)
    fidelity = jnp.broadcast_to(fidelity, shape)
    return fidelity, {f"v_{n}": jnp.mean(x) for n, x in scores.items()}

  return Verifier(score, not set(used) <= {"gain", "ratio"})


def _reader_gain(policy, frozen, reader, source, decoded):
  """Log-likelihood gain about s of a frozen model that reads d. [B, G, J]"""
  shape = decoded.ids.shape[:3]
  s, d = (tokens.flatten(x) for x in (source, decoded))
  nothing = Tokens(jnp.zeros_like(d.ids), jnp.zeros_like(d.mask))
  target = tokens.expand(tokens.with_end(s, reader.end))
  read = lambda text: rollout.likelihood(
    policy, frozen, reader, reader.prompt(text), target
  )
  return jnp.clip(
    likelihood.relative_gain(read(d), read(nothing)), 0.0, 1.0
  ).reshape(shape)
