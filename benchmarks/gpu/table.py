"""The steps of benchmarks/gpu.sh, their figures, and the page with them.

Each step has a table of known rows and columns. A figure without a stored
result reads "not run", so that nothing is left out silently. Imports no jax:
the runner and its tests use it without a device.
"""

from typing import Any, NamedTuple

NOT_RUN = "not run"
DTYPES = ("bfloat16", "float32")
SIZES = ("4M", "135M", "1B")
# (rows, width, vocabulary, dtype): what is scored of a batch at three sizes.
HEADS = (
  (2_048, 256, 4_096, "float32"),
  (1_024, 576, 49_152, "float32"),
  (1_024, 576, 49_152, "bfloat16"),
  (512, 2_048, 151_936, "bfloat16"),
)
PASSES = ("forward", "with backward")
FAMILIES = ("llama", "qwen3", "gemma3")
BATCHES = (1, 8, 64)
# float32 is multiplied in TF32 on an NVIDIA GPU, unless the highest precision
# is asked for.
PRECISIONS = ("float32", "float32 highest", "bfloat16")
WINDOWS = ("at rest", "update", "decoding")
ARMS = ("base", "lead", "surprising", "sft", "english_rl", "code")
SEEDS = (0, 1, 2, 3, 4)


class Step(NamedTuple):
  """A step of the script, and the table of its figures."""

  seconds: int  # by estimate, compiling included
  limit: int  # it is ended after so many
  basis: str  # of the estimate
  title: str
  columns: tuple[str, ...]
  rows: tuple[str, ...]
  note: str = ""  # what the figures mean


def head_row(rows: int, width: int, vocab: int, dtype: str, which: str) -> str:
  return f"{rows:,} x {width:,} x {vocab:,}, {dtype}, {which}"


STEPS = {
  "device": Step(
    18, 60, "measured on an H200",
    "The card and its rates", ("value",),
    (
      "card", "memory", "driver", "CUDA", "power limit", "jax, jaxlib",
      "plug-in", "XLA_FLAGS", "products in float32, TFLOP/s",
      "products in float32 highest, TFLOP/s", "products in bfloat16, TFLOP/s",
      "in place, GB/s", "a kernel in a row of them, microseconds",
    ),
    "Products of 8,192 x 8,192 random numbers; float32 is TF32 unless "
    "highest is asked for. These rates are the floors of the other steps.",
  ),
  "kernels": Step(
    93, 150, "measured on an H200",
    "Token statistics: the Pallas kernel beside XLA",
    (
      "lowered", "Pallas, ms", "plain, ms", "blocked, ms", "floor, ms",
      "share of the floor", "largest error", "allowed",
    ),
    tuple(head_row(*x, which) for x in HEADS for which in PASSES),
    "rows x width x vocabulary. Plain stores the logits, blocked does not. "
    "Errors are against plain in float32 highest, divided by its largest "
    "value; share is floor / Pallas. float32 is multiplied in float32 "
    "highest by all three, and its floor takes that rate.",
  ),
  "parity": Step(
    60, 120, "measured on an H200",
    "Logits beside transformers",
    (
      "against", "largest logit", "float32", "float32 highest", "bfloat16",
      "their bfloat16",
    ),
    FAMILIES,
    "Largest difference of a logit from what transformers computes in "
    "float32 on the CPU. their bfloat16: its own, as a yardstick of ours.",
  ),
  "speed": Step(
    160, 300, "six pairs of programs: 30 layers unrolled in 20 s, 16 in 12 s",
    "Update and decoding against the floor",
    (
      "ms", "tokens a second", "floor, ms", "bound by", "share of the floor",
      "MFU", "planned, GiB", "peak so far, GiB", "compiled in, s",
    ),
    tuple(
      f"{size}, {dtype}, {what}"
      for dtype in DTYPES for size in SIZES
      for what in ("update", "prefill", "decoding step")
    ),
    "8 prompts of 64 tokens, 8 outputs of 64 each, random weights made on the "
    "card; float32 is multiplied in TF32. The update is the GRPO loss, its "
    "gradient, a clip and AdamW, with donated buffers. MFU: FLOPs without "
    "recomputation over the rate of products measured for this dtype. Planned "
    "is the compiler's; the peak is that of the process up to here. Both "
    "programs of a size are compiled at the same time, or come from the "
    "cache.",
  ),
  "mismatch": Step(
    250, 300, "a third took 80 s on an H200",
    "Sampler and learner",
    (
      "KL a token, nats", "the same, estimated directly",
      "largest difference of a log-probability",
      "effective sample size, tokens", "effective sample size, outputs",
      "learner: rows with the same bits", "sampler: rows with the same bits",
    ),
    PRECISIONS,
    "64 prompts of 64 tokens, 4 outputs of 32 each; width and vocabulary of "
    "SmolLM2-135M, 4 layers, random weights. KL is the mean of r - 1 - ln r "
    "over the tokens that were sampled, r the ratio learner / sampler; "
    "directly: of -ln r. Effective sample sizes are shares of the sample. "
    "Bits: rows at batch 1 and 8 that have the same log-probabilities, bit by "
    "bit, as at batch 64. Logits are float32 at every dtype: there is no "
    "setting for it.",
  ),
  "energy": Step(
    90, 150, "three windows of 20 s, programs from the cache of speed",
    "Joules",
    (
      "seconds", "times", "accelerator, J", "accelerator, W", "J each",
      "known by", "a TPU chip by the model, J", "host by the model, J",
    ),
    WINDOWS,
    "135M, bfloat16, as in the table above. A time is one update, or one batch "
    "of 64 x 64 tokens decoded. The model of the accounting has no "
    "figure for a GPU; that of a TPU chip, at work all the time or at rest, "
    "is beside the counter (median, 5 to 95 %).",
  ),
  "default": Step(
    300, 420, "not at its end after 230 s on an H200",
    "The default run, configs/tiny.py", ("value",),
    (
      "code, bits", "best English arm", "best English arm, bits",
      "margin, bits", "seconds", "compiling, s",
      "programs in the cache before",
      *(f"{arm}, steps a second" for arm in ARMS),
    ),
    "To its end; each service is timed for .2 s an arm; seconds are those of "
    "all sessions, should it have been cut. Bits are conveyed on "
    "the test split. On two CPU cores: margins of 5.3 to 6.1 bits, 263 to "
    "278 s.",
  ),
  "text": Step(
    45, 150, "compiling 22 s, 120 steps",
    "A text run, configs/cdv_text.py", ("value",),
    (
      "code, bits of loss", "seconds", "compiling, s",
      *(f"{arm}, steps a second" for arm in ("base", "code")),
    ),
    "60 steps of the base and of one arm on docstrings of Python's standard "
    "library: it shows that text trains, not how well.",
  ),
  "seeds": Step(
    240, 360, "not at its end after 182 s on an H200",
    "Five seeds as one program", ("value",),
    (
      "steps of an arm", "seconds", "code, steps a second, all seeds",
      "code, steps a second, one run", "five single runs take as long, x",
      "predicted, one seed, ms a step", "predicted, all seeds, ms a step",
      "predicted: five single runs take as long, x",
      "kernels a step", "GFLOP a step", "GB a step",
    ),
    "./tools/sweep --together=vmap on configs/tiny.py cut to 200 steps of the "
    "base and of two arms, english_rl and code. A step of all seeds counts "
    "once. Predicted: kernels x the time of one, plus the "
    "longer of FLOPs and bytes times seeds, at the rates of the first table.",
  ),
}  # fmt: skip


