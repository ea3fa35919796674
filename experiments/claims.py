"""The claims of README.md, with the verdicts of the experiments' own tables.

  ./.venv/bin/python experiments/claims.py            # prints the table
  ./.venv/bin/python experiments/claims.py --write    # puts it into README.md

A claim names a row of an experiment's table. Its verdict, its difference and
what could have been seen are read from there, so that README.md can't say more
than the table does; a test compares the two. Where a table has p corrected by
Holm for the row, that decides.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from experiments.over_seeds import markdown

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
HEADS = ["claim", "verdict", "difference [95 %]", "evidence"]
ALPHA = 0.05
SIGNED = re.compile(r"[+-]\d")
NUMBER = re.compile(r"\d+\.\d+")
WORD = re.compile(r"\*\*(yes|no|can't tell|not )")


class Claim(NamedTuple):
  """What is said, and the row that decides it."""

  says: str
  folder: str
  row: str  # how the row begins
  at: int = 0  # of several such rows, counted from 0


# Of the loop as it is now.
NOW = (
  Claim("Codes beat English at 3 tokens, bits", "core_loop",
        "| bits conveyed, three tokens: code - best English |"),
  Claim("... for each bit sent, own alphabet", "core_loop",
        "| bits a bit sent, own alphabet, three tokens"),
  Claim("... at a length of their own", "core_loop",
        "| bits conveyed, free length"),
  Claim("... at six tokens, one policy for all lengths", "core_loop",
        "| bits conveyed, six tokens"),
  Claim("Forcing by mask helps, entropy tuned for it", "core_loop",
        "| bits conveyed: d_by_both_1 - unforced |"),
  Claim("English beats RL over all ids, untuned", "core_loop",
        "| bits conveyed: english - unforced |"),
  Claim("D gains by GRPO, bits", "core_loop",
        "| bits conveyed: d_by_both_1 - d_by_likelihood_1 |"),
  Claim("A gated bonus makes C use ids", "asked_ids",
        "| codes that use any: asked - asked_unpaid |"),
)  # fmt: skip
# Of the former loop, in which C heard D's likelihood and no V.
FORMER = (
  Claim("Codes beat English, real text, edit", "random_vocabulary",
        "| **H1** (primary) |", 1),
  Claim("The gate helps, edit", "random_vocabulary", "| **H2** |"),
  Claim("R improves old codes, bits", "ccv",
        "| final targets: a rewrite is worth more bits"),
  Claim("A memory helps the next round, bits", "cc",
        "| the memory helps where facts are shared"),
  Claim("... where nothing is shared", "cc",
        "| the memory helps where nothing is shared"),
  Claim("Codes answer, above no code", "qa",
        "| c answers more than the question alone |"),
  Claim("... more than English does", "qa",
        "| c answers more than an English code"),
  Claim("A fresh reader learns more than from English", "qa",
        "| codes of C -> D -> V against the best English rule"),
)  # fmt: skip
# Of recursive models.
RECURSIVE = (
  Claim("18 passes do better than 336", "dead_compute",
        "| 18 passes for 336: DIS in random order"),
  Claim("Targets for each step help", "improvement_targets",
        "| random order over the final target, at the end |"),
)  # fmt: skip


def decided(text: str, claim: Claim) -> tuple[str, str]:
  """Verdict and difference of a claim, from the text of its table.

  Raises:
    ValueError: the table has no such row, or the row no verdict.
  """
  lines = [x for x in text.splitlines() if x.startswith(claim.row)]
  judged = [x for x in lines if WORD.search(x)]
  if len(judged) <= claim.at:
    raise ValueError(
      f"experiments/{claim.folder}/table.md has no row {claim.at} with a "
      f"verdict that begins with {claim.row!r}: print it again, or change "
      "experiments/claims.py."
    )
  cells = [x.strip() for x in judged[claim.at].strip("|").split("|")]
  said = next(i for i, x in enumerate(cells) if WORD.match(x))
  word = cells[said].strip("*").removesuffix(" at this size")
  at = next((i for i, x in enumerate(cells) if SIGNED.match(x)), None)
  if at is None:
    return word, "-"
  found = cells[at]
  if "[" not in found:  # the interval has a cell of its own
    low, high = cells[at + 1].removesuffix(" (95 %)").split(" to ")
    found = f"{found} [{low}, {high}]"
  p = _holm([x for x in lines if x not in judged])
  if p is not None and p > ALPHA:
    word = f"can't tell (Holm's p {p:.2f})"
  elif word == "can't tell":
    # What so many seeds would have seen stands beside the verdict.
    beside = *cells[said + 1 : said + 2], cells[said - 1]
    seen = next((x for x in beside if NUMBER.fullmatch(x)), None)
    word += f" (could see {seen})" if seen else ""
  return word, found


def _holm(others: list[str]) -> float | None:
  """p of a row `| label | p | p, Holm |`."""
  for line in others:
    cells = line.strip().strip("|").split("|")
    if len(cells) == 3:
      return float(cells[2])
  return None


def rows(claims: tuple[Claim, ...], mark: str = "") -> list[list[str]]:
  """Lines of the table."""
  found = []
  for claim in claims:
    text = (HERE / claim.folder / "table.md").read_text()
    link = f"[{claim.folder}](experiments/{claim.folder})"
    found.append([claim.says + mark, *decided(text, claim), link])
  return found


def table() -> str:
  """All claims; those of the former loop are marked."""
  return markdown(HEADS, [*rows(NOW), *rows(FORMER, " *"), *rows(RECURSIVE)])


def placed(readme: str) -> str:
  """README.md with the table of today in place of its first one of claims."""
  before, after = readme.split("## Claims\n\n", 1)
  old = re.match(r"(\|.*\n)+", after)
  return f"{before}## Claims\n\n{table()}\n{after[old.end() :]}"


def main(arguments: list[str]):
  if "--write" in arguments:
    README.write_text(placed(README.read_text()))
  print(table())


if __name__ == "__main__":
  main(sys.argv[1:])
