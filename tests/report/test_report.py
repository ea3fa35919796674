"""The report: a small run directory of plausible numbers in, one page out."""

import copy
import html
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from helpers import made_up
from rich.console import Console

from rsrc_jax.report import (
  figures,
  heldout_table,
  ledger_table,
  page,
  rsrc_section,
  rsrc_table,
  run_report,
  style,
  survival_map,
)

BITS = {
  "lead": 8.9,
  "surprising": 8.7,
  "sft": 8.8,
  "english_rl": 12.6,
  "code": 16.4,
}
FRAME = "anna sold four red lamps to oscar in paris on friday ."


def scores(bits: float, novel: float = 0.0, k: int = 3) -> dict:
  """Scores of one arm on facts of 24 bits."""
  share = max(bits, 0.0) / 24
  return {
    "bits_conveyed": bits,
    "nll_bits": 24 - bits,
    "token_accuracy": 0.35 + 0.65 * share,
    "exact_match": share**6,
    "edit_similarity": 0.4 + 0.6 * share,
    "mean_tokens": float(k),
    "novel_fraction": novel,
  }


def fake_summary() -> dict:
  """What a finished run on facts writes."""
  heldout = {
    "code": scores(BITS["code"], 0.81),
    "english": {name: scores(BITS[name]) for name in style.ENGLISH},
    "controls": {
      "no_code": scores(-0.1, k=0),
      "shuffled_code": scores(-7.4, 0.99),
      "source_given": scores(23.9, k=12),
    },
    "budget_curve": {
      name: {
        str(k): scores(bits * (k / 3) ** 0.9, 0.8 * (name == "code"), k)
        for k in (1, 2, 3)
      }
      for name, bits in BITS.items()
    },
  }
  return {
    "seed": 0,
    "source": "facts",
    "budget_tokens": 3,
    "steps": 400,
    "seconds": 1043.2,
    "params": 421_888,
    "entropy_bits": 24.0,
    "bounds": {
      "channel_bits": 21.0,
      "english_extract_bits": 14.8,
      "english_extract_bits_by_k": {"1": 6.0, "2": 10.8, "3": 14.8},
    },
    "channel_utilisation": BITS["code"] / 21,
    "heldout": heldout,
  }


def fake_metrics() -> list[dict]:
  """Train and validation lines of the base and of five arms."""
  rng = np.random.default_rng(0)
  lines = [
    {"phase": "base", "split": "train", "step": i, "loss": 1 + 3 / (1 + i / 9)}
    for i in range(0, 400, 10)
  ]
  for name, bits in BITS.items():
    for step in range(0, 400, 4):
      done = 1 - np.exp(-step / 120)
      line = {"phase": name, "split": "train", "step": step}
      line |= {"loss": float(3 - done), "length": 3.0, "gradient_norm": 0.7}
      if name in ("code", "english_rl"):
        line |= {
          "reward": float(0.2 + bits / 30 * done + rng.normal(0, 0.04)),
          "length": float(3 - 0.2 * done + rng.normal(0, 0.03)),
          "C_entropy": float(3.5 * np.exp(-step / 200) + rng.normal(0, 0.05)),
          "novel_fraction": float(0.85 * done) if name == "code" else 0.0,
          "C_mismatch_kl": 1.3e-4,
          "steps_per_second": 1.9,
        }
      line["hidden"] = 0.9 * max(0.0, 1 - step / 240)  # every arm logs it
      lines.append(line)
      if step % 40 == 0:
        valid = scores(float(bits * done), 0.8 * (name == "code"))
        lines.append({"phase": name, "split": "valid", "step": step} | valid)
  return lines


