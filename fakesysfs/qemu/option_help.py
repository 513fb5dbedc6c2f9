"""What `object_add TYPE,help` and `device_add DRIVER,help` print.

Owns: the list of types and of their options for people, as QEMU 7.2 prints it. Does not own: what
the options mean (backends.py, dimm.py, virtio_mem.py).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ..errors import MonitorError
from .backends import BACKEND_TYPES, declared_properties
from .property_values import not_found

__all__ = ["device_help", "object_help"]

_BACKEND_HELP: Final = {
    "dump": "Set to 'off' to exclude from core dump",
    "host-nodes": "Binds memory to the list of NUMA host nodes",
    "hugetlb": "Use huge pages",
    "hugetlbsize": "Huge pages size (ex: 2M, 1G)",
    "merge": "Mark memory as mergeable",
    "policy": "Set the NUMA policy",
    "prealloc-context": "Context to use for creating CPU threads for preallocation",
    "prealloc-threads": "Number of CPU threads to use for prealloc",
    "prealloc": "Preallocate memory",
    "reserve": "Reserve swap space (or huge pages) if applicable",
    "seal": "Seal growing & shrinking",
    "share": "Mark the memory as private to QEMU or shared",
    "size": "Size of the memory region (ex: 500M)",
}

#: What `device_add help` prints of a device.
_ABOUT: Final = {
    "virtio-mem-pci": 'name "virtio-mem-pci", bus PCI',
    "pc-dimm": 'name "pc-dimm", desc "DIMM memory module"',
}
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


def object_help(qom_type: str | None) -> list[str]:
    """Return the lines of `object_add TYPE,help`; of `object_add help` when there is no such type."""
    if qom_type in ("container", "object"):
        return [f"There are no options for {qom_type}."]
    properties = declared_properties(qom_type or "")
    if properties is None:
        return ["List of user creatable objects:", *(f"  {name}" for name in sorted(BACKEND_TYPES))]
    lines = []
    # QEMU sorts the lines, not the names: "prealloc-context=" comes before "prealloc="
    for name, kind in sorted(properties.items(), key=lambda item: f"{item[0]}="):
        option = f"{name}=<{kind}>"
        lines.append(
            f"  {option:<22} - {_BACKEND_HELP[name]}" if name in _BACKEND_HELP else f"  {option}"
        )
    return [f"{qom_type} options:", *lines]


def device_help(driver: str | None, devices: Collection[str]) -> list[str]:
    """Return the lines of `device_add DRIVER,help`, and without a driver of `device_add help`.

    :param devices: the drivers that the machine has.
    :raises MonitorError: there is no such device.
    """
    if driver is None:
        return ["Misc devices:", *(line for name, line in _ABOUT.items() if name in devices)]
    if driver in (*BACKEND_TYPES, "memory-backend"):
        raise MonitorError("Parameter 'typename' expects a non-abstract device type")
    if driver not in _HELP or driver not in devices:
        raise not_found(driver)
    return [
        f"{driver} options:",
        *(f"  {option:<22}{rest}" if rest else f"  {option}" for option, rest in _HELP[driver]),
    ]
