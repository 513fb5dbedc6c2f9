"""Signals and the terminal of `fakesysfs exec`, which are as those of `run`; and who ends with
whom.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.waiting import wait_for
from t3_mount.host import SECONDS, Person, ended

from .test_exec import detached
from .test_kill import marked
from .test_signals import COUNTER, INNER, Terminal


@pytest.fixture
def enter(me: Person) -> Iterator[tuple[str, ...]]:
    """How to start a command in a detached instance."""
    with detached(me) as number:
        yield "fakesysfs", "exec", "--instance", number, "--"


@pytest.mark.parametrize("number", [1, 2, 10, 15, 28])
def test_a_signal_reaches_the_command_once(me: Person, enter: tuple[str, ...], number: int) -> None:
    for whole_group in (False, True):
        with ended(
            me.start(*enter, sys.executable, "-c", COUNTER, start_new_session=True)
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            me.run(
                "kill", f"-{number}", "--", f"-{process.pid}" if whole_group else f"{process.pid}"
            )
            assert process.communicate(timeout=SECONDS)[0] == f"{{{number}: 1}}\n"


def test_a_signal_ends_it_and_its_number_is_the_status(me: Person, enter: tuple[str, ...]) -> None:
    with ended(me.start(*enter, "sh", "-c", "echo ready; exec sleep 600")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


def test_of_a_caller_that_ignores_the_signal_it_is_told_by(
    me: Person, enter: tuple[str, ...]
) -> None:
    result = me.run("sh", "-c", """trap '' IO; exec "$@" """, "sh", *enter, "sh", "-c", "exit 3")
    assert (result.returncode, result.stderr) == (3, "")


# A parent of a command whose caller ends before the command has been started.
DESERTED = """
import signal, socket
from fakesysfs.run.enter_instance import _EnteredParent
outside, inside = socket.socketpair()
outside.close()
_EnteredParent(inside, {}, set(), False).listen()
signal.pause()
"""


def test_whoever_asked_is_killed_before_the_command_starts() -> None:
    """The parent ends, and nobody else of its process group is killed."""
    ends = subprocess.run(
        [sys.executable, "-c", DESERTED], start_new_session=True, timeout=SECONDS, check=False
    )
    assert ends.returncode == 137


@pytest.fixture
def terminal(me: Person) -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def test_the_terminal(terminal: Terminal, enter: tuple[str, ...]) -> None:
    start = " ".join(enter)
    terminal.type(f"{start} sh -c 'test -t 0 && echo rea''dy; exec sleep 600'\n")
    terminal.expect("ready\r\n")
    terminal.type("\x03")
    terminal.expect("%%% $")
    terminal.type("echo status $?\n")
    assert "status 130" in terminal.expect("status [0-9]+.*%%% $")
    # It starts no child: a shell that is stopped while it starts one by vfork() is not seen to
    # stop.
    terminal.type(f"{start} sh -c 'echo rea''dy; read line; echo do''ne'\n")
    terminal.expect("ready\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped.*%%% $")
    terminal.type("fg\n")
    terminal.expect("sh -c .*\r\n")
    terminal.type("\n")
    terminal.expect("done\r\n.*%%% $")
    terminal.type(f"{start} cat &\n")
    terminal.expect("%%% $")
    wait_for(lambda: "Stopped" in terminal.jobs(), every=0.1)
    terminal.type("fg\n")
    terminal.expect("cat")
    terminal.type("typed\n")
    terminal.expect("typed\r\ntyped\r\n")
    terminal.type("\x04")
    terminal.expect("%%% $")


def test_a_shell_with_jobs_of_its_own(terminal: Terminal, enter: tuple[str, ...]) -> None:
    terminal.type(f"{INNER} {' '.join(enter)} bash --norc --noprofile -i\n")
    terminal.expect("=== $")
    # It is not killed: bash itself now and then takes a stopped job that was killed for stopped.
    terminal.type("sh -c 'echo rea''dy; read line'\n")
    terminal.expect("ready\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped.*read line.*=== $")
    terminal.type("fg\n")
    terminal.expect("read line.*\r\n")
    terminal.type("\n")
    terminal.expect("=== $")
    assert terminal.jobs("=== $") == "jobs\r\n=== "
    terminal.type("exit 3\n")
    terminal.expect("exit.*%%% $")
    terminal.type("echo status $?\n")
    assert "status 3" in terminal.expect("status [0-9]+")


def test_whoever_of_an_exec_is_killed_the_others_end_and_the_instance_goes_on(
    person: Person,
) -> None:
    lost = "fakesysfs: the instance ended, or the simulation was killed, and with it the command\n"
    with detached(person) as number:
        for victim, status, said in ((0, -9, ""), (1, 137, lost), (2, 137, "")):
            mark = f"{random.random()}"
            command = (
                "fakesysfs",
                "exec",
                "--instance",
                number,
                "--",
                "sh",
                "-c",
                "echo ready; exec sleep 600",
            )
            with ended(person.start(*command, env={"MARK": mark})) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                # The environment of one that becomes another cannot be read.
                there = wait_for(lambda: found if len(found := marked(mark)) == 3 else None)  # noqa: B023
                assert there is not None
                # The caller, the parent of the command, the command.
                chain = sorted(
                    there, key=lambda pid: (pid != process.pid, there[pid] == "sleep 600")
                )
                person.run("kill", "-9", str(chain[victim]))
                assert process.communicate(timeout=SECONDS)[0] == said
                assert process.returncode == status
                wait_for(lambda: not marked(mark))  # noqa: B023
            assert (
                person.run("fakesysfs", "exec", "--instance", number, "--", "true").returncode == 0
            )


def test_an_exec_that_is_stopped_does_not_hold_up_the_end(me: Person) -> None:
    """The whole job is, as by `kill -STOP %1`: the process outside cannot bury what is inside."""
    with detached(me) as number:
        command = (
            "fakesysfs",
            "exec",
            "--instance",
            number,
            "--",
            "sh",
            "-c",
            "echo ready; sleep 600; true",
        )
        with ended(me.start(*command, start_new_session=True)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGSTOP)
            assert me.run("fakesysfs", "stop", "--instance", number).returncode == 0
            wait_for(lambda: not os.path.exists(f"/proc/{number}"))  # else the launcher still waits
            os.killpg(process.pid, signal.SIGCONT)
            assert process.wait(SECONDS) == 137


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_clients_that_hang_do_not_hold_up_the_end(person: Person, killed: bool) -> None:
    """One is stopped inside a read that never returns, one waits in a write, one holds a file open."""
    mark = f"{random.random()}"
    script = """
cd /sys/devices/system/memory
cat memory5/state & a=$!
(echo online > memory6/state) & b=$!
sleep 600 < memory7/state & c=$!
while [ $(fakesysfs fault list | grep -c ' 1 waiting') != 2 ]; do sleep 0.02; done
kill -STOP $a $b $c
echo ready
test $KILLED = True && sleep 600
exit 3"""
    faults = ("--fault", "read memory5/state hang", "--fault", "write memory6/state hang")
    command = ("fakesysfs", "run", *faults, "--", "sh", "-c", script)
    with ended(
        person.start(*command, env={"MARK": mark, "KILLED": f"{killed}"}, start_new_session=True)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if killed:
            process.kill()
        assert process.wait(SECONDS) == (-9 if killed else 3)
        wait_for(lambda: not marked(mark))
