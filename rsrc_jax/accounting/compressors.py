"""Off-the-shelf coders: the baselines that are drawn beside every learned code.

Lossless, so that the residual l_V(s|d) is 0, and charged in bytes. The program
itself is charged to nobody; a dictionary is state, and is.
"""

import bz2
import lzma
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rsrc_jax.accounting import energy

WINDOW = 32_768  # bytes that deflate looks back, into a dictionary too
SHORTEST = 1e-3  # s: a timed stretch, well above what reading two clocks takes
LZMA2 = ({"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 23},)

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


class Coder(NamedTuple):
  """Two inverse functions; c is one payload a row, or one for all rows.

  decode has to be a function of the payloads and of `state` alone, and a
  payload has to say where it ends: what a closure or a length tells is not
  seen here.
  """

  encode: Callable[[list[bytes]], list[bytes]]
  decode: Callable[[list[bytes]], list[bytes]]
  state: bytes = b""  # what decode knows beforehand
  raw: bool = False  # c is s itself, on the wire of V


class Baseline(NamedTuple):
  """What a coder saves, and what it takes."""

  bits_saved: np.ndarray  # [rows] float64, b(s), signed; 0 if not verified
  state_bits: int
  verified: bool  # every row came back, byte for byte
  encode: energy.Use  # of a sample
  decode: energy.Use | None  # None if it failed


def measure(
  rows: list[bytes],
  raw_bits: np.ndarray,
  *,
  dictionary: bytes,
  seconds: float = 0.3,
  read: Callable[[], energy.Use] | None = None,
) -> dict[str, Baseline]:
  """All baselines on held-out samples.

  Args:
    rows: samples as bytes.
    raw_bits: [rows], l_V(s), what the wire of V asks for each.
    dictionary: training text, disjoint from the rows; its last 32 KiB are used.
    seconds: wall time given to each coder in each direction.
    read: of an energy.Meter, for its counters; None has none.

  Raises:
    ValueError: no rows, raw_bits of another length, negative or not finite.
  """
  found = coders(dictionary)
  return {n: score(c, rows, raw_bits, seconds, read) for n, c in found.items()}


def coders(dictionary: bytes = b"") -> dict[str, Coder]:
  """Name -> baseline: the whole stream at once, or each sample alone."""
  dictionary = dictionary[-WINDOW:]
  copy = lambda rows: [memoryview(row).tobytes() for row in rows]
  # LZMA2 without a container: of 60 bytes and more, on a small corpus.
  xz = (
    lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=LZMA2),
    lambda data: lzma.decompress(data, lzma.FORMAT_RAW, filters=LZMA2),
  )
  return {
    "identity": Coder(copy, copy, raw=True),
    "zlib": stream(deflate()),
    "bz2": stream((bz2.compress, bz2.decompress)),
    "lzma": stream(xz),
    "zlib_each": each(deflate()),
    "zlib_dictionary": each(deflate(9, dictionary), dictionary),
  }


def score(
  coder: Coder,
  rows: list[bytes],
  raw_bits: np.ndarray,
  seconds: float = 0.3,
  read: Callable[[], energy.Use] | None = None,
) -> Baseline:
  """One coder: coded, decoded, compared, timed.

  Bits that several rows share are charged to them evenly. What does not come
  back whole has saved nothing: no residual is known that would complete it.

  Arguments as in `measure`.

  Raises:
    ValueError: as in `measure`, or payloads that can't be counted.
  """
  raw_bits = np.asarray(raw_bits, np.float64)
  if not rows or raw_bits.shape != (len(rows),):
    raise ValueError(
      f"raw_bits has shape {raw_bits.shape} for {len(rows)} rows: give one "
      "number of bits for each of at least one row."
    )
  bad = raw_bits[~(np.isfinite(raw_bits) & (raw_bits >= 0))]
  if bad.size:
    raise ValueError(
      f"raw_bits has {bad[0]:g} bits among them: a wire takes 0 or more."
    )
  given = list(rows)  # a coder may spoil its own list, not what is compared
  payloads, encode = _timed(
    lambda: coder.encode(given), seconds, len(rows), read
  )
  if len(payloads) not in (1, len(rows)) or any(
    not isinstance(p, bytes) for p in payloads
  ):
    raise ValueError(
      f"encode gave {len(payloads)} payloads for {len(rows)} rows: give bytes, "
      "one a row or one for all, so that each bit is counted."
    )
  bits = 8.0 * np.array([len(p) for p in payloads])
  if len(payloads) == 1:
    bits = np.full(len(rows), bits[0] / len(rows))
  try:
    decoded, decode = _timed(
      lambda: coder.decode(payloads), seconds, len(rows), read
    )
  except Exception:  # whatever stops a decoder, the rows are not back
    decoded, decode = None, None
  verified = decoded == list(rows)
  saved = np.zeros(len(rows)) if coder.raw else raw_bits - bits
  return Baseline(
    bits_saved=saved if verified else np.zeros(len(rows)),
    state_bits=8 * len(coder.state),
    verified=verified,
    encode=encode,
    decode=decode,
  )


def each(codec: Codec, state: bytes = b"") -> Coder:
  """Every sample alone."""
  compress, decompress = codec
  return Coder(
    lambda rows: [compress(row) for row in rows],
    lambda payloads: [decompress(p) for p in payloads],
    state,
  )


def stream(codec: Codec) -> Coder:
  """All samples as one text, their lengths inside it."""
  compress, decompress = codec
  return Coder(
    lambda rows: [compress(_join(rows))],
    lambda payloads: _split(decompress(payloads[0])),
  )


def deflate(level: int = 9, dictionary: bytes = b"") -> Codec:
  """zlib without header and checksum: 6 bytes a sample, 10 with a dictionary.

  The decoder raises ValueError where the text has no end.
  """
  # zlib takes the argument only where there is a dictionary.
  given = {"zdict": dictionary} if dictionary else {}

  def compress(data: bytes) -> bytes:
    coder = zlib.compressobj(level, wbits=-zlib.MAX_WBITS, **given)
    return coder.compress(data) + coder.flush()

  def decompress(data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=-zlib.MAX_WBITS, **given)
    text = decoder.decompress(data)
    # Its length is not sent: the payload itself has to say that it is over.
    if not decoder.eof:
      raise ValueError(f"payload of {len(data)} bytes has no end: send it all.")
    return text

  return compress, decompress


def _join(rows: list[bytes]) -> bytes:
  """Each row after its length, 7 bits a byte, low ones first."""
  parts = []
  for row in rows:
    length = len(row)
    while length > 127:
      parts.append(bytes([length & 127 | 128]))
      length >>= 7
    parts += [bytes([length]), row]
  return b"".join(parts)


def _split(data: bytes) -> list[bytes]:
  """Undoes `_join`; IndexError or ValueError on what it did not write."""
  rows, at = [], 0
  while at < len(data):
    length, shift = data[at] & 127, 7
    while data[at] > 127:
      at += 1
      length |= (data[at] & 127) << shift
      shift += 7
    at += 1
    if at + length > len(data):
      raise ValueError(f"row of {length} bytes at {at} runs past the end.")
    rows.append(data[at : at + length])
    at += length
  return rows


def _timed(
  work: Callable[[], Any],
  seconds: float,
  rows: int,
  read: Callable[[], energy.Use] | None,
) -> tuple[Any, energy.Use]:
  """Its result, and the median cost a row of repeats that fill `seconds`.

  The first call warms up. Short work is repeated within one reading of the
  clocks, until both have moved: 0 s would be 0 J, which nothing takes. Counters
  are slower: theirs are the mean power of it all, for the median time.
  """
  result = work()
  repeats, costs = 1, []
  begun, first = time.perf_counter(), read() if read else None
  while not costs or time.perf_counter() < begun + seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
      work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if wall < SHORTEST or cpu <= 0:
      repeats *= 2
    else:
      costs.append((wall / repeats / rows, cpu / repeats / rows))
  wall, cpu = (float(x) for x in np.median(costs, axis=0))
  counted = energy.minus(read(), first).counted if read else {}
  share = wall / (time.perf_counter() - begun)
  return result, energy.Use(
    wall, cpu, {k: v * share for k, v in counted.items()}
  )
