"""Events that may come often: QEMU passes on the first at once, and then the latest of each second.

Owns: when an event is passed on. Does not own: what it says, and who is told (host_events.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Throttle"]

_T = TypeVar("_T")


class Throttle(Generic[_T]):
    """Passes on items, of each kind one at a time: the first at once, after that the latest.

    `close()` it.

    :param deliver: called with what is passed on, on the thread that put it, or on a thread of its
        own.
    :param seconds: between two of a kind.
    """

    def __init__(self, deliver: Callable[[_T], object], seconds: float) -> None:
        self._deliver = deliver
        self._seconds = seconds
        self._lock = threading.Lock()
        # kind -> the last that came since one was passed on
        self._waiting: dict[str, _T | None] = {}
        self._timers: dict[str, threading.Timer] = {}

    def put(self, kind: str, item: _T) -> None:
        """Pass on an item now, or as the latest of its kind later."""
        with self._lock:
            if kind in self._waiting:
                self._waiting[kind] = item
                return
            self._start(kind)
        self._deliver(item)

    def close(self) -> None:
        """Pass on nothing more."""
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()

    def _start(self, kind: str) -> None:
        self._waiting[kind] = None
        timer = self._timers[kind] = threading.Timer(self._seconds, self._elapsed, (kind,))
        timer.daemon = True
        timer.start()

    def _elapsed(self, kind: str) -> None:
        with self._lock:
            item = self._waiting.pop(kind)
            if item is None:
                del self._timers[kind]
                return
            self._start(kind)
        self._deliver(item)
