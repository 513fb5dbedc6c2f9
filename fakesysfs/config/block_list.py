"""Memory blocks that a machine file lists one by one: the shape of a real machine, as `fakesysfs
capture` saw it.

Owns: the keys `block`, `block_bytes`, `zone` and `holes` of a machine file - what each may be, what
contradicts what - and what follows from them: where RAM is, which node it belongs to, what each
zone spans. Does not own: where such a list comes from (machine_file.py), what else is at which
address (address_map.py), what the blocks do once the machine runs (the engine).

    block_bytes = 0x8000000
    holes = [[0x9fc00, 0x100000]]
    block = [
        {first = 0, zones = "none"},                    # memory0: online, in several zones
        {first = 1, last = 23, zones = "DMA32"},        # memory1 to memory23
        {first = 32, last = 39, state = "offline"},
    ]

All addresses are bytes, the end of a range is exclusive; `last` of blocks is inclusive.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from ..errors import ConfigError
from .address_map import Given, NodeRange, Range
from .limits import NODES_LIMIT
from .zone_names import BLOCK_ZONES, KERNEL_ZONES

__all__ = ["BLOCKS_LIMIT", "FILE_KEYS", "BlockList", "BlockRun", "ZoneSpan", "read_block_list"]

#: Keys of a machine file that are read here.
FILE_KEYS: Final = ("block_bytes", "block", "zone", "holes")

#: As many blocks as a kernel has directories for within a reasonable time.
BLOCKS_LIMIT: Final = 1 << 20
#: Separate pieces of memory, and holes in it.
_PIECES_LIMIT: Final = 1 << 14

_MOVABLE: Final = "Movable"
_SEVERAL: Final = "none"

#: Start, end, node, zone.
ZoneSpan = tuple[int, int, int, str]


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Memory blocks in a row that are alike.

    :param first: number of the first one, 32 for memory32.
    :param last: number of the last one.
    :param state: "online" or "offline".
    :param zones: what `valid_zones` said. Of an online block the zone it is in, "none" for several.
        Of an offline one the zones that it can join, the one it joins by itself first; empty when
        nobody knows.
    :param nodes: the node of its memory; two where nodes meet in its middle.
    :param linked: there is a link from the block to its node.
    :param removable: what `removable` said.
    :param phys_device: what `phys_device` of the first one said.
    :param phys_device_step: what it has more from one block to the next: storage increments of
        s390x count on.
    """

    first: int
    last: int
    state: str = "online"
    zones: tuple[str, ...] = ()
    nodes: tuple[int, ...] = (0,)
    linked: bool = True
    removable: bool = True
    phys_device: int = 0
    phys_device_step: int = 0

    @property
    def online(self) -> bool:
        """The kernel uses this memory."""
        return self.state == "online"

    @property
    def zone(self) -> str:
        """Of an online block the zone it is in, "none" for several; "" of an offline one."""
        return self.zones[0] if self.online and self.zones else ""


