"""`fakesysfs run`: what the command finds, what it returns, and that nothing of it can be seen
elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from t3_mount.host import FUSE_MAGIC, MEMORY, SECONDS, Person, ended, lines

from fakesysfs.cli.run_commands import parse_run
from fakesysfs.run.launch import DEFAULTS

COVERED = """
/proc/buddyinfo
/proc/cmdline
/proc/iomem
/proc/meminfo
/proc/pagetypeinfo
/proc/sys/vm/drop_caches
/proc/sys/vm/min_free_kbytes
/proc/sys/vm/nr_hugepages
/proc/sys/vm/nr_hugepages_mempolicy
/proc/sys/vm/nr_overcommit_hugepages
/proc/vmstat
/proc/zoneinfo
/sys/bus/memory
/sys/bus/node
/sys/devices/system/memory
/sys/devices/system/node
/sys/firmware/memmap
/sys/kernel/debug/notifier-error-inject
/sys/kernel/debug/tracing
/sys/kernel/mm/hugepages
/sys/module/memory_hotplug
"""


ACPI_DEVICES = "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04"
ACPI_LINKS = "/sys/bus/acpi/devices"


def test_the_real_paths_are_the_machines(person: Person) -> None:
    script = """
lsmem --noheadings -o RANGE,SIZE,STATE,BLOCK | head -n 1
grep MemTotal /proc/meminfo
cat /sys/bus/memory/devices/memory7/state"""
    result = person.inside(script, "--memory", "2G,slots=2,maxmem=4G")
    assert result.returncode == 0, result.stderr
    block, total, state = lines(result.stdout)
    assert block.split() == ["0x0000000000000000-0x000000007fffffff", "2G", "online", "0-15"]
    assert 1_900_000 < int(total.split()[1]) < 2_097_152
    assert state == "online"


def test_exactly_those_paths_are_covered(person: Person) -> None:
    result = person.inside("awk '$3 == \"fuse.fakesysfs\" {print $2}' /proc/mounts")
    mounted = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    covered = {
        path
        for path in set(result.stdout.split()) - mounted
        if not path.startswith((ACPI_DEVICES, ACPI_LINKS))
    }
    assert sorted(covered) == COVERED.split()
    # What is next to them is as outside, but for debugfs, of which only root sees anything.
    for directory in (
        "/sys",
        "/sys/bus",
        "/sys/devices/system",
        "/sys/module",
        "/sys/firmware",
        "/sys/fs",
        "/sys/kernel",
    ):
        here = sorted(os.listdir(directory))
        there = person.inside(f"ls -1A {directory}").stdout.split()
        assert set(here) <= set(there), directory


def test_the_tracers_file_has_the_call_graphs(person: Person) -> None:
    script = f"""
cd /sys/kernel/debug/tracing
echo offline > {MEMORY}/memory1/state 2> /dev/null || head -n 6 trace
fakesysfs trace | cmp - trace && echo same
echo > trace
echo 0 > tracing_on
echo 0x100000000 > {MEMORY}/probe
cat trace"""
    result = person.inside(script)
    heading = """\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
"""
    assert (result.returncode, result.stderr) == (0, "")
    first = (
        f"# echo offline > {MEMORY}/memory1/state -> -16\n 0)               |  state_store() {{\n"
    )
    assert result.stdout == f"{heading}{first}same\n{heading}"


def test_the_trace_names_operations_and_filters(person: Person) -> None:
    script = f"""
fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=256M' 'device_add pc-dimm,id=d0,memdev=m0'
echo online > {MEMORY}/memory32/state
fakesysfs trace | grep '^# [e(]'
fakesysfs trace --last --grep online_pages --own | head -n 2
fakesysfs trace --stack __free_page
fakesysfs trace --stack no_such_function"""
    result = person.inside(script, "--kernel", "5.0")
    assert (
        result.stdout
        == f"""\
