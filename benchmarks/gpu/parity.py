"""Our logits beside transformers', for models of three families.

Where torch and transformers are at hand, models of width 256 with random
weights are written as checkpoints, which transformers then loads. Where they
are not, the stored checkpoints and logits of tests/golden/pretrained take their
place.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.run import ROOT
from benchmarks.gpu.table import FAMILIES
from benchmarks.gpu.timing import pieces
from rsrc_jax.lm import tokens
from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weights
from rsrc_jax.types import Tokens

GOLDEN = ROOT / "tests" / "golden" / "pretrained"
WIDER = {
  "vocab_size": 4_096, "hidden_size": 256, "intermediate_size": 704,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
ROWS, LENGTH = 4, 48
# Of the largest logit. TF32 and bfloat16 keep 10 and 7 bits of a factor.
ALLOWED = {"float32": 2e-2, "float32 highest": 1e-4, "bfloat16": 0.1}


def parity(toy: bool, out: Path) -> Iterator[tuple[str, dict]]:
  """Rows of figures; see table.py."""
  del toy, out
  compare = against_transformers if have_transformers() else against_stored
  yield from pieces(
    (family, lambda family=family: iter([(family, compare(family))]))
    for family in FAMILIES
  )


def have_transformers() -> bool:
  try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
  except ImportError:
    return False
  return True


def against_stored(family: str) -> dict:
  """The cells of a family, from the logits that the tests store."""
  said = np.load(GOLDEN / family / "said.npz")
  versions = json.loads((GOLDEN / "versions.json").read_text())
  cells = differences(
    GOLDEN / family, said["ids"], said["mask"], said["padded"]
  )
  stored = f"stored logits of transformers {versions[family]['transformers']}"
  return {"against": stored, "their bfloat16": None} | cells


def against_transformers(family: str) -> dict:
  """The cells of a family, asked of transformers now, on the CPU."""
  import torch
  import transformers

  from benchmarks import parity as cpu_benchmark

  config = json.loads((GOLDEN / family / "config.json").read_text()) | WIDER
  settings = pretrained.settings(config)
  params = jax.jit(pretrained.make(**settings).init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  ids = rng.integers(3, config["vocab_size"], (ROWS, LENGTH)).astype(np.int32)
  mask = np.arange(LENGTH) >= 5 * np.arange(ROWS)[:, None]  # pads on the left
  ids = np.where(mask, ids, 0)
  with tempfile.TemporaryDirectory() as scratch:
    weights.save(scratch, params, config)
    model = cpu_benchmark.load(scratch)
    want = cpu_benchmark.logits(model, ids, mask)
    cells = differences(Path(scratch), ids, mask, want)
    model = model.to(torch.bfloat16)
    theirs = narrow(model, ids, mask)
  return cells | {
    "against": f"transformers {transformers.__version__}",
    "their bfloat16": float(np.abs(theirs - want)[mask].max()),
  }


def narrow(model, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Logits of a bfloat16 model, which NumPy has no type for."""
  import torch

  places = np.maximum(np.cumsum(mask, -1) - 1, 0)
  tensor = lambda x: torch.tensor(x).long()
  with torch.no_grad():
    found = model(
      tensor(ids), attention_mask=tensor(mask), position_ids=tensor(places)
    )
  return found.logits.float().numpy()


def differences(
  folder: Path, ids: np.ndarray, mask: np.ndarray, want: np.ndarray
) -> dict:
  """Largest difference of our logits [N, T, V] from `want`, by precision."""
  found = weights.open_folder(folder)
  params = weights.load(found, sharding.make_mesh(data=1))
  top = float(np.abs(want[mask]).max())
  cells: dict = {"largest logit": top}
  for name, allowed in ALLOWED.items():
    dtype, _, precision = name.partition(" ")
    policy = pretrained.make(**found.settings, dtype=dtype)
    with jax.default_matmul_precision(precision or None):
      got = logits(policy, params, ids, mask)
    cells[name] = float(np.abs(got - want)[mask].max())
    if not cells[name] <= allowed * top:
      cells["error"] = (
        f"{name}: {cells[name]:.1e} is over {allowed} of {top:.2f}"
      )
  return cells


def logits(policy, params, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """[N, T] -> [N, T, V] float32"""
  text = Tokens(jnp.asarray(ids)[:, None], jnp.asarray(mask)[:, None])

  @jax.jit
  def run(params):
    places = tokens.positions(text.mask)
    hidden, _ = policy.apply(params, text, places)
    return policy.unembed(params, hidden)[:, 0]

  return np.asarray(run(params))
