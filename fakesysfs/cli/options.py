"""What the commands have in common: options that several take, and help that ends with examples.

Owns: the options of a machine, of the monitor, and which instance is meant; the form of --help.
Does not own any command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Epilog(click.Command):
    """A command whose help ends with lines printed as they are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(Epilog, click.Group):
    """Keeps commands in the order they are written below, which is the order to read them in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def examples(text: str) -> dict[str, Any]:
    """Keyword arguments of a command with these examples, one a line."""
    return {"cls": Epilog, "epilog": text, "context_settings": {"max_content_width": 100}}


def machine_options(command: Command) -> Command:
    """Add the options that describe a machine; they arrive as one dictionary, `machine`."""
    for option in reversed((
        click.option("--machine", metavar="FILE|PRESET", help="Machine file, or one of `fakesysfs presets`."),
        click.option("-m", "--memory", metavar="SIZE,slots=N,maxmem=SIZE", help="As QEMU's. [1G,slots=32,maxmem=8G]"),
        click.option("--kernel", metavar="VERSION", help="Kernel to behave like: `fakesysfs presets --kernels`. [6.1]"),
        click.option("--append", metavar="LINE", help="Kernel command line: mem=, movable_node, kernelcore=, ..."),
        click.option("--config", metavar="NAME=y,...", help="Kernel configuration, as ARCH_MEMORY_PROBE=n,STEP_DELAY_US=200."),
        click.option("--node", "nodes", multiple=True, metavar="memory=SIZE,cpus=LIST", help="A NUMA node; repeat."),
        click.option("--distance", "distances", multiple=True, metavar="A,B,N", help="Distance of two nodes; repeat."),
        click.option("--arch", metavar="NAME", help="x86_64, aarch64, s390x or ppc64le."),
        click.option("--seed", type=int, metavar="N", help="Chance: where pages are, the order of ties. [1]"),
        click.option("--workload", metavar="FILE|KIND=SIZE,...", help="Who uses the memory."),
        click.option("--aged", type=int, metavar="N", help="Rounds of use behind it: free memory is in crumbs. [0]"),
        click.option("--fault", "faults", multiple=True, metavar="RULE", help="See `fakesysfs fault --help`; repeat."),
    )):  # fmt: skip
        command = option(command)
    return command


instance_option = click.option(
    "--instance",
    metavar="DIR|SOCKET|NAME",
    help="Which running instance: its directory, QMP or HMP socket, name or number.",
)


def monitor_options(command: Command) -> Command:
    """Add the options that say where the QEMU monitor can be spoken to."""
    for option in reversed((
        click.option("--qmp", type=click.Path(), metavar="SOCKET", help="Serve QMP at this Unix socket."),
        click.option("--hmp", type=click.Path(), metavar="SOCKET", help="HMP, a client at a time: socat - UNIX-CONNECT:SOCKET."),
    )):  # fmt: skip
        command = option(command)
    return command


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say what is done.")
