"""The command line: parse, call, print.

Owns: commands, options and their help, and how the parts are put together into a running instance: machine, monitor,
control, uevents, mount. Does not own what any of them does. Options of a machine are the same for every command that
makes one. Every --help ends with examples that run as they stand. `run` has two halves: launch() in the process the
user started, which knows no options, and run_inside() in the one inside the namespaces, which does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .errors import EnvironmentProblem, FakesysfsError

if TYPE_CHECKING:
    from .control import Client, Server
    from .machine import Machine
    from .monitor import Monitor
    from .namespace import Inside

Command = TypeVar("Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Keeps commands in the order they are written below, which is the order to read them in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Epilog(click.Command):
    """A command whose help ends with lines printed as they are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def examples(text: str) -> dict[str, Any]:
    """Keyword arguments of a command with these examples, one a line."""
    return {"cls": _Epilog, "epilog": text, "context_settings": {"max_content_width": 100}}


def machine_options(command: Command) -> Command:
    """Add the options that describe a machine; they arrive as one dictionary, `machine`."""
    for option in reversed((
        click.option("--machine", metavar="FILE|PRESET", help="Machine file, or one of `fakesysfs presets`."),
        click.option("-m", "--memory", metavar="SIZE,slots=N,maxmem=SIZE", help="As QEMU's -m. [1G,slots=32,maxmem=8G]"),
        click.option("--kernel", metavar="VERSION", help="Which kernel to behave like; see `fakesysfs presets --kernels`."),
        click.option("--append", metavar="LINE", help="Kernel command line: mem=, movable_node, memhp_default_state=, ..."),
        click.option("--config", metavar="NAME=y,...", help="Kernel configuration, such as ARCH_MEMORY_PROBE=n."),
        click.option("--node", "nodes", multiple=True, metavar="memory=SIZE,cpus=LIST", help="A NUMA node; repeat."),
        click.option("--distance", "distances", multiple=True, metavar="A,B,N", help="Distance of two nodes; repeat."),
        click.option("--arch", metavar="NAME", help="x86_64, aarch64, s390x or ppc64le."),
        click.option("--seed", type=int, metavar="N", help="Chance: where pages are, the order of ties. [1]"),
        click.option("--workload", metavar="FILE|KIND=SIZE,...", help="Who uses the memory."),
    )):  # fmt: skip
        command = option(command)
    return command


MACHINE_KEYS = ("machine", "memory", "kernel", "append", "config", "nodes", "distances", "arch", "seed", "workload")

instance_option = click.option(
    "--instance", metavar="DIR|NAME", help="Which running instance, if there are several: where it is mounted, or its name."
)
qmp_option = click.option("--qmp", type=click.Path(), metavar="SOCKET", help="Serve QMP at this Unix socket.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say what is done.")


# --------------------------------------------------------------------------------------------------------- commands


@click.group(cls=_Group, context_settings={"max_content_width": 100})
@click.version_option(package_name="fakesysfs")
def main() -> None:
    """Linux memory hotplug without the hardware: /sys and /proc as a machine with DIMMs to plug and unplug."""


@main.command(
    context_settings={"allow_interspersed_args": False},
    cls=_Epilog,
    epilog="""\
fakesysfs run -- lsmem
fakesysfs run --memory 2G,slots=4,maxmem=16G -- sh -c 'echo offline > /sys/devices/system/memory/memory7/state; lsmem'""",
)
@machine_options
@qmp_option
@click.option("--net", type=click.Choice(["own", "host"]), default="own", help="host: no uevents, but a network. [own]")
@click.option("--keep-uid", is_flag=True, help="For an ordinary user: run the command as that user, not as root.")
@verbose_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(**options: Any) -> int:
    """Run COMMAND where the machine's files stand at their real paths.

    In its namespaces /sys/devices/system/memory and its neighbours are the machine's, and uevents arrive on the real
    socket. Nothing outlives it. The exit status is the command's, or 128+N when signal N ended it.
    """
    from .control import listen
    from .namespace import launch

    listener, name = listen(os.getpid(), os.geteuid())
    return launch(options["command"], listener, name, lambda: options)


def parse_run(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of `fakesysfs run` with these arguments.

    :raises SystemExit: they are wrong, and it has been said how.
    """
    try:
        with run.make_context("fakesysfs run", list(arguments)) as context:
            return context.params
    except click.exceptions.Exit as e:
        raise SystemExit(e.exit_code) from None
    except click.ClickException as e:
        e.show()
        raise SystemExit(e.exit_code) from None


def run_command_line(arguments: Sequence[str]) -> int:
    """Carry out `arguments` and return the exit status."""
    try:
        result = main.main(args=list(arguments), prog_name="fakesysfs", standalone_mode=False)
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0
