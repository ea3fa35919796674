"""What a start waits for, and what each shipped step costs to compile.

  ./.venv/bin/python benchmarks/startup.py                    (12 minutes)
  ./.venv/bin/python benchmarks/startup.py --before=FOLDER    (twice that)
  ./.venv/bin/python benchmarks/startup.py --shares --before=FOLDER

FOLDER is a former tree, whose numbers stand beside these. Both take turns,
each part in a process of its own on one core; ratios are of neighbours.
Written to startup.md after every round. --shares counts the programs that the
arms of each shipped config are compiled into (nothing is compiled).
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CASES = {
  "base": ("tiny", "base"), "rule": ("tiny", "lead"), "cdv": ("tiny", "code"),
  "gated": ("random_vocabulary", "F"), "qa": ("qa", "qa_cold"),
  "ccv": ("ccv", "rewrite"), "cc": ("cc", "cc"),
}  # fmt: skip
# In the order of a start. "other": what none of them is.
PARTS = (
  "python", "imports", "data", "parameters", "restore", "trace", "lower",
  "compile", "first step", "other", "total",
)  # fmt: skip


def main() -> None:
  """Measures in child processes, or is one of them."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--before", type=Path, help="a former tree")
  flags.add_argument("--rounds", type=int, default=3)
  flags.add_argument("--cases", default=",".join(CASES), help="the steps")
  flags.add_argument("--shares", action="store_true")
  flags.add_argument("--child", help=argparse.SUPPRESS)
  asked, rest = flags.parse_known_args()
  if asked.child:
    {"start": start, "step": step, "shares": shares}[asked.child](*rest)
    return
  trees = {"now": ROOT}
  if asked.before:
    trees = {"before": asked.before.resolve(), **trees}
  if asked.shares:
    print("\n".join(share_table(trees)))
    return
  found, cases = {}, asked.cases.split(",")
  for number in range(asked.rounds):
    for kind, name in (("start", ""), *(("step", x) for x in cases)):
      for tree, folder in trees.items():
        for key, values in measured(folder, kind, name).items():
          found.setdefault(key, {}).setdefault(tree, []).append(values)
      write(found, trees, number + 1)


def measured(folder: Path, kind: str, name: str) -> dict:
  """One part of a round for one tree. -> {(kind, name): seconds by part}"""
  with tempfile.TemporaryDirectory() as scratch:
    if kind == "step":
      return {(kind, name): child(folder, scratch, kind, name)}
    run = str(Path(scratch) / "run")
    made = {}
    for way in ("cold", "warm"):
      made[kind, way] = child(folder, scratch, kind, repr(time.time()), run)
      shutil.rmtree(run)
    return made


def child(folder: Path, scratch: str, kind: str, *more: str) -> dict:
  """Runs this file in a tree, with caches of its own. -> what it printed"""
  kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
  command = [sys.executable, str(HERE / "startup.py"), f"--child={kind}"]
  done = subprocess.run(
    [*command, *more], cwd=folder, text=True, capture_output=True, check=False,
    env=kept | {"PYTHONPATH": str(folder), "RSRC_CACHE": scratch},
  )  # fmt: skip
  if done.returncode:
    sys.exit(done.stderr[-2_000:])
  return json.loads(done.stdout.splitlines()[-1])


# The children. They use names that both trees have.


def start(begun: str, workdir: str) -> None:
  """The default command, up to the end of its first step."""
  parts, begun = {}, float(begun)

  def add(name: str, seconds: float) -> None:
    parts[name] = parts.get(name, 0.0) + seconds

  def timed(module, name: str, part: str) -> None:
    function = getattr(module, name)

    def run(*args, **kwargs):
      since = time.time()
      out = function(*args, **kwargs)
      add(part, time.time() - since)
      return out

    setattr(module, name, run)

  add("python", time.time() - begun)
  since = time.time()
  from rsrc_jax import main as entry
  from rsrc_jax.runtime import cache

  cache.keep_programs()
  import jax

  from rsrc_jax import runs, train
  from rsrc_jax.training import lane

  add("imports", time.time() - since)
  timed(train, "make_setup", "data")
  whole = runs.initial_params
  runs.initial_params = lambda setup: jax.block_until_ready(whole(setup))
  timed(runs, "initial_params", "parameters")
  timed(lane, "open_lane", "restore")
  compiling = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
  }
  steps = lane.compile_step

  def compile_step(now):
    listening = []
    jax.monitoring.register_event_duration_secs_listener(
      lambda name, seconds, **_: (
        add(compiling[name], seconds)
        if name in compiling and not listening
        else None
      )
    )
    counts = steps(now)
    listening.append("over")
    return counts

  lane.compile_step = compile_step
  lane.boundary = lambda now: now.step + 1
  advance = lane.advance

  def first(*args):
    since = time.time()
    jax.block_until_ready(advance(*args).state)
    add("first step", time.time() - since)
    total = time.time() - begun
    add("other", total - sum(parts.values()))
    print(json.dumps(parts | {"total": total}), flush=True)
    os._exit(0)

  lane.advance = first
  sys.argv = ["rsrc", "--config=configs/tiny.py", f"--workdir={workdir}"]
  entry.cli()


