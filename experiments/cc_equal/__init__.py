"""cc at equal tokens: a memory and a code against a longer code.

registration.json says what is tested; it was written before any run.
"""
