"""Everything about one GPU: nine steps, each with its result.

  ./benchmarks/gpu.sh                            all; again: what is left
  ./benchmarks/gpu.sh --only=device,kernels --out=DIR --seconds=300
  ./.venv/bin/python benchmarks/gpu/run.py --list    the steps and their seconds
  ./.venv/bin/python benchmarks/gpu/run.py --table   stored results -> gpu.md
  ./.venv/bin/python benchmarks/gpu/run.py --weight  MB to carry to the machine

A step is a process of its own with a time limit of its own: if it fails or
hangs, the others still run, and the card's memory is free again. Its figures
are stored one by one in OUT/STEP.json (by default in benchmarks/gpu/results),
with the card, the driver, the revision and the seconds that it took. A step
whose result is stored for this card and these files is skipped (--again: it is
not); one that would end after --seconds is skipped too. Without a GPU, and with
--toy, the steps run small on the CPU, as a rehearsal; what they store
(STEP.toy.json) never counts. table.py has the steps. This process imports no
jax, so that the card belongs to the steps.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.table import STEPS, page, section  # noqa: E402
from rsrc_jax.runtime import cache  # noqa: E402

OUT = ROOT / "benchmarks" / "gpu" / "results"
TOY_OUT = ROOT / "runs" / "gpu_toy"
START, GRACE = 6, 15  # seconds: to look for the card; to end when told to
CARRIED_MB = 60
# Its last line is the card: JSON with backend and kind.
PROBE = """
import json, jax
device = jax.devices()[0]
print(json.dumps({
  "backend": jax.default_backend(), "device": device.device_kind,
}))
"""


def main(arguments: list[str] | None = None) -> None:
  asked = flags().parse_args(arguments)
  if asked.child:
    return child(asked.child, asked.out, json.loads(asked.here), asked.toy)
  if asked.list:
    return print(listed())
  if asked.weight:
    return print(weight())
  if asked.table:
    path = ROOT / "benchmarks" / "gpu.md"
    path.write_text(page(read(asked.out or OUT)))
    return print(f"wrote {path}")
  names = chosen(asked.only)
  begun = asked.begun or time.time()
  here = probe(asked.toy)
  out = asked.out or (TOY_OUT if here["toy"] else OUT)
  # An exit that is an exception: the step that runs is ended too.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  if left := run_all(names, out, here, asked, begun):
    raise SystemExit(f"Not done: {', '.join(left)}. {out} has the logs.")


def flags() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", default="", help=",".join(STEPS))
  parser.add_argument("--out", type=Path, help="folder of the results")
  parser.add_argument("--seconds", type=float, default=1300.0, help="in all")
  parser.add_argument("--again", action="store_true", help="stored ones too")
  parser.add_argument("--toy", action="store_true", help="small, on the CPU")
  parser.add_argument("--list", action="store_true", help="show the steps")
  parser.add_argument("--table", action="store_true", help="write gpu.md")
  parser.add_argument("--weight", action="store_true", help="MB to carry")
  parser.add_argument("--begun", type=float, help="when it began, since 1970")
  parser.add_argument("--child", choices=[*STEPS], help=argparse.SUPPRESS)
  parser.add_argument("--here", help=argparse.SUPPRESS)
  return parser


def chosen(only: str) -> list[str]:
  """The steps of --only, in their order; all of them by default."""
  names = [x for x in only.split(",") if x]
  if wrong := [x for x in names if x not in STEPS]:
    raise SystemExit(f"--only={only}: {wrong[0]!r} is none of {[*STEPS]}.")
  return [x for x in STEPS if x in names or not names]


def listed() -> str:
  lines = [
    f"{name:<9} {step.seconds:>4} s, at most {step.limit:>3}  {step.title} "
    f"(by estimate: {step.basis})"
    for name, step in STEPS.items()
  ]
  total = START + sum(step.seconds for step in STEPS.values())
  return "\n".join([*lines, f"{total} s in all, {START} of them to start."])


def weight() -> str:
  """What a machine without network must be given."""
  beside = ROOT / ".beside"
  wheels = sum(x.stat().st_size for x in beside.rglob("*") if x.is_file())
  mb = tracked() / 1e6, wheels / 1e6
  return (
    f"tracked files {mb[0]:.1f} MB, .beside {mb[1]:.1f} MB: {sum(mb):.1f} of "
    f"{CARRIED_MB} MB"
  )


def tracked() -> int:
  """Bytes of the files that git tracks."""
  names = git("ls-files", "-z")
  if names is None:
    raise SystemExit(f"{ROOT} is no git checkout: git ls-files says nothing.")
  files = [ROOT / x for x in names.split("\0") if x]
  return sum(x.stat().st_size for x in files if x.is_file())


def git(*arguments: str) -> str | None:
  try:
    return subprocess.run(
      ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


# Where it runs.


def probe(toy: bool) -> dict[str, Any]:
  """The card as jax sees it, and the state of the source files.

  Raises:
    SystemExit: there is a card that jax can't use.
  """
  found = {"backend": "cpu", "device": "cpu"} if toy else seen()
  driver, jax = driver_version(), importlib.metadata.version("jax")
  if not toy and driver and found["backend"] != "gpu":
    raise SystemExit(
      f"There is an NVIDIA driver ({driver}), but jax {jax} sees "
      f'{found["backend"]} only: pip install "jax[cuda13]" of that version, '
      "or give --toy."
    )
  toy = toy or found["backend"] != "gpu"
  if toy:
    print("No GPU is used: a rehearsal in toy form on the CPU.", flush=True)
  return found | {
    "toy": toy,
    "driver": driver,
    "jax": jax,
    "revision": git("rev-parse", "--short=12", "HEAD"),
    "files": fingerprint(),
  }


def seen() -> dict[str, str]:
  """jax's backend and kind of device, asked in a process of its own."""
  done = subprocess.run(
    [sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=ROOT
  )
  if done.returncode:
    raise SystemExit(f"jax does not start: {last_line(done.stderr)}")
  return json.loads(done.stdout.splitlines()[-1])


def driver_version() -> str | None:
  """Of NVIDIA's driver; None without one."""
  ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
  try:
    done = subprocess.run(ask, capture_output=True, text=True, timeout=30)
    if done.returncode == 0 and done.stdout.strip():
      return done.stdout.split()[0]
  except (OSError, subprocess.TimeoutExpired):
    pass
  try:
    return Path("/sys/module/nvidia/version").read_text().strip()
  except OSError:
    return None


def fingerprint() -> str:
  """12 digits of what the figures depend on.

  Not the revision alone: a machine may be given a tree without .git, and a
  commit that only adds results must not make them stale.
  """
  total = hashlib.sha256()
  for pattern in ("rsrc_jax/**/*.py", "configs/*.py", "benchmarks/**/*.py"):
    for path in sorted(ROOT.glob(pattern)):
      if path.parts[-2:] != ("gpu", "table.py"):  # titles and estimates
        total.update(f"{path.relative_to(ROOT)}\0".encode())
        total.update(path.read_bytes())
  return total.hexdigest()[:12]


# Results.


def result_path(out: Path, name: str, toy: bool) -> Path:
  return out / f"{name}{'.toy' if toy else ''}.json"


def read(out: Path, toy: bool = False) -> dict[str, dict]:
  """The stored results of all steps that have one."""
  found = {}
  for name in STEPS:
    path = result_path(out, name, toy)
    if path.is_file():
      found[name] = json.loads(path.read_text())
  return found


def store(path: Path, result: dict) -> None:
  """Whole or not at all: a cut leaves the file as it was."""
  path.parent.mkdir(parents=True, exist_ok=True)
  half = path.with_suffix(".half")
  half.write_text(json.dumps(result, indent=1) + "\n")
  os.replace(half, path)


def made(here: dict, status: str, values: dict, **more: Any) -> dict:
  at = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
  return {"status": status, "toy": here["toy"], "here": here, "at": f"{at} UTC",
          "values": values, **more}  # fmt: skip


def decide(
  name: str, stored: dict | None, here: dict, again: bool, left: float
) -> str:
  """What becomes of a step with `left` seconds: "run", "stored" or "late"."""
  same = ("device", "driver", "jax", "files", "toy")
  alike = stored and all(stored["here"].get(x) == here[x] for x in same)
  if alike and stored["status"] == "done" and not again:
    return "stored"
  return "run" if STEPS[name].seconds <= left else "late"


def run_all(names: list, out: Path, here: dict, asked, begun: float) -> list:
  """Runs the steps in turn. -> those without a whole result"""
  open_ones = []
  for name in names:
    stored = read(out, here["toy"]).get(name)
    left = begun + asked.seconds - time.time()
    verdict = decide(name, stored, here, asked.again, left)
    if verdict == "stored":
      print(f"{name}: stored already, in {out}", flush=True)
      continue
    if verdict == "late":
      print(
        f"{name}: skipped, since it takes {STEPS[name].seconds} s by estimate "
        f"and {max(left, 0):.0f} of --seconds={asked.seconds:g} are left",
        flush=True,
      )
      open_ones.append(name)
      continue
    print(f"{name}: {STEPS[name].title} ...", flush=True)
    result = run_step(name, out, here, limit_of(name, here["toy"], left))
    print("\n".join(section(name, result)), flush=True)
    if result["status"] != "done":
      open_ones.append(name)
  return open_ones


def limit_of(name: str, toy: bool, left: float) -> float:
  """Seconds that a step may take, with so many left in all.

  A CPU in toy form may be slow: only --seconds limits it. On a card a step
  that hangs needs time to be ended, unless it just fits.
  """
  step = STEPS[name]
  return left if toy else min(step.limit, max(step.seconds, left - GRACE))


# One step.


def run_step(name: str, out: Path, here: dict, limit: float) -> dict:
  """Runs a step in a process of its own, and stores what became of it.

  limit: seconds after which it is ended.
  """
  path = result_path(out, name, here["toy"])
  store(path, made(here, "partial", {}))
  log = out / f"{name}.log"
  begun = time.monotonic()
  with log.open("w") as file:
    process = subprocess.Popen(
      command(name, out, here), cwd=ROOT, env=environment(here["toy"]),
      stdout=file, stderr=file, start_new_session=True,
    )  # fmt: skip
    try:
      code = process.wait(limit)
      error = "" if code == 0 else f"{last_line(log.read_text())} ({code})"
    except subprocess.TimeoutExpired:
      error = f"ended after {limit:.0f} s, its limit"
    finally:
      end(process)
  values = json.loads(path.read_text())["values"]
  result = made(
    here, "failed" if error else "done", values, error=error,
    seconds=time.monotonic() - begun,
  )  # fmt: skip
  store(path, result)
  return result


def command(name: str, out: Path, here: dict) -> list[str]:
  """Of the process of a step, which is `child` below."""
  return [
    sys.executable, "-m", "benchmarks.gpu.run", f"--child={name}",
    f"--out={out.resolve()}", f"--here={json.dumps(here)}",
    *(["--toy"] if here["toy"] else []),
  ]  # fmt: skip


def environment(toy: bool) -> dict[str, str]:
  """Of a step: it finds the repository, and uses the card or fails."""
  paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
  found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
  found["PYTHONUNBUFFERED"] = "1"
  cache.keep_programs(found)  # steps share programs
  if toy:
    return found | {"JAX_PLATFORMS": "cpu"}
  # Named, a platform that does not start is an error and no fallback.
  found.setdefault("JAX_PLATFORMS", "cuda,cpu")
  return found


def end(process: subprocess.Popen) -> None:
  """Ends a step and all that it has started, first politely."""
  for number, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 0)):
    try:
      os.killpg(process.pid, number)
    except ProcessLookupError:
      break
    until = time.monotonic() + wait
    while process.poll() is None and time.monotonic() < until:
      time.sleep(0.1)
  process.wait()


def last_line(text: str) -> str:
  lines = [x.strip() for x in text.splitlines() if x.strip()]
  return clipped(lines[-1]) if lines else "it said nothing"


def clipped(text: str, most: int = 240) -> str:
  """Short enough for a table, without the path of this checkout."""
  text = text.replace(f"{ROOT}/", "")
  if len(text) <= most:
    return text
  return f"{text[: most // 2]} ... {text[-most // 2 :]}"


def child(name: str, out: Path, here: dict, toy: bool) -> None:
  """The process of a step: stores each row of figures as it comes.

  A row with an "error" is stored too, and fails the step when it has ended.
  """
  path = result_path(out, name, toy)
  values: dict[str, dict] = {}
  steps = importlib.import_module(f"benchmarks.gpu.{MODULES.get(name, name)}")
  for row, cells in getattr(steps, name)(toy, out):
    values.setdefault(row, {}).update(cells)
    store(path, made(here, "partial", values))
    print(row, cells, flush=True)
  errors = [x["error"] for x in values.values() if "error" in x]
  if errors:
    raise SystemExit(f"{len(errors)} rows failed, the first: {errors[0]}")


# Steps that share a file with another one.
MODULES = {"default": "runs", "text": "runs"}


if __name__ == "__main__":
  main()
