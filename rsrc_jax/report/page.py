"""The page of a report: a shell, and the sections in their order.

A section is a function section(run) -> HTML; "" where the run has nothing for
it. A run adds sections of its own by files:

  config.report.sections = ("path/to/mine.py", ...)

each with a function section(run) -> str, `run` being run_files.Run. A path is
taken from the folder in which the report is made. The policy of the page
(html.policy) blocks scripts and styles of its own; a drawing is given to
style.inline.
"""

import importlib.util
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from rsrc_jax.report import held_out, html, rsrc_section
from rsrc_jax.report.base_section import base
from rsrc_jax.report.html import section, text
from rsrc_jax.report.ledger_section import ledger
from rsrc_jax.report.numbers import number
from rsrc_jax.report.results_section import ood, results, verdict_of
from rsrc_jax.report.reward_section import curve, rewards
from rsrc_jax.report.rsrc_section import rsrc
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.samples_section import samples
from rsrc_jax.report.style import Looks
from rsrc_jax.report.training_section import training

# Figures that have a section of their own.
APART = ("survival_map", "ledger", "curve", "plateaus")


def page(run: Run) -> str:
  """The whole document."""
  body = "".join(make(run) for make in SECTIONS)
  styles = arm_styles(run.arms.looks)
  return html.document(run.name, body, styles, [rsrc_section.SCRIPT])


def header(run: Run) -> str:
  """The name of the run, and what it is in one line."""
  summary = run.summary
  seconds = number(summary.get("seconds"))
  facts = [
    template.format(value)
    for template, value in (
      ("source: {}", summary.get("source")),
      ("budget: {:.0f} tokens", number(summary.get("budget_tokens"))),
      ("{:,.0f} steps an arm", number(summary.get("steps"))),
      ("{:,.0f} parameters", number(summary.get("params"))),
      ("{:.1f} minutes", None if seconds is None else seconds / 60),
      ("seed {}", summary.get("seed")),
    )
    if value is not None
  ]
  return html.header("report of a run", run.name, " · ".join(facts))


def missing(run: Run) -> str:
  """What the run has not written."""
  if not run.missing:
    return ""
  items = "".join(f"<li>{text(m)}</li>" for m in run.missing)
  return f"<aside><b>This report is incomplete.</b><ul>{items}</ul></aside>\n"


def figures(run: Run) -> str:
  """All figures that have no section of their own."""
  plots = {n: d for n, d in run.drawings.items() if n not in APART}
  return section(
    "Figures", "".join(html.figure(n, d) for n, d in plots.items())
  )


def own(run: Run) -> str:
  """The sections of config.report.sections; errors are shown in their place."""
  found = ""
  for path in held_out.settings(run.config).get("sections") or ():
    try:
      found += str(_load(str(path))(run))
    # It is another's code: whatever fails in it must not cost the report.
    except Exception as error:
      problem = f"{type(error).__name__}: {error}"
      found += section(str(path), f"<p>Not made. {text(problem)}</p>")
  return found


def config(run: Run) -> str:
  """Every setting."""
  return section("Config", _settings(run.config, "config.json"))


def environment(run: Run) -> str:
  """Packages, machine and revision."""
  return section("Environment", _settings(run.environment, "environment.json"))


def arm_styles(looks: Looks) -> str:
  """The colour of each arm, whose name is safe in a style sheet."""
  return "".join(
    f".arm-{name}{{--arm:{look.color}}}"
    for name, look in looks.items()
    if re.fullmatch(r"[A-Za-z0-9_-]+", name)
  )


SECTIONS: tuple[Callable[[Run], str], ...] = (
  header,
  missing,
  verdict_of,
  results,
  ood,
  curve,
  rewards,
  base,
  figures,
  rsrc,
  samples,
  ledger,
  own,
  training,
  config,
  environment,
)


def _load(path: str) -> Callable[[Run], str]:
  """The function `section` of a file."""
  name = pathlib.Path(path).stem
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None:
    raise ImportError(f"{path} is no Python file: its name has to end in .py.")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.section


def _settings(values: dict, name: str) -> str:
  if not values:
    return f"<p>{text(name)} is missing.</p>"
  lines = "".join(
    f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>"
    for key, value in _flat(values)
  )
  return f'<dl class="settings">{lines}</dl>'


def _flat(values: dict, prefix: str = "") -> list[tuple[str, Any]]:
  """Nested dicts as dotted names, in the order of the file."""
  lines = []
  for key, value in values.items():
    if isinstance(value, dict) and value:
      lines += _flat(value, f"{prefix}{key}.")
    else:
      shown = value if isinstance(value, str) else json.dumps(value)
      lines.append((f"{prefix}{key}", shown))
  return lines