def step(name: str) -> None:
  """Traces, lowers and compiles a shipped step, without a cache."""
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  from rsrc_jax.runtime import cache

  cache.keep_programs()
  import jax

  from rsrc_jax.build.setup import initial_params, make_setup
  from rsrc_jax.data import sources
  from rsrc_jax.runtime.configs import load
  from rsrc_jax.stages import plan
  from rsrc_jax.stages.stage import frozen_of

  file, arm = CASES[name]
  config = load(f"configs/{file}.py")
  if arm != "base":
    config.arms[arm].start, config.only = "base", arm
  setup = make_setup(config)
  stage = {x.name: x for x in plan.make_stages(setup)}[arm]
  params = initial_params(setup)
  frozen = frozen_of(stage, {"base": params})
  args = stage.init(params), frozen, sources.batch(
    setup.corpus.train, 0, stage.batch_size
  )  # fmt: skip
  given = stage.controls(*args)
  seconds = [time.perf_counter()]
  traced = stage.step.trace(*args, given)
  seconds.append(time.perf_counter())
  lowered = traced.lower()
  seconds.append(time.perf_counter())
  compiled = lowered.compile()
  seconds.append(time.perf_counter())
  state, took = args[0], []
  for _ in range(12):
    since = time.perf_counter()
    state, metrics = compiled(state, frozen, args[2], given)
    jax.block_until_ready(metrics)
    took.append(time.perf_counter() - since)
  names, spans = ("trace", "lower", "compile"), itertools.pairwise(seconds)
  parts = {x: b - a for x, (a, b) in zip(names, spans, strict=True)}
  parts["step"] = statistics.median(took[2:])
  parts["hlo"] = len(compiled.as_text()) / 1e6
  print(json.dumps(parts))


def shares() -> None:
  """How many steps the arms of each shipped config are compiled into."""
  from rsrc_jax.build.setup import make_setup
  from rsrc_jax.runtime.configs import load
  from rsrc_jax.stages import plan

  found = {}
  for path in sorted(Path("configs").glob("*.py")):
    config = load(path)
    if config.loop != "rsrc_jax.train":
      continue
    config.only = ""
    try:
      setup = make_setup(config)
    except (ValueError, FileNotFoundError, ImportError):
      continue  # it needs data or weights that are not here
    stages = plan.make_stages(setup)[1:]
    steps = {
      id(f) for x in stages for f in (x.programs or {"": x.step}).values()
    }
    found[path.stem] = [len(stages), len(steps)]
  print(json.dumps(found))


# The page.


def share_table(trees: dict[str, Path]) -> list[str]:
  with tempfile.TemporaryDirectory() as scratch:
    found = {x: child(folder, scratch, "shares") for x, folder in trees.items()}
  lines = [
    f"| config | arms | {' | '.join(f'programs {x}' for x in trees)} |",
    "|---|---|" + "---|" * len(trees),
  ]
  for name, (arms, _) in found["now"].items():
    counts = " | ".join(str(found[x].get(name, ["", "-"])[1]) for x in trees)
    lines.append(f"| {name} | {arms} | {counts} |")
  return lines


def write(found: dict, trees: dict[str, Path], rounds: int) -> None:
  """startup.md from all rounds so far."""
  import jax

  lines = [
    "# What a start waits for", "",
    "Printed by benchmarks/startup.py. Seconds, medians of up to "
    f"{rounds} rounds; [least, most]; ratios are of neighbours.",
    f"Machine: {platform.processor() or platform.machine()}, one core, Python "
    f"{platform.python_version()}, jax {jax.__version__}.", "",
  ]  # fmt: skip
  for kind, title in (
    ("start", "## The default command, from the process to its first step"),
    ("step", "## Each shipped step, at its shipped shapes"),
  ):
    lines += [title, "", *table(found, kind, [*trees]), ""]
  (HERE / "startup.md").write_text("\n".join(lines[:-1]) + "\n")


def table(found: dict, kind: str, trees: list[str]) -> list[str]:
  head = {"start": "start", "step": "step of"}[kind]
  ratio = " now / before |" if len(trees) > 1 else ""
  lines = [
    f"| {head} | part | {' | '.join(trees)} |{ratio}",
    "|---|---|" + "---|" * len(trees) + ("---|" if ratio else ""),
  ]
  parts = {"start": PARTS, "step": ("trace", "lower", "compile", "step", "hlo")}
  names = {"step": "a step", "hlo": "MB of HLO"}
  for (own, name), by_tree in found.items():
    if own != kind:
      continue
    for part in parts[kind]:
      series = [[x.get(part, 0.0) for x in by_tree.get(t, [])] for t in trees]
      cells = [spread(x) for x in series]
      if ratio:
        pairs = [b / a for a, b in zip(*series, strict=False) if a > 0.02]
        cells.append(spread(pairs) if pairs else "")
      title = names.get(part, part) if kind == "step" else part
      lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
  return lines


def spread(values: list[float]) -> str:
  """Median [least, most]."""
  if not values:
    return "-"
  if len(values) == 1:
    return f"{values[0]:.2f}"
  middle = statistics.median(values)
  return f"{middle:.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
  main()
