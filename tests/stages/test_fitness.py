"""What is said of a trained base beside counted n-grams."""

import copy

import pytest

from rsrc_jax.report import base_section, run_files
from rsrc_jax.stages import fitness

SETTINGS = {"steps": 800, "patience": 0, "optimizer": {"weight_decay": 0.0}}
MEASURED = {
  "bits": {"train": 90.0, "valid": 92.0, "test": 93.0},
  "bits_per_token": {"train": 5.9, "valid": 6.0, "test": 6.1},
  "ngram": {
    "2": {"bits": {"valid": 99.0}},
    "3": {"bits": {"valid": 91.0}, "bits_per_token": {"valid": 5.95}},
  },
}


def measured(**changes):
  found = copy.deepcopy(MEASURED)
  for name, values in changes.items():
    found[name] |= values
  return found


def test_a_base_below_the_trigram_is_fit():
  fit, said = fitness.judged(measured(bits={"valid": 91.0}), SETTINGS)
  assert fit and "91.0 bits a sentence of the validation split" in said


@pytest.mark.parametrize(
  "train, remedy",
  [
    (5.9, "hardly better on sentences it was trained on: raise config.pretr"),
    (3.1, "3.10 a token on sentences it was trained on: give more text, lower"),
  ],
)
def test_a_base_above_the_trigram_is_unfit_and_says_why(train, remedy):
  found = measured(bits_per_token={"train": train})
  fit, said = fitness.judged(found, SETTINGS)
  assert not fit and remedy in said and "\n" not in said
  assert "92.0 bits" in said and "a counted trigram 91.0" in said
  assert said.endswith("may only make up for this.")


def test_the_report_has_it_and_older_runs_have_no_section():
  found = measured() | {"said": "the base is unfit: <so>", "fit": False}
  page = base_section.base(run_files.of(summary={"base": found}))
  assert "The base is unfit: &lt;so&gt;" in page
  assert "bigram, counted" in page and ">5.95<" in page and ">93.00<" in page
  assert base_section.base(run_files.of(summary={})) == ""
  assert base_section.base(run_files.of(summary={"base": {"bits": None}})) == ""
