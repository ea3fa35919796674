"""Tables, figures and pages, made from the files of a run alone.

No models, no jax work; the only place for matplotlib, beside
recursive.report.
"""
