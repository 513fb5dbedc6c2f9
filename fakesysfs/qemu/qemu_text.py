"""How QEMU reads text: numbers and sizes, key=value lists, JSON. Text in, values out; and JSON out
again.

Owns: what each of these accepts, as QEMU 7.2 does, and QEMU's words for what it does not. Does not
own: what the values mean (backends.py, board.py), and the lines of the monitor (hmp.py).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

from ..errors import MonitorError

__all__ = [
    "PACKAGE",
    "VERSION",
    "JsonError",
    "JsonStream",
    "as_qemu_keeps",
    "is_identifier",
    "is_size_too_large",
    "parse_integer",
    "parse_json",
    "parse_keyval",
    "parse_options",
    "parse_size",
    "to_json",
]

VERSION: Final = (7, 2, 22)  # the QEMU whose words these are
PACKAGE: Final = " (fakesysfs)"  # what stands behind the version, where distributions put theirs

# bytes of one JSON message; QEMU takes 64 MiB, no message of a client 64 KiB
MESSAGE_LIMIT: Final = 1 << 20
TOKEN_LIMIT: Final = 1 << 17
NESTING_LIMIT: Final = 1 << 10

#: Called with a line that QEMU prints as a warning.
Warn = Callable[[str], None]
_T = TypeVar("_T")


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


def as_qemu_keeps(members: Mapping[str, _T]) -> list[tuple[str, _T]]:
    """The members of an object in the order in which QEMU goes through them: that of its hash
    table.

    Of several that are wrong, the first in this order is the one it complains of.
    """

    # In one bucket the last comes first. Names that clients make up may be long, and are not worth
    # remembering.
    backwards = list(members.items())[::-1]
    return sorted(
        backwards, key=lambda item: (_known_bucket if len(item[0]) < 64 else _bucket)(item[0])
    )


def _bucket(name: str) -> int:
    """Which part of QEMU's hash table a name goes to."""
    data = name.encode(errors="surrogatepass")
    value = 0x238F13AF * len(data)
    for i, byte in enumerate(data):
        value += byte << (i * 5 % 24)
    return (1103515243 * value + 12345) % 512


_known_bucket = functools.lru_cache(maxsize=1024)(_bucket)


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


# --------------------------------------------------------------------------------------------- JSON


class JsonError(Exception):
    """What is wrong with some JSON, in QEMU's words."""