def fake_samples() -> list[dict]:
  """Three sources, read by all arms."""
  samples = []
  for row, city in enumerate(("paris", "rome", "lima")):
    source = FRAME.replace("paris", city).split()
    for name in BITS:
      c = ["⌬", "Ψ", city] if name == "code" else [*source[3 * row :][:3]]
      d = list(source)
      if name != "code":
        d[0], d[6], d[8] = "peter", "iris", "tokyo"
      samples.append(
        {
          "arm": name,
          "row": row,
          "source": " ".join(source),
          "source_ids": list(range(12)),
          "source_pieces": source,
          "code": " ".join(c),
          "code_ids": [90, 91, 40],
          "code_pieces": c,
          "code_novel": [piece not in source for piece in c],
          "code_surprisal": [0.4, 2.2, 4.9],
          "decoded": " ".join(d),
          "decoded_pieces": d,
          "scores": {
            "nll_bits": 4.2,
            "token_accuracy": 0.75,
            "exact_match": 0.0,
            "edit_similarity": 0.75,
            "mean_tokens": 3.0,
            "novel_fraction": 0.0,
          },
        }
      )
  return samples


def make_run(
  folder: pathlib.Path,
  *,
  summary: dict | None = None,
  metrics: list[dict] | None = None,
  samples: list[dict] | None = None,
) -> pathlib.Path:
  """Writes a run directory; a part that is None is not written."""
  folder.mkdir(exist_ok=True)
  config = {"seed": 0, "model": {"layers": 2, "width": 128}, "steps": 400}
  environment = {"python": "3.11", "git": {"revision": "abc", "dirty": False}}
  objects = {
    "config": config, "environment": environment, "summary": summary
  }  # fmt: skip
  for name, value in objects.items():
    if value is not None:
      (folder / f"{name}.json").write_text(json.dumps(value))
  for name, lines in {"metrics": metrics, "samples": samples}.items():
    if lines is not None:
      text = "".join(json.dumps(line) + "\n" for line in lines)
      (folder / f"{name}.jsonl").write_text(text)
  return folder


def page_of(folder: pathlib.Path) -> str:
  """The page without its figures, which take most of the time."""
  return page.page("run", *run_report.load(folder), {})


def without_bits(summary: dict) -> dict:
  """The same run on text, whose entropy nobody knows."""
  text = json.dumps(summary)
  text = re.sub(r'"bits_conveyed": [-0-9.e]+', '"bits_conveyed": null', text)
  unknown = {"channel_bits": 21.0, "english_extract_bits": None}
  return json.loads(text) | {"entropy_bits": None, "bounds": unknown}


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
  code = "import sys, rsrc_jax.report; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_all_text_is_escaped(tmp_path):
  hostile = "<script>\"&'"
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


def test_missing_arms_are_named(tmp_path):
  summary = fake_summary()
  del summary["heldout"]["english"]["english_rl"]
  del summary["heldout"]["controls"]
  del summary["heldout"]["budget_curve"]
  page = page_of(make_run(tmp_path, summary=summary))
  assert "English arms that were not run: English RL." in page
  assert "Not controlled" in page
  del summary["heldout"]["code"]
  outcome, sentences = heldout_table.verdict(summary)
  assert outcome == "none" and "the code" in sentences[0]


def test_other_arms_stand_beside_the_comparison(tmp_path):
  summary = fake_summary()
  summary["heldout"]["free"] = scores(20.0, 0.7)
  assert heldout_table.verdict(summary) == heldout_table.verdict(fake_summary())
  page = page_of(make_run(tmp_path, summary=summary))
  assert "<b>free</b>" in page and "20.00" in page


def test_series_reads_roles_and_lets_the_last_line_count():
  line = {"phase": "code", "split": "train"}
  metrics = [
    line | {"step": 2, "C_entropy": 5.0},
    line | {"step": 1, "entropy": 3.0},
    line | {"step": 2, "C_entropy": 4.0},
    line | {"step": 3, "entropy": float("nan")},
  ]
  steps, values = figures.series(metrics, "code", "train", "entropy")
  assert steps.tolist() == [1, 2] and values.tolist() == [3, 4]


def test_verdict_compares_with_the_best_english_arm():
  outcome, sentences = heldout_table.verdict(fake_summary())
  text = " ".join(sentences)
  assert outcome == "won"
  # 16.4 - 12.6 of English RL, the best of the four.
  assert "3.80 bits better" in text and "English RL" in text
  assert "above what k content words" in text
  assert "proves nothing over seeds" in text


