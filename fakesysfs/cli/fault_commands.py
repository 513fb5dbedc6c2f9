"""The command that makes things fail: fault, and what is below it.

Owns: its options, help and output. Does not own what a rule does (the engine).
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from .options import FORM, Group, client_of, examples, instance_option, json_option, print_json


@click.group(
    cls=Group,
    context_settings=FORM,
    no_args_is_help=False,
    epilog="""\
fakesysfs run --fault 'read memory5/* delay 100ms' --fault 'hide memory6' -- lsmem
fakesysfs run -- sh -c 'fakesysfs fault add read memory7/state delay 300ms; lsmem; fakesysfs fault list'
fakesysfs run --fault 'unplug d0 refuse x1' -- fakesysfs monitor 'info memory-devices'""",
)
def fault() -> None:
    """Inject failures into files, uevents and unplug requests.

    A rule has one of these forms. It can be given here, as option --fault, or in the list `fault`
    of a machine file:

    \b
    open|read|write FILE ERRNO|delay TIME|hang [xN|always] [nth=N] [p=P]
    list DIRECTORY ERRNO [xN|always] [nth=N] [p=P]
    hide|vanish FILE
    uevent [ACTION] DEVICE drop|duplicate|reorder|delay TIME|early [TIME] [xN|always] [nth=N] [p=P]
    unplug DIMM never|refuse|stay|twice|delay TIME [xN|always] [nth=N] [p=P]

    FILE and DEVICE are patterns. They are relative to /sys/devices/system/memory or begin with /;
    `*` also matches a slash. ERRNO is a name or a number; it may also follow `delay TIME` and
    `hang`. TIME is 2s, 250ms or 1500us.

    nth=N: the rule fires from the Nth access on. xN: it fires N times. p=P: it fires with this
    probability, drawn with the machine's seed. Without xN a rule fires once if it has nth, else
    always. A read counts when it produces the text, not when it continues to read that text.

    hide: the file does not exist. vanish: its directory lists it, but opening it fails. early: the
    files of a block appear TIME after its uevent. hang: the access waits until `fault clear` or
    until a signal arrives.

    unplug: how the guest answers an unplug request for DIMM, a pattern of names. never: it does not
    answer. refuse: it refuses. stay: it reports success but keeps the DIMM. twice: it reports the
    outcome twice. delay: it answers after TIME. For a virtio-mem device, never means that the
    device does not shrink, and delay that it shrinks after TIME.

    While a write waits, other writers of the same file wait too. A signal ends the wait of a
    process that opens the file, but not of one that had it open before.

    To slow down going offline instead of one access, use `--config STEP_DELAY_US=20000`. The kernel
    then waits that long after each pageblock it has emptied and after each retry. Meanwhile other
    readers see `going-offline`, and a signal to the writer ends the operation.
    """


@fault.command(
    **examples(
        """\
fakesysfs run -- sh -c 'fakesysfs fault add write memory5/state EBUSY always; fakesysfs fault list'"""
    )
)
@instance_option
@click.argument("rule", nargs=-1, required=True)
def add(instance: str | None, rule: Sequence[str]) -> None:
    """Add a rule to a running instance and print its number."""
    click.echo(client_of(instance).call("fault add", " ".join(rule)))


@fault.command(
    "list",
    **examples(
        """\
fakesysfs run --fault 'read memory5/state EIO p=0.5' -- sh -c 'lsmem > /dev/null; fakesysfs fault list'"""
    ),
)
@instance_option
@json_option
def list_(instance: str | None, as_json: bool) -> None:
    """List the rules of a running instance.

    Each line shows how often the rule fired, how many accesses it matched, and how many wait now.
    """
    rules = client_of(instance).call("fault list")
    if as_json:
        names = ("number", "rule", "matched", "fired", "waiting")
        print_json([dict(zip(names, rule, strict=True)) for rule in rules])
        return
    width = max((len(rule) for _, rule, *_ in rules), default=0)
    for number, rule, matched, fired, waiting in rules:
        held = f", {waiting} waiting" if waiting else ""
        click.echo(f"{number:>3}  {rule:<{width}}  {fired} of {matched}{held}")


@fault.command(
    **examples("""\
fakesysfs run --fault 'hide memory5' -- sh -c 'lsmem; fakesysfs fault clear; lsmem'
fakesysfs run -- sh -c 'n=$(fakesysfs fault add hide memory5); fakesysfs fault clear $n'""")
)
@instance_option
@click.argument("numbers", nargs=-1, type=click.IntRange(min=1), metavar="[N]...")
def clear(instance: str | None, numbers: Sequence[int]) -> None:
    """Remove rules from a running instance: the given ones, or all.

    Accesses that wait continue, and hidden files are visible again.
    """
    client = client_of(instance)
    for number in numbers or (0,):
        client.call("fault clear", number)
