"""The experiment's analysis, on made-up results whose answers are known."""

import copy
import gzip
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments" / "random_vocabulary"
sys.path.insert(0, str(FOLDER))

import analyse  # noqa: E402
import contrasts  # noqa: E402
import costs  # noqa: E402
import stored  # noqa: E402
import tables  # noqa: E402

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
    "H2": {"a": "F", "b": "B5", "test": "difference > 0"},
    "H3a": {"a": "F", "b": "B2", "test": "difference < 0",
            "metric": "rote_share"},
    "H3b": {"a": "F", "b": "B2", "test": "not worse by more than the margin"},
    "H4": {"a": "F", "b": "best_english", "metric": "qa_code",
           "test": "not worse by more than the margin"},
    "H5": {"a": "F", "b": "F_forced", "test": "ratio > 0.9"},
  },
  "family": ["H2", "H3a", "H3b", "H4", "H5"],
  "exploratory": [["F", "B4"], ["F", "best_english"]],
}  # fmt: skip
SEEDS, DOCS, BUDGETS = 5, 24, (2, 4, 8)
CURVE = (0.25, 0.35, 0.4)  # gain of an arm without an effect
# What an arm adds to the gain: of all seeds, and of each.
EFFECTS = {
  "E1": 0.0, "E3": 0.0, "E4": 0.02, "E5": 0.05,
  "B2": 0.1, "B4": 0.06, "B5": 0.1, "F": 0.1,
}  # fmt: skip
OF_SEEDS = {
  "F": (0.01, -0.01, 0.004, -0.004, 0.0),
  "B2": (0.01, -0.01, 0.0041, -0.004, 0.0),
  "B5": (-0.02, 0.03, -0.01, 0.02, -0.02),
}
# Best on validation is E4, though E5 is on the test split; E3's is its D's.
VALID = {"E1": 0.5, "E3": 0.9, "E4": 0.8, "E5": 0.7}
FLOOR = {"E3": 0.7}  # edit similarity without a code; 0.2 of the others
ROTE = {"B2": 0.8, "B4": 0.5}
ANSWERED = {"E4": 0.7, "F": 0.5}


def arm(name: str, seed: int) -> dict:
  """What examine.py finds of an arm; the noise of documents is the seed's."""
  rng = np.random.default_rng(seed)
  hard, floor = 0.05 * rng.normal(size=(2, DOCS))
  floor = floor + FLOOR.get(name, 0.2)
  added = EFFECTS[name] + OF_SEEDS.get(name, (0.0,) * SEEDS)[seed]
  rows = {
    str(k): (floor + hard + gain + added).tolist()
    for k, gain in zip(BUDGETS, CURVE, strict=True)
  }
  found = {
    "by_budget": {
      k: {"edit_similarity": x, "nll_bits": [20.0] * DOCS, "means": {
        "edit_similarity": float(np.mean(x)), "nll_bits": 20.0 - int(k),
        "bits_conveyed": 4.0 + int(k), "mean_tokens": float(k),
        "token_f1": 0.5, "chrf": 0.4, "exact_match": 0.1,
      }} for k, x in rows.items()
    },
    "valid": dict.fromkeys(map(str, BUDGETS), VALID.get(name, 0.4)),
    "no_code": {"edit_similarity": float(floor.mean()), "nll_bits": 24.0},
    "no_code_rows": floor.tolist(),
    "shuffled": {"edit_similarity": 0.1}, "permuted": {"edit_similarity": 0.2},
    "shifts": {"longer": {"4": {"edit_similarity": 0.15}}},
    "codes": {
      "lm_bits_per_token": 3.0 + added, "copy_rate": 0.5, "samples": [
        {"source": ["a", "b"], "code": ["x|y", "\n"], "decoded": []}
      ],
    },
    "questions": {
      str(k): {
        "code": (ANSWERED.get(name, 0.6) + hard).tolist(), "decoded": 0.4,
        "shuffled": 0.2, "question": 0.2,
      } for k in BUDGETS
    },
    "held": [],
  }  # fmt: skip
  if not name.startswith("E"):
    share = ROTE.get(name, 0.1) + 0.01 * seed
    found["use"] = {
      how: {"use_rate": 0.9, "tail_share": 0.3, "rote_share": share,
            "swap_bits": 1.5} for how in ("forced", "asked")
    }  # fmt: skip
    found["held"] = looks(0.01 * seed)
  return found


