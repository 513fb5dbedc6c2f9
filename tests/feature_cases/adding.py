"""Cases: adding and removing memory, nodes, virtio-mem."""

from __future__ import annotations

import errno

from fakesysfs import Machine
from feature_cases.case import (
    BLOCK,
    FIRST,
    GIB,
    MEMORY,
    MIB,
    PARAMETERS,
    add,
    calls,
    case,
    files,
    log,
    new_lines,
    number,
    online,
    outcome,
    state,
    store,
    uevents,
)

# Adding and removing


@case("remove_online_ebusy", ["EBUSY", False], ["EBUSY", True])
def _(machine: Machine) -> object:
    online(machine)
    said = new_lines(machine, lambda: machine.remove_memory(FIRST * BLOCK, BLOCK))
    assert (
        said[0]
        == "removing memory fails, because memory [0x0000000100000000-0x0000000107ffffff] is"
        " onlined"
    )
    return [
        outcome(lambda: machine.remove_memory(FIRST * BLOCK, BLOCK)),
        any("kernel BUG" in line for line in said),
    ]


@case("resource_busy_only", ["ok", "EEXIST"], ["EEXIST", "EEXIST"])
def _(machine: Machine) -> object:
    """Inside the PCI window, which is not busy, and where RAM is."""
    return [store(machine, f"{MEMORY}/probe", address) for address in ("0x40000000", "0x8000000")]


@case("mem_limit_e2big", ["E2BIG", "E2BIG"], ["ok", "ok"], kernel="5.4", append="mem=1G")
def _(machine: Machine) -> object:
    return [store(machine, f"{MEMORY}/probe", "0x100000000"),
            outcome(lambda: machine.add_memory(0, 5 * GIB, BLOCK))]  # fmt: skip


def beyond(machine: Machine) -> object:
    start = len(machine.dmesg())
    return [store(machine, f"{MEMORY}/probe", "0xfffffffff8000000"), log(machine, start)]


LAST = "0xfffffffffffff"
case("range_warn", ["E2BIG", ["Hotplugged memory exceeds maximum addressable address, "
                              f"range=0xfffffffff8000000-0xffffffffffffffff, maximum={LAST}"]],
     ["EEXIST", []], kernel="5.10")(beyond)  # fmt: skip
case("range_check", ["E2BIG", ["Hotplug memory [0xfffffffff8000000-0x0] exceeds maximum addressable range "
                               f"[0x0-{LAST}]"]], ["EEXIST", []])(beyond)  # fmt: skip


@case("add_skips_existing", ["ENOMEM", "ok", [32, 33]], ["ENOMEM", "EEXIST", []])
def _(machine: Machine) -> object:
    """An addition of two sections whose second one failed, once more."""
    machine.fault_set("range_add/section", errno.ENOMEM, 2)
    outcomes = [outcome(lambda: add(machine, 2)) for _ in range(2)]
    return [*outcomes, [block.id for block in machine.blocks() if block.id >= FIRST]]


@case("block_devices_after_add", ["create_memory_block_devices", [], []],
      ["__add_pages", ["add@memory/memory32"], [32]])  # fmt: skip
def _(machine: Machine) -> object:
    """When the devices are made, and what is heard of an addition whose second section fails."""
    machine.fault_set("range_add/section", errno.ENOMEM, 2)
    heard = uevents(machine, lambda: add(machine, 2))
    left = [block.id for block in machine.blocks() if block.id >= FIRST]
    machine.check()
    names = calls(machine, lambda: add(machine, first=FIRST + 2))
    before = names[: names.index("add_memory_block")]
    makers = ("create_memory_block_devices", "__add_pages")
    return [max((name for name in makers if name in before), key=before.index), heard, left]


@case("node_before_blocks", ["add@node/node1", "add@memory/memory32"], ["add@memory/memory32", "add@node/node1"],
      nodes=["memory=1G,cpus=0", "memory=0"])  # fmt: skip
def _(machine: Machine) -> object:
    return uevents(machine, lambda: add(machine, node=1))


@case("memmap_on_memory_altmap", 2 * 129024, 2 * 131072, append="memory_hotplug.memmap_on_memory=Y")
def _(machine: Machine) -> object:
    """How much memory a DIMM of two blocks is, when it may keep its own memmap."""
    before = number(machine, "/proc/meminfo", "MemTotal")
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 2 * BLOCK)
    for block in (FIRST, FIRST + 1):
        assert state(machine, "online_movable", block) == "ok"
    return number(machine, "/proc/meminfo", "MemTotal") - before


files("memmap_on_memory", f"{PARAMETERS}/memmap_on_memory")
case("memmap_on_memory_force", "force\n", "N\n", append="memory_hotplug.memmap_on_memory=force")(
    lambda machine: machine.read_text(f"{PARAMETERS}/memmap_on_memory")
)


@case(
    "online_policy",
    ["ok", "Movable"],
    ["ENOENT", "Normal"],
    append="memory_hotplug.online_policy=auto-movable",
)
def _(machine: Machine) -> object:
    online(machine, "online")
    return [outcome(lambda: machine.stat(f"{PARAMETERS}/online_policy")), machine.blocks()[-1].zone]


