"""The walk-through: a DIMM is plugged, part of its memory goes online and offline again, the DIMM
is unplugged.

Owns: the steps, what is said about each, and how they are printed. It runs as the command of a
`fakesysfs run` and does what a user would do there: commands of the shell, and lines of the QEMU
monitor. Nothing is pretended: what stands below a command is its output, and a step that fails ends
the demo.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .reporting import reporting

MEMORY = "/sys/devices/system/memory"


class Step(NamedTuple):
    """What is done, and one line about what it does inside.

    :param says: the line.
    :param does: a shell command, or with `monitor` a line of the QEMU monitor.
    """

    says: str
    does: str
    monitor: bool = False


STEPS = (
    Step("A machine with 1 GiB: eight memory blocks of 128 MiB, all online.", "lsmem"),
    Step(
        "On the host a piece of memory is set aside for it. The guest sees nothing yet.",
        "object_add memory-backend-ram,id=BiscuitOS-mem,size=512M",
        monitor=True,
    ),
    Step(
        "It becomes a DIMM in slot 0. ACPI tells the guest; the kernel makes a memmap for it, and"
        " four memory blocks.",
        "device_add pc-dimm,id=BiscuitOS-dimm,memdev=BiscuitOS-mem",
        monitor=True,
    ),
    Step(
        "The host's view: where in the guest's physical memory it is.",
        "info memory-devices",
        monitor=True,
    ),
    Step(
        "The guest's view: memory32 to memory35 are there, offline: present, and used by nobody.",
        "lsmem",
    ),
    Step("So the total has not changed.", "free -m"),
    Step(
        "One block goes online into ZONE_MOVABLE: its pages go to the buddy allocator, in pieces of"
        " 4 MiB.",
        f"echo online_movable > {MEMORY}/memory33/state",
    ),
    Step("128 MiB more.", "free -m"),
    Step(
        "Its zone is fixed now; its offline neighbours could still go either way.",
        f"head {MEMORY}/memory3[2-5]/valid_zones",
    ),
    Step("The physical address space as a picture.", "fakesysfs map"),
    Step(
        "Offline again: the block is isolated, what is in use is moved elsewhere, free pages are"
        " taken back.",
        f"echo offline > {MEMORY}/memory33/state",
    ),
    Step(
        "The memory backend cannot go while the DIMM is in its slot.",
        "object_del BiscuitOS-mem",
        monitor=True,
    ),
    Step(
        "The DIMM can: the guest is asked, finds every block offline, removes them, and ejects it.",
        "device_del BiscuitOS-dimm",
        monitor=True,
    ),
    Step("Now the backend can go, too.", "object_del BiscuitOS-mem", monitor=True),
    Step("Everything is as it was.", "lsmem"),
    Step("What the kernel had to say about it.", "fakesysfs dmesg | tail -n 6"),
    Step(
        "And what udev would have seen.",
        'fakesysfs events | grep \'"kind": "uevent"\' | cut -c1-110',
    ),
)
REFUSED = {"object_del BiscuitOS-mem"}  # the first time


def demo_command(pause: bool) -> list[str]:
    """The command line that runs the steps, for `fakesysfs run`."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from fakesysfs.cli.demo import main;"
        f" sys.exit(main({pause!r}))"
    )
    return [sys.executable, "-P", "-c", code]


def main(pause: bool = False) -> int:
    """Do the steps one after the other. Returns the exit status."""
    if pause:
        # Python's handler only takes note of Ctrl-C, and input() may begin to wait right after it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return reporting(lambda: walk(pause))


def walk(pause: bool, steps: Sequence[Step] = STEPS) -> int:
    """Do the steps.

    :param pause: wait for the Enter key before each.
    :raises OSError: standard output takes no more.
    """
    terminal = sys.stdout.isatty()
    coloured = terminal and "NO_COLOR" not in os.environ
    bold, dim, end = ("\033[1m", "\033[2m", "\033[0m") if coloured else ("", "", "")
    refused = set(REFUSED)
    for step in steps:
        print(f"{dim}# {step.says}{end}")
        prompt = "(qemu)" if step.monitor else "#" if os.geteuid() == 0 else "$"
        print(f"{bold}{prompt} {step.does}{end}", flush=True)
        if pause and terminal:
            try:
                input()
            except EOFError:
                print("\nfakesysfs: demo: ended by the end of input", file=sys.stderr)
                return 1
        may_fail = step.does in refused
        refused.discard(step.does)
        if not _do(step) and not may_fail:
            print(f"fakesysfs: demo: this failed: {step.does}", file=sys.stderr)
            return 1
        print()
    return 0


def _do(step: Step) -> bool:
    if not step.monitor:
        status = subprocess.run(["sh", "-c", step.does], check=False).returncode
        if status in (-signal.SIGPIPE, 128 + signal.SIGPIPE):
            raise BrokenPipeError
        return status == 0
    from ..control import connect

    answer = connect().call("hmp", step.does)
    sys.stdout.write(answer)
    sys.stdout.flush()
    return not answer.startswith("Error:")
