"""Programs as distributions ship them, unmodified in `fakesysfs run`: what they say of the
simulated machine.

Those that only look run one after the other in a single `run` for each person; the ordinary user
stays one there (--keep-uid). What they ought to say is computed from the machine's options, or from
the files they read. Two look past what is served: busybox `free` and `lshw` also ask sysinfo(2),
which is the host's; so the machine for lshw is one that is larger than any host of tests, since
lshw prints the largest it finds.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from t3_mount.host import FUSE_MAGIC, MEMORY, SECONDS, Person, lines

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
MACHINE = ("--memory", "4G,slots=4,maxmem=16G", "--node", "memory=3G,cpus=0", "--node", "memory=1G,cpus=1",
           "--distance", "0,1,21")  # fmt: skip
# memory blocks of each node: above 2 GiB it goes on at 4
NODES = ((*range(16), *range(32, 40)), tuple(range(40, 48)))
BLOCKS = (*NODES[0], *NODES[1])
LOOKING = {
    "lsmem": (
        "lsmem --bytes --noheadings --summary=never --output RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE"
    ),
    "lsmem split": "lsmem --split=ZONES --noheadings --summary=never --output SIZE,BLOCK,ZONES",
    "lsmem json": "lsmem --json --bytes --all --output BLOCK,STATE,NODE,ZONES",
    "lscpu": "lscpu",
    "free": "free --kibi --wide",
    "vmstat": "vmstat -s -S k",
    "numactl": "numactl --hardware",
    "numastat -m": "numastat -m",
    "numastat": "numastat",
    "lstopo": "lstopo-no-graphics --disallowed --no-caches --no-io --of xml",
    "hwinfo": "hwinfo --memory",
    "busybox": (
        """busybox sh -c 'for d in /sys/bus/memory/devices/memory*; do busybox cat $d/online; done |
        busybox sort | busybox uniq -c'"""
    ),
    "perl": (
        """perl -e 'for (glob "/sys/devices/system/memory/memory*/phys_index") { open my $f, "<", $_ or die; $n += hex <$f> }
        print "$n\\n"'"""
    ),
    "awk": (
        "awk '/^Node .* Movable|MemFree/ {print FILENAME, $(NF-1)}'"
        " /sys/devices/system/node/node*/meminfo"
    ),
    "find": "find /sys/devices/system/memory -maxdepth 2 -name state -newermt 2000-01-01",
    "tar": (
        "tar -C /sys/devices/system -cf - memory/memory3/state memory/memory3/subsystem | tar"
        " -tvf -"
    ),
    "files": "cat /proc/meminfo /sys/devices/system/node/node*/meminfo",
    "id": "id -u",
}

# Carries out each of the given shell commands and prints what they said as JSON.
DRIVER = f"""
import json, os, subprocess, sys
assert subprocess.run(["stat", "-f", "-c", "%t", "{MEMORY}"], stdout=-1, text=True).stdout == "{FUSE_MAGIC}\\n"
print(json.dumps({{
    name: [r.returncode, r.stdout, r.stderr]
    for name, command in json.loads(sys.argv[1]).items()
    for r in [subprocess.run(["sh", "-c", command], capture_output=True, text=True)]
}}))
"""


@dataclass(frozen=True)
class Said:
    """What a program said."""

    status: int
    stdout: str
    stderr: str

    @property
    def numbers(self) -> dict[str, int]:
        """Lines like "MemTotal: 1000 kB" as a dictionary."""
        return {
            key: int(n)
            for key, n in re.findall(
                r"^(?:Node \d+ )?([^:\n]+):\s+(\d+)", self.stdout, re.MULTILINE
            )
        }


@functools.cache
def look(person: Person) -> dict[str, Said]:
    """What all the programs that only look said to that person."""
    result = person.run(
        "fakesysfs",
        "run",
        "--keep-uid",
        *MACHINE,
        "--",
        sys.executable,
        "-c",
        DRIVER,
        json.dumps(LOOKING),
    )
    assert result.returncode == 0, result.stderr
    return {name: Said(*said) for name, said in json.loads(result.stdout).items()}


