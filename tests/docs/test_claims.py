"""The claims of README.md say what the experiments' tables say."""

import pytest
from helpers.runs import ROOT

from experiments import claims

ROW = "| it helps, bits | +1.00 [+0.50, +1.50] | 0.80 | **yes** |\n"
OPEN = "| it helps, bits | -0.10 [-0.50, +0.30] | 0.80 | **can't tell** |\n"
REGISTERED = (
  "| **H1** | F against E | gain | -0.2 | -0.3 to -0.1 (95 %) | 0.01 | 0.02 | "
  "**can't tell at this size** | 0.3 | 5 |\n"
)
HOLM = "| it helps, bits | 0.001 | {} |\n"
CLAIM = claims.Claim("it helps", "somewhere", "| it helps, bits |")


def test_the_front_page_has_the_verdicts_of_the_tables():
  readme = (ROOT / "README.md").read_text()
  assert claims.placed(readme) == readme


@pytest.mark.parametrize(
  "text, verdict",
  [
    (ROW, "yes"),
    (OPEN, "can't tell (could see 0.80)"),
    (
      ROW + "| it helps, bits | 0.038 | 0.154 |\n",
      "can't tell (Holm's p 0.15)",
    ),
    (ROW + "| it helps, bits | 0.001 | 0.014 |\n", "yes"),
  ],
)
def test_a_verdict_is_read_and_corrected(text, verdict):
  assert claims.decided(text, CLAIM)[0] == verdict


def test_a_registered_row_is_read():
  claim = claims.Claim("it helps", "somewhere", "| **H1** |")
  assert claims.decided(REGISTERED, claim) == (
    "can't tell (could see 0.3)", "-0.2 [-0.3, -0.1]",
  )  # fmt: skip


def test_a_row_that_is_gone_is_an_error():
  with pytest.raises(ValueError, match=r"somewhere/table\.md has no row 0"):
    claims.decided("| other | +1 | 1 | **yes** |\n", CLAIM)
