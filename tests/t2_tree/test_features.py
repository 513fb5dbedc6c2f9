"""Every feature flag, seen from outside: two machines that differ in one flag, and what each of
them does.

The list of flags is the engine's own, so one that is added fails here until somebody shows what it
is good for. Each case does something on a machine with the flag and on one without it, says what
must be seen on either side, and stands on a kernel profile near the change. Which profile has which
flag is checked against the dates in kernels/features.toml.
"""

from __future__ import annotations

import ctypes
import errno
import re
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import fakesysfs.config.machine_config
from fakesysfs import Machine, MachineConfig
from fakesysfs.config.profiles import list_kernels

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


# Words and parsers


@case("auto_online_four_words", ["ok", "online_kernel\n"], ["EINVAL", "offline\n"])
def _(machine: Machine) -> object:
    path = f"{MEMORY}/auto_online_blocks"
    return [store(machine, path, "online_kernel"), machine.read_text(path)]


@case("state_parse_first", ["state_store", "mhp_online_type_from_str"],
      ["state_store", "lock_device_hotplug_sysfs", "unlock_device_hotplug"])  # fmt: skip
def _(machine: Machine) -> object:
    return calls(machine, lambda: state(machine, "bogus", 7))


@case("kstrtobool_true_false", ["ok", "ok"], ["EINVAL", "EINVAL"])
def _(machine: Machine) -> object:
    online(machine)
    return [store(machine, f"{MEMORY}/memory{FIRST}/online", word) for word in ("false", "true")]


@case("kstrtobool_enable_disable", ["ok", "ok"], ["EINVAL", "EINVAL"])
def _(machine: Machine) -> object:
    online(machine)
    return [
        store(machine, f"{MEMORY}/memory{FIRST}/online", word) for word in ("disable", "enable")
    ]


@case("inject_signed", "ok", "EINVAL")
def _(machine: Machine) -> object:
    return store(machine, f"{INJECT}/MEM_GOING_ONLINE/error", "-12")


# What a block says of itself


@case("removable_const", "1\n", "0\n")
def _(machine: Machine) -> object:
    online(machine, "online_kernel")
    machine.allocate("slab", 4096, block=FIRST)
    return machine.read_text(f"{MEMORY}/memory{FIRST}/removable")


@case(
    "valid_zones_cached",
    ["DMA32\n", "DMA32\n", "none\n"],
    ["none\n", "DMA32\n", "none\n"],
    append="mem=1000M",
)
def _(machine: Machine) -> object:
    """RAM ends within the last block; in the first one zones meet."""
    return [machine.read_text(f"{MEMORY}/memory{block}/valid_zones") for block in (7, 6, 0)]


@case("uevent_show_lock", "waits", "reads")
def _(machine: Machine) -> object:
    online(machine)
    readers = []

    def read() -> object:
        readers.append(
            threading.Thread(target=machine.read_text, args=(f"{MEMORY}/memory{FIRST}/uevent",))
        )
        readers[0].start()
        readers[0].join(0.3)
        return "waits" if readers[0].is_alive() else "reads"

    seen = while_going_offline(machine, read)
    readers[0].join(30)
    assert not readers[0].is_alive()
    return seen


@case("uevent_store_status", [": -22"], [""])
def _(machine: Machine) -> object:
    said = new_lines(
        machine, lambda: store(machine, f"{MEMORY}/memory7/uevent", "bogus"), "failed to send"
    )
    return [
        line.removeprefix("memory memory7: uevent: failed to send synthetic uevent")
        for line in said
    ]


# Onlining


@case("pages_correctly_probed", True, False, kernel="5.4")
def _(machine: Machine) -> object:
    add(machine)
    return "pages_correctly_probed" in calls(machine, lambda: state(machine, "online"))


@case("online_poisoned_ehwpoison", "EHWPOISON", "ok", kernel="6.6")
def _(machine: Machine) -> object:
    online(machine)
    machine.store(f"{MEMORY}/hard_offline_page", hex(FIRST * BLOCK))
    assert state(machine, "offline") == "ok"
    return state(machine, "online")


@case(
    "online_order0",
    [[131072, 131072 - 4 * 36], 36, 32 + 31],
    [[131072, 131072], 0, 64],
    kernel="5.4",
)
def _(machine: Machine) -> object:
    """In a new zone a CPU keeps no pages; later it keeps up to six batches, here of 7 pages: 42,
    less what went back.
    """
    free = [number(machine, "/proc/meminfo", "MemFree")]
    add(machine, 2)
    free[0] = number(machine, "/proc/meminfo", "MemFree")
    for block in (FIRST, FIRST + 1):
        state(machine, "online_movable", block)
        free.append(number(machine, "/proc/meminfo", "MemFree"))
    largest = int(machine.read_text("/proc/buddyinfo").splitlines()[-1].split()[-1])
    kept = zone_number(machine, "Movable", "count")
    machine.check()
    assert state(machine, "offline", FIRST + 1) == "ok"  # what is kept is fetched back
    return [[after - before for before, after in pairwise(free)], kept, largest]


@case("online_isolated", True, False)
def _(machine: Machine) -> object:
    add(machine)
    return "undo_isolate_page_range" in calls(machine, lambda: state(machine, "online"))


@case("fresh_at_tail", PFN, PFN + 2 * PAGES - 1024, kernel="5.4")
def _(machine: Machine) -> object:
    """Of two blocks, the page that is used first: of the first chunk of the first, or of the last
    chunk of the last.
    """
    online(machine)
    online(machine, block=FIRST + 1)
    machine.allocate("anon", 4096, zone="Movable")
    pages = range(PFN, PFN + 2 * PAGES, 1024)
    return next(pfn for pfn in pages if machine.page(pfn)["kind"] == "anon")


