"""Statistics of codes: distance from English, and how they name attributes.

Host code in NumPy, float64. A code has no end token, and pads on the right. A
statistic of all codes is None if there are too few tokens; a statistic of each
code is defined for the empty code too. Definitions follow the literature named
with them; those without a reference are ours.
"""

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsrc_jax.types import Tokens

# How well a decode matches its source.


def token_f1(source: Tokens, decoded: Tokens) -> np.ndarray:
  """F1 of the multisets of tokens, in any order. [..., S], [..., T] -> [...].

  Two empty texts score 1; an empty and a non-empty one score 0.
  """
  (a, a_mask), (b, b_mask) = _arrays(source), _arrays(decoded)
  count = _pairs(a, a_mask, b, b_mask).sum(-1)  # of each token of s, in d
  # The i-th copy of a token matches if the other text has i copies of it.
  found = a_mask & (_copies_before(a, a_mask) < count)
  total = a_mask.sum(-1) + b_mask.sum(-1)
  return np.where(total > 0, 2 * found.sum(-1) / np.maximum(total, 1), 1.0)


def chrf(
  source: Sequence[str],
  decoded: Sequence[str],
  longest: int = 6,
  beta: float = 2.0,
) -> np.ndarray:
  """chrF in [0, 1] of each pair of texts, [n] (Popovic, WMT 2015).

  F of the mean precision and the mean recall over character n-grams of length 1
  to `longest`, without spaces; lengths that only one text has do not count.
  """
  return np.array(
    [
      _chrf("".join(s.split()), "".join(d.split()), longest, beta)
      for s, d in zip(source, decoded, strict=True)
    ]
  )


def _chrf(source: str, decoded: str, longest: int, beta: float) -> float:
  grams = lambda text, n: Counter(
    text[i : i + n] for i in range(len(text) - n + 1)
  )
  orders = range(1, min(longest, len(source), len(decoded)) + 1)
  if not orders:
    return float(source == decoded)
  counted = []
  for n in orders:
    s, d = grams(source, n), grams(decoded, n)
    counted.append(((s & d).total(), d.total(), s.total()))
  shared, written, wanted = np.array(counted).T
  precision, recall = np.mean(shared / written), np.mean(shared / wanted)
  if not precision:
    return 0.0
  weight = beta**2
  return (1 + weight) * precision * recall / (weight * precision + recall)


# How far from English.


def unigram_kl(
  code: Tokens,
  counts: np.ndarray,
  shrinkage: float = 0.01,
  support: np.ndarray | None = None,
) -> float | None:
  """KL(tokens of all codes || tokens of the corpus), nats.

  Both distributions are shrunk towards the uniform one, because an id that the
  corpus lacks would make the KL infinite. It is at most ln(1 + V (1 - x) / x)
  for x = shrinkage.

  Args:
    code: [..., T].
    counts: [V] of each id in the corpus.
    shrinkage: weight of the uniform distribution, in (0, 1].
    support: [V] bool, the ids of the uniform distribution; None: all. It must
      hold all ids of the codes and of the corpus.

  Returns:
    None where there is no token in any code.

  Raises:
    ValueError: an argument is out of range.
  """
  counts = np.asarray(counts, np.float64)
  support = np.ones(counts.shape, bool) if support is None else support
  used = _counts(code, counts.size).astype(np.float64)
  if not 0 < shrinkage <= 1:
    raise ValueError(f"shrinkage={shrinkage}: give more than 0, at most 1.")
  if not counts.sum() > 0:
    raise ValueError("counts: the corpus has no token; give it some.")
  if used[~support].any() or counts[~support].any():
    raise ValueError("support lacks ids of the codes or of the corpus: add.")
  if not used.sum():
    return None
  shrunk = lambda x: (1 - shrinkage) * x / x.sum() + shrinkage / support.sum()
  p, q = shrunk(used)[support], shrunk(counts)[support]
  return float(np.sum(p * np.log(p / q)))


def copy_rate(source: Tokens, code: Tokens) -> np.ndarray:
  """Share of c's tokens that s contains; 0 for an empty code. -> [...]."""
  (s, s_mask), (c, c_mask) = _arrays(source), _arrays(code)
  copied = _pairs(c, c_mask, s, s_mask).any(-1)
  return copied.sum(-1) / np.maximum(c_mask.sum(-1), 1)


def type_token_ratio(code: Tokens) -> float | None:
  """Number of different ids in all codes over their number of tokens.

  It falls with the number of tokens, so compare it at equal numbers.
  """
  ids, mask = _arrays(code)
  return len(np.unique(ids[mask])) / int(mask.sum()) if mask.any() else None


def zipf_slope(code: Tokens) -> float | None:
  """Slope of ln frequency over ln rank, least squares over the ids used.

  About -1 for natural language, 0 for equal frequencies; None for fewer than
  two ids.
  """
  ids, mask = _arrays(code)
  _, counts = np.unique(ids[mask], return_counts=True)
  if len(counts) < 2:
    return None
  x = np.log(np.arange(1, len(counts) + 1))
  x, y = x - x.mean(), np.log(np.sort(counts)[::-1])
  return float(x @ y / (x @ x))


