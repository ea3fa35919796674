"""Decoding against its floor, and what decoding D adds to a training step.

  ./.venv/bin/python benchmarks/decoding.py --before=FOLDER      (15 minutes)
  ./.venv/bin/python benchmarks/decoding.py --only=steps --rounds=5
  ./.venv/bin/python benchmarks/decoding.py --only=cores

1. A decoding step of the default's C and D and of the 4.3M Llama of floor.py,
   at 64 to 4,096 rows, beside its floor, as floor.py defines it. No id ends an
   output. On one core, as sweeps pin their runs ("decode"), and on all, the
   default's alone ("cores").
2. Outputs of geometric length: batches that shrink (lm/compaction.py).
3. The default's training step without decoding, with each code decoded once,
   and with a group of six decodes of one code a source that D learns from.

--before: another checkout, whose code takes turns with this one's, round by
round; a ratio is of two neighbours, and its spread over the rounds is shown.
Each tree is measured in a process of its own, and they never run at once.
Each part is written to its section of decoding.md.
"""

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = (64, 512, 4_096)
GROUPS = {"C": 16, "D": 1, "llama": 8}
TOKENS = {"C": 3, "D": 13, "llama": 16}
LONG, MEAN = 64, 12  # of geometric outputs: most tokens, and about the mean
SHAPES = (1, 2, 3)
STEPS = {  # settings beside those of the default
  "without decoding": {},
  "each code decoded once, for V": {
    "verifier.slots": 1.0,
  },
  "and six decodes of one code a source, for D": {
    "verifier.slots": 1.0, "patterns.cdv.taught": 6,
  },
}  # fmt: skip


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--before", type=Path, help="another checkout")
  flags.add_argument("--rounds", type=int, default=3)
  flags.add_argument("--only", default="", help="decode,cores,lengths,steps")
  flags.add_argument("--pin", default="", help=argparse.SUPPRESS)
  asked = flags.parse_args()
  if asked.pin:
    # Before jax is imported: its threads follow.
    os.sched_setaffinity(0, [int(x) for x in asked.pin.split(",")])
    sys.path.append(str(HERE.parent))  # benchmarks; rsrc_jax is the tree's
    return child()
  parts = {
    "decode": decode_table, "cores": cores_table, "lengths": length_table,
    "steps": step_table,
  }  # fmt: skip
  for name in asked.only.split(",") if asked.only else parts:
    store("\n".join([*parts[name](asked), "", *made_by(asked)]))
  print((HERE / "decoding.md").read_text())


def store(section: str) -> None:
  """Puts a section in its place in decoding.md, or at its end."""
  path, title = HERE / "decoding.md", section.partition("\n")[0]
  old = path.read_text() if path.is_file() else "# Decoding\n"
  kept = {x.partition("\n")[0]: x for x in re.split(r"\n(?=## )", old)}
  kept[title] = section + "\n"
  path.write_text("\n".join(x.rstrip("\n") + "\n" for x in kept.values()))


# The parent: asks children in turn.


