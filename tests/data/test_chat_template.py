"""data/chat_template.py: where a template is, and how it is asked."""

import json
import warnings

import pytest
from helpers import tokenizer_folders
from helpers.tokenizer_folders import LIST, OTHER, TEMPLATE

from rsrc_jax.data import chat_template
from rsrc_jax.data.chat_template import MARK

NAMES = {"bos_token": "<s>"}
PLACES = {
  "chat_template.jinja": TEMPLATE,
  "chat_template.json": {"chat_template": TEMPLATE},
  "tokenizer_config.json": {"chat_template": TEMPLATE},
}


def other(place: str):
  """A place's content with another template."""
  text = json.dumps(PLACES[place])
  return json.loads(text.replace(json.dumps(TEMPLATE), json.dumps(OTHER)))


@pytest.mark.parametrize("first", range(3))
def test_the_first_place_that_has_a_template_counts(first, tmp_path):
  names = [*PLACES][first:]
  files = {names[0]: PLACES[names[0]]} | {x: other(x) for x in names[1:]}
  found, notes = chat_template.find(tokenizer_folders.write(tmp_path, files))
  assert found == TEMPLATE
  assert notes == [
    f"{names[0]} and {x} have different chat templates: that of {names[0]} is "
    "used."
    for x in names[1:]
  ]


def test_the_same_template_twice_needs_no_note(tmp_path):
  files = PLACES | {"tokenizer_config.json": {"chat_template": LIST}}
  files |= {"chat_template.json": {"chat_template": TEMPLATE + "\n"}}
  found = chat_template.find(tokenizer_folders.write(tmp_path, files))
  assert found == (TEMPLATE, [])


def test_there_may_be_no_template(tmp_path):
  for content in ({}, {"chat_template": None}, {"chat_template": ""}):
    files = {"tokenizer_config.json": content}
    folder = tokenizer_folders.write(tmp_path, files)
    assert chat_template.find(folder) == (None, [])


@pytest.mark.parametrize(
  "files, message",
  [
    ({"additional_chat_templates/rag.jinja": OTHER}, "templates rag and none"),
    (
      {"tokenizer_config.json": {"chat_template": LIST[:1]}},
      "templates tool_use and none that is named default",
    ),
    ({"tokenizer_config.json": {"chat_template": [1]}}, "no list of names"),
    ({"tokenizer_config.json": {"chat_template": 3}}, "'default' is no string"),
    ({"chat_template.jinja": b"\xff"}, r"chat_template\.jinja can't be read"),
  ],
)
def test_what_names_no_default_is_refused(files, message, tmp_path):
  with pytest.raises(ValueError, match=message) as error:
    chat_template.find(tokenizer_folders.write(tmp_path, files))
  assert "\n" not in str(error.value)


def around(template):
  before, after, notes = chat_template.around(template, f"a {MARK}", NAMES)
  return before + "|" + after, " ".join(notes)


def test_a_template_has_what_transformers_gives_it():
  said = "{{ tools is none and documents is none }}{{ messages[0].content }}"
  assert around(said)[0] == "Truea |"
  said = "{{ {'a': '<b>é'} | tojson(indent=1) }}{{ messages[0].content }}"
  assert around(said)[0] == '{\n "a": "<b>é"\n}a |'
  said = "{{ pad_token is defined }}{{ bos_token }}{{ messages[0].content }}"
  assert around(said)[0] == "False<s>a |"
  said = "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}"
  assert around(said)[0] == "a |"
  # What is set inside of the tag stays inside.
  said = (
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ messages[0].content }}"
    "{% endgeneration %}{{ x }}"
  )
  assert around(said)[0] == "a |1"


def test_the_date_is_fixed_and_written_as_asked():
  said = "{{ strftime_now('%d %B %Y') }}{{ messages[0].content }}"
  assert around(said)[0] == "26 July 2024a |"


def test_a_system_turn_is_given_where_a_template_needs_one():
  ask = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}"
  loop = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
  said, notes = around(ask + "{% endif %}" + loop)
  assert said == "[system:][user:a |]" and "it gets an empty one." in notes
  # It is dropped without one.
  said, notes = around("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
  assert said == "a |" and "it gets an empty one." in notes
  # None is given to a template that wants none, or does without.
  refuse = ask.replace("!=", "==") + "{% endif %}" + loop
  assert around(refuse) == ("[user:a |]", "")
  assert around(loop) == ("[user:a |]", "")


def test_a_message_is_given_in_parts_where_a_template_reads_parts():
  parts = (
    "{% for m in messages %}{% for x in m.content %}{{ x.text }}{% endfor %}"
    "{% endfor %}"
  )
  said, notes = around(parts)
  assert said == "a |" and "takes the message as a list of parts" in notes


@pytest.mark.parametrize(
  "template, message",
  [
    ("{{ raise_exception('not\nhere') }}", "the chat template fails: not here"),
    ("{% if %}", "the chat template fails: Expected an expression"),
    ("{{ 1 + messages }}", "the chat template fails: unsupported operand"),
    ("{{ messages[0].role }}", "drops the user's message"),
    ("{{ messages[0].content * 2 }}", "writes the user's message 2 times"),
    ("{{ [].__class__.__mro__ }}", "the chat template fails: access to"),
    ("{% for i in range(10**9) %}{% endfor %}", "the chat template fails: R"),
  ],
)
def test_a_template_that_no_way_suits_is_refused(template, message):
  with pytest.raises(ValueError, match=message) as error:
    around(template)
  assert "\n" not in str(error.value)


def test_what_stands_behind_an_answer():
  behind = lambda template: chat_template.behind_answer(template, NAMES)
  assert behind(TEMPLATE) == "<|im_end|>\n"
  assert behind(tokenizer_folders.GEMMA) == "<end_of_turn>\n"
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert behind("{{ raise_exception('no') }}") == ""
