"""The report: a small run directory of plausible numbers in, one page out."""

import io
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from rsrc_jax import figures, page, report, verdict

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
    "english": {name: scores(BITS[name]) for name in figures.ENGLISH},
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
  return page.page("run", *report.load(folder), {})


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
  report.write(folder)
  return folder


def test_page_is_self_contained_and_names_every_arm(run_dir):
  page = (run_dir / "report.html").read_text()
  targets = re.findall(r'(?:src|href)="([^"]*)"', page)
  assert targets, "matplotlib draws with references"
  assert all(target.startswith("#") for target in targets)
  assert "<script" not in page and "@import" not in page
  assert not re.findall(r"url\((?!#)", page)
  for look in figures.ARMS.values():
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
  report.write(run_dir)
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
  page = report.write(
    make_run(tmp_path, summary=summary, metrics=metrics, samples=samples)
  ).read_text()
  assert "<script" not in page
  assert "&lt;script&gt;&quot;&amp;" in page
  assert "\\ud800\\u0000" in page and ">Ψ<" in page


def test_interrupted_run_says_what_is_missing(tmp_path):
  folder = make_run(tmp_path, metrics=fake_metrics())
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "code", "st')
  page = report.write(folder).read_text()
  assert "summary.json is missing. The run is still going" in page
  assert "No verdict" in page and "the figure “budget”" in page
  assert "samples.jsonl is missing" in page
  assert "1 unreadable line" in page
  assert "English RL" in page  # what was logged is drawn and tabled


def test_nothing_at_all_still_gives_a_page(tmp_path):
  page = report.write(tmp_path).read_text()
  for name in ("config", "environment", "summary"):
    assert f"{name}.json is missing" in page


@pytest.mark.parametrize(
  "metrics", [[], [{"phase": "code", "split": "train", "step": 1}, {}]]
)
def test_empty_metrics(tmp_path, metrics):
  folder = make_run(tmp_path, summary=fake_summary(), metrics=metrics)
  assert "The code wins" in report.write(folder).read_text()


def test_missing_arms_are_named(tmp_path):
  summary = fake_summary()
  del summary["heldout"]["english"]["english_rl"]
  del summary["heldout"]["controls"]
  del summary["heldout"]["budget_curve"]
  page = page_of(make_run(tmp_path, summary=summary))
  assert "English arms that were not run: English RL." in page
  assert "Not controlled" in page
  del summary["heldout"]["code"]
  outcome, sentences = verdict.verdict(summary)
  assert outcome == "none" and "the code" in sentences[0]


def test_other_arms_stand_beside_the_comparison(tmp_path):
  summary = fake_summary()
  summary["heldout"]["free"] = scores(20.0, 0.7)
  assert verdict.verdict(summary) == verdict.verdict(fake_summary())
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
  outcome, sentences = verdict.verdict(fake_summary())
  text = " ".join(sentences)
  assert outcome == "won"
  # 16.4 - 12.6 of English RL, the best of the four.
  assert "3.80 bits better" in text and "English RL" in text
  assert "above what k content words" in text
  assert "proves nothing over seeds" in text


def test_verdict_says_that_the_code_lost(tmp_path):
  summary = fake_summary()
  summary["heldout"]["code"] = scores(11.1, 0.81)
  outcome, sentences = verdict.verdict(summary)
  assert outcome == "lost"
  assert "1.50 bits worse" in sentences[0]  # 11.1 - 12.6
  assert "not above what k content words" in " ".join(sentences)
  page = page_of(make_run(tmp_path, summary=summary))
  assert "The code loses on this run" in page
  summary["heldout"]["code"] = scores(12.601, 0.81)
  assert verdict.verdict(summary)[0] == "level"  # both are printed as 12.60


def test_verdict_warns_of_leaks():
  summary = fake_summary()
  summary["heldout"]["code"] = scores(22.0, 0.8)
  summary["heldout"]["controls"]["shuffled_code"] = scores(22.0, 0.8)
  outcome, sentences = verdict.verdict(summary)
  text = " ".join(sentences)
  assert outcome == "void"  # ahead of English, but not by its code
  assert "more than its tokens can carry (21.00 bits)" in text
  assert "costs D only 0.00 bits" in text


def test_without_bits_nll_and_edit_similarity_have_to_agree(tmp_path):
  summary = without_bits(fake_summary())
  outcome, sentences = verdict.verdict(summary)
  assert outcome == "won"
  assert "3.80 bits of nll better" in sentences[0]
  summary["heldout"]["code"]["edit_similarity"] = 0.1
  assert verdict.verdict(summary)[0] == "mixed"
  summary["heldout"]["code"]["nll_bits"] = 23.0
  assert verdict.verdict(summary)[0] == "lost"
  metrics = [m | {"bits_conveyed": None} for m in fake_metrics()]
  folder = make_run(tmp_path, summary=summary, metrics=metrics)
  assert "The code loses" in report.write(folder).read_text()


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
  assert figures._apart([0.5, 0.5, 0.9], 0.1) == pytest.approx(
    [0.45, 0.55, 0.9]
  )
  assert figures._apart([], 0.1) == []


def test_table_for_the_terminal():
  stream = io.StringIO()
  Console(file=stream, width=140).print(verdict.table(fake_summary()))
  text = stream.getvalue()
  for look in figures.ARMS.values():
    assert look.label in text
  assert "16.40" in text and "the code wins" in text
  stream = io.StringIO()
  Console(file=stream, width=140).print(verdict.table({}))
  assert "no verdict" in stream.getvalue()
