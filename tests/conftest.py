"""What holds for every test: the order of the tiers, where it starts, what may be left behind, what
a skip means in CI.

Tiers run from the lowest layer to the highest (t0 ... t5), so that the first red test is next to
the cause. A test starts in an empty directory of its own. It fails if it leaves a mount of
fakesysfs or a process behind, or if anything logs at level ERROR; what it left is removed, so that
the next test starts clean. A run that leaves a new file in the repository fails. With $CI set there
is no skipping, except by `@pytest.mark.may_skip(reason)`.

Owns no fixture that makes machines or mounts: those stand in the conftest.py of their tier.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from support import surroundings
from support.leftovers import ROOT, Scene, strays

# The same examples on every run and every machine: a red run is reproduced by running again. No
# deadline, because what a step costs depends on who else uses the machine.
hypothesis.settings.register_profile("fakesysfs", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("fakesysfs")
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / ".hypothesis")

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
STRAYS = pytest.StashKey[set[str]]()


def pytest_configure() -> None:
    surroundings.reset()
    surroundings.isolate()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because many tests wait for a process most of the time."""
    return len(os.sched_getaffinity(0)) + 1


def is_worker(session: pytest.Session) -> bool:
    """Whether this is one of several processes that run tests at the same time, and not the one
    that started them.
    """
    return hasattr(session.config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not is_worker(session):
        session.config.stash[STRAYS] = strays()


def new_strays(config: pytest.Config) -> list[str]:
    before: set[str] = config.stash[STRAYS]
    return sorted(strays() - before)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not is_worker(session) and new_strays(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name in new_strays(config):
        terminalreporter.write_line(
            f"FAILED the run left a file in the repository: {name}", red=True
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def tier(item: pytest.Item) -> int:
        match = re.search(r"/t(\d)_\w+/", f"{item.path}")
        # the rules of the house come first: they need nothing
        return int(match[1]) if match else -1

    items.sort(key=tier)


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return f"{report.longrepr[2]}" if isinstance(report.longrepr, tuple) else f"{report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    allowed = hasattr(report, "wasxfail") or item.get_closest_marker("may_skip")
    if IN_CI and report.skipped and not allowed:
        report.outcome = "failed"
        report.longrepr = f"CI must run every test. {_skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"CI must run every test. {_skip_reason(report)}"
    return report


class _Errors(logging.Handler):
    """Keeps what was logged at level ERROR or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if a mount, a process or an ERROR in the log is left when it and its fixtures
    are done.

    What fixtures of a wider scope hold was there before; `_run_leaves_nothing` looks at that at the
    end.
    """
    scene, errors = Scene(), _Errors()
    logging.getLogger().addHandler(errors)
    yield
    logging.getLogger().removeHandler(errors)
    complaints = scene.clean_up()
    if not request.node.get_closest_marker("logs_errors"):
        complaints += [f"logged an error: {line}" for line in errors.lines]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def _run_leaves_nothing() -> Iterator[None]:
    """The same for the whole run, with its fixtures of wider scope."""
    scene = Scene()
    yield
    if complaints := scene.clean_up():
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture(autouse=True)
def _directory_of_its_own(_leaves_nothing: None) -> Iterator[Path]:
    """Every test starts in an empty directory, which others may enter, and which is gone
    afterwards.
    """
    with tempfile.TemporaryDirectory(
        prefix="fakesysfs-tests-", ignore_cleanup_errors=True
    ) as directory:
        os.chmod(directory, 0o755)
        os.chdir(directory)
        yield Path(directory)
        os.chdir(ROOT)
