"""What this host allows, and what to do about what it does not: `fakesysfs doctor`.

Owns: the list of checks and their advice. Each asks the host itself and changes nothing; the last
one is a real `run`. Does not own: the checks every mount makes (mount.preflight), whose words are
used here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import EnvironmentProblem
from ..mount import CONTAINER_OPTIONS, DEVICE, load_fusepy, preflight

UTIL_LINUX = (2, 34)  # unshare --kill-child --propagation --map-root-user, all in this one
SECONDS = 30.0


class Finding(NamedTuple):
    """One line of the doctor.

    :param good: True, or False when it is a fault, or None for what is merely good to know.
    :param what: what was looked at.
    :param how: what was found.
    :param advice: what to do; empty when nothing.
    """

    good: bool | None
    what: str
    how: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one after the other."""
    yield from _fuse()
    yield from _fusermount()
    yield from _util_linux()
    yield from _container()
    yield from _namespaces()
    yield from _places()
    yield from _tools()
    yield from _udevd()
    yield _run()


def _fuse() -> Iterator[Finding]:
    try:
        fuse = load_fusepy()
    except EnvironmentProblem as e:
        yield Finding(False, "libfuse", e.message, e.hint)
    else:
        version = fuse._libfuse.fuse_version()
        yield Finding(True, "libfuse", f"version {version // 10}.{version % 10}, and fusepy")
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        yield Finding(True, DEVICE, "can be opened")
    except OSError:
        try:
            preflight()
        except EnvironmentProblem as e:
            yield Finding(False, DEVICE, e.message, e.hint)


def _fusermount() -> Iterator[Finding]:
    if os.geteuid() == 0:
        return
    program = shutil.which("fusermount", path=f"{os.environ.get('PATH', '')}:/bin")
    if program is None:
        yield Finding(
            None,
            "fusermount",
            "not there: `mount` needs it, `run` does not",
            "install the package fuse3",
        )
    elif not os.stat(program).st_mode & 0o4000:
        yield Finding(
            None,
            "fusermount",
            f"{program} is not setuid root: `mount` fails, `run` does not need it",
            "put the system's fusermount first in PATH",
        )
    else:
        yield Finding(True, "fusermount", program)


def _util_linux() -> Iterator[Finding]:
    for program in ("unshare", "nsenter"):
        needed = program == "unshare"
        if not shutil.which(program):
            yield Finding(False if needed else None, program, "not there", "install util-linux")
            continue
        text = _output([program, "--version"])
        match = re.search(r"util-linux (\d+)\.(\d+)", text)
        if match is None:
            said = text.splitlines()[0] if text else "no answer"
            yield Finding(
                False if needed else None,
                program,
                f"not util-linux's: {said}",
                "install util-linux",
            )
        else:
            good = (int(match[1]), int(match[2])) >= UTIL_LINUX
            advice = "" if good else "util-linux 2.34 or newer is needed"
            yield Finding(
                good or (False if needed else None),
                program,
                f"util-linux {match[1]}.{match[2]}",
                advice,
            )


def _container() -> Iterator[Finding]:
    for sign in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container"):
        if os.path.exists(sign):
            yield Finding(
                None, "container", f"this is one ({sign})", f"start it with {CONTAINER_OPTIONS}"
            )
            return


# Settings that forbid an ordinary user's namespaces: name, value that forbids, value that allows.
_SETTINGS = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
    ("user.max_mnt_namespaces", "0", "10000"),
    ("user.max_net_namespaces", "0", "10000"),
    ("user.max_pid_namespaces", "0", "10000"),
)


