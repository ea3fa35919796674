"""Settings are checked before anything runs, wherever a make() takes them."""

import inspect
import time

import pytest
from helpers import small_checkpoint
from helpers.setting_cases import CONFIGS, OTHER, VALUES, Case, fields, tried
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax import rules
from rsrc_jax.build import setup
from rsrc_jax.data import arc, facts, maze, reasoning, sudoku, text
from rsrc_jax.models import architecture, recursive_architecture
from rsrc_jax.patterns import cc, ccv, cdv, extract, qa
from rsrc_jax.rl import (
  constraints,
  curriculum,
  entropy,
  injection,
  learner,
  supervised,
)
from rsrc_jax.runtime import configs, named


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return small_checkpoint.make(tmp_path_factory.mktemp("x") / "checkpoint")


NAN, INF = float("nan"), float("inf")
# From public reports, and of their kind: each was accepted, or refused late.
ONCE_ACCEPTED = {
  "patterns.cdv.group": (1, 0), "patterns.cdv.decodes": (0,),
  "patterns.extract.lessons": (0,), "patterns.cdv.dropout": (1.5, -0.1, NAN),
  "optimizer.learning_rate": (NAN, -1e-3, 0.0, INF),
  "optimizer.clip_norm": (0.0,), "optimizer.decay": (-0.1, 1.1),
  "optimizer.b2": (1.0,), "optimizer.warmup": (-1,),
  "pretrain.optimizer.learning_rate": (NAN,), "pretrain.dropout": (1.5,),
  "loss.clip_low": (-0.1, 1.1), "loss.importance_cap": (0.0,),
  "loss.weights.C": (NAN, -1.0), "loss.entropy_bonus.C": (INF,),
  "model.depth": (0,), "model.width": (0, 66), "model.heads": (0, 3),
  "model.kv_heads": (0, 3), "verifier.edit": (INF, -1.0, 0.0),
  "shaping.gain": (INF, -1.0), "kl": (NAN, -0.1),
  "top_p": (0.0, -1.0, 1.5, NAN), "temperature": (0.0, NAN, INF, -1.0),
  "seed": (-1, 2**32), "updates": (0, 2**31 - 1), "checkpoint.keep_last": (0,),
  "checkpoint.keep_best": (-1,), "eval.samples": (-1,), "micro_batches": (3,),
  "augment.seed": (-2,), "augment.ban": (-1,), "ledger.pue": (0.5, NAN),
  "curriculum.hidden": (1.0,), "curriculum.every": (-1,),
  "data.heldout": (0, 30_000), "mesh.data": (0, -2, 1_000),
  "pretrain.steps": (0,), "eval.budgets": ((0,), (9,)), "budgets": ((4,),),
  "head": ("dense",), "model_name": ("mamba",), "only": ("cod",),
}  # fmt: skip


@pytest.mark.parametrize(
  "field, value", [(k, x) for k, own in ONCE_ACCEPTED.items() for x in own]
)
def test_what_was_accepted_once_is_a_line_now(field, value):
  config = configs.load_config("tiny", **{field: value})
  with pytest.raises(ValueError) as error:
    setup.prepare(config)
  said = str(error.value)
  assert f"config.{field}={rules.shown(value)}" in said and "\n" not in said


LENGTHS = {"budgets": (1, 2, 3)}


@pytest.mark.parametrize(
  "settings, said",
  [
    ({"budgets": (0, 2)}, r"config.budgets=(0, 2) must be a tuple in which 0 is"
     " a whole number, at least 1"),
    ({"augment.unannounced": 0.5}, "config.augment.unannounced=0.5 must be 0 "
     "without config.budgets"),
    ({"augment.ease": 0.6}, "config.augment.ease=0.6 must be 0 without"),
    ({"pretrain.unannounced": 0.3}, "config.pretrain.unannounced=0.3 must be 0 "
     "without config.budgets"),
    (LENGTHS | {"augment.cut": 0.5}, "config.augment.cut=0.5 must be 0 with "
     "config.augment.unannounced=0"),
    (LENGTHS | {"augment.unannounced": 0.5, "augment.fixed_length": True},
     "config.augment.unannounced=0.5 must be 0 with config.augment.fixed_"),
    (LENGTHS | {"pretrain.unannounced": 0.5, "augment.fixed_length": True},
     "config.pretrain.unannounced=0.5 must be 0 with config.augment.fixed_"),
    ({"loss.hold": {"first": 2.0}}, "config.loss.hold.first=2.0 must be a"),
    ({"loss.hold": {"frist": 0.2}}, "the nearest is config.loss.hold.first"),
    ({"loss.hold": {}, "loss.entropy_bonus.C": 0.0},
     "config.loss.entropy_bonus.C=0.0 must be above 0 with config.loss.hold"),
  ],
)  # fmt: skip
def test_lengths_and_entropy_that_can_not_be_are_a_line(settings, said):
  with pytest.raises(ValueError) as error:
    setup.prepare(configs.load_config("tiny", **settings))
  assert said in str(error.value) and "\n" not in str(error.value)


