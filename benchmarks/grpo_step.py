"""A whole GRPO step: ours beside TRL's and Tunix's, the same model and sizes.

  ./.venv/bin/python benchmarks/grpo_step.py --trl=PYTHON --tunix=PYTHON

PYTHON is the interpreter of an environment that has the peer (`pip install trl
torch`; `pip install google-tunix`); left out, it is "not run". A Llama of 4
layers, width 256, 4 heads, feed-forward 704, vocabulary 4,096, tied (4.26M
parameters), float32; 8 prompts of 64 tokens, 8 samples each of exactly 32;
reward: the share of even ids; AdamW, clip 1, one update a batch, no KL,
checkpointing of activations off. Each runs in a process of its own; they take
turns, `--rounds` steps each, after two to warm up. A ratio is of neighbours.
Memory is the largest resident set of the process. "two roles" is ours with C
and D: 8 codes of 32 tokens a prompt, 2 readings of 32 tokens a code, both
learnt: three times the samples. Written to grpo_step.md.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = {
  "vocab_size": 4_096, "hidden_size": 256, "intermediate_size": 704,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
  "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
  "hidden_act": "silu",
}  # fmt: skip
PROMPTS, PROMPT, GROUP, NEW, DECODES, WARM, RATE = 8, 64, 8, 32, 2, 2, 1e-5


def main():
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--trl", help="Python that has trl")
  flags.add_argument("--tunix", help="Python that has tunix")
  flags.add_argument("--rounds", type=int, default=10)
  flags.add_argument("--child", choices=(*RUNS,))
  asked = flags.parse_args()
  if asked.child:
    return RUNS[asked.child]()
  mine = dict.fromkeys(("ours", "two roles"), sys.executable)
  pythons = {**mine, "trl": asked.trl, "tunix": asked.tunix}
  children = {k: Child(k, v) for k, v in pythons.items() if v}
  found = {name: [] for name in children}
  for number in range(WARM + asked.rounds):
    for name, child in children.items():
      said = child.step()
      if number >= WARM:
        found[name].append(said)
  text = table(found, pythons)
  print(text)
  (HERE / "grpo_step.md").write_text(text + "\n")


class Child:
  """A process that makes one step whenever it is told to."""

  def __init__(self, name: str, python: str):
    self.process = subprocess.Popen(
      [python, __file__, f"--child={name}"], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

  def step(self) -> dict:
    self.process.stdin.write("\n")
    self.process.stdin.flush()
    for line in self.process.stdout:
      if line.startswith("{"):
        return json.loads(line)
    raise SystemExit("A peer ended: see its output above.")


def serve(step) -> None:
  """Answers every line of stdin with the seconds of one step."""
  for _ in sys.stdin:
    start = time.perf_counter()
    step()
    report(time.perf_counter() - start)


def report(seconds: float) -> None:
  kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(json.dumps({"seconds": seconds, "gib": kib / 2**20}), flush=True)


def ours(two_roles: bool = False) -> None:
  # Not above: a peer's interpreter runs this file without rsrc_jax.
  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  from rsrc_jax.lm import rollout
  from rsrc_jax.lm.keys import row_keys
  from rsrc_jax.lm.roles import Role
  from rsrc_jax.models import pretrained
  from rsrc_jax.rl import curriculum, learner
  from rsrc_jax.types import (
    Batch,
    Episode,
    Given,
    Pattern,
    Tokens,
    TrainState,
  )

  policy = pretrained.make(
    **pretrained.settings({"model_type": "llama", **SIZES})
  )
  every = np.ones(SIZES["vocab_size"], bool)
  role = Role(0, 0, SIZES["vocab_size"], NEW, every)  # no id ends it
  roles = {"C": role, "D": role} if two_roles else {"C": role}

  def play(params, frozen, carry, batch, key, given):
    keys = row_keys(key, batch.row)
    c = rollout.sample(policy, params, role, batch.source, keys, samples=GROUP)
    even = lambda out: jnp.mean(1.0 - out.output.ids % 2, -1)
    if not two_roles:
      return Episode({"C": c}, {"C": even(c)}, {}, {}), carry
    # Every code is a prompt of D's.
    codes = Tokens(*(x.reshape(-1, NEW) for x in c.output))
    d = rollout.sample(
      policy, params, role, codes, jax.random.split(key, len(codes.ids)),
      samples=DECODES,
    )  # fmt: skip
    of_code = jnp.mean(even(d), -1).reshape(even(c).shape)
    return Episode(
      {"C": c, "D": d}, {"C": of_code, "D": even(d)}, {}, {}
    ), carry

  relax = curriculum.linear(hidden=0.0, steps=0, explore_steps=0)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE))
  loss = learner.make_loss(
    policy, roles, weights=dict.fromkeys(roles, 1.0), lesson_weights={},
    entropy_bonus={}, clip_low=0.2, clip_high=0.2, importance_cap=2.0,
    per_token=True,
  )  # fmt: skip
  step = jax.jit(
    learner.make_step(
      policy, roles, Pattern(tuple, play), tx, loss=loss,
      normalize_std=True,
    ),
    donate_argnums=0,
  )  # fmt: skip
  params = jax.jit(policy.init)(jax.random.key(0))
  state = TrainState(
    jnp.int32(0), params, tx.init(params), (), relax.init(), jnp.uint32(0)
  )
  rng = np.random.default_rng(0)

  def once():
    nonlocal state
    ids = rng.integers(3, SIZES["vocab_size"], (PROMPTS, PROMPT))
    prompt = Tokens(ids.astype(np.int32), np.ones(ids.shape, bool))
    batch = Batch(prompt, np.arange(PROMPTS, dtype=np.int32))
    state, metrics = step(state, (), batch, Given((), state.curriculum))
    jax.block_until_ready((state, metrics))

  serve(once)


def trl() -> None:
  import numpy as np
  from datasets import Dataset
  from tokenizers import Tokenizer, models, pre_tokenizers
  from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
  )
  from trl import GRPOConfig, GRPOTrainer

  names = {f"w{i}": i for i in range(SIZES["vocab_size"])}
  words = Tokenizer(models.WordLevel(names, unk_token="w0"))
  words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="w0", eos_token="w1", unk_token="w0",
    padding_side="left",
  )  # fmt: skip
  rng = np.random.default_rng(0)
  drawn = rng.integers(3, SIZES["vocab_size"], (4_096, PROMPT))
  prompts = [" ".join(f"w{i}" for i in row) for row in drawn]

  def reward(completion_ids, **_):
    return [float(np.mean(1.0 - np.asarray(x) % 2)) for x in completion_ids]

  class Turns(TrainerCallback):
    """Waits for its turn before every step."""

    def on_step_begin(self, *_, **__):
      if not sys.stdin.readline():
        sys.exit()
      self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
      report(time.perf_counter() - self.start)

  model = LlamaForCausalLM(LlamaConfig(**SIZES, eos_token_id=1, pad_token_id=0))
  settings = GRPOConfig(
    output_dir="/tmp/trl", report_to=[], save_strategy="no", max_steps=1_000,
    per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
    max_completion_length=NEW, generation_kwargs={"min_new_tokens": NEW},
    learning_rate=RATE, max_grad_norm=1.0, beta=0.0, temperature=1.0,
    gradient_checkpointing=False, bf16=False, fp16=False, use_cpu=True,
    logging_strategy="no", disable_tqdm=True,
  )  # fmt: skip
  GRPOTrainer(
    model=model, reward_funcs=reward, args=settings,
    train_dataset=Dataset.from_dict({"prompt": prompts}),
    processing_class=tokenizer, callbacks=[Turns()],
  ).train()  # fmt: skip


def tunix() -> None:
  import jax
  import numpy as np
  import optax
  from flax import nnx
  from tunix.models.llama3 import model as llama3
  from tunix.rl import rl_cluster as clusters
  from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
  from tunix.rl.rollout.base_rollout import RolloutConfig

  class Words:
    """ "w5 w6" <-> [5, 6]."""

    encode = staticmethod(lambda text: [int(w[1:]) for w in text.split()])
    decode = staticmethod(lambda ids: " ".join(f"w{int(i)}" for i in ids))
    bos_id, eos_id, pad_id = (lambda self, i=i: i for i in (2, 1, 0))

  sizes = llama3.ModelConfig(
    num_layers=SIZES["num_hidden_layers"], vocab_size=SIZES["vocab_size"],
    embed_dim=SIZES["hidden_size"], hidden_dim=SIZES["intermediate_size"],
    num_heads=4, head_dim=64, num_kv_heads=4, rope_theta=10_000,
    norm_eps=1e-5, weight_tying=True,
  )  # fmt: skip
  mesh = jax.make_mesh(
    (1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  with mesh:
    model = llama3.Llama3(sizes, rngs=nnx.Rngs(0))
  roles = (clusters.Role.ACTOR, clusters.Role.REFERENCE, clusters.Role.ROLLOUT)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE))
  cluster = clusters.RLCluster(
    actor=model, tokenizer=Words(),
    cluster_config=clusters.ClusterConfig(
      role_to_mesh=dict.fromkeys(roles, mesh),
      training_config=clusters.RLTrainingConfig(
        actor_optimizer=tx, eval_every_n_steps=10**6, max_steps=1_000
      ),
      rollout_config=RolloutConfig(
        max_tokens_to_generate=NEW, max_prompt_length=PROMPT,
        kv_cache_size=PROMPT + NEW, temperature=1.0, top_p=1.0,
        eos_tokens=[SIZES["vocab_size"] + 1],  # none ends it
      ),
    ),
  )  # fmt: skip

  def reward(prompts, completions, **_):
    ids = [Words.encode(x) for x in completions]
    assert all(len(x) == NEW for x in ids), {len(x) for x in ids}
    return [float(np.mean(1.0 - np.asarray(x) % 2)) for x in ids]

  learner = GRPOLearner(
    rl_cluster=cluster, reward_fns=reward,
    algo_config=GRPOConfig(num_generations=GROUP, beta=0.0),
  )  # fmt: skip
  turn = learner._run_global_step

  def in_turn(*given):
    if not sys.stdin.readline():
      sys.exit()
    start = time.perf_counter()
    turn(*given)
    jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
    report(time.perf_counter() - start)

  learner._run_global_step = in_turn
  rng = np.random.default_rng(0)
  drawn = rng.integers(3, SIZES["vocab_size"], (1_000, PROMPTS, PROMPT - 1))
  texts = [[Words.decode(row) for row in batch] for batch in drawn]
  with mesh:
    learner.train([{"prompts": np.array(batch)} for batch in texts])


RUNS = {
  "ours": ours,
  "two roles": lambda: ours(two_roles=True),
  "trl": trl,
  "tunix": tunix,
}


def table(found: dict, pythons: dict) -> str:
  lines = [
    "# A GRPO step",
    "",
    "Printed by benchmarks/grpo_step.py; seconds are medians over the rounds.",
    "",
    "| | seconds a step | largest resident set, GiB | their time / ours "
    "| its spread |",
    "|---|---|---|---|---|",
  ]
  for name in pythons:
    if name not in found:
      lines.append(f"| {name} | not run | - | - | - |")
      continue
    seconds = [x["seconds"] for x in found[name]]
    mine = [x["seconds"] for x in found["ours"]]
    ratios = [b / a for a, b in zip(mine, seconds, strict=True)]
    lines.append(
      f"| {name} | {statistics.median(seconds):.3f} "
      f"| {found[name][-1]['gib']:.2f} | {statistics.median(ratios):.2f} "
      f"| {min(ratios):.2f} to {max(ratios):.2f} |"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  main()