def test_verdict_says_that_the_code_lost(tmp_path):
  summary = fake_summary()
  summary["heldout"]["code"] = scores(11.1, 0.81)
  outcome, sentences = heldout_table.verdict(summary)
  assert outcome == "lost"
  assert "1.50 bits worse" in sentences[0]  # 11.1 - 12.6
  assert "not above what k content words" in " ".join(sentences)
  page = page_of(make_run(tmp_path, summary=summary))
  assert "The code loses on this run" in page
  summary["heldout"]["code"] = scores(12.601, 0.81)
  assert (
    heldout_table.verdict(summary)[0] == "level"
  )  # both are printed as 12.60


def test_verdict_warns_of_leaks():
  summary = fake_summary()
  summary["heldout"]["code"] = scores(22.0, 0.8)
  summary["heldout"]["controls"]["shuffled_code"] = scores(22.0, 0.8)
  outcome, sentences = heldout_table.verdict(summary)
  text = " ".join(sentences)
  assert outcome == "void"  # ahead of English, but not by its code
  assert "more than its tokens can carry (21.00 bits)" in text
  assert "costs D only 0.00 bits" in text


def test_without_bits_nll_and_edit_similarity_have_to_agree(tmp_path):
  summary = without_bits(fake_summary())
  outcome, sentences = heldout_table.verdict(summary)
  assert outcome == "won"
  assert "3.80 bits of nll better" in sentences[0]
  summary["heldout"]["code"]["edit_similarity"] = 0.1
  assert heldout_table.verdict(summary)[0] == "mixed"
  summary["heldout"]["code"]["nll_bits"] = 23.0
  assert heldout_table.verdict(summary)[0] == "lost"
  metrics = [m | {"bits_conveyed": None} for m in fake_metrics()]
  folder = make_run(tmp_path, summary=summary, metrics=metrics)
  assert "The code loses" in run_report.write(folder).read_text()


def test_differences_are_marked_against_the_source():
  sample = {
    "source_pieces": ["a", "b", "c", "d"],
    "decoded_pieces": ["a", "x", "c"],
  }
  assert page._difference(sample) == (
    "a <del>x</del> <ins>b</ins> c <ins>d</ins>"
  )
  spelled = page._join(["▁re", "d", "▁lamps"])
  assert spelled == "red lamps"


