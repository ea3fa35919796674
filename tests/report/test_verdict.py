"""The verdict and the tables of held-out results."""

import io
import pathlib

from helpers.made_run import (
  fake_metrics,
  fake_summary,
  make_run,
  scores,
  without_bits,
)
from rich.console import Console

from rsrc_jax.report import (
  arms,
  heldout_table,
  page,
  run_files,
  run_report,
  style,
)
from rsrc_jax.report.verdict import verdict


def verdict_of(summary: dict) -> tuple[str, list[str]]:
  """Of a run whose config says nothing of reports."""
  return verdict(summary, arms.of(summary))


def page_of(folder: pathlib.Path) -> str:
  return page.page(run_files.load(folder))


def printed(table) -> str:
  stream = io.StringIO()
  Console(file=stream, width=140).print(table)
  return stream.getvalue()


def test_missing_arms_are_named(tmp_path):
  summary = fake_summary()
  del summary["heldout"]["english"]["english_rl"]
  del summary["heldout"]["controls"]
  del summary["heldout"]["budget_curve"]
  page = page_of(make_run(tmp_path, summary=summary))
  assert "English arms that were not run: English RL." in page
  assert "Not controlled" in page
  del summary["heldout"]["code"]
  outcome, sentences = verdict_of(summary)
  assert outcome == "none" and "no arm “code”" in sentences[0]


def test_other_arms_stand_beside_the_comparison(tmp_path):
  summary = fake_summary()
  summary["heldout"]["free"] = scores(20.0, 0.7)
  assert verdict_of(summary) == verdict_of(fake_summary())
  page = page_of(make_run(tmp_path, summary=summary))
  assert "<b>free</b>" in page and "20.00" in page


def test_verdict_compares_with_the_best_english_arm():
  outcome, sentences = verdict_of(fake_summary())
  text = " ".join(sentences)
  assert outcome == "won"
  # 16.4 - 12.6 of English RL, the best of the four.
  assert "3.80 bits better" in text and "English RL" in text
  assert "above what k content words" in text
  assert "proves nothing over seeds" in text


def test_verdict_says_that_the_code_lost(tmp_path):
  summary = fake_summary()
  summary["heldout"]["code"] = scores(11.1, 0.81)
  outcome, sentences = verdict_of(summary)
  assert outcome == "lost"
  assert "1.50 bits worse" in sentences[0]  # 11.1 - 12.6
  assert "not above what k content words" in " ".join(sentences)
  page = page_of(make_run(tmp_path, summary=summary))
  assert "The code loses on this run" in page
  summary["heldout"]["code"] = scores(12.601, 0.81)
  assert verdict_of(summary)[0] == "level"  # both are printed as 12.60


def test_verdict_warns_of_leaks():
  summary = fake_summary()
  summary["heldout"]["code"] = scores(22.0, 0.8)
  summary["heldout"]["controls"]["shuffled_code"] = scores(22.0, 0.8)
  outcome, sentences = verdict_of(summary)
  text = " ".join(sentences)
  assert outcome == "void"  # ahead of English, but not by its code
  assert "more than its tokens can carry (21.00 bits)" in text
  assert "costs D only 0.00 bits" in text


def test_without_bits_nll_and_edit_similarity_have_to_agree(tmp_path):
  summary = without_bits(fake_summary())
  outcome, sentences = verdict_of(summary)
  assert outcome == "won"
  assert "3.80 bits of nll better" in sentences[0]
  summary["heldout"]["code"]["edit_similarity"] = 0.1
  assert verdict_of(summary)[0] == "mixed"
  summary["heldout"]["code"]["nll_bits"] = 23.0
  assert verdict_of(summary)[0] == "lost"
  metrics = [m | {"bits_conveyed": None} for m in fake_metrics()]
  folder = make_run(tmp_path, summary=summary, metrics=metrics)
  assert "The code loses" in run_report.write(folder).read_text()


def test_table_for_the_terminal():
  summary = fake_summary()
  text = printed(heldout_table.table(summary, arms.of(summary)))
  for look in style.ARMS.values():
    assert look.label in text
  assert "16.40" in text and "the code wins" in text
  assert "no verdict" in printed(heldout_table.table({}, arms.of({})))


def test_out_of_distribution_stands_beside_held_out_with_the_gap():
  """Hand-derived: 40 - 31.5 = 8.5 bits, 0.8 - 0.5 = 0.3 of the tokens."""
  score = lambda bits, right: {"verified_bits": bits, "token_accuracy": right}
  summary = {
    "heldout": {"code": score(40.0, 0.8), "controls": {"no_code": {}}},
    "strange": {"name": "<other> slots", "arms": {"code": score(31.5, 0.5)}},
  }
  named = arms.of(summary)
  assert heldout_table.ood_rows(summary, named) == [
    ("code", "verified bits", 40.0, 31.5), ("code", "tokens right", 0.8, 0.5),
  ]  # fmt: skip
  made = page.page(run_files.of("x", summary=summary))
  assert "&lt;other&gt; slots" in made and "<td>8.50</td>" in made
  text = printed(heldout_table.ood_table(summary, named))
  assert "Held-out against <other> slots" in text and "31.5" in text
  only = {"heldout": summary["heldout"]}
  assert heldout_table.ood_rows(only, named) == []
