"""The engine against the model of model_buddy.py: random operations, and both must agree about
every page.

After each operation: free chunks by order and migratetype, pageblocks by migratetype, the counters
of every zone, each page that the operation touched (on small machines: all pages), and the engine's
own invariants. Which page an allocation gets is predicted by the model, so a wrong order of a list
shows as soon as somebody allocates.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model_buddy import Head, Zone
from model_machine import MachineModel, Marks

from fakesysfs import MachineConfig
from fakesysfs.binding._engine import Engine

MEMORY = "/sys/devices/system/memory"
KINDS = (
    "anon",
    "file",
    "shmem",
    "slab",
    "slab_reclaimable",
    "pagetables",
    "kernel",
    "hugetlb",
    "pinned",
    "offline",
)
MIB = 1 << 20


@functools.cache
def real(**options: Any) -> dict[str, Any]:
    """A machine with the sizes of a real one, and nothing in use, by nobody: it has no processors."""
    spec = MachineConfig.from_options(**options).spec()
    nodes: list[tuple[int, list[int]]] = [(nid, []) for nid, _ in spec["nodes"]]
    return spec | {"workload": [("kernel", 0, -1)], "nodes": nodes}


def toy(kernel: str, nodes: int = 1, **more: Any) -> dict[str, Any]:
    """Sixteen sections of sixteen pages per node, pageblocks of four pages, chunks of eight; blocks
    of one section.
    """
    end = 16 * MIB
    spec = real(kernel=kernel, config="ZONE_DEVICE=n") | {
        "page_shift": 16, "section_shift": 20, "block_bytes": MIB, "max_order": 3, "pageblock_order": 2,
        "struct_page_bytes": 4096, "zones": ["Normal", "Movable"], "zone_limits": {}, "firmware_memmap": [],
        "resources": [(0, nodes * end - 1, "System RAM", 3, 0)], "reserved": [(0, 4 << 16, "kernel")],
        "memory": [(nid * end, (nid + 1) * end, nid) for nid in range(nodes)],
        "nodes": [(nid, []) for nid in range(nodes)], "possible_nodes": nodes,
        "distances": [[10 if a == b else 20 for b in range(nodes)] for a in range(nodes)],
        "hotplug_nids": [(0, 1 << 40, nodes - 1)],
    }  # fmt: skip
    return spec | more


EHWPOISON = 133  # Python's errno module does not know it


class Signal:
    """What interrupts a write: the engine may look so many times before a signal is there."""

    def __init__(self) -> None:
        self.looks = 0
        self._function = ctypes.CFUNCTYPE(ctypes.c_int)(self._look)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0

    def _look(self) -> int:
        self.looks -= 1
        return int(self.looks < 0)


def by_distance(nid: int, row: list[int], first_choices: list[int]) -> list[int]:
    """All nodes, of which each has memory, in the order in which one of them asks them for memory."""
    order = [nid]
    while rest := [n for n in range(len(row)) if n not in order]:
        order.append(min(rest, key=lambda n: (row[n] + (n < nid), first_choices[n], n)))
        first_choices[order[-1]] += row[order[-1]] != row[order[-2]]
    return order


class Twins:
    """An engine and its model, which are told the same.

    :param first: number of the first memory block that can be added.
    :param small: all pages are compared every time.
    """

    def __init__(self, spec: dict[str, Any], first: int, small: bool) -> None:
        self.engine, self.first, self.small = Engine(spec), first, small
        self.shift, self.zone_names = spec["page_shift"], spec["zones"]
        section = 1 << spec["section_shift"] - self.shift
        self.block = spec["block_bytes"] >> self.shift
        self.model = MachineModel(
            section, spec["pageblock_order"], spec["max_order"], spec["features"], "DMA32" in spec["zones"],
            -(-section * spec["struct_page_bytes"] >> self.shift),
        )  # fmt: skip
        distances = spec["distances"]
        first_choices = [0] * len(distances)
        for nid, row in enumerate(distances):
            self.model.nodes[nid] = by_distance(nid, row, first_choices)
        self.signal = Signal()
        self.boot()

    def boot(self) -> None:
        """Take over which pages are RAM, and which of these are reserved; the rest is handed out as
        at boot.
        """
        model = self.model
        for id_, *_ in self.engine.blocks():
            for section in range(id_ * self.block, (id_ + 1) * self.block, model.section):
                if self._page(section) is None:
                    continue
                for pfn in range(section, section + model.section, 1 << model.pageblock):
                    page = self.engine.page(pfn)
                    model.zones[pfn >> model.pageblock] = (page["nid"], str(page["zone"]))
                    model.types[pfn >> model.pageblock] = "Movable"
                free: list[tuple[int, int]] = []
                pfn = section
                while pfn < section + model.section:
                    page = self.engine.page(pfn)
                    end = pfn + (1 << page["order"])
                    if page["kind"] == "free" and free and free[-1][1] == pfn:
                        free[-1] = (free[-1][0], end)
                    elif page["kind"] == "free":
                        free.append((pfn, end))
                    else:
                        model.heads[pfn] = Head(str(page["kind"]), page["order"])
                    pfn = end
                for start, end in free:
                    model.give(start, end, tail=True)
        for zone, counters in self.zoneinfo().items():
            start = counters.get("start_pfn", 0)
            model.spans[zone] = (start, start + counters["spanned"])
        self.compare()

    def _page(self, pfn: int) -> Any:
        try:
            return self.engine.page(pfn)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return None

    # Files

    def read(self, path: str) -> str:
        handle = self.engine.open(path, os.O_RDONLY)
        try:
            text = self.engine.read(handle, MIB, 0).decode()
        finally:
            self.engine.release(handle)
        return text

    def store(self, path: str, text: str, looks: int = 1000) -> int:
        """Write to a file of memory/; 0 or the errno."""
        handle = self.engine.open(f"{MEMORY}/{path}", os.O_WRONLY)
        self.signal.looks = looks
        try:
            self.engine.write(handle, text.encode(), self.signal.address)
        except OSError as error:
            return error.errno or -1
        finally:
            self.engine.release(handle)
        return 0

    def zoneinfo(self) -> dict[Zone, dict[str, int]]:
        """Counters of every zone, and `low`, `min` and the reserve for each higher zone for the
        model.
        """
        zones: dict[Zone, dict[str, int]] = {}
        for part in re.split(r"^(?=Node )", self.read("/proc/zoneinfo"), flags=re.MULTILINE)[1:]:
            head = re.match(r"Node (\d+), zone\s+(\w+)", part)
            assert head
            zone = (int(head[1]), head[2])
            names = r"pages free|min|low|spanned|present|managed|start_pfn:"
            found = re.findall(rf"^\s+({names})\s+(\d+)$", part, re.MULTILINE)
            zones[zone] = {name.strip(":"): int(value) for name, value in found}
            reserve = re.search(r"protection: \(([\d, ]+)\)", part)
            assert reserve
            protection = dict(zip(self.zone_names, map(int, reserve[1].split(",")), strict=True))
            self.model.marks[zone] = Marks(zones[zone]["low"], zones[zone]["min"], protection)
        return zones

    def compare(self) -> None:
        """Fail where the two differ."""
        model = self.model
        self.engine.check()
        present: Counter[Zone] = Counter()
        managed: Counter[Zone] = Counter()
        for pfn, head in model.heads.items():
            present[model.zone(pfn)] += 0 if head.kind == "hole" else 1 << head.order
            managed[model.zone(pfn)] += 0 if head.kind in ("hole", "reserved") else 1 << head.order
        for zone, counters in self.zoneinfo().items():
            low, high = model.spans.get(zone, (0, 0))
            expected = {
                "present": present[zone], "managed": managed[zone], "spanned": high - low,
                "pages free": model.free_pages(zone),
            }  # fmt: skip
            assert {name: counters[name] for name in expected} == expected, zone
            assert counters.get("start_pfn", low) == low, zone
        self.compare_lists()
        for pfn in sorted(model.heads if self.small else model.touched & {*model.heads}):
            head, page = model.heads[pfn], self.engine.page(pfn)
            known = (
                page["kind"],
                page["order"],
                page["head_pfn"],
                page["pins"],
                page["migratetype"],
            )
            assert known == (head.kind, head.order, pfn, head.pins, model.migratetype(pfn)), hex(
                pfn
            )
        model.touched.clear()

    def compare_lists(self) -> None:
        model = self.model
        text = self.read("/proc/pagetypeinfo")
        for nid, name, migratetype, counts in re.findall(
            r"^Node +(\d+), zone +(\w+), type +(\w+) +([\d ]+)", text, re.M
        ):
            zone = (int(nid), name)
            expected = [
                len(model.free_lists[zone, order, migratetype]) for order in range(model.chunk + 1)
            ]
            assert [int(count) for count in counts.split()] == expected, (zone, migratetype)
        types: list[str] = []
        for line in text.splitlines():
            if line.startswith("Number of blocks type"):
                types = line.split()[4:]
            elif types and (head := re.match(r"Node (\d+), zone +(\w+) +([\d ]+)", line)):
                zone = (int(head[1]), head[2])
                low, high = model.spans[zone]
                blocks = range(low >> model.pageblock, -(-high >> model.pageblock))
                seen = [
                    model.migratetype(b << model.pageblock)
                    for b in blocks
                    if model.zones.get(b) == zone
                ]
                assert dict(zip(types, map(int, head[3].split()), strict=True)) == {
                    t: seen.count(t) for t in types
                }, zone

    # Operations: the engine does, the model predicts.

    def call(self, what: Callable[..., Any], *arguments: Any) -> int | None:
        """What a method of the engine returns; None if it fails."""
        try:
            return int(what(*arguments) or 0)
        except OSError as error:
            assert error.strerror, "an error without a reason"
            return None

    def span_of(self, block: int) -> tuple[int, int]:
        return block * self.block, (block + 1) * self.block

    def allocate(
        self, kind: str, pages: int, order: int, zone: str | None, nid: int, block: int
    ) -> None:
        order = self.model.pageblock if kind == "hugetlb" else min(order, self.model.chunk)
        inside = range(*self.span_of(block)) if block >= 0 else None
        got = self.model.allocate_many(kind, pages, order, zone, nid, inside)
        done = self.call(self.engine.allocate_pages, kind, pages, order, zone, nid, block)
        assert done == (None if got is None else len(got) << order)

    def free(self, kind: str, pages: int, nid: int) -> None:
        assert self.model.release(kind, pages, nid) == self.call(
            self.engine.free_pages, kind, pages, nid
        )

    def online(self, block: int, word: str) -> None:
        failed = self.store(f"memory{block}/state", word)
        assert failed == 0 or (
            failed == EHWPOISON and "online_poisoned_ehwpoison" in self.model.features
        )
        if not failed:
            zone, nid = next((b[3], b[4]) for b in self.engine.blocks() if b[0] == block)
            self.model.online(*self.span_of(block), (nid, str(zone)))

    def offline(self, block: int, looks: int) -> None:
        went = self.model.go_offline(*self.span_of(block), looks)
        assert (self.store(f"memory{block}/state", "offline", looks) == 0) == went

    def add(self, block: int, nid: int) -> bool:
        """Add a block. Sections before the one that has no memory for its memmap stay."""
        start, end = self.span_of(block)
        added = True
        for section in self.sections_of(block):
            if section not in self.model.memmaps:
                added = self.model.add(section, nid)
            elif "add_skips_existing" not in self.model.features:
                added = False
            if not added:
                break
        done = self.call(
            self.engine.add_memory, nid, start << self.shift, (end - start) << self.shift
        )
        assert (done is not None) == added
        return done is not None

    def remove(self, block: int) -> None:
        start, end = self.span_of(block)
        self.engine.remove_memory(start << self.shift, (end - start) << self.shift)
        for section in self.sections_of(block):
            if section in self.model.memmaps:
                self.model.remove(section)

    def sections_of(self, block: int) -> range:
        start, end = self.span_of(block)
        return range(start // self.model.section, end // self.model.section)


class Comparison(RuleBasedStateMachine):
    """Random operations on twins; subclasses say which machine. Numbers are cut down to what
    exists.
    """

    kernels: ClassVar[tuple[str, ...]] = ("6.1", "5.4", "6.18")
    first = 32
    small = True

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        raise NotImplementedError

    @initialize(kernel=st.integers(0, 2))
    def start(self, kernel: int) -> None:
        self.twins = Twins(
            self.spec(self.kernels[kernel % len(self.kernels)]), self.first, self.small
        )
        self.model = self.twins.model

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            self.twins.engine.close()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "twins"):
            self.twins.compare()

    def blocks(self, online: bool | None = None) -> list[int]:
        """Memory blocks, those that were added last first."""
        return [
            b[0]
            for b in self.twins.engine.blocks()
            if online is None or (b[2] == "online") == online
        ][::-1]

    def head(self, which: int, *kinds: str) -> int | None:
        """A folio of these kinds, if there is any."""
        pfns = sorted(pfn for pfn, head in self.model.heads.items() if head.kind in kinds)
        return pfns[which % len(pfns)] if pfns else None

    small_number = st.integers(0, 15)
    kind = st.sampled_from(KINDS)
    pages = st.integers(1, 40)

    @rule(kind=kind, pages=pages, order=st.integers(0, 4), nid=st.integers(-1, 1))
    def allocate(self, kind: str, pages: int, order: int, nid: int) -> None:
        self.twins.allocate(kind, pages, order, None, nid if nid in self.model.nodes else -1, -1)

    @rule(
        kind=kind,
        pages=pages,
        order=st.integers(0, 13),
        zone=st.sampled_from(("Normal", "Movable", "DMA32", "DMA")),
    )
    def allocate_in_zone(self, kind: str, pages: int, order: int, zone: str) -> None:
        self.twins.allocate(kind, pages, order, zone, -1, -1)

    @rule(kind=kind, pages=pages, order=st.integers(0, 3), which=small_number)
    def allocate_in_block(self, kind: str, pages: int, order: int, which: int) -> None:
        blocks = self.blocks(online=True)
        self.twins.allocate(kind, pages, order, None, -1, blocks[which % len(blocks)])

    @rule(which=small_number)
    def allocate_much(self, which: int) -> None:
        zones = sorted({*self.model.zones.values()})
        zone = zones[which % len(zones)]
        order = which % 3 if self.small else self.model.pageblock - which % 3
        self.twins.allocate(
            "anon", self.model.free_pages(zone) * 3 // 4, order, zone[1], zone[0], -1
        )

    @rule(kind=kind, pages=pages, nid=st.integers(-1, 1))
    def free(self, kind: str, pages: int, nid: int) -> None:
        self.twins.free(kind, pages, nid if nid in self.model.nodes else -1)

    @rule(which=st.integers(0, 1000))
    def free_page(self, which: int) -> None:
        pfn = self.head(which, *(kind for kind in KINDS if kind != "pinned"))
        if pfn is not None and self.model.heads[pfn].pins:
            assert self.twins.call(self.twins.engine.free_page, pfn) is None
        elif pfn is not None:
            self.model.free(pfn)
            self.twins.engine.free_page(pfn)

    @rule(which=st.integers(0, 1000), up=st.booleans())
    def pin(self, which: int, up: bool) -> None:
        pfn = self.head(which, "anon", "file", "shmem", "hugetlb")
        if pfn is not None and (up or self.model.heads[pfn].pins):
            self.model.heads[pfn].pins += 1 if up else -1
            self.twins.engine.pin(pfn, 1 if up else -1)

    @precondition(lambda self: len(self.blocks()) > 1)
    @rule(which=st.integers(0, 1000), inside=st.integers(0, 4095))
    def poison(self, which: int, inside: int) -> None:
        pfn = self.head(which, "free")
        if pfn is not None:
            pfn += inside % (1 << self.model.heads[pfn].order)
            self.model.poison(pfn)
            assert self.twins.store("hard_offline_page", hex(pfn << self.twins.shift)) == 0

    @rule(which=st.integers(0, 5), nid=st.integers(0, 1))
    def add(self, which: int, nid: int) -> None:
        block = self.twins.first + which
        if block not in self.blocks():
            self.twins.add(block, nid if nid in self.model.nodes else 0)

    @rule(which=small_number, word=st.sampled_from(("online", "online_movable", "online_kernel")))
    def online(self, which: int, word: str) -> None:
        if blocks := self.blocks(online=False):
            self.twins.online(blocks[which % len(blocks)], word)

    @rule(which=small_number, looks=st.integers(0, 4))
    def offline(self, which: int, looks: int) -> None:
        blocks = self.blocks(online=True)
        block = blocks[which % len(blocks)]
        start, end = self.twins.span_of(block)
        zones = {
            self.model.zones.get(pfn >> self.model.pageblock)
            for pfn in range(start, end, self.twins.block // 4)
        }
        holes = any(self.model.heads[pfn].kind == "hole" for pfn in self.model.heads_in(start, end))
        if holes and "offline_holes_einval" not in self.model.features:
            # old kernels look for the hole in the zone's span, which is not the model's business
            return
        if len(zones) > 1 or holes:
            assert self.twins.store(f"memory{block}/state", "offline") in (
                errno.EINVAL,
                errno.EBUSY,
            )
        else:
            self.twins.offline(block, looks)

    @rule(which=small_number)
    def remove(self, which: int) -> None:
        blocks = [block for block in self.blocks(online=False) if block >= self.twins.first]
        if blocks:
            self.twins.remove(blocks[which % len(blocks)])


class Toy(Comparison):
    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return toy(kernel)


class TwoNodes(Comparison):
    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return toy(kernel, nodes=2)


class WideBlocks(Comparison):
    """Blocks of two sections, a zone DMA that ends within a section, and a Movable zone from boot
    on.
    """

    first = 16

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return toy(
            kernel, block_bytes=2 * MIB, zones=["DMA", "Normal", "Movable"], zone_limits={"DMA": 24 << 16},
            kernelcore=6 * MIB,
        )  # fmt: skip


class Tiny(Comparison):
    """Hardly any memory, and crooked."""

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return toy(
            kernel, memory=[(0, 7 << 16, 0), (9 << 16, 41 << 16, 0)], reserved=[(0, 1 << 16, "kernel")],
            resources=[(0, (7 << 16) - 1, "System RAM", 3, 0), (9 << 16, (41 << 16) - 1, "System RAM", 3, 0)],
        )  # fmt: skip


class X86(Comparison):
    small = False

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return real(memory="1G,slots=4,maxmem=8G", kernel=kernel)


class X86Nodes(Comparison):
    small = False

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return real(
            memory="1G,slots=4,maxmem=8G", kernel=kernel, nodes=("memory=512M,cpus=0", "memory=512M,cpus=1"),
        )  # fmt: skip


class Arm64(Comparison):
    small = False
    kernels = ("6.1", "6.18")
    first = 48

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return real(arch="aarch64-64k", memory="4G,slots=4,maxmem=16G", kernel=kernel)


class Ppc64(Comparison):
    small = False
    kernels = ("6.1", "6.18")
    first = 64

    @staticmethod
    def spec(kernel: str) -> dict[str, Any]:
        return real(arch="ppc64le", memory="2G,slots=4,maxmem=16G", kernel=kernel)


@pytest.mark.parametrize(
    ("machine", "examples", "steps"),
    [
        (Toy, 80, 40),
        (TwoNodes, 60, 40),
        (WideBlocks, 60, 40),
        (Tiny, 60, 40),
        (X86, 12, 30),
        (X86Nodes, 10, 30),
        (Arm64, 12, 30),
        (Ppc64, 10, 30),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{value}",
)
def test_engine_and_model_agree(machine: type[Comparison], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, suppress_health_check=[*HealthCheck]
        ),
    )


def test_determinism() -> None:
    """The same seed and the same operations: the same bytes in all files."""

    def history() -> list[str]:
        engine = Engine(toy("6.1", nodes=2, workload=[], seed=7))
        texts = []
        engine.add_memory(1, 32 * MIB, 4 * MIB)
        for block in range(32, 36):
            handle = engine.open(f"{MEMORY}/memory{block}/state", os.O_WRONLY)
            engine.write(handle, b"online_movable")
            engine.release(handle)
        engine.allocate_pages("anon", 100)
        engine.allocate_pages("slab", 10)
        engine.free_pages("anon", 30)
        for block in (33, 3, 35):
            handle = engine.open(f"{MEMORY}/memory{block}/state", os.O_WRONLY)
            try:
                engine.write(handle, b"offline")
            except OSError as error:
                texts.append(f"{error}")
            engine.release(handle)
        for name in ("meminfo", "zoneinfo", "buddyinfo", "pagetypeinfo", "vmstat", "iomem"):
            handle = engine.open(f"/proc/{name}", os.O_RDONLY)
            texts.append(engine.read(handle, MIB, 0).decode())
            engine.release(handle)
        texts += [engine.klog(), engine.trace(), repr(engine.take_events()), repr(engine.blocks())]
        engine.close()
        return texts

    assert history() == history()
