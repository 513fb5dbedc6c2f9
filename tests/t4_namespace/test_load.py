"""Who holds memory, changed from the command line of a running instance, and what that does to an
offline.
"""

from __future__ import annotations

import re
import shutil
import sys

import pytest
from t3_mount.host import Person

MEMORY = "/sys/devices/system/memory"
PLUG = (
    "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=512M' 'device_add"
    " pc-dimm,id=d0,memdev=m0'"
)

# A child writes `offline`; it is seen going offline, then a signal comes.
INTERRUPTED = f"""
import os, signal, time
def stop(*_): raise InterruptedError(4, "signal")
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGINT, stop)
    fd = os.open("{MEMORY}/memory33/state", os.O_WRONLY)
    try: os.write(fd, b"offline")
    except InterruptedError: os._exit(4)
    os._exit(0)
def state(): return open("{MEMORY}/memory33/state").read().strip()
while state() != "going-offline": time.sleep(0.01)
print(state())
os.kill(pid, signal.SIGINT)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), state())
"""


def shell(person: Person, script: str, *options: str) -> list[str]:
    result = person.run(
        "fakesysfs", "run", *options, "--", "sh", "-c", f"{PLUG}; {script}", sys.executable
    )
    assert result.returncode == 0, result.stderr
    return str(result.stdout).splitlines()


def test_pinned_page_holds_an_offline_up_until_a_signal(person: Person) -> None:
    out = shell(
        person,
        f"echo online_movable > {MEMORY}/memory33/state; fakesysfs load pinned=+4K --block 33; $0"
        f" -c '{INTERRUPTED}'",
    )
    assert out == ["pinned +4 kB", "going-offline", "4 online"]


def test_slab_page_refuses_and_is_found(person: Person) -> None:
    out = shell(
        person,
        f"""echo online_kernel > {MEMORY}/memory33/state; echo online_kernel > {MEMORY}/memory34/state
        fakesysfs load slab=+4K --block 34; echo offline > {MEMORY}/memory34/state; cat {MEMORY}/memory34/state
        pfn=$(fakesysfs dmesg | grep -o 'pfn:0x[0-9a-f]*' | tail -n 1); echo $pfn
        fakesysfs page ${{pfn#pfn:}} --free; echo offline > {MEMORY}/memory34/state; cat {MEMORY}/memory34/state""",
    )
    assert out[:3] == ["slab +4 kB", "online", "pfn:0x110000"]
    assert "memory34, online" in out[4]
    assert out[-1] == "offline"


def test_load_on_a_machine(person: Person) -> None:
    out = shell(
        person,
        "fakesysfs load anon=+64M slab=+4M; fakesysfs load anon=-64M; fakesysfs load | grep -c kB",
        "--memory=2G,slots=1,maxmem=4G",
    )
    assert out == ["anon +65536 kB", "slab +4096 kB", "anon -65536 kB", "7"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("anon=64M", "no change"),
        ("fish=+4K", "fish"),
        ("anon=+1T", "more than are free"),
        ("--block 99 anon=+4K", "memory99"),
    ],
)
def test_load_that_cannot_be(person: Person, arguments: str, word: str) -> None:
    result = person.run("fakesysfs", "run", "--", "sh", "-c", f"fakesysfs load {arguments}")
    assert result.returncode != 0
    assert re.fullmatch(rf"fakesysfs: .*{word}.*\n", result.stderr)


RULE = (
    'SUBSYSTEM=="memory", ACTION=="add", TEST=="state", ATTR{state}=="offline",'
    ' ATTR{state}="online"\n'
)


def test_udevd_with_a_rule_brings_blocks_online(person: Person) -> None:
    if shutil.which("udevadm") is None:
        pytest.skip("udevadm is not installed")
    with person.directory() as directory:
        (directory / "80-hotplug.rules").write_text(RULE)
        out = shell(
            person,
            f"udevadm settle; cat {MEMORY}/memory3[2-5]/state",
            "--udev",
            f"--rules={directory}",
        )
    assert out == ["online"] * 4


def test_udev_rule_that_does_not_parse(me: Person) -> None:
    if shutil.which("udevadm") is None:
        pytest.skip("udevadm is not installed")
    with me.directory() as directory:
        (directory / "bad.rules").write_text(RULE + "FOO BAR\n")
        result = me.run("fakesysfs", "run", f"--rules={directory}/bad.rules", "--", "true")
    assert result.returncode == 2
    assert result.stderr == "fakesysfs: udev rules bad.rules, line 2: Invalid key/value pair\n"
