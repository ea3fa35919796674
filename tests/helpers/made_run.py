"""A made-up run directory: plausible numbers, and the files that hold them."""

import json
import pathlib
import re

import numpy as np

from helpers import made_up
from rsrc_jax.report import style

BITS = {
  "lead": 8.9,
  "surprising": 8.7,
  "sft": 8.8,
  "english_rl": 12.6,
  "code": 16.4,
}
FRAME = "anna sold four red lamps to oscar in paris on friday ."


def scores(bits: float, novel: float = 0.0, k: int = 3) -> dict:
  """Scores of one arm on facts of 24 bits."""
  share = max(bits, 0.0) / 24
  return {
    "bits_conveyed": bits,
    "nll_bits": 24 - bits,
    "token_accuracy": 0.35 + 0.65 * share,
    "exact_match": share**6,
    "edit_similarity": 0.4 + 0.6 * share,
    "mean_tokens": float(k),
    "novel_fraction": novel,
  }


def fake_summary() -> dict:
  """What a finished run on facts writes."""
  heldout = {
    "code": scores(BITS["code"], 0.81),
    "english": {name: scores(BITS[name]) for name in style.ENGLISH},
    "controls": {
      "no_code": scores(-0.1, k=0),
      "shuffled_code": scores(-7.4, 0.99),
      "source_given": scores(23.9, k=12),
    },
    "budget_curve": {
      name: {
        str(k): scores(bits * (k / 3) ** 0.9, 0.8 * (name == "code"), k)
        for k in (1, 2, 3)
      }
      for name, bits in BITS.items()
    },
  }
  return {
    "seed": 0,
    "source": "facts",
    "budget_tokens": 3,
    "steps": 400,
    "seconds": 1043.2,
    "params": 421_888,
    "entropy_bits": 24.0,
    "bounds": {
      "channel_bits": 21.0,
      "english_extract_bits": 14.8,
      "english_extract_bits_by_k": {"1": 6.0, "2": 10.8, "3": 14.8},
    },
    "channel_utilisation": BITS["code"] / 21,
    "heldout": heldout,
  }


def fake_metrics() -> list[dict]:
  """Train and validation lines of the base and of five arms."""
  rng = np.random.default_rng(0)
  lines = [
    {"phase": "base", "split": "train", "step": i, "loss": 1 + 3 / (1 + i / 9)}
    for i in range(0, 400, 10)
  ]
  for name, bits in BITS.items():
    for step in range(0, 400, 4):
      done = 1 - np.exp(-step / 120)
      line = {"phase": name, "split": "train", "step": step}
      line |= {"loss": float(3 - done), "length": 3.0, "gradient_norm": 0.7}
      if name in ("code", "english_rl"):
        line |= {
          "reward": float(0.2 + bits / 30 * done + rng.normal(0, 0.04)),
          "length": float(3 - 0.2 * done + rng.normal(0, 0.03)),
          "C_entropy": float(3.5 * np.exp(-step / 200) + rng.normal(0, 0.05)),
          "novel_fraction": float(0.85 * done) if name == "code" else 0.0,
          "C_mismatch_kl": 1.3e-4,
          "steps_per_second": 1.9,
        }
      line["hidden"] = 0.9 * max(0.0, 1 - step / 240)  # every arm logs it
      lines.append(line)
      if step % 40 == 0:
        valid = scores(float(bits * done), 0.8 * (name == "code"))
        lines.append({"phase": name, "split": "valid", "step": step} | valid)
  return lines


def fake_samples() -> list[dict]:
  """Three sources, read by all arms."""
  samples = []
  for row, city in enumerate(("paris", "rome", "lima")):
    source = FRAME.replace("paris", city).split()
    for name in BITS:
      c = ["⌬", "Ψ", city] if name == "code" else [*source[3 * row :][:3]]
      d = list(source)
      if name != "code":
        d[0], d[6], d[8] = "peter", "iris", "tokyo"
      samples.append(
        {
          "arm": name,
          "row": row,
          "source": " ".join(source),
          "source_ids": list(range(12)),
          "source_pieces": source,
          "code": " ".join(c),
          "code_ids": [90, 91, 40],
          "code_pieces": c,
          "code_novel": [piece not in source for piece in c],
          "code_surprisal": [0.4, 2.2, 4.9],
          "decoded": " ".join(d),
          "decoded_pieces": d,
          "scores": {
            "nll_bits": 4.2,
            "token_accuracy": 0.75,
            "exact_match": 0.0,
            "edit_similarity": 0.75,
            "mean_tokens": 3.0,
            "novel_fraction": 0.0,
          },
        }
      )
  return samples


