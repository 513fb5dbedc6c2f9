"""system_reset: the kernel boots again, the hardware stays as the host has it.

    before   e820 | DIMM online | DIMM | virtio-mem 256M      a block that cannot go offline
    reset    e820 | ...                                       waits end, open files answer ENODEV
    after    e820 | DIMM | DIMM | virtio-mem 256M             by ACPI and the policy of that boot

What a real guest does is recorded; see the comments.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from model_guest import ModelGuest
from support.waiting import wait_for

from fakesysfs import Machine, MachineConfig
from fakesysfs.qemu.board import Board

MIB = 1 << 20
MEMORY = "/sys/devices/system/memory"
RESET = ("RESET", {"guest": False, "reason": "host-qmp-system-reset"})


def make(**options: Any) -> Machine:
    return Machine(MachineConfig.from_options(memory="1G,slots=8,maxmem=16G", **options))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with make() as machine:
        yield machine
        machine.check()


def plug(machine: Machine, name: str, size: int = 256 * MIB) -> None:
    machine.object_add("memory-backend-ram", id=f"m-{name}", size=size)
    machine.device_add("pc-dimm", id=name, memdev=f"m-{name}")


def hotplugged(machine: Machine) -> dict[int, str]:
    return {block.id: block.state for block in machine.blocks() if block.id >= 32}


def total(machine: Machine) -> int:
    return int(machine.read_text("/proc/meminfo").split()[1])


# ---- what the guest sees


def test_dimms_are_found_again_and_not_boot_memory(machine: Machine) -> None:
    """Blocks that were online are offline again, and MemTotal is that of base memory."""
    base = total(machine)
    plug(machine, "d0")
    plug(machine, "d1")
    machine.store(f"{MEMORY}/memory32/state", "online_movable")
    assert total(machine) > base
    status = machine.qmp("query-acpi-ospm-status")
    machine.qmp("system_reset")
    assert hotplugged(machine) == dict.fromkeys((32, 33, 34, 35), "offline")
    assert total(machine) == base
    assert machine.host_events()[-1] == RESET  # and no ACPI_DEVICE_OST
    assert machine.qmp("query-acpi-ospm-status") == status
    assert [device["data"]["hotplugged"] for device in machine.qmp("query-memory-devices")] == [
        True,
        True,
    ]
    machine.device_del("d0")
    assert hotplugged(machine) == dict.fromkeys((34, 35), "offline")


def test_the_policy_of_the_boot_counts() -> None:
    with make(append="memhp_default_state=online_movable") as machine:
        plug(machine, "d0")
        machine.store(f"{MEMORY}/auto_online_blocks", "offline")
        machine.store(f"{MEMORY}/memory32/state", "offline")
        machine.qmp("system_reset")
        assert hotplugged(machine) == dict.fromkeys((32, 33), "online")
        assert machine.read_text(f"{MEMORY}/auto_online_blocks") == "online_movable\n"
        assert machine.read_text(f"{MEMORY}/memory32/valid_zones") == "Movable\n"


def test_every_boot_is_the_same(machine: Machine) -> None:
    def seen() -> list[str]:
        files = ("/proc/meminfo", "/proc/buddyinfo", "/proc/zoneinfo", "/proc/iomem")
        return [machine.read_text(path) for path in files]

    first, log = seen(), machine.dmesg()
    machine.allocate("anon", "100M")
    machine.reset()
    assert machine.dmesg() == log
    assert seen() == first


def test_virtio_mem_is_emptied_and_plugged_anew(machine: Machine) -> None:
    machine.object_add("memory-backend-ram", id="vm0", size="1G")
    machine.device_add("virtio-mem-pci", id="v0", memdev="vm0", requested_size="256M")
    data = {"qom-path": "/machine/peripheral/v0", "id": "v0"}
    told = ("MEMORY_DEVICE_SIZE_CHANGE", {"size": 256 * MIB, **data})
    # one event a second: the first is told at once, and this is the last
    wait_for(lambda: told in machine.host_events())
    machine.qmp("system_reset")
    assert hotplugged(machine) == dict.fromkeys((32, 33), "offline")
    assert machine.qom_get("v0", "size") == 256 * MIB
    assert [line for _, line in machine.dmesg() if "plugged size" in line] == [
        "virtio_mem virtio0: plugged size: 0x0"
    ]
    machine.qom_set("v0", "requested-size", "128M")
    assert machine.qom_get("v0", "size") == 128 * MIB


# ---- while it is stopped


def test_a_stopped_machine_boots_at_cont_and_forgets_an_unplug(machine: Machine) -> None:
    """As recorded: RESET at once, then prelaunch; no OST, no DEVICE_DELETED."""
    plug(machine, "d0")
    machine.qmp("stop")
    machine.device_del("d0")
    start = len(machine.host_events())
    machine.qmp("system_reset")
    assert machine.qmp("query-status")["status"] == "prelaunch"
    assert machine.hmp("info status") == "VM status: paused (prelaunch)\n"
    assert hotplugged(machine) == {}
    machine.qmp("cont")
    assert machine.qmp("query-status")["status"] == "running"
    assert hotplugged(machine) == dict.fromkeys((32, 33), "offline")
    assert machine.host_events()[start:] == [RESET, ("RESUME", {})]


def test_a_dimm_that_comes_while_the_guest_is_reset_is_found_once(machine: Machine) -> None:
    machine.qmp("stop")
    machine.qmp("system_reset")
    plug(machine, "d0")
    machine.qmp("cont")
    assert hotplugged(machine) == dict.fromkeys((32, 33), "offline")
    name, data = machine.host_events()[-1]
    assert (name, data["info"]["status"]) == ("ACPI_DEVICE_OST", 0)


def test_what_the_guest_was_doing_is_of_no_account() -> None:
    """It was asked to let a DIMM go and is at it: nothing of that is reported after the reset."""
    guest = ModelGuest()
    told: list[str] = []
    with Board(guest, answer_seconds=0.01) as board:
        board.object_add("memory-backend-ram", {"id": "m0", "size": 128 * MIB})
        board.device_add("pc-dimm", {"id": "d0", "memdev": "m0"})
        guest.may_answer.clear()
        board.device_del("d0")
        wait_for(lambda: ("eject", 0) in guest.calls)
        board.subscribe(lambda event: told.append(event.name))
        board.reset()
        guest.may_answer.set()
        wait_for(lambda: guest.calls[-1][0] == "check")
        assert told == ["RESET"]
        assert [dimm.id for dimm in board.dimms] == ["d0"]
        board.device_del("d0")
        wait_for(lambda: not board.dimms)
        assert told == ["RESET", "ACPI_DEVICE_OST", "DEVICE_DELETED", "ACPI_DEVICE_OST"]


# ---- files, waits, events


def test_open_files_answer_enodev_and_new_ones_have_other_numbers(machine: Machine) -> None:
    path = f"{MEMORY}/memory1/state"
    old = machine.open(path, os.O_RDONLY)
    assert machine.read(old, 100, 0) == b"online\n"
    machine.reset()
    new = machine.open(path, os.O_RDONLY)
    assert new != old
    with pytest.raises(OSError, match="reset since this file was opened") as failed:
        machine.read(old, 100, 0)
    assert failed.value.errno == errno.ENODEV
    assert machine.read(new, 100, 0) == b"online\n"
    with pytest.raises(OSError, match="No such device"):
        machine.release(old)
    machine.release(new)


def test_an_offline_that_never_ends_ends(machine: Machine) -> None:
    plug(machine, "d0")
    machine.store(f"{MEMORY}/memory32/state", "online_movable")
    machine.allocate("anon", "4K", block=32)
    page = next(p for p in range(32 << 15, 33 << 15) if machine.page(p)["kind"] == "anon")
    machine.pin(page)
    errors: list[OSError] = []

    def offline() -> None:
        try:
            machine.store(f"{MEMORY}/memory32/state", "offline")
        except OSError as e:
            errors.append(e)

    thread = threading.Thread(target=offline)
    thread.start()
    wait_for(lambda: hotplugged(machine)[32] == "going-offline")
    machine.qmp("system_reset")
    thread.join(30)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert hotplugged(machine) == dict.fromkeys((32, 33), "offline")


def test_a_read_that_hangs_by_a_rule_ends_and_the_rule_stays(machine: Machine) -> None:
    number = machine.fault_rule_add("read memory1/state hang x1")
    errors: list[OSError] = []

    def read() -> None:
        try:
            machine.read_text(f"{MEMORY}/memory1/state")
        except OSError as e:
            errors.append(e)

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: machine.fault_rules()[0].waiting == 1)
    machine.reset()
    thread.join(30)
    assert [error.errno for error in errors] == [errno.ENODEV]
    rule = machine.fault_rules()[0]
    assert (rule.number, rule.fired, rule.waiting) == (number, 1, 0)
    assert machine.read_text(f"{MEMORY}/memory1/state") == "online\n"
    assert machine.fault_rule_add("read memory1/state EIO") == number + 1


def test_events_go_on_without_gaps(machine: Machine) -> None:
    plug(machine, "d0")
    machine.qmp("system_reset")
    machine.device_del("d0")
    numbers = [event.seq for event in machine.events()]
    assert numbers == [*range(1, len(numbers) + 1)]
    added = [e for e in machine.events() if e.kind == "uevent" and e.path.endswith("/memory32")]
    assert [event.data for event in added] == ["add", "add", "remove"]


# ---- often, and from everywhere


def test_many_resets_cost_no_memory(machine: Machine) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    plug(machine, "d0")
    for _ in range(5):
        machine.qmp("system_reset")
    before = resident()
    for _ in range(50):
        machine.qmp("system_reset")
    assert resident() - before < 8 * MIB
    assert hotplugged(machine) == dict.fromkeys((32, 33), "offline")


def test_resets_while_others_use_files() -> None:
    """Four threads read, write and list; what they are told is what a program may be told."""
    told: set[int] = set()
    over = threading.Event()

    def use(machine: Machine, word: str) -> None:
        while not over.is_set():
            try:
                machine.store(f"{MEMORY}/memory32/state", word)
                machine.read_text(f"{MEMORY}/memory32/state")
                machine.readdir(MEMORY)
                machine.read_text("/proc/zoneinfo")
            except OSError as e:
                told.add(e.errno or 0)

    with make() as machine:
        plug(machine, "d0")
        words = ("online_movable", "offline", "online", "offline")
        threads = [threading.Thread(target=use, args=(machine, word)) for word in words]
        for thread in threads:
            thread.start()
        for _ in range(8):
            machine.qmp("system_reset")
        over.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        machine.check()
    allowed = {errno.ENODEV, errno.ENOENT, errno.EINTR, errno.EINVAL, errno.EBUSY}
    assert told <= allowed
