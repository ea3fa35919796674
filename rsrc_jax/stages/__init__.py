"""Training stages of a run, each make(setup, name) -> Stage.

A stage is a set of functions; train.py has the loop, checkpoints and logs.
"""
