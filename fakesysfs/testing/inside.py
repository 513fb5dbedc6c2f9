"""The test itself inside an instance: `@pytest.mark.fakesysfs(inside=True)`.

Owns: the process in which such a test runs, and how what it did comes back. The pytest process
forks, the child enters the namespaces of the instance and runs the test; fixtures are made and
ended outside. Back come: the report, the exception, properties, warnings, log records, sub-tests
and text in sys.stdout that nobody has read; a captured file descriptor and files are shared anyway.
Does not own how namespaces are entered (run/enter_instance.py).
"""

from __future__ import annotations

import bdb
import io
import logging
import os
import pickle
import signal
import sys
import unittest
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

import pytest

from ..control import environment, is_own
from ..run.enter_instance import fork_inside
from . import measured

if TYPE_CHECKING:
    from .hotplug import Hotplug

LAST_SECONDS: Final = 1.0  # how long a test may take to say where it was when it is ended
STREAMS: Final = ("stdout", "stderr")
REPORT: Final = pytest.StashKey[pytest.TestReport]()  # of the item, until the call phase is over


@dataclass
class Outcome:
    """What comes back from a test inside.

    :param report: of the test, as pytest_report_to_serializable() makes it.
    :param error: the exception, or one that stands for it; None when the test passed.
    :param sub_reports: of sub-tests, in the same form.
    """

    report: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    properties: list[tuple[str, object]] = field(default_factory=list)
    marks: list[pytest.Mark] = field(default_factory=list)
    warnings: list[tuple[Any, ...]] = field(default_factory=list)
    records: list[logging.LogRecord] = field(default_factory=list)
    sub_reports: list[dict[str, Any]] = field(default_factory=list)
    unread: dict[str, bytes] = field(default_factory=dict)
    coverage: bytes | None = None


class TestInside(Exception):
    """Stands for an exception of a test inside that cannot be sent to the process outside."""

    __test__ = False


def run(item: pytest.Item, hotplug: Hotplug, runtest: Callable[[], None]) -> None:
    """Run a test inside an instance; see taken_report().

    :param runtest: what the item's runtest() is outside.
    :raises BaseException: as the test did.
    """
    __tracebackhide__ = True
    reading, writing = os.pipe()
    namespaces = hotplug.namespaces()

    def life(problem: Exception | None) -> None:
        if problem is not None:
            _send(writing, Outcome(error=_sendable(problem)))
            return
        os.close(reading)
        os.environ.update(environment(hotplug.name))
        hotplug.entered()
        _send(writing, _Inside(item, runtest).outcome())

    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # From Python 3.12 on, of a process with threads. Its threads are not needed inside.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = fork_inside(namespaces, is_own, life)
    os.close(writing)
    for fd in namespaces.values():
        os.close(fd)
    try:
        data = _received(reading)
    except BaseException as e:  # a time limit, Ctrl-C
        _ended(item, child, reading, e)
        raise
    finally:
        os.close(reading)
    _, status = os.waitpid(child, 0)
    if not data:
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(code - 128).name}" if code > 128 else "ended early"
        over = "" if hotplug.running else "; the instance has ended"
        pytest.fail(f"the process inside that ran the test {how}{over}", pytrace=False)
    _taken(item, pickle.loads(data))


def _received(reading: int) -> bytes:
    __tracebackhide__ = True
    data = b""
    while piece := os.read(reading, 1 << 20):
        data += piece
    return data


def _ended(item: pytest.Item, child: int, reading: int, error: BaseException) -> None:
    """End a test that is not waited for any more, and keep where it was for the report."""
    from select import select

    with suppress(ProcessLookupError, OSError):
        for inside in _children(child):
            os.kill(inside, signal.SIGINT)
    ready, _, _ = select([reading], [], [], LAST_SECONDS)
    data = _received(reading) if ready else b""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # and with it who is inside
    os.waitpid(child, 0)
    if data and not isinstance(error, KeyboardInterrupt):
        report = _report(item, pickle.loads(data).report)
        item.add_report_section("call", "stack inside", report.longreprtext)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(child) for child in children.read().split()]


def _taken(item: pytest.Item, outcome: Outcome) -> None:
    """Do here what the test did there, in what pytest keeps in memory.

    :raises BaseException: as the test did.
    """
    __tracebackhide__ = True
    item.user_properties[:] = outcome.properties or item.user_properties
    for mark in outcome.marks:
        item.add_marker(getattr(pytest.mark, mark.name)(*mark.args, **mark.kwargs))
    for warning in outcome.warnings:
        warnings.showwarning(*warning)
    for name, content in outcome.unread.items():
        _set_unread(getattr(sys, name), content)
    for record in outcome.records:
        logging.getLogger().handle(record)
    measured.take(item.config, outcome.coverage)
    sub_reports = [_report(item, data) for data in outcome.sub_reports]
    capture = item.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        for sub_report in sub_reports:
            item.ihook.pytest_runtest_logreport(report=sub_report)
    failed = sum(sub_report.failed for sub_report in sub_reports)
    if not outcome.report:
        assert outcome.error is not None
        raise outcome.error
    report = _report(item, outcome.report)
    if report.passed and failed:
        report.outcome = "failed"
        report.longrepr = f"contains {failed} failed subtest{'s' if failed > 1 else ''}"
    item.stash[REPORT] = report
    if outcome.error is not None:
        raise outcome.error


