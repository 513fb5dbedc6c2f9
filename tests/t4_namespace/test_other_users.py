"""No command trusts another user: not who listens at a name, nor what is said or handed over there.

Everything happens in a network namespace of the test's own, which all users of it share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from t3_mount.host import (
    ORDINARY_UID,
    Person,
    ended,
    environment,
    lines,
    people,
    why_no_mount,
    why_no_namespaces,
)

from fakesysfs.errors import printable

STRANGER_UID = 1001
SECONDS = 2.0

# Listens at names, and prints a line about everything that it is asked. First argument: what it
# does; then the names.
STRANGER = r"""
import json, os, socket, sys, threading, time
what, names = sys.argv[1], sys.argv[2:]
ESCAPE = "\33]0;owned\7\n\33[31mred"

def own_namespaces():
    return ["user", "mnt", "net", "pid"], [os.open(f"/proc/self/ns/{n}", os.O_RDONLY) for n in ("user", "mnt", "net", "pid")]

def talk(connection):
    try:
        if what == "rude":
            connection.sendall(json.dumps({"error": {"type": "InstanceError", "text": ESCAPE}}).encode() + b"\n")
        elif what != "mute":
            connection.sendall(b'{"fakesysfs": 1}\n')
        for line in connection.makefile("rb"):
            print("asked", line.decode().strip(), flush=True)
            if what == "hand":
                kinds, files = own_namespaces()
                where = {"directory": ESCAPE, "qmp": "/tmp/nosuch-qmp", "hmp": None, "command": ESCAPE}
                answer = where if b'"info"' in line else kinds if b'"namespaces"' in line else []
                socket.send_fds(connection, [json.dumps({"return": answer}).encode() + b"\n"], files if answer is kinds else [])
    except OSError:
        pass

def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()

kept = []
for name in names:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + name)
    listener.listen(0 if what == "full" else 64)
    kept.append(listener)
    if what != "full":
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        continue
    try:
        while True:
            kept.append(socket.socket(socket.AF_UNIX))
            kept[-1].setblocking(False)
            kept[-1].connect("\0" + name)
    except BlockingIOError:
        pass
print("ready", flush=True)
time.sleep(120)
"""


def as_user(uid: int) -> Person:
    """An ordinary user of that number."""
    user = people()[1]
    return Person(
        f"user{uid}", tuple(str(uid) if word == str(ORDINARY_UID) else word for word in user.prefix)
    )


pytestmark = [
    pytest.mark.may_skip("only root can be somebody else"),
    pytest.mark.skipif(
        len(people()) < 2 or people()[0].name != "root", reason="needs root and ordinary users"
    ),
]


class Network:
    """A network namespace, and who does something in it."""

    def __init__(self, holder: int, person: Person, uid: int) -> None:
        self.enter = ("nsenter", "--target", str(holder), "--net", "--")
        self.person, self.uid = person, uid

    def by(self, person: Person) -> Person:
        """A person in this network."""
        return Person(person.name, (*self.enter, *person.prefix))

    @property
    def me(self) -> Person:
        """The one whose commands trust nobody else."""
        return self.by(self.person)

    @property
    def stranger(self) -> Person:
        """Another ordinary user."""
        return self.by(as_user(STRANGER_UID))

    @contextmanager
    def listening(self, what: str, names: Sequence[str]) -> Iterator[Path]:
        """The stranger listens; with a file of what it was asked."""
        with self.person.directory() as directory:
            said = directory / "said"
            with (
                said.open("w") as file,
                ended(
                    self.stranger.start(sys.executable, "-c", STRANGER, what, *names, stdout=file)
                ),
            ):
                end = time.monotonic() + 20
                while "ready" not in said.read_text():
                    assert time.monotonic() < end, said.read_text()
                    time.sleep(0.01)
                yield said


@pytest.fixture(params=["root", "user"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    person, uid = (people()[0], 0) if request.param == "root" else (people()[1], ORDINARY_UID)
    if reason := why_no_mount() or why_no_namespaces(person):
        pytest.skip(reason)
    with ended(people()[0].start("unshare", "--net", "sh", "-c", "echo; exec sleep 300")) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        yield Network(holder.pid, person, uid)


def quickly(
    person: Person, *command: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that ends within the time; others that use this host may be in its way, but not
    three times.
    """
    for _ in range(3):
        begin = time.monotonic()
        result = person.run("fakesysfs", *command, env=env)
        if time.monotonic() - begin < SECONDS:
            return result
    pytest.fail(f"{command} takes longer than {SECONDS} s: {result}")


