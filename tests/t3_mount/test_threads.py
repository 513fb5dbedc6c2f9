"""Two hundred threads at the files of one block, through a mount, against a model of what may be
seen.

The machine's own log of stores says in which order writes took effect. Given that order, the model
says of each write whether it had to succeed, and of each read which values it may have seen: those
that the file had at some time between the start and the end of the read, and none that is older
than what the same thread has seen before.

FAKESYSFS_THREADS_SECONDS in the environment says for how long, 2 by default; longer where that is
too short for the block to go offline several times, and to be seen on its way.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS, wait_for
from t3_mount.conftest import Mounter
from t3_mount.hammer import Operation
from t3_mount.host import ended, environment, needs_fuse, people

pytestmark = needs_fuse

ME = people()[0]
MEMORY = "sys/devices/system/memory"
SECONDS = float(os.environ.get("FAKESYSFS_THREADS_SECONDS", "2"))
THREADS = 200
OFFLINES = 5


@dataclass(frozen=True)
class Write:
    """A write and what became of it. Times in nanoseconds.

    :param order: its place among all stores of the machine.
    :param after: what the file says from then on.
    :param meanwhile: what it may say while this is under way, beside what it said before and will
        say after.
    """

    order: int
    start: int
    end: int
    after: str
    meanwhile: tuple[str, ...] = ()


def block_file(name: str, state: str) -> str:
    """What a file of memory32 says, when that is in a state: "offline", or "online" and its zone."""
    online = state != "offline"
    return {
        "state": f"{state.split()[0]}\n",
        "online": f"{int(online)}\n",
        "valid_zones": f"{state.split()[1] if online else 'Normal Movable'}\n",
    }[name]


def going_offline(state: str) -> tuple[str, ...]:
    """What state and valid_zones say on the way from a state to `offline`, or back."""
    zones = ["Normal Movable\n", *["Movable Normal\n"] * state.endswith("Movable")]
    return () if state == "offline" else ("going-offline\n", *zones)


ZONE = {"online": "Normal", "online_kernel": "Normal", "online_movable": "Movable"}


def replay(
    name: str, operations: Sequence[Operation], stores: Sequence[tuple[int, str, int, int]]
) -> list[tuple[Write, str]]:
    """Writes that changed something, in the order in which they took effect, and the state they led
    to.

    :param stores: number, word, identity and errno of each store that the machine logged.
    """
    written = {op[5]: op for op in operations if op[0] == name and op[5] >= 0}
    logged = Counter(identity for _, _, identity, error in stores if error != errno.EINTR)
    assert logged.keys() == written.keys(), "a write was lost, or made up"
    assert set(logged.values()) <= {1}, "a write took effect twice"
    changes: list[tuple[Write, str]] = []
    state, latest_start = {"state": "offline", "power/control": "auto"}[name], 0
    for order, word, identity, error in stores:
        _, _, start, end, wanted, _, told = written[identity]
        assert word == wanted
        assert end > latest_start, "a write took effect before one that had ended when it began"
        latest_start = max(latest_start, start)
        if error == errno.EINTR:  # and then it was tried again
            assert word == "offline"
            assert state != "offline"
            changes.append((Write(order, start, end, state, going_offline(state)), state))
            continue
        assert told == error
        if name == "power/control":
            assert error == 0
            changes.append((Write(order, start, end, word), word))
        elif (word == "offline") == (state == "offline"):
            assert error == errno.EINVAL, f"{word} of what is {state}: {errno.errorcode.get(error)}"
        else:
            assert error == 0, f"{word} of what is {state}: {errno.errorcode.get(error)}"
            before, state = state, "offline" if word == "offline" else f"online {ZONE[word]}"
            changes.append((Write(order, start, end, state, going_offline(before)), state))
    return changes


def check_reads(
    reads: Sequence[tuple[int, int, int, str]], first: str, writes: Sequence[Write]
) -> None:
    """Each read must have seen what the file said at some time meanwhile, and no thread goes back
    in time.

    :param reads: thread, start, end and what was read, the reads of a thread in their order.
    :param first: what the file said before the first write.
    """
    values = [first, *(write.after for write in writes)]
    at: dict[int, int] = {}
    for number, start, end, text in reads:
        # value i was there from somewhere in write i to somewhere in write i + 1
        index = at.get(number, 0)
        while True:
            assert index < len(values), f"`{text}` was read, and was not there at that time"
            assert index == 0 or writes[index - 1].start <= end, (
                f"`{text}` was read, and was not there yet or any more"
            )
            stale = index < len(writes) and writes[index].end < start
            if not stale and text == values[index]:
                break
            under_way = index < len(writes) and writes[index].start <= end
            if not stale and under_way and text in writes[index].meanwhile:
                break
            index += 1
        at[number] = index


def logged_stores(tree: Path) -> list[tuple[int, str, str, int, int]]:
    """Number, file, word, identity and errno of each store that the machine has logged."""
    result = ME.run("fakesysfs", "events", "--instance", str(tree))
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["seq"] == 1, "the machine has forgotten the first events"
    stores = []
    for event in events:
        word, _, identity = event["data"].partition("\\0")
        if event["kind"] == "store" and identity:
            stores.append(
                (
                    event["seq"],
                    event["path"].partition("/memory32/")[2],
                    word,
                    int(identity),
                    event["errno"],
                )
            )
    return stores


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_two_hundred_threads(mounted: Mounter, native: bool) -> None:
    tree = mounted(ME, "--config", "STEP_DELAY_US=500", native=native)
    monitor(
        tree, "object_add memory-backend-ram,id=m0,size=256M", "device_add pc-dimm,id=d0,memdev=m0"
    )
    # Else memory32 began zone Normal, would get pages of the kernel that cannot move, and could not
    # go offline.
    (tree / MEMORY / "memory33/state").write_text("online_kernel")
    hammer = [sys.executable, str(Path(__file__).with_name("hammer.py"))]
    hammer += [str(tree / MEMORY / "memory32"), str(SECONDS), str(THREADS), str(OFFLINES)]
    result = subprocess.run(
        hammer,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env=environment(),
    )
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["stuck"] == 0
    log: list[Operation] = [(*op,) for op in told["log"]]
    stores = logged_stores(tree)

    changes = {
        name: replay(name, log, [(s[0], *s[2:]) for s in stores if s[1] == name])
        for name in ("state", "power/control")
    }
    for name in (
        "state",
        "online",
        "valid_zones",
        "power/control",
        "removable",
        "phys_index",
        "uevent",
    ):
        reads = [(op[1], op[2], op[3], op[4]) for op in log if op[0] == name and op[5] < 0]
        assert all(op[6] == 0 for op in log if op[0] == name and op[5] < 0)
        assert reads
        if name in ("state", "online", "valid_zones"):
            writes = []
            for write, state in changes["state"]:
                after = block_file(name, state)
                writes.append(
                    Write(
                        write.order,
                        write.start,
                        write.end,
                        after,
                        write.meanwhile if name != "online" else (),
                    )
                )
            check_reads(reads, block_file(name, "offline"), writes)
        elif name == "power/control":
            check_reads(
                reads,
                "auto\n",
                [Write(w.order, w.start, w.end, f"{w.after}\n") for w, _ in changes[name]],
            )
        else:
            assert {text for *_, text in reads} == {
                {"removable": "1\n", "phys_index": "00000020\n", "uevent": ""}[name]
            }
    went = Counter(
        "offline" if state == "offline" else "online"
        for write, state in changes["state"]
        if write.after == state
    )
    assert went["offline"] >= OFFLINES
    seen = Counter(op[4] for op in log if op[0] == "state" and op[5] < 0)
    assert seen["going-offline\n"] > 0
    interrupted = sum(s[4] == errno.EINTR for s in stores)
    print(
        f"\n{THREADS} threads, {told['seconds']:.1f} s: {sum(op[5] < 0 for op in log)} reads,"
        f" {len(stores)} stores, of which {len(changes['state'])} changed the state, {interrupted}"
        f" interrupted by {told['disturbed']} signals; state read as {dict(seen)}"
    )
    assert ME.run("fakesysfs", "fault", "list", "--instance", str(tree)).returncode == 0


# Prints the errno of a write(2) that is not tried again.
WRITER = """
import ctypes, errno, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, True)
fd = os.open(sys.argv[1], os.O_WRONLY)
print("ready", flush=True)
n = libc.write(fd, sys.argv[2].encode(), len(sys.argv[2]))
print(n, errno.errorcode.get(ctypes.get_errno()))
"""


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_an_interrupted_writer_gets_eintr_and_the_block_is_online(
    mounted: Mounter, native: bool
) -> None:
    tree = mounted(ME, "--config", "STEP_DELAY_US=10000000", native=native)
    monitor(
        tree, "object_add memory-backend-ram,id=m0,size=128M", "device_add pc-dimm,id=d0,memdev=m0"
    )
    state = tree / MEMORY / "memory32/state"
    state.write_text("online_movable")
    with ended(
        ME.start("python3", "-c", WRITER, str(state), "offline", stdout=subprocess.PIPE)
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        wait_for(lambda: state.read_text() == "going-offline\n")
        assert (tree / MEMORY / "memory32/online").parent.stat().st_nlink > 2
        writer.send_signal(signal.SIGUSR1)
        assert writer.communicate(timeout=LIMIT_SECONDS)[0] == "-1 EINTR\n"
    assert state.read_text() == "online\n"
    assert (tree / MEMORY / "memory32/valid_zones").read_text() == "Movable\n"


def test_what_goes_on_during_a_long_offline(mounted: Mounter) -> None:
    """Readers and writers of everything else are served; who needs the hotplug lock waits for it,
    and can be killed.
    """
    tree = mounted(ME, "--config", "STEP_DELAY_US=50000")
    memory = tree / MEMORY
    monitor(
        tree, "object_add memory-backend-ram,id=m0,size=512M", "device_add pc-dimm,id=d0,memdev=m0"
    )
    (memory / "memory32/state").write_text("online_movable")
    load = ME.run(
        "fakesysfs", "load", "--instance", str(tree), "anon=+8M", "pinned=+4K", "--block", "32"
    )
    assert load.returncode == 0, load.stderr

    def write(block: int, word: str) -> list[str]:
        return ["bash", "-c", f"printf {word} > {memory}/memory{block}/state"]

    with ExitStack() as started:
        slow = started.enter_context(ended(ME.start(*write(32, "offline"))))
        wait_for(
            lambda: (
                slow.poll() is not None
                or (memory / "memory32/state").read_text() == "going-offline\n"
            )
        )
        assert slow.poll() is None
        killed, patient = (
            started.enter_context(ended(ME.start(*write(n, "online_movable")))) for n in (33, 34)
        )
        readers = [
            ME.start(
                "bash",
                "-c",
                f"for i in {{1..20}}; do cat {memory}/memory*/state {tree}/proc/meminfo; done |"
                " grep -c going",
            )
            for _ in range(8)
        ]
        (memory / "auto_online_blocks").write_text("online_kernel")
        (memory / "memory33/power/control").write_text("on")
        assert [reader.communicate(timeout=LIMIT_SECONDS)[0] for reader in readers] == ["20\n"] * 8
        waiting = {block: (memory / f"memory{block}/state").read_text() for block in (32, 33, 34)}
        assert waiting == {32: "going-offline\n", 33: "offline\n", 34: "offline\n"}
        killed.terminate()
        assert killed.wait(LIMIT_SECONDS) == -signal.SIGTERM
        free = ME.run("fakesysfs", "load", "--instance", str(tree), "pinned=-4K")
        assert free.returncode == 0, free.stderr
        assert (slow.wait(LIMIT_SECONDS), patient.wait(LIMIT_SECONDS)) == (0, 0)
    states = [(memory / f"memory{block}/state").read_text().strip() for block in (32, 33, 34)]
    assert states == ["offline", "offline", "online"]


def monitor(tree: Path, *lines: str) -> None:
    result = ME.run("fakesysfs", "monitor", "--instance", str(tree), *lines)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def operations(*ops: tuple[int, int, str, int, int]) -> list[Operation]:
    """Writes to `state`: start, end, word, identity, errno."""
    return [
        ("state", identity, start, end, word, identity, error)
        for start, end, word, identity, error in ops
    ]


@pytest.mark.parametrize(
    ("stores", "complaint"),
    [
        ([(1, "online", 1, 0), (2, "offline", 3, 4)], "a write was lost"),
        (
            [(1, "online", 1, 0), (2, "offline", 2, 0), (3, "online", 1, 0)],
            "a write took effect twice",
        ),
        ([(2, "offline", 2, 22), (3, "online", 1, 0)], "before one that had ended"),
        ([(1, "online", 1, 0), (2, "offline", 2, 16)], "offline of what is online Normal: EBUSY"),
    ],
)
def test_the_model_finds_writes_that_cannot_be(
    stores: list[tuple[int, str, int, int]], complaint: str
) -> None:
    ops = operations(
        *(
            (10 * i, 10 * i + 5, word, i, error)
            for _, word, i, error in sorted(stores, key=lambda s: s[2])
        )
    )
    with pytest.raises(AssertionError, match=complaint):
        replay("state", ops, stores)


@pytest.mark.parametrize(
    "reads",
    [
        [(0, 25, 28, "offline\n")],  # stale
        [(0, 1, 9, "online\n")],  # not yet
        [(0, 25, 28, "going-offline\n")],  # of a write that has not begun
        [(0, 15, 18, "online\n"), (0, 19, 20, "offline\n")],  # back in time
        [(0, 25, 28, "onl")],  # torn
    ],
)
def test_the_model_finds_reads_that_cannot_be(reads: list[tuple[int, int, int, str]]) -> None:
    writes = [Write(1, 10, 20, "online\n"), Write(2, 30, 40, "offline\n", ("going-offline\n",))]
    check_reads(
        [(0, 1, 15, "offline\n"), (0, 12, 31, "online\n"), (0, 32, 50, "going-offline\n")],
        "offline\n",
        writes,
    )
    with pytest.raises(AssertionError, match="was read"):
        check_reads(reads, "offline\n", writes)
