"""tools/show_codes.py on hand-written runs, and what evaluation adds for it."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import tiny
from helpers.policy import obeys
from rich.console import Console

from rsrc_jax.accounting import energy_sources
from rsrc_jax.accounting.ledger import Ledger
from rsrc_jax.build import writers
from rsrc_jax.build.overrides import arm_config
from rsrc_jax.build.setup import make_setup
from rsrc_jax.data import sources, tokenizer
from rsrc_jax.evaluation import samples
from rsrc_jax.report import codes, codes_page, codes_text
from rsrc_jax.runtime import sharding
from rsrc_jax.runtime.configs import load
from rsrc_jax.stages import plan
from rsrc_jax.types import Tokens

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "show_codes.py"

S = ["anna", "sold", "red", "lamps"]
D = ["anna", "owed", "red", "lamps"]
HOSTILE = "<script>alert('&')</script>"


def sample(arm: str, row: int = 0, **changes) -> dict:
  """A line of samples.jsonl, as far as the tool reads it."""
  return {
    "arm": arm,
    "row": row,
    "source_pieces": S,
    "code_pieces": ["Ψ", "paris", "ω"],
    "code_surprisal": [0.4, 5.04, None],
    "decoded_pieces": D,
    "decoded_surprisal": [0.0, 1.5, 2.5, 9.0],
  } | changes


ASKED = {
  "asked_code_pieces": ["Σ", "red"],
  "asked_code_injected": [True, False],
  "injected_pieces": ["Σ", "π"],
}
QA = {"source": S, "code": ["Ψ", "paris", "ω"], "decoded": ["d"],
      "question": ["who"], "answer": ["peter"], "right": ["anna"]}  # fmt: skip
# In the order in which jax leaves the keys of a dict.
CCV = {"again_1": ["a1"], "again_2": ["a2"], "chain_1": ["c1"],
       "chain_2": ["c2"], "old": ["o"], "once": ["Ψ", "paris", "ω"],
       "source": S}  # fmt: skip
CC = {"cc": [[], ["m2"], ["m3"]], "code": [["x1"], ["x2"], ["x3"]],
      "decoded": [["d1"], ["d2"], ["d3"]],
      "source": [["s1"], ["s2"], ["s3"]]}  # fmt: skip


def make_run(folder: Path, samples: list[dict], shown: list[dict] = ()) -> Path:
  """A run directory with these lines."""
  folder.mkdir(exist_ok=True)
  for name, lines in {"samples": samples, "shown": shown}.items():
    if lines:
      text = "".join(json.dumps(x, ensure_ascii=True) + "\n" for x in lines)
      (folder / f"{name}.jsonl").write_text(text)
  return folder


def shown(arm: str, fields: dict, index: int = 0, prefix: str = "") -> dict:
  named = {prefix + name: value for name, value in fields.items()}
  return {"arm": arm, "index": index, **named}


@pytest.fixture
def run_dir(tmp_path) -> Path:
  """Each pattern's shape: an arm of C -> D -> V alone has nothing to show."""
  mixed = shown("mixed", QA, 0, "qa.") | shown("mixed", CCV, 0, "ccv.")
  return make_run(
    tmp_path / "run",
    [sample("code", 0, **ASKED), sample("code", 1),
     *(sample(name) for name in ("qa", "rewrite", "cc", "mixed"))],
    [shown("qa", QA), shown("rewrite", CCV), shown("cc", CC), mixed],
  )  # fmt: skip


def printed(arms) -> str:
  stream = io.StringIO()
  codes_text.show(arms, Console(file=stream, width=160, color_system=None))
  return stream.getvalue()


def tool(*arguments, **environment) -> subprocess.CompletedProcess:
  kept = {k: v for k, v in os.environ.items()
          if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}  # fmt: skip
  return subprocess.run(
    [sys.executable, TOOL, *map(str, arguments)], capture_output=True,
    text=True, env=kept | {"PYTHONUTF8": "1"} | environment,
  )  # fmt: skip


def rows_of(text: str) -> list[list[str]]:
  """The lines of printed tables, cut where two spaces or more stand."""
  return [re.split(r"\s{2,}", x.strip()) for x in text.splitlines()]


def test_samples_side_by_side(run_dir):
  rows = rows_of(printed(codes.load(run_dir, ["code"], 8)))
  assert ["row", "s", "c", "injected", "c, controlled", "d"] in rows
  # 5.04 bits are 5, what may not be written has no number of bits.
  c, d = "Ψ:0 paris:5 ω:inf", "anna:0 owed:2 red:2 lamps:9"
  assert ["0", "anna sold red lamps", c, "*Σ* *π*", "*Σ* red", d] in rows
  assert ["1", "anna sold red lamps", c, d] in rows  # nothing was asked there


