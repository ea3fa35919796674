"""What a run's RSRC (ours) says: a table, and plain sentences.

For the page and for a terminal alike, from the block "rsrc" of summary.json,
which older runs lack.
"""

import math
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rsrc_jax.report import survival_map, survival_plot
from rsrc_jax.report.style import ARMS, Interval, count, short, spread


class Column(NamedTuple):
  """A column of the table of arms: what is read, and one line on it."""

  key: str
  label: str
  about: str


COLUMNS = (
  Column("bits_saved", "bits saved",
    "bits of s − bits of c − bits that mend d, a sample, under a verifier that "
    "knows the alphabet alone; signed"),
  Column("k", "k", "capability: bits saved, 0 where they are negative"),
  Column("bits_saved_frozen", "bits, frozen model",
    "the same where the frozen language model prices s and what mends d"),
  Column("joules", "J a sample", "energy of C and D"),
  Column("training_joules", "training, J",
    "everything that was spent on the arm, and on the base that it shares"),
  Column("rsrc_i", "RSRC_i (ours)", "k / J a sample, bit/J"),
  Column("rsrc_t", "RSRC_t(n) (ours)",
    "n (k − k of the untrained) / training, bit/J; ∞ where nothing was "
    "trained"),
  Column("rsrc_life", "RSRC_life(n) (ours)",
    "n k / (training + n × J a sample), bit/J"),
  Column("log10_eta_i", "decades from Landauer",
    "log10 of RSRC_i (ours) × kT ln 2 at 300 K: a scale, not a proof"),
  Column("break_even_samples", "break-even samples",
    "N at which N k covers the bits of weights, tables and dictionaries"),
  Column("m_star_joules", "m*",
    "readings of c, in place of s, after which writing it has paid, in joules"),
)  # fmt: skip
Cell = tuple[str, str]  # what is read first, and the interval below it
Row = tuple[str, str, str, list[Cell]]  # group, name, label, cells


def marks(summary: dict) -> list[dict]:
  """The marks of one run's map; none where there is nothing to draw."""
  try:
    return survival_map.points([summary])
  except ValueError:
    return []


def rsrc_rows(summary: dict) -> list[Row]:
  """The table of arms and baselines, by COLUMNS: code, English, the others."""
  points = {p["name"]: p for p in marks(summary)}
  kinds = ("code", "english", "untrained", "compressor")
  rank = {kind: i for i, kind in enumerate(kinds)}
  looks = list(ARMS)  # the others stay in the order of the file
  place = lambda n: looks.index(n) if n in looks else len(looks)
  names = sorted(
    points, key=lambda n: (rank.get(points[n]["kind"], len(rank)), place(n))
  )
  return [
    (
      points[name]["kind"],
      name,
      points[name]["label"],
      [_cell(points[name], column.key) for column in COLUMNS],
    )
    for name in names
  ]


def rsrc_table(summary: dict) -> Table:
  """The same for a terminal, medians only; the sentences stand below it."""
  shown = {
    "bits_saved": "bits\nsaved",
    "bits_saved_frozen": "frozen\nmodel",
    "joules": "J a\nsample",
    "rsrc_i": "RSRC_i",
    "rsrc_t": "RSRC_t(n)",
    "rsrc_life": "RSRC_life",
    "m_star_joules": "m*",
  }
  n = (summary.get("rsrc") or {}).get("samples_served")
  table = Table(
    title=f"RSRC (ours), bit/J, n = {count(n)} samples served",
    caption="\n".join(rsrc_sentences(summary)),
    box=box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
    show_edge=False,
    title_justify="left",
    caption_justify="left",
  )
  table.add_column("arm", no_wrap=True)
  for label in shown.values():
    table.add_column(label, justify="right", no_wrap=True)
  rows = rsrc_rows(summary)
  for i, (group, _, label, cells) in enumerate(rows):
    last = i + 1 == len(rows) or rows[i + 1][0] != group
    found = {c.key: cell[0] for c, cell in zip(COLUMNS, cells, strict=True)}
    look = {"code": "bold", "compressor": "dim"}.get(group, "")
    table.add_row(
      Text(label), *(found[key] for key in shown), style=look, end_section=last
    )
  return table


