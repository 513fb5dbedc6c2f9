"""Events: how they are delivered to subscribers, and which process caused them.

Owns: the one loop that calls subscribers, for the events of a machine and for those of its host;
the cause of each thread's work, and how a cause finds its way into another thread. Does not own
what happens (the engine, which records the machine's events; qemu/, which makes the host's).

    with caused_by("write online to /sys/devices/system/memory/memory32/state", pid):
        machine.write(...)    # the engine writes the number of this thread into each event;
                              # the thread that takes the events asks here for its cause
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")

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


class Event(NamedTuple):
    """Something that happened in the machine.

    :param seq: 1 for the first event of the machine, and so on without gaps.
    :param time_us: the machine's clock, in microseconds.
    :param kind: "uevent", "store" (a file was written), "state" (a block changed), "ost" (somebody
        inside the guest asked for an eject: slot, source), "page", "fault" (a fault rule fired) or
        "virtio-mem" (see Machine.virtio_mem_work()).
    :param path: the file or device in question.
    :param data: what was written, the action, the state, the rule ...
    :param errno: with what it failed; 0 when it did not.
    :param payload: of a uevent: the header and the KEY=value strings, without SEQNUM.
    :param verdict: of a uevent: what fault rules have for it on its way to the listeners: "",
        "drop", "duplicate", "reorder" or "delay", and for how many microseconds.
    :param cause: what was asked for, and by whom; None when nobody named it, see caused_by().
    """

    seq: int
    time_us: int
    kind: str
    path: str
    data: str
    errno: int
    payload: tuple[str, ...]
    verdict: tuple[str, int] = ("", 0)
    cause: Cause | None = None


class Delivery(Generic[Item]):
    """Calls subscribers with events, one event at a time and in order, whatever the number of
    threads.

    An exception of a subscriber is logged and changes nothing. A subscriber may cause events: they
    are delivered after it has returned. It must not wait for another thread that delivers with
    `wait`, because that thread waits for it.

    :param take: returns the events that were recorded elsewhere since it was last called; it is
        called by one thread at a time. Without it, there are those given to put().
    :param keep: how many of the newest delivered events to remember.
    """

    def __init__(self, take: Callable[[], Iterable[Item]] | None = None, keep: int = 0) -> None:
        self._take = take
        self._recent: deque[Item] = deque(maxlen=keep)
        self._queue: deque[Item] = deque()  # not delivered yet
        self._subscribers: tuple[Callable[[Item], object], ...] = ()
        self._changing = threading.Lock()  # of the subscribers
        self._turn = threading.RLock()  # held while subscribers run
        self._delivering = False
        self._process = os.getpid()

    def subscribe(self, subscriber: Callable[[Item], object]) -> Callable[[], None]:
        """Call `subscriber` with every event from now on.

        :returns: a function that ends the subscription, as unsubscribe().
        """
        with self._changing:
            self._subscribers += (subscriber,)
        return lambda: self.unsubscribe(subscriber)

    def unsubscribe(self, subscriber: Callable[[Item], object]) -> None:
        """Call `subscriber` with no further event; nothing happens when it was not subscribed. A
        call that another thread is making may not have ended.
        """
        with self._changing:
            # == and not `is`: a method of an object is another object at each look, but an equal
            # one.
            self._subscribers = tuple(known for known in self._subscribers if known != subscriber)

    def clear(self) -> None:
        """End all subscriptions, as unsubscribe()."""
        with self._changing:
            self._subscribers = ()

    def recent(self) -> list[Item]:
        """Return the newest events that were delivered, oldest first."""
        return list(self._recent.copy())

    def put(self, event: Item) -> None:
        """Queue an event, which the next deliver() delivers."""
        self._queue.append(event)

    def deliver(self, wait: bool = True) -> None:
        """Deliver what was recorded so far.

        :param wait: return only when the caller's events are delivered, perhaps by another thread.
            Without it, a thread that is delivering may be left to go on. Called by a subscriber it
            returns at once: the loop that called the subscriber goes on with the events. In a
            process that fork() made it does nothing: a thread of the other one may have the turn.
        """
        if os.getpid() != self._process:
            return
        while self._turn.acquire(blocking=wait):
            try:
                if self._delivering:
                    return
                self._delivering = True
                try:
                    self._call_subscribers()
                finally:
                    self._delivering = False
            finally:
                self._turn.release()
            if not self._queue:  # else put() came after the last look, and its caller did not wait
                return

    def wait(self) -> None:
        """Wait for a call of a subscriber that another thread is making, if there is one."""
        with self._turn:
            pass

    def _call_subscribers(self) -> None:
        while self._queue or self._fill_queue():
            event = self._queue.popleft()
            self._recent.append(event)
            for subscriber in self._subscribers:
                try:
                    subscriber(event)
                except Exception:
                    import logging  # rarely needed, and importing it takes time

                    logging.getLogger(__name__).exception("a subscriber failed at %r", event)

    def _fill_queue(self) -> bool:
        if self._take is not None:
            self._queue.extend(self._take())
        return bool(self._queue)


_of_threads: dict[int, Cause] = {}
_asked_last: tuple[int, str, float] = (0, "", 0.0)  # pid, comm and when


class _ThreadCause:
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
        return _ThreadCause(Cause(what[:TEXT_LIMIT], pid))
    now = current()
    return _ThreadCause(
        Cause(what[:TEXT_LIMIT], now.pid, now.comm) if now else Cause(what[:TEXT_LIMIT], 0)
    )


def resumed(cause: Cause | None) -> AbstractContextManager[None]:
    """Let what this thread does meanwhile have a cause that was current() elsewhere: a context
    manager.
    """
    return _ThreadCause(cause)


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
