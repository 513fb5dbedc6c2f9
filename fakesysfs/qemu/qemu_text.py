"""How QEMU reads text: numbers, sizes and key=value lists.

Owns: what each of these accepts, as QEMU 7.2 does, and QEMU's words for what it does not. Does not
own: what the values mean (property_values.py), JSON (qemu_json.py), and the lines of the monitor
(hmp.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ..errors import MonitorError

__all__ = [
    "PACKAGE",
    "VERSION",
    "Warn",
    "is_identifier",
    "is_size_too_large",
    "parse_integer",
    "parse_keyval",
    "parse_options",
    "parse_size",
]

VERSION: Final = (7, 2, 22)  # the QEMU whose words these are
PACKAGE: Final = " (fakesysfs)"  # what stands behind the version, where distributions put theirs

#: Called with a line that QEMU prints as a warning.
Warn = Callable[[str], None]


# -------------------------------------------------------------------------------- numbers and names

_U64: Final = (1 << 64) - 1
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_INTEGER: Final = re.compile(
    r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII
)
_SIZE: Final = re.compile(
    r"[ \t\n\v\f\r]*\+?(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<whole>[0-9]+)(?:\.(?P<part>[0-9]*))?)(?P<unit>[bkmgtpe]?)",
    re.ASCII | re.IGNORECASE,
)
_LONGEST_NUMBER: Final = 64  # digits; Python would take its time over thousands


def is_identifier(name: str) -> bool:
    """Whether QEMU takes it as the ID of something."""
    return _IDENTIFIER.fullmatch(name) is not None


def parse_integer(text: str) -> int | None:
    """An integer as C's strtoll(text, NULL, 0) reads it, without its limits; None when it is none."""
    m = _INTEGER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if m is None:
        return None
    digits = m[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    return int(digits, base) * (-1 if m[1] == "-" else 1)


def parse_size(text: str, warn: Warn | None = None) -> int | None:
    """Bytes of a size as QEMU reads it: "512M", "1.5G", "0x10000000"; None when it is none or takes
    more than 64 bits.

    :param warn: told when QEMU 7.2 would warn.
    """
    m = _SIZE.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if m is None:
        return None
    shift = 10 * "bkmgtpe".index(m["unit"].lower()) if m["unit"] else 0
    if m["hex"]:
        if m["unit"] and warn:
            warn(f"Using a multiplier suffix on hex numbers is deprecated: {text}")
        size = int(m["hex"], 16) << shift
    else:
        # 64 bits behind the point, as in QEMU
        fraction = int(float("0." + (m["part"] or "0")) * 2.0**64)
        if fraction and not shift:
            return None
        size = ((int(m["whole"]) << 64 | fraction) << shift) + (1 << 63) >> 64
    return size if size <= _U64 else None


def is_size_too_large(text: str) -> bool:
    """Whether it is a size but for taking more than 64 bits."""
    m = _SIZE.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    return (
        m is not None
        and parse_size(text) is None
        and (bool(m["unit"]) or not (m["part"] or "").strip("0"))
    )


# ---------------------------------------------------------------------------------------- key=value

_NAME: Final = re.compile(r"(?:__[A-Za-z0-9.-]+_)?[A-Za-z][A-Za-z0-9_-]*")
_INDEX: Final = re.compile(r"[0-9]+")


def parse_keyval(text: str, implied_key: str) -> tuple[dict[str, Any], bool]:
    """Options as QEMU's -object takes them: `key=value,a.b=value,list.0=value`, `,,` for a comma in
    a value.

    :param implied_key: the key of a first value that stands alone.
    :return: strings, in mappings and lists as the dots say, and whether help was asked for.
    :raises MonitorError: QEMU's words for what is wrong.
    """
    options: dict[str, Any] = {}
    wants_help = False
    first = True
    while text:
        match = re.match(r"[^=,]*", text)
        key = match[0] if match else ""
        after = text[len(key) : len(key) + 1]
        if key in ("help", "?") and after != "=":
            wants_help, text, first = True, text[len(key) + 1 :], False
            continue
        if key and after != "=" and first:
            options[implied_key], text, first = key, text[len(key) + 1 :], False
            continue
        first = False
        parts = key.split(".")
        for i, part in enumerate(parts):
            if not _NAME.fullmatch(part) and not (i and _INDEX.fullmatch(part)):
                raise MonitorError(f"Invalid parameter '{key}'")
            if len(part) > 127:
                raise MonitorError(f"Parameter '{key}' is too long")
        if after != "=":
            raise MonitorError(f"Expected '=' after parameter '{key}'")
        value, text = _value(text[len(key) + 1 :])
        _put(options, parts, value)
    return {key: _listify(value, key) for key, value in options.items()}, wants_help


def _put(options: dict[str, Any], parts: list[str], value: str) -> None:
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        old = options.get(part)
        if old is not None and isinstance(old, str) != last:
            raise MonitorError(f"Parameters '{'.'.join(parts[: i + 1])}.*' used inconsistently")
        if last:
            options[part] = value
        else:
            options = options.setdefault(part, {})


def _listify(value: Any, path: str) -> Any:
    """A mapping whose keys are indices, as a list."""
    if not isinstance(value, dict):
        return value
    below = {key: _listify(item, f"{path}.{key}") for key, item in value.items()}
    indices = [key for key in below if _INDEX.fullmatch(key)]
    if not indices:
        return below
    if len(indices) < len(below):
        raise MonitorError(f"Parameters '{path}.*' used inconsistently")
    items = {int(key): item for key, item in below.items()}
    for index in range(len(items)):
        if index not in items:
            raise MonitorError(f"Parameter '{path}.{index}' missing")
    return [items[index] for index in range(len(items))]


def parse_options(text: str, first_key: str) -> dict[str, str]:
    """Options as QEMU's -device takes them: `value,key=value,flag,noflag`, `,,` for a comma in a
    value.

    :param first_key: the key of a first value that stands alone.
    :return: the last value of each key, but the first id.
    """
    options: dict[str, str] = {}
    first = True
    while text:
        match = re.match(r"[^=,]*", text)
        key = match[0] if match else ""
        if text[len(key) : len(key) + 1] == "=":
            value, text = _value(text[len(key) + 1 :])
        elif first:
            key, (value, text) = first_key, _value(text)
        else:
            text = text[len(key) + 1 :]
            value = "off" if key.startswith("no") else "on"
            key = key.removeprefix("no")
        first = False
        if key != "id" or key not in options:
            options[key] = value
    return options


def _value(text: str) -> tuple[str, str]:
    """A value up to a comma that is not doubled, and what follows the comma."""
    value = ""
    while True:
        part, comma, text = text.partition(",")
        value += part
        if not comma or not text.startswith(","):
            return value, text
        value += ","
        text = text[1:]
