"""Why something happens: what was asked for, and which process asked, kept while the call that does
it lasts.

Owns: the cause of each thread's work, and how a cause finds its way into another thread. Does not
own events (machine.py puts the cause into them). The engine writes the number of the calling thread
into each event; whoever takes the events asks here what that thread is doing.

    with caused_by("write online to /sys/devices/system/memory/memory32/state", pid):
        machine.write(...)
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager
from typing import NamedTuple

TEXT_LIMIT = 200  # of what was asked for, in characters
# so long a process keeps its name: it cannot become another program and write in less
SAME_SECONDS = 0.001


class Cause(NamedTuple):
    """Why an event happened.

    :param what: what was asked for: "write online to /sys/...", "monitor device_del d0", "allocate
        anon 64M".
    :param pid: of the process that asked, as this process sees it; 0 when it cannot be seen from
        here.
    :param comm: its name, as in /proc/PID/comm; empty when it has ended or cannot be seen.
    """

    what: str
    pid: int
    comm: str | None = None  # not asked yet


_of_threads: dict[int, Cause] = {}
_asked_last: tuple[int, str, float] = (0, "", 0.0)  # pid, comm and when


class _Meanwhile:
    """Has this thread's work a cause while it is entered. A class, because every write to a file
    enters one.
    """

    __slots__ = ("_before", "_cause", "_thread")

    def __init__(self, cause: Cause | None) -> None:
        self._cause = cause

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._before = _of_threads.get(self._thread)
        if self._cause is not None:
            _of_threads[self._thread] = self._cause

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _of_threads[self._thread] = self._before
        else:
            _of_threads.pop(self._thread, None)


def caused_by(what: str, pid: int | None = None) -> AbstractContextManager[None]:
    """Name the cause of what this thread does meanwhile: a context manager.

    :param pid: of the process that asked for it; None: that of the cause there is already.
    """
    if pid is not None:
        return _Meanwhile(Cause(what[:TEXT_LIMIT], pid))
    now = current()
    return _Meanwhile(
        Cause(what[:TEXT_LIMIT], now.pid, now.comm) if now else Cause(what[:TEXT_LIMIT], 0)
    )


def resumed(cause: Cause | None) -> AbstractContextManager[None]:
    """Let what this thread does meanwhile have a cause that was current() elsewhere: a context
    manager.
    """
    return _Meanwhile(cause)


def current() -> Cause | None:
    """The cause of what this thread does, if it has a name."""
    return _of_threads.get(threading.get_ident())


def of_thread(thread: int) -> Cause | None:
    """The cause of what a thread does now, with the name of the process that asked.

    :param thread: as threading.get_ident() gives it.
    """
    cause = _of_threads.get(thread)
    if cause is None or cause.comm is not None:
        return cause
    named = cause._replace(comm=_comm(cause.pid))
    if _of_threads.get(thread) is cause:  # else it has gone on to other work meanwhile
        _of_threads[thread] = named
    return named


def _comm(pid: int) -> str:
    # A program in a loop of writes would wait for this almost as long as for the write.
    global _asked_last
    last_pid, comm, then = _asked_last
    now = time.monotonic()
    if pid == last_pid and now - then < SAME_SECONDS:
        return comm
    comm = _read_comm(pid)
    _asked_last = pid, comm, now
    return comm


def _read_comm(pid: int) -> str:
    if pid <= 0:
        return ""
    try:
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)
