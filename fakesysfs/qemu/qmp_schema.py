"""What QMP's commands take and return and what its events carry, as QEMU 7.2 declares it.

Owns: that declaration, the check of a command's arguments against it, and its translation into what
query-qmp-schema returns. Does not own: what the commands do (monitor.py). object-add is declared
with the types of objects there are here; all else is as QEMU has it.

A type is written as members, `name: type`, with `name?` for one that may be missing and `[type]`
for a list. The names of types are this file's own: clients never see them, QEMU replaces them by
numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..errors import MonitorError
from .property_values import invalid_type, unexpected_argument

__all__ = ["check_arguments", "command_names", "introspection"]


class _Command(NamedTuple):
    takes: str = ""
    gives: str = ""
    features: tuple[str, ...] = ()


class _Event(NamedTuple):
    carries: str = ""
    features: tuple[str, ...] = ()


class _Union(NamedTuple):
    """An object with members `common`, among them `tag`, whose value decides which further members
    there are.
    """

    common: str
    tag: str
    variants: Mapping[str, str]


#: In the order in which QEMU declares them
_ENTITIES: Final[Mapping[str, _Command | _Event]] = {
    "query-status": _Command(gives="status"),
    "SHUTDOWN": _Event("guest: bool, reason: shutdown-cause"),
    "POWERDOWN": _Event(),
    "RESET": _Event("guest: bool, reason: shutdown-cause"),
    "STOP": _Event(),
    "RESUME": _Event(),
    "qmp_capabilities": _Command("enable?: [capability]"),
    "query-version": _Command(gives="version"),
    "query-commands": _Command(gives="[command-name]"),
    "quit": _Command(),
    "query-qmp-schema": _Command(gives="[schema-info]"),
    "qom-list": _Command("path: str", "[property]"),
    "qom-get": _Command("path: str, property: str", "any"),
    "qom-set": _Command("path: str, property: str, value: any"),
    "object-add": _Command("object"),
    "object-del": _Command("id: str"),
    "device_add": _Command(
        "driver: str, bus?: str, id?: str", features=("json-cli", "json-cli-hotplug")
    ),
    "device_del": _Command("id: str"),
    "DEVICE_DELETED": _Event("device?: str, path: str"),
    "DEVICE_UNPLUG_GUEST_ERROR": _Event("device?: str, path: str"),
    "system_reset": _Command(),
    "system_powerdown": _Command(),
    "system_wakeup": _Command(),
    "query-memdev": _Command(gives="[backend]"),
    "query-hotpluggable-cpus": _Command(gives="[cpu]"),
    "query-memory-size-summary": _Command(gives="memory-size"),
    "query-memory-devices": _Command(gives="[memory-device]"),
    "MEMORY_DEVICE_SIZE_CHANGE": _Event("id?: str, size: int, qom-path: str"),
    "MEM_UNPLUG_ERROR": _Event("device: str, msg: str", ("deprecated",)),
    "query-name": _Command(gives="vm-name"),
    "stop": _Command(),
    "cont": _Command(),
    "human-monitor-command": _Command(
        "command-line: str, cpu-index?: int", "str", ("savevm-monitor-nodes",)
    ),
    "query-acpi-ospm-status": _Command(gives="[slot-status]"),
    "ACPI_DEVICE_OST": _Event("info: slot-status"),
}

_ENUMS: Final[Mapping[str, str]] = {
    "capability": "oob",
    "host-policy": "default preferred bind interleave",
    "json-type": "string number int boolean null object array value",
    "memory-device-type": "dimm nvdimm virtio-pmem virtio-mem sgx-epc",
    "meta-type": "builtin enum array object alternate command event",
    "object-type": "memory-backend-file memory-backend-memfd memory-backend-ram",
    "run-state": (
        "debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate"
        " restore-vm running save-vm shutdown suspended watchdog guest-panicked colo"
    ),
    "shutdown-cause": (
        "none host-error host-qmp-quit host-qmp-system-reset host-signal host-ui guest-shutdown"
        " guest-reset guest-panic subsystem-reset snapshot-load"
    ),
    "slot-type": "DIMM CPU",
}

_BACKEND: Final = (
    "dump?: bool, host-nodes?: [int], merge?: bool, policy?: host-policy, prealloc?: bool,"
    " prealloc-threads?: int, prealloc-context?: str, share?: bool, reserve?: bool, size: int,"
    " x-use-canonical-path-for-ramblock-id?: bool"
)
_OBJECTS: Final[Mapping[str, str | _Union]] = {
    "backend": (
        "id?: str, size: int, merge: bool, dump: bool, prealloc: bool, share: bool, reserve?: bool,"
        " host-nodes: [int], policy: host-policy"
    ),
    "command-name": "name: str",
    "cpu": "type: str, vcpus-count: int, props: cpu-place, qom-path?: str",
    "cpu-place": (
        "node-id?: int, socket-id?: int, die-id?: int, cluster-id?: int, core-id?: int,"
        " thread-id?: int"
    ),
    "dimm": "data: dimm-data",
    "dimm-data": (
        "id?: str, addr: int, size: int, slot: int, node: int, memdev: str, hotplugged: bool,"
        " hotpluggable: bool"
    ),
    "memory-device": _Union(
        "type: memory-device-type",
        "type",
        {
            "dimm": "dimm",
            "nvdimm": "dimm",
            "virtio-pmem": "virtio-pmem",
            "virtio-mem": "virtio-mem",
            "sgx-epc": "sgx-epc",
        },
    ),
    "memory-size": "base-memory: int, plugged-memory?: int",
    "object": _Union(
        "qom-type: object-type, id: str",
        "qom-type",
        {
            "memory-backend-file": (
                f"{_BACKEND}, align?: int, discard-data?: bool, mem-path: str, pmem?: bool,"
                " readonly?: bool"
            ),
            "memory-backend-memfd": f"{_BACKEND}, hugetlb?: bool, hugetlbsize?: int, seal?: bool",
            "memory-backend-ram": _BACKEND,
        },
    ),
    "property": "name: str, type: str, description?: str, default-value?: any",
    "schema-info": _Union(
        "name: str, meta-type: meta-type, features?: [str]",
        "meta-type",
        {
            "builtin": "json-type: json-type",
            "enum": "members: [schema-enum-member], values: [str] deprecated",
            "array": "element-type: str",
            "object": "members: [schema-member], tag?: str, variants?: [schema-variant]",
            "alternate": "members: [schema-alternate]",
            "command": "arg-type: str, ret-type: str, allow-oob?: bool",
            "event": "arg-type: str",
        },
    ),
    "schema-alternate": "type: str",
    "schema-enum-member": "name: str, features?: [str]",
    "schema-member": "name: str, type: str, default?: any, features?: [str]",
    "schema-variant": "case: str, type: str",
    "sgx-epc": "data: sgx-epc-data",
    "sgx-epc-data": "id?: str, memaddr: int, size: int, node: int, memdev: str",
    "slot-status": "device?: str, slot: str, slot-type: slot-type, source: int, status: int",
    "status": "running: bool, singlestep: bool, status: run-state",
    "version": "qemu: version-numbers, package: str",
    "version-numbers": "major: int, minor: int, micro: int",
    "virtio-mem": "data: virtio-mem-data",
    "virtio-mem-data": (
        "id?: str, memaddr: int, requested-size: int, size: int, max-size: int, block-size: int,"
        " node: int, memdev: str"
    ),
    "virtio-pmem": "data: virtio-pmem-data",
    "virtio-pmem-data": "id?: str, memaddr: int, size: int, memdev: str",
    "vm-name": "name?: str",
}

#: QEMU's name of a type, which stands in the schema, its word in errors, and what Python has for it
_BUILTINS: Final = {"any": "value", "bool": "boolean", "int": "int", "str": "string"}
_PYTHON: Final[Mapping[str, tuple[str, type]]] = {
    "str": ("string", str), "int": ("integer", int), "bool": ("boolean", bool), "[": ("array", list),
}  # fmt: skip


class _Member(NamedTuple):
    name: str
    type: str
    required: bool
    features: tuple[str, ...]


@functools.cache
def _members(text: str) -> tuple[_Member, ...]:
    members = []
    for part in text.split(", ") if text else ():
        name, kind, *features = part.split()
        members.append(_Member(name.rstrip("?:"), kind, not name.endswith("?:"), tuple(features)))
    return tuple(members)


def command_names() -> list[str]:
    """The commands there are, in the order of query-commands: that in which they are declared,
    backwards.
    """
    return [
        name for name, entity in reversed(list(_ENTITIES.items())) if isinstance(entity, _Command)
    ]


def check_arguments(command: str, arguments: Mapping[str, Any]) -> None:
    """Raise MonitorError, in QEMU's words, unless these are the arguments the command takes.

    Not for object-add and device_add, whose arguments depend on the type of object and device.
    """
    entity = _ENTITIES[command]
    assert isinstance(entity, _Command)
    members = _members(entity.takes)
    for name, kind, required, _ in members:
        if name not in arguments:
            if required:
                raise MonitorError(f"Parameter '{name}' is missing")
        elif kind != "any":
            word, python = _PYTHON["[" if kind[0] == "[" else kind]
            value = arguments[name]
            if not isinstance(value, python) or (isinstance(value, bool) and python is not bool):
                raise invalid_type(name, word)
    known = {member.name for member in members}
    for name in arguments:
        if name not in known:
            raise unexpected_argument(name)


# ------------------------------------------------------------------------------------ introspection


class _Translation:
    """QEMU's way: commands and events first, then every type in the order in which it was first
    spoken of, by number.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._waiting: list[str] = []

    def run(self) -> Iterator[dict[str, Any]]:
        for name, entity in _ENTITIES.items():
            info: dict[str, Any] = {"name": name}
            if isinstance(entity, _Command):
                info |= {
                    "meta-type": "command",
                    "arg-type": self._use(entity.takes),
                    "ret-type": self._use(entity.gives),
                }
            else:
                info |= {"meta-type": "event", "arg-type": self._use(entity.carries)}
            yield info | _features(entity.features)
        for kind in self._waiting:  # which grows meanwhile
            yield {"name": self._names[kind]} | self._describe(kind)

    def _use(self, kind: str) -> str:
        """The name by which a type goes in the schema."""
        if kind not in self._names:
            if kind in _BUILTINS:
                self._names[kind] = kind
            elif kind.startswith("["):
                self._names[kind] = f"[{self._use(kind[1:-1])}]"
            else:
                numbers = sum(name.isdigit() for name in self._names.values())
                self._names[kind] = f"{numbers}"
            self._waiting.append(kind)
        return self._names[kind]

    def _describe(self, kind: str) -> dict[str, Any]:
        if kind in _BUILTINS:
            return {"meta-type": "builtin", "json-type": _BUILTINS[kind]}
        if kind.startswith("["):
            return {"meta-type": "array", "element-type": self._use(kind[1:-1])}
        if kind in _ENUMS:
            values = _ENUMS[kind].split()
            return {
                "meta-type": "enum",
                "members": [{"name": value} for value in values],
                "values": values,
            }
        what = _OBJECTS.get(kind, kind)
        if isinstance(what, str):
            return {"meta-type": "object", "members": self._object(what)}
        return {
            "meta-type": "object",
            "members": self._object(what.common),
            "tag": what.tag,
            "variants": [
                {"case": case, "type": self._use(variant)}
                for case, variant in what.variants.items()
            ],
        }

    def _object(self, text: str) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": self._use(kind)}
            | ({} if required else {"default": None})
            | _features(features)
            for name, kind, required, features in _members(text)
        ]


def _features(features: tuple[str, ...]) -> dict[str, list[str]]:
    return {"features": list(features)} if features else {}


@functools.cache
def introspection() -> tuple[dict[str, Any], ...]:
    """What query-qmp-schema returns."""
    return tuple(_Translation().run())