@case("memory_groups", "Normal", "Movable", append="memory_hotplug.online_policy=auto-movable")
def _(machine: Machine) -> object:
    """The second block of a DIMM of which the kernel uses the first one."""
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 2 * BLOCK)
    state(machine, "online_kernel")
    state(machine, "online", FIRST + 1)
    return machine.blocks()[-1].zone


@case("acpi_rescan_all", 2, 1)
def _(machine: Machine) -> object:
    """How often a DIMM that does not fit is tried, when one is plugged after it."""
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 100 * MIB)
    machine.acpi_device_check(1, 0, (FIRST + 8) * BLOCK, BLOCK)
    return sum("PNP0C80:00: add_memory failed" in line for line in log(machine))


@case("acpi_device_no_power", "ENOENT", "ok", memory="1G,slots=4,maxmem=8G")
def _(machine: Machine) -> object:
    assert machine.stat("/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04/PNP0C80:00/eject")
    return outcome(
        lambda: machine.stat(
            "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04/PNP0C80:00/power/control"
        )
    )


ARM = {"arch": "aarch64", "memory": "1G,slots=4,maxmem=8G", "append": "memhp_default_state=offline"}


def said_of_nodes(machine: Machine) -> list[str]:
    """What is said when two DIMMs come of which nobody knows the node."""
    start = len(machine.dmesg())
    for slot in range(2):
        machine.acpi_device_check(slot, -1, (2 + slot) * GIB, GIB)
    return log(machine, start)


@case("unknown_nid_once", ["Unknown online node for memory at 0x80000000, assuming node 0"],
      [f"Unknown node for memory at {at}, assuming node 0" for at in ("0x80000000", "0xc0000000")], **ARM)  # fmt: skip
def _(machine: Machine) -> object:
    return said_of_nodes(machine)


@case(
    "arm64_numa_memblks",
    [],
    ["Unknown online node for memory at 0x80000000, assuming node 0"],
    kernel="6.12",
    **ARM,
)
def _(machine: Machine) -> object:
    return said_of_nodes(machine)


@case("acpi_add_failure_status", [1, 0], [0, 0])
def _(machine: Machine) -> object:
    return [machine.acpi_device_check(0, 0, FIRST * BLOCK, 100 * MIB),
            machine.acpi_device_check(1, 0, (FIRST + 8) * BLOCK, BLOCK)]  # fmt: skip


# virtio-mem


def grown(machine: Machine, size: int) -> str:
    """A device at 4 GiB is to have this size: what the driver says when it has done what it can."""
    machine.virtio_mem_request(0, size, GIB)
    return outcome(lambda: machine.virtio_mem_work(0))


@case("virtio_mem", "ok", "ENODEV")
def _(machine: Machine) -> object:
    return outcome(lambda: machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB))


@case("virtio_mem_pageblock_unit", [6, "0x200000"], [4, "0x400000"])
def _(machine: Machine) -> object:
    """How much of 6 MiB is plugged, and the line that explains it."""
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, 6 * MIB)
    unit = next(line for line in log(machine) if "subblock size" in line)
    return [machine.virtio_mem_size(0) // MIB, unit.split()[-1]]


@case("virtio_mem_removes_later", ["EBUSY", "ok", 0], ["ok", "ok", 1])
def _(machine: Machine) -> object:
    """A block of which all is unplugged and that does not go offline the first time: blocks left in
    the end.
    """
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, BLOCK)
    state(machine, "online_movable")
    machine.fault_set("offline/notifier", errno.ENOMEM, 1, 1)
    first = grown(machine, 0)
    again = outcome(lambda: machine.virtio_mem_work(0))
    return [first, again, sum(block.id >= FIRST for block in machine.blocks())]


@case("virtio_mem_big_blocks", ["ok", "ok", "device block size: 0x10000000"],
      ["EINVAL", "ENODEV", "The block size is not supported (too big)."], kernel="5.15")  # fmt: skip
def _(machine: Machine) -> object:
    """A device whose block is two memory blocks: whether the driver takes it, what it says. The
    next is virtio1 anyway.
    """
    found = outcome(lambda: machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * BLOCK))
    assert machine.virtio_mem_probe(0, 5 * GIB, GIB, 2 * MIB) == 1
    said = next(line for line in log(machine) if "virtio0" in line and "block size" in line)
    return [found, outcome(lambda: machine.virtio_mem_size(0)), said.partition(": ")[2]]


@case("virtio_mem_movable_first", [FIRST + 1], [FIRST], kernel="5.15")
def _(machine: Machine) -> object:
    """The block that is left when one of two goes: the one below is Movable."""
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, 2 * BLOCK)
    state(machine, "online_movable", FIRST)
    state(machine, "online_kernel", FIRST + 1)
    assert grown(machine, BLOCK) == "ok"
    return [block.id for block in machine.blocks() if block.id >= FIRST]
