"""Commands that show what a running instance is and does: dmesg, events, trace, map.

Owns: their options, help and output. Does not own what there is to see (the engine).
"""

from __future__ import annotations

import json
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
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs trace'""")
)
@instance_option
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Print new operations, each after it has ended.",
)
def trace(instance: str | None, follow: bool) -> None:
    """Print the call graph of each operation.

    The format is that of the kernel's function_graph tracer.
    """
    client = client_of(instance)
    if not follow:
        click.echo(client.call("trace"), nl=False)
        return
    start = 0
    while True:
        end = client.call("trace end")
        if end > start:
            click.echo(client.call("trace", start, end), nl=False)
            start = end
        time.sleep(0.2)


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
