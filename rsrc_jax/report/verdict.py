"""What a run's held-out numbers say, in sentences of plain text."""

from rsrc_jax.report import held_out, style
from rsrc_jax.report.arms import Arms
from rsrc_jax.report.held_out import Scores
from rsrc_jax.report.numbers import number
from rsrc_jax.report.scores import BY_KEY, shown

TITLES = {
  "won": "{who} wins on this run",
  "lost": "{who} loses on this run",
  "level": "{who} and {rivals} are level on this run",
  "mixed": "the result of this run is mixed: {who} does not win",
  "void": "{who} scores best on this run, but a control has failed",
  "none": "no verdict",
}
WARNING = "Warning:"  # opens a sentence that takes a win away
HARDLY = 1.0  # bits that a wrong code has to cost D before it counts as read
WHAT = {
  "bits_conveyed": "Bits conveyed a source",
  "nll_bits": "Bits a source still open after reading c",
  "edit_similarity": "Edit similarity of the free-running d",
}
Outcome = tuple[str, list[str]]  # a key of TITLES, and why


def verdict(summary: dict, arms: Arms) -> Outcome:
  """The headline arm against the best baseline.

  The best baseline is picked on the very numbers that are compared, which
  favours the baselines. Without bits for all arms, nll and edit similarity both
  have to be better, each against the baseline that is best in it.
  """
  scores, others = headline(summary, arms), baselines(summary, arms)
  if arms.headline is None:
    return "none", [
      f"There is no arm “{style.HEADLINE}”, so that this report is about "
      "the code of no arm: config.report.headline can name one."
    ]
  if not scores or not others:
    kind = "English arms" if arms.rivals == "English" else "baselines"
    lacking = kind if scores else arms.who
    return "none", [f"Held-out results of {the(lacking)} are missing."]
  everyone = [scores, *others.values()]

  def have(key: str) -> bool:
    return all(number(m.get(key)) is not None for m in everyone)

  if have("bits_conveyed"):
    outcome, sentence = _compare(scores, others, arms, "bits_conveyed", " bits")
    sentences = [sentence]
    # Bits are teacher-forced: what D really writes stands next to them.
    if have("edit_similarity"):
      sentences.append(_compare(scores, others, arms, "edit_similarity", "")[1])
    sentences += _against_bounds(summary, scores, arms)
  elif have("nll_bits") and have("edit_similarity"):
    nll, first = _compare(scores, others, arms, "nll_bits", " bits of nll")
    edit, second = _compare(scores, others, arms, "edit_similarity", "")
    outcome = nll if nll == edit else "mixed"
    sentences = [first, second]
  else:
    return "none", ["There is no score that all arms have."]
  sentences += _absent(others, arms) + _against_controls(summary, arms)
  if outcome == "won" and any(s.startswith(WARNING) for s in sentences):
    outcome = "void"
  return outcome, [*sentences, _one_seed(summary)]


def title(outcome: str, arms: Arms) -> str:
  """The outcome in a line, to go on within a sentence."""
  rivals = "English" if arms.rivals == "English" else "its baselines"
  return TITLES[outcome].format(who=arms.who, rivals=rivals)


def capital(sentence: str) -> str:
  """With a capital first letter."""
  return sentence[:1].upper() + sentence[1:]


def the(name: str) -> str:
  """With an article, where it is a word of ours and has none."""
  return f"the {name}" if name in ("English arms", "baselines") else name


def headline(summary: dict, arms: Arms) -> Scores:
  """The scores of the arm that the report is about; {} without them."""
  return held_out.arms(summary).get(arms.headline, {})


def baselines(summary: dict, arms: Arms) -> dict[str, Scores]:
  """The arms that it is held against, as far as they have results."""
  found = held_out.arms(summary)
  return {n: found[n] for n in arms.baselines if n in found}


def best_baseline(others: dict[str, Scores], key: str) -> str:
  """The name of the baseline that leads a score that all of them have."""
  better = BY_KEY[key].better
  return max(others, key=lambda name: better * others[name][key])


def _compare(
  scores: Scores, others: dict[str, Scores], arms: Arms, key: str, unit: str
) -> Outcome:
  """One score of the headline and that of the best baseline."""
  metric, best = BY_KEY[key], best_baseline(others, key)
  ours, theirs = scores[key], others[best][key]
  lead = metric.better * (ours - theirs)
  kind = "English arm" if arms.rivals == "English" else "baseline"
  numbers = (
    f"{WHAT[key]}: {shown(ours, metric)} for {arms.who}, "
    f"{shown(theirs, metric)} for the best {kind} "
    f"({style.arm(best, arms.looks).label})"
  )
  # Closer than what is printed is not a difference.
  if abs(lead) < 0.5 * 10**-metric.digits:
    return "level", f"{numbers}: no difference."
  size = f"{abs(lead):.{metric.digits}f}{unit}"
  if lead > 0:
    return "won", f"{numbers}: {arms.who} is {size} better."
  return "lost", f"{numbers}: {arms.who} is {size} worse."


def _against_bounds(summary: dict, scores: Scores, arms: Arms) -> list[str]:
  """Whether the code beats every extract, and stays within its channel."""
  bits, bounds = scores["bits_conveyed"], summary.get("bounds") or {}
  extract = number(bounds.get("english_extract_bits"))
  channel = number(bounds.get("channel_bits"))
  sentences = []
  if extract is not None:
    side = "above" if bits > extract else "not above"
    sentences.append(
      f"{capital(arms.who)} is {side} what k content words kept in order can "
      f"convey at this budget ({extract:.2f} bits)."
    )
  if channel is not None and bits > channel:
    sentences.append(
      f"{WARNING} that is more than its tokens can carry ({channel:.2f} bits), "
      "so something other than the code tells D about the source."
    )
  return sentences


def _absent(others: dict[str, Scores], arms: Arms) -> list[str]:
  """Baselines of the config that have no results."""
  names = [style.arm(n, arms.looks).label for n in arms.expected
           if n not in others]  # fmt: skip
  kind = "English arms" if arms.rivals == "English" else "Baselines"
  return [f"{kind} that were not run: {', '.join(names)}."] * bool(names)


def _against_controls(summary: dict, arms: Arms) -> list[str]:
  """Whether d depends on c at all."""
  controls = held_out.controls(summary)
  key = "nll_bits"
  own, other = (
    number(m.get(key))
    for m in (
      held_out.arms(summary).get(arms.controls, {}),
      controls.get("shuffled_code", {}),
    )
  )
  if own is None or other is None:
    return ["Not controlled: D was not given the codes of other sources."]
  gap = other - own
  # Another arm's control neither confirms this one nor takes a win away.
  whose = (
    "" if arms.controls == arms.headline
    else f"The controls are those of {arms.called(arms.controls)}. "
  )  # fmt: skip
  if gap < HARDLY:
    return [
      f"{whose}{WARNING} the code of another source costs D only {gap:.2f} "
      "bits, so hardly any of what it knows is in the code."
    ]
  return [
    f"{whose}Control: the code of another source costs D {gap:.2f} bits, so it "
    "does read the code."
  ]


def _one_seed(summary: dict) -> str:
  seed = summary.get("seed")
  return (
    f"One run is one seed{'' if seed is None else f' ({seed})'}: it proves "
    "nothing over seeds, however many sources it was scored on."
  )
