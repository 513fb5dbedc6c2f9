"""A running instance in Python: commands to run in it, files, devices, faults, conditions.

    with Hotplug.start(memory="1G,slots=4,maxmem=8G") as hotplug:
        name = hotplug.plug("512M")
        hotplug.run(["chmem", "-e", "512M"], check=True)
        hotplug.expect("blocks online = 12")

Owns: the life of an instance that this process started, and what can be done with it. Does not own
what an instance is: it is one of `fakesysfs run`, whose command ends when this process does.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Any, Final, Self

from ..control import Client
from ..errors import (
    ConfigError,
    EnvironmentProblem,
    InstanceError,
    MonitorError,
    printable,
)
from ..events import Cause, Event
from . import watching
from .conditions import Finding, absolute, parse, parse_seconds
from .options import as_arguments, checked
from .watching import Since

START_SECONDS: Final = 60.0
END_SECONDS: Final = 15.0
DEFAULT_TIMEOUT: Final = 5.0
# It ends when nobody has the other end of its standard input any more.
COMMAND: Final = ("sh", "-c", 'echo "$FAKESYSFS"; exec cat > /dev/null')
# What _OST reports while an eject is under way, as ACPI 6.4 has it in table 6.3.5.
EJECT_IN_PROGRESS: Final = (0x81, 0x84, 0x85)


class Hotplug:
    """A running instance. Make one with start(); it is a context manager, and ends with it. Every
    method may be called from any thread.

    :ivar name: what `--instance` takes.
    :ivar options: what it was made with.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], process: subprocess.Popen[bytes]
    ) -> None:
        self.name = name
        self.options = dict(options)
        self._process = process
        self._started: list[subprocess.Popen[Any]] = []
        self._entered = False
        self._client = Client(name)
        self._talking = threading.Lock()  # over that connection, one request at a time
        self._since = Since()
        self.mark()

    @classmethod
    def start(cls, **options: Any) -> Self:
        """Start an instance.

        :param options: those of `fakesysfs run` and of machines: memory, kernel, machine, append,
            config, nodes, distances, arch, seed, workload, aged, faults, udev, rules, net, root,
            bind_roots.
        :raises ConfigError: there is no such option, or no such machine.
        :raises EnvironmentProblem: this host does not offer what an instance needs.
        :raises InstanceError: it does not start.
        """
        right = checked(options)
        words = [sys.executable, "-P", "-m", "fakesysfs", "run", *as_arguments(right), "--"]
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                [*words, *COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                process_group=0,  # Ctrl-C is for the tests, whose end is its end
            )
            try:
                name = _first_line(process)
                if name:
                    return cls(name, right, process)
                _closed(process)
                complaints.seek(0)
                said = printable(complaints.read().decode(errors="replace").strip())
            except BaseException:
                _closed(process)
                raise
        text = said.removeprefix("fakesysfs: ") or "the instance does not start"
        if process.returncode == ConfigError.exit_status:
            raise ConfigError(text)
        if problem := missing(udev=bool(right.get("udev") or right.get("rules"))):
            raise problem
        raise InstanceError(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the instance, and with it everything that runs in it."""
        self._client.close()
        _closed(self._process)
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()

    @property
    def running(self) -> bool:
        """Whether the instance has not ended."""
        return self._entered or self._process.poll() is None

    def entered(self) -> None:
        """In a process that was forked and has entered the instance: take a connection of its own."""
        self._entered = True  # when the instance ends, this process does
        self._client.close()
        self._client = self._connect()
        self._talking = threading.Lock()  # another thread may have had it, which is not here

    # Commands

    def run(
        self, args: Any, *, timeout: float | None = None, **how: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command inside. Takes what subprocess.run() takes, but `executable`, and returns
        what it returns.

        The exit status is the command's, or 128+N when signal N ended it; 127 when there is no such
        command.
        """
        command, how = _entering(self.name, args, how)
        return subprocess.run(command, timeout=timeout, **how)

    def popen(self, args: Any, **how: Any) -> subprocess.Popen[Any]:
        """Start a command inside, and return at once. Takes what subprocess.Popen() takes, but
        `executable`. The command is killed when the instance ends.
        """
        command, how = _entering(self.name, args, how)
        process = subprocess.Popen(command, **how)
        self._started.append(process)
        return process

    # Files

    def read(self, path: str) -> str:
        """Return the content of a file.

        :param path: relative to /sys/devices/system/memory, or from / on.
        :raises OSError: as the kernel answers.
        """
        text: str = self._call("read", absolute(path))
        return text

    def write(self, path: str, data: str) -> None:
        """Write to a file, as `echo -n` does.

        :param path: relative to /sys/devices/system/memory, or from / on.
        :raises OSError: as the kernel answers; its text is the reason.
        """
        self._call("store", absolute(path), data)

    # Devices

    def plug(self, size: str, name: str | None = None, *, node: int | None = None) -> str:
        """Plug a DIMM.

        :param size: as QEMU writes it: "512M".
        :param name: its ID; by default dimm0, dimm1 ...
        :param node: the NUMA node it belongs to.
        :returns: its name.
        :raises MonitorError: QEMU would refuse it, in QEMU's words.
        """
        if name is None:
            taken = {device["data"].get("id") for device in self._call("map")["dimms"]}
            name = next(n for n in map("dimm{}".format, range(1 << 16)) if n not in taken)
        backend = _backend(name)
        self.monitor(f"object_add memory-backend-ram,id={backend},size={size}")
        try:
            where = "" if node is None else f",node={node}"
            self.monitor(f"device_add pc-dimm,id={name},memdev={backend}{where}")
        except MonitorError:
            self.monitor(f"object_del {backend}")
            raise
        return name

    def unplug(self, name: str, *, timeout: str | float = DEFAULT_TIMEOUT) -> None:
        """Unplug a DIMM, and wait until the guest has let go of it.

        :param name: what plug() returned, or the ID of another DIMM.
        :param timeout: seconds, or text like "250ms".
        :raises OSError: EBUSY when the guest refuses; ETIMEDOUT when it does not answer in time.
        :raises MonitorError: there is no such DIMM.
        """
        before = Since(qmp=len(self._call("qmp events")))
        devices = {
            device["data"].get("id"): device["data"] for device in self._call("map")["dimms"]
        }
        self.monitor(f"device_del {name}")
        answered = _Answered(name)
        wrong = watching.wait(self._connect, [answered], parse_seconds(timeout), before)
        if wrong:
            raise TimeoutError(errno.ETIMEDOUT, f"the guest keeps {name}, and has not answered")
        with self._talking:
            status = answered.status(watching.Watched(self._client, before))
        if status is not None:
            raise OSError(errno.EBUSY, f"the guest keeps {name}: _OST status {status:#x}")
        if devices[name]["memdev"] == f"/objects/{_backend(name)}":
            self.monitor(f"object_del {_backend(name)}")

    def monitor(self, line: str) -> str:
        """Carry out a line of the QEMU monitor, and return what it prints.

        :raises MonitorError: it is refused, in QEMU's words.
        """
        text, refused = self._call("monitor", line)
        if refused:
            raise MonitorError(text.strip().removeprefix("Error: "))
        return f"{text}"

    # Who uses memory, and what goes wrong

    def allocate(self, kind: str, size: str, **where: Any) -> int:
        """Let something use memory: see Machine.allocate(). Returns the bytes it got."""
        got: int = self._call("allocate", kind, size, **where)
        return got

    def free(self, kind: str, size: str, **where: Any) -> int:
        """Give memory back: see Machine.free(). Returns the bytes given back."""
        freed: int = self._call("free", kind, size, **where)
        return freed

    def fault(self, rule: str) -> int:
        """Add a fault rule, as `fakesysfs fault add`: "write memory32/state EBUSY x1".

        :returns: its number, for clear_faults().
        :raises ConfigError: it is no rule, or no file has such a name.
        """
        number: int = self._call("fault add", rule)
        return number

    def clear_faults(self, number: int = 0) -> None:
        """Forget a fault rule, or all of them."""
        self._call("fault clear", number)

    # Conditions

    def wait(self, *conditions: str, timeout: str | float = DEFAULT_TIMEOUT) -> None:
        """Wait until conditions hold at the same time: the words of `fakesysfs wait`.

        What happened since the test began counts, see mark().

        :param timeout: seconds, or text like "250ms".
        :raises AssertionError: they do not in time; its text says what is the case instead.
        :raises ConfigError: a condition cannot be read.
        """
        __tracebackhide__ = True
        seconds = parse_seconds(timeout)
        parsed = [parse(text) for text in conditions]
        if wrong := watching.wait(self._connect, parsed, seconds, self._since):
            raise AssertionError(
                "\n".join((f"not within {seconds:g} s:", *(finding.text for finding in wrong)))
            )

    def expect(self, *conditions: str) -> None:
        """Check that conditions hold now: the words of `fakesysfs expect`.

        :raises AssertionError: one does not; its text says what is the case instead.
        :raises ConfigError: a condition cannot be read.
        """
        __tracebackhide__ = True
        parsed = [parse(text) for text in conditions]
        with self._talking:
            wrong = watching.expect(watching.Watched(self._client, self._since), parsed)
        if wrong:
            raise AssertionError("\n".join(finding.text for finding in wrong))

    def mark(self) -> None:
        """Forget what happened until now: `events`, `dmesg` and conditions begin here. The plugin
        does so before each test.
        """
        with self._talking:
            self._since = watching.now(self._client, self._since)

    # What happened

    @property
    def events(self) -> list[Event]:
        """What happened since the test began, oldest first."""
        with self._talking:
            found = list(self._client.stream("events", since=self._since.event))
        return [_event(fields) for fields in found]

    @property
    def dmesg(self) -> list[str]:
        """The lines of the kernel log since the test began."""
        return [text for _, text in self._call("dmesg", self._since.line)]

    @property
    def map(self) -> Mapping[str, Any]:
        """Memory blocks and devices, as `fakesysfs map` draws them."""
        found: dict[str, Any] = self._call("map")
        return found

    def namespaces(self) -> dict[str, int]:
        """Open the namespaces of the instance; the caller closes them."""
        with self._connected() as client:
            return client.descriptors("namespaces")

    def _call(self, do: str, *args: Any, **options: Any) -> Any:
        with self._talking:
            return self._client.call(do, *args, **options)

    def _connect(self) -> Client:
        return Client(self.name)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        client = self._connect()
        try:
            yield client
        finally:
            client.close()


def _entering(name: str, args: Any, how: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What subprocess is to be given to run a command in an instance: words and keywords."""
    if how.get("executable") is not None:
        raise TypeError("`executable` is not possible; the first word of `args` is executed")
    words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
    if how.pop("shell", False):
        words = ["/bin/sh", "-c", *words]
    directory = how.get("cwd")
    if directory is not None and not os.path.isdir(directory):
        # It may be there inside.
        how["cwd"] = "/"
        words = ["/bin/sh", "-c", 'cd -- "$0" && exec "$@"', directory, *words]
    return [sys.executable, "-P", "-m", "fakesysfs.testing.enter", name, *words], how


def _backend(name: str) -> str:
    """The ID of the memory backend that plug() makes for a DIMM."""
    return f"mem-{name}"


def missing(*, udev: bool = False) -> EnvironmentProblem | None:
    """What this host lacks for an instance; None when it has all that can be looked at.

    :param udev: one with a udevd.
    """
    from ..mount import preflight
    from ..run.launch import UNSHARE, unshare_as
    from ..run.udev import DAEMON

    if udev and not any(os.access(path, os.X_OK) for path in DAEMON):
        return EnvironmentProblem("there is no systemd-udevd", "install the package udev")

    try:
        preflight(over=True)
        trial = [*UNSHARE, *unshare_as(), "--net", "--", "true"]
        tried = subprocess.run(trial, capture_output=True, text=True, check=False, timeout=30)
    except EnvironmentProblem as e:
        return e
    except FileNotFoundError:
        return EnvironmentProblem("there is no unshare(1)", "install util-linux")
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"]
    return EnvironmentProblem(
        f"no namespaces can be made ({said[-1].removeprefix('unshare: ')})",
        "`fakesysfs doctor` says what to do",
    )


class _Answered:
    """That a guest has answered the request to give a DIMM back: a condition."""

    def __init__(self, name: str) -> None:
        self._name = name

    def look(self, subject: Any, /) -> Finding:
        """See whether it has."""
        done = self._deleted(subject) or self.status(subject) is not None
        return Finding(done, "" if done else "no answer")

    def _deleted(self, subject: Any) -> bool:
        return any(
            name == "DEVICE_DELETED" and data.get("device") == self._name
            for name, data in subject.qmp_events()
        )

    def status(self, subject: Any) -> int | None:
        """The _OST status of a refusal; None without one."""
        if self._deleted(subject):
            return None
        for name, data in subject.qmp_events():
            info = data.get("info", {})
            if name == "ACPI_DEVICE_OST" and info.get("device") == self._name:
                status = int(info["status"])
                if status != 0 and status not in EJECT_IN_PROGRESS:
                    return status
        return None


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """What the command says first, or nothing when it ends, or does not begin, before that."""
    stream: IO[bytes] | None = process.stdout
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], START_SECONDS)
    return stream.readline().decode().strip() if ready else ""


def _closed(process: subprocess.Popen[bytes]) -> None:
    """End an instance: nobody writes to its command any more."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _event(fields: Mapping[str, Any]) -> Event:
    cause = fields["cause"]
    return Event(
        **{
            **fields,
            "payload": tuple(fields["payload"]),
            "cause": None if cause is None else Cause(**cause),
        }
    )
