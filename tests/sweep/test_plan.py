"""Plans: names and ids, how fast they are made, and what is refused."""

import random
import re
import time

import pytest
from helpers import fake_runs

from rsrc_jax.runtime import configs, provenance
from rsrc_jax.sweep import grid, plan, stored

ROOT = fake_runs.ROOT
TINY = str(ROOT / "configs" / "tiny.py")
# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


def planned(folder, variants, **how):
  return plan.plan(TINY, folder, variants=variants, **how).runs


def test_runs_are_named_by_variant_seed_and_all_of_their_settings(tmp_path):
  whole = lambda **how: plan.plan(TINY, tmp_path, **how).runs
  [alone] = whole()
  assert alone.name == "tiny-0" and alone.argv == (f"--config={TINY}",)
  assert alone.workdir == tmp_path / f"tiny-0-{alone.id}"
  seeds = whole(seeds=(0, 1))
  assert [x.name for x in seeds] == ["tiny-0", "tiny-1"]
  assert seeds[0].id == alone.id != seeds[1].id
  assert seeds[0].group == seeds[1].group
  some = whole(settings=["--config.only=code"])[0]
  assert some.id != alone.id and some.group != alone.group
  free = ["--config.log_every=7", "--config.checkpoint.every=3"]
  assert whole(settings=free)[0].id == alone.id
  # A variant's own seed, and values that the config's types make of it.
  runs = planned(
    tmp_path,
    [{"name": "plain"}, {"name": "low", "loss.weights.C": 1, "seed": 5}],
    seeds=(0, 1),
  )
  assert [x.name for x in runs] == ["plain-0", "plain-1", "low-5"]
  assert runs[2].changes == {"loss.weights.C": 1.0, "seed": 5}


HOSTILE = [
  {"only": "two words"}, {"only": "it's \"quoted\""}, {"only": "a=b&c;$HOME"},
  {"only": "größer ⏎"}, {"only": "--config.seed=3"}, {"only": ""},
  {"seed": -2}, {"kl": 1e-3}, {"kl": 1}, {"kl": -0.0}, {"kl": 5e-324},
  {"eval.budgets": (3,)}, {"eval.budgets": [2, 3]}, {"budgets": ()},
  {"normalize_std": False}, {"arms.code.overrides": (("kl", 0.1),)},
  {"loss": {"weights": {"C": 2}}},
]  # fmt: skip


@pytest.mark.parametrize("overrides", HOSTILE, ids=str)
def test_an_id_is_that_of_the_config_that_the_run_gets(tmp_path, overrides):
  [run] = planned(tmp_path, [{"name": "x", **overrides}])
  config = configs.from_flags(run.argv)
  assert run.id == provenance.identity(config)
  assert run.workdir == plan.folder(tmp_path, "x", config)
  values = provenance.settings(config)
  assert {k: values[k] for k in run.changes} == run.changes


def test_the_order_of_keys_and_of_runs_changes_no_id(tmp_path):
  grid_of = grid.product(
    {"kl": (0.0, 0.1), "steps": (3, 4)}, {"model.width": (8, 16)}, grid.seeds(2)
  )
  first = {x.id: x.changes for x in planned(tmp_path, grid_of)}
  shuffled = [dict(random.Random(1).sample([*x.items()], 4)) for x in grid_of]
  random.Random(2).shuffle(shuffled)
  second = {x.id: x.changes for x in planned(tmp_path, shuffled)}
  assert len(first) == 16 and first == second


def test_every_setting_but_the_free_ones_is_part_of_the_id():
  values = provenance.settings(configs.load(TINY))
  whole, same = provenance.identity_of(values), []
  for name, value in values.items():
    other = (not value) if isinstance(value, bool) else [value, 1]
    if provenance.identity_of({**values, name: other}) == whole:
      same.append(name)
  assert same == [x for x in values if x.startswith(provenance.FREE)]
  assert "checkpoint.every" in same and "seed" not in same


def test_ten_thousand_runs_are_planned_in_seconds(tmp_path):
  begun = time.process_time()
  of = plan.plan(TINY, tmp_path, variants=grid.product(
    {"model.width": range(8, 18), "kl": [x / 100 for x in range(100)]},
    grid.seeds(10),
  ))  # fmt: skip
  stored.save(tmp_path, of)
  assert time.process_time() - begun < 10  # 1.3 where it was written
  assert len({x.id for x in of.runs}) == 10_000
  assert len({x.group for x in of.runs}) == 1_000
  assert stored.load(tmp_path) == of


