"""How a second command finds a running instance and speaks to it.

Owns: the names of instances, the socket each listens at, who is spoken to, and the client's side of
the protocol; the other one is control_server.py's. An instance listens at the abstract Unix socket
"fakesysfs/UID/ID", which is no file, disappears with its process and stands in /proc/net/unix for
everybody in the network namespace to see; `run` listens in the caller's namespace and in its own.
Does not own: what the requests mean.

Trust: any user can listen at any name, so a name says nothing. Both sides ask the kernel who the
other one is (SO_PEERCRED), and speak to processes of their own user only; root is no exception.
Nothing is read from another user's process, and no command waits for one.

Protocol: the server greets with one line of JSON. A request is one line, {"do": NAME, "args": [],
"options": {}} with the handler's arguments by position and by name; the reply is {"return": VALUE},
or a line {"item": VALUE} each and {"end": true} from a handler that is a generator, or {"error":
{...}}, which the client raises as the exception it was. A request is at most 1 MiB long.

Importing this file is cheap on purpose: `fakesysfs dmesg` is asked for very often.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import struct
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

PREFIX = "fakesysfs/"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)  # what --name may say
LISTED = re.compile(rf"[0-9]+/([0-9]+|{NAME.pattern})", re.ASCII)  # behind PREFIX
VARIABLE = "FAKESYSFS"  # the environment variable that names the instance inside `run`
CONNECT_SECONDS = 1.0  # how long the queue at a name may stay full, which anybody may have bound
QUEUE_SECONDS = 0.1  # the same, when an instance of this user has been found at another name
GREETING_SECONDS = 10.0
ANSWER_SECONDS = 2.0  # of several that are asked at once
REPLY_SECONDS = 30.0
# requests that may take longer
LASTING = {"allocate", "check", "free", "hmp", "map", "monitor", "read", "store", "trace"}
UNKNOWN_UID = 65534  # Linux: kernel/sys.c overflowuid
DESCRIPTORS_MAX = 8  # open files in one reply
MESSAGE_BYTES = 1 << 20  # the longest request, greeting, or reply to a request that is not of LONG
LONG = LASTING | {"dmesg", "events"}


class Instance:
    """One running instance, by its name "fakesysfs/UID/ID": ID is a number, or what --name said."""

    def __init__(self, name: str) -> None:
        self.name = name
        uid, self.id = name.removeprefix(PREFIX).split("/")
        self.uid = int(uid)

    def __repr__(self) -> str:
        return f"Instance({self.name!r})"


def instances() -> list[Instance]:
    """Those that listen in this network namespace, of every user, in no order."""
    found = []
    with open("/proc/net/unix", encoding="ascii", errors="replace") as sockets:
        for line in sockets:
            head, at, name = line.rstrip("\n").partition(f" @{PREFIX}")
            listening = at and int(head.split()[3], 16) & 0x10000  # __SO_ACCEPTCON
            if listening and LISTED.fullmatch(name):
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


def listen_named(name: str, uid: int) -> tuple[socket.socket, str]:
    """A listening socket of an instance that has a name, and the whole name of it.

    :raises ConfigError: it cannot have that name, or another one has it.
    """
    from .errors import ConfigError

    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name}: a name begins with a letter, and has letters, digits, - . _ and no more"
            " than 64 of them"
        )
    try:
        return listen_as(f"{PREFIX}{uid}/{name}"), f"{PREFIX}{uid}/{name}"
    except OSError as e:
        if e.errno != errno.EADDRINUSE:
            raise
        raise ConfigError(
            f"--name {name}: there is an instance of that name; fakesysfs stop --instance {name}"
        ) from None


def running() -> list[tuple[str, dict[str, Any]]]:
    """The instances of this user that answer, by name: the name, and what each says of itself."""
    uids = _own_uids()
    own, _, _ = _own([instance for instance in instances() if instance.uid in uids])
    found = []
    for client, served in _answering(own):
        found.append((client.name, served))
        client.close()
    return sorted(found, key=lambda entry: entry[0])


def environment(name: str) -> dict[str, str]:
    """The environment of a command inside instance `name`, from this process's."""
    import sys

    # sd-device would refuse devices that are not on a sysfs.
    found = {**os.environ, VARIABLE: name, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    # The command may want to ask the instance something, and a virtual environment need not be
    # active. At the end of PATH it hides nothing.
    scripts = os.path.dirname(sys.executable)
    path = found.get("PATH", os.defpath)
    if os.access(os.path.join(scripts, "fakesysfs"), os.X_OK) and scripts not in path.split(":"):
        found["PATH"] = f"{path}:{scripts}"
    return found


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as this pid and user namespace see them; the process is 0
    if they do not.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("iII", data)
    return pid, uid


def is_own(uid: int) -> bool:
    """Whether a user id that the kernel gave, as this user namespace sees it, is this process's
    user.
    """
    if uid != os.geteuid():
        return False
    # That number stands for every user who has none in this namespace; only where all have one it
    # is a user's.
    return uid != UNKNOWN_UID or any(count >= 0xFFFFFFFF for _, _, count in _uid_map())


def _uid_map() -> list[tuple[int, int, int]]:
    """Ranges of user ids: the first one here, the first one in the parent namespace, how many."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as ranges:
            return [(int(a), int(b), int(n)) for a, b, n in (line.split() for line in ranges)]
    except FileNotFoundError:
        return []


def reach(name: str) -> socket.socket | None:
    """A connection to instance `name`, whose process is this user's. None: the queue there is full.

    :raises InstanceError: there is none of that name, or it belongs to another user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A line of others that wait at one that does not answer is no reason to wait for ever.
        connection.setblocking(False)
        connection.connect(f"\0{name}")
        mine = is_own(peer(connection)[1])
    except BlockingIOError:
        connection.close()
        return None
    except OSError as e:
        connection.close()
        raise _problem(name, f"does not answer: {e.strerror}") from None
    if not mine:
        connection.close()
        raise _problem(name, "belongs to another user")
    return connection


class Client:
    """A connection to an instance of this user.

    :param seconds: how long to wait for its greeting; an instance that is just starting greets when
        it is ready.
    :param connection: what reach() returned; the caller will say greet(), when fileno() can be
        read.
    :raises InstanceError: there is none of that name, it belongs to another user, or it does not
        answer.
    """

    def __init__(
        self, name: str, seconds: float = GREETING_SECONDS, connection: socket.socket | None = None
    ) -> None:
        self.name = name
        self._read = b""  # and not yet looked at
        if connection is not None:
            self._socket = connection
            return
        end = time.monotonic() + min(seconds, CONNECT_SECONDS)
        while (connection := reach(name)) is None:
            if time.monotonic() >= end:
                raise _problem(name, "does not answer")
            time.sleep(0.01)
        self._socket = connection
        self.greet(seconds)

    def fileno(self) -> int:
        """The socket, to wait for."""
        return self._socket.fileno()

    def greet(self, seconds: float = GREETING_SECONDS) -> None:
        """Wait for the greeting. To be called once, before anything else is received.

        :raises InstanceError: it does not come, or it is a refusal.
        """
        line = self._line(seconds, MESSAGE_BYTES)
        if not line:
            raise _problem(self.name, "refused the connection, or ended")
        hello = self._object(line)
        if "error" in hello:
            raise _problem(self.name, str(_exception(hello["error"])))

    def call(self, do: str, *args: Any, **options: Any) -> Any:
        """What handler `do` returns.

        :raises OSError: what the simulated kernel refused, as the handler raised it.
        :raises FakesysfsError: MonitorError, ConfigError, ... as the handler raised it;
            InstanceError when the instance ended meanwhile, or does not answer.
        """
        self.send(do, *args, **options)
        return self.receive(do)["return"]

    def stream(self, do: str, *args: Any, **options: Any) -> Iterator[Any]:
        """What generator `do` yields, as it comes."""
        self.send(do, *args, **options)
        while "item" in (reply := self.receive(do, lasting=options.get("follow", False))):
            yield reply["item"]

    def descriptors(self, do: str) -> dict[str, int]:
        """The open files that handler `do` returns, by their names."""
        self.send(do)
        files: list[int] = []
        reply = self.receive(do, files=files)["return"]
        if (
            not isinstance(reply, list)
            or len({*map(str, reply)}) != len(files)
            or len(reply) != len(files)
        ):
            for fd in files:
                os.close(fd)
            raise _problem(self.name, "does not give the open files that it names")
        return dict(zip(map(str, reply), files, strict=True))

    def close(self) -> None:
        """Hang up."""
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

    def send(self, do: str, *args: Any, **options: Any) -> None:
        """Send a request, whose reply is to be received.

        :raises InstanceError: it is too long, or the instance ended.
        """
        line = as_line({"do": do, "args": args, "options": options})
        if len(line) > MESSAGE_BYTES:
            raise _problem(
                self.name,
                f"takes no request of {len(line)} bytes, which is more than {MESSAGE_BYTES}",
            )
        self._socket.settimeout(REPLY_SECONDS)
        try:
            self._socket.sendall(line)
        except TimeoutError:
            raise _problem(self.name, "does not answer") from None
        except OSError:
            raise _problem(self.name, "ended") from None

    def receive(
        self, do: str, lasting: bool = False, files: list[int] | None = None
    ) -> dict[str, Any]:
        """The next reply to request `do`, or what the handler raised.

        :param lasting: it may take as long as it does.
        :param files: takes open files that come with the reply.
        """
        seconds = None if lasting or do in LASTING else REPLY_SECONDS
        line = self._line(seconds, None if do in LONG else MESSAGE_BYTES, files)
        if not line:
            raise _problem(self.name, "ended before it answered")
        reply = self._object(line)
        if "error" in reply:
            raise _exception(reply["error"])
        if not reply.keys() & {"return", "item", "end"}:
            raise _problem(self.name, "gives an answer that is none")
        return reply

    def heard(self) -> bool:
        """Take what is there to be read, without waiting. False: this was the end."""
        self._socket.setblocking(False)
        try:
            self._read += (data := self._socket.recv(1 << 16))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)

    def lines_heard(self) -> int:
        """How many lines have come that were not looked at."""
        return self._read.count(b"\n")

    def _line(
        self, seconds: float | None, limit: int | None, files: list[int] | None = None
    ) -> bytes:
        """The next line, or nothing when the instance ended before there was one.

        :raises InstanceError: it does not come in time, or is longer than `limit`.
        """
        end = time.monotonic() + (seconds or 0)
        parts = [self._read]
        size = len(self._read)
        while b"\n" not in parts[-1]:
            if limit is not None and size > limit:
                raise _problem(self.name, f"gives an answer of more than {limit} bytes")
            try:
                # A time of 0 would be: do not wait.
                self._socket.settimeout(
                    None if seconds is None else max(0.001, end - time.monotonic())
                )
                if files is None:
                    data = self._socket.recv(1 << 16)
                else:
                    data, files[len(files) :] = self._with_files()
            except TimeoutError:
                raise _problem(self.name, "does not answer") from None
            except OSError:
                data = b""
            if not data:
                self._read = b""
                return b""
            parts.append(data)
            size += len(data)
        line, _, self._read = b"".join(parts).partition(b"\n")
        return line

    def _with_files(self) -> tuple[bytes, list[int]]:
        data, files, _, _ = socket.recv_fds(self._socket, 1 << 16, DESCRIPTORS_MAX)
        for fd in files:
            os.set_inheritable(fd, False)  # the flag for it is not passed on by every Python
        return data, files

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _problem(self.name, "gives an answer that is none")
        return found


