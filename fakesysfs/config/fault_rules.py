"""Fault rules: from the words that people write to what the engine takes.

    open|read|write FILE [delay TIME | hang] [ERRNO] [nth=N] [xN | always] [p=P]
    list DIRECTORY ERRNO [nth=N] [xN | always] [p=P]
    hide|vanish FILE
    uevent [ACTION] DEVICE (drop | duplicate | reorder | delay TIME | early [TIME]) [nth=N] ...
    unplug DIMM (never | refuse | stay | twice | delay TIME) [nth=N] [xN | always] [p=P]

FILE and DEVICE are patterns as of a shell, except that * and ? also stand for a slash: relative to
/sys/devices/system/memory, or from / on. DIMM is a pattern of names that the host has given. A rule
fires from its nth pass on, on each with probability p, xN times; without xN once if nth is given,
else always.

Owns the words, and what is said of words that are no rule. Does not own: what a rule does, and on
which pass it fires (engine/base/rules.c, engine/sysfs/file_faults.c).
"""

from __future__ import annotations

import errno
import re
import shlex
from typing import Final, NamedTuple

from ..errors import ConfigError

#: For `FaultRuleSpec.times`: without end.
ALWAYS: Final = 2**64 - 1
#: For `FaultRuleSpec.chance`: on every pass.
CERTAIN: Final = 1_000_000_000

_BASE: Final = "/sys/devices/system/memory"
_TEXT_BYTES, _MAX_WORDS = 512, 16  # of a rule
_MAX_ERRNO: Final = 511  # what the kernel takes from a FUSE server
_DAY_US: Final = 86_400_000_000
_EARLY_US: Final = 100_000
_UNITS_US: Final = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}

_FILE_ACCESSES: Final = ("open", "read", "write", "list")
_OPS: Final = (*_FILE_ACCESSES, "hide", "vanish", "uevent", "unplug")
_ACTIONS: Final = ("add", "remove", "change", "move", "online", "offline", "bind", "unbind")
_EFFECTS: Final = {
    "uevent": ("drop", "duplicate", "reorder", "delay", "early"),
    "unplug": ("never", "refuse", "stay", "twice", "delay"),
}
_ERRNOS: Final[dict[str, int]] = {
    "EHWPOISON": 133
} | {  # Python has no name for that one before 3.14
    name: number
    for name, number in vars(errno).items()
    if name.startswith("E") and number <= _MAX_ERRNO
}


class FaultRuleSpec(NamedTuple):
    """A fault rule as the engine takes it.

    :param op: the first word: "open", "read", ...
    :param effect: what happens to a uevent, or how the guest answers: "drop", "never", ...
    :param text: the rule as it was written.
    :param pattern: of absolute paths, or of names of DIMMs.
    :param action: of uevents; None: any.
    :param errno: a positive number; 0: none.
    :param hang: wait until the rule is cleared.
    :param wait_us: wait so long, in microseconds.
    :param nth: the first pass on which it fires.
    :param times: how often it fires, or `ALWAYS`.
    :param chance: probability on each pass, in units of 1/`CERTAIN`.
    """

    op: str
    effect: str
    text: str
    pattern: str
    action: str | None
    errno: int
    hang: bool
    wait_us: int
    nth: int
    times: int
    chance: int


def parse_fault_rule(rule: str) -> FaultRuleSpec:
    """Read a fault rule.

    :raises ConfigError: it is none.
    """
    try:
        return _Reader(rule).read()
    except _NoRule as e:
        raise ConfigError(f"fault rule '{rule[:80]}': {e}") from None


def parse_duration_us(text: str) -> int | None:
    """Read a time such as "2s", "250ms" or "1.5min", of a day at most, in whole microseconds; None:
    it is none.
    """
    match = re.fullmatch(r"([0-9.]+)(us|ms|s|min|h)", text, re.ASCII)
    billionths = _billionths(match[1]) if match else None
    if match is None or billionths is None:
        return None
    us = billionths * _UNITS_US[match[2]] // 1_000_000_000
    return us if us <= _DAY_US else None


