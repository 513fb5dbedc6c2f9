"""Bad surroundings: what is said when files, memory, processes, the current directory or standard
output are not as a command needs them.

Each is one line on standard error and a status, and nothing is left: every test of this suite is
looked after for mounts and processes that stay (tests/conftest.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import Person, people

from .test_signals import Terminal

FULL = "fakesysfs: standard output: No space left on device\n"


@pytest.fixture
def terminal(me: Person) -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("script", "said", "status"),
    [
        ("fakesysfs run -d >/dev/full", FULL, 1),
        ("fakesysfs demo >/dev/full", FULL, 1),
        ("fakesysfs presets >/dev/full", FULL, 1),
        ("fakesysfs --help >/dev/full", FULL, 1),
        ("fakesysfs run -- fakesysfs dmesg >/dev/full", FULL, 1),
        ("fakesysfs run -- fakesysfs map >/dev/full", FULL, 1),
        ("fakesysfs run --nosuch 2>/dev/full", "", 2),
        ("fakesysfs presets >&-", "", 0),
        ("fakesysfs run -- true <&- >&- 2>&-", "", 0),
        (
            "fakesysfs run --fault \"$(printf 'read \\377 EIO')\" -- true",
            "fakesysfs: fault rule 'read ? EIO': this is not text\n",
            2,
        ),
        ("TMPDIR=/nonexistent fakesysfs run -- true", "", 0),
        ("LC_ALL=xx_YY.UTF-8 fakesysfs run -- true", "", 0),
    ],
)
def test_one_line_and_a_status(me: Person, script: str, said: str, status: int) -> None:
    result = me.run("bash", "-c", script)
    assert (result.stderr, result.stdout if "full" in script else "", result.returncode) == (
        said,
        "",
        status,
    )


@pytest.mark.parametrize("status", [0, 3])
def test_a_detached_command_that_has_ended(me: Person, status: int) -> None:
    """It is told when the command has ended at once; on a busy machine it may not be at once."""

    def told() -> bool:
        result = me.run("fakesysfs", "run", "-d", "--", "sh", "-c", f"exit {status}")
        if result.stdout:
            assert result.returncode == 0
            return False
        said = rf"fakesysfs: fakesysfs/\d+/\d+: the command has ended, status {status}\n"
        assert re.fullmatch(said, result.stderr)
        assert result.returncode == status
        return True

    wait_for(told)


def test_the_instance_is_ended_that_nobody_was_told_of(me: Person) -> None:
    script = "fakesysfs run -d -- sleep 4321 >/dev/full"
    assert me.run("bash", "-c", script).stderr == FULL

    def gone() -> bool:
        commands = (Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit())
        return not any(b"sleep\x004321" in _read(path) for path in commands)

    wait_for(gone)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.parametrize("files", [6, 8, 10, 19])
def test_few_open_files(me: Person, files: int) -> None:
    for command in ("fakesysfs run -- true", "fakesysfs presets", "fakesysfs dmesg"):
        result = me.run("bash", "-c", f"ulimit -n {files}; exec {command}")
        assert (result.stderr, result.returncode) == (
            f"fakesysfs: a process may have {files} open files here, and 20 are needed;"
            " ulimit -n 20\n",
            1,
        )


def test_enough_open_files(me: Person) -> None:
    result = me.run("bash", "-c", "ulimit -n 20; exec fakesysfs run -- true")
    assert (result.stderr, result.returncode) == ("", 0)


@pytest.mark.parametrize("mib", [20, 64, 80])
@pytest.mark.parametrize("command", ["run -- true", "demo", "mount /nosuch"])
def test_little_address_space(me: Person, command: str, mib: int) -> None:
    result = me.run("bash", "-c", f"ulimit -v {mib << 10}; exec fakesysfs {command}")
    assert (result.stderr, result.returncode) == (
        f"fakesysfs: a process may have {mib} MiB of address space here, and 160 MiB are needed;"
        " ulimit -v 163840\n",
        1,
    )


@pytest.mark.skipif(len(people()) < 2, reason="nobody but root is here, whom no limit binds")
def test_no_more_processes() -> None:
    user = people()[1]
    result = user.run("bash", "-c", "ulimit -u 0; exec fakesysfs run -- true")
    assert (result.stderr, result.returncode) == (
        "fakesysfs: no more processes can be started; see `ulimit -u`\n",
        1,
    )


def test_a_current_directory_that_is_gone(me: Person, tmp_path: Path) -> None:
    gone = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec "
    result = me.run("bash", "-c", gone + "fakesysfs run -- true")
    assert (result.stderr, result.returncode) == ("", 0)
    result = me.run("bash", "-c", gone + "fakesysfs run -- fakesysfs exec -- true")
    assert (result.stderr, result.returncode) == (
        "fakesysfs: the current directory has been removed; change to another one\n",
        1,
    )


@pytest.mark.parametrize("kind", ["device", "pipe", "directory", "large"])
def test_rules_that_are_no_files(me: Person, tmp_path: Path, kind: str) -> None:
    rule = tmp_path / "60-memory.rules"
    if kind == "device":
        rule.symlink_to("/dev/zero")
        said = "not a file"
    elif kind == "pipe":
        os.mkfifo(rule)
        said = "nothing comes out of this pipe"
    elif kind == "directory":
        rule.mkdir()
        said = "not a file"
    else:
        with rule.open("wb") as file:
            file.truncate(17 << 20)
        said = "more than 16M; that is no rules file"
    result = me.run("fakesysfs", "run", "--rules", str(tmp_path), "--", "true")
    assert (result.stderr, result.returncode) == (f"fakesysfs: {rule}: {said}\n", 2)


def test_a_demo_whose_reader_ends(me: Person) -> None:
    result = me.run("bash", "-c", "fakesysfs demo | head -n 1; echo ${PIPESTATUS[0]}")
    first, status = result.stdout.splitlines()
    assert first.startswith("# A machine with 1 GiB")
    assert (result.stderr, status) == ("", "141")


def test_a_demo_that_is_interrupted_while_it_waits(terminal: Terminal) -> None:
    terminal.type("fakesysfs demo --pause\n")
    terminal.expect("# lsmem.*\r\n")
    terminal.type("\x03")
    assert "Traceback" not in terminal.expect("%%% $")
    terminal.type("echo status $?\n")
    assert "status 130" in terminal.expect("status [0-9]+")


def test_a_demo_whose_input_ends(terminal: Terminal) -> None:
    terminal.type("fakesysfs demo --pause\n")
    terminal.expect("# lsmem.*\r\n")
    terminal.type("\x04")
    assert terminal.expect("%%% $").split("\r\n")[1:-1] == [
        "fakesysfs: demo: ended by the end of input"
    ]
    terminal.type("echo status $?\n")
    assert "status 1" in terminal.expect("status [0-9]+")


def test_a_map_in_ascii(me: Person) -> None:
    result = me.run("fakesysfs", "run", "--", "fakesysfs", "map", env={"PYTHONIOENCODING": "ascii"})
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.isascii()
    assert "_ offline   . free ... # in use" in result.stdout
    drawn = me.run(
        "fakesysfs", "run", "--", "fakesysfs", "map", env={"PYTHONIOENCODING": "utf-8"}
    ).stdout
    assert result.stdout == drawn.translate(str.maketrans("▁▂▃▄▅▆▇█·", ".:-=+*%#_"))
