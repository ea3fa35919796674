"""Sources and their vocabularies, one file a kind of data.

A kind is make(*, seed, cache_dir, **block) -> Corpus. No models, no jit.
"""
