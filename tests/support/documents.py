"""Examples in Markdown pages: their code blocks, and how each is run.

Owns: what a block is and what is expected of it. Does not own: which pages there are, and what files their examples need.

    ```sh          run as a script; every line of it must succeed
    ```console     each line after "$ " is run; what follows is its output, "..." stands for any lines
    ```python      run as a program
    ```            (and text, toml, udev, yaml): not run

A comment before a block changes that:

    <!-- not run: REASON -->    it cannot be run
    <!-- inside: COMMAND -->    console; its commands are typed into one shell, which COMMAND starts;
                                what they print to standard error is shown, too
    <!-- continued -->          it goes on where the block before ended, in the same shell
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+?)|inside: (?P<inside>[^\n]+?)|(?P<more>continued)) -->\n+)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUN = {"sh", "console", "python"}


class Example(NamedTuple):
    """A code block of a page.

    :param line: of the page, where the block begins; the first is 1.
    :param reason: why it is not run; empty for one that is.
    :param inside: what starts the shell into which it is typed; empty for a shell for each command.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str
    inside: str = ""


def examples(page: Path) -> list[Example]:
    """Return the code blocks of a page, in order; one that is continued is one with what follows.

    :raises ValueError: a block goes on, and there is none before it that can.
    """
    text = page.read_text()
    found: list[Example] = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block["more"]:
            if not found or not found[-1].inside:
                raise ValueError(f"{page.name}:{line}: nothing is continued here")
            found[-1] = found[-1]._replace(text=found[-1].text + block["text"])
            continue
        found.append(
            Example(
                page.name,
                line,
                block["language"],
                block["text"],
                block["reason"] or "",
                block["inside"] or "",
            )
        )
    return found


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


_END = "---- end of step, status "


def as_script(text: str) -> str:
    """Return a console block as a script whose output outputs() takes apart."""
    lines = (f"{step.command}\nprintf '\\n{_END}%s\\n' $?" for step in steps(text))
    return "exec 2>&1\n" + "\n".join(lines) + "\n"


def outputs(said: str) -> list[tuple[str, int]]:
    """Return output and exit status of each command that a script of as_script() has run."""
    pieces = re.split(rf"\n{_END}(\d+)\n", said)
    return list(zip(pieces[::2], map(int, pieces[1::2]), strict=False))