def distinct(code: Tokens, n: int) -> np.ndarray:
  """Share of a code's n-grams that differ, [...] (Li et al., NAACL 2016).

  It is 1 for a code without n-grams.
  """
  ids, mask = _arrays(code)
  places = max(ids.shape[-1] - n + 1, 0)
  cut = lambda x: [x[..., i : i + places] for i in range(n)]
  there = np.logical_and.reduce(cut(mask))
  same = there[..., :, None] & there[..., None, :]
  for part in cut(ids):
    same &= part[..., :, None] == part[..., None, :]
  first = there & ~np.tril(same, -1).any(-1)
  total = there.sum(-1)
  return np.where(total > 0, first.sum(-1) / np.maximum(total, 1), 1.0)


def longest_run(code: Tokens) -> np.ndarray:
  """Length of the longest run of one id, [...] int; 0 for an empty code."""
  ids, mask = _arrays(code)
  best = run = np.zeros(mask.shape[:-1], int)
  for t in range(ids.shape[-1]):
    again = ids[..., t] == ids[..., t - 1]  # the first: 0 + 1 or 1
    run = np.where(mask[..., t], np.where(again, run + 1, 1), 0)
    best = np.maximum(best, run)
  return best


def zlib_ratio(code: Tokens, size: int) -> float | None:
  """Bytes of all codes after zlib over bytes before, with whole bytes a token.

  Repetition within and among codes lowers it. For ids drawn uniformly from
  `size` ids of one byte it is at least log2(size) / 8: 0.88 for 128.
  """
  ids, mask = _arrays(code)
  raw = ids[mask].astype(np.min_scalar_type(size - 1)).tobytes()
  return len(zlib.compress(raw, 9)) / len(raw) if raw else None


# How codes name attributes.


class Attribution(NamedTuple):
  """Information of each position about each attribute, [T, A] float64."""

  bits: np.ndarray  # mutual information as counted: biased upwards
  chance: np.ndarray  # the same with sources shuffled: the bias
  share: np.ndarray  # (bits - chance) / (entropy - chance); 1: determines it


def attribution(
  code: Tokens,
  attributes: np.ndarray,
  rng: np.random.Generator,
  shuffles: int = 8,
) -> Attribution:
  """Normalised mutual information of tokens and attributes, corrected.

  As adjusted for chance by Vinh et al. (JMLR 2010), with a mean over shuffles
  as the expectation and the attribute's entropy as the maximum. A token that
  determines two attributes has 1 for each.

  Args:
    code: [n, T]; an absent token is a symbol of its own.
    attributes: [n, A] int, such as the ids at the slots of s.
    rng: draws the shuffles.
    shuffles: how many.

  Returns:
    Attribution. The share is 0 where the attribute is constant, or the counts
    are too few.

  Raises:
    ValueError: codes and attributes have different numbers of rows.
  """
  ids, mask = _arrays(code)
  symbols = _ranks(np.where(mask, ids, -1))
  values = _ranks(np.asarray(attributes))
  if len(symbols) != len(values):
    raise ValueError(
      f"attributes has {len(values)} rows for {len(symbols)} codes: give each "
      "code those of its source."
    )
  if not len(values):
    zeros = np.zeros((symbols.shape[1], values.shape[1]))
    return Attribution(zeros, zeros, zeros)
  bits = _information(symbols, values)
  orders = [rng.permutation(len(values)) for _ in range(shuffles)]
  chance = [_information(symbols, values[order]) for order in orders]
  chance = np.mean(chance, 0) if shuffles else np.zeros_like(bits)
  room = np.array([_entropy(np.bincount(x)) for x in values.T]) - chance
  share = np.where(room > 1e-9, (bits - chance) / np.maximum(room, 1e-9), 0.0)
  return Attribution(bits, chance, share)


def _information(symbols: np.ndarray, values: np.ndarray) -> np.ndarray:
  """[n, T], [n, A] small integers -> mutual information in bits, [T, A]."""
  own = [_entropy(np.bincount(x)) for x in symbols.T]
  theirs = [_entropy(np.bincount(y)) for y in values.T]
  joint = [
    [_entropy(np.bincount(x * (values.max() + 1) + y)) for y in values.T]
    for x in symbols.T
  ]
  return np.add.outer(own, theirs) - np.reshape(joint, (len(own), len(theirs)))


def _entropy(counts: np.ndarray) -> float:
  """Bits, as counted."""
  p = counts[counts > 0] / counts.sum()
  return float(-np.sum(p * np.log2(p)))


