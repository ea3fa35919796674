"""Cheats and honest uses of a list of ids, as data.

A message is a list of tokens, each with the law that it was drawn from; a
sentence s of 24 tokens has 12 words and a frame that D knows by heart.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsrc_jax.metrics import compression
from rsrc_jax.types import Tokens

VOCAB, LIST, BUDGET = 32_768, 8, 32
LISTED = np.arange(VOCAB - LIST, VOCAB)  # U
DECOYS = LISTED - LIST  # another draw of U, unknown to C
WORDS, FRAME = 100 + np.arange(12), 200 + np.arange(12)  # of s, in turn
FLOOR = "without a code (floor)"


class Token(NamedTuple):
  """A token of c, its law given s, and given another source (None: as s)."""

  id: int
  law: str = "content"
  elsewhere: str | None = None


class Case(NamedTuple):
  """A code beside the one that says the same and tries nothing."""

  name: str
  plain: list[Token]
  code: list[Token]
  known: tuple[int, ...] = ()  # D reads LISTED[i] as WORDS[i] for these i
  deaf: bool = False  # D ignores `code`
  generic: bool = False  # V hears a generic d, not D's likelihood
  harm: float = 0.0  # nats that D loses to a decoy it takes for a word
  measured: bool = False  # threshold of L: this D's gap under a list of no use
  kind: str = "cheat"  # honest; or open: a cheat beyond the default's reach


def laws() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Next-token laws: name -> p [K] float64 and the listed ids [N], -1 pads.

  LISTED[0] is the one that is drawn. "list": mass on one listed id, the rest by
  Zipf's law; "dump": evenly on 8 of them, but for a leak.
  """
  ids = np.arange(VOCAB)
  alone = np.where(LISTED[0] == LISTED, LISTED, -1)
  others, unlisted = np.delete(ids, LISTED[0]), ids[:-LIST]

  def zipf(support: np.ndarray, exponent: float) -> np.ndarray:
    p = np.zeros(VOCAB)
    p[support] = np.arange(1.0, len(support) + 1) ** -exponent
    return p / p.sum()

  def spike(mass: float, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mass * np.eye(1, VOCAB, LISTED[0])[0] + (1 - mass) * rest, alone

  def even(mass: float, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mass * np.isin(ids, LISTED) / LIST + (1 - mass) * rest, LISTED

  tail, flat = zipf(others, 1.0), zipf(others, 0.0)
  found = {f"list {m}": spike(m, tail) for m in (0.999, 0.9, 0.7, 0.5, 0.3)}
  for leak in (0.001, 0.1, 0.3, 0.5):
    found[f"dump {leak}"] = even(1 - leak, zipf(unlisted, 1.0))
  return found | {
    "spike and tail": spike(0.5, flat),
    "noise": (np.full(VOCAB, 1 / VOCAB), LISTED),
    "confident": spike(0.6, zipf(others, 1.3)),
    "woven": even(0.2, zipf(unlisted, 1.3)),
    "content": (zipf(np.insert(others, 20, LISTED[0]), 1.5), alone),
    "narrow": (zipf(np.insert(others, 3, LISTED[0])[:1000], 1.0), alone),
  }


def cases() -> list[Case]:
  """Cheats, honest uses, and cheats that the default alone can't settle."""
  said = [Token(i) for i in WORDS[:9]]
  listed = lambda law, n=LIST: [Token(i, law) for i in LISTED[:n]]
  cheat = lambda name, extra, **more: Case(name, said, said + extra, **more)
  use = lambda law, n: [Token(i, law, "content") for i in LISTED[:n]]
  woven = use("woven", 1) + said[1:]
  whole = [Token(i) for pair in zip(WORDS, FRAME, strict=True) for i in pair]
  words = [Token(i) for i in WORDS]
  again = lambda law: [Token(LISTED[0], law)] * 7
  cheats = [
    cheat("list in order, learnt (.999)", listed("list 0.999")),
    cheat("list in order, half learnt (.9)", listed("list 0.9")),
    cheat("list in order, half learnt (.5)", listed("list 0.5")),
    *(
      cheat(f"list in any order, leak {leak:g}", listed(f"dump {leak:g}"))
      for leak in (0.001, 0.1, 0.3, 0.5)
    ),
    cheat("spike plus flat tail", listed("spike and tail")),
    cheat("uniform noise", listed("noise")),
    Case(
      "one useful, 7 of the list (.5)",
      woven,
      woven + listed("list 0.5")[1:],
      known=(0,),
    ),
    Case("copying s", words, whole),
    cheat("one listed id, 8 times", listed("list 0.9", 1) + again("list 0.9")),
    Case(
      "a useful id, 8 times", woven, woven + again("list 0.999"), known=(0,)
    ),
    Case("empty c", said, []),
    Case("c of one word", said, said[:1]),
    cheat("list (.5), D ignores c", listed("list 0.5"), deaf=True),
    cheat("list (.5), generic d", listed("list 0.5"), deaf=True, generic=True),
  ]
  honest = [
    Case("woven", said, use("woven", 2) + said[2:]),
    Case("woven, law of content", said, use("content", 2) + said[2:]),
    Case("confident (.6)", said, use("confident", 2) + said[2:]),
  ]
  junk = said + [Token(i) for i in FRAME[:3]]
  misled = functools.partial(
    cheat, extra=listed("list 0.5"), harm=1.0, kind="open"
  )
  return [
    *cheats,
    *(row._replace(known=(0, 1), kind="honest") for row in honest),
    Case("junk (.5) for junk", junk, said + listed("list 0.5", 3), kind="open"),
    misled("list (.5), decoys mislead D"),
    misled("the same, threshold measured", measured=True),
  ]


class Scripted(NamedTuple):
  """Rows of cases; in axis 1 the plain message and the code."""

  ids: np.ndarray  # [B, 2, T] int32
  mask: np.ndarray  # [B, 2, T] bool
  law: np.ndarray  # [B, 2, T] index into laws()
  elsewhere: np.ndarray  # [B, 2, T]
  tells: np.ndarray  # [B, K] which word of s an id tells D, 12 for none
  needs_decode: np.ndarray  # [B, 2] bool
  generic: np.ndarray  # [B, 2] bool
  harm: np.ndarray  # [B, 1] nats


def arrays(rows: list[Case]) -> Scripted:
  names = list(laws())
  shape = (len(rows), 2, BUDGET)
  ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
  law, elsewhere = (np.full(shape, names.index("content")) for _ in range(2))
  tells = np.full((len(rows), VOCAB), len(WORDS))
  tells[:, WORDS] = np.arange(len(WORDS))
  for b, row in enumerate(rows):
    tells[b, LISTED[list(row.known)]] = row.known
    for g, message in enumerate((row.plain, row.code)):
      mask[b, g, : len(message)] = True
      for t, token in enumerate(message):
        ids[b, g, t], own = token.id, names.index(token.law)
        law[b, g, t] = own
        other = token.elsewhere
        elsewhere[b, g, t] = own if other is None else names.index(other)
  of_code = lambda flags: np.array([[False, x] for x in flags])
  return Scripted(
    ids,
    mask,
    law,
    elsewhere,
    tells,
    ~of_code([r.deaf for r in rows]),
    of_code([r.generic for r in rows]),
    np.array([[r.harm] for r in rows]),
  )


@functools.cache
def battery() -> dict[str, dict[str, float]]:
  """What decodes that know nothing score, and their gain over no code.

  12 sources whose slots take every value once, so that no guess beats another;
  the floor is what D says without a code: the likeliest s.
  """
  count = len(WORDS)
  value = (np.arange(count)[:, None] + np.arange(count)) % count
  content = 1_000 + count * np.arange(count) + value  # [sources, slots]
  frame = np.broadcast_to(FRAME, content.shape)
  woven = lambda words: np.stack([words, frame], -1).reshape(count, -1)
  s = woven(content)
  decodes = {
    FLOOR: np.broadcast_to(s[0], s.shape),
    "empty": s[:, :0],
    "copied prompt (c)": content[:, :9],
    "copied list": np.broadcast_to(LISTED, (count, LIST)),
    "generic text": woven(np.full_like(content, 99)),
    "s of another sample": np.roll(s, 1, 0),
    "s itself": s,
  }

  def tokens(x: np.ndarray) -> Tokens:
    pad = [(0, 0), (0, s.shape[1] - x.shape[1])]
    mask = np.ones(x.shape, bool)
    return Tokens(jnp.asarray(np.pad(x, pad)), jnp.asarray(np.pad(mask, pad)))

  slots = tuple(range(0, s.shape[1], 2))

  @jax.jit
  def scores(s: Tokens, d: Tokens) -> dict[str, jax.Array]:
    each = {
      "exact": compression.exact_match(s, d),
      "slots": compression.slots(s, d, slots),
      "edit": compression.edit_similarity(s, d),
    }
    return {name: jnp.mean(x) for name, x in each.items()}

  found = {
    name: {k: float(v) for k, v in scores(tokens(s), tokens(d)).items()}
    for name, d in decodes.items()
  }
  floor = found[FLOOR]["edit"]
  for row in found.values():
    row["gain"] = max(0.0, (row["edit"] - floor) / (1.0 - floor))
  return found
