"""The report of a run: reads a run directory, writes one page to read in it.

  python -m rsrc_jax.report RUN_DIR

The page and its figures follow from the files of the directory alone. What a
run has not written (yet) is named on the page and left out of it.
"""

import difflib
import html
import itertools
import json
import pathlib
import sys
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax import figures
from rsrc_jax.figures import ARMS, ENGLISH, arm, number, ordered


class Metric(NamedTuple):
  """A column of the results and one line on what it means."""

  key: str
  label: str
  digits: int
  percent: bool
  better: int  # +1 where more is better, -1 where less is, 0 where neither
  about: str


METRICS = (
  Metric("bits_conveyed", "bits conveyed", 2, False, 1,
    "entropy of a source − nll: what D has learnt from the code; blank where "
    "the entropy is unknown"),
  Metric("nll_bits", "nll, bits", 2, False, -1,
    "bits that D, given the code, still needs to write the source; "
    "teacher-forced, so never read it alone"),
  Metric("token_accuracy", "tokens right", 1, True, 1,
    "positions of s that the free-running d has right"),
  Metric("exact_match", "exact", 1, True, 1,
    "sources of which d is a copy, token for token"),
  Metric("edit_similarity", "edit similarity", 3, False, 1,
    "1 − edit distance of s and d / the longer length, in tokens"),
  Metric("mean_tokens", "code tokens", 2, False, 0,
    "tokens spent on the code"),
  Metric("novel_fraction", "novel tokens", 1, True, 0,
    "tokens of the code that its source does not contain; 0 for an extract"),
)  # fmt: skip
CONTROLS = {
  "no_code": ("no code", "D reads nothing"),
  "shuffled_code": ("other's code", "of another source: has to fail"),
  "source_given": ("source given", "D reads s, untrained for it"),
}
CAPTIONS = {
  "budget": (
    "What the first k tokens of each code are worth on held-out sources. "
    "Dashed: the log of the number of codes, which nothing can exceed. Dotted: "
    "the most that any k tokens of s, kept in order, can carry."
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
}
HEADLINES = {
  "won": "The code wins on this run",
  "lost": "The code loses on this run",
  "level": "The code and English are level on this run",
  "mixed": "The result of this run is mixed: the code does not win",
  "void": "The code scores best on this run, but a control has failed",
  "none": "No verdict",
}
PLAIN = Metric("", "", 2, False, 0, "")
STYLE = """
:root{color-scheme:light;--ink:#1f2933;--soft:#52606d;--faint:#7b8794;
--line:#e4e7eb;--paper:#fff;--arm:transparent}
*{box-sizing:border-box}
body{margin:0;background:#f5f6f7;color:var(--ink);
font:15px/1.55 "Inter",system-ui,"Segoe UI","Liberation Sans",Arial,sans-serif}
main{max-width:1140px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:30px;line-height:1.2;margin:2px 0 4px;letter-spacing:-.01em}
h2{font-size:19px;line-height:1.3;margin:0 0 12px}
p{margin:0 0 10px}small{color:var(--faint);font-size:12.5px;font-weight:400}
header p{color:var(--soft);margin:0}
header .over{font-size:12.5px;letter-spacing:.06em;text-transform:uppercase}
header{margin-bottom:20px}
section,.verdict,aside{background:var(--paper);border:1px solid var(--line);
border-radius:10px;padding:20px 24px;margin:0 0 18px}
aside{background:#fffbea;border-color:#f0e2b0}aside ul{margin:4px 0 0}
.verdict{border-left:6px solid var(--faint)}
.verdict p{max-width:100ch}
.verdict.won{border-left-color:#d55e00}
.verdict.lost,.verdict.mixed{border-left-color:#0072b2}
.tiles{display:flex;flex-wrap:wrap;gap:12px 36px;margin-top:14px}
.tile{color:var(--soft);font-size:13px}
.tile b{display:block;font-size:27px;line-height:1.25;color:var(--ink);
font-variant-numeric:tabular-nums}
.tile[class*=arm-]:not(.arm-) b{color:var(--arm)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;vertical-align:baseline}
.results td{white-space:nowrap}.results th:first-child{width:38%}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{font-size:12.5px;font-weight:600;color:var(--soft);
border-bottom:1px solid #9aa5b1;line-height:1.3;vertical-align:bottom}
tbody tr+tr>*{border-top:1px solid var(--line)}
tbody tr.rule+tr>*{border-top-color:var(--line)}
tbody tr+tr.rule>*{border-top:1px solid #9aa5b1}
tbody th{font-weight:400}
tbody th b{border-left:4px solid var(--arm);padding-left:8px;
white-space:nowrap}
.best{font-weight:700}.results tr.code{background:#fff6ef}
.controls td,.controls th{color:var(--soft)}
dl{margin:14px 0 0;columns:2;column-gap:36px;font-size:13px}
dl div{break-inside:avoid;margin:0 0 5px}
dt{display:inline;font-weight:600}dt::after{content:": "}
dd{display:inline;margin:0;color:var(--soft);overflow-wrap:anywhere}
dl.settings{columns:3;margin:0;
font:12.5px/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
dl.settings dt{font-weight:400;color:var(--faint)}
dl.settings dd{color:var(--ink)}
figure{margin:0 0 26px}figure:last-child{margin:0}
figure svg{display:block;width:100%;min-width:720px;height:auto}
figcaption{color:var(--soft);font-size:13px;max-width:120ch;margin-top:2px}
article{border-top:1px solid var(--line);padding:14px 0 10px}
.source{font-size:16px;margin:0 0 4px}
.source small{display:inline-block;min-width:82px}
.cards{table-layout:fixed;min-width:760px}
.cards th,.cards td{text-align:left;padding:5px 10px 5px 0}
.cards thead th{border:0;padding-bottom:0;font-weight:400;color:var(--faint)}
.cards tbody tr:first-child>*{border-top:1px solid var(--line)}
.cards th:first-child{width:130px}.cards th:nth-child(2){width:27%}
.cards th:last-child{width:180px}
.scores{font-size:12.5px;color:var(--soft)}
.scores span{white-space:nowrap;display:block}
.scores b{color:var(--ink)}
.legend{font-size:13px;color:var(--soft)}
.chip{--nats:0%;display:inline-block;margin:1px 0;padding:0 6px 1px;
border:1px solid #bcccdc;border-radius:5px;color:#243b53;
font:13.5px/1.55 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;
background:linear-gradient(#486581,#486581) 0 100%/var(--nats) 2px no-repeat,
#eef3f8;white-space:pre-wrap;overflow-wrap:anywhere}
.chip.novel{border-color:#e8a06a;color:#8a3b00;font-weight:700;
background:linear-gradient(#d55e00,#d55e00) 0 100%/var(--nats) 2px no-repeat,
#fff1e5}
del{color:#a61b1b;text-decoration:line-through;background:#fdecec;
border-radius:3px;padding:0 2px}
ins{color:#52606d;text-decoration:none;font-size:.86em;
border-bottom:1px dotted #9aa5b1}
@media (max-width:760px){dl,dl.settings{columns:1}main{padding:16px 10px}
section,.verdict,aside{padding:16px}}
@media print{body{background:#fff}section,.verdict{break-inside:avoid}}
"""
WARNING = "Warning:"  # opens a sentence that takes a win away
HARDLY = 1.0  # bits that a wrong code has to cost D before it counts as read
# Scores of a sample that its card shows anyway.
SEEN = ("exact_match", "mean_tokens", "novel_fraction")
SHOWN = 8  # sources on the page; the file has all
Outcome = tuple[str, list[str]]  # a key of HEADLINES, and why


def main(arguments: list[str]) -> int:
  """The command line."""
  if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
    print("usage: python -m rsrc_jax.report RUN_DIR", file=sys.stderr)
    return 2
  print(write(arguments[0]))
  return 0


def write(run_dir: str | pathlib.Path) -> pathlib.Path:
  """Writes run_dir/report.html and run_dir/figures/; returns the page's path.

  Reads nothing but the run directory, and gives the same bytes every time.
  """
  run_dir = pathlib.Path(run_dir)
  run, missing = load(run_dir)
  folder = run_dir / "figures"
  folder.mkdir(exist_ok=True)
  drawings = {
    name: figures.save(name, make, folder)
    for name, make in figures.draw(run["summary"], run["metrics"]).items()
  }
  path = run_dir / "report.html"
  name = run_dir.resolve().name
  path.write_text(page(name, run, missing, drawings), encoding="utf-8")
  return path


def load(run_dir: pathlib.Path) -> tuple[dict, list[str]]:
  """The files of a run, and a sentence on each that is missing or broken."""
  run, missing = {}, []
  for name in ("config", "environment", "summary"):
    run[name], problem = _read_object(run_dir / f"{name}.json")
    missing += problem
  if missing and not run["summary"]:
    missing[-1] += (
      " The run is still going, or it was interrupted before its held-out "
      "evaluation."
    )
  for name in ("metrics", "samples"):
    run[name], problem = _read_lines(run_dir / f"{name}.jsonl")
    missing += problem
  return run, missing


def _read_object(path: pathlib.Path) -> tuple[dict, list[str]]:
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}, [f"{path.name} is missing."]
  except ValueError:
    return {}, [f"{path.name} cannot be read as JSON."]
  if not isinstance(value, dict):
    return {}, [f"{path.name} does not hold an object."]
  return value, []


