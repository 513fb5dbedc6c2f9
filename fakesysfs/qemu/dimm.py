"""A DIMM: the device `pc-dimm`, and the slots that hold it.

Owns: the properties of the device, which slot a DIMM goes to, and what the host remembers of each
slot, in QEMU's words. Does not own: when the guest is asked (guest_hotplug.py), and the place in
physical memory (memory_device.py).

    slots      [ d0 ][    ][ d3 ][    ]
    addresses  |4G  d0 |     |  d3 |                   | base + maxmem - RAM + 1 GiB a slot
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import MonitorError
from .memory_device import MemoryDevice, find_place
from .qom import QomProperty

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig
    from .backends import Backend
    from .property_values import ValueReader
    from .qemu_text import Warn

__all__ = ["DIMM_DRIVERS", "Dimm", "DimmOptions", "DimmSlots", "Slot", "read_dimm_options"]

DIMM_DRIVERS: Final = ("pc-dimm", "nvdimm")

_U64: Final = (1 << 64) - 1
#: Properties a device_add can set, with their type, and those it cannot.
_WRITABLE: Final = {
    "memdev": "link<memory-backend>",
    "node": "uint32",
    "addr": "uint64",
    "slot": "int32",
    "realized": "bool",
}
_READ_ONLY: Final = ("type", "parent_bus", "hotplugged", "hotpluggable", "legacy-memdev", "size")


class DimmOptions(NamedTuple):
    """What a DIMM is to be.

    :param addr: 0: the first address where it fits.
    :param slot: -1: the first that is free.
    """

    memdev: Backend | None
    node: int = 0
    addr: int = 0
    slot: int = -1


def read_dimm_options(
    driver: str,
    options: Mapping[str, Any],
    reader: ValueReader,
    find_backend: Callable[[str, str], Backend | None],
) -> DimmOptions:
    """Return what the options of device_add say.

    :param find_backend: returns what the link property of the first argument leads to when it is
        set to the second.
    :raises MonitorError: one is unknown, not writable, or of another type.
    """
    memdev: Backend | None = None
    values: dict[str, int] = {}
    for key, value in options.items():
        if key in _READ_ONLY:
            raise MonitorError(f"Property '{driver}.{key}' is not writable")
        if key not in _WRITABLE:
            raise MonitorError(f"Property '{driver}.{key}' not found")
        read = reader.read(_WRITABLE[key], key, value)
        if key == "memdev":
            memdev = find_backend(key, read)
        elif key != "realized":
            values[key] = read
    return DimmOptions(memdev, **values)


class Dimm(MemoryDevice):
    """A DIMM in a slot.

    :ivar slot: its slot.
    :ivar hotplugged: False when it was there at boot.
    """

    qom_type = "pc-dimm"

    def __init__(self, name: str | None, path: str, memdev: Backend, hotplugged: bool) -> None:
        super().__init__(name, path, memdev)
        self.slot = 0
        self.hotplugged = hotplugged
        self.plugged = memdev.size

    def __repr__(self) -> str:
        return (
            f"Dimm({self.id!r}, slot={self.slot}, node={self.node}, {self.addr:#x}+{self.size:#x})"
        )

    @property
    def description(self) -> dict[str, Any]:
        """What query-memory-devices says of it."""
        data = {
            "memdev": self.memdev.path,
            "hotplugged": self.hotplugged,
            "addr": self.addr,
            "hotpluggable": True,
            "size": self.size,
            "slot": self.slot,
            "node": self.node,
        }
        return {"type": "dimm", "data": data if self.id is None else data | {"id": self.id}}

    def properties(self) -> list[QomProperty]:
        """Return its QOM properties in the order of qom-list."""
        return [
            QomProperty("parent_bus", "link<bus>", ""),
            QomProperty("realized", "bool", True),
            QomProperty("hotplugged", "bool", self.hotplugged),
            QomProperty("hotpluggable", "bool", True),
            QomProperty("memdev", "link<memory-backend>", self.memdev.path, self.memdev),
            QomProperty("node", "uint32", self.node),
            QomProperty("addr", "uint64", self.addr),
            QomProperty("legacy-memdev", "str", ""),
            QomProperty("slot", "int32", self.slot),
            QomProperty("size", "uint64", self.size),
        ]

    def type_to_set(self, name: str) -> str | None:
        """Return the type of value that a property takes; None when it is not writable.

        :raises MonitorError: it can be set only while the device is being made.
        """
        if name in ("node", "addr", "slot"):
            which = f"device '{self.id}'" if self.id is not None else "anonymous device"
            raise MonitorError(
                f"Attempt to set property '{name}' on {which} (type 'pc-dimm') after it was"
                " realized"
            )
        return _WRITABLE.get(name)

    def set(self, name: str, value: Any) -> bool:
        """Give a property a value: only that of `realized` which it has.

        :raises MonitorError: QEMU's reason not to.
        """
        if name == "memdev":
            raise MonitorError(
                f"Attempt to set link property 'memdev' on device '{self.id or '(null)'}' (type"
                " 'pc-dimm') after it was realized"
            )
        if not value:
            raise MonitorError("Property 'pc-dimm.realized' cannot be set to false; use device_del")
        return False


class Slot:
    """What QEMU's ACPI device and the guest know of a slot.

    :ivar dimm: what is in it.
    :ivar known: the guest has a device here: it was told to look, and has not ejected.
    :ivar source: event code of the guest's last report, by _OST.
    :ivar status: its status.
    """

    __slots__ = ("dimm", "known", "number", "source", "status")

    def __init__(self, number: int) -> None:
        self.number = number
        self.dimm: Dimm | None = None
        self.known = False
        self.source = 0
        self.status = 0

    @property
    def description(self) -> dict[str, Any]:
        """What query-acpi-ospm-status says of it."""
        device = {} if self.dimm is None or self.dimm.id is None else {"device": self.dimm.id}
        reported = {"source": self.source, "status": self.status}
        return {**device, **reported, "slot": str(self.number), "slot-type": "DIMM"}


class DimmSlots:
    """The slots of a machine."""

    def __init__(self, config: MachineConfig) -> None:
        self._config = config
        self._slots = [Slot(number) for number in range(config.slots)]

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, number: int) -> Slot:
        return self._slots[number]

    @property
    def dimms(self) -> list[Dimm]:
        """The DIMMs that are in a slot, by slot."""
        return [slot.dimm for slot in self._slots if slot.dimm is not None]

    def plug(
        self,
        dimm_of: Callable[[Backend], Dimm],
        driver: str,
        options: DimmOptions,
        devices: Iterable[MemoryDevice],
        warn: Warn | None,
    ) -> Dimm:
        """Put a DIMM into a slot; the checks are in QEMU's order.

        :param dimm_of: makes a DIMM of a backend.
        :param devices: the memory devices there are, by address.
        :raises MonitorError: QEMU's reason not to.
        """
        if driver == "nvdimm":
            raise MonitorError(self._config.qemu["refused"][driver])
        number = self._free_slot(options.slot)
        memdev = options.memdev
        if memdev is None:
            raise MonitorError("'memdev' property must be set")
        addr = find_place(self._config, devices, options.addr, memdev, warn)
        nodes = len(self._config.nodes)
        if options.node >= nodes:
            raise MonitorError(
                f"'DIMM property node has value {options.node}' which exceeds the number of numa"
                f" nodes: {nodes}"
            )
        if memdev.used:
            raise MonitorError(f"can't use already busy memdev: {memdev.id}")
        dimm = dimm_of(memdev)
        dimm.put(self._config, addr)
        dimm.slot, dimm.node = number, options.node
        self._slots[number].dimm = dimm
        memdev.use(dimm)
        return dimm

    def _free_slot(self, wanted: int) -> int:
        """Return the slot asked for, or with -1 the first free one."""
        count = len(self._slots)
        if wanted != -1 and not 0 <= wanted < count:
            raise MonitorError(
                f"invalid slot number {wanted}, valid range is [0-{(count - 1) & _U64}]"
            )
        if not count:
            raise MonitorError("no slots where allocated, please specify the 'slots' option")
        if wanted != -1:
            if self._slots[wanted].dimm is not None:
                raise MonitorError(f"slot {wanted} is busy")
            return wanted
        for slot in self._slots:
            if slot.dimm is None:
                return slot.number
        raise MonitorError("no free slots available")
