"""What holds for every test: the order of the tiers, what may be left behind, and what a skip means in CI.

Tiers run from the lowest layer to the highest (t0 ... t5), so that the first red test is next to the cause.
A test fails if it leaves a mount of fakesysfs or a process behind, or if anything logs at level ERROR; what
it left is removed, so that the next test starts clean. With $CI set there is no skipping, except by
`@pytest.mark.may_skip(reason)`.

Owns no fixture that makes machines or mounts: those stand in the conftest.py of their tier.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

# The same examples on every run and every machine: a red run is reproduced by running again. No deadline,
# because what a step costs depends on who else uses the machine.
hypothesis.settings.register_profile("fakesysfs", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("fakesysfs")

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
GRACE_SECONDS = 3.0  # a process that was told to end may take this long

# Everything that a test starts inherits this, also what becomes a daemon and no longer is a child of ours.
os.environ["FAKESYSFS_TEST_RUN"] = f"{uuid.uuid4()}"
MARK = f"FAKESYSFS_TEST_RUN={os.environ['FAKESYSFS_TEST_RUN']}".encode()

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18

Process = tuple[int, str]  # pid and start time: a pid alone may be used again
Left = TypeVar("Left", set[str], dict[Process, str])


def pytest_configure() -> None:
    """Root's tests mount in a namespace of their own: what others mount meanwhile is not taken for a leak and removed."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        # Without the capability (a container), or where / is no mount (a chroot), things stay as they are.
        if libc.unshare(CLONE_NEWNS) == 0:
            libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def tier(item: pytest.Item) -> int:
        match = re.search(r"/t(\d)_\w+/", f"{item.path}")
        return int(match[1]) if match else -1  # the rules of the house come first: they need nothing

    items.sort(key=tier)


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return f"{report.longrepr[2]}" if isinstance(report.longrepr, tuple) else f"{report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    allowed = hasattr(report, "wasxfail") or item.get_closest_marker("may_skip")
    if IN_CI and report.skipped and not allowed:
        report.outcome = "failed"
        report.longrepr = f"CI must run every test. {_skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"CI must run every test. {_skip_reason(report)}"
    return report


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


def processes() -> dict[Process, str]:
    """Living processes that this test run started, directly or not, with their command lines."""
    parents: dict[int, int] = {}
    living: dict[int, Process] = {}
    ours = {os.getpid()}
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            parents[pid], living[pid] = int(fields[1]), (pid, fields[19])
            if MARK in (directory / "environ").read_bytes().split(b"\0"):
                ours.add(pid)
        except OSError:  # it has ended, or belongs to somebody else
            continue
    while children := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= children
    found = {}
    for pid in ours & living.keys() - {os.getpid()}:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found[living[pid]] = command.strip()
    return found


def _remain_after(look: Callable[[], Left]) -> Left:
    """What `look` still sees when it sees nothing any more, or when the time of grace is over."""
    end = time.monotonic() + GRACE_SECONDS
    while (left := look()) and time.monotonic() < end:
        time.sleep(0.02)
    return left


class _Errors(logging.Handler):
    """Keeps what was logged at level ERROR or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if a mount, a process or an ERROR in the log is left when it and its fixtures are done.

    What fixtures of a wider scope hold was there before; `_run_leaves_nothing` looks at that at the end.
    """
    old_mounts, old_processes = mounts(), processes()
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    yield
    logging.getLogger().removeHandler(errors)
    complaints = _clean_up(old_mounts, old_processes)
    if not request.node.get_closest_marker("logs_errors"):
        complaints += [f"logged an error: {line}" for line in errors.lines]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def _run_leaves_nothing() -> Iterator[None]:
    """The same for the whole run, with its fixtures of wider scope."""
    old_mounts, old_processes = mounts(), processes()
    yield
    if complaints := _clean_up(old_mounts, old_processes):
        pytest.fail("\n".join(complaints), pytrace=False)


def _clean_up(old_mounts: set[str], old_processes: dict[Process, str]) -> list[str]:
    """Remove the mounts and processes that are new, and return a complaint about each."""
    left_processes = _remain_after(
        lambda: {key: command for key, command in processes().items() if key not in old_processes}
    )
    left_mounts = _remain_after(lambda: mounts() - old_mounts)
    for mount_point in left_mounts:
        subprocess.run(["umount", "--lazy", mount_point], capture_output=True, check=False, timeout=10)
        subprocess.run(["fusermount", "-u", "-z", mount_point], capture_output=True, check=False, timeout=10)
    for pid, _ in left_processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [f"left a mount behind: {mount_point}" for mount_point in sorted(left_mounts)] + [
        f"left a process behind: {pid} {command}" for (pid, _), command in sorted(left_processes.items())
    ]
