"""What several ledgers of one process are charged: it adds up to the meter."""

import pytest

from rsrc_jax.accounting.energy import Machine, Meter, Use
from rsrc_jax.accounting.split_meter import SplitMeter

MACHINE = Machine("fake", 2, 8.0, ())


class Clock:
  """A meter that stands still until it is told to go on."""

  def __init__(self):
    self.seconds, self.closed = 100.0, 0

  def go(self, seconds):
    self.seconds += seconds

  def meter(self):
    read = lambda: Use(self.seconds, 2 * self.seconds, {"host": self.seconds})
    return Meter(MACHINE, (), read, self.close)

  def close(self):
    self.closed += 1


@pytest.fixture
def clock():
  return Clock()


def seconds(split, runs=(0, 1)):
  return [split.of(i).read().seconds for i in runs]


def test_each_pays_for_its_own_and_a_part_of_the_rest(clock):
  split = SplitMeter(clock.meter(), 2)
  clock.go(4)  # nobody's: two each
  with split.only(1):
    clock.go(3)
  clock.go(2)
  assert seconds(split) == [3, 6]
  # CPU seconds and joules go with the seconds.
  assert split.of(1).read() == Use(6, 12, {"host": 6})


def test_joint_work_is_charged_when_it_is_given_out(clock):
  split = SplitMeter(clock.meter(), 2)
  with split.joint() as spent:
    clock.go(10)
    assert seconds(split) == [0, 0]
  assert spent == [Use(10, 20, {"host": 10})]
  split.give(0, Use(4, 8, {"host": 4}))
  split.give(1, Use(6, 12, {"host": 6}))
  assert seconds(split) == [4, 6]
  clock.go(1)
  assert sum(seconds(split)) == 11


def test_what_was_held_goes_on_after_an_error(clock):
  split = SplitMeter(clock.meter(), 2)
  with pytest.raises(KeyError), split.only(0):
    clock.go(1)
    raise KeyError
  with pytest.raises(KeyError), split.joint() as spent:
    clock.go(5)
    raise KeyError
  assert spent[0].seconds == 5
  clock.go(2)
  assert seconds(split) == [2, 1]


def test_a_run_does_not_close_what_others_read(clock):
  split = SplitMeter(clock.meter(), 2)
  split.of(0).close()
  assert clock.closed == 0
  split.close()
  assert clock.closed == 1