def looks(more: float = 0.0, *, relaxed: bool = True) -> list[dict]:
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
      "held_use_rate": 0.5, "held_rote_share": 0.3, "held_tail_share": 0.2,
      "held_swap_bits": 1.0, "held_pay_bonus": 0.01, "held_mass_used": 0.5,
      "held_varentropy_used": 2.0 + i, "held_collision_used": 1.0,
      "held_varentropy_other": 3.0, "held_collision_other": 2.0,
    })  # fmt: skip
    left = 1.0 - phase if relaxed else 1.0
    lines.append({"step": step, "phase": phase if relaxed else 0.0,
                  "hidden": left, "inject": left, "ban": left,
                  "bonus": left})  # fmt: skip
  return lines


def result(seed: int, names: tuple[str, ...] = tuple(EFFECTS)) -> dict:
  """results/facts-SEED.json."""
  arms = {name: arm(name, seed) for name in names}
  return {
    "seed": seed, "corpus": {"digest": f"of seed {seed}"}, "steps": 100,
    "params": 1000, "budgets": list(BUDGETS), "threshold": 0.2,
    "arms": arms | {"U0": {"questions": {"source": 0.95}}},
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
  return stored.Tier(
    "facts", {s: result(s) for s in range(SEEDS)},
    {s: summary(s) for s in range(3)}, BUDGETS,
  )  # fmt: skip


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
  # Less its D's floor: E3 0.9 - 0.7, E4 0.8 - 0.2, E5 0.7 - 0.2, and the noise
  # of the floors, which all arms of a seed share.
  best, areas = contrasts.best_english(tier, REGISTERED)
  assert best == "E4"
  assert areas["E4"] - areas["E3"] == pytest.approx(0.4)
  absent = changed(tier, lambda seed, arms: seed or arms.pop("E4"))
  assert contrasts.best_english(absent, REGISTERED)[0] == "E5"


def test_planted_differences_are_found(tier):
  words = {name: v.word for name, v in judged(tier).items()}
  assert words == {
    "H1": "yes",  # + 0.08
    "H2": contrasts.CANT_TELL,  # 0 with seeds of sd 0.02
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
    by_budget={str(k): {"edit_similarity": [0.2 + g] * DOCS}
               for k, g in zip(BUDGETS, CURVE, strict=True)},
    no_code_rows=[0.2] * DOCS,
  ))  # fmt: skip
  assert stored.gains(flat, "E1")[3] == pytest.approx(np.full(DOCS, 0.3375))


def test_the_opposite_is_no_and_not_unclear(tier):
  def worse(seed, arms):
    for rows in arms["F"]["by_budget"].values():
      rows["edit_similarity"] = [x - 0.3 for x in rows["edit_similarity"]]
    arms["F"]["use"]["forced"]["rote_share"] = 0.95 + 0.003 * seed
    for line in arms["F"]["held"]:
      if "held_gain" in line and line["step"] > 320:
        line["held_gain"] -= 0.2

  words = {name: v.word for name, v in judged(changed(tier, worse)).items()}
  assert words == dict.fromkeys(("H1", "H2", "H3a", "H3b", "H4", "H5"), "no")


def test_what_was_not_run_keeps_its_place_in_the_family(tier):
  def drop(seed, arms):
    del arms["B5"], arms["B2"]

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
  assert judged(less)["H2"].row.seeds == (1, 2, 3, 4)


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


def test_what_relaxation_left(tier):
  after, before = stored.retained(tier, "F")
  # The window in which the constraints went is of neither kind: its 0.9 is out.
  assert before[0] == pytest.approx([0.5])
  assert after[0] == pytest.approx([0.49])
  # The line of a log has another phase: the curriculum's may go by its name.
  named = [
    {("curriculum_phase" if k == "phase" else k): v for k, v in x.items()}
    for x in looks()
  ]
  assert stored.looks({"held": named}) == [
    x | {"curriculum_phase": x["phase"]} if "inject" in x else x
    for x in stored.looks({"held": looks()})
  ]
  never = changed(tier, lambda _, arms: arms["F"].update(
    held=looks(relaxed=False)
  ))  # fmt: skip
  assert stored.retained(never, "F") == ({}, {})
  assert "was not relaxed" in judged(never)["H5"].word
  short = changed(tier, lambda _, arms: arms["F"].update(
    held=[x for x in looks() if x["step"] <= 400]
  ))  # fmt: skip
  assert stored.retained(short, "F") == ({}, {})  # four free looks


def test_english_tokens_at_equal_quality():
  curve, budgets = np.array([0.1, 0.3, 0.3]), (2, 8, 16)
  needed = lambda gain, k: tables.tokens_needed(gain, k, curve, budgets)
  assert needed(0.2, 2) == "2.00"  # half way from 2 to 8 is 4
  assert needed(0.3, 4) == "2.00"  # the first 8, not the 16
  assert needed(0.1, 4) == "0.50"
  assert needed(0.05, 4) == "< 0.50"
  assert needed(0.31, 4) == "> 4.00"


