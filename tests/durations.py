"""CPU seconds by test module: measured, tabled, and what the order rests on.

As a command (`./tools/test --durations-table`) it runs the whole suite from an
empty compile cache and writes tests/durations.md. CPU seconds are those of the
test process and of its children; on two cores they are about twice the minutes
that one waits, and other load on the machine hardly moves them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TABLE = Path(__file__).with_suffix(".md")
BUDGET = 9 * 60 * 2  # CPU seconds of the quick suite: 9 minutes on two cores
GROWTH = 30  # CPU seconds that one change may add to it
UNKNOWN = (60.0, 0.0)  # of a module not in the table yet: it runs early
ROW = re.compile(r"^\| `(tests/\S+\.py)` \|(.+)\|$")
HEAD = "| module | quick tests | quick CPU s | slow tests | slow CPU s |"


def cpu_seconds() -> float:
  """Of this process and of its children that ended."""
  return sum(os.times()[:4])


def known(path: Path = TABLE) -> dict[str, tuple[float, float]]:
  """Module -> CPU seconds of its quick and of its slow tests."""
  found = {}
  for line in path.read_text().splitlines() if path.exists() else ():
    if row := ROW.match(line):
      _, quick, _, slow = (float(x) for x in row[2].split("|"))
      found[row[1]] = quick, slow
  return found


# Hooks; conftest.py names this module as a plugin.


def pytest_addoption(parser):
  parser.addoption(
    "--cpu-times", metavar="FILE", help="write each test's CPU seconds there"
  )


class Clock:
  """Attaches to each report what was spent since the one before."""

  def __init__(self):
    self.last = self.begun = None

  def pytest_collection_finish(self):
    self.last = self.begun = cpu_seconds()

  @pytest.hookimpl(hookwrapper=True)
  def pytest_runtest_makereport(self):
    outcome = yield
    report, now = outcome.get_result(), cpu_seconds()
    report.cpu, self.last = now - self.last, now
    report.begun, self.begun = self.begun, None


class Collector:
  """Gathers the reports of all workers and writes them."""

  def __init__(self, path: Path):
    self.path, self.tests, self.begun = path, {}, []

  def pytest_runtest_logreport(self, report):
    if not hasattr(report, "cpu"):
      return
    name = report.nodeid.split("@")[0]
    test = self.tests.setdefault(name, {"cpu": 0.0, "slow": False})
    test["cpu"] += report.cpu
    test["slow"] |= "slow" in report.keywords
    if report.begun is not None:
      self.begun.append(report.begun)

  def pytest_sessionfinish(self):
    said = {"tests": self.tests, "begun": self.begun}
    self.path.write_text(json.dumps(said, indent=1))


def pytest_configure(config):
  # Workers hear of the option too: xdist hands all of them on.
  if path := config.getoption("--cpu-times"):
    config.pluginmanager.register(Clock())
    if not hasattr(config, "workerinput"):
      config.pluginmanager.register(Collector(Path(path).resolve()))


# The command.


def table(measured: dict, before: dict[str, tuple[float, float]]) -> str:
  """The text of durations.md."""
  modules: dict[str, list[float]] = {}
  for name, test in measured["tests"].items():
    row = modules.setdefault(name.split("::")[0], [0, 0.0, 0, 0.0])
    at = 2 if test["slow"] else 0
    row[at] += 1
    row[at + 1] += test["cpu"]
  begun = sum(measured["begun"])
  quick = begun + sum(row[1] for row in modules.values())
  slow = sum(row[3] for row in modules.values())
  over = [
    f"`{name}` (+{row[1] - before[name][0]:.0f})"
    for name, row in modules.items()
    if name in before and row[1] - before[name][0] > GROWTH
  ]
  if quick > BUDGET:
    over.insert(0, f"**the quick suite, by {quick - BUDGET:.0f}**")
  lines = [
    "# What the tests cost",
    "",
    "CPU seconds (user and system, child processes included) from an empty "
    "compile",
    "cache, written by `./tools/test --durations-table`. Two cores need about "
    "half as",
    "many seconds of your time. The order of the suite is taken from this "
    "table.",
    "",
    f"- quick suite: {quick:.0f} of a budget of {BUDGET} "
    f"({BUDGET // 120} minutes on two cores)",
    f"- of which starting and collecting: {begun:.0f} "
    f"({len(measured['begun'])} workers)",
    f"- slow tests, which `./tools/test --all` adds: {slow:.0f}",
    f"- a change may add {GROWTH} to the quick suite; the rest of its tests is "
    "marked `slow`",
    f"- over: {', '.join(over) or 'nothing'}",
    "",
    HEAD,
    "|---|---:|---:|---:|---:|",
  ]
  for name, row in sorted(modules.items(), key=lambda x: -x[1][1]):
    lines.append(f"| `{name}` | {row[0]} | {row[1]:.1f} | {row[2]} "
                 f"| {row[3]:.1f} |")  # fmt: skip
  lines += ["", "## The dearest tests", "",
            "| test | CPU s | |", "|---|---:|---|"]  # fmt: skip
  tests = sorted(measured["tests"].items(), key=lambda x: -x[1]["cpu"])
  for name, test in tests[:25]:
    mark = "slow" if test["slow"] else ""
    lines.append(f"| `{name}` | {test['cpu']:.1f} | {mark} |")
  return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
  """Runs the suite and writes the table; of a part of it, prints it only."""
  root = TABLE.parent.parent
  with tempfile.TemporaryDirectory() as folder:
    found = Path(folder) / "cpu.json"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}
    done = subprocess.run(
      [sys.executable, "-m", "pytest", f"--cpu-times={found}", *arguments],
      cwd=root, env=environment,
    )  # fmt: skip
    if done.returncode == 0:
      text = table(json.loads(found.read_text()), known())
      print(text)
      if not arguments:
        TABLE.write_text(text)
  return done.returncode


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
