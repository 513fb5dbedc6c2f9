"""DIMMs and the guest: it is told that one has come, or asked to let one go, and reports by ACPI.

Owns: what the guest is asked, how its answer becomes an _OST status, and the events the host hears
then. Does not own: the slots (dimm.py), whose turn it is (guest_worker.py), and what the guest does
with the memory (the engine).

    device_add -> Machine.acpi_device_check()  -> ACPI_DEVICE_OST source 1
    device_del -> ACPI_DEVICE_OST source 3, in progress
                  Machine.acpi_eject_request() -> DEVICE_DELETED, ACPI_DEVICE_OST source 3
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from .guest_worker import GuestWorker, Job

if TYPE_CHECKING:
    import threading

    from ..config.machine_config import MachineConfig
    from .dimm import Dimm, DimmSlots
    from .host_events import HostEvents

__all__ = ["AcpiGuest", "GuestHotplug"]

_DEVICE_CHECK: Final = 1  # the event codes of _OST: ACPI 6.4, 6.3.5
_EJECT_REQUEST: Final = 3
_OSPM_EJECT: Final = 0x103
_SUCCESS: Final = 0
_FAILURE: Final = 1
_NOT_SUPPORTED: Final = 0x80
_BUSY: Final = 0x82
_IN_PROGRESS: Final = 0x84

# so many times longer: looking takes its time with thousands of blocks, but always ends
_LOOK_PATIENCE: Final = 10


class AcpiGuest(Protocol):
    """What this file needs of a Machine."""

    @property
    def config(self) -> MachineConfig:
        """The machine's description."""

    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        """The guest finds a DIMM; returns what it reports by _OST."""

    def acpi_eject_request(self, slot: int, /) -> int:
        """The guest is asked to let a DIMM go; returns what it reports by _OST."""

    def unplug_fault(self, device: str, /) -> tuple[str, int]:
        """How it is to answer on purpose, and after how many microseconds."""


class GuestHotplug:
    """The guest's side of the slots.

    :param removed: called with each DIMM that the guest has let go, with the lock held.
    """

    def __init__(
        self,
        machine: AcpiGuest,
        slots: DimmSlots,
        worker: GuestWorker,
        events: HostEvents,
        lock: threading.RLock,
        removed: Callable[[Dimm], None],
    ) -> None:
        self._machine = machine
        self._slots = slots
        self._worker = worker
        self._events = events
        self._lock = lock
        self._removed = removed

    def came(self, dimm: Dimm) -> Job:
        """Have the guest look at a DIMM that has come."""
        return self._worker.ask(
            Job(
                lambda: self._look(dimm),
                f"slot {dimm.slot}",
                patience=_LOOK_PATIENCE,
                lasting=True,
            )
        )

    def ask_back(self, number: int, source: int = _EJECT_REQUEST) -> Job:
        """Ask the guest to let go of what is in a slot.

        :param source: who asks: the event code of _OST.
        """
        # the slot has one bit for it, which a guest that is paused does not take back
        once = f"eject {number} {source}"
        job = Job(lambda: self._eject(number, source), f"slot {number}", once=once)
        return self._worker.ask(job)

    def find_at_boot(self, dimm: Dimm) -> None:
        """Have the guest find a DIMM while it boots: without a report."""
        self._slots[dimm.slot].known = True
        self._check(dimm)

    def forget_all(self) -> None:
        """The guest knows no DIMM any more: it was reset."""
        with self._lock:
            for number in range(len(self._slots)):
                self._slots[number].known = False

    def on_ost(self, data: str) -> None:
        """Take what the guest does unasked.

        :param data: "SLOT SOURCE", an eject was asked for inside; or "SLOT SOURCE STATUS", it
            reports.
        """
        number, source, *reported = (int(word, 0) for word in data.split())
        if not 0 <= number < len(self._slots):
            return
        if not reported:
            self.ask_back(number, source)
            return
        (status,) = reported
        if source in (_EJECT_REQUEST, _OSPM_EJECT) and status == _SUCCESS:
            self._let_go(number)
        # The machine delivers nothing else until this returns, so never wait here for who may be
        # waiting for that.
        self._report(number, source, status, wait=False)

    def _look(self, dimm: Dimm) -> None:
        slot = self._slots[dimm.slot]
        if slot.dimm is not dimm:
            status = _FAILURE  # ejected in the meantime, and the guest finds nothing
        elif slot.known:
            status = _SUCCESS  # found already, when the guest booted
        else:
            slot.known = True
            status = self._check(dimm)
        self._report(dimm.slot, _DEVICE_CHECK, status)

    def _check(self, dimm: Dimm) -> int:
        nid = self._machine.config.device_nids[dimm.node]
        return _ost_status(
            lambda: self._machine.acpi_device_check(dimm.slot, nid, dimm.addr, dimm.size)
        )

    def _eject(self, number: int, source: int) -> None:
        slot = self._slots[number]
        name = slot.dimm.id if slot.dimm is not None else None
        how, delay_us = self._machine.unplug_fault(name or "") if slot.dimm is not None else ("", 0)
        if how == "never" or self._worker.ending.wait(delay_us / 1_000_000):
            return
        # whoever asked: so Linux reports that it is at it
        self._report(number, _EJECT_REQUEST, _IN_PROGRESS)
        status = _BUSY if how == "refuse" else _SUCCESS
        if slot.known and how not in ("refuse", "stay"):
            status = _ost_status(lambda: self._machine.acpi_eject_request(number))
        if status == _SUCCESS and how != "stay":
            self._let_go(number)
        for _ in range(2 if how == "twice" else 1):
            self._report(number, source, status)

    def _let_go(self, number: int) -> None:
        """The guest has let go of a slot: its DIMM is no more."""
        with self._lock:
            if self._worker.outdated:
                return
            slot = self._slots[number]
            slot.known = False
            dimm, slot.dimm = slot.dimm, None
            if dimm is None:
                return
            dimm.memdev.release()
            self._removed(dimm)
            data: dict[str, Any] = {"device": dimm.id} if dimm.id is not None else {}
            self._events.happen("DEVICE_DELETED", {**data, "path": dimm.path})

    def _report(self, number: int, source: int, status: int, wait: bool = True) -> None:
        """The guest has reported by _OST. `wait` as for Delivery.deliver()."""
        with self._lock:
            if self._worker.outdated:
                return
            slot = self._slots[number]
            slot.source, slot.status = source, status
            if self._machine.config.qemu["acpi"]:
                self._events.happen("ACPI_DEVICE_OST", {"info": slot.description})
            elif source == _EJECT_REQUEST and status not in (_SUCCESS, _IN_PROGRESS):
                self._refused_by_rtas(slot.dimm)
        self._events.deliver(wait)

    def _refused_by_rtas(self, dimm: Dimm | None) -> None:
        """A guest without ACPI keeps a DIMM: QEMU tells so in an old way and a new one."""
        if dimm is None:
            return
        name = dimm.id or ""
        message = f"Memory hotunplug rejected by the guest for device {name}"
        self._events.happen("MEM_UNPLUG_ERROR", {"device": name, "msg": message})
        data: dict[str, Any] = {"device": dimm.id} if dimm.id is not None else {}
        self._events.happen("DEVICE_UNPLUG_GUEST_ERROR", {**data, "path": dimm.path})


def _ost_status(call: Callable[[], int]) -> int:
    """Return what the guest reports by _OST: the engine's answer, or what Linux makes of an errno."""
    try:
        return call()
    except OSError as e:
        return {errno.EPERM: _NOT_SUPPORTED, errno.EBUSY: _BUSY}.get(e.errno or 0, _FAILURE)
