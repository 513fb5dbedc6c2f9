"""Commands that need no running instance: capture, presets, doctor, bench.

Owns: their options, help and output. Does not own what they find out (capture/, doctor.py, bench.py).
"""

from __future__ import annotations

from typing import Any

import click

from .options import command, examples, json_option, machine_options, print_json, print_wide


@command(
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
    help="Read a copy of another machine's /sys: a directory or a tar archive.",
)
@click.option("--arch", metavar="NAME", help="Set the architecture, if the copy does not name it.")
@click.option(
    "--kernel",
    metavar="VERSION",
    help="Behave like this kernel instead of the nearest one.",
)
def capture(source: str | None, arch: str | None, kernel: str | None) -> None:
    """Print a machine file for this host, or for a copy of another one.

    A machine made from the file has the same memory blocks in the same states; `lsmem` prints the
    same. The copy is a directory or a tar archive, with or without the leading `sys`. Values that
    the copy lacks are inferred; notes on standard error name them.
    """
    from ..capture.machine_file import capture as look

    found = look(source, arch=arch, kernel=kernel)
    click.echo(found.text, nl=False)
    for note in found.notes:
        click.echo(f"fakesysfs: note: {note}", err=True)


@command(
    **examples("""\
fakesysfs presets
fakesysfs presets --kernels""")
)
@click.option(
    "--kernels",
    is_flag=True,
    help="List the kernels that --kernel knows, with the number of recorded steps that agree.",
)
@json_option
def presets(kernels: bool, as_json: bool) -> None:
    """List predefined machines."""
    from rich.table import Table

    from ..config.option_sources import load_presets

    if kernels:
        _list_kernels(as_json)
        return
    if as_json:
        names = ("name", "title", "summary")
        print_json([{name: getattr(one, name) for name in names} for one in load_presets()])
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for preset in load_presets():
        table.add_row(preset.name, f"{preset.title}. {preset.summary}")
    print_wide(table)


def _list_kernels(as_json: bool) -> None:
    from ..config.profiles import list_kernels, load_agreements, load_kernel

    recorded = load_agreements()
    listed = []
    for name in list_kernels():
        rows = [row for row in recorded if row.kernel == name]
        steps, agree = (sum(getattr(row, what) for row in rows) for what in ("steps", "agree"))
        told = f"{agree} of {steps} recorded steps agree" if rows else "not recorded"
        arches = sorted({row.arch for row in rows} - {"x86_64"})
        told += f" (also {', '.join(arches)})" if arches else ""
        profile = load_kernel(name, "--kernel")
        listed.append(
            {
                "name": name,
                "release": profile["release"],
                "source": profile["source"],
                "recorded_steps": steps,
                "agreeing_steps": agree,
            }
        )
        if as_json:
            continue
        click.echo(f"{name:<6} {told:<48} {profile['source']}")
    if as_json:
        print_json(listed)


@command(**examples("fakesysfs doctor\nfakesysfs doctor --json"))
@json_option
def doctor(as_json: bool) -> int:
    """Check this host's requirements and say what to install.

    The exit status is 1 if `fakesysfs run` cannot work here.
    """
    from .doctor import examine

    works = True
    findings = list(examine())
    if as_json:
        print_json([finding._asdict() for finding in findings])
        faults = [finding for finding in findings if finding.good is False]
        return int(any(finding.what == "run" for finding in faults))
    for finding in findings:
        mark = {True: "ok", False: "FAULT", None: "note"}[finding.good]
        click.echo(f"{mark:<6} {finding.what:<12} {finding.how}")
        if finding.advice:
            click.echo(f"{'':<19} -> {finding.advice}")
        works = finding.good is not False if finding.what == "run" else works
    return 0 if works else 1


@command(
    **examples("""\
fakesysfs bench
fakesysfs bench --memory 64T""")
)
@machine_options
def bench(**options: Any) -> None:
    """Measure the speed and memory use of a machine on this host."""
    from ..config.machine_config import MachineConfig
    from ..config.machine_options import given_options
    from .bench import measure

    for figure in measure(MachineConfig.from_options(**given_options(options))):
        click.echo(f"{figure.what:<46} {figure.value:>10}   {figure.against}".rstrip())
