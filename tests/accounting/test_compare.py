"""The comparison of two arms over seeds, on synthetic summaries."""

import copy
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.accounting import compare, energy, summaries

few = settings(deadline=None, max_examples=40)
MODELLED = {
  "name": "host", "source": "modelled", "boundary": "2 vCPU",
  "interval_seconds": None,
}  # fmt: skip
COUNTED = {
  "name": "host", "source": "rapl", "boundary": "package",
  "interval_seconds": 0.001,
}  # fmt: skip


def used(seconds, cpu=0.0, counted=None):
  return {"seconds": seconds, "cpu_seconds": cpu, "counted": counted or {}}


def arm(k, *, seconds=1.0, cpu=0.0, train=1000.0, untrained=0.0, saved=None,
        counted=None):  # fmt: skip
  """An arm whose C and D each take `seconds` a sample."""
  each = used(seconds, cpu, counted)
  median = k if saved is None else saved
  return {
    "bits_saved": {"median": median, "p5": median - 1, "p95": median + 1},
    "k": k,
    "k_untrained": untrained,
    "use": {"train": used(train, train, counted), "C": each, "D": each},
  }


def summary(seed, arms, *, machine="m", served=100, terms=(MODELLED,)):
  return {
    "seed": seed,
    "corpus": {"digest": f"digest {seed}"},
    "ledger": {
      "machine": {"name": machine, "vcpus": 2, "gib": 8.0, "accelerators": []},
      "terms": list(terms),
      "pue": 1.0,
    },
    "rsrc": {"samples_served": served, "arms": arms},
  }


def write(folder, summaries, name="run"):
  """One run directory a seed; "PATHS" of them."""
  for i, found in enumerate(summaries):
    path = folder / f"{name}{i}"
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps(found))
  return str(folder / f"{name}*")


def runs(values, which="x", **settings):
  """Runs in memory, one a seed, of an arm with these k."""
  return [
    summaries.Run("memory", which, seed,
                summary(seed, {which: arm(k, **settings)}))
    for seed, k in enumerate(values)
  ]  # fmt: skip


def judged(a, b, metric="k", served=100.0):
  return compare.compare(runs(a), runs(b), metric, served)


def say(capsys, *argv):
  """Exit code, lines of the answer, the error."""
  code = compare.main([*argv])
  out, error = capsys.readouterr()
  return code, out.rstrip().splitlines(), error


def two_arms(n=4, factor=2.0, noise=0.02, **settings):
  rng = np.random.default_rng(0)
  level = np.exp(rng.normal(3, 0.5, n))  # shared by the pair: a hard seed
  jitter = np.exp(rng.normal(0, noise, (2, n)))
  return [
    summary(
      seed,
      {
        "code": arm(factor * level[seed] * jitter[0, seed]),
        "sft": arm(level[seed] * jitter[1, seed]),
      },
      **settings,
    )
    for seed in range(n)
  ]


def test_false_positives_of_verdicts():
  """The same through the verdict itself, both ways."""
  rng = np.random.default_rng(1)
  draws = np.exp(rng.normal(2, 0.3, (1000, 2, 4)))
  found = []
  for a, b in np.log(draws):
    found.append(compare._judge("k", False, a - b, None, []).better)
  wins = {name: found.count(name) for name in ("A", "B", "")}
  assert 30 < wins["A"] + wins["B"] < 70 and min(wins["A"], wins["B"]) > 10


# --- verdicts ----------------------------------------------------------------


@pytest.mark.parametrize("metric", list(compare.LABELS))
def test_clear_difference(metric, tmp_path, capsys):
  paths = write(tmp_path, two_arms())
  asked = [f"{paths}:code", f"{paths}:sft", f"--metric={metric}"]
  code, lines, error = say(capsys, *asked)
  label = compare.LABELS[metric]
  assert code == 0 and error == ""
  assert lines[-1].startswith(f"A better: {label} of A: ")
  assert "over 4 seeds" in lines[-1] and "(ours)" in label
  ratio = float(re.search(r"([\d.]+)x that of B", lines[-1])[1])
  assert 1.9 < ratio < 2.1
  # Both arms use the same, so the prior of the energy model cancels.
  spread = [x for x in lines if x.startswith("Energy model")]
  assert len(spread) == (metric != "k")
  for line in spread:
    low, high = re.findall(r"([\d.]+)x", line)
    assert low == high
  assert max(map(len, lines[:8])) <= 100


