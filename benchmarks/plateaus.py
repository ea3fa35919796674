"""How often is the plateau rule wrong, for each shipped curriculum that has it?

  ./.venv/bin/python benchmarks/plateaus.py         (20 seconds of one core)

Monte Carlo of one level: a reward on a straight line, with normal noise. A
level that the rule ends while the reward rises by .0003 a step is a false
alarm; one that the timer ends although the reward is flat is missed. Noise of
.012 is that of a step's mean reward early in a run of configs/tiny.py, .02 that
of its middle. A look at
held-out sources plays as many codes as a step. Written to plateaus.md.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from rsrc_jax.build import overrides  # noqa: E402
from rsrc_jax.rl import curriculum, plateau  # noqa: E402
from rsrc_jax.rl.plateau import Rule  # noqa: E402
from rsrc_jax.runtime import configs  # noqa: E402

NOISE, MOST_NOISE = 0.012, 0.02  # of a step's mean reward, measured
RISING, SLOW = 3e-4, 1e-4  # a step


class Case(NamedTuple):
  """A curriculum of a shipped config, with a rule."""

  config: str
  arms: tuple[str, ...]  # that have it
  block: dict[str, Any]  # config.curriculum of these arms
  steps: int  # config.steps of these arms
  until: str  # config.arms.NAME.until

  @property
  def rule(self) -> Rule:
    return Rule(*(self.block[x] for x in Rule._fields))

  @property
  def every(self) -> int:
    """Training steps from one reward to the next."""
    return max(self.block["every"], 1)

  @property
  def most(self) -> int:
    """Training steps after which the timer ends a level, or the arm."""
    if self.block["name"] == "linear":
      return self.steps - self.block["steps"]
    return self.block["max_steps"]


def shipped() -> list[Case]:
  """Every curriculum with a rule, by config."""
  found = {}
  for path in sorted((ROOT / "configs").glob("*.py")):
    settings = configs.load(path).to_dict()
    for name, arm in settings.get("arms", {}).items():
      own = overrides.applied(settings, name)
      block = own.get("curriculum") or {}
      if curriculum.window_of(block) and arm.get("pattern") != "extract":
        until = arm.get("until", "steps")
        # What is hidden, and how long codes explore, is nothing to the rule.
        seen = {k: v for k, v in block.items() if k != "hidden"}
        key = (path.stem, json.dumps(seen), own["steps"], until)
        found.setdefault(key, (block, []))[1].append(name)
  return [
    Case(config, tuple(arms), block, steps, until)
    for (config, _, steps, until), (block, arms) in found.items()
  ]


class Rates(NamedTuple):
  """How a level ends, over many simulated ones."""

  plateau: float  # share of them that the rule ends
  steps: float  # mean length


def rates(
  case: Case,
  slope: float,
  *,
  noise: float = NOISE,
  levels: int = 20_000,
  seed: int = 0,
) -> Rates:
  """Monte Carlo of one level. slope: rise of the reward in a step."""
  rule, every = case.rule, case.every
  count = case.most // every
  draws = np.random.default_rng(seed).normal(size=(levels, count))
  rewards = slope * every * np.arange(count) + noise * draws
  ended, length = np.zeros(levels, bool), np.full(levels, case.most)
  trend = jax.jit(plateau.trend)
  first = -(-rule.window // rule.look) * rule.look
  for look in range(first, count + 1, rule.look):
    seen = rewards[:, look - rule.window : look].astype(np.float32)
    rise, error = map(np.asarray, trend(seen))
    now = (rise <= rule.errors * error) & ~ended
    length[now], ended = look * every, ended | now
  return Rates(float(ended.mean()), float(length.mean()))


def table() -> str:
  """plateaus.md."""
  head = (
    "config", "arms", "window, steps", "a look every", "timer, steps",
    "+.0003 a step", "+.0003, noise .02", "+.0001", "flat: missed",
    "flat: missed, noise .02", "flat: mean steps",
  )  # fmt: skip
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for case in shipped():
    few = ", ".join(case.arms[:3]) + ", ..." * (len(case.arms) > 3)
    slow, flat = rates(case, SLOW), rates(case, 0.0)
    shares = (
      rates(case, RISING).plateau,
      rates(case, RISING, noise=MOST_NOISE).plateau,
      slow.plateau,
      1 - flat.plateau,
      1 - rates(case, 0.0, noise=MOST_NOISE).plateau,
    )
    sizes = (case.rule.window * case.every, case.rule.look * case.every)
    row = (
      case.config, few, *map(str, sizes), str(case.most),
      *(f"{x:.4f}" for x in shares), f"{flat.steps:.0f}",
    )  # fmt: skip
    lines.append(f"| {' | '.join(row)} |")
  return "\n".join(lines) + "\n"


def main() -> None:
  said = (
    "# The plateau rule: false alarms and missed plateaus\n\n"
    "`./.venv/bin/python benchmarks/plateaus.py` simulates 20,000 levels of "
    "each\nshipped curriculum that has the rule: the share that the rule ends "
    "while the\nreward rises, and the share of flat ones that it leaves to the "
    "timer. Noise is\n.012 where nothing is said.\n\n"
  )
  text = said + table()
  (HERE / "plateaus.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
