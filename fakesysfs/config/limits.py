"""The largest machine there can be."""

from __future__ import annotations

from typing import Final

__all__ = ["AGED_LIMIT", "CPUS_LIMIT", "MEMORY_LIMIT", "NODES_LIMIT", "SLOTS_LIMIT"]

#: Bytes of memory: the largest machine anyone has, and what the tests cover.
MEMORY_LIMIT: Final = 64 << 40
#: DIMM slots: ACPI_MAX_RAM_SLOTS of QEMU.
SLOTS_LIMIT: Final = 256
#: As many as the engine has room for.
NODES_LIMIT: Final = 64
#: What NR_CPUS can be.
CPUS_LIMIT: Final = 8192
#: Rounds a machine may have lived through.
AGED_LIMIT: Final = 1_000_000
