"""The sections "Rewards" and "Curve"."""

from rsrc_jax.report import curve_table, html, reward_table, style
from rsrc_jax.report.html import section, text
from rsrc_jax.report.reward_sentences import sentences
from rsrc_jax.report.run_files import Run


def rewards(run: Run) -> str:
  """Which V was used, and what each part paid; "" for older runs."""
  paid = reward_table.rows(run)
  if not paid:
    return ""
  columns = reward_table.head(paid)
  rows = [
    ("", row.arm, row.label, [(x, "") for x in reward_table.cells(row, paid)])
    for row in paid
  ]
  said = "".join(f"<li>{text(x)}</li>" for x in sentences(run, paid))
  return section(
    "Rewards",
    f'<ul class="sentences">{said}</ul>'
    "<p>Shares of the spread of reward within the groups of a source, means "
    "over training. They sum to 1; a part that works against the others is "
    "below 0.</p>"
    f"{html.table([('arm', ''), ('role', ''), *columns], rows)}"
    f"{html.terms(columns)}",
  )


def curve(run: Run) -> str:
  """The figure and the table of lengths; "" for older runs."""
  found = curve_table.rows(run.summary, run.arms)
  if not found:
    return ""
  looks, columns = run.arms.looks, curve_table.COLUMNS
  rows, order = [], list(dict.fromkeys(str(x.get("arm")) for x in found))
  for row in found:
    arm = str(row.get("arm"))
    cells = [curve_table.asked(row)]
    cells += [curve_table.shown(row.get(x.key), x) for x in columns]
    label = style.arm(arm, looks).label
    group = f"arm-{order.index(arm)}-of"  # a line where it changes
    rows.append((group, arm, label, [(x, "") for x in cells]))
  head = [("arm", ""), ("k", curve_table.about(run))]
  head += [(x.label.replace("/ ", "/"), x.about) for x in columns]
  return section(
    "Curve",
    f"<p>{text(curve_table.about(run))}</p>"
    f"{html.figure('curve', run.drawings.get('curve', ''))}"
    f"{html.table(head, rows)}{html.terms(head[2:])}",
  )
