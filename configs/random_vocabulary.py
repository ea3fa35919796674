"""The research question: forced vocabulary and a gated reward against English.

  ./tools/run --config=configs/random_vocabulary.py --workdir=runs/rv-0
  ./tools/sweep run --config=experiments/random_vocabulary/sweep.py:facts

Facts of 24 bits less what is withheld, codes of three tokens here and of 2 to 8
in the experiment, a policy for each. F is the full method; every other arm
differs from it in the switches that it names and in nothing else.

Cost: 20 to 40 minutes on one core for all 14 arms, and some five more to
measure them.
Expect: a gain of .38 in edit similarity from F, .34 from the best English arm,
E5, and .42 from B1, the mean of three budgets (experiments/random_vocabulary).
"""

import ml_collections

from rsrc_jax.runtime.configs import beside

# What each arm switches off or on, against F.
NO_GATE = (
  ("patterns.cdv.gate.name", "none"),
  ("patterns.cdv.gate.load_bearing", "none"),
)
NO_BANS = (("augment.ban", 0),)
NO_LIST = (("augment.inject", 0), ("patterns.cdv.gate", None))
NO_INJECTION = (*NO_LIST, ("curriculum.hidden", 0.0))
PLAIN = NO_INJECTION + NO_BANS
# A nat of distance from the English base costs the nat that it can convey.
ENGLISH_KL = (("kl", 0.06),)

# How a report shows the arms: what each is, its colour and its marker.
LOOKS = {
  "E1": ("the first tokens", "#8a96a3", "v"),
  "E2": ("the most surprising tokens", "#a8487f", "D"),
  "E3": ("tf-idf", "#3e4c59", "<"),
  "E3o": ("the best extract for D", "#000000", ">"),
  "E4": ("RL on the words of s", "#56a8d6", "s"),
  "E5": ("RL on all words, near the base", "#0072b2", "P"),
  "B1": ("RL alone", "#00855f", "^"),
  "B2": ("injection, no gate, no bans", "#b08900", "h"),
  "B4": ("injection and gate, no bans", "#e69f00", "p"),
  "B5": ("bans alone", "#cc79a7", "X"),
  "B6": ("hidden words and bans", "#7a5195", "*"),
  "F": ("the full method", "#d55e00", "o"),
  "F_ask": ("the full method, by asking", "#d55e00", "d"),
  "X1": ("a hash of s", "#8a96a3", "."),
}


def get_config() -> ml_collections.ConfigDict:
  """The CPU tier on facts."""
  config = beside(__file__, "tiny")
  # Half the default's batch at a lower rate: as good, at half the price.
  config.steps = 2_000
  config.batch_size = 16
  config.optimizer.learning_rate = 1.4e-3
  config.budget = 3
  config.data.vocab_size = 132  # the default's, and four tokens that ask
  config.data.asks = True
  config.data.withheld = "object,city"
  config.model.absolute = 48
  config.pretrain.steps = 600
  config.pretrain.demonstrate = "weave"
  config.pretrain.empty = True
  config.patterns.cdv.empty = config.patterns.extract.empty = True
  config.augment.update({
    "inject": 4, "ban": 4, "pool": 0, "force": True, "fixed_length": True,
    "seed": 1_000,
  })  # fmt: skip
  # The same pressure whatever the budget: the bonus is that of a code.
  config.loss.entropy_per_code, config.loss.entropy_reference = True, 1.0
  config.loss.entropy_bonus.C = 1.2
  config.curriculum = {
    "name": "plateau",
    "every": 10,
    "hidden": 0.9,
    # A rise of .0003 a step takes 260 steps to tell from the noise of 26 looks:
    # four long levels, the last of which ends at step 1,600 at the latest.
    "levels": 4,
    "temperature": 1.0,
    "budgets": 1.0,
    "window": 26,
    "look": 2,
    "errors": 2.0,
    "max_steps": 400,
    "explore_steps": 2_000,
  }
  config.patterns.cdv.gate = gate()
  config.eval.budgets = (3,)
  config.eval.test_rows = 512
  config.eval.every = 500
  config.checkpoint.every = 500
  config.ledger.service_seconds = 0.5
  config.arms = {
    "E1": _arm("extract", "lead"),
    "E2": _arm("extract", "surprising"),
    "E3": _arm("extract", "tfidf"),
    "E3o": _arm("extract", "oracle"),
    "E4": _arm("cdv", "source", *PLAIN),
    "E5": _arm("cdv", "words", *PLAIN, *ENGLISH_KL),
    "B1": _arm("cdv", "force", *PLAIN),
    "B2": _arm("cdv", "force", *NO_BANS, *NO_GATE),
    "B4": _arm("cdv", "force", *NO_BANS),
    "B5": _arm("cdv", "force", *NO_INJECTION),
    "B6": _arm("cdv", "force", *NO_LIST),
    "F": _arm("cdv", "force"),
    "F_ask": _arm("cdv", "force", ("augment.force", False)),
    "X1": _arm("extract", "hash"),
  }
  config.report.headline = "F"
  config.report.arms = {
    name: {"label": f"{name}: {label}", "color": color, "marker": marker}
    for name, (label, color, marker) in LOOKS.items()
  }
  return config


def gate() -> dict:
  """Density and leave-one-message load, paid as a bonus: the default."""
  return {
    "name": "density",
    "load_bearing": "message",
    "bonus": 1.0,  # as much again as is earned, for using all of the list
    "mode": "bonus",
    "share": 0.5,  # gamma of "multiply"
    "threshold": None,  # tau, nats; measured
    "nats_per_token": 0.5,  # lambda_b
    "others": 1,  # J of "counterfactual"
    "decay": 0.95,
    # Codes fill their budget: no token is ever appended, the price has no
    # margin, and what is left to gate is junk in the place of content.
    "beyond_bound": True,
  }


def _arm(pattern: str, write: str, *overrides) -> dict:
  return {"pattern": pattern, "write": write, "overrides": overrides}
