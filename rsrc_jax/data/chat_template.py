"""The chat template of a checkpoint: where it is, and what it writes.

A template is rendered as `transformers` 5 renders it, but for the date, which
is fixed: otherwise prompts would change from day to day.
"""

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import ext, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rsrc_jax.data import special_tokens

MARK = "\u241fTEXT\u241f"  # the place of the text in a rendered template
TODAY = datetime.datetime(2024, 7, 26)
JINJA, MORE = "chat_template.jinja", "additional_chat_templates"


def find(folder: Path) -> tuple[str | None, list[str]]:
  """The default chat template of a checkpoint.

  It is that of chat_template.jinja and additional_chat_templates, or else of
  chat_template.json, or else of tokenizer_config.json.

  Returns:
    the template, or None; notes.

  Raises:
    ValueError: a file is damaged, or there are templates and none is named
      default.
  """
  files = {}
  if (folder / JINJA).is_file():
    files["default"] = _text(folder / JINJA)
  for path in sorted((folder / MORE).glob("*.jinja")):
    files[path.stem] = _text(path)
  jsons = ("chat_template.json", special_tokens.CONFIG)
  found = [
    (JINJA if "default" in files else MORE, files),
    *((x, special_tokens.read(folder / x).get("chat_template")) for x in jsons),
  ]
  found = [(file, _by_name(value, folder / file)) for file, value in found]
  found = [(file, by_name) for file, by_name in found if by_name]
  if not found:
    return None, []
  (file, first), *others = found
  if "default" not in first:
    raise ValueError(
      f"{folder / file} has the chat templates {', '.join(sorted(first))} and "
      "none that is named default: name one so."
    )
  notes = [
    f"{file} and {other} have different chat templates: that of {file} is used."
    for other, by_name in others
    if by_name.get("default", first["default"]).strip()
    != first["default"].strip()
  ]
  return first["default"], notes


def _text(path: Path) -> str:
  try:
    return path.read_text("utf-8")
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} can't be read: {error}") from None


def _by_name(value: Any, path: Path) -> dict[str, str]:
  """name -> template, of a string, a list of {name, template}, or such."""
  if isinstance(value, list):
    try:
      value = {x["name"]: x["template"] for x in value}
    except (KeyError, TypeError):
      raise ValueError(
        f"{path}: its chat_template is no list of names with templates."
      ) from None
  if not isinstance(value, dict):
    value = {} if value is None else {"default": value}
  for name, template in value.items():
    if not isinstance(template, str):
      raise ValueError(f"{path}: its chat_template {name!r} is no string.")
  return {name: x for name, x in value.items() if x}


class Generation(ext.Extension):
  """{% generation %} ... {% endgeneration %}, which writes what is in it."""

  tags = frozenset({"generation"})

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    call = self.call_method("_written")
    return nodes.CallBlock(call, [], [], body).set_lineno(line)

  def _written(self, caller):
    return caller()


def _environment() -> ImmutableSandboxedEnvironment:
  def refuse(message):
    raise jinja2.TemplateError(message)

  def tojson(
    x, ensure_ascii=False, indent=None, separators=None, sort_keys=False
  ):
    return json.dumps(
      x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
      sort_keys=sort_keys,
    )  # fmt: skip

  made = ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, ext.loopcontrols],
  )
  made.filters["tojson"] = tojson
  made.globals["raise_exception"] = refuse
  made.globals["strftime_now"] = TODAY.strftime
  return made


def render(
  template: str,
  messages: list[dict[str, Any]],
  names: Mapping[str, str],
  prompt: bool = True,
) -> str:
  """What a template makes of a conversation, in a sandbox.

  Args:
    template: Jinja's.
    messages: turns, each with role and content.
    names: "bos_token" -> its spelling, of tokens that there are.
    prompt: whether the assistant's turn is begun.

  Raises:
    ValueError: the template fails, or refuses the conversation.
  """
  try:
    return (
      _environment()
      .from_string(template)
      .render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=prompt,
        **names,
      )
    )
  except Exception as error:  # a template's code may raise anything
    reason = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"the chat template fails: {reason}") from None


def around(
  template: str, text: str, names: Mapping[str, str]
) -> tuple[str, str, list[str]]:
  """What a template writes before and after MARK in a user's turn.

  Args:
    template: Jinja's.
    text: the user's message, with MARK in it.
    names: see render.

  Returns:
    before, after, notes.

  Raises:
    ValueError: the template refuses the message, drops it or repeats it,
      whichever way it is given.
  """
  problem = ""
  for note, messages in _ways(text):
    try:
      written = render(template, messages, names)
    except ValueError as error:
      problem = problem or str(error)
      continue
    count = written.count(MARK)
    if count == 1:
      before, _, after = written.partition(MARK)
      return before, after, [note] * bool(note)
    problem = problem or (
      f"the chat template writes the user's message {count} times"
      if count
      else "the chat template drops the user's message"
    )
  raise ValueError(
    f"{problem} (tried without and with a system turn, as a string and as "
    "parts)."
  )


def behind_answer(template: str, names: Mapping[str, str]) -> str:
  """What a template writes behind an assistant's turn; "" if it fails."""
  for _, messages in _ways("?"):
    content = messages[-1]["content"]
    answer = [{"type": "text", "text": MARK}] * isinstance(
      content, list
    ) or MARK
    turns = [*messages, {"role": "assistant", "content": answer}]
    try:
      written = render(template, turns, names, prompt=False)
    except ValueError:
      continue
    if MARK in written:
      return written.rpartition(MARK)[2]
  return ""


def _ways(text: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
  """(note, messages) of the ways to give a user's message, plainest first."""
  for parts in (False, True):
    say = lambda x, parts=parts: [{"type": "text", "text": x}] if parts else x
    user = {"role": "user", "content": say(text)}
    kind = " as a list of parts" * parts
    yield (f"the chat template takes the message{kind}." * parts), [user]
    system = {"role": "system", "content": say("")}
    note = f"the chat template wants a system turn: it gets an empty one{kind}."
    yield note, [system, user]
