"""Commands that start a machine, enter it, and end it: demo, mount, umount, run, exec, stop.

Owns: their options, help and output. Does not own what they do (instance.py, run/).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from ..errors import InstanceError, printable
from .options import (
    FORM,
    Duration,
    Epilog,
    client_of,
    command,
    complain,
    examples,
    instance_option,
    machine_options,
    monitor_options,
    print_wide,
    verbose_option,
)

END_SECONDS: Final = 15.0


@command(
    **examples("""\
fakesysfs demo
fakesysfs demo --pause""")
)
@click.option("--pause", is_flag=True, help="Wait for the Enter key before each step.")
def demo(pause: bool) -> int:
    """Walk through memory hotplug on a simulated machine.

    The demo plugs a DIMM, uses its memory and unplugs it. It shows, explains and runs each command.
    """
    from .demo import demo_command

    return (
        run.main(
            args=["--", *demo_command(pause)], standalone_mode=False, prog_name="fakesysfs run"
        )
        or 0
    )


@command(
    **examples("""\
mkdir -p /tmp/machine
fakesysfs mount /tmp/machine --memory 2G,slots=4,maxmem=8G
lsmem --sysroot /tmp/machine
fakesysfs umount /tmp/machine""")
)
@click.argument("directory", type=click.Path())
@machine_options
@monitor_options
@click.option(
    "-f",
    "--foreground",
    is_flag=True,
    help="Serve in this process, until Ctrl-C or `fakesysfs umount`.",
)
def mount(directory: str, foreground: bool, **options: Any) -> None:
    """Serve the files of a machine below DIRECTORY.

    The files are DIRECTORY/sys/... and DIRECTORY/proc/.... The command returns when they are
    mounted. A mount has no uevents; `fakesysfs run` has them.
    """
    from ..instance import serve, serve_in_background
    from ..mount import preflight

    preflight(directory)
    if foreground:
        serve(directory, options, lambda: None)
    else:
        serve_in_background(directory, options)


@command(
    **examples("""\
mkdir -p /tmp/machine
fakesysfs mount /tmp/machine
fakesysfs umount /tmp/machine""")
)
@click.argument("directory", type=click.Path())
def umount(directory: str) -> None:
    """Unmount DIRECTORY and end its server process."""
    from ..instance import unmount

    unmount(directory)


@command(
    **examples("""\
fakesysfs ls
fakesysfs run --name first -- fakesysfs ls --json""")
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")
def ls(as_json: bool) -> None:
    """List your running instances."""
    from ..control import running

    found = [{"name": name.rpartition("/")[2], **served} for name, served in running()]
    if as_json:
        click.echo(json.dumps(found))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("name", "kernel", "arch", "memory")
    for title in (*columns, "command or directory"):
        table.add_column(title.upper())
    for one in found:
        cells = [one.get(key) for key in columns] + [one.get("command") or one.get("directory")]
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    if found:
        print_wide(table)


def _some_command(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> tuple[str, ...]:
    if not words and not context.params.get("detach"):
        raise click.MissingParameter(ctx=context, param=parameter)
    return words


@command(
    context_settings={**FORM, "allow_interspersed_args": False},
    cls=Epilog,
    epilog="""\
