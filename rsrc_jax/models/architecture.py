"""The settings of a decoder, and what each of them may be."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.models import layers
from rsrc_jax.rules import BLOCK, flag, number, one_of, optional, whole


class Architecture(NamedTuple):
  """The settings of a decoder; shapes and letters as in types.py.

  The defaults are those of a Llama; models/pretrained.py sets other families.
  """

  vocab_size: int  # V, specials included
  width: int  # D of the residual stream; a multiple of heads
  depth: int  # layers L, each with parameters of its own
  heads: int  # query heads; a multiple of kv_heads
  kv_heads: int  # key-value heads H
  hidden: int  # width of the gated MLP
  # R: how often the stack of layers is run, each time on the previous output
  # (Tiny Recursive Model, arXiv 2510.04871, without its two states, its steps
  # without gradient and its supervision of each step). Each run has its own
  # keys and values: FLOPs and caches are those of depth * loops layers,
  # parameters those of depth layers.
  loops: int = 1
  # Add the embedding again before each further run, as TRM adds x at each step.
  reinject: bool = False
  size: int = 0  # of a head, even; 0: width / heads
  rope_base: float = 10_000.0  # wavelength base of the rotary positions
  rope_scaling: layers.Scaling = None  # see layers.frequencies
  # For each layer, how many positions a token attends to, itself the last; 0:
  # all. Empty: all positions in all layers.
  windows: tuple[int, ...] = ()
  # rope_base of layers with a window, without scaling; 0: as in other layers.
  window_base: float = 0.0
  turned: tuple[bool, ...] = ()  # layers with rotary positions; empty: all
  # Also add a learned embedding of the position, for this many positions; later
  # ones share the last. With rotary positions alone, a shallow model hardly
  # learns to distinguish the first token of a code from the second.
  absolute: int = 0
  tied: bool = True  # the output matrix is the embedding
  epsilon: float = 1e-6  # of all norms
  activation: str = "silu"  # of the MLP's gate; or "gelu" (by tanh)
  qkv_bias: bool = False  # q, k and v have biases
  o_bias: bool = False  # the output product of attention has one
  mlp_bias: bool = False  # the products of the MLP have
  qk_norm: bool = False  # heads of q and k are normalised
  post_norms: bool = False  # outputs of attention and MLP are normalised
  embed_scale: float = 1.0  # times the embedding
  query_scale: float = 0.0  # times attention scores; 0: size ** -0.5
  attention_cap: float = 0.0  # soft limit of attention scores; 0: none
  logit_cap: float = 0.0  # soft limit of logits; 0: none
  # Run the layers of an uncached pass by lax.scan, which compiles in constant
  # time and runs slower on CPU. A cached pass always unrolls.
  scan: bool = False
  remat: bool = False  # keep only layers' inputs for the gradient; recompute
  # Of activations and caches; logits are float32 whatever it is.
  dtype: Any = "float32"


def _sizes(settings, run):
  """The rule of sizes that depend on each other."""
  del run
  heads, kv_heads = settings.get("heads", 1), settings.get("kv_heads", 1)
  width, size = settings.get("width", heads), settings.get("size", 0)
  if heads % kv_heads:
    return "heads", f"a multiple of {rules.HERE}.kv_heads={kv_heads}"
  if not size and width % heads:
    return "width", f"a multiple of {rules.HERE}.heads={heads}"
  if (size or width // heads) % 2 and "width" in settings:
    if size:
      return "size", "even: rotary positions turn pairs of channels"
    return "width", f"{rules.HERE}.heads={heads} times an even number"
  depth = settings.get("depth")
  for name in ("windows", "turned"):
    each = settings.get(name, ())
    if each and depth and len(each) != depth:
      return name, f"one for each of {rules.HERE}.depth={depth} layers"
  return None


RULES = {
  # Limits keep a slip from a trace that takes minutes.
  **dict.fromkeys(
    ("vocab_size", "width", "heads", "kv_heads", "hidden"), whole(1, 2**24)
  ),
  **dict.fromkeys(("depth", "loops"), whole(1, 4_096)),
  **dict.fromkeys(("size", "absolute"), whole(0, 2**24)),
  "windows": rules.items(whole()),
  "turned": rules.items(flag),
  "rope_base": number(above=0),
  "rope_scaling": optional(rules.anything),
  "epsilon": number(above=0, most=1),
  "embed_scale": number(above=0),
  **dict.fromkeys(
    ("window_base", "query_scale", "attention_cap", "logit_cap"), number(0)
  ),
  **dict.fromkeys(
    ("reinject", "tied", "qkv_bias", "o_bias", "mlp_bias", "qk_norm",
     "post_norms", "scan", "remat"), flag,
  ),
  "activation": one_of(*layers.ACTIVATIONS),
  "dtype": one_of("float32", "bfloat16", "float16"),
  BLOCK: (_sizes,),
}  # fmt: skip


def resolved(arch: Architecture) -> Architecture:
  """Checks the settings and replaces the zeros that stand for a default.

  Raises:
    ValueError: the sizes do not divide, or a setting is out of its range.
  """
  given = arch._asdict()
  if not isinstance(arch.dtype, str):
    given["dtype"] = jnp.dtype(arch.dtype).name
  rules.check(RULES, given, "config.model")
  size = arch.size or arch.width // arch.heads
  return arch._replace(
    size=size,
    windows=arch.windows or (0,) * arch.depth,
    turned=arch.turned or (True,) * arch.depth,
    query_scale=arch.query_scale or size**-0.5,
    dtype=jnp.dtype(arch.dtype),
  )