def said(person: Person, name: str, *, noise: str = "") -> str:
    """What a program wrote to stdout, after it has succeeded without a complaint.

    :param noise: a pattern of what it says on stderr wherever it runs.
    """
    program = LOOKING[name].split()[0]
    if not shutil.which(program, path=PATH):
        pytest.skip(f"{program} is not installed: .ci/test-tools installs it")
    answer = look(person)[name]
    complaints = [line for line in lines(answer.stderr) if not (noise and re.search(noise, line))]
    assert (answer.status, complaints) == (0, []), answer
    return answer.stdout


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where a program is missing."""
    return pytest.mark.skipif(
        not shutil.which(program, path=PATH), reason=f"no {program} here (package {package})"
    )


def files(person: Person) -> tuple[dict[str, int], list[dict[str, int]]]:
    """Numbers of /proc/meminfo and of each node's meminfo."""
    text = look(person)["files"].stdout
    machine, *nodes = re.split(r"^(?=Node \d+ MemTotal)", text, flags=re.MULTILINE)
    return Said(0, machine, "").numbers, [Said(0, node, "").numbers for node in nodes]


def test_the_ordinary_user_is_one(person: Person) -> None:
    uid = int(said(person, "id"))
    assert (uid == 0) == (person.name == "root")


# The programs that look


def test_lsmem(person: Person) -> None:
    assert [line.split() for line in lines(said(person, "lsmem"))] == [
        ["0x0000000000000000-0x000000007fffffff", f"{2 << 30}", "online", "yes", "0-15", "0"],
        ["0x0000000100000000-0x000000013fffffff", f"{1 << 30}", "online", "yes", "32-39", "0"],
        ["0x0000000140000000-0x000000017fffffff", f"{1 << 30}", "online", "yes", "40-47", "1"],
    ]
    assert [line.split() for line in lines(said(person, "lsmem split"))] == [
        ["128M", "0", "None"],
        ["1.9G", "1-15", "DMA32"],
        ["2G", "32-47", "Normal"],
    ]
    blocks = json.loads(said(person, "lsmem json"))["memory"]
    assert [(int(b["block"]), b["state"], b["node"]) for b in blocks] == [
        (block, "online", nid) for nid, blocks in enumerate(NODES) for block in blocks
    ]


def test_free_and_vmstat(person: Person) -> None:
    meminfo, _ = files(person)
    assert 3_900_000 < meminfo["MemTotal"] < 4 << 20
    memory = next(line for line in lines(said(person, "free")) if line.startswith("Mem:")).split()[
        1:
    ]
    cache = meminfo["Cached"] + meminfo["SReclaimable"]
    total, _, free, shared, buffers, cached, available = map(int, memory)
    assert (total, free, shared, buffers, cached) == (
        meminfo["MemTotal"], meminfo["MemFree"], meminfo["Shmem"], meminfo["Buffers"], cache,
    )  # fmt: skip
    assert available == meminfo["MemAvailable"]
    vmstat = {
        rest: int(n) for n, rest in (line.split(" ", 1) for line in lines(said(person, "vmstat")))
    }
    wanted = {"total": "MemTotal", "free": "MemFree", "inactive": "Inactive", "active": "Active"}
    assert {key: vmstat[f"k {key} memory"] for key in wanted} == {
        # -S k: thousands of bytes, of a single precision number
        key: pytest.approx(meminfo[name] * 1.024, rel=1e-6, abs=1) for key, name in wanted.items()
    }  # fmt: skip


def test_numactl_and_numastat(person: Person) -> None:
    _, nodes = files(person)
    stdout = said(person, "numactl")
    assert "available: 2 nodes (0-1)" in stdout
    for nid, node in enumerate(nodes):
        assert f"node {nid} size: {node['MemTotal'] >> 10} MB" in stdout
        assert f"node {nid} free: {node['MemFree'] >> 10} MB" in stdout
        assert f"node {nid} cpus: {nid}\n" in stdout
    assert [line.split() for line in lines(stdout.partition("node distances:\n")[2])][1:] == [
        ["0:", "10", "21"],
        ["1:", "21", "10"],
    ]
    table = said(person, "numastat -m", noise="not in hash table")
    rows = {name: sizes for name, *sizes in (line.split() for line in lines(table))}
    for name in ("MemTotal", "MemFree", "AnonPages", "Slab"):
        sizes = [node[name] for node in nodes]
        assert rows[name] == [f"{size / 1024:.2f}" for size in (*sizes, sum(sizes))], name
    assert re.search(r"^numa_hit\s+[1-9]\d+\s+\d+$", said(person, "numastat"), re.MULTILINE)


