"""Options that every PCI device of virtio takes, whatever it is for.

Owns: their names, types and QEMU's words for a value that cannot be. Does not own: PCI itself,
which is not simulated: a bus is taken at its name, and most of these change nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import MonitorError
from .qom import QomProperty

if TYPE_CHECKING:
    from .property_values import ValueReader

__all__ = ["DEVICE_READ_ONLY", "pci_properties", "read_pci_option"]

#: What no device_add can set.
DEVICE_READ_ONLY: Final = ("type", "parent_bus", "hotplugged", "hotpluggable")

_SWITCHES: Final = (
    "aer", "any_layout", "ats", "disable-modern", "event_idx", "indirect_desc", "iommu_platform", "migrate-extra",
    "modern-pio-notify", "multifunction", "notify_on_empty", "packed", "page-per-vq", "queue_reset", "realized",
    "use-disabled-flag", "use-started", "virtio-pci-bus-master-bug-migration", "x-ats-page-aligned",
    "x-disable-legacy-check", "x-disable-pcie", "x-ignore-backend-features", "x-pcie-deverr-init", "x-pcie-extcap-init",
    "x-pcie-flr-init", "x-pcie-lnkctl-init", "x-pcie-lnksta-dllla", "x-pcie-pm-init",
)  # fmt: skip
#: Those that can be seen: type and value when nobody gave one, in the order of qom-list.
_SHOWN: Final[Mapping[str, tuple[str, Any]]] = {
    "failover_pair_id": ("str", ""),
    "romfile": ("str", ""),
    "addr": ("int32", 0),
    "romsize": ("uint32", (1 << 32) - 1),
    "rombar": ("uint32", 1),
    "acpi-index": ("uint32", 0),
    "disable-legacy": ("OnOffAuto", "auto"),
}
#: "%x.%x" as the C library's sscanf() reads it, to which "0x" is a number too
_HEX: Final = r"\s*[+-]?(?:0[xX])?[0-9a-fA-F]*"
_ADDRESS: Final = re.compile(rf"({_HEX})(?:\.({_HEX}))?", re.ASCII)
_SLOTS: Final = 32
_FUNCTIONS: Final = 8


def read_pci_option(driver: str, name: str, value: Any, reader: ValueReader) -> Any:
    """Return the value of an option of device_add.

    :raises MonitorError: there is no such option, or it cannot have this value.
    """
    if name == "addr":
        return _read_address(driver, reader.read("str", name, value))
    if name in _SWITCHES:
        return reader.read("bool", name, value)
    if name in _SHOWN:
        return reader.read(_SHOWN[name][0], name, value)
    if name in DEVICE_READ_ONLY:
        raise MonitorError(f"Property '{driver}.{name}' is not writable")
    raise MonitorError(f"Property '{driver}.{name}' not found")


def _read_address(driver: str, text: str) -> int:
    """Return slot and function of "06.0", as one number."""
    match = _ADDRESS.fullmatch(text)
    slot, function = (_number(part) for part in match.groups("0")) if match else (None, None)
    if slot is None or function is None or slot >= _SLOTS or function >= _FUNCTIONS:
        raise MonitorError(f"Property '{driver}.addr' doesn't take value '{text}'")
    return slot * _FUNCTIONS + function


def _number(text: str) -> int | None:
    digits = text.strip().lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if not digits:
        return None
    return sign * int(digits.removeprefix("0x") or "0", 16) & 0xFFFFFFFF


def pci_properties(given: Mapping[str, Any]) -> list[QomProperty]:
    """Return the QOM properties in the order of qom-list.

    :param given: the values that device_add gave.
    """
    shown = []
    for name, (kind, default) in _SHOWN.items():
        value = given.get(name, default)
        # behind a root port there are no I/O ports for the legacy interface
        shown.append(QomProperty(name, kind, "on" if value == "auto" else value))
    return shown
