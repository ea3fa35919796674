"""The section of sample cards: sources, their codes, and what D wrote."""

import difflib
import itertools

from rsrc_jax.report import style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.html import section, text
from rsrc_jax.report.numbers import number
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.scores import BY_KEY, PLAIN, shown

# Scores of a sample that its card shows anyway.
SEEN = ("exact_match", "mean_tokens", "novel_fraction")
SHOWN = 8  # sources on the page; the file has all


def samples(run: Run) -> str:
  """Cards, one a source, with all arms that read it."""
  title = "Sources, codes and what D wrote"
  if not run.samples:
    return section(title, "<p>None were written.</p>")
  cards = {}  # (row, source) -> {arm: sample}
  for sample in run.samples:
    where = (str(sample.get("row")), str(sample.get("source")))
    cards.setdefault(where, {})[str(sample.get("arm"))] = sample
  # Sources that most arms have read compare best; sorting keeps file order.
  shown = sorted(cards.items(), key=lambda card: -len(card[1]))[:SHOWN]
  left = len(cards) - len(shown)
  note = f"<p>{left} more sources in samples.jsonl.</p>" if left else ""
  bar = "the bar below a token: its surprisal under C &emsp; "
  bar *= any(sample.get("code_surprisal") for sample in run.samples)
  legend = (
    '<p class="legend"><span class="chip">token of s</span> '
    '<span class="chip novel">token that s does not contain</span> '
    f"{bar}<del>wrong in d</del> <ins>what s has there</ins></p>"
  )
  body = "".join(_card(row, by, run.arms) for (row, _), by in shown)
  return section(title, legend + body + note)


def _card(row: str, by: dict[str, dict], arms: Arms) -> str:
  first = next(iter(by.values()))
  names = style.ordered(by, arms.looks)
  rows = "".join(_card_row(name, by[name], arms) for name in names)
  return (
    f'<article><p class="source"><small>s · row {text(row)}</small> '
    f"{text(first.get('source', ''))}</p>"
    '<div class="wide"><table class="cards"><thead><tr><th>arm</th>'
    "<th>c, what C wrote</th><th>d, what D read in it</th><th>scores</th></tr>"
    f"</thead><tbody>{rows}</tbody></table></div></article>\n"
  )


def _card_row(name: str, sample: dict, arms: Arms) -> str:
  scores = sample.get("scores") or {}
  order = [*BY_KEY, *scores].index
  cells = "".join(
    f"<span>{text(BY_KEY[k].label if k in BY_KEY else k)} "
    f"<b>{shown(v, BY_KEY.get(k, PLAIN))}</b></span>"
    for k, v in sorted(scores.items(), key=lambda item: order(item[0]))
    if k not in SEEN
  )
  return (
    f'<tr><th scope="row" class="arm-{text(name)}"><b>'
    f"{text(style.arm(name, arms.looks).label)}</b></th>"
    f"<td>{_chips(sample)}</td>"
    f'<td class="text">{_difference(sample)}</td>'
    f'<td class="scores">{cells}</td></tr>\n'
  )


def _chips(sample: dict) -> str:
  """The code, token by token."""
  columns = (
    sample.get(key) or []
    for key in ("code_pieces", "code_ids", "code_novel", "code_surprisal")
  )
  chips = []
  for piece, token, novel, bits in itertools.zip_longest(*columns):
    title, bar = [f"id {token}", "not in s" if novel else "in s"], ""
    if number(bits) is not None:
      title.append(f"{bits:.2f} bits")
      # Full width at 9 bits, one in 512; classes of page.css, by 5 %.
      bar = f" w{5 * round(min(20.0, max(20 * bits / 9, 0.0)))}"
    chips.append(
      f'<span class="chip{" novel" * bool(novel)}{bar}" '
      f'title="{text(", ".join(title))}">{text(piece)}</span>'
    )
  return " ".join(chips) or "<small>nothing</small>"


def _difference(sample: dict) -> str:
  """d, with what is wrong struck out, followed by what s has there."""
  s = sample.get("source_pieces") or []
  d = sample.get("decoded_pieces") or []
  if not d:
    return text(sample.get("decoded") or "") or "<small>nothing</small>"
  spelt = any("\u2581" in piece for piece in [*s, *d])
  join = _spelled if spelt else " ".join
  matcher = difflib.SequenceMatcher(None, s, d, autojunk=False)
  parts = []
  for what, i, j, k, n in matcher.get_opcodes():
    if what == "equal":
      parts.append(text(join(d[k:n])))
    else:
      parts += [f"<del>{text(join(d[k:n]))}</del>"] * (n > k)
      parts += [f"<ins>{text(join(s[i:j]))}</ins>"] * (j > i)
  return ("" if spelt else " ").join(parts).strip()


def _spelled(pieces: list[str]) -> str:
  """The text of pieces that say themselves where a space is."""
  return "".join(pieces).replace("\u2581", " ")
