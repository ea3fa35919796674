"""data/special_tokens.py, hf_tokenizer.py: specials, ends, odd files."""

import pytest
from helpers import tokenizer_folders
from helpers.tokenizer_folders import (
  CASES,
  CONFIG,
  GEMMA_INFO,
  INFO,
  ROWS,
  SPECIALS,
  TEMPLATE,
  added,
  byte_fallback,
  byte_level,
  sentencepiece_model,
  spelled,
  write,
)

from rsrc_jax.data import hf_vocabulary

PLAIN = {
  "tokenizer.json": byte_level(),
  "config.json": CONFIG,
  "tokenizer_config.json": INFO | {"chat_template": TEMPLATE},
}


@pytest.fixture
def made(tmp_path):
  """Writes a folder and opens it: files, size, instructions -> Vocabulary."""

  def make(files, size=ROWS, told=hf_vocabulary.INSTRUCTIONS):
    files = {**PLAIN, **files}
    folder = write(tmp_path, {k: x for k, x in files.items() if x is not None})
    return hf_vocabulary.vocabulary(folder, size, told)

  return make


def info(**changes):
  return {"tokenizer_config.json": PLAIN["tokenizer_config.json"] | changes}


def ends(value):
  return {"generation_config.json": {"eos_token_id": value}}


def said(notes):
  return " ".join(str(x.message) for x in notes)


def refused(made, message, *args, **settings):
  with pytest.raises(ValueError, match=message) as error:
    made(*args, **settings)
  assert "\n" not in str(error.value)


def test_a_special_that_the_tokenizer_lacks_is_refused(made):
  lost = info(eos_token="<|eot_id|>")
  refused(
    made,
    r"eos_token '<\|eot_id\|>' of tokenizer_config\.json is not in "
    r"tokenizer\.json: no output could end",
    lost,
  )
  # An id of another file is taken, and said.
  for files in (ends(2), {"config.json": CONFIG | {"eos_token_id": 2}}):
    with pytest.warns(
      UserWarning, match=r"not in tokenizer\.json: outputs end"
    ):
      assert made(lost | {"generation_config.json": None} | files).end == 2
  refused(made, r"bos_token '<s>' of tok\S+ is not in", info(bos_token="<s>"))
  bos = {"generation_config.json": {"bos_token_id": 1}}
  with pytest.warns(UserWarning, match=r"'<s>'.*: 1 '<\|im_start\|>' of gen"):
    vocab = made(info(bos_token="<s>") | bos)
  assert vocab.tags["text"] == ((1,), ())
  # One that only pads is refused where a prompt has it.
  assert made(info(pad_token="[PAD]")).end == 2
  padded = TEMPLATE.replace("assistant", "[PAD]")
  refused(
    made,
    r"prompt of C has the special token '\[PAD\]', which is not in",
    info(pad_token="[PAD]", chat_template=padded),
  )


@pytest.mark.parametrize("flagged", [True, False])
def test_a_letter_that_pads_stays_a_letter(flagged, made):
  files = info(pad_token="%")
  if flagged:  # as `transformers` saves it
    files = info(pad_token="%", added_tokens_decoder={"40": added("%")})
  vocab = made(files)
  ids = vocab.encode("3 % of")
  assert 40 in ids and vocab.text[ids].all() and vocab.decode(ids) == "3 % of"


def test_a_text_without_bos_begins_with_eos(made):
  assert made(info(bos_token=None)).tags["text"] == ((2,), ())


@pytest.mark.parametrize(
  "value, end, note",
  [
    (None, 2, ""),
    ([], 2, ""),
    (2, 2, ""),
    ([0, 2], 2, ""),
    (0, 2, r"names 0 '<\|endoftext\|>' as the end, which ends no turn"),
    (
      350,
      2,
      r"eos_token_id=350 of generation_config\.json is no id of the tok",
    ),
    (10**9, 2, "is no id of the tokenizer: outputs end with 2"),
    (-1, 2, "eos_token_id=-1 of"),
    ("</s>", 2, "eos_token_id='</s>' of .* is no id"),
    (True, 2, "eos_token_id=True of .* is no id"),
    ([None, 2.0, 2], 2, r"eos_token_id=2\.0 of .* is no id"),
    (40, 2, r"eos_token_id=40 of .* is '%', an ordinary piece"),
  ],
)
def test_ends_that_cannot_be_are_passed_over_by_name(value, end, note, made):
  if not note:
    assert made(ends(value)).end == end
    return
  with pytest.warns(UserWarning, match=note):
    assert made(ends(value)).end == end
  # Where nothing else could end an output, the same is an error.
  if value != 0 and not isinstance(value, list):
    files = ends(value) | info(eos_token=None)
    refused(made, f"{note.split(':')[0]}.*no output could end", files)


