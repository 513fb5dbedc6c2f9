"""Machine options become a machine: address map, nodes, command line, profiles, presets, and every
refusal.

Nothing here needs the engine; what the engine makes of a machine is tested beside it. The trees of
/proc/iomem are those of real guests: QEMU 7.2, q35, 1G,slots=4,maxmem=8G.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fakesysfs.config.machine_config
from fakesysfs.config.kernel_config import CONFIG_DEFAULTS
from fakesysfs.config.machine_config import MachineConfig
from fakesysfs.config.memory_and_nodes import Dimm, Node
from fakesysfs.config.option_sources import load_presets
from fakesysfs.config.profiles import list_arches, list_kernels
from fakesysfs.config.sizes import parse_size
from fakesysfs.config.workload import Use
from fakesysfs.config.zone_names import ALL_ZONES
from fakesysfs.errors import ConfigError

PACKAGE = Path(fakesysfs.config.machine_config.__file__).parents[1]
KERNELS = ["5.0", "5.4", "5.10", "5.14", "5.15", "6.1", "6.6", "6.12", "6.18", "7.1", "7.2", "7.3"]
M = 1 << 20
G = 1 << 30
T = 1 << 40

make = MachineConfig.from_options

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
000c0000-000c05ff : Video ROM
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-3ffdffff : System RAM
  Kernel code
  Kernel rodata
  Kernel data
  Kernel bss
3ffe0000-3fffffff : Reserved
40000000-afffffff : PCI Bus 0000:00
b0000000-bfffffff : {ecam} 0000 [bus 00-ff]
  b0000000-bfffffff : Reserved
    b0000000-bfffffff : pnp 00:05
c0000000-febfffff : PCI Bus 0000:00
  febff000-febfffff : 0000:00:1f.2
fec00000-fec003ff : IOAPIC 0
fed00000-fed003ff : HPET 0
  fed00000-fed003ff : PNP0103:00
fed1c000-fed1ffff : Reserved
{local_apic}fffc0000-ffffffff : Reserved
3c0000000-bbfffffff : PCI Bus 0000:00
fd00000000-ffffffffff : Reserved
"""
LOCAL_APIC = "fee00000-fee00fff : Local APIC\n"


def iomem(config: MachineConfig) -> str:
    """/proc/iomem, addresses of the kernel's image left out: they are a matter of chance."""
    lines = []
    for start, end, name, _, depth in config.resources:
        place = "" if name.startswith("Kernel ") else f"{start:08x}-{end:08x} : "
        lines.append(f"{'  ' * depth}{place}{name}\n")
    return "".join(lines)


def flags(config: MachineConfig, name: str) -> set[int]:
    return {r[3] for r in config.resources if r[2] == name}


