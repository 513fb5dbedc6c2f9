"""Cases: files, and lines in them."""

from __future__ import annotations

import re

from fakesysfs import Machine
from feature_cases.case import (
    MEMORY,
    NODE,
    add,
    case,
    files,
    lines,
    online,
    outcome,
    state,
    zone,
    zone_number,
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
