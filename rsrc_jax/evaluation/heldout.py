"""The held-out comparison of a finished run: every arm on the test split.

rsrc_jax/report draws it. samples.py has the rows of an arm, token by token, and
service.py the cost of its service.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.accounting import metering
from rsrc_jax.accounting.account import Measured
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import Setup
from rsrc_jax.evaluation import code_judge, curve, evals, samples, service
from rsrc_jax.metrics import compression
from rsrc_jax.stages.stage import Stage, frozen_of
from rsrc_jax.types import Params

# Changes to the codes of one arm, which test the value of the codes.
CONTROLS = {
  "no_code": code_judge.no_code,
  "shuffled_code": code_judge.shuffled_code,
  "source_given": code_judge.source_given,
}


class Comparison(NamedTuple):
  """The inputs and tools of the comparison, shared by all arms."""

  setup: Setup
  trained: dict[str, Params]  # by stage, "base" and "untrained" among them
  carries: dict[str, Any]  # by stage, at the end of training
  judge: code_judge.CodeJudge
  ledger: Ledger
  ruler: service.Ruler
  surprisal: Callable  # samples.make_surprisal, charged
  evaluations: dict[str, Callable]  # evals.make_all


class Codes(NamedTuple):
  """An arm's codes on the test split."""

  metrics: dict[str, float | None]
  table: dict[str, Any]  # by row: source, code, decoded, scores
  controls: dict[str, dict]  # by name; of the controls' arm only
  ood: dict | None  # the metrics on sources of another kind
  curve: dict[int | None, dict]  # the metrics by budget; see curve.asked


def evaluate_arms(
  setup: Setup,
  arms: list[Stage],
  trained: dict[str, Params],
  carries: dict[str, Any],
  judge: code_judge.CodeJudge,
  log_dir: Path,
  ledger: Ledger,
  note: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], dict[str, Measured]]:
  """Judges every arm on the test split, which selects no setting.

  It writes samples.jsonl, and shown.jsonl if a pattern's `examine` has texts to
  show. An arm without codes is measured only by its pattern's `examine` and by
  `config.evals`.

  Args:
    setup: of the run.
    arms: its stages except the first.
    trained: the policy's parameters by stage, "untrained" among them.
    carries: of each stage's pattern, at the end of training.
    judge: decodes codes and scores the decodes.
    log_dir: the folder of samples.jsonl.
    ledger: time and energy are charged to it.
    note: shows a line in the run's log.

  Returns:
    The summary (docs/run_directory.md lists its keys), and the capability and
    service of each arm.
  """
  surprisal = jax.jit(samples.make_surprisal(setup))
  shared = Comparison(
    setup, trained, carries, judge, ledger,
    service.ruler(setup, trained["base"]),
    metering.charged(ledger, "V", surprisal), evals.make_all(setup),
  )  # fmt: skip
  headline, controlled = chosen(setup.config, [x.name for x in arms])
  codes, measured, parts = {}, {}, {}
  lines, shown, examined, scores = [], [], {}, {}
  for arm in arms:
    if arm.write is not None:
      codes[arm.name], service_of = _judge_codes(
        shared, arm, altered=arm.name == controlled
      )
      if service_of:
        measured[arm.name], parts[arm.name] = service_of
      lines += _samples(shared, arm, codes[arm.name].table)
    if arm.examine is not None:
      table = codes[arm.name].table if arm.name in codes else None
      with ledger.phase("test", arm.name):
        examined[arm.name], more = samples.examine(
          setup, arm, trained[arm.name], frozen_of(arm, trained),
          carries[arm.name], table, judge.place,
        )  # fmt: skip
      shown += more
    if shared.evaluations:
      with ledger.phase("test", arm.name):
        scores[arm.name] = {
          name: evals.call(
            evaluate, arm, trained[arm.name], carries[arm.name],
            frozen=frozen_of(arm, trained), note=note,
          )
          for name, evaluate in shared.evaluations.items()
        }  # fmt: skip
  samples.write_lines(log_dir / "samples.jsonl", lines)
  if shown:
    samples.write_lines(log_dir / "shown.jsonl", shown)
  summary = _summary(setup, arms, trained, codes, headline, controlled)
  summary |= {"examined": examined, "evals": scores}
  return summary, service.serve(setup, measured, parts, ledger)


def chosen(config, arms: list[str]) -> tuple[str, str]:
  """The headline arm and the controls' arm; "" where the run has none.

  `config.report.headline` and `config.report.controls` name them. Runs older
  than these fields have the arm "code".
  """
  block = config.get("report") or {}
  headline = block.get("headline") or "code"
  controls = block.get("controls") or headline
  return tuple(x if x in arms else "" for x in (headline, controls))


def _judge_codes(shared: Comparison, arm: Stage, *, altered: bool):
  """The Codes of an arm, and service.measure of it, None without a ledger.

  altered: measure the controls too.
  """
  setup, trained, judge, ledger, ruler = (
    shared.setup, shared.trained, shared.judge, shared.ledger, shared.ruler,
  )  # fmt: skip
  frozen = frozen_of(arm, trained)
  measure = _measure(shared, arm, trained[arm.name], frozen)
  metrics, table = measure(None)
  raw = trained["untrained"]
  nothing = dict.fromkeys(frozen, raw)
  _, before = _measure(shared, arm, raw, nothing)(None)
  service_of = None
  if ledger.path is not None:
    service_of = service.measure(
      setup, arm, trained[arm.name], frozen, table, before, ruler, judge, ledger
    )
  controls = {
    name: measure(alter)[0] for name, alter in CONTROLS.items() if altered
  }
  ood = setup.corpus.ood
  ood = None if ood is None else measure(None, ood)[0]
  by_budget = _by_budget(shared, arm, measure, metrics)
  return Codes(metrics, table, controls, ood, by_budget), service_of


