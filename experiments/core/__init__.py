"""Codes against English at equal tokens: what is registered, and its bounds.

Its stages and evaluations are files that a config names.
"""
