"""The trace against what the function_graph tracer saw on a real 6.1 kernel
(tests/recordings/callgraphs-6.1.txt).

A name the engine does not have may be missing. No name may stand where the kernel's graph has none:
under another parent, or in another order among its siblings. Repeats are folded on both sides, as
in the recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakesysfs import Machine, MachineConfig

RECORDING = Path(__file__).parents[1] / "recordings" / "callgraphs-6.1.txt"
MEMORY = "/sys/devices/system/memory"
GIB = 1 << 30
AT_LEAST = 0.6


@dataclass
class Call:
    """A function and what it called, in order."""

    name: str
    calls: list[Call] = field(default_factory=list)

    def names(self) -> Iterator[tuple[str, str]]:
        """Every (caller, callee) in here."""
        for call in self.calls:
            yield self.name, call.name
            yield from call.names()


def tree(lines: list[tuple[int, str]]) -> Call:
    """A graph from (depth, name) lines under a nameless root."""
    path = [Call("")]
    for depth, name in lines:
        del path[depth + 1 :]
        path[depth].calls.append(Call(name))
        path.append(path[depth].calls[-1])
    return path[0]


def merged(calls: list[Call], more: list[Call]) -> list[Call]:
    """The calls of one more run of the same function laid over those of the first, in their common
    order.
    """
    out, at = list(calls), 0
    for call in more:
        same = next((i for i in range(at, len(out)) if out[i].name == call.name), None)
        if same is None:
            out.insert(at, call)
            at += 1
        else:
            out[same] = Call(call.name, merged(out[same].calls, call.calls))
            at = same + 1
    return out


def folded(call: Call) -> Call:
    """The same with neighbours of one name made one."""
    out: list[Call] = []
    for child in map(folded, call.calls):
        if out and out[-1].name == child.name:
            out[-1] = Call(child.name, merged(out[-1].calls, child.calls))
        else:
            out.append(child)
    return Call(call.name, out)


def recorded() -> dict[str, Call]:
    """Title of each operation -> its graph."""
    graphs: dict[str, list[tuple[int, str]]] = {}
    for line in RECORDING.read_text().splitlines():
        if line.startswith("# "):
            graphs[line[2:].split(" -> ")[0]] = lines = []
        elif line.strip():
            lines.append(((len(line) - len(line.lstrip())) // 2, line.strip()))
    return {title: folded(tree(lines)) for title, lines in graphs.items()}


def traced(machine: Machine) -> Call:
    """The engine's trace since it was cleared."""
    lines = []
    for line in machine.trace().splitlines():
        found = re.match(r".*\|  ( *)(\w+)\(\)", line)
        if found:
            lines.append((len(found[1]) // 2, found[2]))
    return folded(tree(lines))


def misplaced(ours: Call, kernel: list[Call], path: str) -> list[str]:
    """Calls of ours that the kernel's graph does not have in that place. `kernel`: all its calls of
    this name.
    """
    wrong = []
    theirs = [child for call in kernel for child in call.calls]
    at = 0
    for child in ours.calls:
        where = f"{path}/{child.name}"
        match = next((i for i in range(at, len(theirs)) if theirs[i].name == child.name), None)
        if match is None:
            wrong.append(where)
            continue
        same = [call for call in theirs[match:] if call.name == child.name]
        wrong += misplaced(child, same, where)
        at = match
    return wrong


def plugged(machine: Machine, start: int) -> None:
    machine.acpi_device_check(0, 0, start, GIB)


OPERATIONS = {
    "plug": "(qemu) device_add pc-dimm,id=d0,memdev=m0,addr=0x280000000",
    "unplug": "(qemu) device_del d0",
    "probe": f"echo 0x100000000 > {MEMORY}/probe",
    "online": f"echo online_movable > {MEMORY}/memory32/state",
    "offline": f"echo offline > {MEMORY}/memory32/state",
    "refused": f"echo offline > {MEMORY}/memory1/state",
}


def run(operation: str) -> Call:
    """Do one operation on a fresh machine and return what it traced."""
    machine = Machine.from_config(MachineConfig.from_options(memory="1G,slots=4,maxmem=16G"))
    start = 0x280000000
    if operation in ("unplug", "online", "offline"):
        plugged(machine, start if operation == "unplug" else 4 * GIB)
    if operation in ("unplug", "offline"):
        block = start // (128 << 20) if operation == "unplug" else 32
        machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
    machine.trace_clear()
    match operation:
        case "plug":
            plugged(machine, start)
        case "unplug":
            assert machine.acpi_eject_request(0) == 0
        case "probe":
            machine.store(f"{MEMORY}/probe", "0x100000000")
        case "online":
            machine.store(f"{MEMORY}/memory32/state", "online_movable")
        case "offline":
            machine.store(f"{MEMORY}/memory32/state", "offline")
        case _:
            machine.allocate("slab", 4096, block=1)
            machine.trace_clear()
            with pytest.raises(OSError, match="unmovable"):
                machine.store(f"{MEMORY}/memory1/state", "offline")
    graph = traced(machine)
    machine.check()
    return graph


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_call_is_misplaced(operation: str) -> None:
    kernel = recorded()[OPERATIONS[operation]]
    ours = run(operation)
    assert ours.calls
    assert misplaced(ours, [kernel], "") == []


def test_most_names_are_there() -> None:
    """Of the (caller, callee) pairs and of the names in the recorded graphs, how many ours has; a
    refused offline left out, as the recorded one was not refused."""
    graphs = recorded()
    names, ours = set(), set()
    for operation, title in OPERATIONS.items():
        if operation == "refused":
            continue
        names |= {(operation, callee) for _, callee in graphs[title].names()}
        ours |= {(operation, callee) for _, callee in run(operation).names()}
    share = len(names & ours) / len(names)
    print(f"call graphs: {len(names & ours)} of {len(names)} names, {share:.0%}")
    assert share >= AT_LEAST