def _by_budget(
  shared: Comparison, arm: Stage, measure: Callable, metrics: dict
) -> dict[int | None, dict]:
  """The metrics of an arm by budget.

  metrics: of its codes where no budget is asked for. They have the length that
    C finds best, if curve.asked has None, else the arm's largest budget.
  """
  config, found = shared.setup.config, {}
  own = arm_config(config, arm.name) if arm.name in config.arms else config
  asked = curve.asked(own, rule=arm.rule)
  usual = None if None in asked else max(own.budgets, default=own.budget)
  for k in asked:
    if k == usual:
      found[k] = metrics
    elif own.budgets:
      found[k], _ = measure(None, k=k)
    else:  # C is told no budget
      found[k], _ = measure(code_judge.cut_to(k))
  return found


def _measure(shared: Comparison, arm: Stage, params, frozen) -> Callable:
  """measure(alter, split=None, k=None) -> metrics, table."""
  setup, judge = shared.setup, shared.judge
  config, key = setup.config, jax.random.key(setup.config.seed)

  def measure(alter, split=None, k=None):
    budget = () if k is None else (np.int32(k),)
    with shared.ledger.phase("test", arm.name):
      return code_judge.judge_split(
        lambda batch: arm.write(
          params, frozen, judge.place(batch), key, *budget
        ),
        *judge.of(params),
        arm.saved,
        setup.corpus.test if split is None else split,
        rows=config.eval.test_rows,
        batch_size=config.eval.batch_size,
        entropy_bits=None if split else setup.corpus.entropy_bits,
        alter=alter,
      )

  return measure


def _samples(shared: Comparison, arm: Stage, table) -> list[dict[str, Any]]:
  readouts = samples.readouts(
    shared.setup, arm, shared.trained[arm.name], table, shared.surprisal,
    shared.judge.place, shared.ledger,
  )  # fmt: skip
  count = shared.setup.config.eval.samples
  return samples.rows(shared.setup, arm.name, table, count, *readouts)


def _summary(setup, arms, trained, codes, headline, controlled) -> dict:
  config, corpus = setup.config, setup.corpus
  splits = {x: len(getattr(corpus, x).ids) for x in ("train", "valid", "test")}
  return {
    "seed": config.seed,
    "source": config.data.source,
    "corpus": {"name": corpus.name, "digest": corpus.digest, **splits},
    "budget_tokens": config.budget,
    "steps": config.steps,
    "params": sum(x.size for x in jax.tree.leaves(trained["base"])),
    "entropy_bits": corpus.entropy_bits,
    "bounds": bounds(setup),
    "channel_utilisation": _utilisation(setup, codes.get(controlled)),
    "report": {"headline": headline, "controls": controlled},
    "heldout": _held_out(arms, codes, headline, controlled),
    "curve": [
      curve.row(x.name, k, scores, x.symbols)
      for x in arms
      if x.name in codes
      for k, scores in codes[x.name].curve.items()
    ],
    "strange": {
      "name": corpus.ood_name,
      "arms": {x: one.ood for x, one in codes.items() if one.ood is not None},
    },
  }


def _held_out(arms, codes: dict[str, Codes], headline, controlled) -> dict:
  """All arms under "arms", and again under the keys of older readers.

  Those keys are the names of the headline arm and of the arms of codes, and
  "english" for the English arms.
  """
  english = {x.name for x in arms if x.english and x.name != headline}
  flat = {
    name: one.metrics for name, one in codes.items() if name not in english
  }
  return {
    "english": {x: codes[x].metrics for x in codes if x in english},
    "controls": codes[controlled].controls if controlled in codes else {},
    "budget_curve": {
      x: {str(k): m for k, m in one.curve.items() if k is not None}
      for x, one in codes.items()
    },
    **{x: m for x, m in flat.items() if x not in RESERVED},
    "arms": {x: one.metrics for x, one in codes.items()},
  }


RESERVED = ("english", "controls", "budget_curve", "arms")


def _utilisation(setup: Setup, codes: Codes | None) -> float | None:
  """Bits that the codes convey, as a share of the channel capacity."""
  if codes is None:
    return None
  return code_judge.channel_utilisation(
    codes.controls["no_code"]["nll_bits"],
    codes.metrics["nll_bits"],
    ids=int(setup.corpus.vocab.code.sum()),
    budget=setup.config.budget,
  )


def bounds(setup: Setup) -> dict[str, Any]:
  """Most bits that a code of k tokens, and an ordered extract, can carry."""
  budgets = range(1, setup.config.budget + 1)
  ids = int(setup.corpus.vocab.code.sum())
  channel = {
    str(k): compression.channel_nats(ids, k) / math.log(2) for k in budgets
  }
  found = {
    "channel_bits": channel[str(setup.config.budget)],
    "channel_bits_by_k": channel,
    "english_extract_bits": None,
  }
  if setup.corpus.slots is not None:
    # The choice of slots, and the word in each slot.
    slots = len(setup.corpus.slots)
    word = setup.corpus.entropy_bits / slots
    extract = {
      str(k): word * min(k, slots) + math.log2(math.comb(slots, min(k, slots)))
      for k in budgets
    }
    found["english_extract_bits_by_k"] = extract
    found["english_extract_bits"] = extract[str(setup.config.budget)]
  return found
