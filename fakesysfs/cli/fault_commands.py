"""The command that makes things fail: fault, and what is below it.

Owns: its options, help and output. Does not own what a rule does (the engine).
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from .options import FORM, Group, client_of, examples, instance_option


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
    """Let files fail, hang or be missing, uevents stray, DIMMs stay.

    A rule is one of these, here or as --fault of a machine, or in the list `fault` of a machine
    file:

    \b
    open|read|write FILE ERRNO|delay TIME|hang [xN|always] [nth=N] [p=P]
    list DIRECTORY ERRNO [xN|always] [nth=N] [p=P]
    hide|vanish FILE
    uevent [ACTION] DEVICE drop|duplicate|reorder|delay TIME|early [TIME] [xN|always] [nth=N] [p=P]
    unplug DIMM never|refuse|stay|twice|delay TIME [xN|always] [nth=N] [p=P]

    FILE and DEVICE are patterns, relative to /sys/devices/system/memory or from / on; `*` also
    stands for a slash. ERRNO: a name or number; after delay TIME or hang, too. TIME: 2s, 250ms,
    1500us.

    nth: the first pass that counts; xN: so many times; p: each time with this probability, from the
    machine's seed. Without xN: once if there is nth, else always. A read is a pass when it makes
    the text, not when it goes on with it.

    hide: there is no such file. vanish: its directory names it, but it is gone when somebody looks.
    early: a block's files are not there until TIME after its uevent. hang: until `fault clear`, or
    a signal to the process.

    unplug: how the guest answers when the host wants a DIMM back, whose name there is a pattern as
    well: not at all; it refuses; it says that it has let go, and stays; it reports the outcome
    twice; it answers after TIME. A virtio-mem device of that name does not shrink, or after TIME.

    While a write waits, FUSE keeps other writers of that file waiting, too. Who opens it to write
    waits there, and a signal ends that; for who had it open before, nothing does but the end of the
    first write.

    To let the way of a block offline last, and not an access, there is --config STEP_DELAY_US=20000
    of a machine: it waits that long at each step, which is a pageblock of 2 MiB whose pages move,
    and a round of trying. Others go on meanwhile and read `going-offline`; a signal to the writer
    ends it.
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
    """Add a rule to a running instance, and print its number."""
    click.echo(client_of(instance).call("fault add", " ".join(rule)))


@fault.command(
    "list",
    **examples(
        """\
fakesysfs run --fault 'read memory5/state EIO p=0.5' -- sh -c 'lsmem > /dev/null; fakesysfs fault list'"""
    ),
)
@instance_option
def list_(instance: str | None) -> None:
    """List the rules of a running instance.

    With the passes on which each fired, of those it saw, and the accesses that it keeps waiting
    now.
    """
    rules = client_of(instance).call("fault list")
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
    """Forget rules of a running instance: these, or all.

    Accesses that they keep waiting go on, and files that they hide are back.
    """
    client = client_of(instance)
    for number in numbers or (0,):
        client.call("fault clear", number)
