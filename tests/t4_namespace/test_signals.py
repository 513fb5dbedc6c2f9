"""Signals and the terminal: a command behaves as if it had been started without `fakesysfs run` in
front.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import SECONDS, Person, ended, environment

from .test_kill import marked, nothing_left

# Counts signals and prints how many came.
COUNTER = """
import signal, sys, time
seen = {}
def note(number, frame): seen[number] = seen.get(number, 0) + 1
for number in (1, 2, 3, 10, 12, 15, 28): signal.signal(number, note)
print("ready", flush=True)
while not seen: time.sleep(0.005)
time.sleep(0.4)  # for a second one, which must not come
print(seen, flush=True)
"""


def count(person: Person, number: int, whole_group: bool) -> str:
    command = ("fakesysfs", "run", "--", sys.executable, "-c", COUNTER)
    with ended(person.start(*command, start_new_session=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        target = f"-{process.pid}" if whole_group else str(process.pid)
        person.run("kill", f"-{number}", "--", target)
        return process.communicate(timeout=SECONDS)[0]


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15, 28])
def test_a_signal_to_the_launcher_reaches_the_command_once(person: Person, number: int) -> None:
    assert count(person, number, whole_group=False) == f"{{{number}: 1}}\n"


@pytest.mark.parametrize("number", [1, 2, 3, 15])
def test_a_signal_to_the_group_reaches_the_command_once(person: Person, number: int) -> None:
    assert count(person, number, whole_group=True) == f"{{{number}: 1}}\n"


def test_a_signal_ends_the_command_and_its_number_is_the_status(person: Person) -> None:
    with ended(
        person.start("fakesysfs", "run", "--", "sh", "-c", "echo ready; exec sleep 600")
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1])
def test_a_signal_before_the_command_has_started(me: Person, delay: float) -> None:
    with ended(me.start("fakesysfs", "run", "--", "sleep", "60")) as process:
        time.sleep(delay)
        process.terminate()
        # the latter: Python had not begun
        assert process.wait(SECONDS) in (128 + signal.SIGTERM, -signal.SIGTERM)


def test_what_was_ignored_stays_ignored(me: Person) -> None:
    script = (
        "trap '' HUP; exec fakesysfs run -- sh -c 'kill -HUP $$; echo alive; grep SigIgn"
        " /proc/self/status'"
    )
    result = me.run("sh", "-c", script)
    alive, _, ignored = result.stdout.split()
    assert alive == "alive"
    assert int(ignored, 16) & 0x7FFFFFFF == 1 << signal.SIGHUP - 1


# The prompt of a shell in the shell, in the environment. It is not written as it is shown, so that
# nobody takes the echo of what is typed for it.
INNER = "PS1='==''= '"


class Terminal:
    """An interactive shell at a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(
                "bash",
                ["bash", "--norc", "--noprofile", "-i"],
                environment({"PS1": "%%% ", "TERM": "dumb"}),
            )
        self.expect("%%% $")
        self.type("bind 'set enable-bracketed-paste off'; PS1='%%''% '\n")
        self.expect("%%% $")

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def jobs(self, prompt: str = "%%% $") -> str:
        """What the shell says of its jobs."""
        self.type("jobs\n")
        return self.expect(prompt)

    def expect(self, pattern: str, seconds: float = SECONDS) -> str:
        """Everything until the output matches."""
        output = ""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._fd], [], [], 0.1)[0]:
                output += os.read(self._fd, 65536).decode(errors="replace")
                if re.search(pattern, output, re.DOTALL):
                    return output
        pytest.fail(f"the terminal did not show {pattern!r}, but {output!r}")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self, *, hang_up: bool = False) -> None:
        """End the shell, or take its terminal away, upon which it ends."""
        if hang_up:
            os.close(self._fd)
            os.waitpid(self.pid, 0)
            return
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(me: Person) -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def test_ctrl_c(terminal: Terminal) -> None:
    # exec: a shell that is just starting a child may miss the signal, and so may the child, with no
    # fakesysfs around.
    terminal.type("fakesysfs run -- sh -c 'echo rea''dy; exec sleep 600'\n")
    terminal.expect("ready\r\n")
    terminal.type("\x03")
    terminal.expect("%%% $")
    terminal.type("echo status $?\n")
    assert "status 130" in terminal.expect("status [0-9]+")


