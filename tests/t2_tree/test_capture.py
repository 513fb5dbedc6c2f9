"""A real machine as input: from a copy of /sys to a machine file to a machine with the same blocks.

The copies are made here, small ones of the kinds that exist; this host's own /sys is read, never
written. What counts is lsmem: it must print the same, byte for byte, on the copy and on the machine
made of it.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.waiting import LIMIT_SECONDS

from fakesysfs import Machine, MachineConfig
from fakesysfs.capture.machine_file import Capture, capture

M, G, T = 1 << 20, 1 << 30, 1 << 40
MEMORY = "/sys/devices/system/memory"
EVERY = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK", "NODE", "ZONES")

needs_lsmem = pytest.mark.skipif(
    shutil.which("lsmem") is None, reason="there is no lsmem: apt-get install util-linux"
)


# ------------------------------------------------------------------------------- copies of machines


@dataclass
class Block:
    """What the files of a memory block say."""

    state: str = "online"
    zones: str | None = "Normal"
    node: int | tuple[int, ...] = 0
    removable: int | None = 1
    phys_device: int | None = 0
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[int, ...]:
        return (self.node,) if isinstance(self.node, int) else self.node


@dataclass
class Copy:
    """A machine whose /sys can be written down."""

    block_bytes: int
    blocks: Mapping[int, Block]
    nodes: Sequence[tuple[str, str]] = (("0-3", "10"),)  # CPUs, distances
    node_dirs: bool = True
    auto_online: str = "offline"
    release: str | None = "6.1.0-18-amd64"
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        memory = root / "sys/devices/system/memory"
        memory.mkdir(parents=True)
        (memory / "block_size_bytes").write_text(f"{self.block_bytes:x}\n")
        (memory / "auto_online_blocks").write_text(f"{self.auto_online}\n")
        (memory / "power").mkdir()
        for number, block in self.blocks.items():
            folder = memory / f"memory{number}"
            folder.mkdir()
            texts = {
                "state": block.state,
                "online": str(int(block.state != "offline")),
                "phys_index": f"{number:08x}",
                "valid_zones": block.zones,
                "removable": block.removable,
                "phys_device": block.phys_device,
                **block.more,
            }
            for name, text in texts.items():
                if text is not None:
                    (folder / name).write_text(f"{text}\n")
            (folder / "subsystem").symlink_to("../../../../bus/memory")
            for node in block.nodes:
                (folder / f"node{node}").symlink_to(f"../../node/node{node}")
        nodes = root / "sys/devices/system/node"
        for number, (cpus, distances) in enumerate(self.nodes) if self.node_dirs else ():
            folder = nodes / f"node{number}"
            folder.mkdir(parents=True)
            (folder / "cpulist").write_text(f"{cpus}\n")
            (folder / "distance").write_text(f"{distances}\n")
            for block_number, block in self.blocks.items():
                if number in block.nodes:
                    (folder / f"memory{block_number}").symlink_to(
                        f"../../memory/memory{block_number}"
                    )
        if self.node_dirs:
            ids = f"0-{len(self.nodes) - 1}" if len(self.nodes) > 1 else "0"
            (nodes / "online").write_text(f"{ids}\n")
            (nodes / "possible").write_text(f"{ids}\n")
        if self.release:
            (root / "proc").mkdir()
            (root / "proc/version").write_text(f"Linux version {self.release} (a@b) (gcc) #1 SMP\n")
        for name, text in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root


def run_of(first: int, last: int, **about: Any) -> dict[int, Block]:
    return {number: Block(**about) for number in range(first, last + 1)}


def x86_with_hole() -> Copy:
    """A PC: blocks 24 to 31 are where PCI is."""
    zones = {0: Block(zones="none"), **run_of(1, 23, zones="DMA32"), **run_of(32, 39)}
    return Copy(128 * M, zones, release="6.1.0-18-amd64")


def s390_with_standby() -> Copy:
    """z/VM: what is on standby is offline from boot on; phys_device counts increments."""
    blocks = {n: Block(zones="DMA", phys_device=n) for n in range(8)}
    blocks |= {n: Block(zones="Normal", phys_device=n) for n in range(8, 16)}
    blocks |= {n: Block("offline", "Normal Movable", phys_device=n) for n in range(16, 24)}
    return Copy(256 * M, blocks, release="5.14.0-427.el9.s390x")


def ppc64_small_blocks() -> Copy:
    """An LPAR with blocks of one section, two nodes, some memory taken away."""
    blocks = {
        **run_of(0, 63),
        **run_of(64, 127, node=1),
        **run_of(200, 207, state="offline", zones="Normal Movable", node=1),
    }
    return Copy(16 * M, blocks, (("0-7", "10 40"), ("8-15", "40 10")), release="6.6.30.ppc64le")


def large_blocks() -> Copy:
    """A server whose blocks have 2 GiB."""
    blocks = {0: Block(zones="none"), **run_of(2, 31), **run_of(32, 63, node=1)}
    return Copy(2 * G, blocks, (("0-15", "10 21"), ("16-31", "21 10")), release="6.12.9")


def first_block_8192() -> Copy:
    """RAM begins at 1 TiB, all of it in zone DMA, and the last block stands apart."""
    blocks = {**run_of(8192, 8316, zones="DMA"), **run_of(8319, 8319, zones="DMA")}
    return Copy(128 * M, blocks, release="6.18.2.aarch64")


def missing_node_link() -> Copy:
    """The first block has no link to its node."""
    return Copy(128 * M, {0: Block(zones="none", node=()), **run_of(1, 7, zones="DMA32")})


def without_nodes() -> Copy:
    """A kernel without NUMA."""
    blocks = {0: Block(zones="none", node=()), **run_of(1, 7, zones="DMA32", node=())}
    return Copy(128 * M, blocks, node_dirs=False)


def offline_movable() -> Copy:
    """A DIMM of which some blocks are online in Movable, some are not, and one that nobody has
    used.
    """
    blocks = {
        0: Block(zones="none"),
        **run_of(1, 7, zones="DMA32"),
        **run_of(32, 35, zones="Movable"),
    }
    blocks |= {
        33: Block("offline", "Movable Normal"),
        **run_of(40, 43, state="offline", zones="Normal Movable"),
    }
    return Copy(128 * M, blocks, release="6.12.9")


def offline_at_end_of_movable() -> Copy:
    """As kernels do that shrink spans only when memory is removed: offline, and still within
    Movable.
    """
    blocks = {
        0: Block(zones="none"),
        **run_of(1, 7, zones="DMA32"),
        **run_of(32, 33, zones="Movable"),
    }
    return Copy(
        128 * M, blocks | run_of(34, 39, state="offline", zones="Movable Normal"), release="5.0.0"
    )


def booted_with_movable_node() -> Copy:
    """Blocks that nobody has used prefer Movable; only the command line can do that."""
    blocks = {
        0: Block(zones="none"),
        **run_of(1, 7, zones="DMA32"),
        **run_of(32, 33, state="offline", zones="Movable Normal"),
    }
    return Copy(
        128 * M, blocks, files={"proc/cmdline": "BOOT_IMAGE=/vmlinuz movable_node quiet -- init\n"}
    )


def removable_by_looking() -> Copy:
    """An old kernel, which looks at pages: some blocks are removable, some are not."""
    blocks = {n: Block(zones="Normal", removable=n % 3 // 2) for n in range(32, 72)}
    low = {n: Block(zones="DMA32", removable=n % 2) for n in range(1, 24)}
    return Copy(
        128 * M, {0: Block(zones="none", removable=0), **low, **blocks}, release="4.15.0-20-generic"
    )


def two_nodes_in_a_block() -> Copy:
    """Memory of a node need not end where a block does."""
    copy = large_blocks()
    copy.blocks[31].zones, copy.blocks[31].node = "none", (0, 1)
    return copy


COPIES: dict[str, Callable[[], Copy]] = {
    f.__name__: f
    for f in (
        x86_with_hole, s390_with_standby, ppc64_small_blocks, large_blocks, first_block_8192, missing_node_link,
        without_nodes, offline_movable, offline_at_end_of_movable, booted_with_movable_node, removable_by_looking,
        two_nodes_in_a_block,
    )
}  # fmt: skip
ARCHES = {
    "s390_with_standby": "s390x",
    "ppc64_small_blocks": "ppc64le",
    "first_block_8192": "aarch64",
}


def machine_of(found: Capture, folder: Path, **options: Any) -> Machine:
    path = folder / f"machine{len(list(folder.iterdir()))}.toml"
    path.write_text(found.text)
    return Machine(MachineConfig.from_options(machine=path, **options))


def serve(machine: Machine, root: Path, path: str = MEMORY) -> Path:
    """Write the machine's own memory directory down, as `cp -r` would."""
    Path(f"{root}{path}").mkdir(parents=True, exist_ok=True)
    for name, _, mode in machine.readdir(path):
        child, target = f"{path}/{name}", Path(f"{root}{path}/{name}")
        if stat.S_ISDIR(mode) and name != "power":
            serve(machine, root, child)
        elif stat.S_ISLNK(mode):
            target.symlink_to(machine.readlink(child))
        elif stat.S_ISREG(mode) and mode & 0o444:
            target.write_text(machine.read_text(child))
    return root


def lsmem(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["lsmem", "--sysroot", root, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def same_listing(copy: Path, here: Path) -> None:
    for arguments in (
        (),
        ("--all", "--output", ",".join(EVERY)),
        ("--json", "--output-all"),
        ("--summary=only",),
    ):
        assert lsmem(here, *arguments) == lsmem(copy, *arguments), arguments


@pytest.fixture(params=sorted(COPIES))
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    return request.param, COPIES[request.param]().write(tmp_path / "copy")


# ----------------------------------------------------------------------------------- what is listed


@needs_lsmem
def test_lsmem_prints_the_same(copied: tuple[str, Path], tmp_path: Path) -> None:
    name, copy = copied
    found = capture(copy)
    with machine_of(found, tmp_path) as machine:
        machine.check()
        assert machine.config.arch == ARCHES.get(name, "x86_64")
        same_listing(copy, serve(machine, tmp_path / "here"))
        assert not [note for note in found.notes if " was `" in note]
