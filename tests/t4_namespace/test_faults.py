"""Fault rules in a `run`: tools that meet them, uevents that go astray on the real socket, rules
that come and go.
"""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest
from support.waiting import given_more_time
from t3_mount.host import MEMORY, Person, lines

PLUG = (
    "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=512M' 'device_add"
    " pc-dimm,id=d0,memdev=m0'"
)

# Plugs four blocks and prints the uevents of adding them: all that have come by the end of the
# plug, a line with how it looked then, and for SECONDS what comes later. A block whose file `state`
# is not there when its event comes gets a `!`.
LISTENER = """
import os, socket, subprocess, sys, time
s = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
s.bind((0, 1))
M = "/sys/devices/system/memory"
def arrived(seconds):
    end = time.monotonic() + seconds
    while True:
        s.settimeout(max(end - time.monotonic(), 0))  # 0: what is there already
        try: data = s.recv(65536).decode()
        except (TimeoutError, BlockingIOError): return
        path, _, block = data.partition("\\0")[0].rpartition("/")
        print(block.removeprefix("memory") + ("" if os.path.exists(f"{M}/{block}/state") else "!"), end=" ")
subprocess.run(["fakesysfs", "monitor", "object_add memory-backend-ram,id=m0,size=512M"], check=True)
subprocess.run(["fakesysfs", "monitor", "device_add pc-dimm,id=d0,memdev=m0"], check=True)
arrived(0)
print("/", end=" ")
arrived(float(sys.argv[1]))
print("/", *sorted(b for b in os.listdir(M) if b.startswith("memory3") and b != "memory3"))
"""
ALL = "memory32 memory33 memory34 memory35"


@pytest.mark.parametrize(
    ("rule", "seconds", "told"),
    [
        ("", 0, f"32 33 34 35 / / {ALL}"),
        ("uevent add memory33 drop", 0, f"32 34 35 / / {ALL}"),
        ("uevent add * drop nth=3 always", 0, f"32 33 / / {ALL}"),
        ("uevent * duplicate", 0, f"32 32 33 33 34 34 35 35 / / {ALL}"),
        ("uevent add memory33 reorder", 0, f"32 34 33 35 / / {ALL}"),
        ("uevent add memory35 reorder", 2, f"32 33 34 / 35 / {ALL}"),
        ("uevent add memory32 delay 700ms", 2, f"33 34 35 / 32 / {ALL}"),
        ("uevent add memory33 early 100s", 0, "32 33! 34 35 / / memory32 memory34 memory35"),
        ("uevent add * early 100s", 0, "32! 33! 34! 35! / / "),
    ],
)
def test_uevents_that_go_astray(person: Person, rule: str, seconds: float, told: str) -> None:
    def listen(times: int) -> None:
        """With that many times as much time."""
        longer = re.sub(r"(\d+)ms", lambda match: f"{int(match[1]) * times}ms", rule)
        options = ["--fault", longer] if rule else []
        command = (sys.executable, "-c", LISTENER, str(seconds * times))
        result = person.run("fakesysfs", "run", *options, "--", *command)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.strip() == told.strip()

    given_more_time((1, 3, 9, 27) if seconds else (1,), listen)


def test_files_come_after_their_event(me: Person) -> None:
    state = f"{MEMORY}/memory33/state"
    script = (
        f"exec 2>&1; {PLUG}; cat {state}; until [ -e {state} ]; do sleep 0.05; done; cat {state}"
    )

    def plug(early: str) -> None:
        result = me.inside(script, "--fault", f"uevent add memory33 early {early}")
        assert lines(result.stdout) == [f"cat: {state}: No such file or directory", "offline"]

    given_more_time(("500ms", "5s", "50s"), plug)


def test_what_happened_is_in_the_log_and_what_was_told_too(me: Person) -> None:
    result = me.inside(
        f"{PLUG}; fakesysfs events; fakesysfs fault list", "--fault", "uevent add memory33 drop"
    )
    *logged, listed = lines(result.stdout)
    events = [json.loads(line) for line in logged]
    assert [e["path"][-2:] for e in events if e["kind"] == "uevent"] == ["32", "33", "34", "35"]
    assert [(e["path"][-2:], e["data"]) for e in events if e["kind"] == "fault"] == [
        ("33", "uevent add memory33 drop")
    ]
    assert listed == "1  uevent add memory33 drop  1 of 1"


@pytest.mark.skipif(not shutil.which("chmem"), reason="chmem is not installed (package util-linux)")
def test_chmem_tries_again_after_eagain(person: Person) -> None:
    script = f"{PLUG}; chmem -e 128M && cat {MEMORY}/memory32/state; fakesysfs fault list"
    result = person.inside(script, "--fault", "write memory32/state EAGAIN x3")
    assert lines(result.stdout) == ["online", "1  write memory32/state EAGAIN x3  3 of 4"]


def test_rules_come_and_go(person: Person) -> None:
    script = f"""exec 2>&1; cd {MEMORY}
n=$(fakesysfs fault add read memory5/state hang); echo number $n
cat memory5/state & while ! fakesysfs fault list | grep -q waiting; do :; done; fakesysfs fault list
cat memory4/state
fakesysfs fault clear $n; wait; fakesysfs fault list
fakesysfs fault add 'write memory5/state ENOMEM always'
bash -c 'echo offline > memory5/state'
fakesysfs fault clear; fakesysfs fault list
fakesysfs fault clear 2; echo $?
fakesysfs fault add write memory5/state sometimes; echo $?"""
    assert lines(person.inside(script).stdout) == [
        "number 1",
        "1  read memory5/state hang  1 of 1, 1 waiting",
        "online",
        "online",
        "2",
        "bash: line 1: echo: write error: Cannot allocate memory",
        "fakesysfs: there is no fault rule number 2",
        "2",
        (
            "fakesysfs: fault rule 'write memory5/state sometimes': "
            "`sometimes` is neither an errno, nor delay TIME, hang, xN, always, nth=N or p=P"
        ),
        "2",
    ]


def test_nothing_outlives_a_run_whose_processes_hang(person: Person) -> None:
    script = f"""cat {MEMORY}/memory5/state & cat {MEMORY}/memory5/state &
until fakesysfs fault list | grep -q ' 2 waiting'; do :; done; echo done"""
    result = person.inside(script, "--fault", "read memory5/state hang always")
    assert (result.returncode, result.stdout) == (0, "done\n")


def test_a_rule_that_is_none_starts_nothing(person: Person) -> None:
    result = person.run("fakesysfs", "run", "--fault", "write memory40/state", "--", "echo", "ran")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr
        == "fakesysfs: fault rule 'write memory40/state': what is to happen? an errno such as"
        " EBUSY, delay TIME, or hang\n"
    )
