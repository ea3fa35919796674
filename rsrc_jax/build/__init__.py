"""From a config to parts: data, model, roles, writers; and config checks.

This folder reads config blocks. It trains and compiles nothing.
"""
