"""The ACPI devices of DIMM slots: files, links to memory blocks and back, `eject`.

What is expected here was read off Debian's 6.1 kernel in QEMU 7.2.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.host_events import HostEvent

MIB, GIB = 1 << 20, 1 << 30
DEVICES = "/sys/bus/acpi/devices"
CONTAINER = "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04"
MEMORY = "/sys/devices/system/memory"
FILES = ["eject", "hid", "modalias", "path", "power", "status", "subsystem", "uevent", "uid"]


class Host:
    """A board, and what it was told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.board = Board(machine)
        self.events: list[tuple[Any, ...]] = []
        self._came = threading.Condition()
        self.board.subscribe(self._on_event)

    def _on_event(self, event: HostEvent) -> None:
        info = event.data.get("info", event.data)
        with self._came:
            self.events.append(
                (event.name, info.get("device"), info.get("source"), info.get("status"))
            )
            self._came.notify_all()

    def plug(self, name: str, size: int, **properties: Any) -> None:
        self.board.object_add("memory-backend-ram", {"id": f"mem-{name}", "size": size})
        self.board.device_add("pc-dimm", {"id": name, "memdev": f"mem-{name}", **properties})
        self.events.clear()

    def wait_for(self, *expected: tuple[Any, ...]) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.events) >= len(expected), 20), self.events
            assert self.events == list(expected)
            self.events.clear()


@pytest.fixture
def host() -> Iterator[Host]:
    with Machine.from_config(MachineConfig.from_options(memory="1G,slots=20,maxmem=8G")) as machine:
        host = Host(machine)
        with host.board:
            yield host
        machine.check()


def names(machine: Machine, path: str) -> list[str]:
    return sorted(name for name, *_ in machine.readdir(path))


def test_every_slot_has_a_device_from_boot_on(host: Host) -> None:
    machine = host.machine
    devices = [f"PNP0C80:{slot:02x}" for slot in range(20)]
    assert names(machine, DEVICES) == names(machine, CONTAINER) == devices
    for slot, device in enumerate(devices):
        assert (
            machine.readlink(f"{DEVICES}/{device}")
            == f"../../..{CONTAINER.removeprefix('/sys')}/{device}"
        )
        said = {
            name: machine.read_text(f"{DEVICES}/{device}/{name}")
            for name in ("path", "uid", "status", "hid", "modalias")
        }
        assert said == {
            "path": f"\\_SB_.MHPC.MP{slot:02X}\n", "uid": f"0x{slot:02X}\n", "status": "0\n", "hid": "PNP0C80\n",
            "modalias": "acpi:PNP0C80:\n",
        }  # fmt: skip
    assert names(machine, f"{DEVICES}/PNP0C80:13") == FILES
    assert machine.stat(f"{DEVICES}/PNP0C80:13/eject")[0] == 0o100200
    assert machine.readlink(f"{DEVICES}/PNP0C80:13/subsystem") == "../../../../../bus/acpi"
    for name in ("PNP0C80:14", "PNP0C80:0A", "PNP0C80:1", "PNP0C80:001", "PNP0C80:", "PNP0A06:00"):
        with pytest.raises(FileNotFoundError):
            machine.stat(f"{DEVICES}/{name}")


@pytest.mark.parametrize(
    "options", [{"memory": "1G"}, {"memory": "1G,slots=4,maxmem=8G", "arch": "ppc64le"}]
)
def test_no_devices_without_slots_or_without_acpi(options: dict[str, Any]) -> None:
    with (
        Machine.from_config(MachineConfig.from_options(**options)) as machine,
        pytest.raises(FileNotFoundError),
    ):
        machine.stat("/sys/bus/acpi")


def test_blocks_and_their_device_lead_to_one_another(host: Host) -> None:
    host.plug("d0", 512 * MIB, slot="17")
    machine = host.machine
    device = f"{DEVICES}/PNP0C80:11"
    assert machine.read_text(f"{device}/status") == "15\n"
    assert names(machine, device) == sorted(
        [*FILES, "physical_node", *(f"physical_node{n}" for n in (1, 2, 3))]
    )
    for number in range(4):
        link = f"{device}/physical_node{number or ''}"
        assert machine.readlink(link) == f"../../../../system/memory/memory{32 + number}"
        assert machine.read_text(f"{link}/phys_index") == f"{32 + number:08x}\n"
        assert machine.read_text(f"{MEMORY}/memory{32 + number}/firmware_node/uid") == "0x11\n"
    for name in ("physical_node0", "physical_node4", "physical_node01", "physical_node99999999"):
        with pytest.raises(FileNotFoundError):
            machine.readlink(f"{device}/{name}")


