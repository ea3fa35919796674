"""Texts with a question each, as rsrc_jax.data.reasoning takes them."""

import numpy as np

from rsrc_jax.data.reasoning import Task

NAMES = ("Ann", "Bo", "Cy", "Dee", "Ed", "Flo", "Gus", "Hal", "Ida", "Jo")


THINGS = ("tea", "chess", "rain", "snow", "jazz", "bread", "maps", "salt")


def made(count=400, seed=0):
  """Two statements and who made one of them."""
  rng, found = np.random.default_rng(seed), []
  for _ in range(count):
    (a, b), (x, y) = rng.choice(NAMES, 2, False), rng.choice(THINGS, 2, False)
    found.append(Task(f"{a} likes {x}. {b} likes {y}.", f"Who likes {y}?", b))
  return found
