"""Prints the experiment's tables from stored summaries, and writes table.md.

  ./.venv/bin/python experiments/core_loop/table.py

Reads results/*.json. A difference is paired by seed, with its 95 % interval
(Student's t). The best English arm is picked seed by seed on the same test
split, which favours English.
"""

from pathlib import Path

import numpy as np

from experiments import over_seeds

HERE = Path(__file__).resolve().parent
REFERENCE = "d_by_both_1"
ENGLISH = ("lead", "surprising", "sft", "english_rl")
COLUMNS = {
  "bits_conveyed": ("bits conveyed", 2),
  "token_accuracy": ("tokens right", 3),
  "exact_match": ("exact", 3),
  "nll_bits": ("NLL, bits", 2),
  "d_entropy_bits": ("D's entropy, bits a token", 2),
  "novel_fraction": ("novel", 2),
}
CURVE = {
  "mean_tokens": ("tokens", 2),
  "bits_conveyed": ("bits conveyed", 2),
  "exact": ("exact", 3),
  "edit_similarity": ("edit similarity", 3),
  "bits_per_token": ("bits a token", 2),
  "bits_per_channel_bit": ("bits a bit sent, own alphabet", 3),
}
CONTRASTS = (
  ("d_by_both_1", "english"),
  ("d_by_likelihood_4", "english"),
  ("d_by_likelihood_4", "english_held"),
  ("shaped", "english_shaped"),
  ("d_by_both_1", "unforced"),
  ("english", "unforced"),
  ("d_by_both_1", "d_by_likelihood_1"),
  ("d_by_both_1", "plateau"),
  ("d_by_both_1", "entropy_held"),
  ("english_held", "english"),
)
PARTS = ("verifier", "reader", "shaping", "price")


def main():
  parts = [
    _default(over_seeds.load(HERE, "default")),
    "## Codes of one to eight tokens",
    _lengths(),
    _arms(over_seeds.load(HERE, "core_loop")),
  ]
  text = "\n\n".join(parts) + "\n"
  (HERE / "table.md").write_text(text)
  print(text)


def _default(runs: list[dict]) -> str:
  english = {x: _best(runs, ENGLISH, x) for x in COLUMNS}
  code = {x: _held(runs, "code", x) for x in COLUMNS}
  sent = {
    arms: np.max([_sent(runs, x) for x in arms], 0)
    for arms in (("code",), ENGLISH)
  }
  differences = [
    over_seeds.contrast(f"{label}, three tokens: code - best English", *pair)
    for label, pair in (
      ("bits conveyed", (code["bits_conveyed"], english["bits_conveyed"])),
      ("tokens right", (code["token_accuracy"], english["token_accuracy"], 3)),
      ("bits a bit sent, own alphabet", (sent["code",], sent[ENGLISH], 3)),
    )
  ]
  free, rival = _free(runs)
  differences.append(
    over_seeds.contrast(
      "bits conveyed, free length: code - English at as many tokens",
      free, rival,
    )
  )  # fmt: skip
  six = lambda arm: np.array(
    [_rows(run, arm)[6]["bits_conveyed"] for run in runs]
  )
  differences.append(
    over_seeds.contrast(
      "bits conveyed, six tokens: code_lengths - english_lengths",
      six("code_lengths"), six("english_lengths"),
    )
  )  # fmt: skip
  return "\n\n".join([
    "## The default",
    _about(runs),
    _held_out(runs),
    _table(["difference", "mean, interval", "detectable", "more than 0"],
           [*differences, *_tuned(runs)]),
    _curve(runs),
  ])  # fmt: skip


def _tuned(runs: list[dict]) -> list[str]:
  """The code against English at its own entropy bonus (english.py)."""
  if not any((HERE / "results").glob("english-*.json")):
    return []
  found = {x["seed"]: x for x in over_seeds.load(HERE, "english")}
  both = [run for run in runs if run["seed"] in found]
  english = [found[run["seed"]] for run in both]
  seeds = ", ".join(str(run["seed"]) for run in both)
  return [
    over_seeds.contrast(
      f"{label}, three tokens: code - English at its own bonus, seeds {seeds}",
      _held(both, "code", name), _held(english, "english_tuned", name), digits,
    )
    for label, name, digits in (
      ("bits conveyed", "bits_conveyed", 2),
      ("tokens right", "token_accuracy", 3),
    )
  ]  # fmt: skip


def _lengths() -> str:
  """The curve of lengths.py, or that it was not run."""
  if not any((HERE / "results").glob("lengths-*.json")):
    return "not run: no results/lengths-SEED.json."
  return _curve(over_seeds.load(HERE, "lengths"))


