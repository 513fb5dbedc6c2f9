"""A second, slow opinion about where every page is: the page lists of a machine as plain Python
lists.

Everything here is meant to be obviously right, and nothing to be fast. It follows the order of ties
written at the top of engine/buddy.c: a freed chunk goes to the head of its list, or to the tail
where its next larger buddy is free already; fresh memory ascends; allocations take the head and
split from the top down; a section that becomes free in one migratetype moves as one to the tail,
one of alike large folios as one to the head, the youngest (highest) first.

Owns the lists. Does not own who asks for what, nor how memory comes and goes (model_machine.py). A
zone is a pair (nid, name), pages are page frame numbers; an allocation that is not to be had is
None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Zone = tuple[int, str]
MOVABLE_KINDS = ("anon", "file", "shmem", "hugetlb")
FALLBACKS = {
    "Unmovable": ("Reclaimable", "Movable"),
    "Movable": ("Reclaimable", "Unmovable"),
    "Reclaimable": ("Unmovable", "Movable"),
}


def migratetype_of(kind: str) -> str:
    """The migratetype that pages of a kind are asked for with."""
    if kind in MOVABLE_KINDS or kind == "offline":
        return "Movable"
    return "Reclaimable" if kind == "slab_reclaimable" else "Unmovable"


@dataclass
class Head:
    """The first page of a chunk or folio. `listed` is the migratetype of the list that a free one
    is on.
    """

    kind: str
    order: int
    listed: str = ""
    pins: int = 0


class Model:
    """The pages of a machine.

    :param section: pages of a section; `pageblock` and `chunk`: orders of a pageblock and of the
        largest chunk.
    :param features: what this kernel does, names of engine/base/kernel_features.h.
    """

    def __init__(self, section: int, pageblock: int, chunk: int, features: Iterable[str]) -> None:
        self.section, self.pageblock, self.chunk, self.features = (
            section,
            pageblock,
            chunk,
            frozenset(features),
        )
        self.heads: dict[int, Head] = {}
        self.free_lists: dict[tuple[Zone, int, str], list[int]] = defaultdict(list)
        self.held: dict[tuple[Zone, str], list[int]] = defaultdict(list)
        self.zones: dict[int, Zone] = {}  # of each pageblock that is online
        self.types: dict[int, str] = {}
        self.isolated: set[int] = set()
        self.touched: set[int] = set()

    # Looking

    def zone(self, pfn: int) -> Zone:
        """The zone of a page that is online."""
        return self.zones[pfn >> self.pageblock]

    def migratetype(self, pfn: int) -> str:
        """What free lists go by."""
        block = pfn >> self.pageblock
        return "Isolate" if block in self.isolated else self.types[block]

    def heads_in(self, start: int, end: int) -> Iterator[int]:
        """Heads of a range, ascending; those that come or go meanwhile are taken as they are."""
        pfn = start
        while pfn < end:
            head = self.heads.get(pfn)
            if head is not None:
                yield pfn
                head = self.heads.get(pfn, head)
            pfn += 1 << head.order if head is not None else 1

    def free_pages(self, zone: Zone) -> int:
        """Free pages that are not isolated."""
        return sum(
            len(pfns) << order
            for (z, order, mt), pfns in self.free_lists.items()
            if z == zone and mt != "Isolate"
        )

    # Free lists

    def _list(self, pfn: int) -> list[int]:
        head = self.heads[pfn]
        return self.free_lists[self.zone(pfn), head.order, head.listed]

    def _link(self, pfn: int, order: int, migratetype: str, tail: bool) -> None:
        self.heads[pfn] = Head("free", order, migratetype)
        self.touched.add(pfn)
        pfns = self._list(pfn)
        pfns.insert(len(pfns) if tail else 0, pfn)

    def _unlink(self, pfn: int) -> Head:
        self._list(pfn).remove(pfn)
        return self.heads.pop(pfn)

    def _move(self, pfn: int, migratetype: str) -> None:
        self._link(pfn, self._unlink(pfn).order, migratetype, tail=True)

    def _merge(self, pfn: int, order: int, tail: bool) -> None:
        """Put a chunk into the lists, together with every buddy that is free."""
        zone, migratetype = self.zone(pfn), self.migratetype(pfn)
        while order < self.chunk:
            buddy = pfn ^ 1 << order
            head = self.heads.get(buddy)
            if (
                head is None
                or head.kind != "free"
                or head.order != order
                or self.zone(buddy) != zone
            ):
                break
            if (self.migratetype(buddy) == "Isolate") != (migratetype == "Isolate"):
                break
            self._unlink(buddy)
            pfn, order = min(pfn, buddy), order + 1
        if not tail and order < self.chunk - 1:
            larger = self.heads.get((pfn & ~(1 << order)) ^ 2 << order)
            tail = larger is not None and larger.kind == "free" and larger.order == order + 1
        self._link(pfn, order, migratetype, tail)
        if order == self.chunk:
            self._fold_free(pfn)

    def _fold_free(self, pfn: int) -> None:
        """A section that is free in one migratetype, and nothing else, moves as one to the tail of
        its list.
        """
        start = pfn - pfn % self.section
        chunks = range(start, start + self.section, 1 << self.chunk)
        blocks = range(start >> self.pageblock, (start + self.section) >> self.pageblock)
        heads = [self.heads.get(chunk) for chunk in chunks]
        listed = {
            head.listed if head and head.kind == "free" and head.order == self.chunk else ""
            for head in heads
        }
        types = {self.types.get(block) for block in blocks}
        if (
            listed != types
            or len(types) != 1
            or self.isolated & {*blocks}
            or len({*map(self.zones.get, blocks)}) != 1
        ):
            return
        pfns = self._list(start)
        pfns[:] = [other for other in pfns if other not in chunks] + [*chunks]

    # Allocating and freeing

    def _fallback(self, zone: Zone, order: int, migratetype: str) -> str:
        return next((mt for mt in FALLBACKS[migratetype] if self.free_lists[zone, order, mt]), "")

    def _move_block(self, pfn: int, migratetype: str) -> int:
        start = pfn >> self.pageblock << self.pageblock
        chunks = [
            p
            for p in self.heads_in(start, start + (1 << self.pageblock))
            if self.heads[p].kind == "free"
        ]
        for chunk in chunks:
            self._move(chunk, migratetype)
        return sum(1 << self.heads[chunk].order for chunk in chunks)

    def _steal(self, zone: Zone, order: int, migratetype: str, unmixed: bool) -> bool:
        """Take over a chunk, or its whole pageblock, from another migratetype."""
        least = max(order, self.pageblock) if unmixed else order
        orders = [
            o for o in range(self.chunk, least - 1, -1) if self._fallback(zone, o, migratetype)
        ]
        if not orders:
            return False
        found = orders[0]
        claims = found >= self.pageblock // 2 or migratetype != "Movable"
        if not claims:
            found = next(
                o for o in range(order, self.chunk + 1) if self._fallback(zone, o, migratetype)
            )
            claims = found >= self.pageblock // 2
        pfn = self.free_lists[zone, found, self._fallback(zone, found, migratetype)][0]
        if found >= self.pageblock:
            for block in range(pfn >> self.pageblock, (pfn + (1 << found)) >> self.pageblock):
                self.types[block] = migratetype
        elif claims:
            start, size = pfn >> self.pageblock << self.pageblock, 1 << self.pageblock
            movable = sum(
                1 << self.heads[p].order
                for p in self.heads_in(start, start + size)
                if self.heads[p].kind in ("anon", "file", "shmem")
            )
            before, moved = self.types[pfn >> self.pageblock], self._move_block(pfn, migratetype)
            alike = (
                movable
                if migratetype == "Movable"
                else size - moved - movable
                if before == "Movable"
                else 0
            )
            if moved + alike >= size // 2:
                self.types[pfn >> self.pageblock] = migratetype
            return True
        self._move(pfn, migratetype)
        return True

    def take(self, zone: Zone, order: int, kind: str, unmixed: bool = False) -> int | None:
        """Allocate from one zone."""
        migratetype = migratetype_of(kind)
        while True:
            for found in range(order, self.chunk + 1):
                if pfns := self.free_lists[zone, found, migratetype]:
                    return self._cut(pfns[0], order, kind)
            if not self._steal(zone, order, migratetype, unmixed):
                return None

    def _cut(self, pfn: int, order: int, kind: str) -> int:
        head = self._unlink(pfn)
        for upper in range(head.order - 1, order - 1, -1):
            self._link(pfn + (1 << upper), upper, head.listed, tail=False)
        return self._hold(pfn, order, kind)

    def _hold(self, pfn: int, order: int, kind: str) -> int:
        self.heads[pfn] = Head(kind, order)
        self.touched.add(pfn)
        pfns = self.held[self.zone(pfn), kind]
        pfns.insert(0, pfn)
        start = pfn - pfn % self.section
        folios = range(start, start + self.section, 1 << order)
        alike = (
            all(self.heads.get(p) == Head(kind, order) for p in folios)
            if order >= self.pageblock
            else False
        )
        if alike and kind != "poisoned" and len({self.zone(p) for p in folios}) == 1:
            pfns[:] = [*reversed(folios)] + [p for p in pfns if p not in folios]
        return pfn

    def take_in(self, start: int, end: int, order: int, kind: str) -> int | None:
        """Allocate from a range, lowest first, but nothing that is isolated."""
        for pfn in self.heads_in(start, end):
            head = self.heads[pfn]
            if head.kind == "free" and head.order >= order and self.migratetype(pfn) != "Isolate":
                return self._cut(pfn, order, kind)
        return None

    def free(self, pfn: int) -> None:
        """Give a folio back."""
        head = self.heads.pop(pfn)
        self.held[self.zone(pfn), head.kind].remove(pfn)
        self._merge(pfn, head.order, tail=False)

    def poison(self, pfn: int) -> None:
        """Cut one free page out and put it aside."""
        chunk = next(p for o in range(self.chunk + 1) if (p := pfn >> o << o) in self.heads)
        head = self._unlink(chunk)
        for order in range(head.order - 1, -1, -1):
            middle = chunk + (1 << order)
            self._link(middle if pfn < middle else chunk, order, head.listed, tail=False)
            chunk = chunk if pfn < middle else middle
        self._hold(pfn, 0, "poisoned")

    # Isolation

    def isolate(self, block: int) -> None:
        """Take a pageblock out of the allocator's reach."""
        self.isolated.add(block)
        self._move_block(block << self.pageblock, "Isolate")

    def end_isolation(self, start: int, end: int) -> None:
        """Put back whatever is isolated in a range, section by section."""
        for section in range(start, end, self.section):
            blocks = range(section >> self.pageblock, (section + self.section) >> self.pageblock)
            if not self.isolated & {*blocks}:
                continue
            for block in blocks:
                if block in self.isolated:
                    self.isolated.remove(block)
                    self.types[block] = (
                        self.types[block] if "isolate_bit" in self.features else "Movable"
                    )
                    self._move_block(block << self.pageblock, self.types[block])
            self._fold_free(section)