@case("pageoffline_init", "offline", "reserved")
def _(machine: Machine) -> object:
    """What pages are that wait for their onlining, which is refused in the last moment."""
    add(machine)
    machine.store(f"{INJECT}/MEM_GOING_ONLINE/error", "-12")
    assert state(machine, "online") == "ENOMEM"
    return machine.page(PFN)["kind"]


@case("online_refusal_shrinks_span", 0, PAGES)
def _(machine: Machine) -> object:
    add(machine)
    machine.store(f"{INJECT}/MEM_GOING_ONLINE/error", "-12")
    assert state(machine, "online_movable") == "ENOMEM"
    return zone_number(machine, "Movable", "spanned")


@case("prepare_online_notifier", [2, 2], [1, 1])
def _(machine: Machine) -> object:
    add(machine)
    return [
        state_calls(machine, word).count("memory_notify") for word in ("online_movable", "offline")
    ]


@case("node_notifier", [2, 2], [0, 0], nodes=["memory=1G,cpus=0", "memory=0"])
def _(machine: Machine) -> object:
    add(machine, node=1)
    return [
        state_calls(machine, word).count("node_notify") for word in ("online_movable", "offline")
    ]


@case("normal_memory_mask", "0-1\n", "0\n", nodes=["memory=1G,cpus=0", "memory=0"])
def _(machine: Machine) -> object:
    add(machine, node=1)
    assert state(machine, "online_kernel") == "ok"
    return machine.read_text(f"{NODE}/has_normal_memory")


# Offlining

HOLES = {"memory": "4G", "workload": "anon=16M"}


@case(
    "offline_holes_einval", ["EINVAL", []], ["ok", ["Offlined Pages 32736"]], kernel="5.4", **HOLES
)
def _(machine: Machine) -> object:
    """The firmware keeps the end of the RAM below 2 GiB. What goes offline without it comes back
    without it.
    """
    present = zone_number(machine, "DMA32", "present")
    said = new_lines(machine, lambda: state(machine, "offline", 15), "Offlined")
    seen = machine.read_text(f"{MEMORY}/memory15/state")
    machine.check()
    if seen == "offline\n":
        assert zone_number(machine, "DMA32", "present") == present - 32736
        assert state(machine, "online", 15) == "ok"
    assert zone_number(machine, "DMA32", "present") == present
    return ["ok" if seen == "offline\n" else state(machine, "offline", 15), said]


@case("section_count_check", "memory15 lacks 15 sections", "memory holes",
      arch="ppc64le", memory="4G", append="mem=3856M")  # fmt: skip
def _(machine: Machine) -> object:
    return reason(machine, "offline", 15)


@case("span_shrink_at_offline", [2 * PAGES, PAGES, PAGES], [2 * PAGES, 2 * PAGES, PAGES])
def _(machine: Machine) -> object:
    online(machine)
    online(machine, block=FIRST + 1)
    spans = [zone_number(machine, "Movable", "spanned")]
    state(machine, "offline", FIRST + 1)
    spans.append(zone_number(machine, "Movable", "spanned"))
    machine.remove_memory((FIRST + 1) * BLOCK, BLOCK)
    return [*spans, zone_number(machine, "Movable", "spanned")]


@case("cancel_offline_always", ["EBUSY", 1, "EINVAL", 1], ["EBUSY", 0, "EINVAL", 0], kernel="5.4")
def _(machine: Machine) -> object:
    """A page in the way, and a block in which zones meet."""
    online(machine, "online_kernel")
    machine.allocate("slab", 4096, block=FIRST)
    seen: list[object] = []
    for block in (FIRST, 0):
        seen.append(state(machine, "offline", block))
        seen.append(state_calls(machine, "offline", block).count("memory_notify"))
    return seen


@case("pcp_disabled_offline", [(0, 1), False], [(42, 7), True], kernel="5.10")
def _(machine: Machine) -> object:
    """The lists of CPUs while a block goes offline: how long they may be, and whether each pass
    empties them.
    """
    online(machine)

    def look() -> object:
        return tuple(zone_number(machine, "Movable", name) for name in ("high:", "batch"))

    before = look()
    seen = while_going_offline(machine, look)
    assert before == look() == (42, 7)
    return [seen, "drain_all_pages" in calls(machine, lambda: state(machine, "offline"))]


@case("isolate_bit", 0, 3)
def _(machine: Machine) -> object:
    """How many pageblocks of the kernel become Movable by an offline that fails."""
    online(machine, "online_kernel")
    machine.allocate("slab", 8 * MIB, zone="Normal")
    for pfn in range(PFN, PFN + 4 * 512):
        if machine.page(pfn)["kind"] not in ("free", "inside") and pfn < PFN + 3 * 512:
            machine.free_page(pfn)

    def unmovable() -> int:
        text = machine.read_text("/proc/pagetypeinfo").split("Number of blocks")[1]
        return int(next(line for line in text.splitlines() if "Normal" in line).split()[4])

    before = unmovable()
    assert state(machine, "offline") == "EBUSY"
    return before - unmovable()