def blocks(config: MachineConfig) -> list[int]:
    size = config.block_bytes
    return sorted(
        {b for start, end, _ in config.ram for b in range(start // size, (end - 1) // size + 1)}
    )


# ------------------------------------------------------------------------------ the default machine


def test_default_machine_is_the_one_of_the_walk_through() -> None:
    config = make()
    assert config == make(memory="1G,slots=32,maxmem=8G", kernel="6.1", arch="x86_64", seed=1)
    assert (config.memory_bytes, config.slots, config.maxmem_bytes) == (1 * G, 32, 8 * G)
    assert (config.kernel, config.release, config.arch, config.seed) == (
        "6.1",
        "6.1.192",
        "x86_64",
        1,
    )
    assert blocks(config) == list(range(8))
    assert config.nodes == (Node(0, 1 * G, (0,)),)
    assert config.ram == ((0x1000, 0x9F000, 0), (0x100000, 0x3FFE0000, 0))
    assert config.device_memory_base == 4 * G
    assert config.device_memory_limit == 7 * G
    assert config.device_memory_bytes == 7 * G + 32 * G
    assert config.dimm_alignment == 2 * M


@pytest.mark.parametrize(
    ("kernel", "ecam", "local_apic"),
    [("6.1", "PCI MMCONFIG", LOCAL_APIC), ("6.12", "PCI ECAM", "")],
)
def test_iomem_is_that_of_a_real_guest(kernel: str, ecam: str, local_apic: str) -> None:
    config = make(memory="1G,slots=4,maxmem=8G", kernel=kernel)
    assert iomem(config) == IOMEM.format(ecam=ecam, local_apic=local_apic)


def test_only_some_resources_are_busy() -> None:
    config = make()
    assert flags(config, "System RAM") == {3}
    assert flags(config, "PCI Bus 0000:00") == {0}  # may have hot-added memory inside
    assert flags(config, "IOAPIC 0") == {1}
    busy = {start: flag for start, _, name, flag, _ in config.resources if name == "Reserved"}
    assert busy[0x9FC00] == 1  # below 1 MiB
    assert busy[0x3FFE0000] == 0


def test_firmware_memmap_knows_no_mem_limit() -> None:
    whole = make(memory="4G,slots=4,maxmem=16G")
    cut = make(memory="4G,slots=4,maxmem=16G", append="mem=1G")
    assert cut.firmware_memmap == whole.firmware_memmap
    assert whole.firmware_memmap[0] == (0, 0x9FBFF, "System RAM")
    assert (0x100000000, 0x17FFFFFFF, "System RAM") in whole.firmware_memmap
    assert len(make().firmware_memmap) == 9


# -------------------------------------------------------------------------------------- address map


@pytest.mark.parametrize(
    ("memory", "last", "above", "base"),
    [
        ("1G,slots=4,maxmem=8G", 0x3FFE0000, None, 4 * G),
        ("2G,slots=4,maxmem=8G", 0x7FFE0000, None, 4 * G),
        ("2814M,slots=4,maxmem=8G", 0xAFDE0000, None, 4 * G),
        ("2816M,slots=4,maxmem=8G", 0x7FFE0000, (4 * G, 4 * G + 768 * M), 5 * G),
        ("4G,slots=4,maxmem=8G", 0x7FFE0000, (4 * G, 6 * G), 6 * G),
        ("4098M,slots=4,maxmem=8G", 0x7FFE0000, (4 * G, 6 * G + 2 * M), 7 * G),
        ("64G", 0x7FFE0000, (4 * G, 66 * G), 0),
        ("1G,maxmem=8G", 0x3FFE0000, None, 4 * G),
        # what would reach the hole of HyperTransport goes above 1 TiB
        ("4G,slots=4,maxmem=1T", 0x7FFE0000, (1 * T, 1 * T + 2 * G), 1 * T + 2 * G),
    ],
)
def test_ram_lies_as_in_q35(
    memory: str, last: int, above: tuple[int, int] | None, base: int
) -> None:
    config = make(memory=memory)
    assert config.ram[1] == (0x100000, last, 0)
    assert [r[:2] for r in config.ram[2:]] == ([above] if above else [])
    assert config.device_memory_base == base


def test_mem_cuts_ram_and_the_hole_at_its_end() -> None:
    config = make(memory="4G,slots=4,maxmem=16G", append="mem=1G")
    assert config.ram == ((0x1000, 0x9F000, 0), (0x100000, 0x40000000, 0))
    assert config.device_memory_base == 6 * G
    ram = [f"{s:08x}-{e:08x}" for s, e, name, _, _ in config.resources if name == "System RAM"]
    assert ram == ["00001000-0009fbff", "00100000-3fffffff"]
    assert "7ffe0000-7fffffff : Reserved" in iomem(config)
    assert config.mem_limit == 1 * G


def test_ram_that_ends_in_the_middle_is_followed_by_a_buffer() -> None:
    config = make(memory="4G", append="mem=1000M")
    assert "3e800000-3fffffff : RAM buffer" in iomem(config)
    assert "RAM buffer" not in iomem(make(memory="1000M"))  # the PCI window begins there
    assert "180200000-183ffffff : RAM buffer" in iomem(make(memory="4098M"))


def test_mem_is_an_amount_on_arm() -> None:
    config = make(arch="aarch64", memory="4G", append="mem=1G")
    assert config.ram == ((1 * G, 2 * G, 0),)
    assert config.mem_limit == 0


@pytest.mark.parametrize(
    ("memory", "kernel", "config", "block"),
    [
        ("62G", "6.1", "", 2 * G),  # ends at 64 GiB
        ("61G", "6.1", "", 128 * M),
        ("63G", "6.1", "", 1 * G),
        ("64G", "6.1", "", 2 * G),
        ("65408M", "6.1", "", 128 * M),
        ("65408M", "6.1", "HYPERVISOR=n", 2 * G),
        ("65408M", "5.4", "HYPERVISOR=n", 128 * M),
        ("1G", "6.1", "HYPERVISOR=n", 128 * M),
    ],
)
def test_block_size_follows_the_end_of_ram(
    memory: str, kernel: str, config: str, block: int
) -> None:
    assert make(memory=memory, kernel=kernel, config=config).block_bytes == block


def test_kernel_image_is_where_the_seed_says() -> None:
    def code(**options: Any) -> int:
        return next(r[0] for r in make(**options).resources if r[2] == "Kernel code")

    assert code(append="nokaslr") == 0x1000000
    places = {code(seed=seed) for seed in range(20)}
    assert len(places) > 10
    assert all(place % (2 * M) == 0 and 0x1000000 <= place < G for place in places)
    assert code(seed=7) == code(seed=7)
    assert all(code(memory="64G", seed=seed) < 2 * G for seed in range(20))


def test_first_mib_and_image_are_reserved() -> None:
    config = make(append="nokaslr")
    assert config.reserved[0] == (0x1000, 0x9F000, "low")
    assert {what for _, _, what in config.reserved[1:]} == {"kernel"}
    assert make(kernel="5.10").reserved[0] == (0x1000, 0x10000, "low")


# ------------------------------------------------------------------------------------ architectures


@pytest.mark.parametrize(
    ("arch", "page", "block", "first", "zones"),
    [
        ("aarch64", 4096, 128 * M, 8, ("DMA", "DMA32", "Normal", "Movable", "Device")),
        ("aarch64-16k", 16384, 128 * M, 8, ("DMA", "DMA32", "Normal", "Movable", "Device")),
        ("aarch64-64k", 65536, 512 * M, 2, ("DMA", "DMA32", "Normal", "Movable", "Device")),
        ("s390x", 4096, 256 * M, 0, ("DMA", "Normal", "Movable")),
        ("ppc64le", 65536, 256 * M, 0, ("Normal", "Movable", "Device")),
        ("x86_64", 4096, 128 * M, 0, ("DMA", "DMA32", "Normal", "Movable", "Device")),
    ],
)
def test_arch_has_its_sizes(
    arch: str, page: int, block: int, first: int, zones: tuple[str, ...]
) -> None:
    config = make(arch=arch)
    assert 1 << config.page_shift == page
    assert config.block_bytes == block
    assert blocks(config)[0] == first
    assert config.zones == zones
    assert (
        config.section_shift
        >= config.page_shift + config.max_order
        >= config.page_shift + config.pageblock_order
    )


def test_arm_sections_shrank() -> None:
    assert make(arch="aarch64", kernel="5.10").block_bytes == 1 * G
    assert make(arch="aarch64-64k", kernel="5.14").block_bytes == 512 * M


def test_s390_has_memory_on_standby_and_no_slots() -> None:
    config = make(arch="s390x", memory="2G,maxmem=4G")
    assert config.standby == ((2 * G, 4 * G, 0),)
    assert (config.device_memory_base, config.device_memory_limit) == (0, 0)
    with pytest.raises(ConfigError, match="no DIMM slots"):
        make(arch="s390x", memory="2G,slots=2,maxmem=4G")


def test_high_ram_of_arm_is_all_zone_dma() -> None:
    config = make(machine="apple-guest")
    assert blocks(config)[0] == 8192
    assert config.zone_limits["DMA"] == config.ram[-1][1]


@pytest.mark.parametrize("arch", list_arches())
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_runs_on_every_arch(kernel: str, arch: str) -> None:
    consistent(make(kernel=kernel, arch=arch))


# -------------------------------------------------------------------------------------------- nodes


def test_nodes_share_ram_in_order() -> None:
    config = make(memory="4G,slots=8,maxmem=16G", nodes=["memory=1G,cpus=0", "memory=3072"])
    assert config.nodes == (Node(0, 1 * G, (0,)), Node(1, 3 * G, ()))
    assert config.ram[1:] == ((0x100000, 1 * G, 0), (1 * G, 0x7FFE0000, 1), (4 * G, 6 * G, 1))
    assert config.spec()["nodes"] == [(0, [0]), (1, [])]


def test_node_of_an_address_beyond_ram_is_the_first_one() -> None:
    config = make(memory="1G,slots=8,maxmem=16G", nodes=["memory=512M,cpus=0", "memory=512M"])
    assert [nid for _, _, nid in config.hotplug_nids] == [0, 1]
    assert all(end <= 1 * G for _, end, _ in config.hotplug_nids)


def test_the_last_node_without_ram_and_cpus_is_possible_but_not_online() -> None:
    """Others of that kind no table names, but DIMM space is said to be of the last node."""
    nodes = ["memory=1G,cpus=0", "memory=0", "cpus=1", "memory=0"]
    config = make(memory="1G,slots=8,maxmem=16G", nodes=nodes)
    assert config.node_ids == (0, -1, 1, 2)
    assert config.spec()["possible_nodes"] == 3
    assert [n.id for n in config.online_nodes] == [0, 1]
    assert make(memory="1G", nodes=nodes).node_ids == (0, -1, 1, -1)
    assert make(memory="1G", nodes=nodes, arch="ppc64le").node_ids == (0, 1, 2, 3)


def test_nodes_are_numbered_as_their_cpus_come() -> None:
    nodes = ["memory=1G", "memory=2G,cpus=0", "cpus=1", "memory=3G"]
    config = make(memory="6G", nodes=nodes, distances=["0,1,15", "1,2,25", "0,3,35"])
    assert config.node_ids == (2, 0, 1, 3)
    assert [(n.id, n.bytes) for n in config.online_nodes] == [
        (0, 2 * G),
        (1, 0),
        (2, 1 * G),
        (3, 3 * G),
    ]
    assert [nid for _, _, nid in config.ram] == [2, 2, 0, 0, 3]
    assert config.spec()["distances"] == [
        [10, 25, 15, 20],
        [25, 10, 20, 20],
        [15, 20, 10, 35],
        [20, 20, 35, 10],
    ]


def test_what_lies_between_two_ranges_of_a_node_counts_as_its_own() -> None:
    config = make(memory="6G", nodes=["memory=1G,cpus=0", "memory=5G"])
    assert config.hotplug_nids == ((0, 1 * G, 0), (1 * G, 8 * G, 1))


def test_mem_takes_a_node_its_memory() -> None:
    config = make(memory="4G", append="mem=1G", nodes=["memory=2G,cpus=0", "memory=2G"])
    assert [n.id for n in config.online_nodes] == [0]


def test_cpus_nobody_claims_are_the_first_nodes() -> None:
    config = make(nodes=["memory=512M,cpus=0-3;8", "memory=512M,cpus=5,cpus=9"])
    assert [n.cpus for n in config.nodes] == [(0, 1, 2, 3, 4, 6, 7, 8), (5, 9)]
    assert make(nodes=["memory=512M", "memory=512M"]).nodes[0].cpus == (0,)


def test_node_ids_may_be_given() -> None:
    config = make(nodes=["memory=256M,nodeid=1", "memory=768M,nodeid=0,cpus=0"])
    assert [n.bytes for n in config.nodes] == [768 * M, 256 * M]


def test_distances() -> None:
    nodes = ["memory=512M,cpus=0", "memory=512M", "memory=0"]
    config = make(nodes=nodes, distances=["0,1,21", "src=2,dst=0,val=30", "0,2,31"])
    assert config.distances == ((10, 21, 31), (21, 10, 20), (30, 20, 10))
    assert make(nodes=nodes[:2]).distances == ((10, 20), (20, 10))


# -------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("1G", "m", G), ("1g", "m", G), ("512", "m", 512 * M), ("512", "b", 512), ("1.5G", "b", 3 * G // 2),
        ("0x40000000", "m", G), ("100b", "m", 100), ("2T", "b", 2 * T), ("64k", "b", 65536),
        ("1P", "b", 1 << 50), ("1e", "b", 1 << 60), (" 1G ", "b", G), ("0.3k", "b", 307),
    ],
)  # fmt: skip
def test_sizes_are_qemus(text: str, unit: str, size: int) -> None:
    assert parse_size(text, "here", unit) == size


