"""The QEMU monitor: what it says, compared with a real QEMU; and that no client can upset it.

qemu_dialogues.json was recorded from QEMU 7.2.22: machines without a guest that answers, so that
nothing but QEMU itself is in the replies. What happens when a guest answers is in the recordings
of real guests: see test_replay_inprocess.py. What follows is about the socket: who is told what and
when, and clients that break off, flood, or never listen.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from model_guest import ModelGuest
from monitor_grammar import CURIOSITIES, DEEP
from qemu_answers import options_reordered, without_order
from support.waiting import LIMIT_SECONDS, wait_for

from fakesysfs.errors import EnvironmentProblem, MonitorError
from fakesysfs.qemu import monitor_server
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.hmp import HmpInterpreter
from fakesysfs.qemu.host_events import HostEvent
from fakesysfs.qemu.monitor import Monitor
from fakesysfs.qemu.monitor_server import MonitorServer, serve_qmp
from fakesysfs.qemu.qemu_json import JsonError, JsonStream, parse_json, to_json
from fakesysfs.qemu.qemu_text import parse_size
from fakesysfs.qemu.qmp import QmpSession

HERE = Path(__file__).parent
SESSIONS = json.loads((HERE / "qemu_dialogues.json").read_text())["sessions"]


# ------------------------------------------------------------------------------ as a real QEMU does


def names_another_option(hmp: HmpInterpreter, line: str, real: str) -> bool:
    """Whether ours gives QEMU's answer when another option comes first: its order is a hash
    table's.
    """
    return real.startswith("Error: ") and any(
        hmp.command(other) == real for other in options_reordered(line)
    )


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["title"])
def test_says_what_qemu_says(session: dict[str, Any]) -> None:
    guest = ModelGuest(session["memory"], nodes=session.get("nodes", ()))
    guest.may_answer.clear()
    with Board(guest, answer_seconds=0.01) as board:
        monitor = Monitor(board)
        hmp, qmp = monitor.hmp, QmpSession(monitor)
        if session["negotiated"]:
            qmp.receive(b'{"execute":"qmp_capabilities"}')
        wrong = []
        real: Any
        ours: Any
        for step in session["steps"]:
            if "hmp" in step:
                asked, real, ours = step["hmp"], step["out"], hmp.command(step["hmp"])
            else:
                asked, real = step["send"], step["replies"]
                ours = [json.loads(reply) for reply in qmp.receive(asked.encode("latin1"))]
            if without_order(ours) != without_order(real) and not (
                "hmp" in step and names_another_option(hmp, step["hmp"], real)
            ):
                wrong.append(f"{asked!r}\n  real: {real!r}\n  ours: {ours!r}")
        guest.may_answer.set()
    assert not wrong, "\n".join(wrong)


# --------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("1k", 1024), ("1.5M", 3 << 19), ("0x10", 16), ("010k", 10240), (" +1G", 1 << 30), ("1.k", 1024),
        ("0.5e", 1 << 59), ("15E", 15 << 60), ("0.0005k", 1), ("1.0", 1), ("16E", None), ("1.5", None), ("-1", None),
        ("", None), ("k", None), ("1e3", None), ("0x", None), ("1M ", None), ("9" * 5000, None), ("1\n", None),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_json_comes_in_any_pieces() -> None:
    text = b"""{"a": [1, -2.5e3, "x\\u00e9\\ud83d\\ude00 \xc3\xa9'", true, null, {}], 'b"': {"c": []}} [] 7 "\\\\" {"""
    values = [{"a": [1, -2500.0, "xé😀 é'", True, None, {}], 'b"': {"c": []}}, [], 7, "\\"]
    for size in range(1, len(text)):
        stream = JsonStream()
        got = []
        for start in range(0, len(text), size):
            stream.feed(text[start : start + size])
            while (value := stream.next()) is not None:
                got.append(value[0])
        assert got == values


def test_json_survives_anything() -> None:
    """Whatever was sent, a message behind 0xFF and a line end is understood; and no piece of junk
    is kept for ever.
    """
    chance = random.Random(1)
    letters = b"{}[]:,\"'\\ \n\t019eE+-.abtruefalsn%\x00\x7f\x80\xc3\xa9\xfe\xff"
    for _ in range(2000):
        stream = JsonStream()
        stream.feed(bytes(chance.choices(letters, k=chance.randrange(40))))
        stream.feed(
            b"\"\n'\n]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}]}\xff\n" * 2 + b'{"execute": "sync"}'
        )
        got: list[Any] = []
        more = True
        while more:
            with suppress(JsonError):
                value = stream.next()
                got += value or ()
                more = value is not None
        assert got[-1] == {"execute": "sync"}
        assert len(stream) == 0


def test_json_out_and_in_again() -> None:
    deep: Any = 1
    for level in range(1000):
        deep = {"k": deep, "é": [[], {}]} if level % 2 else [0, deep, "x"]
    values: list[Any] = [deep, {"a": [1, {"b": None}], "": ""}, [], {}, "x", 1.5]
    for value in values:
        encoded = to_json(value)
        assert encoded.endswith(b"\r\n")
        assert to_json(parse_json(encoded.decode())) == encoded


# ----------------------------------------------------------------------------------------- commands


@pytest.fixture
def guest() -> ModelGuest:
    return ModelGuest()


@pytest.fixture
def board(guest: ModelGuest) -> Iterator[Board]:
    with Board(guest, answer_seconds=0.3) as board:
        yield board
        guest.may_answer.set()


def test_monitor_for_scripts(board: Board) -> None:
    """Monitor.command() ends lines as files do; Monitor.execute() raises what QMP would say."""
    monitor = Monitor(board)
    assert monitor.command("bogus") == "unknown command: 'bogus'\n"
    assert monitor.command("object_add memory-backend-ram,id=m0,size=1G") == ""
    assert (
        monitor.command("info memory_size_summary")
        == "base memory: 1073741824\nplugged memory: 0\n"
    )
    assert monitor.command("info version") == "7.2.22 (fakesysfs)\n"
    assert monitor.command("info status") == "VM status: running\n"
    assert monitor.command("info name") == ""
    assert monitor.execute("query-status") == {
        "status": "running",
        "singlestep": False,
        "running": True,
    }
    with pytest.raises(MonitorError, match="has not been found") as e:
        monitor.execute("nope")
    assert e.value.klass == "CommandNotFound"


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("info memdev", False), ("", False), ("help nope", False), ("nope", True), ("info nope", True), ("object_del", True),
        ("object_del nope", True), ("info memdev x", True), ("object_add memory-backend-ram,id=m0,size=0x1G", False),
    ],
)  # fmt: skip
def test_whether_a_line_was_refused(board: Board, line: str, refused: bool) -> None:
    """Also where the text does not begin with "Error:"."""
    text, was = Monitor(board).carry_out(line)
    assert was == refused
    assert text or not refused


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ("obj", ["object_add ", "object_del "]),
        ("  qom-s", ["qom-set "]),
        ("info mem", ["memdev", "memory-devices", "memory_size_summary"]),
        ("info memdev ", []),
        ("help info n", ["name", "numa"]),
        ("help dev", ["device_add", "device_del"]),
        ("object_add memory-backend-m", ["memory-backend-memfd,"]),
        ("object_add qom-type=memory-backend-r", ["memory-backend-ram,"]),
        ("object_add memory-backend-ram,id=x,s", ["share=", "size="]),
        ("object_add memory-backend-ram,size=1G,s", ["share="]),
        ("object_add memory-backend-ram,share=o", ["on", "off"]),
        ("object_add memory-backend-ram,size=", []),
        ("object_add nope,s", []),
        ("device_add pc", ["pc-dimm,"]),
        ("device_add nope,", []),
        ("device_add pc-dimm,memdev=", ["m1"]),
        ("device_add pc-dimm,memdev=m1,", ["id=", "addr=", "node=", "size=", "slot="]),
        ("device_del ", ["d0"]),
        ("object_del m", ["m1"]),
        ("qom-list /ob", ["/objects"]),
        ("qom-get /objects/m", ["/objects/m0", "/objects/m1"]),
        ("qom-get /machine/peripheral/", ["/machine/peripheral/d0"]),
        ("qom-get /objects/m0 s", ["share", "size"]),
        ("qom-set -j /objects/m0 mer", ["merge"]),
        ("qom-get /nope x", []),
        ("qom-list /objects ", []),
        ("nope ", []),
        ("quit ", []),
    ],
)  # fmt: skip
def test_completion(board: Board, line: str, ends: list[str]) -> None:
    monitor = Monitor(board)
    for command in (
        "object_add memory-backend-ram,id=m0,size=2M",
        "object_add memory-backend-ram,id=m1,size=2M",
    ):
        assert monitor.command(command) == ""
    assert monitor.command("device_add pc-dimm,id=d0,memdev=m0") == ""
    assert sorted(monitor.hmp.complete(line)) == sorted(ends)


def test_help_names_every_command(board: Board) -> None:
    monitor = Monitor(board)
    lines = [line for line in monitor.command("help").splitlines() if not line.startswith("\t")]
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    for name in names:
        for alias in name.split("|"):
            assert monitor.command(f"help {alias}").startswith(f"{name} ")
    for line in monitor.command("help info").splitlines():
        assert monitor.command(f"help {line.partition(' -- ')[0]}") == f"{line}\n"
    assert monitor.command("info") == monitor.command("help info")
    assert "memory-backend-ram" in monitor.command("object_add help")
    assert 'name "pc-dimm"' in monitor.command("device_add help")


def test_nothing_is_too_deep(board: Board) -> None:
    """Whatever is nested where it should not be is refused in QEMU's words, not in Python's."""
    board.object_add("memory-backend-ram", {"id": "m0", "size": 1 << 21})
    session = QmpSession(Monitor(board))
    session.receive(b'{"execute":"qmp_capabilities"}')
    deep = [request for request in CURIOSITIES if DEEP in request]
    assert len(deep) > 10
    for request in deep:
        reply = parse_json(session.receive(request)[0].decode())
        assert "internal" not in reply.get("error", {}).get("desc", ""), request.replace(
            DEEP, b"DEEP"
        )


def test_query_commands_are_all_there(board: Board) -> None:
    monitor = Monitor(board)
    names = [command["name"] for command in monitor.execute("query-commands")]
    assert len(names) == len(set(names))
    assert {
        "device_add",
        "device_del",
        "object-add",
        "query-memory-devices",
        "qmp_capabilities",
    } <= set(names)
    for name in names:
        if name.startswith("query-"):
            monitor.execute(name)


@pytest.mark.logs_errors("a command is made to fail")
def test_fault_of_a_command_is_told(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    session = QmpSession(Monitor(board))
    session.receive(b'{"execute":"qmp_capabilities"}')

    def fail() -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(board, "memdevs", fail)
    reply = json.loads(session.receive(b'{"execute":"query-memdev","id":3}')[0])
    assert reply["error"]["desc"] == "internal error: ZeroDivisionError()"
    assert reply["id"] == 3


def test_quit_is_told(board: Board) -> None:
    """The watcher at once, and `on_quit` when the watcher is done."""
    done, ended = threading.Event(), threading.Event()
    said: list[str] = []

    def watch(reason: str) -> threading.Event:
        said.append(reason)
        return done

    monitor = Monitor(board, ended.set)
    unwatch = monitor.watch_quit(watch)
    assert monitor.command("quit now").startswith("quit|q: extraneous characters")
    assert said == []
    assert monitor.command("q") == ""
    assert said == ["host-qmp-quit"]
    assert not ended.wait(0.2)
    done.set()
    assert ended.wait(LIMIT_SECONDS)
    unwatch()
    monitor.execute("quit")
    assert said == ["host-qmp-quit"]


# --------------------------------------------------------------------------------------- the socket


class Client:
    """A client of a QMP socket."""

    def __init__(self, path: str | Path, negotiate: bool = True) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_SECONDS)
        self.sock.connect(f"{path}")
        self._file = self.sock.makefile("rb")
        try:
            self.greeting = self.receive()
        except BaseException:
            self.close()
            raise
        self.events: list[dict[str, Any]] = []
        if negotiate:
            assert self.call("qmp_capabilities") == {"return": {}}

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> Any:
        line = self._file.readline()
        assert line.endswith(b"\r\n"), "hung up on"
        return json.loads(line)

    def call(self, execute: str, **arguments: Any) -> Any:
        self.send(json.dumps({"execute": execute, "arguments": arguments}).encode())
        while "event" in (reply := self.receive()):
            self.events.append(reply)
        return reply

    def hmp(self, line: str) -> Any:
        return self.call("human-monitor-command", **{"command-line": line})["return"]

    def event_names(self) -> list[str]:
        """The names of the events that have come."""
        self.call("query-name")
        names = [event["event"] for event in self.events]
        self.events = []
        return names

    def is_hung_up(self) -> bool:
        """Whether the server ends the connection, after what it may still have to say."""
        try:
            while self._file.read(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self._file.close()
        self.sock.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp"


@pytest.fixture
def server(path: Path, board: Board) -> Iterator[MonitorServer]:
    with serve_qmp(f"{path}", board) as server:
        yield server


@pytest.fixture
def clients(server: MonitorServer) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(Client(server.path))) for _ in range(3)]
        yield clients


def plug(client: Client, name: str = "d0") -> None:
    assert client.hmp(f"object_add memory-backend-ram,id=m-{name},size=128M") == ""
    assert client.call("device_add", driver="pc-dimm", id=name, memdev=f"m-{name}") == {
        "return": {}
    }


def test_greeting(server: MonitorServer) -> None:
    with closing(Client(server.path, negotiate=False)) as client:
        assert client.greeting == {
            "QMP": {
                "version": {
                    "qemu": {"micro": 22, "minor": 2, "major": 7},
                    "package": " (fakesysfs)",
                },
                "capabilities": ["oob"],
            }
        }
        assert client.call("query-name")["error"]["class"] == "CommandNotFound"


def test_events_follow_the_reply_and_reach_everybody(
    clients: list[Client], server: MonitorServer
) -> None:
    with closing(Client(server.path, negotiate=False)) as silent:
        first, *others = clients
        plug(first)
        assert first.events == []  # none came before the reply
        event = first.receive()
        assert list(event) == ["timestamp", "event", "data"]
        assert abs(event["timestamp"]["seconds"] - time.time()) < 60
        assert 0 <= event["timestamp"]["microseconds"] < 1_000_000
        assert event["data"] == {
            "info": {"device": "d0", "source": 1, "status": 0, "slot": "0", "slot-type": "DIMM"}
        }
        assert first.call("device_del", id="d0") == {"return": {}}
        assert first.event_names() == ["ACPI_DEVICE_OST", "DEVICE_DELETED", "ACPI_DEVICE_OST"]
        for client in others:
            assert client.event_names() == [
                "ACPI_DEVICE_OST",
                "ACPI_DEVICE_OST",
                "DEVICE_DELETED",
                "ACPI_DEVICE_OST",
            ]
        assert "error" in silent.call("query-name")
        assert silent.events == []


def test_guest_that_hangs_stops_nobody(clients: list[Client], guest: ModelGuest) -> None:
    first, second, _ = clients
    plug(first)
    guest.may_answer.clear()
    # which would not end, if it waited for the guest
    assert first.call("device_del", id="d0") == {"return": {}}
    assert second.call("device_del", id="d0") == {"return": {}}
    assert [device["data"]["id"] for device in second.call("query-memory-devices")["return"]] == [
        "d0"
    ]
    guest.may_answer.set()
    wait_for(lambda: second.call("query-memory-devices")["return"] == [])


def test_pipelined_commands_are_answered_in_order(clients: list[Client]) -> None:
    client = clients[0]
    client.send(b"".join(b'{"execute":"query-name","id":%d}' % i for i in range(5000)))
    assert [client.receive()["id"] for _ in range(5000)] == list(range(5000))


def test_message_in_pieces(clients: list[Client]) -> None:
    for byte in b'{"execute":"query-name","id":"x"}':
        clients[0].send(bytes([byte]))
    assert clients[0].receive() == {"return": {}, "id": "x"}


@pytest.mark.parametrize(
    "junk",
    [
        b'{"execute": "query-',
        b"\x00\x01\x02\xfe\xff" * 1000,
        random.Random(1).randbytes(1 << 16),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"[" * 100_000,
        b"{" * 100_000,
        b"]" * 10_000,
        b'{"a":' * 5000,
        b'{"execute":"query-name","arguments":' + b"[" * 900 + b"]" * 900 + b"}",
        b"info memory-devices\n",
        b"\n" * (1 << 20),
        b"\xff" * 10_000,
        b'"' + b"\\" * 9999,
    ],
    ids=lambda junk: repr(junk[:12]),
)
def test_junk_hurts_only_its_sender(
    clients: list[Client], board: Board, guest: ModelGuest, junk: bytes
) -> None:
    bad, good, other = clients
    before = [board.memdevs(), board.memory_devices(), board.ospm_status()]
    sender = threading.Thread(target=_send_and_go, args=(bad, junk))
    sender.start()
    for _ in range(20):
        assert good.call("query-name") == {"return": {}}
    sender.join()
    assert [board.memdevs(), board.memory_devices(), board.ospm_status()] == before
    assert guest.calls == []
    plug(other)
    assert "d0" in other.hmp("info memory-devices")


def _send_and_go(client: Client, junk: bytes) -> None:
    with suppress(OSError):  # hung up on
        client.send(junk)
    client.close()


def memory() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    ("begin", "go_on"),
    [(b"", b"a" * 65536), (b'"', b"a" * 65536), (b"[", b'"",' * 20000), (b"[", b"1," * 30000)],
)
def test_message_without_end_is_hung_up_on(
    server: MonitorServer, begin: bytes, go_on: bytes
) -> None:
    with closing(Client(server.path)) as client, closing(Client(server.path)) as other:
        before, sent = memory(), 0
        client.send(begin)
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 64 << 20:
                client.send(go_on)
                sent += len(go_on)
        assert sent < 32 << 20
        assert memory() - before < 64 << 20
        assert other.call("query-name") == {"return": {}}


def test_commands_whose_replies_nobody_fetches_are_not_taken(server: MonitorServer) -> None:
    """The client is not read from any more; memory does not grow; others are served; in the end it
    gets everything.
    """
    with closing(Client(server.path)) as lazy, closing(Client(server.path)) as other:
        before = memory()
        lazy.sock.setblocking(False)
        request = b'{"execute":"query-commands"}'
        taken = 0
        with suppress(BlockingIOError):
            while taken < 64 << 20:
                taken += lazy.sock.send(request)
                time.sleep(0.00001)
        assert taken < 8 << 20
        assert memory() - before < 32 << 20
        assert other.call("query-name") == {"return": {}}
        lazy.sock.settimeout(LIMIT_SECONDS)
        for _ in range(taken // len(request)):
            assert "return" in lazy.receive()


def test_client_that_never_listens_is_hung_up_on(
    server: MonitorServer, board: Board, guest: ModelGuest
) -> None:
    with closing(Client(server.path)) as deaf, closing(Client(server.path)) as other:
        plug(other)
        for i in range(monitor_server.OUTPUT_LIMIT // 100):  # an event takes more than that
            guest.tell("ost", "0 3 132")
            if i % 100 == 0:
                other.event_names()
        assert other.event_names()
        assert deaf.is_hung_up()
        assert other.call("query-name") == {"return": {}}


def test_vanishing_clients(server: MonitorServer) -> None:
    for i in range(100):
        client = Client(server.path, negotiate=bool(i % 3))
        client.send(b'{"execute":"query-commands"}' * (i % 5) + b'{"execute"' * (i % 2))
        client.close()
    with closing(Client(server.path)) as client:
        assert client.call("query-name") == {"return": {}}


def test_last_words_are_answered(server: MonitorServer) -> None:
    """A client that closes its sending side, as `nc -N` does, still gets its replies; then the
    server hangs up.
    """
    with closing(Client(server.path)) as client:
        client.send(b'{"execute":"query-name","id":1}{"execute":"query-name","id":2}{"execute"')
        client.sock.shutdown(socket.SHUT_WR)
        assert client.receive()["id"] == 1
        assert client.receive()["id"] == 2
        assert client.is_hung_up()


def test_too_many_clients(server: MonitorServer) -> None:
    with ExitStack() as stack:
        for _ in range(monitor_server.CLIENT_LIMIT):
            stack.enter_context(closing(Client(server.path)))
        with pytest.raises(AssertionError, match="hung up on"):
            Client(server.path)

    def may_come() -> bool:
        try:
            Client(server.path).close()
        except AssertionError:
            return False
        return True

    wait_for(may_come)


def test_quit(path: Path, board: Board) -> None:
    quitted = threading.Event()
    with (
        serve_qmp(f"{path}", board, quitted.set),
        closing(Client(path)) as client,
        closing(Client(path)) as other,
    ):
        client.send(b'{"execute":"quit","id":1}')
        replies = [client.receive(), client.receive()]
        assert {"return": {}, "id": 1} in replies
        assert [reply["data"] for reply in replies if "event" in reply] == [
            {"guest": False, "reason": "host-qmp-quit"}
        ]
        assert client.is_hung_up()
        assert other.is_hung_up()
        assert quitted.wait(LIMIT_SECONDS)
    assert not path.exists()


def test_close_in_on_quit(path: Path, board: Board) -> None:
    """Whoever is told of the end may close the server there and then."""
    servers: list[MonitorServer] = []
    servers.append(serve_qmp(f"{path}", board, lambda: servers[0].close()))
    with closing(Client(path)) as client:
        client.send(b'{"execute":"quit"}')
        assert client.is_hung_up()
    servers[0].close()
    assert not path.exists()


def test_close_hangs_up_and_removes_the_socket(path: Path, board: Board) -> None:
    server = serve_qmp(f"{path}", board)
    with closing(Client(path)) as client:
        server.close()
        server.close()
        assert client.is_hung_up()
    assert not path.exists()


# -------------------------------------------------------------------------------- the socket's file


def test_only_the_owner_may_connect(server: MonitorServer) -> None:
    status = os.stat(server.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_socket_of_a_dead_program_is_replaced(path: Path, board: Board) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{path}")
    with serve_qmp(f"{path}", board), closing(Client(path)) as client:
        assert client.call("query-name") == {"return": {}}
    assert not path.exists()


def test_socket_of_a_living_program_is_left_alone(
    path: Path, server: MonitorServer, board: Board
) -> None:
    with pytest.raises(
        EnvironmentProblem,
        match=r"^cannot make the QMP socket .*qmp: another program listens there; \w",
    ):
        serve_qmp(f"{path}", board)
    with closing(Client(path)) as client:
        assert client.call("query-name") == {"return": {}}


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "symlink"])
def test_other_files_are_left_alone(path: Path, board: Board, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    before = path.lstat()
    with pytest.raises(
        EnvironmentProblem,
        match=r"^cannot make the QMP socket .*: a file of that name exists; remove it",
    ):
        serve_qmp(f"{path}", board)
    assert path.lstat() == before


@pytest.mark.parametrize(
    ("place", "why"),
    [("no/such/directory", "No such file or directory"), ("x" * 120, "AF_UNIX path too long")],
)
def test_place_where_no_socket_can_be(tmp_path: Path, board: Board, place: str, why: str) -> None:
    with pytest.raises(EnvironmentProblem, match=re.escape(why)) as e:
        serve_qmp(f"{tmp_path}/{place}", board)
    assert "\n" not in str(e.value)


def test_socket_that_somebody_replaced_is_left_alone(path: Path, board: Board) -> None:
    server = serve_qmp(f"{path}", board)
    path.unlink()
    path.write_text("somebody else's")
    server.close()
    assert path.read_text() == "somebody else's"


def test_events_cost_nothing_without_clients(server: MonitorServer, board: Board) -> None:
    seen: list[HostEvent] = []
    board.subscribe(seen.append)
    Monitor(board).command("object_add memory-backend-ram,id=m0,size=128M")
    Monitor(board).command("device_add pc-dimm,id=d0,memdev=m0")
    assert len(seen) == 1


def test_importing_is_cheap() -> None:
    """No asyncio, and no logging until there is something to log."""
    heavy = "'asyncio', 'logging', 'ssl', 'dataclasses'"
    code = (
        f"import sys, fakesysfs.qemu.monitor_server; print([m for m in ({heavy}) if m in"
        " sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parents[1],
    )
    assert out.stdout == "[]\n"
