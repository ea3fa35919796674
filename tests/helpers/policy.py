"""Whether a page holds only what its Content-Security-Policy allows."""

import base64
import hashlib
from html.parser import HTMLParser


class Page(HTMLParser):
  """The policy of a page, its styles, its scripts, and what it forbids."""

  def __init__(self, text: str):
    super().__init__()
    self.policy, self.styles, self.scripts, self.wrong = "", [], [], []
    self.inside, self.images = None, []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    found = dict(attributes)
    if found.get("http-equiv") == "Content-Security-Policy":
      self.policy = found["content"]
    for name, value in attributes:
      target = (value or "").strip().lower()
      if name == "style" or name.startswith("on"):
        self.wrong.append((tag, name, value))
      inside = target.startswith(("#", "data:image/png;base64,"))
      if name in ("href", "xlink:href", "src") and not inside:
        self.wrong.append((tag, name, value))
      if target.startswith("javascript:"):
        self.wrong.append((tag, name, value))
    if tag in ("base", "form", "iframe", "object", "embed", "link"):
      self.wrong.append((tag, "", ""))
    self.inside = None
    if tag == "style":
      self.inside = self.styles
    # A block of data is no script: a browser runs none of it.
    if tag == "script" and found.get("type") != "application/json":
      self.inside = self.scripts
    if self.inside is not None:
      self.inside.append("")

  def handle_data(self, data):
    if self.inside is not None:
      self.inside[-1] += data

  def handle_endtag(self, tag):
    if tag in ("style", "script"):
      self.inside = None


def obeys(text: str) -> Page:
  """Asserts that everything in the page is allowed, and that little else is."""
  page = Page(text)
  rules = dict(x.strip().split(" ", 1) for x in page.policy.split(";"))
  assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
  assert "unsafe" not in page.policy and "*" not in page.policy
  digest = lambda x: base64.b64encode(hashlib.sha256(x.encode()).digest())
  for name, found in (("style-src", page.styles), ("script-src", page.scripts)):
    allowed = rules.get(name, "").split()
    for part in found:
      assert f"'sha256-{digest(part).decode()}'" in allowed, (name, part[:80])
  assert page.styles and page.wrong == []
  head = text[: text.index("</head>")]
  assert head.index("Content-Security-Policy") < head.index("<style")
  return page
