"""The pytest plugin in projects of its users: fixtures, marker, options, and what reports say.

Each test makes a project, runs pytest in it as a process, and looks at what pytest says.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from t3_mount.host import Person, people

from fakesysfs.config.profiles import list_arches, list_kernels

HIDE_FUSE = (
    "mount -t tmpfs tmpfs /mnt;"
    " for d in null zero urandom; do touch /mnt/$d; mount --bind /dev/$d /mnt/$d; done;"
    " ln -s /proc/self/fd /mnt/fd; mkdir /mnt/shm; mount --rbind /mnt /dev;"
)


def test_a_machine_in_process(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import errno, pytest

        MEMORY = "/sys/devices/system/memory"

        def test_default(machine):
            assert len(machine.blocks()) == 8
            machine.add_memory(0, 4 << 30, 128 << 20)
            machine.store(f"{MEMORY}/memory32/state", "online_movable")

        @pytest.mark.fakesysfs(memory="2G,slots=4,maxmem=8G", kernel="5.10",
                               fault="write memory9/state EBUSY")
        def test_marker(machine):
            assert (machine.config.kernel, len(machine.blocks())) == ("5.10", 16)
            with pytest.raises(OSError) as raised:
                machine.store(f"{MEMORY}/memory9/state", "offline")
            assert raised.value.errno == errno.EBUSY

        @pytest.mark.fakesysfs(kernel="6.12", arch="aarch64")
        class TestClass:
            def test_of_class(self, machine):
                assert (machine.config.kernel, machine.config.arch) == ("6.12", "aarch64")

            @pytest.mark.fakesysfs(kernel="6.1")
            def test_nearer(self, machine):
                assert (machine.config.kernel, machine.config.arch) == ("6.1", "aarch64")
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=4)


def test_scopes(pytester: pytest.Pytester, me: Person) -> None:
    """A lasting instance keeps its state; what it tells begins with each test."""
    pytester.makepyfile(
        test_a="""
        import pytest
        pytestmark = pytest.mark.fakesysfs(memory="512M,slots=4,maxmem=4G")

        def test_one(module_hotplug, session_hotplug, module_machine, session_machine):
            module_hotplug.expect("blocks = 4", "no uevent add memory*")
            session_hotplug.expect("blocks = 8")
            assert (len(module_machine.blocks()), len(session_machine.blocks())) == (4, 8)
            module_machine.add_memory(0, 4 << 30, 128 << 20)
            module_hotplug.plug("128M")
            session_hotplug.plug("128M")

        def test_two(module_hotplug, session_hotplug, module_machine):
            module_hotplug.expect("blocks = 5", "no uevent add memory*")
            session_hotplug.expect("blocks = 9", "no uevent add memory*")
            assert module_hotplug.events == session_hotplug.events == []
            assert len(module_machine.blocks()) == 5
        """,
        test_b="""
        def test_three(module_hotplug, session_hotplug, module_machine):
            module_hotplug.expect("blocks = 8")
            session_hotplug.expect("blocks = 9")
            assert len(module_machine.blocks()) == 8
        """,
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_repeated_by_marker(pytester: pytest.Pytester, me: Person) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.fakesysfs(kernels=["5.10", "6.12"], machines="biscuitos,two-dimms")
        def test_both(machine, hotplug, fakesysfs_cell):
            assert machine.config.kernel == fakesysfs_cell["kernel"]
            hotplug.expect(f"blocks = {len(hotplug.map['blocks'])}")

        @pytest.mark.fakesysfs(arches="all", kernel="6.12")
        def test_arches(machine): pass

        @pytest.mark.fakesysfs(kernels=["6.1", "6.12"])
        def test_module(module_machine, request):
            assert module_machine.config.kernel in request.node.name
    """)
    result = pytester.runpytest_subprocess("-v", "-k", "both or module")
    result.assert_outcomes(passed=6, deselected=len(list_arches()))
    result.stdout.fnmatch_lines_random(
        [
            "*::test_both?5.10-biscuitos? PASSED*",
            "*::test_both?5.10-two-dimms? PASSED*",
            "*::test_both?6.12-biscuitos? PASSED*",
            "*::test_both?6.12-two-dimms? PASSED*",
            "*::test_module?6.1? PASSED*",
        ]
    )
    listed = pytester.runpytest_subprocess("--collect-only", "-q", "-k", "arches")
    listed.stdout.fnmatch_lines_random(["*test_arches?s390x?", "*test_arches?ppc64le?"])


