"""Kinds of data, their vocabularies, and puzzles. No models, no jit.

A kind of text is a file with make(*, seed, cache_dir, **block) -> Corpus:
facts, text, reasoning. A kind of puzzle is a file with puzzles(*, seed,
**settings) -> PuzzleData: sudoku, maze, arc. The other files are parts of
these kinds.
"""
