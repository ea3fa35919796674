"""Checks of what a checkpoint holds, so that nothing is read wrong.

Orbax notices a file that is missing or cut short, but not every bit that a disk
or a copy has changed inside of an array. The host's part of a checkpoint
therefore holds the CRC-32 of every array, a copy of the validation metrics, and
the sha256 of all of this. It is written with the checkpoint, atomically.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.runtime import processes

FIELDS = ("host", "crc32", "metrics", "sha256")


class Sealed(NamedTuple):
  """The host's part of a checkpoint, checked."""

  host: dict[str, Any]
  crc32: dict[str, str] | None  # by path; None: of before there were any
  metrics: dict[str, float] | None  # as given to `seal`; None likewise


def crc32(leaves: Mapping[str, Any]) -> dict[str, str]:
  """Shape, dtype and CRC-32 of whole arrays, by name.

  The mesh does not matter. With several processes all must call it for the same
  leaves, and parts that others hold are fetched, one array at a time.
  """
  return {name: _crc32(processes.fetch(x)) for name, x in leaves.items()}


def _crc32(x: Any) -> str:
  x = np.asarray(x)
  content = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  return f"{x.dtype}{list(x.shape)} {zlib.crc32(content):08x}"


def seal(
  host: dict[str, Any], leaves: Mapping[str, Any], metrics: dict[str, float]
) -> dict[str, Any]:
  """What to store in place of `host`: JSON values, with their digests."""
  text = json.dumps([host, crc32(leaves), metrics])
  values = json.loads(text)  # tuples are lists from here on
  return dict(zip(FIELDS, [*values, _sha256(values)], strict=True))


def unseal(stored: dict[str, Any]) -> Sealed:
  """The host's part, as it was sealed or as older checkpoints have it.

  Raises:
    ValueError: it is not what was saved.
  """
  if not any(name in stored for name in FIELDS):
    return Sealed(stored, None, None)
  values = [stored.get(name) for name in FIELDS]
  if set(stored) != set(FIELDS) or _sha256(values[:-1]) != values[-1]:
    raise ValueError(
      "the host's state is not what was saved: its sha256 differs"
    )
  return Sealed(*values[:-1])


def _sha256(values: list[Any]) -> str:
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check(leaves: Mapping[str, Any], sealed: Sealed) -> None:
  """Checks arrays that were read.

  Raises:
    ValueError: one is not what was saved; it is named.
  """
  found = crc32(leaves)
  for name, known in (sealed.crc32 or {}).items():
    if found.get(name) != known:
      raise ValueError(f"{name} is not what was saved: its CRC-32 differs")