@dataclass(frozen=True, slots=True)
class BlockList:
    """All memory blocks of a machine.

    :param block_bytes: size of a block.
    :param runs: ascending.
    :param zone_spans: what zones span beyond the blocks in them.
    :param holes: what within the blocks is no RAM; ascending.
    :param place: what to call the list in an error message.
    """

    block_bytes: int
    runs: tuple[BlockRun, ...]
    zone_spans: tuple[ZoneSpan, ...] = ()
    holes: tuple[Range, ...] = ()
    place: str = field(default="", compare=False)

    @property
    def bytes(self) -> int:
        """Size of all blocks together, holes included."""
        return sum(run.last - run.first + 1 for run in self.runs) * self.block_bytes

    def node_bytes(self) -> dict[int, int]:
        """Size of the blocks of each node, holes included."""
        out: dict[int, int] = {}
        for start, end, nid, _ in self._pieces():
            out[nid] = out.get(nid, 0) + end - start
        return out

    def given(self) -> Given:
        """Where RAM is.

        :raises ConfigError: a hole leaves nothing of a block, or memory is in too many pieces.
        """
        self._check_holes()
        pieces = [((start, end, nid), run) for start, end, nid, run in self._pieces()]
        memory = self._without_holes(piece for piece, _ in pieces)
        if len(memory) > _PIECES_LIMIT:
            raise ConfigError(
                f"{self.place}: memory in {len(memory)} pieces; {_PIECES_LIMIT} are possible"
            )
        online = [(piece, run) for piece, run in pieces if run.online]
        usual = [(piece, run) for piece, run in online if run.zone != _MOVABLE]
        fixed = [(piece, run) for piece, run in usual if not run.removable]
        places = (
            self._without_holes((*piece[:2], 0) for piece, _ in some)
            for some in (fixed, usual, online)
        )
        return Given(
            self.block_bytes,
            tuple(memory),
            tuple(self._without_holes(piece for piece, _ in online)),
            self.holes,
            tuple(tuple((start, end) for start, end, _ in place) for place in places),
        )

    def rows(self) -> Iterator[tuple[int, str, str, int, int, int, int]]:
        """Each block, as the engine takes it: number, state, zone, node, phys_device, removable,
        linked.
        """
        for run in self.runs:
            removable, linked, device = int(run.removable), int(run.linked), run.phys_device
            for number in range(run.first, run.last + 1):
                yield number, run.state, run.zone, run.nodes[0], device, removable, linked
                device += run.phys_device_step

    def reach(self, limits: Mapping[str, int], movable_node: bool) -> dict[int, dict[str, Range]]:
        """Of each node the zones, and from where to where each spans. Parameters as of spans()."""
        reach = self._reach()
        for start, end, nid, zone in self.spans(limits, movable_node):
            _extend(reach.setdefault(nid, {}), zone, start, end)
        return reach

    def spans(self, limits: Mapping[str, int], movable_node: bool) -> list[ZoneSpan]:
        """What zones span beyond the blocks that are in them: as listed, as boot makes it, as
        offline blocks show.

        A block that goes online joins the zone whose span it lies in, so what `valid_zones` of an
        offline block said tells of spans that no online block reaches.

        :param limits: where zones end that have an end.
        :param movable_node: the kernel prefers Movable where it has a choice.
        """
        out = list(self.zone_spans)
        listed = {(nid, zone) for _, _, nid, zone in out}
        reach = self._reach()
        for start, end, nid, zone in self.zone_spans:
            _extend(reach.setdefault(nid, {}), zone, start, end)
        for nid, zones in reach.items():
            for zone, limit in limits.items():
                if (nid, zone) not in listed and self._boot_fills(nid, zone, limit, zones):
                    _extend(zones, zone, limit - self.block_bytes, limit)
                    out.append((limit - self.block_bytes, limit, nid, zone))
        for run in self.runs:
            nid = run.nodes[0]
            zone = "" if run.online else self._unlike(run, reach.setdefault(nid, {}), movable_node)
            if zone:
                start, end = run.first * self.block_bytes, (run.last + 1) * self.block_bytes
                _extend(reach[nid], zone, start, end)
                out.append((start, end, nid, zone))
        return out

    def zone_ends(self) -> dict[str, int]:
        """Where the last block of each zone ends, over all nodes."""
        ends: dict[str, int] = {}
        for zones in self._reach().values():
            for zone, (_, end) in zones.items():
                ends[zone] = max(end, ends.get(zone, 0))
        return ends

    def _pieces(self) -> Iterator[tuple[int, int, int, BlockRun]]:
        """Start, end, node and run of every piece of memory, ascending."""
        for run in self.runs:
            start, end = run.first * self.block_bytes, (run.last + 1) * self.block_bytes
            if len(run.nodes) == 1:
                yield start, end, run.nodes[0], run
                continue
            half = self.block_bytes // 2
            for at in range(start, end, self.block_bytes):
                yield at, at + half, run.nodes[0], run
                yield at + half, at + self.block_bytes, run.nodes[1], run

    def _without_holes(self, ranges: Iterable[NodeRange]) -> list[NodeRange]:
        """What the holes leave of the ranges, those that touch made one. Both are ascending."""
        merged: list[NodeRange] = []
        for start, end, nid in ranges:
            if merged and merged[-1][1:] == (start, nid):
                merged[-1] = (merged[-1][0], end, nid)
            else:
                merged.append((start, end, nid))
        out: list[NodeRange] = []
        at = 0
        for start, end, nid in merged:
            while at < len(self.holes) and self.holes[at][0] < end:
                hole_start, hole_end = self.holes[at]
                if hole_start > start:
                    out.append((start, hole_start, nid))
                start = max(start, hole_end)
                if hole_end > end:
                    break  # it goes on in the next range
                at += 1
            if start < end:
                out.append((start, end, nid))
        return out

    def _runs_at(self, start: int, end: int) -> tuple[BlockRun, ...]:
        """The runs with a block that has addresses from `start` on, before `end`."""
        first, stop = start // self.block_bytes, -(-end // self.block_bytes)
        return self.runs[
            bisect_left(self.runs, first, key=lambda run: run.last) : bisect_right(
                self.runs, stop - 1, key=lambda run: run.first
            )
        ]

    def _check_holes(self) -> None:
        for start, end in self.holes:
            if not self._runs_at(start, end):
                raise ConfigError(
                    f"{self.place}: the hole at {start:#x} is in no block that is listed"
                )
            # of what it covers
            first, stop = -(-start // self.block_bytes), end // self.block_bytes
            for run in (
                self._runs_at(first * self.block_bytes, stop * self.block_bytes)
                if first < stop
                else ()
            ):
                number = max(run.first, first)
                raise ConfigError(
                    f"{self.place}: the hole at {start:#x} leaves no RAM in memory{number}"
                )

    def _reach(self) -> dict[int, dict[str, Range]]:
        """The zones of each node, and what the blocks in them span."""
        reach: dict[int, dict[str, Range]] = {}
        for run in self.runs:
            if run.zone in BLOCK_ZONES:
                zones = reach.setdefault(run.nodes[0], {})
                _extend(
                    zones, run.zone, run.first * self.block_bytes, (run.last + 1) * self.block_bytes
                )
        return reach

    def _boot_fills(self, nid: int, zone: str, limit: int, reach: Mapping[str, Range]) -> bool:
        """Does a zone reach to its limit, because at boot the node had memory beyond it? Where RAM
        below 4 GiB ends before 2 GiB, machines have none above: then that came later."""
        higher = KERNEL_ZONES[KERNEL_ZONES.index(zone) + 1 :]
        beyond = any(reach[name][0] >= limit for name in higher if name in reach)
        if not beyond or zone not in reach or reach[zone][1] >= limit:
            return False
        if limit == 1 << 32 and reach[zone][1] < 1 << 31:
            return False
        between = self._runs_at(reach[zone][1], limit)
        return not any(
            run.zones and zone not in run.zones and run.nodes == (nid,) for run in between
        )

    def _unlike(self, run: BlockRun, reach: Mapping[str, Range], movable_node: bool) -> str:
        """The zone that must span an offline block for its `valid_zones` to be as it was, "" if it
        is.
        """

        def inside(zone: str) -> bool:
            start, end = reach.get(zone, (0, 0))
            return start < (run.last + 1) * self.block_bytes and end > run.first * self.block_bytes

        kernel_zones = [zone for zone in run.zones if zone != _MOVABLE]
        kernel = next((zone for zone in KERNEL_ZONES[:-1] if inside(zone)), KERNEL_ZONES[-1])
        if kernel_zones and kernel_zones[0] != kernel:
            return kernel_zones[0] if kernel_zones[0] != KERNEL_ZONES[-1] else ""
        in_kernel, in_movable = inside(kernel), inside(_MOVABLE)
        prefers_movable = movable_node if in_kernel == in_movable else in_movable
        if not run.zones or prefers_movable == (run.zones[0] == _MOVABLE):
            return ""
        return kernel if prefers_movable else "" if in_kernel else _MOVABLE


def _extend(reach: dict[str, Range], zone: str, start: int, end: int) -> None:
    low, high = reach.get(zone, (start, end))
    reach[zone] = (min(low, start), max(high, end))


# --------------------------------------------------------------------------------------- reading it


def read_block_list(
    table: Mapping[str, object],
    name: str,
    arch: Mapping[str, Any],
    arch_name: str,
    bytes_limit: int,
) -> BlockList:
    """The blocks of a machine file.

    :param table: the file; it has the key `block`.
    :param name: of the file, for error messages.
    :param arch: content of `arches/NAME.toml`: size of a section, limits of zones and addresses.
    :param bytes_limit: more memory than this is refused.
    :raises ConfigError: one line: key, what is wrong, what would be right.
    """
    block_bytes = _block_bytes(table, name, arch, arch_name)
    entries = table["block"]
    place = f"`block` in {name}"
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(entry, Mapping) for entry in entries)
    ):
        raise ConfigError(
            f'{place}: a list of tables like {{first = 0, last = 7, state = "online"}} is wanted'
        )
    runs = [
        _run(entry, f"{place}, entry {i}", arch, block_bytes) for i, entry in enumerate(entries)
    ]
    runs.sort(key=lambda run: run.first)
    for before, after in pairwise(runs):
        if after.first <= before.last:
            raise ConfigError(f"{place}: memory{after.first} is there twice")
    out = BlockList(block_bytes, tuple(runs), place=place)
    count = out.bytes // block_bytes
    if count > BLOCKS_LIMIT or out.bytes > bytes_limit:
        raise ConfigError(
            f"{place}: {count} blocks with {out.bytes >> 30}G together are too many; "
            f"{BLOCKS_LIMIT} with {bytes_limit >> 30}G are possible"
        )
    if not any(run.online for run in runs):
        raise ConfigError(f"{place}: no block is online; a kernel needs memory to run in")
    high = bool(arch.get("dma_covers_high_ram")) and runs[0].first * block_bytes >= 1 << 32
    limits = {} if high else arch.get("zone_limits", {})
    split = (
        part
        for run in runs
        for part in _by_address(run, block_bytes, limits, "DMA" if high else "Normal")
    )
    holes = _holes(table, name, arch, runs[0].first == 0)
    return BlockList(block_bytes, tuple(split), tuple(_zone_spans(table, name)), holes, place)


