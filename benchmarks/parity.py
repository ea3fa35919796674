"""A real checkpoint here and in transformers: logits, continuations, an export.

  pip install "rsrc-jax[parity]"; python tools/fetch_smollm2.py        (once)
  ./.venv/bin/python benchmarks/parity.py                  (a minute, two cores)
  ./.venv/bin/python benchmarks/parity.py --model=FOLDER

Sentences of unequal length, padded on the left, and greedy continuations of 24
tokens, ours from the cache behind the prompt; then what tools/export.py would
write is loaded by transformers. In float32 on the CPU. Where a continuation
leaves the other's, how close the two ids were is shown. Written to parity.md.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from rsrc_jax.lm import rollout, tokens
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Tokens

HERE = Path(__file__).resolve().parent
SMOLLM2 = "~/.cache/rsrc-jax/smollm2-135m-instruct"
NEW = 24
TEXTS = (
  "The capital of France is",
  "def fibonacci(n):",
  "Water boils at a lower temperature on a mountain, because the pressure of "
  "the air above it",
  "In 1969 two people walked on the Moon. Their names were",
  "Once upon a time, in a village at the edge of a great forest, there lived",
  "17 + 25 =",
)


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--model", default=SMOLLM2, help="a folder")
  folder = Path(flags.parse_args().model).expanduser()
  found = weights.open_folder(folder)
  policy = pretrained.make(**found.settings)
  params = weights.load(found, sharding.make_mesh(data=1))
  ids, mask = encoded(folder)
  theirs = load(folder)
  a, b = ours(policy, params, ids, mask), logits(theirs, ids, mask)
  with tempfile.TemporaryDirectory() as scratch:
    weights.save(scratch, params, found.config)
    again = logits(load(scratch), ids, mask)
  written = continued(policy, params, found.settings["vocab_size"], ids, mask)
  wanted = generated(theirs, ids, mask)
  real = b[mask]
  rows = [
    ("largest logit, in size", f"{np.abs(real).max():.2f}"),
    ("largest difference of a logit", f"{np.abs(a[mask] - real).max():.1e}"),
    ("the same largest logit",
     f"{(a[mask].argmax(-1) == real.argmax(-1)).sum()} of {len(real)}"),
    ("greedy continuations alike",
     f"{(written == wanted).all(-1).sum()} of {len(ids)}"),
    ("of the export, by transformers: largest difference",
     f"{np.abs(again[mask] - real).max():.1e}"),
  ]  # fmt: skip
  for row in np.flatnonzero((written != wanted).any(-1)):
    at = int(np.flatnonzero(written[row] != wanted[row])[0])
    rows.append((f"text {row} parts at token {at}", apart(
      theirs, ids[row], mask[row], wanted[row], written[row], at
    )))  # fmt: skip
  text = "\n".join([
    f"# Parity, {folder.name}",
    "",
    f"Printed by benchmarks/parity.py: jax {jax.__version__}, transformers "
    f"{transformers.__version__}, torch {torch.__version__}; float32.",
    "",
    "| | |",
    "|---|---|",
    *[f"| {name} | {value} |" for name, value in rows],
  ])  # fmt: skip
  print(text)
  (HERE / "parity.md").write_text(text + "\n")


def encoded(folder: Path):
  """The texts as ids [N, T], padded on the left, and their mask."""
  spell = transformers.AutoTokenizer.from_pretrained(folder)
  rows = [spell.encode(text) for text in TEXTS]
  longest = max(map(len, rows))
  ids = np.array([[0] * (longest - len(x)) + x for x in rows], np.int32)
  return ids, np.array([[False] * (longest - len(x)) + [True] * len(x)
                        for x in rows])  # fmt: skip


def load(folder: str | Path):
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  )
  return model.eval()


def ours(policy, params, ids, mask) -> np.ndarray:
  text = Tokens(jnp.asarray(ids)[:, None], jnp.asarray(mask)[:, None])
  hidden, _ = jax.jit(policy.apply)(params, text, tokens.positions(text.mask))
  return np.asarray(policy.unembed(params, hidden)[:, 0])


def logits(model, ids, mask) -> np.ndarray:
  positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
  tensor = lambda x: torch.tensor(x).long()
  with torch.no_grad():
    out = model(
      tensor(ids), attention_mask=tensor(mask), position_ids=tensor(positions)
    )
  return out.logits.numpy()


def continued(policy, params, size, ids, mask) -> np.ndarray:
  role = Role(0, 0, size, NEW, np.ones(size, bool), temperature=0.0)
  keys = jax.random.split(jax.random.key(0), len(ids))
  prompt = Tokens(jnp.asarray(ids), jnp.asarray(mask))
  sample = jax.jit(
    lambda params: rollout.sample(
      policy, params, role, prompt, keys, samples=1
    ).output.ids[:, 0]
  )
  return np.asarray(sample(params))


def generated(model, ids, mask) -> np.ndarray:
  tensor = lambda x: torch.tensor(x).long()
  with torch.no_grad():
    out = model.generate(
      tensor(ids), attention_mask=tensor(mask), do_sample=False,
      max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
  return out.numpy()[:, ids.shape[1] :]


def apart(model, ids, mask, wanted, written, at: int) -> str:
  """How far their logits of the two ids are from each other."""
  ids = np.concatenate([ids, wanted[:at]])[None]
  mask = np.concatenate([mask, np.ones(at, bool)])[None]
  last = logits(model, ids, mask)[0, -1]
  return f"by {last[wanted[at]] - last[written[at]]:.1e} in their logits"


if __name__ == "__main__":
  main()
