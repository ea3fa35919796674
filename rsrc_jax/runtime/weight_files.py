"""The weight files of a checkpoint, and what becomes of every tensor in them.

Only headers are read here, but for an output matrix that should be the
embedding. A tensor that nothing reads is an error: without it the model would
be another one, and nobody would notice.
"""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from rsrc_jax.models import pretrained

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
DTYPES = ("F32", "F16", "BF16", "F64")
# Tables that are computed from config.json.
COMPUTED = re.compile(r"rotary_emb\.inv_freq$")
# Of a multimodal model, beside its text model.
VISION = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")
QUANTISED = re.compile(r"(scales?|scale_inv|zero_point|qzeros|qweight|packed|"
                       r"g_idx|absmax|quant_map|SCB)$")  # fmt: skip
ROWS = 4096  # of two matrices that are compared at a time


def read_json(path: Path) -> dict[str, Any]:
  """Raises ValueError, with the path, where it holds no JSON object."""
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise ValueError(f"{path} can't be read ({error.strerror}).") from None
  except ValueError as error:
    raise ValueError(
      f"{path} is no JSON ({error}): is it cut off? Fetch it again."
    ) from None
  if not isinstance(found, dict):
    raise ValueError(f"{path} must hold fields ({{...}}): fetch it again.")
  return found


def find(folder: Path) -> dict[str, Path]:
  """The file of each tensor: those of the index, or model.safetensors.

  Other safetensors of the folder are not read, and a warning names them.

  Raises:
    ValueError: no such files, two models in one folder, a tensor in two files,
      an index that does not fit, a file that can't be read.
  """
  index, single = folder / INDEX, folder / SINGLE
  listed = _listed(index) if index.is_file() else {}
  paths = sorted(set(listed.values())) if listed else [single]
  if absent := [p.name for p in paths if not p.is_file()]:
    if not listed:
      raise ValueError(_nothing(folder))
    raise ValueError(
      f"{folder} lacks {', '.join(absent)}, which {INDEX} lists: fetch it "
      "again."
    )
  if single.is_file() and single not in paths:
    raise ValueError(
      f"{folder} holds two models: {SINGLE}, and the files of {INDEX}. Delete "
      "the one that is out of date."
    )
  files = {}
  for path in paths:
    for name in _names(path):
      if name in files:
        raise ValueError(
          f"{folder}: {name} is in {files[name].name} and in {path.name}: "
          "delete the one that is out of date."
        )
      files[name] = path
  if lost := [n for n, path in listed.items() if files.get(n) != path]:
    raise ValueError(
      f"{index} says that {lost[0]} is in {listed[lost[0]].name}, and it is "
      f"not ({len(lost)} of {len(listed)} tensors): fetch both again."
    )
  _note_others(folder, paths)
  return files


def account(
  folder: Path, settings: dict[str, Any], prefix: str, files: dict[str, Path]
) -> dict[str, pretrained.Place]:
  """The place of each tensor, once every tensor of the files has been judged.

  prefix: of the text model's tensors.

  Raises:
    ValueError: another number of layers, tensors that are missing, tensors that
      nothing reads, an output matrix beside tied embeddings.
  """
  wanted = pretrained.places(settings, prefix)
  _check_layers(folder, settings["depth"], prefix, files)
  if absent := sorted(set(wanted) - set(files)):
    raise ValueError(
      f"{folder} lacks {len(absent)} of {len(wanted)} tensors, {absent[0]} the "
      "first: is a file of it missing, or config.json another model's?"
    )
  head = pretrained.head(prefix)
  if settings["tied"] and head in files:
    _check_tied(folder, f"{prefix}embed_tokens.weight", head, files)
  beside = lambda name: prefix != "model." and VISION.match(name)
  unread = [
    name
    for name in sorted(set(files) - set(wanted) - {head})
    if not COMPUTED.search(name) and not beside(name)
  ]
  if unread:
    raise ValueError(_unread(folder, unread))
  return wanted


def check_dtype(path: Path, name: str, dtype: str) -> None:
  """Raises ValueError unless the numbers of a tensor are plain floats."""
  if dtype not in DTYPES:
    raise ValueError(
      f"{path}: {name} is of dtype {dtype}, and only {', '.join(DTYPES)} are "
      "read. Quantised weights are not: download the checkpoint in bfloat16, "
      "float16 or float32 that they were made from."
    )


