"""What a case is, and what cases do and look at.

A case does something on a machine with a flag and on one without it, says what must be seen on either
side, and stands on a kernel profile near the change. Owns no case.
"""

from __future__ import annotations

import ctypes
import errno
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import fakesysfs.config.machine_config
from fakesysfs import Machine, MachineConfig

KERNELS = Path(fakesysfs.config.machine_config.__file__).parent / "kernels"
HEADER = KERNELS.parents[1] / "engine" / "base" / "kernel_features.h"
MEMORY = "/sys/devices/system/memory"
NODE = "/sys/devices/system/node"
PARAMETERS = "/sys/module/memory_hotplug/parameters"
INJECT = "/sys/kernel/debug/notifier-error-inject/memory/actions"
ERRNO = {**errno.errorcode, 133: "EHWPOISON"}
MIB = 1 << 20
GIB = 1 << 30
BLOCK = 128 * MIB
FIRST = 32  # the block at 4 GiB, where nothing is until it is added
PAGES = BLOCK // 4096
PFN = FIRST * PAGES  # its first page


def declared() -> list[str]:
    """Names of all flags, from the C header."""
    body = HEADER.read_text().split("#define FAKESYSFS_FEATURES(X)")[1].split("enum feature")[0]
    return re.findall(r"^ +X\((\w+)\)", body, re.MULTILINE)


def profile(kernel: str) -> dict[str, Any]:
    return tomllib.loads((KERNELS / f"{kernel}.toml").read_text())


@contextmanager
def machine_with(kernel: str, flags: dict[str, bool], **options: Any) -> Iterator[Machine]:
    """A machine of a kernel of which some flags are turned on or off. It is checked at the end."""
    data = profile(kernel)
    on = [flag for flag in data["features"] if flags.get(flag, True)]
    on += [flag for flag, wanted in flags.items() if wanted and flag not in data["features"]]
    with patch(
        "fakesysfs.config.machine_config.load_kernel", lambda name, where: {**data, "features": on}
    ):
        config = MachineConfig.from_options(kernel=kernel, **options)
    with Machine(config) as machine:
        yield machine
        if not any("kernel BUG" in line for line in log(machine)):
            machine.check()


# What the cases do and look at


def outcome(call: Callable[[], object]) -> str:
    """ "ok", or the name of the errno."""
    try:
        call()
    except OSError as e:
        return ERRNO[e.errno or 0]
    return "ok"


def store(machine: Machine, path: str, data: str) -> str:
    return outcome(lambda: machine.store(path, data))


def state(machine: Machine, word: str, block: int = FIRST) -> str:
    return store(machine, f"{MEMORY}/memory{block}/state", word)


def reason(machine: Machine, word: str, block: int) -> str:
    """Why a block did not do it."""
    with pytest.raises(OSError, match=r".") as caught:
        machine.store(f"{MEMORY}/memory{block}/state", word)
    return caught.value.strerror or ""


def add(machine: Machine, blocks: int = 1, first: int = FIRST, node: int = 0) -> None:
    machine.add_memory(node, first * machine.block_bytes, blocks * machine.block_bytes)


def online(machine: Machine, word: str = "online_movable", block: int = FIRST) -> None:
    """Add a block and bring it up."""
    add(machine, first=block)
    machine.store(f"{MEMORY}/memory{block}/state", word)


def log(machine: Machine, start: int = 0) -> list[str]:
    return [line for _, line in machine.dmesg(start)]


def new_lines(machine: Machine, call: Callable[[], object], pattern: str = "") -> list[str]:
    """What a call adds to the kernel log, as far as the pattern is found in it."""
    start = len(machine.dmesg())
    outcome(call)
    return [line for line in log(machine, start) if re.search(pattern, line)]


def calls(machine: Machine, call: Callable[[], object]) -> list[str]:
    """Names of the kernel's functions that a call runs through, in order."""
    machine.trace_clear()
    outcome(call)
    return re.findall(r"(\w+)\(\)", machine.trace())


def state_calls(machine: Machine, word: str, block: int = FIRST) -> list[str]:
    return calls(machine, lambda: state(machine, word, block))


def uevents(machine: Machine, call: Callable[[], object]) -> list[str]:
    seen = machine.events()
    outcome(call)
    return [
        e.payload[0].replace("/devices/system/", "")
        for e in machine.events()
        if e not in seen and e.payload
    ]


def number(machine: Machine, path: str, name: str) -> int:
    """The number behind a name in a file."""
    found = re.search(rf"\b{re.escape(name)}:? +(\d+)", machine.read_text(path))
    assert found, name
    return int(found[1])


def zone(machine: Machine, name: str, node: int = 0) -> str:
    """The part of /proc/zoneinfo about one zone."""
    parts = re.split(r"(?=^Node \d)", machine.read_text("/proc/zoneinfo"), flags=re.MULTILINE)
    return next(part for part in parts if re.match(rf"Node {node}, zone +{name}\n", part))


def zone_number(machine: Machine, name: str, what: str) -> int:
    found = re.search(rf"^ +{what}:? +(\d+)$", zone(machine, name), re.MULTILINE)
    assert found, what
    return int(found[1])


def min_free_kbytes(machine: Machine) -> int:
    return 4 * sum(
        map(int, re.findall(r"^ +min +(\d+)$", machine.read_text("/proc/zoneinfo"), re.MULTILINE))
    )


def while_going_offline(
    machine: Machine, look: Callable[[], object], block: int = FIRST, asked: int = 1
) -> object:
    """What `look` sees in the midst of an offline, which then ends like by a signal.

    :param asked: how often the kernel may ask for signals before.
    """
    seen: list[object] = []

    def signal_pending() -> int:
        nonlocal asked
        asked -= 1
        if asked == 0:
            seen.append(look())
        return int(asked <= 0)

    function = ctypes.CFUNCTYPE(ctypes.c_int)(signal_pending)
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    handle = machine.open(f"{MEMORY}/memory{block}/state", 1)
    assert outcome(lambda: machine.write(handle, b"offline", address)) == "EINTR"
    machine.release(handle)
    (what,) = seen
    return what


# The cases

Look = Callable[[Machine], object]


@dataclass(frozen=True)
class Case:
    """What is to be seen with the flag, and without it.

    :param kernel: the profile in which the flag is switched.
    :param also: flags that must be on or off besides, for this one to matter.
    :param options: of the machine.
    """

    look: Look
    on: object
    off: object
    kernel: str = "6.1"
    also: dict[str, bool] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {}


def case(
    flag: str, on: object, off: object, kernel: str = "6.1", **options: Any
) -> Callable[[Look], Look]:
    """Make the function below the case of a flag. `also=` is taken out of the options."""

    def register(look: Look) -> Look:
        assert flag not in CASES
        CASES[flag] = Case(look, on, off, kernel, options.pop("also", {}), options)
        return look

    return register


def lines(flag: str, path: str, *on: str, off: tuple[str, ...] = (), **options: Any) -> None:
    """The flag brings lines whose names are `on` into a file, and takes those out whose names are
    `off`.
    """

    def look(machine: Machine) -> object:
        text = machine.read_text(path)
        names = re.findall(r"^ *(?:Node \d )?([\w()]+)", text, re.MULTILINE)
        return {*on, *off} & set(names)

    case(flag, set(on), set(off), **options)(look)


def files(flag: str, path: str, **options: Any) -> None:
    """The flag brings a file."""
    case(flag, "ok", "ENOENT", **options)(lambda machine: outcome(lambda: machine.stat(path)))