def test_an_arm_may_have_one_length_beside_a_base_of_all():
  """The base is trained by the run's budgets, whatever an arm's are."""
  config = configs.load_config("tiny", **LENGTHS, **{
    "pretrain.unannounced": 0.3, "augment.unannounced": 0.5,
    "augment.ease": 0.6,
  })  # fmt: skip
  alone = (("budgets", ()), ("augment.unannounced", 0.0), ("augment.ease", 0.0))
  config.arms.code.overrides = alone
  setup.prepare(config)
  config.arms.code.overrides = alone[:1]
  with pytest.raises(ValueError, match=r"^config.arms.code.overrides: .*0\.5"):
    setup.prepare(config)


def test_nothing_is_read_before_the_check(monkeypatch, tmp_path):
  monkeypatch.setattr(setup, "make_corpus", lambda *_: pytest.fail("read"))
  with pytest.raises(ValueError, match=r"config\.patterns\.cdv\.group=1"):
    setup.make_setup(configs.load_config(**{"patterns.cdv.group": 1}), tmp_path)


@pytest.mark.parametrize(
  "overrides, said",
  [
    ((("patterns.cdv.group", 1),), "config.patterns.cdv.group=1 must be"),
    ((("optimizer.learnin_rate", 1.0),), "config.optimizer.learnin_rate"),
    (
      (("stepps", 3),),
      "config.stepps is no setting. Did you mean config.steps?",
    ),
    ((("steps", "three"),), "config.steps='three' must be a whole number"),
    ((("steps.more", 3),), "config.steps.more: steps is no block"),
    ((("batch_size", 2**24),), "config.batch_size=16777216 times"),
    (("steps", 3), "must be pairs such as"),
    (3, "must be pairs such as"),
  ],
)
def test_overrides_of_an_arm_are_checked_and_the_arm_is_named(overrides, said):
  config = configs.load_config("tiny")
  config.arms.code = {"pattern": "cdv", "write": "force"}
  config.arms.code.overrides = overrides
  with pytest.raises(ValueError) as error:
    setup.prepare(config)
  found = str(error.value)
  assert found.startswith("config.arms.code.overrides") and said in found
  assert "\n" not in found
  config.only = "lead"  # an arm that does not run may be anything
  setup.prepare(config)


FLAT = {
  "curriculum.window": 90, "curriculum.steps": 100, "optimizer.decay": 0.0,
}  # fmt: skip


def early(**changes):
  """The default with an arm that ends at its plateau."""
  config = configs.load_config("tiny", **(FLAT | {"only": "code"} | changes))
  config.arms.code.until = "plateau"
  return config


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"optimizer.decay": 0.3}, "config.optimizer.decay=0.3 lowers"),
    ({"curriculum.window": 0}, "config.curriculum.window=0 is no plateau rule"),
    ({"arms.code.pattern": "extract"}, "pattern='extract' has no reward"),
  ],
)
def test_an_arm_that_cannot_end_at_a_plateau_is_refused(changes, said):
  setup.prepare(early())
  setup.prepare(early(steps=2))  # a trial may be short
  with pytest.raises(ValueError, match=said) as error:
    setup.prepare(early(**changes))
  found = str(error.value)
  assert found.startswith("config.arms.code.until='plateau'")
  assert "\n" not in found


def test_until_is_one_of_two_and_a_mixture_needs_looks():
  config = early()
  config.arms.code.until = "converged"
  with pytest.raises(ValueError, match=r"until='converged' must be one of"):
    setup.prepare(config)
  mixed = configs.load_config(
    "mixed", **{"curriculum.max_steps": 1_000, "optimizer.decay": 0.0}
  )
  mixed.arms.mixed.until = "plateau"
  with pytest.raises(ValueError, match=r"config\.curriculum\.every=0 sees"):
    setup.prepare(mixed)
  mixed.curriculum.every = 2
  setup.prepare(mixed)


def test_an_override_may_add_what_a_make_takes():
  config = configs.load_config("tiny")
  config.arms.code.overrides = (("patterns.cdv.imitate", True),)
  setup.prepare(config)
  config.arms.code.overrides = (("patterns.cdv.imitate", 2),)
  with pytest.raises(ValueError, match=r"cdv\.imitate=2 must be True or False"):
    setup.prepare(config)


def test_a_pattern_of_the_users_has_rules_beside_it(tmp_path):
  """RULES of its file are checked; without them its arguments and numbers."""
  path = tmp_path / "mine.py"
  make = "def make(context, *, group, share=0.5): pass\n"
  path.write_text(
    "from rsrc_jax import rules\nRULES = {'group': rules.whole(2)}\n" + make
  )
  config = configs.load_config("tiny", only="code")
  config.arms.code.pattern = str(path)
  config.patterns.mine = {"group": 2, "share": 0.1}
  setup.prepare(config)
  for field, value, said in (
    ("group", 1, "at least 2"), ("share", INF, "finite"),
  ):  # fmt: skip
    wrong = config.copy_and_resolve_references()
    wrong.patterns.mine[field] = value
    with pytest.raises(ValueError, match=rf"mine\.{field}={value}.*{said}"):
      setup.prepare(wrong)
  config.patterns.mine.gruop = 3
  with pytest.raises(ValueError, match=r"mine\.gruop=3 is no .*mine\.group"):
    setup.prepare(config)
  path.write_text(make)
  del config.patterns.mine.gruop
  config.patterns.mine.group = 1
  setup.prepare(config)  # it has no rule now
  del config.patterns.mine["group"]
  with pytest.raises(ValueError, match=r"config\.patterns\.mine does not fit"):
    setup.prepare(config)


