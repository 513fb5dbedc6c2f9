"""The syntax of HMP's lines: words, strings in quotes, the end of a line; and what a command is.

Owns: how a line is taken apart, as QEMU 7.2 does, and how it is refused. Does not own: the commands
(hmp.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

__all__ = [
    "SPACE",
    "HmpCommand",
    "RefusedLineError",
    "UsageError",
    "command_name",
    "end_of_line",
    "find_command",
    "help_lines",
    "split_words",
    "take_word",
]

SPACE: Final = " \t\n\v\f\r"


class UsageError(Exception):
    """A line whose arguments cannot be read; str() is what QEMU prints before its hint where to
    find help.
    """


class RefusedLineError(Exception):
    """A line that was not carried out; `lines` is what QEMU prints."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines


class HmpCommand(NamedTuple):
    """A command of HMP.

    :param name: its name, and others it goes by, with | between.
    :param usage: what help shows behind the name.
    :param about: what help says.
    :param function: carries it out, given the rest of the line; yields lines.
    """

    name: str
    usage: str
    about: str
    function: Callable[[str], Iterator[str]]

    @property
    def names(self) -> list[str]:
        """All names."""
        return self.name.split("|")


def find_command(table: Sequence[HmpCommand], name: str) -> HmpCommand | None:
    """Return the command of that name."""
    return next((command for command in table if name in command.names), None)


def help_lines(prefix: str, commands: Sequence[HmpCommand]) -> Iterator[str]:
    """Yield what help says of commands."""
    for command in commands:
        yield f"{prefix}{command.name} {command.usage} -- {command.about}"


def command_name(line: str) -> tuple[str | None, str]:
    """Return the first word, which / ends too, and what follows it without spaces before; None when there
    is no word.
    """
    text = line.lstrip(SPACE)
    if not text:
        return None, ""
    end = next((i for i, c in enumerate(text) if c in SPACE or c == "/"), len(text))
    return text[:end], text[end:].lstrip(SPACE)


def take_word(text: str) -> tuple[str, str]:
    """Return a word, or a string in quotes, and what follows it.

    :raises UsageError: there is none.
    """
    text = text.lstrip(SPACE)
    if not text:
        raise UsageError("string expected")
    if text[0] != '"':
        end = next((i for i, c in enumerate(text) if c in SPACE), len(text))
        return text[:end], text[end:].lstrip(SPACE)
    value, at = "", 1
    while at < len(text) and text[at] != '"':
        c = text[at]
        if c == "\\":
            at += 1
            c = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}.get(text[at : at + 1], "")
            if not c:
                raise UsageError("string expected")
        value += c
        at += 1
    if at >= len(text):
        raise UsageError("string expected")
    return value, text[at + 1 :].lstrip(SPACE)


def end_of_line(rest: str) -> None:
    """Raise UsageError when anything is left of a line."""
    if rest.strip(SPACE):
        raise UsageError("extraneous characters at the end of line")


def split_words(text: str) -> list[str]:
    """Return all words of a line."""
    words = []
    while text.strip(SPACE):
        word, text = take_word(text)
        words.append(word)
    return words
