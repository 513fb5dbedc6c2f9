"""The memory blocks of a machine that was seen, as a machine file lists them.

Owns: which node and zone a block is of where a file is missing, runs of blocks that are alike,
holes. Does not own: what the files say (observed_machine.py), the keys of a machine file
(config/block_list.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from ..config.address_map import Range
from ..config.block_list import BlockList, BlockRun
from ..config.limits import NODES_LIMIT
from ..errors import ConfigError
from .observed_machine import ObservedMachine

__all__ = ["captured_blocks", "name_blocks"]


def captured_blocks(seen: ObservedMachine, note: Callable[[str], object]) -> BlockList:
    """Return the memory blocks as a machine file lists them.

    :param note: takes a line for everything that is inferred.
    :raises ConfigError: the copy contradicts itself.
    """
    if not any(block.state == "online" for block in seen.blocks):
        raise ConfigError(
            f"{seen.path}: no memory block is online; a kernel needs memory to run in"
        )
    runs = list(_compressed(_runs(seen, note)))
    _tell_of_blocks(seen, note)
    if seen.live and "probe" not in seen.names:
        note(
            "the file `probe`: this kernel has none; --config ARCH_MEMORY_PROBE=n is without"
            " it, too"
        )
    holes = None if seen.ram is None else tuple(_holes(runs, seen.block_bytes, seen.ram))
    return BlockList(seen.block_bytes, tuple(runs), (), holes or (), "the copy")


def _runs(seen: ObservedMachine, note: Callable[[str], object]) -> Iterator[BlockRun]:
    """A run for each block."""
    before = next((block.links[0] for block in seen.blocks if block.links), 0)
    owners: dict[str, list[int]] = {}
    for number, node in (seen.nodes or {}).items():
        for name in node.blocks:
            owners.setdefault(name, []).append(number)
    alone: list[int] = []
    some_links = seen.links_kept and (
        seen.nodes is not None or any(block.links for block in seen.blocks)
    )
    for block in seen.blocks:
        owner = tuple(sorted(owners.get(f"memory{block.number}", ())))
        if owner and block.links and owner != block.links:
            others = " and ".join(f"node{n}" for n in owner)
            raise ConfigError(
                f"{seen.path}/memory{block.number}: linked to node{block.links[0]}, and"
                f" {others} has it as its own"
            )
        nodes = block.links or owner
        if seen.nodes is not None and any(node not in seen.nodes for node in nodes):
            lost = f"node{next(node for node in nodes if node not in seen.nodes)}"
            raise ConfigError(
                f"{seen.path}/memory{block.number}/{lost}: there is no {seen.node_path}/{lost}"
            )
        if any(node >= NODES_LIMIT for node in nodes):
            raise ConfigError(
                f"{seen.path}/memory{block.number}: nodes 0 to {NODES_LIMIT - 1} are simulated"
            )
        if not nodes:
            alone.append(block.number)
            nodes = (before,)
        before = nodes[-1]
        zones = block.zones or ()
        if block.state == "online" and len(nodes) == 2:
            zones = ("none",)
        yield BlockRun(
            block.number,
            block.number,
            block.state,
            zones[:1] if block.state == "online" else zones,
            nodes if block.state == "online" else nodes[:1],
            bool(block.links) or not some_links,
            block.removable is not False,
            block.phys_device or 0,
        )
    if seen.nodes is not None and alone:
        note(
            f"{name_blocks(alone)}: no link to a node; on that of the block before, or else of the"
            " next"
        )
    elif seen.nodes is None and len(alone) == len(seen.blocks):
        note("nodes: there are none, so this is a kernel without NUMA")


def _tell_of_blocks(seen: ObservedMachine, note: Callable[[str], object]) -> None:
    """Say what the files of blocks did not."""
    blocks = seen.blocks
    for what, numbers in (
        ("the zone: no valid_zones; by address", [b.number for b in blocks if b.zones is None]),
        (
            "whether it is removable: no such file; it is",
            [b.number for b in blocks if b.removable is None],
        ),
        ("phys_device: no such file; 0", [b.number for b in blocks if b.phys_device is None]),
        ("it was going offline; it is online here", seen.going_offline),
    ):
        if numbers:
            note(f"{name_blocks(numbers)}: {what}")
    if not seen.links_kept and seen.nodes is not None:
        note("links between blocks and nodes: the copy has no links at all; they are there")


def _compressed(runs: Iterable[BlockRun]) -> Iterator[BlockRun]:
    """Blocks in a row that are alike, made one run."""
    last: BlockRun | None = None
    for run in runs:
        if last and (longer := _joined(last, run)):
            last = longer
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def _joined(run: BlockRun, block: BlockRun) -> BlockRun | None:
    """The run with one more block, if it is the next one and like the others."""
    count = run.last - run.first + 1
    step = run.phys_device_step if count > 1 else max(block.phys_device - run.phys_device, 0)
    like = replace(
        run, first=block.first, last=block.last, phys_device=block.phys_device, phys_device_step=0
    )
    if (
        block.first != run.last + 1
        or like != block
        or block.phys_device != run.phys_device + count * step
    ):
        return None
    return replace(run, last=block.last, phys_device_step=step)


def _holes(runs: Iterable[BlockRun], size: int, ram: Iterable[Range]) -> Iterator[Range]:
    """What is no RAM in blocks that have some. Blocks of which nothing is known to be RAM were
    added later.
    """
    pieces: list[Range] = []
    for run in runs:
        start, end = run.first * size, (run.last + 1) * size
        if pieces and pieces[-1][1] == start:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    known: list[Range] = []
    for start, end in sorted(ram):
        if known and start <= known[-1][1]:
            known[-1] = (known[-1][0], max(known[-1][1], end))
        else:
            known.append((start, end))
    edges = [(0, 0), *known, (1 << 64, 1 << 64)]
    gaps = [(before[1], after[0]) for before, after in pairwise(edges)]
    at = 0
    for start, end in pieces:
        while gaps[at][1] <= start:
            at += 1
        for gap in gaps[at:]:
            if gap[0] >= end:
                break
            low, high = max(start, gap[0]), min(end, gap[1])
            if low // size == (high - 1) // size and (low % size or high % size):
                yield low, high
                continue
            if low % size:
                yield low, low - low % size + size
            if high % size:
                yield high - high % size, high


def name_blocks(numbers: Sequence[int]) -> str:
    """Return "memory0, memory4-memory7 and 12 more"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"memory{a}" if a == b else f"memory{a}-memory{b}" for a, b in runs[:5]]
    rest = sum(b - a + 1 for a, b in runs[5:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