class Tree:
  """A process of one tree on some cores; `ask` returns a dict of figures."""

  def __init__(self, root: Path, cores: list[int]):
    pin = ",".join(map(str, cores))
    self.process = subprocess.Popen(
      [sys.executable, __file__, f"--pin={pin}"], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, text=True, cwd=root,
      env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip

  def ask(self, **what) -> dict:
    self.process.stdin.write(json.dumps(what) + "\n")
    self.process.stdin.flush()
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit(f"{what}: the process of a tree has ended.")
    return json.loads(line)

  def close(self) -> None:
    self.process.stdin.close()
    self.process.wait()


def trees(asked, cores: list[int]) -> list[Tree]:
  """Of this checkout, and of the one before it where there is one."""
  roots = [HERE.parent, *([asked.before.resolve()] if asked.before else [])]
  return [Tree(root, cores) for root in roots]


def in_turn(found: list[Tree], rounds: int, **what) -> list[list[dict]]:
  """Figures of each tree in each round; the first compiles and is dropped."""
  made = [[tree.ask(**what) for tree in found] for _ in range(rounds + 1)]
  return [list(x) for x in zip(*made[1:], strict=True)]


def median(figures: list[dict], name: str) -> float:
  return statistics.median(x[name] for x in figures)


def ratio(ours: list[dict], before: list[dict], name: str) -> str:
  """before / ours of neighbours: median (smallest to largest)."""
  each = [b[name] / a[name] for a, b in zip(ours, before, strict=True)]
  return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def decode_table(asked) -> list[str]:
  """All cases on one core."""
  return _decoding("## A decoding step, one core", asked, 1, GROUPS)


def cores_table(asked) -> list[str]:
  """The default's on all cores."""
  cores = len(os.sched_getaffinity(0))
  return _decoding(f"## A decoding step, {cores} cores", asked, cores, "CD")


def _decoding(title: str, asked, count: int, cases) -> list[str]:
  last = " before / now |" if asked.before else ""
  lines = [
    title, "",
    f"| | rows | a step, ms | its floor, ms | share |{last}",
    f"|---|---|---|---|---|{'---|' * bool(last)}",
  ]  # fmt: skip
  found = trees(asked, sorted(os.sched_getaffinity(0))[-count:])
  for case in cases:
    for rows in ROWS:
      ours, *old = in_turn(
        found, asked.rounds, what="decode", case=case, rows=rows
      )
      step, floor = median(ours, "step"), median(ours, "floor")
      more = f" {ratio(ours, old[0], 'step')} |" if old else ""
      lines.append(
        f"| {case} | {rows:,} | {1e3 * step:.3f} | {1e3 * floor:.3f} "
        f"| **{100 * floor / step:.0f} %** |{more}"
      )
      print(lines[-1], file=sys.stderr, flush=True)
  for tree in found:
    tree.close()
  return lines


def length_table(asked) -> list[str]:
  tree = Tree(HERE.parent, [max(os.sched_getaffinity(0))])
  lines = [
    "## Outputs of geometric length", "",
    f"The Llama, 512 rows of prompts of their own, at most {LONG} tokens, on "
    "one core. row-steps: rows that the loops ran, for each token written.",
    "",
    "| batch sizes | mean length | longest | seconds | row-steps a token "
    "| one size / this |",
    "|---|---|---|---|---|---|",
  ]  # fmt: skip
  made = [
    [tree.ask(what="lengths", shapes=n) for n in SHAPES]
    for _ in range(asked.rounds + 1)
  ][1:]
  for i, n in enumerate(SHAPES):
    own, one = ([x[j] for x in made] for j in (i, 0))
    lines.append(
      f"| {n} | {own[0]['mean']:.1f} | {own[0]['longest']} "
      f"| {median(own, 'seconds'):.3f} | {own[0]['row_steps']:.2f} "
      f"| {ratio(own, one, 'seconds')} |"
    )
  tree.close()
  return lines


def step_table(asked) -> list[str]:
  lines = [
    "## The default's training step", "",
    "32 sources x 16 codes, on one core. The parts are programs of their own: "
    "D's decoding, V (the likelihood of s with each code, the slots of d), and "
    "D's update from its own group.", "",
    "| | ms | times the first | decoding, ms (share of its floor) | V, ms "
    "| D's update, ms |",
    "|---|---|---|---|---|---|",
  ]  # fmt: skip
  found = trees(asked, [max(os.sched_getaffinity(0))])
  names = [*STEPS]
  made = [
    [found[0].ask(what="step", name=name) for name in names]
    for _ in range(asked.rounds + 1)
  ][1:]
  for i, name in enumerate(names):
    own, first = ([x[j] for x in made] for j in (i, 0))
    part = lambda key, own=own: (
      f"{1e3 * median(own, key):.1f}" if own[0].get(key) else "-"
    )
    share = (
      f" ({100 * median(own, 'floor') / median(own, 'decoding'):.0f} %)"
      if own[0].get("decoding")
      else ""
    )
    lines.append(
      f"| {name} | {part('step')} | {ratio(first, own, 'step')} "
      f"| {part('decoding')}{share} | {part('V')} | {part('update')} |"
    )
  if asked.before:
    ours, old = in_turn(found, asked.rounds, what="step", name=names[0])
    lines += ["", f"Before / now, {names[0]}: {ratio(ours, old, 'step')}."]
  for tree in found:
    tree.close()
  return lines


def made_by(asked) -> list[str]:
  import jax

  before = f"; before: {asked.before.name}" if asked.before else ""
  return [
    f"Printed by benchmarks/decoding.py. {jax.devices()[0].device_kind}, jax "
    f"{jax.__version__}; medians of {asked.rounds} rounds{before}."
  ]


# The child: one tree, one process.

COMPILED = set()  # of functions that were called


def child() -> None:
  """Answers a line of JSON with a line of JSON."""
  parts = {"decode": decode, "lengths": lengths, "step": step}
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print is no answer
  for line in sys.stdin:
    asked = json.loads(line)
    found = parts[asked.pop("what")](**asked)
    out.write(json.dumps(found) + "\n")
    out.flush()


def seconds(f, *args, least: float = 0.2) -> float:
  """Mean seconds of a call of a compiled function."""
  import jax

  if id(f) not in COMPILED:
    jax.block_until_ready(f(*args))
    COMPILED.add(id(f))
  calls, begin = 0, time.perf_counter()
  while time.perf_counter() - begin < least:
    jax.block_until_ready(f(*args))
    calls += 1
  return (time.perf_counter() - begin) / calls


@functools.cache
def default(**changes):
  """The setup of the default, few sentences, settings by dotted name."""
  from rsrc_jax.build.setup import make_setup
  from rsrc_jax.runtime import configs

  config = configs.load(HERE.parent / "configs" / "tiny.py")
  config.data.sentences, config.data.heldout = 4_000, 400
  with config.patterns.cdv.unlocked():
    config.update_from_flattened_dict(dict(changes["of"]))
  return make_setup(config)


@functools.cache
def sampled(case: str, rows: int, tokens: int, shapes: int = 1):
  """-> a compiled sample(), its arguments, and sizes for its floor."""
  import jax
  import numpy as np

  from benchmarks import floor
  from rsrc_jax.lm import rollout
  from rsrc_jax.lm.roles import Role
  from rsrc_jax.models import transformer
  from rsrc_jax.types import Tokens

  rng, count = np.random.default_rng(0), rows // GROUPS[case]
  if case == "llama":
    size = floor.USUAL["vocabulary"]
    policy = transformer.make(
      vocab_size=size, width=floor.WIDTH, depth=floor.DEPTH,
      heads=floor.HEADS, kv_heads=floor.HEADS, hidden=floor.HIDDEN,
    )  # fmt: skip
    role = Role(0, 0, size, tokens, np.ones(size, bool))
    ids = rng.integers(0, size, (count, floor.PROMPT))
    prompt = Tokens(ids.astype(np.int32), np.ones(ids.shape, bool))
    kv_width = floor.WIDTH * floor.DEPTH
  else:
    setup = default(of=())
    policy, role, model = setup.policy, setup.roles[case], setup.config.model
    support = role.support & (np.arange(role.support.size) != role.end)
    role = role._replace(length=tokens, support=support)
    width = setup.corpus.train.ids.shape[1] if case == "C" else 3
    words = np.flatnonzero(setup.roles["D"].support)[1:]
    ids = rng.choice(words, (count, width)).astype(np.int32)
    prompt = role.prompt(Tokens(ids, np.ones(ids.shape, bool)))
    kv_width = model.kv_heads * model.width // model.heads * model.depth
  params = jax.jit(policy.init)(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), count)

  @jax.jit
  def sample(params, prompt, keys):
    with jax.named_scope("C"):
      return rollout.sample(
        policy, params, role, prompt, keys, samples=GROUPS[case]
      )

  moved = sum(x.nbytes for x in jax.tree.leaves(params))
  seen = rows * tokens / 2 + count * prompt.ids.shape[1]
  moved += 2 * 4 * kv_width * (seen + rows)
  return sample, (params, prompt, keys), moved


