"""What each arm's capability has cost: the blocks `ledger` and `rsrc`.

Capability is measured on the test split, service is timed on it, training is
read from the ledger, and general compressors stand beside. The definitions are
metrics/rsrc.py's: ours, not the paper's.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rsrc_jax.accounting import compressors, energy, ledger, metering
from rsrc_jax.build import writers
from rsrc_jax.build.setup import Setup
from rsrc_jax.data import sources
from rsrc_jax.evaluation import code_judge
from rsrc_jax.metrics import capability, rsrc
from rsrc_jax.runtime import processes, sharding
from rsrc_jax.stages import stage
from rsrc_jax.types import Params, Tokens, TrainState

DICTIONARY = 32_768  # bytes of training text that zlib is given at most
BOOTSTRAP = 1_000
ROUNDS = 5  # in which the arms' service is timed, one after the other
TRAJECTORY = ("step", "flops", "joules", "verified_bits")


class Measured(NamedTuple):
  """What the test split says of an arm."""

  saved: capability.Saved  # [rows] each, V knowing the alphabet alone
  saved_frozen: np.ndarray  # [rows] bits, V being the frozen base
  untrained: np.ndarray  # [rows] bits, by the same program before any training
  use: dict[str, energy.Use]  # of a sample: C, D, read_s, read_c
  flops: dict[str, float]  # of a sample, likewise
  spread: dict[str, list[float]]  # seconds of the fastest and slowest round


class Part(NamedTuple):
  """A call that serves one batch of samples."""

  f: Callable  # jitted
  loops: Callable[[Any], dict[str, float]]  # output -> passes of its loops
  args: tuple


class Ruler(NamedTuple):
  """What is measured alike for all arms."""

  token_bits: Callable[[Tokens], np.ndarray]  # the frozen base's l_V(s)
  answer: Callable[..., Tokens]  # reads a text and answers with one token


def ruler(setup: Setup, base: Params) -> Ruler:
  """Jits what `measure` needs. base: the parameters of the frozen V."""
  policy, roles = setup.policy, setup.roles
  coder = jax.jit(code_judge.make_coder(policy, roles["text"]))
  answer = jax.jit(code_judge.make_answerer(policy, roles["D"]))
  size = setup.config.eval.batch_size
  place = functools.partial(sharding.rows, setup.mesh)

  def token_bits(split: Tokens) -> np.ndarray:
    rows = len(split.ids)
    found = [
      processes.fetch(
        coder(base, place(sources.batch(split, start, size).source))
      )
      for start in range(0, rows, size)
    ]
    return np.concatenate(found)[:rows].astype(np.float64)

  return Ruler(token_bits, answer)


def measure(
  setup: Setup,
  arm: stage.Stage,
  params: Params,
  frozen: Any,
  table: dict[str, Any],
  before: dict[str, Any],
  ruler: Ruler,
  examine: code_judge.CodeJudge,
  books: ledger.Ledger,
) -> tuple[Measured, dict[str, Part]]:
  """Capability of one trained arm, and the parts of its service, untimed.

  Args:
    world: of the run.
    arm: whose codes.
    params: its parameters.
    frozen: the base's, for the rules that write codes.
    table: of evaluate.judge_split on the test split, as trained.
    before: the same with untrained parameters.
    ruler: from `ruler`.
    examine: reads codes.
    books: where the time is charged.
  """
  s, c, d = table["source"], table["code"], table["decoded"]
  with books.phase("test"):
    frozen_bits = ruler.token_bits(s)
    with_frozen = arm.saved(s, c, d, token_bits=frozen_bits)
  rows = setup.config.eval.batch_size
  batch, code = sources.batch(s, 0, rows), sources.batch(c, 0, rows).source
  batch, code = examine.place(batch), examine.place(code)
  key = jax.random.key(setup.config.seed)
  none = lambda out: {"D": 0}  # one token needs no loop
  write, read = arm.write, examine.read
  parts = {
    "C": Part(write.uncharged, write.loops, (params, frozen, batch, key)),
    "D": Part(read.uncharged, read.loops, (params, code)),
    "read_s": Part(ruler.answer, none, (params, batch.source)),
    "read_c": Part(ruler.answer, none, (params, code)),
  }
  bits = before["scores"]["verified_bits"]
  saved = arm.saved(s, c, d)
  return Measured(saved, with_frozen.bits, bits, {}, {}, {}), parts


def serve(
  setup: Setup,
  measured: dict[str, Measured],
  parts: dict[str, dict[str, Part]],
  books: ledger.Ledger,
) -> dict[str, Measured]:
  """Times the service of all arms, in turn, round after round.

  A machine drifts: what stands side by side is timed side by side. A part's use
  is that of its median round.
  """
  samples, settings = setup.config.eval.batch_size, setup.config.ledger
  every = [(arm, name) for arm in parts for name in parts[arm]]
  counts, rounds = {}, {key: [] for key in every}
  for arm, name in every:
    books.arm, part = arm, parts[arm][name]
    with books.phase("service"):
      title = f"service {name}"
      counts[arm, name] = metering.compiled(books, title, part.f, *part.args)
  for arm, name in every * ROUNDS:
    books.arm, part = arm, parts[arm][name]
    with books.phase("service") as spend:
      use, calls, out = _window(part, settings.service_seconds / ROUNDS, books)
      work = metering.work([(counts[arm, name], part.loops(out), calls)])
      spend(samples=calls * samples, **work)
    flops = sum(work["flops"].values()) / (calls * samples)
    rounds[arm, name].append((energy.times(use, 1 / (calls * samples)), flops))

  def timed(arm: str) -> Measured:
    found = {
      name: sorted(rounds[arm, name], key=lambda x: x[0].seconds)
      for name in parts[arm]
    }
    return measured[arm]._replace(
      use={name: x[len(x) // 2][0] for name, x in found.items()},
      flops={name: x[0][1] for name, x in found.items()},
      spread={
        name: [x[0][0].seconds, x[-1][0].seconds] for name, x in found.items()
      },
    )

  return {arm: timed(arm) for arm in parts}


def _window(part: Part, seconds: float, books: ledger.Ledger):
  """Calls a part again and again; -> its use, how many calls, an output."""
  out = jax.block_until_ready(part.f(*part.args))
  begun, calls, use = books.meter.read(), 0, ledger.NOTHING
  while processes.any_of(use.seconds < seconds):
    jax.block_until_ready(part.f(*part.args))
    use, calls = energy.minus(books.meter.read(), begun), calls + 1
  return use, calls, out


def state_bits(state: TrainState) -> dict[str, int]:
  """Bits that serving an arm takes beside its codes, as they are stored.

  Every weight counts, since the headline V knows nothing that training found;
  the carry is memory, replay and codebooks.
  """
  bits = lambda tree: sum(8 * x.nbytes for x in jax.tree.leaves(tree))
  return {"weights": bits(state.params), "carry": bits(state.carry)}


def account(
  setup: Setup,
  measured: dict[str, Measured],
  kept: dict[str, dict[str, int]],
  peers: dict[str, compressors.Baseline],
  books: ledger.Ledger,
) -> dict[str, Any]:
  """The blocks `ledger` and `rsrc` of summary.json, and `seconds`.

  Args:
    world: of the run.
    measured: of `serve`, by arm.
    kept: `state_bits` by arm, the base's among them.
    peers: of the function of that name.
    books: closed.
  """
  settings, lines = setup.config.ledger, books.read()
  totals = ledger.totals(lines, pue=settings.pue)
  draws = lambda use: ledger.joules(use, books.opening, settings.pue)
  # A compressor is charged the host, whose parts alone it uses.
  host = [x for x in books.opening["terms"] if x["name"] == "host"]
  host = books.opening | {"terms": host}
  on_host = lambda use: ledger.joules(use, host, settings.pue)
  priced = {
    name: (peer, on_host(peer.encode), on_host(peer.decode))
    for name, peer in peers.items()
  }
  source = energy.weakest(books.meter.terms)
  arms = {
    name: _arm(
      setup, name, found, _kept(setup, name, kept), lines, draws, priced, source
    )
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


def _kept(setup, name, kept) -> dict[str, int]:
  """What serves an arm: a rule that reads the base's model keeps that too."""
  if setup.config.arms[name].write in ("surprising", "sft"):
    return kept[name] | {"base": kept["base"]["weights"]}
  return kept[name]