@case("isolate_first_last", PFN + PAGES - 1, PFN + 1000)
def _(machine: Machine) -> object:
    """Of two pages in the way, in the second pageblock and in the last one, which is found."""
    online(machine, "online_kernel")
    machine.allocate("slab", BLOCK // 2, zone="Normal")
    machine.allocate("slab", machine.blocks()[-1].free_pages * 4096, block=FIRST)
    for pfn in range(PFN, PFN + PAGES):
        if pfn not in (PFN + 1000, PFN + PAGES - 1) and machine.page(pfn)["kind"] != "free":
            machine.free_page(pfn)
    said = new_lines(machine, lambda: state(machine, "offline"), "pfn:")
    return int(said[0].split("pfn:")[1], 16)


@case("pageoffline_skipped", ["EBUSY", []], ["EBUSY", ["page dumped because: unmovable page"]])
def _(machine: Machine) -> object:
    """With it a balloon's pages are in the way only later, where nothing is said of them."""
    online(machine)
    machine.allocate("offline", 4096, block=FIRST)
    said = new_lines(machine, lambda: state(machine, "offline"), "dumped")
    return [state(machine, "offline"), said]


@case("offlined_pages_info", ["Offlined Pages 32768"], [])
def _(machine: Machine) -> object:
    online(machine)
    return new_lines(machine, lambda: state(machine, "offline"), "Offlined")


@case("migrate_newline", "migrating pfn 100000 failed ret:1", "migrating pfn 100000 failed ret:1 ")
def _(machine: Machine) -> object:
    online(machine)
    machine.allocate("anon", 4096, block=FIRST)
    machine.pin(PFN)
    while_going_offline(machine, lambda: None, asked=2)
    return next(line for line in log(machine) if "migrating" in line)


@case("migrate_ratelimit", 10, 20)
def _(machine: Machine) -> object:
    """The engine ends it at twenty where the kernel never would."""
    online(machine)
    machine.allocate("anon", 30 * 4096, block=FIRST)
    for pfn in range(PFN, PFN + 30):
        machine.pin(pfn)
    while_going_offline(machine, lambda: None, asked=2)
    return sum("migrating" in line for line in log(machine))


@case("fallback_order_line", ["Fallback order for Node 0: 0 "], [])
def _(machine: Machine) -> object:
    add(machine)
    return new_lines(machine, lambda: state(machine, "online"), "Fallback")


@case(
    "fallback_skips_memoryless", ["Fallback order for Node 1: 0 "], ["Fallback order for Node 1: 1 0 "],
    nodes=["memory=1G,cpus=0", "memory=0"],
)  # fmt: skip
def _(machine: Machine) -> object:
    return new_lines(machine, lambda: add(machine, node=1), "Fallback")


@case(
    "demotion_targets_line", [f"Demotion targets for Node {n}: null" for n in (0, 1, 0)], [],
    nodes=["memory=1G,cpus=0", "memory=0"],
)  # fmt: skip
def _(machine: Machine) -> object:
    """The node gets its first memory, and loses its last."""
    add(machine, node=1)
    return new_lines(
        machine,
        lambda: [state(machine, word) for word in ("online_movable", "offline")],
        "Demotion",
    )


# What is said about a page in the way


def dump(machine: Machine, kind: str = "slab") -> list[str]:
    """What is said of the first page of memory33; memory32 has pages of the kernel's own."""
    online(machine, "online_kernel")
    online(machine, "online_kernel", FIRST + 1)
    machine.allocate(kind, 4096, block=FIRST + 1)
    said = new_lines(machine, lambda: state(machine, "offline", FIRST + 1))
    assert said[-1] == "page dumped because: unmovable page"
    return said


PLAIN = "mapcount:0 mapping:0000000000000000 index:0x0"


@case("dump_refcount", f"page:ffffea0004200000 refcount:1 {PLAIN}", f"page:ffffea0004200000 count:1 {PLAIN}",
      kernel="5.4")  # fmt: skip
def _(machine: Machine) -> object:
    return dump(machine)[0]


@case("dump_pfn", f"page:(____ptrval____) refcount:1 {PLAIN} pfn:0x108000", f"page:ffffea0004200000 refcount:1 {PLAIN}",
      kernel="5.4")  # fmt: skip
def _(machine: Machine) -> object:
    return dump(machine)[0]


@case("dump_page_type", ["page_type: 0xfffffdff(table)"], [])
def _(machine: Machine) -> object:
    return [line for line in dump(machine, "pagetables") if "page_type" in line]


@case("dump_folio", [f"page: refcount:1 {PLAIN} pfn:0x108000", "flags: 0x200000000000000(node=0|zone=2)",
                     "page_type: f5(slab)"],
      [f"page:(____ptrval____) refcount:1 {PLAIN} pfn:0x108000", "flags: 0x200000000000200(slab|node=0|zone=2)",
       "page_type: 0xffffffff()"], kernel="6.6")  # fmt: skip
def _(machine: Machine) -> object:
    return dump(machine)[:3]


# Adding and removing


@case("remove_online_ebusy", ["EBUSY", False], ["EBUSY", True])
def _(machine: Machine) -> object:
    online(machine)
    said = new_lines(machine, lambda: machine.remove_memory(FIRST * BLOCK, BLOCK))
    assert (
        said[0]
        == "removing memory fails, because memory [0x0000000100000000-0x0000000107ffffff] is"
        " onlined"
    )
    return [
        outcome(lambda: machine.remove_memory(FIRST * BLOCK, BLOCK)),
        any("kernel BUG" in line for line in said),
    ]


@case("resource_busy_only", ["ok", "EEXIST"], ["EEXIST", "EEXIST"])
def _(machine: Machine) -> object:
    """Inside the PCI window, which is not busy, and where RAM is."""
    return [store(machine, f"{MEMORY}/probe", address) for address in ("0x40000000", "0x8000000")]


@case("mem_limit_e2big", ["E2BIG", "E2BIG"], ["ok", "ok"], kernel="5.4", append="mem=1G")
def _(machine: Machine) -> object:
    return [store(machine, f"{MEMORY}/probe", "0x100000000"),
            outcome(lambda: machine.add_memory(0, 5 * GIB, BLOCK))]  # fmt: skip


def beyond(machine: Machine) -> object:
    start = len(machine.dmesg())
    return [store(machine, f"{MEMORY}/probe", "0xfffffffff8000000"), log(machine, start)]


LAST = "0xfffffffffffff"
case("range_warn", ["E2BIG", ["Hotplugged memory exceeds maximum addressable address, "
                              f"range=0xfffffffff8000000-0xffffffffffffffff, maximum={LAST}"]],
     ["EEXIST", []], kernel="5.10")(beyond)  # fmt: skip
case("range_check", ["E2BIG", ["Hotplug memory [0xfffffffff8000000-0x0] exceeds maximum addressable range "
                               f"[0x0-{LAST}]"]], ["EEXIST", []])(beyond)  # fmt: skip


@case("add_skips_existing", ["ENOMEM", "ok", [32, 33]], ["ENOMEM", "EEXIST", []])
def _(machine: Machine) -> object:
    """An addition of two sections whose second one failed, once more."""
    machine.fault_set("range_add/section", errno.ENOMEM, 2)
    outcomes = [outcome(lambda: add(machine, 2)) for _ in range(2)]
    return [*outcomes, [block.id for block in machine.blocks() if block.id >= FIRST]]


@case("block_devices_after_add", ["create_memory_block_devices", [], []],
      ["__add_pages", ["add@memory/memory32"], [32]])  # fmt: skip
def _(machine: Machine) -> object:
    """When the devices are made, and what is heard of an addition whose second section fails."""
    machine.fault_set("range_add/section", errno.ENOMEM, 2)
    heard = uevents(machine, lambda: add(machine, 2))
    left = [block.id for block in machine.blocks() if block.id >= FIRST]
    machine.check()
    names = calls(machine, lambda: add(machine, first=FIRST + 2))
    before = names[: names.index("add_memory_block")]
    makers = ("create_memory_block_devices", "__add_pages")
    return [max((name for name in makers if name in before), key=before.index), heard, left]


@case("node_before_blocks", ["add@node/node1", "add@memory/memory32"], ["add@memory/memory32", "add@node/node1"],
      nodes=["memory=1G,cpus=0", "memory=0"])  # fmt: skip
def _(machine: Machine) -> object:
    return uevents(machine, lambda: add(machine, node=1))


@case("memmap_on_memory_altmap", 2 * 129024, 2 * 131072, append="memory_hotplug.memmap_on_memory=Y")
def _(machine: Machine) -> object:
    """How much memory a DIMM of two blocks is, when it may keep its own memmap."""
    before = number(machine, "/proc/meminfo", "MemTotal")
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 2 * BLOCK)
    for block in (FIRST, FIRST + 1):
        assert state(machine, "online_movable", block) == "ok"
    return number(machine, "/proc/meminfo", "MemTotal") - before