def test_channel_and_two_part_length(tier):
  # 2 ids and k = 4: 1 + 2 + 4 + 8 + 16 codes. 24 - 16 bits are saved.
  run = {"bounds": {"channel_bits_by_k": {"1": math.log2(3)}}}
  small = tier._replace(runs={0: run})
  assert stored.ids(small) == 2
  eta, two_part = tables.budget_tables(small)[5::2]
  row = next(x for x in eta.splitlines() if x.startswith("| E1 "))
  cells = row.split(" | ")
  assert cells[2] == f"{8 / math.log2(31):.3f} ± 0.000"
  row = next(x for x in two_part.splitlines() if x.startswith("| E1 "))
  # 2 tokens of 1 bit and 18 bits; 8 and 12; none and 24.
  assert [x.split()[0] for x in row.strip("| ").split(" | ")] == [
    "E1", "20.0", "20.0", "20.0", "24.0",
  ]  # fmt: skip
  assert stored.ids(tier) == 120  # what cdv_tiny's own bounds say
  assert stored.ids(tier._replace(name="text", runs={})) is None


def test_the_ledger_sums_to_its_total():
  runs = [summary(0), summary(1)]
  ledgers = [x["ledger"]["phases"] for x in runs]
  want = np.mean([
    sum(entry["flops"] for arm in x.values() for entry in arm.values())
    for x in ledgers
  ])  # fmt: skip
  table = costs.phases_table(ledgers, "flops")
  assert "| V |" in table and "| base |" in table
  last = table.splitlines()[-1].strip("| ").split(" | ")
  assert last[0] == "**all**"
  assert last[-1] == costs.drawing.short(want)
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
  for seed, found in tier.found.items():
    write(folder, f"facts-{seed}", found)
  write(folder, "facts-10", tier.found[0])  # on which settings were picked
  for seed, run in tier.runs.items():
    write(folder, f"facts-{seed}-run", run)
  arms = {name: arm("F", 0) for name in ("none_4", "BL_4")}
  for found in arms.values():
    found["by_budget"] = {"8": found["by_budget"]["8"]}
    del found["codes"], found["questions"]
  arms["BL_4"]["held"] = [
    x | ({"held_rote_share": 0.1} if "held_gain" in x else {}) for x in looks()
  ]
  write(folder, "append-0", result(0) | {"budgets": [8], "arms": arms})
  matrix = {"F": {"matrix": [[0.9, 0.1], [0.2, 0.8]]}}
  (folder / "results" / "facts-crossplay.json").write_text(json.dumps(matrix))
  printed = analyse.analyse(folder)
  return folder, printed


def test_the_report(folder):
  folder, printed = folder
  text = (folder / "table.md").read_text()
  assert printed.startswith(text)
  assert "Seeds 10: not registered, left out." in text
  assert "B5" in text and "**yes**" in text and "**no**" in text
  assert "not run: no results/text-SEED.json.gz." in text
  assert "| BL | 4 | 0.50 → 0.50 → 0.50 |" in text
  assert "Rote share at the end by seed: none_4 0.30; BL_4 0.10." in text
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
    assert f"not run: no results/{name}-SEED.json.gz" in printed
  assert not list(tmp_path.glob("*.svg"))
  assert "Figure 8_crossplay: not run" in printed


def test_other_budgets_than_registered_are_refused(tmp_path, tier):
  (tmp_path / "registration.json").write_text(json.dumps(REGISTERED))
  found = tier.found[0] | {"budgets": [2, 4]}
  write(tmp_path, "facts-0", found)
  with pytest.raises(ValueError, match="not the registered"):
    analyse.analyse(tmp_path)
  write(tmp_path, "facts-1", tier.found[1])
  with pytest.raises(ValueError, match="differ by seed"):
    analyse.analyse(tmp_path)


def test_the_stored_registration_can_be_judged(tier):
  """Names and tests of the real one are known here."""
  registered = json.loads((FOLDER / "registration.json").read_text())
  best, _ = contrasts.best_english(tier, registered | REGISTERED)
  found = contrasts.verdicts(tier, registered | {"draws": 200}, best)
  assert {v.row.name for v in found} == {"H1", *registered["family"]}
  rows = contrasts.exploratory(tier, registered | {"draws": 200}, best)
  assert len(rows) == len(registered["exploratory"])