def _arm(
  setup, name, found, state, lines, draws, peers, source
) -> dict[str, Any]:
  """An arm's entry: intervals over documents and over the energy model."""
  settings = setup.config.ledger
  n, bits = settings.samples_served, found.saved.bits
  k, k_0 = rsrc.capability(bits), rsrc.capability(found.untrained)
  drawn = rsrc.bootstrap(bits, BOOTSTRAP)
  arms = ("", "base", name)
  train, executed = ledger.spending([x for x in lines if x["arm"] in arms])
  use = {"train": train, **found.use}
  joules = {part: draws(x) for part, x in found.use.items()}
  joules["train"] = ledger.training_joules(lines, arms, settings.pue)
  total = _sum(joules["C"], joules["D"])
  stored = sum(state.values())
  return {
    "label": name,
    "kind": "english"
    if writers.of(setup.config.arms[name].write).english
    else "code",
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
    "service_seconds": found.spread,
    "source": source,
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


def peers(setup: Setup, meter: energy.Meter) -> dict[str, compressors.Baseline]:
  """General compressors on the same test sources, given as packed ids."""
  config, corpus, settings = setup.config, setup.corpus, setup.config.ledger
  first = lambda split, n: jax.tree.map(lambda x: x[:n], split)
  test = first(corpus.test, config.eval.test_rows)
  dtype = np.uint8 if corpus.vocab.size <= 256 else np.dtype("<u2")
  pack = lambda split: [
    ids[real].astype(dtype).tobytes()
    for ids, real in zip(split.ids, split.mask, strict=True)
  ]
  some = first(corpus.train, DICTIONARY)
  words = int(corpus.vocab.text.sum())
  raw = capability.uniform_bits(test, words)
  spent = np.arange(raw.shape[1]) <= np.sum(test.mask, -1)[:, None]
  found = compressors.measure(
    pack(test),
    np.sum(raw * spent, -1),
    dictionary=b"".join(pack(some))[:DICTIONARY],
    seconds=min(0.3, settings.service_seconds),
    read=meter.read,
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
