"""Questions again: its arms, and its verdicts on made-up results."""

import json

import numpy as np
import pytest
from helpers.runs import ROOT

from experiments.qa_again import sweep, table
from rsrc_jax.build import setup
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.sweep import plan

REGISTERED = sweep.REGISTERED
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
# Answers by arm: as trained or untaught, 30 and 200 lessons on codes, 200 on
# sources.
RIGHT = {
  "qa": (0.8, 0.8, 0.8, 0.8), "qa_english": (0.6, 0.6, 0.6, 0.6),
  "tfidf": (0.1, 0.3, 0.6, 0.3), "code_on": (0.1, 0.4, 0.7, 0.3),
  "cc": (0.1, 0.4, 0.7, 0.4), "qa_on": (0.8, 0.8, 0.8, 0.8),
  "probes": (0.7, 0.7, 0.7, 0.7),
}  # fmt: skip
ROLES = {"A": 0.9, "CC": 1.0, "Q": 1.0}


def scores(right, noise, tokens):
  found = {"tokens": tokens}
  taught = ("untaught", "code30", "code200", "source200")
  for name, x in zip(taught, right, strict=True):
    for kind in ("asked", "pairs", "new_pairs", "unasked"):
      found[f"{name}_code_{kind}"] = x + noise
      found[f"{name}_code_{kind}_sampled"] = x + noise - 0.05
    found |= {f"{name}_other_asked": 0.125, f"{name}_nothing_asked": 0.125,
              f"{name}_source_asked": 0.99}  # fmt: skip
  return found


def made_up(seed, word=1.0, dead=0.5, read=1.0, right=RIGHT):
  """A run in which every arm differs from its mean by little."""
  rng = np.random.default_rng(seed)
  noise = lambda: 0.002 * rng.normal()
  evals = {arm: {"answers": scores(x, noise(), 3.0)} for arm, x in
           right.items()}  # fmt: skip
  for arm in set(table.FRESH) & set(evals):
    own = scores((0.1, 0.1, right[arm][2], 0.1), noise(), 3.0)
    evals[arm]["fresh"] = {
      k.replace("200", "600"): x for k, x in own.items() if "30" not in k
    }
  for arm, x in (("cc", 0.5), ("long", 0.7)):
    own = scores((0.1, x, x, x), noise(), 6.0)
    own = {k: v for k, v in own.items() if not k.startswith("source")}
    evals[arm] = evals.get(arm, {}) | {"memory": own}
  trained = REGISTERED["roles"]
  doses = {
    arm: {f"{x}_word": ROLES[x] for x in roles if x != "C"}
    | {f"{x}_dead_groups": dead for x in roles if x != "C"}
    for arm, roles in trained.items()
  }
  doses["probes"] |= {"Q_answerable": 0.5, "Q_paid": 0.25}
  code = {"bits_conveyed": 15.0, "exact_match": 0.125, "edit_similarity": 0.75,
          "mean_tokens": 3.0}  # fmt: skip
  return {
    "seed": seed, "evals": evals, "doses": doses,
    "reward_shares": {
      arm: {"verifier": word, "shaping": 1 - word} for arm in trained
    },
    "dead_groups": dict.fromkeys(trained, 0.25),
    "examined": {"cc": {"cc_read": read}},
    "heldout": {"arms": {arm: dict(code) for arm in (*right, "long")}},
  }  # fmt: skip


def words(runs):
  found = table.rows(runs, REGISTERED)
  return {x.name: table.verdict(x, REGISTERED) for x in found}


def seeds(**how):
  return [made_up(x, **how) for x in REGISTERED["seeds"]]


