"""Draws the experiment's figure and prints its tables from stored summaries.

./.venv/bin/python experiments/qa/plot.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

from experiments import over_seeds as seeds

HERE = Path(__file__).resolve().parent

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
WROTE = {
  "code": "C -> D -> V", "english_rl": "C -> D -> V in words of s",
  "qa": "C -> D -> V, then questions",
  "mixed": "C -> D -> V, then both in turn", "qa_cold": "questions alone",
  "qa_english": "... in words of s", "lead": "rule: the first three words",
  "surprising": "rule: the most surprising three", "tfidf": "rule: TF-IDF",
  "widest": "rule: three asked facts with the most words",
}  # fmt: skip


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
  text += probed()
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


def probed() -> list[str]:
  """What a reader taught the same way for every code finds in it, by fact."""
  if not list((HERE / "results").glob("probe-*.json")):
    return []
  runs = seeds.load(HERE, "probe")

  def of(arm, facts=FACTS, what="code"):
    at = [FACTS.index(fact) for fact in facts]
    return seeds.np.array(
      [seeds.np.mean([run["arms"][arm][what][i] for i in at]) for run in runs]
    )

  asked = tuple(fact for fact in FACTS if fact not in UNASKED)
  names = [f"({f})" if f in UNASKED else f for f in FACTS]
  rows = [
    "", "A fresh reader, taught all eight facts on frozen codes (probe.py; "
    f"seeds {', '.join(str(run['seed']) for run in runs)}). In brackets: never "
    "asked for when the codes were trained.", "",
    f"| codes of | {' | '.join(names)} | asked | never asked | "
    "another's c, asked | no code, asked |", "|---|" + "---|" * 12,
  ]  # fmt: skip
  for arm, label in WROTE.items():
    cells = [seeds.shown(of(arm, (fact,))) for fact in FACTS]
    cells += [seeds.shown(of(arm, asked)), seeds.shown(of(arm, UNASKED))]
    cells += [seeds.shown(of(arm, asked, x)) for x in ("other", "nothing")]
    rows.append(f"| {label} | {' | '.join(cells)} |")
  rows += ["", *seeds.CLAIMS]
  rules = ("lead", "surprising", "tfidf", "widest")
  best = lambda facts: max(rules, key=lambda rule: of(rule, facts).mean())
  rule, whole = best(asked), best(FACTS)
  for claim, a, b in (
    ("questions alone drop what they never ask for", of("code", UNASKED),
     of("qa", UNASKED)),
    ("... and keep more of what they ask for", of("qa", asked),
     of("code", asked)),
    ("in turn with C -> D -> V, what is never asked for stays",
     of("mixed", UNASKED), of("qa", UNASKED)),
    ("codes trained for questions against the best English rule "
     f"({WROTE[rule]}), asked", of("qa", asked), of(rule, asked)),
    ("codes of C -> D -> V against the best English rule "
     f"({WROTE[whole]}), all eight", of("code"), of(whole)),
    ("... against C -> D -> V in words of s, all eight", of("code"),
     of("english_rl")),
  ):  # fmt: skip
    rows.append(seeds.contrast(claim, a, b))
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
