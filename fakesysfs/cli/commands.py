"""The command line: parse, call, print.

Owns: commands, options and their help, what is printed, exit statuses. Does not own what a command
does. Options of a machine are the same for every command that makes one. Every --help ends with
examples that run as they stand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..errors import FakesysfsError
from .options import (
    Epilog,
    Group,
    examples,
    instance_option,
    machine_options,
    monitor_options,
    verbose_option,
)

if TYPE_CHECKING:
    from ..control import Client

END_SECONDS = 15.0


# ----------------------------------------------------------------------------------------- commands


@click.group(cls=Group, context_settings={"max_content_width": 100})
@click.version_option(package_name="fakesysfs")
def main() -> None:
    """Linux memory hotplug without the hardware: a machine with DIMMs to plug, behind the real /sys
    and /proc.
    """


@main.command(
    **examples("""\
fakesysfs demo
fakesysfs demo --pause""")
)
@click.option("--pause", is_flag=True, help="Wait for the Enter key before each step.")
def demo(pause: bool) -> int:
    """Walk through a hotplug, on a machine of its own.

    A DIMM is plugged, its memory used, the DIMM unplugged: each command is shown, run, and
    explained in a line.
    """
    from .demo import command

    return (
        run.main(args=["--", *command(pause)], standalone_mode=False, prog_name="fakesysfs run")
        or 0
    )


@main.command(
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
    """Serve a machine's files below DIRECTORY.

    They are DIRECTORY/sys/... and DIRECTORY/proc/..., and this returns when they are there. There
    are no uevents; `fakesysfs run` has them.
    """
    from ..instance import serve, serve_in_background
    from ..mount import preflight

    preflight(directory)
    if foreground:
        serve(directory, options, lambda: None)
    else:
        serve_in_background(directory, options)


@main.command(
    **examples("""\
mkdir -p /tmp/machine
fakesysfs mount /tmp/machine
fakesysfs umount /tmp/machine""")
)
@click.argument("directory", type=click.Path())
def umount(directory: str) -> None:
    """Unmount DIRECTORY, and end the process behind it."""
    from ..instance import unmount

    unmount(directory)


def _some_command(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> tuple[str, ...]:
    if not words and not context.params.get("detach"):
        raise click.MissingParameter(ctx=context, param=parameter)
    return words


@main.command(
    context_settings={"allow_interspersed_args": False, "max_content_width": 100},
    cls=Epilog,
    epilog="""\
fakesysfs run -- lsmem
fakesysfs run --memory 2G,slots=4,maxmem=8G -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; lsmem'
fakesysfs run -- sh -c 'fakesysfs monitor "object_add memory-backend-ram,id=m0,size=1G"; fakesysfs dmesg'
fakesysfs run --detach --qmp /tmp/qmp && fakesysfs exec --instance /tmp/qmp -- lsmem && fakesysfs stop --instance /tmp/qmp""",
)
@machine_options
@monitor_options
@click.option(
    "--udev",
    is_flag=True,
    help="Start a systemd-udevd of its own, with the rules given and no others.",
)
@click.option(
    "--rules",
    multiple=True,
    metavar="DIR|FILE|host",
    help="Rules for --udev; host: this host's. Repeat.",
)
@click.option(
    "--net",
    type=click.Choice(["own", "host"]),
    default="own",
    help="host: no uevents, but a network. [own]",
)
@click.option(
    "--root/--keep-uid",
    "root",
    default=True,
    help="Who COMMAND is when an ordinary user runs it; see above. [--root]",
)
@click.option(
    "--bind-root", "bind_roots", multiple=True, type=click.Path(), metavar="DIR",
    help="Show the files in DIR/sys and DIR/proc, too: for chroot DIR. Repeat.",
)  # fmt: skip
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    is_eager=True,
    help="Stay in the background; COMMAND may be left out.",
)
@verbose_option
@click.argument(
    "command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...", callback=_some_command
)
def run(**options: Any) -> int:
    """Run COMMAND with the machine at the real paths.

    In its namespaces /sys/devices/system/memory and its neighbours are the machine's, and uevents
    arrive on the real socket. Nothing outlives it. The exit status is the command's, or 128+N when
    signal N ended it.

    Run by an ordinary user, COMMAND is root of a user namespace, so that what asks for root is
    content; outside it still is that user. With --keep-uid it is that user inside, too, without
    capabilities. Either may write to files of mode 0644: they belong to it.

    With -d it returns when COMMAND has been started, and says how to enter the instance and how to
    end it. The streams of COMMAND are /dev/null. It ends when COMMAND does, or by `fakesysfs stop`.
    """
    from ..control import listen
    from ..run.launch import launch, launch_detached

    start = launch_detached if options["detach"] else launch
    return start(options["command"], lambda: options, listen)


@main.command(
    "exec",
    context_settings={"allow_interspersed_args": False, "max_content_width": 100},
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

    It is where the command of `fakesysfs run` is, and behaves as if it had been started there:
    streams, terminal, signals, exit status. The instance goes on when it ends, and so does what it
    leaves running in there; when the instance ends, all are killed.
    """
    from ..control import environment, is_own
    from ..run.enter_instance import execute

    client = _client(instance)
    namespaces = client.descriptors("namespaces")
    client.close()
    return execute(namespaces, command, environment(client.name), is_own)


