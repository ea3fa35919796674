"""FLOPs on paper against the count of the traced step."""

import jax
import pytest
from helpers.runs import shrunk

from rsrc_jax.accounting import flops
from rsrc_jax.accounting.ledger import SCOPES
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources
from rsrc_jax.stages import closed_form, plan


def counted(setup, name) -> float:
  """The walk over a phase's step, its loops as long as they can be."""
  phase = next(p for p in plan.make_stages(setup) if p.name == name)
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  state = jax.eval_shape(phase.init, params)
  frozen = {"base": params, "reader": params}
  batch = sources.batch(setup.corpus.train, 0, phase.batch_size)
  controls = jax.eval_shape(phase.controls, state, frozen, batch)
  found = flops.count(
    phase.step.trace(state, frozen, batch, controls).jaxpr, SCOPES
  )
  longest = {r: setup.roles[r].length - 1 for r in "CD"}
  trips = {k: v for k, v in longest.items() if k in found.loops}
  return flops.evaluate(found, trips)["hardware"]


def slow(changes):
  return pytest.param("code", changes, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  "name, changes",
  [
    ("base", {}),
    ("reader", {"verifier.reader": 0.5, "reader.share": 1.0}),
    ("lead", {"only": "lead"}),
    ("code", {}),
    ("code", {"updates": 2, "micro_batches": 2, "kl": 0.1}),
    ("code", {"model.loops": 2}),
    slow({"patterns.cdv.imitate": True, "loss.weights.C": 0.0}),
    slow({"patterns.cdv.decodes": 2, "patterns.cdv.lessons": 0}),
    slow({"patterns.cdv.taught": 6}),
    ("code", {"patterns.cdv.taught": 3, "verifier.reader": 1.0}),
    slow({"verifier.edit": 0.0, "shaping.gain": 1.0}),
  ],
)
def test_paper_and_program_agree(tiny_runs, tmp_path, name, changes):
  """Within 3 %: the norms' gains and what is embedded make the difference."""
  setup = tiny_runs.setup
  if changes:
    setup = make_setup(shrunk(**changes), tmp_path)
  expected = closed_form.step_flops(setup, name)
  assert counted(setup, name) == pytest.approx(expected, rel=0.03)


def test_what_is_not_known_on_paper_is_none(tmp_path):
  asked = {"data.asks": True, "augment.ban": 1}
  setup = make_setup(shrunk(**asked), tmp_path)
  assert closed_form.step_flops(setup, "base") is None