def test_questions_and_answers_side_by_side(run_dir):
  rows = rows_of(printed(codes.load(run_dir, ["qa"], 8)))
  assert ["row", "s", "c", "d", "question", "answer", "right"] in rows
  # c is the one of samples.jsonl, d is another: its surprisal is not known.
  c = "Ψ:0 paris:5 ω:inf"
  assert ["0", "anna sold red lamps", c, "d", "who", "peter", "anna"] in rows


def test_rewrites_stand_pass_under_pass(run_dir):
  rows = rows_of(printed(codes.load(run_dir, ["rewrite"], 8)))
  assert [
    "row",
    "pass",
    "s",
    "old",
    "c",
    "greedy rewrite",
    "best of group",
  ] in rows
  c = "Ψ:0 paris:5 ω:inf"
  assert ["0", "1", "anna sold red lamps", "o", c, "a1", "c1"] in rows
  assert ["2", "a2", "c2"] in rows


def test_memories_stand_round_under_round(run_dir):
  rows = rows_of(printed(codes.load(run_dir, ["cc"], 8)))
  assert ["row", "round", "s", "cc", "c", "d"] in rows
  assert ["0", "1", "s1", "—", "x1", "d1"] in rows  # it begins with none
  assert ["3", "s3", "m3", "x3", "d3"] in rows


def test_a_mixed_arm_has_a_table_for_each_pattern(run_dir):
  found = codes.load(run_dir, ["mixed"], 8)["mixed"]
  assert [x.title for x in found] == [
    "held-out sources", "what qa shows of itself", "what ccv shows of itself"
  ]  # fmt: skip
  assert found[1].columns == (
    "source", "code", "decoded", "question", "answer", "right"
  )  # fmt: skip
  assert (found[2].steps, len(found[2].entries[0][1])) == ("pass", 2)


def test_rows_say_what_they_leave_out(run_dir):
  text = printed(codes.load(run_dir, ["code"], 1))
  assert "1 more: --rows=2" in text
  assert ["1"] not in [x[:1] for x in rows_of(text)]


def test_older_runs_have_no_colours_and_say_so(tmp_path):
  line = sample("code")
  del line["code_surprisal"], line["decoded_surprisal"]
  arms = codes.load(make_run(tmp_path, [line]), [], 8)
  text = printed(arms)
  assert "No surprisal is recorded" in text and "Ψ paris ω" in text
  page = codes_page.page("run", arms)
  assert "No surprisal is recorded" in page and 't b0"' not in page


@pytest.mark.parametrize(
  "bits, expected",
  [(0, 0), (0.99, 0), (1.0, 1), (2.0, 2), (4.0, 3), (7.9, 3), (8.0, 4),
   (900.0, 4), (np.inf, 5)],
)  # fmt: skip
def test_levels_of_surprisal(bits, expected):
  assert codes.level(bits) == expected


def test_page_marks_tokens(run_dir):
  page = codes_page.page("run", codes.load(run_dir, [], 8))
  assert '<span class="t b0" title="0.40 bits">Ψ</span>' in page
  assert '<span class="t b3" title="5.04 bits">paris</span>' in page
  assert '<span class="t never" title="may not be written">ω</span>' in page
  assert '<span class="t" title="injected"><u>Σ</u></span>' in page
  for name in ("code", "qa", "rewrite", "cc", "mixed"):
    assert page.count(f"<h2>{name}</h2>") == 1
  assert "underlined" in page and "4 to 8" in page  # the legend
  tables = page.count("<table")
  assert tables == page.count('<div class="wide"><table') == 10
  # s stands once beside two passes, and once in each of three rounds.
  assert page.count('<td rowspan="2">') == 6 and "prefers-color-scheme" in page
  for line in re.findall(r"<tr.*?</tr>", page, re.DOTALL):
    assert line.count("<td") == line.count("</td>")


def test_page_is_self_contained_and_escapes_everything(tmp_path):
  line = sample(
    HOSTILE, code_pieces=[HOSTILE, "\ud800\x1b[2J\n", '"'],
    injected_pieces=[HOSTILE], asked_code_pieces=[HOSTILE],
    asked_code_injected=[True],
  )  # fmt: skip
  more = shown(HOSTILE, {HOSTILE: [HOSTILE], "source": [HOSTILE]}, 0, "<b>.")
  run = make_run(tmp_path / "<i>run", [line], [more])
  done = tool(run, "--arm", HOSTILE, COLUMNS="300")
  assert done.returncode == 0, done.stderr
  page = (run / "codes.html").read_text(encoding="utf-8")
  assert obeys(page).scripts == []
  assert "<script" not in page and "<b>" not in page and "<i>" not in page
  assert page.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") > 5
  assert "\\ud800\\u001b[2J\\u000a" in page and "&quot;" in page
  assert not re.findall(r"(?:src|href)=|url\(|@import", page)
  # Nor is the terminal steered by a piece.
  assert "\\u001b[2J" in done.stdout and "\x1b" not in done.stdout


