"""How fast a machine is on this host, and how much memory it takes: `fakesysfs bench`.

Owns: what is measured through the Python interface and by a `run`, and what each figure is compared
with. Does not own: the engine's own figures, which a benchmark in the source tree takes without
Python; printing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..config.machine_config import MachineConfig
from ..machine import Machine

ROUNDS = 101
RUNS = 5
GIB = 1 << 30
COPY_BYTES = 2 << 20
READER = """\
import os, sys, time
def once(path):
    begin = time.perf_counter_ns()
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)
    return time.perf_counter_ns() - begin
times = [[once(path) for path in sys.argv[1:]] for _ in range(1001)]
print(*(sorted(column)[500] for column in zip(*times)))
"""


class Figure(NamedTuple):
    """One line of the benchmark.

    :param what: what was measured.
    :param value: how long it took or how much it is, with its unit: the median of many.
    :param against: what it is to be compared with, from the same run; empty when nothing.
    """

    what: str
    value: str
    against: str = ""


def measure(config: MachineConfig) -> Iterator[Figure]:
    """Make such a machine and time what it does, one figure after the other.

    :raises ConfigError: when there can be no such machine.
    """
    copy = _duration(_copy_ns())
    before = _resident_bytes()
    begin = time.perf_counter_ns()
    with Machine(config) as machine:
        yield Figure("make the machine", _duration(time.perf_counter_ns() - begin))
        yield Figure("its memory here", f"{(_resident_bytes() - before) / (1 << 20):.1f} MiB")
        times = _hotplug(machine)
        size = f"{machine.block_bytes >> 20} MiB"
        for what, ns in times.items():
            yield Figure(f"{what} {size}", _duration(median(ns)), f"copy 2 MiB: {copy}")
        full = _offline_full(machine)
        if full:
            yield Figure("offline a block full of 4 KiB pages, per page", _duration(full))
        path = "/sys/devices/system/memory/block_size_bytes"
        yield Figure(
            "read a file, in this process", _duration(_median(lambda: machine.read_bytes(path)))
        )
    yield from _run()


def _behind(machine: Machine) -> int:
    """An address behind all memory there is, where a block can be added."""
    size = machine.block_bytes
    return max(4 * GIB, *(-(-end // size) * size for _, end, _ in machine.config.ram))


def _hotplug(machine: Machine) -> dict[str, list[int]]:
    """Nanoseconds of each step of a block's life."""
    size, base = machine.block_bytes, _behind(machine)
    state = f"/sys/devices/system/memory/memory{base // size}/state"
    steps: dict[str, Callable[[], object]] = {
        "add": lambda: machine.add_memory(0, base, size),
        "online": lambda: machine.store(state, "online_movable"),
        "offline": lambda: machine.store(state, "offline"),
        "remove": lambda: machine.remove_memory(base, size),
    }
    times: dict[str, list[int]] = {what: [] for what in steps}
    for _ in range(ROUNDS):
        for what, step in steps.items():
            times[what].append(_ns(step))
    return times


def _offline_full(machine: Machine) -> float:
    """Nanoseconds per page; 0 when its pages have nowhere to go."""
    size, base = machine.block_bytes, _behind(machine)
    state = f"/sys/devices/system/memory/memory{base // size}/state"
    try:
        machine.add_memory(0, base, size)
        machine.store(state, "online_movable")
        machine.allocate("anon", size, block=base // size, order=0)
        return _ns(lambda: machine.store(state, "offline")) / (size >> machine.config.page_shift)
    except OSError:
        return 0


def _run() -> Iterator[Figure]:
    """`fakesysfs run`, and a file read through its mount."""
    command = [sys.executable, "-P", "-m", "fakesysfs", "run", "--"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    state, real = "/sys/devices/system/memory/memory0/state", "/sys/devices/system/cpu/online"
    try:
        times = [
            _ns(
                lambda: subprocess.run(
                    [*command, "true"], check=True, capture_output=True, env=environment
                )
            )
            for _ in range(RUNS)
        ]
        python = [
            _ns(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(RUNS)
        ]
        reader = [*command, sys.executable, "-I", "-S", "-c", READER, state, real]
        read = subprocess.run(
            reader, check=True, capture_output=True, text=True, env=environment
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        yield Figure("fakesysfs run", "does not work here: see `fakesysfs doctor`")
        return
    yield Figure(
        "fakesysfs run -- true",
        _duration(median(times)),
        f"python -c '': {_duration(median(python))}",
    )
    mounted, direct = map(int, read)
    yield Figure(
        "open, read, close `state` in a run",
        _duration(mounted),
        f"a real file of /sys: {_duration(direct)}",
    )


def _ns(step: Callable[[], object]) -> int:
    begin = time.perf_counter_ns()
    step()
    return time.perf_counter_ns() - begin


def _median(step: Callable[[], object]) -> float:
    return median(_ns(step) for _ in range(ROUNDS))


def _copy_ns() -> float:
    source, target = bytes(COPY_BYTES), bytearray(b"\1" * COPY_BYTES)

    def copy() -> None:
        target[:] = source

    return _median(copy)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _duration(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 100 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"
