"""Waiting for a condition of a running instance, and asserting it: the commands `wait` and `expect`.

Owns: their options, exit statuses and messages. Does not own the words of conditions
(testing/conditions.py), nor how they are watched (testing/watching.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import InstanceError
from .options import command, examples, instance_option

if TYPE_CHECKING:
    from ..testing.conditions import Condition, Finding
    from ..testing.watching import Since

NOT_SO, WRONG = 1, 2  # exit statuses

since_option = click.option(
    "--since",
    type=int,
    default=0,
    metavar="N",
    help="Count only uevents whose event has a number greater than N. [0]",
)
conditions_argument = click.argument("conditions", nargs=-1, required=True, metavar="CONDITION...")


@command(
    **examples(
        """\
fakesysfs run --machine two-dimms -- sh -c 'echo online > /sys/devices/system/memory/memory32/state & fakesysfs wait "memory32/state = online"'
fakesysfs run -- sh -c '(sleep 0.2; fakesysfs monitor "object_add memory-backend-ram,id=m,size=1G" "device_add pc-dimm,id=d,memdev=m") & fakesysfs wait --timeout 10s "blocks = 16" "uevent add memory39"; wait'"""
    )
)
@instance_option
@click.option(
    "--timeout",
    default="30s",
    metavar="TIME",
    help="Give up after this time: 5s, 250ms, 2m. [30s]",
)
@since_option
@conditions_argument
def wait(instance: str | None, timeout: str, since: int, conditions: Sequence[str]) -> int:
    """Wait until conditions hold in a running instance.

    All of them have to hold at the same time. Give each as one word, in quotes:

    \b
    memory32/state = online        content of a file; also != < <= > >=, ~ and !~ for a regex
    memory*/state = online         of every memory block with such a name
    memory32 exists                or: memory32 missing
    blocks = 16                    number of memory blocks; blocks online >= 8: those in a state
    uevent online memory32         a uevent; the device may be a pattern; = 2: so many
    qmp DEVICE_DELETED device=d0   an event of the QEMU monitor, with this data
    log unmovable page             a line of the kernel log, by a regex
    no uevent remove memory*       none of these; also no qmp ..., no log ...

    A file is relative to /sys/devices/system/memory or begins with /. What happened before the
    command started counts, too; --since leaves older uevents out.

    The exit status is 0 when the conditions hold, 1 when they do not within the time, and 2 when a
    condition cannot be read or there is no instance.
    """
    from ..control import Client, connect
    from ..testing import conditions as words
    from ..testing import watching

    seconds = words.parse_seconds(timeout)
    parsed = _parsed(conditions)
    try:
        client = connect(instance)
        client.close()
        wrong = watching.wait(lambda: Client(client.name), parsed, seconds, _since(since))
    except InstanceError as e:
        e.exit_status = WRONG
        raise
    return _told(wrong, f"not within {timeout}: ")


@command(
    **examples(
        """\
fakesysfs run -- fakesysfs expect 'blocks = 8' 'memory*/state = online' 'no log error'
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs expect "uevent add memory32 = 1" "blocks offline = 1"'"""
    )
)
@instance_option
@since_option
@conditions_argument
def expect(instance: str | None, since: int, conditions: Sequence[str]) -> int:
    """Check that conditions hold in a running instance now.

    Conditions are written as for `fakesysfs wait`. Each that does not hold is a line on standard
    error, which says what is the case instead.

    The exit status is 0 when all hold, 1 when one does not, and 2 when a condition cannot be read
    or there is no instance.
    """
    from ..control import connect
    from ..testing import watching

    parsed = _parsed(conditions)
    try:
        client = connect(instance)
        wrong = watching.expect(watching.Watched(client, _since(since)), parsed)
    except InstanceError as e:
        e.exit_status = WRONG
        raise
    client.close()
    return _told(wrong, "")


def _parsed(conditions: Sequence[str]) -> list[Condition]:
    from ..testing.conditions import parse

    return [parse(text) for text in conditions]


def _since(event: int) -> Since:
    from ..testing.watching import Since

    return Since(event)


def _told(wrong: Sequence[Finding], before: str) -> int:
    """Say what is wrong, a line each. Returns the exit status."""
    from ..errors import printable

    for finding in wrong:
        print(f"fakesysfs: {before}{printable(finding.text)}", file=sys.stderr)
    return NOT_SO if wrong else 0
