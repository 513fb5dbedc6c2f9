"""A guest that misbehaves when the host wants a DIMM back: by fault rules, and by memory that stays
busy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.waiting import LIMIT_SECONDS, given_more_time, wait_for

from fakesysfs import Machine, MachineConfig
from fakesysfs.errors import ConfigError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.host_events import HostEvent

MEMORY = "/sys/devices/system/memory"
EJECT = "/sys/bus/acpi/devices/PNP0C80:00/eject"
MIB = 1 << 20
BEGUN, GONE = ("OST", "d0", 3, 0x84), ("DELETED", "d0")


class Host:
    """A manager with one DIMM, `d0`: blocks 32 and 33."""

    def __init__(self, machine: Machine, answer_seconds: float) -> None:
        self.machine = machine
        self.board = Board(machine, answer_seconds=answer_seconds)
        self.board.object_add("memory-backend-ram", {"id": "m0", "size": 256 * MIB})
        self._heard: list[tuple[Any, ...]] = []
        self._came = threading.Condition()
        self.plug()
        self.board.subscribe(self._on_event)

    def plug(self) -> None:
        self.board.device_add("pc-dimm", {"id": "d0", "memdev": "m0"})
        wait_for(lambda: len(self.machine.blocks()) == 10)

    def _on_event(self, event: HostEvent) -> None:
        info = event.data.get("info", event.data)
        with self._came:
            if event.name == "DEVICE_DELETED":
                self._heard.append(("DELETED", info.get("device")))
            else:
                self._heard.append(("OST", info.get("device"), info["source"], info["status"]))
            self._came.notify_all()

    def ask(self) -> None:
        self.board.device_del("d0")

    def heard(self, count: int) -> list[tuple[Any, ...]]:
        """What came since the last call: at least so many events."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._heard) >= count, LIMIT_SECONDS), (
                self._heard
            )
            heard, self._heard = self._heard, []
        return heard

    def states(self) -> list[str]:
        return [block.state for block in self.machine.blocks() if block.id >= 32]


@pytest.fixture
def make() -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(*rules: str, answer_seconds: float = 20) -> Host:
        config = MachineConfig.from_options(memory="1G,slots=4,maxmem=8G", faults=rules)
        hosts.append(Host(Machine.from_config(config), answer_seconds))
        return hosts[-1]

    yield make
    for host in hosts:
        host.board.close()
        host.machine.check()
        host.machine.close()


def test_never(make: Callable[..., Host]) -> None:
    host = make("unplug d0 never x2")
    for _ in range(2):
        host.ask()
        assert host.heard(0) == []
    assert [dimm.id for dimm in host.board.dimms] == ["d0"]
    host.ask()
    assert host.heard(3) == [BEGUN, GONE, ("OST", None, 3, 0)]


def test_late(make: Callable[..., Host]) -> None:
    def ask(delay: float) -> None:
        host = make(f"unplug d* delay {delay}s", answer_seconds=0.01)
        began = time.monotonic()
        host.ask()
        at_once = host.heard(0)
        assert [*at_once, *host.heard(3 - len(at_once))] == [BEGUN, GONE, ("OST", None, 3, 0)]
        assert time.monotonic() - began >= delay
        assert at_once == []

    given_more_time((0.3, 3.0, 30.0), ask)


def test_late_does_not_keep_the_board_from_closing(make: Callable[..., Host]) -> None:
    before = threading.enumerate()
    host = make("unplug d0 delay 1h", answer_seconds=0.01)
    host.ask()
    workers = [thread for thread in threading.enumerate() if thread not in before]
    assert "kacpi_hotplug" in {worker.name for worker in workers}
    host.board.close()
    for worker in workers:
        worker.join(LIMIT_SECONDS)
        assert not worker.is_alive()


