"""The recordings of real kernels, replayed inside one process: no mount, no namespace, no socket.

recordings/replay.py stays the judge: it is loaded as it is, and what it takes for the operating
system (files, uevents, the QMP socket, `fakesysfs dmesg`, a shell) is a Machine and a Monitor. The
machine is checked after every step. Of the shell commands, those run that need only `echo`, or only
read files. How many were left out is printed; they are done where there is a mount, by the tests of
`fakesysfs run`.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.waiting import LIMIT_SECONDS

from fakesysfs import Machine, MachineConfig
from fakesysfs.config.profiles import list_kernels
from fakesysfs.errors import ConfigError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.host_events import HostEvent
from fakesysfs.qemu.monitor import Monitor
from fakesysfs.qemu.qmp import QmpSession

RECORDINGS = Path(__file__).parents[1] / "recordings"
# of a step that differs
SHOWN = {"op", "path", "data", "mode", "cmd", "line", "execute", "arguments"}
LSMEM_VERSION = "2.38.1"  # of the recordings; others may print other columns


class Skip(Exception):
    """A step that cannot be done in process.

    :param harmful: it would have changed the machine, so that what follows cannot be compared.
    """

    def __init__(self, harmful: bool) -> None:
        super().__init__()
        self.harmful = harmful


class Files:
    """What replay.py uses of `os`."""

    O_RDONLY, O_WRONLY, O_CREAT = os.O_RDONLY, os.O_WRONLY, os.O_CREAT
    O_APPEND, O_TRUNC = os.O_APPEND, os.O_TRUNC
    stat_result = os.stat_result
    path = SimpleNamespace(exists=lambda path: False)  # nothing here is the host's

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._offsets: dict[int, int] = {}

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        handle = self._machine.open(path, flags)
        self._offsets[handle] = 0
        return handle

    def close(self, handle: int) -> None:
        self._machine.release(handle)

    def read(self, handle: int, size: int) -> bytes:
        data = self._machine.read(handle, size, self._offsets[handle])
        self._offsets[handle] += len(data)
        return data

    def write(self, handle: int, data: bytes) -> int:
        return self._machine.write(handle, data)

    def lstat(self, path: str) -> os.stat_result:
        mode, ino, nlink, uid, gid, size, mtime_ns = self._machine.stat(path)
        seconds = mtime_ns // 10**9
        return os.stat_result((mode, ino, 0, nlink, uid, gid, size, seconds, seconds, seconds))

    def listdir(self, path: str) -> list[str]:
        return [name for name, _, _ in self._machine.readdir(path)]

    def readlink(self, path: str) -> str:
        return self._machine.readlink(path)

    def truncate(self, path: str, size: int) -> None:
        self._machine.truncate(path, size)

    def chmod(self, path: str, mode: int) -> None:
        self._machine.chmod(path, mode)

    def mkdir(self, path: str) -> None:
        self._machine.change("mkdir", path)

    def unlink(self, path: str) -> None:
        self._machine.change("unlink", path)

    def rmdir(self, path: str) -> None:
        self._machine.change("rmdir", path)

    def rename(self, old: str, new: str) -> None:
        self._machine.change("rename", old)

    def symlink(self, target: str, path: str) -> None:
        self._machine.change("symlink", path)


class Qmp:
    """replay.Qmp without a socket."""

    def __init__(self, monitor: Monitor) -> None:
        self._session = QmpSession(monitor)
        self._events: list[HostEvent] = []
        monitor.board.subscribe(self._events.append)
        self.call("qmp_capabilities")

    def call(self, execute: str, arguments: dict[str, Any] | None = None) -> Any:
        request = json.dumps({"execute": execute, "arguments": arguments or {}})
        (reply,) = self._session.receive(request.encode())
        return json.loads(reply)

    def drain(self, want: int, limit: float = 3.0) -> list[dict[str, Any]]:
        wait_until(lambda: len(self._events) >= want, limit)
        time.sleep(0 if want else 0.005)  # who wants nothing in particular asks again and again
        new = [self._events.pop(0) for _ in range(len(self._events))]  # more may come meanwhile
        messages = (json.loads(self._session.event(event)) for event in new)
        return [
            {key: message[key] for key in ("event", "data") if key in message}
            for message in messages
        ]


class Uevents:
    """replay.Uevents without a socket."""

    def __init__(self, machine: Machine) -> None:
        self._new: list[list[str]] = []
        machine.subscribe(
            lambda event: self._append(list(event.payload)) if event.kind == "uevent" else None
        )

    def _append(self, fields: list[str]) -> None:
        if "/memory/" in fields[0] or "/node/" in fields[0] or "/PNP0C80" in fields[0]:
            self._new.append(fields)

    def take(self, want: int, limit: float = 2.0) -> list[list[str]]:
        wait_until(lambda: len(self._new) >= want, limit)
        return [self._new.pop(0) for _ in range(len(self._new))]  # more may come meanwhile


def wait_until(done: Callable[[], bool], limit: float) -> None:
    """What the guest does at the monitor's request, it does in a thread of its own."""
    end = time.monotonic() + limit
    while not done() and time.monotonic() < end:
        time.sleep(0.005)


