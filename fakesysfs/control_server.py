"""The side of a running instance in the protocol of control.py.

Owns: reading requests, calling their handlers, and replies. Does not own what a request means: a
`Server` is given named handlers (instance_requests.py).

Threads: a server has one per listening socket and one per connection, all daemons.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress

from .control import MESSAGE_BYTES, as_line, is_own, peer
from .errors import FakesysfsError, InstanceError, MonitorError
from .events import caused_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Handler = Callable[..., Any]

# What a handler raises that is the client's to know: what the simulated kernel or a check said, or
# a bad argument.
REFUSALS = (
    OSError,
    FakesysfsError,
    AssertionError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class Descriptors(dict[str, int]):
    """What a handler returns to give the client open files, by their names. They are closed here,
    sent or not.
    """


class Server:
    """Answers requests by named handlers.

    A handler is called with the arguments of the request, in the connection's thread; it returns
    something that JSON can say, or yields such things. What it raises of OSError and FakesysfsError
    is raised at the client's.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def serve(self, listener: socket.socket) -> None:
        """Answer at `listener` from now on, in threads."""
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return  # closed
                time.sleep(0.01)  # out of file descriptors, say; do not spin
                continue
            if is_own(peer(connection)[1]):
                try:
                    threading.Thread(
                        target=self._talk, args=(connection,), name="control", daemon=True
                    ).start()
                except RuntimeError:  # there can be no new thread, for now
                    connection.close()
                continue
            with suppress(OSError), connection:
                connection.setblocking(False)
                connection.send(
                    as_line({"error": {"type": "InstanceError", "text": "belongs to another user"}})
                )

    def _talk(self, connection: socket.socket) -> None:
        # An OSError: the client hung up, maybe before it was told all.
        with suppress(OSError), connection, connection.makefile("rwb") as file:
            _say(file, {"fakesysfs": 1})
            while line := file.readline(MESSAGE_BYTES + 1):
                if len(line) > MESSAGE_BYTES:
                    _say(
                        file,
                        {"error": _described(ValueError(f"longer than {MESSAGE_BYTES} bytes"))},
                    )
                    return
                self._answer(connection, file, line)

    def _answer(self, connection: socket.socket, file: Any, line: bytes) -> None:
        try:
            result = self._result(connection, line)
        except REFUSALS as e:
            _say(file, {"error": _described(e)})
            return
        if isinstance(result, Descriptors):
            try:
                socket.send_fds(
                    connection, [as_line({"return": list(result)})], list(result.values())
                )
            finally:
                for fd in result.values():
                    os.close(fd)
        elif hasattr(result, "__next__"):
            self._stream(connection, file, result)
        else:
            _say(file, {"return": result})

    def _stream(self, connection: socket.socket, file: Any, items: Iterator[Any]) -> None:
        while True:
            try:
                item = next(items)
            except StopIteration:
                _say(file, {"end": True})
                return
            except REFUSALS as e:
                _say(file, {"error": _described(e)})
                return
            if item is not None:
                file.write(as_line({"item": item}))
                continue
            # A follower yields None before it waits, and now and then meanwhile: is anybody still
            # there?
            file.flush()
            if _hung_up(connection):
                return

    def _result(self, connection: socket.socket, line: bytes) -> Any:
        """What the handler returns that a request names."""
        request = json.loads(line)
        if not isinstance(request, dict):
            raise TypeError("it is no object")
        do, args, options = request.get("do"), request.get("args", []), request.get("options", {})
        if not isinstance(do, str) or not isinstance(args, list) or not isinstance(options, dict):
            raise TypeError('"do" is text, "args" a list, "options" an object')
        handler = self._handlers.get(do)
        if handler is None:
            raise InstanceError(f"unknown request {do!r}")
        what = [
            do,
            *args,
            *(f"{key}={value}" for key, value in options.items() if value is not None),
        ]
        with caused_by(" ".join(map(str, what)), peer(connection)[0]):
            return handler(*args, **options)


def _say(file: Any, message: dict[str, Any]) -> None:
    file.write(as_line(message))
    file.flush()


def _hung_up(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _described(e: Exception) -> dict[str, Any]:
    if isinstance(e, OSError):
        path = [e.filename] if isinstance(e.filename, str) else []
        return {"type": "OSError", "errno": e.errno, "text": e.strerror or str(e), "path": path}
    if isinstance(e, MonitorError):
        return {"type": "MonitorError", "text": e.desc, "class": e.klass}
    if isinstance(e, FakesysfsError):
        return {"type": type(e).__name__, "text": str(e)}
    return {
        "type": "InstanceError",
        "text": str(e) if isinstance(e, AssertionError) else f"bad request: {e}",
    }