# Which make() has which rules; and the arguments that no config block gives.
MAKES = (
  (cdv.make, cdv.RULES, ("context", "monitor", "field")),
  (ccv.make, ccv.RULES, ("context",)),
  (cc.make, cc.RULES, ("context",)),
  (qa.make, qa.RULES, ("context",)),
  (extract.make, extract.RULES, ("context",)),
  (learner.optimizer, learner.OPTIMIZER, ("steps",)),
  (learner.make_loss, learner.LOSS, ("policy", "roles", "+hold")),
  (entropy.Hold, entropy.RULES, ()),
  (curriculum.linear, curriculum.LINEAR, ()),
  (curriculum.Plateau, curriculum.PLATEAU, ()),
  (injection.Terms, injection.RULES,
   ("monitor", "block", "+beyond_bound")),
  (constraints.Forced, constraints.RULES,
   ("mode", "code", "words", "end", "budgets", "longest", "+fixed_length",
    "+seed")),
  (supervised.Warmup, supervised.RULES,
   ("policy", "roles", "constrain", "budget", "ends", "withheld",
    "+unannounced")),
  (architecture.Architecture, architecture.RULES, ()),
  (recursive_architecture.Architecture, recursive_architecture.RULES,
   ("vocab_size", "cells", "identities")),
  (facts.make, facts.RULES, ("seed", "cache_dir")),
  (text.make, text.RULES, ("seed", "cache_dir", "vocab", "kept", "examine")),
  (reasoning.make, reasoning.RULES, ("seed", "cache_dir")),
  (sudoku.puzzles, sudoku.RULES, ("seed",)),
  (maze.puzzles, maze.RULES, ("seed",)),
  (arc.puzzles, arc.RULES, ("seed",)),
)  # fmt: skip


@pytest.mark.parametrize("make, own, more", MAKES)
def test_every_setting_of_a_make_has_a_rule(make, own, more):
  beside = {x.removeprefix("+") for x in more if x.startswith("+")}
  taken = set(inspect.signature(make).parameters) - set(more)
  assert set(own) - {rules.BLOCK} == taken | beside


def test_every_kind_that_a_config_can_name_is_in_the_table():
  table = {make for make, *_ in MAKES}
  for folder, name in (
    ("patterns", "make"), ("data", "make"), ("data", "puzzles"),
  ):  # fmt: skip
    for kind in named.named(folder, name):
      assert named.find(folder, kind, name, "x") in table, kind


def cases():
  """Draws a field of a config, and a value for it."""
  return st.sampled_from(CONFIGS).flatmap(
    lambda name: st.tuples(
      st.just(name), st.sampled_from(FIELDS[name]), st.sampled_from(VALUES)
    )
  )


FIELDS = {name: fields(name) for name in CONFIGS}


def test_300_settings_are_accepted_or_refused_in_a_line(checkpoint):
  """benchmarks/settings.py tries every field with every value."""
  found = []

  @settings(max_examples=300, derandomize=True, database=None, deadline=None)
  @given(cases())
  def one(drawn):
    case = Case(*drawn)
    outcome = tried(case, checkpoint)
    assert outcome.kind != OTHER, (case, outcome)
    found.append(outcome.kind)

  one()
  assert len(found) >= 300 and len(set(found)) == 2  # both happen


def test_a_traceback_or_a_line_without_the_field_would_be_found(
  monkeypatch, checkpoint
):
  def fail(error):
    def check(config):
      raise error

    return check

  case = Case("tiny", "steps", 1)
  for error in (TypeError("x"), ValueError("a\nconfig.steps"), ValueError("b")):
    monkeypatch.setattr(setup, "prepare", fail(error))
    assert tried(case, checkpoint).kind == OTHER


def test_a_check_takes_milliseconds():
  """Of the config with the most arms; the first traces the model."""
  config = configs.load_config("random_vocabulary")
  setup.prepare(config)
  seconds = []
  for _ in range(5):
    begun = time.process_time()
    setup.prepare(config)
    seconds.append(time.process_time() - begun)
  assert min(seconds) < 0.1


def test_blocks_of_a_config_are_not_shared():
  """A block that stands in two places would be changed in both."""

  def blocks(config):
    for value in config.values():
      if hasattr(value, "items"):
        yield value
        yield from blocks(value)

  for name in CONFIGS:
    found = [id(x) for x in blocks(configs.load_config(name))]
    assert len(found) == len(set(found)), name
