"""What each arm's writer was paid for: rows, and a table for a terminal."""

from collections.abc import Mapping
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from rsrc_jax.metrics import dead_groups, reward_record
from rsrc_jax.metrics.dead_groups import Stretch
from rsrc_jax.report import style
from rsrc_jax.report.heldout_table import open_table
from rsrc_jax.report.numbers import number
from rsrc_jax.report.reward_sentences import sentences
from rsrc_jax.report.run_files import Run

WORD = "V's word"


class Paid(NamedTuple):
  """What an arm was paid for, over its training; None where it is not known."""

  arm: str
  label: str
  role: str  # that writes
  shares: Mapping[str, float]  # by part; {} where no group had a spread
  dead: float | None  # share of groups whose rewards are all equal
  std: float | None  # deviation of reward in a group, mean over groups
  spread: float | None  # that of the bonus, as a share of it
  stretches: tuple[Stretch, ...]  # of each role: dead_groups

  @property
  def word(self) -> float | None:
    """The share of V's word on sampled outputs."""
    return reward_record.word(self.shares) if self.shares else None


COLUMNS = (
  ("dead", "dead groups", "share of groups whose rewards are all equal: they "
   "teach nothing"),
  ("std", "reward std", "deviation of reward within a group, mean over groups"),
  ("spread", "bonus spread", "deviation of the bonus within a group as a share "
   "of that of reward"),
)  # fmt: skip
ABOUT = {
  WORD: "verifier + reader: a frozen V's word on sampled outputs",
  "verifier": "V's rules: exact slots, edit similarity, a right answer",
  "reader": "a frozen model that reads d: its likelihood of s",
  "shaping": "D's likelihood of s under the weights being trained; no V",
  "bonus": "the gate's: use of injected ids",
  "price": "of the length",
  "kl": "for the distance from the frozen base",
}


def rows(run: Run) -> list[Paid]:
  """The rewarded arms of a run in the order of their looks."""
  blocks = {
    name: run.summary.get(name) or {}
    for name in ("reward_shares", "dead_groups")
  }
  lines = {
    arm: reward_record.of_arm(run.metrics, arm)
    for arm in {str(x.get("phase")) for x in run.metrics}
  }
  names = {arm for arm, own in lines.items() if reward_record.role_of(own)}
  found = []
  for arm in style.ordered(
    names.union(*map(set, blocks.values())), run.arms.looks
  ):
    own = lines.get(arm, [])
    role = reward_record.role_of(own) or ""
    mean = lambda key, own=own, role=role: reward_record.mean(
      own, f"{role}_{key}"
    )
    shares = blocks["reward_shares"].get(arm)
    dead = number(blocks["dead_groups"].get(arm))
    found.append(
      Paid(
        arm, style.arm(arm, run.arms.looks).label, role,
        reward_record.shares_of(own, role) if shares is None else shares,
        mean("dead_groups") if dead is None else dead, mean("reward_std"),
        mean("spread_bonus"), dead_groups.followed(own, arm).told,
      )
    )  # fmt: skip
  return found


def parts(paid: list[Paid]) -> list[str]:
  """The parts of reward that any arm has, in their order."""
  there = {part for row in paid for part in row.shares}
  order = [x for x in reward_record.PARTS if x in there]
  return order + sorted(there - set(order))


def columns(paid: list[Paid]) -> list[tuple[str, str, str]]:
  """Those of COLUMNS that any arm has."""
  return [x for x in COLUMNS if any(getattr(row, x[0]) for row in paid)]


def head(paid: list[Paid]) -> list[tuple[str, str]]:
  """Label and meaning of the columns after arm and role."""
  names = [*parts(paid), WORD]
  return [(x, ABOUT.get(x, "")) for x in names] + [x[1:] for x in columns(paid)]


def cells(row: Paid, paid: list[Paid]) -> list[str]:
  """A row as text: its role, and what `head` names."""
  shown = lambda x: "—" if x is None else f"{x:.2f}".replace("-", "−")
  return [
    row.role or "—",
    *(shown(number(row.shares.get(part))) for part in parts(paid)),
    shown(row.word),
    *(shown(getattr(row, key)) for key, _, _ in columns(paid)),
  ]


def table(run: Run) -> Table | None:
  """The rows and the sentences for a terminal; None without any row."""
  paid = rows(run)
  if not paid:
    return None
  result = open_table(
    "Rewards: who paid for the spread within groups",
    "\n".join(sentences(run, paid)),
  )
  result.add_column("arm", no_wrap=True)
  result.add_column("role", no_wrap=True)
  for name, _ in head(paid):
    result.add_column(name.replace(" ", "\n"), justify="right")
  for row in paid:
    look = "bold" if row.arm == run.arms.headline else ""
    result.add_row(Text(row.label), *cells(row, paid), style=look)
  return result
