"""The section "RSRC (ours)": sentences, map and table."""

import json
import pathlib

from rsrc_jax.output.plain import finite
from rsrc_jax.report import (
  html,
  rsrc_table,
  survival_layout,
  survival_map,
  survival_plot,
  survival_points,
)
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.html import text
from rsrc_jax.report.numbers import count
from rsrc_jax.report.rsrc_sentences import rsrc_sentences
from rsrc_jax.report.run_files import Run

SCRIPT = pathlib.Path(__file__).with_name("survival_map.js").read_text("utf-8")
LIVES = ("arm", "RSRC_life(n) (ours)", "RSRC_t(n) (ours)", "RSRC_i (ours)",
         "energy spent on training", "Pareto front")  # fmt: skip


def rsrc(run: Run) -> str:
  """Sentences, map and table; "" for runs from before the ledger."""
  if not run.summary.get("rsrc"):
    return ""
  try:
    marks = survival_map.points([run.summary], looks=run.arms.looks)
  except ValueError as error:
    return html.section("RSRC (ours)", f"<p>Not drawn: {text(error)}</p>")
  sentences = "".join(
    f"<li>{text(s)}</li>" for s in rsrc_sentences(run.summary, run.arms)
  )
  head = [("arm", ""), *((c.label, c.about) for c in rsrc_table.COLUMNS)]
  rows = rsrc_table.rsrc_rows(run.summary, run.arms)
  drawing = run.drawings.get("survival_map", "")
  return html.section(
    "RSRC (ours)",
    f'<ul class="sentences">{sentences}</ul>{_map(marks, drawing, run.arms)}'
    f'<div class="arms">{html.table(head, rows)}</div>'
    f"{html.terms((c.label, c.about) for c in rsrc_table.COLUMNS)}",
  )


def _map(marks: list[dict], drawing: str, arms: Arms) -> str:
  """The static figure, and what the script makes of it."""
  data = {
    "samples": marks[0]["samples_served"],
    "frame": survival_layout.frame(marks)._asdict(),
    "untrained": survival_points.UNTRAINED,
    "headline": arms.headline,
    "looks": {p["name"]: survival_plot.look(p, arms.looks) for p in marks},
    "measured": [p["name"] for p in marks if survival_plot.measured(p)],
    "points": survival_map.plain(marks),
  }
  # In a script, HTML looks for nothing but its end tag and comments.
  block = json.dumps(finite(data), ensure_ascii=True, allow_nan=False)
  block = block.replace("<", "\\u003c")
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
    f"<script>{SCRIPT}</script>\n"
  )
