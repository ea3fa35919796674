"""What every data kind returns, and how it is streamed.

A data kind is a file with make(*, seed, cache_dir, **block) -> Corpus, where
`block` is config.data without `source`. See facts, text and reasoning.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from rsrc_jax.data import tokenizer
from rsrc_jax.data.left_out import LeftOut
from rsrc_jax.types import Batch, QASources, Tokens

LEAST = 32  # rows in a split of real text


class Corpus(NamedTuple):
  """Splits of one source of text, encoded and padded on the right.

  A split is a Tokens, a QASources, or any other NamedTuple of NumPy arrays with
  `ids` [n, S] int32 and `mask` [n, S] bool. Its fields `question`, `answer` and
  `extra` (any pytree of [n, ...]), where it has them, go into each Batch.
  """

  name: str
  vocab: tokenizer.Vocabulary
  train: Tokens | QASources
  valid: Tokens | QASources
  test: Tokens | QASources
  entropy_bits: float | None  # of a source, where it is known exactly
  slots: tuple[int, ...] | None  # positions of the facts, where there are any
  digest: str  # sha256 of the encoded splits
  ood: Tokens | None  # [n, S] of another distribution, never trained on
  ood_name: str  # what these are
  # (id of the question, position of its answer) for each slot. None: there is
  # nothing to ask about.
  questions: tuple[tuple[int, int], ...] | None = None
  # More splits that are never trained on, by what is new in them.
  shifts: Mapping[str, Tokens] = MappingProxyType({})  # [n, S'] each
  shift_slots: Mapping[str, tuple[int, ...]] = MappingProxyType({})
  # What the questions are about, and the ids that can answer them, [Q, V] bool.
  facts: tuple[str, ...] = ()
  answers: np.ndarray | None = None
  # Of text from files: what is not in the splits, and lines that a run shows.
  left_out: tuple[LeftOut, ...] = ()
  notes: tuple[str, ...] = ()
  # (folder) -> a note, or "". Writes what `make` can read the splits from
  # again, given as `kept`; ValueError where the folder has other text.
  keep: Callable[[Path], str] | None = None
  # (count, seed) -> other rows of the kind of `train`, made from another seed;
  # some may be in a split. None: there are no other rows than those.
  redraw: Callable[[int, int], Any] | None = None


def no_path(value) -> str:
  """The rule of config.data.path where data are made, not read."""
  if value == "":
    return ""
  return "'', or config.data.source='text', as in configs/cdv_text.py"


def padded(rows: list[list[int]], length: int) -> Tokens:
  """Lists of ids -> Tokens [n, length] int32, padded on the right."""
  mask = np.arange(length) < np.array([[len(row)] for row in rows])
  ids = np.full(mask.shape, tokenizer.PAD, np.int32)
  ids[mask] = np.concatenate(rows)
  return Tokens(ids, mask)


def digest(*splits: Tokens | QASources) -> str:
  """sha256 over ids, masks and whatever comes with the rows, in hex."""
  h = hashlib.sha256()
  for split in splits:
    own = (getattr(split, name, None) for name in ("question", "answer"))
    for text in (split, *(x for x in own if x is not None)):
      h.update(np.ascontiguousarray(text.ids, "<i4").tobytes())
      h.update(np.ascontiguousarray(text.mask, "?").tobytes())
    for leaf in jax.tree.leaves(getattr(split, "extra", None)):
      h.update(np.ascontiguousarray(leaf).tobytes())
  return h.hexdigest()


def batches(split: Tokens | QASources, *, batch_size: int, seed: int) -> Any:
  """An endless grain iterator of Batch [B, ...], reshuffled every epoch.

  Its get_state() and set_state() are exact: they go into the checkpoint.
  """
  rows = grain.MapDataset.range(len(split.ids)).seed(seed).shuffle().repeat()
  gather = lambda rows: _rows(split, rows.astype(np.int32))
  stream = rows.batch(batch_size, drop_remainder=True).map(gather)
  return iter(stream.to_iter_dataset())


def batch(split: Tokens | QASources, start: int, size: int) -> Batch:
  """Rows start ... start + size - 1 of a split; the row after the last is 0."""
  return _rows(
    split, (start + np.arange(size, dtype=np.int32)) % len(split.ids)
  )


def _rows(split: Tokens | QASources, rows: np.ndarray) -> Batch:
  take = lambda name: jax.tree.map(
    lambda x: x[rows], getattr(split, name, None)
  )
  return Batch(
    source=Tokens(take("ids"), take("mask")),
    row=rows,
    question=take("question"),
    answer=take("answer"),
    extra=take("extra"),
  )