def _read_lines(path: pathlib.Path) -> tuple[list[dict], list[str]]:
  try:
    # Not splitlines(): a code may hold characters that Unicode calls newlines.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
  except FileNotFoundError:
    return [], [f"{path.name} is missing."]
  values, broken = [], 0
  for line in filter(str.strip, lines):
    try:
      value = json.loads(line)
    except ValueError:
      value = None
    if isinstance(value, dict):
      values.append(value)
    else:
      broken += 1  # an interrupted run may end in half a line
  if not values:
    return [], [f"{path.name} is empty."]
  return values, [f"{path.name}: {broken} unreadable line(s) left out."] * (
    broken > 0
  )


# ---- The verdict ----------------------------------------------------------


def verdict(summary: dict) -> Outcome:
  """The code against the best English arm, in sentences of plain text.

  The best English arm is picked on the very numbers that are compared, which
  favours English. Without bits for all arms, nll and edit similarity both have
  to be better, each against the English arm that is best in it.
  """
  heldout = summary.get("heldout") or {}
  code, english = heldout.get("code") or {}, _english(heldout)
  if not code or not english:
    lacking = "code" if not code else "English arms"
    return "none", [f"Held-out results of the {lacking} are missing."]
  everyone = [code, *english.values()]

  def have(key: str) -> bool:
    return all(number(m.get(key)) is not None for m in everyone)

  if have("bits_conveyed"):
    outcome, sentence = _compare(code, english, "bits_conveyed", " bits")
    sentences = [sentence]
    # Bits are teacher-forced: what D really writes stands beside them.
    if have("edit_similarity"):
      sentences.append(_compare(code, english, "edit_similarity", "")[1])
    sentences += _against_bounds(summary, code)
  elif have("nll_bits") and have("edit_similarity"):
    nll, first = _compare(code, english, "nll_bits", " bits of nll")
    edit, second = _compare(code, english, "edit_similarity", "")
    outcome = nll if nll == edit else "mixed"
    sentences = [first, second]
  else:
    return "none", ["There is no score that all arms have."]
  absent = [arm(name).label for name in ENGLISH if name not in english]
  if absent:
    sentences.append(f"English arms that were not run: {', '.join(absent)}.")
  sentences += _against_controls(heldout)
  if outcome == "won" and any(s.startswith(WARNING) for s in sentences):
    outcome = "void"
  return outcome, [*sentences, _one_seed(summary)]