@main.command(
    **examples("""\
fakesysfs run --detach --qmp /tmp/qmp
fakesysfs stop --instance /tmp/qmp""")
)
@instance_option
def stop(instance: str | None) -> None:
    """End a running instance.

    Its command gets SIGTERM, and is killed when it has not ended after five seconds; then
    everything goes.
    """
    from contextlib import suppress

    from ..errors import InstanceError

    client = _client(instance)
    with suppress(InstanceError):  # it ended before it could say so
        client.call("stop")
    if not client.wait_end(END_SECONDS):
        raise InstanceError(f"instance {client.name} does not end")


@main.command(
    **examples(
        """\
fakesysfs run -- fakesysfs monitor 'info memory_size_summary'
fakesysfs run -- fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=1G' 'device_add pc-dimm,id=d0,memdev=m0'
printf '%s\\n' '# two lines' 'info status' 'info memdev' | fakesysfs run -- fakesysfs monitor --script -"""
    )
)
@instance_option
@click.option(
    "--script",
    type=click.File(errors="replace"),
    help="Carry out a file's lines (-: stdin's); # begins a comment.",
)
@click.argument("lines", nargs=-1, metavar="[LINE]...")
def monitor(instance: str | None, script: TextIO | None, lines: Sequence[str]) -> int:
    """Speak to the QEMU monitor of a running instance.

    On a terminal there is a prompt with history and completion; otherwise the lines of stdin are
    carried out. Or the given lines are: give each as one word, in quotes. The exit status is 1 when
    the monitor refused one of them.
    """
    if lines and script is not None:
        raise click.UsageError("lines come from --script or stand behind it, not both")
    client = _client(instance)
    if not lines and script is None and sys.stdin.isatty():
        from .monitor_prompt import converse

        converse(client)
        return 0
    failed = False
    for line in lines or _script_lines(script or open(0, errors="replace", closefd=False)):  # noqa: SIM115
        text, refused = client.call("monitor", line)
        click.echo(text, nl=False)
        failed |= refused
    return int(failed)


def _script_lines(file: TextIO) -> Iterator[str]:
    for line in file:
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.rstrip("\n")


@main.command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs dmesg'""")
)
@instance_option
@click.option("-w", "--follow", is_flag=True, help="Go on with the lines that come.")
def dmesg(instance: str | None, follow: bool) -> None:
    """Print the kernel log of a running instance."""
    import time

    client = _client(instance)
    seen = 0
    while True:
        lines = client.call("dmesg", seen)
        seen += len(lines)
        click.echo("".join(f"{line}\n" for line in dmesg_lines(lines)), nl=False)
        if not follow:
            return
        time.sleep(0.2)


