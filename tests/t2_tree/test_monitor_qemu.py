"""The monitor against a real QEMU: generated commands, good and bad, must be answered the same,
but for the order of what QEMU keeps in hash tables.

300 of them on a machine with slots, and some on others; for more set
FAKESYSFS_QEMU_SEEDS=FIRST:COUNT, which is 300 each. What a QEMU answered to some is in
qemu_generated.json, and compared also where there is none; to record it anew:
FAKESYSFS_QEMU_RECORD=1.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from monitor_grammar import Grammar, Request
from monitor_peers import (
    PROGRAM,
    Machine,
    differences,
    files,
    installed,
    ours,
    qemu,
    record,
)
from qemu_answers import KINDS, compare

VERSION = "7.2."
RECORDED = Path(__file__).parent / "qemu_generated.json"

SLOTS = Machine("1G,slots=4,maxmem=8G")
NO_SLOTS = Machine("1G")
NODES = Machine("1G,slots=3,maxmem=4G", ("memory=512M,cpus=0-1", "memory=512M", "cpus=2"))

VIRTIO = Machine("1G,slots=4,maxmem=8G", kind="pc")

seeds, _, count = os.environ.get("FAKESYSFS_QEMU_SEEDS", "").partition(":")
CASES = [(SLOTS, 1, 300), (NO_SLOTS, 2, 60), (NODES, 3, 60), (VIRTIO, 4, 100)]
if seeds:
    CASES = [
        ((VIRTIO, SLOTS, NO_SLOTS, NODES)[n % 4], n, 300)
        for n in range(int(seeds), int(seeds) + int(count or 1))
    ]


@pytest.mark.may_skip(
    "120 MB for a QEMU, of this version only Debian 12 has; what it answered before is compared"
    " anywhere"
)
@pytest.mark.parametrize(
    ("machine", "seed", "count"), CASES, ids=lambda value: getattr(value, "memory", value)
)
def test_answers_as_qemu_does(machine: Machine, seed: int, count: int, tmp_path: Path) -> None:
    version = installed()
    if version is None or not version.startswith(VERSION):
        pytest.skip(
            f"{PROGRAM} {VERSION}x is not installed" + (f", but {version}" if version else "")
        )
    with qemu(machine) as real, ours(machine) as our:
        found, unexplained = differences(
            Grammar(seed, changing(tmp_path), machine == VIRTIO).requests(count), real, our
        )
    for kind in KINDS:
        print(f"{len(found.get(kind.name, ())):4} x {kind.name}: {kind.why}")
    assert unexplained == [], f"{len(unexplained)} unexplained:\n" + "\n".join(unexplained[:5])


def changing(directory: Path) -> list[str]:
    """Paths for memory-backend-file, also some that QEMU makes files of, or larger."""
    (directory / "empty").touch()
    return [*files(directory), f"{directory / 'empty'}", f"{directory / 'new'}"]


def test_answers_as_qemu_did(tmp_path: Path) -> None:
    if os.environ.get("FAKESYSFS_QEMU_RECORD"):
        record(RECORDED, [(SLOTS, 11, 300), (NO_SLOTS, 12, 40), (NODES, 13, 60), (VIRTIO, 14, 100)])
    directory = files(tmp_path)[2].encode()
    wrong, compared = [], 0
    for session in json.loads(RECORDED.read_text())["sessions"]:
        memory, nodes, kind = session["machine"]
        with ours(Machine(memory, tuple(nodes), kind)) as our:
            for shown, *texts in session["steps"]:
                data, real = (text.encode("latin1").replace(b"DIR", directory) for text in texts)
                answer = b"".join(our(data))
                compared += 1
                if compare(Request(data, shown), real, answer, our) == "":
                    wrong.append(f"{shown}\n  QEMU: {real!r}\n  ours: {answer!r}")
    assert wrong == [], f"{len(wrong)} unexplained:\n" + "\n".join(wrong[:5])
    assert compared == 500


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """Two of ours that are not the same machine."""
    info = b'{"execute":"human-monitor-command","arguments":{"command-line":"info numa"}}'
    requests = [*Grammar(1, files(tmp_path)).requests(60), Request(info, "HMP 'info numa'")]
    with ours(SLOTS) as left, ours(NODES) as right:
        assert [
            text
            for text in differences(requests, left, right)[1]
            if text.startswith("HMP 'info numa'\n")
        ]
    with ours(SLOTS) as left, ours(SLOTS) as right:
        assert differences(requests, left, right) == ({}, [])
