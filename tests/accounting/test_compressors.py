"""The baselines: lossless or nothing, every bit charged, timed."""

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsrc_jax.accounting import compressors, energy
from rsrc_jax.accounting.compressors import Coder
from rsrc_jax.metrics import rsrc

few = settings(deadline=None, max_examples=40)
FAST = 0.002  # s: nothing is compared by time, unless said
STDLIB = sorted(Path(os.__file__).parent.glob("*.py"))
NAMES = ["identity", "zlib", "bz2", "lzma", "zlib_each", "zlib_dictionary"]


@pytest.fixture(scope="module")
def files():
  texts = [path.read_bytes() for path in STDLIB]
  return [text for text in texts if len(text) > 2000][:10]


def raw(rows):
  return np.array([8.0 * len(row) for row in rows])


def training_text():
  return b"".join(path.read_bytes() for path in STDLIB[30:45])


# The lossy cheat: a sample is cut, and read back as it is.
truncate = Coder(
  lambda rows: [row[:10] for row in rows], lambda payloads: payloads
)


def test_all_baselines(files):
  rows = [f[400:1600] for f in files]
  text = training_text()
  found = compressors.measure(rows, raw(rows), dictionary=text, seconds=FAST)
  assert list(found) == NAMES
  for name, b in found.items():
    assert b.verified and b.bits_saved.shape == (10,), name
    for cost in (b.encode, b.decode):
      assert cost.cpu_seconds > 0 and 0 < cost.seconds < 0.1, name
  assert (found["identity"].bits_saved == 0).all()
  k = {name: rsrc.capability(b.bits_saved) for name, b in found.items()}
  assert k["identity"] == 0 < k["zlib_each"] < k["zlib_dictionary"]
  assert k["zlib_each"] < k["zlib"]  # the stream sees the other rows
  # Deflate looks back 32 KiB; the rest of the text is not used, nor charged.
  assert found["zlib_dictionary"].state_bits == 8 * 32_768 < 8 * len(text)
  others = [b.state_bits for n, b in found.items() if n != "zlib_dictionary"]
  assert others == [0] * 5


def test_ordering_of_the_sanity_run(files):
  """Of 60 files, in the published audit: who saves, and who does not."""
  score = lambda coder: compressors.score(coder, files, raw(files), 0.02)
  each, deflate = compressors.each, compressors.deflate
  once = score(each(deflate(1)))
  compress, decompress = deflate(1)
  twice = score(
    each(
      (
        lambda row: compress(compress(row)),
        lambda payload: decompress(decompress(payload)),
      )
    )
  )
  baselines = compressors.coders()
  best, identity = score(each(deflate(9))), score(baselines["identity"])
  lzma, cut = score(baselines["lzma"]), score(truncate)
  assert once.verified and twice.verified and best.verified and lzma.verified
  k = lambda b: rsrc.capability(b.bits_saved)
  assert k(identity) == 0.0
  assert 0.6 < k(once) / raw(files).mean() < 0.8
  assert k(once) < k(best) < k(lzma)
  # The second pass costs bits in every single file: dead compute.
  assert (twice.bits_saved < once.bits_saved).all()
  assert not cut.verified and k(cut) == 0.0
  # Bits per CPU second rank the laziest coder first: 31 times in the audit.
  rate = lambda b: k(b) / (b.encode.cpu_seconds + b.decode.cpu_seconds)
  assert rate(once) > 3 * rate(lzma)


def test_bits_by_hand():
  # 3 payloads of zlib's own functions against the bits that V would ask for.
  rows = [b"a" * 100, b"b" * 50, b"xyz"]
  wire = np.array([70.0, 60.0, 5.0])
  found = compressors.score(
    compressors.each((zlib.compress, zlib.decompress)), rows, wire, FAST
  )
  expected = wire - [8 * len(zlib.compress(row)) for row in rows]
  np.testing.assert_array_equal(found.bits_saved, expected)
  assert found.bits_saved[2] < 0  # signed: 11 bytes for 5 bits
  # One payload for all: its bits are charged evenly.
  found = compressors.score(
    compressors.stream((lambda x: x, lambda x: x)), rows, wire, FAST
  )
  # 153 bytes and three lengths of a byte each: 156 * 8 / 3 = 416 bits a row.
  np.testing.assert_array_equal(found.bits_saved, wire - 416)
  # "send raw" is on the wire of V.
  identity = compressors.coders()["identity"]
  found = compressors.score(identity, rows, wire, FAST)
  assert found.verified and (found.bits_saved == 0).all()


