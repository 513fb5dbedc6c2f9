"""The device virtio-mem: plugged once, its memory comes and goes in small blocks.

Owns: the properties of the device `virtio-mem-pci` and of the `virtio-mem` behind it, and the
limits of its size, in QEMU's words. Does not own: when the guest's driver works
(virtio_mem_driver.py), and what the driver does (engine/devices/virtio_mem.c).

The host asks for a size (`requested-size`); the guest gets there, partly or later, and each of its
steps changes `size`.

Sizes and addresses are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import MonitorError
from .host_memory import HOST_PAGE, RAM_ALIGNMENT
from .memory_device import MemoryDevice, find_place
from .pci_options import DEVICE_READ_ONLY, pci_properties, read_pci_option
from .qom import QomProperty, child

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig
    from .backends import Backend
    from .property_values import ValueReader
    from .qemu_text import Warn

__all__ = [
    "DRIVER",
    "TYPE",
    "VirtioMem",
    "VirtioMemBackend",
    "VirtioMemOptions",
    "make_virtio_mem",
    "read_virtio_mem_options",
]

DRIVER: Final = "virtio-mem-pci"
TYPE: Final = "virtio-mem"

_LEAST_BLOCK: Final = 1 << 20
#: Properties that device_add can set, with their type.
_WRITABLE: Final = {
    "memdev": "link<memory-backend>",
    "requested-size": "size",
    "block-size": "size",
    "memaddr": "uint64",
    "node": "uint32",
    "unplugged-inaccessible": "OnOffAuto",
    "prealloc": "bool",
}
#: Properties in the order of qom-list: of the device that is plugged, and of the one behind it.
_OUTER: Final = (
    "memaddr",
    "memdev",
    "node",
    "requested-size",
    "block-size",
    "prealloc",
    "unplugged-inaccessible",
    "size",
)
_INNER: Final = (
    "node",
    "memdev",
    "unplugged-inaccessible",
    "memaddr",
    "legacy-memdev",
    "prealloc",
    "block-size",
    "size",
    "requested-size",
)


class VirtioMemBackend:
    """The device `virtio-mem` behind a virtio-mem-pci, which has the same properties."""

    qom_type: Final = TYPE

    def __init__(self, outer: VirtioMem) -> None:
        self._outer = outer

    @property
    def path(self) -> str:
        """Its QOM path."""
        return f"{self._outer.path}/virtio-backend"

    def properties(self) -> list[QomProperty]:
        """Return its QOM properties in the order of qom-list."""
        return self._outer.own_properties(_INNER)

    def type_to_set(self, name: str) -> str | None:
        """Return the type of value that a property takes; None when it is not writable.

        :raises MonitorError: another reason why it cannot be set, whatever the value.
        """
        return self._outer.type_to_set(name)

    def set(self, name: str, value: Any) -> bool:
        """Give a property a value. Return whether the guest is to be told.

        :raises MonitorError: QEMU's reason not to.
        """
        if name == "realized" and not value:
            raise MonitorError(f"Property '{TYPE}.realized' cannot be set to false")
        return self._outer.set(name, value)


class VirtioMemOptions(NamedTuple):
    """What a virtio-mem device is to be; `values` are those that were given."""

    memdev: Backend | None
    values: Mapping[str, Any]


def read_virtio_mem_options(
    options: Mapping[str, Any],
    reader: ValueReader,
    find_backend: Callable[[str, str], Backend | None],
) -> VirtioMemOptions:
    """Return what the options of device_add say.

    :param find_backend: returns what the link property of the first argument leads to when it is
        set to the second.
    :raises MonitorError: one is unknown, not writable, or of another type.
    """
    memdev: Backend | None = None
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key == "size":
            raise MonitorError(f"Property '{TYPE}.size' is not writable")
        if key not in _WRITABLE:
            values[key] = read_pci_option(DRIVER, key, value, reader)
            continue
        read = reader.read(_WRITABLE[key], key, value)
        if key == "memdev":
            memdev = find_backend(key, read)
            continue
        if key == "block-size" and read < _LEAST_BLOCK:
            raise MonitorError(f"'block-size' property has to be at least {_LEAST_BLOCK:#x}")
        if key == "block-size" and read & (read - 1):
            raise MonitorError("'block-size' property has to be a power of two")
        values[key] = read
    return VirtioMemOptions(memdev, values)


class VirtioMem(MemoryDevice):
    """A virtio-mem device.

    :ivar id: its name, None for a device that got none.
    :ivar path: its QOM path.
    :ivar node: NUMA node.
    :ivar addr: first physical address of its region.
    :ivar memdev: the backend it is made of, as large as its region.
    :ivar block_size: what is plugged or unplugged at a time.
    :ivar requested_size: what the host wants.
    :ivar plugged: how much there is.
    :ivar number: the guest's number of it; None while the guest has not found it, or has no driver.
    """

    qom_type = DRIVER

    def __init__(
        self, name: str | None, path: str, memdev: Backend, options: Mapping[str, Any], extent: int
    ) -> None:
        super().__init__(name, path, memdev)
        self.node = options.get("node", 0)
        self._pci = options
        self._backend = VirtioMemBackend(self)
        self.block_size: int = options.get("block-size") or _default_block(memdev)
        self.requested_size: int = options.get("requested-size", 0)
        self.prealloc: bool = options.get("prealloc", False)
        self.inaccessible: str = options.get("unplugged-inaccessible", "auto")
        if self.inaccessible == "auto":
            self.inaccessible = "off" if _reads_as_zeros(memdev) else "on"
        self.number: int | None = None
        self._extent = extent
        self._usable = 0

    def __repr__(self) -> str:
        return (
            f"VirtioMem({self.id!r}, {self.addr:#x}+{self.size:#x}, {self.plugged:#x} of"
            f" {self.requested_size:#x})"
        )

    def owns(self, what: object) -> bool:
        """Return whether something is this device, or the one behind it."""
        return what is self or what is self._backend

    def reset(self) -> None:
        """Take all memory back, and forget the guest's driver."""
        self.number = None
        self.plugged = 0
        self._usable = 0

    @property
    def usable(self) -> int:
        """How much of the region the guest may use. It grows with what is requested, and does not
        shrink.
        """
        self._usable = max(self._usable, min(self.size, self.requested_size + self._extent))
        return self._usable

    @property
    def description(self) -> dict[str, Any]:
        """What query-memory-devices says of it."""
        data = {
            "memdev": self.memdev.path,
            "memaddr": self.addr,
            "block-size": self.block_size,
            "size": self.plugged,
            "node": self.node,
            "max-size": self.size,
            "requested-size": self.requested_size,
        }
        return {"type": TYPE, "data": data if self.id is None else data | {"id": self.id}}

    def own_properties(self, names: Iterable[str]) -> list[QomProperty]:
        """Return the QOM properties that do not come from PCI, in an order."""
        types_and_values: dict[str, tuple[str, Any]] = {
            "legacy-memdev": ("str", ""),
            "memaddr": ("uint64", self.addr),
            "node": ("uint32", self.node),
            "requested-size": ("size", self.requested_size),
            "block-size": ("size", self.block_size),
            "prealloc": ("bool", self.prealloc),
            "unplugged-inaccessible": ("OnOffAuto", self.inaccessible),
            "size": ("size", self.plugged),
        }
        memdev = QomProperty("memdev", "link<memory-backend>", self.memdev.path, self.memdev)
        return [
            QomProperty("parent_bus", "link<bus>", ""),
            QomProperty("realized", "bool", True),
            QomProperty("hotplugged", "bool", True),
            QomProperty("hotpluggable", "bool", True),
            *(
                memdev if name == "memdev" else QomProperty(name, *types_and_values[name])
                for name in names
            ),
        ]

    def properties(self) -> list[QomProperty]:
        """Return its QOM properties."""
        return [*self.own_properties(_OUTER), *pci_properties(self._pci), child(self._backend)]

    def type_to_set(self, name: str) -> str | None:
        """Return the type of value that a property takes; None when it is not writable.

        :raises MonitorError: another reason why it cannot be set, whatever the value.
        """
        if name in (*DEVICE_READ_ONLY, "virtio-backend"):
            return None
        if name == "realized":
            return "bool"
        if name in ("memdev", "requested-size"):
            return _WRITABLE[name]
        if name == "size":
            raise MonitorError(f"Property '{TYPE}.size' is not writable")
        if name == "block-size":
            raise MonitorError("'block-size' cannot be changed")
        pci = {p.name for p in pci_properties({})}
        which = (
            f"device '{self.id}' (type '{DRIVER}')"
            if self.id and name in pci
            else (f"anonymous device (type '{DRIVER if name in pci else TYPE}')")
        )
        raise MonitorError(f"Attempt to set property '{name}' on {which} after it was realized")

    def set(self, name: str, value: Any) -> bool:
        """Give a property a value. Return whether the guest is to be told.

        :raises MonitorError: QEMU's reason not to.
        """
        if name == "realized":
            if not value:
                raise MonitorError(f"Property '{DRIVER}.realized' cannot be set to false")
            return False
        if name == "memdev":
            what = f"Attempt to set link property 'memdev' on device '(null)' (type '{TYPE}')"
            raise MonitorError(f"{what} after it was realized")
        if value % self.block_size:
            raise MonitorError(
                f"'requested-size' has to be multiples of 'block-size' ({self.block_size:#x})"
            )
        if value > self.size:
            raise MonitorError(
                f"'requested-size' cannot exceed the memory backend size({self.size:#x})"
            )
        size: int = value
        changed, self.requested_size = size != self.requested_size, size
        return changed


