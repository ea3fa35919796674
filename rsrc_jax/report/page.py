"""The page of a report: strings of HTML from what a run has written."""

import difflib
import itertools
import json
import pathlib
from typing import Any

from rsrc_jax.report import figures, heldout_table, rsrc_section
from rsrc_jax.report.heldout_table import CONTROLS, HEADLINES, METRICS, PLAIN
from rsrc_jax.report.html import figure, section, text
from rsrc_jax.report.style import ARMS, ENGLISH, arm, number, ordered, short

# Scores of a sample that its card shows anyway.
SEEN = ("exact_match", "mean_tokens", "novel_fraction")
SHOWN = 8  # sources on the page; the file has all
STYLE = pathlib.Path(__file__).with_name("page.css").read_text()


def page(
  name: str, run: dict, missing: list[str], drawings: dict[str, str]
) -> str:
  """The whole document. `drawings` are the figures as SVG, by name."""
  apart = ("survival_map", "ledger")  # figures that have a section of their own
  plots = {n: d for n, d in drawings.items() if n not in apart}
  sections = [
    _header(name, run["summary"]),
    _missing(missing),
    _verdict(run["summary"]),
    _results(run["summary"]),
    _strange(run["summary"]),
    section("Figures", "".join(figure(n, d) for n, d in plots.items())),
    rsrc_section.rsrc(run["summary"], drawings.get("survival_map", "")),
    section("Sources, codes and what D made of them", _samples(run["samples"])),
    rsrc_section.ledger(run["summary"], drawings.get("ledger", "")),
    section("Training", _progress(run["metrics"])),
    section("Config", _settings(run["config"], "config.json")),
    section("Environment", _settings(run["environment"], "environment.json")),
  ]
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{text(name)} · rsrc-jax</title><style>{STYLE}{_arm_styles()}"
    f"</style></head>\n<body><main>\n{''.join(sections)}</main></body></html>\n"
  )


def _header(name: str, summary: dict) -> str:
  seconds = number(summary.get("seconds"))
  facts = [
    template.format(value)
    for template, value in (
      ("source: {}", summary.get("source")),
      ("budget: {:.0f} tokens", number(summary.get("budget_tokens"))),
      ("{:,.0f} steps an arm", number(summary.get("steps"))),
      ("{:,.0f} parameters", number(summary.get("params"))),
      ("{:.1f} minutes", None if seconds is None else seconds / 60),
      ("seed {}", summary.get("seed")),
    )
    if value is not None
  ]
  return (
    '<header><p class="over">rsrc-jax · report of a run</p>'
    f"<h1>{text(name)}</h1><p>{text(' · '.join(facts))}</p></header>\n"
  )


def _missing(missing: list[str]) -> str:
  if not missing:
    return ""
  items = "".join(f"<li>{text(m)}</li>" for m in missing)
  return f"<aside><b>This report is incomplete.</b><ul>{items}</ul></aside>\n"


def _verdict(summary: dict) -> str:
  outcome, sentences = heldout_table.verdict(summary)
  paragraph = " ".join(text(s) for s in sentences)
  return (
    f'<div class="verdict {outcome}"><h2>{HEADLINES[outcome]}</h2>'
    f"<p>{paragraph}</p>{_tiles(summary)}</div>\n"
  )


def _tiles(summary: dict) -> str:
  """The four numbers to remember, where the run has them."""
  heldout, bounds = summary.get("heldout") or {}, summary.get("bounds") or {}
  code = heldout.get("code") or {}
  english = heldout_table.english_arms(heldout)
  tiles = []
  for metric, unit in (
    (METRICS[0], "bits conveyed"),
    (METRICS[1], "bits open"),
  ):
    scores = {n: number(m.get(metric.key)) for n, m in english.items()}
    scores = {n: v for n, v in scores.items() if v is not None}
    if number(code.get(metric.key)) is None or not scores:
      continue
    best = max(scores, key=lambda n: metric.better * scores[n])
    tiles.append(
      ("code", heldout_table.shown(code[metric.key], metric), f"{unit}, code")
    )
    tiles.append(
      (
        best,
        heldout_table.shown(scores[best], metric),
        f"{unit}, {arm(best).label}",
      )
    )
    break
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