def test_memory_that_was_probed_keeps_its_place_among_physical_nodes(host: Host) -> None:
    host.machine.add_memory(0, 4 * GIB + 128 * MIB, 128 * MIB)
    host.plug("d0", 512 * MIB)
    device = f"{DEVICES}/PNP0C80:00"
    assert [n for n in names(host.machine, device) if n.startswith("phys")] == ["physical_node"]
    assert host.machine.readlink(f"{device}/physical_node").endswith("/memory33")


def test_eject_is_for_memory_that_is_there(host: Host) -> None:
    host.plug("d0", 256 * MIB)
    host.plug("odd", 100 * MIB)  # the host takes it, the guest's driver does not
    machine = host.machine
    for device, word, number in (
        ("00", "0", errno.EINVAL), ("00", " 1", errno.EINVAL), ("00", "\n", errno.EINVAL), ("02", "0", errno.EINVAL),
        ("02", "1", errno.ENODEV), ("01", "1", errno.ENODEV),
    ):  # fmt: skip
        with pytest.raises(OSError, match=f"{device}/eject") as failed:
            machine.store(f"{DEVICES}/PNP0C80:{device}/eject", word)
        assert failed.value.errno == number
    # it is in its slot all the same
    assert machine.read_text(f"{DEVICES}/PNP0C80:01/status") == "15\n"
    assert not host.events
    assert machine.store(f"{DEVICES}/PNP0C80:00/eject", "1 please") == 8
    host.wait_for(
        ("ACPI_DEVICE_OST", "d0", 3, 0x84), ("DEVICE_DELETED", "d0", None, None), ("ACPI_DEVICE_OST", None, 0x103, 0),
    )  # fmt: skip
    assert [dimm.id for dimm in host.board.dimms] == ["odd"]
    assert machine.read_text(f"{DEVICES}/PNP0C80:00/status") == "0\n"
    with pytest.raises(OSError, match="no memory"):
        machine.store(f"{DEVICES}/PNP0C80:00/eject", "1")


def test_eject_that_is_refused_leaves_everything(host: Host) -> None:
    host.plug("d0", 256 * MIB)
    machine = host.machine
    for block in (32, 33):
        machine.store(f"{MEMORY}/memory{block}/state", "online_kernel")
    machine.allocate("slab", "4K", block=33)
    machine.store(f"{DEVICES}/PNP0C80:00/eject", "1")
    host.wait_for(("ACPI_DEVICE_OST", "d0", 3, 0x84), ("ACPI_DEVICE_OST", "d0", 0x103, 0x82))
    assert [block.state for block in machine.blocks()[-2:]] == ["online", "online"]
    assert [slot["status"] for slot in host.board.ospm_status()[:1]] == [0x82]
    assert machine.read_text(f"{DEVICES}/PNP0C80:00/status") == "15\n"


def test_uevent_of_a_device(host: Host) -> None:
    machine = host.machine
    told: list[Any] = []
    machine.subscribe(lambda event: told.append(event) if event.kind == "uevent" else None)
    assert machine.read_text(f"{DEVICES}/PNP0C80:02/uevent") == "MODALIAS=acpi:PNP0C80:\n"
    machine.store(f"{DEVICES}/PNP0C80:02/uevent", "change")
    assert [(event.path, event.data) for event in told] == [
        (f"{CONTAINER.removeprefix('/sys')}/PNP0C80:02", "change")
    ]
    assert told[0].payload[-3:] == ("SUBSYSTEM=acpi", "SYNTH_UUID=0", "MODALIAS=acpi:PNP0C80:")


def test_odd_dimm_makes_the_next_one_odd(host: Host) -> None:
    """Blocks are of 128 MiB, the host's addresses of 2: behind a DIMM of 100 MiB nothing is aligned
    for the guest.
    """
    host.plug("d0", 100 * MIB)
    host.plug("d1", 128 * MIB)
    host.plug("d2", 256 * MIB, addr=str(8 * GIB))
    machine = host.machine
    assert [dimm.addr for dimm in host.board.dimms] == [4 * GIB, 4 * GIB + 100 * MIB, 8 * GIB]
    assert [block.id for block in machine.blocks() if block.id >= 32] == [64, 65]
    assert [n for n in names(machine, f"{DEVICES}/PNP0C80:01") if n.startswith("phys")] == []
    host.board.device_del("d1")
    host.wait_for(
        ("ACPI_DEVICE_OST", "d1", 3, 0x84),
        ("DEVICE_DELETED", "d1", None, None),
        ("ACPI_DEVICE_OST", None, 3, 0),
    )
