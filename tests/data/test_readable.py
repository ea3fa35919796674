"""data/readable.py: pieces that can be read and told apart."""

from helpers import tokenizer_folders
from hypothesis import given
from hypothesis import strategies as st

from rsrc_jax.data import readable

LETTERS = "ab \n\t\r▁⏎é漢\u200d\u202e<>0"


def test_what_cannot_be_seen_is_shown():
  assert readable.text(" a\n\t\r") == "▁a⏎⇥␍"
  assert readable.text("\u202e\x00") == "<U+202E><U+0000>"
  assert readable.text("▁⏎") == "<U+2581><U+23CE>"


def test_bytes_have_the_letters_of_byte_level_pieces():
  assert len(readable.BYTES) == 256 == len({*readable.BYTES.values()})
  assert readable.BYTES["Ġ"] == 32 and readable.BYTES["Ċ"] == 10
  assert readable.BYTES["A"] == 65 and readable.BYTES["é"] == 0xE9


def shown(pieces: list[str], verbatim=()) -> tuple[list[str], frozenset[int]]:
  """Of pieces whose texts are themselves, and whose decoder strips a space."""
  decode = lambda ids: "".join(pieces[i] for i in ids).removeprefix(" ")
  return readable.names(
    dict(enumerate(pieces)), verbatim, decode, len(pieces) + 1
  )


@given(st.lists(st.text(LETTERS, min_size=1), unique=True, min_size=1))
def test_pieces_differ_and_join_to_the_text(pieces):
  found, whole = shown(["x", *pieces])
  assert len({*found}) == len(found) and all(found)
  assert whole == {*range(len(pieces) + 1)}
  text = "".join(pieces)
  if "<" not in text:
    assert tokenizer_folders.spelled(found[1:-1]) == text


def test_what_has_no_text_or_the_same_text_shows_its_id():
  found, _ = shown(["a", "a", "<s>"], verbatim=[2])
  assert found == ["a", "a⟨1⟩", "<s>", "⟨3⟩"]
