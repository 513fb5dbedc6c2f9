"""Fault rules as Python and the options see them: on files, on uevents, while they wait, and when
they are none.

Which pass a rule fires on is shown by the C test of engine/base/rules.c, every word of the grammar
by test_fault_rules.py.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import given_more_time, wait_for

from fakesysfs import Machine, MachineConfig
from fakesysfs.errors import ConfigError
from fakesysfs.instance_requests import request_handlers
from fakesysfs.machine import Event, FaultRule
from fakesysfs.run.uevents import UeventFaults

MEMORY = "/sys/devices/system/memory"
BLOCK = 128 << 20
FIRST = 0x100000000  # memory32


def machine_with(*rules: str) -> Machine:
    return Machine(MachineConfig.from_options(faults=rules))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with machine_with() as made:
        yield made
        made.check()


def passes(call: Callable[[], object], times: int) -> str:
    """`.` for each call that succeeds, the errno's name for each that does not."""
    found = []
    for _ in range(times):
        try:
            call()
            found.append(".")
        except OSError as e:
            found.append(errno.errorcode[e.errno or 0])
    return " ".join(found)


def waiting(machine: Machine) -> int:
    return sum(rule.waiting for rule in machine.fault_rules())


class Call(threading.Thread):
    """A call in a thread of its own, and what became of it: a value or an exception."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: object = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except (OSError, ValueError) as e:
            self.result = e

    def end(self) -> object:
        self.join(10)
        assert not self.is_alive()
        return self.result


# Files


def test_a_write_fails_as_often_as_it_is_to_and_changes_nothing(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    before = {
        path: machine.read_text(path) for path in ("/proc/zoneinfo", f"{MEMORY}/memory32/state")
    }
    seen: list[Event] = []
    machine.subscribe(seen.append)
    rule = "write memory32/state EAGAIN x3"
    assert machine.fault_rule_add(rule) == 1
    with pytest.raises(
        BlockingIOError, match=rf"^\[Errno 11\] fault rule '{rule}': '{MEMORY}/memory32/state'$"
    ):
        machine.store(f"{MEMORY}/memory32/state", "online")
    fault, store = seen
    assert (fault.kind, fault.path, fault.data) == ("fault", f"{MEMORY}/memory32/state", rule)
    assert (store.kind, store.path, store.data) == ("store", f"{MEMORY}/memory32/state", "online")
    assert fault.errno == store.errno == errno.EAGAIN
    assert {path: machine.read_text(path) for path in before} == before
    machine.check()
    assert (
        passes(lambda: machine.store(f"{MEMORY}/memory32/state", "online"), 3) == "EAGAIN EAGAIN ."
    )
    assert machine.read_text(f"{MEMORY}/memory32/state") == "online\n"
    assert machine.fault_rules() == [FaultRule(1, rule, matched=4, fired=3, waiting=0)]


def test_a_read_that_fails_is_told_before_it_returns(machine: Machine) -> None:
    seen: list[Event] = []
    machine.subscribe(seen.append)
    machine.fault_rule_add("read memory1/* EIO nth=2")
    assert passes(lambda: machine.read_text(f"{MEMORY}/memory1/state"), 4) == ". EIO . ."
    assert [(e.kind, e.errno) for e in seen] == [("fault", errno.EIO)]
    machine.fault_rule_add("open memory2/state ENFILE")
    with pytest.raises(OSError, match="fault rule") as refused:
        machine.read_text(f"{MEMORY}/memory2/state")
    assert (refused.value.errno, refused.value.filename) == (
        errno.ENFILE,
        f"{MEMORY}/memory2/state",
    )
    assert len(seen) == 2


def test_events_of_reads_by_others_are_there_when_one_looks(machine: Machine) -> None:
    machine.fault_rule_add("read memory1/state EIO")
    handle = machine.open(f"{MEMORY}/memory1/state", os.O_RDONLY)
    # as a mount reads: nobody is told
    assert passes(lambda: machine.read(handle, 100, 0), 2) == "EIO EIO"
    assert [e.kind for e in machine.events()] == ["fault", "fault"]
    machine.release(handle)


def test_chance_is_the_seeds() -> None:
    def pattern(seed: int) -> str:
        config = MachineConfig.from_options(seed=seed, faults=["read * EIO p=0.3"])
        with Machine(config) as machine:
            return passes(lambda: machine.read_text(f"{MEMORY}/memory1/state"), 60)

    assert pattern(7) == pattern(7)
    assert pattern(7) != pattern(8)
    assert 8 <= pattern(7).count("EIO") <= 30


def test_rules_move_no_page() -> None:
    def story(*rules: str) -> list[str]:
        with machine_with(*rules) as machine:
            for _ in range(20):
                passes(lambda: machine.read_text("/proc/meminfo"), 1)
            machine.allocate("anon", "64M")
            return [machine.read_text(path) for path in ("/proc/buddyinfo", "/proc/zoneinfo")]

    assert story() == story("read /proc/meminfo EIO p=0.5", "read /proc/* delay 0s")


@pytest.mark.parametrize("way", ["hide", "vanish"])
def test_what_is_not_there(machine: Machine, way: str) -> None:
    number = machine.fault_rule_add(f"{way} memory3")
    names = {name for name, _, _ in machine.readdir(MEMORY)}
    assert ("memory3" in names) == (way == "vanish")
    assert "memory4" in names
    for path in (
        f"{MEMORY}/memory3",
        f"{MEMORY}/memory3/state",
        "/sys/bus/memory/devices/memory3/state",
    ):
        with pytest.raises(FileNotFoundError, match="a fault rule hides memory3"):
            machine.stat(path)
    machine.fault_rule_clear(number)
    assert machine.read_text(f"{MEMORY}/memory3/state") == "online\n"


# Waits


def test_a_delay_is_real_and_nobody_else_waits(machine: Machine) -> None:
    def read(delay: float) -> None:
        machine.fault_rule_add(f"read memory1/state delay {delay}s")
        start = time.monotonic()
        slow = Call(lambda: machine.read_text(f"{MEMORY}/memory1/state"))
        wait_for(lambda: waiting(machine) == 1 or not slow.is_alive(), every=0.002)
        for _ in range(50):
            machine.read_text(f"{MEMORY}/memory2/state")
        waits = slow.is_alive()
        assert slow.end() == "online\n"
        assert time.monotonic() - start >= delay
        assert waits

    given_more_time((0.2, 2.0, 20.0), read)


def test_a_hang_ends_with_its_rule(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    first = machine.fault_rule_add("read memory32/valid_zones hang")
    second = machine.fault_rule_add("write memory32/state hang EBUSY")
    reader = Call(lambda: machine.read_text(f"{MEMORY}/memory32/valid_zones"))
    writer = Call(lambda: machine.store(f"{MEMORY}/memory32/state", "online"))
    wait_for(lambda: waiting(machine) == 2)
    assert machine.read_text(f"{MEMORY}/memory32/state") == "offline\n"
    machine.fault_rule_clear(first)
    assert reader.end() == "Normal Movable\n"
    assert writer.is_alive()
    machine.fault_rule_clear(second)
    assert writer.end() == 6
    assert machine.read_text(f"{MEMORY}/memory32/state") == "online\n"


def test_a_hang_ends_with_the_machine() -> None:
    machine = machine_with("read memory1/state hang")
    handle = machine.open(f"{MEMORY}/memory1/state", os.O_RDONLY)
    reader = Call(lambda: machine.read(handle, 100, 0))
    wait_for(lambda: waiting(machine) == 1)
    machine.close()
    result = reader.end()
    assert isinstance(result, OSError)
    assert result.errno == errno.ENODEV


@pytest.mark.parametrize("end", ["clear", "close"])
def test_who_waits_for_the_store_of_another(end: str) -> None:
    """As a mount lets those wait who open a file to write to it."""
    path = f"{MEMORY}/memory1/state"
    machine = machine_with("write memory1/state hang")
    alone = machine.open(path, os.O_WRONLY)
    machine.await_stores(alone)
    first = Call(lambda: machine.write(alone, b"online"))
    wait_for(lambda: waiting(machine) == 1)
    machine.await_stores(alone)  # its own
    for flags, other in (
        (os.O_RDWR, path),
        (os.O_WRONLY | os.O_NONBLOCK, path),
        (os.O_WRONLY, f"{MEMORY}/memory2/state"),
    ):
        machine.await_stores(machine.open(other, flags))
    second = machine.open("/sys/bus/memory/devices/memory1/state", os.O_WRONLY)
    waits = Call(lambda: machine.await_stores(second))
    time.sleep(0.05)
    assert waits.is_alive()
    if end == "clear":
        machine.fault_rule_clear()
        assert waits.end() is None
        assert isinstance(first.end(), OSError)
    machine.close()
    ended, woken = first.end(), waits.end()
    assert isinstance(ended, OSError)
    assert ended.errno == (errno.EINVAL if end == "clear" else errno.ENODEV)
    # By whichever of the two it saw first: the end of the store, or that of the machine.
    assert woken is None or (isinstance(woken, OSError) and woken.errno == errno.ENODEV)


# Uevents


def add_blocks(machine: Machine, count: int) -> None:
    for number in range(count):
        machine.add_memory(0, FIRST + number * BLOCK, BLOCK)


def received_by(machine: Machine) -> list[str]:
    """A list that fills with the uevents that get through, "add memory33" each."""
    got: list[str] = []

    def receive(event: Event) -> None:
        if event.kind == "uevent":
            got.append(f"{event.data} {os.path.basename(event.path)}")

    machine.subscribe(UeventFaults(receive))
    return got


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "32 33 34 35"),
        (["uevent add memory33 drop"], "32 34 35"),
        (["uevent add * drop nth=2 x2"], "32 35"),
        (["uevent * duplicate"], "32 32 33 33 34 34 35 35"),
        (["uevent add memory3[24] reorder"], "33 32 35 34"),
        (["uevent add * reorder"], "33 32 35 34"),
        (["uevent add * reorder x1"], "33 32 34 35"),
        (["uevent add memory33 drop", "uevent add * duplicate x2"], "32 32 34 34 35"),
        (["uevent remove * drop"], "32 33 34 35"),
        (["uevent add /sys/devices/system/node/* drop"], "32 33 34 35"),
    ],
)
def test_uevents_on_their_way(machine: Machine, rules: list[str], expected: str) -> None:
    got = received_by(machine)
    for rule in rules:
        machine.fault_rule_add(rule)
    add_blocks(machine, 4)
    assert got == [f"add memory{number}" for number in expected.split()]
    # What happened is not what was told.
    happened = [e.path for e in machine.events() if e.kind == "uevent"]
    assert happened == [f"/devices/system/memory/memory{number}" for number in range(32, 36)]
    told = [e.data for e in machine.events() if e.kind == "fault"]
    assert len(told) == sum(rule.fired for rule in machine.fault_rules())


def test_a_uevent_that_is_held_back_for_the_next_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(seconds: float) -> None:
        monkeypatch.setattr("fakesysfs.run.uevents.REORDER_SECONDS", seconds)
        with machine_with("uevent add memory32 reorder") as machine:
            got = received_by(machine)
            add_blocks(machine, 1)
            at_once = list(got)
            wait_for(lambda: got)
            machine.add_memory(0, FIRST + BLOCK, BLOCK)
            assert got == ["add memory32", "add memory33"]
            assert at_once == []

    given_more_time((0.05, 0.5, 5.0, 50.0), add)


def test_a_delayed_uevent_comes_later_and_the_writer_does_not_wait() -> None:
    def add(delay: float) -> None:
        with machine_with(f"uevent add memory32 delay {delay}s") as machine:
            got = received_by(machine)
            start = time.monotonic()
            add_blocks(machine, 2)
            took, first = time.monotonic() - start, list(got)
            wait_for(lambda: len(got) == 2)
            assert sorted(got) == ["add memory32", "add memory33"]
            assert time.monotonic() - start >= delay
            assert (first, took < delay) == (["add memory33"], True)

    given_more_time((0.3, 3.0, 30.0), add)


def test_an_event_before_its_files(machine: Machine) -> None:
    """As a listener sees it that looks at once, and again a moment later."""
    at_once: list[bool] = []

    def exists(path: str) -> bool:
        try:
            machine.stat(path)
        except FileNotFoundError:
            return False
        return True

    def receive(event: Event) -> None:
        if event.kind == "uevent":
            at_once.append(exists(f"/sys{event.path}/state"))

    machine.subscribe(receive)
    machine.fault_rule_add("uevent add memory32 early 150ms")
    add_blocks(machine, 2)
    assert at_once == [False, True]
    assert not exists("/sys/bus/memory/devices/memory32")
    assert "memory32" not in {name for name, _, _ in machine.readdir(MEMORY)}
    wait_for(lambda: exists(f"{MEMORY}/memory32/state"))
    assert exists("/sys/bus/memory/devices/memory32")


# Where rules come from, and what is none


def test_rules_of_the_machine_file_and_of_the_options(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('fault = ["write memory1/state EBUSY", "hide memory2"]\n')
    config = MachineConfig.from_options(machine=file, faults=["read memory3/state EIO"])
    assert config.faults == ("write memory1/state EBUSY", "hide memory2", "read memory3/state EIO")
    with Machine(config) as machine:
        assert [rule.rule for rule in machine.fault_rules()] == list(config.faults)
    for wrong in ('fault = "write memory1/state EBUSY"', "fault = [5]"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=r"^`fault` in .*machine.toml: a list of texts like"):
            MachineConfig.from_options(machine=file)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("write", "which file? write for instance `write memory40/state EBUSY`"),
        ("write EBUSY", "which file? write for instance `write memory40/state EBUSY`"),
        ("write memory40/state", "what is to happen? an errno such as EBUSY, delay TIME, or hang"),
        (
            "write memory40/state EBUZY",
            "`EBUZY` is neither an errno, nor delay TIME, hang, xN, always, nth=N or p=P",
        ),
        ("uevent add drop", "of which device? write for instance `uevent add memory33 drop`"),
        ("write memory40/stat EBUSY", "a memory block has no file `stat`"),
        ("hide memory*/nodes", "a memory block has no file `nodes`"),
        ("read block_size EIO", "there is no file /sys/devices/system/memory/block_size"),
        ("read /proc/meminf delay 2s", "there is no file /proc/meminf"),
    ],
)
def test_what_is_no_rule(machine: Machine, rule: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        machine.fault_rule_add(rule)
    assert f"{refused.value}" == f"fault rule '{rule}': {complaint}"
    assert machine.fault_rules() == []
    with pytest.raises(ConfigError) as refused:
        machine_with("read memory1/state EIO", rule)
    assert f"{refused.value}" == f"fault rule '{rule}': {complaint}"


@pytest.mark.parametrize(
    "rule",
    [
        "write memory40/state EBUSY",  # no such block yet
        "read memory40/power/control EIO",
        "read memory40/firmware_node/path EIO",
        "hide memory4/node0",
        "read /sys/devices/system/node/node7/meminfo EIO",
        "read /proc/meminfo EIO",
        "write */state EBUSY",
        "list . EIO",
        "list power EIO",
        "uevent add /devices/system/cpu/cpu0 drop",
    ],
)
def test_files_that_may_come_later(machine: Machine, rule: str) -> None:
    assert machine.fault_rule_add(rule) == 1
    machine.fault_rule_add("hide memory*")
    machine.fault_rule_add("read memory3/anything EIO")  # nobody knows what is hidden


def test_clearing(machine: Machine) -> None:
    numbers = [machine.fault_rule_add(f"write memory{block}/state EBUSY") for block in range(4)]
    machine.fault_rule_clear(numbers[1])
    assert [rule.number for rule in machine.fault_rules()] == [1, 3, 4]
    with pytest.raises(ConfigError, match=r"^there is no fault rule number 2$"):
        machine.fault_rule_clear(numbers[1])
    machine.fault_rule_clear()
    assert machine.fault_rules() == []
    assert machine.fault_rule_add("hide memory1") == 5


def test_rules_over_the_control_socket(machine: Machine) -> None:
    handlers = request_handlers(machine, {}, dict, lambda: None)
    assert handlers["fault add"]("write memory1/state EBUSY x1") == 1
    listed = json.loads(json.dumps(handlers["fault list"]()))
    assert listed == [[1, "write memory1/state EBUSY x1", 0, 0, 0]]
    assert handlers["fault clear"](1) is None
    assert handlers["fault list"]() == []
