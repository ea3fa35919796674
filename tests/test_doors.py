"""Every door, used from a file outside of the package: nothing is edited.

One shrunk run with a stage that is no RL, a rule of the user's, an evaluation,
a section of the report, and an outer loop that runs it twice. Patterns, roles
and kinds of data have toys of their own: tests/stages/test_mixing.py,
tests/data/test_kinds.py.
"""

import json
from pathlib import Path

import pytest
from helpers.runs import shrunk

from rsrc_jax.build import writers
from rsrc_jax.evaluation import evals
from rsrc_jax.report import run_report
from rsrc_jax.runtime import named
from rsrc_jax.stages import plan

DOORS = Path(__file__).resolve().parent / "helpers" / "doors"
TOYS = {x.stem: str(x) for x in DOORS.glob("toy_*.py")}


def config():
  """A stage without codes, then a rule that goes on from it."""
  found = shrunk(
    **{
      "only": "", "steps": 2, "pretrain.steps": 1, "log_every": 2,
      "eval.every": 2, "eval.budgets": (), "checkpoint.every": 2,
      "eval.rows": 16, "eval.test_rows": 16,
    }
  )  # fmt: skip
  found.arms = {
    "last": {
      "pattern": "extract", "write": TOYS["toy_writer"], "start": "lm",
    },
    "lm": {"stage": TOYS["toy_stage"]},
  }  # fmt: skip
  found.evals = {"far": {"type": TOYS["toy_evaluation"], "factor": 2.0}}
  found.report.headline = "last"
  found.report.sections = (TOYS["toy_section"],)
  found.loop = TOYS["toy_loop"]
  return found


@pytest.fixture(scope="module")
def generations(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("doors")
  loop = named.loop_of(config())
  assert loop.__file__ == TOYS["toy_loop"]
  return loop.train(config(), workdir), workdir


def test_a_stage_without_codes_is_trained_and_left_out_of_the_comparison(
  generations,
):
  found, workdir = generations
  for summary in found["generations"]:
    assert set(summary["heldout"]["arms"]) == {"last"}
    assert set(summary["rsrc"]["arms"]) >= {"last", "zlib"}
    assert "lm" in summary["ledger"]["phases"]  # and charged
  lines = [
    json.loads(x) for x in (workdir / "0/metrics.jsonl").read_text().split("\n")
    if x
  ]  # fmt: skip
  assert [x["step"] for x in lines if x["phase"] == "lm"] == [2]


def test_a_writer_of_a_file_is_an_english_arm(generations):
  found, workdir = generations
  summary = found["generations"][0]
  assert summary["report"] == {"headline": "last", "controls": "last"}
  assert set(summary["heldout"]["controls"]) == {
    "no_code", "shuffled_code", "source_given",
  }  # fmt: skip
  for text in (workdir / "0/samples.jsonl").read_text().strip().split("\n"):
    line = json.loads(text)
    assert line["code_ids"] == line["source_ids"][-3:]


def test_an_evaluation_sees_the_trained_carry_of_every_stage(generations):
  found, _ = generations
  scores = found["generations"][0]["evals"]
  assert set(scores) == {"last", "lm"}
  # Two steps of eight sources; the rule carries nothing.
  assert scores["lm"]["far"]["carry"] == 16 and scores["lm"]["far"]["norm"] > 0
  assert scores["last"]["far"] == scores["last"]["far"] | {
    "carry": 0, "arm": "last",
  }  # fmt: skip


def test_generations_share_programs_and_hand_on_what_was_learnt(generations):
  found, workdir = generations
  assert found["programs"] == {"base": 1, "lm": 1, "last": 1}
  first, second = found["generations"]
  # It goes on: the same steps from other parameters end elsewhere.
  far = [x["evals"]["last"]["far"]["norm"] for x in (first, second)]
  assert far[0] != far[1]
  assert (workdir / "1" / "summary.json").exists()


def test_the_report_has_the_section(generations):
  _, workdir = generations
  page = run_report.write(workdir / "0").read_text()
  assert "1 arms wrote codes." in page
  assert "last" in page


@pytest.mark.parametrize(
  "change, said",
  [
    (("arms.lm.stage", "no_such"), "config.arms.lm.stage='no_such'"),
    (("arms.last.write", "no_such"), "write='no_such' is none of lead"),
    (("arms.last.write", "force"), "config.arms.last.write='force'"),
    (("evals.far.type", "no_such"), "config.evals.far.type='no_such'"),
    (("evals.far.factor", None), "config.evals.far"),
    (("loop", "no.such"), "config.loop='no.such'"),
  ],
)
def test_what_is_not_there_is_named(tmp_path, change, said):
  from rsrc_jax.build.setup import make_setup

  found = config()
  if change[1] is None:
    del found.evals.far.factor
  else:
    found.update_from_flattened_dict(dict([change]))
  with pytest.raises(ValueError) as error:
    if change[0] == "loop":
      named.loop_of(found)
    setup = make_setup(found, tmp_path)
    plan.make_stages(setup)
    evals.make_all(setup)
  assert said in str(error.value) and "\n" not in str(error.value)


def test_every_row_of_writers_says_what_the_comparison_needs():
  english = {name for name, row in writers.WRITERS.items() if row.english}
  assert english == {
    "lead", "surprising", "sft", "tfidf", "oracle", "random", "source", "words",
  }  # fmt: skip
  rules = {name for name, row in writers.WRITERS.items() if row.rule}
  assert rules == english - {"source", "words"} | {"hash"}
  assert writers.WRITERS["sft"].reads_base and not writers.WRITERS["sft"].words
