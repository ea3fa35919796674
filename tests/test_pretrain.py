"""pretrain.py: the base learns the language, and the roles learn extracts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tiny

from rsrc_jax import pretrain
from rsrc_jax.types import TrainState


def train(steps, **changes):
  settings = dict(
    seed=0, budget=tiny.BUDGET, warmup_from=5, dropout=0.1, reader=True
  )
  tx = optax.adam(1e-2)
  step = jax.jit(
    pretrain.make_step(tiny.POLICY, tiny.ROLES, tx, **settings | changes)
  )
  params = tiny.params()
  state = TrainState(jnp.int32(0), params, tx.init(params), (), ())
  metrics = []
  for _ in range(steps):
    state, m = step(state, None, tiny.batch(), ())
    metrics.append({k: float(v) for k, v in m.items()})
  return metrics


def test_all_roles_learn_from_the_step_they_are_taught():
  metrics = train(40)
  before, after = metrics[4], metrics[-1]
  for name in ("text_nll", "C_nll", "D_nll", "V_nll"):
    assert after[name] < 0.7 * before[name]
  # Until then the loss is the language alone.
  for m in metrics[:5]:
    np.testing.assert_allclose(m["loss"], m["text_nll"], rtol=1e-5)
  assert metrics[5]["loss"] > 2 * metrics[5]["text_nll"]


def test_noise_replaces_tokens_of_a_text_by_its_neighbours():
  s = tiny.batch().source
  noisy = jax.jit(pretrain.noised)(s, jax.random.key(0), jnp.arange(8))
  changed = np.asarray(noisy.ids != s.ids)
  assert not changed[~np.asarray(s.mask)].any()
  np.testing.assert_array_equal(noisy.mask, s.mask)
  other = np.roll(np.asarray(s.ids), 1, 0)
  assert (np.asarray(noisy.ids)[changed] == other[changed]).all()
  assert 0.1 < changed[np.asarray(s.mask)].mean() < 0.9
