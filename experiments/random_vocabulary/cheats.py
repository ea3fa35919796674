"""What scripted cheats earn under every gate of the injection bonus.

  ./.venv/bin/python experiments/random_vocabulary/cheats.py

Prints the tables and writes cheats.md beside it; no model is trained, a few
seconds. The messages are in policies.py; D is a table of what each token tells.
All else is computed by rsrc_jax.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.random_vocabulary.policies import (
  BUDGET,
  DECOYS,
  LIST,
  LISTED,
  WORDS,
  Case,
  Scripted,
  Token,
  arrays,
  battery,
  cases,
  laws,
)
from rsrc_jax.lm import likelihood
from rsrc_jax.ops import rewards, token_stats
from rsrc_jax.types import TokenStats

HERE = Path(__file__).resolve().parent
NATS = 4 * np.log(2)  # of surprise in a word of s; the frame has none
PRICE, SHARE = 0.3, 0.5  # w, gamma
V0, H0 = 6.0, 2.5  # medians of V and H2 at ordinary tokens
TAU, NEEDED = 0.5, 0.5  # nats: threshold of L; of a token that bears its load
SOURCES = 3  # other sources in the counterfactual
BOUND = rewards.largest_bonus(price=PRICE, listed=LIST, budget=BUDGET)
BETAS = {"the bound": BOUND, "4 times the bound": 4 * BOUND}

# Column -> gate and whose load: nobody's, the code's, or each token's.
GATES = {
  "none": ("none", None),
  "A": ("literal", None),
  "B": ("density", None),
  "C": ("counterfactual", None),
  "A L": ("literal", "code"),
  "B L": ("density", "code"),
  "C L": ("counterfactual", "code"),
  "A L_t": ("literal", "token"),
  "B L_t": ("density", "token"),
}
DEFAULT = "B L"


def surprise(x: Scripted, ids: jax.Array) -> jax.Array:
  """NLL_D(s; c) in nats: what c does not tell, and what it misleads. [B, 2]"""
  told = jax.vmap(lambda table, row: table[row])(jnp.asarray(x.tells), ids)
  told = jnp.where(x.mask & x.needs_decode[..., None], told, len(WORDS))
  words = jnp.any(told[..., None] == jnp.arange(len(WORDS)), -2)
  decoys = jnp.isin(ids, DECOYS) & x.mask
  misled = x.harm * jnp.sum(decoys, -1) * x.needs_decode
  return NATS * jnp.sum(~words, -1) + misled


def law_stats() -> TokenStats:
  """Statistics of every law, its first listed id drawn. Each [laws]."""
  p, listed = (np.stack(x) for x in zip(*laws().values(), strict=True))
  logits = np.log(np.where(p > 0, p, 1.0))
  drawn = np.full(len(p), LISTED[0])
  return token_stats.from_logits(logits, drawn, listed, p > 0)


@jax.jit
def dependence(x: Scripted):
  """Where U is used [B, 2, T] bool, and how much hangs on it in nats.

  D's surprise at s rises by the gap [B, 2] when every use is swapped, and by
  the gaps [B, 2, T] when one alone is.
  """
  listed = jnp.broadcast_to(LISTED, (len(x.ids), 1, LIST))
  decoys = jnp.broadcast_to(DECOYS, listed.shape)
  uses = rewards.first_uses(x.ids, x.mask, listed)

  def gap(of: jax.Array) -> jax.Array:
    swapped = rewards.swap(x.ids, of, listed, decoys)
    return surprise(x, swapped) - surprise(x, x.ids)

  alone = jax.vmap(lambda t: gap(uses & (jnp.arange(BUDGET) == t)))
  return uses, gap(uses), jnp.moveaxis(alone(jnp.arange(BUDGET)), 0, -1)


def thresholds(rows: list[Case]) -> tuple[jax.Array, jax.Array]:
  """Of L and of each token's L, in nats: [B, 1], [B, 1, 1].

  TAU, or where it is measured, what a list of no use reaches under this D.
  """
  said = [Token(i) for i in WORDS[:9]]
  useless = said + [Token(i, "list 0.999") for i in LISTED]
  probe = [r._replace(plain=said, code=useless, known=()) for r in rows]
  _, gap, gaps = dependence(arrays(probe))
  measured = jnp.array([row.measured for row in rows])
  of_code = jnp.where(measured, gap[:, 1], TAU)
  of_token = jnp.where(measured, jnp.max(gaps[:, 1], -1), TAU)
  return of_code[:, None], of_token[:, None, None]


class Measured(NamedTuple):
  """All that `pays` needs of cases, from the functions of rsrc_jax."""

  rows: list[Case]
  fidelity: jax.Array  # [B, 2]
  length: jax.Array  # [B, 2]
  uses: jax.Array  # [B, 2, T]
  gates: dict[str, jax.Array]  # name -> [B, 2, T]
  load: dict[str | None, jax.Array]  # None, "code" [B, 2], "token" [B, 2, T]


def measure(rows: list[Case]) -> Measured:
  x = arrays(rows)
  stats = law_stats()
  of_law = TokenStats(*(v[x.law] for v in stats))
  elsewhere = stats.log_prob[x.elsewhere]
  others = jnp.broadcast_to(elsewhere, (SOURCES, *elsewhere.shape))
  pmi = rewards.pmi(of_law.log_prob, others)
  uses, gap, gaps = dependence(x)
  of_code, of_token = thresholds(rows)
  load = {
    None: jnp.ones_like(gap),
    "code": rewards.load_bearing(
      gap, jnp.sum(uses, -1), threshold=of_code, nats_per_token=NEEDED
    ),
    "token": rewards.load_bearing_tokens(
      gaps, uses, threshold=of_token, nats_per_token=NEEDED
    ),
  }
  nothing = surprise(x._replace(mask=np.zeros_like(x.mask)), x.ids)
  gain = likelihood.relative_gain(-surprise(x, x.ids), -nothing)
  heard = battery()["generic text"]["gain"]
  return Measured(
    rows,
    jnp.where(x.generic, heard, gain),
    jnp.sum(x.mask, -1),
    uses,
    {
      name: rewards.gate(name, of_law, v0=V0, h0=H0, pmi=pmi)
      for name in rewards.GATES
    },
    load,
  )


def rewarded(m: Measured, column: str, beta: float, mode: str = "bonus"):
  """R [B, 2] of the plain message and of the code, and its components."""
  gate, load = GATES[column]
  return rewards.gated(
    m.fidelity,
    m.length,
    m.gates[gate],
    m.uses,
    m.load[load],
    budget=BUDGET,
    price=PRICE,
    listed=jnp.full(len(m.rows), LIST),
    bonus=beta,
    mode=mode,
    share=SHARE,
  )


def pays(
  m: Measured, column: str, beta: float, mode: str = "bonus"
) -> np.ndarray:
  """R of each code less R of its plain message. [B]; fp32 rounding is 0."""
  reward, _ = rewarded(m, column, beta, mode)
  pay = np.asarray(reward[:, 1] - reward[:, 0], np.float64)
  return np.where(np.abs(pay) < 1e-6, 0.0, pay)


def shown(value: float, bold: bool = False) -> str:
  """Three digits; bold where asked."""
  text = f"{value:+.3g}" if value else "0"
  return f"**{text}**" if bold else text


def grid(head: list[str], body: list[list[str]]) -> str:
  """A table in Markdown."""
  lines = [head, ["---"] * len(head), *body]
  return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def pay_table(
  m: Measured, columns: Iterable[str], beta: float, mode: str = "bonus"
) -> tuple[str, dict[str, list[str]]]:
  """Pay by case and gate, and the cheats that each gate pays."""
  found = {column: pays(m, column, beta, mode) for column in columns}
  body, paid = [], {column: [] for column in found}
  for b, row in enumerate(m.rows):
    honest = row.kind == "honest"
    for column, pay in found.items():
      if pay[b] > 0 and not honest:
        paid[column].append(row.name)
    cells = [shown(x[b], x[b] > 0 and not honest) for x in found.values()]
    body.append([f"*{row.name}*" if honest else row.name, *cells])
  return grid(["", *found], body), paid


INTRODUCTION = """\
# What cheats earn

