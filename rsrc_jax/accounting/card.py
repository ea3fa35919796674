"""A run's provenance on one page: what was spent where, and how it is known.

  python -m rsrc_jax.accounting card RUN_DIR [--siblings RUN_DIR...]

Everything is read from the files of the run. A card is complete or it is not
written: what is missing is named. card_schema.json says what a card holds.
"""

import argparse
import hashlib
import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np

from rsrc_jax.accounting import energy
from rsrc_jax.metrics import statistics
from rsrc_jax.output import files
from rsrc_jax.output.plain import complain, plain
from rsrc_jax.runtime import run_log

SCHEMA = Path(__file__).with_name("card_schema.json")
REQUIRED = {
  "config.json": ("seed",),
  "environment.json": (
    "python", "platform", "packages", "git", "devices", "backend",
    "processes", "arguments",
  ),
  "summary.json": (
    "seed", "steps", "params", "corpus.name", "corpus.digest",
    "ledger.machine.name", "ledger.machine.vcpus", "ledger.machine.gib",
    "ledger.machine.accelerators", "ledger.terms", "ledger.pue",
    "ledger.phases", "ledger.wall_seconds", "ledger.sessions",
    "ledger.rolled_back.seconds", "ledger.rolled_back.flops", "ledger.lost",
    "ledger.failed", "ledger.programs", "rsrc.definitions", "rsrc.verifier",
    "rsrc.samples_served", "rsrc.arms",
  ),
}  # fmt: skip
# Counted by independent ways. XLA's raw figure has loops once: known as wrong.
COUNTS = ("walker", "xla_corrected", "closed_form")
BASELINES = ("compressor", "untrained")  # kinds that nobody trained


class Spent(NamedTuple):
  """All that a ledger holds, or a few of them."""

  seconds: float
  flops: float
  joules: np.ndarray | None  # [draws]; None: unknown
  source: str  # the weakest that had a part in it


def make(run: Path, siblings: list[Path]) -> dict[str, Any]:
  """The card of a finished run, checked against its schema.

  Args:
    run: directory with config.json, environment.json, summary.json and
      ledger.jsonl.
    siblings: runs of the same sweep, finished or not: they were spent on, too.

  Raises:
    ValueError: a file, a field or a source is missing or can't be right; names
      it.
  """
  files = {name: _read(run / name) for name in REQUIRED}
  for name, fields in REQUIRED.items():
    for field in fields:
      _need(files[name], field, run / name)
  config, environment, summary = files.values()
  if config["seed"] != summary["seed"]:
    raise ValueError(
      f"{run}: config.json has seed {config['seed']}, summary.json "
      f"{summary['seed']}: files of two runs."
    )
  ledger, rsrc = summary["ledger"], summary["rsrc"]
  lines = _lines(run, needed=True)
  own = spent(lines, ledger["pue"], run)
  others = [_sibling(path, ledger["pue"]) for path in _distinct(run, siblings)]
  card = {
    "card": 1,
    "run": run.name,
    "definitions": rsrc["definitions"],
    "verifier": rsrc["verifier"],
    "samples_served": rsrc["samples_served"],
    "reproduce": _reproduce(run, environment),
    "environment": {
      k: environment[k]
      for k in ("python", "platform", "packages", "backend", "processes")
    },
    "hardware": {
      "machine": ledger["machine"],
      "devices": environment["devices"],
      "machines": sorted(
        {x["machine"]["name"] for x in lines if x["kind"] == "open"}
      ),
    },
    "data": summary["corpus"],
    "model": {"params": summary["params"], "steps": summary["steps"]},
    "seeds": sorted({summary["seed"], *(x["seed"] for _, x in others)}),
    "energy": {
      "pue": ledger["pue"],
      "terms": ledger["terms"],
      **_priced(own),
      "arms": _arms(rsrc["arms"], run),
    },
    "work": {
      k: ledger[k]
      for k in ("wall_seconds", "sessions", "rolled_back", "lost", "failed")
    },
    "flops": {
      "executed": own.flops,
      "recompute": _recompute(ledger["phases"]),
      "programs": _programs(ledger["programs"], run),
    },
    "siblings": [entry for _, entry in others],
    "total": _total([own, *(other for other, _ in others)]),
  }
  check(card, run)
  return card


