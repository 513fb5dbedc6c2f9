"""HMP on a line that is a terminal for all QEMU knows: one client's conversation, bytes in, bytes
out.

Owns: banner and prompt, the line being typed with its keys, history and completion, and how it is
shown, byte for byte as QEMU 7.2's sockets show it. Does no I/O and has no thread. Does not own: the
commands and what they print (hmp.py), sockets (monitor_server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .monitor import Monitor
from .qemu_text import VERSION

__all__ = ["History", "HmpSession"]

PROMPT: Final = b"(qemu) "
LINE_LIMIT: Final = 4095  # bytes; what is typed behind them is lost
HISTORY_LIMIT: Final = 64
STEP_SIZE: Final = 1 << 16  # shown before it is time to look what else there is to do
SCREEN_COLUMNS: Final = 80

_LEFT: Final = b"\x1b[D"
_RIGHT: Final = b"\x1b[C"
_CLEAR_REST: Final = b"\x1b[K"
_CLEAR_SCREEN: Final = b"\x1b[2J\x1b[1;1H"


class History:
    """Lines said before, and which of them has been called back last."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []  # oldest first
        self._recalled: int | None = None

    def add(self, line: bytes) -> None:
        """Take a line that was said, if it is not empty. One said before is forgotten for it."""
        if line:
            if line in self._lines:
                self._lines.remove(line)
            self._lines.append(line)
            del self._lines[:-HISTORY_LIMIT]
            self._recalled = None

    def older(self) -> bytes | None:
        """The line before the one called back last, or the last; None when there is none."""
        at = (len(self._lines) if self._recalled is None else self._recalled) - 1
        if at < 0:
            return None
        self._recalled = at
        return self._lines[at]

    def newer(self) -> bytes | None:
        """The line behind the one called back last, an empty one behind the last; None when none
        was called back.
        """
        if self._recalled is None:
            return None
        at = self._recalled + 1
        self._recalled = at if at < len(self._lines) else None
        return b"" if self._recalled is None else self._lines[at]


class HmpSession:
    """One client of HMP: bytes in, bytes out. No I/O, no thread, no lock: one caller at a time.

    Each key is answered with the whole line as it is then, so that a line of N bytes is answered
    with 2*N*N.

    :param history: lines said before; QEMU's monitor keeps them from one client to the next.
    """

    negotiated: Final = False  # events are for QMP
    flooded: Final = False  # a line without end is cut off

    def __init__(self, monitor: Monitor, history: History) -> None:
        self._monitor = monitor
        self._input = bytearray()
        self._editor = _Editor(history, self._completions)

    def __len__(self) -> int:
        """Bytes fed and not yet looked at."""
        return len(self._input)

    def greeting(self) -> bytes:
        """What a client is sent first."""
        version = ".".join(str(number) for number in VERSION)
        return f"QEMU {version} monitor - type 'help' for more information\r\n".encode() + PROMPT

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        self._input += data

    def step(self) -> bytes | None:
        """Take keys up to the end of a line, carry it out, and return what is shown; None when
        there are no keys.

        It may return in the middle of a line, when there is much to show.
        """
        if self._monitor.quitting:
            self._input.clear()
        if not self._input:
            return None
        out, used = bytearray(), 0
        for key in self._input:
            used += 1
            line = self._editor.press(key, out)
            if line is not None:
                out += self._carry_out(line)
                if not self._monitor.quitting:
                    out += PROMPT
                break
            if len(out) >= STEP_SIZE:
                break
        del self._input[:used]
        return bytes(out)

    def _carry_out(self, line: bytes) -> bytes:
        try:
            text = self._monitor.carry_out(line.decode(errors="surrogateescape"))[0]
        except Exception as e:  # a fault of ours; the client is told and goes on
            import logging

            logging.getLogger(__name__).exception("an HMP command failed")
            text = f"Error: internal error: {e!r}\n"
        return text.replace("\n", "\r\n").encode(errors="surrogateescape")

    def _completions(self, line: bytes) -> list[bytes]:
        return [
            word.encode()
            for word in self._monitor.hmp.complete(line.decode(errors="surrogateescape"))
        ]


