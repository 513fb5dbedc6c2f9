"""The physical address map of a machine: where RAM, DIMM space, PCI windows and the kernel's image
are.

Owns: the rules of QEMU's machines (q35; virt, pseries and the like, which are flat) and what Linux
makes of the map at boot: RAM cut by `mem=`, resources of /proc/iomem, memory it reserves, the size
of a memory block. Numbers come from `arches/NAME.toml`. Does not own: options and their errors
(machine_config.py), anything that changes once the machine runs (the engine).

    q35     0 [RAM] - hole for PCI - 4G [rest of RAM] - 1G-aligned [DIMM space] - 1G-aligned [64-bit PCI]
    flat    base [RAM] - aligned [DIMM space, or memory on standby]
    given   what there is, where it is - aligned [DIMM space] - on x86 a 64-bit PCI window
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import ConfigError

__all__ = [
    "GIB",
    "AddressMap",
    "Board",
    "Given",
    "NodeRange",
    "Range",
    "Resource",
    "make_address_map",
    "round_up",
]

GIB: Final = 1 << 30
_BUSY: Final = 1  # resource flags of the engine
_SYSTEM_RAM: Final = 2

Range = tuple[int, int]
#: Node, bytes of RAM.
NodeShare = tuple[int, int]
#: Start, end, node.
NodeRange = tuple[int, int, int]
#: Start, inclusive end, name, flags, depth.
Resource = tuple[int, int, str, int, int]
# Start, inclusive end, name, flags, rank: of two equal ranges the one of lower rank is outside
_Claim = tuple[int, int, str, int, int]


@dataclass(frozen=True, slots=True)
class Board:
    """What is plugged into the machine.

    :param ram: bytes of RAM at boot.
    :param maxmem: bytes of RAM and DIMMs (or standby memory) together.
    :param slots: DIMM slots.
    :param ram_base: address where RAM begins, None for where it begins on this architecture; flat
        maps only.
    """

    ram: int
    maxmem: int
    slots: int
    ram_base: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """Memory of a machine whose blocks are listed. Ranges are ascending.

    :param block_bytes: size of a memory block.
    :param memory: start, end, node of all RAM, also of what is offline.
    :param online: the part of it that the kernel uses.
    :param holes: what within the blocks is no RAM.
    :param for_kernel: where the kernel's image may be: ranges to try, the best first.
    """

    block_bytes: int
    memory: tuple[NodeRange, ...]
    online: tuple[NodeRange, ...]
    holes: tuple[Range, ...]
    for_kernel: tuple[tuple[Range, ...], ...]


@dataclass(frozen=True, slots=True)
class AddressMap:
    """The map as Linux has it when it has booted. Fields as in `MachineConfig`."""

    ram: tuple[NodeRange, ...]
    resources: tuple[Resource, ...]
    reserved: tuple[tuple[int, int, str], ...]
    firmware_memmap: tuple[tuple[int, int, str], ...]
    hotplug_nids: tuple[NodeRange, ...]
    zone_limits: Mapping[str, int]
    block_bytes: int
    increment_bytes: int
    iomem_bits: int
    device_base: int
    device_bytes: int
    standby: tuple[NodeRange, ...]


def linux_node_ids(
    arch: Mapping[str, Any], nodes: Sequence[tuple[int, Sequence[int]]], dimm_space: bool
) -> tuple[int, ...]:
    """What Linux calls the nodes of the board; -1 for one that it does not know of.

    Where nodes are known from ACPI's SRAT, Linux numbers them in the order in which that names
    them: those of the CPUs, those of RAM, and the last one, which DIMM space is said to be of.
    Linux: acpi_map_pxm_to_node().

    :param nodes: bytes of RAM and CPUs of each.
    :param dimm_space: there is room for DIMMs.
    """
    if arch["node_ids"] == "board":
        return tuple(range(len(nodes)))
    named = [
        number
        for _, number in sorted((cpu, n) for n, (_, cpus) in enumerate(nodes) for cpu in cpus)
    ]
    named += [number for number, (size, _) in enumerate(nodes) if size]
    named += [len(nodes) - 1] if dimm_space else []
    order = list(dict.fromkeys(named))
    return tuple(order.index(number) if number in order else -1 for number in range(len(nodes)))


def make_address_map(
    arch: Mapping[str, Any],
    board: Board,
    shares: Sequence[NodeShare],
    features: frozenset[str],
    *,
    mem: int,
    seed: int | None,
    hypervisor: bool,
    where: str,
    given: Given | None = None,
) -> AddressMap:
    """The map of a machine.

    :param arch: content of `arches/NAME.toml`.
    :param shares: RAM of each node, in the order the board fills them; together they make up the
        board's.
    :param features: of the kernel.
    :param mem: limit of `mem=`, 0 for none.
    :param seed: chooses where the kernel's image goes, None for the lowest place.
    :param hypervisor: the kernel knows that it runs as a guest.
    :param where: what limits memory, for the error message.
    :param given: memory is there, not where QEMU puts it.
    :raises ConfigError: when no room is left for the kernel.
    """
    if given:
        layout = _map_given(arch, board, features, given)
    else:
        layout = (_map_q35 if arch["layout"] == "q35" else _map_flat)(arch, board, features)
    page = 1 << arch["page_shift"]
    whole = layout.chunks
    if layout.firmware:
        # the first page, which BIOSes think is theirs, Linux never uses
        whole = [(max(a, page), b + 1) for a, b, kind in layout.firmware if kind == "System RAM"]
    in_bytes = _cut(whole, mem, arch["mem_rule"])
    in_pages = [(round_up(a, page), b // page * page) for a, b in in_bytes]
    in_pages = [(a, b) for a, b in in_pages if a < b]
    lowest = layout.chunks[0][0] + arch["image"]["lowest"]
    if given:
        image = _image_given(arch["image"], given.for_kernel, lowest, seed)
    else:
        image = _image(arch["image"], in_pages, lowest, seed, where)
    owners = given.online if given else _nodes_of(layout.chunks, shares)
    ram = sorted(
        (*both, nid) for a, b, nid in owners for r in in_pages if (both := _cross(r, (a, b)))
    )
    increment = arch.get("increment", {}).get("standby" if layout.standby else "board", 0)
    return AddressMap(
        ram=tuple(ram),
        resources=_resources(layout, in_bytes, image, arch),
        reserved=_reserved(arch, image, ram, features),
        firmware_memmap=tuple(layout.firmware),
        hotplug_nids=_hotplug_nids(
            arch, given.memory if given else owners, layout, ram, shares[-1][0]
        ),
        zone_limits=_zone_limits(arch, ram),
        block_bytes=(
            given.block_bytes
            if given
            else max(_block_bytes(arch, ram[-1][1], hypervisor, features), increment)
        ),
        increment_bytes=increment,
        iomem_bits=layout.iomem_bits,
        device_base=layout.device_base,
        device_bytes=layout.device_bytes,
        standby=((*layout.standby, 0),) if layout.standby else (),
    )


def round_up(value: int, unit: int) -> int:
    """The next multiple of `unit`, `value` itself if it is one."""
    return -(-value // unit) * unit


@dataclass(slots=True)
class _Map:
    """The address map before the kernel has seen it."""

    chunks: list[Range]  # RAM as the board has it, in the order nodes fill it
    firmware: list[tuple[int, int, str]]  # e820 and its like, inclusive; empty when there is none
    fixed: list[_Claim]
    iomem_bits: int
    device_base: int = 0
    device_bytes: int = 0
    standby: Range | None = None


def _arch_resources(arch: Mapping[str, Any], features: frozenset[str]) -> list[_Claim]:
    """Resources that every machine has at the same place."""
    return [
        (*r["range"], r["name"], _BUSY if r.get("busy") else 0, 2 if r.get("inside") else 0)
        for r in arch.get("resource", ())
        if ("needs" not in r or r["needs"] in features) and r.get("lacks") not in features
    ]


def _map_q35(arch: Mapping[str, Any], board: Board, features: frozenset[str]) -> _Map:
    """RAM below and above 4 GiB, then DIMM space, then the 64-bit PCI window: q35 as QEMU 7.2 has
    it.
    """
    q = arch["q35"]
    low = q["low_when_split"] if board.ram >= q["split_from"] else q["split_from"]
    below = min(board.ram, low)
    above_bytes = board.ram - below

    def after(above: int) -> tuple[int, int, int]:
        end = above + above_bytes
        if board.maxmem == board.ram:
            return 0, 0, round_up(end, GIB)
        base = round_up(end, GIB)
        size = board.maxmem - board.ram + board.slots * q["slot_slack"]
        return base, size, round_up(base + size, GIB)

    above = q["above"]
    base, size, window = after(above)
    ht_start, ht_end = q["hypertransport"]
    if window + q["pci64_bytes"] > ht_start:
        above = q["above_hypertransport"]
        base, size, window = after(above)
    window_end = window + q["pci64_bytes"] - 1

    chunks = [(0, below)]
    ebda = arch["e820"][0]["range"][0]
    tables = below - q["acpi_tables"]
    firmware = [(0, ebda - 1, "System RAM"), (0x100000, tables - 1, "System RAM")]
    firmware += [
        (tables, below - 1, "Reserved"),
        *((*e["range"], "Reserved") for e in arch["e820"]),
    ]
    firmware.append((ht_start, ht_end, "Reserved"))
    if above_bytes:
        chunks.append((above, above + above_bytes))
        firmware.append((above, above + above_bytes - 1, "System RAM"))
    fixed = _arch_resources(arch, features)
    if below < q["pci_end"]:
        fixed.append((below, q["pci_end"] - 1, "PCI Bus 0000:00", 0, 0))
    fixed.append((window, window_end, "PCI Bus 0000:00", 0, 0))
    bits = max(arch["iomem_bits"], window_end.bit_length())
    return _Map(chunks, sorted(firmware), fixed, bits, base, size)


def _map_flat(arch: Mapping[str, Any], board: Board, features: frozenset[str]) -> _Map:
    """RAM in one piece; behind it DIMM space, or memory on standby."""
    f = arch["flat"]
    base = f["ram_base"] if board.ram_base is None else board.ram_base
    end = base + board.ram
    out = _Map([(base, end)], [], [], arch["iomem_bits"])
    room = board.maxmem - board.ram
    if room and f.get("standby"):
        out.standby = (end, end + room)
    elif room:
        out.device_base = round_up(end, f["device_align"])
        out.device_bytes = room + board.slots * f["slot_slack"]
        end = out.device_base + out.device_bytes
    # what stands at fixed addresses gives way to memory
    out.fixed = [r for r in _arch_resources(arch, features) if r[1] < base or r[0] >= end]
    return out


def _map_given(
    arch: Mapping[str, Any], board: Board, features: frozenset[str], given: Given
) -> _Map:
    """RAM where it is; DIMM space behind it. What an architecture has at fixed addresses gives way
    to RAM.
    """
    chunks: list[Range] = []
    for start, end, _ in given.memory:
        if chunks and chunks[-1][1] == start:
            chunks[-1] = (chunks[-1][0], end)
        else:
            chunks.append((start, end))
    out = _Map(chunks, [], [], arch["iomem_bits"])
    top, room = chunks[-1][1], board.maxmem - board.ram
    q35 = arch.get("q35")
    if not q35 and room and arch["flat"].get("standby"):
        out.standby = (top, top + room)
    elif room:
        where = q35 or arch["flat"]
        out.device_base = round_up(top, where.get("device_align", GIB))
        out.device_bytes = room + board.slots * where["slot_slack"]
        top = out.device_base + out.device_bytes
    if q35:
        below = max((end for _, end in chunks if end <= 1 << 32), default=0)
        if below < q35["pci_end"]:
            out.fixed.append((below, q35["pci_end"] - 1, "PCI Bus 0000:00", 0, 0))
        window = round_up(max(top, 1 << 32), GIB)
        out.fixed.append((window, window + q35["pci64_bytes"] - 1, "PCI Bus 0000:00", 0, 0))
        top = window + q35["pci64_bytes"]
        out.firmware = [(a, b - 1, "System RAM") for a, b in chunks]
        out.firmware = sorted(out.firmware + [(a, b - 1, "Reserved") for a, b in given.holes])
    out.iomem_bits = max(arch["iomem_bits"], (top - 1).bit_length())
    device = (out.device_base, out.device_base + out.device_bytes)
    taken = [(a, b) for a, b in (*chunks, device) if a < b]
    for res in _arch_resources(arch, features):
        apart = all(res[1] < a or res[0] >= b for a, b in taken)
        nested = all(res[1] < a or res[0] >= b or a <= res[0] <= res[1] < b for a, b in given.holes)
        if apart and nested:
            out.fixed.append(res)
    return out


def _nodes_of(chunks: Sequence[Range], shares: Sequence[NodeShare]) -> list[NodeRange]:
    """Which node each piece of RAM belongs to: nodes fill the chunks one after the other."""
    out = []
    left = [[start, end] for start, end in chunks]
    for nid, want in shares:
        while want:
            start, end = left[0]
            take = min(want, end - start)
            out.append((start, start + take, nid))
            want -= take
            left[0][0] += take
            if left[0][0] == end:
                left.pop(0)
    return out


def _cut(ranges: Iterable[Range], limit: int, rule: str) -> list[Range]:
    """What mem= leaves: RAM below an address, or the lowest so many bytes."""
    out = []
    room = limit
    for start, end in ranges:
        if not limit:
            out.append((start, end))
            continue
        new_end = min(end, limit if rule == "address" else start + room)
        if new_end > start:
            out.append((start, new_end))
            room -= new_end - start
    return out


def _cross(a: Range, b: Sequence[int]) -> Range | None:
    start, end = max(a[0], b[0]), min(a[1], b[1])
    return (start, end) if start < end else None


def _tree(flat: Iterable[_Claim]) -> tuple[Resource, ...]:
    """Resources in pre-order with their depth; the fifth of each is its rank among equal ranges."""
    out: list[Resource] = []
    open_ends: list[int] = []
    for start, end, name, flags, _rank in sorted(flat, key=lambda r: (r[0], -r[1], r[4])):
        while open_ends and open_ends[-1] < start:
            open_ends.pop()
        out.append((start, end, name, flags, len(open_ends)))
        open_ends.append(end)
    return tuple(out)


def _ram_buffers(ram: Iterable[Range], flat: Sequence[_Claim]) -> list[Range]:
    """Linux's e820 `RAM buffer`: what is free between the end of RAM and the next round address."""
    out = []
    for _, end in ram:
        unit = 64 << 10 if end < 1 << 20 else 1 << 20 if end < 16 << 20 else 64 << 20
        at, stop = end, round_up(end, unit)
        if at == stop:
            continue
        for start, last, *_ in sorted(r for r in flat if r[1] >= end and r[0] < stop):
            if start > at:
                out.append((at, start))
            at = max(at, last + 1)
        if at < stop:
            out.append((at, stop))
    return out


