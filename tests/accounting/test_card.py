"""A card is complete, or it isn't written and what is missing is named."""

import copy
import functools
import json
import subprocess
import sys

import jsonschema
import numpy as np
import pytest

from rsrc_jax.accounting import card, energy
from rsrc_jax.metrics import statistics

VM = {"name": "a VM", "vcpus": 2, "gib": 8.0, "accelerators": []}
RAPL = {
  "name": "host", "source": "rapl", "boundary": "packages",
  "interval_seconds": 0.001,
}  # fmt: skip
MODELLED = RAPL | {"source": "modelled", "interval_seconds": None}
JOULES = {"median": 70.0, "p5": 70.0, "p95": 70.0}
NAN = float("nan")


def use(seconds, joules=None):
  counted = {} if joules is None else {"host": joules}
  return {"seconds": seconds, "cpu_seconds": seconds / 2, "counted": counted}


def opened(session, *terms, machine=VM):
  return {
    "kind": "open", "session": session, "arm": "", "at": 0.0,
    "machine": machine, "terms": terms,
  }  # fmt: skip


def phase(session, seconds, joules=None, status="ok", **facts):
  line = {"kind": "phase", "session": session, "arm": "code", "phase": "step"}
  return line | use(seconds, joules) | {"status": status} | facts


# Two sessions of RAPL. Joules: 30 + 5 idle + 40 failed + 2 at the close = 77;
# seconds 3 + 1 + 4 + 1 = 9; FLOPs 100 + 11 + 200.
LINES = [
  opened(0, RAPL),
  phase(0, 3.0, 30.0, idle=use(1.0, 5.0), flops={"C": 100.0, "D": 11.0}),
  {"kind": "lost", "session": 0, "arm": "", "at": 9.0, "at_most_seconds": 9.0},
  opened(1, RAPL, machine=VM | {"name": "another VM"}),
  {"kind": "resume", "session": 1, "arm": "code", "at": 9.0, "line": 1},
  phase(1, 4.0, 40.0, status="failed", flops={"update": 200.0}),
  {"kind": "close", "session": 1, "arm": "", "at": 9.0, "idle": use(1.0, 2.0)},
]
FILES = {
  "config.json": {"seed": 3, "steps": 10},
  "environment.json": {
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "packages": {"jax": "0.10.2", "flax": None},
    "git": "ad804af4d369baceee0941a5982ac998aacd0371+",
    "devices": ["cpu"],
    "backend": "cpu",
    "processes": 1,
    "arguments": ["--workdir=runs/a b", "--config.seed=3"],
  },
  "summary.json": {
    "seed": 3,
    "corpus": {"name": "facts", "digest": "136b", "train": 5},
    "steps": 10,
    "params": 102720,
    "heldout": {},
    "ledger": {
      "machine": VM,
      "terms": [RAPL],
      "pue": 1.0,
      "phases": {
        "code": {
          "update": {
            **use(7.0), "flops": 311.0, "recompute": 20.0, "joules": JOULES,
            "measured": False, "calls": 2,
          },
          "idle": {
            **use(2.0), "flops": 0.0, "recompute": 0.0, "joules": JOULES,
            "measured": True, "calls": 2,
          },
        },
      },
      "wall_seconds": 9.0,
      "sessions": 2,
      "rolled_back": {"seconds": 3.0, "flops": 111.0},
      "lost": [{"session": 0, "at_most_seconds": 9.0}],
      "failed": 1,
      "programs": {
        "code": {
          "walker": 100.0, "xla_raw": 10.0, "xla_corrected": 110.0,
          "closed_form": 99.0, "peak_bytes": 4096, "recompute": 2.0,
        },
      },
    },
    "rsrc": {
      "definitions": "ours, 1",
      "verifier": "uniform",
      "samples_served": 1e6,
      "arms": {
        "code": {
          "training_joules": JOULES, "training_flops": 311.0,
          "source": "rapl", "rsrc_i": 1.0,
        },
      },
    },
  },
}  # fmt: skip


def write(folder, files, lines):
  folder.mkdir()
  for name, value in files.items():
    (folder / name).write_text(json.dumps(value))
  if lines is not None:
    (folder / "ledger.jsonl").write_text(
      "".join(json.dumps(line) + "\n" for line in lines)
    )
  return folder


@pytest.fixture
def files():
  return copy.deepcopy(FILES)


@pytest.fixture
def run(tmp_path, files):
  return write(tmp_path / "run", files, LINES)


def written(folder):
  return json.loads((folder / "card.json").read_text())


def refused(capsys, folder, *words):
  """The command fails, with one line that has these words; no card."""
  assert card.main([str(folder)]) == 1
  err = capsys.readouterr().err
  assert err.count("\n") == 1
  assert all(word in err for word in words), err
  assert not (folder / "card.json").exists()


