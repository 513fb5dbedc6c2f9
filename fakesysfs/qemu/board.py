"""The host's side of memory hotplug: memory backends, DIMM slots, plugging, asking for an unplug,
ejecting; QOM.

Owns: the objects a QEMU 7.2 would have (`/objects/ID`, `/machine/peripheral/ID`), the order in
which it checks what it is asked for and the words in which it refuses, and what the host learns
from the guest. Does not own: the syntax of the monitors (hmp.py, qmp.py), what a virtio-mem device
has and wants (virtio_mem.py), where in physical memory a device goes (placement.py), and what the
guest does with it (the engine).

    object_add, device_add, device_del, qom-set                 the caller's thread
         |  checks, slot, address, one Job
         v
    the guest's kacpi_hotplug: Jobs, one after another          one worker thread
         |  Machine.acpi_device_check(), .acpi_eject_request(), .virtio_mem_probe(),
         .virtio_mem_work() v
    ACPI_DEVICE_OST, DEVICE_DELETED,
    MEMORY_DEVICE_SIZE_CHANGE        ->  subscribers            never with a lock held that a query needs

A real QEMU answers device_add and device_del at once and the guest acts later. Here the call waits
until the guest has answered, so that what follows finds the memory there; but it does not wait
longer than `answer_seconds`, because a guest may take for ever to offline memory. QEMU's replies do
not depend on it.

Sizes and addresses are bytes.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from ..errors import ConfigError, MonitorError
from ..events import Delivery, current, resumed
from .backends import (
    Backend,
    ListingOrder,
    check_identifier,
    expects,
    invalid_type,
    make_backend,
    read_value,
    unsigned,
)
from .placement import find_place, option_text
from .qemu_text import Warn, as_qemu_keeps, parse_integer
from .virtio_mem import DRIVER, Driver, Inner, VirtioMem, VirtioMems, make_virtio_mem, refuse_driver

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig

__all__ = ["Dimm", "DimmBoard", "HostEvent", "Numa"]

DEVICE_CHECK: Final = 1  # the event codes of _OST: ACPI 6.4, 6.3.5
EJECT_REQUEST: Final = 3
OSPM_EJECT: Final = 0x103
OST_SUCCESS: Final = 0
OST_FAILURE: Final = 1
OST_NOT_SUPPORTED: Final = 0x80
OST_BUSY: Final = 0x82
OST_IN_PROGRESS: Final = 0x84


_U64: Final = (1 << 64) - 1
_ANSWER_SECONDS: Final = 1.0
# so many times longer: looking takes its time with thousands of blocks, but always ends
_LOOK_FACTOR: Final = 10
_JOBS_LIMIT: Final = 1024  # a guest that is stuck need not remember more eject requests

#: Name of the backend that is the machine's RAM, and type of the machine, by architecture.
_MACHINES: Final = {
    "x86_64": ("pc.ram", "pc-q35-7.2-machine"),
    "aarch64": ("mach-virt.ram", "virt-7.2-machine"),
    "ppc64le": ("ppc_spapr.ram", "pseries-7.2-machine"),
    "s390x": ("s390.ram", "s390-ccw-virtio-7.2-machine"),
}

_OBJECTS, _MACHINE, _PERIPHERAL, _ANON = (
    "/objects",
    "/machine",
    "/machine/peripheral",
    "/machine/peripheral-anon",
)


class HostEvent(NamedTuple):
    """Something the host is told, as QMP names it.

    :param time_us: when, in microseconds since 1970.
    :param name: ACPI_DEVICE_OST, DEVICE_DELETED or MEMORY_DEVICE_SIZE_CHANGE.
    :param data: what QMP calls its data.
    """

    time_us: int
    name: str
    data: dict[str, Any]


class Numa(NamedTuple):
    """A NUMA node as the host sees it: `bytes` counts its DIMMs, which are `plugged_bytes` of them."""

    id: int
    cpus: tuple[int, ...]
    bytes: int
    plugged_bytes: int


class Guest(Driver, Protocol):
    """What this file needs of a Machine."""

    @property
    def config(self) -> MachineConfig:
        """The machine's description."""

    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        """The guest finds a DIMM; returns what it reports by _OST."""

    def acpi_eject_request(self, slot: int, /) -> int:
        """The guest is asked to let a DIMM go; returns what it reports by _OST."""

    def subscribe(self, subscriber: Callable[[Any], None], /) -> Any:
        """Have `subscriber` called with each event."""


