"""RSRC_t (as published, v0 / v1): the repository's formula and its faults.

  python -m rsrc_jax.accounting published [--version v0|v1] [--check] [--audit]
  python -m rsrc_jax.accounting published --params=7e9 --flops=8e22 --energy=45

The formula of the public repository PV-Bhat/RSRC (tag v1.1, commit 0a0313e),
kept to reproduce the numbers of its table and to show what is wrong with them.
It is not our RSRC_t, and cannot score a model below one billion parameters:

  S      = F / sqrt(N) * e / 50 * legacy      N in billions, F, e as published
  RSRC_t = ln(N_active) / S^g * age           g 0.48 for MoE, else 0.45

The facts in published_table.json are re-typed; the original is GPL-3.0, and
none of its code or files is used.
"""

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from rsrc_jax.output import tables
from rsrc_jax.output.plain import complain

TABLE = json.loads(
  Path(__file__).with_name("published_table.json").read_text(encoding="utf-8")
)
VERSIONS = ("v0", "v1")
TOLERANCE = 1e-4  # relative, of --check
COLUMN_FLOP = 1e21  # what the numbers of the FLOPs column are counted in
README_FLOP = 1e15  # what the README says they are counted in
JOKE = "Potato AI (Post-Fix)"  # kept in the published table
LANDAUER = 1.380649e-23 * 300 * math.log(2)  # J, one bit erased at 300 K


class Model(NamedTuple):
  """One row of the table, in its units. None is published as "Unknown"."""

  name: str
  arch: str  # "MoE", "Dense"; anything else is Dense without legacy penalty
  year: int
  params_b: float  # total, billions
  train_flops: float | None  # counted in 1e21 FLOP; see the audit
  energy: float | None  # pJ/FLOP or pJ/PFLOP, by the page one reads
  mmlu: float | None = None  # percent; in no formula


class Score(NamedTuple):
  """A number, or None and the reason why there is none."""

  value: float | None
  reason: str = ""


class Finding(NamedTuple):
  """One fault: the sentence shows the numbers, which were computed."""

  name: str
  text: str
  numbers: dict[str, float]


def models() -> list[Model]:
  """The 25 rows as published, in the order of their v1 score."""
  return [
    Model(*(row[field] for field in Model._fields)) for row in TABLE["models"]
  ]


def score(row: Model, version: str = "v1") -> Score:
  """RSRC_t (as published) of one row.

  Args:
    row: inputs in the units of the table.
    version: "v0", or "v1" with its three hard-coded active sizes.

  Raises:
    ValueError: an input is not a positive number, or ln(N) < 0.
  """
  if version not in VERSIONS:
    raise ValueError(f"version is {version!r}: it must be v0 or v1")
  needed = {"energy": row.energy, "training FLOPs": row.train_flops}
  for name, value in {"parameters": row.params_b, **needed}.items():
    if value is not None and not 0 < value < math.inf:
      raise ValueError(f"{name} of {row.name} are {value}: give a number > 0")
  active = _active(row, version)
  if active < 1:
    raise ValueError(
      f"{row.name} counts as {active:g} billion active parameters: below one "
      "billion ln(N) < 0 and less compute scores worse; use RSRC_t (ours)"
    )
  missing = " and ".join(k for k, v in needed.items() if v is None)
  if missing:
    return Score(None, f"not computable: missing {missing}")
  return Score(_formula(row, version))


def _active(row: Model, version: str) -> float:
  """N_active in billions: total, 0.8 of it for MoE, or v1's own number."""
  share = 0.8 if row.arch == "MoE" else 1.0
  fixed = TABLE["active_params_b_v1"] if version == "v1" else {}
  return fixed.get(row.name, share * row.params_b)


def _formula(
  row: Model, version: str = "v1", *, now: int = 2024, cap: bool = False
) -> float:
  """The formula without guards, for the audit.

  Args:
    row: a computable row.
    version: "v0" or "v1".
    now: the published CURRENT_YEAR.
    cap: apply the cap on F where it would count; as published it comes after S.
  """
  flops = row.train_flops
  if cap:
    flops = min(flops, _cap(row))
  old = row.arch == "Dense" and row.year < 2024
  inefficiency = flops / row.params_b**0.5 * (row.energy / 50)
  inefficiency *= 1.2 if old else 1.0
  age = max(0.8, 1 - 0.05 * (now - row.year))
  power = 0.48 if row.arch == "MoE" else 0.45
  return math.log(_active(row, version)) / inefficiency**power * age


