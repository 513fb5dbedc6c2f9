"""A machine file of a machine that exists: of this host, or of another one whose /sys somebody has
copied.

Owns: what is inferred where a file is missing, the text of the machine file, and whether it makes
the same blocks. Does not own: what the files of a copy say, and whether they agree
(observed_machine.py), reading one that cannot be trusted (sysfs_copy.py), what the keys of a
machine file do (machine_config.py, block_list.py).

    copy -> Survey: what its files say -> _Draft: a machine like that -> text, tried out: the same blocks? -> Capture

What is inferred is said twice: in a comment of the file, and in `Capture.notes`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ..config.address_map import Range
from ..config.block_list import BlockList, BlockRun
from ..config.kernel_config import CONFIG_DEFAULTS
from ..config.limits import MEMORY_LIMIT, NODES_LIMIT
from ..config.machine_config import DEFAULT_KERNEL, MachineConfig
from ..config.profiles import list_kernels, load_arch, load_kernel, nearest_kernel
from ..errors import ConfigError
from ..machine import Machine
from .observed_machine import MEMORY, Survey, quote, survey
from .sysfs_copy import open_copy, printable

__all__ = ["Capture", "capture"]

_SLOTS: Final = 32


@dataclass(frozen=True, slots=True)
class Capture:
    """A machine as a machine file.

    :param text: the file.
    :param notes: what was inferred, and what will differ; a line each.
    """

    text: str
    notes: tuple[str, ...]


def capture(
    source: str | Path | None = None, *, arch: str | None = None, kernel: str | None = None
) -> Capture:
    """The machine file of a machine that exists.

    :param source: a copy of its /sys: a directory, or an archive of tar, whether or not it has a
        leading `sys`. None for this host.
    :param arch: its architecture, when the copy does not tell.
    :param kernel: the profile to use, instead of the nearest to its kernel.
    :raises ConfigError: the copy is none, cut short, or contradicts itself: file and reason, in one
        line.
    :raises EnvironmentProblem: this host has no memory blocks.
    """
    with open_copy(source or "/") as root:
        seen = survey(root, live=source is None)
    draft = _Draft(seen, arch, kernel)
    differences = _try_out(seen, draft)
    if draft.may_prefer_movable and differences:
        other = replace(draft, movable_node=True)
        if len(again := _try_out(seen, other)) < len(differences):
            other.note("the kernel seems to run with movable_node: offline blocks prefer Movable")
            draft, differences = other, again
    for difference in differences:
        draft.note(difference)
    return Capture(draft.text(), tuple(draft.notes))


# ------------------------------------------------------------------------------ a machine like that


@dataclass(frozen=True, slots=True)
class _Profile:
    """Kernel and architecture of a draft.

    :param arch: content of its data file.
    :param released: the release the machine has, "" when nobody knows.
    """

    kernel: str
    features: frozenset[str]
    arch_name: str
    arch: Mapping[str, Any]
    released: str


@dataclass(frozen=True)
class _Draft:
    """The machine file before it is text.

    :param movable_node: the kernel prefers Movable where it has a choice.
    """

    seen: Survey
    arch: str | None
    kernel: str | None
    movable_node: bool = False
    notes: list[str] = field(default_factory=list)
    profile: _Profile = field(init=False)
    blocks: BlockList = field(init=False)
    may_prefer_movable: bool = field(init=False)

    def __post_init__(self) -> None:
        self.notes.clear()
        words = [word.replace("-", "_") for word in self.seen.command_line or ()]
        unknown = self.seen.command_line is None and any(
            block.state == "offline" for block in self.seen.blocks
        )
        object.__setattr__(self, "may_prefer_movable", unknown and not self.movable_node)
        object.__setattr__(self, "movable_node", self.movable_node or "movable_node" in words)
        object.__setattr__(self, "profile", self._choose())
        object.__setattr__(self, "blocks", self._block_list())
        self._tell_what_lacks()

    def note(self, text: str) -> None:
        """Remember what was inferred."""
        self.notes.append(text)

    # Kernel and architecture

    def _choose(self) -> _Profile:
        seen, released = self.seen, self.seen.release or ""
        kernel = self.kernel or self._nearest(released)
        features = frozenset(load_kernel(kernel, "--kernel")["features"])
        arch_name = self.arch or self._nearest_arch()
        arch = load_arch(arch_name, "--arch", features)
        section = 1 << arch["section_shift"]
        if seen.block_bytes < section:
            raise ConfigError(
                f"{seen.path}/block_size_bytes: {seen.block_bytes:x} is less than a section of"
                f" {arch_name} with Linux {kernel}, {section:x}; if it is another architecture or"
                " kernel, say --arch or --kernel"
            )
        return _Profile(kernel, features, arch_name, arch, released)

    def _nearest(self, released: str) -> str:
        """The kernel profile that is nearest to the release, or to what there is to see."""
        kernels = list_kernels()
        has = {name: frozenset(load_kernel(name, "")["features"]) for name in kernels}
        signs, must = dict(self._signs()), set(self._musts())
        if not released:
            wrong = {
                name: sum((sign in has[name]) != there for sign, there in signs.items())
                for name in kernels
            }
            wrong = {name: count + 100 * len(must - has[name]) for name, count in wrong.items()}
            least = min(wrong.values())
            usual = kernels.index(DEFAULT_KERNEL)
            best = min(
                (n for n in kernels if wrong[n] == least),
                key=lambda n: abs(kernels.index(n) - usual),
            )
            self.note(f"the kernel: the copy does not name it; {best} fits what there is to see")
            return best
        named = nearest_kernel(released)
        at = kernels.index(named)
        by_distance = sorted(kernels, key=lambda name: abs(kernels.index(name) - at))
        best = next((name for name in by_distance if must <= has[name]), named)
        if best != named:
            lacks = ", ".join(sorted(must - has[named]))
            self.note(
                f"the kernel: {released} does what Linux {named} does not ({lacks}); {best} is used"
            )
        return best

    def _musts(self) -> Iterator[str]:
        """What the kernel certainly does."""
        seen = self.seen
        if seen.auto_online in ("online_kernel", "online_movable"):
            yield "auto_online_four_words"
        if seen.parameters is not None and "online_policy" in seen.parameters:
            yield "online_policy"
        if seen.parameters is not None and seen.parameters.get("memmap_on_memory") == "force":
            yield "memmap_on_memory_force"
        if "crash_hotplug" in seen.names:
            yield "crash_hotplug"
        if any("reclaim" in node.names for node in (seen.nodes or {}).values()):
            yield "node_reclaim"
        if self.arch is None and seen.machine == "aarch64" and seen.block_bytes < 1 << 30:
            yield "arm64_small_sections"

    def _signs(self) -> Iterator[tuple[str, bool]]:
        """What the kernel seems to do, or not."""
        seen = self.seen
        if seen.parameters is not None:
            yield "online_policy", "online_policy" in seen.parameters
        if "possible" in seen.node_names:
            yield "has_generic_initiator", "has_generic_initiator" in seen.node_names
        if meminfo := next(
            (node.meminfo for node in (seen.nodes or {}).values() if node.meminfo), ""
        ):
            for feature, line in (
                ("meminfo_secpagetables", "SecPageTables:"), ("node_swapcached", "SwapCached:"),
                ("meminfo_filehuge", "FileHugePages:"), ("meminfo_kreclaimable", "KReclaimable:"),
            ):  # fmt: skip
                yield feature, line in meminfo
            yield (
                "node_memory_failure",
                any("memory_failure" in node.names for node in (seen.nodes or {}).values()),
            )
        removable = {block.removable for block in seen.blocks if block.state == "online"}
        if removable == {True, False}:
            yield "removable_const", False

    def _nearest_arch(self) -> str:
        seen = self.seen
        if seen.machine == "aarch64":
            return self._nearest_arm()
        known = {"x86_64": "x86_64", "s390x": "s390x", "ppc64le": "ppc64le", "ppc64": "ppc64le"}
        if seen.machine in known:
            return known[seen.machine]
        zones = {
            zone for block in seen.blocks if block.state == "online" for zone in block.zones or ()
        }
        first = seen.blocks[0]
        if seen.block_bytes < 1 << 27:
            arch = "ppc64le"  # only there are sections smaller than that
        elif (
            first.zones == ("DMA",)
            and first.number == 0
            and seen.block_bytes >= 1 << 28
            and "DMA32" not in zones
        ):
            arch = "s390x"
        elif first.zones == ("DMA",):
            arch = self._nearest_arm()  # on a PC zone DMA is smaller than a block
        elif zones and not zones & {"DMA", "DMA32", "none"} and first.number == 0:
            arch = "ppc64le"
        else:
            arch = "x86_64"
        unknown = (
            f"{printable(seen.machine)} is not simulated"
            if seen.machine
            else "the copy does not name it"
        )
        self.note(f"the architecture: {unknown}; {arch} fits block size and zones")
        return arch

    def _nearest_arm(self) -> str:
        """Which size of pages. Huge pages of 2 MiB, 32 MiB or 512 MiB tell, or where zones are."""
        by_page = {12: "aarch64", 14: "aarch64-16k", 16: "aarch64-64k"}
        if self.seen.page_bytes:
            return by_page[self.seen.page_bytes.bit_length() - 1]
        huge = {name for node in (self.seen.nodes or {}).values() for name in node.huge_pages}
        for size, shift in ((2048, 12), (32768, 14), (524288, 16)):
            if f"hugepages-{size}kB" in huge:
                return by_page[shift]
        for shift, arch in by_page.items() if self.seen.zones else ():
            if not self._outside(shift):
                return arch
        arch = by_page[16 if self.seen.block_bytes == 1 << 29 else 12]
        self.note(f"the size of pages: the copy does not tell; {arch} is used")
        return arch

    def _outside(self, page_shift: int) -> tuple[int, str, int] | None:
        """Node, zone, block: one that /proc/zoneinfo contradicts, if pages are of this size."""
        for block in self.seen.blocks:
            if (
                block.state != "online"
                or not block.zones
                or block.zones[0] == "none"
                or len(block.links) != 1
            ):
                continue
            key = (block.links[0], block.zones[0])
            first, end = self.seen.zones.get(key, (0, 0)) if self.seen.zones else (0, 1 << 60)
            start, stop = (
                n * self.seen.block_bytes >> page_shift for n in (block.number, block.number + 1)
            )
            if stop <= first or start >= end:
                return *key, block.number
        return None

    # Blocks

    def _block_list(self) -> BlockList:
        seen = self.seen
        if not any(block.state == "online" for block in seen.blocks):
            raise ConfigError(
                f"{seen.path}: no memory block is online; a kernel needs memory to run in"
            )
        runs = list(_compressed(self._runs()))
        self._tell_of_blocks()
        if seen.live and "probe" not in seen.names:
            self.note(
                "the file `probe`: this kernel has none; --config ARCH_MEMORY_PROBE=n is without"
                " it, too"
            )
        holes = None if seen.ram is None else tuple(_holes(runs, seen.block_bytes, seen.ram))
        return BlockList(seen.block_bytes, tuple(runs), (), holes or (), "the copy")

    def _runs(self) -> Iterator[BlockRun]:
        """A run for each block."""
        seen = self.seen
        before = next((block.links[0] for block in seen.blocks if block.links), 0)
        owners: dict[str, list[int]] = {}
        for number, node in (seen.nodes or {}).items():
            for name in node.blocks:
                owners.setdefault(name, []).append(number)
        alone: list[int] = []
        some_links = seen.links_kept and (
            seen.nodes is not None or any(block.links for block in seen.blocks)
        )
        for block in seen.blocks:
            owner = tuple(sorted(owners.get(f"memory{block.number}", ())))
            if owner and block.links and owner != block.links:
                others = " and ".join(f"node{n}" for n in owner)
                raise ConfigError(
                    f"{seen.path}/memory{block.number}: linked to node{block.links[0]}, and"
                    f" {others} has it as its own"
                )
            nodes = block.links or owner
            if seen.nodes is not None and any(node not in seen.nodes for node in nodes):
                lost = f"node{next(node for node in nodes if node not in seen.nodes)}"
                raise ConfigError(
                    f"{seen.path}/memory{block.number}/{lost}: there is no {seen.node_path}/{lost}"
                )
            if any(node >= NODES_LIMIT for node in nodes):
                raise ConfigError(
                    f"{seen.path}/memory{block.number}: nodes 0 to {NODES_LIMIT - 1} are simulated"
                )
            if not nodes:
                alone.append(block.number)
                nodes = (before,)
            before = nodes[-1]
            zones = block.zones or ()
            if block.state == "online" and len(nodes) == 2:
                zones = ("none",)
            yield BlockRun(
                block.number, block.number, block.state, zones[:1] if block.state == "online" else zones,
                nodes if block.state == "online" else nodes[:1], bool(block.links) or not some_links,
                block.removable is not False, block.phys_device or 0,
            )  # fmt: skip
        if seen.nodes is not None and alone:
            self.note(
                f"{_blocks(alone)}: no link to a node; on that of the block before, or else of the"
                " next"
            )
        elif seen.nodes is None and len(alone) == len(seen.blocks):
            self.note("nodes: there are none, so this is a kernel without NUMA")

    def _tell_of_blocks(self) -> None:
        """Say what the files of blocks did not."""
        blocks = self.seen.blocks
        for what, numbers in (
            ("the zone: no valid_zones; by address", [b.number for b in blocks if b.zones is None]),
            (
                "whether it is removable: no such file; it is",
                [b.number for b in blocks if b.removable is None],
            ),
            ("phys_device: no such file; 0", [b.number for b in blocks if b.phys_device is None]),
            ("it was going offline; it is online here", self.seen.going_offline),
        ):
            if numbers:
                self.note(f"{_blocks(numbers)}: {what}")
        if not self.seen.links_kept and self.seen.nodes is not None:
            self.note(
                "links between blocks and nodes: the copy has no links at all; they are there"
            )

    def _tell_what_lacks(self) -> None:
        """Say which files were missing, so that what they tell is as usual."""
        seen = self.seen
        parameters = "online_policy" in self.profile.features
        nodes = seen.nodes or {}
        lacks = {
            "auto_online_blocks": seen.auto_online is None,
            "module/memory_hotplug/parameters": parameters and seen.parameters is None,
            "node (CPUs, distances)": (
                seen.nodes is None and any(block.links for block in seen.blocks)
            ),
            "node*/cpulist": any(node.cpus is None for node in nodes.values()),
            "node*/distance": (
                len(nodes) > 1 and any(node.distances is None for node in nodes.values())
            ),
            "firmware/memmap and proc/iomem (holes within blocks)": seen.ram is None,
        }
        if missing := ", ".join(name for name, lacking in lacks.items() if lacking):
            self.note(f"not there, so as usual here: {missing}")

    # The text

    def text(self) -> str:
        """The machine file."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        profile, blocks, seen = self.profile, self.blocks, self.seen
        count = blocks.bytes // blocks.block_bytes
        source = f"Linux {profile.released}" if profile.released else "a machine"
        yield f"# Memory blocks as they were found on {source}: a machine file of fakesysfs."
        yield "#     fakesysfs run --machine THIS_FILE -- lsmem"
        if self.notes:
            yield "# Inferred, or not the same:"
            yield from (f"# - {printable(note, 400)}" for note in self.notes)
        yield ""
        yield (
            f'title = "{_size(blocks.bytes)} in {count} blocks of {_size(blocks.block_bytes)},'
            ' captured"'
        )
        yield f'arch = "{profile.arch_name}"'
        yield f'kernel = "{profile.kernel}"' + (
            f"  # nearest to {profile.released}" if profile.released else ""
        )
        if memory := self._memory():
            yield (
                f'memory = "{memory}"  # room to plug as much again; what the machine had does not'
                " show"
            )
        if words := list(self._append()):
            yield f'append = "{" ".join(words)}"'
        if nodes := list(self._nodes()):
            yield "node = [" + ", ".join(f'"{node}"' for node in nodes) + "]"
        if distances := list(self._distances()):
            yield "distance = [" + ", ".join(f'"{distance}"' for distance in distances) + "]"
        if config := dict(self._config()):
            yield (
                "config = {"
                + ", ".join(f"{key} = {str(on).lower()}" for key, on in config.items())
                + "}"
            )
        yield f"block_bytes = {blocks.block_bytes:#x}  # {_size(blocks.block_bytes)}"
        if seen.ram is not None:
            yield "# Within blocks, but no RAM: start, and end exclusive"
            yield "holes = [" + ", ".join(f"[{a:#x}, {b:#x}]" for a, b in blocks.holes) + "]"
        if spans := list(self._spans()):
            yield "# What zones span beyond the blocks in them"
            yield "zone = ["
            yield from (
                f'    {{node = {n}, name = "{z}", range = [{a:#x}, {b:#x}]}},'
                for a, b, n, z in spans
            )
            yield "]"
        yield ""
        yield (
            '# The rest of each is: last = first, state = "online", node = 0, node_link = true,'
            " removable = true,"
        )
        yield (
            "# phys_device = 0. `zones` of an offline block is what it could join: a record, and a"
            " hint at spans."
        )
        yield "block = ["
        yield from (f"    {_table(run)}," for run in blocks.runs)
        yield "]"

    def _memory(self) -> str:
        """DIMM slots: nobody can see how many there are."""
        total, arch = self.blocks.bytes, self.profile.arch
        maxmem = min(2 * total, MEMORY_LIMIT)
        top = (self.blocks.runs[-1].last + 1) * self.blocks.block_bytes
        fits = top + maxmem + _SLOTS * (1 << 31) < 1 << min(arch["max_phys_bits"], 52)
        if arch.get("flat", {}).get("standby") or maxmem == total or not fits:
            return ""
        return f"{_size(total)},slots={_SLOTS},maxmem={_size(maxmem)}"

    def _append(self) -> Iterator[str]:
        """Policies that are set now, as words for the kernel's command line."""
        seen, parameters = self.seen, self.seen.parameters or {}
        if self.movable_node:
            yield "movable_node"
        if seen.auto_online is not None:
            if seen.auto_online not in ("offline", "online", "online_kernel", "online_movable"):
                raise ConfigError(
                    f"{seen.path}/auto_online_blocks: {quote(seen.auto_online)} is no policy"
                )
            yield f"memhp_default_state={seen.auto_online}"
        for name, pattern, usual in (
            ("online_policy", r"contig-zones|auto-movable", "contig-zones"),
            ("auto_movable_ratio", r"[0-9]{1,9}", "301"),
            ("auto_movable_numa_aware", r"[YN]", "Y"),
            ("memmap_on_memory", r"[YN]|force", "N"),
        ):
            value = parameters.get(name, usual)
            if not re.fullmatch(pattern, value, re.ASCII):
                raise ConfigError(
                    f"{seen.parameters_path}/{name}: {quote(value)} is no value of it"
                )
            if value != usual:
                yield f"memory_hotplug.{name}={value}"

    def _count_nodes(self) -> int:
        used = [node for run in self.blocks.runs for node in run.nodes]
        possible = [last for _, last in self.seen.possible or ()]
        highest = max([*used, *(self.seen.nodes or ()), *possible])
        return int(min(highest + 1, NODES_LIMIT))

    def _nodes(self) -> Iterator[str]:
        """QEMU's words for the nodes; they have no sizes, for the blocks do."""
        if self.seen.nodes is None and self._count_nodes() == 1:
            return
        for number in range(self._count_nodes()):
            node = (self.seen.nodes or {}).get(number)
            cpus = ";".join(
                str(a) if a == b else f"{a}-{b}" for a, b in (node.cpus if node else None) or ()
            )
            yield f"cpus={cpus}" if cpus else ""

    def _distances(self) -> Iterator[str]:
        nodes = self.seen.nodes or {}
        table = {
            (a, b): distance
            for a, node in nodes.items()
            for b, distance in zip(sorted(nodes), node.distances or (), strict=False)
        }
        for (a, b), distance in sorted(table.items()):
            other = table.get((b, a), distance)
            if (a < b and distance == other != 20) or distance != other:
                yield f"{a},{b},{distance}"

    def _config(self) -> Iterator[tuple[str, bool]]:
        """Configuration that shows; only what differs from how this architecture usually is."""
        seen = self.seen
        usual = {**CONFIG_DEFAULTS, **self.profile.arch.get("config", {})}
        found: dict[str, bool] = {}
        removable = {block.removable for block in seen.blocks if block.state == "online"}
        if all(block.zones is None for block in seen.blocks) and removable == {False}:
            found["MEMORY_HOTREMOVE"] = False
        if seen.nodes is None and not any(block.links for block in seen.blocks):
            found["NUMA"] = False
        if "crash_hotplug" in seen.names:
            found["CRASH_HOTPLUG"] = True
        if seen.firmware is not None:
            found["FIRMWARE_MEMMAP"] = seen.firmware
        if seen.live:  # a copy never has the files that cannot be read
            found["MEMORY_FAILURE"] = "soft_offline_page" in seen.names
            if "probe" in seen.names:
                found["ARCH_MEMORY_PROBE"] = True
        if seen.zone_names:
            found["ZONE_DEVICE"] = "Device" in seen.zone_names
        return ((name, on) for name, on in found.items() if on != bool(usual[name]))

    def _spans(self) -> Iterator[tuple[int, int, int, str]]:
        """Spans of /proc/zoneinfo that do not follow from the blocks."""
        seen, profile, size = self.seen, self.profile, self.blocks.block_bytes
        if not seen.zones:
            return
        shift = profile.arch["page_shift"]
        if outside := self._outside(shift):
            node, zone, number = outside
            where = f"{seen.zones_path}: zone {zone} of node {node}"
            raise ConfigError(f"{where} does not span memory{number}, which is in it")
        derived = self.blocks.reach(profile.arch.get("zone_limits", {}), self.movable_node)
        for (node, zone), (first, end) in sorted(seen.zones.items()):
            start, stop = first << shift, end << shift
            low, high = derived.get(node, {}).get(zone, (0, 0))
            same = (start // size, -(-stop // size)) == (low // size, -(-high // size))
            if (
                zone in ("DMA", "DMA32", "Normal", "Movable")
                and not same
                and (low != high or zone == "Movable")
            ):
                yield start, stop, node, zone


def _compressed(runs: Iterable[BlockRun]) -> Iterator[BlockRun]:
    """Blocks in a row that are alike, made one run."""
    last: BlockRun | None = None
    for run in runs:
        if last and (longer := _joined(last, run)):
            last = longer
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def _joined(run: BlockRun, block: BlockRun) -> BlockRun | None:
    """The run with one more block, if it is the next one and like the others."""
    count = run.last - run.first + 1
    step = run.phys_device_step if count > 1 else max(block.phys_device - run.phys_device, 0)
    like = replace(
        run, first=block.first, last=block.last, phys_device=block.phys_device, phys_device_step=0
    )
    if (
        block.first != run.last + 1
        or like != block
        or block.phys_device != run.phys_device + count * step
    ):
        return None
    return replace(run, last=block.last, phys_device_step=step)


def _holes(runs: Iterable[BlockRun], size: int, ram: Iterable[Range]) -> Iterator[Range]:
    """What is no RAM in blocks that have some. Blocks of which nothing is known to be RAM were
    added later.
    """
    pieces: list[Range] = []
    for run in runs:
        start, end = run.first * size, (run.last + 1) * size
        if pieces and pieces[-1][1] == start:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    known: list[Range] = []
    for start, end in sorted(ram):
        if known and start <= known[-1][1]:
            known[-1] = (known[-1][0], max(known[-1][1], end))
        else:
            known.append((start, end))
    edges = [(0, 0), *known, (1 << 64, 1 << 64)]
    gaps = [(before[1], after[0]) for before, after in pairwise(edges)]
    at = 0
    for start, end in pieces:
        while gaps[at][1] <= start:
            at += 1
        for gap in gaps[at:]:
            if gap[0] >= end:
                break
            low, high = max(start, gap[0]), min(end, gap[1])
            if low // size == (high - 1) // size and (low % size or high % size):
                yield low, high
                continue
            if low % size:
                yield low, low - low % size + size
            if high % size:
                yield high - high % size, high


def _blocks(numbers: Sequence[int]) -> str:
    """ "memory0, memory4-memory7 and 12 more" """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"memory{a}" if a == b else f"memory{a}-memory{b}" for a, b in runs[:5]]
    rest = sum(b - a + 1 for a, b in runs[5:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _size(size: int) -> str:
    """The shortest exact way to write a size."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M")):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{size}b"


def _table(run: BlockRun) -> str:
    """A run as an inline table, without what is usual."""
    words = [f"first = {run.first}"]
    if run.last != run.first:
        words.append(f"last = {run.last}")
    if not run.online:
        words.append('state = "offline"')
    if run.zones:
        words.append(f'zones = "{" ".join(run.zones)}"')
    if run.nodes != (0,):
        words.append(f"node = {run.nodes[0] if len(run.nodes) == 1 else list(run.nodes)}")
    if not run.linked:
        words.append("node_link = false")
    if not run.removable:
        words.append("removable = false")
    if run.phys_device:
        words.append(f"phys_device = {run.phys_device}")
    if run.phys_device_step:
        words.append(f"phys_device_step = {run.phys_device_step}")
    return "{" + ", ".join(words) + "}"


# ---------------------------------------------------------------------------------------- trying it


def _try_out(seen: Survey, draft: _Draft) -> list[str]:
    """Make the machine, and say what its blocks have otherwise than those that were seen."""
    with tempfile.TemporaryDirectory(prefix="fakesysfs-") as folder:
        path = Path(folder) / "machine.toml"
        path.write_text(draft.text())
        try:
            config = MachineConfig.from_options(machine=path)
            machine = Machine(config)
        except ConfigError as e:
            raise ConfigError(
                f"{seen.path}: no machine can be made of it: {str(e).replace(str(path), 'it')}"
            ) from None
    with machine:
        return list(_differences(seen, machine))


def _differences(seen: Survey, machine: Machine) -> Iterator[str]:
    """What differs, blocks that differ in the same way together."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for block in seen.blocks:
        path = f"{MEMORY}/memory{block.number}"
        wanted = {
            "state": block.state,
            "valid_zones": None if block.zones is None else " ".join(block.zones) or "none",
            "removable": None if block.removable is None else str(int(block.removable)),
            "phys_device": None if block.phys_device is None else str(block.phys_device),
        }
        for name, value in wanted.items():
            if value is None or block.number in seen.going_offline:
                continue
            try:
                here = machine.read_text(f"{path}/{name}").strip()
            except FileNotFoundError:
                here = "missing"
            if here != value:
                found.setdefault((name, value, here), []).append(block.number)
    for (name, value, here), numbers in found.items():
        yield f"{_blocks(numbers)}: {name} was `{value}`, and is `{here}` here"
