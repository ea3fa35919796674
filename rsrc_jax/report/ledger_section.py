"""The section "Ledger": seconds, joules and FLOPs, with their source."""

from rsrc_jax.report import html, ledger_sentences, ledger_table
from rsrc_jax.report.html import text
from rsrc_jax.report.run_files import Run

PROGRAMS = ("step of", "jaxpr walked", "XLA, loops corrected", "XLA raw",
            "closed form", "peak memory")  # fmt: skip


def ledger(run: Run) -> str:
  """By phase and by arm; "" for runs from before the ledger."""
  block, looks = run.summary.get("ledger"), run.arms.looks
  if not block:
    return ""
  head = [("", ""), *((label, "") for label in ledger_table.LEDGER)]
  sentences = "".join(
    f"<p>{text(s)}</p>" for s in ledger_sentences.sentences(block)
  )
  programs = ledger_table.program_rows(block, looks)
  checked = html.table([(label, "") for label in PROGRAMS], programs)
  every = "".join(
    f"<h3>{text(label)}</h3>{html.table(head, rows)}"
    for label, rows in _by_group(ledger_table.phase_rows(block, looks)).items()
  )
  drawing = run.drawings.get("ledger", "")
  return html.section(
    "Ledger",
    f'<div class="sentences">{sentences}</div>'
    f"{html.figure('ledger', drawing) if drawing else ''}"
    f"{html.table(head, ledger_table.sum_rows(block, looks))}"
    f"<details><summary>Every phase of every arm</summary>{every}</details>"
    + f"<h3>FLOPs of one step, by four methods</h3>{checked}"
    * bool(programs),
  )


def _by_group(rows: list[tuple]) -> dict[str, list[tuple]]:
  """Group -> its rows, each under its own name."""
  groups = {}
  for row in rows:
    groups.setdefault(row[0], []).append(row)
  return groups
