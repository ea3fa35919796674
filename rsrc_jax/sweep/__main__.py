"""python -m rsrc_jax.sweep: the program of ./tools/sweep and `rsrc sweep`."""

from rsrc_jax.sweep import cli

if __name__ == "__main__":
  cli.main()