def as_line(message: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message).encode() + b"\n"


def _problem(name: str, what: str) -> Exception:
    from .errors import InstanceError

    return InstanceError(f"instance {name} {what}")


def connect(which: str | None = None) -> Client:
    """A connection to the instance of this user that is meant.

    :param which: a directory, a QMP or HMP socket, a name or the number at its end; None:
        $FAKESYSFS, else the only one there.
    :raises InstanceError: none, several, or no answer; or it belongs to another user.
    """
    from .errors import InstanceError

    named = which or os.environ.get(VARIABLE)
    if named and named.lstrip("@").startswith(PREFIX) and named.count("/") == 2:
        return Client(named.lstrip("@"))
    running = instances()
    uids = _own_uids()
    mine = [i for i in running if i.uid in uids]
    if named and (
        numbered := [i for i in mine if i.id == named] or [i for i in running if i.id == named]
    ):
        own, others, full = _own(numbered)
        if not own:
            raise [*full, *others][0]
        own[0].greet()
        return own[0]
    own, _, full = _own(mine)
    if named:
        heard = []
        for client, served in _answering(own):
            heard.append((client.name, served))
            # One of an older fakesysfs has no "hmp".
            if os.path.realpath(named) in (
                served.get("directory"),
                served.get("qmp"),
                served.get("hmp"),
            ):
                return client
            client.close()
        raise InstanceError(
            f"there is no instance {named}; {_listed(heard) if own or full else 'none is running'}"
        )
    if not own and full:
        raise full[0]
    if not own:
        raise InstanceError(
            "no instance is running; start one: fakesysfs run -- bash, or fakesysfs mount DIR"
        )
    if len(own) > 1:
        listed = _listed((client.name, served) for client, served in _answering(own))
        raise InstanceError(f"several instances are running, choose one with --instance; {listed}")
    own[0].greet()
    return own[0]