texts = st.lists(st.binary(max_size=400), min_size=1, max_size=6)


@few
@given(texts, st.binary(max_size=300))
def test_every_coder_gives_the_rows_back(rows, dictionary):
  """Empty rows, empty dictionaries, equal rows, any bytes."""
  for name, coder in compressors.coders(dictionary).items():
    payloads = coder.encode(rows)
    assert coder.decode(payloads) == rows, name
    assert len(payloads) in (1, len(rows)), name


@few
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=4))
def test_lengths_travel_inside_the_stream(lengths):
  """Over the borders of 7 and 14 bits too."""
  rows = [bytes(n) for n in [*lengths, 127, 128, 16_383, 16_384]]
  coder = compressors.stream((lambda x: x, lambda x: x))
  (payload,) = coder.encode(rows)
  assert coder.decode([payload]) == rows
  # One byte a length up to 127, two up to 16383, three up to 2 million.
  extra = sum(1 + (len(r) > 127) + (len(r) > 16_383) for r in rows)
  assert len(payload) == sum(map(len, rows)) + extra


def test_a_payload_without_its_end_is_refused():
  """What looks whole because its tail is implied has not been sent."""
  compress, decompress = compressors.deflate()
  payload = compress(b"compressed")
  assert decompress(payload) == b"compressed"
  with pytest.raises(ValueError, match="has no end"):
    decompress(payload[:-1])
  coder = compressors.stream((lambda x: x, lambda x: x))
  (payload,) = coder.encode([b"one", b"two"])
  with pytest.raises(ValueError, match="past the end"):
    coder.decode([payload[:-1]])


# Cheats.


def scored(encode, decode, rows=(b"some text", b"other text"), **options):
  rows = list(rows)
  coder = Coder(encode, decode, **options)
  return compressors.score(coder, rows, raw(rows), FAST)


def test_what_is_not_whole_saves_nothing(files):
  def fail(payloads):
    raise KeyError("no such code")

  compress, decompress = compressors.deflate()
  packed = lambda rows: [compress(row) for row in rows]
  for encode, decode in (
    (lambda rows: [row[:10] for row in rows], lambda payloads: payloads),
    (lambda rows: [row[:10] for row in packed(rows)], lambda payloads: [
      decompress(p) for p in payloads
    ]),
    (lambda rows: [b"" for _ in rows], fail),
    (lambda rows: [b""], lambda payloads: []),
    (lambda rows: [row.lower() for row in rows], lambda payloads: payloads),
  ):  # fmt: skip
    found = scored(encode, decode, files)
    assert not found.verified
    assert (found.bits_saved == 0).all() and len(found.bits_saved) == 10
  assert scored(lambda rows: [b""], fail).decode is None


def test_a_coder_cannot_change_what_it_is_compared_with():
  def cut(rows):
    rows[:] = [row[:2] for row in rows]
    return list(rows)

  rows = [b"some text", b"other text"]
  assert not scored(cut, lambda payloads: payloads, rows).verified
  assert rows == [b"some text", b"other text"]


def test_a_coder_cannot_empty_its_payloads():
  """They are counted before they are read."""

  def greedy(payloads):
    kept = list(payloads)
    payloads[:] = [b"" for _ in payloads]
    return kept

  rows = [b"some text", b"other text"]
  found = scored(lambda rows: list(rows), greedy, rows)
  assert (found.bits_saved == 0).all()


