"""Settings of Sphinx: the Markdown pages as HTML, as they are: `make docs`.

Owns: which pages there are, and their look. The source directory is that of the repository, so that
links to README and to examples lead somewhere. The table of contents is made of the links of
index.md, so a page that is not linked there is a warning, and a warning is an error.
"""

from __future__ import annotations

import re
from typing import Any

project = "fakesysfs"
copyright = "fakesysfs contributors"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "docs/*.md",
    "docs/reference/*.md",
    "examples/*.md",
    "examples/*/*.md",
]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "fakesysfs"
html_show_sphinx = False

# Pages whose links to pages are their contents.
CONTENTS = ("docs/index", "examples/README")


def contents(text: str) -> str:
    """Return a table of contents, hidden, of the links of a page: a part for each section."""
    parts = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        title, _, rest = section.partition("\n")
        links = re.findall(r"\]\(([\w./-]+)\.md\)", rest)
        if links:
            caption = [] if title.startswith("# ") else [f":caption: {title}"]
            parts.append("\n".join(["```{toctree}", ":hidden:", *caption, "", *links, "```"]))
    return "\n\n" + "\n\n".join(parts) + "\n"


def add_contents(app: Any, page: str, source: list[str]) -> None:
    """Add the contents to a page that is read."""
    if page in CONTENTS:
        source[0] += contents(source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
