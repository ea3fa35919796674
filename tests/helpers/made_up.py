"""Made-up blocks `rsrc` and `ledger` of a summary."""

import math

ENDS = ("median", "p5", "p95")


def three(value: float, factor: float = 1.9) -> dict:
  """An interval as modelled energies have it."""
  ends = sorted((value / factor, value * factor))
  return dict(zip(ENDS, (value, *ends), strict=True))


def fake_rsrc(scale: float = 1.0) -> dict:
  """What a finished run writes: a code, English arms, baselines.

  scale: of the bits that the learned arms save.
  """
  bits = {"lead": 15.2, "surprising": 17.1, "sft": 16.8, "english_rl": 24.3}
  arms = {name: trained(scale * k, "english") for name, k in bits.items()} | {
    "code": trained(scale * 40.1, "code", joules=1.1e-3)
  }
  arms["untrained"] = {
    "label": "untrained", "kind": "untrained", "k": 0.0,
    "bits_saved": three(-31.0, 1.1), "joules_per_sample": per_sample(1.1e-3),
    "rsrc_i": dict.fromkeys(ENDS, 0.0), "rsrc_t": dict.fromkeys(ENDS, 0.0),
    "rsrc_life": dict.fromkeys(ENDS, 0.0),
  }  # fmt: skip
  for name, k, joules in (
    ("identity", 0.0, 2e-8), ("zlib", 45.2, 1e-6), ("bz2", 47.9, 2.4e-6),
    ("lzma", 46.0, 8e-6), ("zlib_each", 0.0, 3e-6),
    ("zlib_dictionary", 21.4, 6e-6),
  ):  # fmt: skip
    arms[name] = untrained(name, k, joules)
  return {
    "definitions": "ours, 1", "verifier": "uniform", "raw_bits": 84.0,
    "samples_served": 2048, "test_rows": 2048, "arms": arms,
  }  # fmt: skip


def trained(k: float, kind: str, joules: float = 0.9e-3) -> dict:
  """The entry of a trained arm that took 1,500 J."""
  rsrc_t = 2048 * k / 1500
  return {
    "label": kind, "kind": kind, "bits_saved": three(k, 1.02),
    "bits_saved_frozen": three(-12.0 + 0.2 * k, 0.9), "wire_bits": 20.8,
    "residual_bits": 63.2 - k, "k": k, "k_untrained": 0.0,
    "joules_per_sample": per_sample(joules),
    "flops_per_sample": {"C": 2.1e6, "D": 5.2e6},
    "training_joules": three(1500.0), "training_flops": 3.1e13,
    "rsrc_i": three(k / joules), "rsrc_t": three(rsrc_t),
    "rsrc_life": three(1 / (1 / rsrc_t + joules / k)) if k else three(0.0),
    "log10_eta_i": math.log10(k / joules * 2.87e-21) if k else "-inf",
    "log10_eta_t": math.log10(rsrc_t * 2.87e-21) if k else "-inf",
    "state_bits": 3287040, "state": {"weights": 3287040, "carry": 0},
    "break_even_samples": 3287040 / k if k else "inf",
    "net_bits": 2048 * k - 3287040, "n_star": {"zlib": "inf", "lzma": "inf"},
    "m_star": {"joules": "inf", "flops": 9.4}, "source": "modelled",
  }  # fmt: skip


def untrained(name: str, k: float, joules: float) -> dict:
  """The entry of a compressor."""
  rsrc_t = dict.fromkeys(ENDS, "inf" if k else 0.0)
  return {
    "label": name, "kind": "compressor", "bits_saved": three(k, 1.01), "k": k,
    "joules_per_sample": per_sample(joules), "rsrc_i": three(k / joules),
    "rsrc_t": rsrc_t, "rsrc_life": three(k / joules), "state_bits": 0,
    "log10_eta_i": math.log10(k / joules * 2.87e-21) if k else "-inf",
    "break_even_samples": 0.0 if k else "inf", "net_bits": 2048 * k,
    "verified": True,
  }  # fmt: skip


def per_sample(joules: float) -> dict:
  """C takes a quarter, D the rest."""
  return {"C": three(joules / 4), "D": three(joules * 0.75),
          "total": three(joules)}  # fmt: skip


def fake_ledger() -> dict:
  """Three arms and a base, in two sessions."""
  fused = {"prefill": 0.05, "C": 0.2, "D": 0.25, "V": 0.1, "update": 0.4}

  def arm(seconds: float) -> dict:
    shares = {"compile": 0.09, "evaluation": 0.06, "checkpoint": 0.01,
              "test": 0.05, "service": 0.03, "idle": 0.01}  # fmt: skip
    whole = seconds * 0.75
    phases = {
      name: phase(whole * share, 4e12 * share * seconds / 60, measured=False)
      for name, share in fused.items()
    }
    return phases | {n: phase(seconds * x) for n, x in shares.items()}

  arms = ("base", "lead", "surprising", "sft", "english_rl", "code")
  phases = {"": {"data": phase(2.1), "idle": phase(0.4)}} | {
    name: arm(25.0 + 18 * i) for i, name in enumerate(arms)
  }
  return {
    "machine": {"name": "AMD EPYC", "vcpus": 2, "gib": 7.8, "accelerators": []},
    "terms": [{"name": "cpu", "source": "modelled", "boundary": "IT",
               "interval_seconds": None},
              {"name": "ram", "source": "modelled", "boundary": "IT",
               "interval_seconds": None}],
    "pue": 1.0, "phases": phases,
    "wall_seconds": sum(e["seconds"] for by in phases.values()
                        for e in by.values()),
    "sessions": 2, "rolled_back": {"seconds": 3.2, "flops": 2.5e11},
    "lost": [{"session": 0, "at_most_seconds": 12.5}], "failed": 1,
    "programs": {
      "base": {"walker": 4.1e9, "xla_raw": 9.0e8, "xla_corrected": 4.4e9,
               "closed_form": 4.0e9, "peak_bytes": 84_000_000},
      "code": {"walker": 2.1e10, "xla_raw": 3.0e9, "xla_corrected": None,
               "closed_form": 2.0e10, "peak_bytes": 310_000_000},
    },
  }  # fmt: skip


def phase(seconds: float, flops: float = 0.0, measured: bool = True) -> dict:
  """Charged at 6 W."""
  return {
    "seconds": seconds, "cpu_seconds": 1.6 * seconds, "flops": flops,
    "recompute": 0.0, "joules": three(6 * seconds), "measured": measured,
    "calls": 10,
  }  # fmt: skip


def three_seeds() -> list[dict]:
  """Of which the last has an SFT that saves nothing."""
  runs = [
    {"seed": i, "rsrc": fake_rsrc(x)} for i, x in enumerate((1, 1.3, 0.8))
  ]
  runs[2]["rsrc"]["arms"]["sft"] = trained(0.0, "english")
  return runs
