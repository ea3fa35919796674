"""The section of training: how far each phase has come."""

from rsrc_jax.report import style
from rsrc_jax.report.html import figure, section, text
from rsrc_jax.report.numbers import number
from rsrc_jax.report.run_files import Run
from rsrc_jax.report.series import FIRST, logged_by, series

# Key of series.LOGGED, split, title.
COLUMNS = (
  ("loss", "train", "loss"),
  ("reward", "train", "reward"),
  ("entropy", "train", "entropy of C, nats"),
  ("gradient_norm", "train", "gradient norm"),
  ("mismatch_kl", "train", "sampler–learner KL"),
  ("steps_per_second", "train", "steps a second"),
  ("bits_conveyed", "valid", "bits conveyed, valid"),
  ("nll_bits", "valid", "nll, bits, valid"),
)


def training(run: Run) -> str:
  """The last value of each number that each stage logged."""
  names = logged_by(run.metrics)
  if not names:
    return section("Training", "<p>No step was logged.</p>")
  head = "".join(f"<th>{text(title)}</th>" for _, _, title in COLUMNS)
  first = [name for name in FIRST if name in names]
  body = "".join(
    _row(run, name)
    for name in first + style.ordered(names - {*FIRST}, run.arms.looks)
  )
  plateaus = run.drawings.get("plateaus")
  return section(
    "Training",
    (figure("plateaus", plateaus) if plateaus else "")
    + '<p>The last value that each arm logged.</p><div class="wide"><table>'
    f"<thead><tr><th>arm</th><th>last step</th>{head}</tr></thead>"
    f"<tbody>{body}</tbody></table></div>",
  )


def _row(run: Run, name: str) -> str:
  steps = [number(m.get("step")) for m in run.metrics if m.get("phase") == name]
  last = max((step for step in steps if step is not None), default=0)
  cells = ""
  for key, split, _ in COLUMNS:
    values = series(run.metrics, name, split, key)[1]
    cells += f"<td>{_short(values[-1]) if values.size else '—'}</td>"
  return (
    f'<tr><th scope="row" class="arm-{text(name)}"><b>'
    f"{text(style.arm(name, run.arms.looks).label)}</b></th>"
    f"<td>{last:,.0f}</td>{cells}</tr>\n"
  )


def _short(value: float) -> str:
  return f"{value:.3g}".replace("-", "−")
