"""The host's side of virtio-mem: a device that is plugged once and whose memory comes and goes in
small blocks.

Owns: the properties of the device `virtio-mem-pci` and of the `virtio-mem` behind it, the limits of
its size in QEMU's words, when the guest's driver is to work, and how often the host is told of a
change. Does not own: the other devices and the events' way to their listeners (board.py), what the
driver does (engine/virtio_mem.c).

The host asks for a size (`requested-size`); the guest gets there, partly or later, and each of its
steps changes `size`.

Sizes and addresses are bytes.
"""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from ..errors import MonitorError
from .backends import RAM_ALIGNMENT, HintedError, expects, read_value, unsigned
from .placement import find_place
from .qemu_text import Warn, as_qemu_keeps, is_size_too_large, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.machine_config import MachineConfig
    from .backends import Backend
    from .placement import Placed

__all__ = [
    "DRIVER",
    "Driver",
    "Inner",
    "Throttle",
    "VirtioMem",
    "VirtioMems",
    "make_virtio_mem",
    "refuse_driver",
]

DRIVER: Final = "virtio-mem-pci"
TYPE: Final = "virtio-mem"
# after which the guest's driver tries again at first, and twice as long each time, but
RETRY_SECONDS: Final = 50.0
LONGEST_RETRY_SECONDS: Final = 300.0
EVENT_SECONDS: Final = 1.0  # QEMU sends MEMORY_DEVICE_SIZE_CHANGE no more often than this

_LEAST_BLOCK: Final = 1 << 20
_HOST_PAGE: Final = 1 << 12
# : More of the region can be used than is requested, because guests add memory in blocks that are
# larger than the device's
_EXTENT: Final = {"aarch64": 1 << 30}
_OTHER_EXTENT: Final = 256 << 20

#: Properties of the PCI device that change nothing of what can be seen here
_SWITCHES: Final = frozenset(
    (
        "aer", "any_layout", "ats", "disable-modern", "event_idx", "indirect_desc", "iommu_platform", "migrate-extra",
        "modern-pio-notify", "multifunction", "notify_on_empty", "packed", "page-per-vq", "queue_reset", "use-disabled-flag",
        "use-started", "virtio-pci-bus-master-bug-migration", "x-ats-page-aligned", "x-disable-legacy-check",
        "x-disable-pcie", "x-ignore-backend-features", "x-pcie-deverr-init", "x-pcie-extcap-init", "x-pcie-flr-init",
        "x-pcie-lnkctl-init", "x-pcie-lnksta-dllla", "x-pcie-pm-init",
    )
)  # fmt: skip
_READ_ONLY: Final = ("type", "parent_bus", "hotplugged", "hotpluggable")
_OTHER_DRIVERS: Final = ("virtio-pmem-pci", "cxl-type3")

_T = TypeVar("_T")
_Job = TypeVar("_Job")


class Inner(NamedTuple):
    """The device `virtio-mem` within a virtio-mem-pci, which has the same properties."""

    outer: VirtioMem

    @property
    def path(self) -> str:
        """Its QOM path."""
        return f"{self.outer.path}/virtio-backend"