@pytest.mark.parametrize(
  "variants, said",
  [
    ([], "get_sweep.. gives no runs"),
    ([{}, {"name": "tiny", "steps": 3}], "two runs are called tiny-0"),
    ([{"name": "a"}, {"name": "b", "kl": 0}], "a-0 and b-0 are the same run"),
    ([{"model.widht": 3}], "model.widht=3: .* Did you mean config.model.width"),
    ([{"steps": 1.5}], "steps=1.5"),
    ([{"steps": "many"}], "many"),
    ([{"only": None}], "only=None"),
    ([{"only": 3}], "only=3"),
    ([{"kl": float("nan")}], "kl=nan: give a number"),
    ([{"patterns.cdv.gate": "density"}], "NoneType"),
    ([{"name": "a/b"}], "no slash"),
    ([{"name": "-a"}], "begin with a letter"),
    ([{"name": "a" * 151}], "longer than 150"),
  ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path, variants, said):
  with pytest.raises(ValueError, match=said) as error:
    planned(tmp_path, variants)
  assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


def test_settings_for_all_runs_are_checked(tmp_path):
  for setting, said in (
    ("--config.stepps=3", "stepps"), ("--config.steps=1.5", "1.5"),
    ("word", "unknown argument 'word'"),
  ):  # fmt: skip
    with pytest.raises(ValueError, match=said):
      plan.plan(TINY, tmp_path, settings=[setting])


def test_variants_without_a_name_are_called_by_what_they_change(tmp_path):
  runs = planned(tmp_path, grid.product(
    {"model.width": (8,), "eval.rows": (4, 5), "only": ("two words/",)},
    grid.zipped({"seed": (1, 2), "augment.seed": (7, 8)}),
  ))  # fmt: skip
  assert re.fullmatch(
    r"width=8_rows=4_only=two~words~~[0-9a-f]{6}-1", runs[0].name
  )
  assert planned(tmp_path, [{"kl": 0.5}])[0].name == "kl=0.5-0"
  assert runs[0].variant == runs[1].variant != runs[2].variant
  assert runs[0].group == runs[1].group != runs[2].group
  long = planned(tmp_path, [{"only": "x" * 500}, {"only": "x" * 501}])
  assert {len(x.variant) for x in long} == {plan.LONGEST}
  assert long[0].variant != long[1].variant


def test_a_config_of_an_argument_has_a_sweep_of_it(tmp_path):
  config = tmp_path / "of.py"
  config.write_text(
    "from rsrc_jax.runtime.configs import load\n"
    "def get_config(kind):\n"
    f"  config = load({TINY!r})\n  config.only = kind\n  return config\n"
    "def get_sweep(kind):\n  yield {'name': kind}\n"
  )
  [run] = plan.plan(f"{config}:code", tmp_path).runs
  assert run.name == "code-0"
  assert configs.from_flags(run.argv).only == "code"
  assert plan.stem(f"{config}:code") == "of-code"
  assert plan.stem("experiments/cdv_tiny/sweep.py") == "cdv_tiny"


def test_a_field_that_follows_another_is_refused(tmp_path):
  config = tmp_path / "follows.py"
  config.write_text(
    "import ml_collections\n"
    "def get_config():\n"
    "  config = ml_collections.ConfigDict({'seed': 0, 'steps': 3})\n"
    "  config.explore = config.get_oneway_ref('steps')\n  return config\n"
  )
  assert plan.plan(config, tmp_path, seeds=(0, 1)).runs
  with pytest.raises(ValueError, match=r"config\.explore follows another"):
    plan.plan(config, tmp_path, variants=[{"steps": 4}])


def test_a_folder_has_one_plan_that_only_grows(tmp_path):
  some, more = (fake_runs.made(tmp_path, n) for n in (2, 3))
  stored.save(tmp_path, some)
  before = stored.path(tmp_path).read_bytes()
  stored.save(tmp_path, some._replace(runs=some.runs[:1]))
  assert stored.path(tmp_path).read_bytes() == before
  stored.save(tmp_path, more)
  assert stored.load(tmp_path) == more
  other = fake_runs.made(tmp_path, variants=[{"name": "other", "x": 9}])
  for foreign in (other, other._replace(runs=[*other.runs, more.runs[0]])):
    with pytest.raises(ValueError, match="has another sweep, whose r") as error:
      stored.save(tmp_path, foreign)
    assert "\n" not in str(error.value)
  assert stored.load(tmp_path) == more
  with pytest.raises(ValueError, match=r"has no plan\.json"):
    stored.load(tmp_path / "elsewhere")


def test_seeds_of_a_variant_share_a_process(tmp_path):
  variants = [{"name": "a"}, {"name": "b-1", "temperature": 0.5}]
  runs = planned(tmp_path, variants, seeds=(0, 2))
  joined = plan.processes(runs, "vmap")
  assert [x.name for x in joined] == ["a-0,2", "b-1-0,2"]
  for process in joined:
    assert process.command[2] == "rsrc_jax.population"
    assert {"--together=vmap", "--seeds=0,2"} <= set(process.command)
    assert not any(x.startswith("--config.seed") for x in process.command)
  assert "--config.temperature=0.5" in joined[1].command
  # A variant that sets its own seed is a process of its own.
  own = planned(tmp_path, [{"name": "c", "seed": 5}])
  assert plan.processes(own, "loop")[0].name == "c-5"
