"""What a run's held-out numbers say: a verdict in words and a table."""

from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax.report.style import ARMS, ENGLISH, arm, number, ordered, short


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
HEADLINES = {
  "won": "The code wins on this run",
  "lost": "The code loses on this run",
  "level": "The code and English are level on this run",
  "mixed": "The result of this run is mixed: the code does not win",
  "void": "The code scores best on this run, but a control has failed",
  "none": "No verdict",
}
PLAIN = Metric("", "", 2, False, 0, "")
WARNING = "Warning:"  # opens a sentence that takes a win away
HARDLY = 1.0  # bits that a wrong code has to cost D before it counts as read
Outcome = tuple[str, list[str]]  # a key of HEADLINES, and why


def verdict(summary: dict) -> Outcome:
  """The code against the best English arm, in sentences of plain text.

  The best English arm is picked on the very numbers that are compared, which
  favours English. Without bits for all arms, nll and edit similarity both have
  to be better, each against the English arm that is best in it.
  """
  heldout = summary.get("heldout") or {}
  code, english = heldout.get("code") or {}, english_arms(heldout)
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


def english_arms(heldout: dict) -> dict[str, dict]:
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
    f"{what.capitalize()}: {shown(ours, metric)} for the code, "
    f"{shown(theirs, metric)} for the best English arm "
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
      f"The code is {side} what k content words kept in order can convey at "
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
  rows = rows_of(summary)
  top = best(rows)
  for i, (group, name, label, _, scores) in enumerate(rows):
    last = i + 1 == len(rows) or rows[i + 1][0] != group
    cells = [
      Text(
        shown(scores.get(m.key), m),
        "bold" * (name in top.get(m.key, ())),
      )
      for m in METRICS
    ]
    look = {"code": "bold", "controls": "dim"}.get(group, "")
    result.add_row(Text(label), *cells, style=look, end_section=last)
  return result


Row = tuple[str, str, str, str, dict]  # group, name, label, about, scores


def rows_of(summary: dict) -> list[Row]:
  """The rows of the results: the code, English arms, other arms, controls."""
  heldout = summary.get("heldout") or {}
  rows = []
  if heldout.get("code"):
    look = ARMS["code"]
    rows.append(("code", "code", look.label, look.about, heldout["code"]))
  english, controls = english_arms(heldout), heldout.get("controls") or {}
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


def best(rows: list[Row]) -> dict[str, set[str]]:
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


def shown(value: Any, metric: Metric) -> str:
  """A number as the table prints it; a dash where there is none."""
  value = number(value)
  if value is None:
    return "—"
  # Adding zero makes a rounded −0 a 0.
  value = round(value, metric.digits + 2 * metric.percent) + 0.0
  if metric.percent:
    return f"{100 * value:.{metric.digits}f}\N{NO-BREAK SPACE}%"
  return f"{value:.{metric.digits}f}".replace("-", "−")


def ood_rows(summary: dict) -> list[tuple[str, str, float, float]]:
  """Arms on held-out sources and on ones of another distribution.

  -> (arm, metric's label, held-out, strange); verified bits, then tokens right.
  RSRC (ours) uses the held-out ones alone.
  """
  arms = (summary.get("strange") or {}).get("arms") or {}
  known = {
    name: scores
    for group, name, _, _, scores in rows_of(summary)
    if group != "controls"
  }
  rows = []
  for name in ordered(set(arms) & set(known)):
    for key, label in (
      ("verified_bits", "verified bits"),
      ("token_accuracy", "tokens right"),
    ):
      ours, theirs = number(known[name].get(key)), number(arms[name].get(key))
      if ours is not None and theirs is not None:
        rows.append((name, label, ours, theirs))
  return rows


def ood_table(summary: dict) -> Table:
  """The same for a terminal, with the gap."""
  name = (summary.get("strange") or {}).get("name") or "another distribution"
  result = Table(
    title=f"Held-out against {name}",
    box=box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
    show_edge=False,
    title_justify="left",
  )
  for column in ("arm", "score"):
    result.add_column(column)
  for column in ("held-out", "strange", "gap"):
    result.add_column(column, justify="right")
  for who, label, ours, theirs in ood_rows(summary):
    cells = (short(x) for x in (ours, theirs, ours - theirs))
    result.add_row(arm(who).label, label, *cells)
  return result