def make_virtio_mem(
    config: MachineConfig,
    name: str | None,
    path: str,
    options: VirtioMemOptions,
    devices: Iterable[MemoryDevice],
    warn: Warn | None,
) -> VirtioMem:
    """Return a virtio-mem device as device_add makes it; the checks are in QEMU's order.

    :param devices: the memory devices there are, by address.
    :raises MonitorError: QEMU's reason not to.
    """
    memdev, values = options
    if memdev is None:
        raise MonitorError("'memdev' property must be set")
    device = VirtioMem(name, path, memdev, values, config.qemu["virtio_mem_extent"])
    wanted = values.get("memaddr", 0)
    device.put(config, find_place(config, devices, wanted, memdev, warn, unit=device.block_size))
    if memdev.used:
        raise MonitorError(f"'memdev' property specifies a busy memdev: {memdev.id}")
    nodes = len(config.nodes)
    if device.node >= nodes:
        # QEMU forgot a blank
        raise MonitorError(
            f"'node' property has value '{device.node}', which exceedsthe number of numa nodes:"
            f" {nodes}"
        )
    if warn and values.get("unplugged-inaccessible") == "off" and not _reads_as_zeros(memdev):
        warn(
            "'unplugged-inaccessible' property set to 'off' with a memdev that does not support the"
            " shared zeropage."
        )
    page = memdev.alignment if memdev.alignment > RAM_ALIGNMENT else HOST_PAGE
    if device.block_size < page:
        raise MonitorError(f"'block-size' property has to be at least the page size ({page:#x})")
    default = _default_block(memdev)
    if device.block_size < default and warn:
        warn(
            f"'block-size' property is smaller than the default block size ({default >> 20:x} MiB)"
        )
    if device.requested_size % device.block_size:
        raise MonitorError(
            "'requested-size' property has to be multiples of 'block-size'"
            f" ({device.block_size:#x})"
        )
    memdev.use(device)
    return device


def _reads_as_zeros(memdev: Backend) -> bool:
    """Whether what is not plugged can be read, as zeros that take no memory of the host."""
    return memdev.qom_type == "memory-backend-ram" and not memdev.values["share"]


def _default_block(memdev: Backend) -> int:
    return max(RAM_ALIGNMENT, memdev.alignment)
