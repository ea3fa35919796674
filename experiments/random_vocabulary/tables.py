"""Markdown tables of the experiment: means over seeds and 95 % intervals."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.over_seeds import markdown
from experiments.random_vocabulary import stored
from experiments.random_vocabulary.stored import Tier
from rsrc_jax.evaluation import code_judge
from rsrc_jax.metrics import statistics

LEGEND = (
  "Printed by analyse.py. Test split, greedy codes with nothing forced, the "
  "last parameters; one policy a budget k. ± is the 95 % interval of Student's "
  "t over seeds; without it there was one seed. *Gain* is the edit similarity "
  "of the free-running d less that of the same arm's D without a code; its "
  "area is under the curve over log2 k, divided by the span, or at a single "
  "budget the gain itself."
)
OF_OTHERS = (
  "LM bits: of the frozen base, which has no probability for an id that no "
  "text holds. Results from before such ids were counted have them where there "
  "is none; elsewhere only the share is left."
)
LANGUAGE = {  # title -> what to get of codes
  "tokens that no text holds": stored.foreign_share,
  "LM bits a token of the others": stored.text_bits,
}
TRAITS = {
  "copy_rate": "copy rate",
  "unigram_kl": "KL from the corpus, unigrams",
  "type_token_ratio": "type/token",
  "zipf_slope": "Zipf slope",
  "distinct_1": "distinct-1",
  "longest_run": "longest run",
  "zlib_ratio": "zlib ratio",
  "topographic_similarity": "topographic similarity",
}
WAYS = {
  "code": "from c",
  "decoded": "from d",
  "question": "from the question alone",
  "shuffled": "from another's c",
}
Get = Callable[[dict], Any]  # of what was found of an arm


def spread(values: dict[int, float], digits: int = 3) -> str:
  """Mean ± the 95 % interval over seeds."""
  numbers = np.array(list(values.values()), float)
  if not len(numbers):
    return "-"
  if len(numbers) < 2:
    return f"{numbers[0]:.{digits}f}"
  mean, half = statistics.seed_interval(numbers)
  return f"{mean:.{digits}f} ± {half:.{digits}f}"


def grid(
  tier: Tier, columns: dict[str, tuple[Get, int]], k: int | None = None
) -> str:
  """Arms by columns: title -> what to get of an arm (at k), and its digits."""
  cell = lambda arm, get, digits: spread(stored.each(tier, arm, get, k), digits)
  return _grid(tier, columns, cell)


def mean_grid(tier: Tier, columns: dict[str, tuple[Get, int]]) -> str:
  """The same, means over the budgets."""
  cell = lambda arm, get, digits: spread(stored.mean(tier, arm, get), digits)
  return _grid(tier, columns, cell)


def _grid(tier, columns, cell) -> str:
  rows = [
    [arm, *(cell(arm, *column) for column in columns.values())]
    for arm in stored.arms(tier)
  ]
  return markdown(["arm", *columns], rows)


def at(*path: str | int) -> Get:
  """What lies under these keys; a KeyError where nothing does.

  Budgets are numbers among parts and text elsewhere, as stored.
  """
  keys = [
    x if i and path[i - 1] == "parts" else str(x) for i, x in enumerate(path)
  ]
  return lambda found: functools.reduce(operator.getitem, keys, found)


def p_value(p: float | None) -> str:
  return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def provenance(tier: Tier, registered: dict) -> str:
  """What the tables of a tier are made of, and what is missing."""
  seeds, parts = list(tier.found), tier.found.values()
  listed = lambda x: ", ".join(map(str, x))
  over = lambda name: listed(f"{x:,}" for x in sorted({p[name] for p in parts}))
  lines = [
    f"Seeds {listed(seeds)}; {over('steps')} steps an arm; {over('params')} "
    f"parameters (of k = {next(iter(parts))['budgets'][0]}); budgets "
    f"{listed(tier.budgets)}, a policy each.",
    *tier.notes,
  ]
  if absent := sorted(set(registered["seeds"]) - set(seeds)):
    lines.append(f"Seeds {listed(absent)}: not run.")
  for arm in stored.arms(tier):
    for k in tier.budgets:
      has = stored.each(tier, arm, at("by_budget"), k)
      if len(has) < len(seeds):
        less = listed(sorted(set(seeds) - set(has)))
        lines.append(f"{arm}, k = {k}, seeds {less}: not run.")
  # A ratio is of two stretches of one arm's training: b is no arm.
  named = {
    what[x]
    for what in registered["hypotheses"].values()
    for x in ("a" if what["test"].startswith("ratio") else "ab")
  }
  named |= set(registered["english_arms"])
  named |= {arm for pair in registered["exploratory"] for arm in pair}
  named -= {"best_english", *stored.arms(tier)}
  return "\n".join(lines + [f"{arm}: not run." for arm in sorted(named)])


def chosen(best: str | None, areas: dict[str, float], registered: dict) -> str:
  """Which English arm is compared, and by what."""
  if best is None:
    return "Best English arm: not run, none of them has every seed."
  every = ", ".join(f"{arm} {x:.3f}" for arm, x in areas.items())
  absent = [arm for arm in registered["english_arms"] if arm not in areas]
  left = f" Without every seed: {', '.join(absent)}." if absent else ""
  return f"Best English arm on validation: **{best}** (areas: {every}).{left}"


def of_tier(tier: Tier, best: str | None) -> list[str]:
  """Every table of one tier but those of contrasts and costs."""
  return [
    "### Arms", arms_table(tier), *budget_tables(tier),
    f"### Codes of {stored.shown(tier)} tokens", codes_table(tier),
    "### Questions answered", questions_table(tier),
    "### English tokens at equal quality", ratio_table(tier, best),
    "### Sources unlike those trained on", shifts_table(tier),
  ]  # fmt: skip


def arms_table(tier: Tier) -> str:
  """Areas over the budgets."""
  rows = []
  for arm in stored.arms(tier):
    gain = {s: x.mean() for s, x in stored.gains(tier, arm).items()}
    means = [_area(tier, arm, x) for x in ("token_f1", "chrf", "exact_match")]
    floor = stored.mean(tier, arm, at("no_code", "edit_similarity"))
    each = ", ".join(f"{x:.3f}" for x in gain.values())
    rows.append([arm, *map(spread, [gain, *means, floor]), each])
  return markdown(
    ["arm", "area of gain", "token F1, area", "chrF, area",
     "exact match, area", "edit similarity without c (L0), mean over k",
     "area of gain by seed"], rows,
  )  # fmt: skip


def _area(tier: Tier, arm: str, name: str) -> dict[int, float]:
  gets = [at("by_budget", k, "means", name) for k in tier.budgets]
  curve = lambda found: np.array([get(found) for get in gets], float)
  return stored.each(
    tier, arm, lambda x: float(stored.area(curve(x), tier.budgets))
  )


def budget_tables(tier: Tier) -> list[str]:
  """One table a metric: arms by budgets."""
  mean = lambda name: lambda k: at("by_budget", k, "means", name)
  nll, tokens, ids = mean("nll_bits"), mean("mean_tokens"), stored.ids(tier)
  # Each budget has a D of its own: what it saves is against that D alone.
  without = lambda k: at("parts", k, "no_code", "nll_bits")
  floor = lambda x: float(np.mean([without(k)(x) for k in tier.budgets]))
  utilisation = lambda k: (
    lambda x: code_judge.channel_utilisation(
      without(k)(x), nll(k)(x), ids=ids, budget=k
    )
  )
  two_part = lambda k: lambda x: tokens(k)(x) * math.log2(ids) + nll(k)(x)
  shown = [
    ("Edit similarity of d", mean("edit_similarity"), 3, {}),
    ("Bits conveyed", mean("bits_conveyed"), 2, {}),
  ]
  if ids:
    shown += [
      (f"η: bits of NLL saved by c, over log2 of the codes of {ids} ids, for "
       "every arm", utilisation, 3, {}),
      (f"Two-part length in bits: len(c) log2 {ids} + NLL(s; c)", two_part, 1,
       {"NLL(s) without c, mean over k": (floor, 1)}),
    ]  # fmt: skip
  parts = []
  for title, get, digits, more in shown:
    columns = {f"k = {k}": (get(k), digits) for k in tier.budgets}
    parts += [f"**{title}**", grid(tier, columns | more)]
  return parts


def codes_table(tier: Tier) -> str:
  """The language of the codes, and what is left of it when it is disturbed."""
  altered = {"shuffled": "another's c", "permuted": "c permuted"}
  columns = {
    title: (lambda found, get=get: get(found["codes"]), 2)
    for title, get in LANGUAGE.items()
  }
  columns |= {title: (at("codes", x), 2) for x, title in TRAITS.items()}
  table = grid(tier, columns | {
    f"edit similarity, {title}": (at(x, "edit_similarity"), 3)
    for x, title in altered.items()
  }, stored.shown(tier))  # fmt: skip
  return f"{table}\n\n{OF_OTHERS}"


def questions_table(tier: Tier) -> str:
  """Means over the budgets; the ceiling reads s."""

  def mean(way):
    gets = [at("questions", k, way) for k in tier.budgets]
    return lambda found: float(np.mean([np.mean(get(found)) for get in gets]))

  table = grid(tier, {title: (mean(x), 3) for x, title in WAYS.items()})
  top = spread(stored.mean(tier, "U0", at("questions", "source")))
  return f"{table}\n\nFrom s itself (U0): {top}. Means over the budgets."


def ratio_table(tier: Tier, best: str | None) -> str:
  """How many times the tokens the best English arm needs for the same gain."""
  if best is None or len(tier.budgets) < 2:
    return "not run."
  english = mean_curve(tier, best)
  rows = []
  for arm in stored.arms(tier):
    mean = mean_curve(tier, arm)
    if arm != best and len(mean):
      pairs = zip(mean, tier.budgets, strict=True)
      needed = [tokens_needed(x, k, english, tier.budgets) for x, k in pairs]
      rows.append([arm, *needed])
  note = (
    f"Tokens of {best} for the gain of the arm at k, over k, between budgets "
    "by lines over log2 k; > and <: beyond what was measured. Means over seeds."
  )
  head = ["arm", *(f"k = {k}" for k in tier.budgets)]
  return f"{markdown(head, rows)}\n\n{note}"


def mean_curve(tier: Tier, arm: str) -> np.ndarray:
  """Gain at each budget, over seeds and documents. -> [budgets], or [0]"""
  curves = [x.mean(-1) for x in stored.gain_curves(tier, arm).values()]
  return np.mean(curves, 0) if curves else np.zeros(0)


def tokens_needed(
  gain: float, k: int, curve: np.ndarray, budgets: tuple[int, ...]
) -> str:
  """Where a curve first reaches a gain, over k."""
  if gain <= curve[0]:
    sign = "" if gain == curve[0] else "< "
    return f"{sign}{budgets[0] / k:.2f}"
  for i in range(1, len(curve)):
    if curve[i] >= gain:
      part = (gain - curve[i - 1]) / (curve[i] - curve[i - 1])
      low, high = np.log2(budgets[i - 1 : i + 1])
      return f"{2 ** (low + part * (high - low)) / k:.2f}"
  return f"> {budgets[-1] / k:.2f}"


def shifts_table(tier: Tier) -> str:
  """Edit similarity of shifted sources, beside that of the test split."""
  names = dict.fromkeys(
    name
    for arm in stored.arms(tier)
    for k in tier.budgets
    for by_name in stored.each(tier, arm, at("shifts"), k).values()
    for name in by_name
  )
  if not names:
    return "not run: the corpus has no shifts."

  def over(get):  # the one k of a part
    return lambda part: get(part, next(iter(part["by_budget"])))

  test = lambda x, k: at("by_budget", k, "means", "edit_similarity")(x)
  shift = lambda name: lambda x, k: at("shifts", name, k, "edit_similarity")(x)
  columns = {"test": (over(test), 3)} | {
    name.replace("_", " "): (over(shift(name)), 3) for name in names
  }
  budgets = ", ".join(map(str, tier.budgets))
  return (
    f"Edit similarity of d, means over the budgets {budgets}.\n\n"
    f"{mean_grid(tier, columns)}"
  )


def samples(tier: Tier) -> str:
  """Cards of s, c and d, as pieces of text; of the first seed."""
  k, parts = stored.shown(tier), []
  for arm in stored.arms(tier):
    cards = stored.each(tier, arm, at("codes", "samples"), k)
    for seed in list(cards)[:1]:
      rows = [
        [_text(card[x]) for x in ("source", "code", "decoded")]
        for card in cards[seed]
      ]
      parts += [f"## {arm} (seed {seed})", markdown(["s", "c", "d"], rows)]
  about = (
    f"The first sources of the test split, c of {k} tokens and the "
    "free-running d."
  )
  return "\n\n".join(["# Sample cards", about, *(parts or ["not run."])]) + "\n"


def _text(pieces: list[str]) -> str:
  """Pieces as one cell, whatever stands in them."""
  escape = lambda x: x.replace("\\", "\\\\").replace("|", "\\|")
  return " ".join(escape(x).replace("\n", "⏎") for x in pieces) or "(empty)"
