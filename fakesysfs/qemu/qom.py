"""QOM: the tree of objects that qom-list, qom-get and qom-set walk.

Owns: paths, containers, and what can be said of a property that does not exist or cannot be
written. Does not own: what the objects have (backends.py, dimm.py, virtio_mem.py): each describes
itself.

    /objects/ID                        memory backends, and below each its memory region
    /machine/peripheral/ID             devices with an ID
    /machine/peripheral-anon/device[N] devices without
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from ..errors import MonitorError
from .property_values import invalid_type, not_found

__all__ = [
    "ANONYMOUS",
    "MACHINE",
    "OBJECTS",
    "PERIPHERAL",
    "Container",
    "QomObject",
    "QomProperty",
    "QomTree",
    "child",
]

OBJECTS: Final = "/objects"
MACHINE: Final = "/machine"
PERIPHERAL: Final = "/machine/peripheral"
ANONYMOUS: Final = "/machine/peripheral-anon"


class QomProperty(NamedTuple):
    """A property of an object.

    :param target: the object a child or link property leads to; None when it leads nowhere.
    """

    name: str
    type: str
    value: Any
    target: QomObject | None = None


class QomObject(Protocol):
    """An object of the tree."""

    @property
    def path(self) -> str:
        """Its path."""

    @property
    def qom_type(self) -> str:
        """Its type."""

    def properties(self) -> Sequence[QomProperty]:
        """Return what it has beside its type, in the order of qom-list."""

    def type_to_set(self, name: str) -> str | None:
        """Return the type of value that a property takes; None when it is not writable.

        :raises MonitorError: another reason why it cannot be set, whatever the value.
        """

    def set(self, name: str, value: Any) -> bool:
        """Give a property a value of that type. Return whether the guest is to be told.

        :raises MonitorError: QEMU's reason not to.
        """


class Container:
    """An object that only holds others."""

    def __init__(
        self,
        path: str,
        held: Callable[[], Sequence[QomProperty]],
        qom_type: str = "container",
    ) -> None:
        self.path = path
        self.qom_type = qom_type
        self.properties = held

    def type_to_set(self, name: str) -> str | None:
        """Return None: nothing of it is writable."""
        return None

    def set(self, name: str, value: Any) -> bool:
        """Never called."""
        raise NotImplementedError


def child(held: QomObject) -> QomProperty:
    """Return the property by which an object holds another."""
    name = held.path.rpartition("/")[2]
    return QomProperty(name, f"child<{held.qom_type}>", held.path, held)


class QomTree:
    """The objects of a machine, by their paths.

    :param machine: the object "/machine", without the devices.
    :param backends: returns the memory backends, in order of creation.
    :param devices: returns the devices, in order of creation.
    """

    def __init__(
        self,
        machine: Container,
        backends: Callable[[], Iterable[QomObject]],
        devices: Callable[[], Iterable[QomObject]],
    ) -> None:
        self._backends, self._devices = backends, devices
        objects = Container(OBJECTS, lambda: [child(backend) for backend in backends()])
        anonymous = Container(ANONYMOUS, lambda: self._devices_below(ANONYMOUS))
        self.peripheral = Container(PERIPHERAL, lambda: self._devices_below(PERIPHERAL))
        of_machine = machine.properties
        machine.properties = lambda: [*of_machine(), child(anonymous), child(self.peripheral)]
        self.root = Container("/", lambda: [child(objects), child(machine)])
        self._containers = (self.root, objects, machine, self.peripheral, anonymous)

    def _devices_below(self, place: str) -> list[QomProperty]:
        return [
            child(device) for device in self._devices() if device.path.rpartition("/")[0] == place
        ]

    def list_properties(self, path: str) -> list[dict[str, str]]:
        """Return the properties of the object at `path`: name and type.

        :param path: "/objects/m0", or an end of a path that leads to one object only.
        :raises MonitorError: there is no such object, or there are several.
        """
        if path == "":  # for qom-list that is the end of every path
            raise MonitorError("Path '' is ambiguous")
        found = self.find(path)
        if not found:
            raise not_found(path)
        if len(found) > 1:
            raise MonitorError(f"Path '{path}' is ambiguous")
        return [{"name": p.name, "type": p.type} for p in _all_properties(found[0])]

    def get(self, path: str, name: str) -> Any:
        """Return the value of a property.

        :raises MonitorError: there is no such object or property, or it cannot be read.
        """
        target = self._only(path)
        for p in _all_properties(target):
            if p.name == name:
                if name == "legacy-memdev":
                    raise MonitorError(f"Property '{target.qom_type}.{name}' is not readable")
                return p.value
        raise MonitorError(f"Property '{target.qom_type}.{name}' not found")

    def type_to_set(self, path: str, name: str) -> str:
        """Return the type of value that a property takes: see property_values.py.

        :raises MonitorError: it does not exist, or it cannot be set whatever the value.
        """
        target = self._only(path)
        if all(p.name != name for p in _all_properties(target)):
            raise MonitorError(f"Property '{target.qom_type}.{name}' not found")
        kind = target.type_to_set(name)
        if kind is None:
            raise MonitorError(f"Property '{target.qom_type}.{name}' is not writable")
        return kind

    def set(self, path: str, name: str, value: Any) -> QomObject | None:
        """Give a property a value. Return the object when the guest is to be told of the change.

        :raises MonitorError: QEMU's reason not to.
        """
        kind = self.type_to_set(path, name)
        target = self._only(path)
        self.check_link(kind, name, value)
        return target if target.set(name, value) else None

    def check_link(self, kind: str, name: str, value: Any) -> None:
        """Raise MonitorError when a link property cannot lead where its value says."""
        if kind == "link<memory-backend>":
            self.backend(name, value)
        elif kind == "link<thread-context>" and value and self.find(value):
            raise invalid_type(name, "thread-context")

    def backend(self, name: str, target: str) -> QomObject | None:
        """Return the memory backend that link property `name` leads to; None for an empty path.

        :param target: a path, or the end of one.
        :raises MonitorError: nothing is there, something else, or several.
        """
        if not target:
            return None
        found = self.find(target)
        backends = [each for each in found if each.qom_type.startswith("memory-backend")]
        if len(backends) > 1:
            raise MonitorError(f"Path '{target}' does not uniquely identify an object")
        if backends:
            return backends[0]
        if found:
            raise invalid_type(name, "memory-backend")
        raise not_found(target)

    def _only(self, path: str) -> QomObject:
        """Return the object at `path`, or the only one whose path ends so."""
        found = self.find(path)
        if len(found) != 1:
            raise not_found(path)
        return found[0]

    def find(self, path: str) -> list[QomObject]:
        """Return the objects that `path` can mean: a path from the root, or the end of one."""
        if path.startswith("/"):
            target = self.walk(self.root, path)
            return [] if target is None else [target]
        devices = list(self._devices())
        inner = [p.target for each in devices for p in each.properties() if p.target is not None]
        starts: list[QomObject] = [*self._containers, *self._backends(), *devices, *inner]
        found: list[QomObject] = []
        for start in starts:
            reached = self.walk(start, path)
            if reached is not None and all(reached is not other for other in found):
                found.append(reached)
        return found

    def walk(self, start: QomObject, path: str) -> QomObject | None:
        """Return the object reached from `start` along children and links; None without one."""
        here: QomObject | None = start
        for part in path.split("/"):
            if part and here is not None:
                here = next((p.target for p in here.properties() if p.name == part), None)
        return here


def _all_properties(target: QomObject) -> list[QomProperty]:
    return [QomProperty("type", "string", target.qom_type), *target.properties()]
