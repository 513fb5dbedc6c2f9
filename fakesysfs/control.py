"""How a second command finds a running instance and speaks to it.

Owns: the names of instances, the socket each listens at, who may connect, and the protocol. An instance listens at the
abstract Unix socket "fakesysfs/UID/ID", which is no file, disappears with its process and stands in /proc/net/unix for
everybody in the network namespace to see; `run` listens in the caller's namespace and in its own. Only the same user
and root are answered (SO_PEERCRED). Does not own: what the requests mean; whoever starts a `Server` gives it named
handlers, and machine_handlers() has those every instance offers.

Protocol: the server greets with one line of JSON. A request is one line, {"do": NAME, "args": [], "options": {}} with the
handler's arguments by position and by name; the reply is {"return": VALUE}, or a line {"item": VALUE} each and
{"end": true} from a handler that is a generator, or {"error": {...}}, which the client raises as the exception it was.

Threads: a server has one per listening socket and one per connection, all daemons. Importing this file is cheap on
purpose: `fakesysfs dmesg` is asked for very often.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .machine import Event, Machine

    Handler = Callable[..., Any]

PREFIX = "fakesysfs/"
VARIABLE = "FAKESYSFS"  # the environment variable that names the instance inside `run`
GREETING_SECONDS = 10.0
DESCRIPTORS_MAX = 8  # open files in one reply
ANSWER_SECONDS = 2.0  # of several that are asked one after the other


class Instance:
    """One running instance, by its name "fakesysfs/UID/ID"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid, self.id = (int(part) if part.isdigit() else -1 for part in name.removeprefix(PREFIX).split("/"))

    def __repr__(self) -> str:
        return f"Instance({self.name!r})"


def instances() -> list[Instance]:
    """Those that listen in this network namespace, of every user, in no order."""
    found = []
    with open("/proc/net/unix", encoding="ascii", errors="replace") as sockets:
        for line in sockets:
            head, at, name = line.rstrip("\n").partition(f" @{PREFIX}")
            listening = at and int(head.split()[3], 16) & 0x10000  # __SO_ACCEPTCON
            if listening and name.count("/") == 1 and name.replace("/", "").isdigit():
                found.append(Instance(PREFIX + name))
    return found