def _english(heldout: dict) -> dict[str, dict]:
  """The English arms that have results, in their fixed order."""
  english = heldout.get("english") or {}
  return {name: english[name] for name in ordered(english) if english[name]}


def _compare(
  code: dict, english: dict[str, dict], key: str, unit: str
) -> Outcome:
  """One score of the code beside the best English arm's."""
  metric = next(m for m in METRICS if m.key == key)
  best = max(english, key=lambda name: metric.better * english[name][key])
  ours, theirs = code[key], english[best][key]
  lead = metric.better * (ours - theirs)
  what = {
    "bits_conveyed": "bits conveyed a source",
    "nll_bits": "bits a source still open after reading c",
    "edit_similarity": "edit similarity of the free-running d",
  }[key]
  numbers = (
    f"{what.capitalize()}: {_format(ours, metric)} for the code, "
    f"{_format(theirs, metric)} for the best English arm "
    f"({arm(best).label})"
  )
  # Closer than what is printed is not a difference.
  if abs(lead) < 0.5 * 10**-metric.digits:
    return "level", f"{numbers}: no difference."
  size = f"{abs(lead):.{metric.digits}f}{unit}"
  if lead > 0:
    return "won", f"{numbers}: the code is {size} better."
  return "lost", f"{numbers}: the code is {size} worse."