def decode(case: str, rows: int) -> dict:
  """Seconds of a decoding step, without the pass over the prompt."""
  from benchmarks import floor
  from rsrc_jax.accounting import flops

  most = TOKENS[case]
  sample, args, moved = sampled(case, rows, most)
  first, first_args, _ = sampled(case, rows, 1)
  count = flops.count(sample.trace(*args).jaxpr, ("C",))
  work = [
    flops.evaluate(count, dict.fromkeys(count.loops, n))["hardware"]
    for n in (most - 1, 0)
  ]
  whole, prefill = seconds(sample, *args), seconds(first, *first_args)
  rate = floor.product_rate("float32")
  least, _ = floor.floor(rate, (work[0] - work[1]) / (most - 1), moved)
  return {"step": (whole - prefill) / (most - 1), "floor": least}


@functools.cache
def geometric(shapes: int):
  """A Llama whose outputs end with probability 1 / MEAN at each token."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from rsrc_jax.lm import rollout
  from rsrc_jax.lm.roles import Role

  _, (params, prompt, _), _ = sampled("llama", 4_096, LONG)
  policy = default_llama()
  size = params["embed"].shape[0]
  role = Role(0, 0, 0, LONG, np.ones(size, bool))._replace(shapes=shapes)
  # The end's logit is raised until it has that share of the mass.
  ends = jnp.log(size / (MEAN - 1.0))
  raised = policy._replace(
    unembed=lambda p, h: policy.unembed(p, h).at[..., 0].add(ends)
  )
  keys = jax.random.split(jax.random.key(1), 512)
  run = jax.jit(
    lambda params, prompt, keys: rollout.sample(
      raised, params, role, prompt, keys, samples=1
    )
  )
  return run, (params, prompt, keys), role


def default_llama():
  from benchmarks import floor
  from rsrc_jax.models import transformer

  return transformer.make(
    vocab_size=floor.USUAL["vocabulary"], width=floor.WIDTH, depth=floor.DEPTH,
    heads=floor.HEADS, kv_heads=floor.HEADS, hidden=floor.HIDDEN,
  )  # fmt: skip


def lengths(shapes: int) -> dict:
  import numpy as np

  from rsrc_jax.lm import compaction, rollout

  run, args, role = geometric(shapes)
  out = run(*args).output
  written = np.asarray(out.mask).sum(-1)
  ran = np.asarray(rollout.loops(out, role))
  rows = np.asarray(compaction.sizes(written.size, shapes))
  return {
    "seconds": seconds(run, *args),
    "mean": float(written.mean()),
    "longest": int(written.max()),
    "row_steps": float((ran * rows).sum() / (written - 1).sum()),
  }


@functools.cache
def trained(name: str):
  """The code arm of a variant: its stage, a state and a batch."""
  import jax

  from rsrc_jax import runs
  from rsrc_jax.data import sources
  from rsrc_jax.runtime import sharding
  from rsrc_jax.stages import plan
  from rsrc_jax.stages.stage import frozen_of

  of = (("only", "code"), ("verifier.gain", 1.0), *STEPS[name].items())
  setup = default(of=of)
  stage = plan.make_stages(setup)[1]
  base = runs.initial_params(setup)
  frozen = frozen_of(stage, {"base": base})
  batch = sources.batch(setup.corpus.train, 0, stage.batch_size)
  batch = sharding.rows(setup.mesh, batch)
  return setup, stage, frozen, batch, [jax.block_until_ready(stage.init(base))]


def step(name: str) -> dict:
  """Seconds of a step, and of its parts as programs of their own."""
  import jax

  _, stage, frozen, batch, kept = trained(name)
  first = stage.controls(kept[0], frozen, batch)

  def once():
    kept[0], metrics = stage.step(kept[0], frozen, batch, first)
    return metrics

  jax.block_until_ready(once())
  return {"step": seconds(once, least=1.0), **parts(name)}


def parts(name: str) -> dict:
  """Of a step's decoding, V and D's update, each alone; {} where none is."""
  if name == next(iter(STEPS)):
    return {}
  from benchmarks import floor
  from rsrc_jax.accounting import flops

  found = {}
  for part, (run, args, loops) in programs(name).items():
    found[part] = seconds(run, *args)
    if part == "decoding":
      count = flops.count(run.trace(*args).jaxpr, ("D",))
      work = flops.evaluate(count, dict.fromkeys(count.loops, loops))
      rate = floor.product_rate("float32")
      weights = sum(x.nbytes for x in args[0].values() if hasattr(x, "nbytes"))
      found["floor"], _ = floor.floor(rate, work["hardware"], weights)
  return found


@functools.cache
def programs(name: str) -> dict:
  """-> by part: a jitted function, its arguments, passes of its loop."""
  import jax
  import jax.numpy as jnp

  from rsrc_jax.build.patterns import make as make_pattern
  from rsrc_jax.lm import rollout, tokens
  from rsrc_jax.patterns import cdv
  from rsrc_jax.rl import learner

  setup, stage, frozen, batch, kept = trained(name)
  pattern = make_pattern(setup, setup.config, "cdv")
  p, params = pattern.play.args[0], jax.tree.map(jnp.copy, kept[0].params)
  given = stage.controls(kept[0], frozen, batch)
  key = jax.random.key(0)
  episode, _ = jax.jit(pattern.play)(
    params, frozen, kept[0].carry, batch, key, given.controls
  )
  code = tokens.without_end(episode.rollouts["C"].output, p.C.end)
  decode = jax.jit(lambda params, code: cdv.decode(p, params, batch, code, key))
  d, decoded, _ = decode(params, code)

  @jax.jit
  def V(params, code, decoded):
    likely = cdv.read(p, params, batch.source, code)
    gain = jnp.tanh(likely)  # any: the slots don't depend on it
    said, _ = p.verify.score(frozen["reader"], batch.source, decoded, gain)
    return said

  found = {
    "decoding": (decode, (params, code), float(jnp.sum(rollout.loops(
      d.output, p.D)))),
    "V": (V, (params, code, decoded), 0),
  }  # fmt: skip
  if "D" in episode.rollouts:
    own = episode.rollouts["D"]
    loss = learner.make_loss(
      setup.policy, setup.roles, **setup.config.loss.to_dict()
    )
    alone = episode._replace(rollouts={"D": own}, sft_batches={}, metrics={})
    advantages = {"D": episode.rewards["D"] - episode.rewards["D"].mean()}

    @jax.jit
    def update(params):
      of = lambda q: loss(
        q, (alone, advantages, None), learner.counts(alone), 1.0
      )
      return jax.grad(of, has_aux=True)(params)[0]

    found["update"] = (update, (params,), 0)
  return found


if __name__ == "__main__":
  main()