class Dimm:
    """A DIMM in a slot.

    :ivar id: its name, None for a device that got none.
    :ivar slot: its slot.
    :ivar node: NUMA node.
    :ivar addr: first physical address.
    :ivar memdev: the backend it is made of.
    :ivar hotplugged: False when it was there at boot.
    :ivar path: its QOM path.
    """

    __slots__ = ("addr", "hotplugged", "id", "memdev", "node", "path", "slot")

    def __init__(
        self,
        name: str | None,
        path: str,
        slot: int,
        node: int,
        addr: int,
        memdev: Backend,
        hotplugged: bool,
    ) -> None:
        self.id = name
        self.path = path
        self.slot = slot
        self.node = node
        self.addr = addr
        self.memdev = memdev
        self.hotplugged = hotplugged

    def __repr__(self) -> str:
        return (
            f"Dimm({self.id!r}, slot={self.slot}, node={self.node}, {self.addr:#x}+{self.size:#x})"
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return self.memdev.size

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


class _Slot:
    """What QEMU's ACPI device and the guest know of a slot."""

    __slots__ = ("dimm", "known", "source", "status")

    def __init__(self) -> None:
        self.dimm: Dimm | None = None
        # the guest has a device here: it has been told to look, and has not ejected
        self.known = False
        self.source = 0
        self.status = 0


class _Job:
    """Work for the guest: look at a slot (`dimm` has come), or let go of what is in it, as `source`
    asked; or `work`.
    """

    __slots__ = ("cause", "dimm", "done", "slot", "source", "work")

    def __init__(
        self,
        slot: int,
        dimm: Dimm | None,
        source: int = EJECT_REQUEST,
        work: Callable[[], None] | None = None,
    ) -> None:
        self.slot = slot
        self.dimm = dimm
        self.source = source
        self.work = work
        self.cause = current()
        self.done = threading.Event()


class _Property(NamedTuple):
    """A QOM property. `target` is the object a child or link property leads to, None when it leads
    nowhere.
    """

    name: str
    type: str
    value: Any
    target: Any = None


class _Unfinished(NamedTuple):
    """A device that is being made: it has its place, and its properties are yet to be set."""

    driver: str
    path: str


class _Region(NamedTuple):
    """The memory region of a backend."""

    backend: Backend
    path: str


#: Properties a device_add can set, with their type, and those it cannot.
_DIMM_PROPERTIES: Final = {
    "memdev": "link",
    "node": "uint32",
    "addr": "uint64",
    "slot": "int32",
    "realized": "bool",
}
_DIMM_READ_ONLY: Final = (
    "type",
    "parent_bus",
    "hotplugged",
    "hotpluggable",
    "legacy-memdev",
    "size",
)


class DimmBoard:
    """The DIMM slots of a machine, the memory that goes into them, and its virtio-mem devices.

    The DIMMs of `machine.config.dimms` are plugged at once, as at boot: without events. Every
    method may be called from any thread. `close()` it, or use it as a context manager.

    :param machine: a Machine.
    :param answer_seconds: how long device_add and device_del wait for the guest.
    :raises ConfigError: a DIMM of the configuration cannot be plugged.
    """

    def __init__(self, machine: Guest, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        config = machine.config
        self._machine = machine
        self._config = config
        self._answer_seconds = answer_seconds
        # of everything below; held briefly, never while the guest works
        self._lock = threading.RLock()
        self._backends: dict[str, Backend] = {}
        self._listing = ListingOrder()
        self._peripherals = {_PERIPHERAL: ListingOrder(), _ANON: ListingOrder()}
        self._slots = [_Slot() for _ in range(config.slots)]
        self._virtio = VirtioMems(machine, config, self._ask_to, self._tell_of_size)
        self._unfinished: _Unfinished | None = None
        self._anonymous = 0
        self._jobs: deque[_Job] = deque()
        self._work = threading.Condition(self._lock)
        self._worker: threading.Thread | None = None
        self._late = False  # somebody gave up waiting for the guest, which has not caught up since
        self._closed = False
        self._ending = threading.Event()
        self._events: Delivery[HostEvent] = Delivery()
        self._add_ram()
        unsubscribe = machine.subscribe(self._on_machine_event)
        self._unsubscribe: Callable[[], object] | None = (
            unsubscribe if callable(unsubscribe) else None
        )
        for dimm in config.dimms:
            try:
                self.object_add("memory-backend-ram", {"id": f"mem-{dimm.id}", "size": dimm.bytes})
                wanted: dict[str, Any] = {
                    "id": dimm.id,
                    "memdev": f"mem-{dimm.id}",
                    "node": dimm.node,
                }
                wanted |= {
                    key: at
                    for key, at in (("slot", dimm.slot), ("addr", dimm.addr))
                    if at is not None
                }
                plugged = self._plug("pc-dimm", wanted, hotplugged=False, warn=None)
            except MonitorError as e:
                self.close()
                raise ConfigError(f"DIMM {dimm.id!r}: {e.desc}") from None
            assert isinstance(plugged, Dimm)
            self._slots[plugged.slot].known = True
            # what the guest makes of it is in its log; at boot there is no _OST
            self._check(plugged)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. What the guest is at goes on to its end; nothing new begins, and nobody
        is told any more.
        """
        with self._lock:
            self._closed = True
            self._ending.set()
            self._jobs.clear()
            self._events.clear()
            self._work.notify_all()
            self._virtio.close()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def subscribe(self, subscriber: Callable[[HostEvent], None]) -> Callable[[], None]:
        """Have `subscriber` called with each event of the host, in order, on the thread that made
        it.

        One that fails is logged and changes nothing. Returns a function that ends the subscription.
        """
        return self._events.subscribe(subscriber)

    def _add_ram(self) -> None:
        """The backends that are RAM of the machine: QEMU's own, or with several nodes one each, as
        libvirt names it.
        """
        config = self._config
        name = _MACHINES.get(config.arch, _MACHINES["x86_64"])[0]
        parts = [(name, config.memory_bytes)]
        if len(config.nodes) > 1:
            parts = [(f"ram-node{node.id}", node.bytes) for node in config.nodes if node.bytes]
        for name, size in parts:
            backend = Backend("memory-backend-ram", name, size)
            backend.values["prealloc-threads"] = self._cpus
            backend.used = "machine"
            self._backends[name] = backend
            self._listing.add(name)

    # ------------------------------------------------------------------------------------- backends

    def object_add(
        self,
        qom_type: str,
        props: Mapping[str, Any],
        *,
        text: bool = False,
        warn: Warn | None = None,
    ) -> None:
        """Make a memory backend.

        :param props: `id`, `size` and the properties of the type, by their names in QEMU.
        :param text: the values are strings as people write them ("512M", "on"), and lists and
            mappings of them; else they are JSON.
        :param warn: told what QEMU would warn of.
        :raises MonitorError: QEMU's reason not to.
        """
        with self._lock:
            backend = make_backend(
                qom_type,
                props,
                self._backends,
                leads=lambda path: bool(self._find(path)),
                text=text,
                warn=warn,
            )
            if "prealloc-threads" not in props:
                backend.values["prealloc-threads"] = self._cpus
            self._listing.add(backend.id)
            try:
                backend.allocate(warn)
            except MonitorError:
                self._listing.remove(backend.id, undo=True)
                raise
            self._backends[backend.id] = backend

    def object_del(self, name: str) -> None:
        """Give a backend back.

        :raises MonitorError: there is none of that name, or something is made of it.
        """
        with self._lock:
            backend = self._backends.get(name)
            if backend is None:
                raise MonitorError(f"object '{name}' not found")
            if backend.used is not None:
                raise MonitorError(f"object '{name}' is in use, can not be deleted")
            del self._backends[name]
            self._listing.remove(name)

    # ---------------------------------------------------------------------------------------- DIMMs

    def device_add(
        self, driver: object, props: Mapping[str, Any], *, warn: Warn | None = None
    ) -> None:
        """Plug a DIMM or a virtio-mem device, and let the guest look at it.

        :param driver: "pc-dimm" or "virtio-mem-pci"; None when it was not given.
        :param props: id, memdev, node; slot and addr, or requested-size, block-size, memaddr and so
            on. Values are taken as QEMU takes options: numbers and words alike.
        :param warn: told what QEMU would warn of.
        :raises MonitorError: QEMU's reason not to.
        """
        with self._lock:
            device = self._plug(driver, props, hotplugged=True, warn=warn)
            job = (
                self._ask(_Job(device.slot, device))
                if isinstance(device, Dimm)
                else self._virtio.probe(device)
            )
        self._wait(job)

    def device_del(self, name: str) -> None:
        """Ask the guest to let a DIMM go. When it agrees the DIMM is gone; when it refuses nobody
        but an event says so.

        Asking again while it is at it asks it again, as in QEMU.

        :param name: an ID or a QOM path.
        :raises MonitorError: there is no such DIMM.
        """
        with self._lock:
            found = self._resolve(name) if name.startswith("/") else self._walk(_PERIPHERAL, name)
            if found is None:
                raise MonitorError(f"Device '{name}' not found", "DeviceNotFound")
            if isinstance(found, VirtioMem):
                raise MonitorError("virtio based memory devices cannot be unplugged.")
            if isinstance(found, Inner):
                raise MonitorError("Bus 'virtio-bus' does not support hotplugging")
            if not isinstance(found, Dimm):
                raise MonitorError(f"{name} is not a hotpluggable device")
            job = self._ask(_Job(found.slot, None))
        self._wait(job)

    def _plug(
        self, driver: object, props: Mapping[str, Any], hotplugged: bool, warn: Warn | None
    ) -> Dimm | VirtioMem:
        """Make a device; the checks are in QEMU's order. Called with the lock held, or at the
        start.
        """
        options = {
            key: value
            for key, value in ((k, option_text(v)) for k, v in props.items())
            if value is not None
        }
        name = props.get("id")
        if not isinstance(name, str):
            name = None
        options.pop("id", None)
        if name is not None:
            check_identifier(name)
        driver = option_text(driver)
        if driver is None:
            raise MonitorError("Parameter 'driver' is missing")
        refusal = refuse_driver(driver, options.get("bus"))
        if refusal is not None:
            raise refusal
        if driver not in ("pc-dimm", "nvdimm", DRIVER) or self._config.arch == "s390x":
            raise MonitorError(f"'{driver}' is not a valid device model name")
        if "bus" in options and driver != DRIVER:
            raise MonitorError(f"Bus '{options['bus']}' not found")
        if name is not None and any(device.id == name for device in self.devices):
            raise MonitorError(f"Duplicate device ID '{name}'")
        path = f"{_PERIPHERAL}/{name}"
        if name is None:
            path = f"{_ANON}/device[{self._anonymous}]"
            self._anonymous += 1

        place, _, name_there = path.rpartition("/")
        self._peripherals[place].add(name_there)
        self._unfinished = _Unfinished(driver, path)
        try:
            if driver == DRIVER:
                device = make_virtio_mem(
                    self._config, name, path, options, self.devices, self._find_backend, warn
                )
                device.memdev.used = device
                self._virtio.devices.append(device)
                return device
            dimm = self._make_dimm(driver, name, path, options, hotplugged, warn)
        except MonitorError:
            self._peripherals[place].remove(name_there)
            raise
        finally:
            self._unfinished = None
        dimm.memdev.used = dimm
        self._slots[dimm.slot].dimm = dimm
        return dimm

    def _make_dimm(
        self,
        driver: str,
        name: str | None,
        path: str,
        options: Mapping[str, str],
        hotplugged: bool,
        warn: Warn | None,
    ) -> Dimm:
        memdev, node, addr, slot = self._device_properties(driver, options)
        if driver == "nvdimm":
            raise MonitorError("nvdimm is not enabled: missing 'nvdimm' in '-M'")
        slot = self._free_slot(slot)
        if memdev is None:
            raise MonitorError("'memdev' property must be set")
        addr = find_place(self._config, self.devices, addr, memdev, warn)
        nodes = len(self._config.nodes)
        if node >= nodes:
            raise MonitorError(
                f"'DIMM property node has value {node}' which exceeds the number of numa nodes:"
                f" {nodes}"
            )
        if memdev.used is not None:
            raise MonitorError(f"can't use already busy memdev: {memdev.id}")
        return Dimm(name, path, slot, node, addr, memdev, hotplugged)

    def _device_properties(
        self, driver: str, options: Mapping[str, str]
    ) -> tuple[Backend | None, int, int, int]:
        """memdev, node, addr and slot of a device_add; 0 is no address, -1 no slot."""
        memdev: Backend | None = None
        numbers = {"node": 0, "addr": 0, "slot": -1}
        for key, value in as_qemu_keeps(options):
            kind = _DIMM_PROPERTIES.get(key)
            if key == "driver":
                continue
            if key in _DIMM_READ_ONLY:
                raise MonitorError(f"Property '{driver}.{key}' is not writable")
            if kind is None:
                raise MonitorError(f"Property '{driver}.{key}' not found")
            if kind == "link":
                memdev = self._find_backend(key, value)
            elif kind == "int32":
                number = parse_integer(value)
                if number is None or not -(1 << 63) <= number < 1 << 63:
                    raise expects(key, "integer")
                if not -(1 << 31) <= number < 1 << 31:
                    raise expects(key, "int32_t")
                numbers[key] = number
            elif kind == "bool":
                read_value("bool", key, value, text=True)
            else:
                numbers[key] = (
                    read_value("uint32", key, value, True)
                    if kind == "uint32"
                    else unsigned(key, value, True)
                )
        return memdev, numbers["node"], numbers["addr"], numbers["slot"]

    def _find_backend(self, key: str, target: str) -> Backend | None:
        """What link property `key` set to `target` leads to: a path, or the end of one."""
        if not target:
            return None
        found = self._find(target)
        backends = [x for x in found if isinstance(x, Backend)]
        if len(backends) == 1:
            return backends[0]
        if len(backends) > 1:
            raise MonitorError(f"Path '{target}' does not uniquely identify an object")
        if found:
            raise invalid_type(key, "memory-backend")
        raise MonitorError(f"Device '{target}' not found", "DeviceNotFound")

    def _free_slot(self, wanted: int) -> int:
        """The slot asked for, or with -1 the first free one."""
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
        for number, slot in enumerate(self._slots):
            if slot.dimm is None:
                return number
        raise MonitorError("no free slots available")

    # ------------------------------------------------------------------------------------ the guest

    def _ask(self, job: _Job) -> _Job:
        """Give the guest work. Called with the lock held."""
        if self._closed or (job.dimm is None and len(self._jobs) >= _JOBS_LIMIT):
            job.done.set()
            return job
        self._jobs.append(job)
        if self._worker is None:
            self._worker = threading.Thread(target=self._run, name="kacpi_hotplug", daemon=True)
            self._worker.start()
        self._work.notify()
        return job

    def _ask_to(self, work: Callable[[], None]) -> _Job:
        """Give the guest work of another kind."""
        with self._lock:
            return self._ask(_Job(-1, None, work=work))

    def _wait(self, job: _Job) -> None:
        """Wait for the guest's answer, but not long, and not at all for one known to be late."""
        if self._late or threading.current_thread() is self._worker:
            return
        if not job.done.wait(self._answer_seconds * (1 if job.dimm is None else _LOOK_FACTOR)):
            with self._lock:
                self._late = not job.done.is_set()

    def _run(self) -> None:
        """The worker's life."""
        while True:
            with self._lock:
                while not self._jobs and not self._closed:
                    self._late = False
                    self._work.wait()
                if self._closed:
                    return
                job = self._jobs.popleft()
            try:
                with resumed(job.cause):
                    if job.work is not None:
                        job.work()
                    elif job.dimm is None:
                        self._eject(job.slot, job.source)
                    else:
                        self._device_check(job.slot, job.dimm)
            # The worker outlives a fault of the engine; it is logged
            except Exception:  # noqa: BLE001
                where = "a virtio-mem device" if job.work is not None else f"slot {job.slot}"
                _log_exception(f"the guest's work on {where} failed")
            finally:
                job.done.set()

    def _device_check(self, number: int, dimm: Dimm) -> None:
        slot = self._slots[number]
        if slot.dimm is not dimm:
            status = OST_FAILURE  # ejected in the meantime, and the guest finds nothing
        else:
            slot.known = True
            status = self._check(dimm)
        self._ost(number, DEVICE_CHECK, status)

    def _check(self, dimm: Dimm) -> int:
        nid = self._config.device_nids[dimm.node]
        return _ost_status(
            lambda: self._machine.acpi_device_check(dimm.slot, nid, dimm.addr, dimm.size)
        )

    def _eject(self, number: int, source: int) -> None:
        slot = self._slots[number]
        name = slot.dimm.id if slot.dimm is not None else None
        how, delay_us = self._machine.unplug_fault(name or "") if slot.dimm is not None else ("", 0)
        if how == "never" or self._ending.wait(delay_us / 1_000_000):
            return
        # whoever asked: so Linux reports that it is at it
        self._ost(number, EJECT_REQUEST, OST_IN_PROGRESS)
        status = OST_BUSY if how == "refuse" else OST_SUCCESS
        if slot.known and how not in ("refuse", "stay"):
            status = _ost_status(lambda: self._machine.acpi_eject_request(number))
        if status == OST_SUCCESS and how != "stay":
            self._removed(number)
        for _ in range(2 if how == "twice" else 1):
            self._ost(number, source, status)

    def _removed(self, number: int) -> None:
        """The guest has let go of a slot: its DIMM is no more."""
        with self._lock:
            slot = self._slots[number]
            slot.known = False
            dimm, slot.dimm = slot.dimm, None
            if dimm is None:
                return
            dimm.memdev.used = None
            place, _, name = dimm.path.rpartition("/")
            self._peripherals[place].remove(name)
            data = {"device": dimm.id} if dimm.id is not None else {}
            self._emit("DEVICE_DELETED", {**data, "path": dimm.path})

    def _ost(self, number: int, source: int, status: int, wait: bool = True) -> None:
        """The guest has reported by _OST. `wait` as for Delivery.deliver()."""
        with self._lock:
            slot = self._slots[number]
            slot.source, slot.status = source, status
            self._emit("ACPI_DEVICE_OST", {"info": self._slot_status(number)})
        self._events.deliver(wait)

    def _slot_status(self, number: int) -> dict[str, Any]:
        slot = self._slots[number]
        device = (
            {"device": slot.dimm.id} if slot.dimm is not None and slot.dimm.id is not None else {}
        )
        return {
            **device, "source": slot.source, "status": slot.status, "slot": str(number), "slot-type": "DIMM",
        }  # fmt: skip

    def _on_machine_event(self, event: Any) -> None:
        """What the guest does unasked.

        "ost": somebody inside has asked for an eject, "SLOT SOURCE"; or it reports, "SLOT SOURCE
        STATUS". "virtio-mem": see VirtioMems.on_event().
        """
        if event[2] == "virtio-mem":
            self._virtio.on_event(event[3], event[4])
        if event[2] != "ost":
            return
        number, source, *reported = (int(word, 0) for word in event[4].split())
        if not 0 <= number < len(self._slots):
            return
        if not reported:
            with self._lock:
                self._ask(_Job(number, None, source))
            return
        (status,) = reported
        if source in (EJECT_REQUEST, OSPM_EJECT) and status == OST_SUCCESS:
            self._removed(number)
        # The machine delivers nothing else until this returns, so never wait here for who may be
        # waiting for that.
        self._ost(number, source, status, wait=False)

    def _tell_of_size(self, time_us: int, data: dict[str, Any]) -> None:
        self._events.put(HostEvent(time_us, "MEMORY_DEVICE_SIZE_CHANGE", data))
        self._events.deliver(wait=False)  # as after _ost()

    def _emit(self, name: str, data: dict[str, Any]) -> None:
        self._events.put(HostEvent(time.time_ns() // 1000, name, data))

    # -------------------------------------------------------------------------------------- queries

    @property
    def config(self) -> MachineConfig:
        """The machine's description."""
        return self._config

    @property
    def dimms(self) -> list[Dimm]:
        """The DIMMs in their slots, by address."""
        with self._lock:
            return sorted(
                (slot.dimm for slot in self._slots if slot.dimm is not None),
                key=lambda dimm: dimm.addr,
            )

    @property
    def devices(self) -> list[Dimm | VirtioMem]:
        """All memory devices, by address."""
        with self._lock:
            return sorted([*self.dimms, *self._virtio.devices], key=lambda device: device.addr)

    @property
    def backends(self) -> list[Backend]:
        """The memory backends, the machine's RAM among them, in the order in which QEMU lists them."""
        with self._lock:
            return [self._backends[name] for name in self._listing.names()]

    def memory_devices(self) -> list[dict[str, Any]]:
        """What query-memory-devices returns: DIMMs and virtio-mem devices by address."""
        return [device.description for device in self.devices]

    def memory_size_summary(self) -> dict[str, int]:
        """What query-memory-size-summary returns: bytes of RAM at boot, bytes plugged since."""
        return {
            "base-memory": self._config.memory_bytes,
            "plugged-memory": sum(map(_plugged, self.devices)),
        }

    def memdevs(self) -> list[dict[str, Any]]:
        """What query-memdev returns: the backends."""
        names = ("share", "reserve", "prealloc", "host-nodes", "size", "merge", "dump", "policy")
        return [{name: b.values[name] for name in names} | {"id": b.id} for b in self.backends]

    def ospm_status(self) -> list[dict[str, Any]]:
        """What query-acpi-ospm-status returns: the last _OST of each DIMM slot, and of each CPU
        that could be unplugged.
        """
        with self._lock:
            slots = [self._slot_status(number) for number in range(len(self._slots))]
        cpus = self._cpus if self._config.cpu_hotplug else 0
        return slots + [
            {"source": 0, "status": 0, "slot": str(cpu), "slot-type": "CPU"} for cpu in range(cpus)
        ]

    @property
    def _cpus(self) -> int:
        """How many there are, which is also how many threads QEMU would touch memory with."""
        return sum(len(node.cpus) for node in self._config.nodes) or 1

    def numa(self) -> list[Numa]:
        """The NUMA nodes; none on a machine without slots where nobody spoke of nodes, as QEMU
        counts.
        """
        if not self._slots and len(self._config.nodes) == 1:
            return []
        plugged: dict[int, int] = {}
        for device in self.devices:
            plugged[device.node] = plugged.get(device.node, 0) + _plugged(device)
        return [
            Numa(node.id, node.cpus, node.bytes + plugged.get(node.id, 0), plugged.get(node.id, 0))
            for node in self._config.nodes
        ]

    # ---------------------------------------------------------------------------------- QOM: a tree

    def qom_list(self, path: str) -> list[dict[str, str]]:
        """The properties of the object at `path`: name and type.

        :param path: "/objects/m0", or an end of a path that leads to one object only.
        :raises MonitorError: there is none, or there are several.
        """
        with self._lock:
            if path == "":  # for qom-list that is the end of every path
                raise MonitorError("Path '' is ambiguous")
            return [{"name": p.name, "type": p.type} for p in self._properties(self._object(path))]

    def qom_get(self, path: str, name: str) -> Any:
        """The value of a property.

        :raises MonitorError: there is no such object, or no such property, or it cannot be read.
        """
        with self._lock:
            target = self._object(path, unique=False)
            for p in self._properties(target):
                if p.name == name:
                    if name == "legacy-memdev":
                        raise MonitorError(f"Property '{_type_of(target)}.{name}' is not readable")
                    return p.value
            raise MonitorError(f"Property '{self._type(target)}.{name}' not found")

    def qom_set(
        self, path: str, name: str, value: Any, *, text: bool = False, warn: Warn | None = None
    ) -> None:
        """Give a property a value.

        :param text: the value is a string as people write it; else it is JSON.
        :param warn: told what QEMU would warn of.
        :raises MonitorError: QEMU's reason not to.
        """
        job = None
        with self._lock:
            target = self._object(path, unique=False)
            qom_type = self._type(target)
            if all(p.name != name for p in self._properties(target)):
                raise MonitorError(f"Property '{qom_type}.{name}' not found")
            if isinstance(target, Backend) and name in target.values:
                self._set_backend(target, name, value, text)
            elif isinstance(target, Dimm) and name in _DIMM_PROPERTIES:
                self._set_dimm(target, name, value, text)
            elif isinstance(target, VirtioMem | Inner) and name not in (
                "type",
                *_DIMM_READ_ONLY[1:4],
                "virtio-backend",
            ):
                job = self._set_virtio(target, name, value, text, warn)
            else:
                raise MonitorError(f"Property '{qom_type}.{name}' is not writable")
        if job is not None:
            self._wait(job)

    def _set_virtio(
        self, target: VirtioMem | Inner, name: str, value: Any, text: bool, warn: Warn | None
    ) -> _Job | None:
        device = target if isinstance(target, VirtioMem) else target.outer
        if name == "realized":
            if not read_value("bool", name, value, text):
                raise MonitorError(f"Property '{_type_of(target)}.realized' cannot be set to false")
            return None
        if name == "memdev":
            self._find_backend(name, read_value("str", name, value, text))
        return self._virtio.request(device) if device.change(name, value, text, warn) else None

    def _set_backend(self, backend: Backend, name: str, value: Any, text: bool) -> None:
        if name == "prealloc-context" and isinstance(value, str) and value and self._find(value):
            raise invalid_type(name, "thread-context")
        backend.change(name, value, text)

    def _set_dimm(self, dimm: Dimm, name: str, value: Any, text: bool) -> None:
        if name == "realized":
            if not read_value("bool", name, value, text):
                raise MonitorError(
                    "Property 'pc-dimm.realized' cannot be set to false; use device_del"
                )
            return
        if name == "memdev":
            self._find_backend(name, read_value("str", name, value, text))
            raise MonitorError(
                f"Attempt to set link property 'memdev' on device '{dimm.id or '(null)'}' (type"
                " 'pc-dimm') after it was realized"
            )
        which = f"device '{dimm.id}'" if dimm.id is not None else "anonymous device"
        raise MonitorError(
            f"Attempt to set property '{name}' on {which} (type 'pc-dimm') after it was realized"
        )

    def _object(self, path: str, *, unique: bool = True) -> Any:
        """The object at `path`, or the only one whose path ends so.

        :param unique: say so when there are several; else it is as if there were none.
        """
        found = self._find(path)
        if not found or (len(found) > 1 and not unique):
            raise MonitorError(f"Device '{path}' not found", "DeviceNotFound")
        if len(found) > 1:
            raise MonitorError(f"Path '{path}' is ambiguous")
        return found[0]

    def _find(self, path: str) -> list[Any]:
        """The objects `path` can mean."""
        if path.startswith("/"):
            target = self._resolve(path)
            return [] if target is None else [target]
        inner = [Inner(device) for device in self._virtio.devices]
        starts: list[Any] = [
            "/",
            _OBJECTS,
            _MACHINE,
            _PERIPHERAL,
            _ANON,
            *self._backends.values(),
            *self.devices,
            *inner,
        ]
        found: list[Any] = []
        for start in starts:
            target = self._walk(start, path)
            if target is not None and all(target is not other for other in found):
                found.append(target)
        return found

    def _resolve(self, path: str) -> Any:
        return self._walk("/", path)

    def _walk(self, start: Any, path: str) -> Any:
        """The object reached from `start` along children and links, None when there is none."""
        for part in path.split("/"):
            if part and start is not None:
                start = next((p.target for p in self._properties(start) if p.name == part), None)
        return start

    def _type(self, target: Any) -> str:
        if target == _MACHINE:
            return _MACHINES.get(self._config.arch, _MACHINES["x86_64"])[1]
        return _type_of(target)

    def _properties(self, target: Any) -> list[_Property]:
        """What an object has, in the order in which qom-list names it."""

        def child(name: str, what: Any) -> _Property:
            path = what if isinstance(what, str) else what.path
            return _Property(name, f"child<{self._type(what)}>", path, what)

        props = [_Property("type", "string", self._type(target))]
        if target == "/":
            props += [child("objects", _OBJECTS), child("machine", _MACHINE)]
        elif target == _OBJECTS:
            props += [child(backend.id, backend) for backend in self.backends]
        elif target == _MACHINE:
            ram = next((b for b in self._backends.values() if b.used == "machine"), None)
            sizes = {
                "size": self._config.memory_bytes,
                "slots": self._config.slots,
                "max-size": self._config.maxmem_bytes,
            }
            props += [
                _Property("memory", "MemorySizeConfiguration", sizes),
                _Property("memory-backend", "link<memory-backend>", ram.path if ram else "", ram),
                child("peripheral-anon", _ANON),
                child("peripheral", _PERIPHERAL),
            ]
        elif target in (_PERIPHERAL, _ANON):
            there: dict[str, Any] = {device.path: device for device in self.devices}
            if self._unfinished:
                there[self._unfinished.path] = self._unfinished
            paths = [f"{target}/{name}" for name in self._peripherals[target].names()]
            props += [
                child(path.rpartition("/")[2], there[path]) for path in paths if path in there
            ]
        elif isinstance(target, Backend):
            props += [_Property(*p) for p in target.properties]
            props.append(child(target.region, _Region(target, f"{target.path}/{target.region}")))
        elif isinstance(target, Dimm):
            props += [
                _Property("parent_bus", "link<bus>", ""),
                _Property("realized", "bool", True),
                _Property("hotplugged", "bool", target.hotplugged),
                _Property("hotpluggable", "bool", True),
                _Property("memdev", "link<memory-backend>", target.memdev.path, target.memdev),
                _Property("node", "uint32", target.node),
                _Property("addr", "uint64", target.addr),
                _Property("legacy-memdev", "str", ""),
                _Property("slot", "int32", target.slot),
                _Property("size", "uint64", target.size),
            ]
        elif isinstance(target, VirtioMem | Inner):
            device = target if isinstance(target, VirtioMem) else target.outer
            props += [
                _Property("parent_bus", "link<bus>", ""),
                _Property("realized", "bool", True),
                _Property("hotplugged", "bool", True),
                _Property("hotpluggable", "bool", True),
                *(_Property(*p) for p in device.properties(isinstance(target, Inner))),
            ]
            memdev = _Property("memdev", "link<memory-backend>", device.memdev.path, device.memdev)
            # where QEMU's table of them has it
            props.insert(5 if isinstance(target, Inner) else 6, memdev)
            if isinstance(target, VirtioMem):
                props.append(child("virtio-backend", Inner(target)))
        elif isinstance(target, _Region):
            dimm = (
                target.backend.used if isinstance(target.backend.used, Dimm | VirtioMem) else None
            )
            props += [
                _Property(
                    "container",
                    "link<memory-region>",
                    f"{_MACHINE}/device-memory[0]" if dimm else "",
                ),
                _Property(
                    "addr", "uint64", dimm.addr - self._config.device_memory_base if dimm else 0
                ),
                _Property("size", "uint64", target.backend.size),
                _Property("priority", "uint32", 0),
            ]
        return props


# ------------------------------------------------------------------------------------------ helpers


def _plugged(device: Dimm | VirtioMem) -> int:
    """How much memory of a device there is."""
    return device.size if isinstance(device, Dimm) else device.plugged


def _type_of(target: Any) -> str:
    if isinstance(target, Backend):
        return target.qom_type
    if isinstance(target, Dimm):
        return "pc-dimm"
    if isinstance(target, VirtioMem | Inner):
        return DRIVER if isinstance(target, VirtioMem) else "virtio-mem"
    if isinstance(target, _Unfinished):
        return target.driver
    return "memory-region" if isinstance(target, _Region) else "container"


def _ost_status(call: Callable[[], int]) -> int:
    """What the guest reports by _OST: the engine's answer, or for an errno what Linux makes of it."""
    try:
        return call()
    except OSError as e:
        return {errno.EPERM: OST_NOT_SUPPORTED, errno.EBUSY: OST_BUSY}.get(
            e.errno or 0, OST_FAILURE
        )


def _log_exception(what: str) -> None:
    import logging  # rarely needed, and importing it takes time

    logging.getLogger(__name__).exception(what)
