"""The monitor on a Unix socket: QMP for many clients, none of which can hold up or upset another,
HMP for one after another.

Owns: the socket and its file, the clients, whose turn it is, what each is still owed, and who is
hung up on. Does not own: what is said (qmp.py, hmp_session.py).

There is one thread for the sockets, and one that carries out commands, one command at a time, the
clients in turn. A client that sends faster than it is answered is not read from meanwhile; one that
sends a message without end, or does not fetch what it is sent, is hung up on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import stat
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from ..errors import EnvironmentProblem
from ..events import caused_by
from .board import Board
from .hmp_session import History, HmpSession
from .host_events import HostEvent
from .monitor import QUIT_PATIENCE, Monitor
from .qmp import QmpSession, event_message

__all__ = ["MonitorServer", "serve", "serve_hmp", "serve_qmp"]

CLIENT_LIMIT: Final = 256
READ_SIZE: Final = 1 << 16
TURN_SIZE: Final = 1 << 12  # looked at before it is the next client's turn
INPUT_HIGH: Final = 1 << 16  # not read from while more than this waits to be carried out
# nothing is carried out for a client while more than this waits to be fetched
OUTPUT_HIGH: Final = 1 << 18
OUTPUT_LIMIT: Final = 1 << 22  # hung up on when more than this does
EVENT_PAUSE: Final = 0.002  # seconds between two looks whether a client has read its reply
EVENT_PATIENCE: Final = 0.25  # an event waits no longer for that


class _Session(Protocol):
    """A conversation, as the server needs it: see QmpSession."""

    @property
    def negotiated(self) -> bool: ...
    @property
    def flooded(self) -> bool: ...
    def __len__(self) -> int: ...
    def greeting(self) -> bytes: ...
    def feed(self, data: bytes) -> None: ...
    def step(self) -> bytes | None: ...


class _Language(NamedTuple):
    """What a server speaks.

    :param name: in messages.
    :param clients: at a time.
    :param others_wait: further clients are not hung up on, but wait for their turn.
    :param session: makes a client's conversation.
    """

    name: str
    clients: int
    others_wait: bool
    session: Callable[[Monitor], _Session]


class _Connection:
    """A client of the server. `session` belongs to the command thread, all else to the server's
    lock.
    """

    __slots__ = (
        "broken", "ended", "events", "events_since", "inbox", "outbox", "peer", "queued", "session", "sock", "unfinished",
        "watched",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, session: _Session) -> None:
        self.sock = sock
        self.session = session
        # The process at the other end; 0: not of this pid namespace.
        self.peer = int.from_bytes(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder
        )
        self.inbox = bytearray()
        self.outbox = bytearray(session.greeting())
        self.events = bytearray()  # not sent yet; see MonitorServer._owe_events
        self.events_since = 0.0
        self.queued = False  # waits for the command thread, or has it
        self.unfinished = False  # there may be whole commands in `session`
        # the client sends no more, or is to be hung up on: close when the outbox is empty
        self.ended = False
        self.broken = False  # close now
        self.watched = 0  # what the selector watches it for


class MonitorServer:
    """The monitor on a Unix socket, until `close()`. Made by serve_qmp() and serve_hmp()."""

    def __init__(self, path: str, monitor: Monitor, language: _Language) -> None:
        self._language = language
        self._path = os.path.abspath(path)
        self._monitor = monitor
        self._listener, self._identity = _listen(self._path, path, language)
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_end.setblocking(False)
        self._lock = threading.Lock()
        self._ready_changed = threading.Condition(self._lock)
        self._ready: deque[_Connection] = deque()  # with something to carry out, in turn
        self._current: _Connection | None = None
        self._connections: set[_Connection] = set()
        self._closing = False
        self._end_at: float | None = None  # when `quit` was said: hang up on everybody by then
        self._gone = threading.Event()  # everybody has been hung up on
        self._listens = False
        self._watch_listener()
        self._selector.register(self._wakeup_end, selectors.EVENT_READ)
        self._unsubscribes = [
            monitor.board.subscribe(self._on_event),
            monitor.watch_quit(self._on_quit),
        ]
        self._threads = [
            threading.Thread(target=self._serve, name=language.name.lower(), daemon=True),
            threading.Thread(
                target=self._carry_out, name=f"{language.name.lower()}-commands", daemon=True
            ),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def path(self) -> str:
        """Where it listens: an absolute path."""
        return self._path

    def __enter__(self) -> MonitorServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, hang up on the clients, remove the socket's file if it is still ours."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        with self._lock:
            self._closing = True
            self._ready.clear()
            self._ready_changed.notify_all()
        self._wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5.0)
        _remove(self._path, self._identity)

    # --------------------------------------------------------------------------- the command thread

    def _carry_out(self) -> None:
        while True:
            with self._lock:
                while not self._ready and not self._closing:
                    self._ready_changed.wait()
                if self._closing:
                    return
                connection = self._current = self._ready.popleft()
                data = bytes(connection.inbox[:TURN_SIZE])
                del connection.inbox[:TURN_SIZE]
                if data:
                    # older than this command: before its reply
                    connection.outbox += connection.events
                    connection.events.clear()
            session = connection.session
            session.feed(data)
            with caused_by(self._language.name.lower(), connection.peer):
                reply = None if connection.broken else session.step()
            with self._lock:
                self._current = None
                connection.queued = False
                if reply is not None:
                    connection.outbox += reply
                connection.unfinished = reply is not None and not session.flooded
                connection.ended |= session.flooded
                self._queue(connection)
            self._wake()

    def _queue(self, connection: _Connection) -> None:
        """Put a client in line if there is something to do, and not much for it to fetch. Called
        with the lock held.
        """
        todo = connection.inbox or connection.unfinished
        if (
            todo
            and not connection.queued
            and not connection.broken
            and len(connection.outbox) <= OUTPUT_HIGH
        ):
            connection.queued = True
            self._ready.append(connection)
            self._ready_changed.notify()

    def _on_event(self, event: HostEvent) -> None:
        self._broadcast(event_message(event.time_us, event.name, event.data))

    def _on_quit(self, reason: str) -> threading.Event:
        data = {"guest": False, "reason": reason}
        self._broadcast(event_message(time.time_ns() // 1000, "SHUTDOWN", data))
        with self._lock:
            self._end_at = time.monotonic() + QUIT_PATIENCE
        self._wake()
        return self._gone

    def _broadcast(self, message: bytes) -> None:
        with self._lock:
            for connection in self._connections:
                if not connection.session.negotiated:
                    continue
                if not connection.events:
                    connection.events_since = time.monotonic()
                connection.events += message
                if len(connection.outbox) + len(connection.events) > OUTPUT_LIMIT:
                    connection.broken = True
        self._wake()

    def _owe_events(self, connection: _Connection) -> None:
        """Let events follow the replies before them, once the client has read those. Called with
        the lock held.

        A guest takes a while, so with QEMU an event never arrives in one piece with the reply of
        the command that caused it, and there are clients that lose what does: Python's text files
        drop what they have read ahead at each write.
        """
        if not connection.events or connection.outbox or connection is self._current:
            return
        unread = int.from_bytes(
            fcntl.ioctl(connection.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder
        )
        if unread == 0 or time.monotonic() >= connection.events_since + EVENT_PATIENCE:
            connection.outbox += connection.events
            connection.events.clear()

    # ---------------------------------------------------------------------------- the socket thread

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake enough, or gone
            self._wakeup.send(b"w")

    def _serve(self) -> None:
        try:
            while self._look():
                pass
        finally:
            with self._lock:
                connections, self._connections = self._connections, set()
            for connection in connections:
                connection.sock.close()
            self._selector.close()
            self._listener.close()
            self._wakeup.close()
            self._wakeup_end.close()
            self._gone.set()

    def _look(self) -> bool:
        """Wait for something to do and do it. False when it is all over."""
        wait = None if self._end_at is None else max(0.0, self._end_at - time.monotonic())
        with self._lock:
            if any(connection.events and not connection.outbox for connection in self._connections):
                wait = EVENT_PAUSE  # until the client has read what came before
        for key, mask in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wakeup_end:
                self._wakeup_end.recv(4096)
            elif mask & selectors.EVENT_READ:
                self._read(key.data)
        with self._lock:
            if self._closing:
                return False
            finished = [
                connection for connection in self._connections if not self._attend(connection)
            ]
            self._connections.difference_update(finished)
            self._watch_listener()
            over = self._end_at is not None and (
                time.monotonic() >= self._end_at
                or (
                    not any(c.outbox or c.events or c.queued for c in self._connections)
                    and self._current is None
                )
            )
            if over:
                self._closing = True
                self._ready.clear()
                self._ready_changed.notify_all()
        return not over

    def _watch_listener(self) -> None:
        """Take no notice of clients that have to wait."""
        wanted = not self._language.others_wait or len(self._connections) < self._language.clients
        if wanted and not self._listens:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._listens and not wanted:
            self._selector.unregister(self._listener)
        self._listens = wanted

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            time.sleep(0.01)  # out of file descriptors, say; do not spin
            return
        if len(self._connections) >= self._language.clients:
            sock.close()
            return
        sock.setblocking(False)
        with self._lock:
            self._connections.add(_Connection(sock, self._language.session(self._monitor)))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            connection.broken = True
            return
        with self._lock:
            if data:
                connection.inbox += data
                self._queue(connection)
            else:
                connection.ended = True

    def _attend(self, connection: _Connection) -> bool:
        """Send what a client is owed and decide what to wait for next. False when it is gone.
        Called with the lock.
        """
        if not connection.broken:
            self._owe_events(connection)
        if connection.outbox and not connection.broken:
            try:
                sent = connection.sock.send(connection.outbox)
                del connection.outbox[:sent]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                connection.broken = True
        if connection.session.flooded:
            connection.inbox.clear()
        self._queue(connection)  # it may have been left out while it had much to fetch
        idle = not (connection.queued or connection.inbox or connection.unfinished)
        done = connection.ended and idle and (not connection.outbox or connection.session.flooded)
        if connection.broken or done:
            if connection.watched:
                self._selector.unregister(connection.sock)
            connection.sock.close()
            connection.broken = True
            return False
        want = 0
        if connection.outbox:
            want |= selectors.EVENT_WRITE
        room = idle or len(connection.inbox) + len(connection.session) <= INPUT_HIGH
        if room and not connection.ended and len(connection.outbox) <= OUTPUT_HIGH:
            want |= selectors.EVENT_READ
        if want != connection.watched:
            if not connection.watched:
                self._selector.register(connection.sock, want, connection)
            elif not want:
                self._selector.unregister(connection.sock)
            else:
                self._selector.modify(connection.sock, want, connection)
            connection.watched = want
        return True


def serve_qmp(
    path: str, board: Board | Monitor, on_quit: Callable[[], object] | None = None
) -> MonitorServer:
    """Serve QMP on a Unix socket, readable and writable by its owner alone, in threads of its own.

    :param path: where; a socket nobody listens at any more is replaced, everything else there is
        left alone.
    :param board: the machine's DIMM slots, or a Monitor of them.
    :param on_quit: called when a client has said `quit` and the clients have been hung up on, on a
        thread of its own.
    :raises EnvironmentProblem: something is there already, or no socket can be made there.
    """
    language = _Language("QMP", CLIENT_LIMIT, others_wait=False, session=QmpSession)
    return MonitorServer(
        path, board if isinstance(board, Monitor) else Monitor(board, on_quit), language
    )


def serve_hmp(path: str, monitor: Monitor) -> MonitorServer:
    """Serve HMP on a Unix socket, as serve_qmp() does QMP, but to one client at a time; others wait
    until it hangs up.

    So does QEMU, with one screen and one history for all who come. Only that more can wait than
    QEMU lets.

    :raises EnvironmentProblem: as serve_qmp().
    """
    history = History()
    language = _Language(
        "HMP", 1, others_wait=True, session=lambda monitor: HmpSession(monitor, history)
    )
    return MonitorServer(path, monitor, language)


def serve(name: str, path: str, monitor: Monitor) -> MonitorServer:
    """Serve "qmp" or "hmp"."""
    return serve_hmp(path, monitor) if name == "hmp" else serve_qmp(path, monitor)


def _listen(path: str, shown: str, language: _Language) -> tuple[socket.socket, tuple[int, int]]:
    """A socket that listens at `path`, and the identity of its file."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode the socket had; no umask to race with
        os.fchmod(listener.fileno(), 0o600)
        if os.path.lexists(path):
            _remove_stale(path, shown, language)
        listener.bind(path)
        listener.listen(CLIENT_LIMIT)
        listener.setblocking(False)
        status = os.lstat(path)
        return listener, (status.st_dev, status.st_ino)
    except OSError as e:
        listener.close()
        reason = e.strerror or str(e)
        raise _cannot_make(language, shown, reason, "choose") from None
    except BaseException:
        listener.close()
        raise


def _remove_stale(path: str, shown: str, language: _Language) -> None:
    """Remove the socket of a program that has ended.

    :raises EnvironmentProblem: it is no socket, or somebody listens.
    """
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        raise _cannot_make(language, shown, "a file of that name exists", "remove it or choose")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _remove(path, (status.st_dev, status.st_ino))
            return
        except OSError:
            pass
    raise _cannot_make(language, shown, "another program listens there", "choose")


def _cannot_make(language: _Language, shown: str, why: str, advice: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"cannot make the {language.name} socket {shown}: {why}",
        f"{advice} another --{language.name.lower()} path",
    )


def _remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the file if it is the one meant."""
    with contextlib.suppress(OSError):  # somebody else has removed it, or its directory
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