def _results(summary: dict) -> str:
  rows = heldout_table.rows_of(summary)
  if not rows:
    return section("Held-out results", "<p>None were written.</p>")
  top = heldout_table.best(rows)
  head = "".join(
    f'<th scope="col" title="{text(m.about)}">{text(m.label)}</th>'
    for m in METRICS
  )
  body, before = "", ""
  for group, name, label, about, scores in rows:
    cells = "".join(
      f"<td{' class=best' * (name in top[m.key] and group != 'controls')}>"
      f"{heldout_table.shown(scores.get(m.key), m)}</td>"
      for m in METRICS
    )
    line = f"{group} rule" if group != before else group
    body += (
      f'<tr class="{line}"><th scope="row" class="arm-{text(name)}">'
      f"<b>{text(label)}</b> <small>{text(about)}</small></th>{cells}</tr>\n"
    )
    before = group
  absent = [arm(n).label for n in ENGLISH if n not in {r[1] for r in rows}]
  absent += [CONTROLS[n][0] for n in CONTROLS if n not in {r[1] for r in rows}]
  note = f"<p>Not run: {text(', '.join(absent))}.</p>" if absent else ""
  terms = "".join(
    f"<div><dt>{text(m.label)}</dt><dd>{text(m.about)}</dd></div>"
    for m in METRICS
  )
  return section(
    "Held-out results",
    f'<div class="wide"><table class="results"><thead><tr><th>arm</th>{head}'
    f"</tr></thead><tbody>{body}</tbody></table></div>{note}<dl>{terms}</dl>",
  )


def _strange(summary: dict) -> str:
  """Held-out sources against ones of another distribution, and the gap."""
  rows = heldout_table.ood_rows(summary)
  if not rows:
    return ""
  body = "".join(
    f'<tr><th scope="row" class="arm-{text(name)}"><b>{text(arm(name).label)}'
    f"</b></th><td>{text(label)}</td><td>{short(ours)}</td>"
    f"<td>{short(theirs)}</td><td>{short(ours - theirs)}</td></tr>\n"
    for name, label, ours, theirs in rows
  )
  name = (summary.get("strange") or {}).get("name")
  return section(
    "Out of distribution",
    f"<p>Held-out sources against {text(name)}, never trained on. RSRC (ours) "
    'uses the held-out ones alone.</p><div class="wide"><table><thead><tr>'
    "<th>arm</th><th>score</th><th>held-out</th><th>strange</th><th>gap</th>"
    f"</tr></thead><tbody>{body}</tbody></table></div>",
  )


def _samples(samples: list[dict]) -> str:
  """Cards, one a source, with all arms that read it."""
  if not samples:
    return "<p>None were written.</p>"
  cards = {}  # (row, source) -> {arm: sample}
  for sample in samples:
    where = (str(sample.get("row")), str(sample.get("source")))
    cards.setdefault(where, {})[str(sample.get("arm"))] = sample
  # Sources that most arms have read compare best; sorting keeps file order.
  shown = sorted(cards.items(), key=lambda card: -len(card[1]))[:SHOWN]
  left = len(cards) - len(shown)
  note = f"<p>{left} more sources in samples.jsonl.</p>" if left else ""
  bar = "the bar below a token: its surprisal under C &emsp; "
  bar *= any(sample.get("code_surprisal") for sample in samples)
  legend = (
    '<p class="legend"><span class="chip">token of s</span> '
    '<span class="chip novel">token that s does not contain</span> '
    f"{bar}<del>wrong in d</del> <ins>what s has there</ins></p>"
  )
  body = "".join(_card(row, arms) for (row, _), arms in shown)
  return legend + body + note


def _card(row: str, arms: dict[str, dict]) -> str:
  first = next(iter(arms.values()))
  rows = "".join(_card_row(name, arms[name]) for name in ordered(arms))
  return (
    f'<article><p class="source"><small>s · row {text(row)}</small> '
    f"{text(first.get('source', ''))}</p>"
    '<div class="wide"><table class="cards"><thead><tr><th>arm</th>'
    "<th>c, what C wrote</th><th>d, what D read in it</th><th>scores</th></tr>"
    f"</thead><tbody>{rows}</tbody></table></div></article>\n"
  )


