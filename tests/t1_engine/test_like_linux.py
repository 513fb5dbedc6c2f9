"""What a machine does because Linux does it, seen from Python: what a failed hot-add leaves behind,
and when the kernel itself begins to use a zone.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fakesysfs import MachineConfig
from fakesysfs.machine import Machine

MEMORY = "/sys/devices/system/memory"
BLOCK, FIRST = 128 << 20, 0x100000000  # where hot-added memory begins: memory32


def machine_of(**options: Any) -> Machine:
    return Machine(MachineConfig.from_options(**options))


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert caught.value.errno == number


GIB = 1 << 30
#: What adding memory there a second time gives: sections are there. The oldest pass over them.
TAKEN = {"5.0": 0, "5.10": errno.EEXIST, "6.1": errno.EEXIST, "6.12": errno.EEXIST, "7.3": errno.EEXIST}  # fmt: skip


@pytest.mark.parametrize("kernel", TAKEN)
def test_what_a_failed_hot_add_leaves(kernel: str) -> None:
    """40 GiB need 640 MiB of memmap, more than there is: the memmap of all whole sections is lost."""
    line = re.compile(r"^MemFree: +([0-9]+) kB$", re.MULTILINE)

    def free_kb() -> int:
        found = line.search(machine.read_text("/proc/meminfo"))
        assert found
        return int(found[1])

    with machine_of(kernel=kernel, memory="1G,slots=4,maxmem=64G") as machine:
        machine.allocate("anon", "430M")
        before, iomem = free_kb(), machine.read_text("/proc/iomem")
        blocks, logged = len(machine.blocks()), len(machine.dmesg())
        machine.acpi_device_check(0, 0, 4 * GIB, 40 * GIB)
        machine.check()
        lost = before - free_kb()
        assert lost > 300 << 10
        # The memmap of a section is 2 MiB. What the section that failed had got has gone back.
        assert lost % 2048 == 0
        assert machine.read_text("/proc/iomem") == iomem
        log = "\n".join(text for _, text in machine.dmesg()[logged:])
        texts = [
            "vmemmap alloc failure: order:9, mode:0x4cc0(GFP_KERNEL|__GFP_RETRY_MAYFAIL)",
            "WARNING: CPU: 0 at arch/x86/mm/init_64.c add_pages",
            "acpi PNP0C80:00: add_memory failed",
            "acpi PNP0C80:00: acpi_memory_enable_device() error",
        ]
        places = [log.index(text) for text in texts]
        assert places == sorted(places)

        # The DIMM goes, and the memory does not come back.
        machine.acpi_eject_request(0)
        assert before - free_kb() == lost
        # Kernels that make each block with its section have those of the sections that are there.
        old = kernel == "5.0"
        assert len(machine.blocks()) == blocks + (lost // 2048 if old else 0)

        # Another one at that address gets no block, nor an error: its memory is said to be there.
        wanted = TAKEN[kernel]
        machine.free("anon", "64M")
        now = len(machine.blocks())
        if wanted:
            with refused(wanted):
                machine.add_memory(0, 4 * GIB, GIB)
        else:
            machine.add_memory(0, 4 * GIB, GIB)
        machine.acpi_device_check(1, 0, 4 * GIB, BLOCK)
        assert len(machine.blocks()) == now
        log = "\n".join(text for _, text in machine.dmesg()[logged:])
        # Smaller pages, where a GiB is mapped as one; but not where /proc/iomem already says no.
        assert ("arch/x86/mm/init_64.c phys_pud_init" in log) == bool(wanted)
        assert log.count("acpi_memory_enable_device() error") == 1
        machine.check()


@pytest.mark.parametrize("reads", [0, 6, 7, 50])
@pytest.mark.parametrize(
    ("config", "enough"),
    [("KERNEL_USE_AFTER=never", None), ("KERNEL_USE_AFTER=8", 7), ("KERNEL_USE_AFTER=40", 39)],
)
def test_reading_changes_nothing_unless_told_to(
    config: str, enough: int | None, reads: int
) -> None:
    """The kernel uses a new zone after N accesses: the write of `online`, and N - 1 reads."""
    with machine_of(config=config) as machine:
        machine.add_memory(0, FIRST, BLOCK)
        machine.store(f"{MEMORY}/memory32/state", "online_kernel")
        for _ in range(reads):
            machine.read_text(f"{MEMORY}/block_size_bytes")
        if enough is not None and reads >= enough:
            with refused(errno.EBUSY):
                machine.store(f"{MEMORY}/memory32/state", "offline")
        else:
            machine.store(f"{MEMORY}/memory32/state", "offline")
        machine.check()
