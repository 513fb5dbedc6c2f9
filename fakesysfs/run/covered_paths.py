"""The view of `fakesysfs run`: which paths of /sys and /proc are ours, and how they come to stand
there.

Owns: the list of paths, what is mounted over what in a mount namespace that is already private,
here and in root file systems for chroot, and the child process that does it. Does not own the
namespaces and the processes of `run` (launch.py), nor the tree itself (mount.py).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import contextmanager

from ..errors import EnvironmentProblem
from .system_calls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    unmount,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

# What of /sys and /proc is ours, in the order it is covered.
DIRECTORIES = (
    "/sys/devices/system/memory",
    "/sys/devices/system/node",
    "/sys/bus/memory",
    "/sys/bus/node",
    "/sys/module/memory_hotplug",
    "/sys/firmware/memmap",
    "/sys/firmware/memory",
    "/sys/kernel/debug/notifier-error-inject",
    "/sys/kernel/debug/tracing",
)
# DIMM slots have ACPI devices among those of the host's that have nothing to do with memory and
# stay in sight: directories in the first, links in the second. What has such a name on the host is
# of its own slots, and hidden.
SLOT_PLACES = ("/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04", "/sys/bus/acpi/devices")
SLOT = "PNP0C80:"
FILES = (
    "/proc/meminfo",
    "/proc/zoneinfo",
    "/proc/buddyinfo",
    "/proc/pagetypeinfo",
    "/proc/vmstat",
    "/proc/iomem",
)
# Directories to mount the whole tree over until its parts are in place; none in which any of the
# above is.
STAGES = ("/sys/fs", "/mnt", "/srv")


def stage() -> str:
    """A directory to mount the machine's tree over, for Mounter.cover().

    :raises EnvironmentProblem: there is none.
    """
    for directory in STAGES:
        if os.path.isdir(directory):
            return directory
    raise EnvironmentProblem("there is no /sys here", "mount -t sysfs sysfs /sys")


def is_covered(path: str, roots: Sequence[str] = ()) -> bool:
    """Whether an absolute path leads into what is covered, here or in a root file system. Looks at
    the name only.
    """
    for root in ("", *roots):
        inside = path.removeprefix(root) if path.startswith(f"{root}/") else ""
        if any(
            inside == place or inside.startswith(f"{place}/") for place in (*DIRECTORIES, *FILES)
        ):
            return True
        if any(inside.startswith(f"{place}/{SLOT}") for place in SLOT_PLACES):
            return True
    return False


def checked_root(directory: str) -> str:
    """The true path of a root file system in which the files are to be shown.

    :raises EnvironmentProblem: it has no directories sys and proc to show them in.
    """
    root = os.path.realpath(directory)
    if root == "/":
        raise EnvironmentProblem(
            "--bind-root /: that is where the files are anyway", "give the directory for chroot"
        )
    for name in ("sys", "proc"):
        place = os.path.join(root, name)
        if os.path.islink(place) or not os.path.isdir(place):
            raise EnvironmentProblem(
                f"--bind-root {directory}: there is no directory {name} in it", f"mkdir {place}"
            )
    return root


class Mounter:
    """A child of the process that serves the tree; it does everything for which paths in the tree
    must be looked up.

    To be made before the device /dev/fuse is opened, so that the child does not hold it open, and
    before there are threads. It begins at once with what needs no tree: a /proc of this pid
    namespace.
    """

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            try:
                self._work(theirs)
            finally:
                os._exit(1)
        theirs.close()

    def cover(self, stage: str, roots: Sequence[str] = ()) -> list[str]:
        """Put the parts of the tree mounted at `stage` over the real /sys and /proc, and take it
        away from there.

        :param roots: root file systems to show it in as well, as checked_root() gives them.
        :returns: what could not be done and is not fatal, a sentence each.
        :raises EnvironmentProblem: it cannot be done.
        """
        self._ours.send(json.dumps([stage, *roots]).encode())
        answer = json.loads(self._ours.recv(1 << 16) or b'["the process that mounts ended", []]')
        self._ours.close()
        os.waitpid(self._pid, 0)
        error, notes = answer
        if error:
            raise EnvironmentProblem(error, "`fakesysfs doctor` says what to do")
        return list(notes)

    def _work(self, parent: socket.socket) -> NoReturn:
        notes, error = [], ""
        try:
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        except OSError as e:
            notes.append(
                f"/proc stays the one outside, so process numbers do not fit: {e.strerror}"
            )
        request = parent.recv(1 << 16)
        if not request:
            os._exit(1)  # the process that serves was killed
        stage, *roots = json.loads(request)
        place = "/"
        try:
            for place in _places(stage, roots):
                note = _cover(stage, place, roots)
                if note:
                    notes.append(note)
            unmount(stage)
        except OSError as e:
            error = f"nothing can be put over {place}: {e.strerror}"
        parent.send(json.dumps([error, notes]).encode())
        os._exit(0)


def _places(stage: str, roots: Sequence[str]) -> Iterator[str]:
    """What is to be covered, one after the other: the paths here, then those in the other root file
    systems.
    """
    ours = [place for place in (*DIRECTORIES, *SLOT_PLACES) if os.path.isdir(stage + place)]
    ours += [place for place in FILES if os.path.isfile(stage + place)]
    yield from ours
    for root in roots:
        for top in ("/sys", "/proc"):
            if os.listdir(root + top):
                yield from (root + place for place in ours if place.startswith(f"{top}/"))
            else:
                yield root + top


def _cover(stage: str, place: str, roots: Sequence[str]) -> str:
    """Cover one place. Returns a sentence when it cannot be and that is not fatal."""
    root = next((root for root in roots if place.startswith(f"{root}/")), "")
    path = place.removeprefix(root)
    # an empty directory: it gets what there is outside, and what covers it
    if path in ("/sys", "/proc"):
        mount(path, place, None, MS_BIND | MS_REC)
    elif path in SLOT_PLACES and os.path.isdir(place):
        with _rebuilt(place, without=SLOT):
            for name in os.listdir(stage + path):
                _repeat(f"{stage}{path}/{name}", f"{place}/{name}")
    elif path in DIRECTORIES or path in SLOT_PLACES:
        if not os.path.isdir(place):
            make_appear(place)
        mount(stage + path, place, None, MS_BIND)
    elif os.path.isfile(place):
        mount(stage + path, place, None, MS_BIND)
    else:
        return (
            f"there is no {place}, so there is none here"
            if root
            else f"this kernel has no {place}, so there is none here"
        )
    return ""


def make_appear(directory: str, *, read_only: bool = True) -> None:
    """Make an empty directory where there is none, and leave no trace of it on any disk.

    The nearest directory above it that exists is covered by a tmpfs with everything it has, bound
    or linked, so that nothing disappears. What cannot be listed (debugfs, for an ordinary user)
    could not be used either.

    :param read_only: no file can be made in that covered one, as in /sys; else whoever could can,
        and it is gone with the namespace.
    """
    above = os.path.dirname(directory)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if above == "/":  # it would have to be covered as a whole
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
    with _rebuilt(above, read_only=read_only):
        os.makedirs(directory)


@contextmanager
def _rebuilt(
    directory: str, *, without: str | None = None, read_only: bool = True
) -> Iterator[None]:
    """Cover a directory by a tmpfs with everything it has, and let the caller add to it.

    :param without: leave out what has a name that begins so.
    :param read_only: nothing can be added afterwards.
    """
    try:
        hidden = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        hidden = -1
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    mount("fakesysfs", directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode={mode:o}")
    if hidden >= 0:
        with os.scandir(hidden) as entries:
            for entry in entries:
                if without is None or not entry.name.startswith(without):
                    _repeat(
                        f"/proc/self/fd/{hidden}/{entry.name}", os.path.join(directory, entry.name)
                    )
        os.close(hidden)
    yield
    if read_only:
        mount(
            "none",
            directory,
            None,
            MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
        )


def _repeat(original: str, place: str) -> None:
    if os.path.islink(original):
        os.symlink(os.readlink(original), place)
        return
    if os.path.isdir(original):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    mount(original, place, None, MS_BIND | MS_REC)
