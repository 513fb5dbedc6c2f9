"""The surroundings in which tests run, the same whoever starts them and from wherever.

A shell in the background, nohup(1), cron and containers hand down ignored signals, limits and
masks, and whatever a test starts inherits them. Root's tests have mounts and a network of their
own: what others mount meanwhile is not taken for a leak, and instances of others, also of tests
that run at the same time, are not seen.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

OPEN_FILES = 1024  # what a login shell has nearly everywhere
UNLIMITED = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NPROC,
)


def reset() -> None:
    """Give this process the signals, the mask for files and the limits that a process of a login
    shell has.

    A signal that was ignored gets a handler that does nothing: this process goes on when its
    terminal is closed, as whoever started it by nohup(1) wants, and what it starts does not inherit
    that. SIGINT stays Python's.
    """
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}):
        if signal.getsignal(number) is not signal.SIG_IGN:
            continue
        if number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # Python ignores these itself, and not for its children
        elif number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    for limit in UNLIMITED:
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE,
        (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard), hard),
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def isolate() -> None:
    """Mounts and a network of this process's own, where that may be had: by root, outside of most
    containers.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None)
    # Where / is no mount (a chroot), mounts stay as they are.
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    if libc.unshare(CLONE_NEWNET) == 0:
        _loopback_up()


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack("16xh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))
