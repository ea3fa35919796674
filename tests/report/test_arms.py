"""Which arm a report is about, from config.report and summary.json alone."""

import itertools
import pathlib
import re

import pytest
from helpers import made_up
from helpers.made_run import (
  VOCABULARY,
  fake_metrics,
  fake_summary,
  scores,
  vocabulary_config,
  vocabulary_metrics,
  vocabulary_summary,
)
from matplotlib.colors import to_hex

from rsrc_jax.report import (
  arms,
  figures,
  held_out,
  heldout_table,
  page,
  rsrc_sentences,
  rsrc_table,
  run_files,
  series,
  style,
  survival_map,
)
from rsrc_jax.report.verdict import verdict

LIBRARY = pathlib.Path(arms.__file__).parents[1]


def vocabulary_run(**report) -> run_files.Run:
  return run_files.of(
    "rv-0",
    config=vocabulary_config(**report),
    summary=vocabulary_summary(),
    metrics=vocabulary_metrics(),
  )


def test_the_default_is_the_arm_code_against_the_english_ones():
  for config in ({}, {"arms": {name: {} for name in style.ARMS}}):
    found = arms.of(fake_summary(), config, fake_metrics())
    assert found.headline == found.controls == "code"
    assert found.baselines == found.expected == style.ENGLISH
    assert list(found.looks.items()) == list(style.ARMS.items())
    assert (found.who, found.rivals) == ("the code", "English")


def test_both_layouts_of_a_summary_say_the_same():
  old, new = fake_summary(), fake_summary()
  old["heldout"]["free"] = new["heldout"]["free"] = scores(20.0)
  new["heldout"]["arms"] = {
    n: new["heldout"][n] for n in ("code", "free")
  } | new["heldout"]["english"]
  new["report"] = {"headline": "code", "controls": "code"}
  assert held_out.arms(old) == held_out.arms(new)
  assert arms.of(old) == arms.of(new)
  assert verdict(old, arms.of(old)) == verdict(new, arms.of(new))
  assert heldout_table.rows_of(old, arms.of(old)) == heldout_table.rows_of(
    new, arms.of(new)
  )


def test_an_arm_may_bear_the_name_of_a_reserved_key():
  summary = vocabulary_summary("controls")
  summary["heldout"]["arms"]["controls"] = scores(15.0)
  found = arms.of(summary)
  assert found.headline == "controls"
  row = heldout_table.rows_of(summary, found)[0]
  assert (row.group, row.scores) == ("headline", scores(15.0))


def test_arms_of_any_name_get_a_verdict_and_controls():
  run = vocabulary_run()
  outcome, sentences = verdict(run.summary, run.arms)
  text = " ".join(sentences)
  # 14.6 - 11.3 of E5; 24 - -5.4 - (24 - 14.6) = 20.0 bits.
  assert outcome == "won"
  assert "14.60 for F, 11.30 for the best English arm (E5)" in text
  assert "F is 3.30 bits better" in text
  assert "the code of another source costs D 20.00 bits" in text
  assert "not run" not in text
  made = page.page(run)
  assert "<h2>F wins on this run</h2>" in made
  assert '<tr class="headline rule"><th scope="row" class="arm-F">' in made
  groups = {r.group: [] for r in heldout_table.rows_of(run.summary, run.arms)}
  for row in heldout_table.rows_of(run.summary, run.arms):
    groups[row.group].append(row.name)
  assert groups["baseline"] == ["E1", "E2", "E3", "E3o", "E4", "E5"]
  assert set(groups["other"]) == set(VOCABULARY) - {"F", *groups["baseline"]}


def test_config_names_headline_and_baselines():
  run = vocabulary_run(headline="F_ask", baselines=["B1", "B5", "gone"])
  outcome, sentences = verdict(run.summary, run.arms)
  text = " ".join(sentences)
  assert outcome == "won" and "for the best baseline (B5)" in text  # 13.0
  assert "Baselines that were not run: gone." in text
  assert "The controls are those of F. Control:" in text
  assert "The controls alter the codes of F." in page.page(run)
  # A control of another arm that fails takes no win away.
  run.summary["heldout"]["controls"]["shuffled_code"] = scores(14.6)
  outcome, sentences = verdict(run.summary, run.arms)
  assert outcome == "won" and "The controls are those of F. Warning:" in (
    " ".join(sentences)
  )
  nobody = vocabulary_run(headline="nobody")
  assert verdict(nobody.summary, nobody.arms) == (
    "none", ["Held-out results of nobody are missing."]
  )  # fmt: skip


def test_older_runs_without_an_arm_code_have_no_headline():
  summary = vocabulary_summary(None)
  found = arms.of(summary, vocabulary_config())
  assert found.headline is None and found.controls is None
  outcome, (sentence,) = verdict(summary, found)
  assert outcome == "none" and "config.report.headline" in sentence
  assert "No verdict" in page.page(run_files.of(summary=summary))
  # A newer run whose config names no arm of it writes empty names.
  summary["report"] = {"headline": "", "controls": ""}
  assert arms.of(summary, vocabulary_config())[:2] == (None, None)
  # The choice can be made later, in config.json.
  found = arms.of(summary, vocabulary_config(headline="F"))
  outcome, sentences = verdict(summary, found)
  assert outcome == "won" and "Not controlled" in " ".join(sentences)


