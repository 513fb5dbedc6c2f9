"""Conditions of a running instance: the words, and what is true of them.

    memory32/state = online                 a file; != < <= > >= too, ~ for a regular expression
    memory*/state = online                  of every memory block with such a name, at least one
    memory32 exists, memory32 missing       a file or directory
    blocks = 16, blocks offline < 4         the number of memory blocks, or of those in a state
    uevent online memory32 [= 2]            uevents of a device, which may be a pattern
    qmp DEVICE_DELETED device=d0 [= 1]      events of the QEMU monitor with this data
    log unmovable page                      a line of the kernel log, by a regular expression
    no uevent remove memory*, no qmp ..., no log ...

Owns: this grammar, for the commands `wait` and `expect` and for the pytest plugin alike, and what
is said when a condition does not hold. Does not own where the facts come from: a `Subject` has
them, see watching.py.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from ..errors import ConfigError

MEMORY: Final = "/sys/devices/system/memory"
SHOWN: Final = 5  # of a list that explains why a condition does not hold
TEXT_SHOWN: Final = 200  # characters of a file's content
OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
STATES: Final = ("online", "offline", "going-offline")
ACTIONS: Final = ("add", "remove", "change", "online", "offline", "move", "bind", "unbind")
FORMS: Final = (
    "FILE = TEXT (or != < <= > >= ~ !~), FILE exists, FILE missing, blocks [STATE] = N,"
    " uevent ACTION DEVICE [= N], qmp EVENT [KEY=VALUE], log REGEX, no uevent|qmp|log ..."
)
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Subject(Protocol):
    """What conditions are asked about."""

    def read(self, path: str) -> str:
        """Return the content of a file, by its absolute path.

        :raises OSError: as read(2) of the file.
        """

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this absolute path."""

    def block_states(self) -> dict[str, str]:
        """Return the state of each memory block by its name."""

    def uevents(self) -> Sequence[tuple[str, str]]:
        """Return action and device path of each uevent, oldest first."""

    def qmp_events(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return name and data of each event of the monitor, oldest first."""

    def log(self) -> Sequence[str]:
        """Return the lines of the kernel log, oldest first."""


@dataclass(frozen=True)
class Finding:
    """Whether a condition holds.

    :param text: the condition, and what is the case instead; empty when it holds.
    """

    holds: bool
    text: str


class Looked(Protocol):
    """Something that can be found out about a subject."""

    def look(self, subject: Any, /) -> Finding:
        """Find out whether it is so."""


@dataclass(frozen=True)
class Condition:
    """Something that is true of an instance, or not.

    :param text: the words it was made from.
    """

    text: str

    def look(self, subject: Subject) -> Finding:
        """Find out whether it holds."""
        seen = self._seen(subject)
        return Finding(seen is None, "" if seen is None else f"{self.text}: {seen}")

    def _seen(self, subject: Subject) -> str | None:
        """What is the case when it does not hold, else None."""
        raise NotImplementedError


def absolute(path: str) -> str:
    """The path of a file that is given relative to the memory directory, or from / on."""
    return path if path.startswith("/") else f"{MEMORY}/{path}"


def parse_seconds(text: str | float) -> float:
    """Read a time: a number of seconds, or text like "5s", "250ms", "1m".

    :raises ConfigError: it is none.
    """
    if isinstance(text, int | float):
        return float(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|)\s*", text, re.ASCII)
    if match is None:
        raise ConfigError(f"'{text}' is no time; write one like 5s or 250ms")
    return float(match[1]) * _UNITS[match[2] or "s"]


def parse(text: str) -> Condition:
    """Read a condition.

    :raises ConfigError: it is none; the forms are named.
    """
    words = text.split()
    absent = words[:1] == ["no"]
    rest = words[1:] if absent else words
    if rest[:1] == ["log"] and len(rest) > 1:
        pattern = re.split(r"\blog\s+", text.strip(), maxsplit=1)[1]
        return _Log(text, _regex(text, pattern), absent)
    if rest[:1] == ["uevent"]:
        return _uevent(text, rest[1:], absent)
    if rest[:1] == ["qmp"]:
        return _qmp(text, rest[1:], absent)
    if absent:
        raise _wrong(text, "`no` stands before uevent, qmp or log")
    if words[:1] == ["blocks"]:
        return _blocks(text, words[1:])
    return _file(text, words)


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"condition '{text}': {why}; there are: {FORMS}")


def _regex(text: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_unquoted(pattern))
    except re.error as e:
        raise ConfigError(f"condition '{text}': no regular expression: {e}") from None


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _count(text: str, words: Sequence[str]) -> tuple[str, int]:
    """Operator and number at the end of a condition, as in `= 2` or `>=2`."""
    match = re.fullmatch(r"(=|!=|<=|>=|<|>)\s*(\d+)", " ".join(words), re.ASCII)
    if match is None:
        raise _wrong(text, f"'{' '.join(words)}' is no number to compare with, like `= 2`")
    return match[1], int(match[2])


# ------------------------------------------------------------------------------------------- files


def _file(text: str, words: Sequence[str]) -> Condition:
    if len(words) == 2 and words[1] in ("exists", "missing"):
        return _There(text, words[0], words[1] == "exists")
    match = re.fullmatch(r"\s*([^\s=!<>~]+)\s*(!=|<=|>=|!~|=|<|>|~)\s*(.*?)\s*", text, re.DOTALL)
    if match is None:
        raise _wrong(text, "it has no such form")
    path, how, value = match[1], match[2], _unquoted(match[3])
    if how in ("~", "!~"):
        return _Matches(text, path, _regex(text, match[3]), how == "~")
    if how in ("=", "!="):
        return _Content(text, path, how, value)
    if not re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", value, re.ASCII):
        raise _wrong(text, f"'{value}' is no number")
    return _Number(text, path, how, int(value, 16 if value[:2] in ("0x", "0X") else 10))


@dataclass(frozen=True)
class _There(Condition):
    path: str
    wanted: bool

    def _seen(self, subject: Subject) -> str | None:
        there = subject.exists(absolute(self.path))
        return None if there == self.wanted else "it exists" if there else "it is missing"


@dataclass(frozen=True)
class _OfFiles(Condition):
    """About the content of one file, or of the same file of several memory blocks."""

    path: str

    def _seen(self, subject: Subject) -> str | None:
        block, slash, rest = self.path.partition("/")
        if not slash or not block or not set(block) & set("*?["):
            seen = self._of_file(subject, self.path)
            return None if seen is None else f"it {seen}"
        names = [name for name in subject.block_states() if fnmatchcase(name, block)]
        if not names:
            return f"no memory block is called {block}"
        found = ((name, self._of_file(subject, f"{name}/{rest}")) for name in names)
        wrong = [f"{name} {seen}" for name, seen in found if seen is not None]
        if not wrong:
            return None
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return f"{', '.join(wrong[:SHOWN])}{more}, of {len(names)}"

    def _of_file(self, subject: Subject, path: str) -> str | None:
        try:
            content = subject.read(absolute(path)).removesuffix("\n")
        except OSError as e:
            return f"cannot be read ({e.strerror})"
        return None if self._fits(content) else f"is '{content[:TEXT_SHOWN]}'"

    def _fits(self, content: str) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class _Content(_OfFiles):
    how: str
    value: str

    def _fits(self, content: str) -> bool:
        return OPERATORS[self.how](content, self.value)


@dataclass(frozen=True)
class _Matches(_OfFiles):
    pattern: re.Pattern[str]
    wanted: bool

    def _fits(self, content: str) -> bool:
        return (self.pattern.search(content) is not None) == self.wanted


@dataclass(frozen=True)
class _Number(_OfFiles):
    how: str
    value: int

    def _fits(self, content: str) -> bool:
        try:
            base = 16 if content.startswith("0x") else 10
            return OPERATORS[self.how](int(content, base), self.value)
        except ValueError:
            return False


# ---------------------------------------------------------------------------------- memory blocks


def _blocks(text: str, words: Sequence[str]) -> Condition:
    state = words[0] if words and words[0] in STATES else None
    return _Blocks(text, state, *_count(text, words[1:] if state else words))


@dataclass(frozen=True)
class _Blocks(Condition):
    state: str | None
    how: str
    number: int

    def _seen(self, subject: Subject) -> str | None:
        states = list(subject.block_states().values())
        found = len(states) if self.state is None else states.count(self.state)
        return None if OPERATORS[self.how](found, self.number) else f"there are {found}"


# ---------------------------------------------------------------------------------- what happened


@dataclass(frozen=True)
class _Happened(Condition):
    """About how often something happened."""

    how: str
    number: int

    def _counted(self, found: int, others: Sequence[str]) -> str | None:
        if OPERATORS[self.how](found, self.number):
            return None
        last = list(dict.fromkeys(reversed(others)))[:SHOWN][::-1]
        times = {0: "it never happened", 1: "it happened once"}
        often = times.get(found, f"it happened {found} times")
        return f"{often}; the last to happen: {', '.join(last) or 'nothing'}"


def _often(text: str, words: Sequence[str], absent: bool) -> tuple[str, int]:
    if absent and words:
        raise _wrong(text, "`no` and a number do not go together")
    if absent:
        return "=", 0
    return _count(text, words) if words else (">=", 1)


def _uevent(text: str, words: Sequence[str], absent: bool) -> Condition:
    if len(words) < 2 or words[0] not in (*ACTIONS, "*"):
        raise _wrong(text, f"after `uevent` come an action ({' '.join(ACTIONS)}) and a device")
    device = words[1].removeprefix("/sys")
    path = device if device.startswith("/") else f"/devices/system/memory/{device}"
    return _Uevent(text, *_often(text, words[2:], absent), words[0], path)


@dataclass(frozen=True)
class _Uevent(_Happened):
    action: str
    path: str

    def _seen(self, subject: Subject) -> str | None:
        all_ = subject.uevents()
        fitting = [
            1
            for action, path in all_
            if self.action in (action, "*") and fnmatchcase(path, self.path)
        ]
        shown = [f"{action} {path.rpartition('/')[2]}" for action, path in all_]
        return self._counted(len(fitting), shown)


def _qmp(text: str, words: Sequence[str], absent: bool) -> Condition:
    if not words or not re.fullmatch(r"[A-Z_]+", words[0]):
        raise _wrong(text, "after `qmp` comes the name of an event, as DEVICE_DELETED")
    keys = [word for word in words[1:] if re.fullmatch(r"[\w.-]+=\S+", word)]
    data = tuple((key, value) for key, _, value in (word.partition("=") for word in keys))
    often = _often(text, words[1 + len(keys) :], absent)
    return _Qmp(text, *often, words[0], data)


@dataclass(frozen=True)
class _Qmp(_Happened):
    name: str
    data: tuple[tuple[str, str], ...]

    def _seen(self, subject: Subject) -> str | None:
        all_ = subject.qmp_events()
        fitting = [1 for name, data in all_ if name == self.name and self._fits(data)]
        return self._counted(len(fitting), [_event_text(name, data) for name, data in all_])

    def _fits(self, data: Mapping[str, Any]) -> bool:
        flat = _flat(data)
        return all(flat.get(key) == value for key, value in self.data)


def _event_text(name: str, data: Mapping[str, Any]) -> str:
    return " ".join((name, *(f"{key}={value}" for key, value in _flat(data).items())))


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """The data of an event as it is written in a condition: {"info": {"slot": 0}} is info.slot=0."""
    found: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = f"{value}".lower() if isinstance(value, bool) else f"{value}"
    return found


@dataclass(frozen=True)
class _Log(Condition):
    pattern: re.Pattern[str]
    absent: bool

    def _seen(self, subject: Subject) -> str | None:
        lines = subject.log()
        fitting = [line for line in lines if self.pattern.search(line)]
        if bool(fitting) != self.absent:
            return None
        if self.absent:
            return f"there is '{fitting[-1][:TEXT_SHOWN]}'"
        last = f"the last is '{lines[-1][:TEXT_SHOWN]}'" if lines else "there are no lines"
        return f"no such line; {last}"