def _arms(runs: list[dict]) -> str:
  bits = lambda arm: _held(runs, arm, "bits_conveyed")
  pairs = [
    over_seeds.contrast(f"bits conveyed: {a} - {b}", bits(a), bits(b))
    for a, b in CONTRASTS
  ]
  heads = ["difference", "mean, interval", "detectable", "more than 0"]
  return "\n\n".join([
    "## Who teaches D, how entropy falls, when constraints relax",
    _about(runs),
    _held_out(runs, REFERENCE),
    _table(heads, pairs),
    "What each arm's reward consisted of, and how it was relaxed:",
    _rewards(runs),
  ])  # fmt: skip


def _about(runs: list[dict]) -> str:
  seeds = ", ".join(str(run["seed"]) for run in runs)
  made = ", ".join(dict.fromkeys(run["made_with"]["git"][:7] for run in runs))
  return (
    f"Seeds {seeds}; {runs[0]['steps']} steps an arm unless the config says "
    f"otherwise; test split, greedy; made at commit {made}."
  )


def _held(runs: list[dict], arm: str, name: str) -> np.ndarray:
  """A held-out score of an arm, [seeds]."""
  return np.array([run["heldout"]["arms"][arm][name] for run in runs])


def _best(runs: list[dict], arms: tuple[str, ...], name: str) -> np.ndarray:
  return np.max([_held(runs, arm, name) for arm in arms], 0)


def _rows(run: dict, arm: str) -> dict[int | None, dict]:
  """The curve of an arm, by budget; None: it was told none."""
  return {x["budget"]: x for x in run["curve"] if x["arm"] == arm}


def _sent(runs: list[dict], arm: str) -> np.ndarray:
  """Bits conveyed a bit sent of three tokens, [seeds]."""
  return np.array([_rows(run, arm)[3]["bits_per_channel_bit"] for run in runs])


def _free(runs: list[dict]) -> tuple[np.ndarray, np.ndarray]:
  """Bits of codes of free length, and of English of as many tokens, [seeds].

  English at a budget is the best English arm there is; between budgets it is a
  straight line.
  """
  ours, theirs = [], []
  for run in runs:
    free = _rows(run, "code_lengths")[None]
    best = {}
    for x in run["curve"]:
      if x["arm"] in (*ENGLISH, "english_lengths"):
        best.setdefault(x["mean_tokens"], []).append(x["bits_conveyed"])
    tokens = sorted(best)
    line = np.maximum.accumulate([max(best[x]) for x in tokens])
    ours.append(free["bits_conveyed"])
    theirs.append(np.interp(free["mean_tokens"], tokens, line))
  return np.array(ours), np.array(theirs)


def _held_out(runs: list[dict], reference: str = "") -> str:
  heads = ["arm", *(label for label, _ in COLUMNS.values()), "bits by seed"]
  heads += [f"bits, less those of {reference}"] if reference else []
  lines = []
  for arm in runs[0]["heldout"]["arms"]:
    means = [
      f"{_held(runs, arm, x).mean():.{n}f}" for x, (_, n) in COLUMNS.items()
    ]
    bits = _held(runs, arm, "bits_conveyed")
    cells = [arm, *means, ", ".join(f"{x:.2f}" for x in bits)]
    if reference:
      less = bits - _held(runs, reference, "bits_conveyed")
      cells.append("" if arm == reference else over_seeds.shown(less))
    lines.append(f"| {' | '.join(cells)} |")
  return _table(heads, lines)


def _curve(runs: list[dict]) -> str:
  lines = []
  for arm in dict.fromkeys(x["arm"] for x in runs[0]["curve"]):
    for budget in _rows(runs[0], arm):
      found = [_rows(run, arm)[budget] for run in runs]
      cells = [
        over_seeds.shown(np.array([x[name] for x in found]), n)
        for name, (_, n) in CURVE.items()
      ]
      told = "none" if budget is None else str(budget)
      lines.append(f"| {arm} | {told} | {' | '.join(cells)} |")
  heads = ["arm", "budget told", *(label for label, _ in CURVE.values())]
  return _table(heads, lines)


def _rewards(runs: list[dict]) -> str:
  lines = []
  for arm in runs[0]["heldout"]["arms"]:
    shares = [run["reward_shares"].get(arm, {}) for run in runs]
    mean = [np.mean([x.get(part, 0.0) for x in shares]) for part in PARTS]
    dead = np.mean([run["dead_groups"].get(arm, 0.0) for run in runs])
    ends = [run["plateaus"].get(arm) or [] for run in runs]
    when = "; ".join(
      ", ".join(f"{x['step']} ({x['by']})" for x in one) or "by steps"
      for one in ends
    )
    cells = [f"{x:.2f}" for x in (*mean, dead)]
    lines.append(f"| {arm} | {' | '.join(cells)} | {when} |")
  return _table(["arm", *PARTS, "dead groups", "relaxed at"], lines)


def _table(heads: list[str], lines: list[str]) -> str:
  return "\n".join(
    [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines]
  )


if __name__ == "__main__":
  main()
