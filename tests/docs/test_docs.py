"""Documentation: links, commands, code blocks and names of settings."""

import ast
import functools
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from rsrc_jax.runtime import configs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
  ROOT / "README.md",
  ROOT / "CONTRIBUTING.md",
  ROOT / "LOG.md",
  ROOT / "CHANGELOG.md",
  *sorted((ROOT / "docs").glob("*.md")),
  ROOT / "docs" / "quickstart.ipynb",
  *sorted((ROOT / "experiments").glob("*/README.md")),
]
# The pages whose commands are parsed; an experiment's name scripts and flags
# of its own, of which only the script is looked for.
MANUAL = [p for p in PAGES if p.parent in (ROOT, ROOT / "docs")]
FOLDERS = (
  "benchmarks", "configs", "docs", "experiments", "rsrc_jax", "tests", "tools",
)  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
# ml_collections loads a config file in a way that Python is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
name_of = lambda path: str(path.relative_to(ROOT))


@functools.cache
def read(page: Path) -> str:
  """The prose of a page; of a notebook that of its text cells."""
  text = page.read_text()
  if page.suffix != ".ipynb":
    return text
  cells = json.loads(text)["cells"]
  prose = [x["source"] for x in cells if x["cell_type"] == "markdown"]
  return "\n\n".join("".join(x) for x in prose)


# Sizes and links.


def test_the_front_page_stays_within_6_kb():
  assert len((ROOT / "README.md").read_bytes()) <= 6_144


def test_cells_of_the_claims_stay_short():
  """As they are read: a link is its text."""
  text = (ROOT / "README.md").read_text()
  claims = text.split("## Claims")[1].split("\n## ")[0]
  rows = [line for line in claims.splitlines() if line.startswith("|")]
  cells = [c.strip() for row in rows for c in row.strip("|").split("|")]
  assert len(rows) > 10
  shown = [re.sub(r"\]\([^)]*\)", "", c) for c in cells]
  assert [c for c in shown if len(c) > 110] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
  broken = []
  for target in links(read(page)):
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    whole = found.exists()
    if whole and anchor:
      whole = anchor in anchors(found.read_text())
    if not whole:
      broken.append(target)
  assert broken == []


def links(text: str) -> list[str]:
  """Targets inside of the repository; code is no link."""
  text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
  found = re.findall(r"\]\(([^)\s]+)\)", text)
  return [x for x in found if not re.match(r"\w+:", x)]


def anchors(text: str) -> set[str]:
  """Of the headings of a page, as GitHub forms them."""
  found = set()
  for title in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M):
    title = re.sub(r"\]\([^)]*\)", "]", title).lower()
    slug = re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-")
    number = 0
    while (slug if not number else f"{slug}-{number}") in found:
      number += 1
    found.add(slug if not number else f"{slug}-{number}")
  return found


def test_links_are_told_from_code_and_anchors_from_words():
  text = "# A `b`: c, d\n[x](y.md#z) `[n](n.md)` [w](https://a.b)\n# A b: c d\n"
  assert links(text) == ["y.md#z"]
  assert anchors(text) == {"a-b-c-d", "a-b-c-d-1"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_prose_exist(page):
  """`rsrc_jax/lm/keys.py`, and `lm/keys.py` for short in the glossary."""
  spans = re.findall(r"`([^`\s]+)`", FENCE.sub("", read(page)))
  missing = []
  for span in spans:
    head, slash, _ = span.partition("/")
    if not slash or re.search(r"[*<>{}$]|[A-Z]{3,}", span):
      continue  # no path, or a pattern with a placeholder
    roots = [ROOT, page.parent]
    if (ROOT / "rsrc_jax" / head).is_dir() and span.endswith((".py", "/")):
      roots.append(ROOT / "rsrc_jax")
    elif head not in FOLDERS:
      continue
    if not any((root / span).exists() for root in roots):
      missing.append(span)
  assert missing == []


# Commands.


def commands(text: str) -> list[str]:
  """Lines of code blocks and spans of code that start a program of ours."""
  lines = text.replace("\\\n", " ").splitlines()
  spans = re.findall(r"`([^`\n]+)`", text)
  begins = r"(\w+=\S+ )*(\./tools/|(\./)?(\.venv/bin/)?python3? |rsrc )"
  return [x.strip() for x in [*lines, *spans] if re.match(begins, x.strip())]


COMMANDS = [(page, x) for page in MANUAL for x in commands(read(page))]


@pytest.mark.parametrize(
  "command", [x for _, x in COMMANDS],
  ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(COMMANDS)],
)  # fmt: skip
def test_commands_exist_and_their_flags_parse(command):
  words = shlex.split(command, comments=True)
  while re.match(r"\w+=", words[0]):  # VARIABLE=value before a command
    words.pop(0)
  program, *rest = words
  if program == "./tools/test":
    return check_pytest(rest)
  if program.startswith("./tools/"):
    script = ROOT / program
    assert script.is_file(), f"{program} is missing"
    file = started_by(script)
  elif program == "rsrc":
    file, rest = of_rsrc(rest)
  elif rest[0] == "-m":
    file, rest = module_file(rest[1]), rest[2:]
  else:
    file, rest = ROOT / rest[0], rest[1:]
  assert file.is_file(), f"{file} is missing"
  parse(file, rest)