files("memmap_on_memory", f"{PARAMETERS}/memmap_on_memory")
case("memmap_on_memory_force", "force\n", "N\n", append="memory_hotplug.memmap_on_memory=force")(
    lambda machine: machine.read_text(f"{PARAMETERS}/memmap_on_memory")
)


@case(
    "online_policy",
    ["ok", "Movable"],
    ["ENOENT", "Normal"],
    append="memory_hotplug.online_policy=auto-movable",
)
def _(machine: Machine) -> object:
    online(machine, "online")
    return [outcome(lambda: machine.stat(f"{PARAMETERS}/online_policy")), machine.blocks()[-1].zone]


@case("memory_groups", "Normal", "Movable", append="memory_hotplug.online_policy=auto-movable")
def _(machine: Machine) -> object:
    """The second block of a DIMM of which the kernel uses the first one."""
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 2 * BLOCK)
    state(machine, "online_kernel")
    state(machine, "online", FIRST + 1)
    return machine.blocks()[-1].zone


@case("acpi_rescan_all", 2, 1)
def _(machine: Machine) -> object:
    """How often a DIMM that does not fit is tried, when one is plugged after it."""
    machine.acpi_device_check(0, 0, FIRST * BLOCK, 100 * MIB)
    machine.acpi_device_check(1, 0, (FIRST + 8) * BLOCK, BLOCK)
    return sum("PNP0C80:00: add_memory failed" in line for line in log(machine))


@case("acpi_device_no_power", "ENOENT", "ok", memory="1G,slots=4,maxmem=8G")
def _(machine: Machine) -> object:
    assert machine.stat("/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04/PNP0C80:00/eject")
    return outcome(
        lambda: machine.stat(
            "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04/PNP0C80:00/power/control"
        )
    )


ARM = {"arch": "aarch64", "memory": "1G,slots=4,maxmem=8G", "append": "memhp_default_state=offline"}


def said_of_nodes(machine: Machine) -> list[str]:
    """What is said when two DIMMs come of which nobody knows the node."""
    start = len(machine.dmesg())
    for slot in range(2):
        machine.acpi_device_check(slot, -1, (2 + slot) * GIB, GIB)
    return log(machine, start)


