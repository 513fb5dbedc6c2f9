"""The thread on which the guest works: one job after the other, as on the kernel's kacpi_hotplug.

Owns: the queue of jobs, how long a caller waits for an answer, and that nothing begins while the
guest is paused. Does not own: what the jobs do (guest_hotplug.py, virtio_mem_driver.py).

A real QEMU answers device_add and device_del at once and the guest acts later. Here the call waits
until the guest has answered, so that what follows finds the memory there. It does not wait longer
than `answer_seconds`, because a guest may take for ever to offline memory, and not at all for a
guest that is paused or known to be late. QEMU's replies do not depend on it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from ..events import current, resumed

__all__ = ["GuestWorker", "Job"]

_JOBS_LIMIT: Final = 1024  # a guest that is stuck need not remember more requests


class Job:
    """Work for the guest.

    :param work: does it, on the worker's thread.
    :param about: what it is about, for the log.
    :param patience: how many times longer than usual a caller waits for it.
    :param lasting: it is done however much waits before it.
    :param once: while the guest is paused, one job with this name is enough.
    """

    __slots__ = ("about", "boot", "cause", "done", "lasting", "once", "patience", "work")

    def __init__(
        self,
        work: Callable[[], None],
        about: str,
        *,
        patience: int = 1,
        lasting: bool = False,
        once: str = "",
    ) -> None:
        self.work = work
        self.about = about
        self.patience = patience
        self.lasting = lasting
        self.once = once
        self.cause = current()
        self.boot = 0  # of the worker, when it was asked
        self.done = threading.Event()


class GuestWorker:
    """Does the guest's jobs. `close()` it.

    :param lock: of what the jobs change; held briefly, never while the guest works.
    :param answer_seconds: how long a caller waits for a job of patience 1.
    :ivar ending: set when the worker was closed: a job that waits is to end.
    """

    def __init__(self, lock: threading.RLock, answer_seconds: float) -> None:
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._answer_seconds = answer_seconds
        self._jobs: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._late = False  # a caller gave up waiting for the guest, which has not caught up since
        self._paused = False
        self._closed = False
        self._boot = 0  # how often the guest was reset
        self._running: Job | None = None
        self.ending = threading.Event()

    def close(self) -> None:
        """End. The job that has begun goes on to its end; nothing new begins."""
        with self._lock:
            self._closed = True
            self.ending.set()
            self.forget()
            self._changed.notify_all()

    def ask(self, job: Job) -> Job:
        """Give the guest work. Return the job, or one that waits in its place."""
        with self._lock:
            if self._paused and job.once:
                for other in self._jobs:
                    if other.once == job.once:
                        return other
            if self._closed or (not job.lasting and len(self._jobs) >= _JOBS_LIMIT):
                job.done.set()
                return job
            job.boot = self._boot
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kacpi_hotplug", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def wait(self, job: Job) -> None:
        """Wait for the guest's answer: not long, and not at all for a guest that is late."""
        if self._late or self._paused or threading.current_thread() is self._thread:
            return
        if not job.done.wait(self._answer_seconds * job.patience):
            with self._lock:
                self._late = not job.done.is_set()

    def pause(self) -> None:
        """Begin no further job until go_on()."""
        with self._lock:
            self._paused = True

    def go_on(self) -> Job | None:
        """Begin jobs again. Return the last that has been waiting, if any has."""
        with self._lock:
            self._paused = False
            self._changed.notify_all()
            return self._jobs[-1] if self._jobs else None

    def _run(self) -> None:
        """The thread's life."""
        while True:
            with self._lock:
                while (not self._jobs or self._paused) and not self._closed:
                    self._late = self._late and bool(self._jobs)
                    self._changed.wait()
                if self._closed:
                    return
                job = self._running = self._jobs.popleft()
            try:
                with resumed(job.cause):
                    job.work()
            # The worker outlives a fault of the engine; it is logged
            except Exception:
                import logging  # rarely needed, and importing it takes time

                logging.getLogger(__name__).exception("the guest's work on %s failed", job.about)
            finally:
                job.done.set()

    def forget(self) -> None:
        """Drop the jobs that have not begun. What the one that has begun reports is of no account:
        its guest is no more.
        """
        with self._lock:
            self._boot += 1
            self._late = False
            for job in self._jobs:
                job.done.set()
            self._jobs.clear()

    @property
    def outdated(self) -> bool:
        """Whether this is the worker's thread, and the guest was reset since its job was asked."""
        job = self._running
        ours = threading.current_thread() is self._thread and job is not None
        return ours and job is not None and job.boot != self._boot
