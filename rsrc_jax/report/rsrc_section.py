"""The sections "RSRC (ours)" and "Ledger" of a report's page."""

import json
import pathlib

from rsrc_jax.report import (
  html,
  ledger_table,
  rsrc_table,
  survival_map,
  survival_plot,
)
from rsrc_jax.report.html import text
from rsrc_jax.report.style import count

SCRIPT = pathlib.Path(__file__).with_name("survival_map.js").read_text()
LIVES = ("arm", "RSRC_life(n) (ours)", "RSRC_t(n) (ours)", "RSRC_i (ours)",
         "energy spent on training", "Pareto front")  # fmt: skip
PROGRAMS = ("step of", "jaxpr walked", "XLA, loops corrected", "XLA raw",
            "closed form", "peak memory")  # fmt: skip


def rsrc(summary: dict, drawing: str) -> str:
  """Map, table and sentences; nothing for runs from before the ledger."""
  if not summary.get("rsrc"):
    return ""
  try:
    marks = survival_map.points([summary])
  except ValueError as error:
    return html.section("RSRC (ours)", f"<p>Not drawn: {text(error)}</p>")
  said = "".join(
    f"<li>{text(s)}</li>" for s in rsrc_table.rsrc_sentences(summary)
  )
  head = [("arm", ""), *((c.label, c.about) for c in rsrc_table.COLUMNS)]
  return html.section(
    "RSRC (ours)",
    f'<ul class="said">{said}</ul>{_map(marks, drawing)}'
    f'<div class="arms">{html.table(head, rsrc_table.rsrc_rows(summary))}</div>'
    f"{html.terms((c.label, c.about) for c in rsrc_table.COLUMNS)}",
  )


def ledger(summary: dict, drawing: str) -> str:
  """Seconds, joules and FLOPs by phase and by arm, with their source."""
  found = summary.get("ledger")
  if not found:
    return ""
  head = [("", ""), *((label, "") for label in ledger_table.LEDGER)]
  said = "".join(f"<p>{text(s)}</p>" for s in ledger_table.sentences(found))
  programs = ledger_table.program_rows(found)
  checked = html.table([(label, "") for label in PROGRAMS], programs)
  every = "".join(
    f"<h3>{text(label)}</h3>{html.table(head, rows)}"
    for label, rows in _by_group(ledger_table.phase_rows(found)).items()
  )
  return html.section(
    "Ledger",
    f'<div class="said">{said}</div>'
    f"{html.figure('ledger', drawing) if drawing else ''}"
    f"{html.table(head, ledger_table.sum_rows(found))}"
    f"<details><summary>Every phase of every arm</summary>{every}</details>"
    + f"<h3>FLOPs of one step, by four methods</h3>{checked}"
    * bool(programs),
  )


def _map(marks: list[dict], drawing: str) -> str:
  """The static figure, and what the script makes of it."""
  data = {
    "samples": marks[0]["samples_served"],
    "frame": survival_plot.frame(marks)._asdict(),
    "untrained": survival_plot.UNTRAINED,
    "looks": {p["name"]: survival_plot.look(p) for p in marks},
    "measured": [p["name"] for p in marks if survival_plot.measured(p)],
    "points": survival_map.plain(marks),
  }
  # In a script, HTML looks for nothing but its end tag and comments.
  block = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
  titles = "".join(f'<th scope="col">{text(t)}</th>' for t in LIVES)
  n = count(marks[0]["samples_served"])
  caption = html.CAPTIONS["survival_map"]
  return (
    '<div id="survival-map">'
    f'<div class="fixed">{html.figure("survival_map", drawing)}</div>'
    '<div class="live" hidden><div class="volume"><label>samples served, n '
    '<input class="samples" type="range" min="0" max="10" step="0.01">'
    f'</label><output class="count"></output><button type="button" '
    f'class="reset">as declared: {text(n)}</button></div>'
    '<div class="stage"><div class="tip" role="status" hidden></div></div>'
    f'<p class="caption">{text(caption)} Move n to see training pay off; point '
    "at a mark, or reach it with the tab key, for all of its numbers.</p>"
    f'<div class="wide"><table class="sums"><thead><tr>{titles}</tr></thead>'
    '<tbody class="lives"></tbody></table></div></div></div>\n'
    f'<script type="application/json" id="survival-map-data">{block}</script>\n'
    f"<script>\n{SCRIPT}</script>\n"
  )


def _by_group(rows: list[tuple]) -> dict[str, list[tuple]]:
  """Group -> its rows, each under its own name."""
  groups = {}
  for row in rows:
    groups.setdefault(row[0], []).append(row)
  return groups
