"""Odd arguments to every method of Engine: an answer or an error at once, and a machine that is whole.

A machine is small and each of its methods is called with numbers that are 0, not aligned, too large,
or wrap around when they are added. Whatever the answer, check() holds after each call.
"""

from __future__ import annotations

import errno
import faulthandler
import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs.binding._engine import Engine

STATE = "/sys/devices/system/memory/memory32/state"
HANG_SECONDS = 60.0  # a call that takes so long ends the tests, and says where
BLOCK = 128 << 20
TOP = (1 << 64) - BLOCK

ADDRESSES = (
    0,
    1,
    65536,
    BLOCK,
    (4 << 30) - BLOCK,
    4 << 30,
    9 << 30,
    1 << 46,
    1 << 62,
    TOP,
    2**64 - 1,
)
SIZES = (0, 1, 4096, BLOCK, BLOCK + 4096, 1 << 30, 1 << 46, 1 << 62, TOP, 2**64 - 1)
NODES = (-2, -1, 0, 1, 63, 64, 1 << 30)
SLOTS = (0, 1, 31, 255, 256, 2**32 - 1)
PFNS = (0, 1, 1 << 15, (4 << 30) >> 12, 1 << 40, 2**52, 2**64 - 1)
NUMBERS = (0, 1, 2, 1 << 31, 2**32 - 1)
HANDLES = (-(2**63), -1, 0, 1, 10**6, 2**63 - 1)

ODD: dict[str, Sequence[Sequence[Any]]] = {
    "add_memory": (NODES, ADDRESSES, SIZES),
    "remove_memory": (ADDRESSES, SIZES),
    "acpi_device_check": (SLOTS, (-1, 0, 64), ADDRESSES, SIZES),
    "acpi_eject_request": (SLOTS,),
    "virtio_mem_probe": ((-1, 0, 64), ADDRESSES, SIZES, (0, 3, 4096, 2 << 20, BLOCK, 1 << 63)),
    "virtio_mem_request": (NUMBERS, SIZES, SIZES),
    "virtio_mem_work": (NUMBERS,),
    "virtio_mem_size": (NUMBERS,),
    "allocate_pages": (
        ("anon", "slab", "hugetlb", "free", ""),
        (0, 513, 1 << 30, 2**64 - 1),
        (-1, 0, 11, 2**31 - 1),
        (None, "Movable", "nowhere"),
        (-1, 5),
        (-1, 32, 2**63 - 1),
    ),
    "free_pages": (("anon", "slab", "", "x"), (0, 1, 2**40, 2**64 - 1), (-2, -1, 0, 5, 2**31 - 1)),
    "pin": (PFNS, (-(2**31), -1, 0, 1, 2**31 - 1)),
    "free_page": (PFNS,),
    "page": (PFNS,),
    "klog": ((0, 1, 2**64 - 1),),
    "trace": ((0, 1, 2**64 - 1), (0, 1, 2**64 - 1), (False, True)),
    "trace_name": ((0, 1, 2**64 - 1), ("", "x", "\n")),
    "fault_set": (("migrate/move", "", "x"), (0, 1, 4095), (0, 1, 2**64 - 1), (0, 1, 2**64 - 1)),
    "fault_hits": (("migrate/move", "", "x"),),
    "fault_rule_clear": ((0, 1, 2**64 - 1),),
    "fstat": (HANDLES,),
    "read": (HANDLES, (-(2**31), -1, 0, 1, 1 << 20), (0, 1, 2**64 - 1)),
    "write": (HANDLES, (b"", b"online", b"\0" * 5000)),
    "release": (HANDLES,),
    "poll": (HANDLES,),
    "await_stores": (HANDLES,),
    **dict.fromkeys(("stat", "readlink", "readdir"), (("", "/", "x", "/x" * 3000, STATE, "//."),)),
    "open": (("", "/", STATE, "/x" * 3000), (0, 1, 2, 3, os.O_DIRECT, 0x7FFFFFFF)),
    "truncate": (("/", STATE), (0, 2**31, 2**64 - 1)),
    "chmod": (("/", STATE), (0, 0o777, 2**32 - 1)),
    "chown": (("/", STATE), (-1, 0, 2**32 - 1), (-1, 0)),
    "utimens": (("/", STATE), (-(2**63), 0, 2**63 - 1)),
    "change": (("mkdir", "unlink", "", "x"), ("/", STATE, "/x/y")),
    "add_file": (("", "x", "/", "/sys/x", f"{STATE}/x", "/x" * 3000), (b"", b"x"), (0, 2**32 - 1)),
}
# Without arguments, or of other tests: a mount, the end.
OTHERS = {
    "blocks", "check", "close", "fault_clear", "fault_points", "fuse_ops", "reboot", "rules_text", "rule_add",
    "take_events", "trace_clear", "trace_end", "trace_unnamed",
    "unplug_fault",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG_SECONDS * 5, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def make(kernel: str) -> Machine:
    machine = Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G", kernel=kernel))
    machine.add_memory(0, 4 << 30, BLOCK)
    return machine


def answer(call: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """What a call said: the name of an errno, or "" when it succeeded."""
    try:
        call(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno or 0]
    except ValueError:
        return "ValueError"
    return ""


def test_every_method_is_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Engine, callable) if name[0] != "_"}
    assert methods == ODD.keys() | OTHERS


@pytest.mark.parametrize("kernel", ["5.0", "6.1"])
@pytest.mark.parametrize("method", ODD)
def test_odd_arguments(kernel: str, method: str) -> None:
    odd = ODD[method]
    if (kernel, method) == ("5.0", "remove_memory"):  # that kernel dies of removing online memory
        odd = ([address for address in ADDRESSES if address >= 4 << 30], SIZES)
    with make(kernel) as machine:
        for number, arguments in enumerate(itertools.product(*odd)):
            said = answer(getattr(Engine, method), [machine, *arguments])
            try:
                machine.check()
            except AssertionError as e:
                pytest.fail(f"{method}{arguments}: {said}; then {e}", pytrace=False)
            if number % 16 == 15:
                machine.take_events()