def test_lscpu_and_lstopo(person: Person) -> None:
    stdout = said(person, "lscpu")
    for line in (r"NUMA node\(s\): +2", "NUMA node0 CPU.*: +0", "NUMA node1 CPU.*: +1"):
        assert re.search(f"^ *{line}$", stdout, re.MULTILINE), line
    # --disallowed: node 1 is none that the host would let this process use.
    _, nodes = files(person)
    found = re.findall(
        r'<object type="NUMANode" os_index="(\d+)".*? local_memory="(\d+)"', said(person, "lstopo")
    )
    assert found == [(f"{nid}", f"{node['MemTotal'] << 10}") for nid, node in enumerate(nodes)]


def test_hwinfo(person: Person) -> None:
    # It rounds what meminfo says to a sixteenth.
    assert re.search(
        r"Memory Size: (3 GB \+ 8\d\d|4) [MG]B", said(person, "hwinfo", noise="super-user")
    ), look(person)["hwinfo"]


def test_without_a_dynamic_linker(person: Person) -> None:
    assert said(person, "busybox").split() == ["32", "1"]
    program = shutil.which("busybox", path=PATH)
    assert program is not None
    assert not is_dynamic(Path(program))


def test_other_languages_and_tools(person: Person) -> None:
    assert int(said(person, "perl")) == sum(BLOCKS)
    _, nodes = files(person)
    assert [line.split()[1] for line in lines(said(person, "awk"))] == [
        str(node["MemFree"]) for node in nodes
    ]
    assert sorted(lines(said(person, "find"))) == sorted(
        f"{MEMORY}/memory{n}/state" for n in BLOCKS
    )
    state, link = lines(said(person, "tar", noise="File shrank by 4089 bytes; padding with zeros"))
    assert state.startswith("-rw-r--r--")
    assert state.endswith("memory/memory3/state")
    assert link.endswith("memory/memory3/subsystem -> ../../../../bus/memory")


@needs("lshw", "lshw")
def test_lshw(person: Person) -> None:
    script = f"""
lshw -quiet -C memory
echo offline > {MEMORY}/memory1000/state && lshw -quiet -C memory"""
    result = person.inside(script, "--memory", "1T")
    assert re.findall(r"size: (.*)", result.stdout) == ["1TiB", "1022GiB"], result


# Soon after it went online the block in Normal holds pages of the kernel and stays, as on a real machine.
KERNEL_USES_NORMAL = ("--config=KERNEL_USE_AFTER=8",)


@pytest.mark.may_skip("perf events are forbidden in many containers")
@needs("perf", "linux-perf")
def test_perf(person: Person) -> None:
    script = """
cd $D && perf record --quiet --output p --event dummy:u true && perf report --input p --header-only -I --stdio"""
    with person.directory() as directory:
        if person.run(
            "perf", "record", "--quiet", "--output", f"{directory}/p", "--event", "dummy:u", "true"
        ).returncode:
            pytest.skip("perf record is not possible here, `run` or not")
        result = person.inside(script, *MACHINE, env={"D": str(directory)})
    assert re.search(
        r"^# memory nodes \(nr 2, block size 0x8000000\):\n# +0 \[3G\]: 0-15,32-39\n# +1 \[1024M\]:"
        r" 40-47$",
        result.stdout,
        re.MULTILINE,
    ), result


# The programs that change something

PLUG = """fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=1G' 'device_add pc-dimm,id=d0,memdev=m0'
"""


def test_chmem(person: Person) -> None:
    """Each call, its exit status, and which blocks are in which zone after it."""
    script = f"""
do_() {{ echo "$ $*"; "$@" 2>&1; echo "status $?"
    lsmem --split=STATE,ZONES --noheadings --summary=never --output=BLOCK,STATE,ZONES | sed -n '/^ *3[2-9]/p'; }}
{PLUG}do_ chmem -e 256M
do_ chmem -e -z Normal 128M
do_ chmem -e -b 36-37
do_ chmem -e 2G
do_ chmem --disable 0x120000000-0x127ffffff
do_ chmem -v -d -b 33-37
do_ chmem -d -z Normal 128M
do_ chmem -d -z Movable 256M
do_ chmem -d 1T
do_ chmem -e 36"""
    told = person.inside(script, *KERNEL_USES_NORMAL).stdout
    steps = [[" ".join(line.split()) for line in lines(step)] for step in told.split("$ ")[1:]]
    assert steps == CHMEM, told


