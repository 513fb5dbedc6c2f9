"""A hundred clients at once, and others that send whatever comes to mind: nobody is kept waiting,
nothing grows.

The server is a process of its own, so that its memory can be measured. For longer than a few
seconds set FAKESYSFS_FLOOD_SECONDS; what was done and what it took is printed (pytest -s).
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from monitor_grammar import Grammar
from support.waiting import LIMIT_SECONDS

CLIENTS = 100
FUZZERS = 6
LONGEST_SECONDS = LIMIT_SECONDS  # for an answer, on a machine that others use too
GROWTH = 16 << 20
FLOOD_SECONDS = float(os.environ.get("FAKESYSFS_FLOOD_SECONDS", "5"))

SERVER = """
import sys
from fakesysfs import Machine
from fakesysfs import MachineConfig
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor_server import serve_qmp
with Machine.from_config(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
    with Board(machine) as board, serve_qmp(sys.argv[1], board):
        print("ready", flush=True)
        sys.stdin.read()
        machine.check()
"""


class Client:
    """A well-behaved client, that notes how long it had to wait."""

    def __init__(self, path: str) -> None:
        self.slowest = 0.0
        self.events = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LONGEST_SECONDS)
        self._socket.connect(path)
        self._file = self._socket.makefile("rb")
        assert "QMP" in json.loads(self._file.readline())
        assert self.call("qmp_capabilities") == {"return": {}}

    def call(self, execute: str, **arguments: Any) -> Any:
        start = time.monotonic()
        self._socket.sendall(
            json.dumps({"execute": execute, "arguments": arguments, "id": "mine"}).encode()
        )
        while "event" in (reply := json.loads(self._file.readline())):
            self.events += 1
        self.slowest = max(self.slowest, time.monotonic() - start)
        assert reply.pop("id") == "mine"
        return reply

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Fuzzer(threading.Thread):
    """Connects, sends what nobody should send, and goes; again and again.

    :ivar fault: what went wrong with it, apart from being hung up on.
    """

    def __init__(self, path: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self.sent = 0
        self.connections = 0
        self.fault: Exception | None = None
        self.start()

    def end(self) -> None:
        self._over.set()
        self.join(30)

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with (
                    suppress(ConnectionError, TimeoutError, BlockingIOError),
                    socket.socket(socket.AF_UNIX) as sock,
                ):
                    sock.settimeout(0.2)
                    sock.connect(self._path)
                    self.connections += 1
                    self._talk(sock)
            except Exception as e:  # noqa: BLE001 - whatever it is, the test tells
                self.fault = e
                return

    def _talk(self, sock: socket.socket) -> None:
        chance = self._chance
        if chance.random() < 0.7:
            self._send(sock, b'{"execute":"qmp_capabilities"}')
        manner = chance.choice(
            ("grammar", "grammar", "bits", "bytes", "endless", "never fetches", "slow", "vanishes")
        )
        grammar = Grammar(chance.randrange(1 << 30), virtio=chance.random() < 0.3)
        requests = [request.data for request in grammar.requests(20)]
        if manner == "grammar":
            for data in requests:
                self._send(sock, data)
                sock.recv(1 << 16)
        elif manner == "bits":
            for data in requests:
                changed = bytearray(data)
                for _ in range(chance.choice((1, 2, 8))):
                    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
                self._send(sock, bytes(changed))
        elif manner == "bytes":
            for _ in range(10):
                self._send(sock, chance.randbytes(chance.randrange(1, 4096)))
        elif manner == "endless":
            self._send(sock, chance.choice((b'"', b"[", b'{"a":', b"1", b"\xff", b" ")))
            piece = chance.choice((b"a", b"[", b"1,", b'"",')) * 10000
            for _ in range(60):
                self._send(sock, piece)
        elif manner == "never fetches":
            for _ in range(100):
                self._send(sock, b'{"execute":"query-qmp-schema"}')
        elif manner == "slow":
            for byte in requests[0][:40]:
                self._send(sock, bytes([byte]))
        else:
            self._send(sock, requests[0][: chance.randrange(len(requests[0]))])

    def _send(self, sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)
        self.sent += len(data)


def rss(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGESIZE"
    )


@contextmanager
def server(path: str) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own; its machine is in order in the end."""
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, path], text=True, cwd=Path(__file__).parents[2], **pipes
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
            _, said = process.communicate(timeout=LIMIT_SECONDS)
            assert (process.returncode, said) == (0, "")
        finally:
            process.kill()


@pytest.mark.timeout(FLOOD_SECONDS + 600)
def test_flood(tmp_path: Path) -> None:
    path = f"{tmp_path / 'qmp'}"
    with server(path) as process, ExitStack() as stack:
        clients = [stack.enter_context(closing(Client(path))) for _ in range(CLIENTS)]
        manager = clients[0]
        fuzzers = [Fuzzer(path, seed) for seed in range(FUZZERS)]
        for fuzzer in fuzzers:
            stack.callback(fuzzer.end)
        start, calls, warm = time.monotonic(), 0, 0
        while time.monotonic() < start + FLOOD_SECONDS or not warm:
            manager.call(
                "object-add", **{"qom-type": "memory-backend-ram", "id": "good", "size": 128 << 20}
            )
            assert manager.call("object-del", id="good") == {"return": {}}
            for client in clients:
                assert client.call("query-name") == {"return": {}}
                assert client.call("query-memory-size-summary")["return"]["base-memory"] == 1 << 30
            calls += 2 * CLIENTS + 2
            if not warm and time.monotonic() > start + FLOOD_SECONDS / 4:
                warm = rss(process)
        for fuzzer in fuzzers:
            fuzzer.end()
        assert [fuzzer.fault for fuzzer in fuzzers if fuzzer.fault] == []
        for client in clients:
            client.call("query-name")
        grown = rss(process) - warm
        slowest = max(client.slowest for client in clients)
        sent, connections = (
            sum(getattr(f, what) for f in fuzzers) for what in ("sent", "connections")
        )
        print(
            f"\n{time.monotonic() - start:.0f} s: {calls} commands of {CLIENTS} clients answered,"
            f" the slowest in {slowest * 1000:.0f} ms; {connections} connections of fuzzers sent"
            f" {sent >> 20} MiB; memory {warm >> 20} MiB, and {grown / (1 << 20):+.1f} MiB at the"
            f" end; {sum(client.events for client in clients)} events"
        )
        assert connections > FUZZERS
        assert grown < GROWTH
