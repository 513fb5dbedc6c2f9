"""The host's own files below /sys and /proc, which a command inside `run` may read and not change.

Owns: which mounts and files are made read-only, and the mount namespace in which they stay so. Does
not own what the machine shows in their place (covered_paths.py), nor the processes of `run`
(launch.py).

Two steps, in a mount namespace that is already private:

1. make_read_only(): each mount of sysfs and its relatives, wherever it is, and what can be written
   to below each mount of proc. Below /sys/fs nothing changes: control groups are there.
2. locked_namespace(), for a root that could change it back: the kernel locks the flags of mounts
   that a less privileged mount namespace gets. A script that says `mount -o remount,rw /sys` or
   `mount -t sysfs` then gets EPERM. Linux: fs/namespace.c lock_mnt_tree(), mount_too_revealing().

Neither is a prison. A root that means to can leave the mount namespace, load a module or write to a
disk; docs/what-is-covered.md says what is promised.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress

from ..errors import EnvironmentProblem
from .system_calls import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    call,
    mount,
)

# File systems in which a write changes the kernel, wherever they are mounted.
KERNEL_FILE_SYSTEMS = {
    "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "efivarfs", "pstore", "selinuxfs", "smackfs",
    "binfmt_misc",
}  # fmt: skip
# Below a sysfs: control groups and whatever else belongs to the process rather than to the machine.
LEFT_ALONE = "fs"
# Below a proc: a file that only asks the kernel to tell about pressure, and what nobody can write.
PROC_LEFT_ALONE = {"pressure", "sysvipc", "tty"}
# The kernel's log: a write adds a line to the host's, and reading /proc/kmsg takes lines from it.
LOG_FILES = ("/dev/kmsg", "/proc/kmsg")
FLAGS = {
    "ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME, "relatime": MS_RELATIME,
}  # fmt: skip
EVERY_USER = ["0", "0", "4294967295"]  # /proc/self/uid_map of a process in no user namespace


class Mounted:
    """A line of /proc/self/mountinfo.

    :param place: where it is mounted.
    :param root: the directory of the file system that is seen there.
    :param kind: the type of the file system.
    :param flags: MS_*, as mount(2) needs them to change one and keep the others.
    """

    def __init__(self, place: str, root: str, kind: str, flags: int) -> None:
        self.place = place
        self.root = root
        self.kind = kind
        self.flags = flags


def mounts() -> list[Mounted]:
    """Every mount of this mount namespace, also those that others cover; the last at a place is
    seen.

    :raises EnvironmentProblem: there is no /proc to ask.
    """
    found = []
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        raise EnvironmentProblem("there is no /proc here", "mount -t proc proc /proc") from None
    for line in text.splitlines():
        own, _, of_file_system = line.partition(" - ")
        _, _, _, root, place, options, *_ = own.split(" ")
        flags = sum(FLAGS.get(option, 0) for option in options.split(","))
        found.append(Mounted(_unescaped(place), root, of_file_system.split(" ")[0], flags))
    return found


def _unescaped(text: str) -> str:
    """A path as it is; a blank stands there as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def make_read_only() -> None:
    """Make the host's files below /sys and /proc read-only, for this mount namespace.

    :raises EnvironmentProblem: it cannot be done.
    """
    try:
        if os.path.isdir("/sys") and not any(one.place == "/sys" for one in mounts()):
            mount("/sys", "/sys", None, MS_BIND | MS_REC)
        before = mounts()
        procs = {one.place for one in before if one.kind == "proc" and one.root == "/"}
        for place in procs:
            _bind_entries(place)
        whole = {one.place for one in before if one.kind == "sysfs" and one.root == "/"}
        for place in whole | {"/sys"}:
            _keep_writable(f"{place}/{LEFT_ALONE}")
        for one in mounts():
            if not one.flags & MS_RDONLY and _is_the_hosts(one, procs):
                _remount(one)
        for place in ("/sys", "/proc/sys"):
            if os.path.isdir(place) and not os.statvfs(place).f_flag & os.ST_RDONLY:
                raise OSError(errno.EPERM, "it stays writable", place)
    except OSError as e:
        raise EnvironmentProblem(
            f"the host's files cannot be made read-only ({e.filename or 'mount'}: {e.strerror})",
            "`--host-writes` does without: the command can then change this host",
        ) from None


def _keep_writable(directory: str) -> None:
    """Make a directory a mount of its own, which can have flags of its own."""
    if os.path.isdir(directory):
        mount(directory, directory, None, MS_BIND | MS_REC)