def test_colours_in_a_terminal_and_words_without(run_dir):
  colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "COLUMNS": "120"}
  done = tool(run_dir, "--arm=code", **colours)
  assert done.returncode == 0, done.stderr
  # Level 3: #1f2933 on #f0883e. An injected id is underlined.
  assert "\x1b[38;2;31;41;51;48;2;240;136;62mparis\x1b[0m" in done.stdout
  assert "\x1b[4mΣ\x1b[0m" in done.stdout and ":5" not in done.stdout
  for environment in (colours | {"NO_COLOR": "1"}, {"COLUMNS": "120"}):
    done = tool(run_dir, "--arm=code", **environment)
    assert "paris:5" in done.stdout and "*Σ*" in done.stdout
    assert "may not write" in done.stdout  # the legend
    assert not re.findall(r"\x1b\[[0-9;]*[34]8;", done.stdout)


def test_arms_can_be_chosen_and_the_page_put_elsewhere(run_dir, tmp_path):
  path = tmp_path / "page.html"
  done = tool(run_dir, "--arm=qa,cc", "--arm=code", f"--html={path}")
  assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(path)
  headings = re.findall("<h2>(.*?)</h2>", path.read_text(encoding="utf-8"))
  assert headings == ["code", "qa", "cc"]  # as in the file
  assert not (run_dir / "codes.html").exists()


def test_it_needs_no_jax(run_dir):
  code = (
    f"import sys; sys.argv = ['', {str(run_dir)!r}]\n"
    f"import runpy\n"
    f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    "except SystemExit as end: assert end.code == 0\n"
    "slow = {'jax', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    "assert not slow, slow"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  "spoil, arguments, said",
  [
    (lambda run: (run / "samples.jsonl").unlink(), (), "command that started"),
    (lambda run: (run / "samples.jsonl").write_text(""), (), "eval.samples"),
    (None, ("--arm=cod",), "it has code, qa, rewrite, cc, mixed"),
    (None, ("--rows=0",), "at least 1"),
    (None, ("--html=/nowhere/x.html",), "--html=PATH"),
  ],
)
def test_bad_input_is_one_clear_line(run_dir, spoil, arguments, said):
  if spoil:
    spoil(run_dir)
  refused(tool(run_dir, *arguments), said)
  assert not (run_dir / "codes.html").exists()


@pytest.mark.parametrize("name, number", [("samples", 7), ("shown", 5)])
@pytest.mark.parametrize(
  "line",
  [
    '{"arm": "code", "ro',
    "3",
    "{}",
    json.dumps(sample("code", code_surprisal=[0.5])),  # of three tokens
    json.dumps(sample("code", code_pieces=[1, 2, 3])),
    json.dumps(shown("qa", QA | {"code": [["x"], "y"]})),
  ],
)
def test_a_broken_line_is_named_with_its_remedy(run_dir, name, number, line):
  with (run_dir / f"{name}.jsonl").open("a") as file:
    file.write(line)
  with pytest.raises(ValueError) as error:
    codes.load(run_dir, [], 8)
  said = str(error.value)
  assert f"{name}.jsonl, line {number}" in said and "\n" not in said
  # The remedy is one.
  subprocess.run(said.split(": ")[-1], shell=True, check=True)
  codes.load(run_dir, [], 8)


def test_a_half_written_line_ends_the_tool(run_dir):
  with (run_dir / "samples.jsonl").open("a") as file:
    file.write('{"arm": "code", "row": 2, "source_pie')
  done = tool(run_dir)
  assert done.returncode == 2
  refused(done, "line 7 is not a whole line")


