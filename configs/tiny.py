"""C -> D -> V on sentences of facts, against English at the same budget.

  ./tools/run --config=configs/tiny.py --workdir=runs/tiny-0

The settings that all other configs start from. configs/default.py has codes of
other lengths too, and smaller batches.

Cost: not timed since V hears d; the former loop took 4.5 to 6.5 minutes on two
cores.
Expect: not known; the former loop, whose reward was D's likelihood, conveyed 16
to 18 bits by the code and 12 by the best English arm (experiments/cdv_tiny).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """24 bits a sentence, a budget of three tokens, of which no prompt speaks."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.steps = 1_500  # of every arm
  config.budget = 3  # k: tokens of a code
  config.budgets = ()  # drawn for each source, up to `budget`; empty: always k
  config.batch_size = 32  # B: sources a step
  config.log_every = 20
  config.only = ""  # names of arms, comma-separated; empty: all of them
  config.loop = "rsrc_jax.train"  # the module, or a .py file, that runs it
  config.init = ""  # RUN_DIR:ARM whose parameters the base begins with

  config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}  # data=-1: what is left

  config.data = {
    "source": "facts",
    "path": "",  # for text only
    "vocab_size": 128,
    "sentences": 60_000,
    "heldout": 2_048,  # sentences of the validation and of the test split
  }

  config.model_name = "transformer"
  # Log-probabilities of a large vocabulary without storing its logits: "", or
  # "pallas", the kernel of rsrc_jax/ops/token_stats_pallas.py on TPU and GPU.
  # On an H200 that is far slower than plain XLA (docs/forced_vocabulary.md).
  config.head = ""
  config.model = {
    "width": 64,
    "depth": 2,
    "heads": 4,
    "kv_heads": 2,
    "hidden": 176,
    "rope_base": 10.0,  # contexts are short
    "absolute": 32,  # learned positions too: see LOG.md, 2026-11-22
    "tied": True,
    "scan": False,
    "dtype": "float32",
  }

  # The base of all arms: a language model, then both roles on English extracts.
  config.pretrain = {
    "steps": 500,
    "warmup_from": 150,  # the roles are taught from this step on
    "batch_size": 128,
    "dropout": 0.1,
    "empty": False,  # codes that are cut are dropped whole
    "demonstrate": "",  # weave, append: what C is shown to do with the N
    "unannounced": 0.0,  # share of C's extracts without a budget in the prompt
    # It ends after so many validations in a row that are no better, and goes on
    # with its best parameters; 0: it ends after its steps.
    "patience": 0,
    "optimizer": _optimizer(2e-3),
  }

  _learning(config)
  _comparison(config)
  return config


