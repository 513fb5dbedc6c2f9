"""Pages that are reported as bad: what is logged and counted, and what becomes of them.

memory32: Normal, one page of each kind in it
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from fakesysfs import Machine, MachineConfig

MEMORY = "/sys/devices/system/memory"
COUNTS = "/sys/devices/system/node/node0/memory_failure"
BLOCK, FIRST_PFN, PFNS = 32, 32 << 15, 1 << 15
EHWPOISON = 133


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(MachineConfig.from_options(kernel="6.12")) as machine:
        machine.add_memory(0, 4 << 30, 128 << 20)
        machine.store(f"{MEMORY}/memory{BLOCK}/state", "online_kernel")
        yield machine
        machine.check()


def failures(machine: Machine) -> dict[str, int]:
    names = ("total", "ignored", "failed", "delayed", "recovered")
    counts = {name: int(machine.read_text(f"{COUNTS}/{name}")) for name in names}
    return {name: count for name, count in counts.items() if count}


def corrupted_kb(machine: Machine) -> int:
    lines = machine.read_text("/proc/meminfo").splitlines()
    return int(next(line for line in lines if "HardwareCorrupted" in line).split()[1])


def offline(machine: Machine, pfn: int, how: str) -> int:
    """0, or the errno."""
    try:
        machine.store(f"{MEMORY}/{how}_offline_page", hex(pfn << 12))
    except OSError as e:
        return e.errno or -1
    return 0


def used(machine: Machine, kind: str, size: str = "64K") -> int:
    """A page frame in the block that is of this kind now."""
    machine.allocate(kind, size, block=BLOCK)
    frames = range(FIRST_PFN, FIRST_PFN + PFNS)
    return next(pfn for pfn in frames if machine.page(pfn)["kind"] == kind)


def said(machine: Machine, pfn: int) -> list[str]:
    return [line.partition(f"{pfn:#x}: ")[2] for _, line in machine.dmesg() if f"{pfn:#x}" in line]


@pytest.mark.parametrize(
    ("kind", "page"),
    [("anon", "dirty LRU page"), ("file", "clean LRU page"), ("hugetlb", "huge page")],
)
def test_what_users_have_is_lost(machine: Machine, kind: str, page: str) -> None:
    pfn = used(machine, kind, "2M")
    assert offline(machine, pfn, "hard") == 0
    assert said(machine, pfn) == [f"recovery action for {page}: Recovered"]
    assert failures(machine) == {"total": 1, "recovered": 1}
    assert machine.page(pfn)["kind"] == "poisoned"


@pytest.mark.parametrize("kind", ["slab", "slab_reclaimable", "pagetables", "kernel"])
def test_what_the_kernel_has_is_marked_and_stays(machine: Machine, kind: str) -> None:
    pfn = used(machine, kind)
    free = machine.read_text("/proc/meminfo").splitlines()[1]
    assert offline(machine, pfn, "hard") == errno.EBUSY
    assert offline(machine, pfn, "hard") == EHWPOISON
    assert offline(machine, pfn, "soft") == 0
    ignored = "recovery action for get hwpoison page: Ignored"
    already = "recovery action for already poisoned page: Failed"
    assert said(machine, pfn) == ["unhandlable page.", ignored, already, "page already poisoned"]
    assert failures(machine) == {"total": 1, "ignored": 1}
    assert corrupted_kb(machine) == 4
    assert machine.read_text("/proc/meminfo").splitlines()[1] == free
    assert machine.page(pfn + 1)["kind"] == kind


def test_a_bad_page_of_the_kernel_is_in_nobodys_way(machine: Machine) -> None:
    pfn = used(machine, "slab", "4K")
    with pytest.raises(OSError, match="unmovable page"):
        machine.store(f"{MEMORY}/memory{BLOCK}/state", "offline")
    offline(machine, pfn, "hard")
    machine.store(f"{MEMORY}/memory{BLOCK}/state", "offline")
    with pytest.raises(OSError, match="poisoned") as caught:
        machine.store(f"{MEMORY}/memory{BLOCK}/state", "online")
    assert caught.value.errno == EHWPOISON
    machine.remove_memory(4 << 30, 128 << 20)
    assert corrupted_kb(machine) == 0


def test_a_reserved_page(machine: Machine) -> None:
    pfn = next(pfn for pfn in range(1, 1 << 18) if machine.page(pfn)["kind"] == "reserved")
    assert [offline(machine, pfn, how) for how in ("soft", "hard", "hard", "soft")] == [
        errno.EIO, errno.EBUSY, EHWPOISON, 0,
    ]  # fmt: skip
    assert machine.page(pfn)["kind"] == "reserved"
    assert failures(machine) == {"total": 1, "ignored": 1}
    assert corrupted_kb(machine) == 4


def test_soft_offlining_is_not_counted(machine: Machine) -> None:
    for kind in ("anon", "file", "shmem"):
        assert offline(machine, used(machine, kind), "soft") == 0
    assert corrupted_kb(machine) == 12
    assert failures(machine) == {}