def refused(person: Person, *command: str, env: dict[str, str] | None = None) -> str:
    """What a command says that ends within the time, with one line that does nothing to a terminal."""
    result = quickly(person, *command, env=env)
    assert (result.returncode, result.stdout) == (1, ""), (command, result)
    assert result.stderr.endswith("\n"), command
    assert printable(result.stderr[:-1]) == result.stderr[:-1], command
    return result.stderr.removeprefix("fakesysfs: ").removesuffix("\n")


NONE = "no instance is running; start one: fakesysfs run -- bash, or fakesysfs mount DIR"
COMMANDS = (
    ("exec", "--", "id"),
    ("dmesg",),
    ("stop",),
    ("map",),
    ("events",),
    ("load", "anon=+4M"),
    ("monitor", "info status"),
)


def with_instance(command: Sequence[str], which: str) -> tuple[str, ...]:
    return (command[0], "--instance", which, *command[1:])


@pytest.mark.parametrize("what", ["silent", "mute", "rude", "hand"])
def test_a_stranger_who_listens(network: Network, what: str) -> None:
    """At a name of its own or at mine: it is asked nothing, and nobody waits for it."""
    mine, theirs = f"fakesysfs/{network.uid}/500", f"fakesysfs/{STRANGER_UID}/501"
    with network.listening(what, (mine, theirs)) as said:
        for command in COMMANDS:
            assert refused(network.me, *command) == NONE
        for command in COMMANDS[:3]:
            for name in (mine, theirs):
                for which in (name, f"@{name}", name.rpartition("/")[2]):
                    problem = refused(network.me, *with_instance(command, which))
                    assert problem == f"instance {name} belongs to another user"
                assert (
                    refused(network.me, *command, env={"FAKESYSFS": name})
                    == f"instance {name} belongs to another user"
                )
            # Where the stranger says that it is.
            problem = refused(network.me, *with_instance(command, "/tmp/nosuch-qmp"))
            assert problem == "there is no instance /tmp/nosuch-qmp; none is running"
        assert said.read_text() == "ready\n"


def test_names_whose_queue_a_stranger_keeps_full(network: Network) -> None:
    """Nobody can know whose they are; nobody waits for long."""
    name = f"fakesysfs/{network.uid}/500"
    with network.listening("full", (name, f"fakesysfs/{STRANGER_UID}/500")):
        for command in COMMANDS[:3]:
            assert refused(network.me, *command) == f"instance {name} does not answer"
        for which in (name, "500"):
            assert (
                refused(network.me, "exec", "--instance", which, "id")
                == f"instance {name} does not answer"
            )
        problem = refused(network.me, "exec", "--instance", "/nosuch", "id")
        assert problem == "there is no instance /nosuch; running: none that answers"


@pytest.mark.parametrize("what", ["silent", "full", "hand"])
def test_sixty_names_of_a_stranger_beside_an_instance_of_mine(network: Network, what: str) -> None:
    me = network.me
    with me.directory() as directory:
        qmp = str(directory / "qmp")
        names = [
            f"fakesysfs/{uid}/{number}"
            for number in range(500, 530)
            for uid in (network.uid, STRANGER_UID)
        ]
        with network.listening(what, names) as said:
            started = me.run("fakesysfs", "run", "-d", "--qmp", qmp)
            assert started.returncode == 0, started.stderr
            name = started.stdout.split()[0]
            number = name.rpartition("/")[2]
            # A number that the stranger has, too, is the one of mine.
            with network.listening("hand", (f"fakesysfs/{STRANGER_UID}/{number}",)) as also_said:
                for which in (None, qmp, name, number):
                    for command in (
                        ("exec", "--", "cat", "/sys/devices/system/memory/memory7/state"),
                        ("dmesg",),
                        ("map",),
                    ):
                        result = quickly(me, *(with_instance(command, which) if which else command))
                        assert (result.returncode, result.stderr) == (0, ""), (command, which)
                        assert command[0] != "exec" or result.stdout == "online\n"
                result = me.run("fakesysfs", "stop")
                assert (result.returncode, result.stderr) == (0, "")
                assert also_said.read_text() == "ready\n"
            assert said.read_text() == "ready\n"


