"""`run --name`, `ls` and `run --timeout`."""

from __future__ import annotations

import json

import pytest
from t3_mount.host import Person, lines

from .test_control import ALONE, alone


def test_a_name_is_what_instance_takes(me: Person) -> None:
    script = """
        fakesysfs run -d --name first 2> told
        fakesysfs exec --instance first -- sh -c 'echo $FAKESYSFS'
        fakesysfs run --name first -- true; echo $?
        fakesysfs stop --instance first
        fakesysfs run --name first -- echo again
    """
    with me.directory() as directory:
        result = me.run(*ALONE, "sh", "-c", script, cwd=str(directory))
    name, inside, *rest = lines(result.stdout)
    assert name.endswith("/first")
    assert inside == name
    assert rest == ["2", "again"]
    assert lines(result.stderr) == [
        "fakesysfs: --name first: there is an instance of that name;"
        " fakesysfs stop --instance first"
    ]


@pytest.mark.parametrize("name", ["", "1st", "a/b", "-x", "a b", "ä", "x" * 65])
def test_what_is_no_name(me: Person, name: str) -> None:
    result = me.run("fakesysfs", "run", f"--name={name}", "--", "true")
    assert result.returncode == 2
    (said,) = lines(result.stderr)
    assert said.startswith(f"fakesysfs: --name {name}: a name begins with a letter") or (
        name == "ä" and "a name begins with a letter" in said
    )


def test_ls(me: Person) -> None:
    status, said = alone(me, "fakesysfs", "ls")
    assert (status, said) == (0, "")
    result = me.run(
        "fakesysfs", "run", "--net=own", "--name", "second", "--kernel", "6.12", "--",
        "fakesysfs", "ls", "--json",
    )  # fmt: skip
    (one,) = json.loads(result.stdout)
    assert (one["name"], one["kernel"], one["arch"]) == ("second", "6.12", "x86_64")
    assert one["command"] == "fakesysfs ls --json"
    shown = me.run("fakesysfs", "run", "--name", "third", "--", "fakesysfs", "ls")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["NAME", "third"]


@pytest.mark.parametrize(
    ("options", "script", "said"),
    [
        (("--timeout", "300ms"), "exec sleep 600", "fakesysfs: timeout after 0.3 s"),
        (
            ("--timeout", "1", "--fault", "read memory3/state hang"),
            "exec cat /sys/devices/system/memory/memory3/state",
            "fakesysfs: timeout after 1 s; fault rule `read memory3/state hang` keeps 1 waiting",
        ),
        (
            ("--timeout", "0.1s"),
            "trap '' TERM; while :; do sleep 0.1; done",
            "fakesysfs: timeout after 0.1 s",
        ),
    ],
)
def test_a_command_that_takes_too_long(
    me: Person, options: tuple[str, ...], script: str, said: str
) -> None:
    result = me.run("fakesysfs", "run", *options, "--", "sh", "-c", script)
    assert (lines(result.stderr), result.stdout, result.returncode) == ([said], "", 124)


def test_a_command_that_ends_in_time(me: Person) -> None:
    result = me.run("fakesysfs", "run", "--timeout", "1h", "--", "sh", "-c", "exit 4")
    assert (result.stderr, result.returncode) == ("", 4)
    result = me.run("fakesysfs", "run", "--timeout", "soon", "--", "true")
    assert (result.stderr, result.returncode) == (
        "fakesysfs: Invalid value for '--timeout': 'soon' is no time; write one like 30s or 5m;"
        " see `fakesysfs run --help`\n",
        2,
    )
