"""Thousands of uevents by one command: none is lost, none is out of order, each is as the kernel
writes it.

The number is that of a DIMM of 1.25 TiB in blocks of 128 MiB. In SEQNUM others of this host may
come between: the kernel has one number for all.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys

import pytest
from t3_mount.host import Person

BLOCKS = 10_000
# 48 GiB: what describes the pages of the DIMM (20 GiB) comes out of it. aarch64: its blocks stay at
# 128 MiB.
MACHINE = ("--arch", "aarch64", "--memory", "48G,slots=2,maxmem=2T")

# Plugs that DIMM and prints what has been heard, in short.
BURST = r"""
import json, re, select, socket, subprocess, sys, time
number, option, size, *settle = sys.argv[1:]
listener = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
listener.setsockopt(socket.SOL_SOCKET, int(option), int(size))
listener.bind((0, 1))
begin = time.monotonic()
subprocess.run(["fakesysfs", "monitor", f"object_add memory-backend-ram,id=m0,size={int(number) * 128}M",
                "device_add pc-dimm,id=d0,memdev=m0"], check=True)
blocks, numbers, wrong, lost = [], [], [], 0
while len(blocks) < int(number) and select.select([listener], [], [], 0 if lost else 200)[0]:
    try:
        data = listener.recv(65536)
    except OSError as e:
        lost += e.errno == 105  # ENOBUFS
        continue
    if b"/system/memory/" not in data: continue
    path = rb"/devices/system/memory/memory(\d+)"
    found = re.fullmatch(rb"add@" + path + rb"\0ACTION=add\0DEVPATH=" + path + rb"\0SUBSYSTEM=memory\0SEQNUM=(\d+)\0", data)
    if found and found[1] == found[2]:
        blocks.append(int(found[1])); numbers.append(int(found[3]))
    else:
        wrong.append(data.decode())
received = time.monotonic() - begin
if settle:
    subprocess.run(["udevadm", "settle"], check=True)
settled = time.monotonic() - begin
print(json.dumps([blocks, numbers, wrong, lost, received, settled]))
"""
SO_RCVBUF, SO_RCVBUFFORCE = 8, 33


@pytest.mark.skipif(
    not shutil.which("udevadm"), reason="systemd-udevd is not installed (package udev)"
)
def test_ten_thousand_blocks(me: Person) -> None:
    command = (
        sys.executable,
        "-c",
        BURST,
        f"{BLOCKS}",
        f"{SO_RCVBUFFORCE}",
        f"{128 << 20}",
        "settle",
    )
    result = me.run("fakesysfs", "run", *MACHINE, "--udev", "--", *command)
    assert result.returncode == 0, result.stderr
    blocks, numbers, wrong, lost, received, settled = json.loads(result.stdout)
    print(f"{BLOCKS} uevents received after {received:.2f} s, udevd settled after {settled:.2f} s")
    assert (len(blocks), wrong, lost) == (BLOCKS, [], 0)
    assert blocks == list(range(blocks[0], blocks[0] + BLOCKS))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    assert min(steps) >= 1


def test_a_listener_with_a_small_buffer_loses_some(person: Person) -> None:
    """As on Linux, where an agent with 4 KiB for it hears the first few of the 1024 of 128 GiB, and
    then ENOBUFS.
    """
    command = (sys.executable, "-c", BURST, "1024", f"{SO_RCVBUF}", "4096")
    result = person.run("fakesysfs", "run", "--memory", "8G,slots=2,maxmem=160G", "--", *command)
    assert result.returncode == 0, result.stderr
    blocks, _, wrong, lost, _, _ = json.loads(result.stdout)
    assert 0 < len(blocks) < 256
    assert (wrong, lost) == ([], 1)
    assert blocks == list(range(blocks[0], blocks[0] + len(blocks)))
