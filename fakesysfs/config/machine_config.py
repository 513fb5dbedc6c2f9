"""What a machine is made of: options and machine files in, one frozen `MachineConfig` out.

Owns: the machine options - what each may be, where a value comes from, what is wrong with it - and
the data files: `kernels/` (what each Linux version does), `arches/` (page and section sizes, zones,
addresses), `presets/` (machines that have a name). Does not own: the kernel command line
(kernel_command_line.py), where things are in the address space (address_map.py), what memory does
once the machine runs (the engine), DIMMs plugged later (board.py).

    --memory 1G,slots=32,maxmem=8G --kernel 6.1 ...            MachineConfig.from_options(...)
                         |                                                 |
              machine file or preset  ->  options  ->  address map  ->  MachineConfig  -- spec() -->  engine

All sizes and addresses are bytes; a range is (start, end) with `end` exclusive, except in resources
and the firmware's table, which are inclusive as Linux prints them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError
from .address_map import GIB, Board, NodeRange, Resource, linux_node_ids, make_address_map, round_up
from .block_list import FILE_KEYS as _BLOCK_KEYS
from .block_list import BlockList, ZoneSpan, read_block_list
from .kernel_command_line import CommandLine, parse_command_line
from .profiles import list_arches, list_kernels, load_arch, load_kernel, names_in, suggest
from .toml_file import read_toml

__all__ = [
    "CONFIG_DEFAULTS",
    "CommandLine",
    "Dimm",
    "MachineConfig",
    "Node",
    "Preset",
    "Use",
    "list_arches",
    "list_kernels",
    "load_presets",
    "parse_size",
]

DEFAULT_MEMORY: Final = "1G,slots=32,maxmem=8G"
DEFAULT_KERNEL: Final = "6.1"
DEFAULT_ARCH: Final = "x86_64"
DEFAULT_SEED: Final = 1

#: More than this is refused: the largest machine anyone has, and what the tests cover.
MEMORY_LIMIT: Final = 64 << 40
#: ACPI_MAX_RAM_SLOTS of QEMU.
SLOTS_LIMIT: Final = 256
#: As many as the engine has room for.
NODES_LIMIT: Final = 64
# Rounds a machine may have lived through.
MAX_AGED: Final = 1_000_000

# : Kernel configuration where it matters, with the default: 0 and 1 are n and y. The engine has the
# same list.
CONFIG_DEFAULTS: Final[Mapping[str, int]] = MappingProxyType({
    "ARCH_MEMORY_PROBE": 1,
    "MEMORY_FAILURE": 1,
    "MEMORY_NOTIFIER_ERROR_INJECT": 1,
    "MEMORY_HOTPLUG_DEFAULT_ONLINE": 0,
    "MEMORY_HOTREMOVE": 1,
    "FIRMWARE_MEMMAP": 1,
    "MODULES": 1,
    "X86_SGX": 1,
    "CRASH_HOTPLUG": 0,
    "COMPACTION": 1,
    "NUMA": 1,
    "ZONE_DEVICE": 1,
    "HUGETLB_PAGE": 1,
    "TRANSPARENT_HUGEPAGE": 1,
    "CMA": 0,
    "ZSWAP": 0,
    "ZSMALLOC": 1,
    "NUMA_BALANCING": 1,
    "MEMORY_BALLOON": 1,
    "KSM": 1,
    "UNACCEPTED_MEMORY": 0,
    "IOMMU_SUPPORT": 1,
    "HYPERVISOR": 1,
    "STEP_DELAY_US": 0,
    "NR_CPUS": 8192,
})  # fmt: skip

#: Those that are numbers, with least and greatest value.
_CONFIG_NUMBERS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({
    "STEP_DELAY_US": (0, 10_000_000),
    "NR_CPUS": (1, 8192),
})  # fmt: skip

#: Kinds of use a workload can name, with what each stands for.
WORKLOAD_KINDS: Final[Mapping[str, str]] = MappingProxyType({
    "anon": "anonymous pages of processes, movable",
    "file": "page cache, movable",
    "shmem": "shared memory and tmpfs, movable",
    "slab": "kernel objects, unmovable",
    "slab_reclaimable": "dentries and inodes",
    "pagetables": "page tables, unmovable",
    "kernel": "other kernel pages, unmovable",
    "hugetlb": "huge pages of 2 MiB, movable",
    "pinned": "user pages some device holds on to: they look movable and never move",
    "offline": "pages a balloon has taken out, PageOffline",
})  # fmt: skip

# Keys of a machine file, in the order an error message lists them
_FILE_KEYS: Final = (
    "title", "summary", "memory", "kernel", "append", "config", "node", "distance", "arch", "seed",
    "workload", "fault", "dimms", "ram_base", "like_host", *_BLOCK_KEYS,
)  # fmt: skip

# As the kernel orders them
#: Architectures whose DIMM slots are described by ACPI
_ACPI_ARCHES: Final = ("x86_64", "aarch64")
_ALL_ZONES: Final = ("DMA", "DMA32", "Normal", "Movable", "Device")

_HERE: Final = Path(__file__).parent


# ------------------------------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node.

    :param id: its number.
    :param bytes: RAM it has at boot; a node may have none.
    :param cpus: its CPUs, ascending.
    """

    id: int
    bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dimm:
    """A DIMM that is plugged when the machine starts.

    :param id: name of the device, as in `device_del d0`.
    :param bytes: its size.
    :param node: NUMA node.
    :param slot: slot number, or None for the first free one.
    :param addr: physical address, or None for the first that fits.
    """

    id: str
    bytes: int
    node: int = 0
    slot: int | None = None
    addr: int | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Memory somebody uses from the start.

    :param kind: one of `WORKLOAD_KINDS`.
    :param bytes: how much.
    :param nid: on which node; -1 for wherever the allocator puts it.
    """

    kind: str
    bytes: int
    nid: int = -1


@dataclass(frozen=True, slots=True)
class Preset:
    """A machine that has a name.

    :param name: what `--machine` takes.
    :param title: what it is, a few words.
    :param summary: why one would want it, a sentence.
    """

    name: str
    title: str
    summary: str


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
    :param features: names of what the kernel does, see engine/features.h.
    :param config: kernel configuration, every name of `CONFIG_DEFAULTS`.
    :param cpu_hotplug: the board has ACPI slots for CPUs.
    :param block_bytes: size of a memory block.
    :param resources: /proc/iomem at boot in pre-order: start, inclusive end, name, flags (1 busy, 2
        System RAM), depth.
    :param ram: RAM the kernel uses, `mem=` applied, split at node boundaries: start, end, node as
        Linux calls it.
    :param reserved: memory the kernel keeps for itself from boot on: start, end, what.
    :param firmware_memmap: the firmware's table: start, inclusive end, type.
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
    max_phys_bits: int
    iomem_bits: int
    has_phys_device: bool
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
        :param workload: who uses the memory: "anon=64M,node1.file=32M", or the path of a TOML file
            of these.
        :param machine: name of a preset, or path of a machine file.
        :param aged: rounds of allocation and freeing that the machine has lived through, for free
            memory in crumbs.
        :param faults: fault rules, "write memory40/state EAGAIN x3" each; added to the machine
            file's.
        :raises ConfigError: one line that says what cannot be, where it stands, and what to do.
        """
        given: dict[str, object] = {
            "memory": memory, "kernel": kernel, "append": append or None, "config": config or None,
            "node": list(nodes) or None, "distance": list(distances) or None, "arch": arch, "seed": seed,
            "workload": workload or None, "fault": list(faults) or None,
        }  # fmt: skip
        options = _Options(machine, {k: v for k, v in given.items() if v is not None})
        made = _build(options)
        return (
            made if aged is None else replace(made, aged=_integer(str(aged), "--aged", 0, MAX_AGED))
        )

    def spec(self) -> dict[str, Any]:
        """This machine as the engine takes it."""
        line = self.command_line
        known = sorted(
            {nid: number for number, nid in enumerate(self.node_ids) if nid >= 0}.items()
        )
        return {
            "release": self.release,
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
            "has_phys_device": int(self.has_phys_device),
            "acpi_slots": self.slots if self.arch in _ACPI_ARCHES else 0,
            "not_x86": int(self.arch != "x86_64"),
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
        }

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
    def mem_limit(self) -> int:
        """The end of memory that `mem=` gave; 0 without one, and where `mem=` is an amount instead."""
        return self.command_line.mem if self.mem_is_address else 0

    @property
    def append(self) -> str:
        """The kernel command line as given."""
        return self.command_line.text


