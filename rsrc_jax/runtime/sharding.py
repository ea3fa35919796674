"""Sharding of arrays: one mesh, and regular expressions from names to specs.

Programs are written for one device; XLA splits them by the sharding of inputs.
"""

import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rsrc_jax import rules

AXES = ("data", "fsdp", "tensor")

# The first match counts. Names are paths in types.TrainState, so optimizer
# moments have the sharding of their parameters.
PARTITIONS = (
  (r"embed$", P("tensor", "fsdp")),
  (r"blocks/.*/?(q|k|v|gate|up)/kernel$", P(None, "fsdp", "tensor")),
  (r"blocks/.*/?(o|down)/kernel$", P(None, "tensor", "fsdp")),
)
BATCH = P(("data", "fsdp"))


def _size(value) -> str:
  """The rule of an axis of the mesh."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  if whole and (value == -1 or 1 <= value <= rules.LARGEST):
    return ""
  return "a whole number, at least 1, or -1 for all devices that are left"


MESH = dict.fromkeys(AXES, _size)  # the rules of config.mesh


def make_mesh(*, data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh of data x fsdp x tensor devices.

  One of the three may be -1, for all remaining devices.

  Args:
    data: number of copies of the model.
    fsdp: number of parts of parameters and batch.
    tensor: number of parts of a matrix product.

  Raises:
    ValueError: the product does not fit the devices, or some process would have
      no device.
  """
  devices, sizes = jax.devices(), [data, fsdp, tensor]
  if any(n < 1 and n != -1 for n in sizes) or sizes.count(-1) > 1:
    raise ValueError(
      f"config.mesh: sizes must be positive, and one may be -1; got {data}, "
      f"{fsdp}, {tensor}."
    )
  if -1 in sizes:
    rest = -math.prod(sizes)
    sizes[sizes.index(-1)] = max(len(devices) // rest, 1)
  if (size := math.prod(sizes)) > len(devices):
    data, fsdp, tensor = sizes
    raise ValueError(
      f"config.mesh.data={data} times config.mesh.fsdp={fsdp} times "
      f"config.mesh.tensor={tensor} needs {size} devices and there are "
      f"{len(devices)}."
    )
  if size < len(devices) and jax.process_count() > 1:
    raise ValueError(
      f"config.mesh takes {size} of the {len(devices)} devices that "
      f"{jax.process_count()} processes have: set one of its sizes to -1."
    )
  return jax.make_mesh(
    tuple(sizes),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices[:size],
  )


def accelerators() -> tuple[str, ...]:
  """The kinds of this process's devices other than CPUs."""
  return tuple(
    d.device_kind for d in jax.local_devices() if d.platform != "cpu"
  )


def check_batch(mesh: Mesh, name: str, size: int) -> None:
  """Raises ValueError if a batch does not divide over the mesh."""
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  if size % ways:
    raise ValueError(
      f"{name}={size} does not divide over config.mesh data x fsdp = {ways}: "
      f"make it a multiple of {ways}."
    )


def shardings(mesh: Mesh, tree: Any, partitions: Any = PARTITIONS) -> Any:
  """The NamedSharding of every leaf of a pytree, by its path.

  Args:
    mesh: of the leaves.
    tree: arrays or ShapeDtypeStructs.
    partitions: (regular expression, PartitionSpec). The first that matches a
      path counts. A leaf without a match is replicated.

  Raises:
    ValueError: a named dimension does not divide by its axis.
  """

  def place(path, leaf):
    name = "/".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
    for pattern, spec in partitions:
      if re.search(pattern, name):
        _check(mesh, name, leaf.shape, spec)
        return NamedSharding(mesh, spec)
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows of a batch over data and fsdp."""
  return NamedSharding(mesh, BATCH)


def put(tree: Any, where: Any) -> Any:
  """Moves a tree of arrays to one sharding, or to a tree of them.

  All processes hold the same values, and each one places its own parts.
  """
  if jax.process_count() == 1:
    return jax.device_put(tree, where)

  def place(x, where):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return jax.device_put(x, where)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, where, lambda i: x[i])

  if isinstance(where, NamedSharding):
    return jax.tree.map(lambda x: place(x, where), tree)
  return jax.tree.map(place, tree, where)


def rows(mesh: Mesh, tree: Any) -> Any:
  """Places a pytree of [B, ...] arrays, rows split as those of a batch."""
  return put(tree, batch_sharding(mesh))


def _check(mesh, name, shape, spec):
  for size, axis in zip(shape, spec, strict=False):
    ways = int(np.prod([mesh.shape[a] for a in ([axis] if axis else [])]))
    if size % ways:
      raise ValueError(
        f"{name}: dimension {size} does not divide over config.mesh.{axis}="
        f"{ways}."
      )