# (qemu) device_add pc-dimm,id=d0,memdev=m0 -> 0
# echo online > {MEMORY}/memory32/state -> 0
# echo online > {MEMORY}/memory32/state -> 0
 0)               |        online_pages() {{
# echo online > {MEMORY}/memory32/state -> 0
Call Trace:
 __free_page() /* not simulated */
 generic_online_page()
 online_pages_range() /* not simulated */
 walk_system_ram_range() /* not simulated */
 online_pages()
 memory_subsys_online()
 device_online()
 state_store()
 kernfs_fop_write() /* not simulated */
"""
    )
    assert "No traced operation called no_such_function()" in result.stderr
    assert result.returncode == 1


def test_slots_stand_among_the_hosts_acpi_devices(person: Person) -> None:
    """Those of the host that are not memory stay, and can be used; links between blocks and slots
    lead somewhere.
    """
    result = person.inside(
        f"""
ls {ACPI_LINKS}; echo; ls {os.path.dirname(ACPI_DEVICES)}; echo
fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=256M' 'device_add pc-dimm,id=d0,memdev=m0,slot=2'
cat {MEMORY}/memory33/firmware_node/path {ACPI_LINKS}/PNP0C80:02/physical_node1/state
readlink -f {MEMORY}/memory32/firmware_node {ACPI_LINKS}/PNP0C80:02 {ACPI_LINKS}/PNP0C80:02/physical_node
for host in {ACPI_LINKS}/*; do [ -e $host ] || echo "$host leads nowhere"; done
echo 1 > {ACPI_LINKS}/PNP0C80:02/eject
while [ -e {MEMORY}/memory32 ]; do sleep 0.01; done
fakesysfs monitor 'info memory-devices'""",
        "--memory", "1G,slots=3,maxmem=8G",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    links, devices, rest = result.stdout.split("\n\n")
    slots = {f"PNP0C80:0{slot}" for slot in range(3)}
    for shown, directory, added in (
        (links, ACPI_LINKS, slots),
        (devices, os.path.dirname(ACPI_DEVICES), {"PNP0A06:04"}),
    ):
        there = set(os.listdir(directory)) if os.path.isdir(directory) else set()
        assert (
            set(shown.split())
            == {name for name in there if not name.startswith("PNP0C80:")} | added
        )
    assert rest.split() == [
        "\\_SB_.MHPC.MP02", "offline", *2 * [f"{ACPI_DEVICES}/PNP0C80:02"], f"{MEMORY}/memory32",
    ]  # fmt: skip


def test_nothing_is_seen_outside(me: Person) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with ended(
        me.start("fakesysfs", "run", "--", "sh", "-c", "echo ready; exec sleep 600")
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        kind = subprocess.run(
            ["stat", "-f", "-c", "%t", MEMORY], capture_output=True, text=True, check=False
        )
        assert FUSE_MAGIC not in kind.stdout
        assert Path("/proc/self/mountinfo").read_text() == before
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 255"), 255),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -15 $$"), 143),
        (("sh", "-c", "kill -2 $$"), 130),
    ],
)
def test_the_exit_status_is_the_commands(
    person: Person, command: tuple[str, ...], status: int
) -> None:
    result = person.run("fakesysfs", "run", "--", *command)
    assert (result.returncode, result.stderr) == (status, "")


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("nosuch-command", 127, "nosuch-command: command not found"),
        ("/nosuch/command", 127, "/nosuch/command: command not found"),
        ("/etc/passwd", 126, "/etc/passwd: permission denied"),
        ("/etc", 126, "/etc: is a directory"),
        (f"{MEMORY}/probe", 126, f"{MEMORY}/probe: permission denied"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--keep-uid",)], ids=["", "keep-uid"])
def test_a_command_that_cannot_be_started(
    person: Person, command: str, status: int, message: str, options: tuple[str, ...]
) -> None:
    result = person.run("fakesysfs", "run", *options, "--", command)
    assert (result.returncode, result.stdout, result.stderr) == (
        status,
        "",
        f"fakesysfs: {message}\n",
    )


def test_scripts(me: Person) -> None:
    with me.directory() as directory:
        for name, text in (("plain", "echo plain $1\n"), ("lost", "#!/nosuch/interpreter\n")):
            script = directory / name
            script.write_text(text)
            script.chmod(0o755)
        result = me.run("fakesysfs", "run", "--", str(directory / "plain"), "x")
        assert (result.returncode, result.stdout) == (0, "plain x\n")
        result = me.run("fakesysfs", "run", "--", str(directory / "lost"))
        assert result.returncode == 127
        assert lines(result.stderr) == [f"fakesysfs: {directory}/lost: no such file or directory"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--memory", "much", "--", "true"), 2, "fakesysfs: --memory"),
        (("--nosuch", "--", "true"), 2, "fakesysfs: No such option"),
        ((), 2, "fakesysfs: Missing argument 'COMMAND...'; see `fakesysfs run --help`"),
        (
            ("--qmp", "/nosuch/qmp", "--", "true"),
            1,
            "fakesysfs: cannot make the QMP socket /nosuch/qmp",
        ),
    ],
)
def test_wrong_options(person: Person, options: tuple[str, ...], status: int, message: str) -> None:
    result = person.run("fakesysfs", "run", *options)
    assert (result.returncode, result.stdout) == (status, "")
    assert len(lines(result.stderr)) == 1
    assert result.stderr.startswith(message)


def test_options_that_are_not_given_are_false_but_for_a_few() -> None:
    """A `run` without options does not ask the command line what they are by default."""
    given = {
        name: value
        for name, value in parse_run(["--", "true"]).items()
        if value and name != "command"
    }
    assert given == DEFAULTS


FORBID = "echo 0 > /proc/sys/user/max_mnt_namespaces && exec "


def test_without_namespaces_there_is_one_line(me: Person) -> None:
    forbidden = ("unshare", "--user", "--map-root-user", "sh", "-c")
    result = me.run(*forbidden, FORBID + "fakesysfs run -- true")
    assert result.returncode == 1
    assert lines(result.stderr) == [
        "fakesysfs: no namespace of its own can be made for the command (unshare failed: No space"
        " left on device); `fakesysfs doctor` says what to do; `fakesysfs mount DIR` needs none"
    ]
    result = me.run(*forbidden, FORBID + "fakesysfs doctor")
    assert result.returncode == 1
    assert "sudo sysctl -w user.max_mnt_namespaces=" in result.stdout
    assert "FAULT  run" in result.stdout
    assert result.stderr == ""


def test_the_doctor_finds_nothing_wrong(person: Person) -> None:
    result = person.run("fakesysfs", "doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert "FAULT" not in result.stdout
    assert "ok     run" in result.stdout


def test_standard_streams_and_other_descriptors(me: Person, tmp_path: Path) -> None:
    result = me.run("fakesysfs", "run", "--", "sh", "-c", "cat; echo error >&2", stdin="input\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "input\n", "error\n")
    (tmp_path / "file").write_text("seven\n")
    result = me.run(
        "sh", "-c", f"exec fakesysfs run -- sh -c 'cat <&7; ls /proc/self/fd' 7< {tmp_path}/file"
    )
    assert result.stdout == "seven\n0\n1\n2\n3\n7\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams(me: Person, closed: str) -> None:
    """Nothing of ours takes their numbers."""
    with me.directory() as directory:
        look = f"for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done > {directory}/fds; exit 4"
        result = me.run("sh", "-c", f"fakesysfs run -- sh -c '{look}' {closed}")
        assert result.returncode == 4
        assert "socket" not in (directory / "fds").read_text()


def test_the_environment(person: Person) -> None:
    result = person.inside(
        "echo $FAKESYSFS $SYSTEMD_DEVICE_VERIFY_SYSFS $MINE", env={"MINE": "mine"}
    )
    uid = 0 if person.name == "root" else person.run("id", "-u").stdout.strip()
    name, *rest = result.stdout.split()
    assert name.startswith(f"fakesysfs/{uid}/")
    assert rest == ["0", "mine"]


@pytest.mark.parametrize(
    ("options", "root"), [((), True), (("--root",), True), (("--keep-uid",), False)]
)
def test_who_one_is(person: Person, options: tuple[str, ...], root: bool) -> None:
    """Whoever that is may write to files of mode 0644; with --keep-uid it may not do what takes
    more.
    """
    uid = person.run("id", "-u").stdout.strip()
    mine = "0" if root or person.name == "root" else uid
    write = (
        f"id -u; stat -c %a {MEMORY}/auto_online_blocks; echo online > {MEMORY}/auto_online_blocks"
    )
    plug = (
        f"echo offline > {MEMORY}/auto_online_blocks; echo 0x100000000 > {MEMORY}/probe; chmem -e"
        " 128M"
    )
    result = person.inside(
        f"{write}; cat {MEMORY}/auto_online_blocks; {plug}; cat {MEMORY}/memory32/state", *options
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == [mine, "644", "online", "online"]
    capable = person.inside("mount -t tmpfs tmpfs /mnt", *options)
    assert capable.returncode == 0 if mine == "0" else capable.returncode != 0
    with person.directory() as directory:  # what it makes belongs to whoever started it
        assert person.inside(f"touch {directory}/file", *options).returncode == 0
        assert f"{(directory / 'file').stat().st_uid}" == uid
    assert person.run("fakesysfs", "run", *options, "--", "sh", "-c", "exit 9").returncode == 9


@pytest.mark.parametrize("command", ["run", "run with options", "exec"])
def test_arguments_limits_and_umask_arrive_as_they_are(me: Person, command: str) -> None:
    start = {
        "run": "fakesysfs run --",
        "run with options": "fakesysfs run --seed 2",
        "exec": "fakesysfs run -- fakesysfs exec --",
    }[command]
    show = """sh -c 'printf "%s|" "$@" | od -An -c; umask; ulimit -n; nice' sh"""
    arguments = """'' "$(printf '\\377')" -- -d --detach 'two
lines' '*'"""
    script = "umask 027; ulimit -n 200; exec nice -n 3 "
    result = me.run("sh", "-c", f"{script}{start} {show} {arguments}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == me.run("sh", "-c", f"{script}{show} {arguments}").stdout
    assert "377" in result.stdout


def test_in_a_directory_that_is_covered(me: Person) -> None:
    result = me.run(
        "fakesysfs", "run", "--", "sh", "-c", "pwd; stat -f -c %t .; cat memory7/state", cwd=MEMORY
    )
    assert result.stdout.split() == [MEMORY, FUSE_MAGIC, "online"]


def test_what_the_command_leaves_behind_is_ended(person: Person) -> None:
    result = person.inside("setsid sleep 600 & (trap '' TERM HUP; sleep 600) & exit 3")
    assert result.returncode == 3


def test_processes_and_network_are_its_own(person: Person) -> None:
    assert (
        person.inside("cat /proc/1/comm; ls -1 /sys/class/net")
        .stdout.split()[0]
        .startswith("python")
    )
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        " socket.create_connection(s.getsockname())"
    )
    assert person.run("fakesysfs", "run", "--", sys.executable, "-c", code).returncode == 0


@pytest.mark.may_skip("only root can make such a /proc")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_where_proc_cannot_be_mounted(me: Person) -> None:
    """As in many containers, where a part of /proc is covered: a new one would show what is below."""
    forbid = (
        "mount -t tmpfs tmpfs /proc/tty && exec setpriv --bounding-set=-sys_admin"
        " --inh-caps=-sys_admin"
    )
    look = "head -n 1 /proc/meminfo; sleep 300 & exit 3"
    result = me.run(
        "unshare", "--mount", "sh", "-c", f"{forbid} fakesysfs run --verbose -- sh -c '{look}'"
    )
    assert result.returncode == 3
    assert result.stdout.startswith("MemTotal:        100")
    assert lines(result.stderr) == [
        "fakesysfs: /proc stays the one outside, so process numbers do not fit: Operation not"
        " permitted"
    ]


def test_with_the_hosts_network(me: Person) -> None:
    there = me.inside("readlink /proc/self/ns/net", "--net=host").stdout.strip()
    assert there == os.readlink("/proc/self/ns/net")
    assert me.inside("readlink /proc/self/ns/net").stdout.strip() != there


def test_one_in_another(me: Person) -> None:
    inner = (
        "fakesysfs run --memory 2G -- sh -c 'lsmem --summary=only | grep online'; lsmem"
        " --summary=only | grep online"
    )
    result = me.inside(inner)
    assert [line.split()[-1] for line in lines(result.stdout)] == ["2G", "1G"], result.stderr


def test_qmp_socket(person: Person) -> None:
    with person.directory() as directory:
        socket = directory / "qmp"
        ask = f"""
import json, socket
s = socket.socket(socket.AF_UNIX); s.connect({str(socket)!r}); f = s.makefile()
print(json.loads(f.readline())["QMP"]["version"]["qemu"]["major"])"""
        for _ in range(2):
            result = person.run(
                "fakesysfs", "run", "--qmp", str(socket), "--", sys.executable, "-c", ask
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, "7\n", "")
            assert os.listdir(directory) == []
        socket.write_text("mine")
        result = person.run("fakesysfs", "run", "--qmp", str(socket), "--", "true")
        assert result.returncode == 1
        assert len(lines(result.stderr)) == 1
        assert socket.read_text() == "mine"


def test_hmp_socket(person: Person) -> None:
    """A script outside plugs a DIMM as with `socat - UNIX-CONNECT:PATH`; a second one is told what
    there is.
    """
    with person.directory() as directory:
        path = directory / "hmp"
        speak = f"""
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); s.sendall(sys.argv[1].encode()); s.shutdown(socket.SHUT_WR)
while data := s.recv(65536): sys.stdout.buffer.write(data)"""
        wait = (
            "echo ready; cd /sys/devices/system/memory; while [ ! -e memory33 ]; do sleep 0.05;"
            " done; echo seen; sleep 600"
        )
        with ended(
            person.start("fakesysfs", "run", "--hmp", str(path), "--", "sh", "-c", wait)
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            said = (
                "object_add memory-backend-ram,id=m0,size=256M\ndevice_add"
                " pc-dimm,id=d0,memdev=m0\n"
            )
            shown = person.run(sys.executable, "-c", speak, said).stdout
            assert shown.startswith("QEMU 7.2")
            assert "rror" not in shown
            assert process.stdout.readline() == "seen\n"
            shown = person.run(sys.executable, "-c", speak, "info memory-devices\n").stdout
            assert 'Memory device [dimm]: "d0"\n  addr: 0x100000000\n' in shown
            person.run(sys.executable, "-c", speak, "quit\n")
            assert process.wait(SECONDS) == 0
        assert os.listdir(directory) == []


def test_quit_of_the_monitor_ends_it(me: Person) -> None:
    result = me.inside("fakesysfs monitor quit; sleep 600; echo not reached")
    assert "not reached" not in result.stdout


def test_readers_and_writers_in_parallel(me: Person) -> None:
    """Six readers while blocks come and go: everything they see is whole."""
    script = """
cd /sys/devices/system/memory
for i in 1 2 3 4 5 6; do
    (while [ ! -e $D/stop ]; do cat memory*/state; done 2>/dev/null | sort -u > $D/$i) &
done
for i in 1 2 3 4 5; do
    fakesysfs monitor "object_add memory-backend-ram,id=m$i,size=256M" "device_add pc-dimm,id=d$i,memdev=m$i"
    echo online_movable > memory32/state; echo offline > memory32/state
    fakesysfs monitor "device_del d$i" "object_del m$i"
done
touch $D/stop; wait; cat $D/[1-6] | sort -u"""
    with me.directory() as directory:
        result = me.run("fakesysfs", "run", "--", "sh", "-c", script, env={"D": str(directory)})
    assert result.returncode == 0, result.stderr
    assert {"online"} <= set(result.stdout.split()) <= {"online", "offline", "going-offline"}
