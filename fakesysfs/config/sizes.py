"""Sizes in bytes as people and Linux write them, read and printed.

Owns: the grammar of "512M" in options, machine files and commands, that of the kernel's command
line, and the forms in which a size is shown. Does not own: what QEMU's monitors read and print
(qemu_text.py, in QEMU's own words).
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import ConfigError

__all__ = ["memparse", "parse_size", "show_about", "show_size", "strtoull"]

_SUFFIXES: Final = "bkmgtpe"
_SIZE: Final = re.compile(
    r"(?:(0x[0-9a-f]{1,30})|([0-9]{1,30})(\.[0-9]{1,30})?)([bkmgtpe]?)", re.ASCII | re.IGNORECASE
)


def parse_size(text: str, where: str, unit: str = "b") -> int:
    """Bytes of a size as QEMU writes it: "512M", "1.5G", "0x40000000", suffixes bkMGTPE in any
    case.

    :param where: place of the text, for the error message.
    :param unit: suffix a plain number is understood to have.
    :raises ConfigError: when it is none.
    """
    m = _SIZE.fullmatch(text.strip())
    if m is None or (m[1] and m[4]):
        raise ConfigError(
            f"{where}: {text!r} is not a size; write a number and b k M G T P or E, like 512M"
        )
    if m[1]:
        return int(m[1], 16)
    shift = 10 * _SUFFIXES.index((m[4] or unit).lower())
    size = int(m[2]) << shift
    if m[3]:
        size += (int(m[3][1:]) << shift) // 10 ** (len(m[3]) - 1)
    return size


def show_size(size: int) -> str:
    """A size the shortest way that is exact, for messages: 1G, 1536M, 100b."""
    if size == 0:
        return "0"
    shift = next(s for s in (60, 50, 40, 30, 20, 10, 0) if size % (1 << s) == 0)
    return f"{size >> shift}{_SUFFIXES[shift // 10].upper() if shift else 'b'}"


def show_about(size: int) -> str:
    """Return a size to four digits, for people: 128M, 1.5G."""
    for shift in (40, 30, 20, 10):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.4g}{_SUFFIXES[shift // 10].upper()}"
    return f"{size}B"


def memparse(text: str) -> tuple[int, str]:
    """Linux's memparse(): a number of any base and a suffix; (bytes, what is left). No number is 0."""
    number, rest = strtoull(text)
    if rest and rest[0] in "kKmMgGtTpPeE":
        return (number << 10 * _SUFFIXES.index(rest[0].lower())) & (1 << 64) - 1, rest[1:]
    return number, rest


def strtoull(text: str) -> tuple[int, str]:
    """Linux's simplestrtoull() with base 0: (number, what is left)."""
    m = re.match(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*)", text)
    if m is None:
        return 0, text
    value = int(m[1], 16) if m[1] else int(m[2], 8) if m[2] else 0
    for digit in m[3] or "":  # int() takes no more than some thousand of them
        value = (10 * value + int(digit)) & (1 << 64) - 1
    return value & (1 << 64) - 1, text[m.end() :]