def test_an_instance_of_somebody_else_is_left_alone(network: Network) -> None:
    """One that is in order: without an instance of my own it is not chosen, nor when it is named."""
    theirs = network.stranger
    with theirs.directory() as directory:
        directory.chmod(0o777)
        qmp = str(directory / "qmp")
        options = ("--qmp", qmp)
        with ended(
            theirs.start(
                "fakesysfs", "run", *options, "--", "sh", "-c", "echo $FAKESYSFS; exec sleep 60"
            )
        ) as process:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            before = theirs.run("fakesysfs", "load").stdout
            assert "AnonPages" in before
            for command in COMMANDS:
                assert refused(network.me, *command) == NONE
                for which in (name, name.rpartition("/")[2]):
                    problem = refused(network.me, *with_instance(command, which))
                    assert problem == f"instance {name} belongs to another user"
                problem = refused(network.me, *with_instance(command, qmp))
                assert problem == f"there is no instance {qmp}; none is running"
            assert theirs.run("fakesysfs", "load").stdout == before
            assert process.poll() is None


def test_the_server_answers_its_own_user_only(network: Network) -> None:
    """Whatever the client is: here one that checks nothing."""
    ask = r"""
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect("\0" + sys.argv[1])
try: s.sendall(b'{"do": "dmesg"}\n')
except OSError: pass
print(s.makefile().readline().strip())"""
    command = ("fakesysfs", "run", "--", "sh", "-c", "echo $FAKESYSFS; exec sleep 60")
    with ended(network.stranger.start(*command)) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        said = json.loads(network.me.run(sys.executable, "-c", ask, name).stdout)
        assert said == {"error": {"type": "InstanceError", "text": "belongs to another user"}}
        assert json.loads(network.stranger.run(sys.executable, "-c", ask, name).stdout) == {
            "fakesysfs": 1
        }


