"""Draws the experiment's figure and prints its tables from stored summaries.

./.venv/bin/python experiments/cc/plot.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import over_seeds as seeds
from rsrc_jax.metrics import statistics

HERE = Path(__file__).resolve().parent
ARMS = {
  "cc": "four tokens of memory",
  "cc_large": "twelve tokens of memory",
  "cc_alone": "trained where nothing is shared",
}
CONTROLS = {
  "cc": "cc, as it unfolds", "empty": "no memory",
  "frozen": "cc of the first round, for ever",
  "shuffled": "another stream's cc",
}  # fmt: skip
ROUNDS = (1, 2, 3)


def ceiling_bits(words: list[int], drift: float) -> float:
  """Most bits that the sources before can tell of the next one.

  words: how many each shared fact may be, all equally likely.
  """
  bits = 0.0
  for m in words:
    same = 1.0 - drift + drift / m
    other = (m - 1) * drift / m
    left = -same * np.log2(same)
    if other > 0:
      left -= other * np.log2(drift / m)
    bits += np.log2(m) - left
  return float(bits)


def main():
  runs = seeds.load(HERE, "cc")

  def get(arm, name, beside=None):  # of the runs that have both arms
    some = [r for r in runs if {arm, beside or arm} <= set(r["examined"])]
    return seeds.examined(some, arm, name)

  ceiling = ceiling_bits([8] * 4, 0.1)
  text = [
    seeds.made_with(runs)
    + " Seeds 3 and 4 have the memory of four tokens alone.",
    "",
    "Bits that D gains about a new s, from a code of two tokens and the "
    f"memory. What the sources before can tell: {ceiling:.2f} bits.",
    "",
    "| memory | streams | C and D read | "
    + " | ".join(f"round {r + 1}" for r in ROUNDS)
    + " | mean |",
    "|---|---|---|" + "---|" * (len(ROUNDS) + 1),
  ]
  for arm, label in ARMS.items():
    for prefix, streams in (("", "share facts"), ("alone_", "share nothing")):
      for control, said in CONTROLS.items():
        names = [*(f"{control}_{r}" for r in ROUNDS), control]
        cells = [seeds.shown(get(arm, prefix + name)) for name in names]
        text.append(f"| {label} | {streams} | {said} | {' | '.join(cells)} |")
  claims = []
  for arm, prefix, claim in (
    ("cc", "", "the memory helps where facts are shared"),
    ("cc", "alone_", "the memory helps where nothing is shared"),
    ("cc_large", "", "a memory of twelve helps"),
    ("cc_alone", "alone_", "trained and tried where nothing is shared, "
     "it helps"),
  ):  # fmt: skip
    a, b = get(arm, f"{prefix}cc"), get(arm, f"{prefix}empty")
    claims.append((f"{claim} (over none), bits", a, b))
  of = lambda name: get("cc", name)
  claims += [
    ("its own memory and no other (over another stream's), bits", of("cc"),
     of("shuffled")),
    ("rewriting goes on being worth it (over the first round's for ever, last "
     "round), bits", of("cc_3"), of("frozen_3")),
    ("twelve tokens over four, bits", get("cc_large", "cc"),
     get("cc", "cc", beside="cc_large")),
  ]  # fmt: skip
  text += ["", *seeds.CLAIMS, *(seeds.contrast(*x) for x in claims)]
  text += ["", *corrected(claims)]
  seeds.save(HERE, figure(get, ceiling), "\n".join(text))


def corrected(claims: list[tuple[str, np.ndarray, np.ndarray]]) -> list[str]:
  """The p of each claim, and Holm's over all: the verdicts above have none."""
  p = {x: statistics.t_interval(a - b).p for x, a, b in claims}
  adjusted = statistics.holm(p)
  return [
    f"The verdicts are not corrected for their number, {len(p)}. Holm's p:",
    "",
    "| claim | p | p, Holm |",
    "|---|---|---|",
    *(f"| {x} | {p[x]:.3f} | {adjusted[x].p:.3f} |" for x in p),
  ]


def figure(get, ceiling):
  """What a memory is worth by round, beside its controls."""
  found, axes = plt.subplots(
    1, 2, figsize=(9, 3.4), layout="constrained", sharey=True
  )
  for axis, prefix, title in (
    (axes[0], "", "streams that share four facts"),
    (axes[1], "alone_", "streams that share nothing"),
  ):
    series = {
      said: ([get("cc", f"{prefix}{name}_{r}") for r in ROUNDS], f"C{i}")
      for i, (name, said) in enumerate(CONTROLS.items())
    }
    seeds.lines(axis, [r + 1 for r in ROUNDS], series)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("round")
    axis.set_xticks([r + 1 for r in ROUNDS])
  top = get("cc", "empty").mean() + ceiling
  axes[0].axhline(top, color="k", linestyle=":", linewidth=1)
  axes[0].set_ylabel("bits about s")
  return found


if __name__ == "__main__":
  main()