def test_labels_are_moved_apart_and_no_further():
  # 0.5 and 0.5 share their middle; 0.9 is far enough to stay.
  assert style.apart([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
  assert style.apart([], 0.1) == []


def test_table_for_the_terminal():
  stream = io.StringIO()
  Console(file=stream, width=140).print(heldout_table.table(fake_summary()))
  text = stream.getvalue()
  for look in style.ARMS.values():
    assert look.label in text
  assert "16.40" in text and "the code wins" in text
  stream = io.StringIO()
  Console(file=stream, width=140).print(heldout_table.table({}))
  assert "no verdict" in stream.getvalue()


def accounted(**changes) -> dict:
  """A finished run with a ledger; changes are of the code's RSRC entry."""
  found = {"rsrc": made_up.fake_rsrc(), "ledger": made_up.fake_ledger()}
  found["rsrc"]["arms"]["code"] |= changes
  return fake_summary() | found


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
  assert rsrc_table.rsrc_sentences(fake_summary()) == []
  assert rsrc_table.rsrc_rows(fake_summary()) == []


def test_page_with_a_ledger_is_self_contained(accounted_dir):
  page = (accounted_dir / "report.html").read_text()
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


def test_text_of_a_ledger_is_escaped():
  hostile = "</script><script>\"&'"
  summary = accounted(label=hostile, source=hostile)
  summary["rsrc"]["arms"][hostile] = summary["rsrc"]["arms"].pop("zlib")
  summary["rsrc"]["arms"][hostile] |= {"label": hostile}
  ledger_table = summary["ledger"]
  ledger_table["machine"]["name"] = ledger_table["terms"][0]["source"] = hostile
  ledger_table["phases"]["code"][hostile] = ledger_table["phases"]["code"]["C"]
  ledger_table["phases"][hostile] = ledger_table["phases"]["code"]
  ledger_table["programs"][hostile] = ledger_table["programs"]["code"]
  sections = rsrc_section.rsrc(summary, "") + rsrc_section.ledger(summary, "")
  assert sections.count("<script") == sections.count("</script>") == 2
  assert sections.count("&lt;/script&gt;&lt;script&gt;&quot;&amp;") > 5
  assert "\\u003c/script>" in sections


def test_sentences_say_how_far_zlib_is_ahead():
  text = " ".join(rsrc_table.rsrc_sentences(accounted()))
  # 45.2 / 1e-6 against 40.1 / 1.1e-3: log10(4.52e7 / 36455) = 3.09; against
  # RSRC_life, 2048 * 40.1 / (1500 + 2.25) = 54.7: log10(4.52e7 / 54.7) = 5.92.
  assert "3.1 orders of magnitude above the code's RSRC_i (ours)" in text
  assert "5.9 above its RSRC_life(n) (ours)" in text
  assert "zlib, which nobody trained, saves 45.2 bits a sample, more" in text
  assert "n* is ∞ against zlib, lzma" in text
  assert "saves 15.8 more" in text  # 40.1 - 24.3 of English RL
  # 1500 / (1500 + 2048 * 1.1e-3), and 1500 / 1.1e-3.
  assert "99.9 % of that energy" in text and "1.4×10⁶ samples" in text
  assert "a factor of 1.9 either way" in text
  assert "not the paper's" in text
  # A model that takes a thousandth of zlib's energy.
  cheap = accounted(
    rsrc_i=made_up.three(4.52e10), rsrc_life=made_up.three(4.52e9)
  )
  text = " ".join(rsrc_table.rsrc_sentences(cheap))
  assert "beats it, training included, by 2.0 orders" in text
  young = accounted(rsrc_i=made_up.three(4.52e8))
  text = " ".join(rsrc_table.rsrc_sentences(young))
  assert "1.0 orders of magnitude below" in text and "not paid yet" in text


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({}, "−3.98 [−4.42, −3.58] bits: sending s"),
    ({"bits_saved_frozen": made_up.three(7.0, 1.1)}, "saves 7.00 [6.36, 7.70]"),
    ({"bits_saved_frozen": None}, "frozen language model is unknown"),
    ({}, "∞ by joules and 9.40 by FLOPs. It does not change the picture"),
    ({"m_star": {"joules": 12.0, "flops": 9.4}}, "That changes the picture"),
    ({"m_star": {"joules": None, "flops": 3.0}}, "not known whether reuse"),
    ({"m_star": None}, "m* is unknown"),
    ({"k": 0.0, "bits_saved": made_up.three(-3.0)}, "saves −3.00 of 84.0 bits"),
    ({"rsrc_i": made_up.three(0.0)}, "no logarithm to compare"),
    (
      {"n_star": {"bz2": 1e4}},
      "n*, samples after which training has paid: bz2",
    ),
    ({"source": "rapl"}, "counted, but for code: their source is “modelled”"),
  ],
)
def test_sentences_follow_the_numbers(changes, said):
  assert said in " ".join(rsrc_table.rsrc_sentences(accounted(**changes)))


def test_counted_joules_are_called_counted():
  summary = accounted()
  for entry in summary["rsrc"]["arms"].values():
    entry["source"] = "rapl"
  text = " ".join(rsrc_table.rsrc_sentences(summary))
  assert "All joules were counted (rapl)" in text and "prior" not in text