class VirtioMem:
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

    __slots__ = (
        "_extent", "_usable", "addr", "block_size", "id", "inaccessible", "memdev", "node", "number", "path", "plugged",
        "prealloc", "requested_size",
    )  # fmt: skip

    def __init__(
        self, name: str | None, path: str, memdev: Backend, options: Mapping[str, Any], arch: str
    ) -> None:
        self.id = name
        self.path = path
        self.memdev = memdev
        self.node: int = options.get("node", 0)
        self.addr: int = options.get("memaddr", 0)
        self.block_size: int = options.get("block-size") or _default_block(memdev)
        self.requested_size: int = options.get("requested-size", 0)
        self.prealloc: bool = options.get("prealloc", False)
        self.inaccessible: str = options.get("unplugged-inaccessible", "auto")
        if self.inaccessible == "auto":
            self.inaccessible = "off" if _reads_as_zeros(memdev) else "on"
        self.plugged = 0
        self.number: int | None = None
        self._extent = _EXTENT.get(arch, _OTHER_EXTENT)
        self._usable = 0

    def __repr__(self) -> str:
        return (
            f"VirtioMem({self.id!r}, {self.addr:#x}+{self.size:#x}, {self.plugged:#x} of"
            f" {self.requested_size:#x})"
        )

    @property
    def size(self) -> int:
        """How much of physical memory it takes: its region."""
        return self.memdev.size

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

    def properties(self, inner: bool) -> list[tuple[str, str, Any]]:
        """Its QOM properties, without children and links: name, type, value, in the order in which
        qom-list has them.
        """
        both = {
            "memaddr": ("uint64", self.addr),
            "node": ("uint32", self.node),
            "requested-size": ("size", self.requested_size),
            "block-size": ("size", self.block_size),
            "prealloc": ("bool", self.prealloc),
            "unplugged-inaccessible": ("OnOffAuto", self.inaccessible),
            "size": ("size", self.plugged),
        }
        order = [
            "node",
            "unplugged-inaccessible",
            "memaddr",
            "legacy-memdev",
            "prealloc",
            "block-size",
            "size",
            "requested-size",
        ]
        if not inner:
            order = [
                "memaddr",
                "node",
                "requested-size",
                "block-size",
                "prealloc",
                "unplugged-inaccessible",
                "size",
            ]
        return [(name, *both.get(name, ("str", ""))) for name in order]

    def change(self, name: str, value: Any, text: bool, warn: Warn | None = None) -> bool:
        """Give a property a value. Returns whether the guest is to be told.

        :param text: the value is a string as people write it; else it is JSON.
        :raises MonitorError: QEMU's reason not to.
        """
        if name == "memdev":
            what = f"Attempt to set link property 'memdev' on device '(null)' (type '{TYPE}')"
            raise MonitorError(f"{what} after it was realized")
        if name == "size":
            raise MonitorError(f"Property '{TYPE}.size' is not writable")
        if name == "block-size":
            raise MonitorError("'block-size' cannot be changed")
        if name != "requested-size":
            raise MonitorError(
                f"Attempt to set property '{name}' on anonymous device (type '{TYPE}') after it was"
                " realized"
            )
        size = _read_size(name, value, text, warn)
        if size % self.block_size:
            raise MonitorError(
                f"'requested-size' has to be multiples of 'block-size' ({self.block_size:#x})"
            )
        if size > self.size:
            raise MonitorError(
                f"'requested-size' cannot exceed the memory backend size({self.size:#x})"
            )
        changed, self.requested_size = size != self.requested_size, size
        return changed


def refuse_driver(driver: str, bus: str | None) -> MonitorError | None:
    """Why a device of a driver other than pc-dimm cannot be on this bus; None when there is no such
    reason.

    A bus is taken at its name: which PCI buses there are is not simulated. Those of a q35 itself
    are not for hotplug.
    """
    if driver == TYPE:
        return MonitorError(f"No 'virtio-bus' bus found for device '{TYPE}'")
    if driver in _OTHER_DRIVERS and bus in (None, "pcie.0"):
        return MonitorError("Bus 'pcie.0' does not support hotplugging")
    if driver in _OTHER_DRIVERS:
        return MonitorError(f"'{driver}' is not simulated here: only pc-dimm and {DRIVER} are")
    if driver == DRIVER and bus == "pcie.0":
        return MonitorError("Bus 'pcie.0' does not support hotplugging")
    return None


def make_virtio_mem(
    config: MachineConfig,
    name: str | None,
    path: str,
    options: Mapping[str, str],
    devices: Iterable[Placed],
    find_backend: Callable[[str, str], Backend | None],
    warn: Warn | None,
) -> VirtioMem:
    """A virtio-mem device as device_add makes it; the checks are in QEMU's order.

    :param devices: the memory devices there are, by address.
    :param find_backend: what the link property of the first argument leads to when it is set to the
        second.
    :raises MonitorError: QEMU's reason not to.
    """
    values: dict[str, Any] = {}
    memdev: Backend | None = None
    for key, value in as_qemu_keeps(options):
        if key == "memdev":
            memdev = find_backend(key, value)
        elif key not in ("driver", "bus"):
            values[key] = _read_option(key, value, warn)
    if memdev is None:
        raise MonitorError("'memdev' property must be set")
    device = VirtioMem(name, path, memdev, values, config.arch)
    device.addr = find_place(config, devices, device.addr, memdev, warn, unit=device.block_size)
    if memdev.used is not None:
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
    page = memdev.alignment if memdev.alignment > RAM_ALIGNMENT else _HOST_PAGE
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
    return device