def _whole(value: object, place: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{place}: {_short(value)} is not a whole number")
    if not least <= value <= most:
        raise ConfigError(
            f"{place}: {_short(value)} is out of range, {least} to {most} is possible"
        )
    return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of so many digits that Python refuses to print it
        text = "that number"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _known(entry: Mapping[str, object], place: str, keys: Sequence[str]) -> None:
    for key in entry:
        if key not in keys:
            raise ConfigError(f"{place}: no key `{_short(key)[1:-1]}`; known: {', '.join(keys)}")


def _block_bytes(
    table: Mapping[str, object], name: str, arch: Mapping[str, Any], arch_name: str
) -> int:
    place = f"`block_bytes` in {name}"
    if "block_bytes" not in table:
        raise ConfigError(
            f"{name}: `block` needs `block_bytes`, the size of a memory block: 0x8000000, say"
        )
    section = 1 << arch["section_shift"]
    size = _whole(table["block_bytes"], place, 1, 1 << 46)
    if size & (size - 1):
        raise ConfigError(f"{place}: {size:#x} is no power of two")
    if size < section:
        raise ConfigError(
            f"{place}: {size:#x} is less than a section of {arch_name} with this kernel,"
            f" {section:#x}"
        )
    return size


_RUN_KEYS: Final = (
    "first", "last", "state", "zones", "node", "node_link", "removable", "phys_device", "phys_device_step",
)  # fmt: skip
_DEVICE_LIMIT: Final = (1 << 31) - 1


def _run(
    entry: Mapping[str, object], place: str, arch: Mapping[str, Any], block_bytes: int
) -> BlockRun:
    _known(entry, place, _RUN_KEYS)
    if "first" not in entry:
        raise ConfigError(
            f"{place}: `first` is missing, the number of the first block: 32 for memory32"
        )
    most = (1 << arch["max_phys_bits"]) // block_bytes - 1
    first = _whole(entry["first"], f"{place}: first", 0, most)
    last = _whole(entry.get("last", first), f"{place}: last", first, most)
    state = entry.get("state", "online")
    if state not in ("online", "offline"):
        raise ConfigError(f"{place}: state {_short(state)} is neither online nor offline")
    for key in ("node_link", "removable"):
        if not isinstance(entry.get(key, True), bool):
            raise ConfigError(f"{place}: {key} is true or false, not {_short(entry[key])}")
    node = entry.get("node", 0)
    listed = node if isinstance(node, list) else [node]
    nodes = tuple(_whole(n, f"{place}: node", 0, NODES_LIMIT - 1) for n in listed)
    zones = _zones(entry, place, state == "online")
    if not 1 <= len(nodes) <= 2 or len(set(nodes)) != len(nodes):
        raise ConfigError(f"{place}: node {_short(node)}: one node, or two that meet in the block")
    if len(nodes) == 2 and (state != "online" or zones != (_SEVERAL,)):
        raise ConfigError(
            f'{place}: a block of two nodes is in two zones; its zones are "none", and it is online'
        )
    device = _whole(entry.get("phys_device", 0), f"{place}: phys_device", 0, _DEVICE_LIMIT)
    step_most = (_DEVICE_LIMIT - device) // (last - first) if last > first else _DEVICE_LIMIT
    step = _whole(entry.get("phys_device_step", 0), f"{place}: phys_device_step", 0, step_most)
    linked, removable = bool(entry.get("node_link", True)), bool(entry.get("removable", True))
    return BlockRun(first, last, str(state), zones, nodes, linked, removable, device, step)


def _zones(entry: Mapping[str, object], place: str, online: bool) -> tuple[str, ...]:
    text = entry.get("zones", "")
    if not isinstance(text, str):
        raise ConfigError(f'{place}: zones is text, "Normal Movable" say, not {_short(text)}')
    words = tuple(text.split())
    for word in words:
        if word not in BLOCK_ZONES and not (word == _SEVERAL and online):
            raise ConfigError(
                f"{place}: zones: no zone {_short(word)}; known: {', '.join(BLOCK_ZONES)}; none if"
                " online"
            )
    if online and len(words) > 1:
        raise ConfigError(
            f'{place}: zones: an online block is in one zone, or "none" when it is in several'
        )
    return words


def _by_address(
    run: BlockRun, block_bytes: int, limits: Mapping[str, int], last_zone: str
) -> Iterator[BlockRun]:
    """The run itself if it says its zones or has none; else its parts, each with the zone of its
    addresses.
    """
    first = run.first
    for zone, limit in sorted(limits.items(), key=lambda item: item[1]):
        if run.zones or not run.online:
            break
        end = min(limit // block_bytes, run.last + 1)
        if first < end:
            yield _part(run, first, end - 1, zone)
            first = end
        # its limit is within a block
        if limit % block_bytes and first == limit // block_bytes <= run.last:
            yield _part(run, first, first, _SEVERAL)
            first += 1
    if first <= run.last:
        yield _part(run, first, run.last, last_zone) if run.online and not run.zones else run


def _part(run: BlockRun, first: int, last: int, zone: str) -> BlockRun:
    device = run.phys_device + (first - run.first) * run.phys_device_step
    return replace(run, first=first, last=last, zones=(zone,), phys_device=device)


def _holes(
    table: Mapping[str, object], name: str, arch: Mapping[str, Any], from_zero: bool
) -> tuple[Range, ...]:
    place = f"`holes` in {name}"
    value = table.get("holes")
    if value is None:
        # What no PC has RAM in, whatever else is known of it
        legacy = arch["layout"] == "q35" and from_zero
        return ((arch["e820"][0]["range"][0], 1 << 20),) if legacy else ()
    if not isinstance(value, list) or len(value) > _PIECES_LIMIT:
        raise ConfigError(
            f"{place}: a list of ranges like [0x9fc00, 0x100000] is wanted, {_PIECES_LIMIT} at most"
        )
    holes = sorted(_range(item, place, arch) for item in value)
    for before, after in pairwise(holes):
        if after[0] < before[1]:
            raise ConfigError(
                f"{place}: the hole at {after[0]:#x} overlaps the one at {before[0]:#x}"
            )
    return tuple(holes)


def _range(item: object, place: str, arch: Mapping[str, Any] | None = None) -> Range:
    most = 1 << (arch["max_phys_bits"] if arch else 52)
    if not isinstance(item, list) or len(item) != 2:
        raise ConfigError(
            f"{place}: {_short(item)} is no range; write [0x9fc00, 0x100000]: start, and end"
            " exclusive"
        )
    start, end = (_whole(number, place, 0, most) for number in item)
    if start >= end:
        raise ConfigError(f"{place}: the range {start:#x}, {end:#x} is empty; the end comes last")
    return start, end


def _zone_spans(table: Mapping[str, object], name: str) -> Iterator[ZoneSpan]:
    place = f"`zone` in {name}"
    value = table.get("zone", [])
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        example = '{node = 0, name = "DMA32", range = [0x1000000, 0x100000000]}'
        raise ConfigError(f"{place}: a list of tables like {example} is wanted")
    if len(value) > NODES_LIMIT * len(BLOCK_ZONES):
        raise ConfigError(f"{place}: {len(value)} zones are more than there are")
    for i, entry in enumerate(value):
        where = f"{place}, entry {i}"
        _known(entry, where, ("node", "name", "range"))
        if entry.get("name") not in BLOCK_ZONES:
            raise ConfigError(
                f"{where}: name {_short(entry.get('name'))} is no zone; known: {', '.join(BLOCK_ZONES)}"
            )
        node = _whole(entry.get("node", 0), f"{where}: node", 0, NODES_LIMIT - 1)
        yield (*_range(entry.get("range"), f"{where}: range"), node, str(entry["name"]))
