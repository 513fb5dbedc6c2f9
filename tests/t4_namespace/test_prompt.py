"""`fakesysfs monitor`: a prompt on a terminal, lines of a script, lines as arguments."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t3_mount.host import SECONDS, Person, ended


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.screen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def press_until(self, key: str, text: str) -> None:
        """Press a key each second until `text` appears."""
        end = time.monotonic() + SECONDS
        self.type(key)
        while not select.select([self._fd], [], [], 1.0)[0] and time.monotonic() < end:
            self.type(key)
        self.wait_for(text)

    def wait_for(self, text: str) -> str:
        """What appeared until `text` did, without it."""
        end = time.monotonic() + SECONDS
        while text not in self.screen:
            assert select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0], (
                self.screen
            )
            try:
                data = os.read(self._fd, 4096)
            except OSError:  # nobody is at the other end any more
                data = b""
            assert data, self.screen
            # Without what only moves the cursor or colours.
            self.screen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode())
        before, _, self.screen = self.screen.partition(text)
        return before


@contextmanager
def terminal(
    person: Person, *command: str, state: Path
) -> Iterator[tuple[Terminal, subprocess.Popen[str]]]:
    ours, theirs = pty.openpty()
    env = {"TERM": "dumb", "XDG_STATE_HOME": f"{state}", "INPUTRC": "/dev/null"}
    try:
        # It is the terminal's session, so that Ctrl-C is a signal.
        pipes = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with ended(
            person.start("setsid", "--ctty", "--wait", *command, env=env, **pipes)
        ) as process:
            yield Terminal(ours), process
    finally:
        os.close(ours)
        os.close(theirs)


def test_prompt(me: Person) -> None:
    with me.directory() as state:
        with terminal(me, "fakesysfs", "run", "--", "fakesysfs", "monitor", state=state) as (
            screen,
            process,
        ):
            screen.wait_for("(qemu) ")
            screen.type("info memory_s\t\n")
            assert screen.wait_for("(qemu) ").splitlines() == [
                "info memory_size_summary",
                "base memory: 1073741824",
                "plugged memory: 0",
            ]
            screen.type("object_add memory-backend-r\tid=m0,si\t512M\n")
            assert screen.wait_for("(qemu) ").splitlines() == [
                "object_add memory-backend-ram,id=m0,size=512M"
            ]
            screen.type("object_d\tm\t\n")
            assert screen.wait_for("(qemu) ").splitlines() == ["object_del m0"]
            screen.type("\x1b[A\n")  # the line before
            assert screen.wait_for("(qemu) ").splitlines() == [
                "object_del m0",
                "Error: object 'm0' not found",
            ]
            screen.type("half a line")
            screen.wait_for("half a line")
            # Python's readline misses a signal that comes just before it waits for a key; a person
            # presses again.
            screen.press_until("\x03", "(qemu) ")
            screen.type("\x04")
            assert process.wait(SECONDS) == 0
        history = (state / "fakesysfs" / "monitor_history").read_text()
        assert history.splitlines() == [
            "info memory_size_summary",
            "object_add memory-backend-ram,id=m0,size=512M",
            "object_del m0",
        ]
        with terminal(me, "fakesysfs", "run", "--", "fakesysfs", "monitor", state=state) as (
            screen,
            process,
        ):
            screen.wait_for("(qemu) ")
            screen.type("\x10" * 3 + "\n")  # of the session before
            screen.wait_for("base memory: 1073741824")  # the prompt may be drawn again meanwhile
            screen.type("quit\n")
            assert process.wait(SECONDS) == 0


SCRIPT = """\
# a comment, and an empty line

object_add memory-backend-ram,id=m0,size=512M
info memory_size_summary
"""


def test_script(me: Person, tmp_path: Path) -> None:
    run = ("fakesysfs", "run", "--", "fakesysfs", "monitor")
    done = me.run(*run, "--script", "-", stdin=SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "base memory: 1073741824\nplugged memory: 0\n",
        "",
    )
    assert me.run(*run, stdin=SCRIPT).stdout == done.stdout
    file = tmp_path / "script"
    file.write_text(f"{SCRIPT}object_add\ninfo status\n")
    done = me.run(*run, "--script", f"{file}")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:] == [
        "object_add: string expected",
        'Try "help object_add" for more information',
        "VM status: running",
    ]


def test_refused_line_is_the_exit_status(me: Person) -> None:
    for line, status in (
        ("info status", 0),
        ("nope", 1),
        ("object_del m0", 1),
        ("object_del", 1),
        ("help nope", 0),
    ):
        assert (
            me.run("fakesysfs", "run", "--", "fakesysfs", "monitor", line).returncode == status
        ), line


def test_words_that_should_be_in_quotes(me: Person) -> None:
    """Each is a line of its own, which nobody means; quoted or alone there is no hint."""
    run = ("fakesysfs", "run", "--", "fakesysfs", "monitor")
    done = me.run(*run, "device_add", "pc-dimm,id=d0,memdev=m0")
    assert done.returncode == 1
    assert done.stderr == (
        "Each word is a line of its own here. In quotes: "
        "fakesysfs monitor 'device_add pc-dimm,id=d0,memdev=m0'\n"
    )
    for lines in (("nope",), ("device_del d0", "device_del d1")):
        assert me.run(*run, *lines).stderr == ""