Printed and written by `cheats.py`: scripted messages, laws and decompressor, no
model. The columns are gates: none, A (literal), B (density) and C
(counterfactual), alone, times L (all uses swapped) and times L_t (one use
swapped). B L is the default.

A cell is R of the cheat less R of the message without it; for honest use, less
R of the same said in plain words. Bold: a cheat is paid. *Italic*: honest use,
which should be. Of the 12 words of a sentence a message keeps 9.
"""
NOTES = """\
- *confident* is the known false negative of B: honest, and hardly paid.
- *woven, law of content* is as likely given other sources, so C pays nothing
  for it. What C pays for *woven* rests on a scripted law of other sources; a
  trained model need not have one like it.
- *junk for junk* puts listed ids in the place of three tokens that say nothing.
  The length stays, so no bound on beta forbids it; L leaves it worth nothing.
- *decoys mislead D*: the listed ids say nothing, but D takes their decoys for
  words, so the swap raises its surprise and L is 1. A threshold measured on a
  useless list under the same D takes this away; a fixed one does not.
- *copying s* and the repetitions lose by the price of length alone: at price 0,
  or under a hard budget, they would be worth nothing, not less.
"""


def page() -> str:
  """cheats.md."""
  measured = measure(cases())
  parts = [INTRODUCTION]
  settings = (
    f"N = {LIST}, budget {BUDGET}, price {PRICE}, medians V {V0:g} and H2 "
    f"{H0:g}, threshold {TAU} nats, {NEEDED} nats a token for L = 1."
  )
  parts.append(settings)
  for name, beta in BETAS.items():
    table, paid = pay_table(measured, GATES, beta)
    even = BOUND / beta
    parts += [
      f"## beta = {beta:.3g}, {name}",
      f"Appending pays where gate * load is above {even:.3g}.",
      table,
      "\n".join(
        f"- {c} pays {len(names)}: {'; '.join(names) or 'none'}."
        for c, names in paid.items()
      ),
    ]
  table, paid = pay_table(measured, ("none", "A", "B", "C"), 0.0, "multiply")
  parts += [
    f"## Multiply, gamma = {SHARE}: the founding wording",
    "The factor of the list is the mean gate of its uses: one is enough, no "
    "bound on beta\napplies, and L has no part.",
    table,
  ]
  head = ["d", "exact", "slots", "edit", "gain of edit over the floor"]
  body = [
    [name, *(shown(row[k]) for k in ("exact", "slots", "edit", "gain"))]
    for name, row in battery().items()
  ]
  parts += ["## Decodes that know nothing", grid(head, body)]
  parts += ["## How to read it", NOTES]
  return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def main():
  text = page()
  (HERE / "cheats.md").write_text(text)
  print(text)


if __name__ == "__main__":
  main()
