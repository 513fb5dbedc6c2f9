"""Who uses a machine's memory from the start.

Owns: the option `workload`: the kinds of use, how much of each, on which node. Does not own: how
each kind behaves (the engine).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..errors import ConfigError
from .address_map import NodeRange
from .limits import AGED_LIMIT
from .memory_and_nodes import Node
from .option_sources import OptionSources
from .option_text import parse_integer
from .profiles import suggest
from .sizes import parse_size, show_size
from .toml_file import read_toml

__all__ = ["WORKLOAD_KINDS", "Use", "check_workload", "parse_workload"]

#: Kinds of use a workload can name, with what each stands for.
WORKLOAD_KINDS: Final[Mapping[str, str]] = MappingProxyType({
    "anon": "anonymous pages of processes, movable",
    "file": "page cache, movable",
    "shmem": "shared memory and tmpfs, movable",
    "slab": "kernel objects, unmovable",
    "slab_reclaimable": "dentries and inodes",
    "pagetables": "page tables, unmovable",
    "kernel": "other kernel pages, unmovable",
    "hugetlb": "huge pages of 2 MiB, movable",
    "pinned": "user pages some device holds on to: they look movable and never move",
    "offline": "pages a balloon has taken out, PageOffline",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """Memory somebody uses from the start.

    :param kind: one of `WORKLOAD_KINDS`.
    :param bytes: how much.
    :param nid: on which node; -1 for wherever the allocator puts it.
    """

    kind: str
    bytes: int
    nid: int = -1


def parse_workload(
    options: OptionSources, nodes: Sequence[Node]
) -> tuple[tuple[Use, ...], int, int]:
    """(uses, rounds of ageing, bytes of swap) of a text, a table or a file."""
    place, value = options.place("workload"), options.get("workload")
    if value is None:
        return (), 0, 0
    entries: list[tuple[str, object]]
    if isinstance(value, str) and "=" in value:
        split = [item.strip().partition("=") for item in value.split(",")]
        for text, equals, _ in split:
            if not equals:
                raise ConfigError(f"{place}: {text!r} is not kind=size")
        entries = [(text.strip(), amount.strip()) for text, _, amount in split]
    elif isinstance(value, str):
        path = options.path("workload", value)
        if not os.path.isfile(path):
            known = ", ".join(WORKLOAD_KINDS)
            raise ConfigError(f"{place} {value}: neither kind=size nor a file; kinds: {known}")
        place, entries = str(path), _flat(read_toml(path))
    elif isinstance(value, Mapping):
        entries = _flat(value)
    else:
        raise ConfigError(f"{place}: {value!r} is neither text nor a table")
    uses: dict[tuple[str, int], Use] = {}
    numbers = {"aged": 0, "swap": 0}
    for name, size in entries:
        where = f"{place}: {name}"
        if name == "aged":
            numbers[name] = parse_integer(str(size), where, 0, AGED_LIMIT)
            continue
        if name == "swap":
            numbers[name] = parse_size(str(size), where)
            continue
        prefix, dot, kind = name.rpartition(".")
        if kind not in WORKLOAD_KINDS:
            near = suggest(kind, [*WORKLOAD_KINDS, *numbers])
            raise ConfigError(f"{where}: no such use of memory{near}")
        nid = -1
        if dot:
            m = re.fullmatch(r"node([0-9]{1,4})", prefix, re.ASCII)
            if m is None or int(m[1]) >= len(nodes):
                raise ConfigError(
                    f"{where}: no `{prefix}`; the nodes are node0 to node{len(nodes) - 1}"
                )
            nid = int(m[1])
        if (kind, nid) in uses:
            raise ConfigError(f"{where} is there twice")
        use = Use(kind, parse_size(str(size), where), nid)
        if kind == "hugetlb" and use.bytes % (2 << 20):
            raise ConfigError(
                f"{where}: {show_size(use.bytes)} is not a multiple of 2M, the size of a huge page"
            )
        uses[kind, nid] = use
    return tuple(uses.values()), numbers["aged"], numbers["swap"]


def _flat(table: Mapping[str, object]) -> list[tuple[str, object]]:
    """Entries of a table, those of its tables as "outer.inner"."""
    out: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            out += [(f"{name}.{inner}", v) for inner, v in value.items()]
        else:
            out.append((name, value))
    return out


def check_workload(options: OptionSources, uses: Sequence[Use], ram: Sequence[NodeRange]) -> None:
    """Refuses what boot memory cannot hold."""
    for nid in sorted({u.nid for u in uses}):
        wanted = sum(u.bytes for u in uses if nid in (-1, u.nid))
        room = sum(end - start for start, end, n in ram if nid in (-1, n))
        if wanted > room:
            where = "the machine" if nid == -1 else f"node {nid}"
            place = options.place("workload")
            raise ConfigError(
                f"{place}: {show_size(wanted)} are more than the {room >> 20} MiB of RAM of {where}"
            )
