"""Tests that run inside an instance: what pytest offers to a test works there as it does outside.

The first tests are such tests themselves; the others make projects and look at what pytest says.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.host import MEMORY, Person

from fakesysfs.testing.hotplug import Hotplug

pytestmark = pytest.mark.usefixtures("me")
inside = pytest.mark.fakesysfs(inside=True)


def state(block: str) -> str:
    return Path(MEMORY, block, "state").read_text().strip()


@inside
def test_python_code_sees_the_machine(hotplug: Hotplug) -> None:
    assert not os.path.exists(f"{MEMORY}/memory32")
    hotplug.plug("128M")
    assert state("memory32") == "offline"
    Path(MEMORY, "memory32", "state").write_text("online_movable")
    hotplug.expect("memory32/state = online")
    with pytest.raises(OSError, match="Invalid argument"):
        Path(MEMORY, "memory32", "state").write_text("nonsense")
    zones = subprocess.run(["cat", f"{MEMORY}/memory32/valid_zones"], check=True, stdout=-1)
    assert zones.stdout == b"Movable\n"
    assert hotplug.run(["true"]).returncode == 0


@inside
@pytest.mark.fakesysfs(memory="512M,slots=4,maxmem=4G")
def test_without_the_fixture() -> None:
    blocks = {name for name in os.listdir(MEMORY) if name.startswith("memory")}
    assert blocks == {"memory0", "memory1", "memory2", "memory3"}
    assert os.environ["FAKESYSFS"].startswith("fakesysfs/")


@inside
def test_fixtures_of_pytest(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    print("out")
    assert capsys.readouterr().out == "out\n"
    logging.getLogger("agent").warning("log")
    assert caplog.messages == ["log"]
    monkeypatch.setenv("A", "a")
    assert subprocess.run("echo $A", shell=True, capture_output=True, check=True).stdout == b"a\n"
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert os.listdir() == ["file"]
    warnings.warn("careful", stacklevel=1)
    assert recwarn.pop().message.args == ("careful",)  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="again"):
        warnings.warn("again", stacklevel=1)


@inside
def test_a_file_descriptor_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    os.system("echo from a process")
    assert capfd.readouterr().out == "from a process\n"


@pytest.fixture
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file, and what is left of the test when it is over."""
    caplog = request.getfixturevalue("caplog")
    yield tmp_path / "kept"
    assert (tmp_path / "kept").read_text() == "inside"
    assert request.node.user_properties == [("answer", 42)]
    assert caplog.messages == []  # those of the teardown
    assert [record.getMessage() for record in caplog.get_records("call")] == ["said inside"]


@inside
def test_what_it_leaves_is_there_outside(
    kept: Path, record_property: Callable[[str, object], None]
) -> None:
    kept.write_text("inside")
    record_property("answer", 42)
    logging.warning("said inside")


@inside
class TestOfAClass:
    @pytest.mark.parametrize("block", ["memory0", "memory1"])
    def test_parametrized(self, block: str) -> None:
        assert state(block) == "online"


@inside
class Unittest(unittest.TestCase):
    def setUp(self) -> None:
        self.state = state("memory1")

    def test_set_up_is_inside(self) -> None:
        assert self.state == "online"


FAILURES = """
    import logging, os, unittest, warnings
    import pytest

    pytestmark = pytest.mark.fakesysfs(inside=True)

    def state(block):
        with open(f"/sys/devices/system/memory/{block}/state") as file:
            return file.read()

    class NotSendable(Exception):
        def __init__(self, a, b):
            super().__init__("two arguments")
            self.call = lambda: 0

    def test_assertion(hotplug):
        hotplug.plug("128M")
        print("printed")
        os.system("echo by a process")
        logging.getLogger("agent").error("logged")
        warnings.warn("careful")
        assert state("memory32") == "online\\n"

    def test_of_the_code():
        state("memory99")

    def test_left_in_capsys(capsys):
        print("not read")
        assert False

    def test_not_sendable():
        raise NotSendable(1, 2)

    @pytest.mark.xfail(raises=FileNotFoundError, strict=True)
    def test_xfail():
        state("memory99")

    @pytest.mark.xfail(raises=ValueError)
    def test_xfail_of_another_kind():
        state("memory99")

    @pytest.mark.xfail(strict=True)
    def test_xpass():
        pass

    def test_dynamic_xfail(request):
        request.applymarker(pytest.mark.xfail(reason="later"))
        assert False

    def test_skip():
        pytest.skip("not today")

    def test_exit():
        os._exit(3)

    def test_killed():
        os.abort()

    def test_subtests(subtests):
        for block in ("memory0", "memory99"):
            with subtests.test(block=block):
                state(block)

    class TestUnit(unittest.TestCase):
        def test_fails(self):
            self.assertEqual(state("memory1"), "offline")

        def test_skips(self):
            self.skipTest("not here")
"""


