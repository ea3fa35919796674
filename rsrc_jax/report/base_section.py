"""The section "Base": the trained base beside counted n-grams, on text."""

from rsrc_jax.report import html
from rsrc_jax.report.html import section, text
from rsrc_jax.report.numbers import number
from rsrc_jax.report.run_files import Run

NAMES = {"2": "bigram", "3": "trigram"}
COLUMNS = (
  ("validation", "bits a sentence of the validation split and its end"),
  ("a token", "the same for a token, the end among them"),
  ("test", "bits a sentence of the test split and its end"),
  ("a token", "the same for a token, the end among them"),
)


def base(run: Run) -> str:
  """Whether the base is fit, and the table; "" for runs without the block."""
  found = run.summary.get("base")
  if not isinstance(found, dict) or not found.get("bits"):
    return ""
  counted = found.get("ngram") or {}
  rows = [("", "base", "the base, without a code", _cells(found))]
  rows += [
    ("", f"counted-{order}", f"{NAMES.get(order, order)}, counted", _cells(x))
    for order, x in sorted(counted.items())
  ]
  said = str(found.get("said") or "")
  said = said[:1].upper() + said[1:]
  return section(
    "Base",
    f'<ul class="sentences"><li>{text(said)}</li></ul>'
    "<p>Counted n-grams have Kneser-Ney smoothing and have read the training "
    "split.</p>"
    f"{html.table([('', ''), *COLUMNS], rows)}",
  )


def _cells(found: dict) -> list[tuple[str, str]]:
  """Bits of a sentence and of a token, of both splits."""
  values = [
    (found.get(key) or {}).get(split)
    for split in ("valid", "test")
    for key in ("bits", "bits_per_token")
  ]
  return [("" if number(x) is None else f"{number(x):.2f}", "") for x in values]
