"""What a machine is made of: options and machine files in, one frozen `MachineConfig` out.

Owns: what is in a machine, and in which order it is made of options. Does not own: the list of
options and where a value comes from (option_sources.py), what each may be (memory_and_nodes.py,
kernel_config.py, workload.py), the kernel command line (kernel_command_line.py), where things are
in the address space (address_map.py), what memory does once the machine runs (the engine), DIMMs
plugged later (qemu/).

    --memory 1G,slots=32,maxmem=8G --kernel 6.1 ...            MachineConfig.from_options(...)
                         |                                                 |
              machine file or preset  ->  options  ->  address map  ->  MachineConfig  -- spec() -->  engine

All sizes and addresses are bytes; a range is (start, end) with `end` exclusive, except in resources
and the firmware's table, which are inclusive as Linux prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .address_map import Board, NodeRange, Resource, linux_node_ids, make_address_map
from .block_list import BlockList, ZoneSpan
from .kernel_command_line import CommandLine, parse_command_line
from .kernel_config import parse_kernel_config
from .limits import AGED_LIMIT
from .measured import measured_numbers
from .memory_and_nodes import Dimm, Node, parse_dimms, parse_distances, parse_memory, parse_nodes
from .option_sources import OptionSources
from .option_text import parse_integer
from .profiles import load_arch, load_callgraphs, load_kernel
from .sizes import parse_size, show_size
from .workload import Use, check_workload, parse_workload
from .zone_names import ALL_ZONES, LIMITED_ZONES

__all__ = ["DEFAULT_KERNEL", "MachineConfig"]

DEFAULT_MEMORY: Final = "1G,slots=32,maxmem=8G"
DEFAULT_KERNEL: Final = "6.1"
DEFAULT_ARCH: Final = "x86_64"
DEFAULT_SEED: Final = 1


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine, complete and consistent. Made by `from_options`; nothing in it can change.

    :param kernel: name of the kernel profile, for instance "6.1".
    :param release: what the simulated kernel calls itself.
    :param arch: name of the architecture, one of `list_arches()`.
    :param seed: decides every choice a real machine leaves to chance.
    :param memory_bytes: RAM at boot, before `mem=`.
    :param slots: DIMM slots.
    :param maxmem_bytes: RAM and DIMMs together can be this much.
    :param nodes: NUMA nodes of the board, at least one.
    :param node_ids: what Linux calls each of them; -1 for one it does not know of, always 0 with
        numa=off.
    :param device_nids: what Linux calls the node of a memory device of each; -1 where the board
        does not tell it.
    :param distances: square matrix over `nodes`.
    :param device_memory_base: physical address where DIMM space begins; 0 if there is none.
    :param device_memory_bytes: address space for DIMMs, more than their bytes so that each can be
        aligned.
    :param device_memory_limit: bytes of DIMMs that may be plugged: maxmem less RAM.
    :param dimm_alignment: addresses of DIMMs are multiples of this.
    :param dimms: DIMMs plugged at boot.
    :param standby: memory known at boot that no DIMM holds and nobody uses yet (s390x): start, end,
        node.
    :param faults: fault rules, as `Machine.fault_rule_add` takes them; the machine says what is
        wrong with one.
    :param features: names of what the kernel does, see engine/base/kernel_features.h.
    :param config: kernel configuration, every name of `CONFIG_DEFAULTS`.
    :param cpu_hotplug: the board has ACPI slots for CPUs.
    :param is_x86: the kernel has what only x86 has: e820, huge pages of 1 GiB in the direct map.
    :param qemu: what QEMU's machine type has: table `qemu` of the architecture.
    :param block_bytes: size of a memory block.
    :param resources: /proc/iomem at boot in pre-order: start, inclusive end, name, flags (1 busy, 2
        System RAM), depth.
    :param ram: RAM the kernel uses, `mem=` applied, split at node boundaries: start, end, node as
        Linux calls it.
    :param reserved: memory the kernel keeps for itself from boot on: start, end, what.
    :param firmware_memmap: the firmware's table: start, inclusive end, type.
    :param increment_bytes: what `phys_device` counts: storage increments of s390x; 0 elsewhere.
    :param mem_is_address: `mem=` is the address where RAM ends, not how much is left.
    :param hotplug_nids: which node memory added by address alone belongs to; the first entry is the
        fallback.
    :param blocks: the blocks one by one, when the machine file lists them; None when they follow
        from the rest.
    :param zone_spans: what zones of such a machine span beyond their blocks: start, end, node,
        zone.
    """

    memory: str
    kernel: str
    release: str
    arch: str
    seed: int
    title: str
    memory_bytes: int
    slots: int
    maxmem_bytes: int
    command_line: CommandLine
    nodes: tuple[Node, ...]
    node_ids: tuple[int, ...]
    device_nids: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...]
    device_memory_base: int
    device_memory_bytes: int
    device_memory_limit: int
    dimm_alignment: int
    dimms: tuple[Dimm, ...]
    standby: tuple[NodeRange, ...]
    workload: tuple[Use, ...]
    aged: int
    swap: int
    faults: tuple[str, ...]
    features: tuple[str, ...]
    config: Mapping[str, int] = field(hash=False)
    page_shift: int
    section_shift: int
    block_bytes: int
    max_order: int
    pageblock_order: int
    struct_page_bytes: int
    zones: tuple[str, ...]
    zone_limits: Mapping[str, int] = field(hash=False)
    cpu_hotplug: bool
    qemu: Mapping[str, Any] = field(hash=False)
    is_x86: bool
    max_phys_bits: int
    iomem_bits: int
    increment_bytes: int
    mem_is_address: bool
    resources: tuple[Resource, ...]
    ram: tuple[NodeRange, ...]
    reserved: tuple[tuple[int, int, str], ...]
    firmware_memmap: tuple[tuple[int, int, str], ...]
    hotplug_nids: tuple[NodeRange, ...]
    blocks: BlockList | None
    zone_spans: tuple[ZoneSpan, ...]

    @classmethod
    def from_options(
        cls,
        memory: str | None = None,
        kernel: str | None = None,
        append: str | None = None,
        config: str | Mapping[str, object] | None = None,
        nodes: Sequence[str] = (),
        distances: Sequence[str] = (),
        arch: str | None = None,
        seed: int | None = None,
        workload: str | Mapping[str, object] | None = None,
        machine: str | Path | None = None,
        aged: int | None = None,
        faults: Sequence[str] = (),
    ) -> MachineConfig:
        """The machine that these options describe. What is left out is the machine file's, else the
        default.

        :param memory: as QEMU's `-m`; "1G,slots=32,maxmem=8G" by default. A plain number is MiB.
        :param kernel: kernel profile, "6.1" by default; see `list_kernels()`.
        :param append: kernel command line.
        :param config: kernel configuration, "NAME=y,NAME=n" or a mapping; added to the machine
            file's.
        :param nodes: NUMA nodes, each "memory=512M,cpus=0-3;8[,nodeid=N]".
        :param distances: "src,dst,value" each.
        :param arch: architecture, "x86_64" by default; see `list_arches()`.
        :param seed: any integer; 1 by default.
        :param workload: what uses the memory: "anon=64M,node1.file=32M", or the path of a TOML file
            of these.
        :param machine: name of a preset, or path of a machine file.
        :param aged: fragment memory first, by this many rounds of allocating and freeing.
        :param faults: fault rules, "write memory40/state EAGAIN x3" each; added to the machine
            file's.
        :raises ConfigError: one line that says what cannot be, where it stands, and what to do.
        """
        given: dict[str, object] = {
            "memory": memory,
            "kernel": kernel,
            "append": append or None,
            "config": config or None,
            "node": list(nodes) or None,
            "distance": list(distances) or None,
            "arch": arch,
            "seed": seed,
            "workload": workload or None,
            "fault": list(faults) or None,
        }
        options = OptionSources(machine, {k: v for k, v in given.items() if v is not None})
        made = _build(options)
        return (
            made
            if aged is None
            else replace(made, aged=parse_integer(str(aged), "--aged", 0, AGED_LIMIT))
        )

    def spec(self) -> dict[str, Any]:
        """This machine as the engine takes it."""
        line = self.command_line
        known = sorted(
            {nid: number for number, nid in enumerate(self.node_ids) if nid >= 0}.items()
        )
        return {
            "release": self.release,
            "cmdline": self.append,
            "callgraphs": load_callgraphs(self.kernel),
            "seed": self.seed,
            "features": list(self.features),
            "config": dict(self.config),
            "page_shift": self.page_shift,
            "section_shift": self.section_shift,
            "block_bytes": self.block_bytes,
            "max_order": self.max_order,
            "pageblock_order": self.pageblock_order,
            "struct_page_bytes": self.struct_page_bytes,
            "zones": list(self.zones),
            "zone_limits": dict(self.zone_limits),
            "max_phys_bits": self.max_phys_bits,
            "iomem_bits": self.iomem_bits,
            "resources": list(self.resources),
            "memory": list(self.ram),
            "reserved": list(self.reserved),
            "firmware_memmap": list(self.firmware_memmap),
            "nodes": [(n.id, list(n.cpus)) for n in self.online_nodes],
            "possible_nodes": len(known),
            "distances": [[self.distances[a][b] for _, b in known] for _, a in known],
            "hotplug_nids": list(self.hotplug_nids),
            "standby": list(self.standby),
            "increment_bytes": self.increment_bytes,
            "acpi_slots": self.slots if self.has_acpi else 0,
            "not_x86": int(not self.is_x86),
            "blocks": list(self.blocks.rows()) if self.blocks else [],
            "zone_spans": list(self.zone_spans),
            "mem_limit": self.mem_limit,
            "movable_node": int(line.movable_node),
            "kernelcore": line.kernelcore,
            "kernelcore_percent": line.kernelcore_percent,
            "movablecore": line.movablecore,
            "movablecore_percent": line.movablecore_percent,
            "memhp_default_state": line.memhp_default_state,
            "online_policy": line.online_policy,
            "auto_movable_ratio": line.auto_movable_ratio,
            "auto_movable_numa_aware": int(line.auto_movable_numa_aware),
            "memmap_on_memory": line.memmap_on_memory,
            "workload": [(u.kind, u.bytes, u.nid) for u in self.workload],
            "aged": self.aged,
            "swap": self.swap,
        } | measured_numbers()

    @property
    def online_nodes(self) -> tuple[Node, ...]:
        """The nodes Linux brings up at boot, as it numbers them: those with RAM left by `mem=` or
        listed as blocks, or with CPUs."""
        with_ram = {nid for _, _, nid in self.ram}
        if self.blocks:
            with_ram |= self.blocks.node_bytes().keys()
        parts: dict[int, list[Node]] = {}
        for nid, node in zip(self.node_ids, self.nodes, strict=True):
            parts.setdefault(nid, []).append(node)
        whole = (
            Node(nid, sum(n.bytes for n in of), tuple(sorted(cpu for n in of for cpu in n.cpus)))
            for nid, of in sorted(parts.items())
        )
        return tuple(node for node in whole if node.id in with_ram or node.cpus)

    @property
    def has_acpi(self) -> bool:
        """Whether firmware describes the machine, DIMM slots among it, by ACPI."""
        return bool(self.qemu["acpi"])

    @property
    def mem_limit(self) -> int:
        """The end of memory that `mem=` gave; 0 without one, and where `mem=` is an amount instead."""
        return self.command_line.mem if self.mem_is_address else 0

    @property
    def append(self) -> str:
        """The kernel command line as given."""
        return self.command_line.text