def test_every_arm_has_looks_of_its_own():
  looks = vocabulary_run().arms.looks
  assert set(VOCABULARY) <= set(looks)
  drawn = [(looks[n].color, looks[n].marker) for n in VOCABULARY]
  assert len(set(drawn)) == len(drawn)
  colors = [color for color, _ in drawn]
  assert len(set(colors)) == len(colors) and style.FAINT not in colors
  assert looks["F"].color == style.ARMS["code"].color  # the headline's
  many = {"arms": {f"a{i}": {} for i in range(100)} | {"sft": {}}}
  looks = arms.of({}, many).looks
  drawn = [(looks[n].color, looks[n].marker) for n in many["arms"]]
  assert len(set(drawn)) == len(drawn)
  others = [color for name, (color, _) in zip(many["arms"], drawn, strict=True)
            if name != "sft"]  # fmt: skip
  assert style.ARMS["sft"].color not in others


def test_looks_come_from_the_config():
  chosen = {"F": {"label": "forced", "color": "teal", "marker": "*"},
            "E1": {"label": "lead <b>"}}  # fmt: skip
  run = vocabulary_run(arms=chosen)
  assert run.arms.looks["F"][:3] == ("forced", to_hex("teal"), "*")
  assert run.arms.looks["E1"].label == "lead <b>"
  made = page.page(run)
  assert "<h2>Forced wins on this run</h2>" in made and "<b>forced</b>" in made
  assert "lead &lt;b&gt;" in made and ".arm-F{--arm:#008080}" in made
  # Nobody else has the colour, and known arms can be called otherwise.
  assert sum(x.color == to_hex("teal") for x in run.arms.looks.values()) == 1
  config = {"report": {"arms": {"code": {"label": "RSRC"}}}}
  found = arms.of(fake_summary(), config)
  assert found.who == "RSRC" and found.looks["code"].color == "#d55e00"


def test_looks_that_cannot_be_drawn_are_named():
  run = vocabulary_run(
    arms={"F": {"color": "red;}</style>", "marker": "no"}, "E1": None}
  )
  assert run.arms.looks["F"].color == style.ARMS["code"].color
  assert len(run.missing) == 2
  assert "config.report.arms.F.color" in run.missing[0]
  assert "</style>;" not in page.page(run)


def test_lines_of_any_arms_are_drawn_and_named_apart():
  run = vocabulary_run()
  left, right = figures.over_steps(
    run.metrics, run.arms, figures.NOVEL, figures.HIDDEN
  ).axes
  assert {t.get_text() for t in left.texts} == set(VOCABULARY)
  # English arms of this run are not under the curriculum either.
  english = {n for n in VOCABULARY if n[0] == "E"}
  assert {t.get_text() for t in right.texts} == set(VOCABULARY) - english
  heights = sorted(t.xy[1] for t in left.texts)
  assert min(b - a for a, b in itertools.pairwise(heights)) > 0.05
  (front,) = (t for t in left.texts if t.get_fontweight() == "bold")
  assert front.get_text() == "F"


def test_rsrc_is_about_the_headline():
  block = made_up.fake_rsrc()
  block["arms"]["F"] = made_up.trained(50.0, "code")
  block["arms"]["B1"] = made_up.trained(44.0, "code")
  summary = fake_summary() | {"rsrc": block}
  found = arms.of(summary, {"report": {"headline": "F", "baselines": ["B1"]}})
  text = " ".join(rsrc_sentences.rsrc_sentences(summary, found))
  assert text.startswith("F saves 50.0 of 84.0 bits a sample")
  # 50 - 44.
  assert "The best baseline (B1) saves k = 44.0" in text
  assert "F saves 6.00 more" in text
  rows = rsrc_table.rsrc_rows(summary, found)
  assert [(r[0], r[1]) for r in rows[:3]] == [
    ("headline", "F"), ("code", "code"), ("code", "B1")
  ]  # fmt: skip
  (mark,) = (p for p in survival_map.marks(summary, found) if p["name"] == "B1")
  assert mark["label"] == "B1"
  nobody = arms.of(summary, {"report": {"headline": "gone"}})
  assert rsrc_sentences.rsrc_sentences(summary, nobody) == [
    "RSRC (ours) was not computed for gone."
  ]


@pytest.mark.parametrize("key", series.LOGGED)
def test_what_figures_read_is_what_training_logs(key):
  """A key that is renamed where it is logged would leave a figure empty."""
  names = "|".join((key, *(n.removeprefix("C_") for n in series.LOGGED[key])))
  logged = re.compile(rf"""["'}}_](?:{names})["']|\b(?:{names})[=:]""")
  folders = ("rl", "ops", "patterns", "evaluation", "accounting", "runtime")
  files = [LIBRARY / "train.py"]
  files += [p for folder in folders for p in (LIBRARY / folder).glob("*.py")]
  assert any(logged.search(path.read_text(encoding="utf-8")) for path in files)
