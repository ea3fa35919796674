"""V: what a free-running d is worth, and D's likelihood as shaping beside it.

V's word is a weighted mixture of scorers that hear d. `slots` and `edit` are
rules without parameters; `reader` is a frozen language model of its own
(rl/reader.py), whose parameters are an argument of the step. V is never trained
("Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)").

Shaping is not V: it is the likelihood of s under the weights that are being
trained. It is dense where V is coarse, is named apart wherever rewards are
reported, and no claim rests on it alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax import rules
from rsrc_jax.lm import likelihood, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.metrics import compression
from rsrc_jax.rl import reader as readers
from rsrc_jax.rl.numbers import Numbers, under
from rsrc_jax.types import Metrics, Params, Policy, Tokens

RULED = ("slots", "edit")  # the part "verifier" of a reward
WORDS = (*RULED, "reader")
SHAPING = ("gain",)
Parts = dict[str, jax.Array]


def pays(settings, run):
  """The rule of a config that something is paid for."""
  del run
  if any((*settings["verifier"].values(), *settings["shaping"].values())):
    return None
  return "verifier.edit", (
    f"above 0, or another of {', '.join(WORDS)}, or {rules.HERE}.shaping.gain: "
    "nothing is paid for"
  )


RULES = dict.fromkeys(WORDS, rules.number(0))
SHAPING_RULES = dict.fromkeys(SHAPING, rules.number(0))


class Verifier(NamedTuple):
  """V as functions of arrays. Weights of V and of shaping add up to 1.

  words(frozen, s [B, S], d [B, G, J, T], numbers) -> V's word in its parts
    "verifier" (rules) and "reader", [B, G, J] each, whose sum is 1 where all
    scorers say 1; and the mean of each scorer.
  share(numbers) -> [], what V's word weighs in the reward.
  shaping(log_lik, base_log_lik, numbers) -> weighted shaping, of their shape.

  numbers: of types.Controls; they may hold other weights of the scorers used.
  """

  words: Callable[..., tuple[Parts, Metrics]]
  share: Callable[..., jax.Array | float]
  shaping: Callable[..., jax.Array]
  hears: bool  # some scorer of d has a weight
  shapes: bool  # the likelihood has one


def check_scores_differ(
  weights: dict[str, float], s: Tokens, positions: tuple[int, ...] | None
) -> None:
  """Refuses a V of rules that gives every sentence of some data one score.

  It would call any sentence a perfect d of any other one. What a reader tells
  apart is seen after its training, by its battery.

  Args:
    weights: of the scorers, as for `make`.
    s: sentences, [N, S]; host arrays.
    positions: of the slots.

  Raises:
    ValueError: what the scorers compare is the same in all rows.
  """
  used = {name for name, w in weights.items() if w > 0}
  if not used or "reader" in used or not ("edit" in used or positions):
    return  # without slots, `make` says so
  ids = np.where(s.mask, s.ids, -1)
  heard = ids if "edit" in used else ids[:, list(positions)]
  if (heard == heard[:1]).all():
    compares = "tokens" if "edit" in used else "slots"
    raise ValueError(
      f"config.verifier={dict(weights)}: V gives every d the same score, since "
      f"the {compares} that it compares are the same in all {len(ids)} "
      "training sentences: give data whose sentences differ (config.data), or "
      "weigh another scorer."
    )


def make(
  policy: Policy,
  reader: Role,
  *,
  weights: dict[str, float],
  shaping: dict[str, float],
  positions: tuple[int, ...] | None,
) -> Verifier:
  """Builds V.

  Args:
    policy: the frozen reader's functions (its parameters are an argument).
    reader: the role in which the frozen model reads a text and writes s.
    weights: of `slots` (facts at known positions), `edit` (edit similarity
      over tokens) and `reader` (what a frozen model that reads d gains about
      s).
    shaping: of `gain` (what D, which is being trained, gains about s from c).
    positions: of the slots, None where the source has no facts.

  Raises:
    ValueError: unknown scorers, no positive weight, slots without positions.
  """
  used = {name: w for name, w in weights.items() if w > 0}
  shaped = {name: w for name, w in shaping.items() if w > 0}
  known = set(weights) <= set(WORDS) and set(shaping) <= set(SHAPING)
  least = min((*weights.values(), *shaping.values()), default=0)
  if not known or not (used or shaped) or least < 0:
    raise ValueError(
      f"config.verifier={dict(weights)}, config.shaping={dict(shaping)}: one "
      f"of {WORDS + SHAPING} must be positive, none negative or other."
    )
  if "slots" in used and positions is None:
    raise ValueError(
      "config.verifier.slots needs a source with facts "
      "(config.data.source='facts'); for text set config.verifier.slots=0 and "
      "give a weight to edit or reader."
    )

  def shares(numbers: Numbers):
    """The weights in use, and their sum with those of shaping."""
    own, more = (
      under(numbers, "verifier", used),
      under(numbers, "shaping", shaped),
    )
    return own, more, sum(own.values()) + sum(more.values())

  def words(
    frozen: Params, source: Tokens, decoded: Tokens, numbers: Numbers = None
  ) -> tuple[Parts, Metrics]:
    shape = decoded.ids.shape[:3]
    s = tokens.expand(tokens.expand(source))
    s = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, x.shape[-1])), s)
    scorers = {
      "slots": lambda: compression.slots(s, decoded, positions),
      "edit": lambda: compression.edit_similarity(s, decoded),
      "reader": lambda: readers.gain(policy, frozen, reader, source, decoded),
    }
    scores = {name: scorers[name]() for name in used}
    own, _, _ = shares(numbers)
    total, parts = sum(own.values()), {}
    for name, found in scores.items():
      part = "verifier" if name in RULED else name
      parts[part] = parts.get(part, 0.0) + own[name] / total * found
    return parts, {f"v_{n}": jnp.mean(x) for n, x in scores.items()}

  def share(numbers: Numbers = None):
    own, _, total = shares(numbers)
    return sum(own.values()) / total

  def shape(
    log_lik: jax.Array, base_log_lik: jax.Array, numbers: Numbers = None
  ) -> jax.Array:
    _, more, total = shares(numbers)
    return (
      sum(more.values())
      / total
      * likelihood.bounded_gain(log_lik, base_log_lik)
    )

  return Verifier(words, share, shape, bool(used), bool(shaped))
