"""A manager outside against an agent inside: DIMMs by QMP, set online by udevd or a script, and
asked back.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import IO

from qemu.qmp import EventListener, QMPClient
from t3_mount.host import ONLY_COVERED, SECONDS, Person, ended

DIMMS = 8
RULE = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online_movable"\n'
# Each DIMM of 256 MiB is two blocks, from memory32 on.
AGENT = f"""\
cd /sys/devices/system/memory
blocks() {{ ls | grep -cx 'memory\\(3[2-9]\\|4[0-7]\\)'; }}
online() {{ cat memory3[2-9]/state memory4[0-7]/state | grep -cx online; }}
echo ready
while [ "$(online 2>&1)" != {2 * DIMMS} ]; do sleep 0.05; done
cat memory32/valid_zones
while [ "$(blocks)" != 0 ]; do sleep 0.05; done
echo gone
read line  # the manager is still there
"""
STUBBORN = """\
cd /sys/devices/system/memory
echo ready
while [ ! -e memory33 ]; do sleep 0.05; done
echo online_kernel > memory32/state
echo online_kernel > memory33/state
fakesysfs load slab=+4K --block 33 > /dev/null
echo in use
read line
cat memory32/state memory33/state
fakesysfs dmesg | grep -c 'memory memory3[23]: Offline failed[.]'
"""


class Manager:
    """A client of the monitor that plugs and waits, as a manager of virtual machines does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client = QMPClient("manager")
        self._events = EventListener(("ACPI_DEVICE_OST", "DEVICE_DELETED"))

    async def __aenter__(self) -> Manager:
        await self._client.connect(self._path)
        self._client.register_listener(self._events)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.disconnect()

    async def plug(self, number: int) -> None:
        await self._client.execute(
            "object-add", {"qom-type": "memory-backend-ram", "id": f"m{number}", "size": 256 << 20}
        )
        await self._client.execute(
            "device_add", {"driver": "pc-dimm", "id": f"d{number}", "memdev": f"m{number}"}
        )

    async def ask_back(self, number: int) -> None:
        await self._client.execute("device_del", {"id": f"d{number}"})

    async def hear(self, source: int) -> tuple[str, int]:
        """The next event that has to do with this: a name and DIMM's name, and the status."""
        while True:
            event = await asyncio.wait_for(self._events.get(), SECONDS)
            data = event["data"]
            assert isinstance(data, dict)
            if event["event"] == "DEVICE_DELETED":
                return f"{data['device']} deleted", 0
            info = data["info"]
            if info["source"] == source:
                return f"{info.get('device')}", info["status"]

    async def devices(self) -> list[str]:
        found = await self._client.execute("query-memory-devices")
        assert isinstance(found, list)
        return [device["data"]["id"] for device in found]


async def say(agent: IO[str]) -> str:
    return (await asyncio.to_thread(agent.readline)).rstrip()


def test_eight_dimms_come_online_and_go(me: Person) -> None:
    async def manage(path: str, agent: IO[str]) -> None:
        async with Manager(path) as manager:
            for number in range(DIMMS):
                await manager.plug(number)
            assert await say(agent) == "Movable"
            assert await manager.devices() == [f"d{number}" for number in range(DIMMS)]
            for number in reversed(range(DIMMS)):
                await manager.ask_back(number)
                assert await manager.hear(3) == (f"d{number}", 0x84)
                assert await manager.hear(3) == (f"d{number} deleted", 0)
                assert await manager.hear(3) == ("None", 0)
            assert await manager.devices() == []

    with me.directory() as directory:
        path, rules = directory / "qmp", directory / "80-online.rules"
        rules.write_text(RULE)
        options = ("--udev", "--rules", f"{rules}", "--qmp", f"{path}")
        command = ("fakesysfs", "run", *options, "--", "sh", "-c", ONLY_COVERED + AGENT)
        with ended(me.start(*command, stdin=subprocess.PIPE)) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            asyncio.run(manage(f"{path}", process.stdout))
            process.stdin.write("\n")
            process.stdin.close()
            assert process.stdout.read() == "gone\n"
            assert process.wait(SECONDS) == 0


def test_a_slab_page_in_normal_keeps_the_dimm(me: Person) -> None:
    """The manager hears of the refusal, and the block that could go offline is back."""

    async def manage(path: str, agent: IO[str]) -> None:
        async with Manager(path) as manager:
            await manager.plug(0)
            assert await say(agent) == "in use"
            await manager.ask_back(0)
            assert await manager.hear(3) == ("d0", 0x84)
            assert await manager.hear(3) == ("d0", 0x82)
            assert await manager.devices() == ["d0"]

    with me.directory() as directory:
        path = directory / "qmp"
        command = (
            "fakesysfs",
            "run",
            "--qmp",
            f"{path}",
            "--",
            "sh",
            "-c",
            ONLY_COVERED + STUBBORN,
        )
        with ended(me.start(*command, stdin=subprocess.PIPE)) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            asyncio.run(manage(f"{path}", process.stdout))
            process.stdin.write("\n")
            process.stdin.close()
            assert process.stdout.read().split() == ["online", "online", "1"]
            assert process.wait(SECONDS) == 0
