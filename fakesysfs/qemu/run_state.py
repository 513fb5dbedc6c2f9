"""Whether the machine runs: stop, cont, system_reset, system_powerdown, system_wakeup.

Owns: the state that query-status tells, and the events that go with its changes, as QEMU 7.2 has
them. Does not own: the guest's work that waits meanwhile (guest_worker.py).

A machine that is stopped answers nothing: DIMMs come and go only when it runs again. Work that the
guest has begun goes on to its end, and so do programs that use the machine's files: what stops here
is the guest's side of the hardware, not the processes of the host.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import MonitorError

if TYPE_CHECKING:
    from .guest_worker import GuestWorker, Job
    from .host_events import HostEvents

__all__ = ["Resettable", "RunState"]


class Resettable(Protocol):
    """What this file needs of a Machine."""

    def reset(self) -> None:
        """Boot again, with the memory that was there at boot."""


class RunState:
    """The state of a machine that is on.

    :param worker: does the guest's work; it is paused while the machine is stopped.
    :param events: told of each change.
    :param lock: of the machine's hardware.
    """

    def __init__(self, worker: GuestWorker, events: HostEvents, lock: threading.RLock) -> None:
        self._worker = worker
        self._events = events
        self._lock = lock
        self.running = True
        self._was_reset = False  # while it was stopped

    @property
    def name(self) -> str:
        """What query-status calls the state."""
        return "running" if self.running else "prelaunch" if self._was_reset else "paused"

    def status(self) -> dict[str, Any]:
        """Return what query-status returns."""
        return {"status": self.name, "singlestep": False, "running": self.running}

    def stop(self) -> None:
        """Stop the machine; nothing happens when it is stopped."""
        with self._lock:
            if self.running:
                self.running = False
                self._worker.pause()
                self._events.happen("STOP")
        self._events.deliver()

    def go_on(self) -> None:
        """Let the machine run again; nothing happens when it runs."""
        with self._lock:
            waiting = None
            if not self.running:
                self.running = True
                self._was_reset = False
                self._events.happen("RESUME")
                waiting = self._worker.go_on()
        self._events.deliver()
        if waiting is not None:
            self._worker.wait(waiting)

    def reset(self, machine: Resettable, boot: Job) -> None:
        """Reset the machine. When it runs, wait until it has booted.

        :param boot: what the guest's devices do when it boots. Jobs that wait are lost.
        """
        with self._lock:
            self._worker.pause()
            self._worker.forget()
            self._worker.ask(boot)
            self._was_reset = not self.running
            self._events.happen("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        try:
            machine.reset()
        finally:
            with self._lock:
                if self.running:
                    self._worker.go_on()
        self._events.deliver()
        self._worker.wait(boot)

    def power_button(self) -> None:
        """Press the power button. Nothing in this guest listens to it."""
        self._events.happen("POWERDOWN")
        self._events.deliver()

    def wake_up(self) -> None:
        """Refuse: this guest never suspends.

        :raises MonitorError: always.
        """
        raise MonitorError("Unable to wake up: guest is not in suspended state")