def test_card(run, capsys):
  assert card.main([str(run)]) == 0
  assert str(run / "card.json") in capsys.readouterr().out
  found = written(run)
  jsonschema.Draft202012Validator(json.loads(card.SCHEMA.read_text())).validate(
    found
  )
  assert found["reproduce"]["command"] == (
    "./tools/run '--workdir=runs/a b' --config.seed=3"
  )
  assert found["reproduce"]["changed"] is True
  assert found["hardware"]["machines"] == ["a VM", "another VM"]
  assert found["energy"] == {
    "pue": 1.0,
    "terms": [RAPL],
    "joules": {"median": 77.0, "p5": 77.0, "p95": 77.0},
    "source": "rapl",
    "arms": {
      "code": {
        "training_joules": JOULES, "training_flops": 311.0, "source": "rapl"
      }
    },
  }  # fmt: skip
  assert found["flops"]["executed"] == 311.0
  assert found["flops"]["recompute"] == 20.0
  # 110 over 99; what XLA says before loops are counted is not in it.
  disagreement = found["flops"]["programs"]["code"]["disagreement"]
  np.testing.assert_allclose(disagreement, 110 / 99)
  assert found["work"] == {
    k: FILES["summary.json"]["ledger"][k]
    for k in ("wall_seconds", "sessions", "rolled_back", "lost", "failed")
  }
  assert found["seeds"] == [3] and found["siblings"] == []
  assert found["total"] == {
    "runs": 1, "flops": 311.0, "joules": found["energy"]["joules"],
    "source": "rapl",
  }  # fmt: skip


def paths(tree, prefix=()):
  """Every path into a tree of dicts."""
  for key, value in tree.items():
    yield (*prefix, key)
    if isinstance(value, dict):
      yield from paths(value, (*prefix, key))


NEEDED = [(name, field) for name, f in card.REQUIRED.items() for field in f]


@pytest.mark.parametrize("value", ["removed", None])
@pytest.mark.parametrize("name, field", NEEDED)
def test_what_is_missing_is_named(tmp_path, files, capsys, name, field, value):
  *above, last = field.split(".")
  tree = functools.reduce(dict.__getitem__, above, files[name])
  if value == "removed":
    del tree[last]
  else:
    tree[last] = None
  refused(capsys, write(tmp_path / "run", files, LINES), name, field)


@pytest.mark.parametrize("name", [*card.REQUIRED, "ledger.jsonl"])
def test_a_missing_file_is_named(run, capsys, name):
  (run / name).unlink()
  refused(capsys, run, f"{name} is missing")


def test_nothing_that_a_card_needs_can_be_left_out(tmp_path, files, capsys):
  """Any key of these blocks: a card without it isn't written."""
  summary = files["summary.json"]
  optional = {
    ("ledger", "programs", "code", "closed_form"),
    ("ledger", "programs", "code", "recompute"),
    ("rsrc", "arms", "code", "rsrc_i"),
  }
  tried = 0
  for path in list(paths({k: summary[k] for k in ("ledger", "rsrc")})):
    if "phases" in path[:-1] or path in optional or "training_joules" in (
      path[:-1]
    ):  # fmt: skip
      continue
    broken = copy.deepcopy(files)
    *above, last = path
    del functools.reduce(
      dict.__getitem__, above, broken["summary.json"]
    )[last]  # fmt: skip
    folder = write(tmp_path / f"run{tried}", broken, LINES)
    refused(capsys, folder, str(folder))
    tried += 1
  assert tried > 25


@pytest.mark.parametrize(
  "path, value, word",
  [
    ("ledger.terms.0.source", "guessed", "guessed"),
    ("ledger.terms.0.source", "removed", "source"),
    ("ledger.terms", [], "terms"),
    ("ledger.pue", 0.5, "pue"),
    ("ledger.machine.vcpus", 1.5, "vcpus"),
    ("ledger.machine.extra", 1, "extra"),
    ("ledger.programs", {}, "programs"),
    ("ledger.wall_seconds", NAN, "NaN"),
    ("rsrc.definitions", "as published, v1", "definitions"),
    ("rsrc.arms", {}, "arms"),
    ("rsrc.arms.code.source", "guessed", "guessed"),
    ("rsrc.arms.code.source", "unavailable", "training_joules"),
    ("rsrc.arms.code.training_joules", 70.0, "training_joules"),
    ("rsrc.arms.code.training_joules", {"median": 1.0}, "training_joules"),
    ("seed", 4, "seed"),
    ("corpus.digest", "", "digest"),
  ],
)
def test_what_cannot_be_right(tmp_path, files, capsys, path, value, word):
  *above, last = path.split(".")
  tree = files["summary.json"]
  for key in above:
    tree = tree[int(key) if key.isdigit() else key]
  if value == "removed":
    del tree[last]
  else:
    tree[last] = value
  refused(capsys, write(tmp_path / "run", files, LINES), word)


def test_a_revision_is_a_revision(tmp_path, files, capsys):
  files["environment.json"]["git"] = "latest"
  refused(capsys, write(tmp_path / "run", files, LINES), "reproduce.git")


