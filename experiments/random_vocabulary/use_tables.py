"""Tables of injected ids: how they are used in the end, and in training."""

import numpy as np

from experiments.over_seeds import markdown
from experiments.random_vocabulary import stored, training
from experiments.random_vocabulary.stored import Tier
from experiments.random_vocabulary.tables import at, spread
from rsrc_jax.metrics import contrasts, reward_record, use

USE = {
  "use_rate": "codes that use any",
  "decoy_rate": "by chance",
  "tail_share": "of them: at the end only",
  "rote_share": "of them: rote",
  "swap_bits": "bits lost a swapped id",
  "tau": "rote threshold, nats",
}
OF_USERS = ("tail_share", "rote_share", "swap_bits")  # means over users
# Of held-out looks, and their digits.
HELD = {
  "use_rate": ("codes that use any", 2),
  "decoy_rate": ("by chance", 2),
  "used": ("ids used a code", 2),
  "tail_share": ("of users: at the end only", 2),
  "rote_share": ("of users: rote", 2),
  "swap_bits": ("bits lost a swapped id", 2),
  "gain": ("gain", 2),
  "pay_bonus": ("bonus paid", 4),
  "reward": ("reward", 3),
}


def use_table(tier: Tier) -> str:
  """Injected ids as forced at the start of training, and as asked for."""
  rows = []
  for arm in stored.arms(tier):
    for how in ("forced", "asked"):
      gets = {x: at("use", how, x) for x in USE}
      every = lambda _: 1.0
      found = [
        stored.mean(
          tier, arm, get, gets["use_rate"] if x in OF_USERS else every
        )
        for x, get in gets.items()
      ]
      if any(found):
        rows.append([arm, how, *map(spread, found), _label(found)])
  if not rows:
    return "not run."
  budgets = ", ".join(map(str, tier.budgets))
  note = (
    f"Means over the budgets {budgets}; what is said of users is weighted by "
    "how many there were, and is - where there was none. Chance: as many ids "
    "that were not given, found in the same codes. Rote: swapping the injected "
    "ids for others costs D no more than the threshold; the rest are "
    "load-bearing. Where hardly a code uses any, the shares "
    f"say little. Junk: D loses less than {use.JUNK:g} bit a swapped id."
  )
  head = ["arm", "ids are", *USE.values(), "use is"]
  return f"{markdown(head, rows)}\n\n{note}\n\n{paid(tier)}"


def _label(found: list[dict[int, float]]) -> str:
  """Of the means of USE by seed: junk, kept, or - where nobody uses any."""
  bits = list(found[list(USE).index("swap_bits")].values())
  return use.label(float(np.mean(bits)) if bits else None)


def paid(tier: Tier) -> str:
  """Whether contrasts of the arms with a bonus test it: what it has paid."""
  found = {}
  for arm in stored.arms(tier):
    runs = [
      one
      for whole in stored.each(tier, arm, lambda x: x).values()
      for budget, one in whole["parts"].items()
      if budget in tier.budgets
    ]
    looks = [x for one in runs for x in one.get("held") or []]
    if not any("pay_bonus" in x or "held_pay_bonus" in x for x in looks):
      continue
    spreads = [reward_record.offered(training.drawn(one)) for one in runs]
    known = [x for x in spreads if x is not None]
    found[arm] = float(np.mean(known)) if known else None
  if not found:
    return "No arm was paid a bonus."
  said = ", ".join(
    f"{arm} {contrasts.mechanism(x) or 'tested'}"
    + ("" if x is None else f" ({x:.3f})")
    for arm, x in found.items()
  )
  return (
    "The bonus, its standard deviation within groups over that of the reward, "
    f"over the steps with injected ids: {said}. A contrast that rests on a "
    f"bonus below {contrasts.PAID:.2f} is not tested, whatever its verdict."
  )


def held(tier: Tier) -> list[str]:
  """What became of injected ids in training: first, middle and last look."""
  if not tier.found:
    return [*tier.notes, f"not run: no results/{tier.name}-kK-SEED.json.gz."]
  k, rows = stored.shown(tier), []
  for arm in stored.arms(tier):
    looks = three_looks(tier, arm)
    cells = [_turns(looks, name, digits) for name, (_, digits) in HELD.items()]
    steps = sorted({x["step"] for look in looks for x in look.values()})
    at_steps = " → ".join(map(str, steps)) or "-"
    label = use.label(*(_last(looks, x) for x in ("swap_bits", "use_rate")))
    rows.append([arm, str(max(map(len, looks))), at_steps, *cells, label])
  heads = ["arm", "n", "step", *(title for title, _ in HELD.values()), "use is"]
  seeds = ", ".join(map(str, tier.found))
  return [
    "\n".join([f"Seeds {seeds}; k = {k}.", *tier.notes]),
    "The first → the middle → the last held-out look, means over n seeds; of "
    "users, over the seeds that had any at that look, whose number is in "
    "brackets where it is not n. By chance: as many ids that were not given.",
    "Use is junk where a swapped id costs D less than "
    f"{use.JUNK:g} bit at the last look. {paid(tier)}",
    markdown(heads, rows),
  ]


def _last(looks: list[dict[int, dict]], name: str) -> float | None:
  """A number at the last look, mean over the seeds that have it."""
  values = [
    x[f"held_{name}"]
    for x in looks[-1].values()
    if training.known(x.get(f"held_{name}"))
    and (name not in OF_USERS or (x.get("held_use_rate") or 0) > 0)
  ]
  return float(np.mean(values)) if values else None


def three_looks(tier: Tier, arm: str) -> list[dict[int, dict]]:
  """The first, middle and last look of each seed: 3 x (seed -> look)."""
  k = stored.shown(tier)
  seen = stored.each(tier, arm, lambda part: training.looks(part) or None, k)
  return [
    {seed: x[place(len(x))] for seed, x in seen.items()}
    for place in (lambda n: 0, lambda n: (n - 1) // 2, lambda n: n - 1)
  ]


def _turns(looks: list[dict[int, dict]], name: str, digits: int) -> str:
  """A number at each look; nobody's share is none."""
  cells = []
  for look in looks:
    values = [
      x[f"held_{name}"]
      for x in look.values()
      if training.known(x.get(f"held_{name}"))
      and (name not in OF_USERS or (x.get("held_use_rate") or 0) > 0)
    ]
    less = f" ({len(values)})" if 0 < len(values) < len(look) else ""
    mean = f"{np.mean(values):.{digits}f}" if values else "-"
    cells.append(mean + less)
  return "-" if set(cells) == {"-"} else " → ".join(cells)


def fifths(values: np.ndarray) -> list[np.ndarray]:
  """Means of the first, middle and last fifth. [seeds, n] -> 3 x [seeds]"""
  n = values.shape[1]
  size = max(n // 5, 1)
  starts = (0, (n - size) // 2, n - size)
  return [values[:, start : start + size].mean(-1) for start in starts]
