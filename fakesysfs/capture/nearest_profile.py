"""Which kernel and architecture a machine that was seen is most like.

Owns: what each file tells about the kernel and about the size of pages. Does not own: what the
profiles are (config/profiles.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.machine_config import DEFAULT_KERNEL
from ..config.profiles import list_kernels, load_arch, load_kernel, nearest_kernel
from ..errors import ConfigError
from .observed_machine import ObservedMachine
from .sysfs_copy import printable

__all__ = ["Profile", "ProfileChoice", "contradicted_zone"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Kernel and architecture of a captured machine.

    :param arch: content of its data file.
    :param released: the release the machine has, "" when nobody knows.
    """

    kernel: str
    features: frozenset[str]
    arch_name: str
    arch: Mapping[str, Any]
    released: str


class ProfileChoice:
    """The choice of a profile.

    :param arch: the architecture, when somebody has named it.
    :param kernel: the kernel profile, when somebody has named it.
    :param note: takes a line for everything that is inferred.
    """

    def __init__(
        self,
        seen: ObservedMachine,
        arch: str | None,
        kernel: str | None,
        note: Callable[[str], object],
    ) -> None:
        self._seen = seen
        self._arch = arch
        self._kernel = kernel
        self._note = note

    def choose(self) -> Profile:
        """Return the profile, after noting what was inferred."""
        seen, released = self._seen, self._seen.release or ""
        kernel = self._kernel or self._nearest(released)
        features = frozenset(load_kernel(kernel, "--kernel")["features"])
        arch_name = self._arch or self._nearest_arch()
        arch = load_arch(arch_name, "--arch", features)
        section = 1 << arch["section_shift"]
        if seen.block_bytes < section:
            raise ConfigError(
                f"{seen.path}/block_size_bytes: {seen.block_bytes:x} is less than a section of"
                f" {arch_name} with Linux {kernel}, {section:x}; if it is another architecture or"
                " kernel, say --arch or --kernel"
            )
        return Profile(kernel, features, arch_name, arch, released)

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
            self._note(f"the kernel: the copy does not name it; {best} fits what there is to see")
            return best
        named = nearest_kernel(released)
        at = kernels.index(named)
        by_distance = sorted(kernels, key=lambda name: abs(kernels.index(name) - at))
        best = next((name for name in by_distance if must <= has[name]), named)
        if best != named:
            lacks = ", ".join(sorted(must - has[named]))
            self._note(
                f"the kernel: {released} does what Linux {named} does not ({lacks}); {best} is used"
            )
        return best

    def _musts(self) -> Iterator[str]:
        """What the kernel certainly does."""
        seen = self._seen
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
        if self._arch is None and seen.machine == "aarch64" and seen.block_bytes < 1 << 30:
            yield "arm64_small_sections"

    def _signs(self) -> Iterator[tuple[str, bool]]:
        """What the kernel seems to do, or not."""
        seen = self._seen
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
        seen = self._seen
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
        self._note(f"the architecture: {unknown}; {arch} fits block size and zones")
        return arch

    def _nearest_arm(self) -> str:
        """Which size of pages. Huge pages of 2 MiB, 32 MiB or 512 MiB tell, or where zones are."""
        by_page = {12: "aarch64", 14: "aarch64-16k", 16: "aarch64-64k"}
        if self._seen.page_bytes:
            return by_page[self._seen.page_bytes.bit_length() - 1]
        huge = {name for node in (self._seen.nodes or {}).values() for name in node.huge_pages}
        for size, shift in ((2048, 12), (32768, 14), (524288, 16)):
            if f"hugepages-{size}kB" in huge:
                return by_page[shift]
        for shift, arch in by_page.items() if self._seen.zones else ():
            if not contradicted_zone(self._seen, shift):
                return arch
        arch = by_page[16 if self._seen.block_bytes == 1 << 29 else 12]
        self._note(f"the size of pages: the copy does not tell; {arch} is used")
        return arch


def contradicted_zone(seen: ObservedMachine, page_shift: int) -> tuple[int, str, int] | None:
    """Return node, zone, block: one that /proc/zoneinfo contradicts, if pages are of this size."""
    for block in seen.blocks:
        if (
            block.state != "online"
            or not block.zones
            or block.zones[0] == "none"
            or len(block.links) != 1
        ):
            continue
        key = (block.links[0], block.zones[0])
        first, end = seen.zones.get(key, (0, 0)) if seen.zones else (0, 1 << 60)
        start, stop = (n * seen.block_bytes >> page_shift for n in (block.number, block.number + 1))
        if stop <= first or start >= end:
            return *key, block.number
    return None
