"""What decoding.py asks of a tree: figures, from a process of its own.

Nothing of rsrc_jax is imported at the top: it is that of PYTHONPATH, and jax's
threads follow the cores that the process was pinned to before.
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GROUPS = {"C": 16, "D": 1, "llama": 8}
TOKENS = {"C": 3, "D": 13, "llama": 16}
LONG, MEAN = 64, 12  # of geometric outputs: most tokens, and about the mean
# Settings beside those of the default, which hears d by its edit similarity.
SLOTS = {"verifier.slots": 1.0, "verifier.edit": 0.0, "shaping.gain": 1.0}
STEPS = {
  "without decoding": SLOTS | {
    "verifier.slots": 0.0, "patterns.cdv.taught": 0,
  },
  "each code decoded once, for V": SLOTS | {"patterns.cdv.taught": 0},
  "and six decodes of one code a source, for D": SLOTS,
}  # fmt: skip

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


def default_llama():
  from benchmarks import floor
  from rsrc_jax.models import transformer

  return transformer.make(
    vocab_size=floor.USUAL["vocabulary"], width=floor.WIDTH, depth=floor.DEPTH,
    heads=floor.HEADS, kv_heads=floor.HEADS, hidden=floor.HIDDEN,
  )  # fmt: skip


@functools.cache
def sampled(case: str, rows: int, tokens: int):
  """-> a compiled sample(), its arguments, and sizes for its floor."""
  import jax
  import numpy as np

  from benchmarks import floor
  from rsrc_jax.lm import rollout
  from rsrc_jax.lm.roles import Role
  from rsrc_jax.types import Tokens

  rng, count = np.random.default_rng(0), rows // GROUPS[case]
  if case == "llama":
    size = floor.USUAL["vocabulary"]
    policy = default_llama()
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
  # How ids are drawn is ours, and no part of the floor.
  drawn = rows * draws(args[0]["embed"].shape[0])
  least, _ = floor.floor(rate, (work[0] - work[1]) / (most - 1) - drawn, moved)
  return {"step": (whole - prefill) / (most - 1), "floor": least}


def draws(vocabulary: int) -> float:
  """FLOPs of the products by which an id is drawn, 0 in a tree without any."""
  from rsrc_jax.ops import distributions

  return getattr(distributions, "draw_flops", lambda size: 0.0)(vocabulary)


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

  of = (("only", "code"), *STEPS[name].items())
  setup = default(of=of)
  stage = plan.make_stages(setup)[-1]
  base = runs.initial_params(setup)
  frozen = frozen_of(stage, {"base": base, "reader": base})
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
  from rsrc_jax.rl import hearing, learner

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
  d, heard = decode(params, code)

  @jax.jit
  def V(params, code, heard):
    likely = cdv.read(p, params, batch.source, code)
    worth, _ = hearing.worth(
      p.verify, frozen["reader"], batch.source, heard, likely, likely[:, :1]
    )
    return worth

  found = {
    "decoding": (decode, (params, code), float(jnp.sum(rollout.loops(
      d.output, p.D)))),
    "V": (V, (params, code, heard), 0),
  }  # fmt: skip
  if "D" in episode.rollouts:
    own = episode.rollouts["D"]
    loss = learner.make_loss(
      setup.policy, setup.roles, **setup.config.loss.to_dict()
    )
    alone = episode._replace(
      rollouts={"D": own}, sft_batches={}, metrics={}, parts=None
    )
    advantages = {"D": episode.rewards["D"] - episode.rewards["D"].mean()}

    @jax.jit
    def update(params):
      of = lambda q: loss(
        q, (alone, advantages, None), learner.counts(alone), 1.0
      )
      return jax.grad(of, has_aux=True)(params)[0]

    found["update"] = (update, (params,), 0)
  return found
