"""The cells of a matrix: a kernel and a machine each, and how they are run, several at once.

Owns: which cells there are and which cannot be, the process of each cell, its time limit, and what
ends it. Does not own: options and help (matrix.py), what is shown and written (matrix_report.py),
what a cell does inside (`fakesysfs run`).

A cell is a process of `fakesysfs run`, in a session of its own: what a terminal sends reaches this
process alone. Standard output and error of the cell come through one pipe, which ends when the last
process of the cell has ended. So a cell is over when its process has ended and the pipe, too.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final
from urllib.parse import quote

from ..config.machine_config import MachineConfig
from ..config.option_sources import load_presets
from ..config.profiles import list_kernels, load_kernel
from ..errors import ConfigError
from ..testing.options import as_arguments

PASS, FAIL, TIMEOUT, SKIPPED, NOT_RUN = "pass", "fail", "timeout", "skipped", "not run"

END_SECONDS: Final = 5.0  # how long a cell may take to end after SIGTERM, and after SIGKILL
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix.

    :param kernel: name of a kernel profile.
    :param machine: name of a preset, or path of a machine file.
    :param impossible: why there is no such machine with this kernel; empty when there is one.
    """

    kernel: str
    machine: str
    impossible: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell.

    :param result: PASS, FAIL, TIMEOUT, SKIPPED or NOT_RUN.
    :param seconds: how long it took.
    :param status: exit status of the command; None when there is none.
    :param reason: why it did not pass; empty when it did.
    :param log: file with standard output and error; None when it was not run.
    """

    cell: Cell
    result: str
    seconds: float = 0.0
    status: int | None = None
    reason: str = ""
    log: Path | None = None


def plan(kernels: str, machines: Sequence[str], options: Mapping[str, Any]) -> list[Cell]:
    """Return the cells, kernel by kernel.

    :param kernels: names with commas between them, or "all".
    :param machines: names of presets and paths of machine files, each with commas, or "all".
    :param options: other options of the machines, as MachineConfig.from_options() takes them.
    :raises ConfigError: there is no such kernel, or no kernel can have such a machine.
    """
    releases = list_kernels() if kernels == "all" else _names(kernels, "--kernels")
    for name in releases:
        load_kernel(name, "--kernels")
    wanted: list[str] = []
    for text in machines:
        every = text == "all"
        wanted += [p.name for p in load_presets()] if every else _names(text, "--machines")
    wanted = list(dict.fromkeys(wanted))
    for machine in wanted:
        # What is wrong with every kernel is a mistake, and not a cell to skip.
        own = _impossible(machine, None, options)
        if own and all(_impossible(machine, kernel, options) for kernel in list_kernels()):
            raise ConfigError(f"--machines {machine}: {own}")
    return [
        Cell(kernel, machine, _impossible(machine, kernel, options))
        for kernel in dict.fromkeys(releases)
        for machine in wanted
    ]


def _names(text: str, where: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{where}: {text!r} names none; write names with commas, or all")
    return names


def _impossible(machine: str, kernel: str | None, options: Mapping[str, Any]) -> str:
    """Why there is no such machine; empty when there is one."""
    try:
        MachineConfig.from_options(**{**options, "machine": machine, "kernel": kernel})
    except ConfigError as e:
        return str(e)
    return ""


class _Running:
    """A cell that runs.

    :param words: what to execute.
    :param log: file for its output.
    :param seconds: its time limit.
    """

    def __init__(self, cell: Cell, words: Sequence[str], log: Path, seconds: float) -> None:
        self.cell = cell
        self.log = log
        self._file: IO[bytes] = log.open("wb", buffering=0)
        self.limit = seconds
        self.begun = time.monotonic()
        self.deadline = self.begun + seconds
        self.result = ""  # NOT_RUN or TIMEOUT once it was told to end
        self.killed = False
        self.left = False  # it did not end, even after SIGKILL
        self.heard_out = False  # nobody wants more of its output
        names = {"FAKESYSFS_KERNEL": cell.kernel, "FAKESYSFS_MACHINE": cell.machine}
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **names},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.pipe = self.process.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.open = {self.pipe.fileno(), self.pidfd}  # what has not ended yet

    def take_output(self) -> bool:
        """Move output from the pipe to the log. Returns whether the pipe has ended."""
        data = os.read(self.pipe.fileno(), 1 << 16)
        if not self.heard_out:
            self._file.write(data)
        return not data

    def end(self, result: str) -> None:
        """Tell it to end: by SIGTERM, the next time by SIGKILL."""
        if not self.result:
            self.result = result
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
        elif not self.killed:
            self.kill()
        else:
            self.left = True
        self.deadline = time.monotonic() + END_SECONDS

    def kill(self) -> None:
        """Kill it. With the process that made the namespaces everything in them goes."""
        self.killed = True
        # The number is its own until outcome() waits for it.
        os.killpg(self.process.pid, signal.SIGKILL)

    def outcome(self) -> Outcome:
        """What became of it. To be called when it is over."""
        seconds = time.monotonic() - self.begun
        self.pipe.close()
        os.close(self.pidfd)
        status = self.process.wait()
        self._file.close()
        result, reason = self.result, ""
        if result == TIMEOUT:
            how = "killed: it did not end on SIGTERM" if self.killed else "ended by SIGTERM"
            reason = f"longer than {self.limit:g} s; {how}"
        elif result == NOT_RUN:
            reason = "interrupted"
        elif status:
            result = FAIL
            reason = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
        if self.left:
            reason += "; some of its processes do not end"
        return Outcome(self.cell, result or PASS, seconds, status, reason, self.log)


class Runner:
    """Runs the cells of a matrix, several at once.

    :param command: what to run in each.
    :param options: of the machines, as MachineConfig.from_options() takes them.
    :param jobs: how many cells run at once.
    :param seconds: how long a cell may take.
    :param logs: directory for their output.
    :param on_change: called when a cell begins, with None, and when it is over.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: Mapping[str, Any],
        jobs: int,
        seconds: float,
        logs: Path,
        on_change: Callable[[Cell, Outcome | None], None],
    ) -> None:
        self._command = list(command)
        self._options = dict(options)
        self._jobs = jobs
        self._seconds = seconds
        self._logs = logs
        self._on_change = on_change
        self._selector = selectors.DefaultSelector()
        self._running: list[_Running] = []
        self._outcomes: dict[Cell, Outcome] = {}
        self.signal = 0  # the first that asked this process to end

    def run(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Run the cells, and return what became of each, in their order.

        After a signal that asks to end, those that run are ended and no more are begun; see
        `signal`. No process of a cell is left when this returns or raises.
        """
        waiting = deque(cells)
        with self._signals(), self._selector:
            try:
                while waiting or self._running:
                    while waiting and len(self._running) < self._jobs:
                        self._begin(waiting.popleft())
                    self._step()
            finally:
                self._end_all()
        return [self._outcomes[cell] for cell in cells]

    def _begin(self, cell: Cell) -> None:
        if cell.impossible:
            self._over(Outcome(cell, SKIPPED, reason=cell.impossible))
            return
        if self.signal:
            self._over(Outcome(cell, NOT_RUN, reason="interrupted"))
            return
        self._on_change(cell, None)
        log = self._logs / f"{cell.kernel}-{quote(cell.machine, safe='')}.log"
        running = _Running(cell, self._words(cell), log, self._seconds)
        self._running.append(running)
        for fd in running.open:
            self._selector.register(fd, selectors.EVENT_READ, partial(self._heard, running, fd))

    def _words(self, cell: Cell) -> list[str]:
        options = as_arguments({**self._options, "machine": cell.machine, "kernel": cell.kernel})
        words = [sys.executable, "-P", "-m", "fakesysfs", "run", *options, "--", *self._command]
        # Where this program is, a killed matrix takes its cells with it.
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", "KILL", "--", *words] if setpriv else words

    def _heard(self, running: _Running, fd: int) -> None:
        if fd == running.pidfd or running.take_output():
            self._selector.unregister(fd)
            running.open.remove(fd)

    def _step(self) -> None:
        """Wait until something happens, and do what follows from it."""
        if not self._running:
            return
        first = min(running.deadline for running in self._running)
        for key, _ in self._selector.select(max(0.0, first - time.monotonic())):
            key.data()
        now = time.monotonic()
        for running in list(self._running):
            if running.open and now >= running.deadline:
                running.end(TIMEOUT)
            if not running.open or running.left:
                for fd in running.open:
                    self._selector.unregister(fd)
                self._running.remove(running)
                self._over(running.outcome())

    def _over(self, outcome: Outcome) -> None:
        self._outcomes[outcome.cell] = outcome
        self._on_change(outcome.cell, outcome)

    def _end_all(self) -> None:
        """End what still runs: there was an error in this process, a full disk perhaps."""
        for running in self._running:
            running.heard_out = True
            running.result = NOT_RUN
            running.kill()
            running.deadline = time.monotonic() + END_SECONDS
        while self._running:
            self._step()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Meanwhile, a signal that asks to end this process ends the cells; a second one kills
        them.
        """
        hearing, telling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def noted(number: int, _frame: FrameType | None) -> None:
            self.signal = self.signal or number

        def interrupted() -> None:
            os.read(hearing, 1 << 10)
            for running in self._running:
                running.end(NOT_RUN)

        self._selector.register(hearing, selectors.EVENT_READ, interrupted)
        wakeup = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
        heeded = [n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, noted) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(hearing)
            os.close(telling)
