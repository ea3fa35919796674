"""Shared pytree types, the contracts between modules, and their shape letters.

  B  sources in a batch    G  codes of a source     J  decodes of a code
  P  length of a prompt    T  length of an output   S  length of a source
  K  ids in a list         V  vocabulary            L  layers
  D  width                 H  key-value heads       N  rows of any batch

An array without a note on its dtype is float32; ids are int32, masks bool.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

Params = Any
Metrics = dict[str, jax.Array]


class Tokens(NamedTuple):
  """Text in ids: the only thing that passes from one context to another."""

  ids: jax.Array  # [..., T] int32; the value under a False mask is 0
  mask: jax.Array  # [..., T] bool; True on real tokens


class QASources(NamedTuple):
  """Sources that come with a question and its answer each."""

  ids: jax.Array  # of the source, as those of Tokens, [n, S]
  mask: jax.Array
  question: Tokens  # [n, Q]
  answer: Tokens  # [n, W - 1]
  extra: Any = None  # as in Batch, [n, ...]


class Batch(NamedTuple):
  """A batch of source texts and their row indices in the data set."""

  source: Tokens  # [B, S]
  row: jax.Array  # [B] int32: index in the data set, folded into random keys
  question: Tokens | None = None  # [B, Q], where sources come with one
  answer: Tokens | None = None  # [B, W - 1], its end not written
  # Further data of each row, for patterns that use it: a pytree of arrays
  # [B, ...].
  extra: Any = None


class Constraints(NamedTuple):
  """Ids that a code may use, must not use, or should use; -1 pads.

  g is 1 (shared by a group) or G. Stored as ids with the rollout, so that
  scoring replays the mask of the sampler ("Theory of RSI ...", Augmentation).
  """

  banned: jax.Array  # [B, g, K] int32: never sampled
  allowed: jax.Array  # [B, g, K'] int32: a row of only -1 allows everything
  # None where the arm has no such constraint.
  injected: jax.Array | None = None  # [B, 1, N] int32: U, should be used
  avoided: jax.Array | None = None  # [B, 1, M] int32: should not be used
  temperature: jax.Array | None = None  # [B, 1]: times the role's own
  budget: jax.Array | None = None  # [B, 1] int32: most tokens of the code
  # [B, 1] bool: the prompt says the budget; None: it does in every row.
  announced: jax.Array | None = None


class Controls(NamedTuple):
  """The constraints of a batch's codes, and what their reward depends on."""

  constraints: Constraints
  decoys: jax.Array  # [B, 1, N] int32: another draw of U, which C is not shown
  bonus: jax.Array  # [] share of the injection bonus that remains
  level: jax.Array  # [] int32: of the curriculum
  # Settings by their path below `config`, [] each: see rl/numbers.py. What is
  # not among them is a constant of the program.
  numbers: dict[str, jax.Array] | None = None
  # [B, 1] bool: the codes pay for their length; None: those of all rows do.
  priced: jax.Array | None = None


class Given(NamedTuple):
  """The arguments of an arm's step beside state and batch (Stage.controls)."""

  controls: Any  # Controls, or the codes that a rule has written
  curriculum: Any  # its state at this step
  numbers: dict[str, jax.Array] | None = None  # as in Controls


class TokenStats(NamedTuple):
  """Statistics of a next-token distribution, each [...], in nats.

  Of the masked, untempered, untruncated distribution p.
  """

  lse: jax.Array  # ln of the sum of exp(logits)
  log_prob: jax.Array  # ln p of the sampled id
  entropy: jax.Array  # H = E[-ln p]
  varentropy: jax.Array  # V = Var[-ln p], nats squared
  collision: jax.Array  # H2 = -ln sum p^2
  mass: jax.Array  # m: sum of p over the injected ids


class Cache(NamedTuple):
  """Keys and values of a segment. A prompt's segment has G = 1.

  The cache of prompts with one output each has no axis G in `k` and `v`.
  """

  k: jax.Array | tuple[jax.Array, ...]  # [B, H, G, D/H, T] a layer
  v: jax.Array | tuple[jax.Array, ...]  # [B, H, G, T, D/H]
  mask: jax.Array  # [B, G, T] bool


class Policy(NamedTuple):
  """A language model as pure functions. See models/transformer.py."""

  init: Callable[..., Params]  # key -> params
  apply: Callable[..., tuple[jax.Array, Cache]]  # -> hidden [B, G, T, D]
  unembed: Callable[..., jax.Array]  # params, hidden -> logits [..., V]
  init_cache: Callable[..., Cache]  # batch, group, length -> Cache
  # params -> [V, D], where logits are hidden @ table.T and nothing more
  table: Callable[..., jax.Array] | None = None
  # params -> params, prepared once for many cached passes
  unrolled: Callable[..., Params] = lambda params: params
  # token_stats.over(mesh, ...) where the table is cut over a mesh
  head: Callable[..., TokenStats] | None = None
  # apply without a cache -> hidden [R, B, G, T, D] after each of R loops
  trace: Callable[..., tuple[jax.Array, Cache]] | None = None