class _Editor:
    """A line that is being typed, and what of it the client sees.

    :param history: lines said before; added to.
    :param completions: what the last word of a line can become.
    """

    def __init__(self, history: History, completions: Callable[[bytes], list[bytes]]) -> None:
        self._history = history
        self._completions = completions
        self._line = bytearray()
        self._cursor = 0
        self._shown = b""
        self._shown_cursor = 0
        self._take = self._plain  # the next byte
        self._number = 0  # in an escape sequence
        self._keys: dict[int, Callable[[], None]] = {
            0x01: self._home, 0x04: self._delete, 0x05: self._end, 0x08: self._backspace, 0x17: self._delete_word,
            0x7F: self._backspace,
        }  # fmt: skip
        self._sequences: dict[int, Callable[[], None]] = {
            ord("A"): lambda: self._recall(history.older()), ord("B"): lambda: self._recall(history.newer()),
            ord("F"): lambda: self._recall(history.older()), ord("E"): lambda: self._recall(history.newer()),
            ord("C"): self._right, ord("D"): self._left,
        }  # fmt: skip
        self._numbered: dict[int, Callable[[], None]] = {
            1: self._home,
            3: self._delete,
            4: self._end,
        }

    def press(self, key: int, out: bytearray) -> bytes | None:
        """Take a byte; what is shown goes to `out`. The line when this was its end."""
        if self._take == self._plain and key in b"\r\n":
            line = bytes(self._line)
            out += b"\r\n"
            self._history.add(line)
            self._line.clear()
            self._cursor = 0
            self._forget_shown()
            return line
        self._take(key, out)
        self._show(out)
        return None

    def _show(self, out: bytearray) -> None:
        if self._line != self._shown:
            out += _LEFT * self._shown_cursor
            out += self._line
            out += _CLEAR_REST
            self._shown = bytes(self._line)
            self._shown_cursor = len(self._line)
        out += _LEFT * (self._shown_cursor - self._cursor)
        out += _RIGHT * (self._cursor - self._shown_cursor)
        self._shown_cursor = self._cursor

    def _forget_shown(self) -> None:
        self._shown = b""
        self._shown_cursor = 0

    # ---------------------------------------------------------------------------------------- bytes

    def _plain(self, key: int, out: bytearray) -> None:
        if key in self._keys:
            self._keys[key]()
        elif key == 0x09:
            self._complete(out)
        elif key == 0x0C:
            out += _CLEAR_SCREEN + PROMPT
            self._forget_shown()
        elif key == 0x1B:
            self._take = self._after_escape
        elif key == 0x9B:  # the same as ESC [
            self._number = 0
            self._take = self._in_sequence
        elif key >= 0x20:
            self._insert(bytes((key,)))

    def _after_escape(self, key: int, out: bytearray) -> None:
        self._number = 0
        self._take = {ord("["): self._in_sequence, ord("O"): self._keypad}.get(key, self._plain)

    def _in_sequence(self, key: int, out: bytearray) -> None:
        if key in b"0123456789":
            self._number = self._number * 10 + key - ord("0")
            return
        self._take = self._plain
        action = self._numbered.get(self._number) if key == ord("~") else self._sequences.get(key)
        if action is not None:
            action()

    def _keypad(self, key: int, out: bytearray) -> None:
        self._take = self._plain
        if key == ord("H"):
            self._home()
        elif key == ord("F"):
            self._end()

    # ----------------------------------------------------------------------------------------- keys

    def _insert(self, text: bytes) -> None:
        text = text[: LINE_LIMIT - len(self._line)]
        self._line[self._cursor : self._cursor] = text
        self._cursor += len(text)

    def _home(self) -> None:
        self._cursor = 0

    def _end(self) -> None:
        self._cursor = len(self._line)

    def _left(self) -> None:
        self._cursor = max(0, self._cursor - 1)

    def _right(self) -> None:
        self._cursor = min(len(self._line), self._cursor + 1)

    def _delete(self) -> None:
        del self._line[self._cursor : self._cursor + 1]

    def _backspace(self) -> None:
        if self._cursor > 0:
            self._cursor -= 1
            self._delete()

    def _delete_word(self) -> None:
        before = bytes(self._line[: self._cursor]).rstrip()
        start = before.rfind(b" ") + 1
        if start == 1:  # QEMU does not look at the first byte, and takes it for part of the word
            start = 0
        del self._line[start : self._cursor]
        self._cursor = start

    def _recall(self, line: bytes | None) -> None:
        if line is not None:
            self._line[:] = line
            self._cursor = len(line)

    # ----------------------------------------------------------------------------------- completion

    def _complete(self, out: bytearray) -> None:
        """Put in what the word before the cursor must become, and list what it can, if that is
        several things.

        The words are ours, as are the commands; with types and properties comes what is typed
        behind them.
        """
        before = bytes(self._line[: self._cursor])
        words = sorted(self._completions(before))
        if not words:
            return
        first, last = words[0], words[-1]  # the rest is sorted in between
        common = next(first[:n] for n in range(len(first), -1, -1) if last.startswith(first[:n]))
        typed = next(
            n for n in range(min(len(common), len(before)), -1, -1) if before.endswith(common[:n])
        )
        if len(words) == 1:
            self._insert(
                common[typed:] + (b"" if common.endswith((b" ", b",", b"=", b"/")) else b" ")
            )
            return
        self._insert(common[typed:])
        words = [word.rstrip() for word in words]
        width = min(max(10, 2 + max(len(word) for word in words)), SCREEN_COLUMNS)
        columns = SCREEN_COLUMNS // width
        for start in range(0, len(words), columns):
            out += b"\r\n" + b"".join(word.ljust(width) for word in words[start : start + columns])
        out += b"\r\n" + PROMPT
        self._forget_shown()