def check_pytest(rest: list[str]) -> None:
  """Of ./tools/test: its own --all; the rest is pytest's."""
  assert (ROOT / "tools" / "test").is_file()
  if "--all" in rest:
    assert "--all" in (ROOT / "tools" / "test").read_text()
  for x in rest:
    assert x == "--all" or not x.startswith("--"), x


def started_by(script: Path) -> Path:
  """The Python file that a script of tools/ hands its arguments to."""
  text = script.read_text()
  if named := re.search(r"-m (rsrc_jax[\w.]*)", text):
    return module_file(named[1])
  named = re.search(r'"\$root/([\w/]+\.py)"', text)
  assert named, f"{script.name} starts no Python file that can be found"
  return ROOT / named[1]


def of_rsrc(rest: list[str]) -> tuple[Path, list[str]]:
  """The file that the command `rsrc` starts, and the flags for it."""
  tree = ast.parse((ROOT / "rsrc_jax" / "main.py").read_text())
  [table] = [
    ast.literal_eval(x.value)
    for x in tree.body
    if isinstance(x, ast.Assign) and x.targets[0].id == "COMMANDS"
  ]
  if rest[0] in table:
    file, rest = module_file(table[rest[0]]), rest[1:]
  else:
    file = ROOT / "rsrc_jax" / "main.py"
  if any("MINE.py" in x for x in rest):
    return file, rest  # that the reader is to write
  return file, configs.resolved(rest)


def module_file(module: str) -> Path:
  """The file that `python -m module` runs, without importing it."""
  path = ROOT.joinpath(*module.split("."))
  if path.is_dir():
    return path / "__main__.py"
  if path.with_suffix(".py").is_file():
    return path.with_suffix(".py")
  spec = importlib.util.find_spec(module)
  assert spec and spec.origin, f"python -m {module}: there is no such module"
  return Path(spec.origin)


def parse(file: Path, rest: list[str]) -> None:
  """By the flags that the file defines with absl, or names for argparse."""
  own = defined(file)
  named = [x for x in rest if x.startswith("--")]
  if any("MINE.py" in x for x in named):
    return  # a config that the reader is to write
  if not own:
    known = texts_of(file)
    own = [x for x in named if x.startswith("--config.")]
    if own:
      check_settings(
        [x.replace("=configs/", f"={ROOT}/configs/") for x in rest]
      )
    for flag in (x for x in named if x not in own):
      assert f'"{flag.split("=")[0]}"' in known, f"{file.name}: {flag}"
    return
  here = [x.replace("=configs/", f"={ROOT}/configs/") for x in rest]
  plain = {name for kind, name, _ in own if kind != "DEFINE_config_file"}
  if "config" in plain:  # a runner that hands settings on to every run
    check_settings(here)
    here = [x for x in here if not x.startswith("--config.")]
  line, values = ["program", *here], flags.FlagValues()
  for kind, name, default in own:
    if kind == "DEFINE_config_file":
      config_flags.DEFINE_config_file(
        name, default, flag_values=values, sys_argv=line
      )
    elif kind == "DEFINE_integer":
      flags.DEFINE_integer(name, None, "", flag_values=values)
    elif kind == "DEFINE_bool":
      flags.DEFINE_bool(name, False, "", flag_values=values)
    elif kind == "DEFINE_float":
      flags.DEFINE_float(name, None, "", flag_values=values)
    else:
      flags.DEFINE_string(name, None, "", flag_values=values)
  left = values(line)
  assert left[1:] == [], f"{file.name} does not take {left[1:]}"


def defined(file: Path) -> list[tuple[str, str, str]]:
  """(kind, name, default config) of the absl flags that a file defines."""
  found = []
  for node in ast.walk(ast.parse(file.read_text())):
    if not isinstance(node, ast.Call):
      continue
    function = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if not function.startswith("DEFINE_") or not node.args:
      continue
    if any(x.arg == "flag_values" for x in node.keywords):
      continue  # not a flag of the command itself
    name = getattr(node.args[0], "value", None)
    if isinstance(name, str):
      found.append((function, name, str(ROOT / "configs" / "tiny.py")))
  return found


