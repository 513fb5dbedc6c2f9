"""virtio-mem from both sides: what a host's manager sees of a device while the guest's driver plugs
and unplugs.

The dialogue is QEMU 7.2's, and sizes, blocks and MemTotal are what Debian's 6.1 kernel did in it at
each step.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import monitor_peers
import pytest
from model_guest import ModelGuest
from monitor_peers import installed, ours, qemu
from qemu_answers import comparable
from support.waiting import LIMIT_SECONDS

from fakesysfs import Machine, MachineConfig
from fakesysfs.cli.memory_map import memory_map
from fakesysfs.errors import MonitorError
from fakesysfs.qemu import virtio_mem_driver
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.event_throttle import Throttle
from fakesysfs.qemu.host_events import HostEvent
from fakesysfs.qemu.monitor import Monitor

MIB, GIB = 1 << 20, 1 << 30
MEMORY = "/sys/devices/system/memory"
PATH = "/machine/peripheral/vm0"


class Host:
    """A manager: a monitor, and what it is told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.board = Board(machine)
        self.monitor = Monitor(self.board)
        self.events: list[HostEvent] = []
        self._came = threading.Condition()
        self.board.subscribe(self._on_event)
        self.steps: list[int] = []  # every size the driver reported, which are more than the events
        machine.subscribe(
            lambda e: self.steps.append(int(e.data[5:])) if e.data.startswith("size ") else None
        )

    def _on_event(self, event: HostEvent) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def say(self, *lines: str) -> str:
        return "".join(self.monitor.hmp.command(line) for line in lines).replace("\r\n", "\n")

    def resize(self, size: int) -> None:
        self.monitor.execute("qom-set", {"path": PATH, "property": "requested-size", "value": size})

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that the guest's worker brings about and then tells of."""
        with self._came:
            assert self._came.wait_for(true, 20)

    @property
    def device(self) -> dict[str, Any]:
        (device,) = self.board.memory_devices()
        data: dict[str, Any] = device["data"]
        return data

    def blocks(self) -> dict[int, tuple[str, str]]:
        return {
            block.id: (block.state, block.zone or "none")
            for block in self.machine.blocks()
            if block.id >= 32
        }

    def total(self) -> int:
        """MemTotal in KiB."""
        found = re.search(r"MemTotal: +(\d+)", self.machine.read_text("/proc/meminfo"))
        assert found
        return int(found[1])

    def state(self, block: int, word: str) -> None:
        self.machine.store(f"{MEMORY}/memory{block}/state", word)


def first_page(machine: Machine, block: int, kind: str) -> int:
    """The first page in a block that is used so."""
    return next(
        pfn for pfn in range(block << 15, (block + 1) << 15) if machine.page(pfn)["kind"] == kind
    )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(virtio_mem_driver, "EVENT_SECONDS", 0.001)
    with Machine.from_config(MachineConfig.from_options(memory="1G,slots=4,maxmem=20G")) as machine:
        host = Host(machine)
        with host.board:
            host.say("object_add memory-backend-ram,id=m0,size=8G")
            yield host
        machine.check()


def test_the_device_and_its_properties(host: Host) -> None:
    assert host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,bus=rp0") == ""
    assert (
        host.say("info memory-devices")
        == """\
Memory device [virtio-mem]: "vm0"
  memaddr: 0x100000000
  node: 0
  requested-size: 0
  size: 0
  max-size: 8589934592
  block-size: 2097152
  memdev: /objects/m0
"""
    )
    assert host.board.memory_devices() == [
        {
            "type": "virtio-mem",
            "data": {
                "memdev": "/objects/m0", "memaddr": 4 * GIB, "block-size": 2 * MIB, "size": 0, "node": 0,
                "max-size": 8 * GIB, "requested-size": 0, "id": "vm0",
            },
        }
    ]  # fmt: skip
    log = [line for _, line in host.machine.dmesg(0) if "virtio_mem" in line]
    assert log == [
        "virtio_mem virtio0: start address: 0x100000000",
        "virtio_mem virtio0: region size: 0x200000000",
        "virtio_mem virtio0: device block size: 0x200000",
        "virtio_mem virtio0: nid: 0",
        "virtio_mem virtio0: memory block size: 0x8000000",
        "virtio_mem virtio0: subblock size: 0x200000",
        "virtio_mem virtio0: plugged size: 0x0",
        "virtio_mem virtio0: requested size: 0x0",
    ]
    names = {p["name"] for p in host.board.qom_list(PATH)}
    assert {
        "memaddr",
        "memdev",
        "node",
        "requested-size",
        "block-size",
        "size",
        "prealloc",
        "virtio-backend",
    } <= names
    assert (
        host.say("qom-get vm0/virtio-backend type", "qom-get vm0 memaddr")
        == '"virtio-mem"\n4294967296\n'
    )


