"""Ledger and RSRC (ours) of a run: sections, sentences and tables."""

import copy
import html
import io
import json
import re
import shutil
import subprocess
import tempfile

import pytest
from helpers import made_up
from helpers.made_run import accounted
from rich.console import Console

from rsrc_jax.report import (
  arms,
  ledger_section,
  ledger_sentences,
  ledger_table,
  numbers,
  rsrc_section,
  rsrc_table,
  run_files,
  survival_map,
  survival_points,
)
from rsrc_jax.report.rsrc_sentences import rsrc_sentences


def sentences_of(summary: dict) -> list[str]:
  """Of a run whose config says nothing of reports."""
  return rsrc_sentences(summary, arms.of(summary))


def test_text_of_a_ledger_is_escaped():
  hostile = "</script><script>\"&'"
  summary = accounted(label=hostile, source=hostile)
  summary["rsrc"]["arms"][hostile] = summary["rsrc"]["arms"].pop("zlib")
  summary["rsrc"]["arms"][hostile] |= {"label": hostile}
  block = summary["ledger"]
  block["machine"]["name"] = block["terms"][0]["source"] = hostile
  block["phases"]["code"][hostile] = block["phases"]["code"]["C"]
  block["phases"][hostile] = block["phases"]["code"]
  block["programs"][hostile] = block["programs"]["code"]
  run = run_files.of(summary=summary)
  sections = rsrc_section.rsrc(run) + ledger_section.ledger(run)
  assert sections.count("<script") == sections.count("</script>") == 2
  assert sections.count("&lt;/script&gt;&lt;script&gt;&quot;&amp;") > 5
  assert "\\u003c/script>" in sections


def test_sentences_say_how_far_zlib_is_ahead():
  text = " ".join(sentences_of(accounted()))
  # 45.2 / 1e-6 against 40.1 / 1.1e-3: log10(4.52e7 / 36455) = 3.09; against
  # RSRC_life, 2048 * 40.1 / (1500 + 2.25) = 54.7: log10(4.52e7 / 54.7) = 5.92.
  assert "3.1 orders of magnitude above the RSRC_i (ours) of the code" in text
  assert "5.9 above its RSRC_life(n) (ours)" in text
  assert "zlib, which needs no training, saves 45.2 bits a sample, more" in text
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
  text = " ".join(sentences_of(cheap))
  assert "beats it, training included, by 2.0 orders" in text
  young = accounted(rsrc_i=made_up.three(4.52e8))
  text = " ".join(sentences_of(young))
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
  assert said in " ".join(sentences_of(accounted(**changes)))


def test_counted_joules_are_called_counted():
  summary = accounted()
  for entry in summary["rsrc"]["arms"].values():
    entry["source"] = "rapl"
  text = " ".join(sentences_of(summary))
  assert "All joules were counted (rapl)" in text and "prior" not in text


def test_ledger_adds_up_and_marks_what_is_apportioned():
  found = made_up.fake_ledger()
  rows = {(g, label): [c for c, _ in cells]
          for g, _, label, cells in ledger_table.sum_rows(found)}  # fmt: skip
  entries = [e for by in found["phases"].values() for e in by.values()]
  seconds = sum(e["seconds"] for e in entries)
  # Charged at 6 W, and 1.9 either way for all alike.
  joules = numbers.Quantiles(6 * seconds, 6 * seconds / 1.9, 11.4 * seconds)
  total = rows["total", "in all"]
  assert total[:2] == [f"≈ {numbers.short(seconds)}", "100.0 %"]
  assert total[3] == numbers.spread(joules)
  assert rows["phase", "compile"][0] == "37.8"  # 0.09 * (25 + ... + 115) s
  assert rows["phase", "C"][0].startswith("≈ ")
  shares = [float(rows[key][1].rstrip(" %")) for key in rows if key[0] == "arm"]
  assert sum(shares) == pytest.approx(100, abs=0.5)
  text = " ".join(ledger_sentences.sentences(found))
  for part in ("cpu: modelled, boundary IT", "PUE 1.", "2 sessions", "3.20 s",
               "phases that failed: 1", "at most 12.5 s", "75 % of the seconds",
               # 4.4 / 4.1 - 1, 3 / 21 - 1, 2 / 2.1 - 1
               "+7.3 %", "−85.7 %", "−4.8 %"):  # fmt: skip
    assert part in text
  found["phases"]["code"]["C"]["joules"] = None  # unknown is not zero
  total = ledger_table.sum_rows(found)[-1][3][3][0]
  assert total.startswith("≥ ")
  quiet = {"rolled_back": {"seconds": 0.0}, "failed": 0, "lost": []}
  assert "Nothing was rolled back" in " ".join(
    ledger_sentences.sentences(quiet)
  )


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
      run = run_files.of(summary=summary)
      sections = ledger_section.ledger(run)
      sections += rsrc_section.rsrc(run).partition("<script")[0]
      assert not re.search(r">(None|nan)<|\bnan\b", sections)
      tried += 1
  assert tried > 300


def test_rsrc_table_for_the_terminal():
  summary = accounted()
  stream = io.StringIO()
  Console(file=stream, width=80).print(
    rsrc_table.rsrc_table(summary, arms.of(summary))
  )
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
  section = rsrc_section.rsrc(run_files.of(summary=summary))
  page = f"<!doctype html><body>{section}{probe}"
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
      moved = survival_points.at(point, n)
      assert found[key][point["name"]][:3] == [
        numbers.short(moved[x]) for x in ("rsrc_life", "rsrc_t", "rsrc_i")
      ]
    assert found[key]["zlib"][4] == "of all"
    assert found[key]["code"][4] == "of trained arms"
  assert found["after"]["code"][0] != found["before"]["code"][0]
  code = survival_points.at(next(p for p in points if p["name"] == "code"), 1e6)
  for axis in ("rsrc_i", "rsrc_t", "rsrc_life"):
    ends = (code[axis], code[f"{axis}_p5"], code[f"{axis}_p95"])
    assert numbers.spread(numbers.Quantiles(*ends)) in found["told"]
