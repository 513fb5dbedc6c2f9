"""Whichever process of a `run` is killed, at whatever moment: no process, mount, socket or file is
left.

launcher ── unshare ── inside ──┬── mounter
                                ├── udevd
                                └── command

The moments are chosen by chance, 40 of them; FAKESYSFS_KILLS says how many, `make kills` tries 500.
FAKESYSFS_KILLS_FROM is the number of the first, to try others.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import SECONDS, Person, ended, people, why_no_mount, why_no_namespaces

from fakesysfs.control import instances

MOMENTS = int(os.environ.get("FAKESYSFS_KILLS", "40"))
FIRST = int(os.environ.get("FAKESYSFS_KILLS_FROM", "0"))
AT_ONCE = 5

BUSY = """
cd /sys/devices/system/memory
echo ready
while :; do cat memory*/state > /dev/null; echo x > memory1/state; echo change > memory2/uevent; done 2>/dev/null & sleep 300"""


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


def marked(mark: str) -> dict[int, str]:
    """Processes with an environment variable MARK of that value, zombies aside: process id ->
    command line.
    """
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() not in (directory / "environ").read_bytes().split(b"\0"):
                continue
            if "\nState:\tZ" not in (directory / "status").read_text():
                found[int(directory.name)] = (
                    (directory / "cmdline").read_text().replace("\0", " ").strip()
                )
        except OSError:
            continue
    return found


def nothing_left(mark: str, launchers: Collection[int]) -> list[str]:
    """What is left when nothing changes any more: processes with the mark, and instances of those
    launchers.
    """
    left: list[str] = []
    calm = 0
    end = time.monotonic() + SECONDS
    # While a process becomes another its environment cannot be read, hence more than one look.
    while calm < 3 and time.monotonic() < end:
        left = [f"{pid} {command}" for pid, command in marked(mark).items()]
        left += [instance.name for instance in instances() if int(instance.id) in launchers]
        calm = 0 if left else calm + 1
        time.sleep(0.01)
    return left


@pytest.mark.parametrize("victim", range(4), ids=["launcher", "unshare", "inside", "command"])
def test_killed_when_it_is_at_work(person: Person, victim: int) -> None:
    mark = f"{random.random()}"
    with person.directory() as directory:
        command = ("fakesysfs", "run", "--qmp", str(directory / "qmp"), "--", "sh", "-c", BUSY)
        with ended(person.start(*command, env={"MARK": mark}, start_new_session=True)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            person.run("kill", "-9", str(chain(process.pid)[victim]))
            assert nothing_left(mark, {process.pid}) == []
            process.wait(SECONDS)
            assert os.listdir(directory) == []


OPTIONS = {
    "run": (),
    "run --udev": ("--udev",),
    "run --keep-uid": ("--keep-uid",),
    "run -d": ("--detach",),
    "run -d and exec": ("--detach",),
}


class Moment:
    """A `run`, alone or with an `exec`, of which one process is killed; which, and when, is chance.

    :param number: the seed.
    :param whom: the people to choose from.
    :param usual: how long a `run -- true` takes here, in seconds.
    """

    def __init__(self, number: int, whom: list[Person], usual: float) -> None:
        self._chance = random.Random(number)
        self._person = self._chance.choice(whom)
        self.kind = self._chance.choice(list(OPTIONS))
        self._delay = self._chance.uniform(0, 2 * usual)
        self._mark = f"{number}-{random.random()}"
        self.victim = "nobody: it had not begun"
        self.left: list[str] = []

    def __str__(self) -> str:
        return f"{self.kind} of {self._person.name}: {self.victim} killed after {self._delay:.3f} s"

    def happen(self) -> None:
        """Start it, kill somebody, and take note of what is left."""
        person, options = self._person, OPTIONS[self.kind]
        how = {"env": {"MARK": self._mark}, "start_new_session": True}
        with person.directory() as directory, ExitStack() as stack:
            qmp = str(directory / "qmp")
            command = (
                "fakesysfs",
                "run",
                *options,
                "--qmp",
                qmp,
                "--hmp",
                f"{directory / 'hmp'}",
                "--",
                "sh",
                "-c",
                BUSY,
            )
            process = stack.enter_context(ended(person.start(*command, **how)))  # type: ignore[arg-type]
            others = {process.pid} if options == ("--detach",) else set()
            if self.kind == "run -d and exec":
                process.wait(SECONDS)
                enter = ("fakesysfs", "exec", "--instance", qmp, "--", "sh", "-c", BUSY)
                others.add(stack.enter_context(ended(person.start(*enter, **how))).pid)  # type: ignore[arg-type]
            time.sleep(self._delay)
            alive = marked(self._mark)
            launchers = set(self._launchers(others))
            if alive:
                victim = self._chance.choice(sorted(alive))
                self.victim = self._named(victim, alive[victim], launchers, others)
                person.run("kill", "-9", str(victim))
            if self.victim not in ("launcher", "unshare", "inside"):
                # It may go on, and then it is ended like this; a launcher may have been about to
                # become one.
                with suppress(AssertionError):  # then something is left
                    wait_for(lambda: not self._end(launchers, others), every=0.1)
            self.left = nothing_left(self._mark, launchers)
            self.left += os.listdir(directory)
            for pid in marked(self._mark):
                person.run("kill", "-9", str(pid))

    def _end(self, launchers: set[int], others: Collection[int]) -> bool:
        """Kill the launchers there are, take note of them, and say whether there still was
        anything.
        """
        alive = marked(self._mark)
        for pid in self._launchers(others):
            launchers.add(pid)
            self._person.run("kill", "-9", str(pid))
        return bool(alive)

    def _launchers(self, others: Collection[int]) -> list[int]:
        """Those who lead a session and are no others: of processes that are there, the one that all
        depends on.
        """
        found = []
        for pid in marked(self._mark):
            try:
                if os.getsid(pid) == pid and pid not in others:
                    found.append(pid)
            except ProcessLookupError:
                continue
        return found

    @staticmethod
    def _named(pid: int, command: str, launchers: Collection[int], others: Collection[int]) -> str:
        for launcher in launchers:
            line = chain(launcher)
            if pid in line[:3]:
                return ("launcher", "unshare", "inside")[line.index(pid)]
        if pid in others:
            return "exec" if " exec " in command else "who started it"
        if "udevd" in command:
            return "udevd"
        return (
            "a process of fakesysfs"
            if "fakesysfs" in command.partition(" sh -c")[0]
            else "a client"
        )


@pytest.mark.timeout(600 + 20 * MOMENTS)
def test_random_moments() -> None:
    whom = [person for person in people() if not (why_no_mount() or why_no_namespaces(person))]
    if not whom:
        pytest.skip(why_no_mount() or why_no_namespaces(people()[0]))
    begin = time.monotonic()
    assert whom[0].run("fakesysfs", "run", "--", "true").returncode == 0
    usual = time.monotonic() - begin
    moments = [Moment(number, whom, usual) for number in range(FIRST, FIRST + MOMENTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(Moment.happen, moments))
    for what, times in sorted(
        Counter(f"{moment.kind}: {moment.victim}" for moment in moments).items()
    ):
        print(f"{times:4}  {what}")
    assert [f"{moment}; left: {moment.left}" for moment in moments if moment.left] == []


def test_everything_killed_at_once(me: Person) -> None:
    mark = f"{random.random()}"
    command = ("fakesysfs", "run", "--", "sh", "-c", BUSY)
    with ended(me.start(*command, env={"MARK": mark}, start_new_session=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGKILL)
        assert nothing_left(mark, {process.pid}) == []


def test_what_is_said_when_the_simulation_is_killed(me: Person) -> None:
    with ended(me.start("fakesysfs", "run", "--", "sh", "-c", "echo ready; sleep 600")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(chain(process.pid)[2], signal.SIGKILL)
        assert (
            process.communicate(timeout=SECONDS)[0]
            == "fakesysfs: the simulation was killed, and with it the command\n"
        )
        assert process.returncode == 137
