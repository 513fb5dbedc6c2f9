"""A machine file of a machine that exists: of this host, or of another one whose /sys somebody has
copied.

Owns: the text of the machine file, and whether it makes the same blocks. Does not own: what is
inferred where a file is missing (nearest_profile.py, captured_blocks.py), what the files of a copy
say, and whether they agree (observed_machine.py), reading one that cannot be trusted
(sysfs_copy.py), what the keys of a machine file do (config/).

    copy -> ObservedMachine: what its files say -> Draft: a machine like that -> text, tried out: the same blocks? -> Capture

What is inferred is said twice: in a comment of the file, and in `Capture.notes`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..config.block_list import BlockList, BlockRun
from ..config.kernel_config import CONFIG_DEFAULTS
from ..config.limits import MEMORY_LIMIT, NODES_LIMIT
from ..config.machine_config import MachineConfig
from ..config.sizes import show_size
from ..config.zone_names import BLOCK_ZONES
from ..errors import ConfigError
from ..machine import Machine
from .captured_blocks import captured_blocks, name_blocks
from .nearest_profile import Profile, ProfileChoice, contradicted_zone
from .observed_machine import MEMORY, ObservedMachine, observe, quote
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
        seen = observe(root, live=source is None)
    notes: list[str] = []
    profile = ProfileChoice(seen, arch, kernel, notes.append).choose()
    blocks = captured_blocks(seen, notes.append)
    words = [word.replace("-", "_") for word in seen.command_line or ()]
    draft = Draft(seen, profile, blocks, "movable_node" in words, notes)
    differences = _try_out(seen, draft)
    unknown = seen.command_line is None and any(b.state == "offline" for b in seen.blocks)
    if unknown and differences:
        other = Draft(seen, profile, blocks, True, notes)
        if len(again := _try_out(seen, other)) < len(differences):
            other.notes.append(
                "the kernel seems to run with movable_node: offline blocks prefer Movable"
            )
            draft, differences = other, again
    draft.notes += differences
    return Capture(draft.text(), tuple(draft.notes))


# ------------------------------------------------------------------------------ a machine like that


class Draft:
    """The machine file before it is text.

    :param movable_node: the kernel prefers Movable where it has a choice.
    :param notes: what was inferred so far.
    """

    def __init__(
        self,
        seen: ObservedMachine,
        profile: Profile,
        blocks: BlockList,
        movable_node: bool,
        notes: list[str],
    ) -> None:
        self.seen = seen
        self.profile = profile
        self.blocks = blocks
        self.movable_node = movable_node
        self.notes = [*notes, *self._what_lacks()]

    def _what_lacks(self) -> Iterator[str]:
        """Which files were missing, so that what they tell is as usual."""
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
            yield f"not there, so as usual here: {missing}"

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
            f'title = "{show_size(blocks.bytes)} in {count} blocks of {show_size(blocks.block_bytes)},'
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
        yield f"block_bytes = {blocks.block_bytes:#x}  # {show_size(blocks.block_bytes)}"
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
        return f"{show_size(total)},slots={_SLOTS},maxmem={show_size(maxmem)}"

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
        if outside := contradicted_zone(seen, shift):
            node, zone, number = outside
            where = f"{seen.zones_path}: zone {zone} of node {node}"
            raise ConfigError(f"{where} does not span memory{number}, which is in it")
        derived = self.blocks.reach(profile.arch.get("zone_limits", {}), self.movable_node)
        for (node, zone), (first, end) in sorted(seen.zones.items()):
            start, stop = first << shift, end << shift
            low, high = derived.get(node, {}).get(zone, (0, 0))
            same = (start // size, -(-stop // size)) == (low // size, -(-high // size))
            if zone in BLOCK_ZONES and not same and (low != high or zone == "Movable"):
                yield start, stop, node, zone


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


def _try_out(seen: ObservedMachine, draft: Draft) -> list[str]:
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


def _differences(seen: ObservedMachine, machine: Machine) -> Iterator[str]:
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
        yield f"{name_blocks(numbers)}: {name} was `{value}`, and is `{here}` here"