def _random(seed: int, below: int) -> int:
    """One of `below` numbers, by the seed (the finalizer of SplitMix64)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
    return (z ^ z >> 31) % below


def _image(
    image: Mapping[str, Any], ram: Sequence[Range], lowest: int, seed: int | None, where: str
) -> dict[str, Range]:
    """Where the kernel's sections are: in the first piece of RAM they fit in, below 4 GiB if they
    can be.

    :param lowest: address from which on it may be.
    :param seed: what chooses among the possible places, None for the lowest one.
    :return: first and last address of each section.
    """
    parts = {k: image[k] for k in ("code", "rodata", "data", "bss") if k in image}
    size = max(last for _, last in parts.values()) + 1
    align = image["align"]
    for start, end in ram:
        first = round_up(max(start, lowest), align)
        if first + size <= end:
            places = (min(end, max(1 << 32, first + size)) - size - first) // align + 1
            at = (
                first
                if seed is None or image.get("fixed")
                else first + _random(seed, places) * align
            )
            return {name: (at + a, at + b) for name, (a, b) in parts.items()}
    raise ConfigError(f"{where}: too little memory for the kernel to start; give it 128M or more")


def _image_given(
    image: Mapping[str, Any], places: Iterable[Sequence[Range]], lowest: int, seed: int | None
) -> dict[str, Range]:
    """As _image(), in the first of these places that has room; nowhere when RAM is all crumbs, for
    the machine is known to run."""
    for ranges in places:
        try:
            return _image(image, ranges, lowest, seed, "")
        except ConfigError:
            continue
    return {}


def _block_bytes(
    arch: Mapping[str, Any], top: int, hypervisor: bool, features: frozenset[str]
) -> int:
    """Size of a memory block. On x86 it follows the end of RAM: see probe_memory_block_size()
    there.
    """
    least = int(arch["block_bytes"])
    if arch["block_rule"] != "x86" or top < arch["block_large_from"]:
        return least
    block = int(arch["block_bytes_large"])
    if not hypervisor and "bare_metal_2g_blocks" in features:
        return block
    while block > least and top % block:
        block >>= 1
    return block


def _zone_limits(arch: Mapping[str, Any], ram: Sequence[NodeRange]) -> dict[str, int]:
    """Where zones end that have an end: arm64 makes all RAM DMA memory when none of it is below 4
    GiB.
    """
    limits: dict[str, int] = arch.get("zone_limits", {})
    if arch.get("dma_covers_high_ram") and ram[0][0] >= 1 << 32:
        return dict.fromkeys(limits, ram[-1][1])
    return limits


def _resources(
    layout: _Map, ram: Sequence[Range], image: Mapping[str, Range], arch: Mapping[str, Any]
) -> tuple[Resource, ...]:
    """The tree of /proc/iomem. Linux marks reserved ranges busy below 1 MiB; others drivers may
    claim.
    """
    flat = list(layout.fixed)
    flat += [(a, b - 1, "System RAM", _BUSY | _SYSTEM_RAM, 1) for a, b in ram]
    for start, end, kind in layout.firmware:
        if kind != "System RAM":
            flat.append((start, end, kind, _BUSY if start < 1 << 20 else 0, 1))
    if layout.firmware:
        flat.append((0, (1 << arch["page_shift"]) - 1, "Reserved", _BUSY, 1))
        flat += [(a, b - 1, "RAM buffer", _BUSY, 1) for a, b in _ram_buffers(ram, flat)]
    if arch["image"].get("listed", True):
        flat += [(a, b, f"Kernel {name}", _BUSY, 2) for name, (a, b) in image.items()]
    return _tree(flat)


def _reserved(
    arch: Mapping[str, Any],
    image: Mapping[str, Range],
    ram: Sequence[NodeRange],
    features: frozenset[str],
) -> tuple[tuple[int, int, str], ...]:
    """What boot keeps: the kernel's image, and on x86 the low memory that BIOSes scribble on."""
    page = 1 << arch["page_shift"]
    wanted = [(a // page * page, round_up(b + 1, page), "kernel") for a, b in image.values()]
    if arch["layout"] == "q35":
        wanted.append((0, 1 << 20 if "reserve_low_1m" in features else 1 << 16, "low"))
    merged: list[tuple[int, int, str]] = []
    for start, end, what in sorted(wanted):
        if merged and start < merged[-1][1]:
            start = merged[-1][1]
        if start < end:
            merged.append((start, end, what))
    return tuple(
        (*both, what) for a, b, what in merged for r in ram if (both := _cross((a, b), r[:2]))
    )


def _hotplug_nids(
    arch: Mapping[str, Any],
    owners: Sequence[NodeRange],
    layout: _Map,
    ram: Sequence[NodeRange],
    last_nid: int,
) -> tuple[NodeRange, ...]:
    """Node of memory that is added without saying which: where the kernel looks the address up.

    x86 knows the ranges of boot memory only: numa_cleanup_meminfo() drops what the firmware tells
    of addresses beyond RAM, so DIMM space falls back to the first node. Others keep no table, or
    all of it.
    """
    if arch["hotplug_nid"] == "unknown":
        return ()
    top = ram[-1][1]
    out: list[NodeRange] = []
    for a, b, nid in owners:
        if not any(_cross((a, b), r[:2]) for r in ram):
            continue
        if arch["hotplug_nid"] == "boot" and out and out[-1][2] == nid:
            a = out.pop()[0]  # what lies between two ranges of a node counts as the node's
        out.append((a, min(b, top), nid))
    if arch["hotplug_nid"] == "all" and layout.device_base:
        out.append((layout.device_base, layout.device_base + layout.device_bytes, last_nid))
    return tuple(out)
