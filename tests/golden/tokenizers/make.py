"""Asks `transformers` about the small tokenizers of the tests.

  pip install "rsrc-jax[parity]"
  python tests/golden/tokenizers/make.py

For each folder of helpers/tokenizer_folders.py: the prompt that its chat
template makes of a message and its ids, the ids of a text in which special
tokens are plain text, the ids of the named tokens, and where `generate` ends.
said.json has the answers of the version in it.
"""

import json
import sys
import tempfile
from pathlib import Path

import transformers
from transformers import GenerationConfig, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from helpers import tokenizer_folders  # noqa: E402

MESSAGE = f"Say it:\n{tokenizer_folders.TEXT}"


def main():
  found = {"transformers": transformers.__version__}
  for name, files in tokenizer_folders.CASES.items():
    with tempfile.TemporaryDirectory() as folder:
      found[name] = said(tokenizer_folders.write(Path(folder), files))
    print(name, found[name]["prompt"].encode())
  text = json.dumps(found, indent=1, ensure_ascii=False)
  (HERE / "said.json").write_text(text + "\n", encoding="utf-8")


def said(folder: Path) -> dict:
  read = PreTrainedTokenizerFast.from_pretrained(folder)
  talk = [{"role": "user", "content": MESSAGE}]
  talked = {"add_generation_prompt": True, "return_dict": False}
  plain = tokenizer_folders.TEXT + "".join(read.special_tokens_map.values())
  return {
    "prompt": read.apply_chat_template(talk, tokenize=False, **talked),
    "ids": read.apply_chat_template(talk, **talked),
    "plain": plain,
    "plain_ids": read(
      plain, add_special_tokens=False, split_special_tokens=True
    )["input_ids"],
    "bos": read.bos_token_id,
    "eos": read.eos_token_id,
    "special": sorted(read.all_special_ids),
    "ends": ends(folder),
  }


def ends(folder: Path) -> list[int]:
  """As PreTrainedModel.from_pretrained reads them for `generate`."""
  try:
    read = GenerationConfig.from_pretrained(folder)
  except OSError:
    read = GenerationConfig.from_pretrained(
      folder, config_file_name="config.json", _from_model_config=True
    )
  found = read.eos_token_id
  return found if isinstance(found, list) else [found] * (found is not None)


if __name__ == "__main__":
  main()