# -------------------------------------------------------------------------- where options come from


class _Options:
    """The options of one machine, each with the words an error message calls its place by."""

    def __init__(self, machine: str | Path | None, given: Mapping[str, object]) -> None:
        self._given = given
        self._file: Mapping[str, object] = {}
        self._file_name = ""
        self._folder = Path()
        if machine is not None and str(machine):
            path = _find_machine(str(machine))
            self._file_name = path.name if path.parent == _HERE / "presets" else str(path)
            self._folder = path.parent
            self._file = read_toml(path)
            for key in self._file:
                if key not in _FILE_KEYS:
                    raise ConfigError(
                        f"{self._file_name}: no key `{key}`{suggest(key, _FILE_KEYS)}"
                    )
            if self._file.get("like_host"):
                self._file = {**self._file, **_host_options()}

    def place(self, key: str) -> str:
        """How to call the place the value of `key` comes from."""
        if key in self._given or key not in self._file:
            return f"--{key}"
        return f"`{key}` in {self._file_name}"

    def get(self, key: str) -> object:
        """The value of `key`, None when nobody gave one."""
        return self._given.get(key, self._file.get(key))

    def path(self, key: str, name: str) -> Path:
        """The path `name` that `key` holds: relative to the machine file when that is where it
        stands.
        """
        return Path(name) if key in self._given else self._folder / name

    def block_list(self, arch: Mapping[str, Any], arch_name: str) -> BlockList | None:
        """The blocks that the machine file lists; None when it lists none."""
        if "block" in self._file:
            return read_block_list(self._file, self._file_name, arch, arch_name, MEMORY_LIMIT)
        for key in _BLOCK_KEYS:
            if key in self._file:
                raise ConfigError(
                    f"`{key}` in {self._file_name}: it is about blocks; list them as `block`"
                )
        return None

    def both(self, key: str) -> list[tuple[str, object]]:
        """(place, value) of `key` in the file and among the given options: what is merged, not
        replaced.
        """
        out: list[tuple[str, object]] = []
        if key in self._file:
            out.append((f"`{key}` in {self._file_name}", self._file[key]))
        if key in self._given:
            out.append((f"--{key}", self._given[key]))
        return out

    def text(self, key: str, default: str) -> str:
        """The value of `key` as text; a TOML integer will do, a float will not (6.10 would be 6.1)."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise ConfigError(f"{self.place(key)}: {value!r} is not text; write it in quotes")


def _find_machine(name: str) -> Path:
    if "/" not in name and not name.endswith(".toml"):
        preset = _HERE / "presets" / f"{name}.toml"
        if os.path.isfile(preset):  # Path.is_file() fails on a name that is too long
            return preset
        if not os.path.exists(name):
            raise ConfigError(
                f"--machine {name}: no such preset or file{suggest(name, names_in('presets'))}"
            )
    return Path(name)


def _host_options() -> dict[str, object]:
    """Memory and CPUs of the computer this runs on, as options."""
    import psutil

    # the kernel's own share is missing in MemTotal: the next GiB is what the mainboard has
    total = min(round_up(psutil.virtual_memory().total, GIB), MEMORY_LIMIT // 2)
    cpus = min(psutil.cpu_count() or 1, CONFIG_DEFAULTS["NR_CPUS"])
    return {
        "memory": f"{total >> 30}G,slots=32,maxmem={2 * total >> 30}G",
        "node": [f"cpus=0-{cpus - 1}"],
    }


def load_presets() -> list[Preset]:
    """The machines that have a name, by name."""
    out = []
    for name in names_in("presets"):
        data = read_toml(_HERE / "presets" / f"{name}.toml")
        out.append(Preset(name, str(data["title"]), str(data["summary"])))
    return out


# ---------------------------------------------------------------------------------- text to numbers

_SUFFIXES: Final = "bkmgtpe"
_SIZE: Final = re.compile(
    r"(?:(0x[0-9a-f]{1,30})|([0-9]{1,30})(\.[0-9]{1,30})?)([bkmgtpe]?)", re.ASCII | re.IGNORECASE
)


def parse_size(text: str, where: str, unit: str = "b") -> int:
    """Bytes of a size as QEMU writes it: "512M", "1.5G", "0x40000000", suffixes bkMGTPE in any
    case.

    :param where: place of the text, for the error message.
    :param unit: suffix a plain number is understood to have.
    :raises ConfigError: when it is none.
    """
    m = _SIZE.fullmatch(text.strip())
    if m is None or (m[1] and m[4]):
        raise ConfigError(
            f"{where}: {text!r} is not a size; write a number and b k M G T P or E, like 512M"
        )
    if m[1]:
        return int(m[1], 16)
    shift = 10 * _SUFFIXES.index((m[4] or unit).lower())
    size = int(m[2]) << shift
    if m[3]:
        size += (int(m[3][1:]) << shift) // 10 ** (len(m[3]) - 1)
    return size


def _show(size: int) -> str:
    """A size the shortest way that is exact, for messages: 1G, 1536M, 100b."""
    if size == 0:
        return "0"
    shift = next(s for s in (60, 50, 40, 30, 20, 10, 0) if size % (1 << s) == 0)
    return f"{size >> shift}{_SUFFIXES[shift // 10].upper() if shift else 'b'}"


def _integer(text: str, where: str, least: int, most: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not a number") from None
    if not least <= value <= most:
        raise ConfigError(f"{where}: {value} is out of range, {least} to {most} is possible")
    return value


def _pairs(text: str, where: str, known: Sequence[str], first: str = "") -> list[tuple[str, str]]:
    """Pairs of "a=1,b=2". The first item may lack its name when `first` says what it is."""
    out = []
    for i, item in enumerate(text.split(",")):
        name, equals, value = item.strip().partition("=")
        if not equals and first and i == 0:
            name, value = first, name
        elif not equals:
            raise ConfigError(f"{where}: {item.strip()!r} is not name=value")
        name = name.strip()
        if name not in known:
            raise ConfigError(f"{where}: no option `{name}`{suggest(name, known)}")
        out.append((name, value.strip()))
    return out


def _once(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for name, value in pairs:
        if name in out:
            raise ConfigError(f"{where}: `{name}` is there twice")
        out[name] = value
    return out


def _number_list(text: str, where: str, most: int) -> set[int]:
    """Numbers of "0-3;5"."""
    out: set[int] = set()
    for part in text.split(";"):
        first, dash, last = part.strip().partition("-")
        a = _integer(first, where, 0, most)
        b = _integer(last, where, 0, most) if dash else a
        if b < a:
            raise ConfigError(
                f"{where}: the range {part.strip()} is empty; write the smaller number first"
            )
        out.update(range(a, b + 1))
    return out


# ------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True, slots=True)
class _Memory:
    ram: int
    slots: int
    maxmem: int


def _parse_memory(text: str, where: str, unit: int, blocks: BlockList | None) -> _Memory:
    """QEMU's -m, with its checks in its order. Of blocks that are listed the size is known."""
    where = f"{where} {text}"
    parts = _once(_pairs(text, where, ("size", "slots", "maxmem"), "size"), where)
    ram = (
        parse_size(parts["size"], where, "m")
        if "size" in parts
        else blocks.bytes
        if blocks
        else GIB
    )
    if blocks and ram != blocks.bytes:
        raise ConfigError(
            f"{where}: {blocks.place} has {_show(blocks.bytes)}; leave out the size, or say that"
        )
    unit = min(unit, blocks.block_bytes) if blocks else unit
    if ram == 0 or ram % unit:
        raise ConfigError(f"{where}: {_show(ram)} of RAM is not a multiple of {_show(unit)}")
    slots = _integer(parts["slots"], f"{where}: slots", 0, SLOTS_LIMIT) if "slots" in parts else 0
    if "maxmem" not in parts:
        if slots:
            raise ConfigError(f"{where}: slots without maxmem; add maxmem={_show(2 * ram)}, say")
        maxmem = ram
    else:
        maxmem = parse_size(parts["maxmem"], f"{where}: maxmem")
        if maxmem < ram:
            hint = ", the unit is missing" if parts["maxmem"].isdigit() else ""
            raise ConfigError(
                f"{where}: maxmem is {_show(maxmem)}, less than the {_show(ram)} of RAM{hint}"
            )
        if maxmem % unit:
            raise ConfigError(f"{where}: maxmem {_show(maxmem)} is not a multiple of {_show(unit)}")
        if slots and maxmem == ram:
            raise ConfigError(f"{where}: maxmem leaves no room for the slots; make it larger")
    if maxmem > MEMORY_LIMIT:
        raise ConfigError(
            f"{where}: {_show(maxmem)} of memory is too much; {_show(MEMORY_LIMIT)} is possible"
        )
    return _Memory(ram, slots, maxmem)


