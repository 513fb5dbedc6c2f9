"""`run --qmp`: a manager outside, with QEMU's own client library, and an agent inside, which sets
online what it is given.
"""

from __future__ import annotations

import asyncio
import stat
import subprocess
import time
from contextlib import suppress
from typing import Any

from qemu.qmp import EventListener, QMPClient, Runstate
from t3_mount.host import ONLY_COVERED, SECONDS, Person, ended

AGENT = """\
cd /sys/devices/system/memory
echo ready
while [ ! -e memory33 ]; do sleep 0.05; done
for block in memory32 memory33; do echo online_movable > $block/state; done
echo online
while [ -e memory32 ]; do sleep 0.05; done
ls -d memory32 memory33 2>/dev/null
echo gone
read line  # the manager is still there
"""


async def manage(path: str, agent_says: Any) -> list[str]:
    """Plug 256 MiB, wait until the agent uses it, unplug it; the events of the unplug."""
    client = QMPClient("manager")
    await client.connect(path)
    try:
        await client.execute(
            "object-add", {"qom-type": "memory-backend-ram", "id": "m0", "size": 256 << 20}
        )
        await client.execute("device_add", {"driver": "pc-dimm", "id": "d0", "memdev": "m0"})
        assert await asyncio.to_thread(agent_says) == "online\n"
        heard: list[str] = []
        listener = EventListener(("ACPI_DEVICE_OST", "DEVICE_DELETED"))
        with client.listen(listener):
            await client.execute("device_del", {"id": "d0"})
            while "DEVICE_DELETED" not in heard:
                heard.append(f"{(await asyncio.wait_for(listener.get(), SECONDS))['event']}")
        await client.execute("object-del", {"id": "m0"})
        assert await client.execute("query-memory-devices") == []
    finally:
        await client.disconnect()
    return heard


def test_manager_and_agent(me: Person) -> None:
    with me.directory() as directory:
        path = directory / "qmp"
        command = ("fakesysfs", "run", "--qmp", f"{path}", "--", "sh", "-c", ONLY_COVERED + AGENT)
        with ended(me.start(*command, stdin=subprocess.PIPE)) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            heard = asyncio.run(manage(f"{path}", process.stdout.readline))
            assert heard == ["ACPI_DEVICE_OST", "DEVICE_DELETED"]
            process.stdin.write("\n")
            process.stdin.close()
            assert process.stdout.read() == "gone\n"
            assert process.wait(SECONDS) == 0
        assert not path.exists()


def test_quit_by_qmp_ends_the_run(me: Person) -> None:
    async def quit_it(path: str) -> None:
        client = QMPClient("manager")
        await client.connect(path)
        await client.execute("quit")
        end = time.monotonic() + SECONDS
        while client.runstate is Runstate.RUNNING and time.monotonic() < end:
            await asyncio.sleep(0.02)
        with suppress(EOFError):  # so the library calls being hung up on
            await client.disconnect()

    with me.directory() as directory:
        path = directory / "qmp"
        with ended(
            me.start(
                "fakesysfs",
                "run",
                "--qmp",
                f"{path}",
                "--",
                "sh",
                "-c",
                "echo ready; exec sleep 600",
            )
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            asyncio.run(quit_it(f"{path}"))
            assert process.wait(SECONDS) == 0


def test_file_in_the_way_is_left_alone(me: Person) -> None:
    with me.directory() as directory:
        path = directory / "qmp"
        path.write_text("precious")
        result = me.run("fakesysfs", "run", "--qmp", f"{path}", "--", "true")
        assert result.returncode == 1
        assert (
            result.stderr
            == f"fakesysfs: cannot make the QMP socket {path}: a file of that name exists; remove"
            " it or choose another --qmp path\n"
        )
        assert path.read_text() == "precious"
