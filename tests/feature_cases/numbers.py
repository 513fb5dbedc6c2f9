"""Cases: bad pages, watermarks and sizes."""

from __future__ import annotations

from fakesysfs import Machine
from feature_cases.case import (
    BLOCK,
    FIRST,
    MEMORY,
    NODE,
    PAGES,
    PFN,
    add,
    calls,
    case,
    log,
    min_free_kbytes,
    new_lines,
    number,
    online,
    state,
    store,
    zone_number,
)

# Bad pages

BAD = 7 * PAGES // 2  # in boot memory


def poison_twice(machine: Machine, how: str) -> list[object]:
    address = next(
        hex(pfn * 4096) for pfn in range(BAD, 1 << 20) if machine.page(pfn)["kind"] == "free"
    )
    store(machine, f"{MEMORY}/{how}_offline_page", address)
    start = len(machine.dmesg())
    second = store(machine, f"{MEMORY}/{how}_offline_page", address)
    said = [line.replace(hex(int(address, 16) // 4096), "PFN") for line in log(machine, start)]
    return [second, *said]


SOFT = "page already poisoned"
case(
    "soft_offline_poisoned_ok",
    ["ok", f"soft_offline_page: PFN {SOFT}"],
    ["EBUSY", f"soft_offline_page: PFN {SOFT}"],
)(lambda machine: poison_twice(machine, "soft"))
case(
    "soft_offline_function",
    ["ok", f"soft_offline_page: PFN {SOFT}"],
    ["ok", f"soft offline: PFN {SOFT}"],
)(lambda machine: poison_twice(machine, "soft"))
case(
    "soft_offline_capital",
    ["ok", f"Soft offline: PFN: {SOFT}"],
    ["ok", f"soft offline: PFN {SOFT}"],
    kernel="6.12",
)(lambda machine: poison_twice(machine, "soft"))
HARD = "Memory failure: PFN: "
case("hard_offline_ehwpoison", ["EHWPOISON", f"{HARD}already hardware poisoned"],
     ["ok", f"{HARD}already hardware poisoned"])(lambda machine: poison_twice(machine, "hard"))  # fmt: skip
case("hard_offline_action_line", ["EHWPOISON", f"{HARD}recovery action for already poisoned page: Failed"],
     ["EHWPOISON", f"{HARD}already hardware poisoned"])(lambda machine: poison_twice(machine, "hard"))  # fmt: skip


@case("soft_offline_online_check", "EIO", "ENXIO")
def _(machine: Machine) -> object:
    add(machine)
    return store(machine, f"{MEMORY}/soft_offline_page", hex(FIRST * BLOCK))


def failures(machine: Machine) -> dict[str, int]:
    names = ("total", "ignored", "failed", "delayed", "recovered")
    counts = {name: int(machine.read_text(f"{NODE}/node0/memory_failure/{name}")) for name in names}
    return {name: count for name, count in counts.items() if count}


@case("hard_offline_get_page", ["EBUSY", "recovery action for get hwpoison page: Ignored", {"total": 1, "ignored": 1}],
      ["EBUSY", "recovery action for unknown page: Ignored", {"total": 1, "ignored": 1}], kernel="6.12")  # fmt: skip
def _(machine: Machine) -> object:
    """A page of the kernel's own."""
    pfn = next(pfn for pfn in range(1 << 18) if machine.page(pfn)["kind"] == "kernel")
    start = len(machine.dmesg())
    result = store(machine, f"{MEMORY}/hard_offline_page", hex(pfn * 4096))
    said = [line.partition(f"{hex(pfn)}: ")[2] for line in log(machine, start)]
    return [result, said[-1], failures(machine)]


@case("hard_offline_no_page", ["EBUSY", f"{HARD}recovery action for non struct page pfn: Ignored", {}],
      ["ENXIO", f"{HARD}memory outside kernel control", {}], kernel="6.12")  # fmt: skip
def _(machine: Machine) -> object:
    path, address = f"{MEMORY}/hard_offline_page", hex(PFN * 4096)
    (said,) = new_lines(machine, lambda: store(machine, path, address))
    return [store(machine, path, address), said.replace(hex(PFN), "PFN"), failures(machine)]


@case("poison_kept_per_block", [4, 4, 0], [4, 4, 4])
def _(machine: Machine) -> object:
    """HardwareCorrupted: after a page went bad, after its block was offline and online again, after
    its removal.
    """
    online(machine)
    machine.store(f"{MEMORY}/hard_offline_page", hex(FIRST * BLOCK))
    seen = [number(machine, "/proc/meminfo", "HardwareCorrupted")]
    state(machine, "offline")
    state(machine, "online_movable")
    seen.append(number(machine, "/proc/meminfo", "HardwareCorrupted"))
    state(machine, "offline")
    machine.remove_memory(FIRST * BLOCK, BLOCK)
    return [*seen, number(machine, "/proc/meminfo", "HardwareCorrupted")]


# Watermarks and sizes

HUGE = {"memory": "512G", "config": "TRANSPARENT_HUGEPAGE=n"}


@case("min_free_cap_256m", True, False, **HUGE)
def _(machine: Machine) -> object:
    kb = min_free_kbytes(machine)
    assert kb > 65000
    return kb > 66000


@case("khugepaged_min_free", [45056, True], [3900, False])
def _(machine: Machine) -> object:
    """The number that Linux computes for two zones, to the rounding of each zone's share."""
    kb = min_free_kbytes(machine)
    rounded = 45056 if 45056 - 16 <= kb <= 45056 else 3900 if 3800 <= kb <= 4000 else kb
    names = calls(machine, lambda: online(machine, "online_kernel"))
    return [rounded, names.count("setup_per_zone_wmarks") > 0 and min_free_kbytes(machine) > 20000]


@case("movable_wmark_separate", 32, True)
def _(machine: Machine) -> object:
    """Movable of 128 MiB: a thousandth but 32 at least; else its share of what all zones keep."""
    online(machine)
    kept = zone_number(machine, "Movable", "min")
    return kept if kept == 32 else kept > 500


case("bare_metal_2g_blocks", "80000000\n", "8000000\n", memory="65408M", config="HYPERVISOR=n")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)
case("arm64_small_sections", "8000000\n", "40000000\n", arch="aarch64", memory="4G")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)
case("s390_small_sections", "8000000\n", "10000000\n", arch="s390x", memory="1G")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)


@case("s390_configured_memory", [False, "ok", True], [True, "ENOENT", True], arch="s390x",
      memory="2G,maxmem=4G")  # fmt: skip
def _(machine: Machine) -> object:
    """Whether memory on standby is there at boot, and after it was configured."""
    seen: list[object] = [machine.blocks()[-1].id == 15]
    seen.append(store(machine, "/sys/firmware/memory/memory15/config", "1"))
    return [*seen, machine.blocks()[-1].id == 15]


case("reserve_low_1m", 3998 - 158, 3998 - 15)(
    lambda machine: zone_number(machine, "DMA", "managed")
)
case("cpu_maps_sized", [28672, 4096], [4096, 4096])(
    lambda machine: [machine.stat(f"{NODE}/node0/{name}")[5] for name in ("cpulist", "cpumap")]
)
