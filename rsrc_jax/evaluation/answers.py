"""A's answers from frozen codes, before and after some lessons.

config.evals.NAME.type "answers". The greedy codes of an arm are fixed, and A
begins with the arm's weights, or with the base's. A is asked about the test
split: untaught, after lessons on codes of that arm, and after as many lessons
on sources alone, which have shown it questions and never a code. What A then
answers from a code is what no lesson on codes has taught it ("Theory of RSI on
LLMs through ordinary RL (Kolmogorov Compressor)": "Q & A may arise emergently
if you train for CC"). All arms have the same lessons and the same questions.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsrc_jax import rules
from rsrc_jax.build.setup import Setup, make_info
from rsrc_jax.data import sources
from rsrc_jax.evaluation import streams as streaming
from rsrc_jax.lm import keys, memory, rollout, tokens
from rsrc_jax.rl import answering, learner, questions
from rsrc_jax.rl.questions import QAPairs, Questions
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.types import (
  Batch,
  Metrics,
  Params,
  Policy,
  SupervisedBatch,
  Tokens,
)

CODE, SOURCE = "code", "source"  # what lessons are on
BASE, ARM = "base", "arm"  # whose weights A begins with
OWN = "asked"  # the kind of question that the controls are asked too


def _fits(settings, run):
  """The rule of settings that depend on each other and on the run."""
  size, pool = settings.get("batch_size", 16), settings.get("pool", 1_024)
  if size > pool:
    return "batch_size", f"at most the pool of {pool}"
  if not settings.get("lessons", (1,)):
    return "lessons", "one number of lessons at least"
  if not settings.get("teach", (CODE,)):
    return "teach", f"{CODE!r}, {SOURCE!r} or both"
  if settings["budget"] > run.get("budget", settings["budget"]):
    return "budget", f"at most config.budget={run['budget']}"
  known, stream = run.get("arms", ()), settings.get("streams", "")
  for name, arms in (
    ("arms", settings.get("arms", ())), ("streams", (stream,) * bool(stream)),
  ):  # fmt: skip
    if known and set(arms) - set(known):
      return name, f"of the arms {', '.join(sorted(known))}"
  return None


RULES = {
  **dict.fromkeys(("budget", "batch_size", "pool"), rules.whole(1)),
  "lessons": rules.items(rules.whole(1)),
  "teach": rules.items(rules.one_of(CODE, SOURCE)),
  "weights": rules.one_of(ARM, BASE),
  "learning_rate": rules.number(above=0, why="at 0 nothing is learnt"),
  "streams": rules.text,
  "arms": rules.items(rules.text),
  rules.BLOCK: (_fits,),
}


class Texts(NamedTuple):
  """What A may read of n sources."""

  source: Tokens  # [n, S]
  code: Tokens  # [n, W]: a code, or a memory and a code


def make(
  setup: Setup,
  *,
  budget: int,
  lessons: tuple[int, ...] = (30, 200),
  teach: tuple[str, ...] = (CODE, SOURCE),
  batch_size: int = 16,
  pool: int = 1_024,
  learning_rate: float = 2e-3,
  weights: str = ARM,
  streams: str = "",
  arms: tuple[str, ...] = (),
) -> Callable[..., dict[str, float]]:
  """Builds evaluate(stage, params, carry, frozen) -> scores of an arm's codes.

  {} for an arm without codes. `tokens` is the mean number that A reads. The
  others are shares of right answers, TAUGHT_READS_KIND: TAUGHT is untaught,
  code30 after 30 lessons on codes, or source200 after 200 on sources. READS is
  code, other (the code of another source), nothing or source. KIND is asked
  (one fact), unasked, pairs or new_pairs, as in patterns/qa.py; each source is
  asked one of each kind. Answers are greedy, and those to questions about a
  code also sampled at A's temperature: TAUGHT_code_KIND_sampled.

  The questions are those of config.patterns.qa, and so is the share `dropout`
  of a lesson that reads nothing.

  Args:
    setup: of the run.
    budget: tokens of a code, which C is told where the arm has budgets.
    lessons: after how many A is asked; those on sources have the largest.
    teach: what lessons are on, "code", "source".
    batch_size: texts of a lesson; each has `each` questions.
    pool: sources of the training split from which lessons are drawn.
    learning_rate: of Adam.
    weights: whose A begins with: "arm", or "base" for a reader that is the same
      for all arms, and that no arm's training has helped.
    streams: an arm of the pattern cc. Its streams are the sources then, behind
      their first rounds; A reads its memory and its code there, and of other
      arms a code alone. "": sources of the split, and codes alone.
    arms: whose codes are read; none: those of all arms. {} for the others.

  Raises:
    ValueError: a setting is out of its range; nothing can be asked.
  """
  own = {k: x for k, x in locals().items() if k in RULES}
  config, asker = setup.config, _asker(setup)
  run = {"budget": config.budget, "arms": tuple(config.arms)}
  rules.check(RULES, own, "config.evals: answers", run)
  read, other = reader(setup, budget, streams)
  tx = optax.adam(learning_rate)
  lesson = jax.jit(
    make_lesson(setup.policy, asker, tx, config.patterns.qa.dropout)
  )
  ask = jax.jit(make_ask(setup.policy, asker))
  key = jax.random.key(config.seed)

  def evaluate(stage, params, carry, frozen) -> dict[str, float]:
    if stage.write is None or (arms and stage.name not in arms):
      return {}
    written = functools.partial(read, stage, params, frozen, carry)
    of = lambda split, rows: gather(setup, written, split, rows)
    test = of(setup.corpus.test, config.eval.test_rows)
    train = of(setup.corpus.train, pool)
    found = {"tokens": float(np.mean(np.sum(test.code.mask, -1)))}
    rows, texts = readings(test, other)

    def asked(name: str, reader: Params) -> None:
      scores = processes.fetch(ask(reader, rows, texts, key))
      for kind, right in scores.items():
        found[f"{name}_{kind}"] = float(np.mean(right, dtype=np.float64))

    start = params if weights == ARM else frozen["base"]
    asked("untaught", start)
    for what in teach:
      counts = lessons if what == CODE else (max(lessons),)
      for count, taught in teaching(
        lesson, tx.init, start, train, what, counts, batch_size, config.seed
      ):
        asked(f"{what}{count}", taught)
    return found

  return evaluate


def reader(
  setup: Setup, budget: int, arm: str
) -> tuple[Callable[..., Texts], int]:
  """read(stage, params, frozen, carry, batch) -> Texts; and a distance.

  Texts so many rows apart are of other sources, and of other streams. arm: as
  `streams` in `make`.
  """
  key = jax.random.key(setup.config.seed)

  def of_code(stage, params, frozen, carry, batch: Batch) -> Texts:
    del carry
    code = stage.write(params, frozen, batch, key, np.int32(budget))
    return Texts(batch.source, code)

  if not arm:
    return of_code, 1
  arms, rounds, later = streaming.of_arm(setup, arm, "answers: streams")

  def of_stream(stage, params, frozen, carry, batch: Batch) -> Texts:
    if arms.get(stage.name) != "cc":
      s = later(batch.source, key)[""]
      batch = Batch(s, batch.row[: len(s.ids)])
      return of_code(stage, params, frozen, carry, batch)
    none = tokens.empty(len(batch.row), setup.config.budget)
    _, shown = stage.examine(params, frozen, carry, batch, none, key)
    s, cc, code = (
      tokens.flatten(jax.tree.map(lambda x: x[:, 1:], shown[name]))
      for name in ("source", "cc", "code")
    )
    both = memory.with_memory(cc, code, setup.roles["C"].separator)
    return Texts(s, both)

  return of_stream, rounds - 1


def gather(
  setup: Setup, read: Callable[[Batch], Texts], split: Any, rows: int
) -> Texts:
  """The texts of whole batches of a split, on the host."""
  rows = min(rows, len(split.ids))
  size, found = min(setup.config.eval.batch_size, rows), []
  for start in range(0, rows - size + 1, size):
    batch = sharding.rows(setup.mesh, sources.batch(split, start, size))
    found.append(processes.fetch(read(batch)))
  return jax.tree.map(lambda *x: np.concatenate(x), *found)


def readings(found: Texts, other: int) -> tuple[Batch, dict[str, Tokens]]:
  """The sources as a batch, and by name what A reads of them, as long each."""
  width = max(x.ids.shape[-1] for x in found)
  code, source = (_wide(x, width) for x in (found.code, found.source))
  rows = len(code.ids)
  return Batch(found.source, np.arange(rows, dtype=np.int32)), {
    CODE: code,
    "other": tokens.roll(code, other),
    "nothing": tokens.empty(rows, width),
    SOURCE: source,
  }


def teaching(
  lesson: Callable,
  init: Callable,
  params: Params,
  train: Texts,
  what: str,
  counts: tuple[int, ...],
  batch_size: int,
  seed: int,
) -> Iterator[tuple[int, Params]]:
  """A's lessons on the texts `what`: (count, parameters) after each count."""
  rng, state = np.random.default_rng(seed), init(params)
  width = max(x.ids.shape[-1] for x in train)
  for number in range(max(counts)):
    rows = rng.choice(len(train.source.ids), batch_size, replace=False)
    some = jax.tree.map(lambda x, rows=rows: x[rows], train)
    text = _wide(getattr(some, what), width)
    batch = Batch(some.source, rows.astype(np.int32))
    key = keys.step_key(seed, number)
    params, state = lesson(params, state, batch, text, key)
    if number + 1 in counts:
      yield number + 1, params


