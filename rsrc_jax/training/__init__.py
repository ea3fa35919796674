"""A stage of a run while it is trained, alone or with the same of other seeds.

`rsrc_jax.train` runs one seed, `rsrc_jax.population` several at once.
"""
