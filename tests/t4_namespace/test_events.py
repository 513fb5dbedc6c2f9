"""`fakesysfs events --follow`: the same uevents as on the kernel's socket, each with its cause."""

from __future__ import annotations

import json
import sys

from t3_mount.host import MEMORY, Person, lines

# Follows the events and listens to the kernel meanwhile; prints what was heard, then what was
# followed.
FOLLOWER = f"""
import json, os, select, socket, subprocess, sys
s = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
s.bind((0, 1))
follower = subprocess.Popen(["fakesysfs", "events", "--follow"], stdout=subprocess.PIPE, text=True)
def wait():
    while "last" not in (line := follower.stdout.readline()): told.append(line)
told = []
subprocess.run(["sh", "-c", '''
exec 2>&1
fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=128M' 'device_add pc-dimm,id=d0,memdev=m0'
echo online > {MEMORY}/memory32/state
fakesysfs load slab=+4K --block 32
echo 'x y' | dd of={MEMORY}/memory32/state 2>/dev/null
printf offline > {MEMORY}/memory32/state
perl -e 'open F, ">", "{MEMORY}/memory7/uevent"; syswrite F, "change"'
python3 -c 'import os; os.write(os.open("{MEMORY}/probe", os.O_WRONLY), b"last")'
'''], stdout=subprocess.DEVNULL)
wait()
follower.kill(); follower.wait()
heard = []
while select.select([s], [], [], 0)[0]:
    heard.append(s.recv(65536).decode().rstrip("\\0").split("\\0"))
print(json.dumps([heard, [json.loads(line) for line in told]]))
"""


def test_follow(person: Person) -> None:
    result = person.run("fakesysfs", "run", "--", sys.executable, "-c", FOLLOWER)
    assert result.returncode == 0, result.stderr
    heard, told = json.loads(result.stdout)
    assert [e["seq"] for e in told] == list(range(1, len(told) + 1))
    uevents = [e for e in told if e["kind"] == "uevent"]
    assert [[field for field in fields if not field.startswith("SEQNUM=")] for fields in heard] == [
        e["payload"] for e in uevents
    ]
    assert [e["data"] for e in uevents] == ["add", "online", "change"]
    assert all(e["cause"]["pid"] > 1 for e in told)
    state = f"{MEMORY}/memory32/state"
    assert list(dict.fromkeys((e["cause"]["what"], e["cause"]["comm"]) for e in told)) == [
        ("monitor device_add pc-dimm,id=d0,memdev=m0", "fakesysfs"),
        (f"write online to {state}", "sh"),
        (f"write x y to {state}", "dd"),
        (f"write offline to {state}", "sh"),
        (f"write change to {MEMORY}/memory7/uevent", "perl"),
    ]
    assert [(e["errno"], e["data"]) for e in told if e["kind"] == "state"][-1][0] == 16


def test_of_somebody_outside(person: Person) -> None:
    """Somebody who is not in the run's pid namespace can be seen to have done something, but not
    who.
    """
    script = """
exec 3>&1
fakesysfs events --follow | sed -n '/m0/{p;q}' >&3 &
echo $FAKESYSFS; wait"""
    process = person.start("fakesysfs", "run", "--", "sh", "-c", script)
    try:
        assert process.stdout is not None
        instance = process.stdout.readline().strip()
        plug = (
            "object_add memory-backend-ram,id=m0,size=128M",
            "device_add pc-dimm,id=d0,memdev=m0",
        )
        done = person.run("fakesysfs", "monitor", "--instance", instance, *plug)
        assert (done.returncode, list(lines(done.stdout))) == (0, [])
        event = json.loads(process.stdout.readline())
        assert event["cause"] == {"what": f"monitor {plug[1]}", "pid": 0, "comm": ""}
    finally:
        process.kill()
        process.communicate()
