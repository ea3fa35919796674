"""Measures trained arms on held-out sources, and the cost of their service.

It reads parameters and does not train them. Only probe trains a reader.
"""
