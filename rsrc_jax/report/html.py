"""HTML that every page is made of: strings in, strings out."""

import base64
import hashlib
import html
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from rsrc_jax.output.plain import lines

STYLE = pathlib.Path(__file__).with_name("page.css").read_text(encoding="utf-8")

CAPTIONS = {
  "budget": (
    "What the first k tokens of each code are worth on held-out sources. "
    "Dashed: the log of the number of codes, which nothing can exceed. Dotted: "
    "the most that k content words of s, kept in order, can carry."
  ),
  "curve": (
    "What codes are worth on held-out sources against their mean length, which "
    "is drawn in powers of two. Hollow: C was told no budget. Dashed: the log "
    "of the number of codes, which nothing can exceed. Dotted: the most that k "
    "content words of s, kept in order, can carry."
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
  "plateaus": (
    "Where levels of the curriculum ended. Pale: the reward, as logged. Thick: "
    "the line through the rewards that the plateau rule looked back on, and "
    "the noise of one of them (a standard deviation) about it. A level ends "
    "where the slope of that line is no longer above its own standard errors "
    "(plateau), or after its most steps (timer, dotted); the last end is that "
    "of the arm."
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
  return html.escape(lines(value), quote=True)


def document(
  title: str, body: str, style: str = "", scripts: Sequence[str] = ()
) -> str:
  """A whole page, which loads nothing from outside itself.

  Its policy lets a browser run and apply what is named here and nothing else:
  no other script, no handler of an event, no style in an attribute.

  Args:
    title: for the tab of a browser.
    body: HTML.
    style: CSS of this page, after page.css.
    scripts: the texts of the body's script elements.
  """
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" '
    f'content="{policy(STYLE + style, scripts)}">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{text(title)} · rsrc-jax</title><style>{STYLE}{style}</style>"
    f"</head>\n<body><main>\n{body}</main></body></html>\n"
  )


def policy(style: str, scripts: Sequence[str]) -> str:
  """A Content-Security-Policy: one style and some scripts, by their hashes."""
  found = "default-src 'none'; base-uri 'none'; form-action 'none'; "
  found += f"img-src data:; style-src {_hash(style)}"
  if scripts:
    found += f"; script-src {' '.join(map(_hash, scripts))}"
  return found


def _hash(text: str) -> str:
  digest = hashlib.sha256(text.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def header(kind: str, name: str, facts: str = "") -> str:
  """The top of a page: what it is, of which run, and a line on the run."""
  line = f"<p>{text(facts)}</p>" if facts else ""
  return (
    f'<header><p class="over">rsrc-jax · {text(kind)}</p>'
    f"<h1>{text(name)}</h1>{line}</header>\n"
  )


def section(title: str, body: str) -> str:
  """A part of the page under its own heading."""
  return f"<section><h2>{text(title)}</h2>\n{body}</section>\n"


def figure(name: str, drawing: str, caption: str | None = None) -> str:
  """A drawing (SVG) over its caption, which is by default that of CAPTIONS.

  One sentence where there is no drawing.
  """
  if not drawing:
    return f"<p>Nothing was recorded for the figure “{text(name)}”.</p>\n"
  caption = text(CAPTIONS.get(name, "") if caption is None else caption)
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
    rows: group, arm, label, cells; a cell is its text and a small text below
      it. A line is drawn where the group changes.
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