# ------------------------------------------------------------------------------------ configuration


def _parse_config(options: _Options, defaults: Mapping[str, object]) -> dict[str, int]:
    """Kernel configuration: the table, then what the architecture has otherwise, then file and
    option.
    """
    out = dict(CONFIG_DEFAULTS)
    out.update((k, int(str(v))) for k, v in defaults.items())
    for where, value in options.both("config"):
        items: Iterable[tuple[str, object]]
        if isinstance(value, Mapping):
            items = value.items()
        elif isinstance(value, str):
            split = [item.partition("=") for item in value.replace(",", " ").split()]
            for name, equals, _ in split:
                if not equals:
                    raise ConfigError(
                        f"{where}: {name!r} is not name=value; write {name}=y or {name}=n"
                    )
            items = [(name, text) for name, _, text in split]
        else:
            raise ConfigError(f"{where}: {value!r} is neither text nor a table")
        for item, setting in items:
            key = item.removeprefix("CONFIG_")
            if key not in CONFIG_DEFAULTS:
                raise ConfigError(
                    f"{where}: no configuration `{item}`{suggest(key, CONFIG_DEFAULTS)}"
                )
            out[key] = _config_value(key, setting, where)
    return out


def _config_value(name: str, value: object, where: str) -> int:
    text = ("y" if value else "n") if isinstance(value, bool) else str(value).strip()
    if name in _CONFIG_NUMBERS:
        return _integer(text, f"{where}: {name}", *_CONFIG_NUMBERS[name])
    if text in ("y", "m", "1"):
        return 1
    if text in ("n", "0", ""):
        return 0
    raise ConfigError(f"{where}: {name}={text}: this is y or n")


