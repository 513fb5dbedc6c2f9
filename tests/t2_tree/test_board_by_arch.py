"""What the board of each architecture has no place for: refused in the words of QEMU 7.2.22.

x86_64   q35                ACPI, DIMMs, virtio-mem
aarch64  virt, with UEFI    ACPI, DIMMs, virtio-mem
ppc64le  pseries            RTAS, DIMMs
s390x    s390-ccw-virtio    nothing of it
"""

from __future__ import annotations

from typing import Any

import pytest
from model_guest import ModelGuest

from fakesysfs.errors import MonitorError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor import Monitor

HOTPLUG = "Error: Bus 'pcie.0' does not support hotplugging"
UNKNOWN = "Error: '{}' is not a valid device model name"

#: What the drivers are told, in the order x86_64, aarch64, ppc64le, s390x.
SAID = {
    "pc-dimm,id=x": ["Error: 'memdev' property must be set"] * 3 + [UNKNOWN],
    "nvdimm,id=x,memdev=m0": [
        "Error: nvdimm is not enabled: missing 'nvdimm' in '-M'",
        "Error: nvdimm is not enabled: add 'nvdimm=on' to '-M'",
        "Error: PAPR requires NVDIMM devices to have label-size set",
        UNKNOWN,
    ],
    "virtio-mem-pci,id=x,memdev=m0,bus=pcie.0": [HOTPLUG, HOTPLUG, UNKNOWN, UNKNOWN],
    "virtio-mem,id=x,memdev=m0": [
        "Error: No 'virtio-bus' bus found for device 'virtio-mem'",
        "Error: Bus 'virtio-mmio-bus.31' does not support hotplugging",
        UNKNOWN,
        UNKNOWN,
    ],
    "cxl-type3,id=x": [HOTPLUG, HOTPLUG, UNKNOWN, UNKNOWN],
    "virtio-pmem-pci,id=x": [HOTPLUG, UNKNOWN, UNKNOWN, UNKNOWN],
    "pc-dimm,help": ["pc-dimm options:"] * 3 + ["Device 'pc-dimm' not found"],
    "virtio-mem-pci,help": ["virtio-mem-pci options:"] * 2
    + ["Device 'virtio-mem-pci' not found"] * 2,
}
ARCHES = ("x86_64", "aarch64", "ppc64le", "s390x")


def monitor(arch: str) -> tuple[Board, Monitor]:
    board = Board(ModelGuest("1G" if arch == "s390x" else "1G,slots=4,maxmem=20G", arch=arch))
    board.object_add("memory-backend-ram", {"id": "m0", "size": 1 << 30})
    return board, Monitor(board)


@pytest.mark.parametrize("arch", ARCHES)
def test_devices_a_board_does_not_take(arch: str) -> None:
    board, hmp = monitor(arch)
    with board:
        for line, answers in SAID.items():
            said = hmp.command(f"device_add {line}").splitlines()[0]
            assert said == answers[ARCHES.index(arch)].format(line.partition(",")[0]), line
        assert board.memory_devices() == []


@pytest.mark.parametrize("arch", ARCHES)
def test_acpi_is_asked_where_there_is_acpi(arch: str) -> None:
    board, qmp = monitor(arch)
    with board:
        if arch in ("x86_64", "aarch64"):
            assert len(qmp.execute("query-acpi-ospm-status")) == 4 + (arch == "x86_64")
            return
        with pytest.raises(MonitorError, match=r"^command is not supported, missing ACPI device$"):
            qmp.execute("query-acpi-ospm-status")


def test_a_pseries_guest_reports_no_ost() -> None:
    guest = ModelGuest("1G,slots=4,maxmem=20G", arch="ppc64le")
    told: list[tuple[str, dict[str, Any]]] = []
    with Board(guest) as board:
        board.subscribe(lambda event: told.append((event.name, event.data)))
        board.object_add("memory-backend-ram", {"id": "m0", "size": 1 << 30})
        board.device_add("pc-dimm", {"id": "d0", "memdev": "m0"})
        assert told == []
        guest.refuses = 0x82
        board.device_del("d0")
        path = "/machine/peripheral/d0"
        message = "Memory hotunplug rejected by the guest for device d0"
        assert told == [
            ("MEM_UNPLUG_ERROR", {"device": "d0", "msg": message}),
            ("DEVICE_UNPLUG_GUEST_ERROR", {"device": "d0", "path": path}),
        ]
        told.clear()
        guest.refuses = 0
        board.device_del("d0")
        assert told == [("DEVICE_DELETED", {"device": "d0", "path": path})]
