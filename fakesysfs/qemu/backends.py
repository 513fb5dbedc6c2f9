"""Memory backends: memory of the host that a DIMM, or the machine's RAM, is made of.

Owns: the types of backends QEMU 7.2 has, their properties, and what is checked when one is made or
changed, in QEMU's words. Does not own: what the host has to give (host_memory.py), and which
backends a machine has and who uses them (board.py).

Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..errors import MonitorError
from .host_memory import RAM_ALIGNMENT, alignment_of
from .property_values import ValueReader, check_identifier, not_found, unexpected_argument
from .qom import QomProperty

if TYPE_CHECKING:
    from .qemu_text import Warn

__all__ = [
    "BACKEND_TYPES",
    "Backend",
    "BackendOptions",
    "declared_properties",
    "read_backend_options",
]

_HOST_NODES: Final = 128


class _Member(NamedTuple):
    """A member of an object's description: `kind` is a type of property_values.py."""

    name: str
    kind: str
    required: bool = False


#: What object-add takes, in the order in which QEMU looks at it
_COMMON: Final = (
    _Member("dump", "bool"),
    _Member("host-nodes", "uint16s"),
    _Member("merge", "bool"),
    _Member("policy", "HostMemPolicy"),
    _Member("prealloc", "bool"),
    _Member("prealloc-threads", "uint32"),
    _Member("prealloc-context", "str"),
    _Member("share", "bool"),
    _Member("reserve", "bool"),
    _Member("size", "size", required=True),
    _Member("x-use-canonical-path-for-ramblock-id", "bool"),
)
_TYPES: Final[Mapping[str, tuple[_Member, ...]]] = {
    "memory-backend-file": (
        *_COMMON,
        _Member("align", "size"),
        _Member("discard-data", "bool"),
        _Member("mem-path", "str", required=True),
        _Member("pmem", "bool"),
        _Member("readonly", "bool"),
    ),
    "memory-backend-memfd": (
        *_COMMON,
        _Member("hugetlb", "bool"),
        _Member("hugetlbsize", "size"),
        _Member("seal", "bool"),
    ),
    "memory-backend-ram": _COMMON,
}

BACKEND_TYPES: Final = tuple(_TYPES)

#: QOM properties of backends: type as qom-list shows it, and value when nobody gave one; in the
#: order qom-list has
_COMMON_PROPERTIES: Final[Mapping[str, tuple[str, Any]]] = {
    "share": ("bool", False),
    "size": ("int", 0),
    "dump": ("bool", True),
    "prealloc-threads": ("int", 1),
    "x-use-canonical-path-for-ramblock-id": ("bool", False),
    "policy": ("HostMemPolicy", "default"),
    "prealloc-context": ("link<thread-context>", ""),
    "prealloc": ("bool", False),
    "reserve": ("bool", True),
    "host-nodes": ("int", []),
    "merge": ("bool", True),
}
_PROPERTIES: Final[Mapping[str, Mapping[str, tuple[str, Any]]]] = {
    "memory-backend-file": {
        **_COMMON_PROPERTIES,
        "readonly": ("bool", False),
        "align": ("int", 0),
        "pmem": ("bool", False),
        "mem-path": ("string", ""),
        "discard-data": ("bool", False),
    },
    "memory-backend-memfd": {
        **_COMMON_PROPERTIES,
        "share": ("bool", True),
        "hugetlb": ("bool", False),
        "seal": ("bool", True),
        "hugetlbsize": ("int", 0),
    },
    "memory-backend-ram": _COMMON_PROPERTIES,
}

#: What QEMU says of a property that cannot be changed once the memory is there; {} is the object's
#: type
_FIXED: Final = {
    "share": "cannot change property value",
    "reserve": "cannot change property value",
    "size": "cannot change property size of {} ",
    "align": "cannot change property 'align' of {}",
    "mem-path": "cannot change property 'mem-path' of {}",
    "pmem": "cannot change property 'pmem' of {}.",
    "readonly": "cannot change property 'readonly' of {}.",
    "hugetlbsize": "cannot change property value",
}
#: Those of them that refuse before they look at the value
_FIXED_UNSEEN: Final = ("size", "align", "hugetlbsize")