def dmesg_lines(lines: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Lines of a kernel log, from what the control request "dmesg" gives."""
    for time_us, text in lines:
        yield f"[{time_us // 1000000:5d}.{time_us % 1000000:06d}] {text}"


@main.command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs events'""")
)
@instance_option
@click.option("-f", "--follow", is_flag=True, help="Go on with the events that come.")
@click.option(
    "--since", type=int, default=0, metavar="N", help="Only events with a number greater than N."
)
def events(instance: str | None, follow: bool, since: int) -> None:
    """Print the events of a running instance as JSON.

    One object a line. seq: its number; time_us: the machine's clock, in microseconds; kind: uevent,
    store, state, ost, page, fault or virtio-mem; path; data; errno; payload: the strings of a
    uevent; cause: what was asked for, the pid and the name (comm) of the process that asked, as
    seen in the run.
    """
    import json

    for event in _client(instance).stream("events", since=since, follow=follow):
        print(json.dumps(event), flush=follow)


@main.command(
    **examples("""\
fakesysfs run -- sh -c 'echo 0x100000000 > /sys/devices/system/memory/probe; fakesysfs trace'""")
)
@instance_option
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on with the operations that come, each when it is over.",
)
def trace(instance: str | None, follow: bool) -> None:
    """Print the call graph of each operation.

    It looks as the kernel's function_graph tracer prints it.
    """
    import time

    client = _client(instance)
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


@main.command(
    **examples(
        """\
fakesysfs run -- fakesysfs load anon=+64M slab=+4M
fakesysfs run -- sh -c 'fakesysfs load pinned=+4K --block 3; fakesysfs load pinned=-4K; fakesysfs load'"""
    )
)
@instance_option
@click.option("--block", type=int, metavar="N", help="Take it from this memory block only.")
@click.option(
    "--zone", metavar="NAME", help="Take it from this zone only: DMA, DMA32, Normal, Movable."
)
@click.option(
    "--node", type=int, metavar="N", help="Take it from, or give it back on, this node only."
)
@click.argument("changes", nargs=-1, metavar="[KIND=+SIZE|KIND=-SIZE]...")
def load(
    instance: str | None,
    block: int | None,
    zone: str | None,
    node: int | None,
    changes: Sequence[str],
) -> None:
    """Let something take memory of a running instance, or give it back.

    Kinds: anon file shmem slab slab_reclaimable pagetables kernel hugetlb pinned offline. Without a
    change: who has how much now. All of a change is done or, when there is too little memory,
    nothing of it.
    """
    client = _client(instance)
    for change in changes:
        kind, _, size = change.partition("=")
        if size[:1] == "+":
            got = client.call("allocate", kind, size[1:], zone=zone, node=node, block=block)
        elif size[:1] == "-" and block is None and zone is None:
            got = client.call("free", kind, size[1:], node=node)
        elif size[:1] == "-":
            raise click.UsageError(
                "what is given back is what was taken last: --block and --zone do not go with it"
            )
        else:
            raise click.UsageError(
                f"'{change}' is no change: write KIND=+SIZE or KIND=-SIZE, like anon=+64M"
            )
        click.echo(f"{kind} {size[0]}{got // 1024} kB")
    if not changes:
        wanted = (
            "MemFree",
            "Cached",
            "Shmem",
            "AnonPages",
            "Slab",
            "KernelStack",
            "PageTables",
            "HugePages_Total",
        )
        for line in client.call("read", "/proc/meminfo").splitlines():
            if line.partition(":")[0] in wanted:
                click.echo(line)