def _against_bounds(summary: dict, code: dict) -> list[str]:
  """Whether the code beats every extract, and stays within its channel."""
  bits, bounds = code["bits_conveyed"], summary.get("bounds") or {}
  extract = number(bounds.get("english_extract_bits"))
  channel = number(bounds.get("channel_bits"))
  sentences = []
  if extract is not None:
    side = "above" if bits > extract else "not above"
    sentences.append(
      f"The code is {side} what any extract of the source could convey at "
      f"this budget ({extract:.2f} bits)."
    )
  if channel is not None and bits > channel:
    sentences.append(
      f"{WARNING} that is more than its tokens can carry ({channel:.2f} bits), "
      "so something other than the code tells D about the source."
    )
  return sentences


def _against_controls(heldout: dict) -> list[str]:
  """Whether d depends on c at all."""
  controls = heldout.get("controls") or {}
  metric = METRICS[1]
  own, other = (
    number(m.get(metric.key))
    for m in (heldout["code"], controls.get("shuffled_code") or {})
  )
  if own is None or other is None:
    return ["Not controlled: D was not given the codes of other sources."]
  gap = other - own
  if gap < HARDLY:
    return [
      f"{WARNING} the code of another source costs D only {gap:.2f} bits, so "
      "hardly any of what it knows is in the code."
    ]
  return [
    f"Control: the code of another source costs D {gap:.2f} bits, so it does "
    "read the code."
  ]


def _one_seed(summary: dict) -> str:
  seed = summary.get("seed")
  return (
    f"One run is one seed{'' if seed is None else f' ({seed})'}: it proves "
    "nothing over seeds, however many sources it was scored on."
  )


def table(summary: dict) -> Table:
  """The results for a terminal; what it shows is what the page shows."""
  outcome, sentences = verdict(summary)
  result = Table(
    title=f"Held-out results: {HEADLINES[outcome].lower()}",
    caption="\n".join(dict.fromkeys((sentences[0], sentences[-1]))),
    box=box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
    show_edge=False,
    title_justify="left",
    caption_justify="left",
  )
  result.add_column("arm", no_wrap=True)
  for metric in METRICS:
    # Broken by hand, for eighty columns: rich would cut words.
    result.add_column(metric.label.replace(" ", "\n"), justify="right")
  rows = results(summary)
  top = _best(rows)
  for i, (group, name, label, _, scores) in enumerate(rows):
    last = i + 1 == len(rows) or rows[i + 1][0] != group
    cells = [
      Text(_format(scores.get(m.key), m), "bold" * (name in top.get(m.key, ())))
      for m in METRICS
    ]
    look = {"code": "bold", "controls": "dim"}.get(group, "")
    result.add_row(Text(label), *cells, style=look, end_section=last)
  return result


Row = tuple[str, str, str, str, dict]  # group, name, label, about, scores


def results(summary: dict) -> list[Row]:
  """The rows of the results: the code, English arms, other arms, controls."""
  heldout = summary.get("heldout") or {}
  rows = []
  if heldout.get("code"):
    look = ARMS["code"]
    rows.append(("code", "code", look.label, look.about, heldout["code"]))
  english, controls = _english(heldout), heldout.get("controls") or {}
  for name, scores in english.items():
    rows.append(("english", name, arm(name).label, arm(name).about, scores))
  listed = {"code", "english", "controls", "budget_curve"}
  for name in sorted(set(heldout) - listed):
    if isinstance(heldout[name], dict):  # an ablation, beside the comparison
      rows.append(
        ("other", name, arm(name).label, arm(name).about, heldout[name])
      )
  known = [name for name in CONTROLS if controls.get(name)]
  for name in known + sorted(set(controls) - set(CONTROLS)):
    label, about = CONTROLS.get(name, (name, ""))
    rows.append(("controls", name, label, about, controls[name] or {}))
  return rows


def _best(rows: list[Row]) -> dict[str, set[str]]:
  """Metric -> the arms that lead it, controls aside; ties as they are shown."""
  best = {}
  for m in METRICS:
    scores = {
      name: round(m.better * number(values[m.key]), m.digits + 2 * m.percent)
      for group, name, _, _, values in rows
      if group != "controls"
      and m.better
      and number(values.get(m.key)) is not None
    }
    best[m.key] = {n for n, v in scores.items() if v == max(scores.values())}
    if len(best[m.key]) == len(scores) > 1:
      best[m.key] = set()  # nobody leads
  return best