def declared_properties(qom_type: str) -> dict[str, str] | None:
    """Return the QOM properties of a type, with their types; None when there is no such type."""
    if qom_type == "memory-backend":
        declared: Mapping[str, tuple[str, Any]] | None = _COMMON_PROPERTIES
    else:
        declared = _PROPERTIES.get(qom_type)
    return None if declared is None else {name: kind for name, (kind, _) in declared.items()}


class BackendOptions(NamedTuple):
    """What a memory backend is to be: its type, its ID, and values of properties."""

    qom_type: str
    id: str
    values: dict[str, Any]


def read_backend_options(
    qom_type: str, props: Mapping[str, Any], reader: ValueReader
) -> BackendOptions:
    """Return what object-add is given, checked as QEMU checks it before it makes anything.

    :param props: `id`, `size` and the properties of the type, by their names in QEMU.
    :raises MonitorError: the type is unknown, or one is missing, unknown or of another type.
    """
    if qom_type not in _TYPES:
        raise MonitorError(f"Parameter 'qom-type' does not accept value '{qom_type}'")
    if "id" not in props:
        raise MonitorError("Parameter 'id' is missing")
    name = reader.read("str", "id", props["id"])
    values: dict[str, Any] = {}
    for member in _TYPES[qom_type]:
        if member.name in props:
            values[member.name] = reader.read(member.kind, member.name, props[member.name])
        elif member.required:
            raise MonitorError(f"Parameter '{member.name}' is missing")
    for key in props:
        if key not in values and key not in ("qom-type", "id"):
            raise unexpected_argument(key)
    check_identifier(name)
    # QEMU sets them as they were given
    return BackendOptions(qom_type, name, {key: values[key] for key in props if key in values})


class BackedDevice(Protocol):
    """A device that is made of a backend."""

    @property
    def offset(self) -> int:
        """Its first address, counted from the start of all device memory."""


class MemoryRegion:
    """The memory region of a backend, as QOM shows it."""

    qom_type: Final = "memory-region"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def path(self) -> str:
        """Its QOM path."""
        return f"{self._backend.path}/{self._backend.region_name}"

    def properties(self) -> list[QomProperty]:
        """Return what it has, in the order of qom-list."""
        device = self._backend.device
        container = "/machine/device-memory[0]" if device else ""
        return [
            QomProperty("container", "link<memory-region>", container),
            QomProperty("addr", "uint64", device.offset if device else 0),
            QomProperty("size", "uint64", self._backend.size),
            QomProperty("priority", "uint32", 0),
        ]

    def type_to_set(self, name: str) -> str | None:
        """Return None: nothing of it can be set."""
        return None

    def set(self, name: str, value: Any) -> bool:
        """Never called."""
        raise NotImplementedError