def test_ledger_adds_up_and_marks_what_is_apportioned():
  found = made_up.fake_ledger()
  rows = {(g, label): [c for c, _ in cells]
          for g, _, label, cells in ledger_table.sum_rows(found)}  # fmt: skip
  entries = [e for by in found["phases"].values() for e in by.values()]
  seconds = sum(e["seconds"] for e in entries)
  # Charged at 6 W, and 1.9 either way for all alike.
  joules = style.Interval(6 * seconds, 6 * seconds / 1.9, 11.4 * seconds)
  total = rows["total", "in all"]
  assert total[:2] == [f"≈ {style.short(seconds)}", "100.0 %"]
  assert total[3] == style.spread(joules)
  assert rows["phase", "compile"][0] == "37.8"  # 0.09 * (25 + ... + 115) s
  assert rows["phase", "C"][0].startswith("≈ ")
  shares = [float(rows[key][1].rstrip(" %")) for key in rows if key[0] == "arm"]
  assert sum(shares) == pytest.approx(100, abs=0.5)
  text = " ".join(ledger_table.sentences(found))
  for part in ("cpu: modelled, boundary IT", "PUE 1.", "2 sessions", "3.20 s",
               "phases that failed: 1", "at most 12.5 s", "75 % of the seconds",
               # 4.4 / 4.1 - 1, 3 / 21 - 1, 2 / 2.1 - 1
               "+7.3 %", "−85.7 %", "−4.8 %"):  # fmt: skip
    assert part in text
  found["phases"]["code"]["C"]["joules"] = None  # unknown is not zero
  total = ledger_table.sum_rows(found)[-1][3][3][0]
  assert total.startswith("≥ ")
  quiet = {"rolled_back": {"seconds": 0.0}, "failed": 0, "lost": []}
  assert "Nothing was rolled back" in " ".join(ledger_table.sentences(quiet))


def test_any_value_may_be_missing():
  whole = accounted()

  def leaves(value, path=()):
    if isinstance(value, dict) and value:
      for key in value:
        yield (*path, key)
        yield from leaves(value[key], (*path, key))

  arms = ("code", "zlib", "untrained")
  rsrc = {**whole["rsrc"], "arms": {n: whole["rsrc"]["arms"][n] for n in arms}}
  phases = {n: whole["ledger"]["phases"][n] for n in ("", "code")}
  small = {"rsrc": rsrc, "ledger": {**whole["ledger"], "phases": phases}}
  tried = 0
  for path in leaves(small):
    for gone in (True, False):
      summary = copy.deepcopy(small)
      inner = summary
      for key in path[:-1]:
        inner = inner[key]
      if gone:
        del inner[path[-1]]
      else:
        inner[path[-1]] = None
      # Neither an exception nor a Python name of nothing on the page.
      sections = rsrc_section.ledger(summary, "")
      sections += rsrc_section.rsrc(summary, "").partition("<script")[0]
      assert not re.search(r">(None|nan)<|\bnan\b", sections)
      tried += 1
  assert tried > 300


@pytest.mark.parametrize("key", ["verified_bits", "bits_conveyed", "nll_bits"])
def test_compute_falls_back_to_a_score_that_exists(key):
  metrics = [
    {"phase": "code", "split": "valid", "step": i, "flops": 2e12 * i,
     "joules": 3.0 * i, key: 5.0 + i} for i in (1, 2, 3)
  ]  # fmt: skip
  left, right = figures.compute(metrics).axes
  titles = {"verified_bits": "Verified bits saved, validation",
            "bits_conveyed": "Bits conveyed, validation",
            "nll_bits": "Bits of s that c leaves open, validation"}  # fmt: skip
  assert (left.get_title() or left.get_title(loc="left")) == titles[key]
  np.testing.assert_allclose(left.lines[0].get_xdata(), [2, 4, 6])
  assert "10^{12}" in left.get_xlabel()
  np.testing.assert_allclose(right.lines[0].get_xdata(), [3, 6, 9])
  np.testing.assert_allclose(right.lines[0].get_ydata(), [6, 7, 8])


@pytest.mark.parametrize(
  ("value", "shown"),
  [
    (40.1234, "40.1"), (-3.976, "−3.98"), (2048, "2,048"), (9.999, "10.0"),
    (4.52e7, "4.5×10⁷"), (0.0011, "1.1×10⁻³"), (9.96e6, "1.0×10⁷"), (0, "0"),
    ("inf", "∞"), ("-inf", "−∞"), (math.inf, "∞"), (None, "—"), ("x", "—"),
    (math.nan, "—"), (True, "—"),
  ],
)  # fmt: skip
def test_numbers_are_short(value, shown):
  assert style.short(value) == shown