def _learning(config: ml_collections.ConfigDict) -> None:
  """How the policy samples, and how it learns."""
  config.temperature = 1.0
  config.top_p = 1.0
  config.optimizer = _optimizer(2e-3)
  config.updates = 1  # gradient steps a batch of rollouts
  config.micro_batches = 1
  # Divide advantages by the group's deviation. Off is what the library does
  # unless told; here it is on, since it is worth about a bit (LOG.md).
  config.normalize_std = True
  config.kl = 0.0  # reward paid for a nat of distance from the frozen base
  config.loss = {
    "weights": {"C": 1.0, "D": 1.0},  # of the policy gradients
    "lesson_weights": {"C": 1.0, "D": 1.0},  # of the likelihoods
    "entropy_bonus": {"C": 0.3, "D": 0.0},
    "clip_low": 0.2,
    "clip_high": 0.28,
    "importance_cap": 2.0,
    "per_token": False,  # a role's sum is divided by its tokens, not its slots
    # The bonus of a token is divided by the code's length and multiplied by
    # the reference: both forms are the same at so many tokens.
    "entropy_per_code": False,
    "entropy_reference": 3.0,
    # rl/entropy.py: {"first": .5, "last": .03, ...} holds C's entropy, in the
    # place of a bonus that falls; None: the bonus falls.
    "hold": None,
  }
  # 90 % of the vocabulary hidden at first, nothing after 1,000 steps; the
  # entropy bonus falls to nothing at the end.
  config.curriculum = {
    "name": "linear",
    "every": 0,  # steps between two looks at held-out reward; 0: none
    "hidden": 0.9,
    "steps": 1_000,
    "explore_steps": 1_500,
    # Has the arm's reward stopped rising? The plateau rule looks at the rewards
    # of training, or at held-out ones where `every` is above 0.
    "window": 0,  # rewards that it looks back on; 0: nothing looks
    "look": 10,  # rewards from one look to the next
    "errors": 2.0,  # standard errors: a slope above them is a rise
  }
  # What C is asked to write with: configs/random_vocabulary.py asks for some.
  config.augment = {
    "inject": 0,  # N: ids injected for each source
    "ban": 0,  # M: tokens of each source that its codes should not use
    "pool": 0,  # draw the N from the last so many ids; 0: from all
    "bare": 0.0,  # share of the sources that have no such list
    "withheld": 0,  # ids that training never writes, for config.evals
    "force": True,  # by masks; False: C is only asked
    "fixed_length": False,  # codes fill their budget, without an end token
    "seed": -1,  # of the draws; -1: the run's
    # These need budgets:
    "ease": 0.0,  # how much less is hidden from the longest codes
    "unannounced": 0.0,  # share of the sources without a budget in the prompt
    "cut": 0.0,  # share of those whose codes are cut short all the same
  }
  # What codes are paid for: V's word on the decoded d, by rules (slots, edit)
  # and by a frozen model that reads it; and shaping, D's own likelihood of s.
  # The weights are relative to each other.
  config.verifier = {"slots": 0.0, "edit": 1.0, "reader": 0.0}
  config.shaping = {"gain": 0.0}
  # V's frozen reader (docs/patterns.md), trained before the base where an arm
  # weighs it. A run ends where its word for s itself is below `least`, or its
  # word for a d that says nothing of s above `tolerance`.
  config.reader = {
    "steps": 400,
    "batch_size": 64,
    "share": 0.2,  # its own sentences, as a share of the policy's
    "least": 0.3,
    "tolerance": 0.01,
    "optimizer": _optimizer(3e-3),
  }

  # Keyword arguments of each pattern's make().
  config.patterns = {
    "cdv": {
      "group": 16,  # G: codes of a source
      "decodes": 1,  # J: free-running decodes of a code, which V hears
      "temperature": 0.5,  # of those
      "taught": 6,  # decodes of one code a source, D's group in GRPO
      "length_price": 0.0,
      "lessons": 1,  # codes of each group from which D learns s
      "dropout": 0.1,  # share of lessons whose code is cut short
      "empty": False,  # or dropped whole
      "frozen_d": False,  # D is the base's, and learns nothing
      "demonstrate": 0.0,  # weight of codes in which C is shown one of the N
      "gate": None,  # injection.make: what using the N is paid
    },
    "extract": {"lessons": 1, "dropout": 0.1, "empty": False},
  }


def _comparison(config: ml_collections.ConfigDict) -> None:
  """The arms, and what is measured of them."""
  # `write`: a row of rsrc_jax/build/writers.py: a rule (lead, surprising, sft),
  # or what a policy may write (source: the tokens of s; force: a random subset;
  # free). `stage`: who makes the arm's stage; left out, rsrc_jax/stages/rl.py.
  # `until`: "steps", or "plateau" for an arm that ends where the rule of
  # config.curriculum finds its reward flat, after config.steps at the latest.
  config.arms = {
    "lead": _arm("extract", "lead"),
    "surprising": _arm("extract", "surprising"),
    "sft": _arm("extract", "sft"),
    "english_rl": _arm("cdv", "source"),
    "code": _arm("cdv", "force"),
  }

  config.eval = {
    "every": 200,
    "rows": 512,  # of the validation split while training
    "test_rows": 2_048,
    "batch_size": 512,
    "budgets": (1, 2, 3),
    "samples": 24,  # rows of the test split in samples.jsonl
  }
  # Evaluations beside the comparison, by name: {"type": a module of
  # rsrc_jax/evaluation or a .py file, and its settings}.
  config.evals = {}
  config.checkpoint = {"every": 200, "keep_last": 2, "keep_best": 1}

  # The ledger: what everything has cost, and what RSRC (ours) asks for.
  config.ledger = {
    "enabled": True,
    "pue": 1.0,  # of the building: 1 charges the machine alone
    "samples_served": 1_000_000,  # n of RSRC_t(n): declared, not measured
    "service_seconds": 1.0,  # for which each of C and D is timed, an arm
  }
  config.report = {
    "headline": "code",  # the arm that the others are held against
    "controls": "",  # the arm whose codes the controls alter; "": the headline
    "arms": {},  # name -> {"label": ..., "color": ..., "marker": ...}
    "sections": (),  # .py files with section(run) -> html
  }


def _arm(pattern: str, write: str, **overrides) -> dict:
  """overrides: what of the config is another in this arm, by dotted name."""
  changed = tuple(overrides.items())
  return {"pattern": pattern, "write": write, "overrides": changed}


def _optimizer(learning_rate: float) -> dict:
  return {
    "learning_rate": learning_rate,
    "warmup": 20,
    "decay": 0.3,  # share of the steps, at the end
    "clip_norm": 1.0,
    "b2": 0.99,
    "weight_decay": 0.0,
  }
