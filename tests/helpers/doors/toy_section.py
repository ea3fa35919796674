"""A section of the report: how many arms wrote a code."""


def section(run) -> str:
  """run: see report/run_files.py."""
  arms = run.summary["heldout"]["arms"]
  return f"<section><h2>Toy</h2><p>{len(arms)} arms wrote codes.</p></section>"
