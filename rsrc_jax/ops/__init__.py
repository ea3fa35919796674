"""Arithmetic on arrays: distributions, token statistics, rewards, GRPO.

Arrays in, arrays out. No parameters, no roles, no config, no files.
"""
