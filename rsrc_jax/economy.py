"""What each arm's capability has cost: the blocks `ledger` and `rsrc`.

Capability is measured on the test split, service is timed on it, training is
read from the ledger, and general compressors stand beside. The definitions are
metrics/rsrc.py's: ours, not the paper's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax import build, evaluate, metering
from rsrc_jax.data import sources
from rsrc_jax.metrics import capability, compressors, energy, ledger, rsrc
from rsrc_jax.patterns import extract
from rsrc_jax.types import Params, Tokens, TrainState

DICTIONARY = 32_768  # bytes of training text that zlib is given at most
BOOTSTRAP = 1_000
TRAJECTORY = ("step", "flops", "joules", "verified_bits")


class Measured(NamedTuple):
  """What the test split says of an arm."""

  saved: capability.Saved  # [rows] each, V knowing the alphabet alone
  saved_frozen: np.ndarray  # [rows] bits, V being the frozen base
  untrained: np.ndarray  # [rows] bits, by the same program before any training
  use: dict[str, energy.Use]  # of a sample: C, D, read_s, read_c
  flops: dict[str, float]  # of a sample, likewise


class Ruler(NamedTuple):
  """What is measured alike for all arms."""

  token_bits: Callable[[Tokens], np.ndarray]  # the frozen base's l_V(s)
  answer: Callable[..., Tokens]  # reads a text and answers with one token


def ruler(world: build.World, base: Params, books: ledger.Ledger) -> Ruler:
  """Jits what `measure` needs. base: the parameters of the frozen V."""
  policy, roles = world.policy, world.roles
  coder = jax.jit(evaluate.make_coder(policy, roles["text"]))
  answer = jax.jit(evaluate.make_answerer(policy, roles["D"]))
  size = world.config.eval.batch_size

  def token_bits(split: Tokens) -> np.ndarray:
    rows = len(split.ids)
    found = [
      jax.device_get(coder(base, sources.batch(split, start, size).source))
      for start in range(0, rows, size)
    ]
    return np.concatenate(found)[:rows].astype(np.float64)

  return Ruler(token_bits, answer)


def measure(
  world: build.World,
  arm: build.Phase,
  params: Params,
  frozen: Any,
  table: dict[str, Any],
  before: dict[str, Any],
  ruler: Ruler,
  examine: evaluate.Examiner,
  books: ledger.Ledger,
) -> Measured:
  """Capability and service of one trained arm.

  Args:
    world: of the run.
    arm: whose codes.
    params: its parameters.
    frozen: the base's, for the rules that write codes.
    table: of evaluate.judge_split on the test split, as trained.
    before: the same with untrained parameters.
    ruler: from `ruler`.
    examine: reads codes.
    books: where the time of the service is charged.
  """
  s, c, d = table["source"], table["code"], table["decoded"]
  with books.phase("test"):
    frozen_bits = ruler.token_bits(s)
    with_frozen = arm.saved(s, c, d, token_bits=frozen_bits)
  rows = world.config.eval.batch_size
  batch, code = sources.batch(s, 0, rows), sources.batch(c, 0, rows).source
  key = jax.random.key(world.config.seed)
  none = lambda out: {"D": 0}  # one token needs no loop
  calls = {
    "C": (arm.write.uncharged, arm.write.loops, params, frozen, batch, key),
    "D": (examine.read.uncharged, examine.read.loops, params, code),
    "read_s": (ruler.answer, none, params, batch.source),
    "read_c": (ruler.answer, none, params, code),
  }
  seconds = world.config.ledger.service_seconds
  served = {n: _serve(books, n, rows, seconds, *x) for n, x in calls.items()}
  return Measured(
    arm.saved(s, c, d),
    with_frozen.bits,
    before["scores"]["verified_bits"],
    {name: use for name, (use, _) in served.items()},
    {name: work for name, (_, work) in served.items()},
  )


def _serve(
  books, name, samples, seconds, f, loops, *args
) -> tuple[energy.Use, float]:
  """Calls f again and again for `seconds`; -> use and FLOPs of a sample."""
  with books.phase("service") as spend:
    count = metering.compiled(books, f"service {name}", f, *args)
    executed = metering.work([(count, loops(f(*args)))])
    begun, calls = books.meter.read(), 0
    use = ledger.NOTHING
    while use.seconds < seconds:
      jax.block_until_ready(f(*args))
      use, calls = energy.minus(books.meter.read(), begun), calls + 1
    total = metering.work([(count, loops(f(*args)))], calls)
    spend(samples=calls * samples, **total)
  flops = sum(executed["flops"].values())
  return energy.times(use, 1 / (calls * samples)), flops / samples


def state_bits(state: TrainState) -> dict[str, int]:
  """Bits that serving an arm takes beside its codes, as they are stored.

  Every weight counts, since the headline V knows nothing that training found;
  the carry is memory, replay and codebooks.
  """
  bits = lambda tree: sum(8 * x.nbytes for x in jax.tree.leaves(tree))
  return {"weights": bits(state.params), "carry": bits(state.carry)}


def account(
  world: build.World,
  measured: dict[str, Measured],
  kept: dict[str, dict[str, int]],
  books: ledger.Ledger,
) -> dict[str, Any]:
  """The blocks `ledger` and `rsrc` of summary.json, and `seconds`.

  kept: `state_bits` by arm.
  """
  settings, lines = world.config.ledger, books.read()
  totals = ledger.totals(lines, pue=settings.pue)
  peers = _compressors(world, settings, books.meter.read)
  draws = lambda use: ledger.joules(use, books.opening, settings.pue)
  # A compressor is charged the host, whose parts alone it uses.
  host = [x for x in books.opening["terms"] if x["name"] == "host"]
  host = books.opening | {"terms": host}
  on_host = lambda use: ledger.joules(use, host, settings.pue)
  priced = {
    name: (peer, on_host(peer.encode), on_host(peer.decode))
    for name, peer in peers.items()
  }
  arms = {
    name: _arm(world, name, found, kept[name], books, draws, priced)
    for name, found in measured.items()
  }
  arms["untrained"] = _untrained(measured, draws)
  arms |= {
    name: _compressor(name, *peer, settings) for name, peer in priced.items()
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
  seconds = round(totals["wall_seconds"], 1)
  return {"seconds": seconds, "ledger": totals, "rsrc": _plain(block)}


def scalars(summary: dict[str, Any]) -> dict[str, float]:
  """The blocks of `account` as numbers with names, infinities left out."""
  found = {}
  for arm, phases in summary["ledger"]["phases"].items():
    for phase, entry in phases.items():
      joules = (entry["joules"] or {}).get("median")
      numbers = {k: entry[k] for k in ("seconds", "flops")} | {"joules": joules}
      found |= {f"ledger/{arm}/{phase}/{k}": v for k, v in numbers.items()}
  for arm, entry in summary["rsrc"]["arms"].items():
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


def _arm(world, name, found, state, books, draws, peers) -> dict[str, Any]:
  """An arm's entry: intervals over documents and over the energy model."""
  settings = world.config.ledger
  n, bits = settings.samples_served, found.saved.bits
  k, k_0 = rsrc.capability(bits), rsrc.capability(found.untrained)
  drawn = rsrc.bootstrap(bits, BOOTSTRAP)
  train, executed = books.spent("base", name)
  use = {"train": train, **found.use}
  joules = {part: draws(x) for part, x in use.items()}
  total = _sum(joules["C"], joules["D"])
  stored = sum(state.values())
  arm = world.config.arms[name]
  english = arm.write in (*extract.RULES, "source")
  return {
    "label": name,
    "kind": "english" if english else "code",
    "bits_saved": rsrc.interval(rsrc.bootstrap(bits, BOOTSTRAP, clip=False)),
    "bits_saved_frozen": rsrc.interval(
      rsrc.bootstrap(found.saved_frozen, BOOTSTRAP, clip=False)
    ),
    "wire_bits": float(np.mean(found.saved.wire)),
    "residual_bits": float(np.mean(found.saved.residual)),
    "k": k,
    "k_untrained": k_0,
    "bits_saved_untrained": float(np.mean(found.untrained)),
    "use": {part: x._asdict() for part, x in use.items()},
    "joules_per_sample": _parts(joules["C"], joules["D"], total),
    "joules_per_answer": {
      "source": rsrc.interval(joules["read_s"]),
      "code": rsrc.interval(joules["read_c"]),
    },
    "flops_per_sample": found.flops,
    "training_joules": rsrc.interval(train_joules := joules["train"]),
    "training_flops": executed,
    **_rsrc(n, drawn, k_0, train_joules, total),
    "state_bits": stored,
    "state": state,
    "break_even_samples": rsrc.break_even_samples(k, stored),
    "net_bits": rsrc.net_bits(n, k, stored),
    "n_star": {
      peer: _n_star(k, train_joules, total, other, encode, decode)
      for peer, (other, encode, decode) in peers.items()
    },
    "m_star": _m_star(joules, found.flops),
    "source": energy.weakest(books.meter.terms),
  }