def _namespaces() -> Iterator[Finding]:
    if not shutil.which("unshare"):
        return
    from ..run.launch import UNSHARE, unshare_as

    try:
        trial = [*UNSHARE, *unshare_as(), "--net", "--", "true"]
    except EnvironmentProblem as e:
        yield Finding(False, "namespaces", e.message, e.hint)
        return
    result = subprocess.run(trial, capture_output=True, text=True, check=False, timeout=SECONDS)
    kind = "of a user namespace" if "--user" in trial else "as root"
    if result.returncode == 0:
        yield Finding(True, "namespaces", f"can be made, {kind}")
        if "--user" not in trial:
            yield from _lock()
        return
    advice = []
    for setting, forbidding, allowing in _SETTINGS:
        try:
            with open(f"/proc/sys/{setting.replace('.', '/')}", encoding="ascii") as file:
                if file.read().strip() == forbidding:
                    advice.append(f"sudo sysctl -w {setting}={allowing}")
        except OSError:
            continue
    if not advice:
        advice = [f"in a container: {CONTAINER_OPTIONS}", "else run it as root (sudo)"]
    yield Finding(
        False, "namespaces", f"cannot be made, {kind}: {result.stderr.strip()}", ", ".join(advice)
    )


def _lock() -> Iterator[Finding]:
    """Whether root inside is kept from making the host's files writable again."""
    from ..run.host_files import locked_namespace, may_undo

    if not may_undo():
        return
    try:
        os.close(locked_namespace())
    except OSError as e:
        yield Finding(
            None,
            "read-only",
            f"the host's files are, inside, but `mount -o remount,rw /sys` works there: {e.strerror}",
            "sudo sysctl -w user.max_user_namespaces=10000",
        )
    else:
        yield Finding(True, "read-only", "the host's files are, inside, for root, too")


def _places() -> Iterator[Finding]:
    """Where the files are to appear."""
    from ..run.covered_paths import DIRECTORIES, FILES

    for top, kind in (("/proc", "proc"), ("/sys", "sysfs")):
        try:
            empty = not os.listdir(top)
        except OSError:
            empty = True
        if empty:
            needed = kind == "proc" or not os.path.isdir(top)
            how = (
                "is not there, and `run` needs it"
                if needed
                else "is empty: in `run` it has the simulated files and no others"
            )
            yield Finding(
                False if needed else None,
                top,
                how,
                f"as root: mkdir -p {top}; mount -t {kind} {kind} {top}",
            )
    if not os.path.isdir(DIRECTORIES[0]):
        yield Finding(
            None, "/sys", f"has no {DIRECTORIES[0]}: `run` makes it appear, for its command only"
        )
    else:
        yield Finding(
            True, "/sys", f"has {DIRECTORIES[0]}, which `run` covers, for its command only"
        )
    absent = [path for path in FILES if not os.path.exists(path)]
    if absent and os.path.exists("/proc/self"):
        yield Finding(None, "/proc", f"has no {', '.join(absent)}, so `run` has none either")


def _udevd() -> Iterator[Finding]:
    from ..run.udev import DAEMON

    daemon = next((path for path in DAEMON if os.access(path, os.X_OK)), None)
    if daemon is None:
        yield Finding(
            None,
            "udevd",
            "no systemd-udevd: `run --udev` needs it",
            "install the package udev (systemd-udev)",
        )
    else:
        yield Finding(True, "udevd", daemon)


def _tools() -> Iterator[Finding]:
    absent = [name for name in ("lsmem", "chmem", "udevadm") if not shutil.which(name, path=_PATH)]
    if absent:
        yield Finding(
            None,
            "tools",
            f"not there: {', '.join(absent)}",
            "install util-linux and udev to use them",
        )
    else:
        yield Finding(True, "tools", "lsmem, chmem, udevadm")


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _run() -> Finding:
    """A run whose command sees that the files are the machine's."""
    check = (
        "test $(stat -f -c %t /sys/devices/system/memory) = 65735546 && test -e /proc/self/status"
    )
    command = [sys.executable, "-P", "-m", "fakesysfs", "run", "-v", "--", "sh", "-c", check]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    begin = time.monotonic()
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return Finding(False, "run", f"did not end within {SECONDS:.0f} s")
    milliseconds = (time.monotonic() - begin) * 1000
    said = result.stderr.strip().replace("fakesysfs: ", "").replace("\n", "; ")
    if result.returncode == 0:
        return Finding(
            True, "run", f"works, {milliseconds:.0f} ms" + (f" ({said})" if said else "")
        )
    return Finding(False, "run", f"does not work: {said or 'the files are not there'}", "see above")


def _output(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except OSError:
        return ""
    return result.stdout + result.stderr
