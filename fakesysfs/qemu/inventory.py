"""What hardware a machine has, and the host's questions about it.

Owns: the memory backends and the devices, in order of creation, and the answers to queries. Does
not own: how they come and go (board.py), the kinds of devices (dimm.py, virtio_mem.py), and the
objects as a tree (qom.py).

Sizes and addresses are bytes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import MonitorError
from .backends import Backend
from .dimm import Dimm, DimmSlots
from .memory_device import MemoryDevice
from .option_help import device_help
from .qom import MACHINE, Container, QomObject, QomProperty, QomTree

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig

__all__ = ["Inventory", "Numa"]


class Numa(NamedTuple):
    """A NUMA node as the host sees it: `bytes` counts its DIMMs, which are `plugged_bytes` of them."""

    id: int
    cpus: tuple[int, ...]
    bytes: int
    plugged_bytes: int


class Inventory:
    """The memory backends and devices of a machine. Every method may be called from any thread.

    :ivar config: the machine's description.
    :ivar qom: the objects as a tree.
    """

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        # of everything below; held briefly, never while the guest works
        self._lock = threading.RLock()
        self._backends: dict[str, Backend] = {}
        self._devices: dict[str, QomObject] = {}  # by QOM path
        self._slots = DimmSlots(config)
        self._add_ram()
        self.qom = QomTree(
            Container(MACHINE, self._machine_properties, config.qemu["machine"]),
            lambda: list(self._backends.values()),
            lambda: list(self._devices.values()),
        )

    def _add_ram(self) -> None:
        """Add the backends that are RAM: QEMU's own, or with several nodes one each, as libvirt
        names it.
        """
        parts = [(self.config.qemu["ram"], self.config.memory_bytes)]
        if len(self.config.nodes) > 1:
            parts = [(f"ram-node{node.id}", node.bytes) for node in self.config.nodes if node.bytes]
        for name, size in parts:
            backend = Backend("memory-backend-ram", name, size)
            backend.values["prealloc-threads"] = self.cpu_count
            backend.used = True
            self._backends[name] = backend

    @property
    def cpu_count(self) -> int:
        """How many CPUs there are, which is also how many threads QEMU would touch memory with."""
        return sum(len(node.cpus) for node in self.config.nodes) or 1

    @property
    def devices(self) -> list[MemoryDevice]:
        """All memory devices, by address."""
        with self._lock:
            there = [each for each in self._devices.values() if isinstance(each, MemoryDevice)]
            return sorted(there, key=lambda device: device.addr)

    @property
    def dimms(self) -> list[Dimm]:
        """The DIMMs in their slots, by address."""
        return [device for device in self.devices if isinstance(device, Dimm)]

    @property
    def backends(self) -> list[Backend]:
        """The memory backends, the machine's RAM among them, in order of creation."""
        with self._lock:
            return list(self._backends.values())

    def device_help(self, driver: str | None) -> list[str]:
        """Return the lines of `device_add DRIVER,help`: see option_help.py."""
        return device_help(driver, self.config.qemu["devices"])

    def memory_devices(self) -> list[dict[str, Any]]:
        """Return what query-memory-devices returns: DIMMs and virtio-mem devices by address."""
        return [device.description for device in self.devices]

    def memory_size_summary(self) -> dict[str, int]:
        """Return what query-memory-size-summary returns: bytes of RAM at boot, plugged since."""
        return {
            "base-memory": self.config.memory_bytes,
            "plugged-memory": sum(device.plugged for device in self.devices),
        }

    def memdevs(self) -> list[dict[str, Any]]:
        """Return what query-memdev returns: the backends."""
        names = ("share", "reserve", "prealloc", "host-nodes", "size", "merge", "dump", "policy")
        return [{name: b.values[name] for name in names} | {"id": b.id} for b in self.backends]

    def ospm_status(self) -> list[dict[str, Any]]:
        """Return what query-acpi-ospm-status returns: the last _OST of each DIMM slot, and of each
        CPU that could be unplugged.

        :raises MonitorError: plugging does not go by ACPI.
        """
        if not self.config.qemu["acpi"]:
            raise MonitorError("command is not supported, missing ACPI device")
        with self._lock:
            slots = [self._slots[number].description for number in range(len(self._slots))]
        cpus = self.cpu_count if self.config.cpu_hotplug else 0
        return slots + [
            {"source": 0, "status": 0, "slot": str(cpu), "slot-type": "CPU"} for cpu in range(cpus)
        ]

    def numa(self) -> list[Numa]:
        """Return the NUMA nodes.

        As QEMU counts, there are none on a machine without slots whose options name no node.
        """
        if not len(self._slots) and len(self.config.nodes) == 1:
            return []
        plugged: dict[int, int] = {}
        for device in self.devices:
            plugged[device.node] = plugged.get(device.node, 0) + device.plugged
        return [
            Numa(node.id, node.cpus, node.bytes + plugged.get(node.id, 0), plugged.get(node.id, 0))
            for node in self.config.nodes
        ]

    def _machine_properties(self) -> list[QomProperty]:
        ram = next((backend for backend in self._backends.values() if _is_ram(backend)), None)
        sizes = {
            "size": self.config.memory_bytes,
            "slots": self.config.slots,
            "max-size": self.config.maxmem_bytes,
        }
        return [
            QomProperty("memory", "MemorySizeConfiguration", sizes),
            QomProperty("memory-backend", "link<memory-backend>", ram.path if ram else "", ram),
        ]

    def qom_list(self, path: str) -> list[dict[str, str]]:
        """Return the properties of an object: see QomTree.list_properties()."""
        with self._lock:
            return self.qom.list_properties(path)

    def qom_get(self, path: str, name: str) -> Any:
        """Return the value of a property: see QomTree.get()."""
        with self._lock:
            return self.qom.get(path, name)


def _is_ram(backend: Backend) -> bool:
    """Whether the machine's RAM is made of a backend."""
    return backend.used and backend.device is None
