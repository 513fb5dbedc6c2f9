"""Machines that have a name, and every architecture under every kernel: they boot, their blocks are
where they should be, and one more block comes and goes.

    x86_64    0 [RAM] hole for PCI, 4G [rest of RAM] [DIMMs]      blocks of 128 MiB, of 2 GiB on large machines
    aarch64   1G [RAM] [DIMMs]                                    blocks of 128 MiB; of 512 MiB with pages of 64 KiB
    ppc64le   0 [RAM] [DIMMs]                                     blocks of 256 MiB, sixteen sections each
    s390x     0 [RAM] [standby]                                   blocks of 256 MiB; standby from the start until 6.12
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pytest

from fakesysfs import MachineConfig
from fakesysfs.config.option_sources import load_presets
from fakesysfs.config.profiles import list_arches, list_kernels
from fakesysfs.errors import ConfigError
from fakesysfs.machine import Block, Event, Machine
from fakesysfs.qemu.board import Board

MEMORY = "/sys/devices/system/memory"
NODE = "/sys/devices/system/node"
MIB = 1 << 20
GIB = 1 << 30

Run = tuple[int, int, str | None, int]  # first block, last block, zone, node


@dataclass(frozen=True)
class Shape:
    """What a machine must look like: the size of its blocks, and where which are online at boot."""

    block_bytes: int
    online: list[Run]
    offline: tuple[int, ...] = ()


SHAPES = {
    "64tib": Shape(2 * GIB, [(0, 0, "none", 0), (512, 32766, "Normal", 0)]),
    "apple-guest": Shape(128 * MIB, [(8192, 8255, "DMA", 0)]),
    "arm64-64k": Shape(512 * MIB, [(2, 7, "DMA", 0), (8, 17, "Normal", 0)]),
    "biscuitos": Shape(128 * MIB, [(0, 0, "none", 0), (1, 7, "DMA32", 0)]),
    "numa4": Shape(
        128 * MIB,
        [(0, 0, "none", 0), (1, 7, "DMA32", 0), (8, 15, "DMA32", 1), (32, 47, "Normal", 2)],
    ),
    "ppc64le-lpar": Shape(256 * MIB, [(0, 15, "Normal", 0), (16, 31, "Normal", 1)]),
    "s390x-guest": Shape(256 * MIB, [(0, 7, "DMA", 0), (8, 15, "Normal", 0)], tuple(range(16, 32))),
    "server-64g": Shape(2 * GIB, [(0, 0, "none", 0), (2, 16, "Normal", 0), (17, 32, "Normal", 1)]),
    "small-vm": Shape(128 * MIB, [(0, 0, "none", 0), (1, 3, "DMA32", 0)]),
    "two-dimms": Shape(128 * MIB, [(0, 0, "none", 0), (1, 7, "DMA32", 0)]),
}
PRESETS = [preset.name for preset in load_presets()]


def make(**options: Any) -> Machine:
    return Machine(MachineConfig.from_options(**options))


def runs(blocks: list[Block]) -> list[Run]:
    """Neighbouring blocks that are alike, as one."""
    parts = groupby(
        enumerate(blocks), lambda place: (place[1].id - place[0], place[1].zone, place[1].nid)
    )
    lists = [[block for _, block in part] for _, part in parts]
    return [(part[0].id, part[-1].id, part[0].zone, part[0].nid) for part in lists]


def read(machine: Machine, block: int, name: str) -> str:
    return machine.read_text(f"{MEMORY}/memory{block}/{name}").strip()


def store(machine: Machine, block: int, word: str) -> None:
    machine.store(f"{MEMORY}/memory{block}/state", word)
    machine.check()


def mem_total(machine: Machine) -> int:
    """In bytes."""
    found = re.search(r"^MemTotal: +(\d+) kB$", machine.read_text("/proc/meminfo"), re.MULTILINE)
    assert found
    return int(found[1]) << 10


def comes_and_goes(machine: Machine, block: int) -> None:
    """Bring an offline block up in each zone it may join, and down again."""
    before, size = mem_total(machine), machine.block_bytes
    assert read(machine, block, "state") == "offline"
    kernel, movable = sorted(read(machine, block, "valid_zones").split(), key="Movable".__eq__)
    for word, zone in (("online_movable", movable), ("online_kernel", kernel), ("online", None)):
        store(machine, block, word)
        assert (read(machine, block, "state"), read(machine, block, "online")) == ("online", "1")
        assert read(machine, block, "valid_zones") == zone or zone is None
        assert mem_total(machine) == before + size
        if read(machine, block, "valid_zones") != "Movable":
            free_of_kernel(machine, block)
        store(machine, block, "offline")
        assert (read(machine, block, "state"), read(machine, block, "online")) == ("offline", "0")
        assert mem_total(machine) == before


def free_of_kernel(machine: Machine, block: int) -> None:
    """The kernel uses a zone as soon as it has pages. Take from it what it has there. Only its
    image stays.
    """
    pages = machine.block_bytes >> machine.config.page_shift
    pfn = block * pages
    while pfn < (block + 1) * pages:
        page = machine.page(pfn)
        if page["kind"] in ("slab", "slab_reclaimable", "pagetables", "kernel", "kernel_stack"):
            machine.free_page(pfn)
        pfn = page["head_pfn"] + (1 << page["order"])


# Presets


def test_every_preset_is_looked_at() -> None:
    assert set(SHAPES) == set(PRESETS) - {"host"}  # which is another one on each computer


@pytest.mark.parametrize("name", SHAPES)
def test_preset_has_the_blocks_it_should(name: str) -> None:
    shape = SHAPES[name]
    with make(machine=name) as machine:
        machine.check()
        blocks = machine.blocks()
        assert runs([block for block in blocks if block.state == "online"]) == shape.online
        assert tuple(block.id for block in blocks if block.state != "online") == shape.offline
        assert machine.read_text(f"{MEMORY}/block_size_bytes") == f"{shape.block_bytes:x}\n"
        names = {name for name, _, _ in machine.readdir(MEMORY) if re.fullmatch(r"memory\d+", name)}
        assert names == {f"memory{block.id}" for block in blocks}


@pytest.mark.parametrize("name", PRESETS)
def test_blocks_of_a_preset_say_where_they_are(name: str) -> None:
    with make(machine=name) as machine:
        blocks = machine.blocks()
        for block in {b.id: b for b in blocks[:40] + blocks[-40:]}.values():
            assert block.start == block.id * machine.block_bytes
            assert read(machine, block.id, "phys_index") == f"{block.id:08x}"
            assert read(machine, block.id, "phys_device") == (
                f"{block.id}" if machine.config.arch == "s390x" else "0"
            )
            assert read(machine, block.id, "removable") == "1"
            assert (
                machine.readlink(f"{MEMORY}/memory{block.id}/node{block.nid}")
                == f"../../node/node{block.nid}"
            )
            assert (
                machine.readlink(f"{NODE}/node{block.nid}/memory{block.id}")
                == f"../../memory/memory{block.id}"
            )
            assert (
                read(machine, block.id, "valid_zones").split()[0] == block.zone
                or block.state == "offline"
            )
        at_boot = sum(end - start for start, end, _ in machine.config.ram)
        assert 0.8 * at_boot < mem_total(machine) < at_boot


@pytest.mark.parametrize("name", PRESETS)
def test_memory_added_to_a_preset_comes_and_goes(name: str) -> None:
    with make(machine=name) as machine, Board(machine) as board:
        offline = [block.id for block in machine.blocks() if block.state == "offline"]
        if machine.config.slots:
            before = {block.id for block in machine.blocks()}
            board.object_add("memory-backend-ram", {"id": "m9", "size": machine.block_bytes})
            board.device_add("pc-dimm", {"id": "d9", "memdev": "m9"})
            machine.check()
            (block,) = {block.id for block in machine.blocks()} - before
            assert block * machine.block_bytes >= machine.config.device_memory_base
            comes_and_goes(machine, block)
            board.device_del("d9")
            machine.check()
            assert {block.id for block in machine.blocks()} == before
        else:
            comes_and_goes(machine, offline[-1])
        assert machine.config.slots or offline


@pytest.mark.parametrize("name", PRESETS)
def test_a_boot_block_of_a_preset_goes_and_comes(name: str) -> None:
    with make(machine=name) as machine:
        in_one_zone = [
            block for block in machine.blocks() if block.state == "online" and block.zone != "none"
        ]
        block = min(in_one_zone, key=lambda block: block.unmovable_pages).id
        free_of_kernel(machine, block)
        before = mem_total(machine)
        store(machine, block, "offline")
        assert mem_total(machine) == before - machine.block_bytes
        # another one where the old zone no longer reaches
        first = read(machine, block, "valid_zones").split()[0]
        store(machine, block, "online")
        assert read(machine, block, "valid_zones") == first
        assert mem_total(machine) == before


def test_two_dimms_are_there_and_can_go() -> None:
    with make(machine="two-dimms") as machine, Board(machine) as board:
        assert [b.id for b in machine.blocks() if b.state == "offline"] == list(range(32, 40))
        for dimm in ("d0", "d1"):
            board.device_del(dimm)
            machine.check()
        assert [b.id for b in machine.blocks()] == list(range(8))


# Memory on standby


@pytest.mark.parametrize(
    "append", ["", "memhp_default_state=online", "memhp_default_state=online_movable"]
)
def test_standby_is_there_from_the_start_and_offline(append: str) -> None:
    heard: list[Event] = []
    with make(machine="s390x-guest", append=append) as machine:
        machine.subscribe(heard.append)
        assert [b.id for b in machine.blocks() if b.state == "offline"] == list(range(16, 32))
        assert machine.read_text(f"{MEMORY}/auto_online_blocks").strip() == (
            append.partition("=")[2] or "offline"
        )
        lines = [f"{b << 28:x}-{(b + 1 << 28) - 1:x} : System RAM\n" for b in range(16, 32)]
        assert machine.read_text("/proc/iomem").endswith("\n" + "".join(lines))
        assert not heard
        assert not machine.events()
        store(machine, 20, "online")
        assert [event.payload[0] for event in heard if event.payload] == [
            "online@/devices/system/memory/memory20"
        ]
        assert machine.events()[0].seq == 1


def test_all_standby_comes_up_and_goes_down() -> None:
    with make(machine="s390x-guest") as machine:
        before = mem_total(machine)
        for block in range(16, 32):
            machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
        machine.check()
        assert mem_total(machine) == before + 4 * GIB
        for block in range(31, 15, -1):
            machine.store(f"{MEMORY}/memory{block}/state", "offline")
        machine.check()
        assert mem_total(machine) == before


def test_standby_needs_memory_that_describes_it() -> None:
    with pytest.raises(ConfigError, match="too little memory to describe the memory on standby"):
        make(arch="s390x", memory="1G,maxmem=8T")


# Architectures


@pytest.mark.parametrize("arch", list_arches())
@pytest.mark.parametrize("kernel", list_kernels())
def test_every_kernel_boots_on_every_architecture(arch: str, kernel: str) -> None:
    memory = "4G,maxmem=8G" if arch == "s390x" else "4G,slots=4,maxmem=8G"
    with make(arch=arch, kernel=kernel, memory=memory) as machine:
        machine.check()
        if machine.config.standby and "s390_configured_memory" in machine.config.features:
            machine.store("/sys/firmware/memory/memory31/config", "1")
        block = machine.blocks()[-1].id
        if machine.config.slots:
            block = machine.config.device_memory_base // machine.block_bytes
            assert (
                machine.acpi_device_check(0, 0, block * machine.block_bytes, machine.block_bytes)
                == 0
            )
        comes_and_goes(machine, block)
        if machine.config.slots:
            assert machine.acpi_eject_request(0) == 0
            machine.check()
            assert block not in [b.id for b in machine.blocks()]


@pytest.mark.parametrize(
    ("arch", "columns", "pageblock", "hugepage_kb"),
    [
        ("x86_64", 11, (9, 512), 2048),
        ("aarch64", 11, (9, 512), 2048),
        ("aarch64-16k", 12, (11, 2048), 32768),
        ("aarch64-64k", 14, (13, 8192), 524288),
        ("ppc64le", 9, (5, 32), 2048),
        ("s390x", 9, (8, 256), 1024),
    ],
)
def test_sizes_of_an_architecture_show(
    arch: str, columns: int, pageblock: tuple[int, int], hugepage_kb: int
) -> None:
    with make(arch=arch, memory="4G") as machine:
        assert {
            len(line.split()[4:]) for line in machine.read_text("/proc/buddyinfo").splitlines()
        } == {columns}
        head = machine.read_text("/proc/pagetypeinfo").splitlines()[:2]
        assert head == [f"Page block order: {pageblock[0]}", f"Pages per block:  {pageblock[1]}"]
        assert f"Hugepagesize:   {hugepage_kb:8} kB\n" in machine.read_text("/proc/meminfo")
        assert f"hugepages-{hugepage_kb}kB" in {
            name for name, _, _ in machine.readdir(f"{NODE}/node0/hugepages")
        }


@pytest.mark.parametrize("arch", list_arches())
def test_what_only_x86_has(arch: str) -> None:
    """Counters of the direct map, huge pages of 1 GiB, the line about the size of blocks, the
    firmware's address map.
    """
    seen: list[Callable[[Machine], bool]] = [
        lambda machine: "DirectMap" in machine.read_text("/proc/meminfo"),
        lambda machine: "direct_map_level2_splits" in machine.read_text("/proc/vmstat"),
        lambda machine: (
            "hugepages-1048576kB"
            in {name for name, _, _ in machine.readdir(f"{NODE}/node0/hugepages")}
        ),
        lambda machine: any(
            line.startswith("x86/mm: Memory block size: 128MB") for _, line in machine.dmesg()
        ),
        lambda machine: "firmware" in {name for name, _, _ in machine.readdir("/sys")},
    ]
    with make(arch=arch, memory="4G,maxmem=8G", config="X86_SGX=n") as machine:
        machine.add_memory(0, 64 * GIB, machine.block_bytes)
        assert {look(machine) for look in seen} == {arch == "x86_64"}


def test_holes_are_where_the_architecture_has_them() -> None:
    """x86 leaves out what is for PCI below 4 GiB; RAM of aarch64 begins at 1 GiB, or where it is
    told to.
    """
    for options, ids in (
        ({"memory": "4G"}, [*range(16), *range(32, 48)]),
        ({"memory": "4G", "arch": "aarch64"}, [*range(8, 40)]),
        ({"memory": "4G", "arch": "aarch64-64k"}, [*range(2, 10)]),
        ({"memory": "4G", "arch": "ppc64le"}, [*range(16)]),
        ({"memory": "4G", "arch": "s390x"}, [*range(16)]),
    ):
        with make(**options) as machine:
            assert [block.id for block in machine.blocks()] == ids, options
            machine.check()


def test_ram_that_ends_within_a_block() -> None:
    """A block exists as soon as some of it is RAM. On ppc64le only some of its sections are there
    then.
    """
    with make(arch="ppc64le", memory="4G", append="mem=3856M") as machine:
        machine.check()
        last = machine.blocks()[-1]
        assert (last.id, last.present_pages) == (15, 16 * MIB >> 16)
        with pytest.raises(OSError, match=r"holes") as caught:
            machine.store(f"{MEMORY}/memory15/state", "offline")
        assert caught.value.errno == errno.EINVAL
        machine.check()


# Configuration


@pytest.mark.parametrize("config", ["IOMMU_SUPPORT=y", "IOMMU_SUPPORT=n"])
@pytest.mark.parametrize("kernel", ["6.6", "6.12"])
def test_iommu_pages_are_counted_where_there_is_iommu_support(kernel: str, config: str) -> None:
    files = ("/proc/vmstat", "/proc/zoneinfo", "/sys/devices/system/node/node0/vmstat")
    there = kernel == "6.12" and config.endswith("y")
    with make(kernel=kernel, config=config) as machine:
        assert [("nr_iommu_pages" in machine.read_text(path)) for path in files] == [there] * 3