def texts_of(file: Path) -> str:
  """A script, and the folders of the commands that a package hands on to."""
  if file.name != "__main__.py":
    return file.read_text()
  package = ROOT / "rsrc_jax"
  return "".join(p.read_text() for p in sorted(package.rglob("*.py")))


def check_settings(rest: list[str]) -> None:
  """--config.x.y of a runner, as ./tools/run would read them."""
  [path] = [x for x in rest if x.startswith("--config=")]
  own = [x for x in rest if x.startswith("--config.")]
  line, values = ["program", path, *own], flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
  values(line)


def test_a_wrong_flag_is_seen():
  file = ROOT / "rsrc_jax" / "main.py"
  parse(file, ["--config=configs/qa.py", "--config.seed=1", "--process=0"])
  for wrong in ("--config.sead=1", "--proces_s=0", "word"):
    with pytest.raises((flags.Error, AttributeError, AssertionError)):
      parse(file, ["--config=configs/qa.py", wrong])


@pytest.mark.parametrize(
  "page", [p for p in PAGES if p not in MANUAL], ids=lambda p: p.parent.name
)
def test_scripts_of_the_experiments_exist(page):
  missing = []
  for command in commands(page.read_text()):
    words = shlex.split(command, comments=True)
    while re.match(r"\w+=", words[0]):
      words.pop(0)
    if words[0].startswith("./tools/"):
      file = ROOT / words[0]
    elif words[1] == "-m":
      file = module_file(words[2])
    else:
      file = ROOT / words[1]
    if not file.is_file():
      missing.append(command)
    for config in re.findall(r"--config=(configs/\S+)", command):
      if not (ROOT / config).is_file():
        missing.append(command)
  assert missing == []


# The pattern of docs/patterns.md.


RUNS = """
import inspect

import jax
import jax.numpy as jnp
import numpy as np

import config_of_mine
import mine
from rsrc_jax import types
from rsrc_jax.lm.roles import Role
from rsrc_jax.models import transformer

policy = transformer.make(
  vocab_size=16, width=8, depth=1, heads=2, kv_heads=1, hidden=8
)
ids = np.arange(16)


def role(name, tag):
  known = dict(
    name=name, section=name, tag=tag, separator=1, end=2, length=3,
    support=ids >= 2,
  )
  return Role(**{k: v for k, v in known.items() if k in Role._fields})


roles = {name: role(name, 3 + i) for i, name in enumerate("CDV")}
context = types.Context(
  policy=policy, roles=roles, verify=None, info=types.SourceInfo(), tools={}
)
pattern = mine.make(context, group=2, price=0.5)
s = types.Tokens(jnp.full((4, 3), 8, jnp.int32), jnp.ones((4, 3), bool))
batch = types.Batch(s, jnp.arange(4, dtype=jnp.int32))


@jax.jit
def run(key):
  params = policy.init(key)
  frozen = {"base": params}
  episode, carry = pattern.play(
    params, frozen, pattern.init(), batch, key, None
  )
  scores, shown = pattern.examine(params, frozen, carry, batch, s, key)
  return episode, carry, scores, shown


episode, carry, scores, shown = jax.device_get(run(jax.random.key(0)))
assert [name for name, _ in pattern.roles] == ["E"]
output = episode.rollouts["E"].output
assert output.ids.shape == (4, 2, 3), output.ids.shape
said = output.mask.sum(-1) / 3
np.testing.assert_allclose(episode.rewards["E"], -0.5 * said, atol=1e-6)
np.testing.assert_allclose(carry.usual, said.mean() / 2, atol=1e-6)
assert carry.played == 1 and scores["played"] == [1.0]
assert shown["said"].ids.shape == (4, 3)
[sft] = episode[2].values()
assert sft.target.ids.shape == (4, 1, 3)

config = config_of_mine.get_config()
settings = inspect.signature(mine.make).parameters
assert set(config.patterns.mine) == set(settings) - {"context"}
assert config.only in config.arms
for block in (config.loss.weights, config.loss.lesson_weights):
  assert {"C", "D", "E"} <= set(block)
"""


