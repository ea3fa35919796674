"""The experiment: one base, several arms from it, equal in data and in steps.

train(config, workdir) is a plain function: the command line, a test and an
outer loop call it alike. Phases run in turn (base, then every arm); each has
checkpoints of its own, and what is finished is not done again.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from rsrc_jax.accounting import energy, flops, ledger, metering
from rsrc_jax.build.setup import Setup, initial_params, make_setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge, heldout, service
from rsrc_jax.runtime import (
  checkpoint,
  processes,
  provenance,
  run_log,
  sharding,
)
from rsrc_jax.runtime.signals import Interrupted, stop_requests
from rsrc_jax.stages import closed_form, plan, stage
from rsrc_jax.types import Params, TrainState


def train(
  config: ml_collections.ConfigDict,
  workdir: str | Path,
  *,
  log: run_log.Log | None = None,
) -> dict[str, Any]:
  """Runs or resumes an experiment and returns its summary.

  Args:
    config: see configs/tiny.py.
    workdir: the run directory; made where missing, resumed where it holds a
      run of the same config.
    log: where to show progress.

  Of several processes (processes.join) all call it alike and get the same.

  Raises:
    ValueError: a setting or a corpus that can't work; before any compile.
    Interrupted: SIGTERM or Ctrl-C came and the run was saved.
    FloatingPointError: the loss stopped being a number.
  """
  workdir = Path(workdir)
  meter = energy.open_meter(accelerators=sharding.accelerators())
  meter = energy.alike(meter, processes.count())
  begun = meter.read()
  setup = make_setup(config, workdir)
  phases = plan.make_stages(setup)
  processes.check_same("config", config.to_json_best_effort(sort_keys=True))
  processes.check_same("corpus", setup.corpus.digest)
  made = provenance.environment()  # before: the tree may change under a run
  provenance.check(config, workdir)
  if (done := workdir / "summary.json").exists():
    return json.loads(done.read_text())
  with processes.notebook(workdir) as notebook:
    provenance.record(config, notebook)
    log = log or run_log.Log(notebook, quiet=not processes.first())
    path = notebook / "ledger.jsonl" if config.ledger.enabled else None
    books = ledger.Ledger(path, meter, since=begun)
    with stop_requests() as stop, contextlib.closing(log):
      with contextlib.closing(books):
        summary, *found = _train(
          setup, phases, workdir, notebook, log, books, stop
        )
        peers = service.peers(setup, meter)  # while there is a meter
      kept = ("git", "python", "packages", "backend", "devices", "processes")
      summary["made_with"] = {name: made[name] for name in kept}
      if path is not None:
        summary |= service.account(setup, *found, peers, books)
        lines = run_log.read_jsonl(log.path)
        summary["trajectory"] = service.trajectory(lines)
        log.totals(service.scalars(summary))
    run_log.write_json(notebook / "summary.json", summary)
  return summary


def _train(setup, phases, workdir, notebook, log, books, stop):
  """All phases, then the test split.

  workdir: where checkpoints go; notebook: all else (see processes.notebook).
  -> results.evaluate_arms, and the bits of what each arm's service has to keep.
  """
  C = metering.decoding("C", setup.config.budget)
  base, *arms = (
    p._replace(
      write=p.write and metering.charged(books, "C", p.write, C),
      observe=p.observe
      and metering.charged(
        books, "V", p.observe, metering.held_loops, p.sections
      ),
    )
    for p in phases
  )
  with books.phase("compile") as spend:
    untrained = spend(initial_params(setup))
  D = setup.roles["D"]
  examine = code_judge.CodeJudge(
    metering.charged(
      books, "D", jax.jit(code_judge.make_reader(setup.policy, D)),
      metering.decoding("D", D.length),
    ),
    metering.charged(
      books, "V", jax.jit(code_judge.make_judge(setup.policy, D))
    ),
    functools.partial(sharding.rows, setup.mesh),
  )  # fmt: skip
  trained, kept = {}, {}
  for number, phase in enumerate((base, *arms), 1):
    params = untrained if phase is base else trained[phase.start]
    title = f"{phase.name} ({number}/{len(phases)})"
    frozen = stage.frozen_of(phase, {"base": params} | trained)
    state = run_phase(
      setup, phase, params, frozen, examine, workdir, log, books, title, stop
    )
    trained[phase.name] = phase.bind(state.params, frozen)
    kept[phase.name] = service.state_bits(state)
  log.note("Evaluating on the test split.")
  trained["untrained"] = untrained
  found = heldout.evaluate_arms(setup, arms, trained, examine, notebook, books)
  return *found, kept


def run_phase(
  setup: Setup,
  phase: stage.Stage,
  params: Params,
  frozen: dict[str, Params],
  examine: code_judge.CodeJudge,
  workdir: Path,
  log: run_log.Log,
  books: ledger.Ledger,
  title: str,
  stop: Callable[[], bool],
) -> TrainState:
  """Trains one phase to its end, from its last checkpoint if there is one.

  params: to begin with; frozen: see build.frozen_of.
  """
  config = setup.config
  saver = checkpoint.open_saver(
    workdir / "checkpoints" / phase.name,
    keep_last=config.checkpoint.keep_last,
    keep_best=config.checkpoint.keep_best,
    metric="nll_bits",
  )
  state = phase.init(params)
  state = sharding.put(state, sharding.shardings(setup.mesh, state))
  frozen = sharding.put(frozen, sharding.shardings(setup.mesh, frozen))
  stream = sources.batches(
    setup.corpus.train, batch_size=phase.batch_size, seed=phase.data_seed
  )
  window, host = [], {}
  if (found := checkpoint.restore(saver, state)) is not None:
    state, host = found
    stream.set_state(host["iterator"])
    window = host["window"]
    books.carry(host.get("ledger"))
  step = int(state.step)
  if step >= phase.steps:
    checkpoint.close(saver)
    return state
  books.resume(phase.name, host.get("ledger"))
  log.start(phase.name, title, step, phase.steps)
  counts = compile_step(setup, phase, state, frozen, books)
  log.compiled(step)
  every = [config.log_every, config.eval.every, config.checkpoint.every]
  every += [phase.observe_every] if phase.observe else []
  # One of several processes can't stop between two windows on its own.
  soon = stop if processes.count() == 1 else lambda: False
  while step < phase.steps:
    until = min(phase.steps, *((step // n + 1) * n for n in every))
    state, found = advance(
      setup, phase, state, frozen, stream, range(step, until), books, counts,
      soon,
    )  # fmt: skip
    window, step = window + found, step + len(found)
    last, stopping = step == phase.steps, processes.any_of(stop())
    if phase.observe and step % phase.observe_every == 0:
      state, held = _held_out(setup, phase, state, frozen)
      log.held(step, held)
    if last or step % config.log_every == 0:
      with books.phase("idle"):  # closed as failed if the loss is no number
        window = _flush(log, title, step, window, _spent(books, config))
    valid = {}
    if phase.write and (last or step % config.eval.every == 0):
      with books.phase("evaluation"):
        valid = _validate(setup, phase, state, frozen, examine)
      log.valid(step, valid | _spent(books, config))
    if last or step % config.checkpoint.every == 0 or stopping:
      window = [{k: float(v) for k, v in m.items()} for m in window]
      host = {"iterator": stream.get_state(), "window": window}
      host["ledger"] = books.position()
      with books.phase("checkpoint"):
        checkpoint.save(saver, state, host, valid)
    if stopping and not last:
      log.end()
      checkpoint.close(saver)
      raise Interrupted(f"{phase.name} saved at step {step} of {phase.steps}")
  log.end()
  checkpoint.close(saver)
  return state


def compile_step(
  setup: Setup,
  phase: stage.Stage,
  state: TrainState,
  frozen: Any,
  books: ledger.Ledger,
) -> dict[str, flops.Count]:
  """Compiles what a step runs, before the first one.

  Returns:
    The FLOPs of its parts, "given" and its steps by their pattern's name (""
    where there is one), as `advance` takes them; none if nothing is booked.
  """
  batch = sources.batch(setup.corpus.train, 0, phase.batch_size)
  batch = sharding.rows(setup.mesh, batch)
  ready = (0, state.curriculum, frozen, batch)
  given = phase.given(*ready)
  roles = setup.roles
  longest = {role.scope: role.length - 1 for _, role in phase.roles}
  counts = {"given": metering.compiled(books, "given", phase.given, *ready)}
  for name, step in (phase.mixed or {"": phase.step}).items():
    counts[name] = metering.compiled(
      books, f"step {name}".strip(), step, state, frozen, batch, given,
      loops=longest | {role: roles[role].length - 1 for role in "CD"},
      sections=phase.sections,
      closed_form=None if name else closed_form.step_flops(setup, phase.name),
    )  # fmt: skip
  return counts if books.path is not None else {}


def advance(
  setup: Setup,
  phase: stage.Stage,
  state: TrainState,
  frozen: Any,
  stream: Iterator[Any],
  steps: range,
  books: ledger.Ledger,
  counts: dict[str, flops.Count],
  stop: Callable[[], bool],
) -> tuple[TrainState, list[dict[str, Any]]]:
  """Runs `steps`, or fewer if `stop` says so, one at least.

  The host runs ahead of the device and waits for it once, at the end: what is
  charged has been done.

  Returns:
    The state, and the metrics of each step.
  """
  found, played = [], []
  with books.phase("step") as spend:
    for step in steps:
      batch = sharding.rows(setup.mesh, next(stream))
      given = phase.given(step, state.curriculum, frozen, batch)
      name = phase.pick(step, level(state)) if phase.pick else ""
      play = phase.mixed[name] if name else phase.step
      state, metrics = play(state, frozen, batch, given)
      found.append(metrics)
      played.append(name)
      if stop():
        break
    jax.block_until_ready(metrics)
    executed = _executed(counts, found, played)
    spend(step=step + 1, steps=len(found), **executed)
  return state, found


def level(state: TrainState) -> int:
  """The phase of the curriculum; waits for the device."""
  return int(state.curriculum.schedule.phase)


def _executed(counts, found, played) -> dict[str, Any]:
  """What the steps of a window have done, each by its own program."""
  parts = []
  for name in dict.fromkeys(played):
    mine = [m for m, by in zip(found, played, strict=True) if by == name]
    loops = metering.loops_of(mine)
    parts += [(counts[x], loops, len(mine)) for x in ("given", name) if counts]
  return metering.work(parts)


def _spent(books: ledger.Ledger, config) -> dict[str, float]:
  """What an arm has cost so far, the base included; nothing if not counted."""
  if books.path is None:
    return {}
  use, executed = books.spent("base", books.arm)
  joules = ledger.joules(use, books.opening, config.ledger.pue)
  found = {"flops": executed}
  return (
    found if joules is None else found | {"joules": float(np.median(joules))}
  )


def _flush(log, title, step, window, spent):
  """Logs the means of a window; returns an empty one."""
  means = run_log.mean(jax.device_get(window))
  if not np.isfinite(means["loss"]):
    raise FloatingPointError(
      f"{title}: the loss is {means['loss']} at step {step}; the checkpoints "
      "before it are whole. Lower optimizer.learning_rate or clip_norm."
    )
  log.train(step, means | spent)
  return []


def _held_out(setup, phase, state, frozen):
  """The present constraints on rows that are not learnt from."""
  step, size = int(state.step), phase.batch_size
  batch = sources.batch(setup.corpus.valid, step * size, size)
  batch = sharding.rows(setup.mesh, batch)
  state, metrics = phase.observe(state, frozen, batch)
  return state, {k: float(v) for k, v in jax.device_get(metrics).items()}


def _validate(setup, phase, state, frozen, examine):
  config, key = setup.config, jax.random.key(setup.config.seed)
  params = phase.bind(state.params, frozen)
  metrics, _ = code_judge.judge_split(
    lambda batch: phase.write(params, frozen, examine.place(batch), key),
    *examine.of(params),
    phase.saved,
    setup.corpus.valid,
    rows=config.eval.rows,
    batch_size=config.eval.batch_size,
    entropy_bits=setup.corpus.entropy_bits,
  )
  return metrics
