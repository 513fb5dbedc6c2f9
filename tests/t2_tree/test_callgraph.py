"""The trace against what the function_graph tracer saw on real kernels
(tests/recordings/callgraphs-*.txt).

A name may be missing: what the recorded machine did and this one did not. No name may stand where
the kernel's graph has none: under another parent, or in another order among its siblings. Repeats
are folded on both sides, as in the recordings.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs.cli.trace_view import operations, stacks
from fakesysfs.config.profiles import load_callgraphs

RECORDINGS = Path(__file__).parents[1] / "recordings"
MEMORY = "/sys/devices/system/memory"
GIB = 1 << 30
TRACED_LEVELS = 14  # what was called deeper is in no recording
MARK = "/* not simulated */"
# of the recorded names: how many appear, and how many the engine ran
AT_LEAST = {"5.10": (0.9, 0.2), "6.1": (0.9, 0.2), "7.3": (0.9, 0.2)}


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


def recorded(kernel: str) -> dict[str, Call]:
    """Name of each operation -> its graph."""
    graphs: dict[str, list[tuple[int, str]]] = {}
    for line in (RECORDINGS / f"callgraphs-{kernel}.txt").read_text().splitlines():
        if line.startswith("# "):
            lines = graphs.setdefault(operation_of(line), [])
        elif line.strip():
            lines.append(((len(line) - len(line.lstrip())) // 2, line.strip()))
    return {title: folded(tree(lines)) for title, lines in graphs.items()}


def operation_of(title: str) -> str:
    """Which of OPERATIONS the title of a recorded graph means."""
    return next(name for name, word in OPERATIONS.items() if re.search(word, title))


def traced(text: str, own: bool = False) -> Call:
    """A trace; own: without what is marked."""
    lines = []
    for line in text.splitlines():
        found = re.match(r".*\|  ( *)(\w+)\(\)", line)
        if found and not (own and MARK in line):
            lines.append((len(found[1]) // 2, found[2]))
    return folded(tree(lines))


def misplaced(ours: Call, kernel: list[Call], path: str) -> list[str]:
    """Calls of ours that the kernel's graph does not have in that place. `kernel`: all its calls of
    this name.
    """
    if path.count("/") >= TRACED_LEVELS - 1:
        return []  # the functions between may not be recorded
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


OPERATIONS = {
    "plug": "device_add",
    "unplug": "device_del",
    "probe": "/probe",
    "online": "echo online",
    "refused": "memory1/state",
    "offline": "echo offline",
}
# No kernel but 6.1 with the file `probe` was recorded. The offline that was to be refused was not
# refused on 5.10 and 6.1; on 5.10 a refusal does what no recorded graph has.
CASES = [
    (kernel, operation)
    for kernel in AT_LEAST
    for operation in OPERATIONS
    if kernel == "6.1" or operation != "probe"
    if kernel != "5.10" or operation != "refused"
]


def machine_of(kernel: str) -> Machine:
    return Machine.from_config(
        MachineConfig.from_options(memory="1G,slots=4,maxmem=16G", kernel=kernel)
    )


def run(kernel: str, operation: str) -> str:
    """Do one operation on a fresh machine and return what it traced."""
    machine = machine_of(kernel)
    start = 0x280000000
    block = start // (128 << 20) if operation == "unplug" else 32
    if operation in ("unplug", "online", "offline"):
        machine.acpi_device_check(0, 0, block * (128 << 20), GIB)
    if operation in ("unplug", "offline"):
        machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
    machine.trace_clear()
    match operation:
        case "plug":
            machine.acpi_device_check(0, 0, start, GIB)
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
    text = machine.trace()
    machine.check()
    return text


@pytest.mark.parametrize(("kernel", "operation"), CASES)
def test_no_call_is_misplaced(kernel: str, operation: str) -> None:
    ours = traced(run(kernel, operation))
    assert ours.calls
    assert misplaced(ours, [recorded(kernel)[operation]], "") == []


@pytest.mark.parametrize("kernel", AT_LEAST)
def test_most_names_are_there(kernel: str) -> None:
    """Of the names in the recorded graphs, how many ours has, and how many of them the engine ran;
    a refused offline left out, as the one recorded on 5.10 and 6.1 was not refused."""
    graphs = recorded(kernel)
    names, ours, ran = set(), set(), set()
    for operation in [o for k, o in CASES if k == kernel and o != "refused"]:
        text = run(kernel, operation)
        names |= {(operation, name) for _, name in graphs[operation].names()}
        ours |= {(operation, name) for _, name in traced(text).names()}
        ran |= {
            (operation, match[1])
            for line in text.splitlines()
            if MARK not in line and (match := re.search(r"\|  +(\w+)\(\)", line))
        }
    there, own = len(names & ours) / len(names), len(names & ran) / len(names)
    print(
        f"call graphs of {kernel}: {len(names & ours)} of {len(names)} names, {there:.0%};"
        f" the engine ran {len(names & ran)}, {own:.0%}"
    )
    assert (there, own) >= AT_LEAST[kernel]
    assert own >= AT_LEAST[kernel][1]


def test_own_leaves_out_what_is_marked() -> None:
    machine = machine_of("6.1")
    machine.acpi_device_check(0, 0, 4 * GIB, GIB)
    machine.trace_clear()
    machine.store(f"{MEMORY}/memory32/state", "online")
    everything = machine.trace()
    own = machine.trace(0, machine.trace_end(), True)
    assert MARK in everything
    assert MARK not in own
    marked = [line for line in everything.splitlines() if MARK in line]
    ran = re.findall(r"(\w+)\(\)", own)
    assert ran == [
        name
        for line in everything.splitlines()
        if line not in marked
        for name in re.findall(r"(\w+)\(\)", line)
    ]


def test_a_function_that_did_not_run_is_not_there() -> None:
    """The second block of a zone needs no new zonelists; a refused offline ends where it was
    refused."""
    machine = machine_of("6.1")
    machine.acpi_device_check(0, 0, 4 * GIB, GIB)
    machine.store(f"{MEMORY}/memory32/state", "online")
    assert "build_all_zonelists()" in machine.trace()
    machine.trace_clear()
    machine.store(f"{MEMORY}/memory33/state", "online")
    assert "online_pages()" in machine.trace()
    assert "build_all_zonelists()" not in machine.trace()
    refused = run("6.1", "refused")
    assert "-> -16\n" in refused
    assert "start_isolate_page_range()" in refused
    assert "adjust_managed_page_count()" not in refused


def test_durations_are_of_the_machines_clock() -> None:
    """A function lasts as long as the events and log lines in it."""
    machine = machine_of("6.1")
    machine.acpi_device_check(0, 0, 4 * GIB, GIB)
    seen = len(machine.events())
    lines = len(machine.dmesg())
    machine.trace_clear()
    machine.store(f"{MEMORY}/memory32/state", "online")
    # the event of the write itself is recorded after state_store()
    passed = len(machine.events()) - seen - 1 + len(machine.dmesg()) - lines
    found = re.search(r" 0\) +(\d+) us    \|  \}$", machine.trace(), re.MULTILINE)
    assert found
    assert int(found[1]) == passed


def test_the_stacks_of_5_0() -> None:
    """Name for name, nested so; other functions may stand between."""
    machine = machine_of("5.0")
    machine.acpi_device_check(0, 0, 0x100000000, GIB)
    machine.store(f"{MEMORY}/memory33/state", "online")
    wanted: list[list[str]] = []
    for line in (RECORDINGS / "callgraphs-5.0.txt").read_text().splitlines():
        if line.startswith(("# (", "# echo")):
            wanted.append([])
        elif line and not line.startswith("#"):
            wanted[-1].append(line.strip())
    wanted[1] = [n for n in wanted[1] if n not in ("ClearPageReserved", "init_page_count")]
    for names in wanted:
        found = [s for o in operations(machine.trace()) for s in stacks(o, names[-1])]
        assert len(found) == 1, names[-1]
        led = [name.partition("(")[0] for name in reversed(found[0])]
        rest = iter(led)
        assert all(name in rest for name in names), (names, led)
    text = machine.trace()
    assert [text.count(f" {n}()") for n in ("ClearPageReserved", "init_page_count")] == [1, 1]


def test_the_data_is_made_from_the_recordings() -> None:
    script = runpy.run_path(str(RECORDINGS / "callgraphs.py"))
    for version in script["RENAMED"]:
        data = script["DATA"] / f"{version}.txt"
        assert data.read_text() == script["compact"](version), "run tests/recordings/callgraphs.py"


@pytest.mark.parametrize(
    ("kernel", "recorded"),
    [("5.0", "5.0"), ("5.14", "5.10"), ("6.1", "6.1"), ("6.12", "6.1"), ("7.1", "7.3")],
)
def test_call_graphs_are_those_of_the_nearest_kernel(kernel: str, recorded: str) -> None:
    assert load_callgraphs(kernel).startswith(f"# Call graphs of Linux {recorded}, ")
    assert load_callgraphs(kernel) == load_callgraphs(recorded)
