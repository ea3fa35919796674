"""Pure maths on results: compression, capability, statistics, RSRC.

No models, no clocks, no files but published tables.
"""
