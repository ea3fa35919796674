"""From a config to parts: data, model, roles, writers; and what is refused.

Reads config blocks; trains nothing and compiles nothing.
"""
