"""The board: how hardware of a machine comes and goes.

Owns: what is checked before a device is made or removed, in QEMU's order and words, and when the
guest is asked. Does not own: the syntax of the monitors (hmp.py, qmp.py), what hardware there is
(inventory.py), the kinds of devices (dimm.py, virtio_mem.py), and what the guest is asked and
answers (guest_hotplug.py, virtio_mem_driver.py).

    object_add, device_add, device_del, qom-set                 the caller's thread
         |  checks, slot, address, one Job
         v
    GuestWorker: Jobs, one after another                        one worker thread
         |  Machine.acpi_device_check(), .acpi_eject_request(), .virtio_mem_work() ...
         v
    HostEvents: ACPI_DEVICE_OST, DEVICE_DELETED ...             never with a lock held that a query needs

Sizes and addresses are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from ..errors import ConfigError, MonitorError
from .backends import Backend, BackendOptions, read_backend_options
from .dimm import Dimm, DimmOptions, read_dimm_options
from .guest_hotplug import AcpiGuest, GuestHotplug
from .guest_worker import GuestWorker, Job
from .host_events import HostEvent, HostEvents
from .inventory import Inventory
from .machine_type import check_driver
from .property_values import (
    JsonReader,
    OptionReader,
    check_identifier,
    not_found,
    option_text,
)
from .qom import ANONYMOUS, PERIPHERAL, Container
from .run_state import Resettable, RunState
from .virtio_mem import (
    DRIVER,
    VirtioMem,
    VirtioMemBackend,
    make_virtio_mem,
    read_virtio_mem_options,
)
from .virtio_mem_driver import VirtioMemDriver, VirtioMemHost

if TYPE_CHECKING:
    from ..config.memory_and_nodes import Dimm as BootDimm
    from .qemu_text import Warn

__all__ = ["Board"]

_ANSWER_SECONDS: Final = 1.0


class Guest(AcpiGuest, VirtioMemDriver, Resettable, Protocol):
    """What the board needs of a Machine."""

    def subscribe(self, subscriber: Callable[[Any], None], /) -> Any:
        """Have `subscriber` called with each event."""


class _UnfinishedDevice(Container):
    """A device that is being made: it has its place in QOM, but no properties yet."""

    def __init__(self, driver: str, path: str) -> None:
        super().__init__(path, list, driver)


class Board(Inventory):
    """The DIMM slots of a machine, the memory that goes into them, and its virtio-mem devices.

    The DIMMs of `machine.config.dimms` are plugged at once, as at boot: without events. Every
    method may be called from any thread. `close()` it, or use it as a context manager.

    :param machine: a Machine.
    :param answer_seconds: how long device_add and device_del wait for the guest.
    :ivar run_state: whether the machine runs.
    :raises ConfigError: a DIMM of the configuration cannot be plugged.
    """

    def __init__(self, machine: Guest, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        super().__init__(machine.config)
        self._machine = machine
        self._anonymous = 0
        self._events = HostEvents()
        self._worker = GuestWorker(self._lock, answer_seconds)
        self.run_state = RunState(self._worker, self._events, self._lock)
        self._hotplug = GuestHotplug(
            machine, self._slots, self._worker, self._events, self._lock, self._dimm_removed
        )
        self._virtio_mem = VirtioMemHost(machine, self.config, self._worker, self._tell_of_size)
        unsubscribe = machine.subscribe(self._on_machine_event)
        self._unsubscribe: Callable[[], object] | None = (
            unsubscribe if callable(unsubscribe) else None
        )
        for dimm in self.config.dimms:
            try:
                self._plug_at_boot(dimm)
            except MonitorError as e:
                self.close()
                raise ConfigError(f"DIMM {dimm.id!r}: {e.desc}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. What the guest is at goes on to its end; nobody is told any more."""
        self._events.clear()
        self._worker.close()
        self._virtio_mem.close()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def subscribe(self, subscriber: Callable[[HostEvent], None]) -> Callable[[], None]:
        """Call `subscriber` with each event of the host: see Delivery.subscribe()."""
        return self._events.subscribe(subscriber)

    def _plug_at_boot(self, wanted: BootDimm) -> None:
        self.object_add("memory-backend-ram", {"id": f"mem-{wanted.id}", "size": wanted.bytes})
        options = DimmOptions(
            self._backends[f"mem-{wanted.id}"],
            wanted.node,
            wanted.addr or 0,
            -1 if wanted.slot is None else wanted.slot,
        )
        check_driver(self.config, "pc-dimm", None)
        path = self._new_path(wanted.id)
        dimm = self._slots.plug(
            lambda memdev: Dimm(wanted.id, path, memdev, hotplugged=False),
            "pc-dimm",
            options,
            self.devices,
            None,
        )
        self._devices[path] = dimm
        # what the guest makes of it is in its log
        self._hotplug.find_at_boot(dimm)

    # ---- objects and devices

    def object_add(self, qom_type: str, props: Mapping[str, Any]) -> None:
        """Make a memory backend.

        :param props: `id`, `size` and the properties of the type, by their names in QEMU: JSON.
        :raises MonitorError: QEMU's reason not to.
        """
        self.add_backend(read_backend_options(qom_type, props, JsonReader()))

    def add_backend(self, options: BackendOptions, warn: Warn | None = None) -> None:
        """Make a memory backend.

        :param warn: told what QEMU would warn of.
        :raises MonitorError: QEMU's reason not to.
        """
        with self._lock:
            context = options.values.get("prealloc-context", "")
            self.qom.check_link("link<thread-context>", "prealloc-context", context)
            backend = Backend.from_options(options, self._backends)
            if "prealloc-threads" not in options.values:
                backend.values["prealloc-threads"] = self.cpu_count
            backend.allocate(warn)
            self._backends[backend.id] = backend

    def object_del(self, name: str) -> None:
        """Give a backend back.

        :raises MonitorError: there is none of that name, or something is made of it.
        """
        with self._lock:
            backend = self._backends.get(name)
            if backend is None:
                raise MonitorError(f"object '{name}' not found")
            if backend.used:
                raise MonitorError(f"object '{name}' is in use, can not be deleted")
            del self._backends[name]

    def device_add(
        self, driver: object, props: Mapping[str, Any], *, warn: Warn | None = None
    ) -> None:
        """Plug a DIMM or a virtio-mem device, and let the guest look at it.

        :param driver: "pc-dimm" or "virtio-mem-pci"; None when it was not given.
        :param props: id, memdev, node; slot and addr, or requested-size, block-size, memaddr and so
            on. QEMU makes options of them, so numbers and words are alike.
        :param warn: told what QEMU would warn of.
        :raises MonitorError: QEMU's reason not to.
        """
        texts = ((key, option_text(value)) for key, value in props.items() if key != "id")
        options = {key: text for key, text in texts if text is not None}
        name = props["id"] if isinstance(props.get("id"), str) else None
        with self._lock:
            device = self._plug(option_text(driver), name, options, warn)
            job = (
                self._hotplug.came(device)
                if isinstance(device, Dimm)
                else self._virtio_mem.probe(device)
            )
        self._worker.wait(job)

    def device_del(self, name: str) -> None:
        """Ask the guest to let a DIMM go.

        When it agrees the DIMM is gone; when it refuses, nobody but an event says so. Asking again
        meanwhile asks it again, as in QEMU.

        :param name: an ID or a QOM path.
        :raises MonitorError: there is no such DIMM.
        """
        with self._lock:
            start = self.qom.root if name.startswith("/") else self.qom.peripheral
            found = self.qom.walk(start, name)
            if found is None:
                raise not_found(name)
            if isinstance(found, VirtioMem):
                raise MonitorError("virtio based memory devices cannot be unplugged.")
            if isinstance(found, VirtioMemBackend):
                raise MonitorError("Bus 'virtio-bus' does not support hotplugging")
            if not isinstance(found, Dimm):
                raise MonitorError(f"{name} is not a hotpluggable device")
            job = self._hotplug.ask_back(found.slot)
        self._worker.wait(job)

    def _plug(
        self, driver: str | None, name: str | None, options: dict[str, str], warn: Warn | None
    ) -> Dimm | VirtioMem:
        """Make a device; the checks are in QEMU's order."""
        if name is not None:
            check_identifier(name)
        if driver is None:
            raise MonitorError("Parameter 'driver' is missing")
        check_driver(self.config, driver, options.pop("bus", None))
        path = self._new_path(name)
        self._devices[path] = _UnfinishedDevice(driver, path)
        try:
            device = self._make_device(driver, name, path, options, warn)
        except MonitorError:
            del self._devices[path]
            raise
        self._devices[path] = device
        return device

    def _make_device(
        self, driver: str, name: str | None, path: str, options: dict[str, str], warn: Warn | None
    ) -> Dimm | VirtioMem:
        reader = OptionReader(warn)
        if driver == DRIVER:
            wanted = read_virtio_mem_options(options, reader, self._find_backend)
            device = make_virtio_mem(self.config, name, path, wanted, self.devices, warn)
            self._virtio_mem.devices.append(device)
            return device
        return self._slots.plug(
            lambda memdev: Dimm(name, path, memdev, hotplugged=True),
            driver,
            read_dimm_options(driver, options, reader, self._find_backend),
            self.devices,
            warn,
        )

    def _new_path(self, name: str | None) -> str:
        """Return the QOM path of a new device.

        :raises MonitorError: the name is taken.
        """
        if name is None:
            self._anonymous += 1
            return f"{ANONYMOUS}/device[{self._anonymous - 1}]"
        path = f"{PERIPHERAL}/{name}"
        if path in self._devices:
            raise MonitorError(f"Duplicate device ID '{name}'")
        return path

    def _find_backend(self, key: str, target: str) -> Backend | None:
        """Return what link property `key` set to `target` leads to."""
        found = self.qom.backend(key, target)
        return found if isinstance(found, Backend) else None

    def _dimm_removed(self, dimm: Dimm) -> None:
        del self._devices[dimm.path]

    # ---- the guest

    def reset(self) -> None:
        """Reset the machine, as system_reset: DIMMs stay and are found again while it boots,
        virtio-mem devices are emptied and plugged anew, unplug requests are lost.
        """
        self._virtio_mem.reset()
        self._hotplug.forget_all()
        self.run_state.reset(self._machine, Job(self._boot, "the boot", patience=10, lasting=True))

    def _boot(self) -> None:
        """The guest finds its devices: DIMMs by ACPI, in order of slots, then those of PCI."""
        for dimm in self._slots.dimms:
            self._hotplug.find_at_boot(dimm)
        self._virtio_mem.find_at_boot()

    def _on_machine_event(self, event: Any) -> None:
        """Take what the guest does unasked."""
        kind, device, data = event[2:5]
        if kind == "virtio-mem":
            self._virtio_mem.on_event(device, data)
        elif kind == "ost":
            self._hotplug.on_ost(data)

    def _tell_of_size(self, time_us: int, data: dict[str, Any]) -> None:
        self._events.put(HostEvent(time_us, "MEMORY_DEVICE_SIZE_CHANGE", data))
        # The machine delivers nothing else until this returns.
        self._events.deliver(wait=False)

    # ---- QOM

    def qom_type_to_set(self, path: str, name: str) -> str:
        """Return the type of value that a property takes: see QomTree.type_to_set()."""
        with self._lock:
            return self.qom.type_to_set(path, name)

    def qom_set(self, path: str, name: str, value: Any) -> None:
        """Give a property a value, and wait for the guest when that is told.

        :param value: of the type that qom_type_to_set() returns.
        :raises MonitorError: QEMU's reason not to.
        """
        with self._lock:
            changed = self.qom.set(path, name, value)
            if changed is None:
                return
            device = next(each for each in self._virtio_mem.devices if each.owns(changed))
            job = self._virtio_mem.request(device)
        self._worker.wait(job)
