"""What a process needs to run: meshes, checkpoints, signals, logs, weights.

Nothing here knows of codes, roles or rewards.
"""
