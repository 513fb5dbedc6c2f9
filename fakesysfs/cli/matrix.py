"""The command `matrix`: run one command with many kernels and machines.

Owns: its options, help, output and exit status. Does not own: how cells are run (matrix_cells.py),
the form of what is shown and written (matrix_report.py).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    FORM,
    Duration,
    Epilog,
    command,
    json_option,
    machine_options,
    print_json,
    print_wide,
)

if TYPE_CHECKING:
    from .matrix_cells import Outcome, Runner


@command(
    context_settings={**FORM, "allow_interspersed_args": False},
    cls=Epilog,
    epilog="""\
fakesysfs matrix --kernels 5.10,6.12 --machines biscuitos,numa4 -- lsmem
fakesysfs matrix --kernels 6.1 --machines two-dimms --junit /tmp/results.xml -- sh -c 'echo "$FAKESYSFS_KERNEL $FAKESYSFS_MACHINE"; chmem -e 128M'""",
)
@click.option(
    "--kernels",
    default="all",
    metavar="LIST|all",
    help="Kernels, with commas between them: `fakesysfs presets --kernels`. [all]",
)
@click.option(
    "--machines",
    multiple=True,
    required=True,
    metavar="LIST|all",
    help="Presets and machine files, with commas between them; repeat.",
)
@machine_options
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run N cells at once. [number of CPUs]",
)
@click.option(
    "--timeout",
    type=Duration(),
    default="60s",
    metavar="TIME",
    help="End a cell after this time, first by SIGTERM: 30s, 5m. [60s]",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the results as JUnit XML.",
)
@click.option(
    "--keep-logs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the output of each cell, as DIR/KERNEL-MACHINE.log.",
)
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def matrix(
    command: Sequence[str],
    kernels: str,
    machines: Sequence[str],
    jobs: int | None,
    timeout: float,
    junit: Path | None,
    keep_logs: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run COMMAND once for each kernel and machine.

    Each cell of the matrix is a `fakesysfs run` of its own, several at once. In COMMAND's
    environment, FAKESYSFS_KERNEL and FAKESYSFS_MACHINE say which cell it is. Standard input is
    empty. A table of all results is printed at the end, after the last lines of each cell that
    failed. The other options of the machine hold for every cell.

    A cell is skipped when this kernel cannot have this machine. A cell that takes longer than
    --timeout gets SIGTERM, and SIGKILL five seconds later. Ctrl-C ends all cells in the same way;
    a second one kills them.

    The exit status is 0 when every cell that was not skipped has passed, and at least one has. It
    is 1 when one has not, 2 when an option is wrong, and 128+N when signal N ended the matrix.
    """
    from ..config.machine_options import given_options
    from ..mount import preflight
    from .matrix_cells import Runner, plan
    from .matrix_report import ProgressDisplay, write_junit

    given = {k: list(v) if isinstance(v, tuple) else v for k, v in given_options(options).items()}
    cells = plan(kernels, machines, given)
    preflight()
    at_once = min(jobs or len(os.sched_getaffinity(0)), len(cells))
    for directory in (keep_logs, junit and junit.absolute().parent):
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        logs = keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        begun = time.monotonic()
        with ProgressDisplay(len(cells)) as progress:
            runner = Runner(command, given, at_once, timeout, logs, progress.change)
            outcomes = runner.run(cells)
        took = time.monotonic() - begun
        if junit is not None:
            write_junit(junit, outcomes, command, took)
        _show(outcomes, took, at_once, as_json=as_json, logs_kept=keep_logs is not None)
    return _status(outcomes, runner)


# Kernel and machine are the axes.
matrix.params = [p for p in matrix.params if p.name not in ("kernel", "machine")]


def _show(
    outcomes: Sequence[Outcome], seconds: float, jobs: int, *, as_json: bool, logs_kept: bool
) -> None:
    from . import matrix_report as report

    if as_json:
        print_json(report.as_values(outcomes, seconds, logs_kept=logs_kept))
        return
    for line in report.details(outcomes):
        click.echo(line)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    print_wide(report.table(outcomes, width))
    click.echo(report.summary(outcomes, seconds, jobs))


def _status(outcomes: Sequence[Outcome], runner: Runner) -> int:
    from .matrix_cells import PASS, SKIPPED

    if runner.signal:
        return 128 + runner.signal
    results = {outcome.result for outcome in outcomes}
    return 0 if PASS in results and results <= {PASS, SKIPPED} else 1