def check(card: dict[str, Any], run: Path) -> None:
  """Raises ValueError with the first fault of a card, by its path."""
  schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
  validator = jsonschema.Draft202012Validator(schema)
  fault = jsonschema.exceptions.best_match(validator.iter_errors(card))
  if fault is not None:
    what = " ".join(fault.message.split())
    raise ValueError(
      f"{run}: {fault.json_path.removeprefix('$.')} of its card: "
      f"{what[:200]} (card_schema.json)"
    )


def spent(lines: list[dict], pue: float, run: Path) -> Spent:
  """Sums a ledger's lines, each session's joules by the meter that it had.

  Failed and rolled-back work is in the sum. What a kill left unwritten is not.
  """
  meters, uses, flops = {}, {}, 0.0
  nothing = energy.Use(0.0, 0.0, {})
  for number, line in enumerate(lines, 1):
    try:
      if line["kind"] == "open":
        terms = tuple(energy.Term(**term) for term in line["terms"])
        machine = energy.Machine(**line["machine"])
        meters[line["session"]] = machine, terms
      if line["kind"] in ("phase", "close"):
        use = uses.get(line["session"], nothing)
        if line["kind"] == "phase":
          use = energy.add(use, energy.Use(*(line[k] for k in nothing._fields)))
          flops += sum(line.get("flops", {}).values())
        if "idle" in line:
          use = energy.add(use, energy.Use(**line["idle"]))
        uses[line["session"]] = use
    except (KeyError, TypeError) as error:
      raise ValueError(
        f"{run / 'ledger.jsonl'}: line {number} lacks {error}"
      ) from error
  if not uses or not set(uses) <= set(meters):
    return Spent(0.0, flops, None, "unavailable")
  joules = [
    energy.joules(use, *meters[session], pue=pue)
    for session, use in uses.items()
  ]
  known = all(x is not None for x in joules)
  terms = [term for session in uses for term in meters[session][1]]
  return Spent(
    sum(use.seconds for use in uses.values()),
    flops,
    sum(joules) if known else None,
    energy.weakest(terms) if known else "unavailable",
  )


def main(argv: list[str] | None = None) -> int:
  """Writes a run's card.json; says in one line why it can't."""
  parser = argparse.ArgumentParser("python -m rsrc_jax.accounting card")
  parser.add_argument("run", type=Path, metavar="RUN_DIR")
  parser.add_argument(
    "--siblings", type=Path, nargs="*", default=[], metavar="RUN_DIR",
    help="the other runs of a sweep, failed ones too",
  )  # fmt: skip
  parser.add_argument("--output", type=Path, help="default: RUN_DIR/card.json")
  options = parser.parse_args(argv)
  output = options.output or options.run / "card.json"
  try:
    files.write_json(output, make(options.run, options.siblings))
  except (ValueError, OSError) as error:
    complain(error)
    return 1
  print(f"card: {plain(output)}")
  return 0


def _read(path: Path) -> Any:
  """JSON of a file that must be there, without NaN."""

  def refuse(word: str):
    raise ValueError(f"{word} is no number")

  try:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
  except FileNotFoundError:
    raise ValueError(
      f"{path} is missing: give the directory of a run, and finish that run "
      "first."
    ) from None
  except ValueError as error:
    raise ValueError(f"{path} can't be read: {error}") from error


def _need(tree: Any, field: str, where: Path) -> None:
  """Raises ValueError unless a dotted field is there and not null."""
  value = tree
  for key in field.split("."):
    value = value.get(key) if isinstance(value, dict) else None
    if value is None:
      raise ValueError(
        f"{where}: {field} is missing; run it again with ledger.enabled, from "
        "a git checkout."
      )