@pytest.mark.parametrize("capture", ["fd", "sys"])
def test_what_is_reported(pytester: pytest.Pytester, capture: str) -> None:
    pytester.makepyfile(FAILURES)
    result = pytester.runpytest_subprocess("-ra", f"--capture={capture}", "--show-capture=all")
    result.assert_outcomes(passed=0, failed=11, skipped=2, xfailed=2, warnings=1)
    by_process = ["by a process"] if capture == "fd" else []
    result.stdout.fnmatch_lines(
        [
            "*_ test_assertion _*",
            '>       assert state("memory32") == "online\\n"',
            "E       AssertionError: assert 'offline\\n' == 'online\\n'",
            "*Captured stdout call*",
            "printed",
            *by_process,
            "*Captured log call*",
            "ERROR    agent:*logged",
            "*- hotplug: map -*",
            "*_ test_of_the_code _*",
            "E       FileNotFoundError: *'/sys/devices/system/memory/memory99/state'",
            "*_ test_left_in_capsys _*",
            "*Captured stdout call*",
            "not read",
            "*_ test_not_sendable _*",
            "E *NotSendable: two arguments",
            "*_ test_xfail_of_another_kind _*",
            "*_ test_xpass _*",
            "*XPASS(strict)*",
            "*_ test_exit _*",
            "the process inside that ran the test ended early",
            "*_ test_killed _*",
            "the process inside that ran the test was killed by SIGABRT",
            "*_ test_subtests*memory99*",
            "*_ TestUnit.test_fails _*",
            "E *AssertionError: 'online\\n' != 'offline'",
            "*UserWarning: careful",
            "SKIPPED*not today",
            "SKIPPED*not here",
            "XFAIL *::test_xfail",
            "XFAIL *::test_dynamic_xfail - later",
        ]
    )


def test_a_time_limit_shows_where_the_test_was(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, time
        import pytest

        @pytest.mark.timeout(1.5, func_only=True)
        @pytest.mark.fakesysfs(inside=True)
        def test_waits_for_ever(tmp_path_factory):
            time.sleep(600)

        def test_next():
            pass
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   Failed: Timeout (>1.5s) from pytest-timeout.",
            "*Captured stack inside call*",
            ">       time.sleep(600)",
        ]
    )


def test_the_debugger_is_inside(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, pytest

        @pytest.mark.fakesysfs(inside=True)
        def test_fails():
            here = "the frame of the test"
            assert os.path.exists("/sys/devices/system/memory/memory99")

        @pytest.mark.fakesysfs(inside=True)
        def test_stops():
            here = "a breakpoint"
            breakpoint()
    """)
    state = "p open('/sys/devices/system/memory/memory7/state').read()"

    def debug(name: str, *typed: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--pdb", "-k", name]
        text = "".join(f"{line}\n" for line in typed)
        return subprocess.run(command, input=text, stdout=-1, text=True, timeout=100).stdout

    said = debug("fails", "p here", state, "continue")
    for part in ("(Pdb) 'the frame of the test'", "(Pdb) 'online\\n'", "1 failed, 1 deselected in"):
        assert part in said
    said = debug("fails", "quit")
    assert "Exit: Quitting debugger" in said
    said = debug("stops", "p here", state, "continue")
    for part in ("(Pdb) 'a breakpoint'", "(Pdb) 'online\\n'", "1 passed, 1 deselected in"):
        assert part in said


def test_exit_ends_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.fakesysfs(inside=True)
        def test_ends():
            pytest.exit("enough", returncode=7)

        def test_never(): pass
    """)
    result = pytester.runpytest_subprocess()
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: enough*"])


