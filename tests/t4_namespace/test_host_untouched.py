"""Whatever runs inside `run`, as root too, the host's files below /sys and /proc stay as they are, and
none of them is taken for the machine's.

Each test's host is a fake, see fake_host.py: a failure does no harm.
"""

from __future__ import annotations

import os
import shlex

import pytest
from t3_mount.host import Person
from t4_namespace.fake_host import ACPI, FILES, on_fake_host, try_everything

MACHINES = {
    "5.0": ("--kernel=5.0",),
    "5.10": ("--kernel=5.10",),
    "6.1": ("--kernel=6.1",),
    "7.1": ("--kernel=7.1",),
    "s390x": ("--arch=s390x",),
    "aarch64": ("--arch=aarch64",),
    "ppc64le": ("--arch=ppc64le",),
    "without": (
        "--config=FIRMWARE_MEMMAP=n,MEMORY_NOTIFIER_ERROR_INJECT=n,ARCH_MEMORY_PROBE=n,NUMA=n,HUGETLB_PAGE=n",
    ),
    "hidden": (
        "--fault=hide /sys/devices/system/memory",
        "--fault=hide /sys/bus/node",
        "--fault=hide /sys/module/memory_hotplug",
        "--fault=vanish /sys/devices/system/node",
    ),
}
WITHOUT_ACPI = {"s390x", "ppc64le"}
# The host's files that have nothing to do with memory, which stay in sight
STRANGERS = {
    "/sys/bus/acpi/devices/PNP0A08:00/uevent", "/sys/bus/acpi/drivers_autoprobe", "/sys/bus/pci/drivers_autoprobe",
    f"{ACPI}/PNP0A06:04/PNP0A05:00/eject", f"{ACPI}/PNP0A08:00/eject", "/sys/devices/platform/serial8250/uevent",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource", "/sys/devices/system/cpu/cpu1/online",
    "/sys/firmware/acpi/pm_profile", "/sys/firmware/efi/vars", "/sys/fs/cgroup/cgroup.procs",
    "/sys/kernel/debug/other", "/sys/kernel/mm/ksm/run", "/sys/module/acpi/parameters/ec_delay",
    "/sys/module/printk/parameters/time", "/sys/power/state",
}  # fmt: skip
OF_ACPI = (
    "/sys/bus/acpi/",
    "/sys/devices/LNXSYSTM:00/",
    "/sys/firmware/acpi/",
    "/sys/module/acpi/",
)
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
CGROUPS = "/sys/fs/cgroup/cgroup.procs"


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_gets_through(person: Person, machine: str) -> None:
    outcome = try_everything(person, MACHINES[machine])
    assert outcome.of_host == {
        path for path in STRANGERS if machine not in WITHOUT_ACPI or not path.startswith(OF_ACPI)
    }
    assert outcome.afterwards.keys() == {CGROUPS}
    assert {path: outcome.tried[path] for path in outcome.of_host - {CGROUPS}} == dict.fromkeys(
        outcome.of_host - {CGROUPS}, "EROFS"
    )
    # all of /proc/sys, and what of the rest somebody may write to
    of_proc = {
        path: answer
        for path, answer in outcome.tried.items()
        if answer not in ("EROFS", "EACCES", "EPERM", "ours")
        and path.startswith("/proc/")
        and not path.startswith("/proc/pressure/")
        and (path in outcome.writable or path.startswith("/proc/sys/"))
    }
    assert of_proc == {}
    assert sum(path.startswith("/proc/sys/vm/") for path in outcome.tried) > 10
    if machine != "hidden":
        assert sum(answer == "ours" for answer in outcome.tried.values()) > 50


def test_host_writes(person: Person) -> None:
    """With the option the host's files can be written to, and the machine's are no more the host's."""
    outcome = try_everything(person, ["--host-writes"])
    assert outcome.of_host == STRANGERS
    assert outcome.afterwards.keys() == STRANGERS