def _cap(row: Model) -> float:
  return 1000 * row.params_b**0.8


def audit() -> list[Finding]:
  """The faults of v1 and of its table, each computed by running them."""
  rows = [m for m in models() if score(m).value is not None]
  return [*_audit_inputs(rows), *_audit_formula(rows), *_audit_ranking(rows)]


def _audit_inputs(rows: list[Model]) -> list[Finding]:
  """Faults of the table. Facts from elsewhere are named in the sentences."""
  by = {m.name: m for m in models()}
  llama, v3, gpt4 = by["Llama-3-70B"], by["DeepSeek V3"], by["GPT-4"]
  moe, dense = by["GPT-o1"], by["o1"]
  energies = [m.energy for m in by.values() if m.energy is not None]
  # 700 W, 989 TFLOP/s, 40 % of them used, in pJ/FLOP: data sheet, not measured.
  chip = 700 / (989e12 * 0.4) * 1e12
  flop = {"Llama": 6 * 70e9 * 15e12, "V3": 6 * 37e9 * 14.8e12}
  mmlu, first = by["Falcon-40B"].mmlu, max(_formula(m) for m in real(rows))
  return [
    _finding("unit of F",
      "Llama-3-70B is {published:g}; 6 x 70e9 parameters x 15e12 tokens is "
      "{flop:.2g} FLOP, so the column counts {unit:.2g}, not PetaFLOP (1e15)",
      published=llama.train_flops, flop=flop["Llama"],
      unit=flop["Llama"] / llama.train_flops),
    _finding("DeepSeek V3 is 100x low",
      "F is {published:g}; 6 x 37e9 active x 14.8e12 tokens is {expected:.0f} "
      "in the column's unit ({factor:.0f}x), as its sister R1 has ({r1:g}). "
      "Corrected, {before:.4f} becomes {after:.4f}",
      published=v3.train_flops, expected=flop["V3"] / COLUMN_FLOP,
      factor=flop["V3"] / COLUMN_FLOP / v3.train_flops,
      r1=by["DeepSeek R1"].train_flops,
      before=_formula(v3), after=_formula(corrected(v3))),
    _finding("below Landauer's bound",
      "As pJ/PFLOP, GPT-4 spends {gpt4:.2g} J/FLOP; erasing one bit at 300 K "
      "takes {bound:.3g} J. {below} of {of} rows are below",
      gpt4=gpt4.energy * 1e-27, bound=LANDAUER, of=len(energies),
      below=sum(e * 1e-27 < LANDAUER for e in energies)),
    _finding("energy too high",
      "As pJ/FLOP, {low:g} to {high:g} are {least:.0f}x to {most:.0f}x an H100 "
      "at 40 % ({chip:.2f}; data sheet). V3 would take {v3:.0f} MWh; 2.788e6 "
      "GPU-hours of 700 W are {hours:.0f}",
      low=min(energies), least=min(energies) / chip, chip=chip,
      high=max(energies), most=max(energies) / chip,
      v3=v3.energy * 1e-12 * corrected(v3).train_flops * COLUMN_FLOP / 3.6e9,
      hours=2.788e6 * 700 / 1e6),
    _finding("o1 is there twice",
      "GPT-o1: MoE, {n1:g} B, F {f1:g}, score {s1:.4f}. o1: Dense, {n2:g} B, F "
      "{f2:g}, score {s2:.4f}",
      n1=moe.params_b, f1=moe.train_flops, s1=_formula(moe),
      n2=dense.params_b, f2=dense.train_flops, s2=_formula(dense)),
    _finding("a filled-in MMLU",
      "Falcon-40B's {mmlu:.6f} is {sum:.2f} / 17 (off by {error:.0e}): it "
      "looks like a column mean put in for a missing value (a guess)",
      mmlu=mmlu, sum=round(17 * mmlu, 2),
      error=abs(17 * mmlu - round(17 * mmlu, 2))),
    _finding("not a model",
      "The {params:g} B of {joke} win with {score:.1f}, {lead:.0f}x the first "
      "real row".replace("{joke}", JOKE),
      params=by[JOKE].params_b, score=max(_formula(m) for m in rows),
      lead=_formula(by[JOKE]) / first),
  ]  # fmt: skip


