"""A real QEMU and ours, asked the same.

QEMU is started with `-S`: its guest never runs, so that nothing but QEMU itself is in its answers.
Ours gets a guest that never answers anything. What may differ is in qemu_answers.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from model_guest import ModelGuest
from monitor_grammar import Grammar, Request
from qemu_answers import compare
from support.waiting import LIMIT_SECONDS

from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor import Monitor
from fakesysfs.qemu.qmp import QmpSession

PROGRAM = "qemu-system-x86_64"
CAPABILITIES = b'{"execute":"qmp_capabilities"}'

Peer = Callable[[bytes], list[bytes]]  # sends a request, returns the replies


class Machine(NamedTuple):
    """A machine both are asked about.

    :param nodes: as the option --node has them.
    :param kind: QEMU's machine type.
    :param ports: PCI slots for hotplug, rp0 and so on, which a q35 has none of by itself.
    """

    memory: str
    nodes: tuple[str, ...] = ()
    kind: str = "q35"
    ports: int = 0

    def qemu_options(self) -> list[str]:
        """The same for QEMU, nodes as libvirt would write them."""
        options, last_cpu = ["-m", self.memory], 0
        for number, node in enumerate(self.nodes):
            given = dict(part.split("=") for part in node.split(","))
            numa = f"node,nodeid={number}"
            if "memory" in given:
                options += [
                    "-object",
                    f"memory-backend-ram,id=ram-node{number},size={given['memory']}",
                ]
                numa += f",memdev=ram-node{number}"
            if "cpus" in given:
                numa += f",cpus={given['cpus']}"
                last_cpu = int(given["cpus"].rpartition("-")[2])
            options += ["-numa", numa]
        for port in range(self.ports):
            options += ["-device", f"pcie-root-port,id=rp{port},slot={port},chassis={port}"]
        return [*options, "-smp", f"{last_cpu + 1}"]


class StoppedGuest(ModelGuest):
    """A guest that never runs: it does not even see that something was plugged."""

    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        """Never returns, until `may_answer` is set in the end."""
        self.may_answer.wait()
        return 0


@contextmanager
def ours(machine: Machine) -> Iterator[Peer]:
    """Our monitor of such a machine."""
    guest = StoppedGuest(machine.memory, nodes=machine.nodes)
    guest.may_answer.clear()
    with Board(guest, answer_seconds=0.001) as board:
        session = QmpSession(Monitor(board))
        session.receive(CAPABILITIES)
        yield session.receive
        guest.may_answer.set()


@contextmanager
def qemu(machine: Machine) -> Iterator[Peer]:
    """A real QEMU's monitor of such a machine; QEMU has a directory of its own, where it may make
    files.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "qmp")
        command = [
            PROGRAM,
            "-S",
            "-M",
            f"{machine.kind},accel=tcg",
            "-nodefaults",
            "-display",
            "none",
            *machine.qemu_options(),
        ]
        listen = ["-qmp", f"unix:{path},server=on,wait=on"]
        with subprocess.Popen(
            [*command, *listen], stderr=subprocess.PIPE, cwd=directory
        ) as process:
            # What QEMU warns of goes to stderr as well as to whoever uses HMP.
            assert process.stderr is not None
            reader = threading.Thread(target=process.stderr.read, daemon=True)
            reader.start()
            try:
                with closing(_Connection(path, process)) as connection:
                    yield connection.ask
            finally:
                process.kill()
                process.wait()
                reader.join()


class _Connection:
    def __init__(self, path: str, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LIMIT_SECONDS)
        while True:
            try:
                self._socket.connect(path)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self._file = self._socket.makefile("rb")
        self._count = 0
        assert b"QMP" in self._file.readline()
        self.ask(CAPABILITIES)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def ask(self, data: bytes) -> list[bytes]:
        """Everything that comes until something behind it is answered."""
        self._count += 1
        mark = f"mark {self._count}"
        self._socket.sendall(data + b'\n{"execute":"query-name","id":"%s"}\n' % mark.encode())
        replies: list[bytes] = []
        while True:
            line = self._file.readline()
            if not line:
                raise EOFError("QEMU has ended")
            if line == b'{"return": {}, "id": "%s"}\r\n' % mark.encode():
                return replies
            if not line.startswith(b'{"timestamp"'):
                replies.append(line)


def differences(
    requests: Sequence[Request], left: Peer, right: Peer
) -> tuple[dict[str, list[str]], list[str]]:
    """Ask both everything; the requests answered differently by kind of difference, and those that
    differ for no reason.
    """
    kinds: dict[str, list[str]] = {}
    unexplained = []
    for request in requests:
        real, our = b"".join(left(request.data)), b"".join(right(request.data))
        kind = compare(request, real, our, right)
        if kind:
            kinds.setdefault(kind, []).append(request.shown)
        elif kind == "":
            unexplained.append(f"{request.shown}\n  QEMU: {real!r}\n  ours: {our!r}")
    return kinds, unexplained


def record(path: Path, sessions: Sequence[tuple[Machine, int, int]]) -> None:
    """Write what QEMU answers to generated commands, for where there is none. Files that QEMU would
    change are left out.

    :param sessions: machine, seed and number of commands.
    """
    said = (
        f"QEMU {installed()}, started with -S: generated commands and the answers, bytes as"
        " latin-1; DIR is a directory"
    )
    with path.open("w") as out, tempfile.TemporaryDirectory() as directory:
        out.write(f'{{"about": {json.dumps(said)},\n"sessions": [\n')
        for number, (machine, seed, count) in enumerate(sessions):
            steps = []
            with qemu(machine) as peer:
                for request in Grammar(seed, files(Path(directory)), machine.kind == "pc").requests(
                    count
                ):
                    texts = (request.shown.encode(), request.data, b"".join(peer(request.data)))
                    steps.append(
                        json.dumps(
                            [
                                text.replace(directory.encode(), b"DIR").decode("latin1")
                                for text in texts
                            ]
                        )
                    )
            lines = ",\n  ".join(steps)
            out.write(
                f'{"," * bool(number)}{{"machine": {json.dumps(machine)}, "steps": [\n '
                f" {lines}\n]}}\n"
            )
        out.write("]}\n")


def files(directory: Path) -> list[str]:
    """Paths for memory-backend-file that QEMU does not change: of a file of some size, and what is
    none.
    """
    (directory / "small").write_bytes(b"x" * (1 << 20))
    return [
        *(f"{directory / name}" for name in ("small", "none/new")),
        f"{directory}",
        "",
        "/dev/null",
    ]


def installed() -> str | None:
    """The version of QEMU that is installed here."""
    if shutil.which(PROGRAM) is None:
        return None
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    return said.partition("version ")[2].partition(" ")[0].partition("\n")[0]