REFUSED = "sh: 1: cannot create /sys/power/state: Read-only file system"
WRITE = "sh -c 'echo mem > /sys/power/state'"
WAYS = {
    "run": f"fakesysfs run -- {WRITE}",
    "nested": f"fakesysfs run -- fakesysfs run --kernel 5.10 -- {WRITE}",
    "exec": (
        "fakesysfs run --qmp $D/qmp --detach >$D/out 2>&1; status=0\n"
        f"fakesysfs exec --instance $D/qmp -- {WRITE} || status=$?\n"
        "fakesysfs stop --instance $D/qmp >/dev/null; exit $status"
    ),
    "udev": f"fakesysfs run --udev -- {WRITE}",
    "keep-uid": f"fakesysfs run --keep-uid -- {WRITE}",
    "host network": f"fakesysfs run --net=host -- {WRITE}",
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_inside(person: Person, way: str) -> None:
    if way == "udev" and not os.path.exists("/lib/systemd/systemd-udevd"):
        pytest.skip("no systemd-udevd here")
    with person.directory() as directory:
        script = f"D={shlex.quote(str(directory))}\n({WAYS[way]}) || echo $?; cat /sys/power/state"
        result = person.run(*on_fake_host(person, script))
    assert (result.stdout, result.stderr.strip()) == ("2\nthe host's", REFUSED)


UNDO = (
    "mount -o remount,rw /sys", "mount -o remount,bind,rw /sys", "mount -o remount,rw /proc/sys",
    "mount -o remount,rw /proc/irq", "umount /proc/sys", "umount /sys/power", "mount -t proc proc $D",
    "mount -t sysfs sysfs $D", "mount --bind /proc $D",
)  # fmt: skip


@pytest.mark.may_skip("only root could change the host")
@ONLY_ROOT
def test_root_undoes_nothing_by_accident(me: Person) -> None:
    """What a script of root may do that expects to be at home, is refused, and other mounts are not."""
    tries = "; ".join(f"{command} 2>/dev/null && echo '{command}'" for command in UNDO)
    script = f"{tries}; mount -t tmpfs none $D && umount $D; echo done; {WRITE}"
    with me.directory() as directory:
        inside = shlex.join(["fakesysfs", "run", "--verbose", "--", "sh", "-c", script])
        result = me.run(
            *on_fake_host(me, f"export D={directory}; {inside} || :\ncat /sys/power/state")
        )
    assert (result.stdout, result.stderr.strip()) == ("done\nthe host's", REFUSED)


@pytest.mark.may_skip("only root can mount a sysfs")
@ONLY_ROOT
def test_a_second_sysfs(me: Person) -> None:
    """Where proc and sysfs are mounted elsewhere, too, they are read-only there."""
    with me.directory() as directory:
        look = (
            f"grep ' {directory}' /proc/self/mountinfo | grep -c ' ro,' && touch {directory}/sys/x"
        )
        script = (
            f"cd {directory}; mkdir sys proc; mount -t sysfs sysfs sys; mount -t proc proc proc\n"
            f"fakesysfs run -- sh -c {shlex.quote(look)} || :"
        )
        result = me.run(*on_fake_host(me, script))
    assert int(result.stdout) >= 5  # sys, proc/sys, proc/irq, proc/bus, proc/fs at least
    assert "Read-only file system" in result.stderr


@pytest.mark.may_skip("only root can make devices for a fake")
@ONLY_ROOT
def test_the_kernel_log(me: Person) -> None:
    """A line for the kernel's log does not get to the host's, whose lines nobody takes."""
    fake = (
        "mount -t tmpfs none /dev; : > /dev/kmsg; mknod /dev/null c 1 3; mknod /dev/fuse c 10 229"
    )
    inside = "echo for the log > /dev/kmsg; timeout 5 cat /proc/kmsg | wc -c"
    run = f"fakesysfs run -- sh -c {shlex.quote(inside)}; cat /dev/kmsg"
    result = me.run(*on_fake_host(me, f"{fake}\n{run}"))
    assert (result.stdout.strip(), result.stderr) == ("0", "")


# The level does not exist, so the host's kernel changes nothing: what gets there is refused by EINVAL.
SYSLOG = """
import ctypes, errno
library = ctypes.CDLL(None, use_errno=True)
for action, level in ((8, 99), (10, 0)):
    answer = library.klogctl(action, None, level)
    print("ok" if answer >= 0 else errno.errorcode[ctypes.get_errno()], end=" ")
"""


@pytest.mark.may_skip("only root may change the log")
@ONLY_ROOT
def test_system_calls_leave_the_kernel_log_alone(me: Person) -> None:
    """In `run` and in `exec`. The console's level cannot be set, the size of the log can be read."""
    program = shlex.join(["python3", "-c", SYSLOG])
    script = (
        f"{program}; fakesysfs run -- {program}; fakesysfs run --detach --qmp $D/qmp >$D/out 2>&1\n"
        f"fakesysfs exec --instance $D/qmp -- {program}; fakesysfs stop --instance $D/qmp"
    )
    with me.directory() as directory:
        result = me.run(*on_fake_host(me, f"D={directory}; {script}"))
    assert result.stdout.split() == ["EINVAL", "ok", "EPERM", "ok", "EPERM", "ok"], result.stderr


def test_hidden_from_the_start_and_back(person: Person) -> None:
    """A file that a rule hides is missing, not the host's, and is back when the rule is gone."""
    hidden = (
        "/sys/devices/system/memory",
        "/sys/devices/system/node",
        "/sys/bus/memory",
        "/proc/meminfo",
    )
    look = "for path in {}; do ls -d $path 2>&1; done".format(" ".join(hidden))
    rules = [f"--fault=hide {path}" for path in hidden]
    run = shlex.join([
        "fakesysfs", "run", *rules, "--", "sh", "-c", f"{look}; fakesysfs fault clear; {look}",
    ])  # fmt: skip
    result = person.run(*on_fake_host(person, f"export LC_ALL=C; {run}"))
    missing = [f"ls: cannot access '{path}': No such file or directory" for path in hidden]
    assert result.stdout.splitlines() == [*missing, *hidden]


def test_every_file_of_the_fake_is_decided() -> None:
    """Each file of the fake host is one that stays in sight, or one of a place that is the machine's."""
    from fakesysfs.run.covered_paths import is_covered

    assert {path for path in FILES if not is_covered(path)} == STRANGERS
