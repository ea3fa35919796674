"""Small tokenizer folders, as checkpoints of others have them.

Needs no rsrc_jax, so that tests/golden/tokenizers/make.py can write the same
folders where `transformers` is. All is spelled out and nothing is trained, so
that ids never move.
"""

import json
import re
from pathlib import Path

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROWS = 300  # of the model
MERGES = (
  "L a", "La m", "Lam p", "Ġ b", "Ġb u", "u r", "n s", "Ġ r", "e d", "Ġr ed",
  "u s", "e r", "us er", "Ċ Ċ",
)  # fmt: skip
TEXT = "Lamp 3 burns\n<red> & blåa 漢."
TEMPLATE = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
  "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
  "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OTHER = "other {{ messages[0]['content'] }}"
# What templates use beyond plain Jinja.
RICH = """
{%- if tools is not none %}{{ tools | length }} tools{% endif -%}
{%- if documents is not none %}{{ documents | length }} pages{% endif -%}
{%- if pad_token is defined %}pads{% endif -%}
{{ bos_token + image_token + audio_token }}{{ {'a': '<b> & "é"'} | tojson }}
{% for m in messages %}
{% if m.role == 'system' %}{% continue %}{% endif %}
{% if m.role == 'assistant' %}
{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}
{% else %}{{ m.role + ':' + m.content | trim }}<|im_end|>
{% endif %}
{% if loop.index > 5 %}{% break %}{% endif %}
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>{% endif -%}
"""
GEMMA = (
  "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + (m['role'] if "
  "m['role'] == 'user' else 'model') + '\n' + m['content'] | trim + "
  "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
  "{{ '<start_of_turn>model\n' }}{% endif %}"
)
INFO = {
  "tokenizer_class": "PreTrainedTokenizerFast",
  "bos_token": "<|im_start|>",
  "eos_token": "<|im_end|>",
}
CONFIG = {"model_type": "llama", "vocab_size": ROWS}


def added(token: str, special: bool = True) -> dict:
  return {
    "content": token, "single_word": False, "lstrip": False, "rstrip": False,
    "normalized": False, "special": special,
  }  # fmt: skip


def letters() -> list[str]:
  """The letters of all bytes in byte-level pieces, in the order of bytes."""
  kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
  rest = iter(range(256, 512))
  return [chr(x) if x in kept else chr(next(rest)) for x in range(256)]


def byte_level(specials=SPECIALS, flagged=None, more=()) -> dict:
  """tokenizer.json: specials, 256 bytes, MERGES.

  flagged: specials that it knows as added tokens; by default all.
  more: added tokens behind its vocabulary.
  """
  pieces = [*specials, *letters()]
  pieces += ["".join(x.split()) for x in MERGES]
  flagged = specials if flagged is None else flagged
  behind = [added(x) | {"id": len(pieces) + i} for i, x in enumerate(more)]
  level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
  return {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [added(x) | {"id": pieces.index(x)} for x in flagged]
                    + behind,
    "normalizer": None, "pre_tokenizer": {"type": "ByteLevel"} | level,
    "post_processor": None, "decoder": {"type": "ByteLevel"} | level,
    "model": {
      "type": "BPE", "dropout": None, "unk_token": None,
      "continuing_subword_prefix": None, "end_of_word_suffix": None,
      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
      "vocab": {x: i for i, x in enumerate(pieces)}, "merges": list(MERGES),
    },
  }  # fmt: skip


def byte_fallback() -> dict:
  """tokenizer.json as Gemma's: "▁" for spaces, bytes for what it lacks."""
  words = "▁ L La Lam Lamp b bu r u ur n s ns e d ed red us er user m o mo el"
  pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>",
            "<end_of_turn>", "\n", "\n\n", "▁▁", "<table>",
            *(f"<0x{x:02X}>" for x in range(256)), *words.split(),
            *"acilptyS35.&:<>å", "▁b", "▁bu", "▁r", "▁red"]  # fmt: skip
  merges = ["L a", "La m", "Lam p", "b u", "u r", "n s", "e d", "r ed", "u s",
            "e r", "us er", "m o", "e l", "▁ b", "▁b u", "▁ r",
            "▁ red"]  # fmt: skip
  flags = [added(x, i < 6) | {"id": i} for i, x in enumerate(pieces[:10])]
  made = byte_level()
  return made | {
    "added_tokens": flags,
    "normalizer": {
      "type": "Replace", "pattern": {"String": " "}, "content": "▁",
    },
    "pre_tokenizer": {
      "type": "Split", "pattern": {"String": " "},
      "behavior": "MergedWithPrevious", "invert": False,
    },
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
    ]},
    "model": made["model"] | {
      "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
      "vocab": {x: i for i, x in enumerate(pieces)}, "merges": merges,
    },
  }  # fmt: skip


def sentencepiece_model(prefix: bool = False) -> bytes:
  """tokenizer.model with the pieces of byte_fallback.

  prefix: whether it puts a space before the first word.
  """
  from sentencepiece import sentencepiece_model_pb2 as schema

  made, proto = byte_fallback(), schema.ModelProto()
  kinds = schema.ModelProto.SentencePiece
  order = [x.replace(" ", "") for x in made["model"]["merges"]]
  for token, i in made["model"]["vocab"].items():
    kind = kinds.NORMAL
    if i < 4:
      kind = kinds.UNKNOWN if i == 3 else kinds.CONTROL
    elif i < 10:
      kind = kinds.USER_DEFINED
    elif token.startswith("<0x"):
      kind = kinds.BYTE
    score = -float(order.index(token)) if token in order else -100.0 - i
    score = score if kind == kinds.NORMAL else 0.0
    proto.pieces.add(piece=token, score=score, type=kind)
  trainer, normal = proto.trainer_spec, proto.normalizer_spec
  trainer.model_type, trainer.byte_fallback = trainer.BPE, True
  trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = range(4)
  trainer.pad_piece, trainer.eos_piece = "<pad>", "<eos>"
  trainer.bos_piece, trainer.unk_piece = "<bos>", "<unk>"
  trainer.vocab_size = len(proto.pieces)
  normal.name, normal.add_dummy_prefix = "identity", prefix
  normal.remove_extra_whitespaces = False
  return proto.SerializeToString()