def listen_as(name: str) -> socket.socket:
    """A listening socket of instance `name` in this network namespace.

    :raises OSError: EADDRINUSE when there is one.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"\0{name}")
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


def listen(identity: int, uid: int) -> tuple[socket.socket, str]:
    """A listening socket in this network namespace, and the name of the instance.

    :param identity: a number to try first, such as a process id; others follow when it is taken.
    """
    while True:
        name = f"{PREFIX}{uid}/{identity}"
        try:
            return listen_as(name), name
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
            identity += 1 << 22  # beyond any process id


def environment(name: str) -> dict[str, str]:
    """The environment of a command inside instance `name`, from this process's."""
    import sys

    # sd-device would refuse devices that are not on a sysfs.
    found = {**os.environ, VARIABLE: name, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    # The command may want to ask the instance something, and a virtual environment need not be active. At the end of
    # PATH it hides nothing.
    scripts = os.path.dirname(sys.executable)
    path = found.get("PATH", os.defpath)
    if os.access(os.path.join(scripts, "fakesysfs"), os.X_OK) and scripts not in path.split(":"):
        found["PATH"] = f"{path}:{scripts}"
    return found


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as this pid and user namespace see them; the process is 0 if they do not."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("iII", data)
    return pid, uid


# --------------------------------------------------------------------------------------------------- the client's side


class Client:
    """A connection to an instance.

    :param seconds: how long to wait for its greeting; an instance that is just starting greets when it is ready. None:
        the caller will say greet(), when fileno() can be read.
    :raises InstanceError: there is none of that name, it belongs to another user, or it does not answer.
    """

    def __init__(self, name: str, seconds: float | None = GREETING_SECONDS) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A line of others that wait at one that does not answer is no reason to wait for ever.
        self._socket.setblocking(False)
        end = time.monotonic() + (seconds or 0)
        while not self._connected():
            if time.monotonic() >= end:
                raise self._error("does not answer")
            time.sleep(0.01)
        if seconds is not None:
            self.greet(seconds)

    def _connected(self) -> bool:
        """Connect; False when the line there is full."""
        uid = Instance(self.name).uid
        # Root speaks to a user's instance as that user: it may be in a user namespace that does not know root.
        become = os.geteuid() == 0 and uid > 0 and _is_mapped(uid)
        try:
            if become:
                os.seteuid(uid)
            try:
                self._socket.connect(f"\0{self.name}")
            finally:
                if become:
                    os.seteuid(0)
            mine = peer(self._socket)[1] in (0, os.geteuid(), uid if become else 0)
        except BlockingIOError:
            return False
        except OSError as e:
            raise self._error(f"does not answer: {e.strerror}") from None
        if not mine:
            raise self._error("belongs to another user")
        self._file = self._socket.makefile("rwb")
        return True

    def fileno(self) -> int:
        """The socket, to wait for."""
        return self._socket.fileno()

    def greet(self, seconds: float) -> None:
        """Wait for the greeting. To be called once, before anything else.

        :raises InstanceError: it does not come, or it is a refusal.
        """
        self._socket.settimeout(seconds)
        try:
            greeting = self._file.readline()
        except TimeoutError:
            raise self._error("does not answer") from None
        except OSError as e:
            raise self._error(f"does not answer: {e.strerror}") from None
        if not greeting:
            raise self._error("refused the connection, or ended")
        self._socket.settimeout(None)
        hello = json.loads(greeting)
        if "error" in hello:
            raise self._error(hello["error"]["text"])

    def _error(self, what: str) -> Exception:
        from .errors import InstanceError

        return InstanceError(f"instance {self.name} {what}")

    def call(self, do: str, *args: Any, **options: Any) -> Any:
        """What handler `do` returns.

        :raises OSError: what the simulated kernel refused, as the handler raised it.
        :raises FakesysfsError: MonitorError, ConfigError, ... as the handler raised it; InstanceError when the
            instance ended meanwhile.
        """
        self._send(do, args, options)
        return self._receive()["return"]

    def stream(self, do: str, *args: Any, **options: Any) -> Iterator[Any]:
        """What generator `do` yields, as it comes."""
        self._send(do, args, options)
        while "item" in (reply := self._receive()):
            yield reply["item"]

    def descriptors(self, do: str) -> dict[str, int]:
        """The open files that handler `do` returns, by their names."""
        self._send(do, (), {})
        try:
            line, files, _, _ = socket.recv_fds(self._socket, 1 << 16, DESCRIPTORS_MAX)
        except OSError:
            line, files = b"", []
        for fd in files:
            os.set_inheritable(fd, False)  # the flag for it is not passed on by every Python
        while line and not line.endswith(b"\n"):
            line += self._socket.recv(1 << 16)
        return dict(zip(self._understood(line)["return"], files, strict=True))

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def wait_end(self, seconds: float) -> bool:
        """True when the instance has ended within that time."""
        self._socket.settimeout(seconds)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def _send(self, do: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps({"do": do, "args": args, "options": options}).encode() + b"\n")
            self._file.flush()
        except OSError:
            raise self._error("ended") from None

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except OSError:
            line = b""
        return self._understood(line)

    def _understood(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise self._error("ended before it answered")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise _exception(reply["error"])
        return reply


def connect(which: str | None = None) -> Client:
    """A connection to the instance meant.

    :param which: a directory, a QMP or HMP socket, a name or the number at its end; None: $FAKESYSFS, else the only one there.
    :raises InstanceError: none, several, or no answer.
    """
    from .errors import InstanceError

    named = which or os.environ.get(VARIABLE)
    if named and named.lstrip("@").startswith(PREFIX) and named.count("/") == 2:
        return Client(named.lstrip("@"))
    running = instances()
    if named:
        by_number = [i for i in running if str(i.id) == named]
        if by_number:
            return Client(by_number[0].name)
        for client, served in _answering(running):
            # One of an older fakesysfs has no "hmp".
            if os.path.realpath(named) in (served["directory"], served["qmp"], served.get("hmp")):
                return client
            client.close()
        raise InstanceError(f"there is no instance {named}; {_listed(running)}")
    mine = [i for i in running if i.uid == os.geteuid()] or running
    if not mine:
        raise InstanceError("no instance is running; start one: fakesysfs run -- bash, or fakesysfs mount DIR")
    if len(mine) > 1:
        raise InstanceError(f"several instances are running, choose one with --instance; {_listed(mine)}")
    return Client(mine[0].name)


def _answering(running: list[Instance]) -> Iterator[tuple[Client, dict[str, Any]]]:
    """Connections to those that answer, the first that does first, and what each says of itself."""
    import select

    from .errors import InstanceError

    waiting: dict[int, Client] = {}
    poll = select.poll()
    for instance in running:
        with suppress(InstanceError):
            client = Client(instance.name, None)
            waiting[client.fileno()] = client
            poll.register(client, select.POLLIN)
    end = time.monotonic() + ANSWER_SECONDS
    while waiting and (ready := poll.poll(max(0.0, end - time.monotonic()) * 1000)):
        for fd, _ in ready:
            poll.unregister(fd)
            client = waiting.pop(fd)
            with suppress(InstanceError):  # it may be ending
                client.greet(ANSWER_SECONDS)
                yield client, client.call("info")


def _listed(running: list[Instance]) -> str:
    if not running:
        return "none is running"
    descriptions = []
    for client, served in _answering(running):
        descriptions.append(f"{client.name.rpartition('/')[2]} ({served['directory'] or served['command']})")
        client.close()
    return "running: " + (", ".join(sorted(descriptions)) or "none that answers")


def _is_mapped(uid: int) -> bool:
    """Whether this user namespace has a user of that number."""
    with open("/proc/self/uid_map", encoding="ascii") as ranges:
        return any(int(a) <= uid < int(a) + int(n) for a, _, n in (line.split() for line in ranges))


def _exception(error: dict[str, Any]) -> Exception:
    from . import errors

    if error["type"] == "OSError":
        return OSError(error["errno"], error["text"], *error["path"])
    if error["type"] == "MonitorError":
        return errors.MonitorError(error["text"], error["class"])
    kind = getattr(errors, error["type"], errors.InstanceError)
    made: Exception = kind(error["text"])
    return made


# --------------------------------------------------------------------------------------------------- the server's side


class Descriptors(dict[str, int]):
    """What a handler returns to give the client open files, by their names. They are closed here, sent or not."""


class Server:
    """Answers requests by named handlers.

    A handler is called with the arguments of the request, in the connection's thread; it returns something
    that JSON can say, or yields such things. What it raises of OSError and FakesysfsError is raised at the client's.
    """

    def __init__(self, handlers: dict[str, Handler] | None = None) -> None:
        self._handlers = dict(handlers or {})

    def add(self, name: str, handler: Handler) -> None:
        """Offer one more request, or replace one."""
        self._handlers[name] = handler

    def serve(self, listener: socket.socket) -> None:
        """Answer at `listener` from now on, in threads."""
        import threading

        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        import threading

        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return  # closed
                time.sleep(0.01)  # out of file descriptors, say; do not spin
                continue
            threading.Thread(target=self._talk, args=(connection,), name="control", daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        # An OSError: the client hung up, maybe before it was told all.
        with suppress(OSError), connection, connection.makefile("rwb") as file:
            if peer(connection)[1] not in (0, os.geteuid()):
                _say(file, {"error": {"type": "InstanceError", "text": "belongs to another user"}})
                return
            _say(file, {"fakesysfs": 1})
            while line := file.readline():
                self._answer(connection, file, line)

    def _answer(self, connection: socket.socket, file: Any, line: bytes) -> None:
        from .cause import caused_by
        from .errors import FakesysfsError, InstanceError

        try:
            request = json.loads(line)
            handler = self._handlers.get(request["do"])
            if handler is None:
                raise InstanceError(f"unknown request {request['do']!r}")
            args, options = request.get("args", ()), request.get("options", {})
            what = [request["do"], *args, *(f"{key}={value}" for key, value in options.items() if value is not None)]
            with caused_by(" ".join(map(str, what)), peer(connection)[0]):
                result = handler(*args, **options)
        except (OSError, FakesysfsError, AssertionError, KeyError, TypeError, ValueError) as e:
            _say(file, {"error": _described(e)})
            return
        if isinstance(result, Descriptors):
            try:
                socket.send_fds(connection, [_line({"return": list(result)})], list(result.values()))
            finally:
                for fd in result.values():
                    os.close(fd)
            return
        if not hasattr(result, "__next__"):
            _say(file, {"return": result})
            return
        for item in result:
            if item is not None:
                file.write(_line({"item": item}))
                continue
            # A follower yields None before it waits, and now and then meanwhile: is anybody still there?
            file.flush()
            if _hung_up(connection):
                return
        _say(file, {"end": True})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _say(file: Any, message: dict[str, Any]) -> None:
    file.write(_line(message))
    file.flush()


def _hung_up(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _described(e: Exception) -> dict[str, Any]:
    from .errors import FakesysfsError, MonitorError

    if isinstance(e, OSError):
        path = [e.filename] if isinstance(e.filename, str) else []
        return {"type": "OSError", "errno": e.errno, "text": e.strerror or str(e), "path": path}
    if isinstance(e, MonitorError):
        return {"type": "MonitorError", "text": e.desc, "class": e.klass}
    if isinstance(e, FakesysfsError):
        return {"type": type(e).__name__, "text": str(e)}
    return {"type": "InstanceError", "text": str(e) if isinstance(e, AssertionError) else f"bad request: {e}"}


class EventLog:
    """The newest events of a machine, for readers that come later or follow."""

    def __init__(self, machine: Machine) -> None:
        import threading

        self._machine = machine
        self._newest = 0  # number of the newest event
        self._changed = threading.Condition()
        machine.subscribe(self._notice)

    def _notice(self, event: Event) -> None:
        with self._changed:
            self._newest = event.seq
            self._changed.notify_all()

    def read(self, since: int = 0, follow: bool = False) -> Iterator[dict[str, Any] | None]:
        """Events with a number greater than `since`, oldest first; with `follow` also those that come, and None
        when there are no more for now, and every second in which none comes."""
        while True:
            for event in self._machine.events(since):
                since = event.seq
                yield event_as_json(event)
            if not follow:
                return
            yield None
            with self._changed:
                # Not by asking the machine, which delivers: another thread that does would wait for this lock.
                if self._newest <= since:
                    self._changed.wait(1.0)


def event_as_json(event: Event) -> dict[str, Any]:
    """An event as `fakesysfs events` prints it."""
    return {**event._asdict(), "cause": event.cause._asdict() if event.cause is not None else None}


def machine_handlers(machine: Machine, hmp: Callable[[str], str], info: dict[str, Any]) -> dict[str, Handler]:
    """What every instance answers.

    :param hmp: carries out one line of the QEMU monitor and returns what QEMU would print.
    :param info: what `info` answers; at least "directory", "qmp", "hmp" and "command".
    """
    log = EventLog(machine)

    return {
        "info": lambda: info,
        "dmesg": machine.dmesg,
        "trace": machine.trace,
        "trace end": machine.trace_end,
        "events": log.read,
        "hmp": hmp,
        "check": machine.check,
        "page": machine.page,
        "read": machine.read_text,
        "store": machine.store,
        "allocate": machine.allocate,
        "free": machine.free,
        "pin": machine.pin,
        "free_page": machine.free_page,
        "fault add": machine.fault_rule_add,
        "fault list": machine.fault_rules,
        "fault clear": machine.fault_rule_clear,
    }
