"""cc at equal tokens: its arms, and its verdicts on made-up results."""

import json

import numpy as np
import pytest
from helpers.runs import ROOT

from experiments.cc_equal import sweep, table
from rsrc_jax.build import setup
from rsrc_jax.runtime import configs
from rsrc_jax.sweep import plan

REGISTERED = sweep.REGISTERED
CC = "patterns.cc."
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
# Bits that a memory adds to a code of two tokens, 12, where facts are shared.
ADDED = {"cc_m2": 1.0, "cc_m4": 3.0, "cc_m8": 5.0, "cc_misled": 3.0,
         "cc_carried": 4.0, "cc_lessons": 2.5, "cc_alone": 0.0,
         "cc_mixed": 2.0}  # fmt: skip
HARM = {"cc_mixed": 0.1}  # of the others 9, where nothing is shared


def looks(bits, tokens, **more):
  return {"nll_bits": 24 - bits, "exact": 0.25, "edit": 0.5,
          "tokens": tokens, "amortised": tokens} | more  # fmt: skip


def examined(added, harm, noise):
  """What an arm of cc says of itself."""
  bits = {
    "": {"cc": 12 + added, "empty": 12, "shuffled": 2, "frozen": 12 + added / 2,
         "long": 13, "chosen": 11.5 + added},
    "alone_": {"cc": 12 - harm, "empty": 12, "shuffled": 3, "frozen": 4,
               "long": 13, "chosen": 11},
  }  # fmt: skip
  found = {}
  for prefix, by in bits.items():
    for kind, x in by.items():
      # Noise of an arm and seed is not what its kinds differ in.
      own = looks(x + noise, 6.0, read=1.0, changed=0.75)
      found |= {f"{prefix}{kind}_{name}": v for name, v in own.items()}
  return found


def pair(seed, small=True, **doses):
  """A seed's runs. A code of six conveys 16 bits, one bit more than cc_m4."""
  rng = np.random.default_rng(seed)
  noise = lambda: 0.02 * rng.normal()
  codes = {"code": 11.5, "code_on": 12.0, "long": 15.0, "long_on": 16.0}
  evals = {}
  for arm, bits in codes.items():
    own = looks(bits + noise(), 6.0 if "long" in arm else 2.0)
    del own["amortised"]
    evals[arm] = {"streams": own | {f"alone_{k}": x for k, x in own.items()}}
  how = {"cc_carried": 0.9, "CC_word": 1.0} | doses
  large = {
    "seed": seed, "entropy_bits": 24.0, "params": 2_000, "evals": evals,
    "examined": {
      arm: examined(x, HARM.get(arm, 9.0), noise()) for arm, x in ADDED.items()
    },
    "doses": {arm: how for arm in ADDED},
    "plateaus": {"code": [{"step": 510, "by": "plateau"}], "long": []},
  }  # fmt: skip
  # Half of the parameters, and a bit less.
  tiny = {
    "seed": seed, "entropy_bits": 24.0, "params": 1_000,
    "examined": {"cc_m4": examined(2.0, 9.0, noise())}, "doses": {},
  }  # fmt: skip
  return large, tiny if small else None


def words(pairs):
  return {
    x.name: table.verdict(x, REGISTERED) for x in table.rows(pairs, REGISTERED)
  }


def test_verdicts_follow_what_was_put_in():
  found = words([pair(seed) for seed in range(3)])
  assert found == {
    "equal": "no, the contrary", "helps": "yes", "own": "yes",
    "misled": "can't tell", "carried": "yes", "rl": "yes", "content": "yes",
    # Two bits a doubling of the memory, one of the parameters.
    "weights": "yes", "no_harm": "no, it harms",
    "no_harm_mixed": "yes, within 0.5 bit",
  }  # fmt: skip


def test_a_mechanism_that_did_too_little_is_not_tested():
  few = words([pair(x, cc_carried=0.2, CC_word=0.05)
               for x in range(3)])  # fmt: skip
  assert few["carried"] == "not tested (carried)"
  assert few["rl"] == "not tested (paid)" and few["helps"] == "yes"
  pairs = [pair(x) for x in range(3)]
  for large, _ in pairs:
    large["examined"]["cc_m4"]["cc_read"] = 0.4
  assert words(pairs)["equal"] == "not tested (read)"


def test_p_is_holms_over_all_hypotheses_run_or_not():
  pairs = [pair(seed) for seed in range(3)]
  whole = {x.name: x for x in table.rows(pairs, REGISTERED)}
  count = len(REGISTERED["hypotheses"])
  smallest = min(whole.values(), key=lambda x: x.interval.p)
  assert smallest.adjusted == pytest.approx(count * smallest.interval.p)
  for row in whole.values():
    assert row.interval.p <= row.adjusted <= 1
  # Without the small model one hypothesis is missing, and none is easier.
  fewer = {
    x.name: x
    for x in table.rows([pair(s, small=False) for s in range(3)], REGISTERED)
  }
  assert set(whole) - set(fewer) == {"weights"}
  assert all(fewer[x].adjusted >= whole[x].adjusted for x in fewer)


