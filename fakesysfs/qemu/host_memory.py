"""What the host gives a memory backend: RAM, a memfd, a file.

Owns: QEMU's checks when it gets the memory, in its order and words. Nothing is allocated: the host
imagined here has all the memory and all the NUMA nodes one asks for; only what no process can map
is refused. Files are looked at and left alone. Does not own: the backends (backends.py).

Sizes are bytes.
"""

from __future__ import annotations

import os
import stat
from errno import EIO
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..errors import MonitorError

if TYPE_CHECKING:
    from .qemu_text import Warn

__all__ = ["HOST_PAGE", "RAM_ALIGNMENT", "HostMemory", "alignment_of"]

#: RAM of the host comes in pieces of this alignment when QEMU allocates it, and so do addresses of
#: DIMMs.
RAM_ALIGNMENT: Final = 0x200000
HOST_PAGE: Final = 0x1000
_HUGE_PAGES: Final = (0x200000, 0x40000000)
#: A host process cannot map more: 47 bits of address space.
_HOST_LIMIT: Final = 1 << 47
_U64: Final = (1 << 64) - 1


class HostMemory(Protocol):
    """What this file looks at of a memory backend."""

    id: str
    qom_type: str
    values: dict[str, Any]

    @property
    def path(self) -> str:
        """Its QOM path."""

    @property
    def size(self) -> int:
        """Bytes."""


def alignment_of(backend: HostMemory, warn: Warn | None) -> int:
    """Return the alignment that the memory of a backend has on the host.

    :param warn: told what QEMU would warn of.
    :raises MonitorError: the host would refuse to give it.
    """
    if backend.qom_type == "memory-backend-file":
        alignment = _file_alignment(backend, warn)
    elif backend.qom_type == "memory-backend-memfd":
        alignment = _memfd_alignment(backend)
    else:
        alignment = RAM_ALIGNMENT
    _check_mappable(backend)
    return alignment


def _check_mappable(backend: HostMemory, align: int = 0) -> None:
    """No process can map more, or find a place at a multiple of `align`, than it has addresses."""
    if backend.size + align >= _HOST_LIMIT:
        if backend.qom_type == "memory-backend-ram":
            name = (
                backend.path
                if backend.values["x-use-canonical-path-for-ramblock-id"]
                else backend.id
            )
            raise MonitorError(f"cannot set up guest memory '{name}': Cannot allocate memory")
        raise MonitorError("unable to map backing store for guest RAM: Cannot allocate memory")


def _check_store(backend: HostMemory, size: int) -> None:
    """QEMU maps whole pages, and a file that has a size is to hold them."""
    needed = -(-backend.size // HOST_PAGE) * HOST_PAGE
    if 0 < size < needed:
        raise MonitorError(f"backing store size {size:#x} does not match 'size' option {needed:#x}")


def _memfd_alignment(backend: HostMemory) -> int:
    huge, size = backend.values["hugetlb"], backend.values["hugetlbsize"]
    if size % 2:
        size = 0  # an odd one is not noticed: QEMU looks at the lowest bit
    if size & (size - 1):
        raise MonitorError("Hugepage size must be a power of 2")
    if huge and size and size not in _HUGE_PAGES:
        flags = 5 | (2 if backend.values["seal"] else 0) | (size.bit_length() - 1) << 26
        raise MonitorError(f"failed to create memfd with flags {flags:#x}: No such device")
    alignment: int = (size or RAM_ALIGNMENT) if huge else HOST_PAGE
    if backend.size >> 63 or (huge and backend.size % alignment):
        raise MonitorError(f"failed to resize memfd to {backend.size}: Invalid argument")
    _check_store(backend, backend.size)
    return alignment


def _file_alignment(backend: HostMemory, warn: Warn | None) -> int:
    """Look at the file, in the order in which QEMU does."""
    path, align = backend.values["mem-path"], backend.values["align"]
    mappable = True
    try:
        try:
            status = os.stat(path)
            directory = stat.S_ISDIR(status.st_mode)
            # in a directory QEMU makes a file, to write to
            if not directory or backend.values["readonly"]:
                _check_store(backend, 0 if directory else status.st_size)
                mappable = stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)
        except FileNotFoundError:
            if not path:
                raise
            os.stat(os.path.dirname(path) or ".")
        block = os.statvfs(path if os.path.exists(path) else os.path.dirname(path) or ".").f_bsize
    except OSError as e:
        why = os.strerror(e.errno or EIO)
        raise MonitorError(f"can't open backing store {path} for guest RAM: {why}") from None
    except ValueError:  # a NUL in the path
        raise MonitorError(
            f"can't open backing store {path} for guest RAM: Invalid argument"
        ) from None
    # a hugetlbfs, or not
    page = block if block >= RAM_ALIGNMENT and block & (block - 1) == 0 else HOST_PAGE
    if align % page:
        raise MonitorError(f"alignment {align:#x} must be multiples of page size {page:#x}")
    if align & (align - 1):
        raise MonitorError(f"alignment {align:#x} must be a power of two")
    mapped = -(-backend.size // HOST_PAGE) * HOST_PAGE & _U64
    if mapped < page:
        raise MonitorError(
            f"memory size {mapped:#x} must be equal to or larger than page size {page:#x}"
        )
    _check_mappable(backend, align)
    if backend.values["pmem"] and backend.values["share"] and warn:
        warn("Using non DAX backing file with 'pmem=on' option is deprecated")
    if not mappable:
        raise MonitorError("unable to map backing store for guest RAM: No such device")
    alignment: int = max(page, align)
    return alignment
