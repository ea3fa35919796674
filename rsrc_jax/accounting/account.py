"""What each arm's capability has cost: the blocks `ledger` and `rsrc`.

The arithmetic on what evaluation/service.py has measured and on the ledger.
The definitions are metrics/rsrc.py's: ours, not the paper's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax import rules
from rsrc_jax.accounting import compressors, energy
from rsrc_jax.accounting.ledger import Ledger, spending
from rsrc_jax.accounting.totals import joules, totals, training_joules
from rsrc_jax.metrics import capability, rsrc, statistics
from rsrc_jax.types import TrainState

BOOTSTRAP = 1_000
TRAJECTORY = ("step", "flops", "joules", "verified_bits")


class Measured(NamedTuple):
  """What the test split says of an arm."""

  saved: capability.Saved  # [rows] each, V knowing the alphabet alone
  saved_frozen: np.ndarray  # [rows] bits, V being the frozen base
  untrained: np.ndarray  # [rows] bits, by the same program before any training
  use: dict[str, energy.Use]  # of a sample: C, D, read_s, read_c
  flops: dict[str, float]  # of a sample, likewise
  spread: dict[str, list[float]]  # seconds of the fastest and slowest round


class Facts(NamedTuple):
  """What an arm is, for its entry."""

  english: bool  # its codes are made of words alone
  reads_base: bool  # its writer reads the base's model, which serves it too
  stages: tuple[str, ...]  # whose training it is charged for, its own too


# The rules of config.ledger.
RULES = {
  "enabled": rules.flag,
  "pue": rules.number(1, why="1 charges the machine alone"),
  "samples_served": rules.whole(1, 10**18),
  "service_seconds": rules.number(0.01),
}


class _Prices(NamedTuple):
  """What all arms are priced by."""

  settings: Any  # config.ledger
  lines: list[dict]  # of the ledger
  draws: Callable  # use -> joules [draws]; None where unknown
  peers: dict[str, tuple]  # name -> compressor, joules to encode, to decode
  source: str  # how the energy is known


def state_bits(state: TrainState) -> dict[str, int]:
  """Bits that serving an arm takes beside its codes, as they are stored.

  Every weight counts, since the headline V knows nothing that training found;
  the carry is memory, replay and codebooks.
  """
  bits = lambda tree: sum(8 * x.nbytes for x in jax.tree.leaves(tree))
  return {"weights": bits(state.params), "carry": bits(state.carry)}


def account(
  settings: Any,
  facts: dict[str, Facts],
  measured: dict[str, Measured],
  kept: dict[str, dict[str, int]],
  peers: dict[str, compressors.Baseline],
  ledger: Ledger,
) -> dict[str, Any]:
  """The blocks `ledger` and `rsrc` of summary.json, and `seconds`.

  There is no `rsrc` where no arm was measured.

  Args:
    settings: config.ledger.
    facts: of every arm that was measured.
    measured: of service.serve, by arm.
    kept: `state_bits` by arm, the base's among them.
    peers: of service.peers.
    ledger: closed.
  """
  lines = ledger.read()
  sums = totals(lines, pue=settings.pue)
  found = {"seconds": round(sums["wall_seconds"], 1), "ledger": sums}
  if not measured:  # no arm writes codes
    return found
  prices = _prices(settings, lines, peers, ledger)
  arms = {
    name: _arm(name, found, facts[name], _kept(name, facts[name], kept), prices)
    for name, found in measured.items()
  }
  arms["untrained"] = _untrained(measured, prices)
  arms |= {
    name: _compressor(name, *peer, settings)
    for name, peer in prices.peers.items()
  }
  some = next(iter(measured.values()))
  block = {
    "definitions": rsrc.DEFINITIONS,
    "verifier": "uniform",
    "raw_bits": float(np.mean(some.saved.raw)),
    "samples_served": settings.samples_served,
    "test_rows": len(some.saved.raw),
    "arms": arms,
  }
  return found | {"rsrc": _plain(block)}


def _prices(settings, lines, peers, ledger: Ledger) -> _Prices:
  draws = lambda use: joules(use, ledger.opening, settings.pue)
  # A compressor is charged the host, whose parts alone it uses.
  host = [x for x in ledger.opening["terms"] if x["name"] == "host"]
  host = ledger.opening | {"terms": host}
  on_host = lambda use: joules(use, host, settings.pue)
  priced = {
    name: (peer, on_host(peer.encode), on_host(peer.decode))
    for name, peer in peers.items()
  }
  source = energy.weakest(ledger.meter.terms)
  return _Prices(settings, lines, draws, priced, source)


def scalars(summary: dict[str, Any]) -> dict[str, float]:
  """The blocks of `account` as numbers with names, infinities left out."""
  found = {}
  for arm, phases in summary["ledger"]["phases"].items():
    for phase, entry in phases.items():
      numbers = {k: entry[k] for k in ("seconds", "flops")}
      numbers["joules"] = (entry["joules"] or {}).get("median")
      found |= {f"ledger/{arm}/{phase}/{k}": v for k, v in numbers.items()}
  for arm, entry in summary.get("rsrc", {"arms": {}})["arms"].items():
    for name in ("bits_saved", "rsrc_i", "rsrc_t", "rsrc_life"):
      found[f"rsrc/{arm}/{name}"] = (entry[name] or {}).get("median")
    for name in ("k", "break_even_samples", "net_bits"):
      found[f"rsrc/{arm}/{name}"] = entry.get(name)
  return {k: v for k, v in found.items() if isinstance(v, int | float)}


def trajectory(lines: list[dict]) -> dict[str, list[dict]]:
  """Capability against what it had cost by then, from metrics.jsonl.

  -> arm -> its evaluations on validation sources: step, flops and joules so
  far, the base's included, and bits saved.
  """
  found = {}
  for line in lines:
    if line["split"] == "valid":
      kept = {k: line.get(k) for k in TRAJECTORY}
      found.setdefault(line["phase"], []).append(kept)
  return found


def _kept(name: str, facts: Facts, kept) -> dict[str, int]:
  """What serves an arm: a rule that reads the base's model keeps that too."""
  if facts.reads_base:
    return kept[name] | {"base": kept["base"]["weights"]}
  return kept[name]