# -------------------------------------------------------------------------------------------- nodes


def _parse_nodes(
    options: _Options,
    memory: _Memory,
    unit: int,
    nr_cpus: int,
    numa: bool,
    blocks: BlockList | None,
) -> tuple[Node, ...]:
    """QEMU's -numa node: ids count up, sizes make up the RAM, CPUs nobody claims are the first
    node's. Blocks that are listed say themselves which node they are of, and CPUs nobody claims are
    offline there."""
    place = options.place("node")
    texts = options.get("node")
    shares = blocks.node_bytes() if blocks else {0: memory.ram}
    if texts is None:
        if len(shares) > 1 and not numa:
            raise ConfigError(
                f"{options.place('block')}: {len(shares)} nodes, and a kernel without NUMA has one"
            )
        return tuple(Node(n, shares.get(n, 0), () if n else (0,)) for n in range(max(shares) + 1))
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ConfigError(f'{place}: a list of texts like "memory=512M,cpus=0-3" is wanted')
    if not numa:
        raise ConfigError(
            f"{place}: a kernel without NUMA has no nodes; leave out NUMA=n or the nodes"
        )
    sizes: dict[int, int] = {}
    cpus: dict[int, set[int]] = {}
    named = False
    for text in texts:
        where = f"{place} {text}"
        pairs = _pairs(text, where, ("memory", "mem", "cpus", "nodeid")) if text.strip() else []
        once = _once(((k, v) for k, v in pairs if k != "cpus"), where)
        nid_text = once.get("nodeid", str(len(sizes)))
        nid = _integer(nid_text, f"{where}: nodeid", 0, NODES_LIMIT - 1)
        if nid in sizes:
            raise ConfigError(f"{where}: node {nid} is there twice; give each its own nodeid=")
        size_text = once.get("memory", once.get("mem"))
        sizes[nid] = parse_size(size_text, where, "m") if size_text is not None else 0
        named = named or size_text is not None
        if sizes[nid] % unit:
            raise ConfigError(f"{where}: {_show(sizes[nid])} is not a multiple of {_show(unit)}")
        cpus[nid] = set()
        for name, value in pairs:
            if name == "cpus":
                cpus[nid] |= _number_list(value, f"{where}: cpus", nr_cpus - 1)
    if blocks and max(shares) not in sizes:
        raise ConfigError(
            f"{place}: {blocks.place} has memory of node {max(shares)}; name that node, too"
        )
    for nid in sizes:
        if not blocks:
            break
        if named and sizes[nid] != shares.get(nid, 0):
            size = _show(shares.get(nid, 0))
            raise ConfigError(
                f"{place}: node {nid} has {size} in {blocks.place}; leave out memory="
            )
        sizes[nid] = shares.get(nid, 0)
    if not named and len(sizes) == 1:
        sizes = dict.fromkeys(sizes, memory.ram)
    if sorted(sizes) != list(range(len(sizes))):
        missing = min(set(range(NODES_LIMIT)) - set(sizes))
        raise ConfigError(f"{place}: node {missing} is missing; node ids are 0, 1, 2 and so on")
    total = sum(sizes.values())
    if total != memory.ram:
        raise ConfigError(
            f"{place}: the nodes have {_show(total)}, the machine has {_show(memory.ram)}; make"
            " them equal"
        )
    seen: dict[int, int] = {}
    for nid in sorted(cpus):
        for cpu in sorted(cpus[nid]):
            if seen.setdefault(cpu, nid) != nid:
                raise ConfigError(f"{place}: CPU {cpu} is on node {seen[cpu]} and on node {nid}")
    if not blocks or not seen:
        cpus[0] |= set(range(max(seen, default=0) + 1)) - set(seen)
    return tuple(Node(nid, sizes[nid], tuple(sorted(cpus[nid]))) for nid in sorted(sizes))


