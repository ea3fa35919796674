"""The sections of held-out results: the verdict, the table, the OOD table."""

from rsrc_jax.report import heldout_table, style, verdict
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.html import section, terms, text
from rsrc_jax.report.numbers import number, short
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.scores import BY_KEY, CONTROLS, METRICS, shown


def verdict_of(run: Run) -> str:
  """The outcome, why, and the four numbers to remember."""
  outcome, sentences = verdict.verdict(run.summary, run.arms)
  title = verdict.capital(verdict.title(outcome, run.arms))
  paragraph = " ".join(text(s) for s in sentences)
  return (
    f'<div class="verdict {outcome}"><h2>{text(title)}</h2>'
    f"<p>{paragraph}</p>{_tiles(run.summary, run.arms)}</div>\n"
  )


def results(run: Run) -> str:
  """The table of all arms and controls, and what its columns mean."""
  rows = heldout_table.rows_of(run.summary, run.arms)
  if not rows:
    return section("Held-out results", "<p>None were written.</p>")
  top = heldout_table.best(rows)
  head = "".join(
    f'<th scope="col" title="{text(m.about)}">{text(m.label)}</th>'
    for m in METRICS
  )
  body, before = "", ""
  for row in rows:
    rule = " rule" * (row.group != before)
    body += _row(row, f"{row.group}{rule}", top)
    before = row.group
  there = {row.name for row in rows}
  absent = [style.arm(n, run.arms.looks).label
            for n in run.arms.expected if n not in there]  # fmt: skip
  absent += [CONTROLS[n][0] for n in CONTROLS if n not in there]
  note = f"<p>Not run: {text(', '.join(absent))}.</p>" if absent else ""
  return section(
    "Held-out results",
    f'<div class="wide"><table class="results"><thead><tr><th>arm</th>{head}'
    f"</tr></thead><tbody>{body}</tbody></table></div>{note}"
    f"{_altered(run.arms)}{terms((m.label, m.about) for m in METRICS)}",
  )


def ood(run: Run) -> str:
  """Held-out sources against ones of another distribution, and the gap."""
  rows = heldout_table.ood_rows(run.summary, run.arms)
  if not rows:
    return ""
  body = "".join(
    f'<tr><th scope="row" class="arm-{text(name)}"><b>'
    f"{text(style.arm(name, run.arms.looks).label)}"
    f"</b></th><td>{text(label)}</td><td>{short(ours)}</td>"
    f"<td>{short(theirs)}</td><td>{short(ours - theirs)}</td></tr>\n"
    for name, label, ours, theirs in rows
  )
  name = (run.summary.get("strange") or {}).get("name")
  return section(
    "Out of distribution",
    f"<p>Held-out sources against {text(name)}, never trained on. RSRC (ours) "
    'uses the held-out ones alone.</p><div class="wide"><table><thead><tr>'
    "<th>arm</th><th>score</th><th>held-out</th><th>out of distribution</th>"
    f"<th>gap</th></tr></thead><tbody>{body}</tbody></table></div>",
  )


def _row(row: heldout_table.Row, look: str, top: dict[str, set[str]]) -> str:
  leads = lambda key: row.group != "controls" and row.name in top[key]
  cells = "".join(
    f"<td{' class=best' * leads(m.key)}>{shown(row.scores.get(m.key), m)}</td>"
    for m in METRICS
  )
  return (
    f'<tr class="{look}"><th scope="row" class="arm-{text(row.name)}">'
    f"<b>{text(row.label)}</b> <small>{text(row.about)}</small></th>"
    f"{cells}</tr>\n"
  )


def _altered(arms: Arms) -> str:
  """Whose codes the controls alter, where that is not the headline."""
  if arms.controls in (None, arms.headline):
    return ""
  label = style.arm(arms.controls, arms.looks).label
  return f"<p>The controls alter the codes of {text(label)}.</p>"


def _tiles(summary: dict, arms: Arms) -> str:
  """The numbers to remember, where the run has them."""
  bounds = summary.get("bounds") or {}
  tiles = _pair(summary, arms)
  extract = number(bounds.get("english_extract_bits"))
  channel = number(bounds.get("channel_bits"))
  used = number(summary.get("channel_utilisation"))
  if extract is not None:
    tiles.append(
      ("", f"{extract:.2f}", "bits, at most, in k words kept in order")
    )
  if channel is not None:
    share = "" if used is None else f", {round(100 * used)} % used by the code"
    tiles.append(("", f"{channel:.2f}", f"bits, channel capacity{share}"))
  cells = "".join(
    f'<div class="tile arm-{text(name)}"><b>{value}</b>{text(label)}</div>'
    for name, value, label in tiles
  )
  return f'<div class="tiles">{cells}</div>' if tiles else ""


def _pair(summary: dict, arms: Arms) -> list[tuple[str, str, str]]:
  """The headline and its best baseline, in the first score that both have."""
  scores = verdict.headline(summary, arms)
  others = verdict.baselines(summary, arms)
  label = lambda name: style.arm(name, arms.looks).label
  for key, unit in (("bits_conveyed", "conveyed"), ("nll_bits", "open")):
    metric = BY_KEY[key]
    have = {n: m for n, m in others.items() if number(m.get(key)) is not None}
    if number(scores.get(key)) is None or not have:
      continue
    best = verdict.best_baseline(have, key)
    return [
      (name, shown(m[key], metric), f"bits {unit}, {label(name)}")
      for name, m in ((arms.headline, scores), (best, have[best]))
    ]
  return []
