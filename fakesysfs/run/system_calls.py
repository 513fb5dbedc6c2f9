"""System calls that Python's `os` does not have in every version: mounts and namespaces.

Owns: their numbers and how they are called. Does not own what they are used for.
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 1 << 21
CLONE_FS = 0x00000200
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x10000000,
    0x20000000,
    0x40000000,
)


def call(name: str, *arguments: Any) -> None:
    """Call a function of the C library that returns -1 and sets errno when it fails.

    :raises OSError: it did.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2).

    :raises OSError: it failed; its `filename` is the target.
    """
    import ctypes

    try:
        call(
            "mount", os.fsencode(source), os.fsencode(target), kind and kind.encode(), ctypes.c_ulong(flags),
            data and data.encode(),
        )  # fmt: skip
    except OSError as e:
        raise OSError(e.errno, e.strerror, target) from None


def unmount(directory: str) -> None:
    """Take away what is mounted at `directory`, also when it is in use."""
    call("umount2", os.fsencode(directory), 2)  # MNT_DETACH


def end_with_parent() -> None:
    """Have this process killed when the thread that made it ends."""
    import signal

    call("prctl", 1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG


def enter_quiet_network() -> bool:
    """Put this thread into a new network namespace that gets none of the uevents of this host's
    devices.

    The kernel sends those to each network namespace that belongs to the first user namespace
    (Linux: lib/kobject_uevent.c uevent_net_init()); so a child makes it in a user namespace of its
    own, and hands it over.

    :returns: False when there can be none: the host grants no user namespace, say.
    """
    # Before there is a child, which must not wait for a lock of a thread it does not have
    import ctypes  # noqa: F401

    ours, theirs = socket.socketpair()
    with ours:
        child = os.fork()
        if child == 0:
            try:
                call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
                socket.send_fds(
                    theirs, [b"!"], [os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]
                )
            finally:
                os._exit(0)
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    if not descriptors:
        return False
    try:
        call("setns", descriptors[0], CLONE_NEWNET)
    except OSError:
        return False
    finally:
        os.close(descriptors[0])
    return True


def loopback_up() -> None:
    """Switch on the loopback device of this network namespace."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
