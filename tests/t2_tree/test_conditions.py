"""The words of `fakesysfs wait`, `fakesysfs expect` and the pytest plugin, about a machine in
process.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs.errors import ConfigError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.monitor import Monitor
from fakesysfs.testing.conditions import MEMORY, parse, parse_seconds


class Facts:
    """A machine and its monitor, as conditions see them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._events: list[tuple[str, Mapping[str, Any]]] = []
        board = Board(machine)
        board.subscribe(lambda event: self._events.append((event.name, event.data)))
        self.monitor = Monitor(board)

    def read(self, path: str) -> str:
        return self.machine.read_text(path)

    def exists(self, path: str) -> bool:
        try:
            self.machine.stat(path)
        except OSError as e:
            assert e.errno == errno.ENOENT
            return False
        return True

    def block_states(self) -> dict[str, str]:
        return {f"memory{block.id}": block.state for block in self.machine.blocks()}

    def uevents(self) -> Sequence[tuple[str, str]]:
        return [(e.data, e.path) for e in self.machine.events() if e.kind == "uevent"]

    def qmp_events(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        return self._events

    def log(self) -> Sequence[str]:
        return [text for _, text in self.machine.dmesg()]


@pytest.fixture
def facts() -> Iterator[Facts]:
    """Two DIMMs plugged, one unplugged; a block that went online and offline, one that could not."""
    with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
        facts = Facts(machine)
        for name in ("a", "b"):
            facts.monitor.command(f"object_add memory-backend-ram,id=m{name},size=256M")
            facts.monitor.command(f"device_add pc-dimm,id={name},memdev=m{name}")
        machine.store(f"{MEMORY}/memory32/state", "online_movable")
        machine.store(f"{MEMORY}/memory32/state", "offline")
        machine.store(f"{MEMORY}/memory33/state", "online_movable")
        facts.monitor.command("device_del b")
        with pytest.raises(OSError, match="unmovable page"):
            machine.store(f"{MEMORY}/memory3/state", "offline")
        yield facts


@pytest.mark.parametrize(
    "text",
    [
        "memory32/state = offline",
        "memory32/state=offline",
        "memory32/state != online",
        f"{MEMORY}/memory33/state = 'online'",
        "memory33/valid_zones ~ ^Mov",
        "memory33/valid_zones !~ Normal",
        "memory[0-7]/state = online",
        "memory3?/phys_device = 0",
        "memory33/online > 0",
        "memory33/online <= 0x1",
        "/proc/zoneinfo ~ Movable",
        "memory33 exists",
        "memory33/state exists",
        "memory34 missing",
        "blocks = 10",
        "blocks online = 9",
        "blocks offline < 2",
        "blocks going-offline = 0",
        "uevent add memory32",
        "uevent online memory32 = 1",
        "uevent * memory3[23] >= 5",
        "uevent remove /sys/devices/system/memory/memory34",
        "uevent offline memory33 = 0",
        "no uevent offline memory33",
        "qmp DEVICE_DELETED device=b",
        "qmp ACPI_DEVICE_OST info.device=b info.status=0 = 1",
        "no qmp DEVICE_DELETED device=a",
        "log page dumped because: unmovable",
        "log '^page dumped because'",
        "no log panic",
    ],
)
def test_what_is_so(facts: Facts, text: str) -> None:
    finding = parse(text).look(facts)
    assert (finding.holds, finding.text) == (True, "")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("memory32/state = online", "it is 'offline'"),
        ("memory34/state = online", "it cannot be read (there is no memory34 here)"),
        ("memory33/valid_zones ~ Normal", "it is 'Movable'"),
        ("memory33/online < 1", "it is '1'"),
        ("memory33/state < 1", "it is 'online'"),
        (
            "memory*/state = offline",
            "memory0 is 'online', memory1 is 'online', memory2 is 'online', memory3 is 'online',"
            " memory4 is 'online' and 4 more, of 10",
        ),
        ("memory9?/state = offline", "no memory block is called memory9?"),
        ("memory34 exists", "it is missing"),
        ("memory33 missing", "it exists"),
        ("blocks = 11", "there are 10"),
        ("blocks offline > 1", "there are 1"),
        (
            "uevent online memory34",
            "it never happened; the last to happen: online memory32, offline memory32, online"
            " memory33, remove memory34, remove memory35",
        ),
        ("no uevent online memory32", "it happened once; "),
        ("uevent add memory* = 3", "it happened 4 times; "),
        ("qmp DEVICE_DELETED device=a", "it never happened; the last to happen: ACPI_DEVICE_OST "),
        ("log unmovable page 7", "no such line; the last is '"),
        ("no log page dumped", "there is 'page dumped because: unmovable page'"),
    ],
)
def test_what_is_so_instead(facts: Facts, text: str, seen: str) -> None:
    finding = parse(text).look(facts)
    assert not finding.holds
    assert finding.text.startswith(f"{text}: {seen}")
    assert seen[-1] in " '" or finding.text == f"{text}: {seen}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no such form"),
        ("memory32/state", "it has no such form"),
        ("memory32/state online", "it has no such form"),
        ("memory32/online < x", "'x' is no number"),
        ("memory32/state ~ (", "no regular expression: "),
        ("blocks", "'' is no number to compare with, like `= 2`"),
        ("blocks lost = 2", "'lost = 2' is no number to compare with, like `= 2`"),
        ("uevent plug memory32", "after `uevent` come an action"),
        ("uevent add", "after `uevent` come an action"),
        ("uevent add memory32 twice", "'twice' is no number"),
        ("no uevent add memory32 = 2", "`no` and a number do not go together"),
        ("no memory32", "`no` stands before uevent, qmp or log"),
        ("qmp", "after `qmp` comes the name of an event, as DEVICE_DELETED"),
    ],
)
def test_what_is_no_condition(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert f"{raised.value}".startswith(f"condition '{text}': {why}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("250ms", 0.25), ("2m", 120), ("1500us", 0.0015), ("3", 3), (".5s", 0.5), (2, 2)],
)
def test_times(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5h", "-1s", "5 s s", "1e3"])
def test_no_times(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time; write one like 5s or 250ms"):
        parse_seconds(text)
