"""Copies of /sys, archives and machine files that somebody else damaged, by chance or on purpose.

Good ones are made worse in random ways. Whatever comes in, what comes out is a machine, or one line
that says what is wrong; nothing outside of the copy is read, and nothing takes for ever. All that
lies outside says SECRET, so that whoever read it would say so.

FAKESYSFS_BAD_INPUT_EXAMPLES in the environment says how many of each kind, 60 by default.
"""

from __future__ import annotations

import io
import os
import random
import re
import signal
import socket
import stat
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.waiting import LIMIT_SECONDS
from t2_tree.test_capture import Block, Copy, run_of

from fakesysfs import Machine, MachineConfig
from fakesysfs.capture.machine_file import capture
from fakesysfs.errors import ConfigError

EXAMPLES = int(os.environ.get("FAKESYSFS_BAD_INPUT_EXAMPLES", "60"))
SECONDS = int(LIMIT_SECONDS)
MANY = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
GOOD = {  # small ones: they are written down again and again
    "x86_64": Copy(
        128 << 20,
        {0: Block(zones="none"), **run_of(1, 3, zones="DMA32"), **run_of(32, 33, zones="Movable")},
    ),
    "nodes": Copy(
        2 << 30,
        {0: Block(zones="none"), 2: Block(), 3: Block(zones="none", node=(0, 1)), 4: Block(node=1)},
        (("0-15", "10 21"), ("16-31", "21 10")),
        release="6.12.9",
    ),
    "s390x": Copy(
        256 << 20,
        {
            n: Block(
                "online" if n < 3 else "offline",
                "DMA" if n < 3 else "Normal Movable",
                phys_device=n,
            )
            for n in range(5)
        },
        release="5.14.0-427.el9.s390x",
    ),
    "offline": Copy(
        128 << 20,
        {
            0: Block(zones="none"),
            1: Block(zones="DMA32"),
            **run_of(32, 34, state="offline", zones="Movable Normal"),
        },
        files={
            "proc/cmdline": "movable_node quiet\n",
            "sys/module/memory_hotplug/parameters/online_policy": "auto-movable\n",
        },
    ),
}

# path -> content, or a word and an argument: "link TARGET", "fifo", ...
Tree = dict[str, "bytes | str"]


@cache
def good(name: str) -> Tree:
    """A copy that is as it should be."""
    with tempfile.TemporaryDirectory(prefix="fakesysfs-tests-") as folder:
        root = GOOD[name].write(Path(folder))
        out: Tree = {}
        for path in sorted(root.rglob("*")):
            where = str(path.relative_to(root))
            if path.is_symlink():
                out[where] = f"link {os.readlink(path)}"
            elif path.is_dir():
                out[where] = "folder"
            else:
                out[where] = path.read_bytes()
        return out