def _own_uids() -> set[int]:
    """The numbers of this process's user: the one here, and the one outside of a `run` that made a
    user namespace.
    """
    uid = os.geteuid()
    return {
        uid,
        *(
            uid - here + outside
            for here, outside, count in _uid_map()
            if here <= uid < here + count
        ),
    }


def _own(running: Iterable[Instance]) -> tuple[list[Client], list[Exception], list[Exception]]:
    """Connections, to be greeted, to those whose process is this user's; what is wrong with the
    others; and with those whose queue is full, so that nobody knows."""
    from .errors import InstanceError

    own: list[Client] = []
    others: list[Exception] = []
    names = [instance.name for instance in running]
    start = time.monotonic()
    while True:
        full = []
        for name in names:
            try:
                connection = reach(name)
            except InstanceError as e:
                others.append(e)
                continue
            if connection is None:
                full.append(name)
            else:
                own.append(Client(name, connection=connection))
        names = full
        if not full or time.monotonic() - start > (QUEUE_SECONDS if own else CONNECT_SECONDS):
            return own, others, [_problem(name, "does not answer") for name in full]
        time.sleep(0.01)


def _answering(clients: Iterable[Client]) -> Iterator[tuple[Client, dict[str, Any]]]:
    """Those that answer, the first that does first, and what each says of itself."""
    import select

    from .errors import FakesysfsError

    waiting: dict[int, Client] = {}
    poll = select.poll()
    for client in clients:
        with suppress(FakesysfsError):  # it may be ending
            client.send("info")
            waiting[client.fileno()] = client
            poll.register(client, select.POLLIN)
    end = time.monotonic() + ANSWER_SECONDS
    while waiting and (ready := poll.poll(max(0.0, end - time.monotonic()) * 1000)):
        for fd, _ in ready:
            client = waiting[fd]
            if client.heard() and client.lines_heard() < 2:  # the greeting and the answer
                continue
            poll.unregister(fd)
            del waiting[fd]
            with suppress(FakesysfsError, OSError):
                client.greet(ANSWER_SECONDS)
                served = client.receive("info")["return"]
                if isinstance(served, dict):
                    yield client, served


def _listed(heard: Iterable[tuple[str, dict[str, Any]]]) -> str:
    listed = (
        f"{name.rpartition('/')[2]} ({served.get('directory') or served.get('command')})"
        for name, served in heard
    )
    return "running: " + (", ".join(sorted(listed)) or "none that answers")


def _exception(error: Any) -> Exception:
    from . import errors

    try:
        if error["type"] == "OSError":
            return OSError(error["errno"], error["text"], *error["path"])
        if error["type"] == "MonitorError":
            return errors.MonitorError(error["text"], error["class"])
        kind = getattr(errors, error["type"], None)
        if not isinstance(kind, type) or not issubclass(kind, errors.FakesysfsError):
            kind = errors.InstanceError
        made: Exception = kind(error["text"])
    except (LookupError, TypeError):
        return errors.InstanceError("the instance gives an answer that is none")
    return made
