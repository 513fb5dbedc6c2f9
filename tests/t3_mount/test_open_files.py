"""Files that are open when their block goes away, and how one waits for files: what poll and
inotify tell.

What is expected was measured on Linux 6.18: poll on attributes of network devices that were
removed, inotify there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from t3_mount.conftest import Mounter
from t3_mount.host import Person, needs_fuse, people

pytestmark = needs_fuse

ME = people()[0]
MEMORY = "sys/devices/system/memory"
READY = select.POLLIN | select.POLLRDNORM | select.POLLOUT | select.POLLWRNORM
URGENT = select.POLLERR | select.POLLPRI
ALL = 0x7FFF


def monitor(tree: Path, *commands: str, person: Person = ME) -> None:
    result = person.run("fakesysfs", "monitor", "--instance", str(tree), *commands)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def plug(tree: Path, person: Person = ME) -> None:
    monitor(tree, "object_add memory-backend-ram,id=m0,size=128M", person=person)
    monitor(tree, "device_add pc-dimm,id=d0,memdev=m0", person=person)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def polled(fd: int, events: int = ALL) -> int:
    """What poll(2) says, without waiting."""
    poll = select.poll()
    poll.register(fd, events)
    return dict(poll.poll(0)).get(fd, 0)


# A block goes away

HOLDER = """
import errno, os, sys
memory, unplug = sys.argv[1:]
reader, started, writer = (os.open(f"{memory}/memory32/state", how) for how in (os.O_RDONLY, os.O_RDONLY, os.O_RDWR))
directory = os.open(f"{memory}/memory32", os.O_RDONLY)
os.read(started, 3)
assert os.system(unplug) == 0
def outcome(call):
    try: return call()
    except OSError as e: return errno.errorcode[e.errno]
print(*map(outcome, (
    lambda: os.read(reader, 100), lambda: os.pread(reader, 100, 5), lambda: os.write(writer, b"online"),
    lambda: os.read(writer, 100), lambda: os.read(started, 100).decode().strip(), lambda: os.read(started, 100),
    lambda: os.stat("state", dir_fd=directory), lambda: os.fstat(reader),
    lambda: os.open(f"{memory}/memory32/state", os.O_RDONLY), lambda: "memory32" in os.listdir(memory),
)))
"""


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_a_block_that_is_removed_while_its_files_are_open(
    mounted: Mounter, person: Person, native: bool
) -> None:
    """ENODEV for reads and writes; what a read has begun with is read to its end, as seq_file has
    it.

    Linux would answer fstat(2): FUSE asks for attributes by name, and there is none any more.
    """
    tree = mounted(person, native=native)
    plug(tree, person)
    unplug = f"fakesysfs monitor --instance {tree} 'device_del d0'"
    result = person.run("python3", "-c", HOLDER, str(tree / MEMORY), unplug)
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout == "ENODEV ENODEV ENODEV ENODEV line ENODEV ENOENT ENOENT ENOENT False\n"


def test_a_new_block_of_that_number_is_another_one(tree: Path) -> None:
    plug(tree)
    state = tree / MEMORY / "memory32/state"
    with opened(state, os.O_RDWR) as old:
        monitor(tree, "device_del d0", "device_add pc-dimm,id=d0,memdev=m0")
        for access in (lambda: os.pread(old, 100, 0), lambda: os.pwrite(old, b"online", 0)):
            with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
                access()
        assert state.read_text() == "offline\n"
        with opened(state, os.O_RDWR) as new:
            assert os.pwrite(new, b"online", 0) == 6
            assert os.pread(new, 100, 0) == b"online\n"


# poll


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_poll(mounted: Mounter, native: bool) -> None:
    """An attribute is always ready, and urgent until it is read; nobody is told of a change."""
    tree = mounted(ME, native=native)
    plug(tree)
    control = tree / MEMORY / "memory32/power/control"
    with opened(control, os.O_RDWR) as fd, opened(control, os.O_WRONLY) as writer:
        assert polled(fd) == READY | URGENT
        assert polled(fd, select.POLLPRI) == URGENT
        assert os.read(fd, 100) == b"auto\n"
        assert polled(fd) == READY
        assert polled(fd, select.POLLPRI) == 0
        os.write(writer, b"on")
        assert polled(fd, select.POLLPRI) == 0
        assert polled(writer) == READY | URGENT
        assert select.select([fd], [fd], [fd], 0) == ([fd], [fd], [])
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLPRI | select.EPOLLET)
            assert epoll.poll(0) == []
            monitor(tree, "device_del d0")
            assert epoll.poll(0) == []
        assert polled(fd) == polled(writer) == READY | URGENT


@pytest.mark.parametrize(
    "path",
    [
        "proc/meminfo",
        "sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_ONLINE/error",
    ],
)
def test_poll_outside_of_sysfs(shared: Path, path: str) -> None:
    with opened(shared / path, os.O_RDONLY) as fd:
        assert polled(fd) == READY


# inotify

IN = {0x1: "ACCESS", 0x2: "MODIFY", 0x8: "CLOSE_WRITE", 0x10: "CLOSE_NOWRITE", 0x20: "OPEN"}


class Inotify:
    """What inotify tells of some paths."""

    def __init__(self, *paths: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        for path in paths:
            assert self._libc.inotify_add_watch(self._fd, os.fsencode(path), 0xFFF) > 0

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def told(self) -> list[str]:
        """What happened to files since the last look; what happened to directories begins with `/`."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            what = "|".join(IN.get(1 << bit, hex(1 << bit)) for bit in range(30) if mask & 1 << bit)
            events.append(f"{'/' if mask & 1 << 30 else ''}{what} {name}".rstrip())
            at += 16 + length
        return events


def test_inotify(tree: Path) -> None:
    """What programs do with files; not that blocks come and go, which Linux does not tell either."""
    memory = tree / MEMORY
    plug(tree)
    control = memory / "memory32/power/control"
    with Inotify(memory, memory / "memory32", control.parent) as inotify:
        assert control.read_text() == "auto\n"
        inotify_names = {word.split()[0] for word in inotify.told()}
        assert inotify_names == {"OPEN", "ACCESS", "CLOSE_NOWRITE"}
        with opened(control, os.O_WRONLY) as fd:
            os.write(fd, b"on")
        assert inotify.told() == ["OPEN control", "MODIFY control", "CLOSE_WRITE control"]
        with pytest.raises(OSError, match="Invalid argument"), opened(control, os.O_WRONLY) as fd:
            os.write(fd, b"maybe")
        assert inotify.told() == ["OPEN control", "CLOSE_WRITE control"]
        monitor(tree, "device_del d0")
        assert not control.exists()
        monitor(tree, "device_add pc-dimm,id=d0,memdev=m0")
        assert control.exists()
        assert inotify.told() == []
