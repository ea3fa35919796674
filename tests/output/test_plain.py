"""Text from outside can steer no terminal, no page and no spreadsheet."""

import csv
import json
import math

import pytest

from rsrc_jax.output import plain

HOSTILE = {
  "colour": "\x1b[31mred",
  "title": "\x1b]0;owned\x07",
  "link": "\x1b]8;;http://x\x1b\\click",
  "csi": "\x9b2J",
  "back": "ok\x08\x08no",
  "line": "safe\rgone",
  "right": "abc\u202egnp.exe",
  "isolate": "\u2066x\u2069",
  "mark": "\u200fx",
  "zero": "a\u200bb",
  "separator": "a\u2028b",
  "half": "\ud800",
  "private": "\ue000",
  "tag": "\U000e0041",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_printable_is_shown_by_its_number(name):
  shown = plain.plain(HOSTILE[name])
  assert shown.isprintable() and "\\" in shown
  shown.encode()
  # What can be printed is as it was.
  kept = [c for c in HOSTILE[name] if c.isprintable()]
  assert [c for c in shown if c in kept][: len(kept)] or not kept


@pytest.mark.parametrize("text", ["Ω ⊕ é 漢字 한국 नमस्ते 😀", "[bold]x[/]", ""])
def test_other_text_stays(text):
  assert plain.plain(text) == text


def test_numbers_of_five_digits_are_told_from_four():
  assert plain.plain("\U000e0041") == "\\U000e0041"
  assert plain.plain("\x1b") == "\\u001b"
  assert plain.lines("a\nb\tc") == "a\nb\\u0009c"


@pytest.mark.parametrize("name", HOSTILE)
def test_json_is_harmless_and_reads_back_as_it_was(name):
  value = {HOSTILE[name]: [HOSTILE[name]]}
  for indent in (None, 2):
    text = plain.json_text(value, indent)
    assert text.replace("\n", "").isprintable() and json.loads(text) == value
    text.encode()


def test_json_has_no_numbers_that_are_none():
  value = {"a": math.nan, "b": [math.inf, (-math.inf, 1.5)], "c": True}

  def refuse(word):
    raise AssertionError(word)

  found = json.loads(plain.json_text(value), parse_constant=refuse)
  assert found == {"a": None, "b": [None, [None, 1.5]], "c": True}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(text):
  made = plain.csv_text([text, "n"], [{text: text, "n": -1.5}, {"n": None}])
  head, first, second = csv.reader(made.splitlines())
  assert head[0] == first[0] == "'" + plain.plain(text)
  assert first[1] == "-1.5" and second == ["", ""]
