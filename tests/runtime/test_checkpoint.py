"""checkpoint.py: what is saved comes back; what can't be read is survived."""

import collections
import json
import shutil
import warnings
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsrc_jax.rl import curriculum
from rsrc_jax.runtime import checkpoint, checksums, sharding
from rsrc_jax.types import TrainState


def make_state(step: int) -> TrainState:
  params = {"a": jnp.arange(12.0).reshape(4, 3) + step, "b": jnp.float32(step)}
  opt_state = optax.adamw(1e-3).init(params)
  return TrainState(
    jnp.int32(step), params, opt_state, (), {"x": jnp.ones(2)}, jnp.uint32(7)
  )


def open_saver(path, **kwargs):
  settings = dict(keep_last=2, keep_best=1, metric="nll_bits") | kwargs
  return checkpoint.open_saver(path, **settings)


def save(saver, step, nll):
  host = {"iterator": {"next_index": step}, "window": [{"loss": 0.1}]}
  checkpoint.save(saver, make_state(step), host, {"nll_bits": nll})


def steps(path):
  return sorted(int(p.name) for p in path.iterdir() if p.name.isdigit())


def test_a_state_comes_back_exactly(tmp_path):
  saver = open_saver(tmp_path)
  assert checkpoint.restore(saver, make_state(0)) is None
  save(saver, 7, 1.0)
  checkpoint.close(saver)
  state, host = checkpoint.restore(open_saver(tmp_path), make_state(0))
  chex.assert_trees_all_equal(state, make_state(7))
  assert jax.tree.structure(state) == jax.tree.structure(make_state(7))
  assert host == {"iterator": {"next_index": 7}, "window": [{"loss": 0.1}]}


def test_the_last_and_the_best_are_kept(tmp_path):
  saver = open_saver(tmp_path)
  for step, nll in enumerate([5.0, 1.0, 4.0, 3.0, 2.0], 1):
    save(saver, step, nll)
  assert steps(tmp_path) == [2, 4, 5]


def test_a_state_moves_to_another_mesh(tmp_path):
  """Saved on one device, restored on eight."""
  saver = open_saver(tmp_path)
  save(saver, 3, 1.0)
  mesh = sharding.make_mesh(data=2, fsdp=4)
  rules = ((r"\['a'\]|/a$|^a$", jax.sharding.PartitionSpec("fsdp")),)
  where = sharding.shardings(mesh, make_state(0), rules)
  like = jax.device_put(make_state(0), where)
  state, _ = checkpoint.restore(saver, like)
  chex.assert_trees_all_equal(state, make_state(3))
  assert state.params["a"].sharding == where.params["a"]
  assert len(state.params["a"].sharding.device_set) == 8


def all_files(folder):
  return sorted(
    p for p in folder.rglob("*") if p.is_file() and p.stat().st_size
  )


@pytest.mark.parametrize("part", ["state", "host"])
def test_a_truncated_newest_checkpoint_falls_back(tmp_path, part):
  """Cut each file of it in turn: what comes back is whole, or the one before.

  Files that orbax keeps beside the values may be missing without harm; the
  files that hold values may not.
  """
  count = len(saved_twice(tmp_path / "probe", part))
  fallen = []
  for number in range(count):
    run = tmp_path / str(number)
    files = saved_twice(run, part)
    if number >= len(files):  # orbax spreads small arrays over a file or two
      break
    path = files[number]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    saver = open_saver(run)
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      state, host = checkpoint.restore(saver, make_state(0))
    step = int(state.step)
    chex.assert_trees_all_equal(state, make_state(step))
    assert host["iterator"] == {"next_index": step}
    if step == 1:
      said = [str(w.message) for w in caught]
      assert any("the one before it, 1." in text for text in said), said
      # What could not be read is not lost, and its number is free again.
      assert list(run.glob("unreadable-2-*"))
      save(saver, 2, 0.5)
      assert int(checkpoint.restore(saver, make_state(0))[0].step) == 2
      fallen.append(path)
  assert fallen
  if part == "state":
    assert any(path.parent.name == "d" for path in fallen)


def saved_twice(run, part):
  """Checkpoints 1 and 2 in `run`; the non-empty files of one part of 2."""
  saver = open_saver(run)
  save(saver, 1, 2.0)
  save(saver, 2, 1.0)
  checkpoint.close(saver)
  return all_files(run / "2" / part)


