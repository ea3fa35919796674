"""The held-out results in a summary, by arm.

Older summaries mix arms with the keys in RESERVED: the arm "code" and
ablations stand in summary["heldout"] under their own names, English arms in
its block "english". Newer ones have every arm in summary["heldout"]["arms"]
too, and name the headline arm and the controls' arm in summary["report"].
"""

from collections.abc import Iterable

from rsrc_jax.report.style import HEADLINE

RESERVED = ("arms", "english", "controls", "budget_curve")
Scores = dict[str, float | None]  # by the keys of scores.METRICS, and more


def arms(summary: dict) -> dict[str, Scores]:
  """Arm -> its scores, for every arm that has any."""
  block = _block(summary)
  found = _by_arm(block.get("arms"))
  if not found:
    own = {name: m for name, m in block.items() if name not in RESERVED}
    found = own | _by_arm(block.get("english"))
  return {n: m for n, m in found.items() if isinstance(m, dict) and m}


def english(summary: dict) -> tuple[str, ...]:
  """The arms whose codes are words of the source."""
  return tuple(n for n, m in _by_arm(_block(summary).get("english")).items()
               if m)  # fmt: skip


def headline(
  summary: dict, config: dict, names: Iterable[str] = ()
) -> str | None:
  """The arm that the report is about.

  config.report.headline; else what the summary says; else the arm "code" where
  the run has one. names: arms of the run that its other files name.
  """
  named = settings(config).get("headline") or _named(summary).get("headline")
  if named:
    return str(named)
  run = {*arms(summary), *(config.get("arms") or {}), *names}
  return HEADLINE if HEADLINE in run else None


def baselines(summary: dict, config: dict) -> tuple[str, ...]:
  """The arms that the headline is held against: by default the English ones."""
  named = settings(config).get("baselines")
  return tuple(map(str, named)) if named else english(summary)


def controls(summary: dict) -> dict[str, Scores]:
  """Control -> its scores."""
  return {
    n: m or {} for n, m in _by_arm(_block(summary).get("controls")).items()
  }


def controls_arm(summary: dict) -> str | None:
  """The arm whose codes the controls have altered.

  This is a fact of the run, not a choice of its reader: older runs controlled
  the arm "code" and no other.
  """
  if "report" in summary:
    return _named(summary).get("controls") or None
  return HEADLINE if HEADLINE in arms(summary) else None


def budget_curves(summary: dict) -> dict[str, dict[int, Scores]]:
  """Arm -> budget k -> its scores."""
  return {
    name: {int(k): m or {} for k, m in (points or {}).items()}
    for name, points in _by_arm(_block(summary).get("budget_curve")).items()
  }


def settings(config: dict) -> dict:
  """The block config.report, which older runs lack."""
  found = config.get("report")
  return found if isinstance(found, dict) else {}


def _block(summary: dict) -> dict:
  return _by_arm(summary.get("heldout"))


def _named(summary: dict) -> dict:
  return _by_arm(summary.get("report"))


def _by_arm(value: object) -> dict:
  return value if isinstance(value, dict) else {}