@case("unknown_nid_once", ["Unknown online node for memory at 0x80000000, assuming node 0"],
      [f"Unknown node for memory at {at}, assuming node 0" for at in ("0x80000000", "0xc0000000")], **ARM)  # fmt: skip
def _(machine: Machine) -> object:
    return said_of_nodes(machine)


@case(
    "arm64_numa_memblks",
    [],
    ["Unknown online node for memory at 0x80000000, assuming node 0"],
    kernel="6.12",
    **ARM,
)
def _(machine: Machine) -> object:
    return said_of_nodes(machine)


@case("acpi_add_failure_status", [1, 0], [0, 0])
def _(machine: Machine) -> object:
    return [machine.acpi_device_check(0, 0, FIRST * BLOCK, 100 * MIB),
            machine.acpi_device_check(1, 0, (FIRST + 8) * BLOCK, BLOCK)]  # fmt: skip


# virtio-mem


def grown(machine: Machine, size: int) -> str:
    """A device at 4 GiB is to have this size: what the driver says when it has done what it can."""
    machine.virtio_mem_request(0, size, GIB)
    return outcome(lambda: machine.virtio_mem_work(0))


@case("virtio_mem", "ok", "ENODEV")
def _(machine: Machine) -> object:
    return outcome(lambda: machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB))


@case("virtio_mem_pageblock_unit", [6, "0x200000"], [4, "0x400000"])
def _(machine: Machine) -> object:
    """How much of 6 MiB is plugged, and the line that explains it."""
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, 6 * MIB)
    unit = next(line for line in log(machine) if "subblock size" in line)
    return [machine.virtio_mem_size(0) // MIB, unit.split()[-1]]


@case("virtio_mem_removes_later", ["EBUSY", "ok", 0], ["ok", "ok", 1])
def _(machine: Machine) -> object:
    """A block of which all is unplugged and that does not go offline the first time: blocks left in
    the end.
    """
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, BLOCK)
    state(machine, "online_movable")
    machine.fault_set("offline/notifier", errno.ENOMEM, 1, 1)
    first = grown(machine, 0)
    again = outcome(lambda: machine.virtio_mem_work(0))
    return [first, again, sum(block.id >= FIRST for block in machine.blocks())]


@case("virtio_mem_big_blocks", ["ok", "ok", "device block size: 0x10000000"],
      ["EINVAL", "ENODEV", "The block size is not supported (too big)."], kernel="5.15")  # fmt: skip
def _(machine: Machine) -> object:
    """A device whose block is two memory blocks: whether the driver takes it, what it says. The
    next is virtio1 anyway.
    """
    found = outcome(lambda: machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * BLOCK))
    assert machine.virtio_mem_probe(0, 5 * GIB, GIB, 2 * MIB) == 1
    said = next(line for line in log(machine) if "virtio0" in line and "block size" in line)
    return [found, outcome(lambda: machine.virtio_mem_size(0)), said.partition(": ")[2]]


@case("virtio_mem_movable_first", [FIRST + 1], [FIRST], kernel="5.15")
def _(machine: Machine) -> object:
    """The block that is left when one of two goes: the one below is Movable."""
    machine.virtio_mem_probe(0, 4 * GIB, GIB, 2 * MIB)
    grown(machine, 2 * BLOCK)
    state(machine, "online_movable", FIRST)
    state(machine, "online_kernel", FIRST + 1)
    assert grown(machine, BLOCK) == "ok"
    return [block.id for block in machine.blocks() if block.id >= FIRST]


# Bad pages

BAD = 7 * PAGES // 2  # in boot memory