def test_swapping_mirrors(tmp_path, capsys):
  paths = write(tmp_path, two_arms())
  a, b = f"{paths}:code", f"{paths}:sft"
  _, one, _ = say(capsys, a, b)
  _, other, _ = say(capsys, b, a)
  swap = lambda text: text.translate(str.maketrans("AB", "BA"))
  # "RSRC" holds no A; no other capital A or B is in the sentence.
  assert other[-1] == swap(one[-1])


@few
@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=3,
                max_size=6))  # fmt: skip
def test_swapping_mirrors_exactly(values):
  a, b = zip(*values, strict=True)
  for metric in compare.LABELS:
    one, other = judged(a, b, metric), judged(b, a, metric)
    np.testing.assert_array_equal(one.values, -other.values)
    assert one.values.mean() == -other.values.mean()
    assert one.interval.low == -other.interval.high
    assert other.better == {"A": "B", "B": "A", "": ""}[one.better]


def test_no_difference(tmp_path, capsys):
  paths = write(tmp_path, two_arms(factor=1.0, noise=0.3, n=5))
  code, lines, _ = say(capsys, f"{paths}:code", f"{paths}:sft")
  assert code == 0 and lines[-1].startswith(
    "no difference shown: RSRC_i (ours)"
  )
  least = float(re.search(r"could have shown is ([\d.]+)x", lines[-1])[1])
  logs = [
    np.log(x["rsrc"]["arms"]["code"]["k"] / x["rsrc"]["arms"]["sft"]["k"])
    for x in two_arms(factor=1.0, noise=0.3, n=5)
  ]
  # Of df 4 the shift is 3.7611 standard errors (scipy's nct at t = 2.7764).
  expected = math.exp(3.7611 * np.std(logs, ddof=1) / math.sqrt(5))
  np.testing.assert_allclose(least, expected, rtol=5e-3)
  assert "80 % power" in lines[-1]


