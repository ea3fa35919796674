"""Joules, from fake counters to the last digit and from a model with odds."""

import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.accounting import crosscheck, energy, energy_sources
from rsrc_jax.accounting.energy import Machine, Term, Use
from rsrc_jax.metrics import statistics

VM = Machine("a kind of VM", 4, 16.0, ())
MODELLED = (Term("host", "modelled", "", None),)
RAPL = (Term("host", "rapl", "", 0.001),)
RANGE = 1_000_000  # uJ

few = settings(deadline=None, max_examples=50)
amounts = st.floats(0.01, 1e6)
uses = st.builds(
  lambda t, cpu, j: Use(t, cpu, {"host": j}), amounts, amounts, amounts
)


def zone(folder, name, energy_uj, most=RANGE):
  folder.mkdir(parents=True)
  (folder / "name").write_text(f"{name}\n")
  (folder / "energy_uj").write_text(f"{energy_uj}\n")
  (folder / "max_energy_range_uj").write_text(f"{most}\n")
  return folder / "energy_uj"


@pytest.fixture
def tree(tmp_path):
  """Two packages; what they contain, and what contains them, mustn't count."""
  files = {
    "p0": zone(tmp_path / "intel-rapl:0", "package-0", 100),
    "core": zone(tmp_path / "intel-rapl:0/intel-rapl:0:0", "core", 7),
    "dram": zone(tmp_path / "intel-rapl:0/intel-rapl:0:1", "dram", 20, 5000),
    "p1": zone(tmp_path / "intel-rapl:1", "package-1", 999_000),
    "psys": zone(tmp_path / "intel-rapl:2", "psys", 0),
    "mmio": zone(tmp_path / "intel-rapl-mmio:0", "package-0", 0),
  }
  # The kernel lists every domain once more at the top.
  (tmp_path / "intel-rapl:0:1").symlink_to(
    tmp_path / "intel-rapl:0/intel-rapl:0:1"
  )
  return tmp_path, files


@pytest.fixture
def opened():
  """open_meter, closed afterwards."""
  meters = []

  def start(**settings):
    meters.append(energy_sources.open_meter(**settings))
    return meters[-1]

  yield start
  for meter in meters:
    meter.close()


def nvml(**calls):
  """Stands in for pynvml: two boards; calls by their names without nvml."""

  def fails(*_):
    raise RuntimeError("Not Supported")

  fake = {
    "Init": lambda: None,
    "Shutdown": lambda: None,
    "DeviceGetCount": lambda: 2,
    "DeviceGetHandleByIndex": lambda i: i,
    "DeviceGetTotalEnergyConsumption": fails,
    "DeviceGetPowerUsage": fails,
  }
  return SimpleNamespace(
    **{f"nvml{name}": call for name, call in {**fake, **calls}.items()}
  )


def test_rapl_to_the_last_joule(tree, opened):
  """Packages and DRAM, with a wrap-around in each kind."""
  path, files = tree
  meter = opened(powercap=path)
  (term,) = meter.terms
  assert (term.name, term.source) == ("host", "rapl")
  before = meter.read()
  # p0: 400 - 100 = 300. p1: 10 - 999000 + 1000000 = 1010. dram: 5 - 20 + 5000
  # = 4985. Together 6295 uJ; core, psys and mmio have moved too.
  for name, value in {
    "p0": 400, "p1": 10, "dram": 5, "core": 600, "psys": 9, "mmio": 9
  }.items():  # fmt: skip
    files[name].write_text(f"{value}\n")
  use = energy.minus(meter.read(), before)
  np.testing.assert_allclose(use.counted["host"], 6295e-6, rtol=1e-12)
  # And a second wrap of p1: 5 - 10 + 1000000 more.
  files["p1"].write_text("5")
  use = energy.minus(meter.read(), before)
  np.testing.assert_allclose(use.counted["host"], 1.00629, rtol=1e-12)
  draws = energy.joules(use, meter.machine, meter.terms, pue=1.5)
  np.testing.assert_allclose(draws, np.full(1000, 1.5 * 1.00629), rtol=1e-12)


@pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj"])
def test_rapl_for_root_only(tree, opened, name):
  """One counter that can't be read: no sum of the others, but a model."""
  path, _ = tree
  (path / "intel-rapl:1" / name).unlink()
  (path / "intel-rapl:1" / name).mkdir()  # reading it fails, for root as well
  meter = opened(powercap=path)
  assert [t.source for t in meter.terms] == ["modelled"]
  assert meter.read().counted == {}


def test_rapl_lost_on_the_way(tree, opened):
  path, files = tree
  meter = opened(powercap=path)
  before = meter.read()
  files["p0"].unlink()
  use = energy.minus(meter.read(), before)
  assert energy.joules(use, meter.machine, meter.terms) is None
  # Nor is a sum with such a stretch known.
  whole = energy.add(use, Use(1.0, 1.0, {"host": 5.0}))
  assert energy.joules(whole, meter.machine, meter.terms) is None


def test_a_counter_that_stands_still_is_no_zero(tree, opened):
  path, _ = tree
  meter = opened(powercap=path)
  before = meter.read()
  use = energy.minus(meter.read(), before)
  assert use.seconds > 0 and use.counted["host"] == 0.0
  assert energy.joules(use, meter.machine, meter.terms) is None
  # Where no time has passed there is nothing to know.
  nothing = energy.joules(Use(0.0, 0.0, {}), meter.machine, meter.terms)
  assert nothing.tolist() == [0.0] * 1000


def test_nvml_counter(tmp_path, opened):
  spent = {0: 5000, 1: 70_000}  # mJ
  meter = opened(
    powercap=tmp_path,
    nvml=nvml(DeviceGetTotalEnergyConsumption=spent.get),
    accelerators=("NVIDIA H100", "NVIDIA H100"),
  )
  assert [t.source for t in meter.terms] == ["modelled", "nvml_counter"]
  before = meter.read()
  spent |= {0: 6000, 1: 72_500}
  use = energy.minus(meter.read(), before)
  np.testing.assert_allclose(use.counted["accelerator"], 3.5)
  host, board = ((term,) for term in meter.terms)
  total = energy.joules(use, meter.machine, meter.terms)
  np.testing.assert_allclose(
    total - energy.joules(use, meter.machine, host), 3.5, rtol=1e-9
  )
  assert statistics.interval(energy.joules(use, meter.machine, board)) == {
    "median": 3.5, "p5": 3.5, "p95": 3.5
  }  # fmt: skip


def test_nvml_power(tmp_path, opened):
  """Two boards at 40 W and 60 W: 100 W times the time, whatever it was."""
  watts = {0: 40_000, 1: 60_000}  # mW
  meter = opened(
    powercap=tmp_path,
    nvml=nvml(DeviceGetPowerUsage=watts.get),
    accelerators=("NVIDIA K80",),
  )
  term = meter.terms[1]
  assert term.source == "nvml_power_sampled" and term.interval_seconds > 0
  before = meter.read()
  time.sleep(0.15)  # longer than the thread that samples waits
  use = energy.minus(meter.read(), before)
  # The samples and the clock of a reading are taken a moment apart.
  assert 0.15 <= use.counted["accelerator"] / 100 < use.seconds + 1


def test_the_integral_by_hand():
  # 10 W, then 30 W a second later, then 30 W, then 0 W half a second on:
  # (10 + 30) / 2 * 1 + 30 * 2 + (30 + 0) / 2 * 0.5 = 20 + 60 + 7.5.
  watts, clock = iter([10, 30, 30, 0]), iter([5.0, 6.0, 8.0, 8.5])
  sample = lambda: next(watts)
  count = energy_sources.integral(sample, clock=lambda: next(clock))
  assert [count(), count(), count()] == [20.0, 80.0, 87.5]


