"""Uevents inside a `run`: from the kernel's own socket, in order, before the write that caused them
returns.
"""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import sys

import pytest
from t3_mount.host import MEMORY, Person, ended, lines

NETLINK_KOBJECT_UEVENT = 15

# Listens, does something, and prints what had arrived when that was over.
LISTENER = """
import os, select, socket, subprocess, sys
told = []
s = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
s.bind((0, 1))
s.setblocking(False)
M = "/sys/devices/system/memory"
def arrived():
    while True:
        try: data, (pid, groups) = s.recvfrom(65536)
        except BlockingIOError: return
        fields = data.decode().rstrip("\\0").split("\\0")
        told.append(1)
        print(pid, *[f for f in fields if not f.startswith("SEQNUM=")], any(f.startswith("SEQNUM=") for f in fields))
def write(path, text):
    fd = os.open(f"{M}/{path}", os.O_WRONLY)
    os.write(fd, text.encode())
    arrived()
    os.close(fd)
def monitor(count, *lines):
    "Lines that cause so many events at least; the guest may take longer than the monitor waits."
    before = len(told)
    subprocess.run(["fakesysfs", "monitor", *lines], check=True)
    while arrived() or len(told) < before + count: select.select([s], [], [])
"""


def listen(person: Person, script: str, *options: str) -> list[str]:
    result = person.run("fakesysfs", "run", *options, "--", sys.executable, "-c", LISTENER + script)
    assert result.returncode == 0, result.stderr
    return list(lines(result.stdout))


def expected(action: str, block: int) -> str:
    path = f"/devices/system/memory/memory{block}"
    return f"0 {action}@{path} ACTION={action} DEVPATH={path} SUBSYSTEM=memory True"


def test_of_a_write(person: Person) -> None:
    script = """
write("probe", "0x100000000")
write("memory32/state", "online_movable")
write("memory32/state", "offline")"""
    assert listen(person, script) == [
        expected(action, 32) for action in ("add", "online", "offline")
    ]


def test_of_a_dimm(person: Person) -> None:
    script = """
monitor(4, "object_add memory-backend-ram,id=m0,size=512M", "device_add pc-dimm,id=d0,memdev=m0")
monitor(4, "device_del d0")"""
    assert listen(person, script) == [
        expected(action, block) for action in ("add", "remove") for block in range(32, 36)
    ]


def test_asked_for_by_the_uevent_file(person: Person) -> None:
    assert listen(person, 'write("memory1/uevent", "change")') == [
        "0 change@/devices/system/memory/memory1 ACTION=change"
        " DEVPATH=/devices/system/memory/memory1 SUBSYSTEM=memory SYNTH_UUID=0 True"
    ]


def test_not_outside(me: Person) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as host:
        host.bind((0, 1))
        for options in ((), ("--net=host",)):
            me.inside("echo 0x100000000 > /sys/devices/system/memory/probe", *options)
        while select.select([host], [], [], 0)[0]:  # they come before what causes them returns
            assert b"/memory/memory" not in host.recv(65536)


@pytest.mark.skipif(not shutil.which("udevadm"), reason="udevadm is not installed (package udev)")
def test_udevadm_monitor(person: Person) -> None:
    script = """
udevadm monitor --kernel --property > $D/out &
until grep -q memory1 $D/out; do echo change > /sys/devices/system/memory/memory1/uevent; sleep 0.05; done  # it listens
echo 0x100000000 > /sys/devices/system/memory/probe
until grep -q memory32 $D/out; do sleep 0.1; done
kill %1; cat $D/out; udevadm info --query=path /sys/devices/system/memory/memory32"""
    with person.directory() as directory:
        result = person.run(
            "fakesysfs", "run", "--", "bash", "-c", script, env={"D": str(directory)}
        )
    assert "add      /devices/system/memory/memory32 (memory)" in result.stdout
    assert "SUBSYSTEM=memory" in result.stdout
    assert lines(result.stdout)[-1] == "/devices/system/memory/memory32"


@pytest.mark.skipif(
    not shutil.which("udevadm"), reason="systemd-udevd is not installed (package udev)"
)
def test_a_rule_of_a_real_udevd_sets_the_block_online(person: Person) -> None:
    rule = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online"'
    script = f"""
mkdir -p $D/rules; echo '{rule}' > $D/rules/99-memory.rules
mount --bind $D/rules /etc/udev/rules.d && udevadm control --reload
fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=256M' 'device_add pc-dimm,id=d0,memdev=m0'
udevadm settle
cat /sys/devices/system/memory/memory3[23]/state"""
    with person.directory() as directory:
        result = person.inside(script, "--udev", env={"D": str(directory)})
    assert result.stdout == "online\nonline\n", result.stderr


def test_uevents_of_the_hosts_devices_are_not_heard(person: Person) -> None:
    """A mount of a FUSE file system makes a device, for which the kernel sends uevents."""
    listener = f"""
import socket
import subprocess
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15); s.bind((0, 1)); s.settimeout(200)
print("ready", flush=True)
input()
with open("{MEMORY}/probe", "w") as file: file.write("0x100000000")
print(s.recv(4096).split(b"\\0")[0].decode())"""
    command = ("fakesysfs", "run", "--", sys.executable, "-c", listener)
    with ended(person.start(*command, stdin=subprocess.PIPE)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert person.run("fakesysfs", "run", "--net=host", "--", "true").returncode == 0
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "add@/devices/system/memory/memory32\n"
