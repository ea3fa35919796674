"""Checks of a config, before data are read or programs compiled."""

from jax.sharding import Mesh

from rsrc_jax.runtime import sharding


def check(config, mesh: Mesh) -> None:
  """Refuses a config that cannot work.

  Raises:
    ValueError: a setting is out of its range; the message names it.
  """
  positive = ("steps", "budget", "batch_size", "log_every", "updates",
              "micro_batches", "pretrain.batch_size",
              "eval.every", "eval.rows", "eval.batch_size", "eval.test_rows",
              "checkpoint.every", "checkpoint.keep_last")  # fmt: skip
  for name in positive:
    if (value := at(config, name)) < 1:
      raise ValueError(f"config.{name}={value} must be at least 1.")
  least = 0 if config.model_name == "pretrained" else 1
  if config.pretrain.steps < least:
    raise ValueError(
      f"config.pretrain.steps={config.pretrain.steps} must be at least {least}."
    )
  for name in ("batch_size", "pretrain.batch_size", "eval.batch_size"):
    sharding.check_batch(mesh, f"config.{name}", at(config, name))
  if not 0 <= config.seed < 2**32:
    raise ValueError(f"config.seed={config.seed} must be 0 to 2**32 - 1.")
  if config.batch_size % config.micro_batches:
    raise ValueError(
      f"config.micro_batches={config.micro_batches} does not divide "
      f"config.batch_size={config.batch_size}."
    )
  if config.temperature <= 0:
    raise ValueError(
      f"config.temperature={config.temperature}: the codes of a group would be "
      "equal, and C could not learn from them; set it above 0."
    )
  for k in config.budgets:
    if not 1 <= k <= config.budget:
      raise ValueError(
        f"config.budgets has {k}; each must be 1 to "
        f"config.budget={config.budget}."
      )
  block = config.ledger
  for name, least in (
    ("pue", 1.0),
    ("samples_served", 1),
    ("service_seconds", 0.01),
  ):
    if not block[name] >= least:
      raise ValueError(f"config.ledger.{name}={block[name]}: at least {least}.")
  for k in config.eval.budgets:
    if not 1 <= k <= config.budget:
      raise ValueError(
        f"config.eval.budgets has {k}; codes are trained for 1 to "
        f"config.budget={config.budget} tokens."
      )


def at(config, name: str):
  """The value of a dotted name, such as "eval.rows"."""
  for part in name.split("."):
    config = config[part]
  return config
