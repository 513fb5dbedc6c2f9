"""What real machines have done to real tools, each staged by one line, in a `run` and with the
tools where one is named.

A row of CASES is a bug that tools had, the one line that brings about what they met, what is done
then, and what it looks like. Cases of one B number are of one kind; each number has a case, or a
reason in ELSEWHERE why not. The table of README.md shows lines that stand here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from t3_mount.host import MEMORY, SOURCES, Person

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

# What every script begins with: names, and how memory is added: blocks by the file `probe`, which
# is quick, or DIMMs.
PRELUDE = f"""exec 2>&1
M={MEMORY} N=/sys/devices/system/node LC_ALL=C
blocks() {{ for i in $(seq 0 $(($1 - 1))); do printf 0x%x $((0x100000000 + i * 0x8000000)) > $M/probe; done; }}
dimm() {{ fakesysfs monitor "object_add memory-backend-ram,id=m$1,size=$2" "device_add pc-dimm,id=d$1,memdev=m$1"; }}
"""


@dataclass(frozen=True)
class Case:
    """A bug that tools had, staged.

    :param bug: the number of its kind.
    :param what: what is the matter.
    :param line: what stages it: options, a command that stands as STAGE in the script, or lines of
        a machine file. Empty: it is so anyway.
    :param script: for bash; `blocks N` adds memory32 and so on, `dimm N SIZE` plugs a DIMM.
    :param says: its output, with one blank between words; `*` is any text within a line.
    """

    bug: int
    what: str
    line: str
    script: str
    says: str


# fmt: off
CASES = [
    Case(1, "one unmovable page keeps a block online", "fakesysfs load slab=+4K --block 32",
         "blocks 4; echo online_movable > $M/memory33/state; echo online_kernel > $M/memory32/state; STAGE; chmem -d 256M;"
         "echo $?; cat $M/memory3[23]/state; fakesysfs dmesg | grep -q 'unmovable page' && echo said",
         "slab +4 kB\nchmem: Could only disable 128M of memory\n64\nonline\noffline\nsaid"),
    Case(1, "two blocks go, and then no more", "--fault 'write memory*/state EBUSY nth=7 always'",
         "blocks 4; chmem -e 512M; chmem -d 512M; echo $?; lsmem -b -n --summary=never -o STATE,BLOCK",
         "chmem: Could only disable 256M of memory\n64\n online    0-7\n online  32-33\noffline  34-35"),
    Case(2, "EAGAIN for a while: chmem tries again", "--fault 'write memory32/state EAGAIN x3'",
         "blocks 1; chmem -v -e 128M; echo $?; fakesysfs fault list",
         "Memory Block 32 (0x0000000100000000-0x0000000107ffffff) enabled\n0\n  1  write memory32/state EAGAIN x3  3 of 4"),
    Case(2, "EAGAIN for ever: so does chmem", "--fault 'write memory32/state EAGAIN'",
         "blocks 1; timeout 3 chmem -e 128M; echo $?; fakesysfs fault list | grep -cE '  ([2-9]|[1-9][0-9]+) of \\1$'",
         "124\n1"),
    Case(2, "EINTR, which some take for a failure", "--fault 'write memory32/state EINTR x2'",
         "blocks 1; chmem -e 128M; echo $?; cat $M/memory32/state", "0\nonline"),
    Case(2, "it fails now and then", "--fault 'write memory32/state EAGAIN p=0.5'",
         "blocks 1; until echo online > $M/memory32/state; do :; done 2> /dev/null; cat $M/memory32/state;"
         "fakesysfs fault list", "online\n1 write memory32/state EAGAIN p=0.5 * of *"),
    Case(3, "`online` takes online_movable for a yes, and the zone is Normal", "fakesysfs load slab=+4K --block 32",
         "blocks 1; echo online_movable > $M/memory32/online; cat $M/memory32/state $M/memory32/valid_zones;"
         "STAGE; echo 0 > $M/memory32/online; cat $M/memory32/state",
         "online\nNormal\nslab +4 kB\n* write error: Device or resource busy\nonline"),
    Case(4, "the kernel's policy is faster than a rule", "--append memhp_default_state=online_kernel",
         "blocks 1; cat $M/memory32/state; echo online_movable > $M/memory32/state; cat $M/memory32/valid_zones",
         "online\n* write error: Invalid argument\nNormal"),
    Case(5, "`online` to what is online", "",
         "echo online > $M/memory3/state; cat $M/memory3/state", "* write error: Invalid argument\nonline"),
    Case(6, "a socket too small for a burst of uevents", "--memory 4G,slots=1,maxmem=128G",
         """python3 -c '