def _build(options: OptionSources) -> MachineConfig:
    kernel = options.text("kernel", DEFAULT_KERNEL)
    profile = load_kernel(kernel, options.place("kernel"))
    features = frozenset(profile["features"])
    arch_name = options.text("arch", DEFAULT_ARCH)
    arch = load_arch(arch_name, options.place("arch"), features)
    config = parse_kernel_config(options, arch)
    seed = parse_integer(
        options.text("seed", str(DEFAULT_SEED)), options.place("seed"), 0, (1 << 64) - 1
    )

    blocks = options.block_list(arch, arch_name)
    default_memory = (
        show_size(blocks.bytes) if blocks else arch.get("default_memory", DEFAULT_MEMORY)
    )
    memory_text = options.text("memory", default_memory)
    memory = parse_memory(memory_text, options.place("memory"), arch["ram_unit"], blocks)
    if memory.slots and arch.get("flat", {}).get("standby"):
        raise ConfigError(
            f"{options.place('memory')} {memory_text}: {arch_name} has no DIMM slots but memory on"
            " standby; leave out slots="
        )
    line = parse_command_line(
        options.text("append", ""), options.place("append"), features, arch["page_shift"]
    )
    cores = (
        line.kernelcore or line.kernelcore_percent or line.movablecore or line.movablecore_percent
    )
    if blocks and (line.mem or cores):
        raise ConfigError(
            f"{options.place('append')} {line.text}: {blocks.place} says what is RAM and in which"
            " zone; leave out mem=, kernelcore=, movablecore="
        )
    nodes = parse_nodes(
        options, memory, arch["ram_unit"], config["NR_CPUS"], bool(config["NUMA"]), blocks
    )
    node_ids = tuple(range(len(nodes)))
    if line.numa_off and not blocks:
        node_ids = (0,) * len(nodes)
    elif not blocks:
        node_ids = linux_node_ids(
            arch, [(node.bytes, node.cpus) for node in nodes], memory.maxmem > memory.ram
        )
    told = arch.get("device_nids") != "nodes" or (
        options.get("node") is not None and not line.numa_off
    )
    distances = parse_distances(options, nodes)
    workload, aged, swap = parse_workload(options, nodes)
    dimms = parse_dimms(options, memory, nodes)

    for key in ("ram_base", "like_host"):
        if blocks and options.get(key) is not None:
            raise ConfigError(
                f"{options.place(key)}: {blocks.place} says where RAM is; leave it out"
            )
    base_text = options.get("ram_base")
    ram_base = None if base_text is None else parse_size(str(base_text), options.place("ram_base"))
    if ram_base is not None and "flat" not in arch:
        raise ConfigError(
            f"{options.place('ram_base')}: RAM of {arch_name} begins at 0; leave it out"
        )
    if ram_base is not None and ram_base % (
        unit := max(arch["block_bytes"], arch["flat"]["device_align"])
    ):
        raise ConfigError(
            f"{options.place('ram_base')}: {show_size(ram_base)} is not a multiple of {show_size(unit)}"
        )
    layout = make_address_map(
        arch,
        Board(memory.ram, memory.maxmem, memory.slots, ram_base),
        [(nid, node.bytes) for nid, node in zip(node_ids, nodes, strict=True)],
        features,
        mem=line.mem,
        seed=None if line.nokaslr else seed,
        hypervisor=bool(config["HYPERVISOR"]),
        where=f"--append {line.text}" if line.mem else f"{options.place('memory')} {memory_text}",
        given=blocks.given() if blocks else None,
    )
    ends: Mapping[str, int] = blocks.zone_ends() if blocks else {}
    zones = [zone for zone in ALL_ZONES if zone in arch["zones"] or zone in ends]
    zone_limits = {zone: ends[zone] for zone in LIMITED_ZONES if zone in ends} | dict(
        layout.zone_limits
    )
    check_workload(options, workload, layout.ram)
    return MachineConfig(
        memory=memory_text,
        kernel=kernel,
        release=profile["release"],
        arch=arch_name,
        seed=seed,
        title=options.text("title", ""),
        memory_bytes=memory.ram,
        slots=memory.slots,
        maxmem_bytes=memory.maxmem,
        command_line=line,
        nodes=nodes,
        node_ids=node_ids,
        device_nids=node_ids if told else (-1,) * len(nodes),
        distances=distances,
        device_memory_base=layout.device_base,
        device_memory_bytes=layout.device_bytes,
        device_memory_limit=memory.maxmem - memory.ram if layout.device_base else 0,
        dimm_alignment=arch["dimm_alignment"],
        dimms=dimms,
        standby=layout.standby,
        workload=workload,
        aged=aged,
        swap=swap,
        faults=_parse_faults(options),
        features=tuple(profile["features"]),
        config=config,
        page_shift=arch["page_shift"],
        section_shift=arch["section_shift"],
        block_bytes=layout.block_bytes,
        max_order=arch["max_order"],
        pageblock_order=arch["pageblock_order"] if config["HUGETLB_PAGE"] else arch["max_order"],
        struct_page_bytes=arch["struct_page_bytes"],
        zones=tuple(z for z in zones if z != "Device" or config["ZONE_DEVICE"]),
        zone_limits=zone_limits,
        cpu_hotplug=arch.get("cpu_hotplug", False),
        qemu=arch["qemu"],
        is_x86=arch.get("x86", False),
        max_phys_bits=arch["max_phys_bits"],
        iomem_bits=layout.iomem_bits,
        increment_bytes=layout.increment_bytes,
        mem_is_address=arch["layout"] == "q35",
        resources=layout.resources,
        ram=layout.ram,
        reserved=layout.reserved,
        firmware_memmap=layout.firmware_memmap,
        hotplug_nids=layout.hotplug_nids,
        blocks=blocks,
        zone_spans=tuple(blocks.spans(layout.zone_limits, line.movable_node)) if blocks else (),
    )


def _parse_faults(options: OptionSources) -> tuple[str, ...]:
    """The rules of the file, then those of the options. What a rule may say, the engine knows."""
    out: list[str] = []
    for place, value in options.both("fault"):
        if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
            raise ConfigError(
                f'{place}: a list of texts like "write memory40/state EAGAIN x3" is wanted'
            )
        out += value
    return tuple(out)
