"""Training stages of a run, each make(setup, name) -> Stage.

Stages are functions; loops, checkpoints and logs are train.py's.
"""
