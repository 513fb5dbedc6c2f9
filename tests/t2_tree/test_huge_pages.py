"""The pools of huge pages and the settings of /proc/sys/vm: every file that shows a number shows the
same one, and a write has its effect on the pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from fakesysfs import Machine, MachineConfig

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
NODES = "/sys/devices/system/node"
VM = "/proc/sys/vm"
EVERYWHERE = (f"{POOL}/nr_hugepages", f"{VM}/nr_hugepages", f"{VM}/nr_hugepages_mempolicy")


def boot(nodes: Sequence[str] = (), **options: object) -> Machine:
    return Machine(MachineConfig.from_options(nodes=nodes, **options))  # type: ignore[arg-type]


def of_nodes(machine: Machine) -> list[int]:
    names = sorted(name for name, _, _ in machine.readdir(NODES) if re.fullmatch("node[0-9]", name))
    return [
        int(machine.read_text(f"{NODES}/{name}/hugepages/hugepages-2048kB/nr_hugepages"))
        for name in names
    ]


def field(machine: Machine, name: str) -> int:
    found = re.search(rf"^{name}: +([0-9]+)", machine.read_text("/proc/meminfo"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def refusal(machine: Machine, path: str, value: str) -> int | None:
    try:
        machine.write_text(path, value)
    except OSError as e:
        return e.errno
    return None


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("nodes", [(), ("memory=256M", "memory=256M", "memory=512M")])
def test_one_number_in_every_place(path: str, nodes: tuple[str, ...]) -> None:
    with boot(nodes) as machine:
        free = field(machine, "MemFree")
        for number in (7, 20, 3, 0):
            machine.write_text(path, f"{number}\n")
            assert [int(machine.read_text(place)) for place in EVERYWHERE] == [number] * 3
            assert field(machine, "HugePages_Total") == field(machine, "HugePages_Free") == number
            shares = of_nodes(machine)
            assert sum(shares) == number
            assert max(shares) - min(shares) <= 1  # the nodes take turns
            machine.check()
        assert abs(field(machine, "MemFree") - free) < 2048


def test_a_node_alone() -> None:
    with boot(("memory=512M", "memory=512M")) as machine:
        machine.write_text(f"{NODES}/node1/hugepages/hugepages-2048kB/nr_hugepages", "5")
        assert of_nodes(machine) == [0, 5]
        assert int(machine.read_text(f"{VM}/nr_hugepages")) == 5


def test_more_than_there_is() -> None:
    """The write succeeds, and the pool gets what there is."""
    with boot() as machine:
        machine.write_text(f"{VM}/nr_hugepages", "1000000")
        number = int(machine.read_text(f"{POOL}/nr_hugepages"))
        assert 100 < number < 512
        assert field(machine, "HugePages_Total") == number
        machine.check()


def test_overcommit_is_one_number() -> None:
    with boot() as machine:
        machine.write_text(f"{VM}/nr_overcommit_hugepages", "0x10")
        assert machine.read_text(f"{POOL}/nr_overcommit_hugepages") == "16\n"
        machine.write_text(f"{POOL}/nr_overcommit_hugepages", "3")
        assert machine.read_text(f"{VM}/nr_overcommit_hugepages") == "3\n"


@pytest.mark.parametrize(
    ("path", "value", "number"),
    [
        (f"{VM}/nr_hugepages", "many", 22), (f"{VM}/nr_hugepages", "-1", 22), (f"{VM}/nr_hugepages", " 2 \n", None),
        (f"{VM}/nr_hugepages", "2x", 22), (f"{VM}/nr_hugepages", "\n", 22), (f"{VM}/nr_hugepages", "2 3", None),
        (f"{VM}/min_free_kbytes", "-5", 22), (f"{VM}/min_free_kbytes", "4294967296", 22),
        (f"{VM}/drop_caches", "0", 22), (f"{VM}/drop_caches", "5", 22), (f"{VM}/drop_caches", "4", None),
        (f"{POOL}/nr_hugepages", "0x10", 22), (f"{POOL}/free_hugepages", "1", 13),
        ("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_overcommit_hugepages", "1", 22),
    ],
)  # fmt: skip
def test_what_is_refused(path: str, value: str, number: int | None) -> None:
    with boot() as machine:
        assert refusal(machine, path, value) == number


def test_min_free_kbytes_moves_the_watermarks() -> None:
    """As a user sets it, it is shared among the zones; memory that comes does not lower it."""
    with boot(memory="1G,slots=2,maxmem=4G") as machine:

        def least() -> int:
            marks = re.findall(
                r"^ +min +([0-9]+)", machine.read_text("/proc/zoneinfo"), re.MULTILINE
            )
            return sum(map(int, marks)) * 4

        before = int(machine.read_text(f"{VM}/min_free_kbytes"))
        assert abs(least() - before) <= 16
        machine.write_text(f"{VM}/min_free_kbytes", "150000")
        assert abs(least() - 150000) <= 16
        machine.write_text("/sys/devices/system/memory/probe", "0x100000000")
        machine.write_text("/sys/devices/system/memory/memory32/state", "online_kernel")
        assert machine.read_text(f"{VM}/min_free_kbytes") == "150000\n"
        log = [line for _, line in machine.dmesg()]
        assert any("because user defined value 150000 is preferred" in line for line in log)


@pytest.mark.parametrize(
    ("value", "file", "slab"), [("1", 0, 1), ("2", 1, 0), ("3", 0, 0), ("4", 1, 1)]
)
def test_drop_caches(value: str, file: int, slab: int) -> None:
    """1 drops the page cache, 2 what of slab can be reclaimed; pinned pages stay."""
    with boot(workload="file=40M,slab_reclaimable=8M") as machine:
        machine.write_text(f"{VM}/drop_caches", value)
        counters = dict(line.split() for line in machine.read_text("/proc/vmstat").splitlines())
        assert (int(counters["nr_slab_reclaimable"]) > 0) == bool(slab)
        assert (field(machine, "Cached") >= 40 << 10) == bool(file)
        machine.check()


def test_without_huge_pages_or_nodes() -> None:
    """What the configuration leaves out is missing."""
    with boot(config="HUGETLB_PAGE=n,NUMA=n") as machine:
        names = {name for name, _, _ in machine.readdir(VM)}
        assert not any("hugepages" in name for name in names)
        for path in (POOL, NODES, "/sys/bus/node"):
            with pytest.raises(FileNotFoundError):
                machine.stat(path)
    with boot(config="NUMA=n") as machine:
        assert "nr_hugepages_mempolicy" not in {name for name, _, _ in machine.readdir(POOL)}
        assert "nr_hugepages_mempolicy" not in {name for name, _, _ in machine.readdir(VM)}


def test_a_sysctl_is_no_file_of_sysfs() -> None:
    """Its size is 0, and its modes are for root, too."""
    with boot() as machine:
        mode, _, _, _, _, size, _ = machine.stat(f"{VM}/min_free_kbytes")
        assert (mode & 0o777, size) == (0o644, 0)
        with pytest.raises(PermissionError):
            machine.read_text(f"{VM}/drop_caches")
