"""The pytest plugin: machines and running instances as fixtures, and tests that run inside one.

Owns: fixtures, the marker, options, and what is added to reports. Does not own what stands behind
them: testing/. Every pytest run loads this file, so it imports nothing of fakesysfs before a test
asks for it.

    def test_agent(hotplug):
        hotplug.plug("512M")
        hotplug.run(["./agent", "--once"], check=True)
        hotplug.expect("memory*/state = online")
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .machine import Machine
    from .testing.hotplug import Hotplug

MARKER = "fakesysfs"
MACHINES = ("machine", "module_machine", "session_machine")
INSTANCES = ("hotplug", "module_hotplug", "session_hotplug")
# One of them is loaded as soon as a fixture has been made.
MODULES = {"fakesysfs.machine", "fakesysfs.testing.hotplug"}
AXES = ("kernels", "machines", "arches")
# Why this host can have no instances, without and with a udevd.
PROBLEMS = pytest.StashKey[dict[bool, str]]()
ACTIVE = pytest.StashKey[dict[str, Any]]()  # values of the fixtures below, while there are any

HELP = {
    "kernels": "Repeat tests that use a machine for these kernels: names with commas, or all.",
    "machines": "Repeat tests that use a machine for these presets: names with commas, or all.",
    "arches": "Repeat tests that use a machine for these architectures: with commas, or all.",
}
MARKER_HELP = (
    "fakesysfs(memory=, kernel=, machine=, append=, config=, nodes=, arch=, seed=, workload=, fault=,"
    " udev=, rules=, ...; kernels=, machines=, arches=; inside=): what machine the fixtures"
    " `machine` and `hotplug` make, by the options of `fakesysfs run`. kernels, machines, arches:"
    " repeat the test for these, a list or 'all'. inside=True: run the test function itself inside"
    " the instance."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("fakesysfs", "simulated machines with memory hotplug")
    group.addoption(
        "--fakesysfs-required",
        action="store_true",
        help="Fail, and do not skip, where this host cannot have an instance.",
    )
    for axis in AXES:
        group.addoption(f"--fakesysfs-{axis}", metavar="LIST", help=HELP[axis])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER_HELP)


# ----------------------------------------------------------------------------- what a test asks for


def _asked(node: Any) -> dict[str, Any]:
    """The arguments of the markers of a test, class or module, the nearest last."""
    asked: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers(MARKER))):
        if mark.args:
            pytest.fail(f"the marker `{MARKER}` takes names only: {mark.args}", pytrace=False)
        asked |= mark.kwargs
    return asked


def _runs_inside(node: Any) -> bool:
    return any("inside" in mark.kwargs for mark in node.iter_markers(MARKER)) and bool(
        _asked(node).get("inside")
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test along kernels, machines and architectures."""
    names = [name for name in (*MACHINES, *INSTANCES) if name in metafunc.fixturenames]
    if not names and not _runs_inside(metafunc.definition):
        return
    asked = _asked(metafunc.definition)
    axes = {axis: asked.get(axis) for axis in AXES}
    for axis, option in zip(AXES, ("kernel", "machine", "arch"), strict=True):
        if axes[axis] is None and option not in asked:
            axes[axis] = metafunc.config.getoption(f"--fakesysfs-{axis}")
    if not any(axes.values()):
        return
    from .errors import ConfigError
    from .testing.options import cells

    try:
        found = cells(axes)
    except ConfigError as e:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {e}") from None
    if "fakesysfs_cell" not in metafunc.fixturenames:
        metafunc.fixturenames.append("fakesysfs_cell")
    scopes = [name.partition("_")[0] for name in names if "_" in name]
    metafunc.parametrize(
        "fakesysfs_cell",
        found,
        ids=["-".join(cell.values()) for cell in found],
        indirect=True,
        scope="session" if "session" in scopes else "module" if scopes else "function",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test that runs inside an instance to run in."""
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is not None and _runs_inside(item) and not set(names) & set(INSTANCES):
        names.append("hotplug")


@pytest.fixture(scope="session")
def fakesysfs_cell(request: pytest.FixtureRequest) -> dict[str, str]:
    """The options that `kernels`, `machines` and `arches` give this repetition of the test."""
    cell: dict[str, str] = getattr(request, "param", {})
    return cell


def _options(request: pytest.FixtureRequest, cell: dict[str, str]) -> dict[str, Any]:
    from .testing.options import checked

    asked = checked(_asked(request.node), known=(*AXES, "inside"))
    return {name: value for name, value in asked.items() if name not in (*AXES, "inside")} | cell


# ------------------------------------------------------------------------------------------ fixtures


def _machine(request: pytest.FixtureRequest, cell: dict[str, str]) -> Iterator[Machine]:
    from .config.machine_config import MachineConfig
    from .errors import ConfigError
    from .machine import Machine
    from .testing.options import of_machine

    made, problem = None, ""
    try:
        options = of_machine(_options(request, cell))
        made = Machine.from_config(MachineConfig.from_options(**options))
    except ConfigError as e:
        problem = f"fakesysfs: {e}"
    if made is None:  # said here, not in `except`: the report is one line
        pytest.fail(problem, pytrace=False)
    with made, _active(request, made):
        yield made


def _hotplug(request: pytest.FixtureRequest, cell: dict[str, str]) -> Iterator[Hotplug]:
    from .errors import ConfigError, EnvironmentProblem
    from .testing.hotplug import Hotplug

    problems = request.config.stash.setdefault(PROBLEMS, {})
    made, problem, udev = None, "", False
    try:
        options = _options(request, cell)
        udev = bool(options.get("udev") or options.get("rules"))
        if udev not in problems:
            made = Hotplug.start(**options)
    except ConfigError as e:
        problem = f"fakesysfs: {e}"
    except EnvironmentProblem as e:
        problems[udev] = f"fakesysfs: {e}"
    if made is None:
        if not problem and not request.config.getoption("--fakesysfs-required"):
            pytest.skip(problems[udev])
        pytest.fail(problem or problems[udev], pytrace=False)
    with made, _active(request, made):
        yield made


@contextmanager
def _active(request: pytest.FixtureRequest, made: object) -> Iterator[None]:
    """Note that a fixture has a value, for the report of a test that fails before it has it."""
    name = request.fixturename
    assert name is not None
    active = request.config.stash.setdefault(ACTIVE, {})
    active[name] = made
    yield
    del active[name]


@pytest.fixture
def machine(request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]) -> Iterator[Machine]:
    """A simulated machine in this process: class Machine. Needs neither FUSE nor namespaces."""
    yield from _machine(request, fakesysfs_cell)


@pytest.fixture(scope="module")
def module_machine(
    request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]
) -> Iterator[Machine]:
    """As `machine`, one for all tests of a module; the marker is the module's `pytestmark`."""
    yield from _machine(request, fakesysfs_cell)


@pytest.fixture(scope="session")
def session_machine(
    request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]
) -> Iterator[Machine]:
    """As `machine`, one for the whole run."""
    yield from _machine(request, fakesysfs_cell)


