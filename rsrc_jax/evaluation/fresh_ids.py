"""Codes in a vocabulary that is drawn anew: config.evals.NAME.type "fresh_ids".

"Theory of RSI on LLMs through ordinary RL (Kolmogorov Compressor)" wants C to
compress in *any* vocabulary, and d to collapse into a single interpretation. So
each source gets a fresh random subset of ids, and its code may hold no other:
from all ids of codes, from those that training may have written, and from those
that it never wrote (config.augment.withheld). D then samples several d of each
code, which are compared with each other.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build import overrides, writers
from rsrc_jax.build.setup import Setup
from rsrc_jax.evaluation import code_judge
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.metrics import compression
from rsrc_jax.rl import constraints
from rsrc_jax.types import Batch, Constraints, Tokens


def make(
  setup: Setup,
  *,
  allowed: int = 12,
  samples: int = 4,
  rows: int = 512,
  split: str = "test",
  seed: int = 0,
) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry) -> scores, {} where C writes nothing.

  Each score is named SCOPE_SCORE. SCOPE is "free" (any id), or the ids that the
  subset of a source is drawn from: "all", "trained", "withheld"; the last two
  only with config.augment.withheld. Of the greedy code and d of each source:

    bits: conveyed, in bits; where the entropy of sources is known.
    edit, exact: of the free-running d, as in the comparison.
    agreement: mean edit similarity of each pair of d's that D samples.
    agreed: share of those pairs that are equal, token for token.

  Args:
    setup: of the run.
    allowed: ids in a subset. As many of them are named in C's prompt as
      training injects.
    samples: d's of each code, J, at the temperature of D.
    rows: sources, at most those of the split.
    split: "test" or "valid".
    seed: of the subsets and of the samples.

  Raises:
    ValueError: a subset that is empty or larger than what it is drawn from, J
      below 2, no row, or an unknown split.
  """
  field = "config.evals: fresh_ids"
  scopes = _scopes(setup)
  most = min(int(x.sum()) for x in scopes.values() if x is not None)
  if not 1 <= allowed <= most:
    raise ValueError(
      f"{field}.allowed={allowed}: 1 to {most}, the ids that the smallest "
      "vocabulary has. Change it, or config.augment.withheld."
    )
  if samples < 2 or rows < 1 or split not in ("test", "valid"):
    raise ValueError(
      f"{field}: samples={samples} must be 2 or more, rows={rows} 1 or more, "
      f"and split={split!r} 'test' or 'valid'."
    )
  source = getattr(setup.corpus, split)
  batches = code_judge.whole_batches(source, rows, setup.config.eval.batch_size)

  def evaluate(stage, params, carry) -> dict[str, float]:
    del carry
    if stage.write is None or stage.rule:
      return {}
    config = overrides.arm_config(setup.config, stage.name)
    found = {}
    for number, (name, ids) in enumerate(scopes.items()):
      score = jax.jit(_scorer(setup, config, ids, allowed, samples))
      key = jax.random.fold_in(jax.random.key(seed), number)
      means = code_judge.mean_scores(
        lambda batch, score=score, key=key: score(params, batch, key),
        source, batches,
      )  # fmt: skip
      nll = means.pop("nll")
      if setup.corpus.entropy_bits is not None:
        means["bits"] = setup.corpus.entropy_bits - nll
      found |= {f"{name}_{x}": value for x, value in means.items()}
    return found

  return evaluate


def _scopes(setup: Setup) -> dict[str, np.ndarray | None]:
  """What subsets are drawn from, [V] bool; None: C may write any id."""
  code = setup.corpus.vocab.code
  kept = writers.withheld(setup, setup.config)
  found = {"free": None, "all": code}
  if kept is not None:
    found |= {"trained": code & ~kept, "withheld": kept}
  return found


def _scorer(setup, config, ids, allowed: int, samples: int) -> Callable:
  """score(params, batch, key) -> scores [B]."""
  policy, C, D = setup.policy, setup.roles["C"].greedy(), setup.roles["D"]
  read = code_judge.make_reader(policy, D)
  judge = code_judge.make_judge(policy, D)
  limits = constraints.relaxed(
    "free", setup.corpus.vocab.code,
    end=setup.corpus.vocab.end if config.augment.fixed_length else None,
  )  # fmt: skip
  told = writers.announced_at_evaluation(config)

  def score(params, batch: Batch, key) -> dict[str, jax.Array]:
    k_subset, k_samples = (keys.child(key, x) for x in keys.Fresh)
    limited = limits(batch, writers.budget_of(config, batch, None), told)
    if ids is not None:
      limited = within(
        limited, ids, allowed, config.augment.inject,
        keys.row_keys(k_subset, batch.row),
      )  # fmt: skip
    each = keys.row_keys(k_samples, batch.row)
    c = rollout.sample(
      policy, params, C, C.prompt(batch.source, limited), each, samples=1,
      constraints=limited,
    )  # fmt: skip
    code = tokens.at(tokens.without_end(c.output, C.end), 0)
    scores = judge(params, batch.source, code, read(params, code))
    d = rollout.sample(policy, params, D, D.prompt(code), each, samples=samples)
    agreement, agreed = agree(tokens.without_end(d.output, D.end))
    return {
      "nll": scores["nll_bits"],
      "edit": scores["edit_similarity"],
      "exact": scores["exact_match"],
      "agreement": agreement,
      "agreed": agreed,
    }

  return score


def within(
  limits: Constraints, ids: np.ndarray, allowed: int, named: int, row_keys
) -> Constraints:
  """Codes of `allowed` random ids of `ids` [V], the first of them named.

  limits: of the batch otherwise; row_keys: [B], consumed.
  """
  noise = jax.vmap(lambda key: jax.random.uniform(key, ids.shape))(row_keys)
  _, subset = jax.lax.top_k(jnp.where(jnp.asarray(ids), noise, -1.0), allowed)
  subset = subset.astype(jnp.int32)[:, None]
  few = min(named, allowed)
  return limits._replace(
    allowed=subset, injected=subset[..., :few] if few else None
  )


def agree(d: Tokens) -> tuple[jax.Array, jax.Array]:
  """How far J texts [B, J, T] agree: mean similarity, share of equal pairs.

  Over their J (J - 1) / 2 pairs. -> [B] each
  """
  pairs = np.array(list(itertools.combinations(range(d.ids.shape[1]), 2)))
  one, other = (Tokens(*(x[:, pairs[:, i]] for x in d)) for i in (0, 1))
  mean = lambda of: jnp.mean(of(one, other), -1)
  return mean(compression.edit_similarity), mean(compression.exact_match)