import errno, os, socket
small, large = (socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) for _ in range(2))
small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
large.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
for s in small, large:
    s.bind((0, 1))
    s.setblocking(False)
os.system("fakesysfs monitor \\"object_add memory-backend-ram,id=m0,size=64G\\" \\"device_add pc-dimm,id=d0,memdev=m0\\"")
for s in small, large:
    told, lost = 0, False
    while True:
        try: told += b"/memory/memory" in s.recv(65536)
        except BlockingIOError: break
        except OSError as e: lost = e.errno == errno.ENOBUFS
    print("all" if told == 512 else "some" if 0 < told < 200 else told, lost)
'""", "some True\nall False"),
    Case(6, "no memory for the memmap of what is added", "fakesysfs load kernel=+800M",
         "STAGE; dimm 0 7G; ls $M | grep -c memory; fakesysfs dmesg | tail -2",
         "kernel +819200 kB\n8\n* add_memory failed\n* acpi_memory_enable_device() error"),
    Case(7, "a block is gone when its files are read", "--fault 'vanish memory3'",
         "ls $M | grep -c '^memory3$'; lsmem; echo $?; cat $M/memory*/state | wc -l",
         "1\nlsmem: Failed to open memory3: No such file or directory\n1\n7"),
    Case(7, "a file is gone", "--fault 'vanish memory3/state'",
         "lsmem -n --summary=never -o SIZE,STATE,BLOCK; echo $?", "384M online   0-2\n128M      ?     3\n512M online   4-7\n0"),
    Case(7, "the event is there before the files", "--fault 'uevent add * early 10s'",
         "blocks 1; fakesysfs events | grep -c 'add@/devices/system/memory/memory32'; ls $M | grep -c memory32", "1\n0"),
    Case(7, "every read fails now and then", "--fault 'read memory*/state EIO p=0.3'",
         "for i in $(seq 20); do cat $M/memory3/state; done 2>&1 | sort -u", "cat: *: Input/output error\nonline"),
    Case(8, "blocks of 2 GiB", "--machine server-64g",
         "cat $M/block_size_bytes; lsmem | grep block", "80000000\nMemory block size:         2G"),
    Case(8, "blocks of 256 MiB, half of them standby", "--machine s390x-guest",
         "cat $M/block_size_bytes; lsmem -n --summary=never -o SIZE,STATE,BLOCK", "10000000\n4G online 0-15\n4G offline 16-31"),
    Case(8, "sections smaller than blocks, pages of 64 KiB", "--machine ppc64le-lpar",
         "cat $M/block_size_bytes $M/memory1/phys_index", "10000000\n00000001"),
    Case(8, "blocks of 512 MiB", "--machine arm64-64k", "cat $M/block_size_bytes", "20000000"),
    Case(9, "a DIMM that is no whole block, and those after it", "fakesysfs monitor 'device_add pc-dimm,id=d0,memdev=m0'",
         "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=100M'; STAGE; dimm 1 128M;"
         "fakesysfs monitor 'info memory-devices' | grep addr; ls $M | grep -c '^memory'; fakesysfs dmesg | grep unaligned",
         "  addr: 0x100000000\n  addr: 0x106400000\n8\n"
         "* Block size [0x8000000] unaligned hotplug range: start 0x100000000, size 0x6400000\n"
         "* Block size [0x8000000] unaligned hotplug range: start 0x106400000, size 0x8000000"),
    Case(10, "the first block is number 8192", "--machine apple-guest",
         "lsmem -n --summary=never -o RANGE,BLOCK", "0x0000010000000000-0x00000101ffffffff 8192-8255"),
    Case(10, "a hole", "--memory 4G", "lsmem -n --summary=never -o BLOCK", " 0-15\n32-47"),
    Case(10, "a block without a node, one with two", """\
block_bytes = 0x8000000
node = ["cpus=0", "cpus=1"]
block = [{first = 0, node_link = false}, {first = 1, last = 6}, {first = 7, node = [0, 1], zones = "none"}]""",
         "for i in 0 1 7; do echo $i $(ls $M/memory$i | grep node); done; ls -d $N/node1/memory[0-9]*",
         "0\n1 node0\n7 node0 node1\n/sys/devices/system/node/node1/memory7"),
    Case(11, "`removable` is 1 and it fails nevertheless", "",
         "cat $M/memory0/removable; echo offline > $M/memory0/state", "1\n* write error: *"),
    Case(11, "`removable` looks at pages", "--kernel 5.0",
         "blocks 1; echo online_movable > $M/memory32/state; cat $M/memory0/removable $M/memory32/removable", "0\n1"),
    Case(12, "memory_failure among a node's blocks", "--kernel 6.6",
         "ls -d $N/node0/memory* | tail -2; numactl -H | grep size",
         "/sys/devices/system/node/node0/memory7\n/sys/devices/system/node/node0/memory_failure\nnode 0 size: * MB"),
    Case(13, "directories are in no order", "",
         "ls -U $M | grep '^memory' > /tmp/order.$$; sort -cV /tmp/order.$$ 2> /dev/null || echo unsorted;"
         "wc -l < /tmp/order.$$; rm /tmp/order.$$; lsmem -n --summary=never -o BLOCK", "unsorted\n8\n  0-7"),
    Case(14, "valid_zones is a word, several, or `none`", "",
         "blocks 4; echo online > $M/memory32/state; chmem -e 128M; cat $M/memory0/valid_zones $M/memory3[2-5]/valid_zones",
         "none\nNormal\nMovable\nNormal Movable\nNormal Movable"),
    Case(14, "Movable comes first", "--append movable_node",
         "blocks 1; cat $M/memory32/valid_zones; echo online > $M/memory32/state; cat $M/memory32/valid_zones",
         "Movable Normal\nMovable"),
    Case(15, "no more than so much Movable",
         "--append 'memhp_default_state=online memory_hotplug.online_policy=auto-movable'",
         "echo 101 > /sys/module/memory_hotplug/parameters/auto_movable_ratio; for i in 0 1 2 3; do dimm $i 512M; done;"
         "for i in 32 36 40 44; do cat $M/memory$i/valid_zones; done", "Movable\nMovable\nNormal\nNormal"),
    Case(17, "a kernel that updates its crash kernel itself", "--kernel 6.6 --config CRASH_HOTPLUG=y",
         "cat $M/crash_hotplug; udevadm info -q property -p /devices/system/memory/memory3 | grep SUBSYSTEM",
         "1\nSUBSYSTEM=memory"),
    Case(17, "a uevent for each block: coldplug, and each way on and off", "",
         "blocks 1; udevadm trigger --action=change --subsystem-match=memory; echo online_movable > $M/memory32/state;"
         "echo offline > $M/memory32/state;"
         "fakesysfs events | grep -o '[a-z]*@/devices/system/memory/' | sort | uniq -c",
         "      1 add@/devices/system/memory/\n      9 change@/devices/system/memory/\n"
         "      1 offline@/devices/system/memory/\n      1 online@/devices/system/memory/"),
    Case(18, "no block_size_bytes", "--fault 'hide block_size_bytes'",
         "lsmem; echo $?; (chmem -e 1; exit $(($? != 0))) > /dev/null 2>&1 || echo no",
         "lsmem: This system does not support memory blocks\n1\nno"),
    Case(18, "no valid_zones", "--fault 'hide memory*/valid_zones'",
         "blocks 1; chmem -v -e 128M; chmem -z Movable -d 128M 2>&1 | head -1",
         "Memory Block 32 (0x0000000100000000-0x0000000107ffffff) enabled\n"
         "chmem: zone ignored, no valid_zones sysfs attribute present"),
    Case(18, "a block whose number is 0", "",
         "cat $M/memory0/phys_index; printf '%d\\n' 0x$(cat $M/memory0/phys_index)", "00000000\n0"),
    Case(19, "somebody else is faster, and takes Normal", "--fault 'write memory32/state hang x1'",
         "blocks 1; echo online_movable > $M/memory32/state & until fakesysfs fault list | grep -q waiting; do :; done;"
         "echo 1 > $M/memory32/online; fakesysfs fault clear; wait; cat $M/memory32/valid_zones",
         "* write error: Invalid argument\nNormal"),
    Case(16, "virtio-mem whose memory nobody sets online gets no more", "",
         "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=4G'"
         " 'device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=2G' 'qom-get vm0 size'; cat $M/memory39/state",
         "1073741824\noffline"),
    Case(16, "virtio-mem gives back a part", "fakesysfs load pinned=+4K --block 32",
         "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=4G'"
         " 'device_add virtio-mem-pci,id=vm0,memdev=m0,requested-size=256M'; echo online_movable > $M/memory32/state; STAGE;"
         "fakesysfs monitor 'qom-set vm0 requested-size 0' 'qom-get vm0 size'; ls $M | grep -c 'memory3[23]'",
         "pinned +4 kB\n2097152\n1"),
    Case(20, "the guest does not answer", "--fault 'unplug d0 never'",
         "dimm 0 128M; fakesysfs monitor 'device_del d0' 'info memory-devices' | head -1; ls -d $M/memory32 | wc -l;"
         "fakesysfs fault list",
         'Memory device [dimm]: "d0"\n1\n  1  unplug d0 never  1 of 1'),
    Case(20, "the guest refuses to give a DIMM back", "fakesysfs load slab=+4K --block 32",
         "dimm 0 128M; echo online_kernel > $M/memory32/state; STAGE; fakesysfs monitor 'device_del d0'; echo $?;"
         "fakesysfs monitor 'info memory-devices' | head -1; cat $M/memory32/state",
         'slab +4 kB\n0\nMemory device [dimm]: "d0"\nonline'),
    Case(20, "the guest is busy with it and says nothing", "fakesysfs load pinned=+4K --block 32",
         "dimm 0 128M; echo online_movable > $M/memory32/state; STAGE; fakesysfs monitor 'device_del d0' & "
         "until grep -q going $M/memory32/state; do :; done; fakesysfs monitor 'info memory-devices' | head -1; kill $!",
         'pinned +4 kB\nMemory device [dimm]: "d0"'),
    Case(21, "a node without memory", "--machine numa4",
         "numactl -H | grep 'node 3'; cat $N/has_memory; ls $N/node3 | grep -c '^memory[0-9]'",
         "node 3 cpus: 6 7\nnode 3 size: 0 MB\nnode 3 free: 0 MB\n0-2\n0"),
    Case(22, "no soft_offline_page", "--config MEMORY_FAILURE=n", "ls $M | grep -c offline_page", "0"),
    Case(22, "hard_offline_page fails", "--fault 'write hard_offline_page EIO'",
         "echo 0x8000000 > $M/hard_offline_page; grep Corrupted /proc/meminfo",
         "* write error: Input/output error\nHardwareCorrupted:     0 kB"),
    Case(23, "blocks are more than the memory there is", "",
         "blocks=$(($(cat $M/memory*/online | grep -c 1) * 128 * 1024)); echo $blocks kB in blocks;"
         "[ $blocks -gt $(awk '/MemTotal/ {print $2}' /proc/meminfo) ] && echo more than MemTotal",
         "1048576 kB in blocks\nmore than MemTotal"),
    Case(24, "numbers that fill their column of meminfo", "--machine 64tib",
         "head -1 /proc/meminfo; free -k | awk '/Mem/ {print length($2)}'", "MemTotal:       66*kB\n11"),
]
# fmt: on