def _read_option(key: str, value: str, warn: Warn | None) -> Any:
    """The value of an option of device_add.

    :raises MonitorError: there is no such option, or it cannot have this value.
    """
    if key in ("requested-size", "block-size"):
        size = parse_size(value, warn)
        if size is None:
            raise expects(key, "size")
        if key == "block-size" and size < _LEAST_BLOCK:
            raise MonitorError(f"'block-size' property has to be at least {_LEAST_BLOCK:#x}")
        if key == "block-size" and size & (size - 1):
            raise MonitorError("'block-size' property has to be a power of two")
        return size
    if key == "memaddr":
        return unsigned(key, value, True)
    if key == "node":
        return read_value("uint32", key, value, True)
    if key == "unplugged-inaccessible":
        if value not in ("on", "off", "auto"):
            raise MonitorError(f"Parameter '{key}' does not accept value '{value}'")
        return value
    if key == "addr":
        if not re.fullmatch(r"[01]?[0-9a-fA-F](\.[0-7])?", value):
            raise MonitorError(f"Property '{DRIVER}.addr' doesn't take value '{value}'")
        return value
    if key == "prealloc" or key == "realized" or key in _SWITCHES:
        return read_value("bool", key, value, text=True)
    if key == "size":
        raise MonitorError(f"Property '{TYPE}.size' is not writable")
    if key in _READ_ONLY:
        raise MonitorError(f"Property '{DRIVER}.{key}' is not writable")
    raise MonitorError(f"Property '{DRIVER}.{key}' not found")


def _reads_as_zeros(memdev: Backend) -> bool:
    """Whether what is not plugged can be read, as zeros that take no memory of the host."""
    return memdev.qom_type == "memory-backend-ram" and not memdev.values["share"]


def _default_block(memdev: Backend) -> int:
    return max(RAM_ALIGNMENT, memdev.alignment)


def _read_size(name: str, value: Any, text: bool, warn: Warn | None) -> int:
    if not text:
        return unsigned(name, value, False)
    size = parse_size(str(value), warn)
    if size is None and is_size_too_large(str(value)):
        raise MonitorError(f"Value '{value}' is out of range for parameter '{name}'")
    if size is None:
        raise HintedError(
            f"Parameter '{name}' expects a non-negative number below 2^64",
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand"
            " exabytes, respectively.",
        )
    return size


class Driver(Protocol):
    """What this file needs of a Machine: the guest's driver."""

    def virtio_mem_probe(self, nid: int, addr: int, size: int, block: int, /) -> int:
        """The guest finds a device; returns its number. ENODEV: it has no driver."""

    def virtio_mem_request(self, number: int, requested: int, usable: int, /) -> None:
        """The size that the host wants of it."""

    def virtio_mem_work(self, number: int, /) -> None:
        """Its driver plugs and unplugs. EBUSY, ENOMEM: some is left for later."""

    def unplug_fault(self, device: str, /) -> tuple[str, int]:
        """How it is to answer on purpose when memory is asked back, and after how many
        microseconds.
        """


