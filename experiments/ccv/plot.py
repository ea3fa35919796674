"""Draws the experiment's figure and prints its tables from stored summaries.

./.venv/bin/python experiments/ccv/plot.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

from experiments import over_seeds as seeds

HERE = Path(__file__).resolve().parent

ARMS = {
  "rewrite": "final targets",
  "rewrite_next": "stepwise targets",
  "rewrite_rl": "RL alone",
}
PASSES = (1, 2, 3)
ROWS = (
  ("old", "the old code, as it is"),
  *((f"again_{i}", f"rewritten {i} times, greedily") for i in PASSES),
  *((f"chain_{i}", f"best of a group, {i} passes") for i in PASSES),
  ("once", "by C from the source, greedily"),
  *((f"tries_{i}", f"by C, best of as many tokens as {i} passes")
    for i in PASSES),
)  # fmt: skip


def main():
  runs = seeds.load(HERE, "ccv")
  get = lambda arm, name: seeds.examined(runs, arm, name)
  both = lambda arm, name: (
    f"{seeds.shown(get(arm, f'{name}_bits'), 1)}, "
    f"{seeds.shown(get(arm, f'{name}_tokens'), 2)}"
  )
  text = [seeds.made_with(runs), "", "Bits that D gains about s, and tokens:"]
  text += ["", "| code | " + " | ".join(ARMS.values()) + " |"]
  text.append("|---|" + "---|" * len(ARMS))
  for name, label in ROWS:
    cells = [both(arm, name) for arm in ARMS]
    text.append(f"| {label} | {' | '.join(cells)} |")
  for i in PASSES:
    cells = [seeds.shown(get(arm, f"dead_{i}")) for arm in ARMS]
    text.append(
      f"| chains that had stopped by pass {i} (nothing beat the parent) "
      f"| {' | '.join(cells)} |"
    )
  text += ["", *seeds.CLAIMS]
  for arm, label in ARMS.items():
    of = lambda name, arm=arm: get(arm, name)
    for claim, a, b in (
      (f"{label}: a rewrite is worth more bits than the old code",
       of("again_1_bits"), of("old_bits")),
      (f"{label}: it is shorter", of("old_tokens"), of("again_1_tokens")),
      (f"{label}: the best of a group is worth more than the old code, bits",
       of("chain_1_bits"), of("old_bits")),
      (f"{label}: the best of three passes beats the best of as many fresh "
       "codes, bits", of("chain_3_bits"), of("tries_3_bits")),
      (f"{label}: ... and is shorter", of("tries_3_tokens"),
       of("chain_3_tokens")),
      (f"{label}: the second pass adds bits", of("chain_2_bits"),
       of("chain_1_bits")),
      (f"{label}: the third pass adds bits", of("chain_3_bits"),
       of("chain_2_bits")),
    ):  # fmt: skip
      digits = 3 if "shorter" in claim else 2
      text.append(seeds.contrast(claim, a, b, digits))
  seeds.save(HERE, figure(get), "\n".join(text))


def figure(get):
  """Tokens against bits, each code a point, each arm a panel."""
  found, axes = plt.subplots(
    1, len(ARMS), figsize=(11, 3.6), layout="constrained", sharey=True
  )
  for axis, (arm, label) in zip(axes, ARMS.items(), strict=True):
    at = lambda name, arm=arm: (
      get(arm, f"{name}_tokens").mean(), get(arm, f"{name}_bits").mean()
    )  # fmt: skip
    axis.plot(*at("old"), "ks", label="old code")
    axis.plot(*at("once"), "C2D", label="from s, greedily")
    for kind, colour, said in (
      ("again", "C0", "rewritten, greedily"),
      ("chain", "C1", "best of a group, pass by pass"),
      ("tries", "C2", "from s, best of as many tokens"),
    ):
      points = [at(f"{kind}_{i}") for i in PASSES]
      axis.plot(*zip(*points, strict=True), "o-", color=colour, label=said)
    axis.set_title(label, fontsize=9)
    axis.set_xlabel("tokens")
    axis.grid(alpha=0.3)
  axes[0].set_ylabel("bits about s")
  axes[0].legend(frameon=False, fontsize=7)
  return found


if __name__ == "__main__":
  main()
