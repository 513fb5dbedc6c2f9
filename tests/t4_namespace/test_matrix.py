"""`fakesysfs matrix`: one command, many kernels and machines; what is printed and written, and that
no process is left, however it ends.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.waiting import given_more_time, wait_for
from t3_mount.host import Person, ended

from fakesysfs.cli.matrix_cells import FAIL, PASS, TIMEOUT, Cell, Outcome
from fakesysfs.cli.matrix_report import table
from fakesysfs.config.profiles import list_kernels

# Blocks of 128 MiB, which arm64 has only since its sections became smaller.
ARM_BLOCKS = """\
title = "a machine with small blocks"
arch = "aarch64"
block_bytes = 0x8000000
block = [{first = 8, last = 15, zones = "DMA"}]
"""


def matrix(
    person: Person, script: str, *options: str, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    return person.run("fakesysfs", "matrix", *options, "--", "sh", "-c", script, cwd=cwd)


def without_times(text: str) -> list[str]:
    """Lines with T for every time, and three blanks between columns."""
    lines = [re.sub(r"\d+\.\d s", "T", line).rstrip() for line in text.splitlines()]
    return [re.sub(r"(?<=\S) {3,}", "   ", line) for line in lines]


# Seconds that nobody else sleeps: tests of other processes run at the same time.
OWN = f"7{os.getpid()}"


def processes(word: str) -> list[str]:
    """Command lines of processes with this argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if word.encode() in words:
            found.append(repr(words))
    return found


def test_each_cell_is_its_own_machine(person: Person) -> None:
    script = """
    echo "$FAKESYSFS_KERNEL $FAKESYSFS_MACHINE $(cat)"
    ls -d /sys/devices/system/node/node3 /sys/module/memory_hotplug/parameters/online_policy
    test $FAKESYSFS_MACHINE = numa4"""
    arguments = ("--kernels", "5.10,7.1", "--machines", "biscuitos,numa4", "-j", "2")
    with person.directory() as directory:
        result = matrix(person, script, *arguments, "--keep-logs", f"{directory}/logs")
        logs = {path.name: path.read_text() for path in (directory / "logs").iterdir()}
    assert (result.returncode, result.stderr) == (1, "")
    assert without_times(result.stdout)[-4:] == [
        "kernel   biscuitos   numa4",
        "5.10   fail T   pass T",
        "7.1   fail T   pass T",
        "4 cells: 2 passed, 2 failed; T, 2 at once",
    ]
    assert len(logs) == 4
    for name, text in logs.items():
        kernel, _, machine = name.removesuffix(".log").partition("-")
        assert text.startswith(f"{kernel} {machine} \n") or f"\n{kernel} {machine} \n" in text
        nodes, policy = (f"\n{path}\n" in f"\n{text}" for path in (
            "/sys/devices/system/node/node3", "/sys/module/memory_hotplug/parameters/online_policy",
        ))  # fmt: skip
        assert (nodes, policy) == (machine == "numa4", kernel == "7.1"), text


def test_failures_are_told_with_their_last_lines(me: Person) -> None:
    script = 'seq 100; echo "\\033[2J" >&2; exit 3'
    result = matrix(me, script, "--kernels", "5.10,6.1", "--machines", "biscuitos", "-j", "1")
    assert result.returncode == 1
    assert without_times(result.stdout) == [
        "biscuitos with 5.10, 6.1: exit status 3",
        *(f"    {number}" for number in range(92, 101)),
        "    \\x1b[2J",
        "kernel   biscuitos",
        "5.10   fail T",
        "6.1   fail T",
        "2 cells: 2 failed; T, 1 at once",
    ]


def test_all_kernels_and_json(me: Person) -> None:
    result = matrix(me, "exit 0", "--machines", "biscuitos", "--json", "--memory", "512M")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert [cell["kernel"] for cell in found["cells"]] == list_kernels()
    for cell in found["cells"]:
        assert 0 < cell.pop("seconds") <= found["seconds"]
        del cell["kernel"]
        assert cell == {"machine": "biscuitos", "result": "pass", "status": 0, "reason": ""}


def test_options_of_the_machine_hold_for_every_cell(me: Person) -> None:
    script = "fakesysfs expect 'blocks = 4' '/proc/cmdline ~ movable_node'"
    options = ("--memory", "512M", "--append", "movable_node", "--fault", "read memory1/state EIO")
    script += "; ! cat /sys/devices/system/memory/memory1/state"
    result = matrix(me, script, "--kernels", "6.1,6.12", "--machines", "biscuitos", *options)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["results.xml", "new/results.xml"])
def test_junit(me: Person, tmp_path: Path, name: str) -> None:
    (tmp_path / "small.toml").write_text(ARM_BLOCKS)
    script = "printf 'a\\001b<\\n'; test $FAKESYSFS_MACHINE != two-dimms || exec sleep 1000"
    machines = ("--machines", "biscuitos,two-dimms", "--machines", "small.toml")

    def attempt(seconds: int) -> None:
        arguments = ("--kernels", "5.4", *machines, "--junit", name, "--timeout", f"{seconds}s")
        result = matrix(me, script, *arguments, cwd=str(tmp_path))
        assert (result.returncode, result.stderr) == (1, "")
        check_junit(ElementTree.parse(tmp_path / name).getroot(), seconds)

    given_more_time((2, 20), attempt)
    assert set(os.listdir((tmp_path / name).parent)) <= {"results.xml", "new", "small.toml"}


