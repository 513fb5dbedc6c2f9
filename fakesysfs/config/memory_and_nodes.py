"""How much memory a machine has, its NUMA nodes, and the DIMMs that are plugged at boot.

Owns: the options `memory`, `node`, `distance` and the key `dimms`: QEMU's checks in QEMU's order,
and the words for what cannot be. Does not own: at which address memory is (address_map.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .address_map import GIB
from .block_list import BlockList
from .limits import MEMORY_LIMIT, NODES_LIMIT, SLOTS_LIMIT
from .option_sources import OptionSources
from .option_text import parse_integer, parse_number_list, parse_pairs, refuse_repeats
from .profiles import suggest
from .sizes import parse_size, show_size

__all__ = [
    "Dimm",
    "MemorySize",
    "Node",
    "parse_dimms",
    "parse_distances",
    "parse_memory",
    "parse_nodes",
]


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
class MemorySize:
    """The option `memory`: bytes of RAM, DIMM slots, and bytes of RAM and DIMMs together."""

    ram: int
    slots: int
    maxmem: int


def parse_memory(text: str, where: str, unit: int, blocks: BlockList | None) -> MemorySize:
    """QEMU's -m, with its checks in its order. Of blocks that are listed the size is known."""
    where = f"{where} {text}"
    parts = refuse_repeats(parse_pairs(text, where, ("size", "slots", "maxmem"), "size"), where)
    ram = (
        parse_size(parts["size"], where, "m")
        if "size" in parts
        else blocks.bytes
        if blocks
        else GIB
    )
    if blocks and ram != blocks.bytes:
        raise ConfigError(
            f"{where}: {blocks.place} has {show_size(blocks.bytes)}; leave out the size, or say that"
        )
    unit = min(unit, blocks.block_bytes) if blocks else unit
    if ram == 0 or ram % unit:
        raise ConfigError(
            f"{where}: {show_size(ram)} of RAM is not a multiple of {show_size(unit)}"
        )
    slots = (
        parse_integer(parts["slots"], f"{where}: slots", 0, SLOTS_LIMIT) if "slots" in parts else 0
    )
    if "maxmem" not in parts:
        if slots:
            raise ConfigError(
                f"{where}: slots without maxmem; add maxmem={show_size(2 * ram)}, say"
            )
        maxmem = ram
    else:
        maxmem = parse_size(parts["maxmem"], f"{where}: maxmem")
        if maxmem < ram:
            hint = ", the unit is missing" if parts["maxmem"].isdigit() else ""
            raise ConfigError(
                f"{where}: maxmem is {show_size(maxmem)}, less than the {show_size(ram)} of RAM{hint}"
            )
        if maxmem % unit:
            raise ConfigError(
                f"{where}: maxmem {show_size(maxmem)} is not a multiple of {show_size(unit)}"
            )
        if slots and maxmem == ram:
            raise ConfigError(f"{where}: maxmem leaves no room for the slots; make it larger")
    if maxmem > MEMORY_LIMIT:
        raise ConfigError(
            f"{where}: {show_size(maxmem)} of memory is too much; {show_size(MEMORY_LIMIT)} is possible"
        )
    return MemorySize(ram, slots, maxmem)


def parse_nodes(
    options: OptionSources,
    memory: MemorySize,
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
        pairs = (
            parse_pairs(text, where, ("memory", "mem", "cpus", "nodeid")) if text.strip() else []
        )
        once = refuse_repeats(((k, v) for k, v in pairs if k != "cpus"), where)
        nid_text = once.get("nodeid", str(len(sizes)))
        nid = parse_integer(nid_text, f"{where}: nodeid", 0, NODES_LIMIT - 1)
        if nid in sizes:
            raise ConfigError(f"{where}: node {nid} is there twice; give each its own nodeid=")
        size_text = once.get("memory", once.get("mem"))
        sizes[nid] = parse_size(size_text, where, "m") if size_text is not None else 0
        named = named or size_text is not None
        if sizes[nid] % unit:
            raise ConfigError(
                f"{where}: {show_size(sizes[nid])} is not a multiple of {show_size(unit)}"
            )
        cpus[nid] = set()
        for name, value in pairs:
            if name == "cpus":
                cpus[nid] |= parse_number_list(value, f"{where}: cpus", nr_cpus - 1)
    if blocks and max(shares) not in sizes:
        raise ConfigError(
            f"{place}: {blocks.place} has memory of node {max(shares)}; name that node, too"
        )
    for nid in sizes:
        if not blocks:
            break
        if named and sizes[nid] != shares.get(nid, 0):
            size = show_size(shares.get(nid, 0))
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
            f"{place}: the nodes have {show_size(total)}, the machine has {show_size(memory.ram)}; make"
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


def parse_distances(options: OptionSources, nodes: Sequence[Node]) -> tuple[tuple[int, ...], ...]:
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
        src, dst = (parse_integer(part[2], f"{where}: node", 0, count - 1) for part in parts[:2])
        value = parse_integer(parts[2][2], f"{where}: distance", 10, 255)
        if src == dst and value != 10:
            raise ConfigError(f"{where}: the distance of a node to itself is 10")
        table[src][dst] = value
    return tuple(
        tuple(table[a][b] or table[b][a] or 20 for b in range(count)) for a in range(count)
    )


def parse_dimms(
    options: OptionSources, memory: MemorySize, nodes: Sequence[Node]
) -> tuple[Dimm, ...]:
    """Return the DIMMs that are plugged at boot.

    :raises ConfigError: there can be no such DIMM, or there is no room for it.
    """
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
                f"{where}: {show_size(size)} is not a size of a DIMM; whole pages are wanted"
            )
        name = str(table.get("id", f"dimm{i}"))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name, re.ASCII):
            raise ConfigError(
                f"{where}: {name!r} is not an id; write a letter, then letters, digits, - . _"
            )
        if name in (d.id for d in out):
            raise ConfigError(f"{where}: the id {name!r} is there twice")
        node = parse_integer(str(table.get("node", 0)), f"{where}: node", 0, len(nodes) - 1)
        slot = table.get("slot")
        addr = table.get("addr")
        out.append(
            Dimm(
                name,
                size,
                node,
                None
                if slot is None
                else parse_integer(str(slot), f"{where}: slot", 0, max(memory.slots - 1, 0)),
                None if addr is None else parse_size(str(addr), f"{where}: addr"),
            )
        )
    if len(out) > memory.slots:
        raise ConfigError(
            f"{place}: {len(out)} DIMMs, {memory.slots} slots; say slots={len(out)} in memory"
        )
    total, room = sum(d.bytes for d in out), memory.maxmem - memory.ram
    if total > room:
        raise ConfigError(
            f"{place}: maxmem leaves room for {show_size(room)} of DIMMs, these are {show_size(total)}"
        )
    return tuple(out)
