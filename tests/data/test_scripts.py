"""Text of the world: sentences, letters, words and widths in many scripts."""

import time
import unicodedata
from pathlib import Path

import pytest

from rsrc_jax.data import prose, scripts, sentences

CORPORA = sorted(Path(__file__).with_name("scripts").glob("*.txt"))


def kept(text, markup):
  return [
    sentence
    for block in prose.paragraphs(text, markup=markup)
    for sentence in prose.sentences(block, markup=markup)
  ]


def test_there_are_corpora_of_many_scripts():
  assert len(CORPORA) >= 18


@pytest.mark.parametrize("markup", [False, True])
@pytest.mark.parametrize("path", CORPORA, ids=lambda x: x.stem)
def test_every_sentence_of_every_script_is_kept_whole(path, markup):
  text = path.read_text(encoding="utf-8")
  lines = text.splitlines()
  assert kept(text, markup) == lines  # one after another
  assert kept("\n\n".join(lines), markup) == lines  # paragraphs
  between = {"chinese": "", "japanese": "", "tibetan": "", "thai": "\n"}
  joined = between.get(path.stem, " ").join(lines)
  assert kept(joined, markup) == lines
  decomposed = unicodedata.normalize("NFD", text)
  assert kept(decomposed, markup) == decomposed.splitlines()


@pytest.mark.parametrize("path", CORPORA, ids=lambda x: x.stem)
def test_sentences_of_a_list_in_markdown(path):
  lines = path.read_text(encoding="utf-8").splitlines()
  text = "\n".join(f"- {line}" for line in lines)
  assert kept(text, True) == lines
  bold = "\n\n".join(line[:4] + f"**{line[4:8]}**" + line[8:] for line in lines)
  if path.stem in ("devanagari", "chinese", "tamil"):
    assert kept(bold, True) == lines


@pytest.mark.parametrize("path", CORPORA, ids=lambda x: x.stem)
def test_words_keep_their_marks(path):
  """What differs in a vowel sign alone is another sentence."""
  for line in path.read_text(encoding="utf-8").splitlines():
    marks = [c for c in line if unicodedata.category(c)[0] == "M"]
    assert all(mark in "".join(scripts.words(line)) for mark in marks)
    form = unicodedata.normalize("NFD", line)
    assert scripts.words(form) == scripts.words(line)


def test_sentences_that_differ_in_vowel_signs_are_not_repeated():
  one, other = "मीरा की माला", "मेरी का मेला"
  assert scripts.words(one) != scripts.words(other)
  assert sentences.without_overlap([one], [other]) == [one]
  assert scripts.words("नहीं, मीरा!") == ("नहीं", "मीरा")


def test_words_of_chinese_are_characters():
  """So that sentences that share a long run of them overlap."""
  assert scripts.words("他说：A1 好。") == ("他", "说", "a1", "好")
  run = "他把三张红色的椅子送给了住在罗马的乔治和海伦"
  assert sentences.without_overlap([f"昨天{run}。"], [f"今天{run}！"]) == []


def test_words_without_joiners_and_marks_of_direction():
  assert scripts.words("می\u200cخواهم \u200fשלום\u200e co\u00adop") == (
    "میخواهم",
    "שלום",
    "coop",
  )


@pytest.mark.parametrize(
  "text, found",
  [
    ("The cost is 3.5 of them all, as J. K. Moe says. He left.", 2),
    ("価格は３．５円でしたと彼は静かに言いました。", 1),
    ("Alle kamen (auch „er“.) Dann gingen sie wieder heim.", 2),
    ("Is that so?! Nobody in the town would have thought it.", 2),
  ],
)
def test_full_stops_that_end_nothing(text, found):
  candidates = [x for x, _ in prose.judged(text, markup=False)]
  assert len(candidates) == found
  assert "".join(candidates).replace(" ", "") == text.replace(" ", "")


def test_long_thai_is_cut_at_its_spaces():
  phrase = "คนทำขนมปังเปิดร้านก่อนพระอาทิตย์ขึ้น"
  assert kept(" ".join([phrase] * 20), False) == [phrase] * 20
  assert kept(f"{phrase} {phrase}", False) == [f"{phrase} {phrase}"]


def test_the_table_is_of_the_unicode_version_that_it_names():
  assert scripts.UNICODE == "14.0.0"
  assert len(set(scripts.TERMINALS)) == len(scripts.TERMINALS) == 152 + 9
  for c in ".!?।॥۔؟።။។။。！？།։…":
    assert scripts.is_complete(f"x{c}") and scripts.is_complete(f"x{c}”")
  for c in ",;:、，-":
    assert not scripts.is_complete(f"x{c}")


LINES = {
  "spaces": lambda n: "  A b" + " " * n + "c d.",
  "tabs": lambda n: "A\n" + "\t" * n + "\x0bx",
  "ruler": lambda n: "=" * n + " Part two",
  "emoji": lambda n: "😀" * n + " word",
  "initials": lambda n: "A. " * (n // 3),
  "stops": lambda n: "." * n + "x",
  "dandas": lambda n: "।" * n + "5",
  "mixed": lambda n: ".。" * (n // 2) + "5",
  "quotes": lambda n: "A." + '"' * n,
  "brackets": lambda n: "Ab " + "[" * n,
  "links": lambda n: "Ab " + "[a](" * (n // 4),
  "colons": lambda n: "Ab " + ":a" * (n // 2),
  "role": lambda n: "Ab :a:`" + "x" * n,
  "roles": lambda n: "Ab " + ":a:`<" * (n // 5),
  "stars": lambda n: "A" + "*" * n,
  "ticks": lambda n: "```\n" * (n // 4),
  "digits": lambda n: "1" * n,
  "semicolons": lambda n: "α" + ";" * n,
  "thai": lambda n: "ก " * (n // 2),
  "marks": lambda n: "a" + "\u0301" * n,
}


def seconds(text):
  begun = time.process_time()
  for markup in (True, False):
    kept(text, markup)
    scripts.words(text)
  return time.process_time() - begun


@pytest.mark.parametrize("name", LINES)
def test_any_line_takes_linear_time(name):
  """A line ten times as long: 10 times where linear, 100 where quadratic."""
  line, size = LINES[name], 3_000
  few, many = (
    min(seconds(line(n)) for _ in range(3)) for n in (size, 10 * size)
  )
  assert many < 25 * few + 0.02, (few, many)