def test_repeated_by_option(pytester: pytest.Pytester) -> None:
    """The option is for tests whose marker names no kernel."""
    pytester.makepyfile("""
        import pytest

        def test_free(machine): pass

        @pytest.mark.fakesysfs(kernel="6.1")
        def test_fixed(machine): assert machine.config.kernel == "6.1"

        def test_other(): pass
    """)
    result = pytester.runpytest_subprocess("--fakesysfs-kernels=all")
    result.assert_outcomes(passed=len(list_kernels()) + 2)
    result = pytester.runpytest_subprocess(
        "-v", "--fakesysfs-kernels=6.12", "--fakesysfs-machines=two-dimms"
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines_random(["*::test_free?6.12-two-dimms? PASSED*"])
    result = pytester.runpytest_subprocess("--fakesysfs-kernels=9.9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR or result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*kernels: there is no 9.9; there are: *"])


REPORT = """\
*_ test_fails _*
>       hotplug.wait("memory32/state = online", timeout=0.1)
E       AssertionError: not within 0.1 s:
E       memory32/state = online: it is 'offline'
*- hotplug: map -*
ADDRESS*SIZE*NODE*BLOCKS*
0x0100000000-0x0107ffffff*128M*0*memory32*offline*dimm0 in slot 0
*- hotplug: log -*
page dumped because: unmovable page
Policy zone: Normal
*- hotplug: events -*
*1 uevent * /devices/system/memory/memory32 add*monitor device_add pc-dimm,id=dimm0*
*state * unmovable page 0x100000 (slab) -> errno 16 *
*_ test_machine_fails _*
*- machine: map -*
*- machine: events -*
*uevent*memory40 add*
"""


def test_a_failed_test_shows_the_machine(pytester: pytest.Pytester, me: Person) -> None:
    pytester.makepyfile("""
        import pytest

        def test_fails(hotplug):
            hotplug.plug("128M")
            hotplug.write("memory32/state", "online_kernel")
            hotplug.allocate("slab", "4K", block=32)
            with pytest.raises(OSError):
                hotplug.write("memory32/state", "offline")
            hotplug.free("slab", "4K")
            hotplug.write("memory32/state", "offline")
            hotplug.wait("memory32/state = online", timeout=0.1)

        def test_machine_fails(machine):
            machine.add_memory(0, 5 << 30, 128 << 20)
            assert machine.blocks() == []

        def test_passes(hotplug, record_property):
            record_property("mine", 1)

        @pytest.fixture
        def broken(hotplug):
            hotplug.plug("256M")
            raise RuntimeError("in a fixture")

        def test_never(broken): pass
    """)
    result = pytester.runpytest_subprocess("--junitxml=report.xml")
    result.assert_outcomes(passed=1, failed=2, errors=1)
    result.stdout.fnmatch_lines(REPORT.splitlines())
    result.stdout.fnmatch_lines(["*_ ERROR at setup of test_never _*", "*256M*memory32-33*dimm0*"])
    result.stdout.no_fnmatch_line("*fakesysfs/testing/*")  # the trace ends in the test
    cases = ET.parse(pytester.path / "report.xml").getroot().iter("testcase")
    properties = {
        case.get("name"): {p.get("name"): f"{p.get('value')}" for p in case.iter("property")}
        for case in cases
    }
    assert properties["test_fails"].keys() == {
        "fakesysfs.hotplug.map",
        "fakesysfs.hotplug.log",
        "fakesysfs.hotplug.events",
    }
    assert "dimm0 in slot 0" in properties["test_fails"]["fakesysfs.hotplug.map"]
    assert (
        "page dumped because: unmovable page" in properties["test_fails"]["fakesysfs.hotplug.log"]
    )
    assert properties["test_machine_fails"].keys() == {
        "fakesysfs.machine.map",
        "fakesysfs.machine.log",
        "fakesysfs.machine.events",
    }
    assert properties["test_passes"] == {"mine": "1"}
    assert "memory32-33" in properties["test_never"]["fakesysfs.hotplug.map"]


