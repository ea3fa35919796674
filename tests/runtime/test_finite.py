"""finite.py: what is not a number is found, and named by its step."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsrc_jax.runtime import finite

WHERE = {"saved": 4, "block": "config.optimizer"}


def test_the_first_bad_step_of_a_window_is_named():
  window = [{"loss": 1.0}, {"loss": jnp.float32(np.inf)}, {"loss": np.nan}]
  with pytest.raises(FloatingPointError) as error:
    finite.check_steps("code (3/3)", 9, window, **WHERE)
  said = str(error.value)
  assert said.startswith("code (3/3): the loss is inf at step 8; ")
  assert "checkpoint of step 4 is kept" in said and "\n" not in said
  assert "learning_rate or clip_norm of config.optimizer" in said
  finite.check_steps("code (3/3)", 9, window[:1], **WHERE)
  finite.check_steps("code (3/3)", 9, [], **WHERE)


def test_a_gradient_is_looked_at_where_the_loss_is_finite():
  """Log-probabilities are at least -1e30, whatever the parameters are."""
  window = [{"loss": 3e30, "gradient_norm": np.nan}]
  with pytest.raises(FloatingPointError, match="norm is nan at step 2;"):
    finite.check_steps("base", 2, window, **WHERE)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_among_many_is_found(dtype, bad):
  good = {"a": jnp.ones((3, 400), dtype), "b": jnp.arange(5), "c": jnp.ones(())}
  finite.check_params("base", 2, good, **WHERE)
  with pytest.raises(FloatingPointError, match="not finite after step 2"):
    params = {**good, "a": good["a"].at[1, 7].set(bad)}
    finite.check_params("base", 2, params, **WHERE)


def test_a_sum_that_overflows_is_no_fault():
  most = float(np.finfo(np.float32).max)
  assert finite.finite({"x": jnp.full(8, most)})
  assert not finite.finite({"x": jnp.full(8, most).at[3].set(-np.inf)})


def test_without_a_checkpoint_the_stage_begins_again():
  with pytest.raises(FloatingPointError, match="nothing of it is saved"):
    finite.check_steps("base", 1, [{"loss": np.nan}], saved=None, block="x")
