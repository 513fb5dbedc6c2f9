"""What a matrix shows and writes: progress, the table at the end, JUnit XML, values for JSON.

Owns: their form. Does not own the cells and their results (matrix_cells.py).

JUnit XML has one `testsuite`, and a `testcase` for each cell, as Jenkins, GitLab and most reporters
of GitHub Actions read it: `failure` for a cell that failed or ran too long, `skipped` for one that
was not run.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from .matrix_cells import FAIL, NOT_RUN, PASS, SKIPPED, TIMEOUT, Cell, Outcome

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

SUITE: Final = "fakesysfs.matrix"
SHOWN_LINES: Final = 10  # of the output of a cell that failed, on the terminal
WRITTEN_BYTES: Final = 1 << 16  # of it, in JUnit XML
STYLES: Final = {
    PASS: "green",
    FAIL: "bold red",
    TIMEOUT: "bold red",
    SKIPPED: "dim",
    NOT_RUN: "dim",
}
BAD: Final = (FAIL, TIMEOUT)

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ProgressDisplay:
    """A bar on standard error with the cells that run, if that is a terminal.

    :param total: number of cells.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        console = Console(stderr=True, highlight=False)
        self._running: list[Cell] = []
        self._failed = 0
        self._bar: Progress = Progress(
            MofNCompleteColumn(),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def change(self, cell: Cell, outcome: Outcome | None) -> None:
        """Show that a cell has begun, or is over.

        :param outcome: what became of it; None when it begins.
        """
        from rich.markup import escape

        if outcome is None:
            self._running.append(cell)
        elif cell in self._running:
            self._running.remove(cell)
        self._failed += outcome is not None and outcome.result in BAD
        names = ", ".join(f"{running.kernel} {running.machine}" for running in self._running)
        failed = f"[red]{self._failed} failed[/red] " if self._failed else ""
        self._bar.update(
            self._task, description=f"{failed}{escape(names)}", advance=int(outcome is not None)
        )


def last_output(outcome: Outcome, most: int) -> str:
    """Return the end of a cell's output, at most so many bytes; empty when it was not run."""
    if outcome.log is None:
        return ""
    with outcome.log.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - most))
        text = log.read().decode(errors="backslashreplace")
    return text if size <= most else f"... {size - most} bytes before\n{text}"


def details(outcomes: Sequence[Outcome]) -> list[str]:
    """Return lines about the cells that failed, with the end of their output, and about those that
    were skipped. Kernels with which a machine fails alike share their lines.
    """
    from ..errors import printable

    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for outcome in outcomes:
        if outcome.result in BAD or outcome.result == SKIPPED:
            what = f"skipped: {outcome.reason}" if outcome.result == SKIPPED else outcome.reason
            last = last_output(outcome, WRITTEN_BYTES).splitlines()[-SHOWN_LINES:]
            alike = groups.setdefault((outcome.cell.machine, what, tuple(last)), [])
            alike.append(outcome.cell.kernel)
    lines = []
    for (machine, what, output), kernels in groups.items():
        lines.append(f"{machine} with {', '.join(kernels)}: {what}")
        lines += [f"    {printable(line)}".rstrip() for line in output]
    return lines


def table(outcomes: Sequence[Outcome], width: int) -> Table:
    """Return the results: a row for each kernel and a column for each machine, or a row for each
    cell where that is too wide.

    :param width: columns of the terminal.
    """
    from rich.table import Table
    from rich.text import Text

    def text(outcome: Outcome) -> Text:
        took = f" {outcome.seconds:.1f} s" if outcome.log else ""
        return Text(f"{outcome.result}{took}", STYLES[outcome.result])

    machines = list(dict.fromkeys(outcome.cell.machine for outcome in outcomes))
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    made.add_column("kernel", no_wrap=True)
    columns = {m: max(len(m), len("timeout 9999.9 s")) + 3 for m in machines}
    if sum(columns.values()) + len("kernel") + 3 > width:
        made.add_column("machine", no_wrap=True)
        made.add_column("result", no_wrap=True)
        for outcome in outcomes:
            made.add_row(outcome.cell.kernel, Text(outcome.cell.machine), text(outcome))
        return made
    for machine in machines:
        made.add_column(Text(machine), no_wrap=True)
    for kernel in dict.fromkeys(outcome.cell.kernel for outcome in outcomes):
        made.add_row(kernel, *(text(o) for o in outcomes if o.cell.kernel == kernel))
    return made


def summary(outcomes: Sequence[Outcome], seconds: float, jobs: int) -> str:
    """Return the last line: how many cells passed, failed and were skipped, and the time."""
    words = {
        PASS: "passed",
        FAIL: "failed",
        TIMEOUT: "timed out",
        SKIPPED: "skipped",
        NOT_RUN: "not run",
    }
    counts = [(sum(o.result == result for o in outcomes), word) for result, word in words.items()]
    parts = ", ".join(f"{number} {word}" for number, word in counts if number)
    return f"{len(outcomes)} cell{'s' * (len(outcomes) != 1)}: {parts}; {seconds:.1f} s, {jobs} at once"


def as_values(outcomes: Sequence[Outcome], seconds: float, *, logs_kept: bool) -> dict[str, Any]:
    """Return the results as what JSON can say.

    :param logs_kept: name the log files.
    """
    cells: list[dict[str, Any]] = [
        {
            "kernel": outcome.cell.kernel,
            "machine": outcome.cell.machine,
            "result": outcome.result,
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "reason": outcome.reason,
            **({"log": outcome.log and str(outcome.log)} if logs_kept else {}),
        }
        for outcome in outcomes
    ]
    return {"cells": cells, "seconds": round(seconds, 3)}


def write_junit(
    path: Path, outcomes: Sequence[Outcome], command: Sequence[str], seconds: float
) -> None:
    """Write the results as JUnit XML. The file is complete or not there.

    :param seconds: how long all took.
    """
    counts: dict[str, Any] = {
        "tests": str(len(outcomes)),
        "failures": str(sum(outcome.result in BAD for outcome in outcomes)),
        "errors": "0",
        "skipped": str(sum(outcome.result in (SKIPPED, NOT_RUN) for outcome in outcomes)),
        "time": f"{seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", name=SUITE, **counts)
    began = datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(
        root, "testsuite", name=SUITE, **counts, timestamp=began, hostname=os.uname().nodename
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="command", value=_xml(shlex.join(command)))
    for outcome in outcomes:
        _add_case(suite, outcome)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(text + b"\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _add_case(suite: ElementTree.Element, outcome: Outcome) -> None:
    cell = outcome.cell
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=SUITE,
        name=_xml(f"{cell.kernel} {cell.machine}"),
        time=f"{outcome.seconds:.3f}",
    )
    reason = _xml(outcome.reason)
    if outcome.result in BAD:
        output = last_output(outcome, WRITTEN_BYTES)
        failure = ElementTree.SubElement(case, "failure", type=outcome.result, message=reason)
        failure.text = _xml("\n".join(output.splitlines()[-SHOWN_LINES:]))
        ElementTree.SubElement(case, "system-out").text = _xml(output)
    elif outcome.result != PASS:
        ElementTree.SubElement(case, "skipped", message=reason)


def _xml(text: str) -> str:
    """Escape what XML cannot hold as Python would."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
