"""Fault rules on a mount: what programs see of them, who waits and who does not, and how a wait is
ended.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.waiting import given_more_time, wait_for
from t3_mount.conftest import Mounter
from t3_mount.host import SECONDS, Person, ended, needs_fuse, people

pytestmark = needs_fuse

ME = people()[0]
MEMORY = "sys/devices/system/memory"
READERS = 24  # more than libfuse keeps threads for requests to come


def waiting(tree: Path) -> int:
    """Accesses that rules hold up, as `fakesysfs fault list` tells."""
    result = ME.run("fakesysfs", "fault", "list", "--instance", str(tree))
    assert result.returncode == 0, result.stderr
    return sum(
        int(line.split()[-2]) for line in result.stdout.splitlines() if line.endswith("waiting")
    )


@contextmanager
def processes(count: int, *command: str) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ended(ME.start(*command))) for _ in range(count)]


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_errors_reach_the_program(mounted: Mounter, person: Person, native: bool) -> None:
    rules = (
        "read memory1/state EIO x1",
        "write memory2/state EBUSY",
        "open memory3/state ENFILE",
        "list memory4 EIO",
    )
    tree = mounted(person, *(f"--fault={rule}" for rule in rules), native=native) / MEMORY

    def sh(script: str) -> tuple[int, str]:
        result = person.run("bash", "-c", f"exec 2>&1; cd {tree} && {script}")
        return result.returncode, result.stdout

    assert sh("cat memory1/state") == (1, "cat: memory1/state: Input/output error\n")
    assert sh("cat memory1/state") == (0, "online\n")
    assert sh("echo offline > memory2/state") == (
        1,
        "bash: line 1: echo: write error: Device or resource busy\n",
    )
    assert sh("cat memory2/state") == (0, "online\n")
    assert sh("cat memory3/state") == (1, "cat: memory3/state: Too many open files in system\n")
    assert sh("ls memory4") == (2, "ls: reading directory 'memory4': Input/output error\n")
    assert sh("cat memory4/state") == (0, "online\n")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EAGAIN, 133, 511])
def test_any_errno_passes_the_kernel(mounted: Mounter, number: int) -> None:
    tree = (
        mounted(ME, f"--fault=read memory1/state {number}", f"--fault=write memory1/state {number}")
        / MEMORY
    )
    fd = os.open(tree / "memory1/state", os.O_RDWR)
    try:
        for access in (lambda: os.pread(fd, 100, 0), lambda: os.pwrite(fd, b"online", 0)):
            with pytest.raises(OSError, match=os.strerror(number)) as refused:
                access()
            assert refused.value.errno == number
    finally:
        os.close(fd)


def test_a_listing_without_a_directory_is_empty(mounted: Mounter) -> None:
    """As that of a directory which was removed after it had been opened: the C library takes ENOENT
    for the end.
    """
    tree = mounted(ME, "--fault=list memory4 ENOENT") / MEMORY
    assert os.listdir(tree / "memory4") == []


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_readers_that_hang_keep_nobody_waiting(mounted: Mounter, native: bool) -> None:
    tree = mounted(
        ME,
        "--fault=read memory5/valid_zones hang",
        "--fault=open memory3/state hang",
        native=native,
    )
    files = tree / MEMORY
    with (
        processes(READERS, "cat", str(files / "memory5/valid_zones")) as readers,
        processes(2, "cat", str(files / "memory3/state")) as openers,
    ):
        wait_for(lambda: waiting(tree) == READERS + 2)
        for _ in range(20):
            assert (files / "memory5/state").read_text() == "online\n"
            assert (files / "memory3/online").read_text() == "1\n"
        (files / "memory5/online").stat()
        assert "valid_zones" in os.listdir(files / "memory5")
        readers[0].terminate()
        assert readers[0].wait(SECONDS) == -signal.SIGTERM
        openers[0].kill()
        assert openers[0].wait(SECONDS) == -signal.SIGKILL
        assert ME.run("fakesysfs", "fault", "clear", "1", "--instance", str(tree)).returncode == 0
        assert [reader.communicate(timeout=SECONDS)[0] for reader in readers[1:]] == ["DMA32\n"] * (
            READERS - 1
        )
        assert openers[1].poll() is None
        assert waiting(tree) == 1


def test_delays_run_side_by_side(mounted: Mounter) -> None:
    def read(delay: float) -> None:
        files = mounted(ME, f"--fault=read memory6/* delay {delay}s") / MEMORY
        got: list[str] = []
        threads = [
            threading.Thread(target=lambda: got.append((files / "memory6/state").read_text()))
            for _ in range(READERS)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == ["online\n"] * READERS
        assert delay <= time.monotonic() - start < delay * READERS / 3

    given_more_time((0.5, 5.0), read)


def test_a_writer_that_hangs(mounted: Mounter) -> None:
    tree = mounted(ME, "--fault=write memory4/state hang")
    files = tree / MEMORY
    with processes(1, "sh", "-c", f"printf online > {files}/memory4/state") as (writer,):
        wait_for(lambda: waiting(tree) == 1)
        assert (files / "memory4/state").read_text() == "online\n"
        (files / "auto_online_blocks").write_text("online")
        writer.terminate()
        assert writer.wait(SECONDS) == -signal.SIGTERM
    events = ME.run("fakesysfs", "events", "--instance", str(tree)).stdout
    assert '"data": "write memory4/state hang", "errno": 0' in events
    assert '"data": "online", "errno": 4' in events


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_the_writer_behind_a_writer_that_hangs_can_be_killed(
    mounted: Mounter, native: bool
) -> None:
    """It waits where it opens the file; in write(2) nothing could end it, because there it is FUSE
    that waits.
    """
    tree = mounted(ME, "--fault=write memory4/state hang x1", native=native)
    state = tree / MEMORY / "memory4/state"
    with processes(1, "sh", "-c", f"printf online > {state}") as (first,):
        wait_for(lambda: waiting(tree) == 1)
        with (
            processes(2, "sh", "-c", f"printf online > {state}") as (truncates, patient),
            processes(
                1, "dd", f"of={state}", "if=/dev/zero", "bs=4", "count=1", "conv=notrunc"
            ) as (other,),
        ):
            wait_for(
                lambda: all(is_opening(process.pid) for process in (truncates, patient, other))
            )
            with pytest.raises(BlockingIOError, match="time out"), opening_times_out():
                os.open(state, os.O_WRONLY)
            os.close(os.open(state, os.O_RDWR))  # only who would do nothing but write waits
            os.close(os.open(state, os.O_WRONLY | os.O_NONBLOCK))
            assert [process.poll() for process in (first, truncates, patient, other)] == [None] * 4
            for process, number in ((truncates, signal.SIGTERM), (other, signal.SIGKILL)):
                process.send_signal(number)
                assert process.wait(SECONDS) == -number
            assert ME.run("fakesysfs", "fault", "clear", "--instance", str(tree)).returncode == 0
            assert (first.wait(SECONDS), patient.wait(SECONDS)) == (1, 1)  # it is online: EINVAL


def is_opening(pid: int) -> bool:
    """Whether a process waits for FUSE and has no file open that it writes to: then it is in
    open(2).
    """
    try:
        waits = "request_wait_answer" in Path(f"/proc/{pid}/stack").read_text()
    except OSError:  # only root may look; it waits for something
        waits = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SD"
    files = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").glob("*")}
    return waits and not any(MEMORY in file for file in files)


@contextmanager
def opening_times_out() -> Iterator[None]:
    """A signal comes after a while, whose handler raises."""

    def late(*_: object) -> None:
        raise BlockingIOError("time out")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_the_end_of_the_server_is_the_end_of_the_wait(mounted: Mounter) -> None:
    tree = mounted(ME, "--fault=read memory4/state hang")
    with processes(1, "cat", str(tree / MEMORY / "memory4/state")) as (reader,):
        wait_for(lambda: waiting(tree) == 1)
        assert ME.run("fakesysfs", "umount", str(tree)).returncode == 1  # somebody uses it
        ME.run("fakesysfs", "monitor", "quit", "--instance", str(tree))
        assert reader.wait(SECONDS) == 1


def test_rules_are_checked_before_anything_is_mounted(person: Person) -> None:
    with person.directory() as directory:
        result = person.run(
            "fakesysfs", "mount", str(directory), "--fault", "read memory1/state EFUN"
        )
        assert (result.returncode, result.stdout) == (2, "")
        assert (
            result.stderr == "fakesysfs: fault rule 'read memory1/state EFUN': "
            "`EFUN` is neither an errno, nor delay TIME, hang, xN, always, nth=N or p=P\n"
        )
        assert not person.sees_mount(directory)