def test_an_instance_that_ended_is_said_to_have(pytester: pytest.Pytester, me: Person) -> None:
    pytester.makepyfile("""
        def test_quits(hotplug):
            hotplug.monitor("quit")
            hotplug.wait("blocks = 9", timeout=60)
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *InstanceError: instance *", "*- hotplug: instance -*", "* ended*"]
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("kernal='6.1'", "fakesysfs: there is no option `kernal`; did you mean `kernel`?"),
        ("kernel='6.99'", "fakesysfs: --kernel 6.99: no profile of this version; *"),
        ("'6.1'", "the marker `fakesysfs` takes names only: ('6.1',)"),
    ],
)
@pytest.mark.parametrize("fixture", ["machine", "hotplug"])
def test_a_wrong_marker(
    pytester: pytest.Pytester, me: Person, fixture: str, marker: str, message: str
) -> None:
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.fakesysfs({marker})
        def test_it({fixture}): pass
    """)
    result = pytester.runpytest_subprocess()
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"*{message}"])


def test_with_xdist(pytester: pytest.Pytester, me: Person) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("n", range(1, 7))
        @pytest.mark.fakesysfs(inside=True)
        def test_each_has_its_own(hotplug, n):
            hotplug.plug(f"{n * 128}M")
            hotplug.expect(f"blocks = {8 + n}")
            assert n != 5
    """)
    result = pytester.runpytest_subprocess("-n4")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*- hotplug: map -*", "*640M*memory32-36*"])


PROJECT = """
    import pytest

    def test_machine(machine):
        assert machine.blocks()

    def test_hotplug(hotplug): pass

    @pytest.mark.fakesysfs(inside=True)
    def test_inside(): pass
"""


@pytest.mark.may_skip("only root can hide /dev/fuse")
@pytest.mark.skipif(people()[0].name != "root", reason="needs root")
@pytest.mark.parametrize("required", [False, True])
def test_without_fuse(pytester: pytest.Pytester, required: bool) -> None:
    """Instances are skipped, or with --fakesysfs-required fail; `machine` works."""
    pytester.makepyfile(PROJECT)
    command = [sys.executable, "-m", "pytest", "-rs", *(["--fakesysfs-required"] * required)]
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{HIDE_FUSE} exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "there is no /dev/fuse; `modprobe fuse` as root" in result.stdout, result
    end = result.stdout.splitlines()[-1]
    assert ("1 passed, 2 errors" if required else "1 passed, 2 skipped") in end


@pytest.mark.may_skip("only root can be somebody else")
@pytest.mark.skipif(people()[-1].name != "user", reason="there is no ordinary user here")
def test_as_an_ordinary_user(me: Person) -> None:
    person = people()[-1]
    with person.directory() as directory:
        Path(directory, "test_it.py").write_text("""
import os, pytest

@pytest.mark.fakesysfs(inside=True)
@pytest.mark.parametrize("n", [1, 2])
def test_inside(hotplug, tmp_path, n):
    (tmp_path / "file").write_text("x")
    hotplug.plug("128M")
    with open("/sys/devices/system/memory/memory32/state", "w") as state:
        state.write("online")
    hotplug.expect("memory32/state = online")
    assert os.getuid() == 0

@pytest.mark.fakesysfs(inside=True, root=False)
def test_keeps_its_user():
    assert os.getuid() == int(os.environ["MY_UID"])

def test_outside(hotplug):
    assert os.getuid() == int(os.environ["MY_UID"])
    hotplug.run(["test", "-e", "/sys/devices/system/memory/probe"], check=True)
""")
        uid = person.run("id", "-u").stdout.strip()
        result = person.run(
            sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio",
            "--basetemp", f"{directory}/tmp", f"{directory}",
            env={"MY_UID": uid}, cwd=f"{directory}",
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "4 passed" in result.stdout


def test_what_is_said_of_itself(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.fakesysfs(memory=, kernel=, machine=, *"])
    result = pytester.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines_random(["machine -- *", "hotplug -- *", "session_hotplug *"])
    result = pytester.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(
        ["simulated machines with memory hotplug:", "*--fakesysfs-required*"]
    )


def test_runs_that_do_not_use_it_load_next_to_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_loaded():
            loaded = sorted(name for name in sys.modules if name.startswith("fakesysfs"))
            assert loaded == ["fakesysfs", "fakesysfs.pytest_plugin"]
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
