"""Cases: how a block goes offline, and what is said of a page in the way."""

from __future__ import annotations

from fakesysfs import Machine
from feature_cases.case import (
    BLOCK,
    FIRST,
    MEMORY,
    MIB,
    PAGES,
    PFN,
    add,
    calls,
    case,
    log,
    new_lines,
    online,
    reason,
    state,
    state_calls,
    while_going_offline,
    zone_number,
)

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
    return [seen, "zone_pcp_disable" not in calls(machine, lambda: state(machine, "offline"))]


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