def _format(value: Any, metric: Metric) -> str:
  value = number(value)
  if value is None:
    return "—"
  # Adding zero makes a rounded −0 a 0.
  value = round(value, metric.digits + 2 * metric.percent) + 0.0
  if metric.percent:
    return f"{100 * value:.{metric.digits}f}\N{NO-BREAK SPACE}%"
  return f"{value:.{metric.digits}f}".replace("-", "−")


# ---- The page -------------------------------------------------------------


def page(
  name: str, run: dict, missing: list[str], drawings: dict[str, str]
) -> str:
  """The whole document. `drawings` are the figures as SVG, by name."""
  sections = [
    _header(name, run["summary"]),
    _missing(missing),
    _verdict(run["summary"]),
    _results(run["summary"]),
    _section("Figures", "".join(_figure(n, d) for n, d in drawings.items())),
    _section(
      "Sources, codes and what D made of them", _samples(run["samples"])
    ),
    _section("Training", _progress(run["metrics"])),
    _section("Config", _settings(run["config"], "config.json")),
    _section("Environment", _settings(run["environment"], "environment.json")),
  ]
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{_text(name)} · rsrc-jax</title><style>{STYLE}{_arm_styles()}"
    f"</style></head>\n<body><main>\n{''.join(sections)}</main></body></html>\n"
  )


def _text(value: Any) -> str:
  """Any text as HTML; what has no glyph (control, surrogate) by its number."""
  shown = (
    c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}"
    for c in str(value)
  )  # fmt: skip
  return html.escape("".join(shown), quote=True)


def _section(title: str, body: str) -> str:
  return f"<section><h2>{_text(title)}</h2>\n{body}</section>\n"


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
    f"<h1>{_text(name)}</h1><p>{_text(' · '.join(facts))}</p></header>\n"
  )


def _missing(missing: list[str]) -> str:
  if not missing:
    return ""
  items = "".join(f"<li>{_text(m)}</li>" for m in missing)
  return f"<aside><b>This report is incomplete.</b><ul>{items}</ul></aside>\n"


def _verdict(summary: dict) -> str:
  outcome, sentences = verdict(summary)
  paragraph = " ".join(_text(s) for s in sentences)
  return (
    f'<div class="verdict {outcome}"><h2>{HEADLINES[outcome]}</h2>'
    f"<p>{paragraph}</p>{_tiles(summary)}</div>\n"
  )


def _tiles(summary: dict) -> str:
  """The four numbers to remember, where the run has them."""
  heldout, bounds = summary.get("heldout") or {}, summary.get("bounds") or {}
  code = heldout.get("code") or {}
  english = _english(heldout)
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
    tiles.append(("code", _format(code[metric.key], metric), f"{unit}, code"))
    tiles.append(
      (best, _format(scores[best], metric), f"{unit}, {arm(best).label}")
    )
    break
  extract = number(bounds.get("english_extract_bits"))
  channel = number(bounds.get("channel_bits"))
  used = number(summary.get("channel_utilisation"))
  if extract is not None:
    tiles.append(("", f"{extract:.2f}", "bits, the most of any extract"))
  if channel is not None:
    share = "" if used is None else f", {round(100 * used)} % used by the code"
    tiles.append(("", f"{channel:.2f}", f"bits, channel capacity{share}"))
  cells = "".join(
    f'<div class="tile arm-{_text(name)}"><b>{value}</b>{_text(label)}</div>'
    for name, value, label in tiles
  )
  return f'<div class="tiles">{cells}</div>' if tiles else ""


def _results(summary: dict) -> str:
  rows = results(summary)
  if not rows:
    return _section("Held-out results", "<p>None were written.</p>")
  top = _best(rows)
  head = "".join(
    f'<th scope="col" title="{_text(m.about)}">{_text(m.label)}</th>'
    for m in METRICS
  )
  body, before = "", ""
  for group, name, label, about, scores in rows:
    cells = "".join(
      f"<td{' class=best' * (name in top[m.key] and group != 'controls')}>"
      f"{_format(scores.get(m.key), m)}</td>"
      for m in METRICS
    )
    line = f"{group} rule" if group != before else group
    body += (
      f'<tr class="{line}"><th scope="row" class="arm-{_text(name)}">'
      f"<b>{_text(label)}</b> <small>{_text(about)}</small></th>{cells}</tr>\n"
    )
    before = group
  absent = [arm(n).label for n in ENGLISH if n not in {r[1] for r in rows}]
  absent += [CONTROLS[n][0] for n in CONTROLS if n not in {r[1] for r in rows}]
  note = f"<p>Not run: {_text(', '.join(absent))}.</p>" if absent else ""
  terms = "".join(
    f"<div><dt>{_text(m.label)}</dt><dd>{_text(m.about)}</dd></div>"
    for m in METRICS
  )
  return _section(
    "Held-out results",
    f'<div class="wide"><table class="results"><thead><tr><th>arm</th>{head}'
    f"</tr></thead><tbody>{body}</tbody></table></div>{note}<dl>{terms}</dl>",
  )


