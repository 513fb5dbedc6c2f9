"""What the report of a failed test says about the machine: its map, log and events.

Owns: which sections and properties there are, and their text. Does not own how the map is drawn
(cli/memory_map.py).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..events import Event
    from ..machine import Machine
    from .hotplug import Hotplug

SHOWN: Final = 30  # of the newest lines and events
WIDTH: Final = 120


def sections(value: object) -> Iterator[tuple[str, str]]:
    """Sections about the value of a fixture, title and text; none if it is no machine."""
    # What is not loaded made no fixture.
    hotplug = sys.modules.get("fakesysfs.testing.hotplug")
    machine = sys.modules.get("fakesysfs.machine")
    if hotplug is not None and isinstance(value, hotplug.Hotplug):
        yield from _of_hotplug(value)
    elif machine is not None and isinstance(value, machine.Machine):
        yield from _of_machine(value)


def _of_hotplug(hotplug: Hotplug) -> Iterator[tuple[str, str]]:
    if not hotplug.running:
        yield "instance", "it has ended"
        return
    yield "map", _map(hotplug.map)
    yield "log", _newest(hotplug.dmesg)
    yield "events", _newest([event_line(event) for event in hotplug.events])


def _of_machine(machine: Machine) -> Iterator[tuple[str, str]]:
    try:
        blocks = machine.blocks()
    except ValueError:
        yield "machine", "it is closed"
        return
    yield "map", _map({"block_bytes": machine.block_bytes, "blocks": blocks, "dimms": []})
    yield "log", _newest([text for _, text in machine.dmesg()])
    yield "events", _newest([event_line(event) for event in machine.events()])


def event_line(event: Event) -> str:
    """An event as a line for people."""
    failed = f" -> errno {event.errno}" if event.errno else ""
    by = ""
    if event.cause is not None:
        who = f" ({event.cause.comm})" if event.cause.comm else ""
        by = f"  [{event.cause.what}{who}]"
    return f"{event.seq:>5} {event.kind:<10} {event.path} {event.data}{failed}{by}".rstrip()


def _map(snapshot: Mapping[str, Any]) -> str:
    from rich.console import Console

    from ..cli.memory_map import memory_map

    text = io.StringIO()
    Console(file=text, width=WIDTH, color_system=None, highlight=False).print(memory_map(snapshot))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _newest(lines: Sequence[str]) -> str:
    if not lines:
        return "(none)"
    left_out = len(lines) - SHOWN
    return "\n".join((*([f"({left_out} before)"] if left_out > 0 else []), *lines[-SHOWN:]))
