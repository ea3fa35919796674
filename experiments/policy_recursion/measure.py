"""Reads the loops of the experiment's finished runs.

  ./.venv/bin/python experiments/policy_recursion/measure.py

Of the sweeps of sweep.py. Results: results/VARIANT-SEED.json, the run's scores
and `readouts`; a file that is there is written again.
"""

import json
from pathlib import Path

import jax
from absl import app, flags, logging

from rsrc_jax import runs
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge
from rsrc_jax.lm import tokens
from rsrc_jax.models import transformer
from rsrc_jax.recursive import policy_loops
from rsrc_jax.runtime import cache
from rsrc_jax.stages import closed_form, plan
from rsrc_jax.sweep import collect

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KL = (0.0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
VARENTROPY = (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# Of a summary; what it says of service and price is not asked here.
KEPT = (
  "seed", "steps", "params", "budget_tokens", "entropy_bits", "bounds",
  "channel_utilisation", "made_with", "seconds", "trajectory",
)  # fmt: skip

SWEEPS = flags.DEFINE_list(
  "sweeps",
  [str(ROOT / "runs" / x) for x in (HERE.name, f"{HERE.name}-reinject")],
  "Folders of sweeps; those that are not there are passed over.",
)
RESULTS = flags.DEFINE_string("results", str(HERE / "results"), "And results.")


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  cache.keep_programs()
  try:
    ended = collect.ended(SWEEPS.value)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None
  for run in ended:
    measured(run, Path(RESULTS.value))


def measured(run, results: Path) -> None:
  """Stores what is kept of a run's summary, and what its loops can do."""
  found = kept(run.workdir)
  model = runs.read_config(run.workdir).model
  found |= {x: model[x] for x in ("depth", "loops", "reinject")}
  found |= readouts(run.workdir)
  path = results / f"{run.name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(rounded(found)) + "\n")


def kept(workdir: Path) -> dict:
  """What is stored of a run's summary."""
  summary = json.loads((workdir / "summary.json").read_text())
  found = {k: summary[k] for k in KEPT if k in summary}
  scores = summary["heldout"]
  return found | {"heldout": {k: scores[k] for k in ("code", "controls")}}


def readouts(workdir: Path) -> dict:
  """What is read after each loop of the trained arm, on its test split."""
  run = runs.open(workdir)
  setup, frozen = run.setup, {"base": run.base}
  _, arm = run.stages.values()
  params = run.params(arm.name)
  codes = written(setup, arm, params, frozen)
  found = {"flops_a_step": closed_form.step_flops(setup, arm.name)}
  for name in "CD":
    found[name] = {
      "loops": looked_at(setup, name, params, codes, layers=False),
      "layers": looked_at(setup, name, params, codes, layers=True),
    }
  found["stops"] = stops(setup, params, frozen)
  return found


def written(setup, arm, params, frozen) -> list:
  """Batches of the test split, each with the greedy codes of its sources."""
  config, key = setup.config, jax.random.key(setup.config.seed)
  size = config.eval.batch_size
  # Whole batches, so that no source is counted twice.
  starts = range(0, max(config.eval.test_rows - size, 0) + 1, size)
  batches = [sources.batch(setup.corpus.test, at, size) for at in starts]
  return [(b, arm.write(params, frozen, b, key)) for b in batches]


def looked_at(setup, name: str, params, codes, *, layers: bool) -> dict:
  """The table of loops, or of layers, and of stopping after fewer of them.

  D: ln p of s, which reads c. C: of the greedy c that it has written itself,
  all its loops run: the last readout is right by definition.
  """
  role = setup.roles[name]
  look = policy_loops.make(setup.policy, role, layers=layers)
  looks = []
  for batch, code in codes:
    text, target = batch.source, code
    if name == "D":
      text, target = code, tokens.with_end(batch.source, role.end)
    looks.append(look(params, role.prompt(text), target))
  looks = policy_loops.gather(looks)
  return policy_loops.loops(looks) | {
    "kl": policy_loops.stopping(looks, "kl", KL),
    "varentropy": policy_loops.stopping(looks, "varentropy", VARENTROPY),
  }


def stops(setup, params, frozen) -> list[dict]:
  """Free-running: C, D or both really run fewer loops, or more, than trained.

  The same parameters in a policy of r loops, with the states of r loops.
  """
  config, trained = setup.config, setup.config.model.loops
  key, D, found = jax.random.key(config.seed), setup.roles["D"], {}

  def parts(loops):
    settings = {**config.model, "loops": loops}
    policy = transformer.make(vocab_size=setup.corpus.vocab.size, **settings)
    arm = plan.make_stages(setup._replace(policy=policy))[1]
    read, judge = (
      jax.jit(make(policy, D))
      for make in (code_judge.make_reader, code_judge.make_judge)
    )
    return arm, code_judge.CodeJudge(read, judge)

  counts = sorted({*range(1, trained + 1), 2 * trained})
  of = {loops: parts(loops) for loops in counts}
  for loops in counts:
    # C alone, D alone, both; a pair that is there already is not run again.
    pairs = [(loops, trained), (trained, loops), (loops, loops)]
    for c, d in dict.fromkeys(x for x in pairs if x not in found):
      arm = of[c][0]
      scores, _ = code_judge.judge_split(
        lambda batch, arm=arm: arm.write(params, frozen, batch, key),
        *of[d][1].of(params), arm.saved, setup.corpus.test,
        rows=config.eval.test_rows, batch_size=config.eval.batch_size,
        entropy_bits=setup.corpus.entropy_bits,
      )  # fmt: skip
      kept = ("bits_conveyed", "edit_similarity", "mean_tokens")
      found[c, d] = {"C": c, "D": d} | {k: scores[k] for k in kept}
  return list(found.values())


def rounded(tree):
  """Numbers to six digits: results are small and read by people."""
  if isinstance(tree, dict):
    return {k: rounded(v) for k, v in tree.items()}
  if isinstance(tree, (list, tuple)):
    return [rounded(x) for x in tree]
  return float(f"{tree:.6g}") if isinstance(tree, float) else tree


if __name__ == "__main__":
  app.run(main)
