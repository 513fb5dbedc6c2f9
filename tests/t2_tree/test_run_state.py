"""stop, cont, system_powerdown, system_wakeup: what QEMU says, and what waits meanwhile.

    stop     STOP      device_add: the host has it, the guest does not
    cont     RESUME    ACPI_DEVICE_OST, memory blocks

The words are those of QEMU 7.2.22; the order of events with a guest is that of a recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from monitor_peers import Machine as PeerMachine
from monitor_peers import installed, ours, qemu
from qemu_answers import comparable
from support.waiting import wait_for

from fakesysfs import Machine, MachineConfig
from fakesysfs.errors import MonitorError
from fakesysfs.qemu.qmp import QmpSession

MIB = 1 << 20


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=16G")) as machine:
        yield machine
        machine.check()


def plug(machine: Machine, name: str, size: int = 256 * MIB) -> None:
    machine.object_add("memory-backend-ram", id=f"m-{name}", size=size)
    machine.device_add("pc-dimm", id=name, memdev=f"m-{name}")


def told(machine: Machine) -> list[str]:
    """The names of the events, with device and status of an _OST."""
    names = []
    for name, data in machine.host_events():
        info = data.get("info")
        ost = f" {info.get('device')} {info['source']} {info['status']}" if info else ""
        names.append(f"{name}{ost}")
    return names


def blocks(machine: Machine) -> list[int]:
    return [block.id for block in machine.blocks() if block.id >= 32]


def test_state_and_events(machine: Machine) -> None:
    running = {"status": "running", "singlestep": False, "running": True}
    paused = {"status": "paused", "singlestep": False, "running": False}
    assert machine.qmp("query-status") == running
    assert machine.hmp("info status") == "VM status: running\n"
    assert machine.qmp("cont") == {}
    assert told(machine) == []
    assert machine.qmp("stop") == {}
    assert machine.qmp("stop") == {}
    assert machine.qmp("query-status") == paused
    assert machine.hmp("info status") == "VM status: paused\n"
    assert machine.hmp("cont") == ""
    assert machine.hmp("s") + machine.hmp("c") == ""
    assert machine.qmp("query-status") == running
    assert told(machine) == ["STOP", "RESUME"] * 2


def test_an_event_without_data_has_no_such_member(machine: Machine) -> None:
    session = QmpSession(machine.monitor)
    machine.monitor.board.subscribe(lambda event: seen.append(json.loads(session.event(event))))
    seen: list[dict[str, object]] = []
    machine.qmp("stop")
    machine.qmp("system_powerdown")
    assert [{*message} for message in seen] == [{"timestamp", "event"}] * 2
    assert [message["event"] for message in seen] == ["STOP", "POWERDOWN"]


def test_a_dimm_plugged_while_stopped_is_found_at_cont(machine: Machine) -> None:
    machine.qmp("stop")
    plug(machine, "d0")
    assert [device["data"]["id"] for device in machine.qmp("query-memory-devices")] == ["d0"]
    assert blocks(machine) == []
    assert machine.qmp("query-acpi-ospm-status")[0]["source"] == 0
    machine.qmp("cont")
    assert blocks(machine) == [32, 33]
    assert told(machine) == ["STOP", "RESUME", "ACPI_DEVICE_OST d0 1 0"]


def test_an_unplug_asked_for_while_stopped_comes_at_cont(machine: Machine) -> None:
    plug(machine, "d0")
    machine.qmp("stop")
    assert machine.hmp("device_del d0") == ""
    assert machine.hmp("device_del d0") == ""  # the same bit again: one request
    assert blocks(machine) == [32, 33]
    assert told(machine)[-1] == "STOP"
    machine.qmp("cont")
    assert blocks(machine) == []
    assert told(machine)[-4:] == [
        "RESUME", "ACPI_DEVICE_OST d0 3 132", "DEVICE_DELETED", "ACPI_DEVICE_OST None 3 0",
    ]  # fmt: skip


def test_virtio_mem_stays_as_it_is_while_stopped(machine: Machine) -> None:
    machine.object_add("memory-backend-ram", id="m0", size="1G")
    machine.device_add("virtio-mem-pci", id="v0", memdev="m0", requested_size="256M")
    machine.qmp("stop")
    machine.qom_set("v0", "requested-size", "512M")
    assert machine.qom_get("v0", "size") == 256 * MIB
    machine.qmp("cont")
    wait_for(lambda: machine.qom_get("v0", "size") == 512 * MIB)


def test_an_eject_from_inside_waits_too(machine: Machine) -> None:
    plug(machine, "d0")
    machine.qmp("stop")
    machine.store("/sys/bus/acpi/devices/PNP0C80:00/eject", "1")
    assert blocks(machine) == [32, 33]
    machine.qmp("cont")
    wait_for(lambda: blocks(machine) == [])


def test_a_stopped_machine_can_be_closed() -> None:
    machine = Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=16G"))
    machine.qmp("stop")
    plug(machine, "d0")
    machine.close()
    with pytest.raises(ValueError, match="closed"):
        machine.blocks()


def test_nothing_in_the_guest_listens_to_the_power_button(machine: Machine) -> None:
    before = machine.dmesg()
    assert machine.qmp("system_powerdown") == {}
    assert machine.hmp("system_powerdown") == ""
    assert told(machine) == ["POWERDOWN"] * 2
    assert machine.dmesg() == before
    assert machine.qmp("query-status")["running"]


SAID = {
    "system_wakeup": "Error: Unable to wake up: guest is not in suspended state\n",
    "stop x": (
        'stop|s: extraneous characters at the end of line\nTry "help stop" for more information\n'
    ),
    "cont x": (
        'cont|c: extraneous characters at the end of line\nTry "help cont" for more information\n'
    ),
    "help stop": "stop|s  -- stop emulation\n",
    "help c": "cont|c  -- resume emulation\n",
    "help system_powerdown": "system_powerdown  -- send system power down event\n",
    "help system_wakeup": "system_wakeup  -- wakeup guest from suspend\n",
}


@pytest.mark.parametrize("line", SAID)
def test_words(machine: Machine, line: str) -> None:
    assert machine.hmp(line) == SAID[line]


def test_it_cannot_be_woken(machine: Machine) -> None:
    with pytest.raises(MonitorError, match=r"^Unable to wake up: guest is not in suspended state$"):
        machine.qmp("system_wakeup")


@pytest.mark.may_skip("a QEMU is much to install for one test; what it said is in SAID")
def test_qemu_says_the_same() -> None:
    version = installed()
    if version is None or not version.startswith("7.2."):
        pytest.skip("there is no QEMU 7.2 here")
    peer = PeerMachine("1G,slots=4,maxmem=16G")
    lines = [*SAID, "cont", "info status", "stop", "stop", "info status", "system_powerdown"]
    requests = [
        {"execute": "human-monitor-command", "arguments": {"command-line": line}} for line in lines
    ]
    requests += [
        {"execute": name} for name in ("query-status", "system_wakeup", "cont", "stop", "cont")
    ]
    requests.append({"execute": "stop", "arguments": {"x": 1}})
    with qemu(peer) as real, ours(peer) as our:
        for request in requests:
            data = json.dumps(request).encode()
            assert comparable(b"".join(our(data))) == comparable(b"".join(real(data))), request
