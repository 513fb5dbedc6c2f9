"""The names of memory zones, as the kernel prints them and people type them.

Owns: those names, for Python. Does not own: which zones a machine has (the files of arches/), the
same table of the engine (engine/base/memory_names.h), which refuses a name that it does not have.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ALL_ZONES", "BLOCK_ZONES", "KERNEL_ZONES", "LIMITED_ZONES"]

#: Zones that end at an address, lowest first; the next one takes what lies above.
LIMITED_ZONES: Final = ("DMA", "DMA32")
#: Zones from which the kernel allocates for itself, lowest first.
KERNEL_ZONES: Final = (*LIMITED_ZONES, "Normal")
#: Zones in which a memory block can be.
BLOCK_ZONES: Final = (*KERNEL_ZONES, "Movable")
#: All, in the kernel's order.
ALL_ZONES: Final = (*BLOCK_ZONES, "Device")