def test_intervals_share_a_power_of_ten():
  spread = lambda *x: style.spread(style.Interval(*x))
  assert spread(4.52e7, 2.4e7, 1.1e8) == "4.5 [2.4, 11.0] ×10⁷"
  assert spread(40.1, 39.3, 40.9) == "40.1 [39.3, 40.9]"
  assert spread(math.inf, math.inf, math.inf) == "∞"
  assert spread(3.0, None, None) == "3.00" and style.spread(None) == "—"
  assert style.count(1_234_567) == "1,234,567"


def test_rsrc_table_for_the_terminal():
  stream = io.StringIO()
  Console(file=stream, width=80).print(rsrc_table.rsrc_table(accounted()))
  text = stream.getvalue()
  for label in ("code", "English RL", "zlib dictionary", "identity"):
    assert label in text
  assert "3.6×10⁴" in text and "4.5×10⁷" in text and "54.7" in text
  assert "…" not in text and "n = 2,048" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_script_agrees_with_the_metric(tmp_path):
  summary = accounted()
  probe = """<script>
    const slider = document.querySelector(".samples");
    const focus = () => document.querySelector("[data-name=code].mark").focus();
    const told = () => document.querySelector(".tip").innerText;
    const rows = () => Object.fromEntries([...document.querySelectorAll(
      ".lives tr")].map((r) => [r.dataset.name,
        [...r.querySelectorAll("td")].map((d) => d.textContent)]));
    const found = { before: rows() };
    slider.value = 6; slider.dispatchEvent(new Event("input"));
    focus();
    found.after = rows(); found.told = told();
    found.fixed = document.querySelector(".fixed").hidden;
    document.querySelector(".reset").click();
    found.reset = rows();
    const out = document.createElement("pre");
    out.id = "out"; out.textContent = JSON.stringify(found);
    document.body.append(out);
  </script>"""
  page = f"<!doctype html><body>{rsrc_section.rsrc(summary, '')}{probe}"
  (tmp_path / "page.html").write_text(page, encoding="utf-8")
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    done = subprocess.run(
      ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
       f"--user-data-dir={profile}", "--virtual-time-budget=2000",
       "--dump-dom", (tmp_path / "page.html").as_uri()],
      capture_output=True, text=True, timeout=60,
    )  # fmt: skip
  text = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S).group(1)
  found = json.loads(html.unescape(text))
  assert found["reset"] == found["before"] and found["fixed"] is True
  points = survival_map.points([summary])
  for n, key in ((2048, "before"), (1e6, "after")):
    for point in points:
      moved = survival_map.at(point, n)
      assert found[key][point["name"]][:3] == [
        style.short(moved[x]) for x in ("rsrc_life", "rsrc_t", "rsrc_i")
      ]
    assert found[key]["zlib"][4] == "of all"
    assert found[key]["code"][4] == "of trained arms"
  assert found["after"]["code"][0] != found["before"]["code"][0]
  code = survival_map.at(next(p for p in points if p["name"] == "code"), 1e6)
  for axis in ("rsrc_i", "rsrc_t", "rsrc_life"):
    ends = (code[axis], code[f"{axis}_p5"], code[f"{axis}_p95"])
    assert style.spread(style.Interval(*ends)) in found["told"]


def test_out_of_distribution_stands_beside_held_out_with_the_gap():
  """Hand-derived: 40 - 31.5 = 8.5 bits, 0.8 - 0.5 = 0.3 of the tokens."""
  score = lambda bits, right: {"verified_bits": bits, "token_accuracy": right}
  summary = {
    "heldout": {"code": score(40.0, 0.8), "controls": {"no_code": {}}},
    "strange": {"name": "<other> slots", "arms": {"code": score(31.5, 0.5)}},
  }
  rows = heldout_table.ood_rows(summary)
  assert rows == [
    ("code", "verified bits", 40.0, 31.5), ("code", "tokens right", 0.8, 0.5),
  ]  # fmt: skip
  run = {"summary": summary, "metrics": [], "samples": []}
  made = page.page("x", run | {"config": {}, "environment": {}}, [], {})
  assert "&lt;other&gt; slots" in made and "<td>8.50</td>" in made
  assert heldout_table.ood_rows({"heldout": summary["heldout"]}) == []