def test_a_doubling_by_hand():
  one = pair(0)
  bits = lambda arm: table.score(one, arm, "cc", "bits")
  by_memory = (bits("cc_m8") - bits("cc_m2")) / 2
  by_parameters = bits("cc_m4") - bits("small")  # 2,000 are twice 1,000
  assert table.doubling(one) == pytest.approx(by_memory - by_parameters)
  assert table.doubling(pair(0, small=False)) is None


def test_a_missing_arm_is_not_run_and_the_rest_is_shown():
  assert table.table([], REGISTERED).startswith("not run")
  pairs = [pair(seed) for seed in range(2)]
  for large, _ in pairs:
    del large["examined"]["cc_misled"], large["evals"]["long"]
  text = table.table(pairs, REGISTERED)
  assert "**Preliminary**: seeds [40, 41, 42] are not run" in text
  line = lambda start: next(
    x for x in text.splitlines() if x.startswith(f"| {start}")
  )
  assert "**not run**" in line("the adversarial choice")
  assert text.count("| cc_misled | not run |") == 2  # both kinds of streams
  assert text.count("| long | not run |") == 2
  assert "not run" not in line("cc_m4 | its memory")
  assert "510 (plateau), 510 (plateau)" in line("code | 510")
  assert "its steps" in line("long | its")
  assert "Preliminary" not in table.table(
    [pair(seed) for seed in REGISTERED["seeds"]], REGISTERED
  )


def test_results_are_read_by_seed(tmp_path):
  for seed in (41, 40, 3):
    large, small = pair(seed)
    (tmp_path / f"cc_equal-{seed}.json").write_text(json.dumps(large))
    if seed == 40:
      (tmp_path / f"cc_small-{seed}.json").write_text(json.dumps(small))
  found = table.load(tmp_path, [40, 41, 42])
  assert [x["seed"] for x, _ in found] == [40, 41]
  assert found[0][1]["params"] == 1_000 and found[1][1] is None


def test_arms_differ_from_the_memory_of_four_in_named_settings():
  config = sweep.get_config()
  setup.prepare(config)
  own = lambda arm: dict(config.arms[arm].overrides)
  differ = lambda a, b: {
    k for k in own(a).keys() | own(b).keys() if own(a).get(k) != own(b).get(k)
  }
  expected = {
    "cc_m2": {f"{CC}memory"}, "cc_m8": {f"{CC}memory"},
    "cc_carried": {f"{CC}memory", f"{CC}carry"},
    "cc_misled": {f"{CC}memory", f"{CC}choose", f"{CC}pool", "batch_size"},
    "cc_lessons": {f"{CC}memory", f"{CC}warmup", "loss.weights.C",
                   "loss.weights.CC"},
    "cc_alone": {f"{CC}memory", f"{CC}shared"},
    "cc_mixed": {f"{CC}memory", f"{CC}unshared"},
  }  # fmt: skip
  assert config.patterns.cc.memory == own("cc_m4")[f"{CC}memory"] == 4
  for arm, names in expected.items():
    assert differ("cc_m4", arm) == names, arm
    assert config.arms[arm].start == "code"
  # As many groups of codes a step, and the code as long as memory and code.
  cc, alone = own("cc_m4"), own("long_on")
  rounds = config.patterns.cc.rounds
  assert alone["batch_size"] * rounds == cc["batch_size"] * (rounds - 1)
  assert alone["steps"] == cc["steps"] > config.patterns.cc.warmup
  assert alone["patterns.cdv.group"] == config.patterns.cc.group
  assert alone["budgets"] == (cc["budgets"][0] + 4,)
  assert {config.arms[x].until for x in ("code", "long")} == {"plateau"}
  assert set(config.arms) == set(table.ARMS) - {table.SMALL}


def test_a_run_a_seed_and_one_of_the_smaller_model():
  path = ROOT / "experiments" / "cc_equal" / "sweep.py"
  runs = plan.plan(str(path), ROOT / "runs").runs
  assert sorted(x.name for x in runs) == sorted(
    f"{name}-{seed}"
    for name in ("cc_equal", "cc_small")
    for seed in REGISTERED["seeds"]
  )
  small = next(x for x in runs if x.name == "cc_small-40")
  config = configs.from_flags(small.argv)
  assert config.only == "code,cc_m4" and config.model.width == 48