class Rollout(NamedTuple):
  """One isolated context window, sampled G times from a shared prompt."""

  prompt: Tokens  # [B, P]
  output: Tokens  # [B, G, T]; the mask covers the end token where sampled
  log_probs: jax.Array  # [B, G, T] under the distribution that was sampled
  constraints: Constraints | None  # [B, g, K]
  stats: TokenStats | None = None  # [B, G, T], as sampled; None: not recorded


class SupervisedBatch(NamedTuple):
  """Supervised data of a role: targets that should follow a prompt."""

  prompt: Tokens  # [N, P]
  target: Tokens  # [N, J, T], end token included
  weights: jax.Array  # [N, J]
  # [N, J]: what the weighted sum is divided by, in its place. None: the weights
  # themselves, so that a factor that all share has no effect.
  counted: jax.Array | None = None


class Episode(NamedTuple):
  """The output of a pattern for the learner. Keys are role names."""

  rollouts: dict[str, Rollout]
  rewards: dict[str, jax.Array]  # [B, G] of each rollout
  sft_batches: dict[str, SupervisedBatch]
  metrics: Metrics  # among them lm.rollout.passes of every sampling
  # [B, G], added to the advantages within a group: the value of an output
  # relative to a baseline outside the group, such as a parent or an empty
  # memory.
  credit: dict[str, jax.Array] | None = None
  # By role, then by name: what its rewards are the sum of, [B, G] each.
  # "verifier", "reader", "shaping", "bonus", "price": see rl/verifier.py.
  parts: dict[str, dict[str, jax.Array]] | None = None


class Judged(NamedTuple):
  """What V says of G codes of each of n sources."""

  parts: dict[str, jax.Array]  # [n, G] by name, of what they are worth
  word: jax.Array  # [n, G]: V's alone, at most 1, 0 where nothing was conveyed
  decoded: Tokens | None  # [n, G, T], the first d of each; None: V hears none
  sampled: Rollout | None  # D's, of all decodes
  log_lik: jax.Array | None  # [n, G] nats, ln p_D(s|c); None: it is not paid

  @property
  def worth(self) -> jax.Array:
    """The sum of the parts, [n, G]."""
    return sum(self.parts.values())


class SourceInfo(NamedTuple):
  """Properties of the data for patterns."""

  names: tuple[str, ...] = ()  # of the facts, Q
  questions: Any = None  # [Q] int32: the id of the question about each
  words: Any = None  # [Q, V] bool: ids that can answer it
  slots: tuple[int, ...] | None = None  # positions of the facts
  unknown: int = 0  # the id of the answer that a source lacks the fact
  # W, where each source comes with a question: most tokens of an answer and its
  # end. 0: sources come without questions.
  answer_tokens: int = 0


class Context(NamedTuple):
  """The arguments of a pattern's make() other than its settings."""

  policy: Policy  # the model's functions, shared by all roles
  roles: Mapping[str, Any]  # "C", "D", "V" and "text": lm.roles.Role
  verify: Any = None  # V: rl.verifier.Verifier
  info: SourceInfo = SourceInfo()
  # Functions outside of the model that a pattern may call, by name.
  tools: Mapping[str, Callable] = MappingProxyType({})
  rows: int = 0  # sources of a step, B, for a carry of so many; 0: not known
  # Most tokens of a code where C's prompt says how many, as it is evaluated;
  # None: it does not, and C's length is the budget.
  budget: int | None = None


class Pattern(NamedTuple):
  """An arrow diagram of roles, as pure functions.

  A module with make(context: Context, **settings) -> Pattern; the settings are
  its block in config.patterns.

  init() -> carry
  play(params, frozen, carry, batch, key, controls) -> (Episode, carry)
  examine(params, frozen, carry, batch, code, key) -> (scores, shown): further
    measurements of this pattern on held-out sources, in addition to those of
    all arms. code: Tokens [B, k], greedy, nothing forced. scores:
    [n] each, nan where there is no value; shown: Tokens [n, T] or
    [n, rounds, T], by name.

  controls: Controls, or the codes that a rule has written. They are made before
  the batch is played.
  """

  init: Callable[..., Any]
  play: Callable[..., tuple[Episode, Any]]
  examine: Callable[..., tuple[Metrics, dict[str, Tokens]]] | None = None
  roles: tuple = ()  # (name, Role) of its own, beside C, D, V and text


class TrainState(NamedTuple):
  """Everything that an update changes; a checkpoint adds the data iterator."""

  step: jax.Array  # [] int32
  params: Params
  opt_state: Any
  carry: Any  # the pattern's
  curriculum: Any  # the curriculum's
  seed: jax.Array  # [] uint32, of all randomness: seeds share one program
  entropy: Any = ()  # of rl/entropy.py, where config.loss.hold is set
