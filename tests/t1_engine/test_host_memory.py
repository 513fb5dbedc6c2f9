"""A process that has no memory left: an operation fails with MemoryError before it changes anything.

Each case runs in a process of its own, whose address space is limited to a little more than it uses
when the work begins.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

MIB = 1 << 20
# The rest of a program: `work(machine, i)` until there is no memory, then the machine is whole.
PROGRAM = """
import faulthandler, resource, sys
from fakesysfs import Machine, MachineConfig

faulthandler.enable()

def limit(more):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))

def until_there_is_none(machine, work, most, make_room=lambda: None):
    done = 0
    try:
        while done < most:
            work(machine, done)
            done += 1
    except MemoryError:
        pass
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    machine.check()
    make_room()
    work(machine, done)  # and it goes on where it ended
    machine.check()
    return done

config = MachineConfig.from_options(memory=MEMORY, kernel="6.1")
"""


def run(program: str) -> str:
    """What it printed. It must end by itself, with success."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


MIX = """
def mix(machine, i):
    machine.allocate("slab", "4K", block=32 + i)
"""


@pytest.mark.parametrize("more", [130, 200, 400])
def test_more_mixed_sections_than_there_is_address_space_for(more: int) -> None:
    """What is reserved for memmaps is a part of what the process may have."""
    program = PROGRAM.replace("MEMORY", "'60G'") + MIX
    program += f"""
limit({more * MIB})
machine = Machine(config)
print(until_there_is_none(machine, mix, 440, lambda: machine.free("slab", "4K")))
"""
    assert 0 <= int(run(program)) < 440


@pytest.mark.parametrize("more", [0, 1, 3, 5])
def test_operations_that_find_no_memory(more: int) -> None:
    program = PROGRAM.replace("MEMORY", "'16G,slots=4,maxmem=2T'")
    program += f"""
kept = []
machine = Machine(config)
first, size = 256, machine.block_bytes
STEPS = (
    lambda number: machine.add_memory(0, number * size, size),
    lambda number: kept.append(machine.open(f"/sys/devices/system/memory/memory{{number}}/state", 2)),
    lambda number: machine.write(kept[-1], b"online_movable"),
    lambda number: machine.allocate("anon", "8K", block=number),
    lambda number: machine.fault_rule_add(f"read memory{{number}}/online EIO"),
    lambda number: machine.read_text(f"/sys/devices/system/memory/memory{{number}}/valid_zones"),
)

def work(machine, done):
    STEPS[done % len(STEPS)](first + done // len(STEPS))

limit({more * MIB})
print(until_there_is_none(machine, work, 6000))
"""
    assert 0 <= int(run(program)) < 4400


def test_a_machine_that_there_is_no_memory_for() -> None:
    program = PROGRAM.replace("MEMORY", "'64T'")
    program += f"""
limit({40 * MIB})
try:
    Machine(config)
except MemoryError as e:
    print(e)
"""
    assert run(program) == "this process can get no more memory from its host\n"
