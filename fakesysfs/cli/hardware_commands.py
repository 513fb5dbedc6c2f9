"""Commands that change the machine of a running instance: monitor, load, page.

Owns: their options, help and output. Does not own what they do (qemu/, the engine).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import click

from .options import client_of, command, examples, instance_option, json_option, print_json


@command(
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
    help="Read lines from a file (-: standard input); # begins a comment.",
)
@click.argument("lines", nargs=-1, metavar="[LINE]...")
def monitor(instance: str | None, script: TextIO | None, lines: Sequence[str]) -> int:
    """Send commands to the QEMU monitor of a running instance.

    Each LINE is one command; quote it. Without LINE there is a prompt with history and completion
    on a terminal, and lines are read from standard input otherwise. The exit status is 1 when the
    monitor refused a command.
    """
    if lines and script is not None:
        raise click.UsageError("lines come from --script or stand behind it, not both")
    client = client_of(instance)
    if not lines and script is None and sys.stdin.isatty():
        from .monitor_prompt import converse

        converse(client)
        return 0
    failed = False
    for line in lines or _script_lines(script or open(0, errors="replace", closefd=False)):  # noqa: SIM115
        text, refused = client.call("monitor", line)
        click.echo(text, nl=False)
        failed |= refused
    if failed and len(lines) > 1 and not any(" " in line for line in lines):
        words = shlex.quote(" ".join(lines))
        click.echo(
            f"Each word is a line of its own here. In quotes: fakesysfs monitor {words}", err=True
        )
    return int(failed)


def _script_lines(file: TextIO) -> Iterator[str]:
    for line in file:
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.rstrip("\n")


@command(
    **examples(
        """\
fakesysfs run -- fakesysfs load anon=+64M slab=+4M
fakesysfs run -- sh -c 'fakesysfs load pinned=+4K --block 3; fakesysfs load pinned=-4K; fakesysfs load'"""
    )
)
@instance_option
@click.option("--block", type=int, metavar="N", help="Allocate from this memory block only.")
@click.option(
    "--zone", metavar="NAME", help="Allocate from this zone only: DMA, DMA32, Normal, Movable."
)
@click.option("--node", type=int, metavar="N", help="Allocate or free on this node only.")
@json_option
@click.argument("changes", nargs=-1, metavar="[KIND=+SIZE|KIND=-SIZE]...")
def load(
    instance: str | None,
    block: int | None,
    zone: str | None,
    node: int | None,
    as_json: bool,
    changes: Sequence[str],
) -> None:
    """Allocate or free memory in a running instance.

    Kinds: anon file shmem slab slab_reclaimable pagetables kernel hugetlb pinned offline. A change is
    all-or-nothing: with too little memory nothing is allocated. Without a change the command prints
    how much memory each kind uses. With --json all numbers are bytes.
    """
    client = client_of(instance)
    done = []
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
        done.append({"kind": kind, "bytes": got if size[0] == "+" else -got})
        if not as_json:
            click.echo(f"{kind} {size[0]}{got // 1024} kB")
    if changes and as_json:
        print_json(done)
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
        meminfo = client.call("read", "/proc/meminfo").splitlines()
        found = {line.partition(":")[0]: line for line in meminfo}
        if as_json:
            huge = int(found["Hugepagesize"].split()[1]) if "Hugepagesize" in found else 0
            numbers = {name: int(found[name].split()[1]) for name in wanted if name in found}
            factors = {"HugePages_Total": huge}
            print_json({name: n * factors.get(name, 1) * 1024 for name, n in numbers.items()})
        else:
            for line in meminfo:
                if line.partition(":")[0] in wanted:
                    click.echo(line)


@command(
    **examples("""\
fakesysfs run -- fakesysfs page 0x8000
fakesysfs run -- sh -c 'fakesysfs load anon=+4K --block 3; fakesysfs page 0x18000 --pin'""")
)
@instance_option
@click.option("--pin", "act", flag_value="pin", help="Take a reference: the page cannot migrate.")
@click.option("--unpin", "act", flag_value="unpin", help="Drop one reference.")
@click.option("--free", "act", flag_value="free", help="Free the page.")
@json_option
@click.argument("pfn")
def page(instance: str | None, act: str | None, as_json: bool, pfn: str) -> None:
    """Describe one page, by its page frame number."""
    try:
        number = int(pfn, 0)
    except ValueError:
        raise click.UsageError(
            f"'{pfn}' is no page frame number; write one like 0x10800e"
        ) from None
    client = client_of(instance)
    if act == "free":
        client.call("free_page", number)
    elif act is not None:
        client.call("pin", number, 1 if act == "pin" else -1)
    about = client.call("page", number)
    if as_json:
        print_json({**about, "fate": _fate(about)})
        return
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