def test_the_best_is_known_after_a_run_went_on(tmp_path):
  saver = open_saver(tmp_path)
  for step, nll in ((1, 3.0), (2, 1.0), (3, 2.0)):
    save(saver, step, nll)
  checkpoint.close(saver)
  saver = open_saver(tmp_path)
  for step in (4, 5):
    save(saver, step, 2.0)
  checkpoint.save(saver, make_state(6), {}, {})  # not validated
  assert steps(tmp_path) == [2, 5, 6]
  reader = checkpoint.open_reader(tmp_path)
  found = lambda **how: checkpoint.restore(reader, make_state(0), **how)[0]
  assert int(found().step) == 6
  assert int(found(best="nll_bits").step) == 2
  assert checkpoint.restore(reader, make_state(0), best="beauty") is None


@pytest.mark.parametrize("sealed", [True, False])
def test_metrics_that_are_cut_short_cost_no_checkpoint(
  tmp_path, monkeypatch, sealed
):
  """They have a copy, but for checkpoints of older versions."""
  if not sealed:
    monkeypatch.setattr(checksums, "seal", lambda host, *_: host)
  saved_twice(tmp_path, "state")  # the second is the better one
  path = tmp_path / "2" / "metrics" / "metrics"
  path.write_bytes(path.read_bytes()[:8])
  reader = checkpoint.open_reader(tmp_path)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    best, _ = checkpoint.restore(reader, make_state(0), best="nll_bits")
    assert int(best.step) == (2 if sealed else 1)
    newest, _ = checkpoint.restore(open_saver(tmp_path), make_state(0))
  assert int(newest.step) == 2 and path.exists() == sealed


def test_a_reader_changes_nothing(tmp_path):
  for path in saved_twice(tmp_path, "state"):
    path.write_bytes(b"")
  (tmp_path / "3.orbax-checkpoint-tmp-1").mkdir()  # is being written
  before = sorted(tmp_path.rglob("*"))
  with pytest.warns(UserWarning, match="can't be read"):
    state, _ = checkpoint.restore(
      checkpoint.open_reader(tmp_path), make_state(0)
    )
  assert int(state.step) == 1
  assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_unreadable_checkpoints_starts_over(tmp_path):
  saver = open_saver(tmp_path)
  save(saver, 1, 1.0)
  for path in all_files(tmp_path / "1" / "state"):
    path.write_bytes(b"")
  with pytest.warns(UserWarning, match="can't be read"):
    assert checkpoint.restore(open_saver(tmp_path), make_state(0)) is None


def test_another_shape_is_not_restored(tmp_path):
  saver = open_saver(tmp_path)
  save(saver, 1, 1.0)
  other = make_state(0)
  other = other._replace(params={**other.params, "a": jnp.zeros((5, 3))})
  with pytest.warns(UserWarning, match="can't be read"):
    found = checkpoint.restore(saver, other)
  assert found is None
  np.testing.assert_equal(steps(tmp_path), [])


def altered(text, old, new):
  assert text.count(old) == 1
  return text.replace(old, new)


def swap_arrays(run):
  """Arrays that orbax reads without a word, and that were not saved here."""
  saver = open_saver(run / "other")
  checkpoint.save(saver, make_state(5)._replace(step=jnp.int32(2)), {}, {})
  checkpoint.close(saver)
  shutil.rmtree(run / "2" / "state")
  (run / "other" / "2" / "state").rename(run / "2" / "state")
  shutil.rmtree(run / "other")


def change_the_window(run):
  path = run / "2" / "host" / "metadata"
  path.write_text(altered(path.read_text(), '"loss": 0.1', '"loss": 0.3'))


@pytest.mark.parametrize(
  "damage, said",
  [(swap_arrays, "is not what was saved: its CRC-32 differs"),
   (change_the_window, "is not what was saved: its sha256 differs")],
)  # fmt: skip
def test_what_was_not_saved_is_not_read(tmp_path, damage, said):
  saved_twice(tmp_path, "state")
  damage(tmp_path)
  with pytest.warns(UserWarning, match=said) as caught:
    state, host = checkpoint.restore(open_saver(tmp_path), make_state(0))
  assert "going back to the one before it, 1." in str(caught[0].message)
  chex.assert_trees_all_equal(state, make_state(1))
  assert host["iterator"] == {"next_index": 1}


def test_a_changed_metric_is_mended_from_its_copy(tmp_path):
  """Or a worse checkpoint would be the best one."""
  saved_twice(tmp_path, "state")  # the second is the better one
  path = tmp_path / "1" / "metrics" / "metrics"
  path.write_text(altered(path.read_text(), "2.0", "0.0"))
  reader = checkpoint.open_reader(tmp_path)
  best, _ = checkpoint.restore(reader, make_state(0), best="nll_bits")
  assert int(best.step) == 2 and "0.0" in path.read_text()
  with pytest.warns(UserWarning, match="checkpoint 1 of .* were damaged"):
    saver = open_saver(tmp_path, keep_last=1)
  assert json.loads(path.read_text()) == {"nll_bits": 2.0}
  save(saver, 3, 1.5)
  assert steps(tmp_path) == [2, 3]