def _untrained(measured, draws) -> dict[str, Any]:
  """The last arm's program with the weights that training started from."""
  found = list(measured.values())[-1]
  c, d = draws(found.use["C"]), draws(found.use["D"])
  bits, total = found.untrained, _sum(c, d)
  life = rsrc.rsrc_i(rsrc.bootstrap(bits, BOOTSTRAP), total)
  return {
    "label": "untrained",
    "kind": "untrained",
    "bits_saved": rsrc.interval(rsrc.bootstrap(bits, BOOTSTRAP, clip=False)),
    "k": rsrc.capability(bits),
    "joules_per_sample": _parts(c, d, total),
    "rsrc_i": rsrc.interval(life),
    "rsrc_t": dict.fromkeys(("median", "p5", "p95"), 0.0),
    "rsrc_life": rsrc.interval(life),
    "log10_eta_i": _median(rsrc.log10_eta(life)),
    "use": {"C": found.use["C"]._asdict(), "D": found.use["D"]._asdict()},
  }


def _compressor(name, peer, encode, decode, settings) -> dict[str, Any]:
  """A general compressor's entry: nothing was trained."""
  n, bits = settings.samples_served, peer.bits_saved
  k, total = rsrc.capability(bits), _sum(encode, decode)
  life = rsrc.rsrc_i(rsrc.bootstrap(bits, BOOTSTRAP), total)
  return {
    "label": name,
    "kind": "compressor",
    "verified": peer.verified,
    "bits_saved": rsrc.interval(rsrc.bootstrap(bits, BOOTSTRAP, clip=False)),
    "k": k,
    "joules_per_sample": _parts(encode, decode, total),
    "rsrc_i": rsrc.interval(life),
    "rsrc_t": dict.fromkeys(("median", "p5", "p95"), np.inf if k else 0.0),
    "rsrc_life": rsrc.interval(life),
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
  return {name: rsrc.interval(x) for name, x in found.items()} | decades


def _n_star(k, train, service, peer, encode, decode) -> float | None:
  """n* against a compressor; None where it saves less than the arm does."""
  if rsrc.capability(peer.bits_saved) < k or not peer.verified:
    return None
  return _median(rsrc.break_even(train, _sum(encode, decode), service))


def _m_star(joules, flops) -> dict[str, Any]:
  """m* in joules and in FLOPs: a code is written once and read m times."""
  gained = flops["read_s"] - flops["read_c"]
  return {
    "joules": _median(
      rsrc.reuse(joules["C"], joules["read_s"], joules["read_c"])
    ),
    "flops": flops["C"] / gained if gained > 0 else np.inf,
  }


def _compressors(world, settings, read) -> dict[str, compressors.Baseline]:
  """General compressors on the same test sources, given as packed ids."""
  config, corpus = world.config, world.corpus
  test = Tokens(*(x[: config.eval.test_rows] for x in corpus.test))
  dtype = np.uint8 if corpus.vocab.size <= 256 else np.dtype("<u2")
  pack = lambda split: [
    ids[real].astype(dtype).tobytes()
    for ids, real in zip(split.ids, split.mask, strict=True)
  ]
  some = Tokens(*(x[:DICTIONARY] for x in corpus.train))
  words = int(corpus.vocab.text.sum())
  raw = capability.uniform_bits(test, words)
  spent = np.arange(raw.shape[1]) <= np.sum(test.mask, -1)[:, None]
  found = compressors.measure(
    pack(test),
    np.sum(raw * spent, -1),
    dictionary=b"".join(pack(some))[:DICTIONARY],
    seconds=min(0.3, settings.service_seconds),
    read=read,
  )
  return {name: peer for name, peer in found.items() if peer.decode is not None}


def _parts(c, d, total) -> dict[str, Any]:
  parts = {"C": c, "D": d, "total": total}
  return {name: rsrc.interval(x) for name, x in parts.items()}


def _sum(*energies):
  return None if any(x is None for x in energies) else sum(energies)


def _median(draws) -> float | None:
  found = rsrc.interval(draws)
  return None if found is None else found["median"]


def _plain(value: Any) -> Any:
  """For JSON, which knows no infinity: "inf" and "-inf" are words in it."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, float) and not np.isfinite(value):
    return str(float(value))
  return value