class VirtioMems(Generic[_Job]):
    """The virtio-mem devices of a board, and what their driver in the guest is to do when.

    :ivar devices: in the order in which they came.
    :param ask: gives the guest work, to be done one after the other on a thread of its own.
    :param tell: told of a size that has changed: when, in microseconds since 1970, and what QMP
        calls its data.
    """

    def __init__(
        self,
        driver: Driver,
        config: MachineConfig,
        ask: Callable[[Callable[[], None]], _Job],
        tell: Callable[[int, dict[str, Any]], object],
    ) -> None:
        self.devices: list[VirtioMem] = []
        self._driver = driver
        self._config = config
        self._ask = ask
        self._throttle: Throttle[tuple[int, dict[str, Any]]] = Throttle(
            lambda change: tell(*change), EVENT_SECONDS
        )
        self._lock = threading.Lock()
        self._closed = False
        self._ending = threading.Event()
        self._retries: dict[int, threading.Timer] = {}  # by the number of the device

    def close(self) -> None:
        """Tell nobody any more, and try nothing again."""
        with self._lock:
            self._closed = True
            self._ending.set()
            for timer in self._retries.values():
                timer.cancel()
        self._throttle.close()

    def probe(self, device: VirtioMem) -> _Job:
        """A device is there: let the guest look for its driver, and that see what size is wanted."""
        return self._ask(lambda: self._probe(device))

    def request(self, device: VirtioMem) -> _Job:
        """Have the driver see what size is wanted now, and do what it can."""
        return self._ask(lambda: self._request(device))

    def on_event(self, name: str, data: str) -> None:
        """The driver says something of the device it calls `name`: "work", there is more to do, or
        "size N".
        """
        device = next((device for device in self.devices if f"virtio{device.number}" == name), None)
        if device is None or device.number is None:
            return
        number = device.number
        if data == "work":
            self._ask(lambda: self._work(number))
            return
        device.plugged = int(data.removeprefix("size "))
        told = {
            "size": device.plugged,
            "qom-path": device.path,
            **({} if device.id is None else {"id": device.id}),
        }
        self._throttle.put(device.path, (time.time_ns() // 1000, told))

    def _probe(self, device: VirtioMem) -> None:
        try:
            nid = self._config.device_nids[device.node]
            device.number = self._driver.virtio_mem_probe(
                nid, device.addr, device.size, device.block_size
            )
        except OSError:
            # the guest has no driver, or none for this one; what it says of that is in its log
            return
        self._request(device)

    def _request(self, device: VirtioMem) -> None:
        if device.number is None:
            return
        if device.requested_size < device.plugged:
            how, delay_us = self._driver.unplug_fault(device.id or "")
            if how in ("never", "refuse", "stay") or self._ending.wait(delay_us / 1_000_000):
                return  # there are no words in which a driver could refuse: it keeps what it has
        self._driver.virtio_mem_request(device.number, device.requested_size, device.usable)
        self._work(device.number)

    def _work(self, number: int, again: float = RETRY_SECONDS) -> None:
        """Let the driver work. What it could not do it tries again, in `again` seconds, as Linux
        does.
        """
        with self._lock:
            timer = self._retries.pop(number, None)
        if timer is not None:
            timer.cancel()
        try:
            self._driver.virtio_mem_work(number)
        except OSError as e:
            if e.errno not in (errno.EBUSY, errno.ENOMEM, errno.ETXTBSY):
                return  # no more goes, or the driver has given up
            later = min(2 * again, LONGEST_RETRY_SECONDS)
            with self._lock:
                if not self._closed:
                    timer = threading.Timer(again, self._ask, (lambda: self._work(number, later),))
                    timer.daemon = True
                    timer.start()
                    self._retries[number] = timer


class Throttle(Generic[_T]):
    """Passes on what comes, of each kind at most one at a time: the first at once, after that the
    last there was.

    As QEMU does it with events that may come often. `close()` it.

    :param deliver: called with what is passed on, on the thread that put it, or on a thread of its
        own.
    :param seconds: between two of a kind.
    """

    def __init__(self, deliver: Callable[[_T], object], seconds: float) -> None:
        self._deliver = deliver
        self._seconds = seconds
        self._lock = threading.Lock()
        # kind -> the last that came since one was passed on
        self._waiting: dict[str, _T | None] = {}
        self._timers: dict[str, threading.Timer] = {}

    def put(self, kind: str, item: _T) -> None:
        """Something has come."""
        with self._lock:
            if kind in self._waiting:
                self._waiting[kind] = item
                return
            self._start(kind)
        self._deliver(item)

    def close(self) -> None:
        """Pass on nothing more."""
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()

    def _start(self, kind: str) -> None:
        self._waiting[kind] = None
        timer = self._timers[kind] = threading.Timer(self._seconds, self._elapsed, (kind,))
        timer.daemon = True
        timer.start()

    def _elapsed(self, kind: str) -> None:
        with self._lock:
            item = self._waiting.pop(kind)
            if item is None:
                del self._timers[kind]
                return
            self._start(kind)
        self._deliver(item)
