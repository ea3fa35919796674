"""The held-out results of a run as tables: rows, and tables for a terminal."""

from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax.report import held_out, style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.held_out import Scores
from rsrc_jax.report.numbers import number, short
from rsrc_jax.report.scores import CONTROLS, METRICS, rounded, shown
from rsrc_jax.report.verdict import baselines, headline, title, verdict

OOD_SCORES = {
  "verified_bits": "verified bits",
  "token_accuracy": "tokens right",
}


class Row(NamedTuple):
  """A line of the results."""

  group: str  # headline, baseline, other or controls
  name: str
  label: str
  about: str
  scores: Scores


def rows_of(summary: dict, arms: Arms) -> list[Row]:
  """The headline, its baselines, all other arms, controls."""
  groups = {}
  if scores := headline(summary, arms):
    groups["headline"] = {arms.headline: scores}
  groups["baseline"] = baselines(summary, arms)
  found = held_out.arms(summary)
  rest = set(found) - {arms.headline, *arms.baselines}
  groups["other"] = {n: found[n] for n in style.ordered(rest, arms.looks)}
  rows = []
  for group, members in groups.items():
    for name, scores in members.items():
      look = style.arm(name, arms.looks)
      rows.append(Row(group, name, look.label, look.about, scores))
  controls = held_out.controls(summary)
  known = [name for name in CONTROLS if controls.get(name)]
  for name in known + sorted(set(controls) - set(CONTROLS)):
    label, about = CONTROLS.get(name, (name, ""))
    rows.append(Row("controls", name, label, about, controls[name]))
  return rows


def best(rows: list[Row]) -> dict[str, set[str]]:
  """Metric -> the arms that lead it, controls aside; ties as they are shown."""
  best = {}
  for m in METRICS:
    scores = {
      row.name: m.better * rounded(number(row.scores[m.key]), m)
      for row in rows
      if row.group != "controls"
      and m.better
      and number(row.scores.get(m.key)) is not None
    }
    best[m.key] = {n for n, v in scores.items() if v == max(scores.values())}
    if len(best[m.key]) == len(scores) > 1:
      best[m.key] = set()  # all are equal
  return best


def table(summary: dict, arms: Arms) -> Table:
  """The results for a terminal; what it shows is what the page shows."""
  outcome, sentences = verdict(summary, arms)
  result = open_table(
    f"Held-out results: {title(outcome, arms)}",
    "\n".join(dict.fromkeys((sentences[0], sentences[-1]))),
  )
  result.add_column("arm", no_wrap=True)
  for metric in METRICS:
    # Broken by hand, for eighty columns: rich would cut words.
    result.add_column(metric.label.replace(" ", "\n"), justify="right")
  rows = rows_of(summary, arms)
  top = best(rows)
  for i, row in enumerate(rows):
    last = i + 1 == len(rows) or rows[i + 1].group != row.group
    cells = [
      Text(
        shown(row.scores.get(m.key), m),
        "bold" * (row.name in top.get(m.key, ())),
      )
      for m in METRICS
    ]
    look = {"headline": "bold", "controls": "dim"}.get(row.group, "")
    result.add_row(Text(row.label), *cells, style=look, end_section=last)
  return result


def ood_rows(summary: dict, arms: Arms) -> list[tuple[str, str, float, float]]:
  """Arms on held-out sources and on ones of another distribution.

  -> (arm, score's label, held-out, out of distribution); verified bits, then
  tokens right. RSRC (ours) uses the held-out ones alone.
  """
  theirs = (summary.get("strange") or {}).get("arms") or {}
  known = held_out.arms(summary)
  rows = []
  for name in style.ordered(set(theirs) & set(known), arms.looks):
    for key, label in OOD_SCORES.items():
      pair = [number(known[name].get(key)), number(theirs[name].get(key))]
      if None not in pair:
        rows.append((name, label, *pair))
  return rows


def ood_table(summary: dict, arms: Arms) -> Table:
  """The same for a terminal, with the gap."""
  name = (summary.get("strange") or {}).get("name") or "another distribution"
  result = open_table(f"Held-out against {name}")
  for column in ("arm", "score"):
    result.add_column(column)
  for column in ("held-out", "other", "gap"):
    result.add_column(column, justify="right")
  for who, label, ours, theirs in ood_rows(summary, arms):
    cells = (short(x) for x in (ours, theirs, ours - theirs))
    result.add_row(Text(style.arm(who, arms.looks).label), label, *cells)
  return result


def open_table(title: str, caption: str | None = None) -> Table:
  """A table without columns yet, in the style of all of a run's."""
  # As Text: an arm's label may hold what rich takes for markup.
  return Table(
    title=Text(title), caption=None if caption is None else Text(caption),
    box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False,
    title_justify="left", caption_justify="left",
  )  # fmt: skip