def test_repeated_for_kernels(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, pytest

        @pytest.mark.fakesysfs(inside=True, kernels=["5.10", "6.12"])
        def test_it(request, fakesysfs_cell):
            assert fakesysfs_cell["kernel"] in request.node.name

        @pytest.mark.fakesysfs(inside=True)
        def test_by_option(request):
            assert os.path.exists("/sys/devices/system/memory/memory7")
    """)
    result = pytester.runpytest_subprocess("-v", "--fakesysfs-kernels=6.1,5.10")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random(["*test_it?6.12? PASSED*", "*test_by_option?6.1? PASSED*"])


def test_a_lasting_instance(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, pytest
        pytestmark = pytest.mark.fakesysfs(inside=True)

        def test_plug(module_hotplug):
            module_hotplug.plug("128M")
            assert os.path.exists("/sys/devices/system/memory/memory32")

        @pytest.mark.fakesysfs(inside=False)
        def test_outside(module_hotplug):
            module_hotplug.expect("blocks = 9")
            module_hotplug.unplug("dimm0")

        def test_gone(module_hotplug):
            assert not os.path.exists("/sys/devices/system/memory/memory32")
            assert module_hotplug.plug("128M") == "dimm0"
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


AGENT = """
def online():
    for number in (32, 33):
        path = f"/sys/devices/system/memory/memory{number}/state"
        with open(path, "r+") as file:
            if file.read() == "offline\\n":
                file.seek(0)
                file.write("online")
            else:
                return "was online"
    return "done"
"""
COVERED = """
    import agent, pytest

    @pytest.mark.fakesysfs(inside=True)
    def test_agent(hotplug):
        hotplug.plug("256M")
        assert agent.online() == "done"
"""


@pytest.mark.parametrize("how", ["pytest-cov", "coverage run", "coverage run --parallel"])
def test_coverage_is_measured_inside(pytester: pytest.Pytester, how: str) -> None:
    pytester.makepyfile(agent=AGENT, test_agent=COVERED)
    run = pytester.run
    python = ["env", "-u", "COVERAGE_PROCESS_CONFIG", sys.executable, "-m"]
    if how == "pytest-cov":
        result = run(*python, "pytest", "--cov=agent", "--cov-branch", "--cov-report=term-missing")
    else:
        options = ["-p"] if "parallel" in how else []
        result = run(*python, "coverage", "run", "--branch", *options, "-m", "pytest")
        assert result.ret == 0
        if options:
            assert run(*python, "coverage", "combine").ret == 0
        result = run(*python, "coverage", "report", "-m", "--include=agent.py")
    assert result.ret == 0
    # All but the branch for a block that was online.
    result.stdout.re_match_lines([r"agent\.py +9 +1 +4 +1 +85% +9"])


def test_with_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("""
        import asyncio, pytest

        @pytest.mark.asyncio
        @pytest.mark.fakesysfs(inside=True)
        async def test_inside(hotplug):
            hotplug.plug("128M")
            await asyncio.sleep(0.01)
            process = await asyncio.create_subprocess_exec(
                "cat", "/sys/devices/system/memory/memory32/state", stdout=-1)
            output, _ = await process.communicate()
            assert output == b"offline\\n"

        @pytest.mark.asyncio
        @pytest.mark.fakesysfs(inside=True)
        async def test_fails(hotplug):
            await asyncio.sleep(0)
            assert False

        @pytest.mark.asyncio
        async def test_outside(hotplug):
            process = await asyncio.to_thread(hotplug.run, ["true"])
            assert process.returncode == 0
    """)
    result = pytester.runpytest_subprocess("-p", "asyncio")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([">       assert False"])


def test_ctrl_c_ends_all(pytester: pytest.Pytester, me: Person) -> None:
    pytester.makepyfile("""
        import pathlib, time
        import pytest

        @pytest.mark.fakesysfs(inside=True)
        def test_waits(request):
            pathlib.Path("begun").touch()
            time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest"], process_group=0, stdout=-1, text=True, stderr=-2
    ) as process:
        wait_for(Path("begun").exists)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
