"""The experiment's analysis, on made-up results whose answers are known."""

import copy
import gzip
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.random_vocabulary import (
  analyse,
  contrasts,
  costs,
  stored,
  tables,
  training,
  use_tables,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "random_vocabulary"

REGISTERED = {
  "confirmatory_tier": "facts",
  "seeds": [0, 1, 2, 3, 4],
  "budgets": [2, 4, 8],
  "metric": "edit_similarity",
  "english_arms": ["E1", "E3", "E4", "E5"],
  "alpha": 0.05,
  "draws": 2000,
  "equivalence_margin": 0.02,
  "hypotheses": {
    "H1": {"a": "F", "b": "best_english", "test": "difference > 0",
           "primary": True},
    "H2": {"a": "F", "b": "B6", "test": "difference > 0"},
    "H2b": {"a": "F", "b": "B5", "test": "difference > 0"},
    "H3a": {"a": "F", "b": "B2", "test": "difference < 0",
            "metric": "rote_share"},
    "H3b": {"a": "F", "b": "B2", "test": "not worse by more than the margin"},
    "H4": {"a": "F", "b": "best_english", "metric": "qa_code",
           "test": "not worse by more than the margin"},
    "H5": {"a": "F", "b": "F_forced", "test": "ratio > 0.9",
           "metric": "held_gain"},
  },
  "family": ["H2", "H2b", "H3a", "H3b", "H4", "H5"],
  "exploratory": [["F", "B4"], ["F", "best_english"]],
  "amendments": [{"date": "2026-01-01", "before_any_reported_run": True,
                  "changes": ["B6 added", "tau is measured"]}],
}  # fmt: skip
SEEDS, DOCS, BUDGETS = 5, 24, (2, 4, 8)
CURVE = (0.25, 0.35, 0.4)  # gain of an arm without an effect
# What an arm adds to the gain: of all seeds, and of each.
EFFECTS = {
  "E1": 0.0, "E3": 0.0, "E4": 0.02, "E5": 0.05,
  "B2": 0.1, "B4": 0.06, "B5": 0.1, "B6": 0.04, "F": 0.1,
}  # fmt: skip
OF_SEEDS = {
  "F": (0.01, -0.01, 0.004, -0.004, 0.0),
  "B2": (0.01, -0.01, 0.0041, -0.004, 0.0),
  "B5": (-0.02, 0.03, -0.01, 0.02, -0.02),
}
# Best on validation is E4, though E5 is on the test split.
VALID = {"E1": 0.3, "E3": 0.4, "E4": 0.6, "E5": 0.5}
FLOOR = {"E3": 0.7}  # edit similarity without a code; 0.2 of the others
ROTE = {"B2": 0.8, "B4": 0.5}
ANSWERED = {"E4": 0.7, "F": 0.5}


def arm(name: str, seed: int, k: int) -> dict:
  """What measure_arms.py finds of an arm at k; noise is the rows', by seed."""
  rng = np.random.default_rng(seed)
  hard, floor = 0.05 * rng.normal(size=(2, DOCS))
  floor = floor + FLOOR.get(name, 0.2)
  added = EFFECTS[name] + OF_SEEDS.get(name, (0.0,) * SEEDS)[seed]
  rows = floor + hard + CURVE[BUDGETS.index(k)] + added
  found = {
    "by_budget": {str(k): {
      "edit_similarity": rows.tolist(), "nll_bits": [20.0] * DOCS,
      "no_code_rows": floor.tolist(),
      "means": {
        "edit_similarity": float(rows.mean()), "nll_bits": 20.0 - k,
        "bits_conveyed": 4.0 + k, "mean_tokens": float(k),
        "token_f1": 0.5, "chrf": 0.4, "exact_match": 0.1,
      },
    }},
    "valid": {str(k): VALID.get(name, 0.3)},
    "no_code": {"edit_similarity": float(floor.mean()), "nll_bits": 22.0 + k},
    "shuffled": {"edit_similarity": 0.1}, "permuted": {"edit_similarity": 0.2},
    "shifts": {"longer": {str(k): {"edit_similarity": 0.1 + 0.01 * k}}},
    "codes": {
      "lm_bits_per_token": 3.0 + added, "copy_rate": 0.5, "samples": [
        {"source": ["a", "b"], "code": ["x|y", "\n"], "decoded": []}
      ],
    },
    "questions": {
      str(k): {
        "code": (ANSWERED.get(name, 0.6) + hard).tolist(), "decoded": 0.4,
        "shuffled": 0.2, "question": 0.2,
      }
    },
    "held": [],
  }  # fmt: skip
  if not name.startswith("E"):
    share = ROTE.get(name, 0.1) + 0.01 * seed
    found["use"] = {
      how: {"use_rate": 0.1 * k, "decoy_rate": 0.2, "tail_share": 0.3,
            "rote_share": 0.1 * k, "swap_bits": None, "tau": 0.3}
      for how in ("forced", "asked")
    }  # fmt: skip
    found["held"] = looks(0.01 * seed, rote=share)
  return found


def looks(
  more: float = 0.0, *, relaxed: bool = True, rote: float = 0.3
) -> list[dict]:
  """Fifteen looks at the constraints and, after a mixed window, nine free.

  The best of the constrained ones gain 0.5, the free ones 0.49.
  """
  lines = []
  for i in range(25):
    step, free = 20 * (i + 1), i >= 16
    phase = 1.0 if free else 0.4 if i == 15 else 0.0
    gain = 0.49 if free else 0.9 if i == 15 else 0.5 if i >= 10 else 0.1
    lines.append({
      "step": step, "held_reward": 0.5, "held_gain": gain + more,
      "held_use_rate": 0.5, "held_rote_share": rote, "held_tail_share": 0.2,
      "held_swap_bits": 1.0, "held_pay_bonus": 0.01, "held_mass_used": 0.5,
      "held_varentropy_used": 2.0 + i, "held_collision_used": 1.0,
      "held_varentropy_other": 3.0, "held_collision_other": 2.0,
    })  # fmt: skip
    left = 1.0 - phase if relaxed else 1.0
    lines.append({"step": step, "phase": phase if relaxed else 0.0,
                  "hidden": left, "inject": left, "ban": left,
                  "bonus": left})  # fmt: skip
  return lines


def result(seed: int, k: int, names: tuple[str, ...] = tuple(EFFECTS)) -> dict:
  """results/facts-kK-SEED.json."""
  arms = {name: arm(name, seed, k) for name in names}
  return {
    "seed": seed, "corpus": {"digest": f"of seed {seed}"}, "steps": 100,
    "params": 1000 + k, "budgets": [k],
    "arms": arms | {"U0": {"questions": {"source": 0.9 + 0.01 * k}}},
  }  # fmt: skip


def summary(seed: int) -> dict:
  """A run's summary: a stored one of another experiment, its arms renamed."""
  path = ROOT / f"experiments/cdv_tiny/results/default-{seed % 3}.json"
  run, name = json.loads(path.read_text()), {"code": "F", "lead": "E1"}
  rename = lambda x: {name.get(k, k): v for k, v in x.items()}
  run["ledger"]["phases"] = rename(run["ledger"]["phases"])
  run["ledger"]["programs"] = rename(run["ledger"]["programs"])
  run["rsrc"]["arms"] = rename(run["rsrc"]["arms"])
  return run | {"seed": seed}


@pytest.fixture(scope="module")
def tier() -> stored.Tier:
  found = {
    s: stored.together({k: result(s, k) for k in BUDGETS}) for s in range(SEEDS)
  }
  runs = {s: {k: summary(s) for k in BUDGETS} for s in range(3)}
  return stored.Tier("facts", found, runs, BUDGETS)


def changed(tier: stored.Tier, edit) -> stored.Tier:
  """The tier after edit(seed, arms)."""
  tier = copy.deepcopy(tier)
  for seed, found in tier.found.items():
    edit(seed, found["arms"])
  return tier


def judged(tier: stored.Tier, registered: dict = REGISTERED) -> dict:
  best, _ = contrasts.best_english(tier, registered)
  return {v.row.name: v for v in contrasts.verdicts(tier, registered, best)}


def test_the_best_english_arm_is_the_validation_split_s(tier):
  best, areas = contrasts.best_english(tier, REGISTERED)
  assert best == "E4"
  assert areas["E4"] - areas["E3"] == pytest.approx(0.2)
  absent = changed(tier, lambda seed, arms: seed or arms.pop("E4"))
  assert contrasts.best_english(absent, REGISTERED)[0] == "E5"


def test_planted_differences_are_found(tier):
  words = {name: v.word for name, v in judged(tier).items()}
  assert words == {
    "H1": "yes",  # + 0.08
    "H2": "yes",  # + 0.06
    "H2b": contrasts.CANT_TELL,  # 0 with seeds of sd 0.02
    "H3a": "yes",  # 0.1 against 0.8
    "H3b": "yes",  # - 0.00002 of 0.45
    "H4": "no",  # 0.5 against 0.7
    "H5": "yes",  # 0.98
  }


def test_effects_and_intervals_are_those_of_the_seeds(tier):
  found = judged(tier)
  # The noise of documents is common to both arms: seeds are all that is left.
  each = 0.08 + np.array(OF_SEEDS["F"])
  half = 2.776445 * each.std(ddof=1) / math.sqrt(5)
  row = found["H1"].row
  assert row.effect == pytest.approx(0.08)
  assert row.low == pytest.approx(0.08 - half, abs=1e-6)
  assert row.high == pytest.approx(0.08 + half, abs=1e-6)
  assert found["H1"].adjusted == row.p  # alone, not of the family
  row = found["H4"].row
  qa = {a: stored.qa_from_code(tier, a) for a in ("F", "E4")}
  means = {a: np.mean(list(x.values())) for a, x in qa.items()}
  assert row.effect == pytest.approx(means["F"] / means["E4"] - 1)
  assert row.level == pytest.approx(0.9)
  assert found["H3a"].row.effect == pytest.approx(-0.7)
  # 0.49 / 0.5 of all seeds with 0.02 more of both.
  assert found["H5"].row.effect == pytest.approx(0.51 / 0.52)


def test_the_area_is_over_log2_k(tier):
  # Budgets 2, 4, 8: the middle one counts twice. Without documents' noise:
  # (0.25 + 2 * 0.35 + 0.4) / 4.
  flat = changed(tier, lambda _, arms: arms["E1"].update(
    by_budget={str(k): {"edit_similarity": [f + g] * DOCS,
                        "no_code_rows": [f] * DOCS}
               for k, g, f in zip(BUDGETS, CURVE, (0.1, 0.2, 0.3), strict=True)}
  ))  # fmt: skip
  # The floor is that of the same k.
  assert stored.gains(flat, "E1")[3] == pytest.approx(np.full(DOCS, 0.3375))
  # With it: (0.35 + 2 * 0.55 + 0.7) / 4.
  raw = stored.similarities(flat, "E1")[3]
  assert raw == pytest.approx(np.full(DOCS, 0.5375))
  alone = flat._replace(budgets=(4,))
  assert stored.gains(alone, "E1")[3] == pytest.approx(np.full(DOCS, 0.35))


def test_the_opposite_is_no_and_not_unclear(tier):
  def worse(seed, arms):
    for rows in arms["F"]["by_budget"].values():
      rows["edit_similarity"] = [x - 0.3 for x in rows["edit_similarity"]]
    for part in arms["F"]["parts"].values():
      for line in part["held"]:
        if "held_gain" in line:
          line["held_rote_share"] = 0.95 + 0.003 * seed
          line["held_gain"] -= 0.2 * (line["step"] > 320)

  found = judged(changed(tier, worse))
  assert {v.word for v in found.values()} == {"no"}
  assert list(found) == list(REGISTERED["hypotheses"])


def test_what_was_not_run_keeps_its_place_in_the_family(tier):
  def drop(seed, arms):
    del arms["B6"], arms["B2"]

  whole, part = judged(tier), judged(changed(tier, drop))
  for name in ("H2", "H3a", "H3b"):
    assert part[name].row.p is None
    assert part[name].word.startswith("not run: no ")
  assert part["H5"].adjusted >= min(1.0, 4 * part["H5"].row.p)
  assert part["H5"].row.p == whole["H5"].row.p


def test_few_seeds(tier):
  one = tier._replace(found={2: tier.found[2]})
  found = judged(one)["H1"]
  assert found.row.effect == pytest.approx(0.084)
  assert found.row.low is None
  assert found.word == "not run: 1 seed; an interval needs 2"
  two = tier._replace(found={s: tier.found[s] for s in (0, 3)})
  table = analyse.hypothesis_table(list(judged(two).values()), REGISTERED)
  assert "2 of 5" in table
  # An arm that one seed lacks is compared on the others.
  less = changed(tier, lambda seed, arms: seed or arms.pop("B5"))
  row = judged(less)["H2b"].row
  assert row.seeds == (1, 2, 3, 4)
  assert row.left_out == ("no edit_similarity of B5 in seeds 0",)


def test_a_contrast_that_is_not_known_is_refused(tier):
  for change, words in (
    ({"test": "bigger"}, "test='bigger'"),
    ({"test": "difference > 1"}, "compare with 0"),
    ({"metric": "beauty"}, "metric='beauty'"),
  ):
    what = REGISTERED["hypotheses"]["H2"] | change
    with pytest.raises(ValueError, match=words):
      contrasts.contrast(tier, REGISTERED, "H2", what, "E4")


def test_shared_documents_are_crossed(tier):
  assert not stored.shared_documents(tier)
  same = copy.deepcopy(tier)
  for found in same.found.values():
    found["corpus"]["digest"] = "one"
  assert stored.shared_documents(same)


def parts_of(tier: stored.Tier, name: str, edit) -> stored.Tier:
  """The tier after edit(k, part) of an arm at every budget."""

  def every(_, arms):
    for k, part in arms[name]["parts"].items():
      edit(k, part)

  return changed(tier, every)


def test_what_relaxation_left(tier):
  after, before = training.retained(tier, "F")
  # The window in which the constraints went is of neither kind: its 0.9 is out.
  assert before[0] == pytest.approx([0.5])
  assert after[0] == pytest.approx([0.49])
  # Means over the budgets: 0.06 more at one of three.
  more = parts_of(tier, "F", lambda k, part: part.update(
    held=looks(0.06 * (k == 8))
  ))  # fmt: skip
  assert training.retained(more, "F")[0][4] == pytest.approx([0.51])
  # The line of a log has another phase: the curriculum's may go by its name.
  named = [
    {("curriculum_phase" if k == "phase" else k): v for k, v in x.items()}
    for x in looks()
  ]
  assert training.looks({"held": named}) == [
    x | {"curriculum_phase": x["phase"]} if "inject" in x else x
    for x in training.looks({"held": looks()})
  ]
  # One budget that was never free, or with four free looks, is enough.
  never = parts_of(tier, "F", lambda k, part: part.update(
    held=looks(relaxed=k != 4)
  ))  # fmt: skip
  assert training.retained(never, "F") == ({}, {})
  assert "was not relaxed" in judged(never)["H5"].word
  short = parts_of(tier, "F", lambda k, part: part.update(
    held=[x for x in looks() if x["step"] <= (400 if k == 2 else 500)]
  ))  # fmt: skip
  assert training.retained(short, "F") == ({}, {})


def test_the_rote_share_is_of_users_in_all_looks(tier):
  look = {"held_gain": 0.1}
  shares = {
    2: [(0.5, 0.2), (0.0, 1.0)],  # nobody's share does not count
    4: [(0.1, 0.8)],
    8: [(0.0, None), (None, None), (0.5, math.nan), (math.nan, 1.0)],
  }
  users = parts_of(tier, "F", lambda k, part: part.update(held=[
    look | {"step": i, "held_use_rate": rate, "held_rote_share": rote}
    for i, (rate, rote) in enumerate(shares[k])
  ]))  # fmt: skip
  # (0.5 * 0.2 + 0.1 * 0.8) / 0.6
  assert training.rote_share(users, "F")[1] == pytest.approx([0.3])

  def nobody(seed, arms):
    for part in arms["F"]["parts"].values():
      for line in part["held"]:
        line["held_use_rate"] = line.get("held_use_rate", 0.0) * (seed != 2)

  found = judged(changed(tier, nobody))["H3a"]
  assert found.row.seeds == (0, 1, 3, 4)
  assert found.row.left_out == ("no rote_share of F in seeds 2",)
  table = analyse.hypothesis_table([found], REGISTERED)
  assert table.endswith("H3a: no rote_share of F in seeds 2, left out.")


def test_use_is_a_mean_over_the_budgets_weighted_by_users(tier):
  some = parts_of(tier, "F", lambda k, part: k == 8 and part["use"].update(
    asked=part["use"]["asked"] | {"use_rate": 0.0, "rote_share": None}
  ))  # fmt: skip
  rows = use_tables.use_table(some).splitlines()
  cells = lambda how: next(
    x.split(" | ")[2:] for x in rows if x.startswith(f"| F | {how}")
  )
  # Rates 0.2, 0.4, 0.8 and shares of the same size: 0.84 / 1.4.
  assert cells("forced")[0] == "0.467 ± 0.000"
  assert cells("forced")[3] == "0.600 ± 0.000"
  assert cells("asked")[3] == "0.333 ± 0.000"  # 0.2 / 0.6
  assert cells("asked")[1] == "0.200 ± 0.000"
  assert cells("asked")[4] == "-"
  # Unknown at one budget where there were users: no mean of the others.
  part = parts_of(tier, "F", lambda k, x: x["use"]["forced"].update(
    rote_share=None if k == 4 else 0.5
  ))  # fmt: skip
  row = next(
    x for x in use_tables.use_table(part).splitlines() if "| F | forced" in x
  )
  assert row.split(" | ")[5] == "-"


def test_what_is_not_by_budget_is_averaged_or_named(tier):
  # 0.1 + 0.01 k at 2, 4, 8; the ceiling 0.9 + 0.01 k.
  assert "| 0.147 ± 0.000 |" in tables.shifts_table(tier)
  assert "From s itself (U0): 0.947 ± 0.000" in tables.questions_table(tier)
  assert stored.shown(tier) == 2  # no 3 here
  assert stored.shown(tier._replace(budgets=(2, 3, 4))) == 3
  part = lambda k, x: x["codes"].update(copy_rate=k / 8)
  assert "| 0.25 ± 0.00 |" in tables.codes_table(parts_of(tier, "F", part))
  less = parts_of(tier, "F", lambda k, x: k == 4 and x.pop("shifts"))
  row = next(
    x for x in tables.shifts_table(less).splitlines() if x.startswith("| F |")
  )
  assert row.endswith("| - |")


def test_sensitivity_is_the_same_contrasts_without_floors(tier):
  rows = {x.name: x for x in contrasts.sensitivity(tier, REGISTERED, "E3")}
  assert list(rows) == ["H1", "H2", "H2b"]
  # E3's D is 0.5 better without a code: + 0.1 of gain is - 0.4 of similarity.
  assert rows["H1"].effect == pytest.approx(-0.4)
  assert rows["H2"].effect == pytest.approx(0.06)


def test_english_tokens_at_equal_quality():
  curve, budgets = np.array([0.1, 0.3, 0.3]), (2, 8, 16)
  needed = lambda gain, k: tables.tokens_needed(gain, k, curve, budgets)
  assert needed(0.2, 2) == "2.00"  # half way from 2 to 8 is 4
  assert needed(0.3, 4) == "2.00"  # the first 8, not the 16
  assert needed(0.1, 4) == "0.50"
  assert needed(0.05, 4) == "< 0.50"
  assert needed(0.31, 4) == "> 4.00"


def test_channel_and_two_part_length(tier):
  # 2 ids and k = 4: 1 + 2 + 4 + 8 + 16 codes. 26 - 16 bits are saved.
  run = {"bounds": {"channel_bits_by_k": {"1": math.log2(3)}}}
  small = tier._replace(runs={0: {2: run}})
  assert stored.ids(small) == 2
  eta, two_part = tables.budget_tables(small)[5::2]
  row = next(x for x in eta.splitlines() if x.startswith("| E1 "))
  cells = row.split(" | ")
  assert cells[2] == f"{10 / math.log2(31):.3f} ± 0.000"
  row = next(x for x in two_part.splitlines() if x.startswith("| E1 "))
  # 2 tokens of 1 bit and 18 bits; 8 and 12; none and the mean of 24, 26, 30.
  assert [x.split()[0] for x in row.strip("| ").split(" | ")] == [
    "E1", "20.0", "20.0", "20.0", "26.7",
  ]  # fmt: skip
  for k, n in ((2, 7), (3, 120), (8, 2)):
    bounds = {"channel_bits_by_k": {str(k): stored.channel_bits(n, k)}}
    one = tier._replace(runs={0: {k: {"bounds": bounds}}})
    assert stored.ids(one) == n
  assert stored.ids(tier) == 120  # what cdv_tiny's own bounds say
  assert stored.ids(tier._replace(name="text", runs={})) is None


def test_costs_are_sums_over_the_budgets(tier):
  one = tier._replace(budgets=(4,))
  whole, part = costs.training_flops(tier), costs.training_flops(one)
  assert part and {k: 3 * v for k, v in part.items()} == pytest.approx(whole)
  assert (
    "sums over the runs of the budgets 2, 4, 8, means over seeds 0, 1, 2"
    in (costs.accounting(tier)[0])
  )
  # A seed whose run at one budget is missing has no sum.
  less = tier._replace(runs=tier.runs | {1: {2: summary(1)}})
  assert "seeds 0, 2." in costs.accounting(less)[0]
  assert costs.accounting(tier._replace(runs={}))[0].startswith("not run")


def test_the_ledger_sums_to_its_total():
  runs = [summary(0), summary(1)]
  ledgers = [[x["ledger"]["phases"]] * 3 for x in runs]  # of three budgets
  want = np.mean([
    3 * sum(entry["flops"] for arm in x[0].values() for entry in arm.values())
    for x in ledgers
  ])  # fmt: skip
  table = costs.phases_table(ledgers, "flops")
  assert "| V |" in table and "| base |" in table
  last = table.splitlines()[-1].strip("| ").split(" | ")
  assert last[0] == "**all**"
  assert last[-1] == costs.style.short(want)
  assert costs.use([{"ledger": runs[0]["ledger"]}]) == ["RSRC (ours): not run."]


@pytest.mark.parametrize("name", analyse.EXTERNAL)
def test_benchmarks_that_were_not_run_are_not_named(name):
  for line in (f"{name} 0.83", f"on {name.lower()}.", f"({name}) not run"):
    with pytest.raises(ValueError, match=name):
      analyse.check_names(f"fine\n{line}\nfine")
  for line in (f"{name}: not run", f"{name}-style metric, synthetic facts",
               f"x{name}x"):  # fmt: skip
    assert analyse.check_names(line) == line


def write(folder: Path, name: str, value) -> None:
  (folder / "results").mkdir(exist_ok=True)
  path = folder / "results" / f"{name}.json.gz"
  path.write_bytes(gzip.compress(json.dumps(value).encode(), 1, mtime=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tier):
  """Everything analysed: five seeds of facts, one of append, none of text."""
  folder = tmp_path_factory.mktemp("random_vocabulary")
  (folder / "registration.json").write_text(json.dumps(REGISTERED))
  for seed in tier.found:
    for k in BUDGETS:
      write(folder, f"facts-k{k}-{seed}", result(seed, k))
      if seed in tier.runs:
        write(folder, f"facts-k{k}-{seed}-run", summary(seed))
  write(folder, "facts-k2-10", result(10 % 5, 2))  # settings were picked on it
  write(folder, "facts-k16-0", result(0, 8) | {"budgets": [16]})
  arms = {name: arm("F", 0, 8) for name in ("none_4", "BL_4")}
  for found in arms.values():
    del found["codes"], found["questions"]
  arms["none_4"]["held"] = looks()
  arms["BL_4"]["held"] = looks(rote=0.1)
  last = [x for x in arms["BL_4"]["held"] if "held_gain" in x][-1]
  last |= {"held_use_rate": 0.0, "held_decoy_rate": 0.25}
  write(folder, "append-k8-0", result(0, 8) | {"arms": arms})
  matrix = {"F": {"matrix": [[0.9, 0.1], [0.2, 0.8]]}}
  (folder / "results" / "facts-crossplay.json").write_text(json.dumps(matrix))
  printed = analyse.analyse(folder)
  return folder, printed


def test_the_report(folder):
  folder, printed = folder
  text = (folder / "table.md").read_text()
  assert printed.startswith(text)
  assert "Seeds 10: not registered, left out." in text
  assert "Budgets 16: not registered, left out." in text
  assert "Preliminary" not in text
  assert "2026-01-01, before any reported run:\n\n- B6 added\n- tau" in text
  assert "B5" in text and "**yes**" in text and "**no**" in text
  assert "not run: no results/text-kK-SEED.json.gz." in text
  # The first, the 13th and the last look; at the last nobody used any.
  append = text.split("## Tier append")[1]
  assert "Seeds 0; k = 8." in append
  row = next(x for x in append.splitlines() if x.startswith("| BL_4 |"))
  assert row.split(" | ")[1:] == [
    "1", "20 → 260 → 500", "0.50 → 0.50 → 0.00", "- → - → 0.25", "-",
    "0.20 → 0.20 → -", "0.10 → 0.10 → -", "1.00 → 1.00 → -",
    "0.10 → 0.50 → 0.49", "0.0100 → 0.0100 → 0.0100",
    "0.500 → 0.500 → 0.500", "- |",
  ]  # fmt: skip
  raw = text.split("### Sensitivity")[1].split("###")[0]
  assert "| H2: F - B6 | +0.060 |" in raw
  assert "yes" not in raw and "can't" not in raw
  explored = text.split("### Exploratory contrasts")[1].split("##")[0]
  assert "| F - B4 | +0.040 |" in explored
  for word in ("yes", "can't", "| no"):
    assert word not in explored
  assert "GSM8K: not run" in text
  assert "F_forced: not run" not in text
  assert "x\\|y ⏎ | (empty) |" in (folder / "samples.md").read_text()


def test_every_figure_is_drawn(folder):
  folder, printed = folder
  for number in (*range(1, 9), 10):
    for ending in ("svg", "png"):
      assert len(list(folder.glob(f"figure_{number}_*.{ending}"))) == 1
  assert "Figure 9, memory over steps: another experiment's" in printed
  assert "there is nothing to draw" not in printed


@pytest.mark.slow
def test_the_same_bytes_twice(folder, tmp_path):
  folder, _ = folder
  shutil.copy(folder / "registration.json", tmp_path)
  shutil.copytree(folder / "results", tmp_path / "results")
  analyse.analyse(tmp_path)
  for path in folder.iterdir():
    if path.is_file():
      assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_nothing_run_is_a_report_too(tmp_path):
  shutil.copy(FOLDER / "registration.json", tmp_path)
  printed = analyse.analyse(tmp_path)
  for name in analyse.TIERS:
    assert f"not run: no results/{name}-kK-SEED.json.gz" in printed
  assert not list(tmp_path.glob("*.svg"))
  assert "Figure 8_crossplay: not run" in printed


def test_seeds_are_analysed_at_the_budgets_that_all_have(tmp_path):
  (tmp_path / "registration.json").write_text(json.dumps(REGISTERED))
  for seed, k in ((0, 2), (0, 4), (1, 2), (1, 4), (2, 2)):
    write(tmp_path, f"facts-k{k}-{seed}", result(seed, k))
  load = lambda **kw: stored.load(tmp_path / "results", "facts", **kw)
  tier = load(budgets=[2, 4, 8])
  assert tier.budgets == (2,)
  assert list(tier.found[0]["arms"]["F"]["parts"]) == [2, 4]  # all is kept
  assert tier.notes == (
    "k = 4, seeds 2: not run, so k = 4 is in no table.",
    "k = 8, every seed: not run, so k = 8 is in no table.",
  )
  assert load(seeds=[0, 1]).budgets == (2, 4)
  # One budget: the gain itself, and a report.
  assert stored.gain_curves(tier, "F")[2][0].tolist() == pytest.approx(
    stored.gains(tier, "F")[2].tolist()
  )
  text = analyse.analyse(tmp_path)
  assert "k = 4, seeds 2: not run" in text
  assert "Seeds 3, 4: not run." in text
  assert "**Preliminary**: k = 4, 8 and seeds 3, 4 of the registered" in text
  # Nothing in common: the budget that most have, and said so.
  write(tmp_path, "facts-k8-3", result(3, 8))
  tier = load()
  assert (tier.budgets, list(tier.found)) == ((2,), [0, 1, 2])
  assert tier.notes[0].startswith(
    "Seeds 3, k = 2: not run; no budget is common"
  )


def test_an_arm_that_one_budget_lacks(tmp_path):
  for seed in (0, 1):
    write(tmp_path, f"facts-k2-{seed}", result(seed, 2))
  write(tmp_path, "facts-k4-0", result(0, 4))
  write(tmp_path, "facts-k4-1", result(1, 4, ("E1", "F")))
  tier = stored.load(tmp_path / "results", "facts")
  assert list(stored.gains(tier, "B2")) == [0]
  assert list(training.rote_share(tier, "B2")) == [0]
  assert list(stored.valid_gains(tier, "B2")) == [0]
  said = tables.provenance(tier, REGISTERED)
  assert "B2, k = 4, seeds 1: not run." in said
  assert "F, k" not in said


def test_files_that_do_not_belong_together_are_refused(tmp_path):
  write(tmp_path, "facts-k4-0", result(0, 2))
  with pytest.raises(ValueError, match=r"not \[4\] as its name says"):
    stored.load(tmp_path / "results", "facts")
  other = result(0, 4) | {"corpus": {"digest": "another"}}
  with pytest.raises(ValueError, match="corpus differs by budget"):
    stored.together({2: result(0, 2), 4: other})


def test_the_stored_registration_can_be_judged(tier):
  """Names and tests of the real one are known here."""
  registered = json.loads((FOLDER / "registration.json").read_text())
  best, _ = contrasts.best_english(tier, registered | REGISTERED)
  found = contrasts.verdicts(tier, registered | {"draws": 200}, best)
  assert {v.row.name for v in found} == {"H1", *registered["family"]}
  rows = contrasts.exploratory(tier, registered | {"draws": 200}, best)
  assert len(rows) == len(registered["exploratory"])


@pytest.mark.parametrize(
  "codes, share, bits",
  [
    # Older results: a mean over all tokens, of which .43 were masks.
    ({"lm_bits_per_token": 0.43e30 / np.log(2)}, 0.43, None),
    ({"lm_bits_per_token": 13.9}, 0.0, 13.9),
    ({"lm_bits_per_token": None}, None, None),
    ({"foreign_share": 0.25, "lm_bits_of_text": 9.5}, 0.25, 9.5),
    ({"foreign_share": 1.0, "lm_bits_of_text": None}, 1.0, None),
  ],
)
def test_the_language_of_codes_is_read_from_old_and_new_results(
  codes, share, bits
):
  assert stored.foreign_share(codes) == pytest.approx(share)
  assert stored.text_bits(codes) == bits
