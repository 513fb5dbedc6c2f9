"""Pictures: from plain values to something rich can print. Pure functions, no terminal and no
machine in sight.

Owns: how the map of physical memory looks. Does not own: where the values come from (the control
request "map"), nor what they are printed on; rich leaves out colours where there is no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from ..config.sizes import show_about

CELLS = 64  # of a row at most; more blocks than that share cells
FILL = "▁▂▃▄▅▆▇█"  # share of a block's pages that is in use
OFFLINE = "·"
COLOURS = {
    "DMA": "yellow",
    "DMA32": "cyan",
    "Normal": "green",
    "Movable": "blue",
    "Device": "magenta",
}
MIXED = "white"


class Block(NamedTuple):
    """A memory block as Machine.blocks() describes it; sizes in pages."""

    id: int
    start: int
    state: str
    zone: str | None
    nid: int
    free_pages: int
    present_pages: int
    movable_pages: int
    unmovable_pages: int


def memory_map(snapshot: Mapping[str, Any]) -> Table:
    """The physical address space: a row for each run of neighbouring blocks that belong together.

    :param snapshot: "block_bytes", "blocks" (see Block) and "dimms" (as QMP's
        query-memory-devices), as the control request "map" gives them.
    """
    block_bytes = snapshot["block_bytes"]
    blocks = [Block(*values) for values in snapshot["blocks"]]
    devices = [_device(device["type"], device["data"]) for device in snapshot["dimms"]]
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        caption_justify="left",
        caption=_legend(blocks),
    )
    table.add_column("ADDRESS")
    table.add_column("SIZE", justify="right")
    table.add_column("NODE", justify="right")
    table.add_column("BLOCKS")
    table.add_column("IN USE", min_width=8)
    table.add_column("ZONES")
    table.add_column("DEVICE")
    for run in _runs(blocks, devices, block_bytes):
        start, end = run[0].start, run[-1].start + block_bytes
        inside = [device for device in devices if device.start < end and start < device.end]
        table.add_row(
            f"{start:#012x}-{end - 1:#012x}",
            show_about(end - start),
            str(run[0].nid),
            f"memory{run[0].id}" + (f"-{run[-1].id}" if len(run) > 1 else ""),
            _bar(run),
            _zones(run),
            ", ".join(device.label for device in inside),
        )
    return table


class _Device(NamedTuple):
    """A memory device: where it is, and what to call it."""

    start: int
    end: int
    label: str


def _device(kind: str, data: Mapping[str, Any]) -> _Device:
    name = data.get("id") or "(no id)"
    if kind == "virtio-mem":
        start, most = data["memaddr"], data["max-size"]
        return _Device(
            start, start + most, f"{name}, {show_about(data['size'])} of {show_about(most)}"
        )
    return _Device(data["addr"], data["addr"] + data["size"], f"{name} in slot {data['slot']}")


def _runs(
    blocks: Sequence[Block], devices: Sequence[_Device], block_bytes: int
) -> Iterator[list[Block]]:
    """Blocks without a hole between them, of one node and on the same device or none."""
    starts = {device.start for device in devices} | {device.end for device in devices}
    run: list[Block] = []
    for block in blocks:
        here = range(block.start, block.start + block_bytes)
        if run and (
            block.start != run[-1].start + block_bytes
            or block.nid != run[-1].nid
            or any(start in here for start in starts)
        ):
            yield run
            run = []
        run.append(block)
    if run:
        yield run


def _bar(run: Sequence[Block]) -> Text:
    """A cell for each block, or for several when there are too many."""
    text = Text(overflow="crop", no_wrap=True)
    step = -(-len(run) // CELLS)
    for index in range(0, len(run), step):
        cell = run[index : index + step]
        online = [block for block in cell if block.state != "offline"]
        present = sum(block.present_pages for block in online)
        if not present:
            text.append(OFFLINE, style="dim")
            continue
        used = 1 - sum(block.free_pages for block in online) / present
        zones = {block.zone for block in online}
        colour = COLOURS.get(zones.pop() or "", MIXED) if len(zones) == 1 else MIXED
        text.append(FILL[min(int(used * len(FILL)), len(FILL) - 1)], style=colour)
    return text


def _zones(run: Sequence[Block]) -> Text:
    """How many blocks of which zone, or in which state but online."""
    counts: dict[str, int] = {}
    for block in run:
        word = block.state if block.state != "online" else block.zone or "several"
        word = "several" if word == "none" else word
        counts[word] = counts.get(word, 0) + 1
    parts = [
        Text(f"{word} {number}" if len(counts) > 1 else word, style=COLOURS.get(word, ""))
        for word, number in counts.items()
    ]
    return Text(", ").join(parts)


def _legend(blocks: Sequence[Block]) -> Text:
    text = Text(f"{OFFLINE} offline   {FILL[0]} free ... {FILL[-1]} in use   ")
    for zone in COLOURS:
        if any(block.zone == zone and block.state != "offline" for block in blocks):
            text.append(f"{zone} ", style=COLOURS[zone])
    return text