@pytest.mark.parametrize(
  "encode",
  [
    lambda rows: [[int.from_bytes(row, "big")] for row in rows],  # length 1
    lambda rows: [row.decode("utf-16") for row in rows],  # half the length
    lambda rows: [b""] * 1000,  # a number of payloads is a message as well
    lambda rows: [],
  ],
)
def test_payloads_that_cannot_be_counted(encode):
  with pytest.raises(ValueError, match="give bytes, one a row or one for all"):
    scored(encode, lambda payloads: [], [b"some text!"] * 2)


def test_a_memorised_test_set_has_not_paid(files):
  """The rows as the dictionary: nearly free to send, dear as state."""
  rows = [f[100:1100] for f in files]
  text = b"".join(rows)
  found = compressors.measure(rows, raw(rows), dictionary=text, seconds=FAST)
  cheat = found["zlib_dictionary"]
  k = rsrc.capability(cheat.bits_saved)
  assert cheat.verified and k > 0.95 * 8000
  assert rsrc.net_bits(10, k, cheat.state_bits) < 0
  assert rsrc.break_even_samples(k, cheat.state_bits) > 10


def test_no_dictionary(files):
  rows = [f[:300] for f in files]
  found = compressors.measure(rows, raw(rows), dictionary=b"", seconds=FAST)
  alone, given = found["zlib_each"], found["zlib_dictionary"]
  np.testing.assert_array_equal(alone.bits_saved, given.bits_saved)
  assert given.state_bits == 0


# Time.


def test_time_is_by_the_sample_and_fills_what_it_is_given():
  def busy(rows):
    for _ in rows:
      sum(range(20_000))
    return list(rows)

  calls = []
  rows = [b"a", b"b", b"c", b"d"]
  coder = Coder(busy, lambda payloads: calls.append(0) or list(payloads))
  found = compressors.score(coder, rows, raw(rows), 0.05)
  one = found.encode.cpu_seconds
  assert 5e-5 < one < 2e-2  # some 0.3 ms for 20,000 additions
  assert found.encode.seconds > 0.5 * one
  assert found.decode.seconds < one / 20  # a list of four
  assert len(calls) > 1000  # many short calls between two looks at the clock
  # The same work for forty samples is a fortieth of it for each.
  spin = lambda rows: [bytes(sum(range(20_000)) % 7)] * len(rows)
  one, forty = (
    compressors.score(
      Coder(spin, spin), [b"a"] * n, np.ones(n), 0.05
    ).encode.cpu_seconds
    for n in (1, 40)
  )
  assert 10 < one / forty < 160


@pytest.mark.parametrize(
  "rows, bits, names",
  [
    ([], [], "for 0 rows: give one number"),
    ([b"a"], [8.0, 8.0], "for 1 rows: give one number"),
    ([b"a"], [-1.0], "raw_bits has -1 bits"),
    ([b"a"], [np.nan], "raw_bits has nan bits"),
  ],
)
def test_measure_refuses(rows, bits, names):
  with pytest.raises(ValueError, match=names):
    compressors.measure(rows, np.array(bits), dictionary=b"")


def test_no_jax():
  """A report starts in no time."""
  code = "import sys; from rsrc_jax.metrics import rsrc, recursion; "
  code += "from rsrc_jax.accounting import compressors; "
  code += "sys.exit('jax' in sys.modules)"
  root = Path(compressors.__file__).parents[2]
  done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
  assert done.returncode == 0


def test_a_counter_is_charged_by_the_median_time():
  """A counter of 50 W: a sample's joules are 50 times its seconds."""
  begun = time.perf_counter()
  joules = lambda: 50 * (time.perf_counter() - begun)
  clock = lambda: energy.Use(0.0, 0.0, {"host": joules()})
  rows = [b"one two three " * 40] * 50
  found = compressors.measure(
    rows, raw(rows), dictionary=b"", seconds=FAST, read=clock
  )
  for peer in found.values():
    assert peer.encode.counted["host"] == pytest.approx(
      50 * peer.encode.seconds, rel=0.05
    )
