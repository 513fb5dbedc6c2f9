"""Commands that show what a running instance is and does: dmesg, events, trace, map.

Owns: their options, help and output. Does not own what there is to see (the engine).
"""

from __future__ import annotations

import json
import re
import time

import click

from .kernel_log import log_text
from .options import (
    client_of,
    command,
    examples,
    instance_option,
    json_option,
    print_json,
    print_wide,
)
from .trace_view import Operation, only_functions, operations, stacks


@command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs dmesg'""")
)
@instance_option
@click.option("-w", "--follow", is_flag=True, help="Print new lines as they come.")
def dmesg(instance: str | None, follow: bool) -> None:
    """Print the kernel log of a running instance."""
    client = client_of(instance)
    seen = 0
    while True:
        lines = client.call("dmesg", seen)
        seen += len(lines)
        click.echo(log_text(lines), nl=False)
        if not follow:
            return
        time.sleep(0.2)


@command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs events'""")
)
@instance_option
@click.option("-f", "--follow", is_flag=True, help="Print new events as they come.")
@click.option(
    "--since",
    type=int,
    default=0,
    metavar="N",
    help="Print only events with a number greater than N.",
)
def events(instance: str | None, follow: bool, since: int) -> None:
    """Print the events of a running instance as JSON.

    Each line is one object with these fields. seq: its number. time_us: the machine's clock, in
    microseconds. kind: uevent, store, state, ost, page, fault or virtio-mem. path, data and errno:
    what happened where. payload: the strings of a uevent. cause: the request, and pid and name
    (comm) of the process that made it, as seen inside the instance.
    """
    for event in client_of(instance).stream("events", since=since, follow=follow):
        print(json.dumps(event), flush=follow)


@command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs trace'
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs trace --last --grep add_memory'
fakesysfs run --kernel 5.0 -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs trace --stack __add_memory'""")
)
@instance_option
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Print new operations, each after it has ended.",
)
@click.option("--own", is_flag=True, help="Leave out functions that are not simulated.")
@click.option(
    "--grep",
    "pattern",
    metavar="REGEX",
    help="Print only functions whose name matches, with all that they called.",
)
@click.option("--last", is_flag=True, help="Print only the last operation that is left.")
@click.option(
    "--stack",
    metavar="FUNCTION",
    help="Print the calls that led to FUNCTION, innermost first.",
)
def trace(
    instance: str | None,
    follow: bool,
    own: bool,
    pattern: str | None,
    last: bool,
    stack: str | None,
) -> None:
    """Print the call graph of each operation.

    The format is that of the kernel's function_graph tracer. Each operation begins with a line that
    names it and its result: 0, a negative errno, or a code of ACPI. Times are of the machine's own
    clock, which moves with events and lines of the log. Functions that fakesysfs does not have are
    marked as not simulated: they are from a recorded call graph of this or the nearest kernel.
    """
    client = client_of(instance)
    chosen = None if pattern is None else _regex(pattern)
    if follow and (last or stack is not None):
        raise click.UsageError("--follow does not go with --last or --stack.")
    start, end = 0, client.call("trace end")
    text = client.call("trace", start, end, own)
    if chosen is None and not last and stack is None:
        click.echo(text, nl=False)
    else:
        click.echo(_selected(text, chosen, last, stack), nl=False)
    while follow:
        time.sleep(0.2)
        start, end = end, client.call("trace end")
        if end > start:
            text = client.call("trace", start, end, own)
            click.echo(text if chosen is None else _selected(text, chosen, False, None), nl=False)


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as e:
        raise click.UsageError(f"--grep {pattern}: not a regular expression: {e}") from e


def _selected(text: str, chosen: re.Pattern[str] | None, last: bool, stack: str | None) -> str:
    """What the filters leave of a trace.

    :raises ClickException: no operation called the function of `stack`.
    """
    found = operations(text)
    if chosen is not None:
        found = [kept for o in found if (kept := only_functions(o, chosen)).lines]
    if stack is not None:
        found = [
            Operation(
                o.title,
                [line for calls in s for line in ("Call Trace:", *(f" {call}" for call in calls))],
            )
            for o in found
            if (s := stacks(o, stack))
        ]
        if not found:
            raise click.ClickException(f"No traced operation called {stack}().")
    if last:
        found = found[-1:]
    return "".join(f"{line}\n" for o in found for line in (o.title, *o.lines))


@command(
    "map",
    **examples("""\
fakesysfs run -- fakesysfs map
fakesysfs run --machine two-dimms -- fakesysfs map"""),
)
@instance_option
@json_option
def map_(instance: str | None, as_json: bool) -> None:
    """Show physical memory as a picture.

    The picture shows the memory blocks of a running instance, their zones, and how much of each
    block is in use.
    """
    from .memory_map import Block, memory_map

    snapshot = client_of(instance).call("map")
    if as_json:
        blocks = [Block(*values)._asdict() for values in snapshot["blocks"]]
        print_json({**snapshot, "blocks": blocks})
    else:
        print_wide(memory_map(snapshot))