def _billionths(text: str) -> int | None:
    """A number as "2", "0.25", ".5" or "1.", times 10**9."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?|\.[0-9]+", text, re.ASCII):
        return None
    whole, _, part = text.partition(".")
    return int(whole or 0) * 1_000_000_000 + int(part[:9].ljust(9, "0"))


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None


def _errno(word: str) -> int:
    """0: it is no errno."""
    number = _count(word)
    if number is None:
        return _ERRNOS.get(word, 0)
    return number if number <= _MAX_ERRNO else 0


def _is_keyword(word: str) -> bool:
    """Does the word say what happens or when, so that it can be no name of a file?"""
    return (
        word in ("", "hang", "always")
        or any(word in effects for effects in _EFFECTS.values())
        or _errno(word) != 0
        or re.fullmatch(r"x?[0-9]+", word, re.ASCII) is not None
        or word.startswith(("nth=", "p="))
    )


class _NoRule(Exception):
    """Why it is no rule."""


class _Reader:
    """Reads the words of one rule, from left to right."""

    def __init__(self, rule: str) -> None:
        self._words = _split(rule)
        self._text = " ".join(rule.split())
        self._effect = ""
        self._action: str | None = None
        self._errno = 0
        self._hang = False
        self._wait_us: int | None = None
        self._nth = self._times = self._chance = 0  # 0: not said yet

    def read(self) -> FaultRuleSpec:
        op = self._next() or ""
        if op not in _OPS:
            raise _NoRule(
                f"`{op[:60]}`: a rule begins with open, read, write, list, hide, vanish, uevent or"
                " unplug"
            )
        name = self._device() if op == "uevent" else self._next()
        if name is None or _is_keyword(name):
            raise _NoRule(_WHICH.get(op, _WHICH["write"]))
        pattern = name if op == "unplug" else _absolute(op, name)
        while (word := self._next()) is not None:
            if op in ("hide", "vanish"):
                raise _NoRule(
                    f"`{word[:60]}`: `{op}` takes a file and no more; it holds until it is cleared"
                )
            if self._option(word):
                continue
            if op in _EFFECTS:
                self._read_effect(op, word)
            else:
                self._read_fault(op, word)
        self._check_that_something_happens(op)
        return FaultRuleSpec(
            op, self._effect, self._text, pattern, self._action, self._errno, self._hang,
            self._wait_us or 0, self._nth or 1, self._times or (1 if self._nth else ALWAYS),
            self._chance or CERTAIN,
        )  # fmt: skip

    def _next(self) -> str | None:
        return self._words.pop(0) if self._words else None

    def _device(self) -> str | None:
        """Read ACTION DEVICE, or DEVICE alone, which may not be the name of an action."""
        first = self._next()
        is_action = first in _ACTIONS
        if first is None or not self._words or _is_keyword(self._words[0]):
            return None if is_action else first
        if not is_action and first != "*":
            raise _NoRule(
                f"`{first[:60]}` is no action of a uevent; write add, remove, change, online,"
                " offline, move, bind, unbind or *"
            )
        self._action = first if is_action else None
        return self._next()

    def _option(self, word: str) -> bool:
        """nth=N, xN, always, p=P. False: it is none of them."""
        if word == "always" or re.fullmatch(r"x[0-9]+", word, re.ASCII):
            _once(self._times, word)
            self._times = ALWAYS if word == "always" else _count(word[1:]) or 0
            if not self._times:
                raise _NoRule(f"`{word[:60]}`: how often? write x1 or more, or `always`")
        elif word.startswith("nth="):
            _once(self._nth, word)
            self._nth = _count(word[4:]) or 0
            if not self._nth:
                raise _NoRule(f"`{word[:60]}`: the first pass is nth=1")
        elif word.startswith("p="):
            _once(self._chance, word)
            self._chance = _billionths(word[2:]) or 0
            if not 0 < self._chance <= CERTAIN:
                raise _NoRule(
                    f"`{word[:60]}`: a probability is more than 0 and at most 1, as p=0.1"
                )
        else:
            return False
        return True

    def _read_fault(self, op: str, word: str) -> None:
        """What happens to an access: ERRNO, delay TIME, hang."""
        if number := _errno(word):
            _once(self._errno, word)
            self._errno = number
            return
        if word not in ("delay", "hang"):
            raise _NoRule(
                f"`{word[:60]}` is neither an errno, nor delay TIME, hang, xN, always, nth=N or p=P"
            )
        if op == "list":
            raise _NoRule(
                f"`{word}`: a listing cannot wait, because all who look into the directory would;"
                " it can only fail"
            )
        _once(self._hang or self._wait_us is not None, word)
        self._hang = word == "hang"
        if not self._hang:
            self._wait_us = self._time()

    def _read_effect(self, op: str, word: str) -> None:
        """What happens to a uevent, or a request to unplug."""
        if word not in _EFFECTS[op]:
            raise _NoRule(f"`{word[:60]}` is neither {_NEITHER[op]} xN, always, nth=N or p=P")
        _once(self._effect, word)
        self._effect = word
        if word == "delay":
            self._wait_us = self._time()
        if word != "early":
            return
        if self._action != "add":
            raise _NoRule("only `uevent add` can be early: before its files are there")
        timed = bool(self._words) and "0" <= self._words[0][0] <= "9"
        self._wait_us = self._time() if timed else _EARLY_US

    def _time(self) -> int:
        word = self._next()
        us = parse_duration_us(word) if word is not None else None
        if us is None:
            raise _NoRule(
                f"how long? `{(word or 'delay')[:60]}` is no time of a day at most; write 2s, 250ms"
                " or 1500us"
            )
        return us

    def _check_that_something_happens(self, op: str) -> None:
        nothing = not (self._errno or self._hang or self._wait_us is not None or self._effect)
        if nothing and op in _NOTHING:
            raise _NoRule(_NOTHING[op])


_WHICH = {
    "write": "which file? write for instance `write memory40/state EBUSY`",
    "uevent": "of which device? write for instance `uevent add memory33 drop`",
    "unplug": "which DIMM? write for instance `unplug d0 refuse`",
}
_NEITHER = {
    "uevent": "drop, duplicate, reorder, early nor delay TIME; nor",
    "unplug": "never, refuse, stay, twice nor delay TIME; nor",
}
_NOTHING = {
    **dict.fromkeys(
        ("open", "read", "write"),
        "what is to happen? an errno such as EBUSY, delay TIME, or hang",
    ),
    "list": "what is to happen? an errno such as EBUSY",
    "uevent": "what is to happen? drop, duplicate, reorder, early or delay TIME",
    "unplug": "how is it to answer? never, refuse, stay, twice or delay TIME",
}


def _split(rule: str) -> list[str]:
    """The words of a rule; one with blanks in it stands in quotes."""
    lexer = shlex.shlex(rule, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        words = list(lexer)
    except ValueError:
        raise _NoRule("a quote has no end") from None
    if len(words) > _MAX_WORDS or len(rule.encode(errors="replace")) > _TEXT_BYTES:
        raise _NoRule("this is too long for a rule")
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", "".join(words)):
        raise _NoRule("this is not text")
    if not words:
        raise _NoRule("it is empty; write for instance `write memory40/state EBUSY`")
    return words


def _absolute(op: str, word: str) -> str:
    """The pattern as an absolute one."""
    if word == ".":
        return _BASE
    if {".", ".."} & set(word.split("/")):
        raise _NoRule(f"`{word[:60]}`: no name has . or .. in it; write it from / on")
    if not word.startswith("/"):
        word = f"{_BASE}/{word}"
    elif op == "uevent" and word.startswith("/devices/"):
        word = f"/sys{word}"
    return word.rstrip("/") or "/"


def _once(said: object, word: str) -> None:
    if said:
        raise _NoRule(f"`{word[:60]}`: this has been said already, or the contrary")