def test_verdicts_follow_what_was_put_in():
  assert words(seeds()) == {
    "trained": "yes", "english": "yes", "extract": "yes", "kept": "yes",
    "arises": "yes", "emergent": "yes", "few": "can't tell",
    "memory": "no, the contrary", "opponent": "no, the contrary",
  }  # fmt: skip
  means = {x.name: x.each.mean() for x in table.rows(seeds(), REGISTERED)}
  expected = {
    "trained": 0.1, "english": 0.2, "extract": 0.2, "kept": 0.1,
    "arises": 0.275, "emergent": 0.1, "few": 0.0, "memory": -0.2,
    "opponent": -0.1,
  }  # fmt: skip
  for name, x in expected.items():
    assert means[name] == pytest.approx(x, abs=0.01), name


def test_p_is_holms_over_all_hypotheses_run_or_not():
  whole = {x.name: x for x in table.rows(seeds(), REGISTERED)}
  smallest = min(whole.values(), key=lambda x: x.interval.p)
  count = len(REGISTERED["hypotheses"])
  assert smallest.adjusted == pytest.approx(count * smallest.interval.p)
  right = {k: x for k, x in RIGHT.items() if k != "probes"}
  fewer = {x.name: x for x in table.rows(seeds(right=right), REGISTERED)}
  assert set(whole) - set(fewer) == {"opponent"}
  for row in fewer.values():
    assert row.interval.p <= row.adjusted <= 1


def test_what_v_did_not_pay_or_nothing_taught_is_not_tested():
  poor = words(seeds(word=0.4))
  assert poor["extract"] == "not tested (qa: C word 0.40)"
  assert poor["kept"] == "not tested (code_on: C word 0.40)"
  dead = words(seeds(dead=0.97))
  assert dead["english"] == (
    "not tested (qa: A dead 0.97; qa_english: A dead 0.97)"
  )
  assert dead["kept"] == "yes"  # C is the only role there
  assert dead["few"] == "not tested (cc: CC dead 0.97)"
  idle = words(seeds(read=0.25))
  assert idle["memory"] == "not tested (memories read 0.25)"
  assert idle["arises"] == "yes"
  runs = seeds()
  del runs[1]["doses"]["probes"]["Q_word"]
  assert words(runs)["opponent"] == "not tested (probes: Q word not recorded)"


def row(text, *start):
  """The cells of the first row that begins with these."""
  for line in text.splitlines():
    cells = [x.strip() for x in line.strip("|").split("|")]
    if cells[: len(start)] == [*start]:
      return cells
  raise AssertionError(start)


def test_the_table_shows_answers_controls_tokens_and_doses():
  text = table.table(seeds(), REGISTERED)
  assert "Preliminary" not in text
  cells = row(text, table.ARMS["code_on"], "200 on codes")
  mean = lambda cell: pytest.approx(float(cell.split()[0]), abs=0.01)
  assert cells[2] == "3.00 ± 0.00" and mean(cells[3]) == 0.7
  assert mean(cells[4]) == 0.65  # sampled
  assert cells[-3:] == ["0.125 ± 0.000", "0.125 ± 0.000", "0.990 ± 0.000"]
  assert mean(row(text, "code of six", "30 on codes")[3]) == 0.7
  assert mean(row(text, table.ARMS["tfidf"], "600 on codes")[3]) == 0.6
  assert row(text, "`probes`", "Q")[2:] == ["1.000 ± 0.000", "0.500 ± 0.000"]
  assert row(text, "`code_on`")[1:] == [
    "15.00 ± 0.00", "0.125 ± 0.000", "0.750 ± 0.000", "3.00 ± 0.00"
  ]  # fmt: skip
  assert "Q's probes that s answers: 0.500 ± 0.000" in text


def test_what_is_missing_is_said(tmp_path):
  assert table.table([], REGISTERED).startswith("not run")
  right = {k: x for k, x in RIGHT.items() if k != "tfidf"}
  runs = [made_up(x, right=right) for x in REGISTERED["seeds"][:2]]
  for seed, run in zip((50, 51, 1), (*runs, made_up(1)), strict=True):
    (tmp_path / f"qa_again-{seed}.json").write_text(json.dumps(run))
  runs = table.load(tmp_path, REGISTERED["seeds"])
  assert [x["seed"] for x in runs] == [50, 51]
  text = table.table(runs, REGISTERED)
  assert "**Preliminary**: seeds [52] are not run" in text
  assert row(text, table.ARMS["tfidf"])[1] == "not run"
  assert row(text, "kept")[7] == "**not run**"
  assert row(text, "`tfidf`")[1] == "not run"


