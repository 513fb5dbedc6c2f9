"""Cases: what a block says, and how it goes online."""

from __future__ import annotations

import threading
from itertools import pairwise

from fakesysfs import Machine
from feature_cases.case import (
    BLOCK,
    FIRST,
    INJECT,
    MEMORY,
    NODE,
    PAGES,
    PFN,
    add,
    calls,
    case,
    new_lines,
    number,
    online,
    state,
    state_calls,
    store,
    while_going_offline,
    zone_number,
)

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