def test_the_pattern_of_the_page_runs(tmp_path):
  """In a process of its own, so that this module imports no jax."""
  page = (ROOT / "docs" / "patterns.md").read_text()
  blocks = [code for kind, code in FENCE.findall(page) if kind == "python"]
  *blocks, config = blocks
  assert len(blocks) >= 2 and "def get_config" in config
  (tmp_path / "mine.py").write_text("\n".join(blocks))
  (tmp_path / "config_of_mine.py").write_text(config)
  (tmp_path / "run.py").write_text(RUNS)
  done = subprocess.run(
    [sys.executable, str(tmp_path / "run.py")],
    env=environment(tmp_path), capture_output=True, text=True, timeout=300,
    cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3_000:]


def environment(folder: Path) -> dict[str, str]:
  paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
  return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


# Names of settings in errors and docstrings.

# Settings that a config may have and none of ours needs: the doors of
# docs/extending.md. Each is read somewhere in rsrc_jax by its last name.
OPTIONAL = (
  "init", "loop", "lora", "report", "report.headline", "report.controls",
  "report.sections", "evals", "evals.NAME.type", "arms.NAME.stage",
  "arms.NAME.start", "arms.NAME.phases", "data.instructions",
)  # fmt: skip
NAMED = re.compile(r"\bconfig((?:\.(?:[A-Za-z_]\w*|\*))+)")
NO_SETTING = ("json", "py")  # config.json is a file


def written(file: Path) -> list[str]:
  """The texts of a file's literals; what an f-string fills in is a *."""
  found = []
  tree = ast.parse(file.read_text())
  inside = {
    id(part)
    for node in ast.walk(tree)
    if isinstance(node, ast.JoinedStr)
    for part in ast.walk(node)
    if part is not node
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.JoinedStr):
      found.append(
        "".join(
          x.value if isinstance(x, ast.Constant) else "*" for x in node.values
        )
      )
      continue
    value = getattr(node, "value", None)
    if isinstance(value, str) and id(node) not in inside:
      found.append(value)
  return found


def settings_named(text: str) -> list[tuple[str, ...]]:
  found = [tuple(x.strip(".").split(".")) for x in NAMED.findall(text)]
  return [x for x in found if x[0] not in NO_SETTING and x != ("x", "y")]


def tree_of(block) -> dict:
  """Names of a config's blocks; a value is an empty dict."""
  if hasattr(block, "items"):
    return {name: tree_of(value) for name, value in block.items()}
  return {}


def merged(a: dict, b: dict) -> dict:
  shared = {k: merged(a[k], b[k]) for k in a.keys() & b.keys()}
  return {**a, **b, **shared}


@functools.cache
def known_settings() -> dict:
  """All that any config has; an arm is as any other."""
  found = {}
  for path in sorted((ROOT / "configs").glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = tree_of(module.get_config().to_dict())
    arms = config.pop("arms", {}).values()
    for arm in arms:
      found = merged(found, {"arms": {"*": arm}})
    found = merged(found, config)
  for name in OPTIONAL:
    branch = {}
    for part in reversed(name.replace("NAME", "*").split(".")):
      branch = {part: branch}
    found = merged(found, branch)
  return found


def resolves(name: tuple[str, ...], known: dict) -> bool:
  """Whether there is such a setting; *, X or NAME stands for any."""
  if not name:
    return True
  head, *rest = name
  if head == "*" or (head.isupper() and head not in known):
    return not known or any(resolves(rest, x) for x in known.values())
  below = known.get(head, known.get("*"))
  return below is not None and resolves(rest, below)


def test_settings_named_in_errors_and_docstrings_exist():
  known = known_settings()
  wrong = [
    f"{file.relative_to(ROOT)}: config.{'.'.join(name)}"
    for file in sorted((ROOT / "rsrc_jax").rglob("*.py"))
    for text in written(file)
    for name in settings_named(text)
    if not resolves(name, known)
  ]
  assert wrong == []


@pytest.mark.parametrize("page", MANUAL, ids=name_of)
def test_settings_named_in_the_documentation_exist(page):
  known = known_settings()
  text = re.sub(r"```.*?```", "", read(page), flags=re.S)
  spans = re.findall(r"`(config\.[^`\s=]+)", text)
  names = [x for span in spans for x in settings_named(span)]
  assert [x for x in names if not resolves(x, known)] == []


def test_a_wrong_setting_is_seen():
  known = {"arms": {"*": {"write": {}}}, "seed": {}, "cdv": {"group": {}}}
  find = lambda text: [resolves(x, known) for x in settings_named(text)]
  assert find("config.arms.code.write, config.arms.*.write=1.") == [True, True]
  assert find("config.seed; config.cdv.group. config.*") == [True] * 3
  assert find("config.group config.arms.X.rite") == [False, False]
  assert find("config.json and config.py") == []
