"""Networks, each behind one make(...) -> Policy; the only place for flax.

No roles, no sampling, no losses, no config.
"""
