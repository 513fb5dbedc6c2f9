"""Machine and the C extension behind it: errors, events, threads, signals, life and death.

What the files say is the business of other tests; here it is how Python gets there and back.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.waiting import LIMIT_SECONDS, wait_for

from fakesysfs import FakesysfsError, MachineConfig
from fakesysfs.binding import _engine
from fakesysfs.config.kernel_config import CONFIG_DEFAULTS
from fakesysfs.errors import ConfigError
from fakesysfs.machine import Event, Machine

MEMORY = "/sys/devices/system/memory"
BLOCK = 128 << 20
FIRST = 0x100000000  # where hot-added memory begins: memory32

#   0        1G                 4G   memory32 memory33 ...
#   |== RAM ==|- - - - - - - - - |........|........|
#    memory0-7                    nothing there yet


def machine_of(**options: Any) -> Machine:
    return Machine(MachineConfig.from_options(**options))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with machine_of() as made:
        yield made
        made.check()


@pytest.fixture
def slow_machine() -> Iterator[Machine]:
    """One block goes offline in some seconds. memory32 is online and full of what can move."""
    with machine_of(config="STEP_DELAY_US=20000") as made:
        made.add_memory(0, FIRST, BLOCK)
        made.store(f"{MEMORY}/memory32/state", "online_movable")
        made.allocate("anon", "64M", block=32)
        yield made
        made.check()


@contextmanager
def refused(number: int, reason: str = ".") -> Iterator[pytest.ExceptionInfo[OSError]]:
    """What happens inside raises an OSError with this errno; its reason matches `reason`."""
    with pytest.raises(OSError, match=reason) as caught:
        yield caught
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


@contextmanager
def asking(answer: Callable[[], bool]) -> Iterator[int]:
    """Address of a C function that asks `answer`, for the last argument of write()."""
    function = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: int(answer()))
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    yield address


def write(machine: Machine, state: str, interrupted: int) -> None:
    """Write the state of memory32."""
    handle = machine.open(f"{MEMORY}/memory32/state", os.O_WRONLY)
    try:
        machine.write(handle, state.encode(), interrupted)
    finally:
        machine.release(handle)


# The spec


def good_spec() -> dict[str, Any]:
    return MachineConfig.from_options().spec()


class Config:
    """Stands for a MachineConfig with a spec of its own."""

    page_shift = 12
    faults: tuple[str, ...] = ()

    def __init__(self, spec: object) -> None:
        self._spec = spec

    def spec(self) -> Any:
        return self._spec


def machine_from(spec: object) -> Machine:
    config: Any = Config(spec)
    return Machine(config)


@pytest.mark.parametrize("key", sorted(good_spec()))
def test_every_key_is_needed_and_its_type_is_checked(key: str) -> None:
    spec = good_spec()
    value = spec.pop(key)
    with pytest.raises(ConfigError, match=rf"^machine spec: {key} is missing$"):
        machine_from(spec)
    spec[key] = object()
    with pytest.raises(
        TypeError, match=rf"^machine spec: {key}: .* is needed|^machine spec: {key}: .* must be str"
    ):
        machine_from(spec)
    spec[key] = value
    machine_from(spec).close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "there is no 'colour'"),
        ({3: 1}, "there is no 3"),
        ({"features": ["flying"]}, "features: there is no 'flying'"),
        ({"features": [1]}, "features: there is no 1"),
        ({"config": {"COFFEE": 1}}, "config: there is no 'COFFEE'"),
        ({"config": {"NUMA": "y"}}, "config[NUMA]: an integer is needed, not 'y'"),
        ({"zones": ["DMA", "HighMem"]}, "zones: there is no 'HighMem'"),
        ({"zone_limits": {"Normal": 5}}, "zone_limits: there is no 'Normal'"),
        ({"page_shift": 11}, "page_shift: a number from 12 to 16 is needed, not 11"),
        ({"page_shift": 1 << 70}, f"page_shift: a number from 12 to 16 is needed, not {1 << 70}"),
        (
            {"page_shift": -(1 << 70)},
            f"page_shift: a number from 12 to 16 is needed, not {-(1 << 70)}",
        ),
        ({"seed": -1}, f"seed: a number from 0 to {(1 << 64) - 1} is needed, not -1"),
        ({"movable_node": 2}, "movable_node: a number from 0 to 1 is needed, not 2"),
        ({"release": "6\0.1"}, "release: embedded null character"),
        ({"memory": [(0, 4096)]}, "memory[0]: 3 values are needed, not (0, 4096)"),
        (
            {"memory": [(4096, 8192, 0), (0, 4096, "x")]},
            "memory[1].nid: an integer is needed, not 'x'",
        ),
        ({"memory": [(4096, 8192, 64)]}, "memory[0].nid: a number from 0 to 63 is needed, not 64"),
        ({"nodes": [(0, [0, "1"])]}, "nodes[0].cpus[1]: an integer is needed, not '1'"),
        (
            {"resources": [(0, 4095, b"x", 0, 0)]},
            "resources[0].name: argument must be str, not bytes",
        ),
        ({"distances": [[10, 20]]}, "distances[0]: 1 numbers are needed, not [10, 20]"),
        (
            {"distances": [[10, 20], [20, 10]]},
            "distances: not a table of possible_nodes x possible_nodes",
        ),
        ({"workload": 7}, "workload: a list is needed, not 7"),
        ({"block_bytes": (128 << 20) + 4096}, "block_bytes: not whole sections"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises((TypeError, ConfigError)) as caught:
        machine_from(good_spec() | changes)
    assert f"{caught.value}" == f"machine spec: {message}"


def test_a_spec_is_a_dict() -> None:
    with pytest.raises(TypeError, match="a dict is needed, not 5"):
        machine_from(5)


def test_names_are_those_of_the_engine() -> None:
    features = _engine.features()
    assert set(MachineConfig.from_options().features) <= set(features)
    assert len(features) == len(set(features))
    assert set(_engine.configs()) == set(CONFIG_DEFAULTS)


def test_a_machine_is_made_once(machine: Machine) -> None:
    with pytest.raises(RuntimeError, match="made already"):
        machine.__init__(machine.config)  # type: ignore[misc]
    machine.check()


# Errors


def test_errors_carry_errno_reason_and_path(machine: Machine) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        machine.stat(f"{MEMORY}/memory99/state")
    assert missing.value.filename == f"{MEMORY}/memory99/state"
    assert missing.value.errno == errno.ENOENT
    with pytest.raises(PermissionError) as denied:
        machine.store(f"{MEMORY}/block_size_bytes", "1")
    assert denied.value.filename == f"{MEMORY}/block_size_bytes"
    with refused(errno.EINVAL) as invalid:
        machine.store(f"{MEMORY}/memory1/state", "sideways")
    assert invalid.value.filename == f"{MEMORY}/memory1/state"
    with refused(errno.EBADF) as bad:
        machine.read(12345, 10, 0)
    assert bad.value.filename is None


def test_a_failure_says_why(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    machine.store(f"{MEMORY}/memory32/state", "online_kernel")
    machine.allocate("slab", "1M", block=32)
    with refused(errno.EBUSY, "slab"):
        machine.store(f"{MEMORY}/memory32/state", "offline")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("", errno.ENOENT),
        ("proc/meminfo", errno.ENOENT),
        ("/nosuch", errno.ENOENT),
        ("/proc/meminfo/x", errno.ENOTDIR),
        ("/" + "x" * 300, errno.ENOENT),
        ("/\udcff", errno.ENOENT),
        ("/ä", errno.ENOENT),
    ],
)
def test_strange_paths_are_not_there(machine: Machine, path: str, number: int) -> None:
    with refused(number) as caught:
        machine.stat(path)
    assert caught.value.filename == path


def test_wrong_arguments_are_type_and_value_errors(machine: Machine) -> None:
    wrong: Any = machine
    with pytest.raises(ValueError, match="null"):
        machine.stat("/proc/\0")
    with pytest.raises(TypeError):
        wrong.stat(5)
    with pytest.raises(TypeError):
        wrong.add_memory(0, 4.5, BLOCK)
    with pytest.raises(ValueError, match="from 0 to"):
        machine.add_memory(0, -1, BLOCK)
    with pytest.raises(TypeError):
        wrong.write(1, "text")
    with pytest.raises(ValueError, match="from 0 to 4095"):
        machine.fault_set(machine.fault_points()[0], -5)
    with pytest.raises(ConfigError, match="is not a size"):
        machine.allocate("anon", "much")
    with pytest.raises(TypeError):
        wrong.add_file("/sys/x", b"", "rw")
    assert issubclass(ConfigError, FakesysfsError)


# Files


def test_stat_and_its_kin(machine: Machine) -> None:
    path = f"{MEMORY}/memory1/state"
    mode, ino, nlink, uid, gid, size, _ = machine.stat(path)
    assert (mode, nlink, uid, gid, size) == (0o100644, 1, 0, 0, 4096)
    machine.chmod(path, 0o600)
    machine.chown(path, 5, -1)
    machine.utimens(path, 1_500_000_000)
    assert machine.stat(path) == (0o100600, ino, 1, 5, 0, 4096, 1_500_000_000)
    assert machine.readlink(f"{MEMORY}/memory1/subsystem").endswith("bus/memory")
    machine.truncate(path, 0)
    names = [name for name, _, _ in machine.readdir(f"{MEMORY}/memory1")]
    assert "state" in names
    assert "." not in names
    with pytest.raises(PermissionError):
        machine.change("mkdir", f"{MEMORY}/memory77")


def test_reading(machine: Machine) -> None:
    handle = machine.open(f"{MEMORY}/block_size_bytes", os.O_RDONLY)
    assert machine.read(handle, 4, 0) == b"8000"
    assert machine.read(handle, 100, 4) == b"000\n"
    assert machine.read(handle, 100, 8) == b""
    assert machine.read(handle, 0, 0) == machine.read(handle, -1, 0) == b""
    assert machine.fstat(handle) == machine.stat(f"{MEMORY}/block_size_bytes")
    machine.release(handle)
    with refused(errno.EBADF):
        machine.release(handle)
    assert machine.block_bytes == int(machine.read_text(f"{MEMORY}/block_size_bytes"), 16)
    assert machine.read_bytes(f"{MEMORY}/memory1/state".encode()) == b"online\n"


def test_an_open_file_outlives_its_device_as_in_sysfs(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    handle = machine.open(f"{MEMORY}/memory32/state", os.O_RDWR)
    machine.remove_memory(FIRST, BLOCK)
    with refused(errno.ENODEV):
        machine.read(handle, 10, 0)
    with refused(errno.ENODEV):
        machine.write(handle, b"online")
    machine.fstat(handle)
    machine.release(handle)


def test_files_of_ones_own(machine: Machine) -> None:
    machine.add_file("/sys/devices/system/memory/notes/today", b"\xff one\n", 0o444)
    assert machine.read_bytes(f"{MEMORY}/notes/today") == b"\xff one\n"
    assert machine.read_text(f"{MEMORY}/notes/today") == "\udcff one\n"
    assert machine.stat(f"{MEMORY}/notes/today")[0] == 0o100444


def test_a_store_takes_a_page(machine: Machine) -> None:
    assert (
        machine.store("/sys/devices/system/memory/auto_online_blocks", b"offline" + b"\0" * 9000)
        == 4096
    )


# Memory, and who uses it


def test_pages(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    machine.store(f"{MEMORY}/memory32/state", "online_movable")
    assert machine.allocate("anon", "64M", block=32, order=0) == 64 << 20
    assert machine.allocate("anon", 1, block=32, order=0) == 4096
    (block,) = (block for block in machine.blocks() if block.id == 32)
    assert (block.start, block.state, block.zone, block.nid) == (FIRST, "online", "Movable", 0)
    assert block.present_pages == BLOCK >> 12
    assert block.movable_pages == (64 << 20 >> 12) + 1
    assert block.free_pages + block.movable_pages + block.unmovable_pages == block.present_pages
    first = FIRST >> 12
    pages = (machine.page(pfn) for pfn in range(first, first + (BLOCK >> 12)))
    page = next(page for page in pages if page["kind"] == "anon")
    assert page["zone"] == "Movable"
    assert page["block_id"] == 32
    assert page["online"] is True
    machine.pin(page["pfn"])
    assert machine.page(page["pfn"])["pins"] == 1
    # In zone Movable the kernel tries until it is told to stop: what is there now may go at any
    # time.
    with pytest.raises(InterruptedError), asking(lambda: True) as interrupted:
        write(machine, "offline", interrupted)
    machine.unpin(page["pfn"])
    with refused(errno.EINVAL, "pins"):
        machine.unpin(page["pfn"])
    machine.free_page(page["pfn"])
    assert machine.free("anon", "32M") == 32 << 20
    machine.store(f"{MEMORY}/memory32/state", "offline")
    with refused(errno.ENXIO, "not online"):
        machine.pin(page["pfn"])
    with refused(errno.ENXIO):
        machine.page(1 << 50)


def test_what_cannot_be_allocated_is_not_begun(machine: Machine) -> None:
    before = machine.read_text("/proc/buddyinfo")
    with refused(errno.ENOMEM):
        machine.allocate("anon", "64G")
    assert machine.read_text("/proc/buddyinfo") == before
    with refused(errno.EINVAL, "gold"):
        machine.allocate("gold", 4096)
    with refused(errno.EINVAL, "Twilight"):
        machine.allocate("anon", 4096, zone="Twilight")
    with refused(errno.EINVAL, "node 9"):
        machine.allocate("anon", 4096, node=9)
    with refused(errno.ENODEV, "memory99"):
        machine.allocate("anon", 4096, block=99)
    with refused(errno.EINVAL):
        machine.free("anon", "64G")


def test_dimms(machine: Machine) -> None:
    assert machine.acpi_device_check(0, 0, FIRST, 2 * BLOCK) == 0
    assert [block.id for block in machine.blocks()][-2:] == [32, 33]
    assert machine.acpi_eject_request(0) == 0
    assert machine.blocks()[-1].id == 7


def test_faults(machine: Machine) -> None:
    point = next(point for point in machine.fault_points() if point.startswith("range_add/"))
    machine.fault_set(point, errno.ENOMEM, 2)
    machine.add_memory(0, FIRST, BLOCK)
    with refused(errno.ENOMEM, point):
        machine.add_memory(0, FIRST + BLOCK, BLOCK)
    machine.add_memory(0, FIRST + BLOCK, BLOCK)
    assert machine.fault_hits(point) >= 3
    machine.fault_set(point, errno.ENOMEM)
    machine.fault_clear()
    machine.add_memory(0, FIRST + 2 * BLOCK, BLOCK)
    with refused(errno.ENOENT, "nowhere"):
        machine.fault_set("nowhere", errno.EIO)


# What happened


def test_events_are_there_before_the_call_returns(machine: Machine) -> None:
    seen: list[Event] = []
    machine.subscribe(seen.append)
    machine.add_memory(0, FIRST, BLOCK)
    (uevent,) = (event for event in seen if event.kind == "uevent")
    assert uevent.path == "/devices/system/memory/memory32"
    assert uevent.payload == (
        "add@/devices/system/memory/memory32",
        "ACTION=add",
        "DEVPATH=/devices/system/memory/memory32",
        "SUBSYSTEM=memory",
    )
    with refused(errno.EINVAL):
        machine.store(f"{MEMORY}/memory32/state", "bogus")
    machine.store(f"{MEMORY}/memory32/state", "online")
    assert [event.seq for event in seen] == list(range(seen[0].seq, seen[0].seq + len(seen)))
    assert machine.events() == seen
    assert machine.events(since=seen[0].seq) == seen[1:]
    assert [event.payload[0] for event in seen if event.kind == "uevent"][1:] == [
        "online@/devices/system/memory/memory32"
    ]


def test_a_machine_begins_without_events(machine: Machine) -> None:
    assert machine.events() == []
    machine.add_memory(0, FIRST, BLOCK)
    assert machine.events()[0].seq == 1


def test_unsubscribing(machine: Machine) -> None:
    kept: list[Event] = []
    ended: list[Event] = []
    also_ended: list[Event] = []
    machine.subscribe(kept.append)
    end = machine.subscribe(ended.append)
    machine.subscribe(also_ended.append)
    end()
    end()
    machine.unsubscribe(also_ended.append)
    machine.unsubscribe(print)
    machine.add_memory(0, FIRST, BLOCK)
    assert kept
    assert not ended
    assert not also_ended


@pytest.mark.logs_errors
def test_a_failing_subscriber_changes_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise ArithmeticError("two and two")

    machine.subscribe(fail)
    machine.subscribe(seen.append)
    machine.add_memory(0, FIRST, BLOCK)
    assert seen
    assert len(caplog.records) == len(seen)
    assert "two and two" in caplog.text


def test_a_subscriber_may_call_the_machine(machine: Machine) -> None:
    """Its own events come after those that are being delivered, to every subscriber in the same
    order.
    """
    seen: list[list[int]] = [[], []]

    def online(event: Event) -> None:
        seen[0].append(event.seq)
        if event.payload[:1] and event.payload[0].startswith("add@"):
            machine.store(f"{MEMORY}/{event.path.rpartition('/')[2]}/state", "online")

    machine.subscribe(online)
    machine.subscribe(lambda event: seen[1].append(event.seq))
    machine.add_memory(0, FIRST, 4 * BLOCK)
    assert all(block.state == "online" for block in machine.blocks())
    assert seen[0] == seen[1] == sorted(seen[0])
    assert len(seen[0]) == len(machine.events())


def test_events_of_many_threads_keep_their_order(machine: Machine) -> None:
    """Each thread finds its own event delivered when its call returns, whoever delivered it."""
    seen: list[Event] = []
    problems: list[str] = []

    def slow(event: Event) -> None:
        seen.append(event)
        if event.kind == "uevent":
            time.sleep(0.0005)

    def work(number: int) -> None:
        start = FIRST + number * BLOCK
        added, removed = (
            f"{action}@/devices/system/memory/memory{start // BLOCK}"
            for action in ("add", "remove")
        )

        def look(message: str, turn: int) -> None:
            if sum(event.payload[:1] == (message,) for event in seen) != turn:
                problems.append(f"{message} {turn} was not there")

        for turn in range(1, 31):
            machine.add_memory(0, start, BLOCK)
            look(added, turn)
            machine.remove_memory(start, BLOCK)
            look(removed, turn)

    machine.subscribe(slow)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    numbers = [event.seq for event in seen]
    assert numbers == list(range(1, len(numbers) + 1))
    assert sum(event.kind == "uevent" for event in seen) == 6 * 30 * 2


def test_the_log_and_the_trace(machine: Machine) -> None:
    machine.add_memory(0, FIRST, BLOCK)
    lines = machine.dmesg()
    machine.store(f"{MEMORY}/memory32/state", "online")
    assert machine.dmesg()[: len(lines)] == lines
    new = machine.dmesg(len(lines))
    assert any("Policy zone" in line for _, line in new)
    assert [time_us for time_us, _ in new] == sorted(time_us for time_us, _ in new)
    assert machine.dmesg(10**6) == []
    assert "online_pages" in machine.trace()
    machine.trace_clear()
    assert "online_pages" not in machine.trace()


def test_the_trace_piece_by_piece(machine: Machine) -> None:
    """Each operation once, whole, also when the ring has forgotten the first ones, and when it was
    cleared.
    """
    machine.add_memory(0, FIRST, BLOCK)
    heading = machine.trace(0, 0)
    assert heading.startswith("# tracer: function_graph\n")
    assert machine.trace(0, machine.trace_end()) == machine.trace()
    one, start = "", machine.trace_end()
    for turn in range(300):
        machine.store(f"{MEMORY}/memory32/state", "online_movable")
        machine.store(f"{MEMORY}/memory32/state", "offline")
        end = machine.trace_end()
        piece = machine.trace(start, end)
        assert piece == (one or piece), turn
        one, start = piece, end
        if turn == 290:
            machine.trace_clear()
            assert machine.trace() == heading
    assert one.count("state_store() {") == 2
    assert machine.trace(start) == ""
    assert machine.trace() == heading + 9 * one
    for _ in range(300):
        machine.store(f"{MEMORY}/memory32/state", "online_movable")
        machine.store(f"{MEMORY}/memory32/state", "offline")
    body = machine.trace().removeprefix(heading)
    assert body.endswith(one)
    title = r"# echo \w+ > \S+ -> 0\n"
    assert re.match(title + r" 0\) +\|  \w+\(\) \{\n", body), (
        "it begins in the middle of an operation"
    )


# Threads and signals


@contextmanager
def offlining(machine: Machine) -> Iterator[list[BaseException]]:
    """memory32 is on its way offline in another thread, and there at the end."""
    errors: list[BaseException] = []

    def offline() -> None:
        try:
            machine.store(f"{MEMORY}/memory32/state", "offline")
        except (OSError, ValueError) as e:
            errors.append(e)

    thread = threading.Thread(target=offline)
    thread.start()
    try:
        wait_for_state(machine, "going-offline")
        yield errors
    finally:
        thread.join()


def wait_for_state(machine: Machine, state: str) -> None:
    wait_for(lambda: machine.read_text(f"{MEMORY}/memory32/state") == f"{state}\n", every=0.001)


def test_others_go_on_while_a_block_goes_offline(slow_machine: Machine) -> None:
    with offlining(slow_machine) as errors:
        reads = 0
        while slow_machine.read_text(f"{MEMORY}/memory32/state") == "going-offline\n":
            slow_machine.read_text("/proc/meminfo")
            reads += 1
    assert not errors
    assert reads > 20
    assert slow_machine.read_text(f"{MEMORY}/memory32/state") == "offline\n"


@contextmanager
def signalled(machine: Machine, handler: Callable[[], object]) -> Iterator[None]:
    """Once memory32 is on its way offline, this process gets a signal; `handler` handles it in the
    main thread.
    """

    def send() -> None:
        wait_for_state(machine, "going-offline")
        os.kill(os.getpid(), signal.SIGUSR1)

    old = signal.signal(signal.SIGUSR1, lambda *_: handler())
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, old)


def test_a_signal_handler_that_raises_ends_a_long_call(slow_machine: Machine) -> None:
    """As Ctrl-C does, whose handler raises KeyboardInterrupt."""

    def stop() -> None:
        raise ArithmeticError("stop")

    with pytest.raises(ArithmeticError, match="stop"), signalled(slow_machine, stop):
        slow_machine.store(f"{MEMORY}/memory32/state", "offline")
    assert slow_machine.read_text(f"{MEMORY}/memory32/state") == "online\n"
    assert slow_machine.events()[-1].errno == errno.EINTR


def test_a_signal_handler_that_returns_does_not_disturb(slow_machine: Machine) -> None:
    """It may even look at the machine."""
    seen: list[str] = []
    with signalled(
        slow_machine, lambda: seen.append(slow_machine.read_text(f"{MEMORY}/memory32/state"))
    ):
        slow_machine.store(f"{MEMORY}/memory32/state", "offline")
    assert seen == ["going-offline\n"]
    assert slow_machine.read_text(f"{MEMORY}/memory32/state") == "offline\n"


def test_a_caller_of_its_own_may_interrupt(slow_machine: Machine) -> None:
    answers = iter([False, False, False])
    with pytest.raises(InterruptedError), asking(lambda: next(answers, True)) as interrupted:
        write(slow_machine, "offline", interrupted)
    assert next(answers, None) is None
    assert slow_machine.read_text(f"{MEMORY}/memory32/state") == "online\n"


# Life and death


def test_a_closed_machine_says_so() -> None:
    machine = machine_of()
    handle = machine.open("/proc/meminfo", os.O_RDONLY)
    machine.close()
    machine.close()
    calls = (
        lambda: machine.read(handle, 10, 0),
        lambda: machine.store(f"{MEMORY}/memory1/state", "offline"),
        lambda: machine.add_memory(0, FIRST, BLOCK),
        lambda: machine.write(1, b""),
        lambda: machine.add_file("/sys/x", b""),
        machine.blocks,
        machine.check,
        machine.fuse_ops,
        lambda: machine.block_bytes,
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"^the machine is closed$"):
            call()


def test_closing_lets_calls_end() -> None:
    with machine_of(config="STEP_DELAY_US=20000") as machine:
        machine.add_memory(0, FIRST, BLOCK)
        machine.store(f"{MEMORY}/memory32/state", "online_movable")
        machine.allocate("anon", "64M", block=32)
        with offlining(machine) as errors:
            machine.close()
            with pytest.raises(ValueError, match="closed"):
                machine.check()
        # The write went through; only the file could not be released any more.
        assert [f"{error}" for error in errors] == ["the machine is closed"]


def test_a_machine_is_freed() -> None:
    machine = machine_of()
    machine.subscribe(lambda event: None)
    machine.add_memory(0, FIRST, BLOCK)
    gone = weakref.ref(machine)
    del machine
    gc.collect()
    assert gone() is None


def test_native_operations_have_addresses(machine: Machine) -> None:
    addresses = machine.fuse_ops()
    assert {"getattr", "readlink", "open", "read", "readdir", "release"} <= addresses.keys()
    assert all(addresses.values())


def test_a_machine_that_is_gone_is_not_served() -> None:
    """The last of several mounted machines is served; the end of another one does not end that."""
    getattr_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
    stat_buffer = ctypes.create_string_buffer(512)
    with machine_of() as first:
        first.fuse_ops()
        with machine_of() as second:
            call = getattr_type(second.fuse_ops()["getattr"])
            first.close()
            assert call(b"/proc/meminfo", stat_buffer) == 0
        assert call(b"/proc/meminfo", stat_buffer) == -errno.ENODEV


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, fakesysfs\n"
        "assert not [name for name in sys.modules if name.startswith('fakesysfs.')], sys.modules\n"
        "assert 'Machine' in dir(fakesysfs)\n"
        "fakesysfs.FakesysfsError\n"
        "assert 'fakesysfs.machine' not in sys.modules\n"
        "fakesysfs.Machine, fakesysfs.MachineConfig\n"
        "try:\n"
        "    fakesysfs.Engine\n"
        "except AttributeError as e:\n"
        "    assert 'Engine' in str(e)\n"
        "else:\n"
        "    raise AssertionError('Engine is private')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT_SECONDS)
