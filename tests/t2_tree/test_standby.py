"""Memory on standby of s390x from Linux 6.18 on: /sys/firmware/memory, block by block.

0 [RAM: memory0 ... memory15] [standby: memory16 ... memory31, of which there is nothing yet]
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from fakesysfs import Machine, MachineConfig

MEMORY = "/sys/devices/system/memory"
FIRMWARE = "/sys/firmware/memory"
BLOCK = 256 << 20
FIRST, LAST = 16, 31  # on standby


def make(**options: Any) -> Machine:
    return Machine(MachineConfig.from_options(machine="s390x-guest", kernel="6.18", **options))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with make() as machine:
        yield machine
        machine.check()


def refused(machine: Machine, path: str, data: str) -> int | None:
    with pytest.raises(OSError, match=r".") as caught:
        machine.store(path, data)
    return caught.value.errno


def read(machine: Machine, block: int, name: str) -> str:
    return machine.read_text(f"{FIRMWARE}/memory{block}/{name}")


def configure(machine: Machine, block: int, value: str = "1") -> None:
    machine.store(f"{FIRMWARE}/memory{block}/config", value)


def free_bytes(machine: Machine) -> int:
    line = next(x for x in machine.read_text("/proc/meminfo").splitlines() if "MemFree" in x)
    return int(line.split()[1]) << 10


def test_boot_memory_is_configured_and_standby_is_not(machine: Machine) -> None:
    names = [name for name, _, _ in machine.readdir(FIRMWARE) if not name.startswith(".")]
    assert sorted(names, key=lambda name: int(name[6:])) == [f"memory{n}" for n in range(32)]
    assert [read(machine, n, "config") for n in range(32)] == ["1\n"] * 16 + ["0\n"] * 16
    assert {read(machine, n, "memmap_on_memory") for n in range(32)} == {"0\n"}
    assert [block.id for block in machine.blocks()] == list(range(16))
    assert machine.stat(FIRMWARE)[2] == 2 + 32
    assert oct(machine.stat(f"{FIRMWARE}/memory16/config")[0]) == "0o100644"
    usable = "sclp_mem: Standby memory at 0x100000000 (4096M of 4096M usable)"
    assert usable in [line for _, line in machine.dmesg()]


def test_a_block_comes_and_goes(machine: Machine) -> None:
    for block in (LAST, FIRST):
        before = free_bytes(machine)
        configure(machine, block)
        configure(machine, block, "y")  # it is, so nothing happens
        assert read(machine, block, "config") == "1\n"
        assert free_bytes(machine) == before - BLOCK // 64
        assert machine.read_text(f"{MEMORY}/memory{block}/state") == "offline\n"
        assert f"{block * BLOCK:x}-{(block + 1) * BLOCK - 1:x} : System RAM" in machine.read_text(
            "/proc/iomem"
        )
        machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
        assert refused(machine, f"{FIRMWARE}/memory{block}/config", "0") == errno.EBUSY
        machine.store(f"{MEMORY}/memory{block}/state", "offline")
        configure(machine, block, "0")
        configure(machine, block, "n")
        assert free_bytes(machine) == before
    said = [event.payload[0] for event in machine.events() if event.payload]
    steps = ("add", "online", "offline", "remove")
    assert said == [
        f"{step}@/devices/system/memory/memory{block}" for block in (31, 16) for step in steps
    ]


def test_a_boot_block_can_be_deconfigured() -> None:
    with make(append="movablecore=1G") as machine:
        machine.store(f"{MEMORY}/memory13/state", "offline")
        configure(machine, 13, "0")
        assert 13 not in [block.id for block in machine.blocks()]
        assert read(machine, 13, "config") == "0\n"
        configure(machine, 13)
        assert machine.read_text(f"{MEMORY}/memory13/state") == "offline\n"
        machine.check()


def test_the_policy_brings_a_configured_block_online(machine: Machine) -> None:
    machine.store(f"{MEMORY}/auto_online_blocks", "online_movable")
    configure(machine, 20)
    assert machine.read_text(f"{MEMORY}/memory20/valid_zones") == "Movable\n"


@pytest.mark.parametrize("name", ["config", "memmap_on_memory"])
@pytest.mark.parametrize("word", ["2", "x", "\n"])
def test_only_booleans(machine: Machine, name: str, word: str) -> None:
    assert refused(machine, f"{FIRMWARE}/memory20/{name}", word) == errno.EINVAL


def test_memmap_on_memory_needs_the_parameter(machine: Machine) -> None:
    path = f"{FIRMWARE}/memory20/memmap_on_memory"
    assert refused(machine, path, "1") == errno.EOPNOTSUPP
    machine.store(path, "0")
    configure(machine, 20)
    assert refused(machine, path, "0") == errno.EBUSY


def test_memmap_on_memory() -> None:
    with make(append="memory_hotplug.memmap_on_memory=Y") as machine:
        assert [read(machine, n, "memmap_on_memory") for n in (15, 16, 31)] == ["0\n", "1\n", "1\n"]
        machine.store(f"{FIRMWARE}/memory17/memmap_on_memory", "0")
        for block, taken in ((16, 0), (17, BLOCK // 64)):
            before = free_bytes(machine)
            configure(machine, block)
            assert before - free_bytes(machine) == taken
            machine.store(f"{MEMORY}/memory{block}/state", "online_movable")
        assert [read(machine, n, "memmap_on_memory") for n in (16, 17, 18)] == ["1\n", "0\n", "1\n"]
        machine.check()


def test_too_little_memory_to_describe_a_block(machine: Machine) -> None:
    machine.fault_set("range_add/section", errno.ENOMEM)
    assert refused(machine, f"{FIRMWARE}/memory20/config", "1") == errno.ENOMEM
    assert read(machine, 20, "config") == "0\n"
    configure(machine, 20)
    assert read(machine, 20, "config") == "1\n"


@pytest.mark.parametrize(
    ("options", "there"),
    [({"kernel": "6.12"}, False), ({"memory": "4G"}, False), ({"memory": "4G,maxmem=5G"}, True)],
)
def test_where_there_is_a_directory(options: dict[str, Any], there: bool) -> None:
    config = MachineConfig.from_options(arch="s390x", **{"kernel": "7.2", **options})
    with Machine(config) as machine:
        if there:
            assert read(machine, 19, "config") == "0\n"
        else:
            with pytest.raises(FileNotFoundError):
                machine.stat(FIRMWARE)


def test_blocks_without_standby_are_as_qemu_has_them() -> None:
    config = MachineConfig.from_options(
        arch="s390x", kernel="7.2", memory="1G", config="MEMORY_FAILURE=y,ARCH_MEMORY_PROBE=y"
    )
    with Machine(config) as machine:
        assert machine.read_text(f"{MEMORY}/block_size_bytes") == "8000000\n"
        assert [block.id for block in machine.blocks()] == list(range(8))
        assert machine.read_text(f"{MEMORY}/memory1/phys_device") == "128\n"  # increments of 1 MiB
        assert {machine.read_text(f"{MEMORY}/memory{n}/valid_zones") for n in range(8)} == {"DMA\n"}
        assert refused(machine, f"{MEMORY}/memory3/state", "online") == errno.EINVAL
        for name in ("probe", "soft_offline_page", "hard_offline_page"):
            with pytest.raises(FileNotFoundError):
                machine.stat(f"{MEMORY}/{name}")