def _parse_distances(options: _Options, nodes: Sequence[Node]) -> tuple[tuple[int, ...], ...]:
    """QEMU's -numa dist: what is given one way only holds both ways; 10 to itself, 20 to others
    otherwise.
    """
    place = options.place("distance")
    texts = options.get("distance") or ()
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ConfigError(f'{place}: a list of texts like "0,1,21" is wanted')
    count = len(nodes)
    table = [[10 if a == b else 0 for b in range(count)] for a in range(count)]
    for text in texts:
        where = f"{place} {text}"
        parts = [part.strip().rpartition("=") for part in str(text).split(",")]
        if len(parts) != 3 or any(
            name not in ("", label)
            for (name, _, _), label in zip(parts, ("src", "dst", "val"), strict=True)
        ):
            raise ConfigError(
                f"{where}: three numbers are wanted: source node, destination node, distance"
            )
        src, dst = (_integer(part[2], f"{where}: node", 0, count - 1) for part in parts[:2])
        value = _integer(parts[2][2], f"{where}: distance", 10, 255)
        if src == dst and value != 10:
            raise ConfigError(f"{where}: the distance of a node to itself is 10")
        table[src][dst] = value
    return tuple(
        tuple(table[a][b] or table[b][a] or 20 for b in range(count)) for a in range(count)
    )