@main.command(
    **examples("""\
fakesysfs run -- fakesysfs page 0x8000
fakesysfs run -- sh -c 'fakesysfs load anon=+4K --block 3; fakesysfs page 0x18000 --pin'""")
)
@instance_option
@click.option("--pin", "act", flag_value="pin", help="Hold a reference to it: it cannot migrate.")
@click.option("--unpin", "act", flag_value="unpin", help="Let go of one.")
@click.option("--free", "act", flag_value="free", help="Its holder gives it back.")
@click.argument("pfn")
def page(instance: str | None, act: str | None, pfn: str) -> None:
    """Tell all about one page, by its page frame number."""
    try:
        number = int(pfn, 0)
    except ValueError:
        raise click.UsageError(
            f"'{pfn}' is no page frame number; write one like 0x10800e"
        ) from None
    client = _client(instance)
    if act == "free":
        client.call("free_page", number)
    elif act is not None:
        client.call("pin", number, 1 if act == "pin" else -1)
    about = client.call("page", number)
    size = 1 << about["order"]
    whole = "a free chunk" if about["kind"] == "free" else "a folio"
    part = (
        f"page {number - about['head_pfn']} of {whole} of {size} from 0x{about['head_pfn']:x}"
        if size > 1
        else "alone"
    )
    click.echo(f"pfn 0x{number:x}: {about['kind']}, {part}")
    click.echo(
        f"  memory{about['block_id']}, {'online' if about['online'] else 'offline'}, node"
        f" {about['nid']}"
    )
    click.echo(f"  zone {about['zone']}, pageblock {about['migratetype']}, pins {about['pins']}")
    click.echo(f"  {_fate(about)}")


def _fate(about: dict[str, Any]) -> str:
    """What becomes of a page when its block is to go offline."""
    if not about["online"]:
        return "its block is offline: nobody can use it"
    if about["pins"]:
        return "it is pinned: going offline waits for it until a signal comes"
    fates = {
        "free": "it is free: taken off the free lists when its block goes offline",
        "reserved": "it is reserved since boot: its block cannot go offline (EBUSY)",
        "hole": "there is no RAM here: its block cannot go offline (EINVAL)",
        "poisoned": "it is out of use after a memory failure: skipped when its block goes offline",
        "own memmap": "it holds the memmap of its own block: goes with it",
        "hugetlb": "it is a free huge page: dissolved when its block goes offline",
        "offline": "a balloon holds it: its block cannot go offline (EBUSY)",
    }
    movable = about["kind"] in ("anon", "file", "shmem")
    default = (
        "it can move: migrated when its block goes offline"
        if movable
        else (
            "it cannot move: its block cannot go offline (EBUSY)"
            if about["zone"] != "Movable"
            else (
                "it cannot move, and is in Movable: going offline waits for it until a signal comes"
            )
        )
    )
    return fates.get(about["kind"], default)


