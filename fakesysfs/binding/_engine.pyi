"""What the C extension offers to Python: the engine as it is, one method per engine call.

Everyone uses `fakesysfs.Machine`, which adds delivery of events and comfort. Every method may be
called from any thread and gives the GIL up while it waits and works. After close() every method
raises ValueError. Paths are absolute in the served tree:
"/sys/devices/system/memory/memory32/state". OSError carries errno, the engine's reason, and the
path.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.fault_rules import FaultRuleSpec
from ..machine import PageInfo, Path

class Engine:
    """A machine as `MachineConfig.spec()` describes it.

    :raises TypeError: naming the key whose value has the wrong type.
    :raises ValueError: naming the key that is missing, unknown, or has a value no machine can have.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None: ...

    # Files. These are also what FUSE calls. `interrupted` is the address of a C function `int
    # f(void)` that is asked, in place of Python's signal handlers, whether a wait is to end with
    # EINTR.

    def stat(self, path: Path, /) -> tuple[int, int, int, int, int, int, int]:
        """Return (st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, mtime_ns); a link is not
        followed.

        :raises OSError: ENOENT, ENOTDIR.
        """

    def fstat(self, handle: int, /) -> tuple[int, int, int, int, int, int, int]:
        """Return what stat() does, of an open file; works after its device is gone.

        :raises OSError: EBADF.
        """

    def readlink(self, path: Path, /) -> str:
        """Return the target of a link.

        :raises OSError: ENOENT; EINVAL when it is none.
        """

    def readdir(self, path: Path, interrupted: int = 0, /) -> list[tuple[str, int, int]]:
        """Return (name, st_ino, st_mode) of every entry in the kernel's order, without `.` and
        `..`.

        :raises OSError: ENOENT, ENOTDIR.
        """

    def open(self, path: Path, flags: int, interrupted: int = 0, /) -> int:
        """Open a file and return its handle, for release().

        :param flags: os.O_RDONLY, os.O_WRONLY, ...; the mode bits count, for root too.
        :raises OSError: EACCES, ENOENT, EISDIR; EINVAL with O_DIRECT.
        """

    def read(self, handle: int, size: int, offset: int, interrupted: int = 0, /) -> bytes:
        """Return up to `size` bytes from `offset` on. The text is made anew at offset 0, as sysfs
        does.

        :raises OSError: ENODEV when the device is gone; EBADF; what the attribute says.
        """

    def write(self, handle: int, data: bytes, interrupted: int = 0, /) -> int:
        """Store `data` as one write(2) does and return how many bytes were taken, which may be
        fewer.

        May take long when a block goes offline. On the main thread a signal handler that raises
        ends it with its exception; one that returns does not disturb it.

        :raises OSError: what the attribute says: EINVAL, EBUSY, EEXIST, ...; ENODEV when the device
            is gone.
        """

    def await_stores(self, handle: int, interrupted: int = 0, /) -> None:
        """Wait until nobody else stores to this file, if it is open for writing only, and not with
        O_NONBLOCK.

        :raises OSError: EINTR, EBADF; ENODEV when the machine ends.
        """

    def poll(self, handle: int, /) -> int:
        """Return which of select.POLLIN, POLLPRI, ... hold for an open file; it does not wait.

        :raises OSError: EBADF.
        """

    def release(self, handle: int, /) -> None:
        """Close an open file.

        :raises OSError: EBADF.
        """

    def truncate(self, path: Path, size: int, /) -> None:
        """Do what truncate(2) does to an attribute: nothing.

        :raises OSError: ENOENT, EACCES, EISDIR.
        """

    def chmod(self, path: Path, mode: int, /) -> None:
        """Set the permission bits; they last as long as the device.

        :raises OSError: ENOENT.
        """

    def chown(self, path: Path, uid: int, gid: int, /) -> None:
        """Set owner and group; -1 leaves one as it is.

        :raises OSError: ENOENT.
        """

    def utimens(self, path: Path, mtime_ns: int, /) -> None:
        """Set the time of the last change, in nanoseconds since 1970.

        :raises OSError: ENOENT.
        """

    def change(self, op: str, path: Path, /) -> None:
        """Raise the OSError with which sysfs refuses to change its tree.

        :param op: "mkdir", "unlink", "rmdir", "rename", "symlink", "link", "create" or "mknod".
        :raises OSError: EPERM, EACCES, ENOENT, ...; always.
        """

    def add_file(self, path: Path, data: bytes, mode: int = 0o444, /) -> None:
        """Put a file of your own into the tree; directories on the way are made.

        :param data: what a read gives.
        :raises OSError: EEXIST, ENOTDIR, EINVAL.
        """

    # Memory comes and goes. Addresses and sizes are in bytes.

    def add_memory(self, nid: int, start: int, size: int, /) -> None:
        """Hot-add memory, as the kernel's __add_memory() does.

        :raises OSError: EEXIST when something is there, EINVAL for parts of blocks, E2BIG beyond
            the limit, ENOMEM.
        """

    def remove_memory(self, start: int, size: int, /) -> None:
        """Remove memory whose blocks are offline.

        :raises OSError: EBUSY when a block is online; EINVAL.
        """

    def acpi_device_check(self, slot: int, nid: int, start: int, size: int, /) -> int:
        """Let the guest handle Notify(device check) of a DIMM slot; return its _OST status, 0 for
        success.
        """

    def virtio_mem_probe(self, nid: int, addr: int, size: int, block: int, /) -> int:
        """Let the guest's driver find a virtio-mem device; returns its number. ENODEV, EINVAL,
        EBUSY.
        """

    def virtio_mem_request(self, number: int, requested: int, usable: int, /) -> None:
        """Tell a virtio-mem device that another size is wanted, in bytes. Nothing is done yet."""

    def virtio_mem_work(self, number: int, /) -> None:
        """Let the driver plug and unplug. EBUSY, ENOMEM: some is left, try later; ENOSPC: it can
        add no more.
        """

    def virtio_mem_size(self, number: int, /) -> int:
        """How many bytes are plugged."""

    def acpi_eject_request(self, slot: int, /) -> int:
        """Let the guest handle an eject request: offline and remove all memory of the slot. May
        take long.

        :returns: the _OST status: 0 ejected, 0x82 refused, and everything is as before.
        """

    # Who holds pages.

    def allocate_pages(
        self,
        kind: str,
        nr_pages: int,
        order: int = -1,
        zone: str | None = None,
        nid: int = -1,
        block: int = -1,
        /,
    ) -> int:
        """Let something use memory; return how many pages it got: whole pieces, so perhaps a few
        more.

        :param kind: anon, file, shmem, slab, slab_reclaimable, pagetables, kernel, hugetlb, pinned
            or offline.
        :param order: each piece has 2**order pages; -1 for what is usual for the kind.
        :param zone: name of the zone; None for any.
        :param nid: node; -1 for any.
        :param block: number of the memory block; -1 for any.
        :raises OSError: ENOMEM, and nothing is taken; EINVAL.
        """

    def free_pages(self, kind: str, nr_pages: int, nid: int = -1, /) -> int:
        """Give back pages of a kind; return how many.

        :raises OSError: EINVAL.
        """

    def pin(self, pfn: int, delta: int = 1, /) -> None:
        """Add references to the folio of a page: while it has any, it cannot migrate.

        :param delta: negative gives references back.
        :raises OSError: when the page is not in use, or has fewer references.
        """

    def free_page(self, pfn: int, /) -> None:
        """Give back the folio that holds a page.

        :raises OSError: when the page is not in use, or pinned.
        """

    def page(self, pfn: int, /) -> PageInfo:
        """Describe a page.

        :raises OSError: when there is none.
        """

    def blocks(self) -> Sequence[tuple[int, int, str, str | None, int, int, int, int, int]]:
        """Return (block_id, start, state, zone, nid, free, present, movable, unmovable) of every
        memory block.

        `start` is in bytes, the last four are in pages. In order of address.
        """

    @property
    def block_bytes(self) -> int:
        """Size of a memory block, in bytes."""

    # What happened.

    def take_events(
        self,
    ) -> list[tuple[int, int, str, str, str, int, tuple[str, ...], tuple[str, int], int]]:
        """Return the events since the last call as (seq, time_us, kind, path, data, errno, payload,
        verdict, thread), oldest first.

        verdict: of a uevent, what fault rules have for it, and for how many microseconds.

        thread: threading.get_ident() of the thread in whose call it happened; 0 for a call that is
        not from Python.
        """

    def klog(self, start: int = 0, /) -> str:
        """Return the kernel log from line number `start` on: per line its time in microseconds, a
        tab, the text.
        """

    def trace(self, start: int = 0, end: int = 18446744073709551615, own: bool = False, /) -> str:
        """Return the call graph of the last operations, as the function_graph tracer prints it.

        Each operation begins with a line that names it. Functions that the engine does not have are
        marked; they are those of the kernel's recorded call graph.

        :param start: number of the first operation wanted; from 0 on there is a heading.
        :param end: number behind the last, as from trace_end().
        :param own: print only functions that the engine ran.
        """

    def trace_end(self) -> int:
        """Return the number behind the last operation of the trace that is over."""

    def trace_unnamed(self) -> tuple[int, int] | None:
        """Return an operation that is over and has no name: its number, and the thread that caused
        it as threading.get_ident() gives it. Each is returned once.
        """

    def trace_name(self, number: int, what: str, /) -> None:
        """Name an operation of the trace, unless it has a name.

        :param number: as from trace_unnamed().
        """

    def trace_clear(self) -> None:
        """Forget the trace."""

    def check(self) -> None:
        """Count every page, list, zone and block again, and compare.

        :raises AssertionError: naming the first invariant that does not hold.
        """

    # Faults.

    def fault_set(self, point: str, errno: int, nth: int = 1, times: int = 1, /) -> None:
        """Let a named point fail.

        :param point: one of fault_points().
        :param errno: with what, a positive number; 0 disarms the point.
        :param nth: the first pass that fails, counted from now.
        :param times: how many passes fail.
        :raises OSError: ENOENT when there is no such point.
        """

    def fault_clear(self) -> None:
        """Disarm every point."""

    def fault_hits(self, point: str, /) -> int:
        """Return how often a point was passed since the first call of fault_set() or fault_hits()."""

    @staticmethod
    def fault_points() -> list[str]:
        """Return the names of all points that can fail."""

    def rule_add(self, rule: FaultRuleSpec, /) -> int:
        """Let accesses to files fail or take long, files be missing, or uevents be lost; return
        the rule's number.

        :raises OSError: EINVAL when a number is out of range, and nothing is changed.
        """

    def fault_rule_clear(self, number: int = 0, /) -> None:
        """Forget a rule, or with 0 all of them; accesses that it holds up go on.

        :raises OSError: ENOENT when no rule has this number.
        """

    def rules_text(self) -> str:
        """Return all rules, oldest first: per line number, matched, fired, waiting, text, with tabs
        between.
        """

    def unplug_fault(self, device: str, /) -> tuple[str, int]:
        """Return how the guest is to answer a request to eject the DIMM of this name, and after how
        many microseconds.

        It counts as a pass: ask once for each.

        :returns: "" for as it likes, "never", "refuse", "stay", "twice" or "delay".
        """

    # Life.

    def fuse_ops(self, interrupted: int = 0, forget_poll: int = 0, /) -> dict[str, int]:
        """Serve this machine to the native FUSE operations of this process; return name -> address.

        They have libfuse 2's signatures and never take the GIL. End the mount before closing the
        machine.

        :param interrupted: address of libfuse's fuse_interrupted(), so that a signal ends a wait.
        :param forget_poll: address of its fuse_pollhandle_destroy().
        """

    def reboot(self, spec: dict[str, Any], /) -> None:
        """Reset the machine: it boots again, from `spec`.

        What waits ends with EINTR, and files that are open answer ENODEV. One call at a time.
        """

    def close(self) -> None:
        """End the machine. Calls under way in other threads end as they would have; twice is as
        once.

        What waits by a fault rule fails with ENODEV.
        """

def features() -> list[str]:
    """Return the names of everything in which kernels differ."""

def configs() -> list[str]:
    """Return the names of the kernel configuration a machine knows."""
