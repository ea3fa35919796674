"""Runtime support: meshes, checkpoints, signals, logs, weights.

Nothing here depends on codes, roles or rewards.
"""