@pytest.fixture
def hotplug(request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]) -> Iterator[Hotplug]:
    """A running instance to run commands in: class fakesysfs.testing.hotplug.Hotplug."""
    yield from _hotplug(request, fakesysfs_cell)


@pytest.fixture(scope="module")
def module_hotplug(
    request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]
) -> Iterator[Hotplug]:
    """As `hotplug`, one for all tests of a module; the marker is the module's `pytestmark`."""
    yield from _hotplug(request, fakesysfs_cell)


@pytest.fixture(scope="session")
def session_hotplug(
    request: pytest.FixtureRequest, fakesysfs_cell: dict[str, str]
) -> Iterator[Hotplug]:
    """As `hotplug`, one for the whole run."""
    yield from _hotplug(request, fakesysfs_cell)


# ------------------------------------------------------------------------------- running a test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let what lasting instances tell begin with this test."""
    active = item.config.stash.get(ACTIVE, {})
    for hotplug in [active[name] for name in INSTANCES if name in active]:
        if hotplug.running:
            hotplug.mark()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Run a test inside its instance, if it is to."""
    __tracebackhide__ = True
    funcargs: dict[str, Any] = getattr(item, "funcargs", {})
    instance = next((funcargs[name] for name in INSTANCES if name in funcargs), None)
    if instance is None or not _runs_inside(item):
        return (yield)
    from .testing import inside

    runtest = item.runtest

    def enter() -> None:
        __tracebackhide__ = True
        inside.run(item, instance, runtest)

    item.runtest = enter  # type: ignore[method-assign]
    try:
        return (yield)
    finally:
        del item.runtest


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report what happened inside; of a failed test, what the machine is like."""
    report = yield
    if inside := sys.modules.get("fakesysfs.testing.inside"):
        report = inside.taken_report(item, report)
    if report.failed and call.when != "teardown" and MODULES & sys.modules.keys():
        funcargs, active = getattr(item, "funcargs", {}), item.config.stash.get(ACTIVE, {})
        used = active.keys() & {*getattr(item, "fixturenames", ())}
        for name, value in {**{name: active[name] for name in used}, **funcargs}.items():
            _describe(item, report, name, value)
    return report


def _describe(item: pytest.Item, report: pytest.TestReport, name: str, value: Any) -> None:
    """Add sections and properties about the value of a fixture, if it is a machine."""
    from .errors import FakesysfsError
    from .testing import report as about

    sections = about.sections(value)
    try:
        for title, text in sections:
            report.sections.append((f"{name}: {title}", text))
            item.user_properties.append((f"fakesysfs.{name}.{title}", text))
    except FakesysfsError as e:  # it ended meanwhile
        report.sections.append((f"{name}: instance", f"{e}"))
    report.user_properties = list(item.user_properties)
