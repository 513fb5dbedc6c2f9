"""How a second command finds a running instance and speaks to it, inside and outside of it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import Person, ended, lines, people

from fakesysfs.control_server import Descriptors, Server

# A network namespace of its own: instances of others are not seen.
ALONE = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--net", "--")


def with_it(holder: int) -> tuple[str, ...]:
    """What to put before a command to be in the namespaces of a process that ALONE was put before."""
    user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
    return ("nsenter", "--target", str(holder), *user, "--net", "--")


@contextmanager
def running(person: Person, *options: str, network: int | None = None) -> Iterator[str]:
    """A run, and the name of the instance."""
    enter = () if network is None else with_it(network)
    command = (
        *enter,
        "fakesysfs",
        "run",
        *options,
        "--",
        "sh",
        "-c",
        "echo $FAKESYSFS; exec sleep 600",
    )
    with ended(person.start(*command)) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def alone(person: Person, *command: str) -> tuple[int, str]:
    result = person.run(*ALONE, *command)
    return result.returncode, result.stdout + result.stderr


def test_from_inside(person: Person) -> None:
    script = """
fakesysfs dmesg | head -n 1; fakesysfs monitor 'info memory_size_summary'
echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs events; fakesysfs trace; fakesysfs map"""
    result = person.inside(script)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("[    0.")
    assert "base memory: 1073741824\nplugged memory: 0\n" in result.stdout
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert ["add@/devices/system/memory/memory32", "ACTION=add"] in [
        event["payload"][:2] for event in events
    ]
    assert "add_memory" in result.stdout
    assert "memory0-7" in result.stdout


def test_from_outside_by_name(person: Person) -> None:
    with running(person) as name:
        for which in (name, f"@{name}", name.rpartition("/")[2]):
            result = person.run(
                "fakesysfs", "monitor", "--instance", which, "info memory_size_summary"
            )
            assert (result.returncode, result.stdout) == (
                0,
                "base memory: 1073741824\nplugged memory: 0\n",
            )
        assert person.run("fakesysfs", "dmesg", env={"FAKESYSFS": name}).returncode == 0


def test_others_are_refused() -> None:
    for owner, other in (people(), people()[::-1]):
        with running(owner) as name:
            result = other.run("fakesysfs", "dmesg", "--instance", name)
            assert result.returncode == 1
            assert lines(result.stderr) == [f"fakesysfs: instance {name} belongs to another user"]


test_others_are_refused.__test__ = len(people()) == 2  # type: ignore[attr-defined]


def test_none(me: Person) -> None:
    status, said = alone(me, "fakesysfs", "dmesg")
    assert status == 1
    assert (
        said
        == "fakesysfs: no instance is running; start one: fakesysfs run -- bash, or fakesysfs mount"
        " DIR\n"
    )
    status, said = alone(me, "fakesysfs", "map", "--instance", "/nosuch")
    assert (status, said) == (1, "fakesysfs: there is no instance /nosuch; none is running\n")
    status, said = alone(me, "fakesysfs", "map", "--instance", "fakesysfs/0/1")
    assert (status, said) == (
        1,
        "fakesysfs: instance fakesysfs/0/1 does not answer: Connection refused\n",
    )


def test_the_only_one_and_several(me: Person, tmp_path: Path) -> None:
    with ended(me.start(*ALONE, "sleep", "300")) as holder:
        wait_for(lambda: Path(f"/proc/{holder.pid}/cmdline").read_text().startswith("sleep"))
        there = with_it(holder.pid)
        with ExitStack() as stack:
            stack.enter_context(running(me, network=holder.pid))
            assert me.run(*there, "fakesysfs", "monitor", "info memdev").returncode == 0
            second = stack.enter_context(running(me, network=holder.pid))
            result = me.run(*there, "fakesysfs", "monitor", "info memdev")
            assert result.returncode == 1
            assert len(lines(result.stderr)) == 1
            assert "several instances are running, choose one with --instance" in result.stderr
            assert second.rpartition("/")[2] in result.stderr
            assert (
                me.run(
                    *there, "fakesysfs", "monitor", "--instance", second, "info memdev"
                ).returncode
                == 0
            )
        wait_for(lambda: "no instance" in me.run(*there, "fakesysfs", "dmesg").stderr)


def test_one_that_does_not_answer(me: Person) -> None:
    """Nor does one that has a long line of others waiting make anybody wait."""
    code = """
