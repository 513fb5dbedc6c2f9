"""What of a trace is printed: its operations, chosen functions, and stacks.

Owns: the filters over the text of a trace. Does not own: that text (the engine).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CALL = re.compile(r" 0\).*\|  ( *)(\w+)\(\)(;| \{)(.*)")
_MARK = "/* not simulated */"


class Operation(NamedTuple):
    """One operation of a trace.

    :param title: the line that names it.
    :param lines: of its calls.
    """

    title: str
    lines: list[str]


class _Call(NamedTuple):
    line: int
    level: int
    name: str
    simulated: bool
    leaf: bool


def operations(text: str) -> list[Operation]:
    """Return the operations of a trace, without its heading."""
    found: list[Operation] = []
    for line in text.splitlines():
        if line.startswith(" 0)"):
            found[-1].lines.append(line)
        else:  # of the heading, nothing is left: it has no calls
            found.append(Operation(line, []))
    return [operation for operation in found if operation.lines]


def _calls(operation: Operation) -> Iterator[_Call]:
    for number, line in enumerate(operation.lines):
        if match := _CALL.match(line):
            level = len(match[1]) // 2
            yield _Call(number, level, match[2], _MARK not in match[4], match[3] == ";")


def only_functions(operation: Operation, pattern: re.Pattern[str]) -> Operation:
    """Return the calls of functions whose name has the pattern, with all that they called."""
    lines: list[str] = []
    end = 0
    for call in _calls(operation):
        if call.line < end or not pattern.search(call.name):
            continue
        end = call.line + 1 if call.leaf else _end(operation, call)
        lines += operation.lines[call.line : end]
    return Operation(operation.title, lines)


def _end(operation: Operation, call: _Call) -> int:
    brace = "|  " + "  " * call.level + "}"
    return next(
        number + 1
        for number in range(call.line, len(operation.lines))
        if operation.lines[number].endswith(brace)
    )


def stacks(operation: Operation, function: str) -> list[list[str]]:
    """Return the different stacks that led to a function, each with the innermost function first.

    Functions that were not simulated are marked.
    """
    found: list[list[str]] = []
    stack: list[str] = []
    for call in _calls(operation):
        del stack[call.level :]
        stack.append(f"{call.name}()" + ("" if call.simulated else f" {_MARK}"))
        if call.name == function and stack[::-1] not in found:
            found.append(stack[::-1])
    return found