def _arm(
  name: str,
  found: Measured,
  facts: Facts,
  state: dict[str, int],
  prices: _Prices,
) -> dict[str, Any]:
  """An arm's entry: intervals over documents and over the energy model."""
  settings, bits = prices.settings, found.saved.bits
  k, k_0 = rsrc.capability(bits), rsrc.capability(found.untrained)
  drawn = statistics.bootstrap(bits, BOOTSTRAP)
  arms = ("", *facts.stages)
  train, executed = spending([x for x in prices.lines if x["arm"] in arms])
  use = {"train": train, **found.use}
  each = {part: prices.draws(x) for part, x in found.use.items()}
  trained = training_joules(prices.lines, arms, settings.pue)
  total = _sum(each["C"], each["D"])
  stored, n = sum(state.values()), settings.samples_served
  return {
    "label": name,
    "kind": "english" if facts.english else "code",
    "bits_saved": _signed(bits),
    "bits_saved_frozen": _signed(found.saved_frozen),
    "wire_bits": float(np.mean(found.saved.wire)),
    "residual_bits": float(np.mean(found.saved.residual)),
    "k": k,
    "k_untrained": k_0,
    "bits_saved_untrained": float(np.mean(found.untrained)),
    "use": {part: x._asdict() for part, x in use.items()},
    "joules_per_sample": _parts(each["C"], each["D"], total),
    "joules_per_answer": {
      "source": statistics.interval(each["read_s"]),
      "code": statistics.interval(each["read_c"]),
    },
    "flops_per_sample": found.flops,
    "training_joules": statistics.interval(trained),
    "training_flops": executed,
    **_rsrc(n, drawn, k_0, trained, total),
    "state_bits": stored,
    "state": state,
    "break_even_samples": rsrc.break_even_samples(k, stored),
    "net_bits": rsrc.net_bits(n, k, stored),
    "n_star": {
      peer: _n_star(k, trained, total, other, encode, decode)
      for peer, (other, encode, decode) in prices.peers.items()
    },
    "m_star": _m_star(each, found.flops),
    "service_seconds": found.spread,
    "source": prices.source,
  }


