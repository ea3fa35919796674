"""FLOPs of a step by a closed form, as an independent estimate.

Two FLOPs for each parameter and token, plus attention and logits, times three
where a gradient is taken. It uses the diagrams of the patterns and the shapes,
not the program, so it is an independent check of accounting/flops.py. Rollouts
have full length.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from rsrc_jax.accounting import flops
from rsrc_jax.build.setup import Setup
from rsrc_jax.ops import distributions
from rsrc_jax.rl import hearing


def step_flops(setup: Setup, name: str) -> float | None:
  """FLOPs of one training step of a stage.

  Returns:
    None for a model or a pattern without a closed form here.
  """
  config = setup.config
  if config.model_name != "transformer":
    return None
  asked = config.budgets or config.augment.inject or config.augment.ban
  if name != "reader" and asked:
    return None
  longest = setup.corpus.train.ids.shape[1]
  roles, read = setup.roles, _read(setup)
  k, S = roles["C"].length, longest + 1  # with its end
  # A prompt is a tag, the text and a separator (roles.Role.prompt).
  prompt = {"C": longest + 2, "D": k + 2, "text": 2}

  if name == "reader":
    return 3 * read(config.reader.batch_size, longest + 2, S)
  if name == "base":
    B = config.pretrain.batch_size
    # The targets of text, D and C, and the scores of the extract.
    trained = read(B, prompt["text"], S) + read(B, prompt["D"], S)
    trained += read(B, prompt["C"], k)
    return 3 * trained + read(B, prompt["text"], S - 1)

  B, arm = config.batch_size, config.arms[name]
  if arm.get("stage") or "pattern" not in arm:
    return None
  settings = config.patterns.get(arm.pattern)
  if arm.pattern == "extract":
    # The rule writes before the step.
    return 3 * settings.lessons * read(B, prompt["D"], S)
  if arm.pattern != "cdv" or arm.get("overrides"):
    return None
  G, M = settings.group, settings.lessons
  write, heard = read(B, prompt["C"], k, G), Heard(0.0, 0.0, 0, 0.0)
  if any(config.verifier.values()):
    heard = _heard(settings, B, prompt["D"], S, read)
  learnt, drawn = heard.learnt, B * G * k + heard.drawn
  sample = drawn * distributions.draw_flops(setup.corpus.vocab.size)
  # V: the likelihood of s under D with each code, and under the base without.
  verify = read(B * G, prompt["D"], S) + read(B, prompt["text"], S)
  verify += heard.reader * (config.verifier.reader > 0)
  # Without weight a loss is a metric: there is no gradient of it.
  passes = lambda block, role: 3 if config.loss[block][role] else 1
  update = passes("weights", "C") * write
  update += passes("weights", "D") * learnt
  if settings.get("imitate", False):
    update += passes("lesson_weights", "C") * read(B, prompt["C"], k)
  if M:
    update += passes("lesson_weights", "D") * read(B * M, prompt["D"], S)
  reference = (write + learnt) * (config.kl > 0)
  # Several updates need the log-probs of the samples before the first one.
  old = (write + learnt) * (config.updates > 1)
  update = config.updates * update + old
  return write + heard.decode + sample + verify + update + reference


class Heard(NamedTuple):
  """Of what D writes for V in a step."""

  decode: float  # FLOPs of the decodes
  learnt: float  # FLOPs of a pass over D's own group
  drawn: int  # tokens that are drawn, not the likeliest
  reader: float  # FLOPs of a frozen reader of all decodes


def _heard(settings, B: int, prompt: int, S: int, read: Callable) -> Heard:
  """D decodes every code, more of its group, and the empty code."""
  G, J, taught = settings.group, settings.decodes, settings.get("taught", 0)
  sampled = max(J, taught) > 1
  empty = hearing.EMPTY if sampled else 1
  prompts = B * G + 1
  decodes = B * (G * J + max(taught - 1, 0)) + empty
  learnt, own = 0.0, 0
  if sampled:
    own = B * (taught or G * J)
    learnt = own / (taught or J) * read(1, prompt, S, taught or J)
  # The empty code's decodes are held against every source. Each of the calls
  # also reads nothing, which is as long as s.
  reader = read(B * (G * J + empty) + own, S + 2, S)
  reader += read(B * (2 + sampled), S + 1, S)
  decode = read(prompts, prompt, S, decodes / prompts)
  return Heard(decode, learnt, decodes * S * sampled, reader)


def _read(setup: Setup) -> Callable[..., float]:
  """read(rows, prompt, output, group): FLOPs of a forward pass.

  The prompt is run once for each row; the output, without its last token, once
  for each sample.
  """
  model, vocab = setup.config.model, setup.corpus.vocab.size
  params = jax.eval_shape(setup.policy.init, jax.random.key(0))
  blocks = sum(x.size for x in jax.tree.leaves(params["blocks"]))
  loops = model.get("loops", 1)  # shared weights count once for each run
  shape = {"params_blocks": blocks * loops, "depth": model.depth * loops}
  shape |= {"width": model.width, "vocab": vocab}

  def read(rows: int, prompt: int, output: int, group: int = 1) -> float:
    seen = prompt + output - 1
    return flops.closed_form(
      **shape, tokens=rows * prompt, keys_seen=prompt, logits_tokens=0
    ) + flops.closed_form(
      **shape, tokens=rows * group * (output - 1), keys_seen=seen,
      logits_tokens=rows * group * output,
    )  # fmt: skip

  return read