import os, socket
from fakesysfs.control import Client, connect
name = f"fakesysfs/{os.getuid()}/7"
silent = socket.socket(socket.AF_UNIX); silent.bind("\\0" + name); silent.listen(1)
waiting = []
for which in (name, name, name, "/nosuch"):
    try: Client(name, 0.2) if which == name else connect(which)
    except Exception as e: print(type(e).__name__, e)
    try: waiting.append(socket.socket(socket.AF_UNIX)); waiting[-1].setblocking(False); waiting[-1].connect("\\0" + name)
    except BlockingIOError: pass
"""
    status, said = alone(me, sys.executable, "-c", code)
    assert status == 0, said
    *silent, last = lines(said)
    assert [line.split(maxsplit=3)[3] for line in silent] == ["does not answer"] * 3
    assert last == "InstanceError there is no instance /nosuch; running: none that answers"


def test_errors_of_the_monitor_are_the_exit_status(me: Person) -> None:
    result = me.inside(
        "fakesysfs monitor 'object_del nosuch'; echo $?; fakesysfs monitor nosuch; echo $?"
    )
    assert lines(result.stdout) == [
        "Error: object 'nosuch' not found",
        "1",
        "unknown command: 'nosuch'",
        "1",
    ]


def test_the_monitor_reads_lines(me: Person) -> None:
    result = me.inside(
        "printf 'info memory_size_summary\\ninfo memory-devices\\n' | fakesysfs monitor"
    )
    assert (result.returncode, result.stdout) == (0, "base memory: 1073741824\nplugged memory: 0\n")


def test_lines_from_two_places(me: Person) -> None:
    result = me.run("fakesysfs", "monitor", "--script", "/dev/null", "info status")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "fakesysfs: lines come from --script or stand behind it, not both; see "
    )


def test_open_files_for_somebody_who_has_hung_up_are_closed() -> None:
    reading, writing = os.pipe()
    server = Server({"files": lambda: Descriptors({"writing": writing})})
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rwb") as file, open(reading, "rb") as pipe:
        ours.close()
        with pytest.raises(BrokenPipeError):
            server._answer(theirs, file, b'{"do": "files"}')
        os.set_blocking(reading, False)
        assert pipe.read() == b""  # and not None: nobody can write to it any more


# Uses up all file descriptors, connects, and gives them back.
CROWD = r"""
import os, resource, socket, threading
from fakesysfs.control import Client, listen
from fakesysfs.control_server import Server
class Listener(socket.socket):
    refused = threading.Event()
    def accept(self):
        try: return super().accept()
        except OSError: self.refused.set(); raise
listener, name = listen(os.getpid(), os.geteuid())
listener = Listener(fileno=listener.detach())
Server({"hello": lambda: "there"}).serve(listener)
assert Client(name).call("hello") == "there"
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
crowd = []
try:
    while True: crowd.append(socket.socket(socket.AF_UNIX))
except OSError:
    for each in crowd[:9]: each.connect(f"\0{name}")  # more than a client that has just gone gives back
assert Listener.refused.wait(100)
for each in crowd: each.close()
print(Client(name).call("hello"))
"""


def test_out_of_file_descriptors_for_a_while(me: Person) -> None:
    result = me.run(sys.executable, "-c", CROWD)
    assert (result.returncode, result.stdout, result.stderr) == (0, "there\n", "")


def test_following_events(me: Person) -> None:
    script = """
fakesysfs events --follow > $D/out &
for block in 32 33; do
    printf '0x%x\\n' $((block << 27)) > /sys/devices/system/memory/probe
    until grep -q memory$block $D/out; do sleep 0.05; done
done
kill %1; cat $D/out"""
    with me.directory() as directory:
        result = me.run("fakesysfs", "run", "--", "bash", "-c", script, env={"D": str(directory)})
    numbers = [json.loads(line)["seq"] for line in lines(result.stdout)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
