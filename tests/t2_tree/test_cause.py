"""The cause in an event: whoever named one, in whichever thread the work is done; and nobody
else's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs import events as causes
from fakesysfs.events import TEXT_LIMIT, Cause, caused_by, current, of_thread, resumed
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor import Monitor

STATE = "/sys/devices/system/memory/memory{}/state"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine.from_config(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
        yield machine


def test_without_one(machine: Machine) -> None:
    machine.add_memory(0, 4 << 30, 128 << 20)
    machine.store(STATE.format(32), "online_movable")
    assert {event.cause for event in machine.events()} == {None}


def test_is_of_the_calls_in_it(machine: Machine) -> None:
    with caused_by("outer", os.getpid()):
        machine.add_memory(0, 4 << 30, 128 << 20)
        with caused_by("inner"):
            machine.store(STATE.format(32), "online_movable")
        machine.store(STATE.format(32), "offline")
    machine.store(STATE.format(32), "online_movable")
    me = Path("/proc/self/comm").read_text().strip()
    outer, inner = (Cause(what, os.getpid(), me) for what in ("outer", "inner"))
    assert [
        (event.data, event.cause) for event in machine.events() if event.kind in ("uevent", "store")
    ] == [
        ("add", outer),
        ("online", inner),
        ("online_movable", inner),
        *[("offline", outer)] * 2,
        ("online", None),
        ("online_movable", None),
    ]
    assert current() is None


def test_of_a_process_that_cannot_be_seen(machine: Machine) -> None:
    with caused_by("x" * 2 * TEXT_LIMIT, 0):
        machine.add_memory(0, 4 << 30, 128 << 20)
    assert machine.events()[-1].cause == Cause("x" * TEXT_LIMIT, 0, "")


def test_goes_along_to_the_guest(machine: Machine) -> None:
    """What a monitor command makes the guest do happens in a thread of the guest's own."""
    with Board(machine) as board:
        monitor = Monitor(board, lambda: None)
        with caused_by("qmp", 0):
            monitor.execute(
                "object-add", {"qom-type": "memory-backend-ram", "id": "m0", "size": 128 << 20}
            )
            monitor.execute("device_add", {"driver": "pc-dimm", "id": "d0", "memdev": "m0"})
        monitor.command("device_del d0")
    assert [(e.data, e.cause and e.cause.what) for e in machine.events() if e.kind == "uevent"] == [
        ("add", "qmp device_add driver=pc-dimm id=d0 memdev=m0"),
        ("remove", "monitor device_del d0"),
    ]


def test_of_two_threads_at_once(machine: Machine) -> None:
    """Each event has the cause of the thread that wrote, whichever of them delivers it."""
    seen = []
    machine.subscribe(lambda event: seen.append(event))
    machine.add_memory(0, 4 << 30, 1 << 30)

    def work(block: int) -> None:
        with caused_by(f"thread {block}", 0):
            for _ in range(30):
                machine.store(STATE.format(block), "online_movable")
                machine.store(STATE.format(block), "offline")

    threads = [threading.Thread(target=work, args=(block,)) for block in range(32, 36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [
        (e.path, e.cause and e.cause.what) for e in seen if e.kind == "uevent" and e.data != "add"
    ]
    assert len(told) == 4 * 30 * 2
    assert {what == f"thread {path.rpartition('memory')[2]}" for path, what in told} == {True}


def test_of_a_thread_that_goes_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the process takes a while to find; what the thread does by then keeps its own
    cause.
    """
    thread = threading.get_ident()

    def slowly(pid: int) -> str:
        monkeypatch.setitem(causes._of_threads, thread, Cause("second", 2))
        return f"process {pid}"

    monkeypatch.setattr(causes, "_comm", slowly)
    with caused_by("first", 1):
        assert of_thread(thread) == Cause("first", 1, "process 1")
        assert current() == Cause("second", 2)


def test_resumed_without_one() -> None:
    with caused_by("something", 0), resumed(None):
        assert current() == Cause("something", 0)
