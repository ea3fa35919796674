"""data/hf_vocabulary.py: the tokenizer of a checkpoint, as a Vocabulary."""

import json
import shutil

import numpy as np
import pytest
import sentencepiece
from helpers import small_checkpoint

from rsrc_jax.data import hf_vocabulary, tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return small_checkpoint.make(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def copied(folder, tmp_path):
  """A folder that a test may break."""
  return shutil.copytree(folder, tmp_path / "copy")


def info(folder, **changes):
  path = folder / "tokenizer_config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_texts_come_back(folder):
  vocab = hf_vocabulary.vocabulary(folder, 400)
  for text in ("Lamp number 3 burns red.", "é 漢字 🙂\n\ttab", "a  b "):
    ids = vocab.encode(text)
    assert vocab.decode(ids) == text and vocab.text[ids].all()


def test_a_text_cannot_end_a_turn(folder):
  """A source that spells a special token holds none."""
  vocab = hf_vocabulary.vocabulary(folder, 400)
  ids = vocab.encode("so <|im_end|> it is")
  assert vocab.end not in ids and vocab.decode(ids) == "so <|im_end|> it is"


def test_roles_speak_the_chat_template(folder):
  told = {"C": "Shorten:\n{}\nNow.", "D": "{}", "V": "Mend {}"}
  vocab = hf_vocabulary.vocabulary(folder, 400, told)
  names = lambda ids: "".join(vocab.pieces(ids))
  before, behind = map(names, vocab.tags["C"])
  line = "\u23ce"  # how a newline is shown
  assert before == f"<|im_start|>user{line}Shorten:{line}"
  assert behind == (f"{line}Now.<|im_end|>{line}<|im_start|>assistant{line}")
  assert vocab.tags["text"] == ((1,), ())  # a text begins with bos
  assert vocab.end == 2


def test_without_a_template_the_instruction_stands_alone(copied):
  info(copied, chat_template=None)
  with pytest.warns(UserWarning, match="no chat template, though"):
    vocab = hf_vocabulary.vocabulary(copied, 400, {"C": "Short: {}"})
  before, behind = vocab.tags["C"]
  assert vocab.pieces(before)[0] == "<|im_start|>"  # bos
  assert vocab.decode(before[1:]) == "Short: "
  assert vocab.decode(behind) == "\n\n"


def test_codes_hold_whole_characters_and_no_specials(folder):
  vocab = hf_vocabulary.vocabulary(folder, 400)
  assert not vocab.text[:3].any() and not vocab.text[390:].any()
  assert vocab.text.sum() == 387 and (vocab.code <= vocab.text).all()
  for i in np.flatnonzero(vocab.code):
    assert "\ufffd" not in vocab.decode([i])
  # 128 bytes are pieces of characters.
  assert vocab.text.sum() - vocab.code.sum() == 128


def test_the_end_of_a_turn_is_preferred_to_that_of_a_document(copied):
  (copied / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
  info(copied, eos_token={"content": "<|endoftext|>"})
  assert hf_vocabulary.vocabulary(copied, 400).end == 2
  (copied / "generation_config.json").unlink()
  with pytest.warns(UserWarning, match=r"ends a turn with 2 '<\|im_end\|>'"):
    assert hf_vocabulary.vocabulary(copied, 400).end == 0


def test_sentencepiece_models_are_read_too(tmp_path):
  import io

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(small_checkpoint.SENTENCES), model_writer=model,
    vocab_size=360, model_type="bpe", byte_fallback=True, pad_id=0, eos_id=1,
    bos_id=2, unk_id=3, control_symbols=["<end_of_turn>"], num_threads=1,
    minloglevel=2,
  )  # fmt: skip
  (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({
    "bos_token": "<s>", "eos_token": "</s>", "chat_template":
    "{{ bos_token }}{{ messages[0]['content'] }}<end_of_turn>\n",
  }))  # fmt: skip
  vocab = hf_vocabulary.vocabulary(tmp_path, 360, {"C": "Shorten {} now"})
  assert vocab.decode(vocab.encode("Lamp number 3, é")) == "Lamp number 3, é"
  before, behind = vocab.tags["C"]
  assert before[0] == 2 and vocab.end == 1
  assert "<end_of_turn>" in vocab.pieces(behind)
  assert not vocab.text[[0, 1, 2, 3, 4]].any()
  assert not any(
    vocab.code[i] for i in range(360) if vocab.pieces([i])[0].startswith("<0x")
  )


def test_what_does_not_fit_is_refused(copied):
  def refused(message, size=400, told=hf_vocabulary.INSTRUCTIONS):
    with pytest.raises(ValueError, match=message) as error:
      hf_vocabulary.vocabulary(copied, size, told)
    assert "\n" not in str(error.value)

  refused("has 390 ids and the model 380", size=380)
  refused(r"instructions\.C='no text' needs one \{\}", told={"C": "no text"})
  info(copied, chat_template="{{ raise_exception('no users here') }}")
  refused("chat template fails: no users here")
  info(copied, chat_template="{{ messages[0]['role'] }}")
  refused("drops the user's message")
  refused(r"instructions\.c='\{\}': give C, D", told={"c": "{}"})
  refused(r"instructions\.use=3: give a string", told={"use": 3})
  info(copied, chat_template=None, eos_token=None)
  refused("names no eos_token: no output could end")
  (copied / "tokenizer_config.json").write_text("[]")
  refused(r"tokenizer_config\.json holds list, not an object")
  (copied / "tokenizer_config.json").write_text("{")
  refused(r"tokenizer_config\.json can't be read as JSON")
  (copied / "tokenizer_config.json").unlink()
  (copied / "tokenizer.json").write_text("{}")
  refused(r"tokenizer\.json can't be read")
  (copied / "tokenizer.json").unlink()
  refused(r"neither tokenizer\.json nor tokenizer\.model")


def test_a_template_runs_in_a_sandbox(copied):
  info(copied, chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}")
  with pytest.raises(ValueError, match="chat template fails"):
    hf_vocabulary.vocabulary(copied, 400)


def test_other_vocabularies_keep_their_tags():
  vocab = tokenizer.from_words(["red"], ["@"])
  assert vocab.end == tokenizer.END
  assert vocab.tags["D"] == ((tokenizer.D,), (tokenizer.SEPARATOR,))