CHMEM = [
    ["chmem -e 256M", "status 0", "32-33 online Movable", "34-39 offline Normal/Movable"],
    ["chmem -e -z Normal 128M", "status 0",
     "32-33 online Movable", "34 online Normal", "35-39 offline Normal/Movable"],
    ["chmem -e -b 36-37", "status 0",
     "32-33 online Movable", "34 online Normal", "35 offline Movable/Normal", "36-37 online Movable",
     "38-39 offline Normal/Movable"],
    ["chmem -e 2G", "chmem: Could only enable 384M of memory", "status 64",
     "32-33 online Movable", "34 online Normal", "35-39 online Movable"],
    ["chmem --disable 0x120000000-0x127ffffff", "status 0",
     "32-33 online Movable", "34 online Normal", "35 online Movable", "36 offline Movable/Normal", "37-39 online Movable"],
    # Onlining it to Normal made the first kernel memory of that zone, and it is still there.
    ["chmem -v -d -b 33-37",
     "chmem: Memory Block 34 (0x0000000110000000-0x0000000117ffffff) disable failed: Device or resource busy",
     "Memory Block 33 (0x0000000108000000-0x000000010fffffff) disabled",
     "Memory Block 35 (0x0000000118000000-0x000000011fffffff) disabled",
     "Memory Block 36 (0x0000000120000000-0x0000000127ffffff) already disabled",
     "Memory Block 37 (0x0000000128000000-0x000000012fffffff) disabled", "status 64",
     "32 online Movable", "33 offline Movable/Normal", "34 online Normal", "35-37 offline Movable/Normal",
     "38-39 online Movable"],
    ["chmem -d -z Normal 128M", "chmem: Could only disable 0B of memory", "status 1",
     "32 online Movable", "33 offline Movable/Normal", "34 online Normal", "35-37 offline Movable/Normal",
     "38-39 online Movable"],
    ["chmem -d -z Movable 256M", "status 0",
     "32 online Movable", "33 offline Normal/Movable", "34 online Normal", "35-39 offline Normal/Movable"],
    ["chmem -d 1T", "chmem: Could only disable 128M of memory", "status 64",
     "32-33 offline Normal/Movable", "34 online Normal", "35-39 offline Normal/Movable"],
    ["chmem -e 36", "chmem: Size must be aligned to memory block size (128M)", "status 1",
     "32-33 offline Normal/Movable", "34 online Normal", "35-39 offline Normal/Movable"],
]  # fmt: skip


@needs("qemu-ga", "qemu-guest-agent")
def test_qemu_guest_agent(person: Person) -> None:
    code = """
import contextlib, json, os, socket, subprocess, time
d = os.environ["D"]
agent = subprocess.Popen(["qemu-ga", "--method=unix-listen", f"--path={d}/s", f"--statedir={d}", f"--pidfile={d}/pid"])
s = socket.socket(socket.AF_UNIX)
while agent.poll() is None:
    with contextlib.suppress(OSError):
        s.connect(f"{d}/s")
        break
    time.sleep(0.01)
f = s.makefile("rw")
def ask(what, **arguments):
    print(json.dumps({"execute": what, "arguments": arguments}), file=f, flush=True)
    print(f.readline(), end="")
blocks = [{"phys-index": n, "online": online} for n, online in ((32, True), (33, False), (99, True), (0, False), (5, False))]
ask("guest-get-memory-block-info")
ask("guest-get-memory-blocks")
ask("guest-set-memory-blocks", **{"mem-blks": blocks})
ask("guest-get-memory-blocks")
agent.terminate(); agent.wait()
"""
    script = f"""
fakesysfs load slab=+4K --block 5 > /dev/null
fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=256M' 'device_add pc-dimm,id=d0,memdev=m0'
exec {sys.executable} -c '{code}'"""
    with person.directory() as directory:
        result = person.inside(script, env={"D": str(directory)})
    assert result.returncode == 0, result.stderr
    size, before, answers, after = (json.loads(line)["return"] for line in lines(result.stdout))
    assert size == {"size": 128 << 20}
    online = dict.fromkeys(range(8), True) | {32: False, 33: False}
    assert {block["phys-index"]: block["online"] for block in before} == online
    assert len(before) == len(online)
    assert all(block["can-offline"] for block in before)
    assert answers == [
        {"phys-index": 32, "response": "success"},
        {"phys-index": 33, "response": "success"},  # it is offline
        {"phys-index": 99, "response": "not-found", "error-code": errno.ENOENT},
        # has the hole below 1 MiB
        {"phys-index": 0, "response": "operation-failed", "error-code": errno.EINVAL},
        {"phys-index": 5, "response": "operation-failed", "error-code": errno.EBUSY},
    ]
    assert {block["phys-index"]: block["online"] for block in after} == online | {32: True}


