#!/usr/bin/env python3
"""Make fakesysfs/config/kernels/callgraphs/VERSION.txt from the callgraphs-VERSION.txt here.

A line is a function, with one space for each function around it. `= NAME OTHER`: what the engine
calls NAME is OTHER in that kernel; `- NAME`: that kernel's graphs do not have it in that place,
because the compiler put it into its caller, it came later, or another function calls it.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "fakesysfs" / "config" / "kernels" / "callgraphs"

RENAMED = {
    "5.0": {},
    "5.10": {
        "add_memory_block": "init_memory_block",
        "remove_memory_block": "unregister_memory",
    },
    "6.1": {},
    "7.3": {
        "add_memory_resource": "__add_memory_resource",
        "move_freepages_block": "pageblock_isolate_and_move_free_pages",
    },
}
MISSING = {
    "5.0": ("mhp_range_allowed", "mhp_supports_memmap_on_memory"),
    "5.10": (
        "__try_online_node",
        "acpi_memory_device_free",
        "adjust_present_page_count",
        "calculate_min_free_kbytes",
        "drain_all_pages",
        "mhp_online_type_from_str",
        "mhp_range_allowed",
        "mhp_supports_memmap_on_memory",
        "notifier_call_chain",
        "set_migratetype_isolate",
        "zone_for_pfn_range",
    ),
    "6.1": (),
    "7.3": (
        "__zone_watermark_ok",
        "acpi_bus_trim",
        "mhp_online_type_from_str",
        "mhp_supports_memmap_on_memory",
        "set_pageblock_migratetype",
    ),
}


def compact(version: str) -> str:
    """The data file of a version."""
    lines = [f"# Call graphs of Linux {version}, made by tests/recordings/callgraphs.py."]
    lines += [f"= {ours} {theirs}" for ours, theirs in RENAMED[version].items()]
    lines += [f"- {ours}" for ours in MISSING[version]]
    for line in (HERE / f"callgraphs-{version}.txt").read_text().splitlines():
        name = line.strip()
        if name and not name.startswith("#"):
            lines.append(" " * ((len(line) - len(line.lstrip())) // 2) + name)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write all data files."""
    DATA.mkdir(exist_ok=True)
    for version in RENAMED:
        (DATA / f"{version}.txt").write_text(compact(version))


if __name__ == "__main__":
    main()
