"""The examples at the end of every --help, run as they stand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from t3_mount.host import Person, people, why_no_mount, why_no_namespaces

from fakesysfs.cli.commands import GROUPS, main
from fakesysfs.cli.fault_commands import fault

ME = people()[0]
REASON = why_no_mount() or why_no_namespaces(ME)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "it can")

# What a command says on standard error when all is well.
TOLD = ("fakesysfs: note: ", "It runs in the background.", "  enter it: ", "  end it:   ")

COMMANDS = [name for name in main.commands if name != "umount"]  # its examples are those of mount
COMMANDS += [f"fault {name}" for name in fault.commands]


def examples(person: Person, command: str) -> list[str]:
    result = person.run("fakesysfs", *command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Examples:\n" in result.stdout, f"{command} --help ends with no examples"
    lines = result.stdout.partition("Examples:\n")[2].splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_every_command_is_listed_with_what_it_does() -> None:
    result = ME.run("fakesysfs", "--help")
    assert result.returncode == 0
    sections = result.stdout.partition("Options:\n")[2].partition("\n\n")[2]
    assert re.findall(r"(?m)^(\S.*):$", sections) == list(GROUPS)
    listed = sections
    assert re.findall(r"(?m)^  (\S+)", listed) == list(main.commands)
    assert "..." not in listed, "a summary is too long for its line"


@pytest.mark.parametrize("command", COMMANDS)
def test_examples(command: str, tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    try:
        for example in examples(ME, command):
            # What they make in /tmp may be there already, and somebody's.
            result = ME.run("sh", "-c", example.replace("/tmp/", f"{tmp_path}/"), cwd=str(tmp_path))
            complaints = [line for line in result.stderr.splitlines() if not line.startswith(TOLD)]
            assert (result.returncode, complaints) == (0, []), f"{example}\n{result.stdout}"
    finally:
        if os.path.ismount(machine):
            ME.run("fakesysfs", "umount", str(machine))


def test_usage_errors_are_one_line() -> None:
    for arguments, message in (
        (["nosuch"], "fakesysfs: No such command 'nosuch'; see `fakesysfs --help`\n"),
        (["fault"], "fakesysfs: Missing command; see `fakesysfs fault --help`\n"),
        (["mount"], "fakesysfs: Missing argument 'DIRECTORY'; see `fakesysfs mount --help`\n"),
        (
            ["run", "--seed", "x"],
            (
                "fakesysfs: Invalid value for '--seed': 'x' is not a valid integer; see `fakesysfs"
                " run --help`\n"
            ),
        ),
    ):
        result = ME.run("fakesysfs", *arguments)
        assert (result.returncode, result.stdout, result.stderr) == (2, "", message)