class Backend:
    """Memory of the host that a DIMM, or the machine's RAM, can be made of.

    :ivar id: its name.
    :ivar qom_type: memory-backend-ram, -file or -memfd.
    :ivar values: its QOM properties.
    :ivar alignment: of the physical address it can be mapped at, and of its size.
    :ivar used: something is made of it: the machine's RAM, or a device.
    :ivar device: that device.
    """

    __slots__ = (
        "_region",
        "alignment",
        "device",
        "id",
        "qom_type",
        "region_name",
        "used",
        "values",
    )

    def __init__(self, qom_type: str, name: str, size: int = 0) -> None:
        self.id = name
        self.qom_type = qom_type
        self.values: dict[str, Any] = {
            key: value for key, (_, value) in _PROPERTIES[qom_type].items()
        }
        self.values["size"] = size
        self.alignment = RAM_ALIGNMENT
        self.used = False
        self.device: BackedDevice | None = None
        self.region_name = f"{name}[0]"
        self._region = MemoryRegion(self)

    @classmethod
    def from_options(cls, options: BackendOptions, taken: Container[str]) -> Backend:
        """Return a backend as object-add makes it, before it has its memory: see allocate().

        :param taken: IDs there are already.
        :raises MonitorError: QEMU's reason not to.
        """
        backend = cls(options.qom_type, options.id)
        for key, value in options.values.items():
            backend._set(key, value)
        if options.id in taken:
            raise MonitorError(
                f"attempt to add duplicate property '{options.id}' to object (type 'container')"
            )
        return backend

    def __repr__(self) -> str:
        return f"Backend({self.id!r}, {self.size:#x})"

    @property
    def path(self) -> str:
        """Its QOM path."""
        return f"/objects/{self.id}"

    @property
    def size(self) -> int:
        """Bytes."""
        size: int = self.values["size"]
        return size

    def use(self, device: BackedDevice) -> None:
        """Make a device of it."""
        self.used, self.device = True, device

    def release(self) -> None:
        """Take note that its device is gone."""
        self.used, self.device = False, None

    def properties(self) -> list[QomProperty]:
        """Return its QOM properties in the order of qom-list."""
        own = [
            QomProperty(name, kind, self.values[name])
            for name, (kind, _) in _PROPERTIES[self.qom_type].items()
        ]
        region = QomProperty(
            self.region_name, "child<memory-region>", self._region.path, self._region
        )
        return [*own, region]

    def type_to_set(self, name: str) -> str | None:
        """Return the type of value that a property takes; None when it cannot be written.

        :raises MonitorError: it can be set only while there is no memory.
        """
        if name in _FIXED_UNSEEN and name in self.values:
            raise MonitorError(_FIXED[name].format(self.qom_type))
        if name == "prealloc-context":
            return "link<thread-context>"
        kinds = {member.name: member.kind for member in _TYPES[self.qom_type]}
        return kinds.get(name)

    def set(self, name: str, value: Any) -> bool:
        """Give a property a value, with the memory in place. The guest is never told.

        :raises MonitorError: QEMU's reason not to.
        """
        if name in _FIXED:
            raise MonitorError(_FIXED[name].format(self.qom_type))
        self._set(name, value)
        return False

    def _set(self, name: str, value: Any) -> None:
        if name in ("size", "prealloc-threads") and value == 0:
            raise MonitorError(f"property '{name}' of {self.qom_type} doesn't take value '0'")
        if name == "hugetlbsize" and value == 0:
            raise MonitorError(f"Property '{self.qom_type}.hugetlbsize' doesn't take value '0'")
        if name == "host-nodes":
            for node in value:
                if node >= _HOST_NODES:
                    raise MonitorError(f"Invalid host-nodes value: {node}")
        if name == "prealloc-context" and value:
            raise not_found(value)  # no object here is a thread context
        if name == "prealloc" and self.values["prealloc"]:
            return  # what has been allocated stays so
        self.values[name] = value

    def allocate(self, warn: Warn | None = None) -> None:
        """Check what QEMU checks when it gets the memory from the host. Nothing is allocated.

        :param warn: told what QEMU would warn of.
        :raises MonitorError: the host would refuse.
        """
        region_name = f"{self.id}[0]"
        if self.values["x-use-canonical-path-for-ramblock-id"]:
            region_name = f"{self.path}[0]".replace("/", r"\x2f")
        self.alignment = alignment_of(self, warn)
        self.region_name = region_name
        policy, nodes = self.values["policy"], self.values["host-nodes"]
        if nodes and policy == "default":
            raise MonitorError(
                "host-nodes must be empty for policy default, or you should explicitly specify a"
                " policy other than default"
            )
        if not nodes and policy != "default":
            raise MonitorError(f"host-nodes must be set for policy {policy}")
