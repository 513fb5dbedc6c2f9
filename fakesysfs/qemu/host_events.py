"""Events of the host: what QMP clients are told.

Owns: the form of such an event. Does not own: what happens (guest_hotplug.py, virtio_mem.py), how
it is delivered (events.py), and the text that clients are sent (qmp.py).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from ..events import Delivery

__all__ = ["HostEvent", "HostEvents"]


class HostEvent(NamedTuple):
    """Something the host is told, as QMP names it.

    :param time_us: when, in microseconds since 1970.
    :param name: ACPI_DEVICE_OST, DEVICE_DELETED, MEMORY_DEVICE_SIZE_CHANGE and so on.
    :param data: what QMP calls its data; empty for an event without.
    """

    time_us: int
    name: str
    data: dict[str, Any]


class HostEvents(Delivery[HostEvent]):
    """The events of a machine's host."""

    def happen(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Queue an event that happens now, which the next deliver() delivers."""
        self.put(HostEvent(time.time_ns() // 1000, name, data or {}))
