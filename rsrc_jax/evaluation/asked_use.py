"""Use of ids that C is asked for: config.evals.NAME.type "asked_use".

The curriculum takes the lists of injected ids away in the course of training,
and with them every measure of their use. This evaluation names N ids again, as
in training, masks nothing, and asks whether C uses them more often than chance
would, and what D loses without them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.build import overrides, writers
from rsrc_jax.build.setup import Setup
from rsrc_jax.evaluation import code_judge
from rsrc_jax.lm import keys, rollout, tokens
from rsrc_jax.metrics import use
from rsrc_jax.ops import rewards
from rsrc_jax.rl import curriculum, injected_ids
from rsrc_jax.types import Batch

FULL = curriculum.full()._replace(hidden=np.float32(0.0))
OF_USERS = ("swap_bits", "delete_bits", "junk_share")  # means over users


def make(
  setup: Setup, *, rows: int = 512, split: str = "test", seed: int = 0
) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry) -> scores of an arm's greedy codes.

  {} where C writes nothing, or no ids are injected. With a list named:

    use_rate: share of codes with a listed id. decoy_rate: with a decoy, one of
      as many ids that were not named: use by chance.
    swap_bits, delete_bits: bits D loses for each id that is swapped for its
      decoy, or deleted; means over the codes that use any, 0 where none does.
    junk_share: of those, the codes that lose less than use.JUNK bits
      an id in the swap.
    bits_listed, edit_listed, exact_listed, tokens_listed: what codes are worth.
    bits_bare and so on: the same without a list.

  Bits are left out where the entropy of sources is not known.

  Args:
    setup: of the run.
    rows: sources, at most those of the split.
    split: "test" or "valid".
    seed: of the lists.

  Raises:
    ValueError: no row, or an unknown split.
  """
  if rows < 1 or split not in ("test", "valid"):
    raise ValueError(
      f"config.evals: asked_use: rows={rows} must be 1 or more, and "
      f"split={split!r} 'test' or 'valid'."
    )
  source = getattr(setup.corpus, split)
  batches = code_judge.whole_batches(source, rows, setup.config.eval.batch_size)

  def evaluate(stage, params, carry) -> dict[str, float]:
    del carry
    config = overrides.arm_config(setup.config, stage.name)
    if stage.write is None or stage.rule or not config.augment.inject:
      return {}
    score = jax.jit(_scorer(setup, config))
    found = code_judge.mean_scores(
      lambda batch: score(params, batch, jax.random.key(seed)), source, batches
    )
    users = found["use_rate"]
    for name in OF_USERS:  # each row's is 0 where it is no user
      found[name] = found[name] / users if users else 0.0
    for kind in ("listed", "bare"):
      nll = found.pop(f"nll_{kind}")
      if setup.corpus.entropy_bits is not None:
        found[f"bits_{kind}"] = setup.corpus.entropy_bits - nll
    return found

  return evaluate


def _scorer(setup: Setup, config) -> Callable:
  """score(params, batch, key) -> scores [B]."""
  policy, C, D = setup.policy, setup.roles["C"].greedy(), setup.roles["D"]
  read = code_judge.make_reader(policy, D)
  judge = code_judge.make_judge(policy, D)
  # One budget, as in the comparison: the largest, said where training always
  # says it.
  told = writers.announced_at_evaluation(config)
  changes = {
    "force": False, "cut": 0.0, "unannounced": 0.0 if told else 1.0,
    "budgets": tuple(config.budgets) and (max(config.budgets),),
  }  # fmt: skip
  asked, bare = (
    writers.make_controls(setup, config, "force", bare=x, **changes)
    for x in (0.0, 1.0)
  )

  def write(params, batch: Batch, limits):
    c = rollout.sample(
      policy, params, C, C.prompt(batch.source, limits),
      keys.row_keys(jax.random.key(0), batch.row), samples=1,
      constraints=limits,
    )  # fmt: skip
    return tokens.without_end(c.output, C.end)  # [B, 1, k]

  def score(params, batch: Batch, key) -> dict[str, jax.Array]:
    s = batch.source
    value = lambda code: judge(params, s, tokens.at(code, 0), read(
      params, tokens.at(code, 0)))  # fmt: skip
    controls = asked(key, batch, FULL)
    injected, decoys = controls.constraints.injected, controls.decoys
    code = write(params, batch, controls.constraints)
    listed = value(code)
    without = value(write(params, batch, bare(key, batch, FULL).constraints))
    uses = rewards.first_uses(code.ids, code.mask, injected)
    count = jnp.sum(uses, -1)[:, 0]
    lost = lambda other: jnp.where(
      count > 0,
      (value(other)["nll_bits"] - listed["nll_bits"]) / jnp.maximum(count, 1),
      0.0,
    )
    swapped = rewards.swap(code.ids, uses, injected, decoys)
    swap = lost(code._replace(ids=swapped))
    found = {
      "use_rate": (count > 0) * 1.0,
      "decoy_rate": jnp.any(injected_ids.hits(code, decoys), -1)[:, 0] * 1.0,
      "swap_bits": swap,
      "delete_bits": lost(injected_ids.remove_injected(code, injected)),
      "junk_share": ((count > 0) & (swap < use.JUNK)) * 1.0,
    }
    names = {"nll_bits": "nll", "edit_similarity": "edit",
             "exact_match": "exact", "mean_tokens": "tokens"}  # fmt: skip
    for kind, scores in (("listed", listed), ("bare", without)):
      found |= {f"{new}_{kind}": scores[old] for old, new in names.items()}
    return found

  return score