def topographic_similarity(
  code: Tokens, source: Tokens, rng: np.random.Generator, pairs: int = 2000
) -> float | None:
  """Spearman's rho of the edit distances of codes and of their sources.

  Over `pairs` pairs of different rows, drawn with replacement (Brighton and
  Kirby, Artificial Life 2006). code [n, T], source [n, S]. None where either
  distance never varies, as with a constant code.
  """
  rows = len(code.ids)
  if rows < 2:
    return None
  i = rng.integers(rows, size=pairs)
  j = (i + rng.integers(1, rows, size=pairs)) % rows
  ranks = []
  for ids, mask in (_arrays(code), _arrays(source)):
    x = _mean_ranks(edit_distance(*(Tokens(ids[k], mask[k]) for k in (i, j))))
    ranks.append(x - x.mean())
  scale = math.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
  return float(ranks[0] @ ranks[1] / scale) if scale else None


def edit_distance(a: Tokens, b: Tokens) -> np.ndarray:
  """Levenshtein's, over tokens. [..., S], [..., T] -> [...] int."""
  (a, a_mask), (b, b_mask) = _arrays(a), _arrays(b)
  column = np.arange(b.shape[-1] + 1)
  table = [np.broadcast_to(column, (*b.shape[:-1], column.size))]
  for t in range(a.shape[-1]):
    above = table[-1]
    replace = above[..., :-1] + (a[..., t, None] != b)
    best = np.minimum(replace, above[..., 1:] + 1)
    best = np.concatenate([np.full_like(best[..., :1], t + 1), best], -1)
    # Insertions: the least of best[j'] + (j - j') over j' <= j.
    table.append(np.minimum.accumulate(best - column, -1) + column)
  table = np.stack(table)  # [S + 1, ..., T + 1]
  row = np.take_along_axis(table, a_mask.sum(-1)[None, ..., None], 0)[0]
  return np.take_along_axis(row, b_mask.sum(-1)[..., None], -1)[..., 0]


# The position of injected ids.


class Tail(NamedTuple):
  """Whether injected ids are appended."""

  share: float  # of codes whose injected tokens are an unbroken suffix
  chance: float  # the same with the tokens of each code in a random order
  codes: int  # codes with an injected token, over which the shares are taken


def tail_share(code: Tokens, injected: np.ndarray) -> Tail | None:
  """Share of codes whose injected tokens are all at the end.

  m of n tokens come last in 1 of C(n, m) orders. A code of injected tokens only
  always does, which `chance` accounts for. code [..., T]; injected [..., N], -1
  pads. None where no code has an injected token.
  """
  uses, mask = _uses(code, injected), _arrays(code)[1]
  uses, mask = (x.reshape(-1, x.shape[-1]) for x in (uses, mask))
  some = uses.any(-1)
  if not some.any():
    return None
  plain = mask & ~uses
  begun = np.logical_or.accumulate(uses, -1)
  tail = ~(plain & begun).any(-1)
  orders = map(math.comb, mask.sum(-1)[some], uses.sum(-1)[some])
  chance = float(np.mean([1 / count for count in orders]))
  return Tail(float(tail[some].mean()), chance, int(some.sum()))


def permute(code: Tokens, rng: np.random.Generator) -> Tokens:
  """The tokens of each code in a random order; pads stay on the right."""
  ids, mask = _arrays(code)
  keys = np.where(mask, rng.random(ids.shape), 2.0)
  order = np.argsort(keys, -1, kind="stable")
  return Tokens(np.take_along_axis(ids, order, -1), mask)


def _arrays(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
  return np.asarray(tokens.ids), np.asarray(tokens.mask)


def _pairs(a, a_mask, b, b_mask) -> np.ndarray:
  """Which real tokens are equal: [..., S], [..., T] -> bool [..., S, T]."""
  same = a[..., :, None] == b[..., None, :]
  return same & a_mask[..., :, None] & b_mask[..., None, :]


def _copies_before(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """How many copies of each token come before it in its text, [..., T]."""
  return np.tril(_pairs(ids, mask, ids, mask), -1).sum(-1)


def _uses(code: Tokens, injected: np.ndarray) -> np.ndarray:
  """Which tokens are injected ids, all their copies: bool [..., T]."""
  injected = np.asarray(injected)
  return _pairs(*_arrays(code), injected, injected >= 0).any(-1)


def _counts(code: Tokens, size: int) -> np.ndarray:
  """How often each of `size` ids occurs in all codes. [size] int"""
  ids, mask = _arrays(code)
  if mask.any() and ids[mask].max() >= size:
    raise ValueError(
      f"code has the id {ids[mask].max()}, counts only {size}: count them all."
    )
  return np.bincount(ids[mask], minlength=size)


def _ranks(x: np.ndarray) -> np.ndarray:
  """Each column as integers from 0, of the same order."""
  columns = [np.unique(column, return_inverse=True)[1] for column in x.T]
  return np.reshape(columns, x.T.shape).T.astype(int)


def _mean_ranks(x: np.ndarray) -> np.ndarray:
  """Ranks from 1; equal values share the mean of their ranks."""
  _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[place]