def _lines(run: Path, needed: bool) -> list[dict]:
  path = run / "ledger.jsonl"
  lines = run_log.read_jsonl(path) if path.exists() else []
  if needed and not any(line.get("kind") == "open" for line in lines):
    what = "holds no session" if path.exists() else "is missing"
    raise ValueError(
      f"{path} {what}: nothing says what the run spent; run it again with "
      "ledger.enabled."
    )
  return lines


def _reproduce(run: Path, environment: dict) -> dict[str, Any]:
  config = (run / "config.json").read_bytes()
  return {
    "command": shlex.join(["./tools/run", *environment["arguments"]]),
    "git": environment["git"],
    "changed": environment["git"].endswith("+"),
    "config_sha256": hashlib.sha256(config).hexdigest(),
  }


def _priced(some: Spent) -> dict[str, Any]:
  return {"joules": statistics.interval(some.joules), "source": some.source}


def _arms(arms: dict[str, dict], run: Path) -> dict[str, dict]:
  """Training cost of each trained arm; unknown joules have no source."""
  found = {}
  for name, arm in arms.items():
    if arm.get("kind") in BASELINES:
      continue
    where = run / "summary.json"
    for key in ("training_joules", "training_flops", "source"):
      if key not in arm:
        raise ValueError(f"{where}: rsrc.arms.{name}.{key} is missing.")
    joules = arm["training_joules"]
    found[name] = {
      "training_joules": joules,
      "training_flops": arm["training_flops"],
      "source": "unavailable" if joules is None else arm["source"],
    }
  return found


def _programs(programs: dict[str, dict], run: Path) -> dict[str, dict]:
  """FLOPs of each arm's step by three methods, and how far they are apart."""
  found = {}
  for arm, program in programs.items():
    for key in ("walker", "xla_raw", "xla_corrected", "peak_bytes"):
      if key not in program:
        raise ValueError(
          f"{run / 'summary.json'}: ledger.programs.{arm}.{key} is missing."
        )
    counts = [program.get(key) for key in COUNTS]
    known = [x for x in counts if x is not None and x > 0]
    found[arm] = {
      **dict(zip(COUNTS, counts, strict=True)),
      "xla_raw": program["xla_raw"],
      "peak_bytes": program["peak_bytes"],
      "disagreement": max(known) / min(known) if len(known) > 1 else None,
    }
  return found


def _recompute(phases: dict[str, dict]) -> float:
  return sum(x["recompute"] for by in phases.values() for x in by.values())


def _distinct(run: Path, siblings: list[Path]) -> list[Path]:
  """The siblings once each, the run itself left out: globs name it too."""
  found = {path.resolve(): path for path in siblings}
  found.pop(run.resolve(), None)
  return list(found.values())


def _sibling(run: Path, pue: float) -> tuple[Spent, dict[str, Any]]:
  """What another run of the sweep spent, and how it ended."""
  config, lines = _read(run / "config.json"), _lines(run, needed=False)
  _need(config, "seed", run / "config.json")
  some = spent(lines, pue, run)
  entry = {
    "run": run.name,
    "seed": config["seed"],
    "state": _state(run, lines),
    "seconds": some.seconds,
    "flops": some.flops,
    **_priced(some),
  }
  return some, entry


def _state(run: Path, lines: list[dict]) -> str:
  """finished; failed: its last session raised; else unfinished."""
  if (run / "summary.json").exists():
    return "finished"
  last = max((line["session"] for line in lines), default=None)
  failed = any(
    line["session"] == last and line.get("status") == "failed" for line in lines
  )
  return "failed" if failed else "unfinished"


def _total(runs: list[Spent]) -> dict[str, Any]:
  """The run and its siblings: what it took to find it."""
  known = all(some.joules is not None for some in runs)
  source = max((some.source for some in runs), key=energy.SOURCES.index)
  joules = sum(some.joules for some in runs) if known else None
  return {
    "runs": len(runs),
    "flops": sum(some.flops for some in runs),
    **_priced(Spent(0.0, 0.0, joules, source)),
  }