def test_ctrl_c_reaches_a_command_that_catches_it_once(
    terminal: Terminal, tmp_path: object
) -> None:
    with open(f"{tmp_path}/counter.py", "w", encoding="utf-8") as file:
        file.write(COUNTER)
    terminal.type(f"fakesysfs run -- {sys.executable} {tmp_path}/counter.py\n")
    terminal.expect("ready\r\n")
    terminal.type("\x03")
    assert "{2: 1}" in terminal.expect(r"\{.*\}")


def test_ctrl_z_and_fg(terminal: Terminal) -> None:
    # It starts no child: a shell that is stopped while it starts one by vfork() is not seen to
    # stop.
    terminal.type("fakesysfs run -- sh -c 'echo rea''dy; read line; echo do''ne'\n")
    terminal.expect("ready\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped.*%%% $")
    assert re.search("Stopped.*fakesysfs run", terminal.jobs())
    terminal.type("fg\n")
    terminal.expect("fakesysfs run .*\r\n")
    terminal.type("\n")
    terminal.expect("done\r\n.*%%% $")


def test_a_shell_with_jobs_of_its_own(terminal: Terminal) -> None:
    terminal.type(f"{INNER} fakesysfs run -- bash --norc --noprofile -i\n")
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
    terminal.type("suspend -f\n")
    terminal.expect("Stopped.*%%% $")
    terminal.type("fg\n")
    terminal.expect("fakesysfs run")
    terminal.type("\nexit 3\n")
    terminal.expect("exit.*%%% $")
    terminal.type("echo status $?\n")
    assert "status 3" in terminal.expect("status [0-9]+")


def test_reading_in_the_background_stops(terminal: Terminal) -> None:
    terminal.type("fakesysfs run -- cat &\n")
    terminal.expect("%%% $")
    wait_for(lambda: "Stopped" in terminal.jobs(), every=0.1)
    terminal.type("fg\n")
    terminal.expect("fakesysfs run -- cat")
    terminal.type("typed\n")
    terminal.expect("typed\r\ntyped\r\n")
    terminal.type("\x04")
    terminal.expect("%%% $")


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_stop_sent_to_the_process_outside_stops_the_command_too(me: Person, way: str) -> None:
    """By `kill -TSTP`, not by the terminal; and SIGCONT lets both go on."""
    command = ("sh", "-c", "echo ready; exec sleep 600")
    start = (
        ("fakesysfs", "run", "--")
        if way == "run"
        else ("fakesysfs", "run", "--", "fakesysfs", "exec", "--")
    )
    mark = f"{random.random()}"

    def states() -> set[str]:
        of_both = [process.pid, *(pid for pid, what in marked(mark).items() if what == "sleep 600")]
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in of_both}

    def become(wanted: str) -> None:
        wait_for(lambda: states() == {wanted})

    # A process group of its own in this session: in one of a session of its own SIGTSTP does
    # nothing.
    with ended(me.start(*start, *command, env={"MARK": mark}, process_group=0)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        become("S")
        me.run("kill", "-TSTP", str(process.pid))
        become("T")
        me.run("kill", "-CONT", str(process.pid))
        become("S")
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize("way", ["run --", "run -- fakesysfs exec --"], ids=["run", "exec"])
def test_when_the_terminal_is_closed_everything_ends(me: Person, way: str) -> None:
    mark = f"{random.random()}"
    opened = Terminal()
    try:
        opened.type(f"MARK={mark} fakesysfs {way} sh -c 'echo rea''dy; sleep 600; true'\n")
        opened.expect("ready\r\n")
    finally:
        opened.close(hang_up=True)
    assert nothing_left(mark, ()) == []


def test_the_size_of_the_terminal(terminal: Terminal) -> None:
    """A change of it arrives, once, and can be asked for."""
    counter = "trap 'echo changed; stty size' WINCH; echo rea''dy; while :; do sleep 0.05; done"
    terminal.type(f'fakesysfs run -- sh -c "{counter}"\n')
    terminal.expect("ready\r\n")
    terminal.resize(33, 111)
    assert "33 111" in terminal.expect("changed\r\n.*\r\n")
    terminal.type("\x03")
    terminal.expect("%%% $")
