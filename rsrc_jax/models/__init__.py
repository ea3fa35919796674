"""Networks, each with one make(...) -> Policy. Only this folder uses flax.

No roles, no sampling, no losses, no config.
"""
