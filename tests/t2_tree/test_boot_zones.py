"""Where the zones of each node begin and end after boot, as /proc/zoneinfo of Debian's 6.1 cloud
kernel said in QEMU 7.2.

The machines are those where rules meet: kernelcore= and movablecore= over several nodes and the
hole below 4 GiB, mem=, movable_node, numa=off, nodes that Linux numbers in another order than the
board.
"""

from __future__ import annotations

import re

import pytest

from fakesysfs import Machine, MachineConfig

Zone = tuple[int, str, int, int, int]  # node, name, first page, pages spanned, pages present

MEASURED: list[tuple[str, str, list[str], list[Zone]]] = [
    (
        "3G,slots=8,maxmem=16G", "movablecore=2560M", ["memory=1G,cpus=0", "memory=2G"],
        [
            (0, "DMA", 1, 4095, 3998), (0, "DMA32", 4096, 258048, 258048),
            (1, "DMA32", 262144, 786432, 262112), (1, "Movable", 1048576, 262144, 262144),
        ],
    ),
    (
        "5G,slots=8,maxmem=32G", "kernelcore=1G movable_node", [],
        [
            (0, "DMA", 1, 4095, 3998), (0, "DMA32", 4096, 1044480, 520160),
            (0, "Normal", 1048576, 786432, 786432),
        ],
    ),
    (
        "2G,slots=8,maxmem=16G", "numa=off", ["memory=1G,cpus=0", "memory=1G"],
        [(0, "DMA", 1, 4095, 3998), (0, "DMA32", 4096, 520160, 520160)],
    ),
    (
        "6G,slots=8,maxmem=16G", "kernelcore=3945M mem=4782M",
        ["memory=3200M", "memory=1536M,cpus=0", "memory=1408M"],
        [
            (1, "DMA", 1, 4095, 3998), (1, "DMA32", 4096, 1044480, 520160),
            (1, "Normal", 1048576, 175616, 175616),
        ],
    ),
    (
        "4G,slots=8,maxmem=16G", "kernelcore=14% mem=2831M",
        ["memory=896M,cpus=0", "memory=2176M", "memory=1024M"],
        [
            (0, "DMA", 1, 4095, 3998), (0, "DMA32", 4096, 32768, 32768), (0, "Movable", 36864, 192512, 192512),
            (1, "DMA32", 229376, 36864, 36864), (1, "Movable", 266240, 258016, 258016),
        ],
    ),
    (
        "3G,slots=8,maxmem=16G", "kernelcore=2176M", ["memory=1792M", "memory=896M", "memory=384M,cpus=0"],
        [
            (0, "Normal", 1212416, 98304, 98304), (1, "DMA", 1, 4095, 3998), (1, "DMA32", 4096, 454656, 454656),
            (2, "DMA32", 458752, 589824, 65504), (2, "Movable", 1048576, 163840, 163840),
        ],
    ),
]  # fmt: skip


def zones(zoneinfo: str) -> list[Zone]:
    """The zones that span anything."""
    found = []
    for part in re.split(r"(?m)^(?=Node)", zoneinfo):
        numbers = {
            key: int(value)
            for key, value in re.findall(r"(spanned|present|start_pfn):? +(\d+)", part)
        }
        if numbers.get("spanned"):
            head = re.match(r"Node (\d+), zone +(\w+)", part)
            assert head is not None
            found.append(
                (
                    int(head[1]),
                    head[2],
                    numbers["start_pfn"],
                    numbers["spanned"],
                    numbers["present"],
                )
            )
    return found


@pytest.mark.parametrize(("memory", "append", "nodes", "expected"), MEASURED)
def test_zones_at_boot(memory: str, append: str, nodes: list[str], expected: list[Zone]) -> None:
    with Machine(MachineConfig.from_options(memory=memory, append=append, nodes=nodes)) as machine:
        assert zones(machine.read_text("/proc/zoneinfo")) == expected
        machine.check()


def test_numa_off_knows_one_node() -> None:
    config = MachineConfig.from_options(
        append="numa=off", nodes=["memory=512M,cpus=0", "memory=512M,cpus=1-2"]
    )
    with Machine(config) as machine:
        assert machine.read_text("/sys/devices/system/node/possible") == "0\n"
        assert machine.read_text("/sys/devices/system/node/node0/cpulist") == "0-2\n"
        assert machine.read_text("/sys/devices/system/node/node0/distance") == "10\n"
