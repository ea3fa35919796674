"""Tables, figures and pages, made from the files of a run alone.

No models, no jax; the only place for matplotlib but recursive.report. A section
of the page is one file with a function section(run) -> HTML, listed in
page.SECTIONS.
"""