def rsrc_sentences(summary: dict) -> list[str]:
  """What the map and its table show, said out loud; a string a question."""
  points = marks(summary)
  code = next((p for p in points if p["kind"] == "code"), None)
  if code is None:
    return ["RSRC (ours) was not computed for a code."] if points else []
  said = (
    _service(code),
    _against_english(code, points),
    _against_compressors(code, points),
    _frozen(code),
    _reuse(code),
    _state(code),
    _energy(points, code),
  )
  return [" ".join(sentences) for sentences in said if sentences]


def _cell(point: dict, key: str) -> Cell:
  """Median and interval of a mark, where it has one."""
  value = point[key]
  if key not in survival_map.INTERVALS or value is None:
    return short(value), ""
  text = spread(Interval(value, point[f"{key}_p5"], point[f"{key}_p95"]))
  return short(value), text[text.index("[") :] if "[" in text else ""


def _service(code: dict) -> list[str]:
  """What the code saves, and what a joule of use and of training buys."""
  raw, saved = code["raw_bits"], code["bits_saved"]
  head = (
    f"The code saves {short(saved)} of {short(raw)} bits a sample under the "
    f"{code['verifier']} verifier, which knows the alphabet alone, and takes "
    f"{short(code['joules'])} J"
  )
  if code["k"] is None:
    return [f"{head}; its k is unknown."]
  if not code["k"]:
    return [f"{head}: k = 0, so that every RSRC (ours) of it is 0."]
  sentences = [
    f"{head}: RSRC_i (ours) {short(code['rsrc_i'])} bit/J. Over n = "
    f"{count(code['samples_served'])} samples served RSRC_t(n) (ours) is "
    f"{short(code['rsrc_t'])} and RSRC_life(n) (ours) "
    f"{short(code['rsrc_life'])} bit/J."
  ]
  if (code["training_joules"] or 0) > 0 and (code["joules"] or 0) > 0:
    served = code["samples_served"] * code["joules"]
    share = code["training_joules"] / (code["training_joules"] + served)
    level = code["training_joules"] / code["joules"]
    sentences.append(
      f"Training took {100 * share:.1f} % of that energy; serving will have "
      f"taken as much after {short(level)} samples."
    )
  return sentences


def _against_english(code: dict, points: list[dict]) -> list[str]:
  english = [p for p in points if p["kind"] == "english" and p["k"] is not None]
  if not english or code["k"] is None:
    return ["No English arm can be compared with the code."]
  best = max(english, key=lambda p: p["k"])
  more = code["k"] - best["k"]
  return [
    f"The best English arm ({best['label']}) saves k = {short(best['k'])} bits "
    f"a sample: the code saves {short(abs(more))} "
    f"{'more' if more > 0 else 'fewer'}, with RSRC_life(n) (ours) "
    f"{short(code['rsrc_life'])} against {short(best['rsrc_life'])} bit/J."
  ]


def _against_compressors(code: dict, points: list[dict]) -> list[str]:
  """The orders of magnitude between the code and the best compressor."""
  others = [
    p
    for p in points
    if p["kind"] == "compressor" and (p["rsrc_i"] or 0) > 0 and p["k"]
  ]
  if not others:
    return ["No general compressor saved anything, or none was measured."]
  best = max(others, key=lambda p: p["rsrc_i"])
  versus = "more" if best["k"] > (code["k"] or 0) else "no more"
  head = (
    f"{best['label']}, which nobody trained, saves {short(best['k'])} bits a "
    f"sample, {versus} than the code, at {short(best['rsrc_i'])} bit/J"
  )
  if None in (code["rsrc_i"], code["rsrc_life"]):
    return [f"{head}; the code's energy is unknown."]
  if min(code["rsrc_i"], code["rsrc_life"]) <= 0:
    return [f"{head}; the code, at 0, has no logarithm to compare."]
  use, whole = (
    math.log10(best["rsrc_i"] / code[key]) for key in ("rsrc_i", "rsrc_life")
  )
  if whole <= 0:
    return [f"{head}: the code beats it, training included, by {-whole:.1f} "
            "orders of magnitude."]  # fmt: skip
  side = f"{abs(use):.1f} orders of magnitude {'above' if use > 0 else 'below'}"
  sentences = [
    f"{head}: {side} the code's RSRC_i (ours), and {whole:.1f} above its "
    "RSRC_life(n) (ours). In bits for a joule a general compressor beats this "
    "model; no number of samples served changes that."
    if use > 0
    else f"{head}: {side} the code's RSRC_i (ours), but {whole:.1f} above its "
    "RSRC_life(n) (ours): training has not paid yet at this n."
  ]
  stars = {k[7:]: v for k, v in code.items() if k.startswith("n_star_")}
  never = [k.replace("_", " ") for k, v in stars.items() if v == math.inf]
  if never:
    sentences.append(
      f"n* is ∞ against {', '.join(never)}: a sample costs the code more "
      "energy than it costs them, so that training never pays for itself."
    )
  paid = [f"{k.replace('_', ' ')} {short(v)}" for k, v in stars.items()
          if v is not None and v < math.inf]  # fmt: skip
  if paid:
    sentences.append(
      f"n*, samples after which training has paid: {', '.join(paid)}."
    )
  return sentences


