"""JSON as QEMU reads and writes it.

Owns: which bytes are a value, as QEMU 7.2's lexer and parser see it, QEMU's words for what is none,
and how a value is written. Does not own: what a message means (qmp.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

__all__ = ["JsonError", "JsonStream", "parse_json", "to_json"]

# bytes of one JSON message; QEMU takes 64 MiB, no message of a client 64 KiB
MESSAGE_LIMIT: Final = 1 << 20
TOKEN_LIMIT: Final = 1 << 17
NESTING_LIMIT: Final = 1 << 10


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
                opened, end, inside = "{", "}", iter(item.items())
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
