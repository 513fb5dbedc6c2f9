"""Which paths of /sys and /proc are the machine's inside `run`, and how they come to be there.

Owns: the list of paths, what is mounted over what in a mount namespace that is already private,
here and in root file systems for chroot, and the child process that does it. Does not own what is
read-only (host_files.py), the namespaces and the processes of `run` (launch.py), nor the tree itself
(mount.py).

A path of the list that the machine has is covered by the machine's. One that the machine does not
have is taken away: its parent directory is rebuilt without it. So none is ever the host's.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import contextmanager

from ..errors import EnvironmentProblem
from .host_files import cover_log, enter, locked_namespace, make_read_only, may_undo
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
    from collections.abc import Callable, Iterator, Sequence
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
    "/sys/kernel/mm/hugepages",
    "/sys/kernel/debug/notifier-error-inject",
    "/sys/kernel/debug/tracing",
)
# Of a machine with ACPI the host's own devices stay in sight, but for those below. One without has
# none of these.
ACPI_DIRECTORIES = (
    "/sys/bus/acpi",
    "/sys/devices/LNXSYSTM:00",
    "/sys/firmware/acpi",
    "/sys/module/acpi",
)
# DIMM slots have ACPI devices among those of the host's that have nothing to do with memory and
# stay in sight: directories in the first, links in the second. What has such a name on the host
# belongs to the host's slots, and is taken away.
SLOT_PLACES = ("/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04", "/sys/bus/acpi/devices")
SLOT = "PNP0C80:"
FILES = (
    "/proc/meminfo",
    "/proc/zoneinfo",
    "/proc/buddyinfo",
    "/proc/pagetypeinfo",
    "/proc/vmstat",
    "/proc/iomem",
    "/proc/cmdline",
    "/proc/sys/vm/nr_hugepages",
    "/proc/sys/vm/nr_hugepages_mempolicy",
    "/proc/sys/vm/nr_overcommit_hugepages",
    "/proc/sys/vm/min_free_kbytes",
    "/proc/sys/vm/drop_caches",
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


def is_kernels(path: str, roots: Sequence[str] = ()) -> bool:
    """Whether an absolute path leads into /sys or /proc, here or in a root file system. Looks at the
    name only.
    """
    return any(
        f"{path}/".startswith(f"{root}{top}/") for root in ("", *roots) for top in ("/sys", "/proc")
    )


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

    def seal(self, *, host_writes: bool) -> None:
        """Begin to make the host's files read-only; sealed() waits for the end.

        :param host_writes: leave them as they are.
        """
        self._ours.send(json.dumps({"host_writes": host_writes}).encode())

    def sealed(self) -> list[str]:
        """Wait until it is done, and enter the mount namespace in which it cannot be undone by
        accident, with this thread and those it starts from now on.

        :returns: what could not be done and is not fatal, a sentence each.
        :raises EnvironmentProblem: the host's files cannot be made read-only.
        """
        notes, descriptors = self._answer()
        for namespace in descriptors:
            enter(namespace)
            os.close(namespace)
        return notes

    def cover(self, stage: str, roots: Sequence[str], *, acpi: bool) -> list[str]:
        """Put the parts of the tree mounted at `stage` over the real /sys and /proc, and take it
        away from there.

        :param roots: root file systems to show it in as well, as checked_root() gives them.
        :param acpi: whether the machine has ACPI.
        :returns: what could not be done and is not fatal, a sentence each.
        :raises EnvironmentProblem: it cannot be done.
        """
        self._ours.send(json.dumps({"stage": stage, "roots": roots, "acpi": acpi}).encode())
        notes, _ = self._answer()
        self._ours.close()
        os.waitpid(self._pid, 0)
        return notes

    def _answer(self) -> tuple[list[str], list[int]]:
        said, descriptors, _, _ = socket.recv_fds(self._ours, 1 << 16, 1)
        answer = json.loads(said or b'{"error": ["the process that mounts ended", null]}')
        if answer.get("error"):
            raise EnvironmentProblem(*answer["error"])
        return answer["notes"], descriptors

    def _work(self, parent: socket.socket) -> NoReturn:
        """The life of the child. A request that is missing: the process that serves was killed."""
        notes = _fresh_proc()
        descriptors: list[int] = []
        try:
            request = json.loads(parent.recv(1 << 16))
            if not request["host_writes"]:
                make_read_only()
            cover_log()
            if not request["host_writes"]:
                more, descriptors = _locked()
                notes += more
            socket.send_fds(parent, [json.dumps({"notes": notes}).encode()], descriptors)
            request = json.loads(parent.recv(1 << 16))
            notes = _cover_all(request["stage"], request["roots"], acpi=request["acpi"])
            parent.send(json.dumps({"notes": notes}).encode())
        except EnvironmentProblem as e:
            parent.send(json.dumps({"error": [e.message, e.hint]}).encode())
        except OSError as e:
            error = f"nothing can be put over {e.filename or '/sys'}: {e.strerror}"
            parent.send(
                json.dumps({"error": [error, "`fakesysfs doctor` says what to do"]}).encode()
            )
        os._exit(0)


def _fresh_proc() -> list[str]:
    """Mount the /proc of this pid namespace. Returns notes."""
    try:
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError as e:
        return [f"/proc stays the one outside, so process numbers do not fit: {e.strerror}"]
    return []


def _locked() -> tuple[list[str], list[int]]:
    """Enter the mount namespace in which what was done cannot be undone. Returns notes, and the
    descriptor of that namespace if there is one.
    """
    if not may_undo():
        return [], []
    try:
        namespace = locked_namespace()
        enter(namespace)
    except OSError as e:
        return [
            f"the host's files are read-only, but `mount -o remount,rw` works: {e.strerror}"
        ], []
    return [], [namespace]


def _cover_all(stage: str, roots: Sequence[str], *, acpi: bool) -> list[str]:
    """Cover the places of the machine here and in other root file systems. Returns notes."""
    listed = (*DIRECTORIES, *SLOT_PLACES)
    there = [place for place in listed if os.path.isdir(stage + place)]
    there += [place for place in FILES if os.path.isfile(stage + place)]
    missing = [place for place in (*DIRECTORIES, *FILES) if place not in there]
    if not acpi:
        missing += ACPI_DIRECTORIES
    slots = [place for place in SLOT_PLACES if acpi and place not in there]
    notes = []
    for root in ("", *roots):
        for top in ("/sys", "/proc"):
            if root and not os.listdir(root + top):
                # it gets what there is outside, and what covers it
                mount(top, root + top, None, MS_BIND | MS_REC)
                continue
            _take_away([root + place for place in missing if place.startswith(f"{top}/")])
            for place in (*there, *slots):
                if place.startswith(f"{top}/"):
                    notes.append(_cover(stage, place, root))
    unmount(stage)
    return [note for note in notes if note]


def _take_away(places: Sequence[str]) -> None:
    """Let paths be missing: each parent directory is rebuilt without them."""
    parents: dict[str, set[str]] = {}
    for place in places:
        # /proc itself, whose entries come and go, cannot be rebuilt: all of the list is there always
        if os.path.lexists(place):
            parents.setdefault(os.path.dirname(place), set()).add(os.path.basename(place))
    for parent, names in parents.items():
        with _rebuilt(parent, without=names.__contains__):
            pass


def _cover(stage: str, path: str, root: str) -> str:
    """Cover one place. Returns a sentence when it cannot be and that is not fatal."""
    place = root + path
    if path in SLOT_PLACES and os.path.isdir(place):
        ours = os.listdir(stage + path) if os.path.isdir(stage + path) else []
        if ours or any(name.startswith(SLOT) for name in os.listdir(place)):
            with _rebuilt(place, without=lambda name: name.startswith(SLOT)):
                for name in ours:
                    _repeat(f"{stage}{path}/{name}", f"{place}/{name}")
    elif os.path.isdir(stage + path):
        if not os.path.isdir(place):
            make_appear(place)
        mount(stage + path, place, None, MS_BIND)
    elif os.path.isfile(place):
        mount(stage + path, place, None, MS_BIND)
    elif path in FILES:
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
    directory: str, *, without: Callable[[str], bool] = lambda _: False, read_only: bool = True
) -> Iterator[None]:
    """Cover a directory by a tmpfs with everything it has, and let the caller add to it.

    :param without: says of a name that it is to be left out.
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
                if not without(entry.name):
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