fakesysfs run -- lsmem
fakesysfs run --memory 2G,slots=4,maxmem=8G -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; lsmem'
fakesysfs run -- sh -c 'fakesysfs monitor "object_add memory-backend-ram,id=m0,size=1G"; fakesysfs dmesg'
fakesysfs run --detach --qmp /tmp/qmp && fakesysfs exec --instance /tmp/qmp -- lsmem && fakesysfs stop --instance /tmp/qmp
fakesysfs run --detach --name first && fakesysfs exec --instance first -- lsmem; fakesysfs stop --instance first""",
)
@machine_options
@monitor_options
@click.option(
    "--udev",
    is_flag=True,
    help="Start a systemd-udevd inside, with the rules of --rules and no others.",
)
@click.option(
    "--rules",
    multiple=True,
    metavar="DIR|FILE|host",
    help="Give rules to --udev: a directory, a file, or `host` for this host's rules. Repeat.",
)
@click.option(
    "--net",
    type=click.Choice(["own", "host"]),
    default="own",
    help="Choose the network: own (uevents arrive) or host (no uevents). [own]",
)
@click.option(
    "--root/--keep-uid",
    "root",
    default=True,
    help="Choose the user that COMMAND sees itself as, for ordinary users. [--root]",
)
@click.option(
    "--bind-root",
    "bind_roots",
    multiple=True,
    type=click.Path(),
    metavar="DIR",
    help="Show the files in DIR/sys and DIR/proc too, for chroot DIR. Repeat.",
)
@click.option(
    "--host-writes",
    is_flag=True,
    help="Let COMMAND write to the host's own files in /sys and /proc/sys. Default: read-only.",
)
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    is_eager=True,
    help="Run in the background; COMMAND is optional.",
)
@click.option(
    "--name", metavar="NAME", help="What --instance is to know the instance by. [a number]"
)
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    help="End COMMAND after this time (30s, 5m), with status 124.",
)
@verbose_option
@click.argument(
    "command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...", callback=_some_command
)
def run(**options: Any) -> int:
    """Run COMMAND with the machine at the real paths.

    COMMAND runs in namespaces of its own. There, the simulated files replace the real ones, and
    uevents arrive on the real netlink socket. The host's other files below /sys and /proc are
    read-only, for root too. When COMMAND ends, its processes and mounts are gone. The exit status
    is that of COMMAND, or 128+N when signal N ended it.

    If an ordinary user runs it, COMMAND sees itself as root of a user namespace; on the host it is
    still that user. With --keep-uid it sees itself as that user, without capabilities. In both
    cases it owns the simulated files and can write to files of mode 0644.

    With -d it returns when COMMAND has been started. It prints the name of the instance on standard
    output, and on standard error how to enter and how to end it; it fails when COMMAND has failed
    by then. The streams of COMMAND are /dev/null. It ends when COMMAND does, or by `fakesysfs stop`.
    """
    from ..control import listen, listen_named
    from ..run.launch import launch, launch_detached

    def named(_: int, uid: int) -> tuple[socket.socket, str]:
        return listen_named(options["name"], uid)

    start = launch_detached if options["detach"] else launch
    return start(options["command"], lambda: options, named if options["name"] else listen)


@command(
    "exec",
    context_settings={**FORM, "allow_interspersed_args": False},
    cls=Epilog,
    epilog="""\
fakesysfs run -- sh -c 'fakesysfs exec -- lsmem'
fakesysfs run --detach --qmp /tmp/qmp -- sleep 60
fakesysfs exec --instance /tmp/qmp -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; lsmem'
fakesysfs stop --instance /tmp/qmp""",
)
@instance_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(instance: str | None, command: Sequence[str]) -> int:
    """Run one more command inside a running instance.

    COMMAND enters the namespaces of `fakesysfs run`. Its streams, terminal, signals and exit status
    work as usual. The instance continues when COMMAND ends, and so do processes that COMMAND left
    running; they are killed when the instance ends.
    """
    from ..control import environment, is_own
    from ..run.enter_instance import execute

    client = client_of(instance)
    namespaces = client.descriptors("namespaces")
    client.close()
    return execute(namespaces, command, environment(client.name), is_own)


@command(
    **examples("""\
fakesysfs run --detach --qmp /tmp/qmp
fakesysfs stop --instance /tmp/qmp""")
)
@instance_option
def stop(instance: str | None) -> None:
    """End a running instance.

    The command of the instance gets SIGTERM and, five seconds later, SIGKILL. Then the instance
    ends with all its processes and mounts.
    """
    client = client_of(instance)
    with suppress(InstanceError):  # it ended before it could say so
        client.call("stop")
    if not client.wait_end(END_SECONDS):
        raise InstanceError(f"instance {client.name} does not end")


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
        raise SystemExit(complain(e)) from None
