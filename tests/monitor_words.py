"""Words for generated commands of a monitor: names, sizes, numbers, properties, good and bad.

Names come from small pools, so that commands meet. Used by monitor_grammar.py and the two files of
its languages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

BACKENDS = ("m0", "m1", "m2", "m3", "m4", "m5")
DEVICES = ("d0", "d1", "d2", "d3")
BAD_NAMES = ("", "0x", "a b", "m0,", "é", "m/0", "-", "x" * 200, "nope", "pc.ram", "m0[0]", "d9")
RAM, FILE, MEMFD = "memory-backend-ram", "memory-backend-file", "memory-backend-memfd"
TYPES = (RAM, RAM, RAM, RAM, MEMFD, FILE)
BAD_TYPES = ("memory-backend", "container", "nope", "", "object")
MIB = 1 << 20
SIZES = (
    128 * MIB,
    128 * MIB,
    256 * MIB,
    512 * MIB,
    1024 * MIB,
    2 * MIB,
    100 * MIB,
    3 * MIB,
    4096,
    1,
    12345,
)
BAD_SIZES = (0, 1 << 47, 1 << 63, 1 << 64)  # QEMU itself aborts at those just below 1 << 64
SIZE_TEXTS = (
    "128M",
    "128M",
    "256M",
    "1G",
    "512M",
    "0.5G",
    "2M",
    "0x8000000",
    "1k",
    "010M",
    "1b",
    "4096",
    "1.5M",
    "+2M",
    "2m",
)
BAD_SIZE_TEXTS = ("0", "", "-1", "1X", "1MB", "1e9", "1.5", "0x1G", "16E", "99999999999999999999", " 1M", "1M ", "1..5M", "k",
                  "0x")  # fmt: skip
COMMON_KEYS = ("share", "merge", "dump", "reserve", "prealloc-threads", "policy", "host-nodes", "prealloc",
               "x-use-canonical-path-for-ramblock-id", "prealloc-context")  # fmt: skip
FILE_KEYS = ("mem-path", "align", "discard-data", "pmem", "readonly")
MEMFD_KEYS = ("hugetlb", "hugetlbsize", "seal")
# have QEMU touch all of the memory, and need huge pages of the host: never on
COSTLY = ("prealloc", "hugetlb")
# Not "realized": at that, QEMU aborts.
DIMM_KEYS = ("node", "slot", "addr", "memdev", "bus", "size", "hotplugged", "type", "foo")
WORDS = ("on", "off", "yes", "no", "true", "false", "y", "n", "ON", "1", "", "maybe")
NUMBERS = ("0", "1", "2", "3", "-1", "-2", "4", "7", "0x2", "010", "4294967295", "4294967296", "9223372036854775808", "x", "",
           "1.0", " 1", "1 ", "18446744073709551615", "18446744073709551616", "--1", "+1", "08")  # fmt: skip
ADDRESSES = ("0x100000000", "0x108000000", "0x140000000", "4294967296", "0x100000001", "0x100200000", "0", "0x200000",
             "0x7fffffe00000", "0xfffffffffffe0000", "-0x200000", "0x2c0000000", "0x300000000")  # fmt: skip
DIMM_PROPERTIES = ("node", "slot", "addr", "memdev", "realized", "size", "hotplugged", "hotpluggable", "type", "parent_bus",
                   "legacy-memdev", "nope", "")  # fmt: skip
VIRTIO_OPTIONS = {
    "requested-size": ("0", "2M", "128M", "64M", "1G", "4M", "6M", "3M", "1M"),
    "block-size": ("2M", "4M", "128M", "1M", "3M", "512k", "0", "1G"),
    "memaddr": ADDRESSES,
    "node": ("0", "0", "1"),
    "unplugged-inaccessible": ("on", "off", "auto"),
    "prealloc": ("off",),
}
VIRTIO_PROPERTIES = ("requested-size", "size", "block-size", "memaddr", "node", "memdev", "unplugged-inaccessible", "type",
                     "hotplugged", "realized", "nope")  # fmt: skip
TOPICS = (
    "memory-devices",
    "memory_size_summary",
    "memdev",
    "numa",
    "status",
    "name",
    "version",
    "hotpluggable-cpus",
)
QUERIES = ("query-memory-devices", "query-memory-size-summary", "query-memdev", "query-acpi-ospm-status", "query-status",
           "query-name", "query-version", "query-hotpluggable-cpus")  # fmt: skip
VERBS = (
    "device_add",
    "device_del",
    "object_add",
    "object_del",
    "info",
    "help",
    "qom-list",
    "qom-get",
    "qom-set",
)
COMMANDS = (*QUERIES, "object-add", "object-del", "device_add", "device_del", "qom-list", "qom-get", "qom-set",
            "human-monitor-command", "qmp_capabilities")  # fmt: skip


class Words(random.Random):
    """Words from a seed.

    :param files: existing paths and paths to be for memory-backend-file.
    :param virtio: with virtio-mem devices.
    """

    def __init__(
        self, seed: int, files: Sequence[str] = ("/nonexistent/file",), virtio: bool = False
    ) -> None:
        super().__init__(seed)
        self._files = files
        self._virtio = virtio

    def _often(self, share: float) -> bool:
        return self.random() < share

    def _name(self, pool: Sequence[str]) -> str:
        return self.choice(pool if self._often(0.93) else BAD_NAMES)

    def _type(self) -> str:
        return self.choice(TYPES if self._often(0.95) else BAD_TYPES)

    def _path(self) -> str:
        backend, device = self._name(BACKENDS), self._name(DEVICES)
        inner = (f"{device}/virtio-backend", device) if self._virtio else ()
        path: str = self.choice((
            "/", "/objects", "/machine/peripheral", "/machine/peripheral-anon", "objects", "peripheral", "/nope", "",
            "//objects", "/objects/", "/machine/peripheral-anon/device[0]", "peripheral-anon/device[1]", backend,
            f"/objects/{backend}", f"/objects/{backend}", *inner,
            f"/machine/peripheral/{device}", f"/machine/peripheral/{device}", device, f"/machine/peripheral/{device}/memdev",
            f"/objects/{backend}/{backend}[0]", f"peripheral/{device}", f"objects/{backend}", f"{device}/memdev",
        ))  # fmt: skip
        return path

    def _property(self) -> str:
        if self._virtio and self._often(0.5):
            return self.choice(VIRTIO_PROPERTIES)
        if self._often(0.5):
            return self.choice((*COMMON_KEYS, "size", *FILE_KEYS, *MEMFD_KEYS))
        return self.choice(DIMM_PROPERTIES)

    def _json_value(self, depth: int = 1) -> Any:
        kind = self.randrange(9 if depth else 7)
        if kind == 7:
            return [self._json_value(depth - 1) for _ in range(self.randrange(3))]
        if kind == 8:
            names = ("a", "id", "execute", "é", "size", "x-y", "")
            return {
                self.choice(names): self._json_value(depth - 1) for _ in range(self.randrange(3))
            }
        return self.choice(
            (
                None,
                True,
                False,
                0,
                1,
                -1,
                1 << 31,
                (1 << 63) - 1,
                1 << 63,
                -(1 << 63),
                (1 << 64) - 1,
                1.5,
                1e300,
                0.1,
                -0.0,
            )
            if kind < 3
            else (
                "",
                "m0",
                "d0",
                "on",
                "1",
                "é\u20ac\U0001f600",
                'q"\\\b\f\n\r\t\x01\x7f',
                "memory-backend-ram",
            )
        )

    def _key_value(self, key: str) -> str:
        """A value for a key of object_add, as text."""
        if key in ("prealloc-threads", "hugetlbsize", "align"):
            return self.choice((*NUMBERS, "2M", "4096", "3000", "8192"))
        if key == "policy":
            return self.choice(("default", "bind", "preferred", "interleave", "nope", ""))
        if key == "host-nodes":
            return self.choice(NUMBERS)
        if key == "mem-path":
            return self.choice(self._files)
        if key == "prealloc-context":
            return self.choice(("", "nope", *BACKENDS))
        if key in COSTLY:
            return "off"
        return self.choice(WORDS)

    def _virtio_add(self) -> dict[str, str]:
        """Options of a virtio-mem-pci as text, id and memdev too."""
        options = {"memdev": self._name(BACKENDS), "id": self._name(DEVICES)}
        for key in self.sample(list(VIRTIO_OPTIONS), self.choice((0, 1, 1, 2, 3))):
            options[key] = self.choice(
                VIRTIO_OPTIONS[key] if self._often(0.8) else (*NUMBERS, *BAD_SIZE_TEXTS, *WORDS)
            )
        if self._often(0.1):
            del options[self.choice(list(options))]
        return options
