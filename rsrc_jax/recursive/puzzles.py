"""Which puzzles a recursive model is trained and tested on, from a config."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.data.grids import PuzzleData, Puzzles, take
from rsrc_jax.recursive.train_step import Items
from rsrc_jax.runtime import contents, named


def load(*, name: str, seed: int, **block: Any) -> PuzzleData:
  """Makes or reads the puzzles that config.data describes.

  Args:
    name: a file of rsrc_jax/data, or the path of a .py file, with
      puzzles(*, seed, **settings) -> PuzzleData.
    seed: of the puzzles.
    **block: the rest of config.data, which holds the settings of all kinds. A
      kind gets those that it takes.

  Raises:
    ValueError: no such kind, a setting that it needs is not there, or what
      the kind refuses.
  """
  puzzles = named.find("data", name, "puzzles", "config.data.name")
  settings = {"seed": seed, **block}
  parameters = inspect.signature(puzzles).parameters
  if not any(x.kind is x.VAR_KEYWORD for x in parameters.values()):
    settings = {k: v for k, v in settings.items() if k in parameters}
  named.check_arguments(puzzles, settings, "config.data", name)
  return puzzles(**settings)


def digest(data: PuzzleData) -> str:
  """A digest of all splits, and of the tasks that they belong to."""
  arrays = jax.tree.leaves(data._replace(permuted=None, name=None))
  shapes = [np.shape(x) for x in arrays]
  data = [np.ascontiguousarray(x, "<i4").tobytes() for x in arrays]
  return contents.of_texts([repr(shapes), *data])


def batch(
  data: PuzzleData, rows: np.ndarray, rng: np.random.Generator
) -> Items:
  """Those rows [n] of the training split, each under a random symmetry."""
  puzzles = data.permuted(take(data.train, rows), rng)
  return items(puzzles, data.train_identity[rows])


def items(puzzles: Puzzles, identity: np.ndarray) -> Items:
  """Puzzles [N, cells] and the task [N] of each, as they are."""
  return Items(*(jnp.asarray(x, jnp.int32) for x in (*puzzles, identity)))
