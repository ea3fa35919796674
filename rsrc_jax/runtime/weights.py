"""Pretrained weights between safetensors and the mesh, both ways.

Arrays are built shard by shard from memory-mapped files: each device's part is
read once, and host memory holds no second copy of the model. Pickles are never
opened, because they can run code.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from rsrc_jax.models import pretrained
from rsrc_jax.runtime import sharding, weight_files
from rsrc_jax.types import Params

PREFIXES = ("model.", "language_model.model.", "model.language_model.")
# How the names of files of weights end, and of what lists them.
WEIGHTS = (
  ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack",
  ".onnx", ".npz", ".index.json",
)  # fmt: skip
TEMPLATES = "additional_chat_templates"  # a folder of them
SHARD_BYTES = 4 * 2**30  # of an exported file


class Checkpoint(NamedTuple):
  """An opened folder, of which only headers have been read."""

  folder: Path
  config: dict[str, Any]  # config.json, unchanged
  settings: dict[str, Any]  # keyword arguments of models.pretrained.make
  places: dict[str, pretrained.Place]  # by the name of each tensor
  files: dict[str, Path]  # of each tensor


def open_folder(folder: str | Path) -> Checkpoint:
  """Opens a checkpoint, and checks that its tensors are those of its config.

  Raises:
    ValueError: no such folder, no config.json, a config.json that can't be met
      (see pretrained.settings), files or tensors that are missing, unread,
      quantised or of another shape (see weight_files); with a remedy.
  """
  folder = Path(folder).expanduser()
  path = folder / "config.json"
  if not path.is_file():
    raise ValueError(
      f"{folder} has no config.json: give the folder of a Hugging Face "
      "checkpoint (config.json, *.safetensors, tokenizer.json)."
    )
  config = weight_files.read_json(path)
  try:
    settings = pretrained.settings(config)
  except ValueError as error:  # it begins with "config.json"
    raise ValueError(f"{folder}/{error}") from None
  files = weight_files.find(folder)
  prefix = next(
    (p for p in PREFIXES if f"{p}norm.weight" in files), PREFIXES[0]
  )
  places = weight_files.account(folder, settings, prefix, files)
  found = Checkpoint(folder, config, settings, places, files)
  _check_tensors(found)
  return found


def load(
  found: Checkpoint, mesh: jax.sharding.Mesh, dtype: Any = np.float32
) -> Params:
  """The parameters on the mesh, each where sharding.PARTITIONS puts it.

  dtype: of all parameters, whatever the dtype in the file.
  """
  shapes = tree(found.settings, dtype)
  where = sharding.shardings(mesh, shapes)
  by_path = {}
  for name, place in found.places.items():
    by_path.setdefault(place.path, {})[place.layer] = name
  opened = _open_all(found)

  def build(path, shape, where):
    names = by_path[tuple(k.key for k in path)]
    read = lambda name: opened[found.files[name]].get_slice(name)
    part = _reader(names, found.places, read, shape)
    return jax.make_array_from_callback(shape.shape, where, part)

  return jax.tree_util.tree_map_with_path(build, shapes, where)


def tree(settings: dict[str, Any], dtype: Any = np.float32) -> Params:
  """Shapes and dtypes of the parameters, without allocation."""
  init = pretrained.make(**settings).init
  shapes = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)


def files_read(found: Checkpoint) -> list[Path]:
  """The files of a checkpoint that a run may read: weights and small ones."""
  kinds = (".json", ".jinja", ".model")
  small = [x for x in others(found.folder) if x.suffix in kinds]
  small += found.folder.glob("*.safetensors.index.json")
  return sorted({*found.files.values(), *small, found.folder / "config.json"})


def others(folder: Path) -> list[Path]:
  """The files of a checkpoint that are neither weights nor config.json."""
  every = [x for x in folder.iterdir() if x.name[0] != "."]
  every += folder.glob(f"{TEMPLATES}/*.jinja")
  return sorted(
    x
    for x in every
    if x.is_file() and x.name != "config.json" and not x.name.endswith(WEIGHTS)
  )


def check_new(folder: Path) -> None:
  """Refuses an output folder with files in it.

  Weights beside the index of others would be read as a mixture.

  Raises:
    ValueError: there is something at this path that is no empty folder.
  """
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(
      f"{folder} is not empty, and a checkpoint is written to a new folder: "
      "give another one, or remove it."
    )


def save(
  folder: str | Path,
  params: Params,
  config: dict[str, Any],
  dtype: Any = np.float32,
  beside: Iterable[Path] = (),
) -> list[Path]:
  """Writes a checkpoint for `transformers`: config.json and safetensors.

  config.json comes last: where it is, all is.

  Args:
    folder: made; it may exist and be empty.
    params: adapters merged (lora.merge).
    config: a config.json, of the checkpoint that the parameters came from.
    dtype: of the tensors.
    beside: files of that checkpoint to be copied, of `others`.

  Returns:
    The files of weights.

  Raises:
    ValueError: the folder is not empty.
  """
  folder = Path(folder)
  check_new(folder)
  folder.mkdir(parents=True, exist_ok=True)
  part = folder / "config.json.part"
  part.write_text(json.dumps(_exported(config, dtype), indent=2) + "\n")
  shards = _shards(params, config, dtype)
  names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
           for i in range(len(shards))]  # fmt: skip
  names = ["model.safetensors"] if len(shards) == 1 else names
  for name, shard in zip(names, shards, strict=True):
    save_file(shard, folder / name, metadata={"format": "pt"})
    # safetensors lets nobody else read it, whatever the umask is.
    shutil.copymode(part, folder / name)
  if len(shards) > 1:
    index = {n: f for f, s in zip(names, shards, strict=True) for n in s}
    total = sum(x.nbytes for s in shards for x in s.values())
    text = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(text))
  for path in beside:
    inner = folder / TEMPLATES if path.parent.name == TEMPLATES else folder
    inner.mkdir(exist_ok=True)
    # Not their modes, which may be narrower than the user's new files have.
    shutil.copyfile(path, inner / path.name)
  part.replace(folder / "config.json")
  return [folder / name for name in names]


def _shards(params: Params, config: dict, dtype: Any) -> list[dict[str, Any]]:
  """The tensors of each file, by name."""
  settings = pretrained.settings(config)
  shards, size = [{}], 0
  for name, place in pretrained.places(settings).items():
    x = np.asarray(_at(params, place), np.float32) - np.float32(place.offset)
    x = np.ascontiguousarray(x.T if place.transposed else x).astype(dtype)
    if size and size + x.nbytes > SHARD_BYTES:
      shards, size = [*shards, {}], 0
    shards[-1][name], size = x, size + x.nbytes
  return shards


def _exported(config: dict[str, Any], dtype: Any) -> dict[str, Any]:
  """config.json of the text model, without Gemma 3's outer config."""
  config = config.get("text_config") or config
  if config["model_type"] == "gemma3_text":
    config = {"architectures": ["Gemma3ForCausalLM"], **config}
  return {**config, "dtype": np.dtype(dtype).name}


