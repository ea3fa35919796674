"""New tokens a second: ours beside transformers.generate, on the same weights.

  pip install "rsrc-jax[parity]"; python tools/fetch_smollm2.py        (once)
  ./.venv/bin/python benchmarks/generation.py            (25 minutes, two cores)
  ./.venv/bin/python benchmarks/generation.py --model=small --rounds=3

Prompts of 64 random tokens, 32 new ones, drawn at temperature 1, the pass over
the prompt counted. "shared": groups of 8 with one prompt each, which ours runs
once; transformers is given the prompt 8 times, as its num_return_sequences
does. The two take turns, round by round, in one process; a ratio is of two
neighbours, and its spread over the rounds is shown. Compiling is not counted.
Written to generation.md.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.lm import rollout
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Tokens

HERE = Path(__file__).resolve().parent
PROMPT, NEW, GROUP = 64, 32, 8
SMOLLM2 = "~/.cache/rsrc-jax/smollm2-135m-instruct"
# 4.3 million random parameters.
SMALL = {
  "model_type": "llama", "architectures": ["LlamaForCausalLM"],
  "vocab_size": 4_096, "hidden_size": 256, "intermediate_size": 704,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
  "tie_word_embeddings": True, "rope_theta": 1e4, "rms_norm_eps": 1e-5,
  "hidden_act": "silu",
}  # fmt: skip
# (sequences, of which so many share a prompt)
CASES = ((1, 1), (8, 1), (32, 1), (64, 1), (8, 8), (32, 8), (64, 8))


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--model", default="smollm2", help="or small, or a folder")
  flags.add_argument("--rounds", type=int, default=5)
  asked = flags.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = folder_of(asked.model, Path(scratch))
    ours, theirs = open_ours(folder), open_theirs(folder)
    rows = [one(ours, theirs, *case, asked.rounds) for case in CASES]
  text = table(asked.model, rows)
  print(text)
  (HERE / "generation.md").write_text(text + "\n")


def folder_of(model: str, scratch: Path) -> Path:
  if model != "small":
    return Path(SMOLLM2 if model == "smollm2" else model).expanduser()
  params = pretrained.make(**pretrained.settings(SMALL)).init(jax.random.key(0))
  weights.save(scratch, params, SMALL)
  return scratch


def open_ours(folder: Path):
  """run(prompts [n, PROMPT], samples of each) -> new tokens, on the host."""
  found = weights.open_folder(folder)
  policy = pretrained.make(**found.settings)
  params = weights.load(found, sharding.make_mesh(data=1))
  size = found.settings["vocab_size"]
  role = Role(0, 0, size, NEW, np.ones(size, bool))  # no id ends it

  @jax.jit
  def sample(params, ids, keys, samples):
    prompt = Tokens(ids, jnp.ones(ids.shape, bool))
    return rollout.sample(
      policy, params, role, prompt, keys, samples=samples.size
    ).output.ids

  def run(ids, samples, seed):
    keys = jax.random.split(jax.random.key(seed), len(ids))
    # The number of samples is a shape.
    return np.asarray(sample(params, ids, keys, np.empty(samples)))

  return size, run


def open_theirs(folder: Path):
  import torch
  from transformers import AutoModelForCausalLM

  model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
  model.eval()

  def run(ids, samples, seed):
    torch.manual_seed(seed)
    ids = torch.tensor(np.repeat(ids, samples, 0)).long()
    with torch.no_grad():
      out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
        top_p=1.0, temperature=1.0, max_new_tokens=NEW, min_new_tokens=NEW,
        pad_token_id=0, eos_token_id=None,
      )  # fmt: skip
    return out.numpy()[:, PROMPT:]

  return run


def one(ours, theirs, sequences: int, group: int, rounds: int) -> dict:
  """Both in turn. -> tokens a second of each, and the ratios of neighbours."""
  size, mine = ours
  rng = np.random.default_rng(sequences + group)
  ids = rng.integers(3, size, (sequences // group, PROMPT)).astype(np.int32)
  seconds = {"ours": [], "theirs": []}
  for number in range(rounds + 1):
    for name, run in (("ours", mine), ("theirs", theirs)):
      start = time.perf_counter()
      out = run(ids, group, number)
      taken = time.perf_counter() - start
      assert out.size == sequences * NEW, (name, out.shape)
      if number:  # the first compiles, and warms up
        seconds[name].append(taken)
  rate = {k: sequences * NEW / statistics.median(v) for k, v in seconds.items()}
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  found = {"sequences": sequences, "group": group, **rate, "ratios": ratios}
  print(line(found), flush=True)
  return found


def line(x: dict) -> str:
  ratio = statistics.median(x["ratios"])
  return (
    f"| {x['sequences']} | {x['group'] if x['group'] > 1 else '-'} "
    f"| {x['ours']:,.1f} | {x['theirs']:,.1f} | **{ratio:.2f}** "
    f"| {min(x['ratios']):.2f} to {max(x['ratios']):.2f} |"
  )


def table(model: str, rows: list[dict]) -> str:
  import torch
  import transformers

  device = jax.devices()[0].device_kind
  return "\n".join([
    f"# Generation, {model}: {PROMPT} + {NEW} tokens",
    "",
    f"Printed by benchmarks/generation.py. {device}; jax {jax.__version__}, "
    f"transformers {transformers.__version__}, torch {torch.__version__}; new "
    "tokens a second, float32, the pass over the prompt counted.",
    "",
    "| sequences | of which share a prompt | ours | transformers | ratio "
    "| its spread |",
    "|---|---|---|---|---|---|",
    *map(line, rows),
  ])  # fmt: skip


if __name__ == "__main__":
  main()