def test_an_arm_against_itself():
  found = judged([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "rsrc_i")
  assert found.better == "" and "1x to 1x" in found.lines[-1]


def test_copies_of_one_run_are_pointed_out():
  found = judged([4.0] * 3, [2.0] * 3)
  assert "one run, copied" in found.lines[-2]


def test_copies_with_edited_seeds_are_refused(tmp_path, capsys):
  one = two_arms(n=1)[0]
  paths = write(tmp_path, [one | {"seed": seed} for seed in range(3)])
  code, _, said = say(capsys, f"{paths}:code", f"{paths}:sft")
  assert code == 2 and said.count("\n") <= 1
  where = [str(tmp_path / f"run{i}" / "summary.json") for i in (1, 0)]
  assert f"{where[0]} is a copy of {where[1]} with another seed" in said


def test_too_few_seeds(tmp_path, capsys):
  paths = write(tmp_path, two_arms(n=2, factor=100.0))
  code, lines, _ = say(capsys, f"{paths}:code", f"{paths}:sft")
  assert code == 0 and lines[-1].startswith("2 seeds cannot tell")
  assert "A better" not in " ".join(lines)


@pytest.mark.parametrize("metric", ["rsrc_i", "rsrc_life", "k"])
def test_zero_k_falls_back_to_bits(metric, tmp_path, capsys):
  arms = [
    {"a": arm(5.0 + i), "b": arm(0.0 if i == 1 else 1.0, saved=-2.0 + i)}
    for i in range(3)
  ]
  paths = write(tmp_path, [summary(i, x) for i, x in enumerate(arms)])
  asked = [f"{paths}:a", f"{paths}:b", f"--metric={metric}"]
  code, lines, _ = say(capsys, *asked)
  assert code == 0
  assert any("k is not above 0 for B on seed 1" in x for x in lines)
  # 5 + i - (-2 + i) = 7 on every seed.
  assert lines[-1].startswith(
    "A better: signed bits saved of A: 7 bits a sample above that of B"
  )
  assert "+7 to +7 bits" in lines[-1] and "A - B" in " ".join(lines)


def test_training_that_gained_nothing():
  """RSRC_t has no ratio where k = k_0, though k is above 0."""
  a, b = runs([5.0, 6.0, 7.0]), runs([5.0] * 3, untrained=5.0)
  found = compare.compare(a, b, "rsrc_t", 100.0)
  assert found.signed and "k - k_0" in found.lines[0]
  assert not compare.compare(a, b, "rsrc_i", 100.0).signed


def test_definitions_by_hand():
  """With counted joules there is no prior: e_i = 3 + 3, E_t = 3, all exact."""
  run = summaries.Run(
    "memory", "x", 0,
    summary(0, {"x": arm(12.0, untrained=3.0, counted={"host": 3.0})},
            terms=[COUNTED]),
  )  # fmt: skip
  value = lambda metric: np.exp(compare.log_metric(run, metric, 10.0))
  np.testing.assert_allclose(value("k"), 12)
  np.testing.assert_allclose(value("rsrc_i"), 12 / 6)
  np.testing.assert_allclose(value("rsrc_t"), 10 * (12 - 3) / 3)
  np.testing.assert_allclose(value("rsrc_life"), 10 * 12 / (3 + 10 * 6))


def test_life_without_training():
  """A compressor that was never trained is compared by what it costs to use."""
  x, y = runs([3.0])[0], runs([3.0])[0]
  found = x.summary["rsrc"]["arms"]["x"]
  del found["use"]["train"], found["k_untrained"]
  life = compare.log_metric(x, "rsrc_life", 9.0)
  np.testing.assert_array_equal(life, compare.log_metric(x, "rsrc_i", 9.0))
  assert np.all(life > compare.log_metric(y, "rsrc_life", 9.0))
  with pytest.raises(ValueError, match="not trained"):
    compare.compare([x], [y], "rsrc_t", 9.0)


def test_no_joules_were_never_measured():
  run = runs([3.0], train=0.0)[0]
  for metric in ("rsrc_t", "rsrc_life"):
    with pytest.raises(ValueError, match="0 J"):
      compare.log_metric(run, metric, 9.0)


def test_draws_are_shared():
  """Half the use is half the energy in every draw, whatever the prior says."""
  a, b = runs([3.0] * 3, seconds=0.5), runs([3.0] * 3)
  found = compare.compare(a, b, "rsrc_i", 1.0)
  np.testing.assert_allclose(found.model, math.log(2), rtol=1e-12)
  # One arm alone is known to a factor of 2 and more.
  alone = np.quantile(compare.log_metric(a[0], "rsrc_i", 1.0), (0.05, 0.95))
  assert alone[1] - alone[0] > math.log(2)


def test_the_energy_model_may_blur_what_seeds_agree_on():
  """On different machines the priors don't cancel: 1.2x is then not shown."""
  noise = [1.0, 1.01, 0.99, 1.005]
  a = runs([1.2 * x for x in noise])
  b = runs([1.0] * 4)
  same = compare.compare(a, b, "rsrc_i", 1.0)
  assert same.better == "A"
  for run in b:
    run.summary["ledger"]["machine"]["name"] = "another"
  found = compare.compare(a, b, "rsrc_i", 1.0)
  assert found.model[0] < 0 < found.model[1] and found.better == ""
  assert "between machines" in found.lines[0]
  assert found.interval.low > 0  # the seeds alone would have told
  assert "but the energy model alone covers 1x" in found.lines[-1]
  # Bits need no model.
  assert compare.compare(a, b, "k", 1.0).better == "A"


# --- the input ---------------------------------------------------------------


def test_paths(tmp_path, capsys):
  """A glob, a run directory, a file; a colon and brackets in a name."""
  paths = write(tmp_path / "a:b[1]", two_arms(n=3))
  folder = tmp_path / "a:b[1]" / "run1"
  for pattern in (folder, folder / "summary.json"):
    found = summaries.read(f"{pattern}:code")
    assert [run.seed for run in found] == [1]
  escaped = paths.replace("[", "[[]")
  found = summaries.read(f"{escaped}:sft")
  assert [run.seed for run in found] == [0, 1, 2]
  code, lines, _ = say(capsys, f"{escaped}:code", f"{folder}:sft")
  assert code == 0 and lines[-1].startswith("1 seed cannot tell")
  assert "Left out, A only: seed 0, 2." in lines


def broken(change):
  """Three good summaries, the second of them changed."""
  found = copy.deepcopy(two_arms(n=3))
  change(found[1])
  return found


def doubled(found):
  found["seed"] = 0


def no_seed(found):
  del found["seed"]


def no_k(found):
  del found["rsrc"]["arms"]["code"]["k"]


def nan_k(found):
  found["rsrc"]["arms"]["code"]["k"] = math.nan


def no_ledger(found):
  del found["ledger"]


def no_machine(found):
  del found["ledger"]["machine"]["vcpus"]


def no_arm(found):
  del found["rsrc"]["arms"]["code"]


def unavailable(found):
  found["ledger"]["terms"].append(
    {"name": "accelerator", "source": "unavailable", "boundary": "no NVML",
     "interval_seconds": None})  # fmt: skip


def no_time(found):
  found["rsrc"]["arms"]["code"]["use"].update(C=used(0.0), D=used(0.0))


@pytest.mark.parametrize(
  "change, says",
  [
    (doubled, "seed 0 is doubled"),
    (no_seed, "has no seed"),
    (no_k, "has no rsrc.arms.code.k:"),
    (nan_k, "rsrc.arms.code.k = nan"),
    (no_ledger, "has no ledger"),
    (no_machine, "incomplete ledger ('vcpus')"),
    (no_arm, "has no arm 'code': it has ['sft']"),
    (unavailable, "use --metric k"),
    (no_time, "0 J"),
  ],
)
def test_bad_summaries(change, says, tmp_path, capsys):
  paths = write(tmp_path, broken(change))
  code, lines, error = say(capsys, f"{paths}:code", f"{paths}:sft")
  assert code == 2 and lines == [] and error.count("\n") == 1
  assert says in error and "run" in error


def test_other_bad_input(tmp_path, capsys):
  paths = write(tmp_path / "a", two_arms(n=3))
  other = write(tmp_path / "b", two_arms(n=3)[:1])
  text = tmp_path / "b" / "run0" / "summary.json"
  changed = json.loads(text.read_text())
  changed["corpus"]["digest"] = "another"
  text.write_text(json.dumps(changed))
  lone = write(tmp_path / "c", [two_arms(n=9)[8]])
  (tmp_path / "d" / "run").mkdir(parents=True)
  for asked, says in [
    ((f"{paths}:code", f"{other}:sft"), "seed 0 has corpus digest 0"),
    ((f"{paths}:code", f"{lone}:sft"), "none is shared"),
    ((f"{paths}:code", f"{tmp_path}/nothing*:sft"), "matches no summary"),
    ((f"{paths}:code", f"{tmp_path}/d/*:sft"), "is missing"),
    ((f"{paths}:code", "no arm"), "write PATHS:ARM"),
    ((f"{paths}:code", f"{__file__}:sft"), "is no JSON"),
    ((f"{paths}:code", f"{paths}:sft", "--metric=rsrc_t", "--served=0"), "> 0"),
  ]:
    code, lines, error = say(capsys, *asked)
    assert code == 2 and lines == [] and error.count("\n") == 1
    assert says in error


def test_served(tmp_path, capsys):
  """RSRC_life depends on n: it is declared, one for all, and shown."""
  found = two_arms(n=3)
  for one in found:  # A: dear to train, cheap to use
    one["rsrc"]["arms"]["code"] = arm(1.0, seconds=0.1, train=1e4)
    one["rsrc"]["arms"]["sft"] = arm(1.0, seconds=1.0, train=1.0)
  paths = write(tmp_path / "a", found)
  asked = [f"{paths}:code", f"{paths}:sft", "--metric=rsrc_life"]
  for n, better in [(10, "B"), (10_000_000, "A")]:
    _, lines, _ = say(capsys, *asked, f"--served={n}")
    assert lines[-1].startswith(f"{better} better")
    assert f"n = {n:g}" in lines[0]
  found[1]["rsrc"]["samples_served"] = 7
  paths = write(tmp_path / "b", found)
  asked = [f"{paths}:code", f"{paths}:sft"]
  assert say(capsys, *asked)[0] == 0  # RSRC_i does not ask for n
  code, _, error = say(capsys, *asked, "--metric=rsrc_life")
  assert code == 2 and "samples_served differs" in error
  assert say(capsys, *asked, "--metric=rsrc_life", "--served=9")[0] == 0


def test_without_energy_k_is_compared(tmp_path, capsys):
  found = two_arms()
  for one in found:
    unavailable(one)
  paths = write(tmp_path, found)
  code, lines, _ = say(capsys, f"{paths}:code", f"{paths}:sft", "--metric=k")
  assert code == 0 and lines[-1].startswith("A better: k (ours)")


def test_starts_without_jax():
  code = (
    "import sys; from rsrc_jax.accounting import compare; "
    "sys.exit('jax' in sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", code], check=False)
  assert done.returncode == 0


def test_the_ledger_reads_as_energy_does():
  """What is asked of energy.joules, against a call of it."""
  run = runs([3.0], seconds=2.0, cpu=1.5)[0]
  run.summary["ledger"]["pue"] = 1.25
  machine = energy.Machine("m", 2, 8.0, ())
  term = energy.Term("host", "modelled", "", None)
  expected = energy.joules(energy.Use(2.0, 1.5, {}), machine, (term,), pue=1.25)
  np.testing.assert_array_equal(compare._joules(run, "C"), expected)
