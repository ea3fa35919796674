"""Are injected ids used where C is only asked for them, and does the gate pay?

  ./tools/run --config=configs/asked_ids.py --workdir=runs/asked-0
  ./tools/sweep run --config=experiments/asked_ids/sweep.py

Sentences of mostly six facts and codes of at most five tokens, which end by
themselves and pay for their length: there is room for more than is needed. N
ids are named in C's prompt, and nothing is hidden. C has been shown to write
them in the warm-up, and is shown it in RL. Arms differ in what use is paid.

Cost: 2 minutes for the base and 60 to 80 s an arm on one core, compiling not
included (of trials on a shared machine).
Expect: the bonus has .14 of the spread of reward; C uses a named id in .10 of
its codes (decoys: .01), with the bonus or without it; codes of 4.2 tokens
convey 12.7 bits where ids are named (experiments/asked_ids).
"""

import ml_collections

from rsrc_jax.ops import rewards
from rsrc_jax.runtime.configs import beside

# Of a code at full budget. Price and budget bound the bonus of an id: 1/5 of
# what is conveyed, which is enough to differ from the noise of reward.
PRICE = 1.0
GATE = "patterns.cdv.gate"


def get_config() -> ml_collections.ConfigDict:
  """Six arms from one base."""
  config = beside(__file__, "tiny")
  config.steps, config.batch_size = 400, 16
  config.budget, config.budgets = 5, (2, 3, 4, 5)
  config.data.update({"vocab_size": 132, "asks": True, "omit": 0.95})
  config.model.absolute = 48
  config.pretrain.steps, config.pretrain.warmup_from = 600, 100
  config.pretrain.demonstrate, config.pretrain.unannounced = "weave", 0.5
  config.augment.update({
    "inject": 4, "force": False, "bare": 0.25, "unannounced": 1.0,
    "withheld": 16,
  })  # fmt: skip
  # Half of the offer is left at the end: what it paid is then to be seen.
  config.curriculum.update({
    "hidden": 0.0, "steps": 800, "explore_steps": 400,
  })  # fmt: skip
  config.loss.entropy_bonus.C = 0.15
  config.loss.entropy_per_code = True
  config.loss.entropy_reference = 3.0
  config.patterns.cdv.update({
    "group": 12, "length_price": PRICE, "demonstrate": 2.0,
  })  # fmt: skip
  safe = rewards.largest_bonus(
    price=PRICE, listed=config.augment.inject, budget=config.budget
  )
  config.patterns.cdv.gate = gate(safe)
  config.eval.update({
    "every": 400, "rows": 256, "test_rows": 512, "budgets": (3, 5),
  })  # fmt: skip
  config.evals = {
    "use": {"type": "asked_use", "rows": 512, "split": "test"},
    "fresh": {
      "type": "fresh_ids",
      "allowed": 12,
      "rows": 256,
      "split": "test",
    },
  }
  config.checkpoint.every = 400
  config.ledger.service_seconds = 0.2
  config.arms = {
    "asked": _arm(),
    "asked_unpaid": _arm((f"{GATE}.bonus", 0.0)),
    "asked_more": _arm(
      (f"{GATE}.bonus", 4 * safe), (f"{GATE}.beyond_bound", True)
    ),
    "forced": _arm(("augment.force", True), ("curriculum.hidden", 0.9)),
    "multiply": _arm((f"{GATE}.mode", "multiply"), (f"{GATE}.bonus", 0.0)),
    "undemonstrated": _arm(("patterns.cdv.demonstrate", 0.0)),
  }
  config.report.headline = "asked"
  return config


def gate(bonus: float) -> dict:
  """Density times the message's load, paid as a bonus within the bound."""
  return {
    "name": "density",
    "load_bearing": "message",
    "bonus": bonus,
    "mode": "bonus",
    "share": 0.5,  # gamma of "multiply"
    "threshold": None,  # tau, nats; measured
    "nats_per_token": 0.5,  # lambda_b
    "others": 1,
    "decay": 0.95,
    "beyond_bound": False,
  }


def _arm(*overrides) -> dict:
  return {"pattern": "cdv", "write": "force", "overrides": overrides}
