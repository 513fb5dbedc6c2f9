"""`run --detach`, `exec` and `stop`: an instance in the background, and more commands inside it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import FUSE_MAGIC, MEMORY, ONLY_COVERED, SECONDS, Person, ended, lines, people

from .test_control import ALONE
from .test_kill import marked

SAID = """\
It runs in the background.
  enter it: fakesysfs exec --instance {number} -- sh
  end it:   fakesysfs stop --instance {number}
"""


@contextmanager
def detached(person: Person, *arguments: str) -> Iterator[str]:
    """A detached run with these options, and the number of the instance."""
    result = person.run("fakesysfs", "run", "-d", *arguments)
    number = result.stdout.strip().rpartition("/")[2]
    assert (result.returncode, result.stderr) == (0, SAID.format(number=number))
    try:
        yield number
    finally:
        person.run("fakesysfs", "stop", "--instance", number)


def test_it_says_how_to_enter_and_how_to_end_it(person: Person) -> None:
    """What it says is what one types."""
    result = person.run("fakesysfs", "run", "-d")
    name = result.stdout.removesuffix("\n")
    number = name.rpartition("/")[2]
    uid = "0" if person.name == "root" else person.run("id", "-u").stdout.strip()
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        f"fakesysfs/{uid}/{number}\n",
        SAID.format(number=number),
    )
    enter, end = (line.split(":", 1)[1].split() for line in result.stderr.splitlines()[1:])
    script = f"{ONLY_COVERED} echo 0x100000000 > {MEMORY}/probe; echo $FAKESYSFS"
    entered = person.run(*enter, "-c", script)
    assert (entered.returncode, entered.stdout, entered.stderr) == (0, f"{name}\n", "")
    # The instance is the same one, and goes on.
    assert "memory32" in person.run(*enter, "-c", f"ls {MEMORY}").stdout.split()
    assert "probe" in person.run("fakesysfs", "trace", "--instance", number).stdout
    ended = person.run(*end)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    gone = person.run(*enter)
    assert gone.returncode == 1
    assert lines(gone.stderr)[0].startswith(f"fakesysfs: there is no instance {number}; ")


@pytest.mark.parametrize("options", [(), ("--keep-uid",)], ids=["", "keep-uid"])
def test_the_namespaces_are_those_of_the_command(person: Person, options: tuple[str, ...]) -> None:
    look = (
        "id -u; id -g; for n in user mnt net pid; do readlink /proc/self/ns/$n; done; grep CapEff"
        " /proc/self/status"
    )
    with person.directory() as directory:
        script = f"({look}) > {directory}/first; echo > {directory}/done; exec sleep 600"
        with detached(person, *options, "--", "sh", "-c", script) as number:
            wait_for((directory / "done").exists)
            for prefix in ((), ("fakesysfs", "exec", "--")):  # and from inside once more
                command = (
                    "fakesysfs",
                    "exec",
                    "--instance",
                    number,
                    "--",
                    *prefix,
                    "sh",
                    "-c",
                    look,
                )
                result = person.run(*command)
                assert (result.returncode, result.stderr) == (0, "")
                assert result.stdout == (directory / "first").read_text()


@pytest.mark.may_skip("only root can be somebody else")
@pytest.mark.skipif(
    len(people()) < 2 or people()[0].name != "root", reason="needs root and an ordinary user"
)
def test_nobody_enters_the_instance_of_another_user() -> None:
    for owner, other in (people(), people()[::-1]):
        with detached(owner) as number:
            result = other.run("fakesysfs", "exec", "--instance", number, "--", "true")
            assert result.returncode == 1
            assert len(lines(result.stderr)) == 1
            assert "belongs to another user" in result.stderr


@pytest.mark.may_skip("only root can cover a part of /proc for somebody else")
@pytest.mark.skipif(
    len(people()) < 2 or people()[1].prefix[:1] != ("setpriv",),
    reason="needs root, and a user in the same mounts",
)
def test_an_instance_that_keeps_the_user_where_its_proc_is_not_its_own() -> None:
    """There the command's namespace cannot be found, and root's would be a wrong one."""
    root, user = people()
    covered = (
        "unshare",
        "--mount",
        "sh",
        "-ec",
        'mount -t tmpfs tmpfs /proc/tty; exec "$@"',
        "sh",
        *user.prefix,
    )
    for options, status in (((), 0), (("--keep-uid",), 1)):
        result = root.run(
            *covered, "fakesysfs", "run", *options, "--", "fakesysfs", "exec", "--", "true"
        )
        assert result.returncode == status
        assert len(lines(result.stderr)) == status
        assert status == 0 or result.stderr.startswith(
            "fakesysfs: without a /proc of its own nobody can enter"
        )


def test_streams_status_directory_and_environment(person: Person) -> None:
    with detached(person, "--", "sleep", "60") as number, person.directory() as directory:
        enter = ("fakesysfs", "exec", "--instance", number, "--")
        result = person.run(*enter, "sh", "-c", "cat; echo error >&2; exit 7", stdin="input\n")
        assert (result.returncode, result.stdout, result.stderr) == (7, "input\n", "error\n")
        assert person.run(*enter, "sh", "-c", "kill -9 $$").returncode == 137
        result = person.run(
            *enter,
            "sh",
            "-c",
            "pwd; echo $MINE; ls /proc/self/fd",
            cwd=str(directory),
            env={"MINE": "m"},
        )
        assert result.stdout.split() == [str(directory), "m", "0", "1", "2", "3"]
        result = person.run(
            *enter, "sh", "-c", "pwd; stat -f -c %t .; cat memory7/state", cwd=MEMORY
        )
        assert result.stdout.split() == [MEMORY, FUSE_MAGIC, "online"]
        for command, status, message in (
            ("nosuch-command", 127, "command not found"),
            ("/etc/passwd", 126, "permission denied"),
            ("/etc", 126, "is a directory"),
            (f"{MEMORY}/probe", 126, "permission denied"),
        ):
            result = person.run(*enter, command)
            assert (result.returncode, result.stdout, result.stderr) == (
                status,
                "",
                f"fakesysfs: {command}: {message}\n",
            )
        (directory / "script").write_text("echo plain $1\n")
        (directory / "script").chmod(0o755)
        result = person.run(*enter, str(directory / "script"), "x")
        assert (result.returncode, result.stdout) == (0, "plain x\n")
        mask = person.run(*enter, "grep", "-E", "SigBlk|SigIgn", "/proc/self/status").stdout
        assert mask == person.run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status").stdout


def test_uevents_reach_it(me: Person) -> None:
    """A listener in one exec hears what a write in another causes."""
    listener = """
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15); s.bind((0, 1)); s.settimeout(200)
print("ready", flush=True)
message = s.recv(4096)
print(message.split(b"\\0")[0].decode(), flush=True)"""
    with detached(me) as number:
        enter = ("fakesysfs", "exec", "--instance", number, "--")
        with ended(me.start(*enter, sys.executable, "-c", listener)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            result = me.run(*enter, "sh", "-c", f"{ONLY_COVERED} echo 0x100000000 > {MEMORY}/probe")
            assert (result.returncode, result.stderr) == (0, "")
            assert process.stdout.readline() == "add@/devices/system/memory/memory32\n"
            assert process.wait(SECONDS) == 0


@pytest.mark.skipif(
    not shutil.which("udevadm"), reason="systemd-udevd is not installed (package udev)"
)
def test_udevd_of_a_detached_run(person: Person) -> None:
    """It works on, for whoever comes in; its rule sets the block online."""
    with person.directory() as directory:
        rule = directory / "80-hotplug.rules"
        rule.write_text(
            'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online"\n'
        )
        with detached(person, "--udev", "--rules", str(rule)) as number:
            enter = ("fakesysfs", "exec", "--instance", number, "--", "sh", "-c")
            assert (
                person.run(*enter, f"{ONLY_COVERED} echo 0x100000000 > {MEMORY}/probe").returncode
                == 0
            )
            result = person.run(*enter, f"udevadm settle; cat {MEMORY}/memory32/state")
            assert (result.stdout, result.stderr) == ("online\n", "")


def test_with_the_hosts_network(me: Person) -> None:
    with detached(me, "--net=host") as number:
        look = f"{ONLY_COVERED} readlink /proc/self/ns/net"
        result = me.run("fakesysfs", "exec", "--instance", number, "--", "sh", "-c", look)
        assert (result.returncode, result.stdout.strip()) == (0, os.readlink("/proc/self/ns/net"))


def test_what_an_exec_leaves_running_stays_until_the_instance_ends(me: Person) -> None:
    mark = f"{random.random()}"
    with me.directory() as directory:
        with detached(me) as number:
            enter = ("fakesysfs", "exec", "--instance", number, "--")
            beat = directory / "beat"
            beat.touch()
            left = (
                f"(trap '' TERM; while :; do sleep 0.05; echo x >> {beat}; done) > /dev/null 2>&1 &"
            )
            assert me.run(*enter, "sh", "-c", left, env={"MARK": mark}).returncode == 0
            for _ in range(2):
                before = beat.stat().st_size
                wait_for(lambda before=before: beat.stat().st_size > before)  # type: ignore[misc]
            assert marked(mark)
        wait_for(lambda: not marked(mark))


def test_the_end_of_the_command_is_the_end_of_a_detached_instance(me: Person) -> None:
    with me.directory() as directory:
        wait = f"while [ ! -e {directory}/go ]; do sleep 0.05; done"
        with detached(me, "--", "sh", "-c", wait) as number:
            enter = ("fakesysfs", "exec", "--instance", number, "--")
            with ended(me.start(*enter, "sh", "-c", "echo ready; exec sleep 600")) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                (directory / "go").touch()
                out, _ = process.communicate(timeout=SECONDS)
                assert process.returncode == 137
                assert lines(out) == [
                    "fakesysfs: the instance ended, or the simulation was killed, and with it the"
                    " command"
                ]


def test_stop_is_sigterm_first(me: Person) -> None:
    with me.directory() as directory:
        tidy = (
            f"trap 'echo tidy > {directory}/out; exit' TERM; echo > {directory}/ready; while :; do"
            " sleep 0.05; done"
        )
        with detached(me, "--", "sh", "-c", tidy) as number:
            wait_for((directory / "ready").exists)
            assert me.run("fakesysfs", "stop", "--instance", number).returncode == 0
            assert (directory / "out").read_text() == "tidy\n"
        with detached(me, "--", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done") as number:
            result = me.run("fakesysfs", "stop", "--instance", number)
            assert (result.returncode, result.stderr) == (0, "")


def test_stop_of_a_run_that_is_not_detached_and_of_a_mount(me: Person) -> None:
    with ended(
        me.start("fakesysfs", "run", "--", "sh", "-c", "echo $FAKESYSFS; exec sleep 600")
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert me.run("fakesysfs", "stop", "--instance", name).returncode == 0
        assert process.wait(SECONDS) == 128 + signal.SIGTERM
    with me.directory() as directory:
        assert me.run("fakesysfs", "mount", str(directory)).returncode == 0
        result = me.run("fakesysfs", "exec", "--instance", str(directory), "--", "true")
        assert result.returncode == 1
        assert lines(result.stderr) == [
            "fakesysfs: a mount has no namespaces to run a command in; its files are below"
            f" {directory}"
        ]
        assert me.run("fakesysfs", "stop", "--instance", str(directory)).returncode == 0
        assert not me.sees_mount(directory)


def test_a_detached_run_holds_neither_terminal_nor_streams(me: Person) -> None:
    """Its output can be caught by a shell, which waits until nobody has the pipe any more."""
    result = me.run(
        "sh",
        "-c",
        "out=$(fakesysfs run -d -- sh -c 'echo lost; echo lost >&2; exec sleep 600' 2>&1); echo"
        " $out",
    )
    number = result.stdout.split()[0].rpartition("/")[2]
    try:
        assert "lost" not in result.stdout
        for pid in [number, *Path(f"/proc/{number}/task/{number}/children").read_text().split()]:
            assert os.getsid(int(pid)) == int(number)
            assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1)} == {"/dev/null"}
    finally:
        me.run("fakesysfs", "stop", "--instance", number)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--", "nosuch-command"), 127, "fakesysfs: nosuch-command: command not found"),
        (("--memory", "much"), 2, "fakesysfs: --memory much: "),
        (("--qmp", "/nosuch/qmp"), 1, "fakesysfs: cannot make the QMP socket /nosuch/qmp"),
        (("--nosuch",), 2, "fakesysfs: No such option"),
    ],
)
def test_a_detached_run_that_cannot_start_says_why(
    me: Person, arguments: tuple[str, ...], status: int, message: str
) -> None:
    result = me.run("fakesysfs", "run", "-d", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert len(lines(result.stderr)) == 1
    assert result.stderr.startswith(message)


def test_into_nothing_and_into_two(me: Person) -> None:
    two = "fakesysfs run -d > a 2> told; fakesysfs run -d > b 2> told; "
    each = "for f in a b; do fakesysfs stop --instance $(cat $f); done"
    with me.directory() as directory:
        for verb in ("exec -- true", "stop"):
            result = me.run(*ALONE, "sh", "-c", f"fakesysfs {verb}", cwd=str(directory))
            assert (result.returncode, result.stdout) == (1, "")
            assert lines(result.stderr) == [
                "fakesysfs: no instance is running; start one: fakesysfs run -- bash, or fakesysfs"
                " mount DIR"
            ]
            result = me.run(
                *ALONE,
                "sh",
                "-c",
                f"{two} fakesysfs {verb}; s=$?; {each}; exit $s",
                cwd=str(directory),
            )
            assert (result.returncode, result.stdout) == (1, "")
            assert re.fullmatch(
                r"fakesysfs: several instances are running, choose one with --instance; running: "
                r"\d+ \(sleep infinity\), \d+ \(sleep infinity\)\n",
                result.stderr,
            )
