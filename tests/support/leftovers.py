"""What a test may leave behind and must not: mounts of fakesysfs, processes, files in the
repository.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 30.0  # a process that was told to end may take this long

# Everything that a test starts inherits this, also what becomes a daemon and no longer is a child
# of ours.
os.environ["FAKESYSFS_TEST_RUN"] = f"{uuid.uuid4()}"
MARK = f"FAKESYSFS_TEST_RUN={os.environ['FAKESYSFS_TEST_RUN']}".encode()


def mounts() -> set[str]:
    """Mount points of fakesysfs in this mount namespace."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, source = line.partition(" - ")
        fstype, device = source.split()[:2]
        if fstype == "fuse.fakesysfs" or (fstype.startswith("fuse") and device == "fakesysfs"):
            escaped = fields.split()[4]  # blanks are written as \040
            found.add(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), escaped))
    return found


def processes() -> set[int]:
    """All there are, whoever's."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def _is_ours(pid: int) -> bool:
    """Whether this test run started a process, directly or not, and it lives."""
    try:
        state, parent = (
            Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        )
        if state in "ZX":
            return False
        marked = MARK in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to somebody else
        return False
    return marked or int(parent) == os.getpid() or (int(parent) > 1 and _is_ours(int(parent)))


def started_since(before: set[int]) -> dict[int, str]:
    """Living processes that this test run started and that were not there before, with their
    command lines.
    """
    found = {}
    for pid in processes() - before:
        if _is_ours(pid):
            with contextlib.suppress(OSError):
                command = (
                    Path(f"/proc/{pid}/cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode(errors="replace")
                )
                found[pid] = command.strip()
    return found


class Scene:
    """What was there before a test."""

    def __init__(self) -> None:
        self._mounts, self._processes = mounts(), processes()

    def clean_up(self) -> list[str]:
        """Remove the mounts and processes that are new, and return a complaint about each."""
        with contextlib.suppress(AssertionError):  # what is left then is what this is about
            wait_for(
                lambda: not started_since(self._processes) and not mounts() - self._mounts,
                GRACE_SECONDS,
            )
        left_processes, left_mounts = started_since(self._processes), mounts() - self._mounts
        for mount_point in left_mounts:
            for command in (
                ["umount", "--lazy", mount_point],
                ["fusermount", "-u", "-z", mount_point],
            ):
                subprocess.run(command, capture_output=True, check=False, timeout=10)
        for pid in left_processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [f"left a mount behind: {mount_point}" for mount_point in sorted(left_mounts)] + [
            f"left a process behind: {pid} {command}"
            for pid, command in sorted(left_processes.items())
        ]


def strays(directory: Path = ROOT) -> set[str]:
    """Files in a repository that are neither in git nor ignored; none where there is no git."""
    git = ["git", "-c", "safe.directory=*", "-C", str(directory)]
    command = [*git, "ls-files", "-z", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return {*listing.stdout.decode(errors="replace").split("\0")} - {""}