def shown(value: Any) -> str:
  """A figure as it stands in the table."""
  if value is None:
    return "-"
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, int):
    return f"{value:,}"
  if isinstance(value, float):
    if value and not 1e-3 <= abs(value) < 1e6:
      return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
  return " ".join(str(value).split()).replace("|", "/")


def section(name: str, result: dict | None) -> list[str]:
  """The part of the page about one step; result: None where there is none."""
  step = STEPS[name]
  lines = [f"## {name}: {step.title}", "", said_of(step, result), ""]
  values = result["values"] if result else {}
  lines += [
    "| | " + " | ".join(step.columns) + " |",
    "|---" * (len(step.columns) + 1) + "|",
  ]
  for row in step.rows:
    cells = values.get(row, {})
    found = [shown(cells[c]) if c in cells else NOT_RUN for c in step.columns]
    if "error" in cells:
      found[0] = f"failed: {shown(cells['error'])}"
    lines.append(f"| {row} | " + " | ".join(found) + " |")
  return [*lines, *(["", step.note] if step.note else []), ""]


def said_of(step: Step, result: dict | None) -> str:
  """On what, when and with what outcome a step ran."""
  if result is None:
    return f"Not run; {step.seconds} s by estimate ({step.basis})."
  here = result["here"]
  text = (
    f"{here['device']}, driver {here['driver']}, jax {here['jax']}; revision "
    f"{here['revision']}, files {here['files']}; {result['at']}."
  )
  if result.get("seconds") is not None:
    text += f" {result['seconds']:.0f} s ({step.seconds} by estimate)."
  if result["status"] == "partial":
    text += " It was cut."
  if result["status"] == "failed":
    text += f" Failed: {shown(result['error'])}."
  return text


def page(results: dict[str, dict]) -> str:
  """benchmarks/gpu.md; what was run in toy form never counts."""
  real = {k: v for k, v in results.items() if not v.get("toy", True)}
  lines = ["# On one GPU", ""]
  if not real:
    lines += ["No card was at hand yet: nothing below was run.", ""]
  lines += [
    "    ./benchmarks/gpu.sh",
    "",
    "stores a result a step; `benchmarks/gpu/run.py --table` writes this page "
    f"from them. All steps: {sum(x.seconds for x in STEPS.values())} s by "
    "estimate.",
    "",
  ]
  for name in STEPS:
    lines += section(name, real.get(name))
  return "\n".join(lines).rstrip() + "\n"
