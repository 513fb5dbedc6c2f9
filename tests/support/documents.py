"""Examples in Markdown pages: their code blocks, and how each is run.

Owns: what a block is and what is expected of it. Does not own: which pages there are, and what files their examples need.

    ```sh          run as a script; every line of it must succeed
    ```console     each line after "$ " is run; what follows is its output, "..." stands for any lines
    ```python      run as a program
    ```            (and text, toml, udev, yaml): not run

A block that cannot be run has a comment before it: <!-- not run: REASON -->.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUN = {"sh", "console", "python"}


class Example(NamedTuple):
    """A code block of a page.

    :param line: of the page, where the block begins; the first is 1.
    :param reason: why it is not run; empty for one that is.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str


def examples(page: Path) -> list[Example]:
    """Return the code blocks of a page, in order."""
    text = page.read_text()
    return [
        Example(
            page.name,
            text.count("\n", 0, block.start()) + 1,
            block["language"],
            block["text"],
            block["reason"] or "",
        )
        for block in BLOCK.finditer(text)
    ]


class Step(NamedTuple):
    """A command of a console block, and the output that the page shows."""

    command: str
    output: list[str]


def steps(text: str) -> list[Step]:
    """Return the commands of a console block.

    :raises ValueError: the block begins with something that is no command.
    """
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], []))
        elif found:
            found[-1].output.append(line.rstrip())
        else:
            raise ValueError(f"a console block begins with a line without $: {line!r}")
    return found


def is_as_shown(shown: list[str], output: str) -> bool:
    """Tell whether an output is the one that a page shows. The line "..." stands for any lines."""
    pattern = "\n".join(r"(?:.*)" if line == "..." else re.escape(line) for line in shown)
    said = "\n".join(line.rstrip() for line in output.splitlines())
    return bool(re.fullmatch(pattern, said, re.DOTALL))
