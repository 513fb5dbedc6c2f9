"""The options that describe a machine: one list for the command line, the API and machine files.

Owns: their names, where each can be given, and one line of help. Does not own: what a value may be
(memory_and_nodes.py, kernel_config.py, workload.py).

Importing this file is cheap on purpose: every `fakesysfs run` needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class MachineOption:
    """An option that describes a machine.

    :param name: the argument of MachineConfig.from_options().
    :param flags: on the command line.
    :param metavar: what its value looks like.
    :param help: what it is, with its default.
    :param key: its key in a machine file; "" when it has none.
    :param repeats: it may be given several times, and is a list.
    :param number: it is an integer.
    """

    __slots__ = ("flags", "help", "key", "metavar", "name", "number", "repeats")

    def __init__(
        self,
        name: str,
        flags: tuple[str, ...],
        metavar: str,
        help: str,
        key: str,
        *,
        repeats: bool = False,
        number: bool = False,
    ) -> None:
        self.name = name
        self.flags = flags
        self.metavar = metavar
        self.help = help
        self.key = key
        self.repeats = repeats
        self.number = number


#: Every option of a machine, in the order in which help and error messages list them.
MACHINE_OPTIONS = (
    MachineOption("machine", ("--machine",), "FILE|PRESET", "Machine file, or one of `fakesysfs presets`.", ""),
    MachineOption("memory", ("-m", "--memory"), "SIZE,slots=N,maxmem=SIZE", "As QEMU's. [1G,slots=32,maxmem=8G]", "memory"),
    MachineOption("kernel", ("--kernel",), "VERSION", "Kernel to behave like: `fakesysfs presets --kernels`. [6.1]", "kernel"),
    MachineOption("append", ("--append",), "LINE", "Kernel command line: mem=, movable_node, kernelcore=, ...", "append"),
    MachineOption("config", ("--config",), "NAME=y,...", "Kernel configuration, as ARCH_MEMORY_PROBE=n,STEP_DELAY_US=200.", "config"),
    MachineOption("nodes", ("--node",), "memory=SIZE,cpus=LIST", "A NUMA node; repeat.", "node", repeats=True),
    MachineOption("distances", ("--distance",), "A,B,N", "Distance of two nodes; repeat.", "distance", repeats=True),
    MachineOption("arch", ("--arch",), "NAME", "x86_64, aarch64, s390x or ppc64le.", "arch"),
    MachineOption("seed", ("--seed",), "N", "Chance: where pages are, the order of ties. [1]", "seed", number=True),
    MachineOption("workload", ("--workload",), "FILE|KIND=SIZE,...", "Who uses the memory.", "workload"),
    MachineOption("aged", ("--aged",), "N", "Rounds of use behind it: free memory is in crumbs. [0]", "", number=True),
    MachineOption("faults", ("--fault",), "RULE", "See `fakesysfs fault --help`; repeat.", "fault", repeats=True),
)  # fmt: skip


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `options` that describe a machine and were given, by their names."""
    return {
        option.name: options[option.name]
        for option in MACHINE_OPTIONS
        if options.get(option.name) not in (None, (), [])
    }