REFUSED = {
    "device_add virtio-mem-pci,id=vm1": "'memdev' property must be set",
    "device_add virtio-mem-pci,id=vm1,memdev=nope": "Device 'nope' not found",
    "device_add virtio-mem-pci,id=vm1,memdev=m0": "'memdev' property specifies a busy memdev: m0",
    "device_add virtio-mem-pci,id=vm0,memdev=m1": "Duplicate device ID 'vm0'",
    "device_add pc-dimm,id=vm0,memdev=m1": "Duplicate device ID 'vm0'",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,bus=pcie.0": "Bus 'pcie.0' does not support hotplugging",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,requested-size=3M":
        "'requested-size' property has to be multiples of 'block-size' (0x200000)",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,requested-size=foo": "Parameter 'requested-size' expects size",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,block-size=3M": "'block-size' property has to be a power of two",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,block-size=512K": "'block-size' property has to be at least 0x100000",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,node=3":
        "'node' property has value '3', which exceedsthe number of numa nodes: 1",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,memaddr=4097": "address must be aligned to 0x200000 bytes",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,memaddr=0x140000000":
        "address range conflicts with memory device id='vm0'",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,memaddr=0x100200000,block-size=4M":
        "address must be aligned to 0x400000 bytes",
    "device_add virtio-mem-pci,id=vm1,memdev=m2": "backend memory size must be multiple of 0x200000",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,size=1G": "Property 'virtio-mem.size' is not writable",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,bogus=1": "Property 'virtio-mem-pci.bogus' not found",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,prealloc=foo": "Parameter 'prealloc' expects 'on' or 'off'",
    "device_add virtio-mem-pci,id=vm1,memdev=m1,addr=foo": "Property 'virtio-mem-pci.addr' doesn't take value 'foo'",
    "device_add virtio-mem,id=vm1,memdev=m1": "No 'virtio-bus' bus found for device 'virtio-mem'",
    "device_add nvdimm,id=vm1,memdev=m1": "nvdimm is not enabled: missing 'nvdimm' in '-M'",
    "device_add cxl-type3,id=vm1,memdev=m1": "Bus 'pcie.0' does not support hotplugging",
    "device_add cxl-type3,id=vm1,memdev=m1,bus=rp0": "'cxl-type3' is not simulated here: only pc-dimm and virtio-mem-pci are",
    "qom-set vm0 requested-size 3M": "'requested-size' has to be multiples of 'block-size' (0x200000)",
    "qom-set vm0 requested-size 16G": "'requested-size' cannot exceed the memory backend size(0x200000000)",
    "qom-set vm0 requested-size foo": """\
Parameter 'requested-size' expects a non-negative number below 2^64
Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
and exabytes, respectively.""",
    "qom-set vm0 size 1G": "Property 'virtio-mem.size' is not writable",
    "qom-set vm0 block-size 2M": "'block-size' cannot be changed",
    "qom-set vm0 node 0": "Attempt to set property 'node' on anonymous device (type 'virtio-mem') after it was realized",
    "qom-set vm0 memdev m1":
        "Attempt to set link property 'memdev' on device '(null)' (type 'virtio-mem') after it was realized",
    "qom-set vm0 type x": "Property 'virtio-mem-pci.type' is not writable",
    "device_del vm0": "virtio based memory devices cannot be unplugged.",
    "device_del vm0/virtio-backend": "Bus 'virtio-bus' does not support hotplugging",
    "object_del m0": "object 'm0' is in use, can not be deleted",
}  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_qemu_refuses(host: Host, line: str) -> None:
    host.say(
        "object_add memory-backend-ram,id=m1,size=1G", "object_add memory-backend-ram,id=m2,size=3M"
    )
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0")
    before = host.board.memory_devices()
    assert host.say(line) == f"Error: {REFUSED[line]}\n"
    assert host.board.memory_devices() == before


