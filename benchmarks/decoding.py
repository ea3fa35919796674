"""Decoding against its floor, and what decoding D adds to a training step.

  ./.venv/bin/python benchmarks/decoding.py --before=FOLDER      (15 minutes)
  ./.venv/bin/python benchmarks/decoding.py --only=steps --rounds=5
  ./.venv/bin/python benchmarks/decoding.py --only=cores

1. A decoding step of the default's C and D and of the 4.3M Llama of floor.py,
   at 64 to 4,096 rows, beside its floor, as floor.py defines it. No id ends an
   output. On one core, as sweeps pin their runs ("decode"), and on all, the
   default's alone ("cores").
2. Outputs of geometric length: batches that shrink (lm/compaction.py).
3. The default's training step without decoding, with each code decoded once,
   and with a group of six decodes of one code a source that D learns from.

--before: another checkout, whose code takes turns with this one's, round by
round; a ratio is of two neighbours, and its spread over the rounds is shown.
Each tree is measured in a process of its own, and they never run at once.
Each part is written to its section of decoding.md.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import decoding_tree
from decoding_tree import GROUPS, LONG, STEPS

HERE = Path(__file__).resolve().parent
ROWS = (64, 512, 4_096)
SHAPES = (1, 3)


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--before", type=Path, help="another checkout")
  flags.add_argument("--rounds", type=int, default=3)
  flags.add_argument("--only", default="", help="decode,cores,lengths,steps")
  flags.add_argument("--pin", default="", help=argparse.SUPPRESS)
  asked = flags.parse_args()
  if asked.pin:
    # Before jax is imported: its threads follow.
    os.sched_setaffinity(0, [int(x) for x in asked.pin.split(",")])
    sys.path.append(str(HERE.parent))  # benchmarks; rsrc_jax is the tree's
    return decoding_tree.child()
  parts = {
    "decode": decode_table, "cores": cores_table, "lengths": length_table,
    "steps": step_table,
  }  # fmt: skip
  for name in asked.only.split(",") if asked.only else parts:
    store("\n".join([*parts[name](asked), "", *made_by(asked)]))
  print((HERE / "decoding.md").read_text())


def store(section: str) -> None:
  """Puts a section in its place in decoding.md, or at its end."""
  path, title = HERE / "decoding.md", section.partition("\n")[0]
  old = path.read_text() if path.is_file() else "# Decoding\n"
  kept = {x.partition("\n")[0]: x for x in re.split(r"\n(?=## )", old)}
  kept[title] = section + "\n"
  path.write_text("\n".join(x.rstrip("\n") + "\n" for x in kept.values()))


# The parent: asks children in turn.


class Tree:
  """A process of one tree on some cores; `ask` returns a dict of figures."""

  def __init__(self, root: Path, cores: list[int]):
    pin = ",".join(map(str, cores))
    self.process = subprocess.Popen(
      [sys.executable, __file__, f"--pin={pin}"], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, text=True, cwd=root,
      env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip

  def ask(self, **what) -> dict:
    self.process.stdin.write(json.dumps(what) + "\n")
    self.process.stdin.flush()
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit(f"{what}: the process of a tree has ended.")
    return json.loads(line)

  def close(self) -> None:
    self.process.stdin.close()
    self.process.wait()


def trees(asked, cores: list[int]) -> list[Tree]:
  """Of this checkout, and of the one before it where there is one."""
  roots = [HERE.parent, *([asked.before.resolve()] if asked.before else [])]
  return [Tree(root, cores) for root in roots]


def in_turn(found: list[Tree], rounds: int, **what) -> list[list[dict]]:
  """Figures of each tree in each round; the first compiles and is dropped."""
  made = [[tree.ask(**what) for tree in found] for _ in range(rounds + 1)]
  return [list(x) for x in zip(*made[1:], strict=True)]


def median(figures: list[dict], name: str) -> float:
  return statistics.median(x[name] for x in figures)


def ratio(ours: list[dict], before: list[dict], name: str) -> str:
  """before / ours of neighbours: median (smallest to largest)."""
  each = [b[name] / a[name] for a, b in zip(ours, before, strict=True)]
  return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def decode_table(asked) -> list[str]:
  """All cases on one core."""
  return _decoding("## A decoding step, one core", asked, 1, GROUPS)


def cores_table(asked) -> list[str]:
  """The default's on all cores."""
  cores = len(os.sched_getaffinity(0))
  return _decoding(f"## A decoding step, {cores} cores", asked, cores, "CD")