def test_without_the_variable_commands_inside_find_their_own_instance(network: Network) -> None:
    for options in ((), ("--keep-uid",), ("--net=host",)):
        result = network.me.run(
            "fakesysfs",
            "run",
            *options,
            "--",
            "env",
            "-u",
            "FAKESYSFS",
            "fakesysfs",
            "exec",
            "--",
            "fakesysfs",
            "dmesg",
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("[    0.")


def test_what_others_wrote_is_escaped(network: Network) -> None:
    rude = "\33]0;owned\7\n\33[31m\udcff"
    problem = refused(network.me, "dmesg", "--instance", rude)
    assert problem == "there is no instance \\x1b]0;owned\\x07\\n\\x1b[31m\\udcff; none is running"
    runs = [
        ("fakesysfs", "run", "--", "sh", "-c", f"echo $FAKESYSFS; exec sleep 60 # {rude[:-1]}")
        for _ in range(2)
    ]
    with ended(network.me.start(*runs[0])) as one, ended(network.me.start(*runs[1])) as other:
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline().startswith("fakesysfs/")
        problem = refused(network.me, "dmesg")
        assert problem.startswith("several instances are running")
        assert problem.count("# \\x1b]0;owned\\x07\\n\\x1b[31m") == 2


# --------------------------------------------------------------------------- namespaces handed over

# Listens as this user does, hands over what it opens by these names, and has `exec` enter it.
HAND_OVER = r"""
import os, socket, subprocess, sys, threading
from fakesysfs.control import listen
names = [word.partition("=")[0] for word in sys.argv[1:]]
files = [os.open(word.partition("=")[2], os.O_RDONLY) for word in sys.argv[1:]]
listener, name = listen(os.getpid(), os.geteuid())
def serve():
    connection, _ = listener.accept()
    connection.sendall(b'{"fakesysfs": 1}\n')
    connection.recv(4096)
    import json
    socket.send_fds(connection, [json.dumps({"return": names}).encode() + b"\n"], files)
    connection.recv(1)
threading.Thread(target=serve, daemon=True).start()
sys.exit(subprocess.run(["fakesysfs", "exec", "--instance", name, "--", "echo", "entered"], timeout=20).returncode)
"""
NS = "/proc/self/ns/"


def handed_over(person: Person, **files: str) -> str:
    """What `exec` says to these files."""
    result = person.run(
        sys.executable,
        "-c",
        HAND_OVER,
        *(f"{name.partition('_')[0]}={path}" for name, path in files.items()),
    )
    assert (result.returncode, result.stdout) == (1, ""), (files, result)
    assert len(lines(result.stderr)) == 1
    return result.stderr.removeprefix("fakesysfs: ").removesuffix("\n")


def own(**others: str) -> dict[str, str]:
    """This process's namespaces, and in their places others."""
    return {**{name: f"{NS}{name}" for name in ("user", "mnt", "net", "pid")}, **others}


@contextmanager
def elsewhere(person: Person, *options: str) -> Iterator[str]:
    """The directory of the namespaces of a process of somebody's."""
    with ended(person.start("unshare", *options, "sh", "-c", "echo; exec sleep 60")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield f"/proc/{process.pid}/ns/"


def test_files_that_are_no_namespaces(network: Network) -> None:
    with network.person.directory() as directory:
        (directory / "mnt:[4026531841]").touch()
        for wrong in (
            "/dev/null",
            "/etc/passwd",
            "/",
            str(directory / "mnt:[4026531841]"),
            f"{NS}net",
            f"{NS}user",
            f"{NS}uts",
        ):
            for name in ("mnt", "user"):
                if wrong != f"{NS}{name}":
                    problem = handed_over(network.me, **own(**{name: wrong}))
                    assert (
                        problem
                        == f"what the instance gives is no {name} namespace; nothing is entered"
                    )
        problem = handed_over(network.me, **own(command=f"{NS}mnt"))
        assert problem == "what the instance gives is no command namespace; nothing is entered"


def test_too_few_and_too_many_files(network: Network) -> None:
    nothing = "the instance does not give the namespaces of a run; nothing is entered"
    few = own()
    del few["mnt"]
    assert handed_over(network.me, **few) == nothing
    assert handed_over(network.me, **own(uts=f"{NS}uts")) == nothing
    for again in (1, 3, 7):
        twice = handed_over(network.me, **own(), **{f"mnt_{i}": f"{NS}mnt" for i in range(again)})
        assert twice.endswith(" does not give the open files that it names")


@pytest.mark.parametrize("network", ["root"], indirect=True)
def test_namespaces_of_a_stranger(network: Network) -> None:
    """Root is handed them by a process of its own: the check does not rest on who hands them over
    alone.
    """
    root, stranger = network.me, network.stranger
    with (
        elsewhere(stranger, "--user", "--map-root-user", "--mount", "--net") as theirs,
        elsewhere(
            root, "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"
        ) as mine,
    ):
        for name in ("mnt", "net"):
            problem = handed_over(root, **own(**{name: theirs + name}))
            assert (
                problem
                == f"the {name} namespace of the instance is not of its user; nothing is entered"
            )
            # In a user namespace that I made.
            problem = handed_over(root, **own(user=mine + "user", **{name: theirs + name}))
            assert problem.endswith(
                " namespace of the instance is not of its user; nothing is entered"
            )
        problem = handed_over(
            root, **own(user=theirs + "user", mnt=theirs + "mnt", net=theirs + "net")
        )
        assert (
            problem == "the user namespace of the instance is not of its user; nothing is entered"
        )
        problem = handed_over(root, **own(command=theirs + "user"))
        assert (
            problem
            == "the command namespace of the instance is not of its user; nothing is entered"
        )


@pytest.mark.parametrize("network", ["user"], indirect=True)
def test_an_ordinary_user_enters_no_namespaces_of_the_first_user_namespace(
    network: Network,
) -> None:
    with elsewhere(people()[0], "--mount") as roots:
        # The user's process cannot open root's, so it is handed them by somebody who can.
        with ended(subprocess.Popen(
            [*network.enter, "sh", "-c", 'exec 7< "$0"; exec "$@"', roots + "mnt", *network.person.prefix, sys.executable,
             "-c", HAND_OVER, *(f"{name}={path}" for name, path in own(mnt="/proc/self/fd/7").items())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
        )) as process:  # fmt: skip
            out, _ = process.communicate(timeout=20)
        assert (
            out
            == "fakesysfs: nobody but root makes namespaces in the user namespace there is; nothing"
            " is entered\n"
        )
        assert process.returncode == 1


# ----------------------------------------------------------------------------- requests and replies

ODD = r"""
import itertools, json, os, socket, sys
name = os.environ["FAKESYSFS"]
def ask(*requests, timeout=20):
    s = socket.socket(socket.AF_UNIX); s.settimeout(timeout); s.connect("\0" + name)
    file = s.makefile("rb"); file.readline()
    for request in requests:
        try: s.sendall(request + b"\n")
        except OSError: pass
        try: yield file.readline(1 << 22)
        except ConnectionResetError: yield b""  # closed
def error(line):
    reply = json.loads(line)
    assert set(reply) == {"error"} and reply["error"]["text"], line
    return reply["error"]["text"]
wrong = [b"", b"{", b"\xff\xfe", b"5", b"null", b"[]", b'"dmesg"', b"[" * 100000, b'{"do":' * 100000, b"1" * 10000, b"{}",
    b'{"do": 5}', b'{"do": ["dmesg"]}', b'{"do": {}}', b'{"do": "nosuch"}', b'{"do": "dmesg", "args": 5}',
    b'{"do": "dmesg", "args": "ab"}', b'{"do": "dmesg", "args": {}}', b'{"do": "dmesg", "options": []}',
    b'{"do": "dmesg", "options": 5}', b'{"do": "dmesg", "options": {"nosuch": 1}}', b'{"do": "hmp", "args": [5]}',
    b'{"do": "monitor", "args": [null]}', b'{"do": "complete", "args": [[]]}', b'{"do": "pin", "args": [32768, 100000000000000]}',
    b'{"do": "events", "options": {"since": "x"}}', b'{"do": "events", "options": {"since": {}}}']
probe = ["/sys/devices/system/memory/probe", "0x100000000"]  # so that there are events
assert "return" in json.loads(next(ask(json.dumps({"do": "store", "args": probe}).encode())))
for request, reply in zip(wrong, ask(*wrong)):
    error(reply)
values = [None, True, -1, 10**14, 10**30, 1.5, "", "x", "\ud800", "a\0b", [], {}, [[1]]]
for do in ("dmesg", "trace", "trace end", "hmp", "monitor", "complete", "page", "read", "store", "allocate", "free", "pin",
           "free_page", "fault add", "fault clear", "map", "info", "check", "fault list"):
    requests = [json.dumps({"do": do, "args": args}).encode() for n in (0, 1, 2, 3) for args in
                itertools.islice(itertools.product(values, repeat=n), 0, None, 1 if n < 3 else 37)]
    for request, reply in zip(requests, ask(*requests)):
        assert reply, request
        assert json.loads(reply).keys() & {"return", "error"}, (request, reply)
long = b'{"do": "hmp", "args": ["' + b"a" * (1 << 20) + b'"]}'
first, second = ask(long, b'{"do": "info"}')
print(error(first)); assert second == b""
size = int(open("/proc/1/statm").read().split()[1])
print(error(next(ask(b"x" * 100_000_000))))
grown = (int(open("/proc/1/statm").read().split()[1]) - size) * os.sysconf("SC_PAGE_SIZE")
assert grown < 8 << 20, grown
assert json.loads(next(ask(b'{"do": "dmesg"}')))["return"]
"""


def test_odd_requests_get_an_error_each(network: Network) -> None:
    """No traceback, and the instance answers on."""
    result = network.me.run("fakesysfs", "run", "--", sys.executable, "-c", ODD)
    assert (result.returncode, result.stderr) == (0, "")
    assert lines(result.stdout) == ["bad request: longer than 1048576 bytes"] * 2


def test_a_request_that_is_too_long_is_not_sent(network: Network) -> None:
    line = "echo monitor; python3 -c 'print(\"a\" * 2000000)' | fakesysfs monitor"
    result = network.me.run("fakesysfs", "run", "--", "sh", "-c", line)
    assert (result.returncode, result.stdout) == (1, "monitor\n")
    assert len(lines(result.stderr)) == 1
    assert "which is more than 1048576" in result.stderr


# Listens as this user does and answers oddly.
ODD_ANSWERS = r"""
import os, socket, sys, threading, time
from fakesysfs.control import Client, connect, listen
from fakesysfs import control
control.GREETING_SECONDS = control.REPLY_SECONDS = 0.3
listener, name = listen(os.getpid(), os.geteuid())
greeting, answer = b'{"fakesysfs": 1}\n', b""
def serve():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()
def talk(connection):
    try:
        connection.sendall(greeting)
        while connection.recv(4096):
            connection.sendall(answer)
    except OSError: pass
threading.Thread(target=serve, daemon=True).start()
def say(what):
    begin = time.monotonic()
    try: print("returned", what())
    except Exception as e: print(type(e).__name__, str(e).replace(name, "NAME"))
    assert time.monotonic() - begin < 3
for greeting in (b"", b"5\n", b"[" * 100000 + b"\n", b"x" * 3000000, b'{"error": 5}\n'):
    say(lambda: Client(name, 0.3))
greeting = b'{"fakesysfs": 1}\n'
for answer in (b"", b"5\n", b"{}\n", b'{"error": {"type": "re", "text": "t"}}\n',
               b'{"error": {"type": "CannotStart", "text": "t"}}\n',
               b'{"error": {"type": "OSError", "errno": 5, "text": "t", "path": 5}}\n', b"x" * 3000000, b'{"return": [1, 2]}\n'):
    client = Client(name)
    say(lambda: client.call("page"))
for answer in (b"", b'{"return": 5}\n', b'{"return": ["mnt"]}\n'):
    say(lambda: Client(name).descriptors("namespaces"))
    say(lambda: connect("/nosuch"))
"""


def test_odd_answers_of_a_process_of_ones_own(network: Network) -> None:
    """An error each, and an end to each wait."""
    result = network.me.run(sys.executable, "-c", ODD_ANSWERS)
    assert (result.returncode, result.stderr) == (0, "")
    none = "InstanceError instance NAME gives an answer that is none"
    late = "InstanceError instance NAME does not answer"
    long = "InstanceError instance NAME gives an answer of more than 1048576 bytes"
    unlike = "InstanceError instance NAME does not give the open files that it names"
    nosuch = "InstanceError there is no instance /nosuch; running: none that answers"
    assert lines(result.stdout) == [
        late, none, none, long, "InstanceError instance NAME the instance gives an answer that is none",
        late, none, none, "InstanceError t", "InstanceError the instance gives an answer that is none",
        "InstanceError the instance gives an answer that is none", long, "returned [1, 2]",
        late, nosuch, unlike, nosuch, unlike, nosuch,
    ]  # fmt: skip


def test_a_user_without_a_number_is_nobody_in_particular(network: Network) -> None:
    """In a user namespace all who have no number there look alike: that one is nobody's."""
    code = (
        "import os; from fakesysfs.control import is_own; print(os.geteuid(), is_own(os.geteuid()),"
        " is_own(12345))"
    )
    result = network.me.run(sys.executable, "-c", code)
    assert result.stdout.split() == [f"{network.uid}", "True", "False"]
    result = network.me.run("unshare", "--user", sys.executable, "-c", code)
    assert result.stdout.split() == ["65534", "False", "False"]
