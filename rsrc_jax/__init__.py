"""rsrc-jax: recursive compression RL in JAX."""

__version__ = "0.1.0"