def _at(params: Params, place: pretrained.Place):
  for key in place.path:
    params = params[key]
  return params if place.layer is None else params[place.layer]


def _reader(names, places, read, shape) -> Callable:
  """part(index) -> the part of a parameter at an index of slices."""

  def one(name, index):
    place, x = places[name], read(name)
    part = x[index[::-1]] if place.transposed else x[index]
    part = part.T if place.transposed else part
    return part.astype(np.float32) + np.float32(place.offset)

  def part(index):
    if None in names:  # not a parameter of stacked layers
      return one(names[None], index).astype(shape.dtype)
    layers = range(shape.shape[0])[index[0]]
    return np.stack(
      [one(names[n], index[1:]).astype(shape.dtype) for n in layers]
    )

  return part


def _open_all(found: Checkpoint) -> dict[Path, Any]:
  """Opens each file once, and reads only headers."""
  return {
    path: safe_open(path, framework="np") for path in set(found.files.values())
  }


def _check_tensors(found: Checkpoint) -> None:
  """Checks dtypes and shapes, of which headers tell."""
  shapes = tree(found.settings)
  opened = _open_all(found)
  for name, place in found.places.items():
    leaf = shapes
    for key in place.path:
      leaf = leaf[key]
    want = leaf.shape if place.layer is None else leaf.shape[1:]
    want = tuple(want[::-1]) if place.transposed else tuple(want)
    tensor = opened[found.files[name]].get_slice(name)
    weight_files.check_dtype(found.files[name], name, tensor.get_dtype())
    have = tuple(tensor.get_shape())
    if have != want:
      raise ValueError(
        f"{found.files[name]}: {name} is {list(have)}, and config.json "
        f"says {list(want)}: is it another model's?"
      )
