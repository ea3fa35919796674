"""Makes what an independent implementation says of one superstep.

  pip install "rsrc-jax[parity]"
  python tests/golden/recursive/make.py

The recursion (which cycles carry a gradient, what is added to what) is that of
the PyPI package tiny-recursive-model in torch; the net that it calls is written
here in torch, once with a mixer and once with attention. Stored are weights,
inputs, the two states and the logits after one superstep and after a second
one, and the gradients of a loss on the second.
"""

from pathlib import Path

import numpy as np
import torch
from tiny_recursive_model import TinyRecursiveModel

HERE = Path(__file__).resolve().parent
L, N, D, V, HIDDEN, CELL_HIDDEN, DEPTH, HEADS = 5, 3, 8, 4, 12, 6, 2, 2
CYCLES, INNER = 3, 2


def rms(h):
  return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-5)


def gated(h, gate, up, down):
  return (torch.nn.functional.silu(h @ gate) * (h @ up)) @ down


class Net(torch.nn.Module):
  """Blocks of mixing over positions, then over channels; norms after."""

  def __init__(self, core):
    super().__init__()
    draw = lambda *shape: torch.nn.Parameter(
      torch.randn(DEPTH, *shape) / shape[0] ** 0.5
    )
    self.core = core
    self.w = torch.nn.ParameterDict(
      {"gate": draw(D, HIDDEN), "up": draw(D, HIDDEN), "down": draw(HIDDEN, D)}
    )
    more = (
      {"cell_gate": (L, CELL_HIDDEN), "cell_up": (L, CELL_HIDDEN),
       "cell_down": (CELL_HIDDEN, L)}
      if core == "mixer" else dict.fromkeys("qkvo", (D, D))
    )  # fmt: skip
    for name, shape in more.items():
      self.w[name] = draw(*shape)

  def forward(self, h):  # [N, L, D]
    for d in range(DEPTH):
      w = {name: x[d] for name, x in self.w.items()}
      if self.core == "mixer":
        cells = gated(h.mT, w["cell_gate"], w["cell_up"], w["cell_down"]).mT
      else:
        cells = self.attend(h, w)
      h = rms(h + cells)
      h = rms(h + gated(h, w["gate"], w["up"], w["down"]))
    return h

  def attend(self, h, w):
    split = lambda x: x.reshape(N, L, HEADS, -1).transpose(1, 2)
    q, k, v = (split(h @ w[name]) for name in "qkv")
    half = D // HEADS // 2
    angle = torch.arange(L)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    sin, cos = torch.sin(angle), torch.cos(angle)

    def turn(x):
      a, b = x[..., :half], x[..., half:]
      return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    out = torch.nn.functional.scaled_dot_product_attention(turn(q), turn(k), v)
    return out.transpose(1, 2).reshape(N, L, D) @ w["o"]


def main():
  for core in ("mixer", "attention"):
    torch.manual_seed(0)
    model = TinyRecursiveModel(
      dim=D, num_tokens=V, network=Net(core), num_refinement_blocks=CYCLES,
      num_latent_refinements=INNER,
    )  # fmt: skip
    question = torch.randint(V, (N, L))
    target = torch.randint(V, (N, L))
    z_h, z_l = torch.randn(N, L, D), torch.randn(N, L, D)
    found = {"question": question, "target": target, "z_h": z_h, "z_l": z_l}
    inputs = D**0.5 * model.input_embed(question)  # TRM scales, the package not
    for n in (1, 2):
      z_h, z_l = model.deep_refinement(inputs, z_h, z_l)
      logits = model.to_pred(z_h)
      found |= {f"z_h_{n}": z_h, f"z_l_{n}": z_l, f"logits_{n}": logits}
      if n == 1:  # no gradient goes from superstep to superstep
        z_h, z_l = z_h.detach(), z_l.detach()
    loss = torch.nn.functional.cross_entropy(logits.mT, target)
    loss.backward()
    found |= {"loss": loss, "embed": model.input_embed.weight,
              "head": model.to_pred.weight}  # fmt: skip
    found |= {f"net_{k}": x for k, x in model.network.w.items()}
    found |= {
      "grad_embed": model.input_embed.weight.grad,
      "grad_head": model.to_pred.weight.grad,
    }
    found |= {f"grad_net_{k}": x.grad for k, x in model.network.w.items()}
    found = {k: np.asarray(x.detach()) for k, x in found.items()}
    np.savez_compressed(HERE / f"{core}.npz", **found)
    print(core, float(loss), sum(x.nbytes for x in found.values()))


if __name__ == "__main__":
  main()
