"""The page of a report: a small run directory of plausible numbers in."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from helpers.made_run import (
  accounted,
  fake_metrics,
  fake_samples,
  fake_summary,
  make_run,
  scores,
)
from helpers.policy import obeys

from rsrc_jax.report import (
  arms,
  page,
  rsrc_sentences,
  rsrc_table,
  run_files,
  run_report,
  samples_section,
  style,
)


def page_of(folder: pathlib.Path) -> str:
  """The page without its figures, which take most of the time."""
  return page.page(run_files.load(folder))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> pathlib.Path:
  """A finished run with its report."""
  folder = make_run(
    tmp_path_factory.mktemp("runs") / "facts",
    summary=fake_summary(),
    metrics=fake_metrics(),
    samples=fake_samples(),
  )
  run_report.write(folder)
  return folder


def test_page_is_self_contained_and_names_every_arm(run_dir):
  page = (run_dir / "report.html").read_text()
  obeys(page)
  targets = re.findall(r'(?:src|href)="([^"]*)"', page)
  assert targets, "matplotlib draws with references"
  assert all(target.startswith("#") for target in targets)
  assert "<script" not in page and "@import" not in page
  assert not re.findall(r"url\((?!#)", page)
  for look in style.ARMS.values():
    assert f"<b>{look.label}</b>" in page
  assert page.count("<svg") == 4
  ids = re.findall(r' id="([^"]*)"', page)
  assert len(ids) == len(set(ids))
  assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)
  assert "incomplete" not in page
  names = {path.name for path in (run_dir / "figures").iterdir()}
  assert names == {
    f"{name}.{ending}"
    for name in ("budget", "learning", "vocabulary", "length")
    for ending in ("svg", "png")
  }


def test_same_run_gives_the_same_bytes(run_dir):
  files = [run_dir / "report.html", *sorted((run_dir / "figures").iterdir())]
  before = [path.read_bytes() for path in files]
  run_report.write(run_dir)
  assert [path.read_bytes() for path in files] == before


def test_jax_is_not_imported():
  code = (
    "import sys, rsrc_jax.report.run_report, rsrc_jax.report.codes_text\n"
    "sys.exit('jax' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_all_text_is_escaped(tmp_path):
  hostile = "<script>\"&'\u202e\x1b[31m"
  samples = fake_samples()[:1]
  samples[0] |= {
    key: [hostile, "\ud800\x00", "Ψ"]
    for key in ("code_pieces", "decoded_pieces", "code_ids")
  }
  samples[0] |= {"arm": hostile, "source": hostile, "row": hostile}
  samples[0]["scores"] = {hostile: 1.0}
  summary = fake_summary()
  summary |= {"seed": hostile, "source": hostile}
  summary["heldout"]["english"][hostile] = scores(3.0)
  metrics = [{"phase": hostile, "split": "train", "step": 1, "loss": 2.0}]
  page = run_report.write(
    make_run(tmp_path, summary=summary, metrics=metrics, samples=samples)
  ).read_text()
  assert "<script" not in page
  obeys(page)
  assert "&lt;script&gt;&quot;&amp;" in page
  assert "\\ud800\\u0000" in page and ">Ψ<" in page


def test_interrupted_run_says_what_is_missing(tmp_path):
  folder = make_run(tmp_path, metrics=fake_metrics())
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "code", "st')
  page = run_report.write(folder).read_text()
  assert "summary.json is missing. The run is still going" in page
  assert "No verdict" in page and "the figure “budget”" in page
  assert "samples.jsonl is missing" in page
  assert "1 unreadable line" in page
  assert "English RL" in page  # what was logged is drawn and tabled


def test_nothing_at_all_still_gives_a_page(tmp_path):
  page = run_report.write(tmp_path).read_text()
  for name in ("config", "environment", "summary"):
    assert f"{name}.json is missing" in page


@pytest.mark.parametrize(
  "metrics", [[], [{"phase": "code", "split": "train", "step": 1}, {}]]
)
def test_empty_metrics(tmp_path, metrics):
  folder = make_run(tmp_path, summary=fake_summary(), metrics=metrics)
  assert "The code wins" in run_report.write(folder).read_text()


def test_differences_are_marked_against_the_source():
  sample = {
    "source_pieces": ["a", "b", "c", "d"],
    "decoded_pieces": ["a", "x", "c"],
  }
  assert samples_section._difference(sample) == (
    "a <del>x</del> <ins>b</ins> c <ins>d</ins>"
  )
  sample = {
    "source_pieces": ["▁re", "d", "▁lamp", "s"],
    "decoded_pieces": ["▁re", "d", "▁lamp", "ed"],
  }
  # Parts of a word stay together.
  assert samples_section._difference(sample) == (
    "red lamp<del>ed</del><ins>s</ins>"
  )


@pytest.fixture(scope="module")
def accounted_dir(tmp_path_factory) -> pathlib.Path:
  """A run with ledger and RSRC, and its report."""
  metrics = fake_metrics()
  for line in metrics:
    line |= {"flops": 1e9 * line["step"], "joules": 0.3 * line["step"]}
  folder = make_run(
    tmp_path_factory.mktemp("runs") / "accounted",
    summary=accounted(),
    metrics=metrics,
    samples=fake_samples(),
  )
  run_report.write(folder)
  return folder


def test_older_runs_have_no_empty_sections(run_dir):
  page = (run_dir / "report.html").read_text()
  assert "<h2>Ledger" not in page and "<h2>RSRC" not in page
  summary = fake_summary()
  assert rsrc_sentences.rsrc_sentences(summary, arms.of(summary)) == []
  assert rsrc_table.rsrc_rows(summary, arms.of(summary)) == []


def test_page_with_a_ledger_is_self_contained(accounted_dir):
  page = (accounted_dir / "report.html").read_text()
  assert len(obeys(page).scripts) == 1
  targets = re.findall(r'(?:src|href)="([^"]*)"', page)
  assert targets and all(target.startswith("#") for target in targets)
  assert page.count("<script") == page.count("</script>") == 2
  assert page.count("<h2>RSRC (ours)</h2>") == 1
  assert page.count("<h2>Ledger</h2>") == 1
  assert page.count("<svg") == 7  # the four, compute, the ledger's, the map
  ids = re.findall(r' id="([^"]*)"', page)
  assert len(ids) == len(set(ids))
  names = {path.name for path in (accounted_dir / "figures").iterdir()}
  assert {f"survival_map.{x}" for x in ("png", "svg", "csv", "json")} <= names
  assert {"ledger.svg", "compute.svg"} <= names
  # What the script is given is what the map is drawn from.
  found = re.search(r'id="survival-map-data">(.*?)</script>', page, re.S)
  drawn = json.loads((accounted_dir / "figures/survival_map.json").read_text())
  assert json.loads(found.group(1))["points"] == drawn["points"]
  files = [*sorted((accounted_dir / "figures").iterdir())]
  before = [path.read_bytes() for path in files]
  run_report.write(accounted_dir)
  assert [path.read_bytes() for path in files] == before
  assert (accounted_dir / "report.html").read_text() == page


def test_a_section_from_a_file_is_added_by_config(tmp_path):
  """A toy section outside of the package: no file of the package is edited."""
  mine = tmp_path / "mine.py"
  mine.write_text(
    "from rsrc_jax.report import html\n"
    "def section(run):\n"
    "  best = run.summary['heldout'][run.arms.headline]['bits_conveyed']\n"
    "  files = len(list(run.folder.iterdir()))\n"
    "  facts = f'{len(run.samples)} samples, {len(run.metrics)} lines, '\n"
    "  facts += f'{best} bits, seed {run.config[\"seed\"]}, {files} files'\n"
    "  return html.section('Mine', facts)\n"
  )
  broken = tmp_path / "broken.py"
  broken.write_text("def section(run):\n  return run.summary['<gone>']\n")
  paths = [str(mine), str(broken), str(tmp_path / "absent.py")]
  folder = make_run(
    tmp_path / "run",
    summary=fake_summary(),
    samples=fake_samples(),
    report={"sections": paths},
  )
  made = page_of(folder)
  assert (
    "<h2>Mine</h2>\n15 samples, 0 lines, 16.4 bits, seed 0, 4 files" in made
  )
  # What another's file does wrong is on the page, and costs nothing else.
  assert "broken.py</h2>" in made and "KeyError: &#x27;&lt;gone&gt;" in made
  assert "FileNotFoundError" in made and "The code wins" in made


def test_the_page_is_its_sections(tmp_path):
  run = run_files.load(make_run(tmp_path, summary=fake_summary()))
  made = page.page(run)
  at = 0
  for make in page.SECTIONS:
    at = made.index(make(run), at)


def test_a_run_that_has_ended_is_shown(tmp_path):
  folder = make_run(tmp_path, summary=accounted(), metrics=fake_metrics()[:80])
  path, tables = run_report.show(accounted(), folder)
  assert path == tmp_path / "report.html" and path.exists()
  titles = [str(table.title) for table in tables]
  assert titles[0] == "Held-out results: the code wins on this run"
  assert titles[1].startswith("RSRC (ours)") and len(titles) == 2