class Commands:
    """What replay.py uses of `subprocess`: `fakesysfs dmesg`, and a shell that can do little."""

    PIPE = subprocess.PIPE

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._directory = directory  # for copies of files that real commands read

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "fakesysfs":
            lines = [f"[{time_us / 1e6:12.6f}] {line}\n" for time_us, line in self._machine.dmesg()]
            return subprocess.CompletedProcess(command, 0, stdout="".join(lines))
        line = command[2].removeprefix("{ ").removesuffix("; } 2>&1")
        status, output = self._shell(line)
        return subprocess.CompletedProcess(command, status, stdout=output)

    def _shell(self, line: str) -> tuple[int, str]:
        if re.fullmatch(r"(cat|awk|grep|cut|sed|ls|sleep) [^>]*", line):
            return self._read(line)
        if re.fullmatch(r"lsmem\b[^|;>]*", line):
            return self._lsmem(line)
        status, output = 0, ""
        for statement in line.split("; "):
            if test := re.fullmatch(r"\[ (\S+) = (\S+) \] \|\| (.*)", statement):
                if test[1] == test[2]:
                    status = 0
                    continue
                statement = test[3]
            echo = re.fullmatch(r"echo (\S+) (>>?) (/\S+)( 2>/dev/null)?", statement)
            if not echo:
                raise Skip(harmful="chmem" in line)
            status, text = self._echo(
                echo[1], os.O_APPEND if echo[2] == ">>" else os.O_TRUNC, echo[3]
            )
            output += "" if echo[4] else text
        return status, output

    def _echo(self, word: str, flags: int, path: str) -> tuple[int, str]:
        """Exit status and messages of dash."""
        try:
            handle = self._machine.open(path, os.O_WRONLY | os.O_CREAT | flags)
        except OSError as e:
            return 2, f"sh: 1: cannot create {path}: {os.strerror(e.errno or 0)}\n"
        try:
            self._machine.write(handle, f"{word}\n".encode())
        except OSError:
            return 1, "sh: 1: echo: echo: I/O error\n"
        finally:
            self._machine.release(handle)
        return 0, ""

    def _read(self, line: str) -> tuple[int, str]:
        """A command that reads files reads copies of them."""
        self._directory.mkdir()
        for pattern in set(re.findall(r"/(?:sys|proc)/[\w./*-]+", line)):
            for path in self._expand(pattern):
                try:
                    self._copy(path)
                except FileNotFoundError:
                    continue  # the command finds that out, too
                if line.startswith("ls "):
                    for name, _, _ in self._machine.readdir(path):
                        (self._directory / path[1:] / name).touch()
        return self._really(re.sub(r"(?=/(?:sys|proc)/)", f"{self._directory}", line))

    def _lsmem(self, line: str) -> tuple[int, str]:
        if lsmem_version() != LSMEM_VERSION:
            raise Skip(harmful=False)
        for path in self._tree("/sys/devices/system/memory"):
            self._copy(path)
        (self._directory / "sys/devices/system/node").mkdir(exist_ok=True)
        return self._really(line.replace("lsmem", f"lsmem --sysroot {self._directory}", 1))

    def _really(self, line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", f"{{ {line}; }} 2>&1"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        shutil.rmtree(self._directory)
        return done.returncode, done.stdout.replace(f"{self._directory}", "")

    def _expand(self, pattern: str) -> list[str]:
        """The paths that a pattern of the shell stands for; itself when there are none."""
        paths = [""]
        for part in pattern[1:].split("/"):
            if "*" not in part:
                paths = [f"{path}/{part}" for path in paths]
                continue
            paths = [
                f"{path}/{name}"
                for path in paths
                for name in self._names(path)
                if fnmatchcase(name, part)
            ]
        return paths or [pattern]

    def _names(self, directory: str) -> list[str]:
        try:
            return [name for name, _, _ in self._machine.readdir(directory)]
        except FileNotFoundError:
            return []

    def _tree(self, directory: str) -> Iterator[str]:
        yield directory
        for name, _, mode in self._machine.readdir(directory):
            path = f"{directory}/{name}"
            if not stat.S_ISDIR(mode):
                yield path
            elif name != "power":
                yield from self._tree(path)

    def _copy(self, path: str) -> None:
        copy = self._directory / path[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        mode = self._machine.stat(path)[0]
        if stat.S_ISDIR(mode):
            copy.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            copy.symlink_to(self._machine.readlink(path))
        elif mode & 0o400:
            copy.write_bytes(self._machine.read_bytes(path))


@cache
def lsmem_version() -> str:
    try:
        done = subprocess.run(
            ["lsmem", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_SECONDS,
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.split()[-1]


def fakesysfs(*words: str, machine: Machine | None = None) -> subprocess.CompletedProcess[str]:
    """What replay.py asks the command before it says which options a recorded machine has, and what
    it has the machine's memory used for."""
    status, output = 0, ""
    if machine is not None:
        load, change, option, zone = words
        assert (load, option) == ("load", "--zone")
        kind, _, size = change.partition("=+")
        machine.allocate(kind, size, zone=zone)
    elif words[:2] == ("presets", "--kernels"):
        output = "".join(f"{name}\n" for name in list_kernels())
    else:
        run, option, value, *_ = words
        assert (run, option) == ("run", "--config")
        try:
            MachineConfig.from_options(config=value)
        except ConfigError:
            status = 2
    return subprocess.CompletedProcess(words, status, stdout=output)


def load_replay() -> ModuleType:
    """A replay.py of one's own, in which names can be replaced."""
    spec = importlib.util.spec_from_file_location("replay", RECORDINGS / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["fakesysfs"] = fakesysfs
    return module


def config_of(arguments: list[str]) -> MachineConfig:
    """The machine of options as they stand on the command line."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    given: dict[str, Any] = {option.removeprefix("--"): value for option, value in pairs}
    for option in ("node", "distance"):
        given.pop(option, None)
        given[f"{option}s"] = [value for name, value in pairs if name == f"--{option}"]
    return MachineConfig.from_options(**given)


@dataclass
class Outcome:
    passed: int = 0
    skipped: int = 0
    differences: list[str] = field(default_factory=list)


def add_devices(monitor: Monitor, options: Sequence[str]) -> None:
    """Add the objects and memory devices that QEMU was started with."""
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option == "-object":
            assert monitor.command(f"object_add {value}") == ""
        elif option == "-device" and value.startswith("virtio-mem-pci,"):
            assert monitor.command(f"device_add {value}") == ""


def replay_in_process(recording: dict[str, Any], directory: Path) -> Outcome:
    replay: Any = load_replay()
    outcome = Outcome()
    with (
        Machine(config_of(replay.options(recording))) as machine,
        Board(machine) as board,
    ):
        replay.os = Files(machine)
        replay.open = lambda path: io.StringIO(machine.read_text(path))
        replay.subprocess = Commands(machine, directory / "copy")
        replay.Qmp = lambda path: Qmp(Monitor(board))
        replay.Uevents = lambda: Uevents(machine)
        replay.fakesysfs = partial(fakesysfs, machine=machine)
        judge = replay.Replay("a socket", recording["config"].endswith("aarch64"))
        add_devices(Monitor(board), recording["machine"].get("qemu", ()))
        judge.uevents.take(0)
        for number, step in enumerate(recording["steps"]):
            if step["op"] == "reboot" or "skip" in step:
                continue
            try:
                want, got = judge.step(step)
            except Skip as skip:
                if skip.harmful:
                    outcome.skipped += len(recording["steps"]) - number
                    break
                outcome.skipped += 1
                continue
            machine.check()
            # What FUSE cannot deliver can be had here.
            if not replay.compared({key: step[key] for key in step if key != "beyond_fuse"}):
                continue
            if want == got:
                outcome.passed += 1
            else:
                what = {key: value for key, value in step.items() if key in SHOWN}
                outcome.differences.append(f"step {number}: {what}\n  real: {want}\n  ours: {got}")
    return outcome


@pytest.mark.parametrize(
    "path",
    sorted([*RECORDINGS.glob("*.json"), *RECORDINGS.glob("devices/*.json")]),
    ids=lambda path: path.stem,
)
def test_story(path: Path, tmp_path: Path) -> None:
    outcome = replay_in_process(json.loads(path.read_text()), tmp_path)
    for difference in outcome.differences:
        print(difference)
    print(f"{outcome.passed} passed, {len(outcome.differences)} failed, {outcome.skipped} skipped")
    assert not outcome.differences
    assert outcome.passed > 0