def test_a_checkpoint_without_digests_is_read_with_a_note(
  tmp_path, monkeypatch
):
  """As older versions wrote it."""
  monkeypatch.setattr(checksums, "seal", lambda host, *_: host)
  saved_twice(tmp_path, "state")
  with pytest.warns(UserWarning, match="checkpoint 2 of .* has no digests"):
    state, host = checkpoint.restore(open_saver(tmp_path), make_state(0))
  chex.assert_trees_all_equal(state, make_state(2))
  assert host == {"iterator": {"next_index": 2}, "window": [{"loss": 0.1}]}


def test_no_memory_is_no_damage(tmp_path, monkeypatch):
  """A run that can't read a checkpoint now must not begin again."""
  saved_twice(tmp_path, "state")

  def read(*_):
    raise RuntimeError("RESOURCE_EXHAUSTED: 5 bytes\nmore")

  monkeypatch.setattr(checkpoint, "_read", read)
  with pytest.raises(ValueError, match=r"checkpoint 2 .* free memory") as error:
    checkpoint.restore(open_saver(tmp_path), make_state(0))
  assert "\n" not in str(error.value) and steps(tmp_path) == [1, 2]


def test_digests_see_every_bit_and_no_mesh():
  x = np.arange(16, dtype=np.float32).reshape(4, 4)
  known = checksums.crc32({"x": x})
  for byte in range(x.nbytes):
    changed = x.copy()
    changed.view(np.uint8).reshape(-1)[byte] ^= 1 << (byte % 8)
    assert checksums.crc32({"x": changed}) != known
  mesh = sharding.make_mesh(data=2, fsdp=4)
  rows = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
  assert checksums.crc32({"x": jax.device_put(x, rows)}) == known
  assert checksums.crc32({"x": x.reshape(2, 8)}) != known
  assert checksums.crc32({"x": x.view(np.int32)}) != known


class Schedule(NamedTuple):
  hidden: Any
  phase: Any


class Seen(NamedTuple):
  """The curriculum's state of before it kept its rewards."""

  schedule: Any
  average: Any
  best: Any
  waited: Any
  age: Any
  seen: Any


@pytest.mark.parametrize("name", ["phase", "level"])
def test_a_curriculum_of_another_revision_is_read(tmp_path, name):
  """Its schedule is what it was; what it has not seen begins at 0."""
  full = curriculum.full()
  if name == "phase":  # of still before, when a level had another name
    full = Schedule(full.hidden, np.int32(3))
  else:
    full = full._replace(level=np.int32(3))
  numbers = [np.float32(0.7), np.float32(0.6), *map(np.int32, (1, 5, 9))]
  state = make_state(4)._replace(curriculum=Seen(full, *numbers))
  saver = open_saver(tmp_path)
  checkpoint.save(saver, state, {"window": []}, {"nll_bits": 1.0})
  now = curriculum.linear(hidden=1 / 2, steps=3, explore_steps=1).init()
  if name == "phase":
    kept = collections.namedtuple("Kept", ("hidden", "level"))
    now = now._replace(schedule=kept(now.schedule.hidden, now.schedule.level))
  found, host = checkpoint.restore(
    open_saver(tmp_path), make_state(0)._replace(curriculum=now)
  )
  assert host == {"window": []}
  chex.assert_trees_all_equal(found.params, make_state(4).params)
  assert found.curriculum.schedule.level == 3
  assert found.curriculum.schedule.hidden == 1
  rest = found.curriculum._replace(schedule=())
  chex.assert_trees_all_equal_shapes_and_dtypes(rest, now._replace(schedule=()))
  # `age` and `seen` are of the former rule, and not taken for the present one.
  assert not any(np.any(x) for x in jax.tree.leaves(rest))


class Before(NamedTuple):
  """A curriculum as older checkpoints have it."""

  hidden: Any
  phase: Any


class Now(NamedTuple):
  hidden: Any
  level: Any


@pytest.mark.parametrize("written", [Before, Now])
def test_a_field_that_had_another_name_is_read(tmp_path, written):
  """Of checkpoints of either revision, the same values."""
  state = make_state(4)._replace(
    curriculum=written(jnp.float32(0.5), jnp.int32(3))
  )
  saver = open_saver(tmp_path)
  checkpoint.save(saver, state, {"window": []}, {"nll_bits": 1.0})
  like = make_state(0)._replace(curriculum=Now(jnp.float32(0), jnp.int32(0)))
  found, host = checkpoint.restore(open_saver(tmp_path), like)
  assert found.curriculum == Now(0.5, 3) and host == {"window": []}
  chex.assert_trees_all_equal(found.params, make_state(4).params)
