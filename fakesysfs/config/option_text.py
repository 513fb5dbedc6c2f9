"""Values inside the text of an option: numbers, lists of numbers, pairs like "slots=4,maxmem=8G".

Owns: how they are written, and the words for those that cannot be. Does not own: sizes (sizes.py),
what an option means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConfigError
from .profiles import suggest

__all__ = ["parse_integer", "parse_number_list", "parse_pairs", "refuse_repeats"]


def parse_integer(text: str, where: str, least: int, most: int) -> int:
    """Return the number that `text` is, of any base that Python writes.

    :raises ConfigError: it is none, or out of range.
    """
    try:
        value = int(text, 0)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not a number") from None
    if not least <= value <= most:
        raise ConfigError(f"{where}: {value} is out of range, {least} to {most} is possible")
    return value


def parse_pairs(
    text: str, where: str, known: Sequence[str], first: str = ""
) -> list[tuple[str, str]]:
    """Return the pairs of "a=1,b=2". The first item may lack its name when `first` says what it is."""
    out = []
    for i, item in enumerate(text.split(",")):
        name, equals, value = item.strip().partition("=")
        if not equals and first and i == 0:
            name, value = first, name
        elif not equals:
            raise ConfigError(f"{where}: {item.strip()!r} is not name=value")
        name = name.strip()
        if name not in known:
            raise ConfigError(f"{where}: no option `{name}`{suggest(name, known)}")
        out.append((name, value.strip()))
    return out


def refuse_repeats(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """Return pairs as a mapping.

    :raises ConfigError: a name is there twice.
    """
    out: dict[str, str] = {}
    for name, value in pairs:
        if name in out:
            raise ConfigError(f"{where}: `{name}` is there twice")
        out[name] = value
    return out


def parse_number_list(text: str, where: str, most: int) -> set[int]:
    """Return the numbers of "0-3;5"."""
    out: set[int] = set()
    for part in text.split(";"):
        first, dash, last = part.strip().partition("-")
        a = parse_integer(first, where, 0, most)
        b = parse_integer(last, where, 0, most) if dash else a
        if b < a:
            raise ConfigError(
                f"{where}: the range {part.strip()} is empty; write the smaller number first"
            )
        out.update(range(a, b + 1))
    return out