def test_refuses_without_having_tried(make: Callable[..., Host]) -> None:
    host = make("unplug d0 refuse nth=1 x1")
    host.machine.store(f"{MEMORY}/memory32/state", "online_movable")
    seen = len(host.machine.events())
    host.ask()
    assert host.heard(2) == [BEGUN, ("OST", "d0", 3, 0x82)]
    assert host.states() == ["online", "offline"]
    assert [event.kind for event in host.machine.events()[seen:]] == ["fault"]
    host.ask()
    assert host.heard(3) == [BEGUN, GONE, ("OST", None, 3, 0)]


def test_says_it_has_let_go_and_stays(make: Callable[..., Host]) -> None:
    host = make("unplug d0 stay")
    for _ in range(2):
        host.ask()
        assert host.heard(2) == [BEGUN, ("OST", "d0", 3, 0)]
        assert host.states() == ["offline", "offline"]
        assert [dimm.id for dimm in host.board.dimms] == ["d0"]
    host.machine.fault_rule_clear()
    host.ask()
    assert host.heard(3)[1] == GONE


def test_answers_twice(make: Callable[..., Host]) -> None:
    host = make("unplug d0 twice")
    host.ask()
    assert host.heard(4) == [BEGUN, GONE, *2 * [("OST", None, 3, 0)]]
    host.plug()
    host.heard(1)
    host.machine.store(f"{MEMORY}/memory33/state", "online_kernel")
    host.machine.allocate("slab", "4K", block=33)
    host.ask()
    assert host.heard(3) == [BEGUN, *2 * [("OST", "d0", 3, 0x82)]]


def test_an_eject_from_inside_is_one_too(make: Callable[..., Host]) -> None:
    host = make("unplug d0 refuse x1")
    host.machine.store(EJECT, "1")
    assert host.heard(2) == [BEGUN, ("OST", "d0", 0x103, 0x82)]
    host.machine.store(EJECT, "1")
    assert host.heard(3) == [BEGUN, GONE, ("OST", None, 0x103, 0)]


def test_another_dimms_rule(make: Callable[..., Host]) -> None:
    host = make("unplug d1 never", "unplug d00 never", "unplug e* never")
    host.ask()
    assert host.heard(3)[1] == GONE
    assert [rule.matched for rule in host.machine.fault_rules()] == [0, 0, 0]


def test_a_block_that_is_busy_until_its_pin_is_gone(make: Callable[..., Host]) -> None:
    """Nothing refuses and nothing ends: the host gets its memory back when whoever pinned the page
    lets go.
    """
    host = make(answer_seconds=0.05)
    for block in (32, 33):
        host.machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
    host.machine.allocate("anon", "4K", block=33)
    pinned = next(
        pfn for pfn in range(33 << 15, 34 << 15) if host.machine.page(pfn)["kind"] == "anon"
    )
    host.machine.pin(pinned)
    host.ask()
    assert host.heard(1) == [BEGUN]
    wait_for(lambda: "going-offline" in host.states())
    host.ask()  # the manager asks again, and again nothing happens
    assert host.heard(0) == []
    host.machine.unpin(pinned)
    assert host.heard(4) == [GONE, ("OST", None, 3, 0), ("OST", None, 3, 0x84), ("OST", None, 3, 0)]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("unplug", "which DIMM"),
        ("unplug never", "which DIMM"),
        ("unplug d0", "how is it to answer"),
        ("unplug d0 x3", "how is it to answer"),
        ("unplug d0 drop", "neither never, refuse, stay, twice nor delay TIME"),
        ("unplug d0 EBUSY", "neither never, refuse"),
        ("unplug d0 never stay", "said already"),
        ("unplug d0 delay", "how long"),
        ("unplug d0 delay 25h", "how long"),
        ("unplug d0 twice x0", "how often"),
        ("uevent memory33 never", "neither drop"),
        ("write memory5/state stay", "neither an errno"),
    ],
)
def test_what_is_no_rule(rule: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Machine.from_config(
            MachineConfig.from_options(memory="1G,slots=4,maxmem=8G", faults=[rule])
        )
