"""A simulated machine: its files, its memory, and what happens to it.

Owns when events are delivered: the engine records them, and the caller of a method delivers them
after the engine's locks are released and before the call returns. Also what makes the engine
pleasant to use: whole files, sizes like "64M", named tuples, `with`.

Does not own how subscribers are called (events.py), any text of /sys or /proc, nor any rule of
memory hotplug (the engine, in C), nor the host's side of DIMMs (qemu/). It is the only importer of
the C extension. Every method may be called from any thread.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    NamedTuple,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
)

from .binding._engine import Engine
from .errors import ConfigError
from .events import Delivery, Event, of_thread

if TYPE_CHECKING:  # whoever has a configuration has loaded that module; this one can do without
    from .config.fault_rules import FaultRuleSpec
    from .config.machine_config import MachineConfig

__all__ = ["Block", "Event", "FaultRule", "Machine", "PageInfo", "Path", "Subscriber"]

#: How many of the newest events `Machine.events` remembers.
EVENTS_KEPT: Final = 100_000

_READ_BYTES: Final = 1 << 20
_MEMORY: Final = "/sys/devices/system/memory"
_WILD: Final = frozenset("*?[\\")  # of patterns
_ANY: Final = -1  # node, block or order, to the engine


class Block(NamedTuple):
    """A memory block.

    :param id: the number in its name: 32 for memory32.
    :param start: physical address, in bytes.
    :param state: as its file `state` says.
    :param zone: the zone its pages are in.
    :param nid: its node.
    :param free_pages: of `present_pages`, those that are free.
    :param present_pages: how many pages are online.
    :param movable_pages: of `present_pages`, those in use that can move elsewhere.
    :param unmovable_pages: of `present_pages`, those in use that cannot: one keeps the block
        online.
    """

    id: int
    start: int
    state: str
    zone: str | None
    nid: int
    free_pages: int
    present_pages: int
    movable_pages: int
    unmovable_pages: int


class FaultRule(NamedTuple):
    """A fault rule, and what has become of it.

    :param number: what `fault_rule_clear` takes; 1 for the first rule of the machine, and so on.
    :param rule: its text.
    :param matched: passes it has seen: accesses, uevents, or for `hide` and `vanish` lookups.
    :param fired: of these, how often something happened.
    :param waiting: accesses that it holds up now.
    """

    number: int
    rule: str
    matched: int
    fired: int
    waiting: int


class PageInfo(TypedDict):
    """A page.

    :param pfn: its number: physical address divided by the page size.
    :param head_pfn: the first page of the folio or free chunk it belongs to, which has 2**order
        pages.
    :param kind: who uses it: "anon", "slab", "free", ...
    :param zone: the name of its zone.
    :param nid: its node.
    :param migratetype: that of its pageblock.
    :param section_state: "uniform" when all pages of its section are alike and cost no memory, else
        "detailed".
    :param pins: references that keep the folio from moving.
    :param online: whether its memory block is.
    :param poisoned: out of use after a memory failure.
    :param block_id: its memory block.
    """

    pfn: int
    head_pfn: int
    order: int
    kind: str
    zone: str
    nid: int
    migratetype: str
    section_state: str
    pins: int
    online: bool
    poisoned: bool
    block_id: int


Subscriber = Callable[[Event], object]
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")
_Self = TypeVar("_Self", bound="EngineWithEvents")


def _delivers(
    method: Callable[Concatenate[_Self, _Arguments], _Value],
) -> Callable[Concatenate[_Self, _Arguments], _Value]:
    """Have a method deliver the events that its call caused, before it returns or raises."""

    @functools.wraps(method)
    def call(machine: _Self, /, *args: _Arguments.args, **options: _Arguments.kwargs) -> _Value:
        try:
            return method(machine, *args, **options)
        finally:
            machine._delivery.deliver()

    return call


def _command(what: str) -> str:
    """The cause of an operation in one line, as one types it."""
    line = " ".join(what.split())
    return f"(qemu) {line[8:]}" if line.startswith("monitor ") else line


class EngineWithEvents(Engine):
    """The engine, whose calls deliver the events that they caused.

    :raises ConfigError: when the engine finds that there can be no such machine.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        try:
            super().__init__(spec)
        except ValueError as e:
            raise ConfigError(f"{e}") from e
        self._delivery: Delivery[Event] = Delivery(self._take, keep=EVENTS_KEPT)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every event from now on, before the call that caused the event
        returns.

        Events come one at a time and in order, in the thread whose call caused them or in that of
        another caller. An exception of the subscriber is logged and changes nothing. It may call
        the machine: events of such a call are delivered after the subscriber has returned. It must
        not wait for a call of another thread that causes events, because that call waits for it.

        :returns: a function that ends the subscription.
        """
        self._delivery.subscribe(subscriber)
        return lambda: self.unsubscribe(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` no more; nothing happens when it was not subscribed."""
        self._delivery.unsubscribe(subscriber)
        self._delivery.wait()

    def events(self, since: int = 0) -> list[Event]:
        """Return the newest events, `EVENTS_KEPT` at most, oldest first: those with a `seq` greater
        than `since`.

        Those of reads through a mount have not been delivered until then.
        """
        self._delivery.deliver()
        return [event for event in self._delivery.recent() if event.seq > since]

    def _take(self) -> Iterable[Event]:
        try:
            # A caller that caused one waits until it is delivered: the cause is still known.
            while (operation := self.trace_unnamed()) is not None:
                number, thread = operation
                if (cause := of_thread(thread)) is not None:
                    self.trace_name(number, _command(cause.what))
            return [
                Event._make((*event[:-1], of_thread(event[-1]))) for event in self.take_events()
            ]
        except ValueError:  # the machine was closed meanwhile
            return ()

    # What causes events

    @_delivers
    def write(self, handle: int, data: bytes, interrupted: int = 0, /) -> int:
        """Store `data` as one write(2) does and return how many bytes were taken, which may be
        fewer.

        May take long when a block goes offline. On the main thread a signal handler that raises
        ends it with its exception; one that returns does not disturb it.

        :param interrupted: address of a C function `int f(void)` to ask instead whether to end with
            EINTR.
        :raises OSError: what the attribute says: EINVAL, EBUSY, EEXIST, ...; ENODEV when the device
            is gone.
        """
        return super().write(handle, data, interrupted)

    @_delivers
    def add_memory(self, nid: int, start: int, size: int, /) -> None:
        """Hot-add memory, as the kernel's __add_memory() does. Address and size in bytes.

        :raises OSError: EEXIST when something is there, EINVAL for parts of blocks, E2BIG beyond
            the limit, ENOMEM.
        """
        super().add_memory(nid, start, size)

    @_delivers
    def remove_memory(self, start: int, size: int, /) -> None:
        """Remove memory whose blocks are offline. Address and size in bytes.

        :raises OSError: EBUSY when a block is online; EINVAL.
        """
        super().remove_memory(start, size)

    @_delivers
    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        """Let the guest handle Notify(device check) of a DIMM slot; return its _OST status, 0 for
        success.
        """
        return super().acpi_device_check(slot, nid, start, size)

    @_delivers
    def acpi_eject_request(self, slot: int, /) -> int:
        """Let the guest handle an eject request: offline and remove all memory of the slot. May
        take long.

        :returns: the _OST status: 0 ejected, 0x82 refused, and everything is as before.
        """
        return super().acpi_eject_request(slot)

    @_delivers
    def virtio_mem_probe(self, nid: int, addr: int, size: int, block: int, /) -> int:
        """Let the guest's driver find a virtio-mem device. Address and sizes in bytes.

        :param block: what the device plugs at a time.
        :returns: its number: the guest calls it virtio0, virtio1 ...
        :raises OSError: ENODEV when the kernel has no driver; EBUSY when something is at the
            address; EINVAL.
        """
        return super().virtio_mem_probe(nid, addr, size, block)

    @_delivers
    def virtio_mem_work(self, number: int, /) -> None:
        """Let the driver plug and unplug until the size is what virtio_mem_request() asked for. May
        take long.

        Each step is an event of kind "virtio-mem": "size N" with the bytes that are plugged, or
        "work" when memory that went online lets the driver go on: then this is to be called again.

        :raises OSError: EBUSY, ENOMEM: some is left, and may be possible later; ENOSPC: the driver
            can add no more, for now; others: it has given up.
        """
        super().virtio_mem_work(number)

    @_delivers
    def pin(self, pfn: int, delta: int = 1, /) -> None:
        """Add references to the folio of a page: while it has any, it cannot migrate.

        :param delta: negative gives references back.
        :raises OSError: ENXIO when the page is not online; EINVAL when it is not in use, or has
            fewer references.
        """
        super().pin(pfn, delta)

    @_delivers
    def free_page(self, pfn: int, /) -> None:
        """Give back the folio that holds a page.

        :raises OSError: ENXIO when the page is not online; EINVAL when it is not in use.
        """
        super().free_page(pfn)