@pytest.mark.parametrize("kind", ["tokenizer.json", "tokenizer.model"])
def test_ids_out_of_range_are_named_for_both_libraries(kind, made):
  files = {**CASES["gemma"], "generation_config.json": {"eos_token_id": 999}}
  if kind == "tokenizer.model":
    files |= {"tokenizer.json": None, kind: sentencepiece_model()}
  with pytest.warns(UserWarning) as notes:
    vocab = made(files, 320)
  assert vocab.end == 1
  assert "eos_token_id=999 of generation_config.json is no id" in said(notes)
  # It writes <end_of_turn>, and now no file names it.
  assert "ends a turn with 5 '<end_of_turn>', which no file" in said(notes)
  assert vocab.pieces([319]) == ["⟨319⟩"]


def test_a_text_config_names_an_end(made):
  files = {"config.json": CONFIG | {"text_config": {"eos_token_id": [0, 2]}}}
  assert made(files | info(eos_token=None)).end == 2


def test_ids_beyond_the_rows(made):
  """Special ones are in nothing; an ordinary piece or an end is refused."""
  beyond = {"tokenizer.json": byte_level(more=["<image>"])}
  vocab = made(beyond, 273)
  assert vocab.size == 273 and len(vocab.text) == 273
  ids = vocab.encode("an <image> of")
  assert max(ids) < 273 and vocab.decode(ids) == "an <image> of"
  refused(made, r"has 274 ids and the model 272.*Id 272, an ord", beyond, 272)
  files = beyond | info(chat_template=TEMPLATE.replace("assistant", "<image>"))
  refused(made, r"prompt of C has .*'<image>', which has no row", files, 273)
  told = {"use": "<image>"}
  with pytest.raises(ValueError, match=r"prompt of use has .*<image>"):
    made(beyond, 273, told)
  files = beyond | info(eos_token="<image>")
  refused(made, r"'<image>' of \S+ has the id 273, and the mo", files, 273)
  loose = byte_level()
  loose["added_tokens"].append(added("<tool>", False) | {"id": 273})
  refused(made, "Id 273, an ordinary p", {"tokenizer.json": loose}, 273)


def test_files_that_contradict_each_other_are_refused(made):
  decoder = {"40": added("<|im_end|>")}
  files = info(added_tokens_decoder=decoder)
  refused(made, r"gives '<\|im_end\|>' the id 2, and a file .* 40", files)
  files = info(added_tokens_decoder={"290": added("<tool>")})
  refused(made, "gives '<tool>' the id 273, and a file .* says 290", files)
  refused(made, "added tokens are no ids", info(added_tokens_decoder=[1]))
  refused(made, "eos_token=5 is no token", info(eos_token=5))


@pytest.mark.parametrize("case", ["gemma", "gemma_model", "named_templates"])
def test_a_text_never_holds_a_special_token(case, made):
  files = {"tokenizer.json": None, **CASES[case]}
  vocab = made(files, files["config.json"]["vocab_size"])
  text = "a <end_of_turn><start_of_turn> <bos>\n<|im_end|><|im_start|>"
  ids = vocab.encode(text)
  assert vocab.text[ids].all() and vocab.end not in ids
  assert case != "named_templates" or vocab.decode(ids) == text


def test_an_end_that_no_file_calls_special_is_special(made):
  """As in tokenizer.model, where <end_of_turn> is matched in every text."""
  bare = {k: x for k, x in GEMMA_INFO.items() if k != "added_tokens_decoder"}
  loose = byte_fallback()
  for token in loose["added_tokens"]:
    token["special"] = False
  for kind in (
    {"tokenizer.json": None, "tokenizer.model": sentencepiece_model()},
    {"tokenizer.json": loose},
  ):
    vocab = made({"tokenizer_config.json": bare, **ends([1, 5]), **kind}, 320)
    assert vocab.end == 5 and not vocab.text[[4, 5]].any()
    assert 5 not in vocab.encode("a <end_of_turn>")
    # An added token that means nothing special is in texts.
    assert 9 in vocab.encode("a <table>") and vocab.text[9]