def _report(item: pytest.Item, data: dict[str, Any]) -> pytest.TestReport:
    report: pytest.TestReport = item.config.hook.pytest_report_from_serializable(
        config=item.config, data=data
    )
    return report


def taken_report(item: pytest.Item, report: pytest.TestReport) -> pytest.TestReport:
    """Return the report of the call phase of a test inside: made here, with what happened there."""
    there = item.stash.get(REPORT, None)
    if there is not None and report.when == "call":
        report.outcome = there.outcome
        report.longrepr = there.longrepr
        del item.stash[REPORT]
    return report


# ------------------------------------------------------------------------------------- the child


class _Records(logging.Handler):
    """Keeps records in a form that can be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        copy = logging.makeLogRecord(record.__dict__)
        copy.msg, copy.args = record.getMessage(), None
        if record.exc_info:
            copy.exc_text = logging.Formatter().formatException(record.exc_info)
            copy.exc_info = None
        if _can_be_sent(copy):
            self.kept.append(copy)


class _Inside:
    """The test in the process inside."""

    def __init__(self, item: pytest.Item, runtest: Callable[[], None]) -> None:
        self._item = item
        self._runtest = runtest

    def outcome(self) -> Outcome:
        """Run the test."""
        item = self._item
        outcome = Outcome()
        # What reaches the root logger is handled outside; of the handlers there only that of
        # `caplog` is asked by the test.
        records, root = _Records(), logging.getLogger()
        caplog = getattr(item, "funcargs", {}).get("caplog")
        root.handlers[:] = [records] if caplog is None else [records, caplog.handler]
        subs: list[dict[str, Any]] = []
        # Sub-tests are reported at once, and that is for the process outside.
        setattr(  # noqa: B010 - hooks have no such attribute for mypy
            item.ihook,
            "pytest_runtest_logreport",
            lambda report: subs.append(self._plain(report)),
        )
        marks = list(item.own_markers)
        shown = _warnings_shown()
        call = pytest.CallInfo.from_call(self._runtest, when="call")
        if isinstance(getattr(item.parent, "obj", None), type) and issubclass(
            item.parent.obj,  # type: ignore[union-attr]
            unittest.TestCase,
        ):
            # A TestCase keeps what went wrong, and pytest's plugin for it puts it into `call`.
            item.ihook.pytest_runtest_makereport(item=item, call=call)
        report = pytest.TestReport.from_item_and_call(item, call)
        outcome.report = self._plain(report)
        if call.excinfo is not None:
            outcome.error = _sendable(call.excinfo.value)
        if report.failed and self._debugs():
            outcome.error = self._debugged(call, report)
        outcome.properties = [
            (name, value if _can_be_sent(value) else f"{value}")
            for name, value in item.user_properties
        ]
        outcome.marks = [m for m in item.own_markers if m not in marks and _can_be_sent(m)]
        outcome.warnings = [warning for warning in shown if _can_be_sent(warning)]
        outcome.records = records.kept
        outcome.sub_reports = subs
        outcome.unread = {
            name: unread for name in STREAMS if (unread := _unread(getattr(sys, name))) is not None
        }
        outcome.coverage = measured.give()
        return outcome

    def _debugs(self) -> bool:
        expected = any(mark.name == "xfail" for mark in self._item.iter_markers())
        return bool(self._item.config.getoption("usepdb", False)) and not expected

    def _debugged(self, call: pytest.CallInfo[None], report: pytest.TestReport) -> BaseException:
        """Let --pdb look at the test, here where it is. Returns what is to be raised outside: that
        there is nothing left to look at, or that the run is to end.
        """
        try:
            self._item.ihook.pytest_exception_interact(node=self._item, call=call, report=report)
        except pytest.exit.Exception as e:
            return e
        return bdb.BdbQuit()

    def _plain(self, report: pytest.TestReport) -> dict[str, Any]:
        data: dict[str, Any] = self._item.config.hook.pytest_report_to_serializable(
            config=self._item.config, report=report
        )
        # These are the item's, and come by themselves.
        if type(report) is pytest.TestReport:
            data["sections"] = []
        data["user_properties"] = []
        return data


def _warnings_shown() -> list[tuple[Any, ...]]:
    """Return a list that grows by each warning that nobody catches from now on."""
    shown: list[tuple[Any, ...]] = []
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        shown.append((f"{message}", category, filename, lineno))
        before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    return shown


def _unread(stream: Any) -> bytes | None:
    """What is in a captured stream that is only in memory; None when it is not."""
    stream.flush()
    memory = getattr(stream, "buffer", None)
    return memory.getvalue() if isinstance(memory, io.BytesIO) else None


def _set_unread(stream: Any, content: bytes) -> None:
    if _unread(stream) is not None:
        stream.seek(0)
        stream.truncate()
        stream.buffer.write(content)


def _can_be_sent(value: object) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever a class does when it is pickled
        return False
    return True


def _sendable(error: BaseException) -> BaseException:
    """An exception, or if it cannot be sent one that stands for it."""
    if _can_be_sent(error):
        return error
    return TestInside(f"{type(error).__name__}: {error}")


def _send(writing: int, outcome: Outcome) -> None:
    with os.fdopen(writing, "wb") as pipe:
        pickle.dump(outcome, pipe)
