"""The command line: which commands there are, and what becomes of a mistake.

Owns: the list of commands, exit statuses, errors of usage. Does not own any command: they are in
*_commands.py. Options of a machine are the same for every command that makes one. Every --help ends
with examples that run as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from . import (
    fault_commands,
    hardware_commands,
    look_commands,
    matrix,
    run_commands,
    setup_commands,
    waiting,
)
from .options import FORM, Group, complain


@click.group(cls=Group, context_settings=FORM)
@click.version_option(package_name="fakesysfs")
def main() -> None:
    """Simulate Linux memory hotplug: a machine whose memory can be plugged, shown at the real paths
    of /sys and /proc.
    """


#: The commands, grouped by what a person wants to do.
GROUPS = {
    "Run and enter": (
        run_commands.demo, run_commands.run, run_commands.exec_, run_commands.ls, run_commands.stop, run_commands.mount,
        run_commands.umount,
    ),
    "The hardware": (hardware_commands.monitor,),
    "Look": (
        look_commands.map_, look_commands.dmesg, look_commands.events, look_commands.trace, hardware_commands.page,
    ),
    "Wait and check": (waiting.wait, waiting.expect, matrix.matrix),
    "Make it fail": (fault_commands.fault, hardware_commands.load),
    "Set up": (setup_commands.doctor, setup_commands.presets, setup_commands.capture, setup_commands.bench),
}  # fmt: skip

for _title, _commands in GROUPS.items():
    main.add_section(_title, _commands)


def run_command_line(arguments: Sequence[str]) -> int:
    """Carry out `arguments` and return the exit status."""
    try:
        result = main.main(
            args=list(arguments) or ["--help"], prog_name="fakesysfs", standalone_mode=False
        )
    except click.ClickException as e:
        return complain(e)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0