#: Options of the PCI device, as libvirt writes them, and addresses as QEMU reads them.
PCI_OPTIONS = {
    "bus=pci.5,addr=0x0": 0,
    "bus=pci.5,addr=06.0": 0x30,
    "bus=pci.5,addr=1f.7": 0xFF,
    "bus=pci.5,addr=0x1.0x": 8,
    "bus=pci.5,addr=0x0,disable-legacy=on,rombar=0,romfile=,acpi-index=3": 0,
}
PCI_REFUSED = {
    "addr=0x20": "Property 'virtio-mem-pci.addr' doesn't take value '0x20'",
    "addr=0.8": "Property 'virtio-mem-pci.addr' doesn't take value '0.8'",
    "addr=": "Property 'virtio-mem-pci.addr' doesn't take value ''",
    "addr=-1": "Property 'virtio-mem-pci.addr' doesn't take value '-1'",
    "addr=1.0y": "Property 'virtio-mem-pci.addr' doesn't take value '1.0y'",
    "disable-legacy=maybe": "Parameter 'disable-legacy' does not accept value 'maybe'",
    "rombar=x": "Parameter 'rombar' expects integer",
    "acpi-index=4294967296": "Parameter 'acpi-index' expects uint32_t",
}


@pytest.mark.parametrize("options", PCI_OPTIONS)
def test_options_of_the_pci_device(host: Host, options: str) -> None:
    assert host.say(f"device_add virtio-mem-pci,id=vm0,memdev=m0,{options}") == ""
    assert host.say("qom-get vm0 addr") == f"{PCI_OPTIONS[options]}\n"
    if "rombar" in options:
        seen = ("disable-legacy", "rombar", "romfile", "acpi-index")
        assert host.say(*(f"qom-get vm0 {name}" for name in seen)) == '"on"\n0\n""\n3\n'
        assert host.say("qom-set vm0 rombar 1") == (
            "Error: Attempt to set property 'rombar' on device 'vm0' (type 'virtio-mem-pci') after"
            " it was realized\n"
        )


@pytest.mark.parametrize("option", PCI_REFUSED)
def test_options_of_the_pci_device_that_cannot_be(host: Host, option: str) -> None:
    line = f"device_add virtio-mem-pci,id=vm0,memdev=m0,bus=rp0,{option}"
    assert host.say(line) == f"Error: {PCI_REFUSED[option]}\n"
    assert host.board.memory_devices() == []


ALSO_SAID = [
    "info memory-devices", "info memory_size_summary", "info memdev", "info numa", "object_del m0",
    "qom-set vm0 requested-size 2G", "qom-get vm0 requested-size", "qom-set vm0/virtio-backend requested-size 1G",
    "qom-get vm0 requested-size", "qom-get vm0 size", "qom-get vm0 block-size", "qom-get vm0 memaddr", "qom-get vm0 memdev",
    "qom-get vm0 prealloc", "qom-get vm0 unplugged-inaccessible", "qom-get vm0/virtio-backend type",
    "qom-get vm0/virtio-backend legacy-memdev", "qom-get vm0 bogus", "qom-set vm0 prealloc on",
    "device_add pc-dimm,id=d0,memdev=m3", "device_add virtio-mem-pci,memdev=m1,block-size=1M,requested-size=1M,bus=rp1",
    "info memory-devices", "device_add virtio-mem-pci,id=vm2,memdev=m4,bus=rp2,block-size=8M,realized=off",
    "info memory-devices", "info memory_size_summary", "device_del /machine/peripheral/vm0",
]  # fmt: skip


@pytest.mark.may_skip("a QEMU is much to install for one test; what it said is in REFUSED")
def test_qemu_says_the_same() -> None:
    version = installed()
    if version is None or not version.startswith("7.2."):
        pytest.skip("there is no QEMU 7.2 here")
    machine = monitor_peers.Machine("1G,slots=4,maxmem=40G", ports=3)
    sizes = {"m0": "8G", "m1": "1G", "m2": "3M", "m3": "1G", "m4": "304M"}
    lines = [
        f"object_add memory-backend-ram,id={name},size={size},reserve=off"
        for name, size in sizes.items()
    ]
    lines.append("device_add virtio-mem-pci,id=vm0,memdev=m0,bus=rp0")
    pci = (f"device_add virtio-mem-pci,id=vm9,memdev=m1,bus=rp1,{option}" for option in PCI_REFUSED)
    for line in [*REFUSED, *pci]:
        if "cxl-type3" not in line:
            lines.append(
                f"{line},bus=rp1" if "virtio-mem-pci" in line and "bus=" not in line else line
            )
    with qemu(machine) as real, ours(machine) as our:
        for line in [*lines, *ALSO_SAID]:
            arguments = {"command-line": line}
            request = json.dumps(
                {"execute": "human-monitor-command", "arguments": arguments}
            ).encode()
            assert comparable(b"".join(our(request))) == comparable(b"".join(real(request))), line