def check_junit(root: ElementTree.Element, seconds: int) -> None:
    """See that one cell has passed, one took too long, and one was skipped."""
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    counts = {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    assert counts.items() <= suite.attrib.items()
    assert counts.items() <= root.attrib.items()
    cases = {case.attrib["name"]: case for case in suite.findall("testcase")}
    assert list(cases) == ["5.4 biscuitos", "5.4 two-dimms", "5.4 small.toml"]
    assert [len(case) for case in cases.values()] == [0, 2, 1]
    failure, output = cases["5.4 two-dimms"]
    assert failure.tag == "failure"
    reason = f"longer than {seconds} s; ended by SIGTERM"
    assert failure.attrib == {"type": "timeout", "message": reason}
    assert (failure.text, output.tag, output.text) == ("a\\x01b<", "system-out", "a\\x01b<\n")
    assert float(cases["5.4 two-dimms"].attrib["time"]) >= seconds
    skipped = cases["5.4 small.toml"][0]
    assert skipped.tag == "skipped"
    assert "small.toml" in skipped.attrib["message"]


def test_a_cell_that_cannot_exist_is_skipped(me: Person, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(ARM_BLOCKS)
    arguments = ("--machines", "./small.toml", "--keep-logs", "logs", "-j", "2")
    result = matrix(me, "lsmem", "--kernels", "5.4,6.1", *arguments, cwd=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    reason, *rest = without_times(result.stdout)
    assert reason.startswith("./small.toml with 5.4: skipped: ")
    assert rest == [
        "kernel   ./small.toml",
        "5.4   skipped",
        "6.1   pass T",
        "2 cells: 1 passed, 1 skipped; T, 2 at once",
    ]
    assert os.listdir(tmp_path / "logs") == ["6.1-.%2Fsmall.toml.log"]
    assert "1G" in (tmp_path / "logs" / "6.1-.%2Fsmall.toml.log").read_text()
    # Nothing was run, so nothing has passed.
    result = matrix(me, "lsmem", "--kernels", "5.4", *arguments, cwd=str(tmp_path))
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--machines", "biscuitso"), "--machine biscuitso: no such preset or file; did you mean biscuitos?"),
        (("--machines", "no.toml"), "no.toml: cannot be read: No such file or directory"),
        (("--machines", "biscuitos", "--kernels", "6.1,6.2"), "--kernels 6.2: no profile of this version; the nearest is 6.1, known: "),
        (("--machines", ","), "--machines: ',' names none; write names with commas, or all"),
        (("--machines", "biscuitos", "--memory", "x"), "--memory x: 'x' is not a size; "),
        (("--machines", "biscuitos", "--timeout", "soon"), "'soon' is no time; write one like 30s or 5m"),
        ((), "Missing option '--machines'; see `fakesysfs matrix --help`"),
        (("--machines", "biscuitos", "--machine", "numa4"), "No such option '--machine'"),
    ],
)  # fmt: skip
def test_mistakes(me: Person, options: Sequence[str], message: str) -> None:
    result = matrix(me, "echo never", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_timeout_ends_the_cell(me: Person) -> None:
    script = f"""
    test $FAKESYSFS_KERNEL = 5.4 && trap 'echo ended; exit 0' TERM || trap 'echo no' TERM
    setsid sleep {OWN}.1 & sleep {OWN}.1 & while :; do sleep 0.1; done"""
    arguments = ("--kernels", "5.4,6.1", "--machines", "biscuitos", "-j", "2")

    def attempt(seconds: int) -> None:
        result = matrix(me, script, *arguments, "--timeout", f"{seconds}s")
        assert (result.returncode, result.stderr) == (1, "")
        assert processes(f"{OWN}.1") == []
        assert without_times(result.stdout) == [
            f"biscuitos with 5.4: longer than {seconds} s; ended by SIGTERM",
            "    ended",
            f"biscuitos with 6.1: longer than {seconds} s; killed: it did not end on SIGTERM",
            "    no",
            "kernel   biscuitos",
            "5.4   timeout T",
            "6.1   timeout T",
            "2 cells: 2 timed out; T, 2 at once",
        ]

    given_more_time((2, 20), attempt)


def test_as_many_at_once_as_asked_for(me: Person, tmp_path: Path) -> None:
    arguments = ("--kernels", "5.4,6.1,6.12", "--machines", "biscuitos")
    # Each waits for the others. Fewer at once would wait for ever.
    together = "touch $FAKESYSFS_KERNEL; until test $(ls | wc -l) = 3; do sleep 0.05; done"
    (tmp_path / "a").mkdir()
    result = matrix(me, together, *arguments, "-j", "3", cwd=str(tmp_path / "a"))
    assert result.returncode == 0, result.stdout
    alone = "mkdir lock && lsmem && rmdir lock"
    (tmp_path / "b").mkdir()
    result = matrix(me, alone, *arguments, "-j", "1", cwd=str(tmp_path / "b"))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(person: Person, number: signal.Signals) -> None:
    script = f"trap 'echo ended; exit 0' TERM; setsid sleep {OWN}.2 & echo begun; while :; do sleep 0.1; done"
    with person.directory() as directory:
        command = ("fakesysfs", "matrix", "--kernels", "5.4,6.1,6.12", "--machines", "biscuitos",
                   "-j", "2", "--junit", f"{directory}/r.xml", "--keep-logs", f"{directory}/logs",
                   "--", "sh", "-c", script)  # fmt: skip
        with ended(person.start(*command)) as process:
            logs = [directory / "logs" / f"{kernel}-biscuitos.log" for kernel in ("5.4", "6.1")]
            wait_for(lambda: all(log.exists() and log.read_text() for log in logs))
            wait_for(lambda: processes(f"{OWN}.2"))
            process.send_signal(number)
            output, _ = process.communicate()
        assert process.returncode == 128 + number
        assert processes(f"{OWN}.2") == []
        assert without_times(output) == [
            "kernel   biscuitos",
            "5.4   not run T",
            "6.1   not run T",
            "6.12   not run",
            "3 cells: 3 not run; T, 2 at once",
        ]
        assert [log.read_text() for log in logs] == ["begun\nended\n"] * 2
        (suite,) = ElementTree.parse(directory / "r.xml").getroot()
        assert suite.attrib["skipped"] == "3"


def started(me: Person, folder: Path, script: str, *program: str) -> subprocess.Popen[str]:
    """A matrix of one cell, whose script has printed something."""
    arguments = ("--kernels", "6.1", "--machines", "biscuitos", "--keep-logs", str(folder))
    command = (*(program or ("fakesysfs",)), "matrix", *arguments, "--")
    process = me.start(*command, "sh", "-c", script)
    log = folder / "6.1-biscuitos.log"
    wait_for(lambda: log.exists() and log.read_text())
    return process


def test_a_second_signal_kills(me: Person, tmp_path: Path) -> None:
    patient = """import sys
from fakesysfs.__main__ import main
from fakesysfs.cli import matrix_cells
matrix_cells.END_SECONDS = 1e6
sys.exit(main())"""
    script = "trap 'echo no' TERM; echo begun; while :; do sleep 0.1; done"
    with ended(started(me, tmp_path, script, sys.executable, "-c", patient)) as process:
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "no" in (tmp_path / "6.1-biscuitos.log").read_text())
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130


def test_a_killed_matrix_takes_its_cells_with_it(me: Person, tmp_path: Path) -> None:
    with ended(started(me, tmp_path, f"sleep {OWN}.4 & echo begun; wait")) as process:
        wait_for(lambda: processes(f"{OWN}.4"))
        process.kill()
        process.wait()
        wait_for(lambda: not processes(f"{OWN}.4"))


def test_an_error_ends_everything(me: Person) -> None:
    """A log that cannot be written."""
    script = f"ulimit -f 100; exec fakesysfs matrix --kernels 6.1,6.12 --machines biscuitos -- sh -c 'yes | head -c 1000000; sleep {OWN}.5'"
    result = me.run("sh", "-c", script)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("fakesysfs: ")
    assert "File too large" in result.stderr
    assert processes(f"{OWN}.5") == []


def test_progress_on_a_terminal(me: Person) -> None:
    ours, theirs = pty.openpty()
    command = ("fakesysfs", "matrix", "--kernels", "6.1,6.12", "--machines", "biscuitos", "-j", "1",
               "--", "true")  # fmt: skip
    with ended(me.start(*command, stderr=theirs, env={"TERM": "xterm"})) as process:
        os.close(theirs)
        shown = b""
        while data := read_terminal(ours):
            shown += data
        output, _ = process.communicate()
    os.close(ours)
    assert process.returncode == 0
    assert "\x1b" not in output
    for part in (b"0/2", b"1/2", b"6.1 biscuitos", b"6.12 biscuitos"):
        assert part in shown


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 12)
    except OSError:  # EIO: nobody has the other end
        return b""


def test_a_table_too_wide_for_the_terminal_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    log = Path("log")
    outcomes = [
        Outcome(Cell(kernel, machine), result, seconds, log=log)
        for kernel in ("5.4", "6.1")
        for machine, result, seconds in (("a", PASS, 0.5), ("b", FAIL, 1.25), ("c", TIMEOUT, 60.0))
    ]

    def shown(width: int) -> list[str]:
        Console(width=width).print(table(outcomes, width))
        return without_times(capsys.readouterr().out)

    assert shown(80) == [
        "kernel   a   b   c",
        "5.4   pass T   fail T   timeout T",
        "6.1   pass T   fail T   timeout T",
    ]
    assert shown(40) == [
        "kernel   machine   result",
        *(f"{k}   {m}   {r} T" for k in ("5.4", "6.1")
          for m, r in (("a", "pass"), ("b", "fail"), ("c", "timeout"))),
    ]  # fmt: skip