_STRING_BODY: Final = {
    ord(quote): re.compile(
        rb"(?:[^\\\x00-\x1f\xfe\xff" + quote.encode() + rb"]|\\[^\x00-\x1f\xfe\xff])*"
    )
    for quote in "\"'"
}
_NUMBER_PREFIX: Final = re.compile(
    rb"-?(?:0(?:\.(?:[0-9]+(?:[eE][-+]?[0-9]*)?)?)?"
    rb"|[1-9][0-9]*(?:\.(?:[0-9]+(?:[eE][-+]?[0-9]*)?)?|[eE][-+]?[0-9]*)?)?"
)
_WORD: Final = re.compile(rb"[a-z]+")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
# After a byte that cannot be, QEMU goes on at a structural or control character, or at one no UTF-8
# has.
_UNTIL_SYNC: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff\[\]{}:,]*")
_ESCAPE: Final = re.compile(
    r"\\(u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|.)|[\ud800-\udfff]", re.DOTALL
)
_ESCAPED: Final = {
    '"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_WORDS: Final = {b"true": True, b"false": False, b"null": None}


class JsonStream:
    """Cuts bytes into JSON values, as QEMU does: no line ends needed, single quotes allowed, errors
    survived.

    A value may come in any number of pieces. What is held is at most one message.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._at = 0  # bytes before this are dealt with
        # of an unfinished string that begins at _at, this much is known to be good
        self._scanned = 0
        self._recovering = False
        self._tokens: list[bytes] = []
        self._held = 0  # bytes in _tokens
        self._braces = self._brackets = 0
        self.flooded = False

    def __len__(self) -> int:
        """Bytes fed and not yet looked at."""
        return len(self._bytes) - self._at

    @property
    def unfinished(self) -> bool:
        """Whether a value has begun and not ended."""
        return bool(self._tokens or self)

    def feed(self, data: bytes) -> None:
        """Add bytes to what has come."""
        del self._bytes[: self._at]
        self._at = 0
        self._bytes += data

    def next(self) -> tuple[Any] | None:
        """The next value in a tuple, or None when no whole one has come.

        :raises JsonError: what came is none; the next call goes on behind it. After a message
            without end `flooded` is set and there is no going on.
        """
        while not self.flooded:
            token = self._token()
            if token is None:
                if self._held + len(self) > MESSAGE_LIMIT:
                    self._flood("size")
                return None
            self._tokens.append(token)
            self._held += len(token)
            self._braces += (token == b"{") - (token == b"}")
            self._brackets += (token == b"[") - (token == b"]")
            open_ = self._braces > 0 or self._brackets > 0
            if not open_ or self._braces < 0 or self._brackets < 0:
                tokens = self._tokens
                self._reset()
                return (_parse(tokens),)
            if self._held > MESSAGE_LIMIT:
                self._flood("size")
            if len(self._tokens) > TOKEN_LIMIT:
                self._flood("count")
            if self._braces + self._brackets > NESTING_LIMIT:
                self._reset()
                raise JsonError("JSON nesting depth limit exceeded")
        return None

    def _flood(self, of: str) -> NoReturn:
        self.flooded = True
        self._bytes.clear()
        self._at = 0
        self._reset()
        raise JsonError(f"JSON token {of} limit exceeded")

    def _reset(self) -> None:
        self._tokens = []
        self._held = self._braces = self._brackets = 0

    def _token(self) -> bytes | None:
        """The next token, None when it has not come whole."""
        data = self._bytes
        if self._recovering:
            self._at = _end(_UNTIL_SYNC, data, self._at)
            if self._at == len(data):
                return None
            self._recovering = False
        start = self._at = _end(_BLANK, data, self._at)
        if start == len(data):
            return None
        first = data[start]
        if first in b"{}[]:,":
            return self._take(start + 1)
        if first in _STRING_BODY:
            end = _end(_STRING_BODY[first], data, start + max(self._scanned, 1))
            escapes = data[end : end + 1] == b"\\"  # and what follows it cannot be, or has not come
            if end + escapes >= len(data):
                self._scanned = end - start
                return None
            self._scanned = 0
            return self._take(end + 1) if data[end] == first else self._stray(end + 1 + escapes)
        if first in b"-0123456789":
            end = _end(_NUMBER_PREFIX, data, start)
            if end == len(data):
                return None
            follows = data[end] in b"0123456789"  # a digit that cannot go on: 01
            return (
                self._take(end)
                if data[end - 1] in b"0123456789" and not follows
                else self._stray(end + 1)
            )
        if ord("a") <= first <= ord("z"):
            end = _end(_WORD, data, start)
            return None if end == len(data) else self._take(end)
        return self._stray(start + 1)

    def _take(self, end: int) -> bytes:
        token = bytes(self._bytes[self._at : end])
        self._at = end
        return token

    def _stray(self, end: int) -> bytes:
        text = self._take(end).partition(b"\0")[0].decode(errors="replace")
        self._recovering = True
        self._reset()
        raise JsonError(f"JSON parse error, stray '{text}'")


def _end(pattern: re.Pattern[bytes], data: bytearray, start: int) -> int:
    """Where a pattern that always matches ends. No match object survives: it would keep `data` from
    growing.
    """
    match = pattern.match(data, start)
    return match.end() if match else start


def _parse(tokens: list[bytes]) -> Any:
    """The value that tokens make. Not recursive: a message may be nested deeper than Python's stack
    likes.

    :raises JsonError: they make none.
    """
    stack: list[Any] = []
    keys: list[str] = []
    as_key = 0  # how deep a list or object is that stands where a key should
    state = "value"
    for token in tokens:
        closes = b"}" if stack and isinstance(stack[-1], dict) else b"]" if stack else b""
        if state in ("first", "more") and token == closes:
            if len(stack) == as_key:
                raise JsonError("JSON parse error, key is not a string in object")
            value = stack.pop()
            if not stack:
                return value
            state = "more"
            continue
        if state == "more":
            if token != b",":
                raise JsonError(
                    "JSON parse error, expected separator in"
                    f" {'dict' if closes == b'}' else 'list'}"
                )
            state = "key" if closes == b"}" else "value"
            continue
        if state == "colon":
            if token != b":":
                raise JsonError("JSON parse error, missing : in object pair")
            state = "value"
            continue
        if state == "key" or (state == "first" and closes == b"}"):
            # read to its end all the same: of several faults the first counts
            if token in (b"{", b"["):
                stack.append({} if token == b"{" else [])
                as_key = as_key or len(stack)
                state = "first"
                continue
            key = _scalar(token)
            if not isinstance(key, str):
                raise JsonError("JSON parse error, key is not a string in object")
            keys.append(key)
            state = "colon"
            continue
        opened = {b"{": dict, b"[": list}.get(token)
        value = opened() if opened else _scalar(token)
        if stack and closes == b"}":
            key = keys.pop()
            if key in stack[-1]:
                raise JsonError("JSON parse error, duplicate key")
            stack[-1][key] = value
        elif stack:
            stack[-1].append(value)
        if opened:
            stack.append(value)
            state = "first"
        elif not stack:
            return value
        else:
            state = "more"
    raise JsonError("JSON parse error, premature EOI")


def _scalar(token: bytes) -> Any:
    first = token[:1]
    if first in b"\"'":
        # What is no UTF-8 becomes surrogates here, so that of several faults the first is the one
        # complained of.
        text = token[1:-1].replace(b"\xc0\x80", b"\0").decode(errors="surrogateescape")
        return _ESCAPE.sub(_unescape, text)
    if first in b"-0123456789":
        if len(token) <= 20 and token.lstrip(b"-").isdigit():
            number = int(token)
            if -(1 << 63) <= number < 1 << 64:
                return number
        real = float(token)
        if real in (float("inf"), float("-inf")):
            raise JsonError("JSON parse error, number out of range")
        return real
    if token in _WORDS:
        return _WORDS[token]
    if first.isalpha():
        raise JsonError(f"JSON parse error, invalid keyword '{token.decode()}'")
    raise JsonError("JSON parse error, expecting value")


def _unescape(match: re.Match[str]) -> str:
    if match[1] is None:
        raise JsonError("JSON parse error, invalid UTF-8 sequence in string")
    letter, code, low = match[1][0], match[2], match[3]
    if letter != "u":
        if letter not in _ESCAPED:
            raise JsonError("JSON parse error, invalid escape sequence in string")
        return _ESCAPED[letter]
    number = int(code, 16) if code else 0xD800
    if low and 0xD800 <= number < 0xDC00:
        return chr(0x10000 + ((number & 0x3FF) << 10 | int(low, 16) & 0x3FF))
    if 0xD800 <= number < 0xE000:
        # the quote that ends the string
        shown = f'{match.string}"'[match.start() : match.start() + 6]
        raise JsonError(f"JSON parse error, {shown} is not a valid Unicode character")
    return chr(number) + (chr(int(low, 16)) if low else "")


def to_json(value: Any) -> bytes:
    """One line of JSON with its line end, byte for byte as QEMU writes it."""
    return "".join(_json_pieces(value)).encode() + b"\r\n"


def _json_pieces(value: Any) -> Iterator[str]:
    """Not recursive: a value may be nested deeper than Python's stack likes."""
    stack: list[Iterator[Any]] = [iter((value,))]
    inside: Iterator[Any]
    ends: list[str] = [""]
    fresh = True
    while stack:
        for item in stack[-1]:
            if not fresh:
                yield ", "
            fresh = False
            if ends[-1] == "}":
                key, item = item
                yield f"{_json_scalar(key)}: "
            if isinstance(item, dict):
                opened, end, inside = "{", "}", iter(as_qemu_keeps(item))
            elif isinstance(item, list | tuple):
                opened, end, inside = "[", "]", iter(item)
            else:
                yield _json_scalar(item)
                continue
            yield opened
            ends.append(end)
            stack.append(inside)
            fresh = True
            break
        else:
            stack.pop()
            yield ends.pop()
            fresh = False


# In what json.dumps() writes. The escaped backslash, so that a letter u behind one is not taken for
# more.
_ESCAPES: Final = re.compile(r"\\\\|\\u[0-9a-f]{4}|\x7f")


def _json_scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.17g}"
    text = json.dumps(value)
    return _ESCAPES.sub(_as_qemu_escapes, text) if isinstance(value, str) else text


def _as_qemu_escapes(match: re.Match[str]) -> str:
    if match[0] == "\\\\":
        return match[0]
    return "\\u007F" if match[0] == "\x7f" else f"\\u{match[0][2:].upper()}"


def parse_json(text: str) -> Any:
    """The JSON value a line holds.

    :raises JsonError: there is none.
    """
    stream = JsonStream()
    stream.feed(text.encode(errors="surrogatepass") + b"\n")
    try:
        value = stream.next()
    except JsonError as e:
        # that line end is no part of the text
        raise JsonError(str(e).replace("\n'", "'")) from None
    if value is None:
        raise JsonError("JSON parse error, premature EOI")
    try:
        more = stream.next() is not None or stream.unfinished
    except JsonError:
        more = True
    if more:
        raise JsonError("Expecting at most one JSON value")
    return value[0]