# ----------------------------------------------------------------------------------------- workload


def _parse_workload(options: _Options, nodes: Sequence[Node]) -> tuple[tuple[Use, ...], int, int]:
    """(uses, rounds of ageing, bytes of swap) of a text, a table or a file."""
    place, value = options.place("workload"), options.get("workload")
    if value is None:
        return (), 0, 0
    entries: list[tuple[str, object]]
    if isinstance(value, str) and "=" in value:
        split = [item.strip().partition("=") for item in value.split(",")]
        for text, equals, _ in split:
            if not equals:
                raise ConfigError(f"{place}: {text!r} is not kind=size")
        entries = [(text.strip(), amount.strip()) for text, _, amount in split]
    elif isinstance(value, str):
        path = options.path("workload", value)
        if not os.path.isfile(path):
            known = ", ".join(WORKLOAD_KINDS)
            raise ConfigError(f"{place} {value}: neither kind=size nor a file; kinds: {known}")
        place, entries = str(path), _flat(read_toml(path))
    elif isinstance(value, Mapping):
        entries = _flat(value)
    else:
        raise ConfigError(f"{place}: {value!r} is neither text nor a table")
    uses: dict[tuple[str, int], Use] = {}
    numbers = {"aged": 0, "swap": 0}
    for name, size in entries:
        where = f"{place}: {name}"
        if name == "aged":
            numbers[name] = _integer(str(size), where, 0, MAX_AGED)
            continue
        if name == "swap":
            numbers[name] = parse_size(str(size), where)
            continue
        prefix, dot, kind = name.rpartition(".")
        if kind not in WORKLOAD_KINDS:
            near = suggest(kind, [*WORKLOAD_KINDS, *numbers])
            raise ConfigError(f"{where}: no such use of memory{near}")
        nid = -1
        if dot:
            m = re.fullmatch(r"node([0-9]{1,4})", prefix, re.ASCII)
            if m is None or int(m[1]) >= len(nodes):
                raise ConfigError(
                    f"{where}: no `{prefix}`; the nodes are node0 to node{len(nodes) - 1}"
                )
            nid = int(m[1])
        if (kind, nid) in uses:
            raise ConfigError(f"{where} is there twice")
        use = Use(kind, parse_size(str(size), where), nid)
        if kind == "hugetlb" and use.bytes % (2 << 20):
            raise ConfigError(
                f"{where}: {_show(use.bytes)} is not a multiple of 2M, the size of a huge page"
            )
        uses[kind, nid] = use
    return tuple(uses.values()), numbers["aged"], numbers["swap"]


