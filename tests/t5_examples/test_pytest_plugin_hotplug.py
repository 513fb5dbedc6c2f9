"""The fixture `hotplug`: everything that can be done with a running instance."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from t3_mount.host import MEMORY, Person

from fakesysfs.errors import ConfigError, InstanceError, MonitorError
from fakesysfs.testing.hotplug import Hotplug

pytestmark = pytest.mark.usefixtures("me")


def test_run_takes_what_subprocess_run_takes(hotplug: Hotplug, tmp_path: Path) -> None:
    done = hotplug.run(["lsmem", "--summary=only"], capture_output=True, text=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Total online memory:       1G\n" in done.stdout
    done = hotplug.run("read x; echo $x; exit 3", shell=True, input=b"in\n", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (3, b"in\n")
    done = hotplug.run(["pwd"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path}\n"
    done = hotplug.run(
        ["sh", "-c", "echo $A $FAKESYSFS"], env={"A": "a"}, capture_output=True, text=True
    )
    assert done.stdout == f"a {hotplug.name}\n"
    with pytest.raises(subprocess.CalledProcessError):
        hotplug.run("false", check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        hotplug.run(["sleep", "60"], timeout=0.5)
    done = hotplug.run(["no-such-command"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        127,
        "fakesysfs: no-such-command: command not found\n",
    )
    with pytest.raises(TypeError, match="executable"):
        hotplug.run(["true"], executable="/bin/false")


def test_a_directory_that_is_only_inside(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    done = hotplug.run(["cat", "state"], cwd=f"{MEMORY}/memory32", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "offline\n", "")


def test_popen_runs_meanwhile_and_ends_with_the_instance() -> None:
    listener = """
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
s.bind((0, 1))
print("ready", flush=True)
while True:
    print(s.recv(4096).split(b"\\0")[0].decode(), flush=True)"""
    with Hotplug.start() as hotplug:
        process = hotplug.popen([sys.executable, "-c", listener], stdout=-1, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        hotplug.plug("128M")
        assert process.stdout.readline() == "add@/devices/system/memory/memory32\n"
    assert process.returncode == 128 + signal.SIGKILL


def test_files_answer_as_the_kernel_does(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    assert hotplug.read("memory32/state") == "offline\n"
    hotplug.write("memory32/state", "online_kernel")
    assert hotplug.read("/sys/devices/system/memory/memory32/valid_zones") == "Normal\n"
    assert "Normal" in hotplug.read("/proc/zoneinfo")
    hotplug.allocate("slab", "4K", block=32)
    for call, number in (
        (lambda: hotplug.write("memory32/state", "offline"), errno.EBUSY),
        (lambda: hotplug.write("memory32/state", "on"), errno.EINVAL),
        (lambda: hotplug.write("memory32/valid_zones", "x"), errno.EACCES),
        (lambda: hotplug.read("memory33/state"), errno.ENOENT),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
            call()
        assert raised.value.errno == number
        assert raised.value.filename is not None
    assert hotplug.free("slab", "4K") == 4096
    hotplug.write("memory32/state", "offline")


def test_devices(hotplug: Hotplug) -> None:
    assert [hotplug.plug("128M"), hotplug.plug("256M")] == ["dimm0", "dimm1"]
    assert hotplug.plug("128M", "mine", node=0) == "mine"
    hotplug.expect("blocks = 12", "uevent add memory* = 4")
    hotplug.unplug("dimm0")
    hotplug.expect("blocks = 11", "qmp DEVICE_DELETED device=dimm0")
    assert hotplug.plug("128M") == "dimm0"  # its name and its backend are free again
    for call, text in (
        (lambda: hotplug.plug("128M", "mine"), "attempt to add duplicate property 'mem-mine'"),
        (lambda: hotplug.plug("100G"), "not enough space"),
        (lambda: hotplug.unplug("other"), "Device 'other' not found"),
        (lambda: hotplug.monitor("nonsense"), "unknown command: 'nonsense'"),
    ):
        with pytest.raises(MonitorError, match=text):
            call()
    assert hotplug.monitor("info memory-devices").count("Memory device") == 3


def test_a_guest_that_keeps_its_dimm(hotplug: Hotplug) -> None:
    name = hotplug.plug("128M")
    hotplug.write("memory32/state", "online_kernel")
    hotplug.allocate("slab", "4K", block=32)
    with pytest.raises(OSError, match="the guest keeps dimm0: _OST status 0x82") as raised:
        hotplug.unplug(name)
    assert raised.value.errno == errno.EBUSY
    hotplug.free("slab", "4K")
    rule = hotplug.fault("unplug dimm0 never x1")
    with pytest.raises(TimeoutError):
        hotplug.unplug(name, timeout="300ms")
    hotplug.clear_faults(rule)
    hotplug.unplug(name)
    hotplug.expect("blocks = 8")


def test_faults(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    hotplug.fault("write memory32/state EBUSY x1")
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
        hotplug.write("memory32/state", "online")
    assert raised.value.errno == errno.EBUSY
    hotplug.write("memory32/state", "online")
    with pytest.raises(ConfigError):
        hotplug.fault("write memory32/state PERHAPS")


def test_conditions(hotplug: Hotplug) -> None:
    hotplug.plug("256M")
    process = hotplug.popen(["sh", "-c", f"echo online > {MEMORY}/memory33/state"])
    hotplug.wait("memory33/state = online", "uevent online memory33", timeout="60s")
    assert process.wait(60) == 0
    with pytest.raises(AssertionError) as raised:
        hotplug.wait("blocks offline = 0", timeout=0.2)
    assert f"{raised.value}" == "not within 0.2 s:\nblocks offline = 0: there are 1"
    with pytest.raises(AssertionError) as raised:
        hotplug.expect("blocks = 10", "memory32/state = online", "no uevent add memory32")
    assert f"{raised.value}".splitlines() == [
        "memory32/state = online: it is 'offline'",
        "no uevent add memory32: it happened once; the last to happen: add memory32, add memory33,"
        " online memory33",
    ]
    with pytest.raises(ConfigError, match="it has no such form"):
        hotplug.expect("memory33")


def test_events_and_log_begin_at_the_mark(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    hotplug.write("memory32/state", "online_kernel")
    hotplug.allocate("slab", "4K", block=32)
    with pytest.raises(OSError, match="unmovable page"):
        hotplug.write("memory32/state", "offline")
    add = hotplug.events[0]
    assert (add.kind, add.data, add.path) == ("uevent", "add", "/devices/system/memory/memory32")
    assert add.payload[0] == "add@/devices/system/memory/memory32"
    assert add.cause is not None
    assert add.cause.what.startswith("monitor device_add pc-dimm,id=dimm0")
    assert "page dumped because: unmovable page" in hotplug.dmesg
    hotplug.mark()
    assert (hotplug.events, hotplug.dmesg) == ([], [])
    hotplug.expect("no uevent add memory32", "no log unmovable")


@pytest.mark.fakesysfs(
    machine="two-dimms", kernel="6.12", append="movable_node", fault="read memory1/state EIO"
)
def test_the_marker_says_what_machine(hotplug: Hotplug) -> None:
    hotplug.expect("blocks = 16", "memory32/valid_zones ~ ^Movable", "memory0/state = online")
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
        hotplug.read("memory1/state")
    assert raised.value.errno == errno.EIO


@pytest.mark.fakesysfs(config={"ARCH_MEMORY_PROBE": False}, nodes=["memory=512M", "memory=512M"])
def test_lists_and_mappings(hotplug: Hotplug) -> None:
    hotplug.expect("probe missing", "/sys/devices/system/node/node1 exists")


def test_from_several_threads(hotplug: Hotplug) -> None:
    def work(number: int) -> tuple[str, int]:
        name = hotplug.plug("128M", f"d{number}")
        for _ in range(20):
            assert hotplug.read("block_size_bytes") == "8000000\n"
            hotplug.expect("memory0/state = online")
        return name, len(hotplug.events)

    with ThreadPoolExecutor(4) as pool:
        found = dict(pool.map(work, range(8)))
    assert list(found) == [f"d{number}" for number in range(8)]
    assert max(found.values()) == 8
    hotplug.expect("blocks = 16", "uevent add memory* = 8")


def test_in_an_instance(me: Person, tmp_path: Path) -> None:
    """pytest itself may run inside an instance; the fixture's is another one."""
    (tmp_path / "test_it.py").write_text("""
import os, pytest
MEMORY32 = "/sys/devices/system/memory/memory32"

def test_outside(hotplug):
    assert os.path.exists(MEMORY32)
    hotplug.expect("memory32 missing")

@pytest.mark.fakesysfs(inside=True)
def test_inside(hotplug):
    assert not os.path.exists(MEMORY32)
""")
    result = me.run(
        "fakesysfs", "run", "--machine", "two-dimms", "--", sys.executable, "-m", "pytest",
        "-p", "no:asyncio", f"{tmp_path}",
    )  # fmt: skip
    assert "2 passed" in result.stdout, result


def test_an_instance_that_ended_says_so(hotplug: Hotplug) -> None:
    hotplug.monitor("quit")
    assert hotplug._process.wait(60) == 0
    assert not hotplug.running
    with pytest.raises(InstanceError):
        hotplug.read("memory0/state")


def test_nothing_is_left_when_the_tests_are_killed(tmp_path: Path) -> None:
    script = (
        "from fakesysfs.testing.hotplug import Hotplug; h = Hotplug.start();"
        " p = h.popen(['sleep', '600']); print(h._process.pid, p.pid, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as tests:
        assert tests.stdout is not None
        pids = tests.stdout.readline().split()
        ends = [os.pidfd_open(int(pid)) for pid in pids]
        tests.kill()
    for end in ends:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        assert poll.poll(60_000), "a process of the instance is left"
        os.close(end)


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="there is no option `memry`; did you mean `memory`"):
        Hotplug.start(memry="1G")
    with pytest.raises(ConfigError, match="--memory 5: 5M of RAM is not a multiple of 2M"):
        Hotplug.start(memory="5")
