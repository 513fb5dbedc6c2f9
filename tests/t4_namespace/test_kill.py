"""Whichever process of a `run` is killed, at whatever moment: no process, mount, socket or file is left.

launcher ── unshare ── inside ── command
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from t3_mount.host import Person, ended

from fakesysfs.control import instances

BUSY = """
cd /sys/devices/system/memory
echo ready
while :; do cat memory*/state > /dev/null; echo x > memory1/state; done 2>/dev/null & sleep 300"""


def chain(pid: int) -> list[int]:
    """The process, its first child, its first child's, and so on."""
    found = [pid]
    while True:
        try:
            children = Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text().split()
        except OSError:
            return found
        if not children:
            return found
        found.append(int(children[0]))


def is_left(mark: str) -> list[str]:
    """Processes with an environment variable of that value, zombies aside."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() not in (directory / "environ").read_bytes().split(b"\0"):
                continue
            if "\nState:\tZ" not in (directory / "status").read_text():
                found.append((directory / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def nothing_left(mark: str, launcher: int) -> list[str]:
    """What is left when nothing changes any more: processes with the mark, and the instance."""
    left: list[str] = []
    calm = 0
    end = time.monotonic() + 20
    # While a process becomes another its environment cannot be read, hence more than one look.
    while calm < 3 and time.monotonic() < end:
        left = is_left(mark) + [instance.name for instance in instances() if instance.id == launcher]
        calm = 0 if left else calm + 1
        time.sleep(0.01)
    return left


def kill_and_look(person: Person, victim: int, delay: float | None) -> None:
    """Kill the victim-th process of the chain after a delay, or when the command has begun, and see what is left."""
    mark = f"{random.random()}"
    with person.directory() as directory:
        socket = directory / "qmp"
        command = ("fakesysfs", "run", "--qmp", str(socket), "--", "sh", "-c", BUSY)
        with ended(person.start(*command, env={"MARK": mark}, start_new_session=True)) as process:
            assert process.stdout is not None
            if delay is None:
                assert process.stdout.readline() == "ready\n"
            else:
                time.sleep(delay)
            processes = chain(process.pid)
            target = processes[min(victim, len(processes) - 1)]
            person.run("kill", "-9", str(target))
            if delay is not None and victim == 3:
                time.sleep(0.1)  # the mounter is only there for a moment: it may have been too late to matter
                process.kill()
            assert nothing_left(mark, process.pid) == []
            process.wait(20)
            assert os.listdir(directory) == []


@pytest.mark.parametrize("victim", range(4), ids=["launcher", "unshare", "inside", "command"])
def test_killed_when_it_is_at_work(person: Person, victim: int) -> None:
    kill_and_look(person, victim, None)


@pytest.mark.parametrize("victim", range(4), ids=["launcher", "unshare", "inside", "mounter"])
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16])
def test_killed_while_it_starts(me: Person, victim: int, delay: float) -> None:
    kill_and_look(me, victim, delay)


def test_everything_killed_at_once(me: Person) -> None:
    mark = f"{random.random()}"
    command = ("fakesysfs", "run", "--", "sh", "-c", BUSY)
    with ended(me.start(*command, env={"MARK": mark}, start_new_session=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGKILL)
        assert nothing_left(mark, process.pid) == []


def test_what_is_said_when_the_simulation_is_killed(me: Person) -> None:
    with ended(me.start("fakesysfs", "run", "--", "sh", "-c", "echo ready; sleep 60")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(chain(process.pid)[2], signal.SIGKILL)
        assert process.communicate(timeout=20)[0] == "fakesysfs: the simulation was killed, and with it the command\n"
        assert process.returncode == 137