def poison_twice(machine: Machine, how: str) -> list[object]:
    address = next(
        hex(pfn * 4096) for pfn in range(BAD, 1 << 20) if machine.page(pfn)["kind"] == "free"
    )
    store(machine, f"{MEMORY}/{how}_offline_page", address)
    start = len(machine.dmesg())
    second = store(machine, f"{MEMORY}/{how}_offline_page", address)
    said = [line.replace(hex(int(address, 16) // 4096), "PFN") for line in log(machine, start)]
    return [second, *said]


SOFT = "page already poisoned"
case(
    "soft_offline_poisoned_ok",
    ["ok", f"soft_offline_page: PFN {SOFT}"],
    ["EBUSY", f"soft_offline_page: PFN {SOFT}"],
)(lambda machine: poison_twice(machine, "soft"))
case(
    "soft_offline_function",
    ["ok", f"soft_offline_page: PFN {SOFT}"],
    ["ok", f"soft offline: PFN {SOFT}"],
)(lambda machine: poison_twice(machine, "soft"))
case(
    "soft_offline_capital",
    ["ok", f"Soft offline: PFN: {SOFT}"],
    ["ok", f"soft offline: PFN {SOFT}"],
    kernel="6.12",
)(lambda machine: poison_twice(machine, "soft"))
HARD = "Memory failure: PFN: "
case("hard_offline_ehwpoison", ["EHWPOISON", f"{HARD}already hardware poisoned"],
     ["ok", f"{HARD}already hardware poisoned"])(lambda machine: poison_twice(machine, "hard"))  # fmt: skip
case("hard_offline_action_line", ["EHWPOISON", f"{HARD}recovery action for already poisoned page: Failed"],
     ["EHWPOISON", f"{HARD}already hardware poisoned"])(lambda machine: poison_twice(machine, "hard"))  # fmt: skip


@case("soft_offline_online_check", "EIO", "ENXIO")
def _(machine: Machine) -> object:
    add(machine)
    return store(machine, f"{MEMORY}/soft_offline_page", hex(FIRST * BLOCK))


def failures(machine: Machine) -> dict[str, int]:
    names = ("total", "ignored", "failed", "delayed", "recovered")
    counts = {name: int(machine.read_text(f"{NODE}/node0/memory_failure/{name}")) for name in names}
    return {name: count for name, count in counts.items() if count}


@case("hard_offline_get_page", ["EBUSY", "recovery action for get hwpoison page: Ignored", {"total": 1, "ignored": 1}],
      ["EBUSY", "recovery action for unknown page: Ignored", {"total": 1, "ignored": 1}], kernel="6.12")  # fmt: skip
def _(machine: Machine) -> object:
    """A page of the kernel's own."""
    pfn = next(pfn for pfn in range(1 << 18) if machine.page(pfn)["kind"] == "kernel")
    start = len(machine.dmesg())
    result = store(machine, f"{MEMORY}/hard_offline_page", hex(pfn * 4096))
    said = [line.partition(f"{hex(pfn)}: ")[2] for line in log(machine, start)]
    return [result, said[-1], failures(machine)]


@case("hard_offline_no_page", ["EBUSY", f"{HARD}recovery action for non struct page pfn: Ignored", {}],
      ["ENXIO", f"{HARD}memory outside kernel control", {}], kernel="6.12")  # fmt: skip
def _(machine: Machine) -> object:
    path, address = f"{MEMORY}/hard_offline_page", hex(PFN * 4096)
    (said,) = new_lines(machine, lambda: store(machine, path, address))
    return [store(machine, path, address), said.replace(hex(PFN), "PFN"), failures(machine)]


@case("poison_kept_per_block", [4, 4, 0], [4, 4, 4])
def _(machine: Machine) -> object:
    """HardwareCorrupted: after a page went bad, after its block was offline and online again, after
    its removal.
    """
    online(machine)
    machine.store(f"{MEMORY}/hard_offline_page", hex(FIRST * BLOCK))
    seen = [number(machine, "/proc/meminfo", "HardwareCorrupted")]
    state(machine, "offline")
    state(machine, "online_movable")
    seen.append(number(machine, "/proc/meminfo", "HardwareCorrupted"))
    state(machine, "offline")
    machine.remove_memory(FIRST * BLOCK, BLOCK)
    return [*seen, number(machine, "/proc/meminfo", "HardwareCorrupted")]


# Watermarks and sizes

HUGE = {"memory": "512G", "config": "TRANSPARENT_HUGEPAGE=n"}


@case("min_free_cap_256m", True, False, **HUGE)
def _(machine: Machine) -> object:
    kb = min_free_kbytes(machine)
    assert kb > 65000
    return kb > 66000


@case("khugepaged_min_free", [45056, True], [3900, False])
def _(machine: Machine) -> object:
    """The number that Linux computes for two zones, to the rounding of each zone's share."""
    kb = min_free_kbytes(machine)
    rounded = 45056 if 45056 - 16 <= kb <= 45056 else 3900 if 3800 <= kb <= 4000 else kb
    names = calls(machine, lambda: online(machine, "online_kernel"))
    return [rounded, names.count("setup_per_zone_wmarks") > 0 and min_free_kbytes(machine) > 20000]


@case("movable_wmark_separate", 32, True)
def _(machine: Machine) -> object:
    """Movable of 128 MiB: a thousandth but 32 at least; else its share of what all zones keep."""
    online(machine)
    kept = zone_number(machine, "Movable", "min")
    return kept if kept == 32 else kept > 500


case("bare_metal_2g_blocks", "80000000\n", "8000000\n", memory="65408M", config="HYPERVISOR=n")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)
case("arm64_small_sections", "8000000\n", "40000000\n", arch="aarch64", memory="4G")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)
case("s390_small_sections", "8000000\n", "10000000\n", arch="s390x", memory="1G")(
    lambda machine: machine.read_text(f"{MEMORY}/block_size_bytes")
)


@case("s390_configured_memory", [False, "ok", True], [True, "ENOENT", True], arch="s390x",
      memory="2G,maxmem=4G")  # fmt: skip
def _(machine: Machine) -> object:
    """Whether memory on standby is there at boot, and after it was configured."""
    seen: list[object] = [machine.blocks()[-1].id == 15]
    seen.append(store(machine, "/sys/firmware/memory/memory15/config", "1"))
    return [*seen, machine.blocks()[-1].id == 15]


case("reserve_low_1m", 3998 - 158, 3998 - 15)(
    lambda machine: zone_number(machine, "DMA", "managed")
)
case("cpu_maps_sized", [28672, 4096], [4096, 4096])(
    lambda machine: [machine.stat(f"{NODE}/node0/{name}")[5] for name in ("cpulist", "cpumap")]
)

# Files and lines

files("has_generic_initiator", f"{NODE}/has_generic_initiator")
files("crash_hotplug", f"{MEMORY}/crash_hotplug", config="CRASH_HOTPLUG=y")
files("node_reclaim", f"{NODE}/node0/reclaim")
case("crash_hotplug_by_image", "0\n", "1\n", kernel="6.12", config="CRASH_HOTPLUG=y")(
    lambda machine: machine.read_text(f"{MEMORY}/crash_hotplug")
)


@case(
    "node_hugepages_always",
    ["ok", "ok", "ok"],
    ["ENOENT", "ok", "ENOENT"],
    nodes=["memory=1G,cpus=0", "memory=0"],
)
def _(machine: Machine) -> object:
    """Whether a node has the directory: before it has memory, with memory, when it has gone again."""
    seen = []
    path = f"{NODE}/node1/hugepages"
    add(machine, node=1)
    path = f"{NODE}/node1/hugepages"
    for word in ("offline", "online_movable", "offline"):
        state(machine, word)
        seen.append(outcome(lambda: machine.stat(path)))
        listed = "hugepages" in [name for name, _, _ in machine.readdir(f"{NODE}/node1")]
        assert listed == (seen[-1] == "ok")
    return seen


files("node_memory_failure", f"{NODE}/node0/memory_failure/total")
files("hugetlb_demote", f"{NODE}/node0/hugepages/hugepages-1048576kB/demote")

MEMINFO, VMSTAT, IOMEM, ZONEINFO = "/proc/meminfo", "/proc/vmstat", "/proc/iomem", "/proc/zoneinfo"
NODE_MEMINFO, NODE_VMSTAT = f"{NODE}/node0/meminfo", f"{NODE}/node0/vmstat"

lines("meminfo_zswap", MEMINFO, "Zswap", "Zswapped", config="ZSWAP=y")
lines("meminfo_kreclaimable", MEMINFO, "KReclaimable")
lines("meminfo_percpu", MEMINFO, "Percpu")
lines("meminfo_secpagetables", MEMINFO, "SecPageTables")
lines("meminfo_filehuge", MEMINFO, "FileHugePages", "FilePmdMapped")
lines("meminfo_unaccepted", MEMINFO, "Unaccepted", config="UNACCEPTED_MEMORY=y")
lines("meminfo_balloon", MEMINFO, "Balloon")
lines("meminfo_gpu", MEMINFO, "GPUActive", "GPUReclaim")
lines("node_swapcached", NODE_MEMINFO, "SwapCached")
lines("node_balloon", NODE_MEMINFO, "Balloon")
lines("zoneinfo_boost", ZONEINFO, "boost")
lines("zoneinfo_promo", ZONEINFO, "promo")
lines("zoneinfo_cma", ZONEINFO, "cma")
lines("zoneinfo_pcp_limits", ZONEINFO, "high_min", "high_max")
lines("zoneinfo_highatomic", ZONEINFO, "reserved_highatomic", "free_highatomic")
lines("vmstat_memmap", VMSTAT, "nr_memmap_pages", "nr_memmap_boot_pages")
lines("vmstat_pgdemote", VMSTAT, "pgdemote_kswapd", "pgdemote_direct")
lines(
    "vmstat_pgdemote_node", NODE_VMSTAT, "pgdemote_kswapd", "pgdemote_direct", "pgdemote_khugepaged"
)
lines("vmstat_khugepaged", VMSTAT, "pgsteal_khugepaged", "pgscan_khugepaged", "pgdemote_khugepaged")
lines("vmstat_throttled", VMSTAT, "nr_throttled_written")
lines("vmstat_promote", VMSTAT, "pgpromote_success", "pgpromote_candidate")
lines("vmstat_promote_nrl", VMSTAT, "pgpromote_candidate_nrl")
lines("vmstat_swapcached", VMSTAT, "nr_swapcached")
lines("vmstat_scan_anon", VMSTAT, "pgscan_anon", "pgscan_file", "pgsteal_anon", "pgsteal_file")
lines("vmstat_foll_pin", VMSTAT, "nr_foll_pin_acquired", "nr_foll_pin_released")
lines("vmstat_workingset_split", VMSTAT, "workingset_refault_anon", "workingset_refault_file",
      off=("workingset_refault",))  # fmt: skip
lines("vmstat_thp_swpin", VMSTAT, "swpin_zero", "swpout_zero")
case("vmstat_kernel_stack_node", True, False)(
    lambda machine: "nr_kernel_stack" in node_counters(machine)
)
case("vmstat_page_table_node", True, False)(
    lambda machine: "nr_page_table_pages" in node_counters(machine)
)
lines("vmstat_pgreuse", VMSTAT, "pgreuse")
lines(
    "vmstat_thp_migration",
    VMSTAT,
    "thp_migration_success",
    "thp_migration_fail",
    "thp_migration_split",
)
lines(
    "vmstat_thp_charge",
    VMSTAT,
    "thp_fault_fallback_charge",
    "thp_file_fallback",
    "thp_file_fallback_charge",
)
lines(
    "vmstat_thp_scan_exceed",
    VMSTAT,
    *(f"thp_scan_exceed_{what}_pte" for what in ("none", "swap", "share")),
)
lines("vmstat_thp_underused", VMSTAT, "thp_underused_split_page")
lines("vmstat_direct_map_splits", VMSTAT, "direct_map_level2_splits", "direct_map_level3_splits")
lines(
    "vmstat_direct_map_collapses",
    VMSTAT,
    "direct_map_level2_collapses",
    "direct_map_level3_collapses",
)
lines("vmstat_cma_alloc", VMSTAT, "cma_alloc_success", "cma_alloc_fail", config="CMA=y")
lines("vmstat_ksm", VMSTAT, "ksm_swpin_copy", "cow_ksm")
lines("vmstat_zswap", VMSTAT, "zswpin", "zswpout", config="ZSWAP=y")
lines("vmstat_zswpwb", VMSTAT, "zswpwb", config="ZSWAP=y")
lines("vmstat_device_zone", VMSTAT, "pgalloc_device", "allocstall_device", "pgskip_device")
lines("vmstat_zone_reclaim_success", VMSTAT, "zone_reclaim_success")
lines("vmstat_proactive", VMSTAT, "pgsteal_proactive", "pgscan_proactive", "pgdemote_proactive")
lines("vmstat_free_blocks", VMSTAT, "nr_free_pages_blocks")
lines("vmstat_no_bounce", VMSTAT, off=("nr_bounce",))
lines("vmstat_no_writeback_temp", VMSTAT, off=("nr_writeback_temp",))
lines("vmstat_hugetlb", VMSTAT, "nr_hugetlb")
lines("vmstat_balloon", VMSTAT, "nr_balloon_pages")
lines("vmstat_kernel_file", VMSTAT, "nr_kernel_file_pages")
lines("vmstat_iommu", VMSTAT, "nr_iommu_pages")
lines("vmstat_pgrotate", NODE_VMSTAT, "pgrotate_anon", "pgrotate_file")
lines("vmstat_nrswp", VMSTAT, "nrswpin", "nrswpout")
lines("vmstat_reclaim_node", NODE_VMSTAT, "pgsteal_kswapd", "pgscan_direct", "pgrefill")
lines("vmstat_vmalloc", VMSTAT, "nr_vmalloc")


def node_counters(machine: Machine) -> str:
    """The part of zoneinfo that is about a node, not about one of its zones."""
    return zone(machine, "DMA").split("pages free")[0]


@case("vmstat_unstable_last", "nr_unstable 0", "oom_kill 0")
def _(machine: Machine) -> object:
    text = machine.read_text(VMSTAT)
    assert text.count("nr_unstable") == 1
    last = text.splitlines()[-1]
    return last if last == "nr_unstable 0" else "oom_kill 0"


@case("iomem_ecam", "PCI ECAM 0000 [bus 00-ff]", "PCI MMCONFIG 0000 [bus 00-ff]")
def _(machine: Machine) -> object:
    return next(
        line.partition(" : ")[2] for line in machine.read_text(IOMEM).splitlines() if "[bus" in line
    )


@case("iomem_local_apic", ["fee00000-fee00fff : Local APIC"], [])
def _(machine: Machine) -> object:
    return [
        line
        for line in machine.read_text(IOMEM).splitlines()
        if "APIC" in line and "IOAPIC" not in line
    ]


@case(
    "node_filehuge_aligned",
    "Node 0 FileHugePages:         0 kB",
    "Node 0 FileHugePages:        0 kB",
)
def _(machine: Machine) -> object:
    return next(
        line for line in machine.read_text(NODE_MEMINFO).splitlines() if "FileHugePages" in line
    )


@case("zoneinfo_pcp_by_zone", True, False)
def _(machine: Machine) -> object:
    """How long the lists of single pages may be: as the low watermark allows, or six batches."""
    low, high, batch = (zone_number(machine, "DMA32", name) for name in ("low", "high:", "batch"))
    assert high in (low, 6 * batch)
    return high == low


@case("zoneinfo_pcp_auto", True, False)
def _(machine: Machine) -> object:
    """They grow from nothing where nobody has used them."""
    online(machine)
    return zone_number(machine, "Movable", "high:") == 0


@case("pagetypeinfo_capped", [">100000"], [], memory="512G")
def _(machine: Machine) -> object:
    return re.findall(r">\d+", machine.read_text("/proc/pagetypeinfo"))


# The tests


def test_every_flag_has_a_case() -> None:
    assert sorted(CASES) == sorted(declared())


@pytest.mark.parametrize("flag", declared())
def test_flag_shows(flag: str) -> None:
    case = CASES[flag]
    for wanted, expected in ((True, case.on), (False, case.off)):
        with machine_with(case.kernel, {**case.also, flag: wanted}, **case.options) as machine:
            assert case.look(machine) == expected, f"{flag} is {'on' if wanted else 'off'}"
    assert case.on != case.off


# Which kernel has which flag

# : Stable kernels that have what their release had not, or lack what it should have: see
# kernels/features.toml.
STABLE = {
    "removable_const": {"5.4"},
    "online_refusal_shrinks_span": {"5.4"},
    "span_shrink_at_offline": {"5.4"},
    "hard_offline_action_line": {"6.12"},
    "inject_signed": {"5.15", "6.1"},
    "acpi_add_failure_status": {"5.10"},
}


def version(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


def dated(text: str) -> set[str]:
    """The profiles that the first words of a flag's description speak of."""
    kernels = list_kernels()
    if found := re.match(r"until (\S+), and since (\S+)", text):
        return {
            k for k in kernels if version(k) < version(found[1]) or version(k) >= version(found[2])
        }
    if found := re.match(r"since ([\d.]+)", text):
        return {k for k in kernels if version(k) >= version(found[1])}
    if found := re.match(r"until ([\d.]+)", text):
        return {k for k in kernels if version(k) < version(found[1])}
    if found := re.match(r"([\d.]+) to ([\d.]+)", text):
        return {k for k in kernels if version(found[1]) <= version(k) <= version(found[2])}
    if found := re.match(r"([\d.]+) only", text):
        return {found[1]}
    if found := re.match(r"stable ([\d., and]+):", text):
        return set(re.findall(r"\d+\.\d+", found[1]))
    assert text.startswith("all profiles"), text
    return set(kernels)


@pytest.mark.parametrize("flag", declared())
def test_profiles_are_as_the_dates_say(flag: str) -> None:
    text = tomllib.loads((KERNELS / "features.toml").read_text())[flag]
    have = {kernel for kernel in list_kernels() if flag in profile(kernel)["features"]}
    assert have == dated(text) ^ STABLE.get(flag, set())
    assert have, "no profile has it"