@pytest.mark.parametrize("value", ["2G", True, None, 1.5])
def test_sizes_over_qmp_are_numbers(host: Host, value: object) -> None:
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0")
    with pytest.raises(MonitorError, match="Parameter 'requested-size' expects uint64"):
        host.monitor.execute(
            "qom-set", {"path": PATH, "property": "requested-size", "value": value}
        )


def test_each_step_of_a_real_guest(host: Host) -> None:
    """The sizes, blocks and MemTotal of a 6.1 guest that was asked for 300, 310 and 100 MiB, and
    for 4 GiB.
    """
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=300M")
    assert host.steps == [128 * MIB, 256 * MIB, 300 * MIB]
    assert host.blocks() == dict.fromkeys((32, 33, 34), ("offline", "none"))
    assert (
        "100000000-2ffffffff : virtio0\n  100000000-117ffffff : System RAM (virtio_mem)\n"
        in host.machine.read_text("/proc/iomem")
    )
    total = host.total()
    host.state(32, "online_movable")
    host.state(34, "online_movable")
    assert host.total() - total == 176128  # 128 MiB, and the 44 that are plugged of the last block
    host.resize(310 * MIB)
    assert host.total() - total == 186368
    host.state(34, "offline")  # a driver of this version lets others do that
    assert host.total() - total == 131072
    host.state(34, "online_movable")
    assert host.total() - total == 186368
    host.steps.clear()
    host.resize(100 * MIB)
    # what is offline goes first, as a whole; then 2 MiB at a time
    assert host.steps[0] == 190840832
    assert {a - b for a, b in zip(host.steps, host.steps[1:], strict=False)} == {2 * MIB}
    assert host.device["size"] == host.steps[-1] == 100 * MIB
    assert host.blocks() == {32: ("online", "Movable")}
    assert host.total() - total == 102400
    host.resize(4 * GIB)
    assert host.device["size"] == 1207959552  # a gigabyte may be offline at a time
    assert list(host.blocks()) == list(range(32, 41))
    assert (
        host.say("info memory_size_summary")
        == "base memory: 1073741824\nplugged memory: 1207959552\n"
    )
    host.machine.store(f"{MEMORY}/auto_online_blocks", "online")
    for block in range(33, 41):
        host.state(block, "online_movable")
    host.until(lambda: host.device["size"] == 4 * GIB)
    assert list(host.blocks()) == list(range(32, 64))
    assert [host.blocks()[block] for block in (40, 41, 63)] == [
        ("online", "Movable"),
        *2 * [("online", "Normal")],
    ]


def test_grow_to_4_gib_and_shrink_with_part_of_it_in_use(host: Host) -> None:
    """Movable pages move away, unmovable ones keep 2 MiB each, and their blocks."""
    machine = host.machine
    machine.store(f"{MEMORY}/auto_online_blocks", "online_movable")
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0")
    total = host.total()
    host.resize(2 * GIB)
    machine.store(f"{MEMORY}/auto_online_blocks", "online_kernel")
    host.resize(4 * GIB)
    assert host.device["size"] == 4 * GIB
    assert host.total() - total == 4 << 20
    zones = [zone for _, zone in host.blocks().values()]
    assert (zones.count("Movable"), zones.count("Normal")) == (16, 16)
    machine.allocate("anon", "300M", zone="Movable")
    kept = [48, 50, 63]  # each with a page of the slab
    for block in kept:
        machine.allocate("slab", "4K", block=block)
    in_use = {
        block: first_page(machine, block, "anon" if block == 33 else "slab")
        for block in (33, 50, 63)
    }
    machine.pin(in_use[33])
    host.resize(1 * GIB)
    # Movable goes first, all of it but the unit with the pinned page; then Normal, from its end.
    left = host.blocks()
    movable = [block for block, (_, zone) in left.items() if zone == "Movable"]
    assert movable == [33]
    assert host.device["size"] == GIB == machine.virtio_mem_size(0)
    assert {48, 50} <= set(left)
    machine.check()
    host.resize(0)
    assert host.device["size"] >= 4 * 2 * MIB
    assert {33, *kept} <= set(host.blocks())
    busy = host.device["size"]
    machine.unpin(in_use[33])
    for block in (50, 63):
        machine.free_page(in_use[block])
    with pytest.raises(OSError, match="what is still plugged is busy"):
        machine.virtio_mem_work(0)
    # The first block that the kernel had for itself keeps what it has put there.
    assert host.blocks() == {48: ("online", "Normal")}
    assert host.device["size"] == 2 * MIB < busy
    host.until(lambda: host.events[-1].data["size"] == 2 * MIB)
    assert {event.name for event in host.events} == {"MEMORY_DEVICE_SIZE_CHANGE"}
    assert host.total() - total == 2048