def _figure(name: str, drawing: str) -> str:
  if not drawing:
    return f"<p>Nothing was recorded for the figure “{_text(name)}”.</p>\n"
  caption = _text(CAPTIONS.get(name, ""))
  label = f'<svg role="img" aria-label="{caption}"'
  drawing = drawing.replace("<svg", label, 1)
  return (
    f'<figure><div class="wide">{drawing}</div>'
    f"<figcaption>{caption}</figcaption></figure>\n"
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
    f'<article><p class="source"><small>s · row {_text(row)}</small> '
    f"{_text(first.get('source', ''))}</p>"
    '<div class="wide"><table class="cards"><thead><tr><th>arm</th>'
    "<th>c, what C wrote</th><th>d, what D read in it</th><th>scores</th></tr>"
    f"</thead><tbody>{rows}</tbody></table></div></article>\n"
  )


def _card_row(name: str, sample: dict) -> str:
  scores = sample.get("scores") or {}
  known = {m.key: m for m in METRICS}
  order = [*known, *scores].index
  cells = "".join(
    f"<span>{_text(known[k].label if k in known else k)} "
    f"<b>{_format(v, known.get(k, PLAIN))}</b></span>"
    for k, v in sorted(scores.items(), key=lambda item: order(item[0]))
    if k not in SEEN
  )
  return (
    f'<tr><th scope="row" class="arm-{_text(name)}"><b>'
    f"{_text(arm(name).label)}</b></th><td>{_chips(sample)}</td>"
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
  for piece, token, novel, nats in itertools.zip_longest(*columns):
    title, bar = [f"id {token}", "not in s" if novel else "in s"], ""
    if number(nats) is not None:
      title.append(f"{nats:.2f} nats")
      # Full width at 6 nats: one in 400.
      bar = f' style="--nats:{min(100.0, 100 * nats / 6):.0f}%"'
    chips.append(
      f'<span class="chip{" novel" * bool(novel)}"{bar} '
      f'title="{_text(", ".join(title))}">{_text(piece)}</span>'
    )
  return " ".join(chips) or "<small>nothing</small>"


def _difference(sample: dict) -> str:
  """d, with what is wrong struck out and what s has there beside it."""
  s = sample.get("source_pieces") or []
  d = sample.get("decoded_pieces") or []
  if not d:
    return _text(sample.get("decoded") or "") or "<small>nothing</small>"
  matcher = difflib.SequenceMatcher(None, s, d, autojunk=False)
  parts = []
  for what, i, j, k, n in matcher.get_opcodes():
    if what == "equal":
      parts.append(_text(_join(d[k:n])))
    else:
      parts += [f"<del>{_text(_join(d[k:n]))}</del>"] * (n > k)
      parts += [f"<ins>{_text(_join(s[i:j]))}</ins>"] * (j > i)
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
  head = "".join(f"<th>{_text(title)}</th>" for _, _, title in columns)
  body = ""
  for phase in ["base"] * ("base" in phases) + ordered(phases - {"base"}):
    steps = [number(m.get("step")) for m in metrics if m.get("phase") == phase]
    last = max((step for step in steps if step is not None), default=0)
    cells = ""
    for key, split, _ in columns:
      values = figures.series(metrics, phase, split, key)[1]
      cells += f"<td>{_short(values[-1]) if values.size else '—'}</td>"
    body += (
      f'<tr><th scope="row" class="arm-{_text(phase)}"><b>'
      f"{_text(arm(phase).label)}</b></th><td>{last:,.0f}</td>{cells}</tr>\n"
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
    return f"<p>{_text(name)} is missing.</p>"
  lines = "".join(
    f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>"
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


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