def _decoding(title: str, asked, count: int, cases) -> list[str]:
  last = " before / now |" if asked.before else ""
  lines = [
    title, "",
    f"| | rows | a step, ms | its floor, ms | share |{last}",
    f"|---|---|---|---|---|{'---|' * bool(last)}",
  ]  # fmt: skip
  found = trees(asked, sorted(os.sched_getaffinity(0))[-count:])
  for case in cases:
    for rows in ROWS:
      ours, *old = in_turn(
        found, asked.rounds, what="decode", case=case, rows=rows
      )
      step, floor = median(ours, "step"), median(ours, "floor")
      more = f" {ratio(ours, old[0], 'step')} |" if old else ""
      lines.append(
        f"| {case} | {rows:,} | {1e3 * step:.3f} | {1e3 * floor:.3f} "
        f"| **{100 * floor / step:.0f} %** |{more}"
      )
      print(lines[-1], file=sys.stderr, flush=True)
  for tree in found:
    tree.close()
  return lines


def length_table(asked) -> list[str]:
  tree = Tree(HERE.parent, [max(os.sched_getaffinity(0))])
  lines = [
    "## Outputs of geometric length", "",
    f"The Llama, 512 rows of prompts of their own, at most {LONG} tokens, on "
    "one core. row-steps: rows that the loops ran, for each token written.",
    "",
    "| batch sizes | mean length | longest | seconds | row-steps a token "
    "| one size / this |",
    "|---|---|---|---|---|---|",
  ]  # fmt: skip
  made = [
    [tree.ask(what="lengths", shapes=n) for n in SHAPES]
    for _ in range(asked.rounds + 1)
  ][1:]
  for i, n in enumerate(SHAPES):
    own, one = ([x[j] for x in made] for j in (i, 0))
    lines.append(
      f"| {n} | {own[0]['mean']:.1f} | {own[0]['longest']} "
      f"| {median(own, 'seconds'):.3f} | {own[0]['row_steps']:.2f} "
      f"| {ratio(own, one, 'seconds')} |"
    )
  tree.close()
  return lines


def step_table(asked) -> list[str]:
  lines = [
    "## The default's training step", "",
    "32 sources x 16 codes, on one core. The parts are programs of their own: "
    "D's decoding, V (the likelihood of s with each code, the slots of d), and "
    "D's update from its own group.", "",
    "| | ms | times the first | decoding, ms (share of its floor) | V, ms "
    "| D's update, ms |",
    "|---|---|---|---|---|---|",
  ]  # fmt: skip
  found = trees(asked, [max(os.sched_getaffinity(0))])
  names = [*STEPS]
  made = [
    [found[0].ask(what="step", name=name) for name in names]
    for _ in range(asked.rounds + 1)
  ][1:]
  for i, name in enumerate(names):
    own, first = ([x[j] for x in made] for j in (i, 0))
    part = lambda key, own=own: (
      f"{1e3 * median(own, key):.1f}" if own[0].get(key) else "-"
    )
    share = (
      f" ({100 * median(own, 'floor') / median(own, 'decoding'):.0f} %)"
      if own[0].get("decoding")
      else ""
    )
    lines.append(
      f"| {name} | {part('step')} | {ratio(first, own, 'step')} "
      f"| {part('decoding')}{share} | {part('V')} | {part('update')} |"
    )
  if asked.before:
    ours, old = in_turn(found, asked.rounds, what="step", name=names[0])
    lines += ["", f"Before / now, {names[0]}: {ratio(ours, old, 'step')}."]
  for tree in found:
    tree.close()
  return lines


def made_by(asked) -> list[str]:
  import jax

  before = f"; before: {asked.before.name}" if asked.before else ""
  return [
    f"Printed by benchmarks/decoding.py. {jax.devices()[0].device_kind}, jax "
    f"{jax.__version__}; medians of {asked.rounds} rounds{before}."
  ]


if __name__ == "__main__":
  main()