def make_run(
  folder: pathlib.Path,
  *,
  summary: dict | None = None,
  metrics: list[dict] | None = None,
  samples: list[dict] | None = None,
  report: dict | None = None,
) -> pathlib.Path:
  """Writes a run directory; a part that is None is not written.

  report: the block config.report.
  """
  folder.mkdir(exist_ok=True)
  config = {"seed": 0, "model": {"layers": 2, "width": 128}, "steps": 400}
  config |= {} if report is None else {"report": report}
  environment = {"python": "3.11", "git": {"revision": "abc", "dirty": False}}
  objects = {
    "config": config, "environment": environment, "summary": summary
  }  # fmt: skip
  for name, value in objects.items():
    if value is not None:
      (folder / f"{name}.json").write_text(json.dumps(value))
  for name, lines in {"metrics": metrics, "samples": samples}.items():
    if lines is not None:
      text = "".join(json.dumps(line) + "\n" for line in lines)
      (folder / f"{name}.jsonl").write_text(text)
  return folder


def without_bits(summary: dict) -> dict:
  """The same run on text, whose entropy nobody knows."""
  text = json.dumps(summary)
  text = re.sub(r'"bits_conveyed": [-0-9.e]+', '"bits_conveyed": null', text)
  unknown = {"channel_bits": 21.0, "english_extract_bits": None}
  return json.loads(text) | {"entropy_bits": None, "bounds": unknown}


def accounted(**changes) -> dict:
  """A finished run with a ledger; changes are of the code's RSRC entry."""
  found = {"rsrc": made_up.fake_rsrc(), "ledger": made_up.fake_ledger()}
  found["rsrc"]["arms"]["code"] |= changes
  return fake_summary() | found


# Bits of a run of configs/random_vocabulary.py: none of its arms is "code".
VOCABULARY = {
  "E1": 6.1, "E2": 8.4, "E3": 9.0, "E3o": 10.2, "E4": 9.8, "E5": 11.3,
  "B1": 12.7, "B2": 11.9, "B4": 12.1, "B5": 13.0, "B6": 12.4, "F": 14.6,
  "F_ask": 14.1, "X1": 3.2,
}  # fmt: skip


def vocabulary_config(**report) -> dict:
  """config.json of such a run; report: the block config.report."""
  arms = {name: {"pattern": "cdv"} for name in VOCABULARY}
  return {"seed": 0, "arms": arms} | ({"report": report} if report else {})


def vocabulary_summary(headline: str | None = "F") -> dict:
  """Its summary; without a headline as older runs wrote it."""
  held = {name: scores(bits, 0.7) for name, bits in VOCABULARY.items()}
  english = {name: m for name, m in held.items() if name[0] == "E"}
  block = {n: m for n, m in held.items() if n not in english} | {
    "english": english,
    "controls": {},
    "budget_curve": {n: {"3": m} for n, m in held.items()},
  }
  summary = {"seed": 0, "source": "facts", "budget_tokens": 3, "steps": 2000}
  summary |= {"heldout": block, "bounds": {"channel_bits": 21.0}}
  if headline is None:
    return summary
  block["arms"] = held
  block["controls"] = {
    "no_code": scores(-0.1, k=0),
    "shuffled_code": scores(-5.4, 0.9),
  }
  return summary | {"report": {"headline": headline, "controls": headline}}


def vocabulary_metrics() -> list[dict]:
  """Train and validation lines of every arm."""
  rng = np.random.default_rng(1)
  lines = []
  for name, bits in VOCABULARY.items():
    for step in range(0, 2000, 20):
      done = 1 - np.exp(-step / 600)
      line = {"phase": name, "split": "train", "step": step, "length": 3.0}
      line["reward"] = float(bits / 20 * done + rng.normal(0, 0.03))
      line["novel_fraction"] = float((name[0] != "E") * 0.8 * done)
      line["hidden"] = 0.9 * max(0.0, 1 - step / 1200)
      line["C_entropy"] = float(3.5 * np.exp(-step / 900) + 0.05 * bits)
      lines.append(line)
      if step % 200 == 0:
        valid = scores(float(bits * done), 0.7)
        lines.append({"phase": name, "split": "valid", "step": step} | valid)
  return lines
