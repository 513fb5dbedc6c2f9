"""The prompt of `fakesysfs monitor`: lines typed at a terminal, with completion and a history that
is kept.

Owns: readline, and the file of the history. Does not own: what completes a line and what carries it
out; both are asked of the instance.
"""

from __future__ import annotations

import os
import readline
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..control import Client

__all__ = ["converse"]

PROMPT: Final = "(qemu) "
HISTORY_LINES: Final = 1000
QUIT_SECONDS: Final = 5.0


def converse(client: Client) -> None:
    """Read lines from the terminal and have them carried out, until its end or that of the
    instance.

    :raises InstanceError: the instance ended unasked.
    """
    history = _history_file()
    readline.set_history_length(HISTORY_LINES)
    with suppress(OSError):  # there is none yet
        readline.read_history_file(history)
    readline.set_completer_delims(" \t,=")
    readline.set_completer(_Completer(client))
    readline.parse_and_bind("tab: complete")
    while True:
        try:
            line = input(PROMPT)
        except KeyboardInterrupt:  # gives the line up, as in a shell
            print()
            continue
        except EOFError:
            print()
            break
        text, refused = client.call("monitor", line)
        print(text, end="", flush=True)
        if line.split()[:1] in (["quit"], ["q"]) and not refused:
            client.wait_end(QUIT_SECONDS)
            break
    with suppress(OSError):  # a place nobody can write to is no reason to complain
        os.makedirs(os.path.dirname(history), mode=0o700, exist_ok=True)
        readline.write_history_file(history)


def _history_file() -> str:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "fakesysfs", "monitor_history")


class _Completer:
    """What readline calls, with 0, 1, 2, ... until there is no more."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: list[str] = []

    def __call__(self, word: str, number: int) -> str | None:
        if number == 0:
            self._found = self._client.call(
                "complete", readline.get_line_buffer()[: readline.get_endidx()]
            )
        return self._found[number] if number < len(self._found) else None