def _untrained(measured, prices: _Prices) -> dict[str, Any]:
  """The last arm's program with the weights that training started from."""
  found = list(measured.values())[-1]
  c, d = prices.draws(found.use["C"]), prices.draws(found.use["D"])
  bits, total = found.untrained, _sum(c, d)
  life = rsrc.rsrc_i(statistics.bootstrap(bits, BOOTSTRAP), total)
  return {
    "label": "untrained",
    "kind": "untrained",
    "bits_saved": _signed(bits),
    "k": rsrc.capability(bits),
    "joules_per_sample": _parts(c, d, total),
    "rsrc_i": statistics.interval(life),
    "rsrc_t": dict.fromkeys(("median", "p5", "p95"), 0.0),
    "rsrc_life": statistics.interval(life),
    "log10_eta_i": _median(rsrc.log10_eta(life)),
    "use": {"C": found.use["C"]._asdict(), "D": found.use["D"]._asdict()},
  }


def _compressor(name, peer, encode, decode, settings) -> dict[str, Any]:
  """A general compressor's entry: nothing was trained."""
  n, bits = settings.samples_served, peer.bits_saved
  k, total = rsrc.capability(bits), _sum(encode, decode)
  life = rsrc.rsrc_i(statistics.bootstrap(bits, BOOTSTRAP), total)
  return {
    "label": name,
    "kind": "compressor",
    "verified": peer.verified,
    "bits_saved": _signed(bits),
    "k": k,
    "joules_per_sample": _parts(encode, decode, total),
    "rsrc_i": statistics.interval(life),
    "rsrc_t": dict.fromkeys(("median", "p5", "p95"), np.inf if k else 0.0),
    "rsrc_life": statistics.interval(life),
    "log10_eta_i": _median(rsrc.log10_eta(life)),
    "state_bits": peer.state_bits,
    "break_even_samples": rsrc.break_even_samples(k, peer.state_bits),
    "net_bits": rsrc.net_bits(n, k, peer.state_bits),
    "use": {"C": peer.encode._asdict(), "D": peer.decode._asdict()},
  }


def _rsrc(n, k, k_0, train, service) -> dict[str, Any]:
  """The three metrics from draws [BOOTSTRAP] of bits and of joules."""
  found = {
    "rsrc_i": rsrc.rsrc_i(k, service),
    "rsrc_t": rsrc.rsrc_t(n, k, k_0, train),
    "rsrc_life": rsrc.rsrc_life(n, k, train, service),
  }
  decades = {
    f"log10_eta_{x}": _median(rsrc.log10_eta(found[f"rsrc_{x}"])) for x in "it"
  }
  return {name: statistics.interval(x) for name, x in found.items()} | decades


def _n_star(k, train, service, peer, encode, decode) -> float | None:
  """n* against a compressor; None where it saves less than the arm does."""
  if rsrc.capability(peer.bits_saved) < k or not peer.verified:
    return None
  return _median(rsrc.break_even(train, _sum(encode, decode), service))


def _m_star(joules: dict, flops: dict) -> dict[str, Any]:
  """m* in joules and in FLOPs: a code is written once and read m times."""
  gained = flops["read_s"] - flops["read_c"]
  reuse = rsrc.reuse(joules["C"], joules["read_s"], joules["read_c"])
  return {
    "joules": _median(reuse),
    "flops": flops["C"] / gained if gained > 0 else np.inf,
  }


def _signed(bits: np.ndarray) -> dict[str, float]:
  """The interval of a mean over documents, not clipped at 0."""
  return statistics.interval(statistics.bootstrap(bits, BOOTSTRAP, clip=False))


def _parts(c, d, total) -> dict[str, Any]:
  parts = {"C": c, "D": d, "total": total}
  return {name: statistics.interval(x) for name, x in parts.items()}


def _sum(*energies):
  return None if any(x is None for x in energies) else sum(energies)


def _median(draws) -> float | None:
  found = statistics.interval(draws)
  return None if found is None else found["median"]


def _plain(value: Any) -> Any:
  """For JSON, which knows no infinity: "inf" and "-inf" are words in it."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, float) and not np.isfinite(value):
    return str(float(value))
  return value
