"""What a machine does with its page lists (model_buddy.py): zonelists, memory that comes and goes,
migration.

Slow and plain like that one. It follows the kernel as far as pages are concerned and is told the
rest: the watermarks of each zone, the order of nodes, in which zone a block goes online. How much
the kernel itself takes, and when, follows from no rule, so the model knows nothing of it: its nodes
have no processors, so that nobody takes pages but who is told to. Owns no text and no errno.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from model_buddy import MOVABLE_KINDS, Head, Model, Zone, migratetype_of

ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")


def highest_zone_of(kind: str) -> str:
    """The highest zone that pages of a kind may come from."""
    return "Movable" if kind in MOVABLE_KINDS else "Normal"


@dataclass
class Marks:
    """What a zone keeps back: its watermarks, and the reserve for each highest zone of a request,
    in pages.
    """

    low: int = 0
    min: int = 0
    reserve: Mapping[str, int] = field(default_factory=dict)


class MachineModel(Model):
    """A machine as far as its pages are concerned.

    :param dma32: whether the kernel has that zone; keeping Normal unmixed depends on it.
    :param memmap_pages: pages that hold the struct pages of one section.
    """

    def __init__(
        self,
        section: int,
        pageblock: int,
        chunk: int,
        features: Iterable[str],
        dma32: bool,
        memmap_pages: int,
    ) -> None:
        super().__init__(section, pageblock, chunk, features)
        self.dma32, self.memmap_pages = dma32, memmap_pages
        self.marks: dict[Zone, Marks] = defaultdict(Marks)
        self.nodes: dict[int, list[int]] = {}  # node -> itself and all others, by distance
        self.managed: dict[Zone, int] = defaultdict(int)  # pages that were ever handed out
        self.memmaps: dict[int, list[int]] = {}  # section number -> folios
        # first page and end; of a zone without memory (0, 0)
        self.spans: dict[Zone, tuple[int, int]] = {}

    # Allocating

    def allocate(
        self, order: int, kind: str, highest: str, nid: int, nodes: Iterable[int] = ()
    ) -> int | None:
        """Allocate as alloc_pages() does: nodes by distance, zones from the highest down, above a
        watermark.
        """
        allowed = [n for n in self.nodes[nid] if not nodes or n in {*nodes}]
        names = ZONES[ZONES.index(highest) :: -1]
        zonelist = [(n, name) for n in allowed for name in names if self.managed[n, name]]
        if not zonelist:
            return None
        below = (zonelist[0][0], "DMA32")
        keeps_unmixed = (
            zonelist[0][1] == "Normal"
            and self.dma32
            and (len(self.nodes[nid]) == 1 or below in self.zones.values())
        )
        for mark, unmixed in (("low", True), ("low", False), ("min", False)):
            for zone in zonelist:
                if unmixed and (not keeps_unmixed or zone[0] != zonelist[0][0]):
                    break
                marks = self.marks[zone]
                needed = (marks.low if mark == "low" else marks.min) + marks.reserve.get(highest, 0)
                if self.free_pages(zone) - ((1 << order) - 1) <= needed:
                    continue
                if (pfn := self.take(zone, order, kind, unmixed)) is not None:
                    return pfn
        return None

    def allocate_many(
        self, kind: str, pages: int, order: int, zone: str | None, nid: int, block: range | None
    ) -> list[int] | None:
        """Folios of one kind until there are enough pages; None, and nothing taken, if there are
        not.

        :param zone: only zones of this name, whatever their watermarks; None: as the kernel would
            choose.
        :param nid: only this node; -1 for all.
        :param block: only these pages, lowest first; None: everywhere.
        """
        got: list[int] = []
        if pages > sum(self.free_pages(z) for z in {*self.zones.values()}):
            return None
        nodes = self.nodes[max(nid, min(self.nodes))] if nid < 0 else [nid]
        while len(got) << order < pages:
            pfn: int | None = None
            name = "anon" if kind == "pinned" else kind
            if block is not None:
                pfn = self.take_in(
                    got[-1] + (1 << order) if got else block.start, block.stop, order, name
                )
            elif zone is not None:
                for node in nodes:
                    if pfn is None and (node, zone) in self.zones.values():
                        pfn = self.take((node, zone), order, name)
            else:
                pfn = self.allocate(
                    order, name, highest_zone_of(kind), nodes[0], [nid] if nid >= 0 else []
                )
            if pfn is None:
                for folio in reversed(got):
                    self.free(folio)
                return None
            self.heads[pfn].pins = int(kind == "pinned")
            got.append(pfn)
        return got

    def release(self, kind: str, pages: int, nid: int) -> int | None:
        """Free the youngest folios, Movable first; how many pages, or None if there are not enough
        to free.
        """
        pinned, name, freed = kind == "pinned", "anon" if kind == "pinned" else kind, 0
        victims = [
            pfn
            for zone in reversed(ZONES)
            for node in sorted(self.nodes)
            if nid in (-1, node)
            for pfn in self.held[(node, zone), name]
            if bool(self.heads[pfn].pins) == pinned
        ]
        if sum(1 << self.heads[pfn].order for pfn in victims) < pages:
            return None
        for pfn in victims:
            if freed < pages:
                freed += 1 << self.heads[pfn].order
                self.free(pfn)
        return freed

    # Memory comes and goes

    def add(self, section: int, nid: int) -> bool:
        """Allocate the memmap of a section; False, and nothing taken, if there is no memory for it."""
        got: list[int] = []
        huge, rest = divmod(self.memmap_pages, 1 << self.pageblock)
        wanted = [self.pageblock] * huge + [0] * rest
        while wanted:
            order = wanted.pop(0)
            pfn = self.allocate(order, "memmap", "Normal", nid)
            if pfn is not None:
                got.append(pfn)
            elif order > 0:
                wanted[:0] = [0] * (1 << order)
            else:
                for folio in got:
                    self.free(folio)
                return False
        self.memmaps[section] = got
        return True

    def remove(self, section: int) -> None:
        """Free the memmap of a section."""
        for pfn in self.memmaps.pop(section):
            self.free(pfn)

    def give(self, start: int, end: int, tail: bool) -> None:
        """Hand over pages for the first time: whole sections as one, else in the largest chunks,
        ascending.
        """
        pfn = start
        while pfn < end:
            if (
                pfn % self.section == 0
                and end - pfn >= self.section
                and len({*self._zones_of(pfn)}) == 1
            ):
                chunks = range(pfn, pfn + self.section, 1 << self.chunk)
                for chunk in chunks:
                    self._link(chunk, self.chunk, self.migratetype(chunk), tail)
                self.managed[self.zone(pfn)] += self.section
                pfn += self.section
                continue
            order = self.chunk
            while (
                pfn & (1 << order) - 1
                or pfn + (1 << order) > end
                or len({*self._zones_of(pfn, 1 << order)}) > 1
            ):
                order -= 1
            self.managed[self.zone(pfn)] += 1 << order
            self._merge(pfn, order, tail)
            pfn += 1 << order

    def _zones_of(self, start: int, pages: int = 0) -> Iterator[Zone]:
        for pfn in range(start, start + (pages or self.section), 1 << self.pageblock):
            yield self.zone(pfn)

    def online(self, start: int, end: int, zone: Zone) -> None:
        """Memory goes online in a zone."""
        low, high = self.spans.get(zone, (0, 0))
        self.spans[zone] = (min(low, start), max(high, end)) if high else (start, end)
        blocks = range(start >> self.pageblock, end >> self.pageblock)
        for block in blocks:
            self.zones[block], self.types[block] = zone, "Movable"
        self.isolated |= {*blocks} if "online_isolated" in self.features else set()
        self.give(start, end, "fresh_at_tail" in self.features)
        self.end_isolation(start, end)

    def offline(self, start: int, end: int) -> None:
        """An isolated range that holds nothing that matters goes offline."""
        zone = self.zone(start)
        self.managed[zone] -= end - start
        for pfn in [*self.heads_in(start, end)]:
            head = self.heads[pfn]
            if head.kind == "free":
                self._unlink(pfn)
            else:
                self.held[self.zone(pfn), head.kind].remove(pfn)
                del self.heads[pfn]
        for block in range(start >> self.pageblock, end >> self.pageblock):
            self.isolated.discard(block)
            del self.zones[block], self.types[block]
        self._shrink(zone, start, end)

    def _shrink(self, zone: Zone, start: int, end: int) -> None:
        """Only a range at either end moves the span, to the nearest section that is still there."""
        low, high = self.spans[zone]
        left = [p << self.pageblock for p, z in self.zones.items() if z == zone]
        sections = sorted({p - p % self.section for p in left})
        if not sections:
            low, high = 0, 0
        elif start <= low:
            low = max(low, min(s for s in sections if s >= end))
        elif end >= high:
            high = min(high, max(s for s in sections if s < start) + self.section)
        self.spans[zone] = (low, high)

    def _in_the_way(self, kind: str, zone: Zone) -> bool:
        if kind in ("reserved", "hole") or (
            kind == "offline" and "pageoffline_skipped" not in self.features
        ):
            return True
        return (
            zone[1] != "Movable"
            and migratetype_of(kind) != "Movable"
            and kind not in ("free", "poisoned")
        )

    def isolate_range(self, start: int, end: int) -> bool:
        """Isolate a range, or find a page that stands in the way and put back what was isolated."""
        blocks = [*range(start >> self.pageblock, end >> self.pageblock)]
        if "isolate_first_last" in self.features and len(blocks) > 1:
            blocks = [blocks[0], blocks[-1], *blocks[1:-1]]
        for block in blocks:
            at = block << self.pageblock
            reaching_in = next(
                p for o in range(self.chunk + 1) if (p := at >> o << o) in self.heads
            )
            for pfn in (reaching_in, *self.heads_in(at, at + (1 << self.pageblock))):
                if self._in_the_way(self.heads[pfn].kind, self.zone(start)):
                    self.end_isolation(start, end)
                    return False
            self.isolate(block)
        return True

    def migrate(self, start: int, end: int) -> bool:
        """One pass over an isolated range. Is anything left that it should have moved?"""
        (nid, name), stayed = self.zone(start), False
        others = [
            n
            for n in self.nodes[nid]
            if n != nid and any(node == n for node, _ in self.zones.values())
        ]
        for pfn in [pfn for pfn in self.heads_in(start, end) if self._moves(self.heads[pfn])]:
            head = self.heads[pfn]
            highest = "Movable" if name == "Movable" else "Normal"
            if (
                head.pins
                or self.allocate(head.order, head.kind, highest, nid, others or [nid]) is None
            ):
                stayed = True
            else:
                self.free(pfn)
        return stayed

    def go_offline(self, start: int, end: int, looks: int) -> bool:
        """Offline a range; a signal arrives at the look after `looks`. False: it stays online."""
        return self.isolate_range(start, end) and self._empty(start, end, looks)

    def _empty(self, start: int, end: int, looks: int) -> bool:
        for _ in range(looks):
            kinds = [self.heads[pfn].kind for pfn in self.heads_in(start, end)]
            if "offline" in kinds and not self._movable_before(start, end):
                break
            if self._movable_before(start, end):
                self.migrate(start, end)
                continue
            for pfn in [
                pfn for pfn in self.heads_in(start, end) if self.heads[pfn].kind == "hugetlb"
            ]:
                self.free(pfn)
            if {self.heads[pfn].kind for pfn in self.heads_in(start, end)} <= {"free", "poisoned"}:
                self.offline(start, end)
                return True
        self.end_isolation(start, end)
        return False

    def _movable_before(self, start: int, end: int) -> bool:
        """Would a scan find a folio to move, before any page of a balloon?"""
        for pfn in self.heads_in(start, end):
            head = self.heads[pfn]
            if head.kind == "offline":
                return False
            if self._moves(head):
                return True
        return False

    @staticmethod
    def _moves(head: Head) -> bool:
        """Huge pages that nobody uses are dissolved later."""
        return head.kind in MOVABLE_KINDS and (head.kind != "hugetlb" or head.pins > 0)
