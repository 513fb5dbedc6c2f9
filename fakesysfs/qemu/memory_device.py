"""What all memory devices of the host have in common: their attributes, and their place in memory.

Owns: where in physical memory a device goes, in QEMU's order of checks and its words. Does not own:
the kinds of devices (dimm.py, virtio_mem.py), backends (backends.py).

Sizes and addresses are bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import MonitorError
from .host_memory import RAM_ALIGNMENT

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig
    from .backends import Backend
    from .qemu_text import Warn
    from .qom import QomProperty

__all__ = ["MemoryDevice", "find_place"]


class MemoryDevice(ABC):
    """A device that takes a part of physical memory.

    :ivar id: its name, None for a device that got none.
    :ivar path: its QOM path.
    :ivar node: NUMA node.
    :ivar addr: first physical address.
    :ivar offset: the same, counted from the start of all device memory.
    :ivar memdev: the backend it is made of.
    :ivar plugged: how much memory of it there is.
    """

    def __init__(self, name: str | None, path: str, memdev: Backend) -> None:
        self.id = name
        self.path = path
        self.memdev = memdev
        self.node = 0
        self.addr = 0
        self.offset = 0
        self.plugged = 0

    @property
    def size(self) -> int:
        """How much of physical memory it takes."""
        return self.memdev.size

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What query-memory-devices says of it."""

    @property
    @abstractmethod
    def qom_type(self) -> str:
        """Its QOM type."""

    @abstractmethod
    def properties(self) -> list[QomProperty]:
        """Return its QOM properties in the order of qom-list."""

    @abstractmethod
    def type_to_set(self, name: str) -> str | None:
        """As for every QomObject."""

    @abstractmethod
    def set(self, name: str, value: Any) -> bool:
        """As for every QomObject."""

    def put(self, config: MachineConfig, addr: int) -> None:
        """Give it its place in physical memory."""
        self.addr = addr
        self.offset = addr - config.device_memory_base


def find_place(
    config: MachineConfig,
    devices: Iterable[MemoryDevice],
    wanted: int,
    memdev: Backend,
    warn: Warn | None,
    *,
    unit: int = 0,
) -> int:
    """Return the address of a device made of `memdev`: `wanted`, or with 0 the first that fits.

    :param devices: those that are there, by address.
    :param unit: the device wants its address and size to be multiples of this, too.
    :param warn: told what QEMU would warn of.
    :raises MonitorError: nowhere, in QEMU's words.
    """
    there = list(devices)
    base, space, size = config.device_memory_base, config.device_memory_bytes, memdev.size
    used = sum(device.size for device in there)
    if used + size > config.device_memory_limit:
        raise MonitorError(
            f"not enough space, currently {used:#x} in use of total space for memory devices"
            f" {config.device_memory_limit:#x}"
        )
    # Memory of the host is aligned for the host; a guest whose memory blocks are larger than that
    # needs more.
    align = (
        memdev.alignment
        if config.dimm_alignment <= RAM_ALIGNMENT
        else max(memdev.alignment, config.dimm_alignment)
    )
    align = max(align, unit)
    if base % align and warn:
        warn(
            f"the alignment ({align:#x}) exceeds the expected maximum alignment, memory will get"
            " fragmented and not all 'maxmem' might be usable for memory devices."
        )
    if wanted % align:
        raise MonitorError(f"address must be aligned to {align:#x} bytes")
    if size % align:
        raise MonitorError(f"backend memory size must be multiple of {align:#x}")
    if wanted:
        if wanted < base or wanted + size > base + space:
            raise MonitorError(
                f"can't add memory device [{wanted:#x}:{size:#x}], usable range for memory devices"
                f" [{base:#x}:{space:#x}]"
            )
        for device in there:
            if wanted < device.addr + device.size and device.addr < wanted + size:
                raise MonitorError(
                    f"address range conflicts with memory device id='{device.id or '(unnamed)'}'"
                )
        return wanted
    start = _align_up(base, align)
    for device in there:
        if device.addr >= start + size:
            break
        if device.addr + device.size > start:
            start = _align_up(device.addr + device.size, align)
    if start + size > base + space:
        raise MonitorError(
            "could not find position in guest address space for memory device - memory fragmented"
            " due to alignments"
        )
    return start


def _align_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