@pytest.mark.parametrize(
    "text", ["", "G", "1GB", "1Gi", "-1G", "1 G", "0x10M", "1,5G", "one", "1.G", "٣G"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"here: .* is not a size"):
        parse_size(text, "here")


# ------------------------------------------------------------------------------ kernel command line


@pytest.mark.parametrize(
    ("kernel", "line", "fields"),
    [
        ("6.1", "", {}),
        ("6.1", "mem=512M", {"mem": 512 * M}),
        ("6.1", "mem=0x20000000", {"mem": 512 * M}),
        ("6.1", "mem=2G mem=512M", {"mem": 512 * M}),  # each cuts
        ("6.1", "mem=abc mem= mem mem=0", {}),
        ("6.1", "movable_node", {"movable_node": True}),
        ("6.1", "movable-node", {"movable_node": True}),
        ("6.1", "kernelcore=1G", {"kernelcore": G}),
        ("6.1", "kernelcore=30%", {"kernelcore_percent": 30}),
        ("6.1", "kernelcore=1G kernelcore=30%", {"kernelcore_percent": 30}),
        ("6.1", "movablecore=256m", {"movablecore": 256 * M}),
        ("6.1", "kernelcore=5000", {"kernelcore": 4096}),  # whole pages
        ("6.1", "memhp_default_state=online_movable", {"memhp_default_state": "online_movable"}),
        ("5.4", "memhp_default_state=online_movable", {}),
        ("5.4", "memhp_default_state=online", {"memhp_default_state": "online"}),
        ("6.1", "memhp_default_state=ONLINE", {}),
        ("6.1", "memory_hotplug.memmap_on_memory=y", {"memmap_on_memory": 1}),
        ("6.1", "memory_hotplug.memmap_on_memory", {"memmap_on_memory": 1}),
        ("6.1", "memory_hotplug.memmap_on_memory=true", {"memmap_on_memory": 1}),
        ("5.14", "memory_hotplug.memmap_on_memory=true", {}),
        ("5.14", "memory_hotplug.memmap_on_memory=on", {"memmap_on_memory": 1}),
        ("5.10", "memory_hotplug.memmap_on_memory=y", {}),
        ("6.1", "memory_hotplug.memmap_on_memory=force", {"memmap_on_memory": 0}),  # `f` is false
        ("6.6", "memory_hotplug.memmap_on_memory=force", {"memmap_on_memory": 2}),
        ("6.1", "memory_hotplug.online_policy=auto-movable", {"online_policy": "auto-movable"}),
        ("5.14", "memory_hotplug.online_policy=auto-movable", {}),
        ("6.1", "memory_hotplug.online_policy=auto_movable", {}),
        ("6.1", "memory-hotplug.auto-movable-ratio=0x10", {"auto_movable_ratio": 16}),
        ("6.1", "memory_hotplug.auto_movable_ratio=4294967296", {}),
        ("6.1", "memory_hotplug.auto_movable_ratio=-1", {}),
        ("6.1", "memory_hotplug.auto_movable_numa_aware=0", {"auto_movable_numa_aware": False}),
        ("6.1", 'console=ttyS0 "dyndbg=file a.c +p" mem="512M"', {"mem": 512 * M}),
        ("6.1", "quiet -- mem=512M", {}),
    ],
)
def test_command_line(kernel: str, line: str, fields: dict[str, Any]) -> None:
    found = dataclasses.asdict(make(memory="4G", kernel=kernel, append=line).command_line)
    defaults = dataclasses.asdict(make(memory="4G", kernel=kernel).command_line)
    assert found.pop("text") == line
    found.pop("ignored")
    assert found == {
        k: v for k, v in {**defaults, **fields}.items() if k not in ("text", "ignored")
    }


def test_unknown_words_are_kept() -> None:
    line = make(append="quiet mem=abc movable_node root=/dev/vda").command_line
    assert line.ignored == ("quiet", "mem=abc", "root=/dev/vda")


# -------------------------------------------------------------------------- configuration, workload


def test_config_as_text_and_as_table() -> None:
    as_text = make(config="ARCH_MEMORY_PROBE=n,CONFIG_MEMORY_FAILURE=n, NR_CPUS=64")
    as_table = make(config={"ARCH_MEMORY_PROBE": False, "MEMORY_FAILURE": "n", "NR_CPUS": 64})
    assert as_text == as_table
    assert as_text.config["NR_CPUS"] == 64
    assert as_text.config["ARCH_MEMORY_PROBE"] == as_text.config["MEMORY_FAILURE"] == 0
    assert as_text.config["MODULES"] == 1


def test_config_decides_zones_and_pageblocks() -> None:
    config = make(config="ZONE_DEVICE=n,HUGETLB_PAGE=n")
    assert "Device" not in config.zones
    assert config.pageblock_order == config.max_order


def test_workload_of_text_and_file(tmp_path: Path) -> None:
    file = tmp_path / "load.toml"
    file.write_text('anon = "64M"\nnode1.file = "32M"\naged = 3\nswap = "1G"\n')
    nodes = ["memory=512M,cpus=0", "memory=512M"]
    text = make(nodes=nodes, workload="anon=64M,node1.file=32M,aged=3,swap=1G")
    assert text.workload == (Use("anon", 64 * M), Use("file", 32 * M, 1))
    assert (text.aged, text.swap) == (3, G)
    assert make(nodes=nodes, workload=str(file)) == text


# ------------------------------------------------------------------------------------- machine file


def test_machine_file_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("""
        title = "mine"
        memory = "2G,slots=4,maxmem=8G"
        kernel = "6.12"
        append = "movable_node"
        config = {MODULES = "n", KSM = false}
        node = ["memory=1G,cpus=0", "memory=1G"]
        distance = ["0,1,30"]
        seed = 5
        workload = {anon = "64M", node1 = {file = "32M"}}
        dimms = [{id = "d0", size = "512M", node = 1}, {size = "256M", slot = 3, addr = "0x180000000"}]
    """)
    config = make(machine=file)
    assert (config.title, config.kernel, config.seed) == ("mine", "6.12", 5)
    assert config.command_line.movable_node
    assert config.distances[0][1] == 30
    assert config.dimms == (Dimm("d0", 512 * M, 1), Dimm("dimm1", 256 * M, 0, 3, 6 * G))
    assert config.workload == (Use("anon", 64 * M), Use("file", 32 * M, 1))
    over = make(machine=str(file), kernel="6.1", config="KSM=y", append="quiet")
    assert over.kernel == "6.1"
    # added to the file's, not instead of it
    assert (over.config["MODULES"], over.config["KSM"]) == (0, 1)
    assert not over.command_line.movable_node


def test_workload_path_is_relative_to_the_machine_file(tmp_path: Path) -> None:
    (tmp_path / "load.toml").write_text('anon = "64M"')
    (tmp_path / "mine.toml").write_text('workload = "load.toml"')
    assert make(machine=tmp_path / "mine.toml").workload == (Use("anon", 64 * M),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('memroy = "1G"', r"mine.toml: no key `memroy`; did you mean memory\?"),
        ("kernel = 6.1", r"`kernel` in .*mine.toml: 6.1 is not text; write it in quotes"),
        ("memory = [", r"mine.toml: not a TOML file"),
        ('node = "memory=1G"', r"`node` in .*mine.toml: a list of texts"),
        ('distance = "0,1,2"', r"`distance` in .*mine.toml: a list of texts"),
        ("config = 5", r"`config` in .*mine.toml: 5 is neither text nor a table"),
        ("dimms = 5", r"`dimms` in .*mine.toml: a list of tables"),
        ('dimms = [{id = "d0"}]', r"`dimms` in .*mine.toml, entry 0: the size is missing"),
        ('dimms = [{size = "1G", name = "x"}]', r"entry 0: no key `name`"),
        ('dimms = [{size = "100"}]', r"entry 0: 100b is not a size of a DIMM"),
        ('dimms = [{size = "1G", id = "0d"}]', r"entry 0: '0d' is not an id"),
        (
            'dimms = [{size = "1G", id = "d"}, {size = "1G", id = "d"}]',
            r"entry 1: the id 'd' is there twice",
        ),
        ('dimms = [{size = "1G", node = 1}]', r"entry 0: node: 1 is out of range"),
        ('dimms = [{size = "8G"}]', r"maxmem leaves room for 7G of DIMMs, these are 8G"),
        ('memory = "1G"\ndimms = [{size = "1G"}]', r"1 DIMMs, 0 slots; say slots=1"),
        ('ram_base = "1T"', r"`ram_base` in .*mine.toml: RAM of x86_64 begins at 0; leave it out"),
        ('arch = "aarch64"\nram_base = "100M"', r"100M is not a multiple of 1G"),
    ],
)
def test_wrong_machine_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        make(machine=file)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "1X"}, "--memory 1X: '1X' is not a size"),
        ({"memory": ""}, "is not a size"),
        ({"memory": "0"}, "0 of RAM is not a multiple of 2M"),
        ({"memory": "1025k"}, "--memory 1025k: 1025K of RAM is not a multiple of 2M"),
        ({"memory": "1G,slot=4"}, "no option `slot`; did you mean slots?"),
        ({"memory": "1G,slots=4"}, "slots without maxmem; add maxmem=2G, say"),
        ({"memory": "1G,slots"}, "'slots' is not name=value"),
        ({"memory": "1G,slots=x,maxmem=2G"}, "slots: 'x' is not a number"),
        ({"memory": "1G,slots=257,maxmem=2G"}, "slots: 257 is out of range, 0 to 256 is possible"),
        ({"memory": "1G,slots=2,slots=3,maxmem=2G"}, "`slots` is there twice"),
        ({"memory": "2G,slots=2,maxmem=1G"}, "maxmem is 1G, less than the 2G of RAM"),
        ({"memory": "1G,slots=2,maxmem=8192"}, "less than the 1G of RAM, the unit is missing"),
        ({"memory": "1G,slots=2,maxmem=1G"}, "maxmem leaves no room for the slots"),
        ({"memory": "1G,slots=2,maxmem=2000001k"}, "is not a multiple of 2M"),
        ({"memory": "65T"}, "65T of memory is too much; 64T is possible"),
        ({"memory": "2M"}, "too little memory for the kernel to start"),
        ({"append": "mem=16M"}, "--append mem=16M: too little memory for the kernel to start"),
        ({"append": "kernelcore=mirror"}, "--append: there is no mirrored memory"),
        ({"append": "kernelcore=101%"}, "kernelcore=101% is more than all memory"),
        (
            {"kernel": "5.11"},
            "--kernel 5.11: no profile of this version; the nearest is 5.10, known: 5.0,",
        ),
        ({"kernel": "7.4"}, "the nearest is 7.3"),
        ({"kernel": "4.19"}, "the nearest is 5.0"),
        ({"kernel": "6.1.192"}, "the nearest is 6.1,"),
        ({"kernel": "features"}, "--kernel features: no profile of this version; known: 5.0,"),
        ({"kernel": "../6.1"}, "no profile of this version"),
        ({"arch": "x86"}, "--arch x86: no such architecture; did you mean x86_64?"),
        ({"arch": "vax"}, "--arch vax: no such architecture; known: aarch64,"),
        ({"seed": -1}, "--seed: -1 is out of range"),
        ({"config": "FOO=y"}, "--config: no configuration `FOO`; known: ARCH_MEMORY_PROBE,"),
        ({"config": "ARCH_MEMORY_PROB=y"}, "did you mean ARCH_MEMORY_PROBE?"),
        ({"config": "KSM"}, "'KSM' is not name=value; write KSM=y or KSM=n"),
        ({"config": "KSM=maybe"}, "KSM=maybe: this is y or n"),
        ({"config": "NR_CPUS=0"}, "NR_CPUS: 0 is out of range"),
        ({"config": "KERNEL_USE_AFTER=0"}, "KERNEL_USE_AFTER: 0 is out of range"),
        (
            {"nodes": ["memory=512M"]},
            "--node: the nodes have 512M, the machine has 1G; make them equal",
        ),
        ({"nodes": ["memory=512M", "size=1"]}, "--node size=1: no option `size`"),
        ({"nodes": ["memory=1G,cpus=3-1"]}, "the range 3-1 is empty"),
        ({"nodes": ["memory=1G,cpus=x"]}, "cpus: 'x' is not a number"),
        ({"nodes": ["memory=1G,cpus=8192"]}, "cpus: 8192 is out of range"),
        (
            {"nodes": ["memory=512M,cpus=0", "memory=512M,cpus=0"]},
            "CPU 0 is on node 0 and on node 1",
        ),
        ({"nodes": ["memory=512M,nodeid=1", "memory=512M,nodeid=1"]}, "node 1 is there twice"),
        ({"nodes": ["memory=512M,nodeid=1", "memory=512M,nodeid=2"]}, "node 0 is missing"),
        ({"nodes": ["memory=1G"], "config": "NUMA=n"}, "a kernel without NUMA has no nodes"),
        (
            {"nodes": ["memory=1G"], "distances": ["0,1,20"]},
            "--distance 0,1,20: node: 1 is out of range",
        ),
        ({"distances": ["0,0"]}, "three numbers are wanted"),
        ({"distances": ["0,0,11"]}, "the distance of a node to itself is 10"),
        ({"distances": ["0,0,9"]}, "distance: 9 is out of range, 10 to 255 is possible"),
        ({"workload": "anon"}, "--workload anon: neither kind=size nor a file; kinds: anon, file,"),
        ({"workload": "anom=1M"}, "no such use of memory; did you mean anon?"),
        ({"workload": "anon=1M,file"}, "'file' is not kind=size"),
        ({"workload": "node1.anon=1M"}, "no `node1`; the nodes are node0 to node0"),
        ({"workload": "anon=1M,anon=2M"}, "anon is there twice"),
        (
            {"workload": "anon=2G"},
            "--workload: 2G are more than the 1023 MiB of RAM of the machine",
        ),
        ({"workload": "hugetlb=3M"}, "3M is not a multiple of 2M, the size of a huge page"),
        (
            {"machine": "biscuit"},
            "--machine biscuit: no such preset or file; did you mean biscuitos?",
        ),
        (
            {"machine": "/nowhere/x.toml"},
            "/nowhere/x.toml: cannot be read: No such file or directory",
        ),
        ({"machine": "nowhere.toml"}, "nowhere.toml: cannot be read"),
    ],
)
def test_refusals_say_what_where_and_what_to_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------- data files