def test_a_statically_linked_program(person: Person) -> None:
    """As Rust's fs::write does it: O_CREAT and O_TRUNC, one write without a newline."""
    source = f"""
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
static int put(const char *path, const char *text)
{{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0;
}}
int main(void)
{{
    char buf[64];
    int fd;
    if (put("{MEMORY}/probe", "0x108000000") || put("{MEMORY}/memory33/online", "1"))
        return 1;
    fd = open("{MEMORY}/memory33/state", O_RDONLY);
    return write(1, buf, (size_t)read(fd, buf, sizeof buf)) != 7;
}}
"""
    with person.directory() as directory:
        (directory / "static.c").write_text(source)
        program = directory / "static"
        command = ["cc", "-static", "-o", str(program), str(directory / "static.c")]
        subprocess.run(command, check=True, timeout=SECONDS)
        assert not is_dynamic(program)
        result = person.inside(f"exec {program}")
    assert (result.returncode, result.stdout) == (0, "online\n"), result.stderr


def is_dynamic(program: Path) -> bool:
    """Whether an ELF file of 64 bits names a dynamic linker."""
    data = program.read_bytes()
    assert data[:5] == b"\x7fELF\2", program
    (start,), (size, count) = (
        struct.unpack_from("<Q", data, 32),
        struct.unpack_from("<HH", data, 54),
    )
    interp = 3
    return any(struct.unpack_from("<I", data, start + i * size)[0] == interp for i in range(count))


# A dax device of the host's making, in place of the real ones: as device-dax and dax_kmem present
# persistent memory that is used as RAM. What is not simulated is put there by hand; the memory
# behind it is the machine's.
DAX = f"""
[ -d /sys/bus/dax ] || exit 77
echo 0x100000000 > {MEMORY}/probe; echo 0x108000000 > {MEMORY}/probe
mount -t tmpfs none /sys/bus/dax; cd /sys/bus/dax
mkdir -p devices drivers/kmem region0/dax0.0 region0/dax_region
cd region0/dax_region; echo 0 > id; echo 0x10000000 > size; echo 0x200000 > align; echo 0x100000000 > resource
cd ../dax0.0; echo 0x100000000 > resource; echo 0x10000000 > size; echo 0 > target_node; echo 0x200000 > align
ln -s ../../drivers/kmem driver; ln -s ../../../module/kmem ../../drivers/kmem/module
ln -s ../region0/dax0.0 ../../devices/dax0.0; cd /
mount -t tmpfs none /mnt; touch /mnt/dax0.0 /mnt/null; mount --bind /dev/null /mnt/null; mount --rbind /mnt /dev
mount -t tmpfs none /sys/dev/char; mkdir /sys/dev/char/0:0; ln -s /sys/bus/dax /sys/dev/char/0:0/subsystem
"""


@pytest.mark.may_skip("the host's kernel knows no dax devices")
@needs("daxctl", "daxctl")
def test_daxctl(person: Person) -> None:
    script = f"""{DAX}
look() {{ echo "status $?"; cat {MEMORY}/memory32/valid_zones; }}
daxctl online-memory dax0.0 2>&1; look
daxctl offline-memory dax0.0 2>&1; look
daxctl online-memory --no-movable dax0.0 2>&1; look
daxctl offline-memory dax0.0 2>&1; look
"""
    result = person.inside(script, *KERNEL_USES_NORMAL)
    if result.returncode == 77:
        pytest.skip("there is no /sys/bus/dax here")
    steps = [
        "onlined memory for 1 device", "status 0", "Movable",
        "offlined memory for 1 device", "status 0", "Normal Movable",
        "onlined memory for 1 device", "status 0", "Normal",
        # Kernel memory has settled there at once.
        "offlined memory for 0 devices", "status 240", "Normal",
    ]  # fmt: skip
    assert [
        line
        for line in lines(result.stdout)
        if re.match("o..?lined memory for|status|Normal|Movable", line)
    ] == steps
    assert (
        "Failed to offline /sys/devices/system/node/node0/memory32/state: Device or resource busy"
        in result.stdout
    )
