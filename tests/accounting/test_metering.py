"""metering.py: loops are counted by what a program says of them."""

import jax
import jax.numpy as jnp

from rsrc_jax.accounting import energy, ledger, metering

N = 4
ONE = 2 * N**3  # FLOPs of a product


def looped(scope, x, trips):
  """A product, `trips` times in a loop under the scope."""
  with jax.named_scope(scope):
    step = lambda loop: (loop[0] + 1, loop[1] @ x)
    return jax.lax.while_loop(lambda loop: loop[0] < trips, step, (0, x))[1]


@jax.jit
def observe(x, trips):
  """Three samplings, as a look at held-out reward makes them."""
  x = looped("C", x, trips[0]) + looped("C", x, trips[1])
  x += looped("E", x, trips[2])
  names = ("C", "C#2", "E")
  return x, {f"held_{k}_loops": trips[i] * 1.0 for i, k in enumerate(names)}


def test_loops_of_a_window_are_means_by_name():
  window = [{"C_loops": 1.0, "C#2_loops": 4, "loss": 3.0}, {"C_loops": 2.0,
            "C#2_loops": 6, "loss": 1.0}]  # fmt: skip
  assert metering.loops_of(window) == {"C": 1.5, "C#2": 5.0}
  held = [{"held_E_loops": 2.0, "E_loops": 9.0, "held_reward": 1.0}]
  assert metering.loops_of(held, prefix="held_") == {"E": 2.0}


def test_all_loops_of_a_look_at_held_out_reward_are_counted(tmp_path):
  """Those of any section, and of further samplings in one of them."""
  machine = energy.Machine("test machine", 2, 4.0, ())
  meter = energy.Meter(
    machine, (), lambda: energy.Use(0.0, 0.0, {}), lambda: None
  )
  books = ledger.Ledger(tmp_path / "ledger.jsonl", meter)
  look = metering.charged(books, "V", observe, metering.held_loops, "", ("E",))
  look(jnp.eye(N), jnp.array([2, 3, 5]))
  (line,) = (x for x in books.read() if x.get("phase") == "V")
  spent = {scope: work for scope, work in line["flops"].items() if work}
  assert spent == {"C": 5 * ONE, "E": 5 * ONE}
