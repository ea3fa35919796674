"""Questions again: V hears a sampled answer; do answers arise by cc?

registration.json says what is tested; it was written before any run.
"""
