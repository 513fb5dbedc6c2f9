"""A guest that has no memory model at all: what dimm.py and monitor.py need of a machine, and
switches for tests.

Real machines are tested against the recordings; this one answers at once, never, or with what a
test wants to see.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from support.waiting import LIMIT_SECONDS

from fakesysfs.config.machine_config import MachineConfig


class ModelGuest:
    """Finds every DIMM whose address and size are multiples of its block size, and lets all of them
    go.

    :ivar blocks: the memory blocks it has of DIMMs.
    :ivar calls: what it was asked, in order.
    :ivar refuses: it answers an eject request with this status.
    :ivar error: it raises this instead of answering.
    :ivar may_answer: while not set, it does not come back from an eject request.
    """

    def __init__(self, memory: str = "1G,slots=4,maxmem=8G", **options: Any) -> None:
        self.config = MachineConfig.from_options(memory=memory, **options)
        self.blocks: dict[int, set[int]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.refuses = 0
        self.devices = 0
        self.answers: dict[str, tuple[str, int]] = {}
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.subscribers: list[Callable[[Any], None]] = []

    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        self.calls.append(("check", slot, nid, start, size))
        if self.error:
            raise self.error
        block = self.config.block_bytes
        if start % block == 0 and size % block == 0:
            self.blocks[slot] = set(range(start // block, (start + size) // block))
        return 0

    def acpi_eject_request(self, slot: int, /) -> int:
        self.calls.append(("eject", slot))
        assert self.may_answer.wait(LIMIT_SECONDS)
        if self.error:
            raise self.error
        if not self.refuses:
            self.blocks.pop(slot, None)
        return self.refuses

    def unplug_fault(self, device: str, /) -> tuple[str, int]:
        return self.answers.get(device, ("", 0))

    def virtio_mem_probe(self, nid: int, addr: int, size: int, block: int, /) -> int:
        self.calls.append(("probe", nid, addr, size, block))
        if self.error:
            raise self.error
        self.devices += 1
        return self.devices - 1

    def virtio_mem_request(self, number: int, requested: int, usable: int, /) -> None:
        self.calls.append(("request", number, requested, usable))

    def virtio_mem_work(self, number: int, /) -> None:
        self.calls.append(("work", number))
        if self.error:
            raise self.error

    def reset(self) -> None:
        self.calls.append(("reset",))
        self.blocks.clear()

    def subscribe(self, subscriber: Callable[[Any], None], /) -> Callable[[], None]:
        self.subscribers.append(subscriber)
        return lambda: self.subscribers.remove(subscriber)

    def tell(self, kind: str, data: str) -> None:
        """Deliver an event as the engine would."""
        for subscriber in tuple(self.subscribers):
            subscriber((1, 0, kind, "", data, 0, ()))