def own(config, arm):
  return dict(config.arms[arm].overrides)


def differ(config, a, b):
  a, b = own(config, a), own(config, b)
  return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}


def test_arms_differ_in_named_switches_and_pass_the_checks():
  config = sweep.get_config()
  setup.prepare(config)
  probes = {"patterns.qa.probes"}
  assert differ(config, "qa", "code_on") == set()
  assert own(config, "qa").keys() - own(config, "code_on").keys() == probes
  assert own(config, "qa") == own(config, "qa_english")
  assert differ(config, "code_on", "long") == {"budgets"}
  assert differ(config, "code_on", "cc") == {"batch_size"}
  assert own(config, "qa_on").keys() - own(config, "probes").keys() == probes
  assert own(config, "qa_on")["patterns.qa.probes"] is None
  assert own(config, "code") == own(config, "english")
  starts = {k: x.start for k, x in config.arms.items()}
  assert {k for k, x in starts.items() if x == "code"} == {
    "code_on", "long", "cc", "qa"
  }  # fmt: skip
  assert starts["qa_on"] == starts["probes"] == "qa"
  assert starts["qa_english"] == "english"
  # As many steps behind the base, and as many codes a step.
  steps = lambda arm: own(config, arm)["steps"]
  assert steps("tfidf") == steps("code") + steps("qa")
  assert steps("qa") == steps("qa_english") == steps("cc") == steps("long")
  assert own(config, "long")["budgets"] == (sweep.BUDGET + sweep.MEMORY,)
  cc = config.patterns.cc
  made = own(config, "cc")["batch_size"] // cc.rounds * (cc.rounds - 1)
  assert made * cc.group == config.batch_size * config.patterns.cdv.group
  assert config.patterns.qa.group == config.patterns.cdv.group


def test_the_loop_is_the_defaults_and_the_scores_are_registered():
  config = sweep.get_config()
  for arm in ("qa", "qa_english", "probes", "code_on", "cc"):
    one = arm_config(config, arm)
    assert one.verifier.to_dict() == {"slots": 0, "edit": 1, "reader": 0}
    assert one.shaping.gain == 0 and one.loss.entropy_per_code
    assert not one.augment.fixed_length
  names = {f"code{x}" for x in (*sweep.LESSONS, *sweep.FRESH)} | {"untaught"}
  names |= {f"source{max(sweep.LESSONS)}"}
  assert names == set(table.TAUGHT)
  assert config.evals.fresh.arms == table.FRESH
  assert config.evals.fresh.weights == "base"
  for what in REGISTERED["hypotheses"].values():
    for arm, of, score in (what["a"], what["b"]):
      assert arm in config.evals[of].arms
      taught, _, rest = score.partition("_")
      assert taught in names and rest in table.COLUMNS
  assert set(REGISTERED["roles"]) <= set(config.arms)
  setup.prepare(sweep.get_config("quick"))
  # A name that is no arm's is refused before anything is trained.
  config.evals.answers.arms = ("qq",)
  with pytest.raises(ValueError, match=r"evals\.answers\.arms=\('qq',\)"):
    setup.prepare(config)


def test_a_run_a_seed():
  path = ROOT / "experiments" / "qa_again" / "sweep.py"
  runs = plan.plan(str(path), ROOT / "runs").runs
  assert [x.name for x in runs] == [f"qa_again-{x}" for x in (50, 51, 52)]
  quick = plan.plan(f"{path}:quick", ROOT / "runs").runs
  assert [x.name for x in quick] == ["quick-10"]
