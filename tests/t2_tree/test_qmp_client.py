"""QEMU's own client library, qemu.qmp, and its qmp-shell, at the monitor's socket: they must not
notice.

The library checks greeting, negotiation and the form of every message itself; it matches replies to
commands by their id, and hands events to whoever listens for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import EventListener, ExecuteError, QMPClient, Runstate
from support.waiting import LIMIT_SECONDS

from fakesysfs import Machine, MachineConfig
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor_server import MonitorServer, serve_qmp

SECONDS = LIMIT_SECONDS


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine.from_config(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
        yield machine


@pytest.fixture
def server(machine: Machine, tmp_path: Path) -> Iterator[MonitorServer]:
    with Board(machine) as board, serve_qmp(f"{tmp_path / 'qmp'}", board) as server:
        yield server


async def plug_and_unplug(path: str, machine: Machine) -> list[str]:
    """What a manager does; the names of the events it heard of."""
    client, watcher = QMPClient("manager"), QMPClient("watcher")
    heard: list[str] = []
    await client.connect(path)
    await watcher.connect(path)
    try:
        assert client.greeting is not None
        version: Any = client.greeting.QMP.version
        assert version["qemu"] == {"major": 7, "minor": 2, "micro": 22}
        with (
            watcher.listener(("ACPI_DEVICE_OST", "DEVICE_DELETED")) as everything,
            client.listener("DEVICE_DELETED") as deleted,
        ):
            await client.execute(
                "object-add", {"qom-type": "memory-backend-ram", "id": "m0", "size": 512 << 20}
            )
            await client.execute("device_add", {"driver": "pc-dimm", "id": "d0", "memdev": "m0"})
            ost = await asyncio.wait_for(everything.get(), SECONDS)
            assert ost["data"] == {
                "info": {"device": "d0", "source": 1, "status": 0, "slot": "0", "slot-type": "DIMM"}
            }
            heard.append(f"{ost['event']}")
            devices: Any = await client.execute("query-memory-devices")
            assert [device["data"]["id"] for device in devices] == ["d0"]
            assert {block.state for block in machine.blocks() if block.id >= 32} == {"offline"}
            assert len([block for block in machine.blocks() if block.id >= 32]) == 4
            with pytest.raises(ExecuteError, match="object 'm0' is in use") as refused:
                await client.execute("object-del", {"id": "m0"})
            assert refused.value.error_class == "GenericError"
            await client.execute("device_del", {"id": "d0"})
            gone = await asyncio.wait_for(deleted.get(), SECONDS)
            assert gone["data"] == {"device": "d0", "path": "/machine/peripheral/d0"}
            await client.execute("object-del", {"id": "m0"})
            while len(heard) < 4:
                heard.append(f"{(await asyncio.wait_for(everything.get(), SECONDS))['event']}")
    finally:
        await client.disconnect()
        await watcher.disconnect()
    return heard


def test_library_plugs_waits_and_unplugs(server: MonitorServer, machine: Machine) -> None:
    heard = asyncio.run(plug_and_unplug(server.path, machine))
    assert heard == ["ACPI_DEVICE_OST", "ACPI_DEVICE_OST", "DEVICE_DELETED", "ACPI_DEVICE_OST"]
    assert all(block.id < 32 for block in machine.blocks())


def test_library_pipelines(server: MonitorServer) -> None:
    async def ask() -> list[object]:
        client = QMPClient("many")
        await client.connect(server.path)
        try:
            return await asyncio.gather(
                *(client.execute("qom-list", {"path": "/objects"}) for _ in range(200))
            )
        finally:
            await client.disconnect()

    replies = asyncio.run(ask())
    assert len(replies) == 200
    assert all(reply == replies[0] for reply in replies)


def test_library_sees_the_end(server: MonitorServer) -> None:
    async def end() -> dict[str, object]:
        client = QMPClient("last")
        listener = EventListener(("SHUTDOWN",))
        client.register_listener(listener)
        await client.connect(server.path)
        await client.execute("quit")
        event = await asyncio.wait_for(listener.get(), SECONDS)
        end = time.monotonic() + SECONDS
        while client.runstate is Runstate.RUNNING and time.monotonic() < end:
            await asyncio.sleep(0.01)
        with pytest.raises(EOFError):  # so the library calls being hung up on
            await client.disconnect()
        return dict(event)

    assert asyncio.run(end())["data"] == {"guest": False, "reason": "host-qmp-quit"}


def qmp_shell(server: MonitorServer, script: str, *options: str, home: Path) -> str:
    """What qmp-shell prints when given a script."""
    command = [sys.executable, "-m", "qemu.qmp.qmp_shell", *options, server.path]
    done = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=os.environ | {"HOME": f"{home}"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_qmp_shell_runs_a_script(server: MonitorServer, tmp_path: Path) -> None:
    script = """\
object-add qom-type=memory-backend-ram id=m0 size=134217728
device_add driver=pc-dimm id=d0 memdev=m0 slot=2
query-memory-devices
qom-get path=/objects/m0 property=size
device_add driver=pc-dimm id=d0 memdev=m0
device_del id=d0
object-del id=m0
query-memory-devices
nope

"""
    said = qmp_shell(server, script, home=tmp_path)
    assert "Connected to QEMU 7.2.22\n" in said
    lines = [line.removeprefix("(QEMU) ") for line in said.splitlines()]
    replies = [json.loads(line) for line in lines if line.startswith('{"')]
    assert [list(reply) for reply in replies] == [["return"]] * 4 + [["error"]] + [
        ["return"]
    ] * 3 + [["error"]]
    assert replies[2]["return"][0]["data"]["slot"] == 2
    assert replies[3]["return"] == 1 << 27
    assert replies[4]["error"]["desc"] == "Duplicate device ID 'd0'"
    assert replies[7]["return"] == []
    assert replies[8]["error"]["class"] == "CommandNotFound"
    assert [
        event
        for event in ("ACPI_DEVICE_OST", "DEVICE_DELETED")
        if f"'event': '{event}'" not in said
    ] == []


def test_qmp_shell_for_people(server: MonitorServer, tmp_path: Path) -> None:
    script = """\
object_add memory-backend-ram,id=m0,size=128M
device_add pc-dimm,id=d0,memdev=m0
info memory_size_summary
device_add pc-dimm,id=d1,memdev=m0
help device_add
"""
    said = qmp_shell(server, script, "-H", home=tmp_path)
    assert "base memory: 1073741824" in said
    assert "plugged memory: 134217728" in said
    assert "Error: can't use already busy memdev: m0" in said
    assert (
        "device_add driver[,prop=value][,...] -- add device, like -device on the command line"
        in said
    )
