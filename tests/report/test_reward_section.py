"""What a report says of rewards and of the curve, from made-up files."""

import json

import pytest
from helpers.made_run import fake_metrics, fake_summary, make_run
from helpers.policy import obeys

from rsrc_jax.report import (
  arms,
  curve_figure,
  curve_table,
  figures,
  page,
  reward_section,
  reward_sentences,
  reward_table,
  run_files,
  run_report,
)

CONFIG = {
  "verifier": {"slots": 0.0, "edit": 3.0, "reader": 1.0},
  "shaping": {"gain": 4.0, "ratio": 0.0},
  "arms": {
    "code": {"pattern": "cdv"},
    "english_rl": {"pattern": "cdv", "overrides": [["shaping.gain", 0.0]]},
  },
}


def rewarded(word=0.4, dead=0.0, arm="code"):
  """Windows of 20 steps, of which V pays a share."""
  return [
    {"phase": arm, "split": "train", "step": step, "C_share_verifier": word,
     "C_share_shaping": 1 - word, "C_dead_groups": dead, "C_reward_std": 0.125,
     "C_spread_bonus": 0.0, "D_dead_groups": 0.0}
    for step in range(20, 220, 20)
  ]  # fmt: skip


def curve():
  """Rows of two arms, out of order: bits are 4 a token, or 2."""
  return [
    {"arm": arm, "budget": k, "mean_tokens": t, "bits_conveyed": bits * t,
     "exact": 0.004 * t, "edit_similarity": 0.1 * t, "novel_fraction": 0.5,
     "bits_per_token": bits, "channel_bits": 7.0 * t,
     "bits_per_channel_bit": bits / 7}
    for arm, bits in (("english_rl", 2.0), ("code", 4.0))
    for k, t in ((None, 3.5), (6, 6.0), (2, 2.0))
  ]  # fmt: skip


def of(**files):
  return run_files.of(**{"config": CONFIG, **files})


def test_which_v_was_used_is_said_by_arm_with_its_weights():
  assert reward_sentences.weights(CONFIG, "code") == {
    "edit": 0.375, "reader": 0.125, "gain": 0.5,
  }  # fmt: skip
  labels = {"code": "code", "english_rl": "English RL"}
  assert reward_sentences.used(CONFIG, labels) == [
    "V of code weighs edit 0.38, reader 0.12; D's likelihood is shaping "
    "(gain 0.50).",
    "V of English RL weighs edit 0.75, reader 0.25; D's likelihood is not "
    "paid.",
  ]
  # In older runs the likelihood stood among V's words: it is none of them.
  old = {"verifier": {"edit": 0.0, "gain": 1.0, "ratio": 0.0}}
  assert reward_sentences.used(old, labels) == [
    "V is not heard; all is shaping by D's likelihood (gain 1.00)."
  ]
  assert reward_sentences.used({}, labels) == []


def test_less_than_one_half_is_a_warning_and_one_half_is_none():
  text = lambda lines: " ".join(
    reward_sentences.sentences(of(metrics=lines), reward_table.rows(
      of(metrics=lines)))
  )  # fmt: skip
  few = text(rewarded(0.4) + rewarded(0.75, arm="english_rl"))
  assert (
    "Warning: V's word on sampled outputs paid 0.40 of the spread of reward of "
    "code, less than one half."
  ) in few
  assert "of English RL, less" not in few and "in every arm" not in few
  enough = text(rewarded(0.5) + rewarded(0.75, arm="english_rl"))
  assert "Warning" not in enough and "in every arm: 0.50 or more." in enough


def test_what_the_summary_says_of_shares_goes_before_the_lines():
  summary = {"reward_shares": {"code": {"verifier": 0.25, "reader": 0.5,
             "price": 0.25}}, "dead_groups": {"code": 0.125}}  # fmt: skip
  (row,) = reward_table.rows(of(summary=summary))
  assert (row.word, row.dead, row.std) == (0.75, 0.125, None)
  (row,) = reward_table.rows(of(summary=summary, metrics=rewarded(0.1)))
  assert (row.word, row.std, row.role) == (0.75, 0.125, "C")
  assert reward_table.cells(row, [row]) == [
    "C", "0.25", "0.50", "0.25", "0.75", "0.12", "0.12",
  ]  # fmt: skip
  assert [x for x, _ in reward_table.head([row])] == [
    "verifier", "reader", "price", "V's word", "dead groups", "reward std",
  ]  # fmt: skip