def make_lesson(
  policy: Policy,
  asker: Questions,
  tx: optax.GradientTransformation,
  dropout: float,
) -> Callable:
  """lesson(params, state, batch, text [B, W], key) -> params, state."""
  A = asker.role

  def lesson(params, state, batch: Batch, text: Tokens, key):
    k_ask, k_none = (
      keys.child(key, x) for x in (keys.Answers.QUESTIONS, keys.Answers.NOTHING)
    )
    nothing = jax.random.uniform(k_none, batch.row.shape) < dropout
    text = tokens.cut(text, jnp.where(nothing, 0, text.ids.shape[-1]))
    prompt, target = answering.ask_all(
      A, tokens.expand(text), asker.draw(k_ask, batch)
    )
    sft = SupervisedBatch(prompt, target, jnp.ones(target.ids.shape[:2]))
    count = jnp.sum(learner.token_weights(sft))
    loss = lambda params: learner.nll_loss(policy, params, A, sft, count)
    change, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, change), state

  return lesson


def make_ask(policy: Policy, asker: Questions) -> Callable[..., Metrics]:
  """ask(params, batch, texts, key) -> READS_KIND, 0 or 1, [B] each."""
  A = asker.role

  def ask(params, batch: Batch, texts: Mapping[str, Tokens], key) -> Metrics:
    rows = lambda of, i: keys.row_keys(
      keys.child(keys.child(key, of), i), batch.row
    )
    asked = {
      kind: one_of_each(group(batch), rows(keys.Answers.WHICH, i))
      for i, (kind, group) in enumerate(asker.groups.items())
    }
    calls = [(CODE, kind) for kind in asked]
    greedy = [*calls, *((name, OWN) for name in texts if name != CODE)]

    def right(role, calls) -> Metrics:
      join = lambda found: tokens.concat(*found, axis=0)
      prompt = join([
        answering.ask(A, texts[name], asked[kind][0]) for name, kind in calls
      ])  # fmt: skip
      target = tokens.expand(join([asked[kind][1] for _, kind in calls]))
      own = [rows(keys.Answers.A, i) for i in range(len(calls))]
      a = rollout.sample(
        policy, params, role, prompt, jnp.concatenate(own), samples=1
      )
      correct = answering.is_right(a.output, target, A.end)[:, 0] * 1.0
      each = jnp.split(correct, len(calls))
      return {f"{x}_{y}": z for (x, y), z in zip(calls, each, strict=True)}

    sampled = right(A, calls)
    return right(A.greedy(), greedy) | {
      f"{name}_sampled": x for name, x in sampled.items()
    }

  return ask


def one_of_each(asked: QAPairs, row_keys: jax.Array) -> QAPairs:
  """A question of n about each source: [n, B, ...] -> [B, ...]."""
  count = len(asked[0].ids)
  which = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(row_keys)
  turned = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), asked)
  return tuple(tokens.pick(x, which) for x in turned)


def _asker(setup: Setup) -> Questions:
  info, block = make_info(setup.corpus), setup.config.patterns.get("qa")
  if block is None or info.questions is None:
    raise ValueError(
      "config.evals: answers: the questions are those of config.patterns.qa, "
      "about facts: take that block from configs/qa.py, with "
      "config.data.source='facts' and config.data.asks=True."
    )
  return questions.of_facts(
    setup.roles, info, each=block.each, unasked=tuple(block.unasked),
    pairs=block.pairs,
  )  # fmt: skip


def _wide(text: Tokens, width: int) -> Tokens:
  """Texts [n, T] with pads behind them, [n, width]."""
  return tokens.concat(
    text, tokens.empty(len(text.ids), width - text.ids.shape[-1])
  )