def _flat(table: Mapping[str, object]) -> list[tuple[str, object]]:
    """Entries of a table, those of its tables as "outer.inner"."""
    out: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            out += [(f"{name}.{inner}", v) for inner, v in value.items()]
        else:
            out.append((name, value))
    return out


def _check_workload(options: _Options, uses: Sequence[Use], ram: Sequence[NodeRange]) -> None:
    """Refuses what boot memory cannot hold."""
    for nid in sorted({u.nid for u in uses}):
        wanted = sum(u.bytes for u in uses if nid in (-1, u.nid))
        room = sum(end - start for start, end, n in ram if nid in (-1, n))
        if wanted > room:
            where = "the machine" if nid == -1 else f"node {nid}"
            place = options.place("workload")
            raise ConfigError(
                f"{place}: {_show(wanted)} are more than the {room >> 20} MiB of RAM of {where}"
            )


# -------------------------------------------------------------------------------------- fault rules


def _parse_faults(options: _Options) -> tuple[str, ...]:
    """The rules of the file, then those of the options. What a rule may say, the engine knows."""
    out: list[str] = []
    for place, value in options.both("fault"):
        if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
            raise ConfigError(
                f'{place}: a list of texts like "write memory40/state EAGAIN x3" is wanted'
            )
        out += value
    return tuple(out)


# -------------------------------------------------------------------------------------------- DIMMs


