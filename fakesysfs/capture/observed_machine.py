"""What the files of a copy of /sys and /proc say, each for itself and to each other.

Owns: which files are looked at, what may be in one, and what contradicts what: that is refused,
with file and reason. Does not own: how a copy is read that cannot be trusted (sysfs_copy.py), what
follows from what was found or is missing (machine_file.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from ..config.address_map import Range
from ..config.block_list import BLOCKS_LIMIT
from ..config.kernel_config import CONFIG_DEFAULTS
from ..config.limits import NODES_LIMIT
from ..config.zone_names import BLOCK_ZONES
from ..errors import ConfigError, EnvironmentProblem
from .sysfs_copy import TABLE_LIMIT, Folder, printable

__all__ = ["BlockSeen", "NodeSeen", "ObservedMachine", "observe", "quote"]

MEMORY: Final = "/sys/devices/system/memory"
_ZONES: Final = {name.lower(): name for name in (*BLOCK_ZONES, "none")}


@dataclass(slots=True)
class BlockSeen:
    """What the files of one memory block say; None for those that are missing."""

    number: int
    state: str
    zones: tuple[str, ...] | None
    removable: bool | None
    phys_device: int | None
    links: tuple[int, ...]


@dataclass(slots=True)
class NodeSeen:
    """What the files of one node say."""

    cpus: list[Range] | None  # first and last
    distances: list[int] | None
    blocks: set[str]
    huge_pages: set[str]
    names: set[str]
    meminfo: str


@dataclass(slots=True)
class ObservedMachine:
    """All that was read; None for what is not there.

    :param path: of the memory directory, for messages.
    :param blocks: ascending.
    :param names: in the memory directory.
    :param links_kept: there are links in the copy, so one that is missing was missing.
    :param node_names: in the directory of nodes, which is `node_path`.
    :param command_line: words of the kernel's.
    :param zones: what each zone of a node spans, in pages; `zone_names` are also those that span
        nothing.
    :param ram: what the firmware, or the kernel, says is RAM.
    :param firmware: there is /sys/firmware/memmap.
    """

    live: bool
    path: str
    block_bytes: int
    blocks: list[BlockSeen]
    names: set[str]
    auto_online: str | None
    links_kept: bool = False
    going_offline: list[int] = field(default_factory=list)
    parameters: dict[str, str] | None = None
    parameters_path: str = ""
    nodes: dict[int, NodeSeen] | None = None
    node_names: set[str] = field(default_factory=set)
    node_path: str = ""
    possible: list[Range] | None = None
    release: str | None = None
    machine: str | None = None
    page_bytes: int | None = None
    command_line: list[str] | None = None
    zones: dict[tuple[int, str], Range] | None = None
    zone_names: set[str] = field(default_factory=set)
    zones_path: str = ""
    ram: list[Range] | None = None
    firmware: bool | None = None


@dataclass(slots=True)
class _Place:
    """Where things are in a copy; None for what it does not have."""

    memory: Folder
    system: Folder | None
    sys: Folder | None
    top: Folder | None


# Memory directory, and the ways to /sys/devices/system, /sys and / from the same point
_LAYOUTS: Final = (
    ("sys/devices/system/memory", "sys/devices/system", "sys", "."),
    ("devices/system/memory", "devices/system", ".", None),
    ("system/memory", "system", None, None),
    ("memory", ".", None, None),
    (".", None, None, None),
)


def observe(root: Folder, live: bool) -> ObservedMachine:
    """Read everything.

    :param root: where the copy begins: at /, at /sys, one directory above either, or at the memory
        directory itself.
    :param live: it is no copy, but this host.
    :raises ConfigError: one line: file, and what is wrong with it.
    :raises EnvironmentProblem: this host has no memory blocks.
    """
    with ExitStack() as stack:
        place = _locate(root, stack, live)
        memory = place.memory
        names = memory.names()
        size = memory.text("block_size_bytes")
        seen = ObservedMachine(
            live=live,
            path=memory.path(),
            block_bytes=_block_bytes(size or "", memory.path("block_size_bytes")),
            blocks=[],
            names=names,
            auto_online=(
                memory.text("auto_online_blocks") if "auto_online_blocks" in names else None
            ),
        )
        _look_at_blocks(memory, seen)
        if place.system is not None:
            _look_at_nodes(place.system, seen)
        if place.sys is not None:
            _look_at_sys(place.sys, seen)
        if place.top is not None:
            _look_at_proc(place.top, seen)
        if live:
            seen.release, seen.machine = os.uname().release, os.uname().machine
            seen.page_bytes = os.sysconf("SC_PAGE_SIZE")
        return seen


def _locate(root: Folder, stack: ExitStack, live: bool) -> _Place:
    """The memory directory: at the top of the copy, or one directory below, as bug reports have it."""
    if found := _locate_below(root, "", stack):
        return found
    if live:
        raise EnvironmentProblem(
            f"no {MEMORY}/block_size_bytes: the kernel of this host has no memory blocks",
            "capture another machine with --from DIR",
        )
    found_below = []
    for name in sorted(root.names())[:1000]:
        try:
            below = _locate_below(root, f"{name}/", stack)
        except ConfigError:  # a link to elsewhere, which nobody asked for
            continue
        found_below += [(name, below)] if below else []
    if len(found_below) > 1:
        both = " and ".join(root.path(name) for name, _ in found_below[:2])
        raise ConfigError(f"{root.path()}: {both} are both copies of /sys; say which")
    if not found_below or found_below[0][1] is None:
        how = f"cp -r --parents {MEMORY} DIR"
        raise ConfigError(
            f"{root.path()}: no {MEMORY[1:]}/block_size_bytes in it; copy the directory with"
            f" `{how}`"
        )
    return found_below[0][1]


def _locate_below(root: Folder, prefix: str, stack: ExitStack) -> _Place | None:
    for memory_path, *others in _LAYOUTS:
        memory = root.folder(prefix + memory_path)
        if memory is None:
            continue
        stack.enter_context(memory)
        if memory.text("block_size_bytes") is None:
            continue
        system, sys, top = (None if path is None else root.folder(prefix + path) for path in others)
        for folder in (system, sys, top):
            if folder is not None:
                stack.enter_context(folder)
        return _Place(memory, system, sys, top)
    return None


def _block_bytes(text: str, path: str) -> int:
    if not re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,12}", text, re.ASCII):
        raise ConfigError(f"{path}: {quote(text)} is no size in hexadecimal")
    size = int(text, 16)
    if size & (size - 1) or not 1 << 24 <= size <= 1 << 46:
        decimal = int(text) if text.isdecimal() else 0
        hint = ""
        if decimal and not decimal & (decimal - 1) and decimal >= 1 << 24:
            hint = f"; it looks decimal, and Linux writes {decimal:x}"
        raise ConfigError(
            f"{path}: {quote(text)} in hexadecimal is no size of a memory block{hint}"
        )
    return size


def quote(text: str) -> str:
    """What a file says, for a message."""
    return f"`{printable(text, 40)}`" if text else "nothing"


def _look_at_blocks(memory: Folder, seen: ObservedMachine) -> None:
    numbers = []
    for name in seen.names:
        if not re.fullmatch(r"memory[0-9]+", name, re.ASCII):
            continue
        if not re.fullmatch(r"memory(0|[1-9][0-9]{0,11})", name, re.ASCII):
            raise ConfigError(f"{memory.path(name)}: no kernel gives a memory block such a number")
        numbers.append(int(name[6:]))
    if not numbers:
        raise ConfigError(f"{memory.path()}: there are no memory blocks in it")
    if len(numbers) > BLOCKS_LIMIT:
        raise ConfigError(
            f"{memory.path()}: {len(numbers)} memory blocks; {BLOCKS_LIMIT} are possible"
        )
    for number in sorted(numbers):
        folder = memory.folder(f"memory{number}")
        if folder is None:
            raise ConfigError(f"{memory.path(f'memory{number}')}: not a directory")
        with folder:
            seen.blocks.append(_look_at_block(folder, number, seen))


def _look_at_block(folder: Folder, number: int, seen: ObservedMachine) -> BlockSeen:
    names = folder.names()

    def text(name: str) -> str | None:
        return folder.text(name) if name in names else None

    def flag(name: str) -> bool | None:
        value = text(name)
        if value not in (None, "0", "1"):
            raise ConfigError(f"{folder.path(name)}: {quote(value or '')} is neither 0 nor 1")
        return None if value is None else value == "1"

    state, online = text("state"), flag("online")
    if state is None and online is None:
        raise ConfigError(f"{folder.path('state')}: missing; the copy is cut short")
    if state is None:
        state = "online" if online else "offline"
    elif state not in ("online", "offline", "going-offline"):
        raise ConfigError(f"{folder.path('state')}: {quote(state)} is no state of a memory block")
    elif online is not None and online != (state != "offline"):
        raise ConfigError(
            f"{folder.path('online')}: {int(online)}, and {folder.path('state')} says {state}"
        )
    index = text("phys_index")
    if index is not None and (
        not re.fullmatch(r"[0-9a-fA-F]{1,16}", index, re.ASCII) or int(index, 16) != number
    ):
        hint = "; it is hexadecimal" if index.isdecimal() and int(index) == number else ""
        path = folder.path("phys_index")
        raise ConfigError(
            f"{path}: {quote(index)} is not {number:08x}, the number of this block{hint}"
        )
    device = text("phys_device")
    if device is not None and not re.fullmatch(r"[0-9]{1,9}", device, re.ASCII):
        raise ConfigError(f"{folder.path('phys_device')}: {quote(device)} is no number")
    if state == "going-offline":
        seen.going_offline.append(number)
    links = sorted(
        int(name[4:]) for name in names if re.fullmatch(r"node[0-9]{1,4}", name, re.ASCII)
    )
    seen.links_kept = seen.links_kept or bool(links) or "subsystem" in names
    if len(links) > 2:
        raise ConfigError(
            f"{folder.path()}: linked to {len(links)} nodes; two at most can meet in a block"
        )
    zones = text("valid_zones")
    return BlockSeen(
        number,
        "offline" if state == "offline" else "online",
        None if zones is None else _zones(zones, folder, state),
        flag("removable"),
        None if device is None else int(device),
        tuple(links),
    )


def _zones(text: str, folder: Folder, state: str) -> tuple[str, ...]:
    words = text.lower().split()
    zones = tuple(_ZONES[word] for word in words if word in _ZONES)
    if len(zones) == len(words) == 1 or (len(zones) == len(words) > 1 and "none" not in zones):
        return () if zones == ("none",) and state != "online" else zones
    path = folder.path("valid_zones")
    if not words:
        raise ConfigError(f"{path}: empty; the copy is cut short")
    if "highmem" in words:
        raise ConfigError(f"{path}: HighMem is a zone of 32-bit kernels, which are not simulated")
    if len(zones) == len(words):
        raise ConfigError(f"{path}: {quote(text)}: none, and a zone nevertheless")
    raise ConfigError(f"{path}: {quote(text)}: memory blocks are in {', '.join(_ZONES.values())}")


def _ranges(text: str, path: str, most: int) -> list[Range]:
    """First and last of each part of a list like "0-3,8"; none of them is larger than `most`."""
    out: list[Range] = []
    for part in text.split(",") if text else ():
        m = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part, re.ASCII)
        first, last = (int(m[1]), int(m[2] or m[1])) if m else (1, 0)
        if first > last or (out and first <= out[-1][1]):
            raise ConfigError(f"{path}: {quote(text)} is no list of numbers like 0-3,8")
        if last > most:
            raise ConfigError(f"{path}: {last} is more than is simulated: {most} at most")
        out.append((first, last))
    return out


def _look_at_nodes(system: Folder, seen: ObservedMachine) -> None:
    folder = system.folder("node")
    if folder is None:
        return
    with folder:
        seen.node_names, seen.node_path = folder.names(), folder.path()
        seen.nodes = {}
        numbers = [
            int(n[4:])
            for n in seen.node_names
            if re.fullmatch(r"node(0|[1-9][0-9]{0,3})", n, re.ASCII)
        ]
        for number in sorted(numbers):
            node = folder.folder(f"node{number}")
            if node is None:
                raise ConfigError(f"{folder.path(f'node{number}')}: not a directory")
            if number >= NODES_LIMIT:
                raise ConfigError(f"{node.path()}: nodes 0 to {NODES_LIMIT - 1} are simulated")
            with node:
                seen.nodes[number] = _look_at_node(node)
        if (possible := folder.text("possible")) is not None:
            seen.possible = _ranges(possible, folder.path("possible"), 1 << 16)
        online = folder.text("online")
        listed = {
            n
            for a, b in _ranges(online or "", folder.path("online"), 1 << 16)
            for n in range(a, b + 1)
        }
        if online is not None and listed != set(seen.nodes):
            odd = min(listed ^ set(seen.nodes))
            have = "there is none" if odd in listed else "it is there"
            raise ConfigError(f"{folder.path('online')}: {quote(online)}, and of node{odd} {have}")
        seen.links_kept = seen.links_kept or any(node.blocks for node in seen.nodes.values())
        owner: dict[int, int] = {}
        for number, node_seen in seen.nodes.items():
            for first, last in node_seen.cpus or ():
                for cpu in range(first, last + 1):
                    if owner.setdefault(cpu, number) != number:
                        path = folder.path(f"node{number}/cpulist")
                        raise ConfigError(f"{path}: CPU {cpu} is on node {owner[cpu]}, too")
            _check_distances(
                node_seen, number, sorted(seen.nodes), folder.path(f"node{number}/distance")
            )


def _look_at_node(node: Folder) -> NodeSeen:
    names = node.names()
    huge = node.folder("hugepages")
    cpus, distance = node.text("cpulist"), node.text("distance")
    if distance is not None and not re.fullmatch(r"[0-9]{1,3}( [0-9]{1,3})*", distance, re.ASCII):
        raise ConfigError(f"{node.path('distance')}: {quote(distance)} is no list of distances")
    out = NodeSeen(
        cpus=(
            None
            if cpus is None
            else _ranges(cpus, node.path("cpulist"), CONFIG_DEFAULTS["NR_CPUS"] - 1)
        ),
        distances=None if distance is None else [int(word) for word in distance.split()],
        blocks={name for name in names if re.fullmatch(r"memory[0-9]+", name, re.ASCII)},
        huge_pages=huge.names() if huge is not None else set(),
        names=names,
        meminfo=node.text("meminfo") or "",
    )
    if huge is not None:
        huge.close()
    return out


def _check_distances(node: NodeSeen, number: int, online: Sequence[int], path: str) -> None:
    if node.distances is None:
        return
    if len(node.distances) != len(online):
        raise ConfigError(
            f"{path}: {len(node.distances)} distances, and {len(online)} nodes are online"
        )
    for other, distance in zip(online, node.distances, strict=True):
        if (distance != 10) if other == number else not 10 <= distance <= 255:
            raise ConfigError(
                f"{path}: {distance} is no distance of node {number} from node {other}"
            )


def _look_at_sys(sys: Folder, seen: ObservedMachine) -> None:
    parameters = sys.folder("module/memory_hotplug/parameters")
    if parameters is not None:
        with parameters:
            seen.parameters, seen.parameters_path = {}, parameters.path()
            for name in sorted(parameters.names())[:100]:
                value = parameters.text(name)
                seen.parameters[name] = value or ""
    firmware = sys.folder("firmware")
    if firmware is None:
        return
    with firmware:
        entries = firmware.folder("memmap")
        seen.firmware = entries is not None if seen.live or entries is not None else None
        if entries is not None:
            with entries:
                seen.ram = _look_at_firmware(entries)


def _look_at_firmware(entries: Folder) -> list[Range]:
    out = []
    names = [name for name in entries.names() if re.fullmatch(r"[0-9]{1,6}", name, re.ASCII)]
    for name in sorted(names, key=int)[: 1 << 14]:
        texts = {key: entries.text(f"{name}/{key}") for key in ("start", "end", "type")}
        numbers = []
        for key in ("start", "end"):
            text = texts[key] or ""
            if not re.fullmatch(r"0x[0-9a-f]{1,16}", text, re.ASCII):
                raise ConfigError(
                    f"{entries.path(name, key)}: {quote(text)} is no address in hexadecimal"
                )
            numbers.append(int(text, 16))
        if numbers[0] > numbers[1]:
            raise ConfigError(f"{entries.path(name)}: it ends before it starts")
        if texts["type"] == "System RAM":
            out.append((numbers[0], numbers[1] + 1))
    return out


def _look_at_proc(top: Folder, seen: ObservedMachine) -> None:
    """What only /proc tells, if the copy has it."""
    release = top.text("proc/sys/kernel/osrelease")
    version = top.text("proc/version") or ""
    uname = top.text("uname") if not seen.live else None
    for text, pattern in ((version, r"Linux version (\S+)"), (uname or "", r"Linux \S+ (\d\S+)")):
        if not release and (m := re.match(pattern, text)):
            release = m[1]
    seen.release = printable(release.split()[0]) if release and release.split() else None
    seen.machine = top.text("proc/sys/kernel/arch") or _machine_of(seen.release or "", top)
    line = top.text("proc/cmdline")
    if line is not None:
        words = line.split()
        seen.command_line = words[: words.index("--")] if "--" in words else words
    zones = top.text("proc/zoneinfo", TABLE_LIMIT)
    if zones:
        seen.zones_path = top.path("proc/zoneinfo")
        seen.zones, seen.zone_names = _zone_spans(zones, seen.zones_path)
    if seen.ram is None:
        ranges = _system_ram(top.text("proc/iomem", TABLE_LIMIT) or "")
        # zeros are for those who are not root
        seen.ram = ranges if any(end > 1 for _, end in ranges) else None


def _machine_of(release: str, top: Folder) -> str | None:
    """The architecture, as uname would call it."""
    known = {
        "x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "s390x": "s390x",
        "ppc64le": "ppc64le", "powerpc64le": "ppc64le",
    }  # fmt: skip
    for word, machine in known.items():
        if re.search(rf"[.-]{word}$", release):
            return machine
    cpuinfo = top.text("proc/cpuinfo", TABLE_LIMIT) or ""
    for pattern, machine in (
        (r"^vendor_id\s*: (Genuine|Authentic)", "x86_64"), (r"^vendor_id\s*: IBM/S390", "s390x"),
        (r"^CPU implementer", "aarch64"), (r"^cpu\s*: POWER", "ppc64le"),
    ):  # fmt: skip
        if re.search(pattern, cpuinfo, re.MULTILINE):
            return machine
    return None


def _zone_spans(text: str, path: str) -> tuple[dict[tuple[int, str], Range], set[str]]:
    """First and end page of each zone of /proc/zoneinfo that has any, and the names of all zones."""
    spans: dict[tuple[int, str], Range] = {}
    names: set[str] = set()
    zone: tuple[int, str] | None = None
    spanned = 0
    for line in text.splitlines():
        if m := re.match(r"Node ([0-9]{1,6}), zone\s+(\w+)", line, re.ASCII):
            zone, spanned = (int(m[1]), m[2]), 0
            names.add(m[2])
        elif m := re.match(r"\s+spanned\s+([0-9]{1,18})$", line, re.ASCII):
            spanned = int(m[1])
        elif (
            (m := re.match(r"\s+start_pfn:\s+([0-9]{1,18})$", line, re.ASCII)) and zone and spanned
        ):
            spans[zone] = (int(m[1]), int(m[1]) + spanned)
    if not names:
        raise ConfigError(f"{path}: there are no zones in it")
    return spans, names


def _system_ram(iomem: str) -> list[Range]:
    pattern = re.compile(
        r"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM", re.MULTILINE | re.ASCII
    )
    return [(int(m[1], 16), int(m[2], 16) + 1) for m in pattern.finditer(iomem)]
