"""A role speaks in one context window: prompts, sampling, scoring, keys.

Nothing here knows of rewards, of training or of a config.
"""
