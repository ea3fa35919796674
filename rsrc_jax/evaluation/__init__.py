"""What trained arms are worth on held-out sources, and what serving costs.

Reads parameters and never trains them, but for probe, whose reader is new.
"""