def test_dead_groups_are_told_of_from_the_lines_alone():
  """A run that was resumed, or whose terminal is gone, shows them as well."""
  lines = rewarded(dead=0.75)
  made = reward_section.rewards(of(metrics=lines))
  assert (
    "Warning: code: 75 % of C&#x27;s groups were dead over 100 steps up to step"
    " 100"
  ) in made and "config.patterns.cdv.group" in made
  assert "D&#x27;s groups" not in made
  assert "were dead" not in reward_section.rewards(of(metrics=lines[:4]))


def test_the_readers_numbers_are_said():
  block = {"word": 0.625, "attacks": {"empty": 0.0, "template": 0.0042},
           "least": 0.3, "tolerance": 0.01, "steps": 400}  # fmt: skip
  said = lambda block: reward_sentences.sentences(
    of(summary={"reader": block}), []
  )
  (text,) = said(block)
  assert text.startswith("The frozen reader's word is 0.62 for s itself, ")
  assert "4.2×10⁻³ at most for a d that says nothing of s (template)" in text
  assert said({"word": 0.5}) == said(None) == []


def test_rows_of_the_curve_are_in_order():
  summary = {"curve": curve()}
  found = curve_table.rows(summary, arms.of(summary))
  assert [(x["arm"], curve_table.asked(x)) for x in found] == [
    ("code", "2"), ("code", "6"), ("code", "free"),
    ("english_rl", "2"), ("english_rl", "6"), ("english_rl", "free"),
  ]  # fmt: skip
  exact = {x.key: x for x in curve_table.COLUMNS}["exact"]
  shown = [curve_table.shown(x, exact) for x in (0.004, 0.024, 1.0, 0.0, None)]
  assert shown == ["0.4\xa0%", "2.4\xa0%", "100\xa0%", "0\xa0%", "—"]


@pytest.mark.parametrize("known", [True, False])
def test_the_figure_of_the_curve_is_over_mean_tokens(known):
  rows = curve()
  for row in rows if not known else ():
    row["bits_conveyed"] = None
  summary = {"curve": rows, "entropy_bits": 24.0}
  left, right = curve_figure.curve(summary, arms.of(summary)).axes
  assert left.get_xscale() == right.get_xscale() == "log"
  key = "bits_conveyed" if known else "exact"
  for axes, name in ((left, key), (right, "edit_similarity")):
    drawn = {
      tuple(map(tuple, x.get_xydata().round(6))) for x in axes.get_lines()
    }
    for arm in ("code", "english_rl"):
      own = {x["budget"]: (x["mean_tokens"], x[name]) for x in rows
             if x["arm"] == arm}  # fmt: skip
      own = {k: tuple(round(z, 6) for z in xy) for k, xy in own.items()}
      assert (own[2], own[6]) in drawn and (own[None],) in drawn
  assert {"code", "English RL"} <= {x.get_text() for x in left.texts}


def test_a_run_with_all_of_it_has_two_sections_and_two_tables(tmp_path):
  summary = fake_summary() | {"curve": curve()}
  folder = make_run(
    tmp_path / "run", summary=summary, metrics=[*fake_metrics(), *rewarded()]
  )
  (folder / "config.json").write_text(json.dumps(CONFIG))
  path, tables = run_report.show(summary, folder)
  made = path.read_text()
  obeys(made)
  assert made.count("<h2>Rewards</h2>") == made.count("<h2>Curve</h2>") == 1
  assert "paid 0.40 of the spread" in made
  titles = [str(x.title).split(":")[0] for x in tables]
  assert titles == ["Held-out results", "Curve", "Rewards"]
  # The curve takes the place of the figure of budgets.
  drawn = {x.stem for x in (folder / "figures").iterdir()}
  assert "curve" in drawn and "budget" not in drawn


def test_older_runs_have_neither(tmp_path):
  folder = make_run(
    tmp_path / "run", summary=fake_summary(), metrics=fake_metrics()
  )
  run = run_files.load(folder)
  assert reward_section.rewards(run) == reward_section.curve(run) == ""
  assert reward_table.table(run) is curve_table.table(run) is None
  assert "budget" in figures.makers(run) and "curve" not in figures.makers(run)
  made = page.page(run)
  assert "<h2>Rewards" not in made and "<h2>Curve" not in made