@pytest.mark.parametrize(
  "line, word",
  [
    ({"kind": "phase", "session": 0, "seconds": 1.0}, "cpu_seconds"),
    (opened(2, {"name": "host"}), "source"),
  ],
)
def test_a_ledger_line_without_its_facts(tmp_path, files, capsys, line, word):
  folder = write(tmp_path / "run", files, [*LINES, line])
  refused(capsys, folder, "ledger.jsonl", "line 8", word)


def test_a_ledger_without_a_session(tmp_path, files, capsys):
  folder = write(tmp_path / "run", files, LINES[1:3])
  refused(capsys, folder, "ledger.jsonl", "session")


def test_unknown_joules_are_null_and_unavailable(tmp_path, files):
  """A counter that stood still; a card says so, and is still a card."""
  files["summary.json"]["rsrc"]["arms"]["code"]["training_joules"] = None
  lines = [opened(0, RAPL), phase(0, 3.0, 0.0)]
  folder = write(tmp_path / "run", files, lines)
  assert card.main([str(folder)]) == 0
  found = written(folder)
  for some in (found["energy"], found["total"]):
    assert (some["joules"], some["source"]) == (None, "unavailable")
  assert found["energy"]["arms"]["code"]["source"] == "unavailable"


def test_what_nobody_trained_needs_no_training(tmp_path, files):
  arms = files["summary.json"]["rsrc"]["arms"]
  arms |= {"zlib": {"kind": "compressor"}, "untrained": {"kind": "untrained"}}
  folder = write(tmp_path / "run", files, [opened(0, RAPL), phase(0, 3.0, 5.0)])
  assert card.main([str(folder)]) == 0
  assert set(written(folder)["energy"]["arms"]) == {"code"}


def test_siblings(run, files, tmp_path):
  """Finished, broken off, failed: each is paid for; globs may name the run."""
  sibling = {"config.json": {"seed": 4}}
  # Failed once and went on: what the last session did is what it is.
  unfinished = write(
    tmp_path / "unfinished",
    sibling,
    [opened(0, RAPL), phase(0, 1.0, 8.0, "failed"), opened(1, RAPL)],
  )
  failed = write(
    tmp_path / "failed",
    sibling,
    [opened(0, RAPL), phase(0, 1.0, 5.0), phase(0, 1.0, 6.0, "failed")],
  )
  files["config.json"]["seed"] = 5
  finished = write(tmp_path / "finished", files, LINES)
  others = [unfinished, failed, finished, run, failed]
  output = tmp_path / "out.json"
  assert card.main(
    [str(run), "--siblings", *map(str, others), "--output", str(output)]
  ) == 0  # fmt: skip
  found = json.loads(output.read_text())
  assert not (run / "card.json").exists()
  states = {x["run"]: (x["state"], x["joules"]["p5"], x["seed"])
            for x in found["siblings"]}  # fmt: skip
  assert states == {
    "unfinished": ("unfinished", 8.0, 4),
    "failed": ("failed", 11.0, 4),
    "finished": ("finished", 77.0, 5),
  }
  assert found["seeds"] == [3, 4, 5]
  assert found["total"]["runs"] == 4
  assert found["total"]["joules"]["median"] == 77 + 8 + 11 + 77
  assert found["total"]["flops"] == 311 + 311


def test_a_sibling_without_a_ledger_makes_the_total_unknown(run, tmp_path):
  """Its cost is unknown, not nothing."""
  mute = write(tmp_path / "mute", {"config.json": {"seed": 9}}, None)
  assert card.main([str(run), "--siblings", str(mute)]) == 0
  found = written(run)
  (entry,) = found["siblings"]
  assert entry["state"] == "unfinished" and entry["joules"] is None
  assert entry["source"] == found["total"]["source"] == "unavailable"
  assert found["total"]["joules"] is None
  assert found["energy"]["joules"]["median"] == 77.0


def test_a_sibling_that_is_not_there(run, tmp_path, capsys):
  assert card.main([str(run), "--siblings", str(tmp_path / "no")]) == 1
  assert "no/config.json is missing" in capsys.readouterr().err


def test_modelled_joules_share_their_draws(tmp_path, files):
  """Two sessions on one machine: the draws add up, not the percentiles."""
  lines = [
    opened(0, MODELLED), phase(0, 3.0, idle=use(1.0)),
    opened(1, MODELLED), phase(1, 5.0),
  ]  # fmt: skip
  files["summary.json"]["ledger"]["pue"] = 1.2
  folder = write(tmp_path / "run", files, lines)
  assert card.main([str(folder)]) == 0
  whole = energy.joules(
    energy.Use(9.0, 4.5, {}),
    energy.Machine("a VM", 2, 8.0, ()),
    [energy.Term(**MODELLED)],
    pue=1.2,
  )
  found = written(folder)["energy"]
  assert found["source"] == "modelled"
  for key, value in statistics.interval(whole).items():
    np.testing.assert_allclose(found["joules"][key], value)


def test_without_jax():
  code = (
    "from rsrc_jax.accounting import card; import sys; assert 'jax' not in"
    " sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