def _parse_dimms(options: _Options, memory: _Memory, nodes: Sequence[Node]) -> tuple[Dimm, ...]:
    tables = options.get("dimms")
    place = options.place("dimms")
    if tables is None:
        return ()
    if not isinstance(tables, Sequence) or not all(isinstance(t, Mapping) for t in tables):
        raise ConfigError(
            f'{place}: a list of tables like {{size = "512M", id = "d0", node = 0}} is wanted'
        )
    known = ("size", "id", "node", "slot", "addr")
    out: list[Dimm] = []
    for i, table in enumerate(tables):
        where = f"{place}, entry {i}"
        for key in table:
            if key not in known:
                raise ConfigError(f"{where}: no key `{key}`{suggest(key, known)}")
        if "size" not in table:
            raise ConfigError(f'{where}: the size is missing; write size = "512M"')
        size = parse_size(str(table["size"]), where)
        if size == 0 or size % 4096:
            raise ConfigError(
                f"{where}: {_show(size)} is not a size of a DIMM; whole pages are wanted"
            )
        name = str(table.get("id", f"dimm{i}"))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name, re.ASCII):
            raise ConfigError(
                f"{where}: {name!r} is not an id; write a letter, then letters, digits, - . _"
            )
        if name in (d.id for d in out):
            raise ConfigError(f"{where}: the id {name!r} is there twice")
        node = _integer(str(table.get("node", 0)), f"{where}: node", 0, len(nodes) - 1)
        slot = table.get("slot")
        addr = table.get("addr")
        out.append(Dimm(
            name, size, node,
            None if slot is None else _integer(str(slot), f"{where}: slot", 0, max(memory.slots - 1, 0)),
            None if addr is None else parse_size(str(addr), f"{where}: addr"),
        ))  # fmt: skip
    if len(out) > memory.slots:
        raise ConfigError(
            f"{place}: {len(out)} DIMMs, {memory.slots} slots; say slots={len(out)} in memory"
        )
    total, room = sum(d.bytes for d in out), memory.maxmem - memory.ram
    if total > room:
        raise ConfigError(
            f"{place}: maxmem leaves room for {_show(room)} of DIMMs, these are {_show(total)}"
        )
    return tuple(out)


# ------------------------------------------------------------------------------ putting it together


def _build(options: _Options) -> MachineConfig:
    kernel = options.text("kernel", DEFAULT_KERNEL)
    profile = load_kernel(kernel, options.place("kernel"))
    features = frozenset(profile["features"])
    arch_name = options.text("arch", DEFAULT_ARCH)
    arch = load_arch(arch_name, options.place("arch"), features)
    config = _parse_config(options, arch.get("config", {}))
    seed = _integer(
        options.text("seed", str(DEFAULT_SEED)), options.place("seed"), 0, (1 << 64) - 1
    )

    blocks = options.block_list(arch, arch_name)
    default_memory = _show(blocks.bytes) if blocks else arch.get("default_memory", DEFAULT_MEMORY)
    memory_text = options.text("memory", default_memory)
    memory = _parse_memory(memory_text, options.place("memory"), arch["ram_unit"], blocks)
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
    nodes = _parse_nodes(
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
    distances = _parse_distances(options, nodes)
    workload, aged, swap = _parse_workload(options, nodes)
    dimms = _parse_dimms(options, memory, nodes)

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
            f"{options.place('ram_base')}: {_show(ram_base)} is not a multiple of {_show(unit)}"
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
    zones = [zone for zone in _ALL_ZONES if zone in arch["zones"] or zone in ends]
    zone_limits = {zone: ends[zone] for zone in ("DMA", "DMA32") if zone in ends} | dict(
        layout.zone_limits
    )
    _check_workload(options, workload, layout.ram)
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
        max_phys_bits=arch["max_phys_bits"],
        iomem_bits=layout.iomem_bits,
        has_phys_device=arch["has_phys_device"],
        mem_is_address=arch["layout"] == "q35",
        resources=layout.resources,
        ram=layout.ram,
        reserved=layout.reserved,
        firmware_memmap=layout.firmware_memmap,
        hotplug_nids=layout.hotplug_nids,
        blocks=blocks,
        zone_spans=tuple(blocks.spans(layout.zone_limits, line.movable_node)) if blocks else (),
    )
