"""Sums over a part of a vocabulary, from which token statistics are read.

Each part is summed relative to its own peak, and parts are merged as Chan,
Golub and LeVeque (1983) merge means and variances. A difference of raw moments
would lose the digits of V, and sums of absolute logits would lose all digits at
an offset of 1e4.

ops/token_stats.py takes the parts from blocks of a table or shards of a mesh.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rsrc_jax.ops.distributions import NEG_INF
from rsrc_jax.types import TokenStats


class Sums(NamedTuple):
  """Sums of a part of the vocabulary, each [...], with s = logits - peak.

  No statistic of merged sums depends on the peak, so the peak is a constant in
  every derivative. A part that is all masked has weight 0.
  """

  peak: jax.Array  # the largest logit; NEG_INF if all are masked
  weight: jax.Array  # sum of exp(s)
  mean: jax.Array  # of s, under exp(s) / weight
  square: jax.Array  # sum of exp(s) (s - mean)^2
  power: jax.Array  # sum of exp(2 s)
  picked: jax.Array  # [..., 1 + N] logits of the ids; NEG_INF if not here


def merge(one: Sums, two: Sums) -> Sums:
  """The sums of the union of two parts. Associative and commutative."""
  peak = jnp.maximum(one.peak, two.peak)
  one, two = _at_peak(one, peak), _at_peak(two, peak)
  weight = one.weight + two.weight
  share = two.weight / _nonzero(weight)
  delta = two.mean - one.mean
  return Sums(
    peak,
    weight,
    one.mean + delta * share,
    one.square + two.square + delta**2 * one.weight * share,
    one.power + two.power,
    jnp.maximum(one.picked, two.picked),  # an id is in one part only
  )


def merge_shards(sums: Sums, axis_name: str) -> Sums:
  """`merge` over a mesh axis, differentiated through the collectives."""
  # An id is in one shard only. A sum over shards has a derivative, a max not.
  real = ~(sums.picked <= NEG_INF / 2)
  found = lax.psum(real.astype(jnp.int32), axis_name) > 0
  picked = lax.psum(jnp.where(real, sums.picked, 0.0), axis_name)
  peak = lax.pmax(lax.stop_gradient(sums.peak), axis_name)
  sums = _at_peak(sums, peak)
  weight = lax.psum(sums.weight, axis_name)
  mean = lax.psum(sums.weight * sums.mean, axis_name) / _nonzero(weight)
  square = sums.square + sums.weight * (sums.mean - mean) ** 2
  return Sums(
    peak,
    weight,
    mean,
    lax.psum(square, axis_name),
    lax.psum(sums.power, axis_name),
    jnp.where(found, picked, NEG_INF),
  )


def finish(sums: Sums) -> TokenStats:
  """The statistics, from the sums of the whole vocabulary."""
  weight = _nonzero(sums.weight)
  log_weight = jnp.log(weight)
  real = ~(sums.picked <= NEG_INF / 2)
  # Shifted logits, not lse: at an offset of 1e4 lse is off by up to 4e-4.
  shifted = jnp.where(real, sums.picked - sums.peak[..., None], 0.0)
  masses = jnp.where(real, jnp.exp(shifted), 0.0)[..., 1:]
  return TokenStats(
    lse=sums.peak + log_weight,
    log_prob=jnp.where(real[..., 0], shifted[..., 0] - log_weight, NEG_INF),
    entropy=log_weight - sums.mean,
    varentropy=sums.square / weight,
    collision=2 * log_weight - jnp.log(_nonzero(sums.power)),
    mass=jnp.sum(masses, -1) / weight,
  )


def part_sums(logits, mask, ids) -> Sums:
  """Sums of logits [..., V] float32; ids [..., M] are relative to the part."""
  allowed = _allowed(logits, mask)
  logits = jnp.where(allowed, logits, NEG_INF)
  peak = jnp.max(logits, -1)
  shifted = logits - peak[..., None]
  e = jnp.where(allowed, jnp.exp(shifted), 0.0)
  weight = jnp.sum(e, -1)
  # Where e is 0 the product is set to 0, since the other factor may be huge.
  mean = jnp.sum(jnp.where(e == 0, 0.0, e * shifted), -1) / _nonzero(weight)
  apart = (shifted - mean[..., None]) ** 2
  here = (ids >= 0) & (ids < logits.shape[-1])
  picked = jnp.take_along_axis(logits, jnp.where(here, ids, 0), -1)
  return Sums(
    peak,
    weight,
    mean,
    jnp.sum(jnp.where(e == 0, 0.0, e * apart), -1),
    jnp.sum(e * e, -1),
    jnp.where(here, picked, NEG_INF),
  )


def logit_gradient(logits, mask, ids, sums: Sums, d: Sums) -> jax.Array:
  """Cotangent of the logits [..., V] of a part. -> [..., V]

  sums: of the whole vocabulary. d: their cotangents; the peak's is not read.
  """
  size = logits.shape[-1]
  column = functools.partial(jnp.expand_dims, axis=-1)
  shifted = logits - column(sums.peak)
  e = jnp.where(_allowed(logits, mask), jnp.exp(shifted), 0.0)
  u = jnp.where(e == 0, 0.0, shifted - column(sums.mean))
  # dweight = e, dmean = e (1 + u) / weight, dsquare = e (u^2 + 2 u).
  slope = d.mean / _nonzero(sums.weight)
  line = column(slope + 2 * d.square) + column(d.square) * u
  dz = column(d.weight + slope) + u * line + 2 * column(d.power) * e
  here = (ids >= 0) & (ids < size)
  return _add_at(e * dz, jnp.where(here, ids, size), d.picked)


def _allowed(logits, mask):
  real = ~(logits <= NEG_INF / 2)  # a nan stays, so that it shows
  return real if mask is None else real & mask


def _nonzero(x):
  """x with 1 in the place of 0, for divisors and logarithms."""
  return jnp.where(x == 0, 1.0, x)


def _at_peak(sums, peak):
  """The same sums relative to a higher peak."""
  drop = sums.peak - peak
  scale = jnp.exp(drop)
  weight = sums.weight * scale
  # A part without weight has no mean, and its drop may be 1e30.
  mean = jnp.where(weight == 0, 0.0, sums.mean + drop)
  return sums._replace(
    peak=peak,
    weight=weight,
    mean=mean,
    square=sums.square * scale,
    power=sums.power * scale**2,
  )


@functools.partial(jnp.vectorize, signature="(v),(m),(m)->(v)")
def _add_at(row, ids, values):
  """row [..., V] with values [..., M] added at ids; the id V is dropped."""
  return row.at[ids].add(values, mode="drop")