def _bind_entries(proc: str) -> None:
    """Make what can be written to in a mount of proc, and belongs to no process, mounts of their
    own.
    """
    with os.scandir(proc) as entries:
        for entry in entries:
            name = entry.name
            if name.isdecimal() or name in PROC_LEFT_ALONE or entry.is_symlink():
                continue
            if entry.is_dir() or stat.S_IMODE(entry.stat().st_mode) & 0o222:
                mount(entry.path, entry.path, None, MS_BIND | MS_REC)


def _is_the_hosts(one: Mounted, procs: set[str]) -> bool:
    """Whether a mount is to be read-only.

    :param procs: where proc was mounted before _bind_entries() added to it.
    """
    if one.kind == "proc":
        return one.place not in procs
    if one.place == "/sys" or one.place.startswith("/sys/"):
        return not (one.place + "/").startswith(f"/sys/{LEFT_ALONE}/")
    left_alone = one.kind == "sysfs" and (one.root + "/").startswith(f"/{LEFT_ALONE}/")
    return one.kind in KERNEL_FILE_SYSTEMS and not left_alone


def _remount(one: Mounted) -> None:
    try:
        mount("none", one.place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | one.flags)
    except OSError as e:
        # Another mount covers this one or what is above it: nobody can reach it by this path.
        if e.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            raise OSError(e.errno, e.strerror, one.place) from None


def cover_log() -> None:
    """Cover the files of the host's kernel log by ones that swallow what is written to them."""
    for path in LOG_FILES:
        if os.path.exists(path):
            mount("/dev/null", path, None, MS_BIND)


# ----------------------------------------------------------------------------------------- locking


def may_undo() -> bool:
    """Whether a command inside would have the power of the host's root over the host's files."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == EVERY_USER
    except FileNotFoundError:
        return os.geteuid() == 0


def locked_namespace() -> int:
    """Make a copy of this mount namespace in which nobody can change the flags of a mount that it
    has from the start, or take one away. Returns its descriptor.

    It belongs to a user namespace of its own, which only a child can make.

    :raises OSError: the host grants no user namespace.
    """
    ours, theirs = socket.socketpair()
    with ours:
        child = os.fork()
        if child == 0:
            number = errno.EPERM
            try:
                call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
                namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                socket.send_fds(theirs, [b"\0"], [namespace])
                number = 0
            except OSError as e:
                number = e.errno or number
            finally:
                os._exit(number)
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not descriptors:
        raise OSError(number, os.strerror(abs(number)))
    return descriptors[0]


def enter(namespace: int) -> None:
    """Enter a mount namespace, with this thread and those it starts from now on. The current
    directory stays the one of its name.

    :raises OSError: it cannot be entered, or the root directory here is not the one there (chroot);
        nothing has changed then.
    """
    directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        name = None
        with suppress(FileNotFoundError):  # it has been removed
            name = os.getcwd()
        call("unshare", CLONE_FS)  # other threads stay where they are
        call("setns", namespace, CLONE_NEWNS)
        if not os.path.samestat(os.stat("/"), os.fstat(root)):
            call("setns", old, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(directory)
            raise OSError(errno.EXDEV, "the root directory is no mount")
        if name is not None:
            os.chdir(name)
        else:
            os.fchdir(directory)
    finally:
        for descriptor in (directory, root, old):
            os.close(descriptor)


# ---------------------------------------------------------------------------------- the kernel log

# What of syslog(2) reads the log and changes nothing: close, open, read all, size of what is unread,
# size of the buffer.
READING = (0, 1, 3, 9, 10)
# Machine, as uname(2) has it: AUDIT_ARCH_* and the number of syslog(2)
SYSLOG = {
    "x86_64": (0xC000003E, 103),
    "aarch64": (0xC00000B7, 116),
    "s390x": (0x80000016, 103),
    "ppc64le": (0xC0000015, 103),
    "riscv64": (0xC00000F3, 116),
}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF instructions
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


def keep_log() -> list[str]:
    """Refuse to this thread, and to all that it starts from now on, to clear the host's kernel log
    or to change what of it reaches the console: syslog(2) is EPERM then. Reading it is left alone.

    :returns: what could not be done, a sentence.
    """
    import ctypes
    import struct
    import sys

    if not may_undo():
        return []  # the host's kernel refuses it
    if os.uname().machine not in SYSLOG:
        return ["`dmesg --clear` clears the host's log: syslog(2) has no number here"]
    architecture, number = SYSLOG[os.uname().machine]
    argument = ARGUMENT + (4 if sys.byteorder == "big" else 0)
    checks = len(READING)
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, checks + 4, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, 0, checks + 2, number),
        (LOAD, 0, 0, argument),
        *((JUMP_IF_EQUAL, checks - i, 0, action) for i, action in enumerate(READING)),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    try:
        call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, 0, 0)
    except OSError as e:
        return [f"`dmesg --clear` clears the host's log: {e.strerror}"]
    return []