def _listed(index: Path) -> dict[str, Path]:
  """The file of each tensor, by the index."""
  found = read_json(index).get("weight_map")
  if not isinstance(found, dict) or not found:
    raise ValueError(f"{index} has no weight_map: fetch it again.")
  wrong = [x for x in found.values() if not isinstance(x, str) or "/" in x]
  if wrong:
    raise ValueError(
      f"{index}: weight_map must name files of its folder, not {wrong[0]!r}."
    )
  return {name: index.parent / file for name, file in found.items()}


def _names(path: Path) -> list[str]:
  try:
    with safe_open(path, framework="np") as opened:
      return list(opened.keys())
  except (SafetensorError, OSError) as error:
    raise ValueError(
      f"{path} can't be read ({error}): it is truncated or no safetensors; "
      "fetch it again."
    ) from None


def _nothing(folder: Path) -> str:
  """What is wrong with a folder without model.safetensors and its index."""
  others = sorted(p.name for p in folder.glob("*.safetensors"))
  pickles = [p.name for x in PICKLES for p in sorted(folder.glob(x))]
  if others == [ADAPTER]:
    return (
      f"{folder} has only an adapter ({ADAPTER}): merge it into its model "
      "first (peft: merge_and_unload, then save_pretrained)."
    )
  if others:
    return (
      f"{folder} has neither {SINGLE} nor {INDEX}, but {', '.join(others[:3])}"
      f"{' and more' if len(others) > 3 else ''}: fetch the index, or rename "
      f"the file to {SINGLE} if it is the whole model."
    )
  if pickles:
    return (
      f"{folder} has only pickles ({pickles[0]}), which run code when they "
      'are read. Convert them where you trust them: python -c "from '
      "transformers import AutoModelForCausalLM as M; "
      f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\""
    )
  return f"{folder} has no *.safetensors."


def _note_others(folder: Path, paths: list[Path]) -> None:
  others = [p.name for p in sorted(folder.glob("*.safetensors"))
            if p not in paths]  # fmt: skip
  if others:
    why = " (an adapter: merge it first if it is meant)"
    warnings.warn(
      f"{folder}: {', '.join(others)} {'are' if len(others) > 1 else 'is'} not "
      f"read{why if ADAPTER in others else ''}; the model is "
      f"{paths[0].name}{' and the rest of its index' if paths[1:] else ''}.",
      stacklevel=4,
    )


def _check_layers(folder, depth: int, prefix: str, files) -> None:
  layer = re.compile(re.escape(prefix) + r"layers\.(\d+)\.")
  there = {int(m[1]) for name in files if (m := layer.match(name))}
  if there and there != set(range(depth)):
    raise ValueError(
      f"{folder}: config.json says num_hidden_layers={depth}, and the files "
      f"hold {len(there)} layers ({min(there)} to {max(there)}): is a file "
      "missing, or config.json another model's?"
    )


def _unread(folder: Path, names: list[str]) -> str:
  if any(QUANTISED.search(name) for name in names):
    why = (
      "the weights are quantised, which is not read here: download the "
      "checkpoint in bfloat16, float16 or float32 that they were made from"
    )
  elif all(name.endswith(".bias") for name in names):
    why = (
      "config.json says nothing of these biases (attention_bias, mlp_bias); if "
      "the model has them, write it there"
    )
  else:
    why = "is config.json another model's?"
  return (
    f"{folder}: {len(names)} tensors have no place in the model that "
    f"config.json describes, {', '.join(names[:3])}"
    f"{' and more' if len(names) > 3 else ''}: {why}"
  )


def _check_tied(folder: Path, embed: str, head: str, files) -> None:
  """Versions of transformers differ: 4 drops such a head, 5 uses it."""
  with (
    safe_open(files[embed], framework="np") as one,
    safe_open(files[head], framework="np") as two,
  ):
    a, b = one.get_slice(embed), two.get_slice(head)
    for name, x in ((embed, a), (head, b)):
      check_dtype(files[name], name, x.get_dtype())
    same, rows = a.get_shape() == b.get_shape(), a.get_shape()[0]
    for i in range(0, rows if same else 0, ROWS):
      part = slice(i, min(i + ROWS, rows))
      x, y = (np.asarray(z[part], np.float32) for z in (a, b))
      same = same and np.array_equal(x, y)
  if not same:
    raise ValueError(
      f"{folder}: config.json says tie_word_embeddings=true, and the files "
      f"hold a {head} that is not the embedding. Write false to use it, as "
      "transformers 5 does, or delete it from the files to use the embedding, "
      "as transformers 4 does."
    )
