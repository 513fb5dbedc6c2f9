"""A machine after fork(): the child has an error at once, whatever the threads of its parent did."""

from __future__ import annotations

import os
import threading
import time
import traceback

import pytest

from fakesysfs import Machine, MachineConfig

STATE = "/sys/devices/system/memory/memory32/state"


def in_child(machine: Machine, make_another: bool) -> int:
    """The pid of a child that calls the machine, closes it, and exits with 0 if it was told why not."""
    pid = os.fork()
    if pid != 0:
        return pid
    status = 1
    try:
        with pytest.raises(
            RuntimeError, match=r"^this machine belongs to the process that made it"
        ):
            machine.read_text(STATE)
        machine.close()
        if make_another:
            with Machine(machine.config) as own:
                own.check()
        status = 0
    except BaseException:  # noqa: BLE001 - this process must not go on with the tests
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(pid: int) -> bool:
    """Did the child end well, and soon?"""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found == pid:
            return status == 0
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


def test_fork_while_other_threads_are_in_the_engine() -> None:
    with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
        machine.add_memory(0, 4 << 30, machine.block_bytes)
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                machine.read_text("/proc/vmstat")
                machine.read_text("/proc/zoneinfo")

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                assert ended(in_child(machine, make_another=number == 0))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        machine.check()  # the parent goes on
