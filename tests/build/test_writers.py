"""writers.py: the budget that C is asked to keep to at evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import shrunk

from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import samples
from rsrc_jax.types import Rollout, Tokens

ARMS = {
  "many": (),
  "free": (("augment.unannounced", 0.5), ("augment.cut", 0.3)),
  "alone": (("budgets", (2,)),),
  "one": (("budgets", ()),),
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
  lengths = {"budget": 3, "budgets": (1, 2, 3), "data.asks": True}
  config = shrunk(**lengths, only="")
  config.arms = {
    name: {"pattern": "cdv", "write": "force", "overrides": own}
    for name, own in ARMS.items()
  }
  return make_setup(config, tmp_path_factory.mktemp("writers"))


@pytest.mark.parametrize(
  "arm, asked, slots, limit",
  [
    ("many", None, 3, 3), ("many", 1, 1, 1),
    ("free", None, 0, 3), ("free", 2, 2, 2),  # as long as it finds best
    ("alone", None, 2, 2), ("one", None, 0, None),
  ],
)  # fmt: skip
def test_what_a_greedy_code_is_asked_for(
  setup, monkeypatch, arm, asked, slots, limit
):
  """slots: how many tokens the prompt says; limit: where a code is cut."""
  seen = []

  def sample(policy, params, role, prompt, row_keys, *, samples, constraints):
    seen.append((prompt, constraints))
    ids = jnp.zeros((len(prompt.ids), samples, role.length), jnp.int32)
    return Rollout(prompt, Tokens(ids, ids > 0), ids, constraints)

  monkeypatch.setattr(writers.rollout, "sample", sample)
  _, write = writers.by_policy(setup, arm_config(setup.config, arm), "force")
  batch = sources.batch(setup.corpus.train, 0, 4)
  write({}, {}, batch, jax.random.key(0), *([] if asked is None else [asked]))
  prompt, limits = seen[0]
  tag = setup.corpus.vocab.control_tags["slot"]
  assert (np.asarray(prompt.ids == tag).sum(-1) == slots).all()
  if limit is None:
    assert limits.budget is None
  else:
    assert (np.asarray(limits.budget) == limit).all()
  # And the surprisal of these codes is read under the same prompt.
  told = samples._told(arm_config(setup.config, arm), 4)
  if asked is None:
    assert [x.tolist() for x in told] == ([[slots] * 4] if limit else [])