def _frozen(code: dict) -> list[str]:
  """The same bits under a yardstick that knows the language."""
  saved = code["bits_saved_frozen"]
  if saved is None:
    return ["What it saves under the frozen language model is unknown."]
  shown = _cell(code, "bits_saved_frozen")
  numbers = " ".join(filter(None, shown))
  if saved > 0:
    return [f"Under the frozen language model it saves {numbers} bits."]
  return [
    f"Under the frozen language model it saves {numbers} bits: sending s as "
    "that model codes it is cheaper than sending the code and mending d. What "
    "the code saves is what a verifier without the language leaves to save."
  ]


def _reuse(code: dict) -> list[str]:
  """Whether reading c in place of s pays for writing it."""
  joules, flops = code["m_star_joules"], code["m_star_flops"]
  if joules is None and flops is None:
    return ["m* is unknown: nothing was asked of s and of c."]
  head = (
    "m*, the readings of c in place of s after which writing it has paid, is "
    f"{short(joules)} by joules and {short(flops)} by FLOPs"
  )
  if joules is not None and joules < math.inf:
    return [
      f"{head}. That changes the picture: whoever reads a code more often has "
      "won energy, which a general compressor cannot give, since its stream is "
      "unpacked to s before it is read. m* counts energy alone, not whether "
      "the answers are as good."
    ]
  if joules is None:
    return [f"{head}; by energy it is not known whether reuse pays."]
  return [
    f"{head}. It does not change the picture: in joules an answer read off c "
    "costs no less here than one read off s, however often it is read."
  ]


def _state(code: dict) -> list[str]:
  state, net = code["state_bits"], code["net_bits"]
  if state is None or net is None:
    return []
  return [
    f"Weights and tables hold {short(state)} bits, which are paid after "
    f"{short(code['break_even_samples'])} samples; after n = "
    f"{count(code['samples_served'])} the net is {short(net)} bits."
  ]


def _energy(points: list[dict], code: dict) -> list[str]:
  """What the source of the energies means for the numbers above."""
  counted = [p["label"] for p in points if survival_plot.measured(p)]
  if len(counted) == len(points):
    return [f"All joules were counted ({code['source']})."]
  ends = [code[f"joules{end}"] for end in ("_p5", "", "_p95")]
  wide = ""
  if None not in ends and min(ends) > 0:
    factor = max(ends[1] / ends[0], ends[2] / ends[1])
    wide = f", by a factor of {factor:.1f} either way (5–95 %)"
  some = f", but for {', '.join(counted)}" if counted else ""
  others = {str(p["source"]) for p in points if not survival_plot.measured(p)}
  return [
    f"No joule here was counted{some}: their source is "
    f"“{'”, “'.join(sorted(others))}”, and they are drawn hollow. What is "
    "modelled comes from time and a prior on watts, and may be off"
    f"{wide}; arms of one machine share the prior, so that their ratios are "
    "firmer than they are. RSRC_t(n), RSRC_i and RSRC_life(n) are our "
    "definitions, not the paper's."
  ]
