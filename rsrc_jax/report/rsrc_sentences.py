"""What a run's RSRC (ours) says, in plain sentences.

From the block "rsrc" of summary.json, which older runs lack.
"""

import math

from rsrc_jax.report import survival_map, survival_plot
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.numbers import Quantiles, count, short, spread
from rsrc_jax.report.verdict import capital


def rsrc_sentences(summary: dict, arms: Arms) -> list[str]:
  """What the map and its table show; a string a question."""
  points = survival_map.marks(summary, arms)
  code = next((p for p in points if p["name"] == arms.headline), None)
  if code is None:
    return [f"RSRC (ours) was not computed for {arms.who}."] * bool(points)
  who = arms.who
  sentences = (
    _service(code, who),
    _against_baselines(code, points, arms),
    _against_compressors(code, points, who),
    _frozen(code),
    _reuse(code),
    _state(code),
    _energy(points, code),
  )
  return [" ".join(part) for part in sentences if part]


def _service(code: dict, who: str) -> list[str]:
  """What the code saves, and what a joule of use and of training buys."""
  raw, saved = code["raw_bits"], code["bits_saved"]
  head = (
    f"{capital(who)} saves {short(saved)} of {short(raw)} bits a sample under "
    f"the {code['verifier']} verifier, which knows the alphabet alone, and "
    f"takes {short(code['joules'])} J"
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


def _against_baselines(code: dict, points: list[dict], arms: Arms) -> list[str]:
  """The baseline that saves most; all English arms where none is named."""
  named = set(arms.baselines)
  others = [
    p
    for p in points
    if (p["name"] in named if named else p["kind"] == "english")
    and p["k"] is not None
  ]
  kind = "English arm" if arms.rivals == "English" else "baseline"
  if not others or code["k"] is None:
    return [f"No {kind} can be compared with {arms.who}."]
  best = max(others, key=lambda p: p["k"])
  more = code["k"] - best["k"]
  return [
    f"The best {kind} ({best['label']}) saves k = {short(best['k'])} bits "
    f"a sample: {arms.who} saves {short(abs(more))} "
    f"{'more' if more > 0 else 'fewer'}, with RSRC_life(n) (ours) "
    f"{short(code['rsrc_life'])} against {short(best['rsrc_life'])} bit/J."
  ]


def _against_compressors(code: dict, points: list[dict], who: str) -> list[str]:
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
    f"{best['label']}, which needs no training, saves {short(best['k'])} bits "
    f"a sample, {versus} than {who}, at {short(best['rsrc_i'])} bit/J"
  )
  if None in (code["rsrc_i"], code["rsrc_life"]):
    return [f"{head}; the energy of {who} is unknown."]
  if min(code["rsrc_i"], code["rsrc_life"]) <= 0:
    return [f"{head}; {who}, at 0, has no logarithm to compare."]
  use, whole = (
    math.log10(best["rsrc_i"] / code[key]) for key in ("rsrc_i", "rsrc_life")
  )
  if whole <= 0:
    return [f"{head}: {who} beats it, training included, by {-whole:.1f} "
            "orders of magnitude."]  # fmt: skip
  return [_orders(head, use, whole, who), *_n_star(code, who)]


def _orders(head: str, use: float, whole: float, who: str) -> str:
  """How far a compressor is ahead, in use and with training."""
  side = f"{abs(use):.1f} orders of magnitude {'above' if use > 0 else 'below'}"
  if use > 0:
    return (
      f"{head}: {side} the RSRC_i (ours) of {who}, and {whole:.1f} above its "
      "RSRC_life(n) (ours). In bits for a joule a general compressor beats "
      "this model; no number of samples served changes that."
    )
  return (
    f"{head}: {side} the RSRC_i (ours) of {who}, but {whole:.1f} above its "
    "RSRC_life(n) (ours): training has not paid yet at this n."
  )


def _n_star(code: dict, who: str) -> list[str]:
  """After how many samples training has paid, against each compressor."""
  stars = {k[7:]: v for k, v in code.items() if k.startswith("n_star_")}
  never = [k.replace("_", " ") for k, v in stars.items() if v == math.inf]
  sentences = []
  if never:
    sentences.append(
      f"n* is ∞ against {', '.join(never)}: a sample costs {who} more energy "
      "than it costs them, so that training never pays for itself."
    )
  paid = [f"{k.replace('_', ' ')} {short(v)}" for k, v in stars.items()
          if v is not None and v < math.inf]  # fmt: skip
  if paid:
    sentences.append(
      f"n*, samples after which training has paid: {', '.join(paid)}."
    )
  return sentences


def _frozen(code: dict) -> list[str]:
  """The same bits under a verifier that knows the language."""
  saved = code["bits_saved_frozen"]
  if saved is None:
    return ["What it saves under the frozen language model is unknown."]
  ends = code["bits_saved_frozen_p5"], code["bits_saved_frozen_p95"]
  text = spread(Quantiles(saved, *ends))
  numbers = text if "[" in text else short(saved)
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
    return ["m* is unknown: reading s and c was not timed."]
  head = (
    "m*, the readings of c in place of s after which writing it has paid, is "
    f"{short(joules)} by joules and {short(flops)} by FLOPs"
  )
  if joules is not None and joules < math.inf:
    return [
      f"{head}. That changes the picture: reading a code more often than that "
      "saves energy, which a general compressor cannot give, since its stream "
      "is unpacked to s before it is read. m* counts energy alone, not whether "
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
