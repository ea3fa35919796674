"""Draws the experiment's figure and prints its tables from stored summaries.

./.venv/bin/python experiments/qa/plot.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt  # noqa: E402
import over_seeds as seeds  # noqa: E402

ARMS = {
  "qa": "C -> D -> V, then questions",
  "qa_cold": "questions alone, from the base",
  "qa_english": "the same in words of s",
}
READINGS = {
  "code": "c", "decoded": "d", "nothing": "the question alone",
  "other": "another's c", "source": "s itself",
}  # fmt: skip
KINDS = {
  "asked": "one fact", "said": "... that s says",
  "unknown": "... that s doesn't say", "pairs": "two facts",
  "new_pairs": "two, never asked together", "unasked": "facts never asked for",
}  # fmt: skip
FACTS = ("giver", "verb", "number", "colour", "object", "taker", "city", "day")
UNASKED = ("giver", "number")


def main():
  runs = seeds.load(HERE, "qa")
  get = lambda arm, name: seeds.examined(runs, arm, name)
  text = [seeds.made_with(runs), ""]
  text += [
    "| arm | A reads | " + " | ".join(KINDS.values()) + " |",
    "|---|---|" + "---|" * len(KINDS),
  ]
  for arm, label in ARMS.items():
    for reading, said in READINGS.items():
      cells = [seeds.shown(get(arm, f"{reading}_{k}")) for k in KINDS]
      text.append(f"| {label} | {said} | {' | '.join(cells)} |")
  text += ["", *seeds.CLAIMS]
  code, of = get("qa", "code_asked"), lambda name: get("qa", name)
  for claim, a, b in (
    ("c answers more than the question alone", code, of("nothing_asked")),
    ("c answers more than another's c", code, of("other_asked")),
    ("c answers more than d does", code, of("decoded_asked")),
    ("c answers more than an English code of as many tokens", code,
     get("qa_english", "code_asked")),
    ("C -> D -> V first helps", code, get("qa_cold", "code_asked")),
    ("two facts asked together for the first time, above the question alone",
     of("code_new_pairs"), of("nothing_new_pairs")),
  ):  # fmt: skip
    text.append(seeds.contrast(claim, a, b))
  bits = lambda arm: seeds.np.array(
    [run["heldout"][arm]["bits_conveyed"] for run in runs]
  )
  text.append(
    seeds.contrast(
      "D still reads the code (bits conveyed) after questions alone",
      bits("qa"),
      bits("code"),
    )
  )
  text += mixed(runs)
  seeds.save(HERE, figure(runs, get), "\n".join(text))


def mixed(runs) -> list[str]:
  """C -> D -> V and questions in turn, beside the same seeds' arms."""
  if not list((HERE / "results").glob("mixed-*.json")):
    return []
  turns = seeds.load(HERE, "mixed")
  same = {run["seed"] for run in turns}
  runs = [run for run in runs if run["seed"] in same]
  rows = ["", f"In turn (configs/mixed.py). {seeds.made_with(turns)}", "",
          "| arm | D, bits conveyed | answers from c | d | the question |",
          "|---|---|---|---|---|"]  # fmt: skip
  for some, arm, prefix, label in (
    (runs, "code", None, "C -> D -> V alone"),
    (runs, "qa", "", "then questions alone"),
    (turns, "mixed", "qa.", "then both in turn"),
  ):
    bits = [run["heldout"][arm]["bits_conveyed"] for run in some]
    cells = [seeds.shown(seeds.np.array(bits), 1)]
    cells += [
      "" if prefix is None
      else seeds.shown(seeds.examined(some, arm, f"{prefix}{name}_asked"))
      for name in ("code", "decoded", "nothing")
    ]  # fmt: skip
    rows.append(f"| {label} | {' | '.join(cells)} |")
  return rows


def figure(runs, get):
  """Left: who can answer. Right: which facts the code keeps."""
  found, (left, right) = plt.subplots(
    1, 2, figsize=(10, 3.6), layout="constrained"
  )
  for i, (arm, label) in enumerate(ARMS.items()):
    values = [get(arm, f"{r}_asked") for r in READINGS]
    at = [x + 0.27 * (i - 1) for x in range(len(READINGS))]
    left.bar(at, [v.mean() for v in values], 0.25, label=label, color=f"C{i}")
    for x, each in zip(at, values, strict=True):
      left.plot([x] * len(each), each, "k.", markersize=3)
  left.set_xticks(range(len(READINGS)), READINGS.values(), fontsize=8)
  left.set_ylabel("right answers, one fact")
  left.legend(frameon=False, fontsize=7)
  for i, (arm, label) in enumerate(ARMS.items()):
    values = [get(arm, f"code_fact_{f}") for f in FACTS]
    right.plot(
      range(len(FACTS)), [v.mean() for v in values], "o-", color=f"C{i}",
      label=label, markersize=4,
    )  # fmt: skip
  names = [f"({f})" if f in UNASKED else f for f in FACTS]
  right.set_xticks(range(len(FACTS)), names, fontsize=8)
  right.set_ylabel("right answers from c")
  right.set_title("(facts) are never asked for in training", fontsize=8)
  for axis in (left, right):
    axis.grid(alpha=0.3, axis="y")
  del runs
  return found


if __name__ == "__main__":
  main()