def names_in(macro: str) -> dict[str, str]:
    text = (PACKAGE / "engine" / "base" / "kernel_features.h").read_text()
    body = text.split(f"#define {macro}(X)")[1].split("enum ")[0]
    return dict(re.findall(r"^\s+X\((\w+)(?:, (\d+))?\)", body, re.MULTILINE))


def test_configuration_names_are_the_engines() -> None:
    assert {name: str(value) for name, value in CONFIG_DEFAULTS.items()} == names_in(
        "FAKESYSFS_CONFIGS"
    )


def test_every_feature_says_which_kernel_change_it_stands_for() -> None:
    said = tomllib.loads((PACKAGE / "config" / "kernels" / "features.toml").read_text())
    assert said.keys() == names_in("FAKESYSFS_FEATURES").keys()
    assert all(
        re.match(r"(since|until|all|stable|\d\.\d+ (only|to))\b", text) for text in said.values()
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_profile_lists_known_features_once(kernel: str) -> None:
    profile = tomllib.loads((PACKAGE / "config" / "kernels" / f"{kernel}.toml").read_text())
    assert re.fullmatch(rf"{re.escape(kernel)}(\.[0-9]+)?", profile["release"])
    assert len(set(profile["features"])) == len(profile["features"])
    assert set(profile["features"]) <= names_in("FAKESYSFS_FEATURES").keys()


def test_no_two_profiles_are_the_same() -> None:
    assert list_kernels() == KERNELS
    assert len({make(kernel=kernel).features for kernel in KERNELS}) == len(KERNELS)


def test_zones_are_those_of_the_engine() -> None:
    header = Path(fakesysfs.__file__).parent / "engine/base/memory_names.h"
    table = re.search(r"FAKESYSFS_ZONES\(X\)(.*?)\n\n", header.read_text(), re.DOTALL)
    assert table
    assert tuple(re.findall(r'"(\w+)"', table[1])) == ALL_ZONES


def test_spec_has_the_keys_the_engine_reads() -> None:
    """The engine refuses a key it does not know, so one more or less here breaks every machine."""
    assert sorted(make().spec()) == [
        "acpi_slots", "aged", "auto_movable_numa_aware", "auto_movable_ratio", "block_bytes", "blocks", "callgraphs", "cmdline", "config",
        "direct_map_4k_kb", "distances", "features", "firmware_memmap", "first_use", "hotplug_nids", "idle",
        "increment_bytes", "iomem_bits",
        "kernelcore", "kernelcore_percent", "max_order", "max_phys_bits", "mem_limit",
        "memhp_default_state", "memmap_on_memory", "memory", "movable_node", "movablecore",
        "movablecore_percent", "nodes", "not_x86",
        "online_policy", "page_shift", "pageblock_order", "percpu_kb", "possible_nodes", "release", "reserved",
        "resources", "section_shift", "seed", "standby", "struct_page_bytes", "swap", "vmalloc_kb", "workload",
        "zone_limits", "zone_spans", "zones",
    ]  # fmt: skip


@pytest.mark.parametrize("preset", load_presets(), ids=lambda p: p.name)
def test_presets_can_be_made(preset: Any) -> None:
    assert preset.title
    assert preset.summary.endswith(".")
    consistent(make(machine=preset.name))


def test_presets_are_those_of_the_manual() -> None:
    wanted = {
        "biscuitos", "host", "small-vm", "server-64g", "s390x-guest", "ppc64le-lpar", "arm64-64k",
        "apple-guest", "numa4", "64tib",
    }  # fmt: skip
    assert wanted <= {p.name for p in load_presets()}
    assert make(machine="biscuitos") == dataclasses.replace(
        make(), title=make(machine="biscuitos").title
    )
    assert [n.bytes for n in make(machine="numa4").nodes][-1] == 0


def test_options_win_over_a_preset() -> None:
    assert make(machine="host", memory="2G").memory_bytes == 2 * G
    assert make(machine="small-vm", kernel="5.0").kernel == "5.0"


# --------------------------------------------------------------------------------------- as a value


def test_a_machine_is_a_value() -> None:
    config = make(machine="numa4")
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, make(machine="numa4")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.slots = 5  # type: ignore[misc]


def test_import_is_cheap() -> None:
    """What only some machines need is loaded when one of them is made."""
    code = "import sys, fakesysfs.config.machine_config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert not {"psutil", "tomllib", "difflib"} & set(loaded.stdout.split())


def consistent(config: MachineConfig) -> None:
    """What holds for every machine."""
    open_ends: list[int] = []
    last = -1
    for start, end, _, _, depth in config.resources:
        assert start <= end
        del open_ends[depth:]
        assert len(open_ends) == depth
        assert start >= last if depth == 0 else end <= open_ends[-1]
        if depth == 0:
            last = end + 1
        open_ends.append(end)
    assert max(r[1] for r in config.resources) < 1 << config.iomem_bits
    page = (1 << config.page_shift) - 1
    for (start, end, nid), after in zip(
        config.ram, (*config.ram[1:], (1 << 63, 0, 0)), strict=True
    ):
        assert start & page == end & page == 0
        assert start < end <= after[0]
        assert 0 <= nid < len(config.nodes)
        assert any(
            s <= start and end - 1 <= e for s, e, n, _, _ in config.resources if n == "System RAM"
        )
    for start, end, _ in config.reserved:
        assert any(a <= start < end <= b for a, b, _ in config.ram)
    if config.device_memory_base:
        assert config.device_memory_base >= config.ram[-1][1]
        assert config.device_memory_base % config.dimm_alignment == 0
        assert config.device_memory_bytes >= config.device_memory_limit
        device = (config.device_memory_base, config.device_memory_base + config.device_memory_bytes)
        assert not [r for r in config.resources if r[0] < device[1] and r[1] >= device[0]]
    assert len(config.distances) == len(config.nodes) == config.spec()["possible_nodes"]


@given(
    ram=st.integers(64, 1 << 20),  # in units of 2 MiB, up to 2 TiB
    room=st.integers(0, 1 << 20),
    slots=st.integers(0, 256),
    mem=st.none() | st.integers(128, 1 << 22),  # MiB
    parts=st.integers(1, 4),
    seed=st.integers(0, 1 << 64 - 1),
)
def test_any_x86_machine_is_consistent(
    ram: int, room: int, slots: int, mem: int | None, parts: int, seed: int
) -> None:
    slots = slots if room else 0
    share = ram // parts
    nodes = [f"memory={share * 2}" for _ in range(parts - 1)] + [
        f"memory={(ram - share * (parts - 1)) * 2}"
    ]
    config = make(
        memory=f"{ram * 2}M,slots={slots},maxmem={(ram + room) * 2}M",
        nodes=nodes,
        append="" if mem is None else f"mem={mem}M",
        seed=seed,
    )
    consistent(config)
    if mem is None:
        # all RAM but the first page, what lies below 1 MiB and is not RAM, and the ACPI tables
        assert (
            sum(end - start for start, end, _ in config.ram)
            == ram * 2 * M - 0x20000 - 0x61000 - 0x1000
        )
    else:
        assert config.ram[-1][1] <= mem * M