def _card_row(name: str, sample: dict) -> str:
  scores = sample.get("scores") or {}
  known = {m.key: m for m in METRICS}
  order = [*known, *scores].index
  cells = "".join(
    f"<span>{text(known[k].label if k in known else k)} "
    f"<b>{heldout_table.shown(v, known.get(k, PLAIN))}</b></span>"
    for k, v in sorted(scores.items(), key=lambda item: order(item[0]))
    if k not in SEEN
  )
  return (
    f'<tr><th scope="row" class="arm-{text(name)}"><b>'
    f"{text(arm(name).label)}</b></th><td>{_chips(sample)}</td>"
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
      # Full width at 9 bits: one in 512.
      bar = f' style="--bits:{min(100.0, 100 * bits / 9):.0f}%"'
    chips.append(
      f'<span class="chip{" novel" * bool(novel)}"{bar} '
      f'title="{text(", ".join(title))}">{text(piece)}</span>'
    )
  return " ".join(chips) or "<small>nothing</small>"


def _difference(sample: dict) -> str:
  """d, with what is wrong struck out and what s has there beside it."""
  s = sample.get("source_pieces") or []
  d = sample.get("decoded_pieces") or []
  if not d:
    return text(sample.get("decoded") or "") or "<small>nothing</small>"
  matcher = difflib.SequenceMatcher(None, s, d, autojunk=False)
  parts = []
  for what, i, j, k, n in matcher.get_opcodes():
    if what == "equal":
      parts.append(text(_join(d[k:n])))
    else:
      parts += [f"<del>{text(_join(d[k:n]))}</del>"] * (n > k)
      parts += [f"<ins>{text(_join(s[i:j]))}</ins>"] * (j > i)
  return " ".join(parts)


def _join(pieces: list[str]) -> str:
  """Words apart, and SentencePiece's pieces as the text that they spell."""
  if any("▁" in piece for piece in pieces):
    return "".join(pieces).replace("▁", " ").strip()
  return " ".join(pieces)


def _progress(metrics: list[dict]) -> str:
  """How far each phase has come: the last value of each number."""
  columns = (
    ("loss", "train", "loss"),
    ("reward", "train", "reward"),
    ("entropy", "train", "entropy of C, nats"),
    ("gradient_norm", "train", "gradient norm"),
    ("mismatch_kl", "train", "sampler–learner KL"),
    ("steps_per_second", "train", "steps a second"),
    ("bits_conveyed", "valid", "bits conveyed, valid"),
    ("nll_bits", "valid", "nll, bits, valid"),
  )
  phases = {str(m["phase"]) for m in metrics if m.get("phase")}
  if not phases:
    return "<p>No step was logged.</p>"
  head = "".join(f"<th>{text(title)}</th>" for _, _, title in columns)
  body = ""
  for phase in ["base"] * ("base" in phases) + ordered(phases - {"base"}):
    steps = [number(m.get("step")) for m in metrics if m.get("phase") == phase]
    last = max((step for step in steps if step is not None), default=0)
    cells = ""
    for key, split, _ in columns:
      values = figures.series(metrics, phase, split, key)[1]
      cells += f"<td>{_short(values[-1]) if values.size else '—'}</td>"
    body += (
      f'<tr><th scope="row" class="arm-{text(phase)}"><b>'
      f"{text(arm(phase).label)}</b></th><td>{last:,.0f}</td>{cells}</tr>\n"
    )
  return (
    '<p>The last value that each phase logged.</p><div class="wide"><table>'
    f"<thead><tr><th>phase</th><th>last step</th>{head}</tr></thead>"
    f"<tbody>{body}</tbody></table></div>"
  )


def _short(value: float) -> str:
  return f"{value:.3g}".replace("-", "−")


def _settings(values: dict, name: str) -> str:
  if not values:
    return f"<p>{text(name)} is missing.</p>"
  lines = "".join(
    f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>"
    for key, value in _flat(values)
  )
  return f'<dl class="settings">{lines}</dl>'


def _flat(values: dict, prefix: str = "") -> list[tuple[str, Any]]:
  """Nested dicts as dotted names, in the order of the file."""
  lines = []
  for key, value in values.items():
    if isinstance(value, dict) and value:
      lines += _flat(value, f"{prefix}{key}.")
    else:
      shown = value if isinstance(value, str) else json.dumps(value)
      lines.append((f"{prefix}{key}", shown))
  return lines


def _arm_styles() -> str:
  return "".join(
    f".arm-{name}{{--arm:{look.color}}}" for name, look in ARMS.items()
  )