def _audit_formula(rows: list[Model]) -> list[Finding]:
  """Faults of the formula on single rows."""
  by = {m.name: m for m in rows}
  opus, llama = by["Claude 3 Opus"], by["Llama-2-7B"]
  v3, r1 = by["DeepSeek V3"], by["DeepSeek R1"]
  small = Model("small", "Dense", 2024, 0.01, 1.0, 50.0)
  fill = [m.train_flops / _cap(m) for m in models() if m.train_flops]
  blind = [score(m._replace(mmlu=25.0)) != score(m) for m in rows]
  return [
    _finding("the cap does nothing",
      "min(F, 1000 N^0.8) comes after S. Put before it, it binds on {binds} of "
      "{of} rows (nearest: {nearest:.2f} of the cap) and moves {moved} of "
      "{rows} scores",
      binds=sum(x > 1 for x in fill), of=len(fill), nearest=max(fill),
      moved=sum(_formula(m, cap=True) != _formula(m) for m in rows),
      rows=len(rows)),
    _finding("sign failure below 1 B",
      "N=0.01, F=1: {one:.3f}; F=1e-6: {less:.1f}, so less compute is worse; "
      "N=1: {zero:g} (Dense, e=50, 2024)",
      one=_formula(small), less=_formula(small._replace(train_flops=1e-6)),
      zero=_formula(small._replace(params_b=1.0))),
    _finding("size is rewarded",
      "Claude 3 Opus with 10x the parameters, all else equal: {before:.4f} "
      "becomes {after:.4f}",
      before=_formula(opus),
      after=_formula(opus._replace(params_b=10 * opus.params_b))),
    _finding("active is not active",
      "MoE counts {used:.0%} of N as active; DeepSeek V3 activates 37 of "
      "{total:g} B, {true:.1%}. The root takes the total, the log the active",
      used=_active(r1, "v1") / r1.params_b, total=v3.params_b,
      true=37 / v3.params_b),
    _finding("the label counts",
      "Llama-2-7B called MoE: {dense:.4f} becomes {moe:.4f}",
      dense=_formula(llama), moe=_formula(llama._replace(arch="MoE"))),
    _finding("the calendar counts",
      "Dated 2026, Claude 3 Opus scores {bonus:.2f}x, and dated 2023 "
      "{old:.2f}x; with CURRENT_YEAR 2025, {moved} of {rows} scores move",
      bonus=_formula(opus._replace(year=2026)) / _formula(opus),
      old=_formula(opus._replace(year=2023)) / _formula(opus),
      moved=sum(_formula(m, now=2025) != _formula(m) for m in rows),
      rows=len(rows)),
    _finding("capability-blind",
      "With every MMLU at the 25 % of chance, {moved} of {rows} scores move",
      moved=sum(blind), rows=len(rows)),
  ]  # fmt: skip