@contextmanager
def in_time() -> Iterator[None]:
    """What takes for ever fails."""

    def late(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def outcome(source: Path) -> str:
    """The machine file made of a copy, which a machine has been made of; or why there can be none."""
    with in_time():
        try:
            found = capture(source)
        except ConfigError as e:
            said = str(e)
        else:
            said = found.text
            assert all("\n" not in note and note.isprintable() for note in found.notes)
            tomllib.loads(said)
            return f"{said}{''.join(found.notes)}"
    assert said.isprintable(), "not one line that a terminal can take"
    assert len(said) < 1500
    assert str(source) in said, "it does not say where"
    return said


# What files say

TEXTS = st.one_of(
    st.sampled_from([
        b"", b"\n", b"-1", b"0", b"1", b"2", b"134217728", b"8000000", b"0x8000000", b"9" * 5000, b"f" * 16, b"ffffffffffffffff",
        b"\0" * 4096, b"8000000\0\0\0", b"online\nonline", b"onlin", b"OFFLINE", b"going-offline", b"0-99999999", b"0-3,2",
        b"3-0", b"1,1",
        b"none Normal", b"HighMem", b"Normal " * 400, b"\xff\xfe\0", "\u0663".encode(), b"10 21 10", b"10 " * 5000, b"20 10",
        b"00000001",
        b"1e9", b"1_0", b" 7 ", b"4294967296", b"18446744073709551616", b"[/]", b"\x1b[31mred", b'"""', b"\\", b"}",
        b"Linux version 99.99.99 (x)\n", b"Node 0, zone Normal\n  spanned 99999999999\n  start_pfn: 0\n", b"movable_node " * 1000,
    ]),
    st.binary(max_size=20),
    st.integers(-(2**70), 2**70).map(lambda n: str(n).encode()),
    st.integers(0, 2**70).map(lambda n: f"{n:x}".encode()),
)  # fmt: skip
LINKS = st.sampled_from([
    "OUTSIDE/state", "OUTSIDE", "../../../../../../../../../../etc/passwd", "/etc/passwd", "/", ".", "..", "self", "../memory0",
    "../memory1/state", "../../../../../../OUTSIDE-NAME/state", "nowhere", "../" * 200 + "etc", "memory0", "x" * 255,
])  # fmt: skip
NAMES = st.sampled_from([
    "memory007", "memory99999999999", "memory9999999999999999999", "memory-1", "memory8", "memory12345", "memory", "memory1x",
    "memory1048577", "MEMORY3",
])  # fmt: skip
EXTRA = st.sampled_from([
    "proc/zoneinfo", "proc/iomem", "proc/cmdline", "proc/cpuinfo", "uname", "proc/sys/kernel/osrelease",
    "sys/firmware/memmap/0/start",
    "sys/module/memory_hotplug/parameters/online_policy", "sys/devices/system/node/node63/cpulist",
    "sys/devices/system/node/node9999/cpulist", "sys/devices/system/memory/memory1/node5",
    "sys/devices/system/node/node0/meminfo",
])  # fmt: skip
KINDS = st.sampled_from(["fifo", "socket", "folder", "huge", "device", "gone"])


@st.composite
def damaged(draw: st.DrawFn) -> Tree:
    """A good copy, made worse."""
    tree = dict(good(draw(st.sampled_from(sorted(GOOD)))))
    for _ in range(draw(st.integers(1, 5))):
        paths = sorted(tree)
        # Files of blocks are many; those that are alone matter as much.
        few = [path for path in paths if "/memory/memory" not in path or "/memory1/" in path]
        path = draw(st.sampled_from(few if draw(st.booleans()) else paths))
        how = draw(st.integers(0, 6))
        if how == 0 and isinstance(tree[path], bytes):
            tree[path] = tree[path][: draw(st.integers(0, 8))]
        elif how <= 2:
            tree[path] = draw(TEXTS)
        elif how == 3:
            tree[path] = f"link {draw(LINKS)}"
        elif how == 4:
            tree[path] = draw(KINDS)
        elif how == 5:
            memory = next(
                (p for p in paths if p.endswith("/block_size_bytes")), "sys/devices/system/memory/x"
            )
            name = f"{os.path.dirname(memory)}/{draw(NAMES)}"
            tree[name] = "folder"
            tree[f"{name}/state"] = b"online\n"
        else:
            tree[draw(EXTRA)] = draw(TEXTS)
        if tree.get(path) == "gone":
            tree = {
                known: what
                for known, what in tree.items()
                if known != path and not known.startswith(f"{path}/")
            }
    return tree


def write(tree: Tree, root: Path) -> Path:
    """The copy as a directory; beside it, what must not be read."""
    outside = root / "outside"
    copy = root / "copy"
    outside.mkdir()
    copy.mkdir()
    for name in ("state", "block_size_bytes", "valid_zones", "cpulist", "version"):
        (outside / name).write_text("SECRET")
    for path, what in tree.items():
        place = copy / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place, what, outside)
        except (FileExistsError, NotADirectoryError, PermissionError, IsADirectoryError):
            continue  # something else has taken its place
        except OSError as e:
            assert e.strerror in ("Too many levels of symbolic links", "File name too long"), e
    return copy


def make(place: Path, what: bytes | str, outside: Path) -> None:
    word, _, target = what.partition(" ") if isinstance(what, str) else ("file", "", "")
    if isinstance(what, bytes):
        if os.path.lexists(place):
            return
        place.write_bytes(what)
    elif word == "folder":
        place.mkdir(exist_ok=True)
    elif word == "link":
        place.symlink_to(
            target.replace("OUTSIDE-NAME", outside.name).replace("OUTSIDE", str(outside))
        )
    elif word == "fifo":
        os.mkfifo(place)
    elif word == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(place) if len(str(place)) > 100 else str(place))
    elif word == "huge":
        place.touch()
        os.truncate(place, 1 << 40)
    elif word == "device" and os.geteuid() == 0:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # as /dev/zero: endless


