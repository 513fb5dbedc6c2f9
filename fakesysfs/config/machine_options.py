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
    MachineOption("machine", ("--machine",), "FILE|PRESET", "Use a machine file, or a preset: see `fakesysfs presets`.", ""),
    MachineOption("memory", ("-m", "--memory"), "SIZE,slots=N,maxmem=SIZE", "Memory at boot, DIMM slots and most memory, as in QEMU. [1G,slots=32,maxmem=8G]", "memory"),
    MachineOption("kernel", ("--kernel",), "VERSION", "Behave like this kernel: see `fakesysfs presets --kernels`. [6.1]", "kernel"),
    MachineOption("append", ("--append",), "LINE", "Add to the kernel command line: mem=, movable_node, kernelcore=, ...", "append"),
    MachineOption("config", ("--config",), "NAME=y,...", "Set kernel configuration, e.g. ARCH_MEMORY_PROBE=n,STEP_DELAY_US=200.", "config"),
    MachineOption("nodes", ("--node",), "memory=SIZE,cpus=LIST", "Add a NUMA node. Repeat for each node.", "node", repeats=True),
    MachineOption("distances", ("--distance",), "A,B,N", "Set the distance of two nodes. Repeat for each pair.", "distance", repeats=True),
    MachineOption("arch", ("--arch",), "NAME", "Simulate this architecture: x86_64, aarch64, s390x or ppc64le. [x86_64]", "arch"),
    MachineOption("seed", ("--seed",), "N", "Seed of the random choices: page placement and ties. [1]", "seed", number=True),
    MachineOption("workload", ("--workload",), "FILE|KIND=SIZE,...", "Set what uses the memory after boot: a file, or kinds and sizes.", "workload"),
    MachineOption("aged", ("--aged",), "N", "Fragment memory first, by N rounds of allocating and freeing. [0]", "", number=True),
    MachineOption("faults", ("--fault",), "RULE", "Inject a failure: see `fakesysfs fault --help`. Repeat for each rule.", "fault", repeats=True),
)  # fmt: skip


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `options` that describe a machine and were given, by their names."""
    return {
        option.name: options[option.name]
        for option in MACHINE_OPTIONS
        if options.get(option.name) not in (None, (), [])
    }