class Machine(EngineWithEvents):
    """A machine with memory that comes and goes.

        with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
            machine.subscribe(print)
            machine.add_memory(0, 0x100000000, machine.block_bytes)
            machine.store("/sys/devices/system/memory/memory32/state", "online_movable")

    What the simulated kernel refuses is an OSError with the errno Linux gives; its `strerror` is
    the reason, as "unmovable page 0x10800e (slab)", and its `filename` the file. After close()
    every method raises ValueError.

    :param config: what the machine is made from; also the attribute `config`.
    :raises ConfigError: when the engine finds that there can be no such machine.
    """

    config: MachineConfig

    def __init__(self, config: MachineConfig) -> None:
        super().__init__(config.spec())
        self.config = config
        for rule in config.faults:
            self.fault_rule_add(rule)

    def reset(self) -> None:
        """Reset the machine: its kernel boots again with the memory that it had at boot.

        Open files answer ENODEV from now on, and what waits in the kernel ends. The kernel log
        begins anew. Fault rules stay, numbers of events go on. One call at a time.
        """
        self.reboot(self.config.spec())
        self._delivery.deliver()

    @classmethod
    def from_config(cls, config: MachineConfig) -> Self:
        """Return a new machine.

        :raises ConfigError: when the engine finds that there can be no such machine.
        """
        return cls(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Files

    def store(self, path: Path, data: str | bytes) -> int:
        """Write `data` to a file as `echo -n` would: open, one write, close.

        :returns: how many bytes were taken: all, or of more than a page the first page.
        :raises OSError: EACCES, ENOENT, ... when it cannot be opened; what the attribute says.
        """
        handle = self.open(path, os.O_WRONLY)
        try:
            return self.write(handle, data.encode() if isinstance(data, str) else data)
        except OSError as e:
            e.filename = os.fsdecode(path)
            raise
        finally:
            self.release(handle)

    def write_text(self, path: Path, text: str) -> None:
        """Write all of a text to a file as `echo -n` would, which is what store() does.

        :raises OSError: as store(); EINVAL when the file takes only a part.
        """
        data = text.encode()
        if self.store(path, data) != len(data):
            raise OSError(errno.EINVAL, "only a part was taken", os.fsdecode(path))

    @_delivers
    def read_bytes(self, path: Path) -> bytes:
        """Return what `cat` would print.

        :raises OSError: EACCES, ENOENT, ... when it cannot be opened; what the attribute says.
        """
        try:
            return self._read_bytes(path)
        except OSError as e:
            e.filename = os.fsdecode(path)
            raise

    def _read_bytes(self, path: Path) -> bytes:
        handle = self.open(path, os.O_RDONLY)
        try:
            content = b""
            while piece := self.read(handle, _READ_BYTES, len(content)):
                content += piece
            return content
        finally:
            self.release(handle)

    def read_text(self, path: Path) -> str:
        """Return what `cat` would print, as text.

        :raises OSError: as read_bytes().
        """
        return self.read_bytes(path).decode(errors="surrogateescape")

    def blocks(self) -> list[Block]:
        """Return all memory blocks in order of address."""
        return [Block._make(block) for block in super().blocks()]

    # Who holds pages

    @_delivers
    def allocate(
        self,
        kind: str,
        size: int | str,
        *,
        zone: str | None = None,
        node: int | None = None,
        block: int | None = None,
        order: int | None = None,
    ) -> int:
        """Let something use memory, so that it is in the way, or can be moved out of it.

        :param kind: "anon", "file", "shmem", "slab", "slab_reclaimable", "pagetables", "kernel",
            "hugetlb", "pinned" or "offline" (a balloon's).
        :param size: bytes, or text like "64M"; rounded up to whole pieces.
        :param zone: only in the zone of this name.
        :param node: only on this node.
        :param block: only in this memory block.
        :param order: in pieces of 2**order pages; without it, as is usual for the kind.
        :returns: the bytes it got.
        :raises OSError: ENOMEM, and nothing is taken; EINVAL for a kind, zone or node that does not
            exist; ENODEV for a block that is not online.
        :raises ConfigError: when the text is no size.
        """
        nr_pages = self._pages(size)
        nr_pages = super().allocate_pages(
            kind,
            nr_pages,
            _ANY if order is None else order,
            zone,
            _ANY if node is None else node,
            _ANY if block is None else block,
        )
        return nr_pages << self.config.page_shift

    @_delivers
    def free(self, kind: str, size: int | str, *, node: int | None = None) -> int:
        """Give back memory of a kind, what was taken last first.

        :param size: bytes, or text like "64M"; rounded up to whole pages.
        :param node: only from this node.
        :returns: the bytes given back.
        :raises OSError: EINVAL when there is not that much, and nothing is given back.
        :raises ConfigError: when the text is no size.
        """
        nr_pages = self._pages(size)
        nr_pages = super().free_pages(kind, nr_pages, _ANY if node is None else node)
        return nr_pages << self.config.page_shift

    def _pages(self, size: int | str) -> int:
        if isinstance(size, str):
            from .config.sizes import parse_size

            size = parse_size(size, "size")
        return -(-size >> self.config.page_shift)

    def unpin(self, pfn: int) -> None:
        """Give back one reference that pin() took.

        :raises OSError: as pin().
        """
        self.pin(pfn, -1)

    # Faults on purpose

    def fault_rule_add(self, rule: str, /) -> int:
        """Let accesses to files fail or take long, files be missing, or uevents be lost.

            machine.fault_rule_add("write memory40/state EAGAIN x3")

        What a rule can say is at the top of config/fault_rules.py, and in `fakesysfs fault --help`.

        :returns: its number, for fault_rule_clear().
        :raises ConfigError: it is no rule, or no file can ever have such a name; nothing is
            changed.
        """
        from .config.fault_rules import parse_fault_rule

        spec = parse_fault_rule(rule)
        if problem := self._no_such_file(spec):
            raise ConfigError(f"fault rule '{rule[:80]}': {problem}")
        return self.rule_add(spec)

    def _no_such_file(self, rule: FaultRuleSpec) -> str:
        """Why the file of a fault rule can never be there; "" when it may. Blocks and nodes may
        come later.
        """
        if rule.op in ("uevent", "unplug") or rule.pattern in (_MEMORY, "/"):
            return ""
        *folders, name = rule.pattern.split("/")
        whole = "/".join(folders)
        hidden = any(known.rule.startswith(("hide ", "vanish ")) for known in self.fault_rules())
        if hidden or set(name) & _WILD or re.fullmatch(r"(memory|node)[0-9]+", name):
            return ""
        # By no listing, which other rules would see as a pass.
        place, of_block = re.subn(
            r"/memory[^/]+$", lambda _: f"/memory{super(Machine, self).blocks()[0][0]}", whole
        )
        if self._exists(f"{place}/{name}"):
            return ""
        if of_block and self._exists(place):
            return f"a memory block has no file `{name[:40]}`"
        later = re.search(r"/(memory|node)[0-9]+(/|$)", whole) or set(whole) & _WILD
        return "" if later else f"there is no file {whole[:80]}/{name[:40]}"

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def fault_rule_clear(self, number: int = 0, /) -> None:
        """Forget a rule, or with 0 all of them. Accesses that it holds up go on; files that it
        hides are back.

        :raises ConfigError: no rule has this number.
        """
        try:
            super().fault_rule_clear(number)
        except OSError as e:
            raise ConfigError(f"{e.strerror}") from None

    def fault_rules(self) -> list[FaultRule]:
        """Return all fault rules, oldest first."""
        lines = (line.split("\t", 4) for line in self.rules_text().splitlines())
        return [
            FaultRule(int(number), rule, int(m), int(f), int(w)) for number, m, f, w, rule in lines
        ]

    # What was said

    def dmesg(self, start: int = 0) -> list[tuple[int, str]]:
        """Return the kernel log as (time in microseconds, line).

        :param start: number of the first line wanted, counted from the machine's first line, which
            is 0.
        """
        lines = (line.split("\t", 1) for line in self.klog(start).splitlines())
        return [(int(time_us), text) for time_us, text in lines]