GEMMA_INFO = {
  "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": GEMMA,
  "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
  "unk_token": "<unk>",
  "added_tokens_decoder": {
    str(i): added(x, i < 6)
    for i, x in enumerate([*byte_fallback()["model"]["vocab"]][:10])
  },
}  # fmt: skip
LIST = [
  {"name": "tool_use", "template": OTHER},
  {"name": "default", "template": TEMPLATE},
]
PLAIN = {"tokenizer.json": byte_level(), "config.json": CONFIG}
# name -> file -> its content. make.py asks `transformers` about each.
CASES = {
  "jinja_file": PLAIN | {
    "tokenizer_config.json": INFO | {"chat_template": OTHER},
    "chat_template.jinja": TEMPLATE,
  },
  "more_jinja_files": PLAIN | {
    "tokenizer_config.json": INFO | {"chat_template": OTHER},
    "chat_template.jinja": TEMPLATE,
    "additional_chat_templates/tool_use.jinja": OTHER,
  },
  "named_templates": PLAIN | {
    "tokenizer_config.json": INFO | {"chat_template": LIST},
  },
  "rich_template": PLAIN | {
    "tokenizer_config.json": INFO | {
      "chat_template": RICH, "image_token": "<|endoftext|>",
      "extra_special_tokens": {"audio_token": "<|im_end|>"},
    },
  },
  # Older files: the map replaces names, and adds a token by its id.
  "legacy_files": PLAIN | {
    "tokenizer_config.json": INFO | {
      "eos_token": "<|endoftext|>",
      "chat_template": TEMPLATE.replace("assistant", "<|answer|>"),
    },
    "special_tokens_map.json": {
      "eos_token": added("<|im_end|>"),
      "additional_special_tokens": ["<|answer|>"],
    },
    "added_tokens.json": {"<|answer|>": 273, "<tool>": 274},
  },
  # Newer files: the decoder counts, and the map does not.
  "added_decoder": PLAIN | {
    "tokenizer_config.json": INFO | {
      "chat_template": TEMPLATE.replace("assistant", "<|answer|>"),
      "added_tokens_decoder": {
        **{str(i): added(x) for i, x in enumerate(SPECIALS)},
        "273": added("<|answer|>"), "274": added("<tool>", False),
      },
    },
    "special_tokens_map.json": {"eos_token": "<|endoftext|>"},
  },
  # tokenizer.json has them in its vocabulary, and calls none special.
  "unflagged": PLAIN | {
    "tokenizer.json": byte_level(flagged=()),
    "tokenizer_config.json": INFO | {
      "chat_template": TEMPLATE, "pad_token": "<|endoftext|>",
    },
  },
  "generation_ends": PLAIN | {
    "tokenizer_config.json": INFO | {
      "chat_template": TEMPLATE, "eos_token": "<|endoftext|>",
    },
    "generation_config.json": {"eos_token_id": [0, 2], "bos_token_id": 1},
    "config.json": CONFIG | {"eos_token_id": 0},
  },
  "config_ends": PLAIN | {
    "tokenizer_config.json": INFO | {
      "chat_template": TEMPLATE, "eos_token": None,
    },
    "config.json": CONFIG | {"eos_token_id": 2},
  },
  # One special id more than the model has rows, as Gemma 3 1B.
  "beyond_the_rows": PLAIN | {
    "tokenizer.json": byte_level(more=["<image_soft_token>"]),
    "tokenizer_config.json": INFO | {"chat_template": TEMPLATE},
    "config.json": CONFIG | {"vocab_size": 273},
  },
  "gemma": {
    "tokenizer.json": byte_fallback(), "tokenizer_config.json": GEMMA_INFO,
    "config.json": CONFIG | {"vocab_size": 320},
    "generation_config.json": {"eos_token_id": [1, 5]},
  },
  "gemma_model": {
    "tokenizer.model": sentencepiece_model(),
    "tokenizer_config.json": GEMMA_INFO,
    "config.json": CONFIG | {"vocab_size": 320},
    "generation_config.json": {"eos_token_id": [1, 5]},
  },
}  # fmt: skip


def spelled(pieces: list[str]) -> str:
  """The text that shown pieces spell: the inverse of rsrc_jax.data.readable."""
  joined = "".join(pieces)
  for letter, sign in {" ": "▁", "\n": "⏎", "\t": "⇥", "\r": "␍"}.items():
    joined = joined.replace(sign, letter)
  joined = re.sub(
    "(<0x..>)+",
    lambda x: bytes.fromhex(re.sub("<0x|>", "", x[0])).decode(),
    joined,
  )
  return re.sub(r"<U\+(\w+)>", lambda x: chr(int(x[1], 16)), joined)


def write(folder: Path, files: dict) -> Path:
  """Writes files of a name -> text, bytes, or what becomes JSON."""
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      text = content if isinstance(content, str) else json.dumps(content)
      path.write_text(text, encoding="utf-8")
  return folder
