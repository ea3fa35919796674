"""Compiles a whole training step for a TPU, without a TPU.

  pip install "rsrc-jax[tpu]"
  python tools/aot_compile.py --shape=smollm2-135m --topology=v5e:4x4
  python tools/aot_compile.py --shape=DIR/config.json --topology=v5p:2x2x1 \\
      --mesh=1,4,1 --lora

Prints the memory of one chip against what it has, what the chips say to each
other, and a floor of the step: FLOPs at the chip's peak, and its bytes at the
rate of its memory and links. Parameters are shapes alone, nothing is loaded.
The step is that of configs/smollm2.py (C -> D -> V by GRPO, all roles), with
--batch sources of --group codes each; sampling loops are taken at full length.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rsrc_jax.accounting import flops, hlo
from rsrc_jax.accounting.ledger import SCOPES
from rsrc_jax.build.setup import Setup, make_roles
from rsrc_jax.data import own_draw, sources, tokenizer
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weight_files
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan
from rsrc_jax.types import Batch, Tokens

ROOT = Path(__file__).resolve().parent.parent


class Chip(NamedTuple):
  """As its maker states it (cloud.google.com/tpu/docs)."""

  flops: float  # bf16, a second
  memory: float  # bytes
  bandwidth: float  # of the memory, bytes a second
  links: float  # of all links of a chip, bytes a second, one way


CHIPS = {
  "v5e": Chip(197e12, 16e9, 819e9, 200e9),
  "v5p": Chip(459e12, 95e9, 2765e9, 600e9),
  "v6e": Chip(918e12, 32e9, 1640e9, 448e9),
}
LLAMA = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
SHAPES = {
  "smollm2-135m": LLAMA | {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1_536,
    "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "rope_theta": 1e5, "tie_word_embeddings": True,
  },
  "qwen3-1.7b": {
    "model_type": "qwen3", "vocab_size": 151_936, "hidden_size": 2_048,
    "intermediate_size": 6_144, "num_hidden_layers": 28, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "rope_theta": 1e6,
    "tie_word_embeddings": True, "hidden_act": "silu", "rms_norm_eps": 1e-6,
  },
  "llama3-8b": LLAMA | {
    "vocab_size": 128_256, "hidden_size": 4_096, "intermediate_size": 14_336,
    "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "rope_theta": 5e5, "tie_word_embeddings": False,
  },
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--shape", default="smollm2-135m",
                     help=f"{', '.join(SHAPES)}, or a config.json")  # fmt: skip
  flags.add_argument("--topology", default="v5e:4x4")
  flags.add_argument("--mesh", help="data,fsdp,tensor; default: all fsdp")
  flags.add_argument("--batch", type=int, help="sources; default: 2 a chip")
  flags.add_argument("--group", type=int, default=16)
  flags.add_argument("--lora", action="store_true")
  asked = flags.parse_args(arguments)
  name = asked.topology.split(":")[0]
  if name not in CHIPS:
    raise SystemExit(f"--topology={asked.topology}: give {', '.join(CHIPS)}.")
  mesh = mesh_of(asked.topology, asked.mesh)
  try:
    shape = SHAPES.get(asked.shape) or weight_files.read_json(Path(asked.shape))
    pretrained.settings(shape)
  except ValueError as error:
    raise SystemExit(f"--shape={asked.shape}: {error}") from None
  setup = world_of(shape, mesh, asked)
  traced = trace(setup)
  print(f"Compiling for {mesh.size} x {name} ...", file=sys.stderr, flush=True)
  compiled = traced.lower().compile()
  count = flops.evaluate(
    flops.count(traced.jaxpr, SCOPES),
    {"C": setup.roles["C"].length - 1},  # D is not decoded: V reads gains
  )
  title = f"{asked.shape}, {asked.topology}, mesh {dict(mesh.shape)}"
  print(report(title, setup, compiled, count["hardware"], CHIPS[name]))


def mesh_of(topology: str, sizes: str | None) -> Mesh:
  """A mesh over the chips of a topology that is not there."""
  try:
    devices = topologies.get_topology_desc(topology, "tpu").devices
  except Exception as error:  # libtpu's own kinds of error
    raise SystemExit(
      f'--topology={topology}: {error} (pip install "rsrc-jax[tpu]"?)'
    ) from None
  shape = [int(n) for n in sizes.split(",")] if sizes else [1, len(devices), 1]
  if np.prod(shape) != len(devices) or len(shape) != 3:
    raise SystemExit(f"--mesh={sizes} is not {len(devices)} chips on 3 axes.")
  return Mesh(
    np.array(devices).reshape(shape), sharding.AXES,
    axis_types=(AxisType.Auto,) * 3,
  )  # fmt: skip


def world_of(shape: dict, mesh: Mesh, asked) -> Setup:
  """configs/smollm2.py with stand-ins for what is read from files."""
  config = load(ROOT / "configs" / "smollm2.py")
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  config.batch_size = asked.batch or 2 * mesh.size
  sharding.check_batch(mesh, "--batch", config.batch_size)
  config.patterns.cdv.group = asked.group
  config.lora.rank = config.lora.rank if asked.lora else 0
  config.only = "code"
  settings = pretrained.settings(shape)
  vocab = stand_in(settings["vocab_size"])
  length = config.data.max_tokens
  rows = Tokens(
    np.ones((ways, length), np.int32), np.ones((ways, length), bool)
  )
  corpus = sources.Corpus(
    "none", vocab, rows, rows, rows, None, None, "", None, ""
  )
  policy = pretrained.make(**settings, dtype="bfloat16", scan=True, remat=True)
  roles = make_roles(config, corpus)
  draw = own_draw.Draw(rows, rows)
  return Setup(config, corpus, policy, roles, mesh, reader=draw)


def stand_in(size: int) -> tokenizer.Vocabulary:
  every = np.ones(size, bool)
  say = lambda *_: []
  return tokenizer.Vocabulary(size, every, every, say, say, say)


def trace(setup: Setup):
  """The step of the arm "code", traced for shapes on the mesh."""
  arm, mesh = plan.make_stages(setup)[-1], setup.mesh
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  on = lambda tree, where: jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
  )
  placed = lambda tree: on(tree, sharding.shardings(mesh, tree))
  state, base = placed(jax.eval_shape(arm.init, params)), placed(params)
  frozen = {"base": base, "reader": base}
  rows = (arm.batch_size,)
  length = setup.corpus.train.ids.shape[1]
  batch = Batch(
    Tokens(
      jax.ShapeDtypeStruct((*rows, length), jnp.int32),
      jax.ShapeDtypeStruct((*rows, length), jnp.bool_),
    ),
    jax.ShapeDtypeStruct(rows, jnp.int32),
  )
  controls = jax.eval_shape(arm.controls, state, frozen, batch)
  split = lambda x: NamedSharding(
    mesh, sharding.BATCH if x.ndim and x.shape[0] == rows[0] else P()
  )
  with_rows = lambda tree: on(tree, jax.tree.map(split, tree))
  return arm.step.trace(state, frozen, with_rows(batch), with_rows(controls))


def report(title, setup, compiled, work: float, chip: Chip) -> str:
  memory = compiled.memory_analysis()
  parts = {
    "arguments": memory.argument_size_in_bytes,
    "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "temporary": memory.temp_size_in_bytes,
    "program": memory.generated_code_size_in_bytes,
  }
  total = sum(parts.values())
  fits = "fits" if total <= chip.memory else "DOES NOT FIT"
  talk = hlo.collectives(compiled.as_text())
  said = sum(size for _, size in talk.values())
  cost = compiled.cost_analysis() or {}
  cost = cost[0] if isinstance(cost, list) else cost
  moved = float(cost.get("bytes accessed", 0.0))
  chips = setup.mesh.size
  floors = {
    "products": work / chips / chip.flops,
    "memory (each loop's body once: too little)": moved / chip.bandwidth,
    "links": said / chip.links,
  }
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  count = sum(x.size for x in jax.tree.leaves(params))
  config = setup.config
  lines = [
    f"{title}: {count / 1e6:,.0f}M parameters, "
    f"{config.batch_size} x {config.patterns.cdv.group} codes of "
    f"{config.budget} tokens, LoRA {config.lora.rank or 'off'}",
    "",
    f"Memory of a chip: {total / 1e9:.2f} of {chip.memory / 1e9:.0f} GB: "
    f"{fits}.",
    *(f"  {name:<10} {size / 1e9:8.2f} GB" for name, size in parts.items()),
    "",
    f"Between chips: {said / 1e9:.2f} GB of results a chip and step.",
    *(f"  {name:<20} {int(times):6} times {size / 1e9:8.2f} GB"
      for name, (times, size) in talk.items()),
    "",
    f"Floor of a step ({work / 1e12:,.1f} TFLOP in all):",
    *(f"  {name:<42} {1e3 * s:9.1f} ms" for name, s in floors.items()),
  ]  # fmt: skip
  return "\n".join(lines)


if __name__ == "__main__":
  main()