def test_the_map_has_the_device(host: Host) -> None:
    """Where a part of its blocks is plugged, with how much of it is."""
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=200M")
    snapshot = {
        "block_bytes": host.machine.block_bytes, "blocks": host.machine.blocks(), "dimms": host.board.memory_devices(),
    }  # fmt: skip
    table = memory_map(snapshot)
    assert [f"{cell}" for cell in table.columns[3].cells] == ["memory0-7", "memory32-33"]
    assert [f"{cell}" for cell in table.columns[6].cells] == ["", "vm0, 200M of 8G"]


def test_the_driver_tries_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtio_mem_driver, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(virtio_mem_driver.VirtioMemHost._work, "__defaults__", (0.02,))
    host.machine.store(f"{MEMORY}/auto_online_blocks", "online_movable")
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=128M")
    host.machine.allocate("anon", "4K", block=32)
    pinned = first_page(host.machine, 32, "anon")
    host.machine.pin(pinned)
    host.resize(0)
    host.until(lambda: host.device["size"] == 2 * MIB)
    host.machine.unpin(pinned)
    host.until(lambda: host.device["size"] == 0)
    assert host.blocks() == {}


@pytest.mark.parametrize("how", ["never", "refuse", "stay"])
def test_a_guest_that_does_not_shrink(host: Host, how: str) -> None:
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=256M")
    host.machine.fault_rule_add(f"unplug vm* {how} x1")
    host.resize(128 * MIB)
    assert (host.device["requested-size"], host.device["size"]) == (128 * MIB, 256 * MIB)
    host.resize(384 * MIB)  # to grow is not to unplug
    assert host.device["size"] == 384 * MIB
    host.resize(128 * MIB)
    assert host.device["size"] == 128 * MIB
    assert list(host.blocks()) == [32]


def test_a_guest_that_shrinks_late(host: Host) -> None:
    host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=256M")
    host.machine.fault_rule_add("unplug vm0 delay 200ms")
    began = time.monotonic()
    host.resize(0)
    host.until(lambda: host.device["size"] == 0)
    assert time.monotonic() - began >= 0.2


def test_a_guest_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with Machine.from_config(
        MachineConfig.from_options(memory="1G,slots=4,maxmem=20G", kernel="5.4")
    ) as machine:
        host = Host(machine)
        with host.board:
            host.say("object_add memory-backend-ram,id=m0,size=1G")
            assert host.say("device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=1G") == ""
            assert host.say("qom-set vm0 requested-size 512M") == ""
            assert (host.device["requested-size"], host.device["size"]) == (512 * MIB, 0)
            assert host.blocks() == {}


def test_what_the_guest_may_use_grows_with_what_is_requested() -> None:
    guest = ModelGuest("1G,slots=4,maxmem=20G")
    with Board(guest) as board:
        monitor = Monitor(board)
        for line in ("object_add memory-backend-ram,id=m0,size=4G", "device_add virtio-mem-pci,id=vm0,memdev=m0,node=0",
                     "qom-set vm0 requested-size 1G", "qom-set vm0 requested-size 512M", "qom-set vm0 requested-size 512M",
                     "qom-set vm0 requested-size 4G"):  # fmt: skip
            assert monitor.hmp.command(line) == ""
    assert guest.calls == [
        ("probe", 0, 4 * GIB, 4 * GIB, 2 * MIB), ("request", 0, 0, 256 * MIB), ("work", 0),
        ("request", 0, GIB, GIB + 256 * MIB), ("work", 0),
        ("request", 0, 512 * MIB, GIB + 256 * MIB), ("work", 0),
        ("request", 0, 4 * GIB, 4 * GIB), ("work", 0),
    ]  # fmt: skip


def test_events_are_told_at_most_once_in_a_while() -> None:
    """The first at once, then the last there was; each kind by itself."""
    told: list[str] = []
    came = threading.Event()

    def tell(item: str) -> None:
        told.append(item)
        came.set()

    throttle: Throttle[str] = Throttle(tell, 0.05)
    for item in ("a1", "b1", "a2", "a3"):
        throttle.put(item[0], item)
    assert told == ["a1", "b1"]
    came.clear()
    assert came.wait(LIMIT_SECONDS)
    assert told == ["a1", "b1", "a3"]
    throttle.put("a", "a4")
    throttle.close()
    assert told == ["a1", "b1", "a3"]
