"""experiments/core: the autoencoder, and the table of the coder's bound."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from helpers import runs, tiny

from experiments.core import autoencoder, bounds
from rsrc_jax import train
from rsrc_jax.lm import likelihood, tokens
from rsrc_jax.rl import constraints
from rsrc_jax.runtime import run_log

STAGE = str(Path(autoencoder.__file__).relative_to(runs.ROOT))
K = 2


def parts(**changes):
  settings = {**autoencoder.DEFAULTS, "group": 2, **changes}
  return autoencoder.Autoencoder(
    tiny.POLICY, tiny.ROLES["C"], tiny.ROLES["D"], K, steps=100,
    dropout=0.0, empty=False, **settings,
  )  # fmt: skip


def test_a_sample_is_one_hot_and_has_the_gradient_of_the_softmax():
  logp, noise = jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.array([0.0, 2.0, 0])
  worth = jnp.array([1.0, 2.0, 4.0])
  of = lambda logp, heat: jnp.sum(
    worth * autoencoder.straight_through(logp, noise, heat)
  )
  value, grad = jax.value_and_grad(of)(logp, 2.0)
  assert value == 2.0  # .25 e^2 is the largest of the three
  p = np.exp(np.array(logp + noise) / 2.0)
  p /= p.sum()
  want = p * (worth - p @ worth) / 2.0
  np.testing.assert_allclose(grad, want, rtol=1e-5)


def test_the_softmax_cools_by_a_constant_factor():
  p = parts(first=1.0, last=0.25, until=0.5)
  heats = [autoencoder.temperature(p, jnp.int32(n)) for n in (0, 25, 50, 99)]
  np.testing.assert_allclose(heats, [1.0, 0.5, 0.25, 0.25], rtol=1e-6)


def test_codes_are_written_and_read_as_their_ids_are():
  """Mixtures that are one-hot say what the ids say, and no code has an end."""
  p, batch, params = parts(), tiny.batch(rows=2), tiny.params()
  limits = constraints.relaxed("source", tiny.CODE)(batch, None)

  @jax.jit
  def run(params, noise):
    prompt = p.C.prompt(batch.source, limits)
    written = autoencoder.write(p, params, prompt, limits, noise, 1.0)
    lessons = likelihood.decode_batch(
      p.D, batch.source, tokens.flatten(written.code), jax.random.key(0), 0.0
    )
    heard = autoencoder.read(p, params, lessons, written.choice)
    known = likelihood.of_source(
      p.policy, params, p.D, batch.source, written.code
    )
    return written, heard, known

  noise = jax.random.gumbel(jax.random.key(1), (2, p.group, K, tiny.VOCAB))
  written, heard, known = run(params, noise)
  count = jnp.sum(batch.source.mask) + len(batch.row)
  np.testing.assert_allclose(heard, -known.sum() / (p.group * count), rtol=1e-5)
  of_s = [set(row[m].tolist()) for row, m in zip(*map(np.asarray, batch.source),
    strict=True)]  # fmt: skip
  for row, ids in zip(written.code.ids, of_s, strict=True):
    assert set(np.unique(row).tolist()) <= ids
  assert np.all((written.end > 0) & (written.end < 1))
  np.testing.assert_array_equal(written.choice.sum(-1), 1.0)


@pytest.mark.parametrize(
  "change, said",
  [({"budgets": (2, 3)}, "budgets=.2, 3., but"),
   ({"autoencoder": {"method": "rl"}}, "config.autoencoder.method='rl'"),
   ({"autoencoder": {"metod": "em"}}, "metod='em' is no setting"),
   ({"write": "lead"}, "config.arms.x.write='lead' is a rule")],
)  # fmt: skip
def test_what_cannot_be_is_refused(change, said):
  config = ml_collections.ConfigDict({
    "budgets": (), "model_name": "transformer", **change
  })  # fmt: skip
  setup = SimpleNamespace(policy=tiny.POLICY)
  with pytest.raises(ValueError, match=said):
    autoencoder._check(setup, config, "x", change.get("write", "force"))


def test_a_model_that_takes_ids_alone_has_no_gradient_of_their_choice():
  policy = tiny.POLICY._replace(apply=lambda params, tokens, positions: None)
  config = ml_collections.ConfigDict({
    "budgets": (), "model_name": "other", "autoencoder": {"method": "gumbel"}
  })  # fmt: skip
  with pytest.raises(ValueError, match="model_name='other' takes ids alone"):
    autoencoder._check(SimpleNamespace(policy=policy), config, "x", "force")


def test_the_bound_has_a_row_for_each_budget_and_alphabet():
  bits = np.array([[3.0, 3.0, 0.0]])  # two words of eight, and a sure end
  found = bounds.rows(bits, np.array([2]), [8], 6.0)
  assert [x.k for x in found] == [*bounds.BUDGETS]
  one, two = found[:2]
  assert one == (8, 1, 3.0, 3.0, 3.0, 0.5, 0.0)
  assert two == (8, 2, 6.0, 6.0, 0.0, 1.0, 1.0)
  # A coder of one length needs a bit more.
  spared = bounds.rows(bits, np.array([2]), [8], 6.0, spare=1.0)
  assert spared[1][3:] == (5.0, 1.0, 0.5, 0.0)
  assert bounds.table(found).splitlines()[2] == (
    "| 8 | 1 | 3.0 | 3.00 | 0.500 | 0.000 |"
  )
  assert "| - |" in bounds.table(bounds.rows(bits, np.array([2]), [8], None))


@pytest.mark.slow
def test_it_is_an_arm_with_codes_from_which_an_arm_of_rl_starts(tmp_path):
  config = runs.shrunk(
    **{"only": "", "steps": 2, "pretrain.steps": 2, "log_every": 1,
       "eval.every": 2, "eval.budgets": (), "checkpoint.every": 2,
       "eval.rows": 16, "eval.test_rows": 16}
  )  # fmt: skip
  config.autoencoder = {"method": "em"}
  gumbel = (("autoencoder.method", "gumbel"),)
  config.arms = {
    "code": {"pattern": "cdv", "write": "force", "start": "em"},
    "em": {"stage": STAGE},
    "gumbel": {"stage": STAGE, "overrides": gumbel},
  }
  config.evals = {"fresh": {
    "type": "fresh_decoder", "steps": 2, "look": 1, "settle": 1,
    "sentences": 40, "batch_size": 8, "rows": 16, "valid_rows": 16,
    "starts": ("base", "untrained"),
  }}  # fmt: skip
  summary = train.train(config, tmp_path)
  assert set(summary["heldout"]["arms"]) == {"em", "gumbel", "code"}
  for arm in config.arms:
    scores = summary["evals"][arm]["fresh"]
    assert {f"{x}_bits" for x in ("own", "base", "untrained")} <= set(scores)
    assert scores["base_steps"] == 3 and scores["base_ended"] == 0.0
    own = summary["heldout"]["arms"][arm]
    # The same codes and the same D as those of the comparison.
    np.testing.assert_allclose(
      scores["own_bits"], own["bits_conveyed"], rtol=1e-4
    )
  lines = run_log.read_jsonl(tmp_path / "metrics.jsonl")
  of = lambda arm, split: [
    x for x in lines if (x["phase"], x["split"]) == (arm, split)
  ]
  for arm in ("em", "gumbel"):
    assert [x["step"] for x in of(arm, "train")] == [1, 2]
    assert all(np.isfinite(x["loss"]) for x in of(arm, "train"))
    assert "bits_conveyed" in of(arm, "valid")[-1]
  assert "C_nll" in of("em", "train")[0]
  assert "C_end" in of("gumbel", "train")[0]