@pytest.mark.parametrize(
  "fake",
  [
    nvml(),  # neither energy nor power
    nvml(DeviceGetCount=lambda: 0),
    nvml(Init=lambda: 1 / 0),  # LibraryNotFound is raised there
    SimpleNamespace(),  # not NVML at all
  ],
)
def test_nvml_that_fails_is_unavailable(tmp_path, opened, fake):
  meter = opened(powercap=tmp_path, nvml=fake, accelerators=("NVIDIA H100",))
  assert [t.source for t in meter.terms] == ["modelled", "unavailable"]
  use = energy.minus(meter.read(), Use(0.0, 0.0, {}))
  assert use.counted == {}
  assert energy.joules(use, meter.machine, meter.terms) is None
  assert energy.joules(use, meter.machine, meter.terms[:1]).min() > 0
  assert statistics.interval(None) is None
  assert energy.weakest(meter.terms) == "unavailable"


def test_without_pynvml(tmp_path, opened, monkeypatch):
  monkeypatch.setitem(sys.modules, "pynvml", None)
  meter = opened(powercap=tmp_path, accelerators=("NVIDIA H100",))
  assert meter.terms[1].source == "unavailable"
  assert 'pip install "rsrc-jax[nvml]"' in meter.terms[1].boundary


def test_nothing_to_sum_is_unknown():
  assert energy.joules(Use(1.0, 1.0, {}), VM, ()) is None
  assert energy.weakest(()) == "unavailable"


def test_the_weakest_source():
  terms = [Term("x", source, "", None) for source in energy.SOURCES]
  for i, term in enumerate(terms):
    assert energy.weakest(terms[: i + 1][::-1]) == term.source


def test_tpu(tmp_path, opened):
  meter = opened(powercap=tmp_path, accelerators=("TPU v5e", "TPU v5e"))
  term = meter.terms[1]
  assert term.source == "modelled" and "guess" in term.boundary
  spread = lambda draws: np.divide(*np.percentile(draws, (95, 5)))
  chips = lambda counted: energy.joules(
    Use(10.0, 0.0, counted), meter.machine, (term,)
  )
  # At rest all the time, at work all the time (2 chips, 10 s), or not known.
  rest, work = chips({energy.BUSY: 0.0}), chips({energy.BUSY: 20.0})
  unknown = chips({})
  assert (rest < unknown).all() and (unknown < work).all()
  assert spread(unknown) > spread(work)
  # At work it is the prior itself: 200 W, sigma 0.5, twice, for 10 s.
  np.testing.assert_allclose(np.median(work), 4000, rtol=0.1)
  np.testing.assert_allclose(np.std(np.log(work)), 0.5, rtol=0.1)


def truth(rng, use, machine):
  """The model once more, scalar, with its priors written out."""
  dynamic = 3.0 * math.exp(0.35 * rng.standard_normal())
  idle = dynamic * (0.2 + 0.4 * rng.random())
  ram = 0.1 + 0.3 * rng.random()
  watts = machine.vcpus * idle + machine.gib * ram
  return watts * use.seconds + dynamic * use.cpu_seconds


@pytest.mark.parametrize(
  "use, gib",
  [
    (Use(10.0, 40.0, {}), 16.0),  # busy
    (Use(10.0, 0.0, {}), 1.0),  # idle
    (Use(3.0, 2.0, {}), 64.0),  # mostly memory
  ],
)
def test_the_interval_is_honest(use, gib):
  rng, machine = np.random.default_rng(0), VM._replace(gib=gib)
  found = statistics.interval(energy.joules(use, machine, MODELLED))
  true = np.array([truth(rng, use, machine) for _ in range(1000)])
  covered = np.mean((found["p5"] <= true) & (true <= found["p95"]))
  assert 0.85 <= covered <= 0.95
  np.testing.assert_allclose(found["median"], np.median(true), rtol=0.06)


def test_ratios_use_common_draws():
  """Narrower than the quotient of draws that know nothing of each other."""
  a, b = Use(10.0, 35.0, {}), Use(12.0, 9.0, {})
  other = VM._replace(name="another kind of VM")
  draws = energy.joules(a, VM, MODELLED)
  width = lambda x: np.subtract(*np.percentile(np.log(x), (95, 5)))
  common = width(draws / energy.joules(b, VM, MODELLED))
  apart = width(draws / energy.joules(b, other, MODELLED))
  assert common < 0.5 * apart