ELSEWHERE = {
    25: (
        "/sys/kernel/dlpar is not simulated; the probe file, which drmgr writes too, takes what"
        " recordings show"
    ),
}


def staged(case: Case, folder: Path) -> tuple[list[str], str]:
    """Options of the run, and its script."""
    if case.line.startswith("-"):
        return shlex.split(case.line), case.script
    if "=" in case.line and "\n" in case.line:
        (folder / "machine.toml").write_text(case.line)
        return ["--machine", str(folder / "machine.toml")], case.script
    assert ("STAGE" in case.script) == bool(case.line)
    return [], case.script.replace("STAGE", case.line)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"B{case.bug}-{case.what.replace(' ', '-')}"
)
def test_case(me: Person, tmp_path: Path, case: Case) -> None:
    for program in ("chmem", "lsmem", "numactl", "udevadm", "free"):
        if re.search(rf"\b{program}\b", case.script) and not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is not installed")
    options, script = staged(case, tmp_path)
    result = me.run("fakesysfs", "run", *options, "--", "bash", "-c", PRELUDE + script)
    assert result.stderr == ""
    said, wanted = (
        "\n".join(" ".join(line.split()) for line in text.splitlines())
        for text in (result.stdout, case.says)
    )
    assert re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), said), said


def test_every_bug_is_staged_or_there_is_a_reason() -> None:
    assert sorted({case.bug for case in CASES} | ELSEWHERE.keys()) == list(range(1, 26))


def test_the_table_of_the_readme_shows_lines_that_stand_here() -> None:
    table = (
        (SOURCES / "README.md")
        .read_text()
        .partition("| to simulate | use |")[2]
        .partition("\n\n")[0]
    )
    # Of uevents and of unplugging: test_faults.py and test_unplug_answers.py have them all.
    effects = {"drop", "delay 2s", "duplicate", "reorder", "refuse", "stay", "twice"}
    shown = {
        code
        for row in table.splitlines()[2:]
        for code in re.findall("`([^`]+)`", row.rpartition(" | ")[2])
    } - effects
    known = {line for case in CASES for line in case.line.splitlines()} | {
        "--config STEP_DELAY_US=20000"
    }
    assert len(shown) > 10
    assert shown <= known