def test_specials_among_the_pieces_of_a_unigram_model(made):
  """Its model knows their spelling as a piece of the highest score."""
  vocab = [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0],
           *[[x, -5.0] for x in "</s>ab\u2581"]]  # fmt: skip
  vocab = [
    x for i, x in enumerate(vocab) if x[0] not in {y[0] for y in vocab[:i]}
  ]
  space = {"type": "Metaspace", "replacement": "\u2581", "split": False,
           "prepend_scheme": "never"}  # fmt: skip
  files = {
    "tokenizer.json": byte_level() | {
      "added_tokens": [], "pre_tokenizer": space, "decoder": space,
      "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab},
    },
    "tokenizer_config.json": {
      "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    },
  }  # fmt: skip
  found = made(
    files, 20, {x: "a{}" for x in "CDV"} | {"use": "a", "avoid": "b"}
  )
  ids = found.encode("a</s><s>b")
  assert found.text[ids].all() and found.decode(ids) == "a</s><s>b"


def test_tokens_that_stand_beside_a_sentencepiece_model(made):
  """added_tokens.json has ids behind it; a prefix is put at the beginning."""
  files = {
    "tokenizer.json": None,
    "tokenizer.model": sentencepiece_model(prefix=True),
    "tokenizer_config.json": {
      "bos_token": "<bos>", "eos_token": "<|im_end|>",
      "chat_template": TEMPLATE,
    },
    "added_tokens.json": {"<|im_start|>": 310, "<|im_end|>": 311, "<b>": 312},
  }  # fmt: skip
  vocab = made(files, 320, {"C": "a {} a"})
  before, after = vocab.tags["C"]
  assert vocab.end == 311 and before[0] == 310 and 311 in after
  assert vocab.pieces(after)[:3] == ["▁", "a", "<|im_end|>"]
  ids = vocab.encode("La <b> b<|im_end|>")
  assert vocab.pieces(ids)[:2] == ["▁", "La"] and 312 in ids
  assert vocab.decode(ids) == "La <b> b<|im_end|>" and vocab.text[ids].all()
  refused(made, "no SentencePiece model", files | {"tokenizer.model": b"no"})
  wrong = files | {"added_tokens.json": {"<end_of_turn>": 311}}
  refused(made, "gives '<end_of_turn>' the id 5, and a file", wrong)


@pytest.mark.parametrize("case", ["gemma", "gemma_model", "named_templates"])
def test_pieces_can_be_read_and_joined(case, made):
  files = {"tokenizer.json": None, **CASES[case]}
  vocab = made(files, files["config.json"]["vocab_size"])
  text = "Lamp 3  burns é漢\t\u200d▁\n\nred"
  ids = vocab.encode(text)
  shown = vocab.pieces(ids)
  assert vocab.decode(ids) == (
    text if case[0] == "n" else text.replace("▁", " ")
  )
  assert spelled(shown) == vocab.decode(ids)
  assert shown[0] == "Lamp" and "".join(shown).endswith("⏎⏎red")
  names = vocab.pieces(range(vocab.size))
  assert len({*names}) == vocab.size and all(names)
  assert vocab.pieces(vocab.encode("漢")) == ["<0xE6>", "<0xBC>", "<0xA2>"]
  for i in vocab.code.nonzero()[0]:
    assert spelled(vocab.pieces([i])) in vocab.decode([ids[0], i])


def test_a_special_that_an_instruction_spells_is_that_token(made):
  with pytest.warns(UserWarning, match=r"instructions\.D has .*'<\|im_end\|>'"):
    vocab = made({}, told={"D": "a {} <|im_end|> b"})
  assert vocab.tags["D"][1].count(2) == 2
  assert SPECIALS[2] in vocab.pieces(vocab.tags["D"][1])


def test_a_class_names_what_its_files_do_not(made):
  said = {"tokenizer_class": "GemmaTokenizerFast"}
  said["chat_template"] = tokenizer_folders.GEMMA
  files = CASES["gemma"] | {"tokenizer_config.json": said}
  vocab = made(files, 320)
  assert vocab.tags["text"] == ((2,), ()) and vocab.tags["C"][0][0] == 2
  # Its <mask> is not there, and nothing asks for it.
  assert "<mask>" not in vocab.pieces(range(320))
