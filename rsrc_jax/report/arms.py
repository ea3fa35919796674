"""The arms of a report: which one it is about, and how each is drawn.

From config.report of the run, all of whose fields may be absent:

  headline   the arm that the report is about
  controls   the arm whose codes the held-out controls alter
  baselines  arms that the headline is held against
  arms       name -> {"label", "color", "marker", "about"}, each optional
  sections   paths of Python files with a section(run) -> HTML, see page.py

An arm that neither config.report.arms nor style.ARMS names gets a colour and a
marker that no other arm of the run has.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matplotlib.colors import is_color_like, to_hex
from matplotlib.lines import Line2D

from rsrc_jax.report import held_out, style
from rsrc_jax.report.series import FIRST
from rsrc_jax.report.style import ARMS, ENGLISH, HEADLINE, Arm, Looks

# Legible as text, and apart from each other for colour-blind readers as far as
# so many can be; markers tell the rest.
COLORS = (
  "#0072b2", "#00855f", "#a8487f", "#56a8d6", "#b08900", "#7a5195", "#3e4c59",
  "#8c5a2b", "#cc79a7", "#6a9a00", "#009c9c", "#2f3fbf", "#8a96a3",
)  # fmt: skip
MARKERS = ("s", "^", "D", "v", "<", ">", "p", "h", "P", "X", "*")
# Names in a run's files that are no arms.
NO_ARMS = ("", *FIRST, "untrained")


class Arms(NamedTuple):
  """What all parts of a report know of the run's arms."""

  headline: str | None
  controls: str | None  # the arm whose codes the controls have altered
  baselines: tuple[str, ...]  # in the order in which they are shown
  expected: tuple[str, ...]  # baselines that a whole run of this config has
  english: tuple[str, ...]  # arms whose codes are words of the source
  looks: Looks

  def called(self, name: str | None) -> str:
    """An arm in a sentence: only the default's headline takes an article."""
    label = style.arm(str(name), self.looks).label
    return "the code" if label == ARMS[HEADLINE].label else label

  @property
  def who(self) -> str:
    """The headline in a sentence."""
    return "the code" if self.headline is None else self.called(self.headline)

  @property
  def rivals(self) -> str:
    """What the baselines are, in one word."""
    return "English" if set(self.baselines) <= set(self.english) else "baseline"


def of(
  summary: dict, config: dict | None = None, metrics: Iterable[dict] = ()
) -> Arms:
  """The arms of a run, from what it has written.

  Args:
    summary: summary.json, {} while the run is still going.
    config: config.json.
    metrics: lines of metrics.jsonl.
  """
  config = config or {}
  names = _names(summary, config, metrics)
  headline = held_out.headline(summary, config, names)
  looks = _looks(names, headline, config)
  english = held_out.english(summary)
  baselines = held_out.baselines(summary, config)
  # A config lists all of its arms, also where config.only runs some of them.
  offered = config.get("arms")
  expected = held_out.settings(config).get("baselines") or [
    n for n in ENGLISH if offered is None or n in offered
  ]
  return Arms(
    headline,
    held_out.controls_arm(summary),
    tuple(style.ordered(baselines, looks)),
    tuple(map(str, expected)),
    tuple(dict.fromkeys((*ENGLISH, *english))),
    looks,
  )


def problems(config: dict) -> list[str]:
  """A sentence on each setting of config.report that can't be used."""
  found = []
  block = held_out.settings(config).get("arms") or {}
  for name, look in block.items():
    for key, usable in (("color", is_color_like), ("marker", _is_marker)):
      value = (look or {}).get(key)
      if value is not None and not usable(value):
        found.append(
          f"config.report.arms.{name}.{key}={value!r} is no {key} that "
          "matplotlib knows; the report has chosen one."
        )
  return found


def _names(summary: dict, config: dict, metrics: Iterable[dict]) -> set[str]:
  """Every arm that any file of the run names."""
  accounted = (summary.get("rsrc") or {}).get("arms") or {}
  names = {
    *(config.get("arms") or {}),
    *held_out.arms(summary),
    *held_out.budget_curves(summary),
    *(str(line["phase"]) for line in metrics if line.get("phase")),
    *(
      name
      for name, entry in accounted.items()
      if (entry or {}).get("kind") in ("code", "english")
    ),
  }
  return names - set(NO_ARMS)


def _looks(names: set[str], headline: str | None, config: dict) -> Looks:
  """Known arms in their fixed order, then the config's, then the others."""
  block = held_out.settings(config).get("arms") or {}
  chosen = {n: look or {} for n, look in block.items()}
  order = dict.fromkeys(
    (*ARMS, *chosen, *sorted(names - set(ARMS) - set(chosen)))
  )
  taken = {to_hex(ARMS[n].color) for n in ARMS if n in names}
  taken |= {
    to_hex(x["color"]) for x in chosen.values() if is_color_like(x.get("color"))
  }
  free = [c for c in COLORS if c not in taken] or list(COLORS)
  looks, i = {}, 0
  for name in order:
    look = ARMS.get(name)
    if look is None and name == headline and ARMS[HEADLINE].color not in taken:
      # The page marks its headline in this colour.
      look = ARMS[HEADLINE]._replace(label=name, about="")
    if look is None:
      at, turn = i % len(free), i // len(free)
      marker = MARKERS[(at + turn) % len(MARKERS)]
      look, i = Arm(name, free[at], marker, ""), i + 1
    looks[name] = _chosen(look, chosen.get(name, {}))
  return looks


def _chosen(look: Arm, settings: Mapping[str, Any]) -> Arm:
  """The looks with what the config says of them, where that can be used."""
  color, marker = settings.get("color"), settings.get("marker")
  return Arm(
    str(settings.get("label") or look.label),
    to_hex(color) if is_color_like(color) else look.color,
    marker if _is_marker(marker) else look.marker,
    str(settings.get("about") or look.about),
  )


def _is_marker(value: Any) -> bool:
  """Whether it is a marker with a shape; " " and "None" draw nothing."""
  return isinstance(value, str) and value in Line2D.filled_markers
