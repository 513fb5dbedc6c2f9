"""What the Tab key offers in HMP: commands, topics, types, properties, IDs and QOM paths.

Owns: the words that a line can go on with. Does not own: how they are shown (hmp_session.py, and
`fakesysfs monitor`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import MonitorError
from .board import Board
from .hmp_syntax import HmpCommand, command_name, find_command
from .option_help import object_help

__all__ = ["HmpCompletion"]

# in a list of types
_NAME_IN_HELP: Final = re.compile(r'^(?:  (?=\S+$)|name ")([^"\s]+)', re.MULTILINE)
_LAST_WORD: Final = re.compile(r"[^\s,=]*\Z")


class HmpCompletion:
    """Completes lines.

    :param commands: all commands.
    :param topics: those of `info`.
    """

    def __init__(
        self, board: Board, commands: Sequence[HmpCommand], topics: Sequence[HmpCommand]
    ) -> None:
        self._board = board
        self._commands = commands
        self._topics = topics

    def complete(self, line: str) -> list[str]:
        """What the last word of a line that is being typed can become, with what is to be typed
        behind it.

        A word is what stands behind a blank, a comma or an equals sign. There are names of
        commands, topics, types of objects and devices, their properties, IDs and QOM paths.
        """
        match = _LAST_WORD.search(line)
        word = match[0] if match else ""
        head = line[: len(line) - len(word)]
        name, rest = command_name(head)
        command = find_command(self._commands, name) if name else None
        if name is None:
            candidates = [f"{name} " for each in self._commands for name in each.names]
        else:
            try:
                candidates = self._candidates(command.names[0], rest, word) if command else []
            except MonitorError:  # a type or path that is not there has nothing
                candidates = []
        return [candidate for candidate in candidates if candidate.startswith(word)]

    def _candidates(self, command: str, rest: str, word: str) -> list[str]:
        """What can stand behind `command` and `rest`."""
        if command == "device_add":
            return self._options(rest, "driver", self._board.device_help)
        if command == "object_add":
            return self._options(rest, "qom-type", object_help)
        if command.startswith("qom-"):
            return self._paths_and_properties(rest.removeprefix("-j").lstrip(), word, command)
        if command == "help" and rest.split() == ["info"]:
            return [info.name for info in self._topics]
        if rest:
            return []
        if command == "device_del":
            return [dimm.id for dimm in self._board.dimms if dimm.id]
        if command == "object_del":
            return self._free_backends()
        if command == "info":
            return [info.name for info in self._topics]
        return [name for each in self._commands for name in each.names] if command == "help" else []

    def _free_backends(self) -> list[str]:
        return [backend.id for backend in self._board.backends if not backend.used]

    def _options(
        self, rest: str, first: str, help_of: Callable[[str | None], list[str]]
    ) -> list[str]:
        """What can follow `TYPE,key=value,key=` of object_add and device_add, as far as their own
        help tells.
        """
        *done, last = rest.split(",")
        if not rest or (last == f"{first}=" and not done):
            return [f"{name}," for name in _NAME_IN_HELP.findall("\n".join(help_of(None)))]
        described = {
            line.strip().partition("=")[0]: line
            for line in help_of(done[0].removeprefix(f"{first}="))[1:]
        }
        if last == "memdev=":
            return self._free_backends()
        if last.endswith("="):
            return ["on", "off"] if "=<bool>" in described.get(last[:-1], "") else []
        given = {option.partition("=")[0] for option in done}
        return [f"{name}=" for name in ("id", *described) if name not in given] if not last else []

    def _paths_and_properties(self, rest: str, word: str, command: str) -> list[str]:
        words = rest.split()
        if not words:
            parent = word.rpartition("/")[0]
            children = self._board.qom_list(parent or "/")
            return [
                f"{parent}/{child['name']}"
                for child in children
                if child["type"].startswith("child<")
            ]
        if command == "qom-list" or len(words) > 1:
            return []
        return [p["name"] for p in self._board.qom_list(words[0])]