@main.group(
    cls=Group,
    context_settings={"max_content_width": 100},
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
    click.echo(_client(instance).call("fault add", " ".join(rule)))


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
    rules = _client(instance).call("fault list")
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
    client = _client(instance)
    for number in numbers or (0,):
        client.call("fault clear", number)


@main.command(
    "map",
    **examples("""\
fakesysfs run -- fakesysfs map
fakesysfs run --machine two-dimms -- fakesysfs map"""),
)
@instance_option
def map_(instance: str | None) -> None:
    """Show physical memory as a picture.

    The blocks of a running instance, their zones, and how much of each is in use.
    """
    from .memory_map import memory_map

    _print(memory_map(_client(instance).call("map")))


@main.command(
    **examples(
        """\
fakesysfs capture > /tmp/here.toml
fakesysfs run --machine /tmp/here.toml -- lsmem
mkdir -p /tmp/copy; cp -r --parents /sys/devices/system/memory /tmp/copy 2> /dev/null; fakesysfs capture --from /tmp/copy"""
    )
)
@click.option(
    "--from",
    "source",
    type=click.Path(),
    metavar="DIR|TAR",
    help="A copy of another machine's /sys.",
)
@click.option("--arch", metavar="NAME", help="Its architecture, if the copy does not tell.")
@click.option(
    "--kernel",
    metavar="VERSION",
    help="The kernel to behave like, instead of the nearest to its own.",
)
def capture(source: str | None, arch: str | None, kernel: str | None) -> None:
    """Print a machine file of this host, or of a copy.

    A machine made from it has the same memory blocks in the same states; `lsmem` prints the same.
    The copy is a directory, or an archive of tar, with or without the leading `sys`. What it lacks
    is inferred, and it is said what.
    """
    from ..capture.machine_file import capture as look

    found = look(source, arch=arch, kernel=kernel)
    click.echo(found.text, nl=False)
    for note in found.notes:
        click.echo(f"fakesysfs: note: {note}", err=True)


@main.command(
    **examples("""\
fakesysfs presets
fakesysfs presets --kernels""")
)
@click.option(
    "--kernels",
    is_flag=True,
    help="The kernels that --kernel knows, and the source each was made from.",
)
def presets(kernels: bool) -> None:
    """List the machines that have a name."""
    from rich.table import Table

    from ..config.option_sources import load_presets
    from ..config.profiles import list_kernels, load_kernel

    if kernels:
        for name in list_kernels():
            click.echo(f"{name:<6} {load_kernel(name, '--kernel')['source']}")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for preset in load_presets():
        table.add_row(preset.name, f"{preset.title}. {preset.summary}")
    _print(table)


@main.command(**examples("fakesysfs doctor"))
def doctor() -> int:
    """Say what this host lacks, and what to do.

    The exit status is 1 if `fakesysfs run` cannot work here.
    """
    from .doctor import examine

    works = True
    for finding in examine():
        mark = {True: "ok", False: "FAULT", None: "note"}[finding.good]
        click.echo(f"{mark:<6} {finding.what:<12} {finding.how}")
        if finding.advice:
            click.echo(f"{'':<19} -> {finding.advice}")
        works = finding.good is not False if finding.what == "run" else works
    return 0 if works else 1


@main.command(
    **examples("""\
fakesysfs bench
fakesysfs bench --memory 64T""")
)
@machine_options
def bench(**options: Any) -> None:
    """Say how fast a machine is on this host, and what memory it takes."""
    from ..config.machine_config import MachineConfig
    from ..instance import MACHINE_KEYS
    from .bench import measure

    given = {key: options[key] for key in MACHINE_KEYS if options.get(key) not in (None, (), [])}
    for figure in measure(MachineConfig.from_options(**given)):
        click.echo(f"{figure.what:<46} {figure.value:>10}   {figure.against}".rstrip())


# --------------------------------------------------------------------------------------- below them


def _client(instance: str | None) -> Client:
    from ..control import connect

    return connect(instance)


def _print(what: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    # Not a terminal: nobody knows how wide it is, and nothing is to be cut.
    if not sys.stdout.isatty():
        console.width = 200
    console.print(what)


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
        raise SystemExit(_complain(e)) from None


def run_command_line(arguments: Sequence[str]) -> int:
    """Carry out `arguments` and return the exit status."""
    try:
        result = main.main(
            args=list(arguments) or ["--help"], prog_name="fakesysfs", standalone_mode=False
        )
    except click.ClickException as e:
        return _complain(e)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as e:
        if isinstance(e, BrokenPipeError):
            raise
        raise FakesysfsError(
            f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror}"
        ) from e
    return result if isinstance(result, int) else 0


def _complain(e: click.ClickException) -> int:
    """Say in one line what is wrong with the command line."""
    context = getattr(e, "ctx", None)
    where = context.command_path if context is not None else "fakesysfs"
    click.echo(f"fakesysfs: {e.format_message().rstrip('.')}; see `{where} --help`", err=True)
    return e.exit_code
