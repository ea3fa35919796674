"""HTML that every part of a page is made of: strings in, strings out."""

import html
from collections.abc import Iterable
from typing import Any

CAPTIONS = {
  "budget": (
    "What the first k tokens of each code are worth on held-out sources. "
    "Dashed: the log of the number of codes, which nothing can exceed. Dotted: "
    "the most that k content words of s, kept in order, can carry."
  ),
  "learning": (
    "Left, greedy codes of validation sources. Right, sampled codes of "
    "training sources: as logged in pale, a moving average on top."
  ),
  "vocabulary": (
    "How far the codes have left the words of their sources, and how much of "
    "the vocabulary the curriculum hides from C, at random for each source."
  ),
  "length": (
    "Tokens that C spends, and how undecided it is about each: an entropy that "
    "falls to zero early means that exploration has ended."
  ),
  "compute": (
    "Greedy codes of validation sources against everything that was spent on "
    "an arm up to there: rollouts, verifier, updates, evaluations, and the "
    "base that all arms start from. Left in FLOPs, right in joules (medians)."
  ),
  "ledger": (
    "Where the time and the work went. Hatched: seconds that are apportioned "
    "by FLOPs within one program; plain: measured on their own."
  ),
  "survival_map": (
    "What a joule of training has bought against what a joule of use buys. Up "
    "and to the right is better, along a thin line RSRC_life(n) (ours) is "
    "the same (exactly so where the untrained system saves nothing). Bars: 5 "
    "to 95 %. Hollow: the energy is modelled. Nothing beats what is on the "
    "staircase; the dashed one is of trained arms alone. Dotted: training has "
    "taken as much energy as use. What saves nothing, or needed no training, "
    "lies in the grey gutters."
  ),
}


def text(value: Any) -> str:
  """Any text as HTML; what has no glyph (control, surrogate) by its number."""
  shown = (
    c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}"
    for c in str(value)
  )  # fmt: skip
  return html.escape("".join(shown), quote=True)


def section(title: str, body: str) -> str:
  """A part of the page under its own heading."""
  return f"<section><h2>{text(title)}</h2>\n{body}</section>\n"


def figure(name: str, drawing: str) -> str:
  """A drawing (SVG) over its caption; one sentence where there is none."""
  if not drawing:
    return f"<p>Nothing was recorded for the figure “{text(name)}”.</p>\n"
  caption = text(CAPTIONS.get(name, ""))
  label = f'<svg role="img" aria-label="{caption}"'
  drawing = drawing.replace("<svg", label, 1)
  return (
    f'<figure><div class="wide">{drawing}</div>'
    f"<figcaption>{caption}</figcaption></figure>\n"
  )


def table(head: Iterable[tuple[str, str]], rows: Iterable[tuple]) -> str:
  """A table of arms.

  Args:
    head: label and meaning of each column, the first one's too.
    rows: group, arm, label, cells; a cell is what is read first and what stands
      small below it. A line is drawn where the group changes.
  """
  body, before = "", None
  for group, arm, label, cells in rows:
    rule = " rule" * (before not in (None, group))
    body += (
      f'<tr class="{text(group)}{rule}">'
      f'<th scope="row" class="arm-{text(arm)}">'
      f"<b>{text(label)}</b></th>{''.join(map(_cell, cells))}</tr>\n"
    )
    before = group
  titles = "".join(
    f'<th scope="col" title="{text(about)}">{text(label)}</th>'
    for label, about in head
  )
  return (
    f'<div class="wide"><table class="sums"><thead><tr>{titles}</tr></thead>'
    f"<tbody>{body}</tbody></table></div>\n"
  )


def terms(pairs: Iterable[tuple[str, str]]) -> str:
  """Words and what they mean."""
  items = "".join(
    f"<div><dt>{text(label)}</dt><dd>{text(about)}</dd></div>"
    for label, about in pairs
  )
  return f"<dl>{items}</dl>\n"


def _cell(cell: tuple[str, str]) -> str:
  main, small = map(text, cell)
  return f"<td>{main}{f'<small>{small}</small>' * bool(small)}</td>"
