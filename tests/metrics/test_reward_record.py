"""What the windows of training say of rewards, averaged by hand."""

import pytest

from rsrc_jax.metrics import reward_record


def window(step, arm="code", split="train", **metrics):
  return {"phase": arm, "split": split, "step": step, **metrics}


def paid(step, verifier, price=0.0, dead=0.0, role="C", **more):
  """A window in which V, shaping and the price share the spread."""
  return window(step, **more) | {
    f"{role}_share_verifier": verifier,
    f"{role}_share_shaping": 1 - verifier - price,
    f"{role}_share_price": price,
    f"{role}_dead_groups": dead,
  }


def test_windows_count_by_their_steps_and_shares_sum_to_one():
  """Windows of 20, 20 and 10 steps.

  V: (20 x .75 + 20 x .5 + 10 x 0) / 50 = .5; the price: 10 x -.5 / 50 = -.1;
  shaping: (20 x .25 + 20 x .5 + 10 x 1.5) / 50 = .6. Dead: 10 x 1 / 50.
  """
  lines = [
    window(20, "base", loss=1.0),
    paid(20, 0.75),
    paid(40, 9.0),  # of a killed run, logged again:
    paid(40, 0.5),
    window(40, split="valid", C_share_verifier=7.0, C_dead_groups=7.0),
    paid(50, 0.0, -0.5, dead=1.0),
  ]
  found = reward_record.record(lines, ["lead", "code"])
  assert list(found["reward_shares"]) == ["code"]
  shares = found["reward_shares"]["code"]
  assert list(shares) == ["verifier", "shaping", "price"]
  assert shares == pytest.approx(
    {"verifier": 0.5, "shaping": 0.6, "price": -0.1}
  )
  assert found["dead_groups"] == {"code": pytest.approx(0.2)}
  assert reward_record.word(shares | {"reader": 0.25}) == pytest.approx(0.75)


def test_what_a_bonus_paid_is_a_mean_over_the_injected_steps():
  """Windows of 20, 20 and 10 steps: (20 x .2 + 10 x .05) / 30 = .15."""
  lines = [
    paid(20, 0.5, inject=1.0, C_spread_bonus=0.2),
    paid(40, 0.5, inject=0.0, C_spread_bonus=9.0),
    paid(50, 0.5, inject=0.1, C_spread_bonus=0.05),
  ]
  found = reward_record.record(lines, ["code"])
  assert found["bonus_spread"] == {"code": pytest.approx(0.15)}
  # Runs that recorded none, and arms that were offered none.
  for more in ({"inject": 1.0}, {"inject": 0.0, "C_spread_bonus": 0.2}):
    lines = [paid(20, 0.5, **more)]
    assert reward_record.offered(lines) is None
    assert "bonus_spread" not in reward_record.record(lines, ["code"])


def test_steps_without_any_spread_do_not_dilute_the_shares():
  """A window whose shares are all 0, or null, for want of a spread."""
  none = {k: 0.0 for k in paid(0, 0) if "share" in k}
  lines = [
    paid(20, 0.75),
    paid(40, 0.0, dead=1.0) | none,
    paid(60, 0.0, dead=1.0) | dict.fromkeys(none),
  ]
  found = reward_record.record(lines, ["code"])
  assert found["reward_shares"]["code"] == pytest.approx(
    {"verifier": 0.75, "shaping": 0.25, "price": 0.0}
  )
  assert found["dead_groups"]["code"] == pytest.approx(2 / 3)
  # Nothing is made up where no group ever had a spread.
  found = reward_record.record(lines[1:], ["code"])
  assert found == {
    "reward_shares": {}, "dead_groups": {"code": 1.0}, "doses": {},
  }  # fmt: skip


def test_doses_are_means_over_the_steps_that_logged_them():
  lines = [
    paid(20, 0.5, hidden=0.9, use_rate=0.5),
    paid(50, 0.5, hidden=0.4),
    paid(100, 0.5, hidden=0.0, use_rate=0.1),
  ]
  found = reward_record.record(lines, ["code"])["doses"]
  # (20 x .9 + 30 x .4) / 100, and (20 x .5 + 50 x .1) / 70.
  assert found == {"code": pytest.approx({"hidden": 0.3, "use_rate": 15 / 70})}


def test_what_r_has_read_and_v_has_paid_it_are_doses():
  """The shares are of C; those of R leave out the steps of its warm-up."""
  warm = paid(20, 0.0, role="R", dead=1.0, R_codes=2.0, R_shorter=0.5)
  warm |= {k: 0.0 for k in warm if "share" in k}
  lines = [
    warm | paid(20, 0.5),
    paid(40, 0.75, role="R", R_codes=3.0, R_shorter=0.1) | paid(40, 0.5),
  ]
  found = reward_record.record(lines, ["code"])
  assert found["reward_shares"]["code"]["verifier"] == pytest.approx(0.5)
  assert found["doses"]["code"] == pytest.approx(
    {"R_codes": 2.5, "R_shorter": 0.3, "R_word": 0.75}
  )


def test_the_record_is_about_the_role_that_writes():
  both = paid(20, 0.5, role="D") | paid(20, 0.75, role="C")
  assert reward_record.roles([both]) == ["C", "D"]
  assert reward_record.role_of([both]) == "C"
  answers = paid(20, 0.5, role="D") | paid(20, 0.75, role="A")
  assert reward_record.role_of([answers | paid(20, 1, role="CC")]) == "CC"
  assert reward_record.role_of([answers]) == "A"
  assert reward_record.role_of([paid(20, 0.5, role="E")]) == "E"
  assert reward_record.role_of([paid(20, 0.5, role="D")]) is None
  reader = [paid(20, 0.5, role="D"), window(40, reward=1.0)]
  assert reward_record.record(reader, ["code"]) == {
    "reward_shares": {}, "dead_groups": {}, "doses": {},
  }  # fmt: skip


def test_dead_groups_of_further_roles_are_doses():
  """C is the role of `dead_groups`; those of A and Q stand beside V's word."""
  both = {"A_dead_groups": 0.5, "Q_dead_groups": 0.25, "Q_paid": 0.125}
  lines = [paid(20, 0.5, **both), paid(40, 0.5, **both | {"Q_paid": 0.375})]
  found = reward_record.record(lines, ["code"])
  assert found["doses"] == {"code": pytest.approx(both | {"Q_paid": 0.25})}
  assert found["dead_groups"] == {"code": 0.0}


def test_a_step_that_plays_another_pattern_has_no_part_in_it():
  """Windows of a mixture may lack the role: they do not count."""
  lines = [paid(20, 0.75), window(40, reward=1.0), paid(60, 0.25)]
  assert reward_record.mean(lines, "C_share_verifier") == pytest.approx(0.5)
  assert reward_record.mean(lines, "gone") is None
