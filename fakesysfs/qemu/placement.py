"""What all memory devices of the host have in common: their options as text, their place in memory,
their help.

Owns: where in physical memory a device goes, in QEMU's order of checks and its words. Does not own:
the devices (board.py, virtio_mem.py), backends (backends.py).

Sizes and addresses are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import MonitorError
from .backends import BACKEND_TYPES, RAM_ALIGNMENT

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig
    from .backends import Backend
    from .qemu_text import Warn

__all__ = ["Placed", "device_help", "find_place", "option_text"]


class Placed(Protocol):
    """A device that has its place."""

    @property
    def id(self) -> str | None:
        """Its name."""

    @property
    def addr(self) -> int:
        """First address."""

    @property
    def size(self) -> int:
        """How much of physical memory it takes."""


def find_place(
    config: MachineConfig,
    devices: Iterable[Placed],
    wanted: int,
    memdev: Backend,
    warn: Warn | None,
    *,
    unit: int = 0,
) -> int:
    """Where a device made of `memdev` goes: at `wanted`, or with 0 at the first place it fits.

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


def option_text(value: object) -> str | None:
    """A value as QEMU makes an option of it: text. What is no text, number or truth is left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return str(value)
    return f"{value:.17g}" if isinstance(value, float) else None


#: What `device_add DRIVER,help` prints of a property, with the text behind it
_HELP: Final = {
    "pc-dimm": (
        ("addr=<uint64>", " -  (default: 0)"),
        ("memdev=<link<memory-backend>>", ""),
        ("node=<uint32>", " -  (default: 0)"),
        ("size=<uint64>", ""),
        ("slot=<int32>", " -  (default: -1)"),
    ),
    "virtio-mem-pci": (
        ("addr=<int32>", " - Slot and optional function number, example: 06.0 or 06 (default: -1)"),
        ("block-size=<size>", ""),
        ("memaddr=<uint64>", " -  (default: 0)"),
        ("memdev=<link<memory-backend>>", ""),
        ("node=<uint32>", " -  (default: 0)"),
        ("prealloc=<bool>", " -  (default: false)"),
        ("requested-size=<size>", ""),
        ("size=<size>", ""),
        ("unplugged-inaccessible=<OnOffAuto>", ' - on/off/auto (default: "auto")'),
        ("virtio-backend=<child<virtio-mem>>", ""),
    ),
}


def device_help(driver: str | None) -> list[str]:
    """The lines of `device_add DRIVER,help`, and without a driver of `device_add help`.

    :raises MonitorError: there is no such device.
    """
    if driver is None:
        return [
            "Misc devices:",
            'name "virtio-mem-pci", bus PCI',
            'name "pc-dimm", desc "DIMM memory module"',
        ]
    if driver in (*BACKEND_TYPES, "memory-backend"):
        raise MonitorError("Parameter 'typename' expects a non-abstract device type")
    if driver not in _HELP:
        raise MonitorError(f"Device '{driver}' not found", "DeviceNotFound")
    return [
        f"{driver} options:",
        *(f"  {option:<22}{rest}" if rest else f"  {option}" for option, rest in _HELP[driver]),
    ]


def _align_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
