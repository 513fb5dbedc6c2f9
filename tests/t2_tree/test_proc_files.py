"""The form of every line of meminfo, zoneinfo, buddyinfo, pagetypeinfo, vmstat, iomem and the node files, against the
whole text of those of real machines: labels, their order, units and columns; not the numbers.

Three kernels, each at three moments: after boot, with a DIMM whose blocks are offline, with two of its blocks online.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakesysfs import Machine
from fakesysfs.qemu.board import Board

from .test_replay_inprocess import config_of, load_replay

RECORDINGS = Path(__file__).parents[1] / "recordings"
RECORDED = sorted(RECORDINGS.glob("procfiles.*.txt"))
MEMORY = "/sys/devices/system/memory"
NOT_OF_MEMORY = ("/proc/cmdline", "/proc/swaps")
# What the recorded kernels of one's own building do not have, beside what replay.py says of them.
NOT_BUILT = ("IOMMU_SUPPORT", "KSM", "MEMORY_BALLOON", "NUMA_BALANCING", "ZONE_DEVICE", "ZSMALLOC")
ALIGNED = ("/meminfo", "/buddyinfo", "/pagetypeinfo", "/iomem")  # by a width for each number
WIDEST = 8  # of those widths that a number may be too long for
NUMBER = re.compile(r"( *)(-?\b(?:[0-9a-f]{8,16}|\d+)\b)")

Moment = dict[str, list[str]]  # path -> lines


def recorded(path: Path) -> tuple[str, dict[str, Moment]]:
    """The release of the kernel, and the files at each moment, by what had happened."""
    heading, *moments = path.read_text().split("######## ")
    found = {}
    for moment in moments:
        what, _, text = moment.partition("\n")
        files = re.split(r"(?m)^==> (\S+) <==\n", text)[1:]
        found[what] = {
            name: lines.rstrip("\n").split("\n")
            for name, lines in zip(files[::2], files[1::2], strict=True)
            if name not in NOT_OF_MEMORY
        }
    return heading.partition(":")[0].removeprefix("# "), found


def without_numbers(line: str) -> str:
    """A line with 0 for each number, one blank before it."""
    return NUMBER.sub(lambda match: match[1][:1] + "0", line)


def same_form(real: str, ours: str, aligned: bool) -> bool:
    """Whether two lines differ in their numbers only, each in the column where it must be.

    :param aligned: numbers end in the same column, however long they are, unless both are longer
        than their column; else they begin in the same one.
    """
    if without_numbers(real) != without_numbers(ours):
        return False
    pairs = zip(NUMBER.findall(real), NUMBER.findall(ours), strict=True)
    return all(
        len(before + number) == len(our_before + our_number)
        if aligned and min(len(number), len(our_number)) <= WIDEST
        else before == our_before
        for (before, number), (our_before, our_number) in pairs
    )


def differences(real: list[str], ours: list[str], aligned: bool) -> list[str]:
    """Lines of a real file that ours lacks or has otherwise, and the other way round."""
    forms = [without_numbers(line) for line in real], [without_numbers(line) for line in ours]
    found = [line for line in difflib.ndiff(*forms) if line[0] in "+-"]
    if not found:
        pairs = zip(real, ours, strict=True)
        found = [f"- {line}\n+ {our}" for line, our in pairs if not same_form(line, our, aligned)]
    return found


def steps(machine: Machine, board: Board) -> Iterator[str]:
    """What was done to the real machines before each moment; how each moment is called there."""
    yield "after boot"
    board.object_add("memory-backend-ram", {"id": "m0", "size": 512 << 20})
    board.device_add("pc-dimm", {"id": "d0", "memdev": "m0"})
    yield "a 512M DIMM plugged, its blocks 32-35 offline"
    machine.store(f"{MEMORY}/memory32/state", "online_kernel")
    machine.store(f"{MEMORY}/memory35/state", "online_movable")
    yield "memory32 online in Normal, memory35 in Movable"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.stem}")
def test_every_line_has_the_form_of_a_real_one(path: Path) -> None:
    release, moments = recorded(path)
    config = path.name.removeprefix("procfiles.").removesuffix(".txt")
    machine_of = {
        "machine": {"memory": "1G,slots=4,maxmem=8G"},
        "kernel": release,
        "config": config,
    }
    options = load_replay().options(machine_of)
    if config.endswith("-probe"):
        options[options.index("--config") + 1] += "".join(f",{name}=n" for name in NOT_BUILT)
    wrong, compared = [], 0
    with Machine(config_of(options)) as machine, Board(machine) as board:
        for what, (name, files) in zip(steps(machine, board), moments.items(), strict=True):
            assert what == name
            for file, real in files.items():
                ours = machine.read_text(file).removesuffix("\n").split("\n")
                wrong += [
                    f"{what}: {file}: {line}"
                    for line in differences(real, ours, file.endswith(ALIGNED))
                ]
                compared += len(real)
    assert wrong == []
    assert compared > 1000


@pytest.mark.parametrize(
    ("real", "ours", "aligned", "same"),
    [
        ("MemFree:          905896 kB", "MemFree:              12 kB", True, True),
        ("MemFree:          905896 kB", "MemFree:          12 kB", True, False),
        ("MemFree:          905896 kB", "MemFree:              12 MB", True, False),
        ("MemFree:          905896 kB", "MemFee:           905896 kB", True, False),
        ("VmallocTotal:   13743895347199 kB", "VmallocTotal:   34359738367 kB", True, True),
        ("Node 0, zone      DMA      1 ", "Node 0, zone      DMA      1", True, False),
        ("00001000-0009fbff : System RAM", "00100000-3ffdffff : System RAM", True, True),
        ("00001000-0009fbff : System RAM", "100000-3ffdffff : System RAM", True, False),
        ("nr_free_pages 226474", "nr_free_pages 7", False, True),
        ("nr_free_pages 226474", "nr_free_pages      7", False, False),
    ],
)
def test_what_the_form_of_a_line_is(real: str, ours: str, aligned: bool, same: bool) -> None:
    assert same_form(real, ours, aligned) is same


def test_lines_that_lack_or_stand_elsewhere_are_found() -> None:
    lines = ["a 1", "b 2", "c 3"]
    assert differences(lines, ["a 7", "b 8", "c 9"], False) == []
    assert differences(lines, ["a 1", "c 3"], False) == ["- b 0"]
    assert differences(lines, ["a 1", "c 3", "b 2"], False) != []