def test_draws_go_by_the_name_alone():
  use = Use(10.0, 0.0, {})
  draws = energy.joules(use, VM, MODELLED)
  np.testing.assert_array_equal(draws, energy.joules(use, VM, MODELLED))
  # All else but the name different: the same powers, of other quantities.
  big = Machine(VM.name, 8, 32.0, ("NVIDIA H100",))
  np.testing.assert_allclose(energy.joules(use, big, MODELLED), 2 * draws)
  other = energy.joules(use, VM._replace(name="b"), MODELLED)
  assert abs(np.corrcoef(draws, other)[0, 1]) < 0.1  # 3 / sqrt(1000)
  # The seed must not change from one interpreter to the next (PYTHONHASHSEED).
  code = (
    "from rsrc_jax.accounting.energy import *;"
    f"print(joules({use!r}, {VM!r}, [{MODELLED[0]!r}])[7]);"
    "import sys; assert 'jax' not in sys.modules"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert float(out.stdout) == draws[7]


@few
@given(uses, uses, st.sampled_from([MODELLED, RAPL]))
def test_joules_add_up(a, b, terms):
  """Draw by draw: phases sum to the whole, and a share is a share."""
  joules = lambda use: energy.joules(use, VM, terms)
  np.testing.assert_allclose(
    joules(energy.add(a, b)), joules(a) + joules(b), rtol=1e-9
  )
  np.testing.assert_allclose(joules(energy.times(a, 0.25)), joules(a) / 4)
  back = energy.minus(energy.add(a, b), b)
  np.testing.assert_allclose(back[:2], a[:2], rtol=1e-6, atol=1e-6)
  assert (joules(a) > 0).all()


def test_counters_add_by_name():
  a, b = Use(1.0, 2.0, {"host": 3.0}), Use(1.0, 2.0, {"accelerator": 5.0})
  assert energy.add(a, b) == Use(2.0, 4.0, {"host": 3.0, "accelerator": 5.0})
  assert energy.minus(a, b).counted == {"host": 3.0, "accelerator": -5.0}
  assert energy.times(a, 2.0) == Use(2.0, 4.0, {"host": 6.0})
  assert a == Use(1.0, 2.0, {"host": 3.0})


@pytest.mark.parametrize("terms", [MODELLED, RAPL])
def test_pue(terms):
  use = Use(10.0, 5.0, {"host": 7.0})
  plain = energy.joules(use, VM, terms)
  np.testing.assert_allclose(energy.joules(use, VM, terms, pue=1.3),
                             1.3 * plain)  # fmt: skip
  for pue in (0.99, 0.0, math.nan, math.inf):
    with pytest.raises(ValueError, match=f"pue is {pue}: .*1.0 for the"):
      energy.joules(use, VM, terms, pue=pue)


def test_far_above_landauer():
  """A core does at most some 1e12 bit operations a second.

  Each erases a bit or more, at kT ln 2 = 2.87e-21 J (300 K): 3e-9 J a second
  at the very least. And no vCPU draws more than its whole package, 1 kW.
  """
  use, limit = Use(1.0, 1.0, {}), 1.380649e-23 * 300 * math.log(2)
  core = Machine("one core", 1, 1.0, ())
  draws = energy.joules(use, core, MODELLED)
  assert (draws > 1e12 * limit).all() and (draws < 1000).all()


def test_cpu_seconds_are_of_the_process_and_its_threads(tmp_path, opened):
  meter = opened(powercap=tmp_path)
  before = meter.read()
  code = "import time\nwhile time.process_time() < 0.3: pass"
  subprocess.run([sys.executable, "-c", code], check=True)
  use = energy.minus(meter.read(), before)
  # A child that has ended counts; the clock of a busy one runs no faster.
  assert use.cpu_seconds > 0.29 and use.seconds > 0.29


def test_control_groups(tmp_path):
  """The tightest limit on the way up, and only downwards."""
  job = tmp_path / "job_1" / "task_0"
  job.mkdir(parents=True)
  own = "4:memory:/elsewhere\n0::/job_1/task_0\n"
  assert energy_sources._limits(tmp_path, own) == (math.inf, math.inf)
  (job / "memory.max").write_text("max\n")
  (job / "cpu.max").write_text("350000 100000\n")
  (tmp_path / "job_1" / "memory.max").write_text(f"{3 * 2**30}\n")
  (tmp_path / "job_1" / "cpu.max").write_text("max 100000\n")
  assert energy_sources._limits(tmp_path, own) == (3.5, 3 * 2**30)
  assert energy_sources._limits(tmp_path, "") == (math.inf, math.inf)


def test_this_machine(tmp_path):
  machine = energy_sources.this_machine(("NVIDIA H100",), cgroup=tmp_path)
  assert machine.accelerators == ("NVIDIA H100",)
  (tmp_path / "memory.max").write_text(str(2**29))
  (tmp_path / "cpu.max").write_text("50000 100000")
  small = energy_sources.this_machine(cgroup=tmp_path)
  assert (small.vcpus, small.gib) == (1, 0.5)
  assert small.name != machine.name and "1 vCPU" in small.name


def test_probe(capsys, monkeypatch):
  monkeypatch.setattr(crosscheck, "_gpu_names", lambda: ())
  assert crosscheck.main(["--probe", "--seconds=0.05"]) == 0
  out = capsys.readouterr().out
  assert "source=" in out and "accelerator  none found" in out
  assert "median" in out and "5-95 %" in out and "end to end" in out
  assert crosscheck.main(["--seconds=0.01", "--pue=0.5"]) == 2
  assert "pue is 0.5" in capsys.readouterr().err


def test_probe_without_a_meter_prints_no_number(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "pynvml", None)
  assert crosscheck.main(["--seconds=0.01", "--accelerators=NVIDIA H100"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[-2:] == [
    "accelerator  unavailable; unavailable",
    "total        unavailable; unavailable",
  ]


def test_crosscheck_without_the_tools(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "zeus", None)
  monkeypatch.setitem(sys.modules, "zeus.monitor", None)
  assert crosscheck.main(["--crosscheck=zeus"]) == 2
  err = capsys.readouterr().err
  assert "rsrc-jax[energy]" in err and err.count("\n") == 1
  assert crosscheck.main(["--crosscheck=nemo"]) == 2
  assert "zeus, codecarbon" in capsys.readouterr().err


@pytest.mark.parametrize(
  "factor, warns", [(0.3, True), (0.7, False), (1.9, False), (2.1, True)]
)
def test_crosscheck_warns_beyond_a_factor_of_two(
  capsys, monkeypatch, factor, warns
):
  def tool():
    def measure(work):
      work()
      return {"host": (factor * 8.0, "a fake")}

    return measure

  # A counter that goes up by 8 J between the two readings of a window.
  joules = iter([2.0, 10.0])
  meter = energy.Meter(
    VM,
    RAPL,
    lambda: Use(0.0, 0.0, {"host": next(joules)}),
    lambda: None,
  )
  monkeypatch.setattr(crosscheck, "TOOLS", {"fake": tool})
  monkeypatch.setattr(energy_sources, "open_meter", lambda **_: meter)
  assert crosscheck.main(["--crosscheck=fake", "--seconds=0.01"]) == 0
  out = capsys.readouterr().out
  assert f"fake / ours = {factor:.2f}" in out
  assert ("warning" in out) == warns


def test_what_another_tool_lacks_is_not_compared(capsys, monkeypatch):
  none = {"host": (None, "it says 0.0 J")}
  tool = lambda: lambda work: (work(), none)[1]
  monkeypatch.setattr(crosscheck, "TOOLS", {"fake": tool})
  monkeypatch.setattr(crosscheck, "_gpu_names", lambda: ())
  assert crosscheck.main(["--crosscheck=fake", "--seconds=0.01"]) == 0
  out = capsys.readouterr().out
  assert "unavailable (it says 0.0 J)" in out and "/ ours" not in out