@given(damaged())
@MANY
def test_damaged_copies(tree: Tree) -> None:
    with tempfile.TemporaryDirectory(prefix="fakesysfs-tests-") as folder:
        said = outcome(write(tree, Path(folder)))
        assert "SECRET" not in said
        assert "root:" not in said


# Archives

EVIL = st.sampled_from([
    "/etc/passwd", "../../outside", "sys/../../x", "sys/devices/system/memory/../../../../../../etc/passwd", "\n", "a" * 300,
])  # fmt: skip


def packed(tree: Tree, evil: list[tuple[str, int]], how: str) -> bytes:
    """The copy as an archive, with members that no `tar` would have made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{how}") as tar:  # type: ignore[call-overload]
        for path, what in tree.items():
            member = tarfile.TarInfo(path)
            if isinstance(what, bytes):
                member.size = len(what)
            elif what.startswith("link "):
                member.type, member.linkname = tarfile.SYMTYPE, what.partition(" ")[2]
            else:
                member.type = {"fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}.get(
                    what, tarfile.DIRTYPE
                )
            tar.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
        for name, kind in evil:
            member = tarfile.TarInfo(name)
            member.type = (
                tarfile.REGTYPE,
                tarfile.LNKTYPE,
                tarfile.SYMTYPE,
                tarfile.BLKTYPE,
                tarfile.CONTTYPE,
            )[kind]
            member.linkname = "/etc/passwd"
            tar.addfile(member)
    return out.getvalue()


@given(
    damaged(),
    st.lists(
        st.tuples(EVIL | st.sampled_from(sorted(good("nodes"))), st.integers(0, 4)), max_size=3
    ),
    st.sampled_from(["", "gz", "bz2", "xz"]),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
@MANY
def test_damaged_archives(
    tree: Tree, evil: list[tuple[str, int]], how: str, flips: int, chance: random.Random
) -> None:
    with tempfile.TemporaryDirectory(prefix="fakesysfs-tests-") as folder:
        data = bytearray(packed(tree, evil, how))
        for _ in range(flips):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if flips and chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        path = Path(folder, "copy.tar")
        path.write_bytes(data)
        said = outcome(path)
        assert "root:" not in said
        assert os.listdir(folder) == ["copy.tar"], "it was unpacked"


# Machine files

MACHINE = """\
title = "a machine"
memory = "1G,slots=4,maxmem=4G"
kernel = "6.1"
append = "memhp_default_state=online movable_node memory_hotplug.auto_movable_ratio=301"
config = {ARCH_MEMORY_PROBE = "n", STEP_DELAY_US = 0, NR_CPUS = 64}
node = ["memory=512M,cpus=0-1", "memory=512M,cpus=2;4"]
distance = ["0,1,21"]
arch = "x86_64"
seed = 7
workload = {anon = "16M", "node1.slab" = "4M"}
fault = ["write memory40/state EAGAIN x3"]
dimms = [{id = "d0", size = "128M", node = 0}, {id = "d1", size = "256M", slot = 2, addr = 0x108000000}]
"""
BLOCKS = """\
kernel = "6.12"
memory = "2G,slots=4,maxmem=4G"
node = ["cpus=0", "cpus=1"]
block_bytes = 0x8000000
holes = [[0xa0000, 0x100000]]
zone = [{node = 0, name = "DMA32", range = [0x0, 0x40000000]}]
block = [
    {first = 0, zones = "none"},
    {first = 1, last = 6, zones = "DMA32", removable = false},
    {first = 7, nodes = 0, node = [0, 1], zones = "none"},
    {first = 32, last = 35, state = "offline", node = 1, node_link = false, phys_device = 3, phys_device_step = 1},
]
"""
TOKEN = re.compile(r'"[^"]*"|0x[0-9a-f]+|[0-9]+|[A-Za-z_]+|[\[\]{}=,]')
TOKENS = st.sampled_from([
    "-1", "0", "1", "1.5", "inf", "nan", "true", "1979-05-27", "9" * 30, "9" * 5000, "0x" + "f" * 40, '""',
    '"' + "9" * 5000 + '"',
    '"9999999P"', '"1G,slots=99999999999"', '"-1G"', '"1e9"', '"\\u0000"', '"\\u001b[31m"', "[]", "{}", "[[]]", '["", ""]',
    "=", '"', "]", "}", "#",
    "memory", "block", "nonsense", '"0-99999999"', '"0,0,0"', '"node1.anon=1G"', '"../../etc/passwd"', '"/dev/zero"',
    '"6.1.2.3"', "[" * 2000,
    '"64T,slots=256,maxmem=64T"', "18446744073709551615", "9223372036854775808", '"0x"', "0x7fffffffffffffff", "1048576",
    '"1.' + "9" * 5000 + 'G"',
])  # fmt: skip


@st.composite
def machine_file(draw: st.DrawFn) -> str:
    """A machine file with other words in some places, or cut short."""
    text = draw(st.sampled_from([MACHINE, BLOCKS]))
    for _ in range(draw(st.integers(1, 3))):
        tokens = list(TOKEN.finditer(text))
        if not tokens:
            break
        token = draw(st.sampled_from(tokens))
        new = draw(
            TOKENS
            | st.integers(-(2**70), 2**70).map(str)
            | st.text(max_size=8).map(lambda t: f'"{t}"')
        )
        text = text[: token.start()] + new + text[token.end() :]
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


@given(machine_file())
@MANY
def test_damaged_machine_files(text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fakesysfs-tests-") as folder, in_time():
        path = Path(folder, "machine.toml")
        path.write_text(text, errors="surrogateescape" if text.isascii() else "replace")
        try:
            machine = Machine(MachineConfig.from_options(machine=path))
        except ConfigError as e:
            said = str(e)
            assert said.isprintable(), "not one line that a terminal can take"
            assert len(said) < 1500
        else:
            with machine:
                machine.check()


def options() -> dict[str, Any]:
    words = st.text(max_size=12) | st.sampled_from([
        "9" * 5000, "1.5.5", "0x", "-1", "1G,slots=", "cpus=0-", "0,1", "=", ",", "node9=", "\0", "mem=" + "9" * 5000,
        "node" + "9" * 5000 + ".anon=1M",
    ])  # fmt: skip
    return {
        "memory": words, "kernel": words, "append": words, "config": words, "arch": words, "workload": words,
        "nodes": st.lists(words, max_size=2), "distances": st.lists(words, max_size=2), "faults": st.lists(words, max_size=2),
    }  # fmt: skip


@given(st.fixed_dictionaries({}, optional=options()))
@MANY
def test_damaged_options(given_options: dict[str, Any]) -> None:
    with in_time():
        try:
            machine = Machine(MachineConfig.from_options(**given_options))
        except ConfigError as e:
            assert len(str(e)) < 1500
            assert str(e).isprintable(), "not one line that a terminal can take"
        else:
            machine.close()


# One by one: what chance seldom finds


class Zeros(io.RawIOBase):
    """No end of zeros."""

    def read(self, size: int = -1) -> bytes:
        return bytes(min(size, 1 << 20))


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("large member", "memory0/state: 40M; no such file has that"),
        ("sparse", "cut short or damaged"),
        ("many members", "no sys/devices/system/memory/block_size_bytes in it"),
        ("deep", "no sys/devices/system/memory/block_size_bytes in it"),
        ("long name", "a header of 1G"),
    ],
)
def test_archives_that_are_attacks(tmp_path: Path, way: str, said: str) -> None:
    path = tmp_path / "copy.tar"
    member = tarfile.TarInfo("sys/devices/system/memory/memory0/state")
    if way == "large member":
        member.size = 40 << 20
        size = tarfile.TarInfo("sys/devices/system/memory/block_size_bytes")
        size.size = 8
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.addfile(size, io.BytesIO(b"8000000\n"))
            tar.addfile(member, Zeros())
        assert path.stat().st_size < 1 << 20
    elif way == "sparse":
        member.size = 1 << 50
        path.write_bytes(member.tobuf())
        os.truncate(path, 1 << 40)
    elif way == "many members":
        with tarfile.open(path, "w") as tar:
            for number in range(20000):
                tar.addfile(tarfile.TarInfo(f"x/{number}"))
    elif way == "deep":
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo("d/" * 4000 + "memory/memory0/state"))
    else:
        name = tarfile.TarInfo("././@LongLink")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
        path.write_bytes(name.tobuf() + bytes(1024))
    assert said in outcome(path)