def _audit_ranking(rows: list[Model]) -> list[Finding]:
  """Faults that show between rows."""
  by, n = {m.name: m for m in rows}, len(real(rows))
  drawn = np.array(list(TABLE["site_chart"].values()))
  v0, v1 = (
    np.array([_formula(by[name], v) for name in TABLE["site_chart"]])
    for v in VERSIONS
  )
  both = [(m.name, _formula(m, "v0"), _formula(m, "v1")) for m in rows]
  differ = [f"{name} {a:.4f} -> {b:.4f}" for name, a, b in both if a != b]
  return [
    _finding("the ranking has a unit",
      "F x 1e6 (its unit put right) inverts {million} of {pairs} pairs of real "
      "models; x 1e3: {thousand}; x 1e-6: {millionth}. The exponent depends on "
      "the label, so no unit is consistent",
      million=inversions(rows, 1e6), thousand=inversions(rows, 1e3),
      millionth=inversions(rows, 1e-6), pairs=n * (n - 1) // 2),
    _finding("v1 sets three by hand",
      "Of {rows} rows {count} differ, v0 -> v1: " + "; ".join(differ),
      rows=len(rows), count=len(differ)),
    _finding("not the site's chart",
      "Ten models that the author drew: Spearman {spearman:.2f} (p {p:.2f}, "
      "20,000 permutations), Kendall {kendall:.2f}; v0: Spearman {v0:.2f}",
      spearman=spearman(v1, drawn), p=permutation_p(v1, drawn),
      kendall=kendall(v1, drawn), v0=spearman(v0, drawn)),
  ]  # fmt: skip


def _finding(name: str, text: str, **numbers: float) -> Finding:
  return Finding(name, text.format(**numbers), numbers)


def real(rows: list[Model]) -> list[Model]:
  """Without the joke row."""
  return [m for m in rows if m.name != JOKE]


def corrected(row: Model) -> Model:
  """The one input that arithmetic shows to be a slip: DeepSeek V3's F x 100."""
  if row.name != "DeepSeek V3":
    return row
  return row._replace(train_flops=100 * row.train_flops)


def inversions(rows: list[Model], factor: float) -> int:
  """Pairs of real models that change places when F is counted otherwise."""
  pairs = [
    (_formula(m), _formula(m._replace(train_flops=factor * m.train_flops)))
    for m in real(rows)
  ]
  return sum(
    (a - b) * (a_then - b_then) < 0
    for (a, a_then), (b, b_then) in itertools.combinations(pairs, 2)
  )


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Rank correlation of two [n]; ties share the mean of their ranks."""
  return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def kendall(x: np.ndarray, y: np.ndarray) -> float:
  """tau-a of two [n] without ties: concordant - discordant over all pairs."""
  signs = np.sign(np.subtract.outer(x, x) * np.subtract.outer(y, y))
  return float(signs.sum() / (len(x) * (len(x) - 1)))


def permutation_p(
  x: np.ndarray, y: np.ndarray, draws: int = 20_000, seed: int = 0
) -> float:
  """Two-sided p of Spearman's rho, from random re-orderings of y."""
  a, b = (r - r.mean() for r in (_ranks(x), _ranks(y)))
  orders = np.tile(b, (draws, 1))
  shuffled = np.random.default_rng(seed).permuted(orders, axis=1) @ a
  as_far = np.abs(shuffled) >= abs(a @ b) - 1e-9
  return float((as_far.sum() + 1) / (draws + 1))


def _ranks(x: np.ndarray) -> np.ndarray:
  below = np.greater.outer(x, x).sum(1)
  return below + (np.equal.outer(x, x).sum(1) + 1) / 2


def check(version: str) -> tuple[Table, list[str], bool]:
  """Every row against the stored number.

  Returns:
    A table, sentences, and whether all 23 rows are within TOLERANCE and v0
    differs from v1 in three.
  """
  table = _table(
    f"RSRC_t (as published, {version}) against the stored table",
    ("model", "computed", "stored", "relative error"),
  )
  errors, said = [], []
  for row, facts in zip(models(), TABLE["models"], strict=True):
    found, stored = score(row, version), facts[version]
    cells = ("—" if x is None else f"{x:.7g}" for x in (found.value, stored))
    if found.value is None:
      said.append(f"{row.name}: {found.reason}")
    if found.value is None or stored is None:
      error = 0.0 if found.value is stored else math.inf
    else:
      error = abs(found.value / stored - 1)
    errors.append(error)
    table.add_row(row.name, *cells, f"{error:.0e}" if stored else "—")
  computed = len(errors) - len(said)
  right = computed == 23 and max(errors) <= TOLERANCE
  said.append(
    f"{computed} rows computed, worst relative error {max(errors):.0e}: "
    + ("as stored." if right else f"NOT 23 within {TOLERANCE:g} of the table.")
  )
  if version == "v0":
    both = [(m, score(m, "v0").value, score(m, "v1").value) for m in models()]
    differ = [f"  {m.name}: {a:.4f}, {b:.4f}" for m, a, b in both if a != b]
    said += [f"{len(differ)} rows differ, v0 and v1:", *differ]
    right &= len(differ) == 3
  return table, said, right


def rankings() -> Table:
  """The published ranking beside that of corrected inputs."""
  rows = [m for m in models() if score(m).value is not None]
  before = {m.name: _formula(m) for m in rows}
  after = {m.name: _formula(corrected(m)) for m in rows}
  table = _table(
    "RSRC_t (as published, v1): inputs as published, beside corrected ones",
    ("rank", "model", "score", "corrected\nrank", "corrected\nscore", "note"),
  )
  order = lambda scores: sorted(scores, key=scores.get, reverse=True)
  then = {name: i for i, name in enumerate(order(after), 1)}
  for i, name in enumerate(order(before), 1):
    changed = before[name] != after[name]
    note = "F x 100" if changed else "joke" if name == JOKE else ""
    scores = (f"{before[name]:.4f}", str(then[name]), f"{after[name]:.4f}")
    table.add_row(str(i), name, *scores, note, style="bold" if changed else "")
  v3 = next(m for m in rows if m.name == "DeepSeek V3")
  alone = _formula(corrected(v3), "v0")
  table.caption = (
    f"Corrected: DeepSeek V3's training FLOPs, {v3.train_flops:g} -> "
    f"{corrected(v3).train_flops:g}, and nothing else. Without v1's own active "
    f"size for it as well: {alone:.4f}."
  )
  return table


def main(argv: Sequence[str]) -> int:
  """The command line; 0 where all is well, 1 a failed check, 2 bad input."""
  flags = _flags().parse_args(argv)
  console = Console(width=min(100, Console().width), highlight=False)
  user = (flags.params, flags.flops, flags.energy)
  try:
    if any(value is not None for value in user):
      return _user_model(flags, console)
  except ValueError as error:
    complain(error)
    return 2
  right = True
  if flags.check or not flags.audit:
    table, said, right = check(flags.version)
    tables.show(table, console)
    for sentence in said:
      console.print(sentence, soft_wrap=True)
  if flags.audit:
    table = _table("RSRC_t (as published, v1): audit", ("fault", "evidence"))
    for finding in audit():
      table.add_row(finding.name, finding.text, end_section=True)
    table.caption = (
      "Read in the formula, with nothing to compute: no uncertainty, no energy "
      "boundary, no cost of rollouts, verifier or failed runs."
    )
    tables.show(table, console)
    tables.show(rankings(), console)
  return 0 if right else 1


def _flags() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m rsrc_jax.accounting published",
    description="RSRC_t as its author published it. Ours is another metric.",
  )
  parser.add_argument("--version", choices=VERSIONS, default="v1")
  parser.add_argument("--check", action="store_true", help="against the table")
  parser.add_argument("--audit", action="store_true", help="what is wrong")
  parser.add_argument("--params", type=float, help="a model's parameters")
  parser.add_argument("--flops", type=float, help="its training FLOP")
  parser.add_argument("--energy", type=float, help="its pJ/FLOP")
  parser.add_argument(
    "--arch", choices=("Dense", "MoE", "other"), default="Dense"
  )
  parser.add_argument("--year", type=int, default=2024)
  return parser


def _user_model(flags: argparse.Namespace, console: Console) -> int:
  """Scores a model of the flags, in both units that F may have."""
  if flags.params is None:
    raise ValueError("--params is missing: give the number of parameters")
  size, flop = flags.params / 1e9, flags.flops
  row = Model("model", flags.arch, flags.year, size, None, flags.energy)
  label = f"RSRC_t (as published, {flags.version})"
  units = {"the table's numbers": COLUMN_FLOP, "the README": README_FLOP}
  for source, unit in units.items():
    row = row._replace(train_flops=None if flop is None else flop / unit)
    found = score(row, flags.version)
    if found.value is None:
      console.print(f"{label}: {found.reason}")
      return 1
    console.print(f"{label}: {found.value:.6g}, F in {unit:g} as in {source}")
  return 0


def _table(title: str, columns: Sequence[str]) -> Table:
  table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False,
                title_justify="left", caption_justify="left")  # fmt: skip
  for name in columns:
    words = name in ("model", "fault", "evidence", "note")
    side = "left" if words else "right"
    table.add_column(name, justify=side, no_wrap=name != "evidence")
  return table
