"""DIMM slots and what the host learns of the guest.

What QEMU says is in test_monitor.py, compared with a real QEMU's; here is what a conversation
cannot show: guests that refuse, fail, take their time or act on their own, who is told what and
when, DIMMs that are there at boot.

    slots      [ d0 ][    ][ d3 ][    ]
    addresses  |4G  d0 |     |  d3 |                   | base + maxmem - RAM + 1 GiB a slot
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from model_guest import ModelGuest
from support.waiting import given_more_time, wait_for

from fakesysfs import Machine, MachineConfig
from fakesysfs.config.memory_and_nodes import Dimm as BootDimm
from fakesysfs.errors import ConfigError, MonitorError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.host_events import HostEvent
from fakesysfs.qemu.property_values import WordReader

GIB = 1 << 30
MIB = 1 << 20


class Watched(Board):
    """A board that keeps its events."""

    def __init__(self, machine: Any, **options: Any) -> None:
        super().__init__(machine, **options)
        self.told: list[tuple[Any, ...]] = []
        self.subscribe(self._keep)

    def _keep(self, event: HostEvent) -> None:
        info = event.data.get("info", event.data)
        names = ("device", "source", "status", "slot", "path")
        self.told.append((event.name, *(info[name] for name in names if name in info)))

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told

    def plug(self, name: str, size: int = 128 * MIB, **props: Any) -> None:
        self.object_add("memory-backend-ram", {"id": f"m-{name}", "size": size})
        self.device_add("pc-dimm", {"id": name, "memdev": f"m-{name}", **props})

    def places(self) -> dict[str | None, tuple[int, int]]:
        return {dimm.id: (dimm.slot, dimm.addr) for dimm in self.dimms}


@pytest.fixture
def guest() -> ModelGuest:
    return ModelGuest()


@pytest.fixture
def board(guest: ModelGuest) -> Iterator[Watched]:
    with Watched(guest) as board:
        yield board
        guest.may_answer.set()


def test_plugged_memory_is_there_when_device_add_returns(board: Watched, guest: ModelGuest) -> None:
    board.plug("d0", 512 * MIB)
    assert guest.calls == [("check", 0, 0, 4 * GIB, 512 * MIB)]
    assert guest.blocks == {0: {32, 33, 34, 35}}
    assert board.take() == [("ACPI_DEVICE_OST", "d0", 1, 0, "0")]


def test_ejected_dimm_is_gone_when_device_del_returns(board: Watched, guest: ModelGuest) -> None:
    board.plug("d0")
    board.take()
    board.device_del("d0")
    assert board.take() == [
        ("ACPI_DEVICE_OST", "d0", 3, 0x84, "0"),
        ("DEVICE_DELETED", "d0", "/machine/peripheral/d0"),
        ("ACPI_DEVICE_OST", 3, 0, "0"),
    ]
    assert not board.dimms
    assert not guest.blocks
    board.object_del("m-d0")


def test_refused_eject_leaves_everything_as_it_is(board: Watched, guest: ModelGuest) -> None:
    board.plug("d0")
    board.take()
    guest.refuses = 0x82
    board.device_del("d0")
    assert board.take() == [
        ("ACPI_DEVICE_OST", "d0", 3, 0x84, "0"),
        ("ACPI_DEVICE_OST", "d0", 3, 0x82, "0"),
    ]
    assert board.places() == {"d0": (0, 4 * GIB)}
    with pytest.raises(MonitorError, match="in use"):
        board.object_del("m-d0")
    guest.refuses = 0
    board.device_del("d0")
    assert not board.dimms


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EPERM, 0x80), (errno.EBUSY, 0x82), (errno.ENODEV, 1), (errno.ENOMEM, 1)],
)
def test_errno_of_the_guest_becomes_the_status_linux_reports(
    board: Watched, guest: ModelGuest, number: int, status: int
) -> None:
    guest.error = OSError(number, "no")
    board.plug("d0")
    assert board.take() == [("ACPI_DEVICE_OST", "d0", 1, status, "0")]
    board.device_del("d0")
    assert board.take()[-1] == ("ACPI_DEVICE_OST", "d0", 3, status, "0")
    assert "d0" in board.places()  # the host plugged it, whatever the guest thinks of it


@pytest.mark.logs_errors("the engine is made to fail")
def test_fault_of_the_engine_does_not_stop_the_guest(board: Watched, guest: ModelGuest) -> None:
    guest.error = RuntimeError("engine")
    board.plug("d0")
    assert board.take() == []
    guest.error = None
    board.plug("d1")
    assert board.take() == [("ACPI_DEVICE_OST", "d1", 1, 0, "1")]


def test_nobody_waits_long_for_a_guest_that_hangs() -> None:
    def ask(seconds: float) -> None:
        guest = ModelGuest()
        with Watched(guest, answer_seconds=seconds) as board, ExitStack() as stack:
            stack.callback(guest.may_answer.set)  # the board can be closed, whatever happens
            board.plug("d0")
            board.take()
            guest.may_answer.clear()
            start = time.monotonic()
            board.device_del("d0")
            assert 0.75 * seconds < time.monotonic() - start < 10 * seconds
            assert board.take() == [("ACPI_DEVICE_OST", "d0", 3, 0x84, "0")]
            # It is known to be late, so nobody waits for it again, and DIMMs can be plugged.
            start = time.monotonic()
            board.device_del("d0")
            board.plug("d1")
            assert time.monotonic() - start < 0.75 * seconds
            assert board.places() == {"d0": (0, 4 * GIB), "d1": (1, 4 * GIB + 128 * MIB)}
            guest.may_answer.set()
            wait_for(lambda: ("ACPI_DEVICE_OST", "d1", 1, 0, "1") in board.told)
            assert board.take() == [
                ("DEVICE_DELETED", "d0", "/machine/peripheral/d0"),
                ("ACPI_DEVICE_OST", 3, 0, "0"),
                # The second request, which finds the slot empty
                ("ACPI_DEVICE_OST", 3, 0x84, "0"),
                ("ACPI_DEVICE_OST", 3, 0, "0"),
                ("ACPI_DEVICE_OST", "d1", 1, 0, "1"),
            ]
            assert guest.calls.count(("eject", 0)) == 1
            # It has caught up: answers are waited for again.
            board.plug("d2")
            assert board.take() == [("ACPI_DEVICE_OST", "d2", 1, 0, "0")]

    given_more_time((0.2, 2.0, 20.0), ask)


def test_late_eject_request_takes_a_dimm_that_came_meanwhile(guest: ModelGuest) -> None:
    """As with QEMU: _EJ0 is about the slot, whoever is in it."""
    with Watched(guest, answer_seconds=0.05) as board:
        board.plug("d0")
        guest.may_answer.clear()
        board.device_del("d0")
        board.device_del("d0")
        board.take()
        gone = threading.Event()
        board.subscribe(lambda event: gone.set() if event.name == "DEVICE_DELETED" else None)

        def plug_at_once(event: HostEvent) -> None:
            if event.name == "DEVICE_DELETED" and event.data["device"] == "d0":
                board.plug("d1")

        board.subscribe(plug_at_once)
        guest.may_answer.set()
        wait_for(lambda: not board.dimms and gone.is_set())
        wait_for(lambda: len(board.told) == 6)
        assert board.take() == [
            ("DEVICE_DELETED", "d0", "/machine/peripheral/d0"),
            ("ACPI_DEVICE_OST", 3, 0, "0"),
            ("ACPI_DEVICE_OST", "d1", 3, 0x84, "0"),
            ("DEVICE_DELETED", "d1", "/machine/peripheral/d1"),
            ("ACPI_DEVICE_OST", 3, 0, "0"),
            ("ACPI_DEVICE_OST", 1, 1, "0"),  # the guest looks, and finds nothing
        ]


def test_eject_from_inside_the_guest(board: Watched, guest: ModelGuest) -> None:
    board.plug("d0")
    board.take()
    guest.tell("uevent", "")
    guest.tell("ost", "0 3 132")
    guest.tell("ost", "0 0x103 0x82")
    assert board.take() == [
        ("ACPI_DEVICE_OST", "d0", 3, 0x84, "0"),
        ("ACPI_DEVICE_OST", "d0", 0x103, 0x82, "0"),
    ]
    assert board.dimms
    guest.tell("ost", "0 259 0")
    assert board.take() == [
        ("DEVICE_DELETED", "d0", "/machine/peripheral/d0"),
        ("ACPI_DEVICE_OST", 0x103, 0, "0"),
    ]
    assert not board.dimms
    guest.tell("ost", "99 259 0")
    assert board.take() == []


def test_ospm_status_remembers_the_last_ost(board: Watched) -> None:
    board.plug("d0")
    board.plug("d1")
    board.device_del("d0")
    assert board.ospm_status() == [
        {"source": 3, "status": 0, "slot": "0", "slot-type": "DIMM"},
        {"device": "d1", "source": 1, "status": 0, "slot": "1", "slot-type": "DIMM"},
        {"source": 0, "status": 0, "slot": "2", "slot-type": "DIMM"},
        {"source": 0, "status": 0, "slot": "3", "slot-type": "DIMM"},
        {"source": 0, "status": 0, "slot": "0", "slot-type": "CPU"},
    ]


def test_first_fit(board: Watched) -> None:
    board.plug("d0", 256 * MIB)
    board.plug("d1", 128 * MIB)
    board.plug("d2", 512 * MIB)
    board.device_del("d1")
    board.plug("big", 256 * MIB)  # does not fit into the hole
    board.device_del("big")
    board.plug("small", 128 * MIB)  # does
    assert board.places() == {
        "d0": (0, 4 * GIB),
        "small": (1, 4 * GIB + 256 * MIB),
        "d2": (2, 4 * GIB + 384 * MIB),
    }


def test_backend_alignment_moves_a_dimm(board: Watched, tmp_path: Path) -> None:
    board.plug("d0", 2 * MIB)
    backing = {"mem-path": f"{tmp_path}/memory", "size": 16 * MIB}
    board.object_add("memory-backend-file", {"id": "f0", **backing})
    board.object_add("memory-backend-file", {"id": "f1", "align": 8 * MIB, **backing})
    board.device_add("pc-dimm", {"memdev": "f0"})
    board.device_add("pc-dimm", {"memdev": "f1"})
    assert [dimm.addr - 4 * GIB for dimm in board.dimms] == [0, 2 * MIB, 24 * MIB]
    assert not list(tmp_path.iterdir())


def test_file_that_cannot_back_memory(board: Watched, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"x" * 4096)

    def add(path: object, **props: Any) -> str:
        with pytest.raises(MonitorError) as e:
            board.object_add(
                "memory-backend-file", {"id": "f", "size": MIB, "mem-path": f"{path}", **props}
            )
        return e.value.desc

    assert add(small) == "backing store size 0x1000 does not match 'size' option 0x100000"
    assert (
        add(tmp_path / "no" / "x")
        == f"can't open backing store {tmp_path}/no/x for guest RAM: No such file or directory"
    )
    assert add("") == "can't open backing store  for guest RAM: No such file or directory"
    assert (
        add(f"{tmp_path}/\0")
        == f"can't open backing store {tmp_path}/\0 for guest RAM: Invalid argument"
    )
    assert add(tmp_path, align=3) == "alignment 0x3 must be multiples of page size 0x1000"


def test_failed_device_add_changes_nothing(board: Watched, guest: ModelGuest) -> None:
    board.object_add("memory-backend-ram", {"id": "m0", "size": 128 * MIB})
    for wrong in (
        {"slot": 9},
        {"addr": 1},
        {"node": 5},
        {"slot": "x"},
        {"bogus": 1},
        {"memdev": "no"},
    ):
        with pytest.raises(MonitorError):
            board.device_add("pc-dimm", {"id": "d0", "memdev": "m0", **wrong})
    assert not board.dimms
    assert not guest.calls
    board.object_del("m0")


@pytest.mark.logs_errors("a subscriber fails")
def test_failing_subscriber_changes_nothing(board: Watched) -> None:
    def fail(event: HostEvent) -> None:
        raise ValueError(event)

    seen: list[str] = []
    board.subscribe(fail)
    end = board.subscribe(lambda event: seen.append(event.name))
    board.plug("d0")
    assert seen == ["ACPI_DEVICE_OST"]
    end()
    end()
    board.plug("d1")
    assert seen == ["ACPI_DEVICE_OST"]


def test_subscriber_may_use_the_board(board: Watched) -> None:
    def replug(event: HostEvent) -> None:
        if event.name == "DEVICE_DELETED" and len(board.told) < 10:
            board.object_del("m-d0")
            board.plug("d0")

    board.subscribe(replug)
    board.plug("d0")
    board.device_del("d0")
    wait_for(lambda: board.told[-1] == ("ACPI_DEVICE_OST", "d0", 1, 0, "0") and len(board.told) > 4)
    assert board.places() == {"d0": (0, 4 * GIB)}


def test_closed_board_tells_nobody(guest: ModelGuest) -> None:
    board = Watched(guest)
    board.plug("d0")
    board.take()
    board.close()
    board.close()
    board.plug("d1")
    assert board.take() == []
    assert guest.subscribers == []


def boot(guest: ModelGuest, *dimms: BootDimm) -> ModelGuest:
    guest.config = replace(guest.config, dimms=dimms)
    return guest


def test_dimms_at_boot(guest: ModelGuest) -> None:
    boot(guest, BootDimm("b0", 256 * MIB), BootDimm("b1", 128 * MIB, slot=3, addr=5 * GIB))
    with Watched(guest) as board:
        assert board.told == []
        assert board.places() == {"b0": (0, 4 * GIB), "b1": (3, 5 * GIB)}
        assert [device["data"]["hotplugged"] for device in board.memory_devices()] == [False, False]
        assert guest.blocks == {0: {32, 33}, 3: {40}}
        assert board.ospm_status()[0] == {
            "device": "b0", "source": 0, "status": 0, "slot": "0", "slot-type": "DIMM",
        }  # fmt: skip
        board.device_del("b0")
        assert list(board.places()) == ["b1"]


def test_impossible_dimm_at_boot(guest: ModelGuest) -> None:
    boot(guest, BootDimm("b0", 256 * MIB), BootDimm("b1", 128 * MIB, slot=0))
    with pytest.raises(ConfigError, match=r"^DIMM 'b1': slot 0 is busy$"):
        Board(guest)
    assert guest.subscribers == []


def test_nodes_have_their_own_ram() -> None:
    guest = ModelGuest("1G,slots=4,maxmem=8G", nodes=["memory=768M,cpus=0-1", "memory=256M"])
    with Watched(guest) as board:
        assert {backend.id: backend.size for backend in board.backends} == {
            "ram-node0": 768 * MIB,
            "ram-node1": 256 * MIB,
        }
        board.plug("d0", 128 * MIB, node=1)
        assert [tuple(node) for node in board.numa()] == [
            (0, (0, 1), 768 * MIB, 0),
            (1, (), 384 * MIB, 128 * MIB),
        ]
        assert len([cpu for cpu in board.ospm_status() if cpu["slot-type"] == "CPU"]) == 2


def test_numbers_of_a_node_list(board: Watched) -> None:
    def numbers(text: str) -> object:
        return WordReader().read("uint16s", "host-nodes", text)

    board.object_add("memory-backend-ram", {"id": "m0", "size": MIB})
    board.qom_set("/objects/m0", "policy", "bind")
    board.qom_set("/objects/m0", "host-nodes", numbers("0-2,5"))
    assert board.qom_get("/objects/m0", "host-nodes") == [0, 1, 2, 5]
    with pytest.raises(MonitorError, match="expects list of uint64"):
        numbers("2-0")


def test_lists_come_in_order_of_creation(board: Watched) -> None:
    for name in ("zz", "b", "a", "m1", "m0"):
        board.object_add("memory-backend-ram", {"id": name, "size": 2 * MIB})
    board.object_del("b")
    board.object_add("memory-backend-ram", {"id": "b", "size": MIB})
    names = ["pc.ram", "zz", "a", "m1", "m0", "b"]
    assert [backend["id"] for backend in board.memdevs()] == names
    assert [p["name"] for p in board.qom_list("/objects")] == ["type", *names]
    for name in ("m1", "zz"):
        board.device_add("pc-dimm", {"id": f"d-{name}", "memdev": name})
    peripherals = [p["name"] for p in board.qom_list("/machine/peripheral")]
    assert peripherals == ["type", "d-m1", "d-zz"]


def test_many_threads(board: Watched, guest: ModelGuest) -> None:
    """Four threads plug and unplug a DIMM each; another one asks all the time."""
    stop = threading.Event()

    def work(name: str) -> None:
        for _ in range(50):
            board.plug(name)
            assert name in board.places()
            board.device_del(name)
            wait_for(lambda: name not in board.places())
            board.object_del(f"m-{name}")

    def ask() -> None:
        while not stop.is_set():
            board.memory_devices()
            board.ospm_status()
            board.qom_list("/machine/peripheral")

    with ThreadPoolExecutor(5) as pool:
        asking = pool.submit(ask)
        try:
            for working in [pool.submit(work, f"d{i}") for i in range(4)]:
                working.result()
        finally:
            stop.set()
        asking.result()
    assert not board.dimms
    assert not guest.blocks
    assert len([event for event in board.told if event[0] == "DEVICE_DELETED"]) == 200


def test_real_machine() -> None:
    """Plug, use, unplug; and a DIMM that is in use by pages that cannot move stays."""
    config = MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")
    with Machine.from_config(config) as machine, Watched(machine, answer_seconds=30) as board:
        board.plug("d0", 256 * MIB)
        state = "/sys/devices/system/memory/memory33/state"
        assert machine.read_text(state) == "offline\n"
        machine.store(state, "online_movable")
        board.take()
        board.device_del("d0")
        assert [event[0] for event in board.take()] == [
            "ACPI_DEVICE_OST",
            "DEVICE_DELETED",
            "ACPI_DEVICE_OST",
        ]
        with pytest.raises(FileNotFoundError):
            machine.stat(state)
        machine.check()
