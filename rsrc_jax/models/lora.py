"""Low-rank adapters as a pure function over the parameter tree.

A product x W becomes x W + scale * x A B (arXiv 2106.09685). Adapters are a
separate tree with the same paths. They are trained; W is a constant argument,
shared with the reference policy and with V.
"""

import re

import jax
import jax.numpy as jnp

from rsrc_jax import rules
from rsrc_jax.models import initial
from rsrc_jax.types import Params

TARGETS = r"blocks/(q|k|v|o|gate|up|down)$"


def _pattern(value) -> str:
  """The rule of a regular expression."""
  try:
    re.compile(value)
  except (re.error, TypeError) as error:
    return f"a regular expression: {error}"
  return ""


RULES = {
  "rank": rules.whole(),  # 0: no adapters, all parameters are trained
  "base": rules.one_of("float32", "bfloat16"),
  "alpha": rules.number(above=0),
  "targets": _pattern,
}


def init(
  key: jax.Array, params: Params, *, rank: int, targets: str = TARGETS
) -> Params:
  """Adapters of all products whose path matches: A random, B zero.

  Args:
    key: of all parameters; an adapter's own is a fold by its path.
    params: a tree whose products are {"kernel": [..., in, out], ...}, or its
      shapes; leading axes (stacked layers) are kept.
    rank: r of A [..., in, r] and B [..., r, out].
    targets: regular expression, searched for in paths like "blocks/q".

  Raises:
    ValueError: nothing matches, or the rank is not positive.
  """
  if rank < 1:
    raise ValueError(f"config.lora.rank={rank} must be at least 1.")
  found = {}
  for path, node in _products(params):
    if re.search(targets, "/".join(path)):
      found[path] = node["kernel"].shape
  if not found:
    raise ValueError(
      f"config.lora.targets={targets!r} matches none of "
      f"{', '.join('/'.join(path) for path, _ in _products(params))}."
    )
  tree = {}
  for path, shape in sorted(found.items()):
    *rest, rows, columns = shape
    own = initial.named(key, "/".join([*path, "lora_a"]))
    a = jax.random.normal(own, (*rest, rows, rank)) * rows**-0.5
    node = {"lora_a": a, "lora_b": jnp.zeros((*rest, rank, columns))}
    _put(tree, path, node)
  return tree


def attach(params: Params, adapters: Params, scale: float) -> Params:
  """The policy's tree: base and adapters, without a product or a copy."""
  out = dict(params)
  for name, node in adapters.items():
    if "lora_b" in node:
      out[name] = params[name] | {
        "lora_a": node["lora_a"],
        "lora_b": scale * node["lora_b"],
      }
    else:
      out[name] = attach(params[name], node, scale)
  return out


def merge(params: Params, adapters: Params, scale: float) -> Params:
  """Plain parameters with W + scale * A B in the place of W, for export."""
  out = dict(params)
  for name, node in adapters.items():
    if "lora_b" in node:
      kernel = params[name]["kernel"]
      change = scale * jnp.matmul(node["lora_a"], node["lora_b"])
      kernel = (kernel + change).astype(kernel.dtype)
      out[name] = params[name] | {"kernel": kernel}
    else:
      out[name] = merge(params[name], node, scale)
  return out


def _products(params: Params, path=()):
  """(path, node) of every node with a kernel."""
  for name, node in params.items():
    if isinstance(node, dict):
      if "kernel" in node:
        yield (*path, name), node
      yield from _products(node, (*path, name))


def _put(tree, path, node):
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = node