def refused(done, said: str) -> None:
  assert done.returncode == 2 and done.stdout == ""
  assert done.stderr.startswith("error: ") and said in done.stderr
  assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """What evaluation says of made-up codes of an arm that injects, and a rule.

  -> world, params, table, lines by arm. Five rows are shared by four devices.
  """
  config = load(ROOT / "configs" / "random_vocabulary.py")
  config.update_from_flattened_dict(
    {"data.sentences": 400, "data.heldout": 32, "model.width": 16,
     "model.depth": 1, "model.hidden": 24, "budget": 4, "budgets": (2, 3, 4),
     "eval.budgets": (3,), "eval.samples": 5, "eval.batch_size": 8,
     "curriculum.hidden": 0.5, "mesh.data": 4, "only": "E1,F"}
  )  # fmt: skip
  setup = make_setup(config, tmp_path_factory.mktemp("cache"))
  params = jax.jit(setup.policy.init)(jax.random.key(0))
  # Away from the uniform, where wrong conditions would hardly show.
  params = jax.tree.map(lambda x: 3.0 * x, params)
  params = sharding.put(params, sharding.shardings(setup.mesh, params))
  rng = np.random.default_rng(0)
  mask = np.ones((8, 4), bool)
  mask[1, 2:] = False
  code = rng.choice(np.flatnonzero(setup.corpus.vocab.code), (8, 4))
  code[2, 1] = tokenizer.UNKNOWN  # no role's, though a rule may keep it
  source = Tokens(*(x[:8] for x in setup.corpus.test))
  table = {
    "row": np.arange(8, dtype=np.int32),
    "source": source,
    "code": Tokens(np.where(mask, code, 0).astype(np.int32), mask),
    "decoded": Tokens(*(np.roll(x, 1, 0) for x in source)),
    "scores": {"nll_bits": np.ones(8)},
  }
  surprisal = jax.jit(samples.make_surprisal(setup))
  place = lambda tree: sharding.rows(setup.mesh, tree)
  ledger = Ledger(None, energy_sources.open_meter())
  lines = {}
  for arm in plan.make_stages(setup)[1:]:
    readouts = samples.readouts(
      setup, arm, params, table, surprisal, place, ledger
    )
    lines[arm.name] = samples.rows(setup, arm.name, table, 5, *readouts)
  return setup, params, table, lines


def test_surprisal_is_that_of_one_pass_over_the_whole_text(written):
  """Against logits of prompt and output in one row without a pad."""
  setup, params, table, lines = written
  vocab, policy = setup.corpus.vocab, setup.policy

  @jax.jit
  def logits(ids):
    tokens = Tokens(ids[None, None], jax.numpy.ones((1, 1, len(ids)), bool))
    hidden, _ = policy.apply(params, tokens, jax.numpy.arange(len(ids)))
    return policy.unembed(params, hidden)[0, 0]

  def bits(role, prompt, output):
    (tag, separator), support = vocab.tags[role], setup.roles[role].support
    before = [*tag, *prompt, *separator]
    ids = np.array([*before, *output], np.int32)
    found = np.asarray(logits(ids), np.float64)[len(before) - 1 : -1]
    found[:, ~support] = -np.inf
    found -= np.logaddexp.reduce(found, -1, keepdims=True)
    chosen = -found[np.arange(len(output)), output] / np.log(2)
    return [x if np.isfinite(x) else None for x in chosen]

  row = lambda name, i: table[name].ids[i][table[name].mask[i]]
  slots = [vocab.control_tags["slot"]] * 4  # the budget that the test asks for
  for i, line in enumerate(lines["E1"]):
    s, c, d = (row(x, i) for x in ("source", "code", "decoded"))
    for name, expected in (
      ("code", bits("C", [*s, *slots], c)),
      ("decoded", bits("D", c, d)),
    ):
      found = line[f"{name}_surprisal"]
      assert [x is None for x in found] == [x is None for x in expected]
      both = [(x, y) for x, y in zip(found, expected, strict=True) if y]
      assert np.allclose(*zip(*both, strict=True), atol=1e-3)
  assert lines["E1"][2]["code_surprisal"][1] is None
  assert len(lines["E1"][1]["code_surprisal"]) == 2
  for a, b in zip(lines["E1"], lines["F"], strict=True):
    assert a["code_surprisal"] == b["code_surprisal"]  # the same parameters


def test_codes_that_were_asked_for(written):
  """Half of the ids hidden, as at first, the injected ones never; greedy."""
  setup, _, table, lines = written
  assert "injected_pieces" not in lines["E1"][0]  # a rule hears no ask
  constrain = writers.make_controls(
    setup, arm_config(setup.config, "F"), "force"
  )
  batch = sources.batch(table["source"], 0, 5)
  key = jax.random.key(setup.config.augment.seed)
  schedule = tiny.schedule(hidden=0.5)
  limits = jax.jit(constrain)(key, batch, schedule).constraints
  marks, pieces = [], setup.corpus.vocab.pieces
  for i, line in enumerate(lines["F"]):
    injected, code = line["injected_pieces"], line["asked_code_pieces"]
    assert injected == pieces(limits.injected[i, 0].tolist())
    allowed = [x for x in limits.allowed[i, 0].tolist() if x >= 0]
    assert 30 < len(allowed) < 90 and set(code) <= set(pieces(allowed))
    assert not set(code) & set(pieces(limits.avoided[i, 0].tolist()))
    assert len(code) == 4  # the largest budget, filled
    assert line["asked_code_injected"] == [x in injected for x in code]
    marks += line["asked_code_injected"]
  assert set(marks) == {True, False}


def test_the_fields_are_what_the_tool_reads(written, tmp_path):
  lines = [x for by in written[3].values() for x in by]
  run = make_run(tmp_path, json.loads(json.dumps(lines)))
  text = printed(codes.load(run, [], 8))
  assert ":inf" in text and "*" in text
