"""The guest's driver of virtio-mem, as the host sees it: when it works, and what it says.

Owns: that the driver is told of a size, tries again what it could not do, and how often the host is
told of a change. Does not own: the device (virtio_mem.py), and what the driver does with memory
(engine/devices/virtio_mem.c).

Sizes and addresses are bytes.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from .event_throttle import Throttle
from .guest_worker import GuestWorker, Job

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig
    from .virtio_mem import VirtioMem

__all__ = ["VirtioMemDriver", "VirtioMemHost"]

# after which the guest's driver tries again at first, and twice as long each time, but
RETRY_SECONDS: Final = 50.0
LONGEST_RETRY_SECONDS: Final = 300.0
EVENT_SECONDS: Final = 1.0  # QEMU sends MEMORY_DEVICE_SIZE_CHANGE no more often than this


class VirtioMemDriver(Protocol):
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


class VirtioMemHost:
    """The virtio-mem devices of a board, and what their driver in the guest is to do when.

    :ivar devices: in order of creation.
    :param worker: does the guest's work.
    :param tell: told of a size that has changed: when, in microseconds since 1970, and what QMP
        calls its data.
    """

    def __init__(
        self,
        driver: VirtioMemDriver,
        config: MachineConfig,
        worker: GuestWorker,
        tell: Callable[[int, dict[str, Any]], object],
    ) -> None:
        self.devices: list[VirtioMem] = []
        self._driver = driver
        self._config = config
        self._worker = worker
        self._throttle: Throttle[tuple[int, dict[str, Any]]] = Throttle(
            lambda change: tell(*change), EVENT_SECONDS
        )
        self._lock = threading.Lock()
        self._closed = False
        self._retries: dict[int, threading.Timer] = {}  # by the number of the device

    def close(self) -> None:
        """Tell nobody any more, and try nothing again."""
        with self._lock:
            self._closed = True
            for timer in self._retries.values():
                timer.cancel()
        self._throttle.close()

    def probe(self, device: VirtioMem) -> Job:
        """Have the guest find a device, and its driver see what size is wanted."""
        return self._ask(lambda: self._probe(device))

    def request(self, device: VirtioMem) -> Job:
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
        self._tell(device)

    def reset(self) -> None:
        """Empty all devices, as a reset of the machine does."""
        with self._lock:
            for timer in self._retries.values():
                timer.cancel()
            self._retries.clear()
        for device in self.devices:
            had = device.plugged
            device.reset()
            if had:
                self._tell(device)

    def find_at_boot(self) -> None:
        """Have the guest find the devices while it boots, and plug what is requested."""
        for device in tuple(self.devices):
            self._probe(device)

    def _tell(self, device: VirtioMem) -> None:
        told = {
            "size": device.plugged,
            "qom-path": device.path,
            **({} if device.id is None else {"id": device.id}),
        }
        self._throttle.put(device.path, (time.time_ns() // 1000, told))

    def _ask(self, work: Callable[[], None]) -> Job:
        return self._worker.ask(Job(work, "a virtio-mem device"))

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
            if how in ("never", "refuse", "stay") or self._worker.ending.wait(delay_us / 1_000_000):
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
