"""query-qmp-schema: as QEMU's own for these commands, well-formed, and true.

qemu_schema.json has what QEMU 7.2.22 says of them. True means that what the commands return and the
events carry is of the types the schema names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_guest import ModelGuest
from model_qmp_schema import Schema

from fakesysfs.errors import MonitorError
from fakesysfs.qemu.board import Board
from fakesysfs.qemu.host_events import HostEvent
from fakesysfs.qemu.monitor import Monitor
from fakesysfs.qemu.qmp import QmpSession

QEMU = Schema(json.loads((Path(__file__).parent / "qemu_schema.json").read_text())["schema"])


@pytest.fixture
def guest() -> ModelGuest:
    return ModelGuest("1G,slots=4,maxmem=8G", nodes=("memory=512M,cpus=0", "memory=512M,cpus=1"))


@pytest.fixture
def monitor(guest: ModelGuest) -> Iterator[Monitor]:
    with Board(guest) as board:
        yield Monitor(board)


@pytest.fixture
def schema(monitor: Monitor) -> Schema:
    reply = QmpSession(monitor)
    reply.receive(b'{"execute":"qmp_capabilities"}')
    return Schema(json.loads(reply.receive(b'{"execute":"query-qmp-schema"}')[0])["return"])


def test_commands_are_those_of_query_commands(monitor: Monitor, schema: Schema) -> None:
    names = [command["name"] for command in monitor.execute("query-commands")]
    assert sorted(names) == sorted(schema.named("command"))
    assert [name for name in names if name != "qmp_capabilities" and not monitor.knows(name)] == []


def test_commands_and_events_are_declared_as_qemu_declares_them(schema: Schema) -> None:
    names = schema.named("command", "event")
    assert names == QEMU.named("command", "event")
    for name in names:
        assert schema.written_out(name) == QEMU.written_out(name), name


def test_schema_is_well_formed(schema: Schema) -> None:
    """The rules of QEMU's documentation of client JSON protocol introspection that types alone do
    not say.
    """
    used = {reference for name in schema.entries for reference in schema.references(name)}
    types = schema.named("builtin", "enum", "array", "object", "alternate")
    assert used == set(types), "a type that is not there, or of which nobody speaks"
    for name in schema.named("command", "event"):
        assert schema.entries[schema.entries[name]["arg-type"]]["meta-type"] == "object"
    for name in types:
        entry = schema.entries[name]
        kind = entry["meta-type"]
        if kind == "builtin":
            assert name in ("str", "int", "number", "bool", "any", "null", "QType")
        elif kind == "array":
            assert name == f"[{entry['element-type']}]"
        else:
            assert name.isdecimal()
            members = [member["name"] for member in entry["members"]]
            assert len(set(members)) == len(members)
            if kind == "enum":
                assert members == entry["values"]
            assert ("tag" in entry) == ("variants" in entry)
            if "tag" in entry:
                tag = schema.entries[
                    next(m["type"] for m in entry["members"] if m["name"] == entry["tag"])
                ]
                cases = [variant["case"] for variant in entry["variants"]]
                assert set(cases) <= set(tag["values"])
                assert len(set(cases)) == len(cases)
                for variant in entry["variants"]:
                    extra = schema.entries[variant["type"]]
                    assert extra["meta-type"] == "object"
                    assert not set(members) & {member["name"] for member in extra["members"]}


def test_what_is_returned_and_told_is_of_the_declared_types(
    monitor: Monitor, schema: Schema, guest: ModelGuest
) -> None:
    told: list[HostEvent] = []
    monitor.board.subscribe(told.append)
    calls: list[tuple[str, dict[str, Any]]] = [
        (
            "object-add",
            {
                "qom-type": "memory-backend-ram",
                "id": "m0",
                "size": 1 << 27,
                "policy": "bind",
                "host-nodes": [0, 2],
            },
        ),
        ("device_add", {"driver": "pc-dimm", "memdev": "m0", "id": "d0", "node": 1}),
        ("object-add", {"qom-type": "memory-backend-memfd", "id": "m1", "size": 1 << 27}),
        ("device_add", {"driver": "pc-dimm", "memdev": "m1"}),
        *((name, {}) for name in schema.named("command") if name.startswith("query-")),
        ("human-monitor-command", {"command-line": "info memdev"}),
        ("qom-list", {"path": "/machine"}),
        ("qom-get", {"path": "/objects/m0", "property": "host-nodes"}),
        ("qom-set", {"path": "/objects/m0", "property": "merge", "value": False}),
        ("device_del", {"id": "d0"}),
        ("object-del", {"id": "m0"}),
    ]
    wrong = []
    for name, arguments in calls:
        entry = schema.entries[name]
        if name != "device_add":  # its arguments are the device's
            wrong += schema.complaints(entry["arg-type"], arguments, f"arguments of {name}")
        returned = json.loads(json.dumps(monitor.execute(name, arguments)))
        wrong += schema.complaints(entry["ret-type"], returned, f"return of {name}")
    assert [event.name for event in told] == ["ACPI_DEVICE_OST"] * 3 + [
        "DEVICE_DELETED",
        "ACPI_DEVICE_OST",
    ]
    for event in told:
        wrong += schema.complaints(schema.entries[event.name]["arg-type"], event.data, event.name)
    assert wrong == []


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("device_del", {}, "Parameter 'id' is missing"),
        ("device_del", {"id": 7}, "Invalid parameter type for 'id', expected: string"),
        ("query-memdev", {"x": 1}, "Parameter 'x' is unexpected"),
        (
            "human-monitor-command",
            {"command-line": "", "cpu-index": True},
            "for 'cpu-index', expected: integer",
        ),
    ],
)
def test_arguments_are_checked_against_it(
    monitor: Monitor, command: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(MonitorError, match=said):
        monitor.execute(command, arguments)
