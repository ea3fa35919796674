"""A run of all lengths whose entropy is held: whole, and interrupted."""

import json

import numpy as np
import pytest
from helpers.runs import Runs, assert_same_run, final_state, shrunk

from rsrc_jax.runtime import run_log

LENGTHS = {
  "only": "code", "budgets": (1, 2, 3), "data.asks": True,
  "augment.unannounced": 0.5, "augment.cut": 0.3, "augment.ease": 0.6,
  "pretrain.unannounced": 0.3, "patterns.cdv.length_price": 0.2,
  "loss.entropy_per_code": True, "eval.budgets": (1, 3),
}  # fmt: skip


@pytest.mark.slow
def test_it_goes_on_bitwise_and_says_what_it_holds(tmp_path):
  config = shrunk(**LENGTHS)
  config.loss.hold = {"first": 0.9, "last": 0.5, "until": 1.0}
  runs = Runs.of(config, tmp_path)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  runs.run(whole)
  with pytest.raises(Exception, match="saved"):  # in the arm: the base has 6
    runs.run(parts, stop=12)
  runs.run(parts)
  assert_same_run(parts, whole, ("base", "code"))
  kept = [x for x in final_state(whole, "code") if ".entropy" in x]
  assert len(kept) == 2  # its level, and the multiplier
  lines = run_log.read_jsonl(whole / "metrics.jsonl")
  lines = [x for x in lines if "hold_target" in x]
  assert all(0 < x["C_entropy_share"] <= 1 for x in lines)
  # The mean of its first three steps: .9 less .4 / 8 a step.
  assert lines[0]["hold_target"] == pytest.approx(0.85) and len(lines) > 1
  summary = json.loads((whole / "summary.json").read_text())
  curve = summary["heldout"]["budget_curve"]["code"]
  tokens = [curve[k]["mean_tokens"] for k in ("1", "3")]
  assert tokens[0] <= 1 and np.isfinite(tokens).all()
