"""The monitor against a real QEMU: generated commands, good and bad, must be answered the same, byte for byte.

300 of them on a machine with slots, and some on one without and on one with nodes; for more set
FAKESYSFS_QEMU_SEEDS=FIRST:COUNT, which is 300 each. Where QEMU is missing, test_monitor.py compares recorded dialogues.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from monitor_grammar import Grammar
from monitor_peers import KINDS, PROGRAM, Machine, differences, installed, ours, qemu

VERSION = "7.2."

SLOTS = Machine("1G,slots=4,maxmem=8G")
NO_SLOTS = Machine("1G")
NODES = Machine("1G,slots=3,maxmem=4G", ("memory=512M,cpus=0-1", "memory=512M", "cpus=2"))

VIRTIO = Machine("1G,slots=4,maxmem=8G", kind="pc")

seeds, _, count = os.environ.get("FAKESYSFS_QEMU_SEEDS", "").partition(":")
CASES = [(SLOTS, 1, 300), (NO_SLOTS, 2, 60), (NODES, 3, 60), (VIRTIO, 4, 100)]
if seeds:
    CASES = [((VIRTIO, SLOTS, NO_SLOTS, NODES)[n % 4], n, 300) for n in range(int(seeds), int(seeds) + int(count or 1))]


def files(directory: Path) -> list[str]:
    """Paths for memory-backend-file: of a file of some size, an empty one, one to be made, and what is none."""
    (directory / "small").write_bytes(b"x" * (1 << 20))
    (directory / "empty").touch()
    return [*(f"{directory / name}" for name in ("small", "empty", "new", "none/new")), f"{directory}", "", "/dev/null"]


@pytest.mark.may_skip("a QEMU is much to install for one test; the dialogues recorded from it are compared everywhere")
@pytest.mark.parametrize(("machine", "seed", "count"), CASES, ids=lambda value: getattr(value, "memory", value))
def test_answers_as_qemu_does(machine: Machine, seed: int, count: int, tmp_path: Path) -> None:
    version = installed()
    if version is None or not version.startswith(VERSION):
        pytest.skip(f"{PROGRAM} {VERSION}x is not installed" + (f", but {version}" if version else ""))
    with qemu(machine) as real, ours(machine) as our:
        found, unexplained = differences(Grammar(seed, files(tmp_path), machine == VIRTIO).requests(count), real, our)
    for kind in KINDS:
        print(f"{len(found.get(kind.name, ())):4} x {kind.name}: {kind.why}")
    assert unexplained == [], f"{len(unexplained)} unexplained:\n" + "\n".join(unexplained[:5])


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """Two of ours that are not the same machine."""
    requests = Grammar(1, files(tmp_path)).requests(60)
    with ours(SLOTS) as left, ours(NODES) as right:
        assert differences(requests, left, right)[1]
    with ours(SLOTS) as left, ours(SLOTS) as right:
        assert differences(requests, left, right) == ({}, [])
