"""`fakesysfs run` on other hosts than this one: in a container, with a kernel that has less, next
to a chroot; and what `fakesysfs doctor` says where something lacks. Each is imitated in a mount
namespace.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from t3_mount.host import FUSE_MAGIC, MEMORY, ONLY_COVERED, Person, command_directory, lines

SYSTEM = "/sys/devices/system"
DOCKER = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw",
    "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def elsewhere(person: Person, script: str) -> tuple[str, ...]:
    """What to put before a command that is to find what the script, which may mount, has made of
    this host.
    """
    user = () if person.name == "root" else ("--user", "--map-root-user")
    return (
        "unshare",
        *user,
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        f'{script}\nexec "$@"',
        "sh",
    )


# ------------------------------------------------------------------------------------------ kernels

WITHOUT_MEMORY = f"""
mount -t tmpfs -o mode=755 tmpfs /mnt
for path in {SYSTEM}/*; do
    name=${{path##*/}}
    case $name in memory) continue;; esac
    if [ -d $path ]; then mkdir /mnt/$name; else : > /mnt/$name; fi
    mount --rbind $path /mnt/$name
done
mount --rbind /mnt {SYSTEM}
umount --lazy /mnt"""


def test_a_kernel_without_memory_hotplug(person: Person) -> None:
    """The directory is made to appear, its siblings stay, and outside there still is none."""
    strange = elsewhere(person, WITHOUT_MEMORY)
    siblings = person.run(*strange, "ls", SYSTEM).stdout.split()
    assert siblings
    assert "memory" not in siblings
    look = (
        f"{ONLY_COVERED} ls {SYSTEM}; cat {SYSTEM}/cpu/online; echo 0x100000000 > {MEMORY}/probe;"
        f" ls -d {MEMORY}/memory32"
    )
    result = person.run(*strange, "fakesysfs", "run", "--verbose", "--", "sh", "-c", look)
    assert (result.returncode, result.stderr) == (0, "")
    *there, cpus, block = result.stdout.split()
    assert sorted(there) == sorted({*siblings, "memory", "node"})
    assert (cpus, block) == (Path(f"{SYSTEM}/cpu/online").read_text().strip(), f"{MEMORY}/memory32")
    both = f"fakesysfs run -- true && ls {SYSTEM}; fakesysfs doctor"
    result = person.run(*strange, "sh", "-c", both)
    assert result.returncode == 0, result.stdout
    assert result.stdout.split()[: len(siblings)] == siblings
    assert (
        f"note   /sys         has no {MEMORY}: `run` makes it appear, for its command only"
        in result.stdout
    )


def test_an_empty_sys(person: Person) -> None:
    strange = elsewhere(person, "mount -t tmpfs tmpfs /sys")
    look = f"{ONLY_COVERED} lsmem --noheadings --summary=never -o STATE; find /sys -maxdepth 2"
    result = person.run(*strange, "fakesysfs", "run", "--", "sh", "-c", look)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("online\n")
    assert "note   /sys         is empty" in person.run(*strange, "fakesysfs", "doctor").stdout


# --------------------------------------------------------------------------------------- containers

CONTAINER = """
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs -o ro tmpfs /sys/firmware
mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
mount --bind /dev/null /proc/timer_list 2>/dev/null || :
"""


def in_container(*more: str) -> tuple[str, ...]:
    """As elsewhere: /sys and /proc as Docker makes them, and its capabilities with some more."""
    capabilities = ",".join(("-all", *(f"+{name}" for name in (*DOCKER, *more))))
    privileges = ("setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all")
    shell = (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--net",
        "--pid",
        "--fork",
        "sh",
        "-ec",
    )
    return (*shell, f'{CONTAINER}\nexec "$@"', "sh", *privileges)


@pytest.mark.may_skip("only root can imitate a container")
@ONLY_ROOT
def test_in_a_container(me: Person) -> None:
    """With --cap-add SYS_ADMIN; there is no CAP_NET_ADMIN, /sys is read-only, /sys/firmware and
    parts of /proc covered.
    """
    listener = """
import os, socket, subprocess
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15); s.bind((0, 1)); s.settimeout(200)
with open("/sys/devices/system/memory/probe", "w") as file: file.write("0x100000000")
print(s.recv(4096).split(b"\\0")[0].decode())"""
    look = f"""
{ONLY_COVERED} lsmem --noheadings --summary=never -o STATE
ls /sys/firmware; "$@"; fakesysfs exec -- echo entered"""
    run = (
        "fakesysfs",
        "run",
        "--verbose",
        "--",
        "sh",
        "-c",
        look,
        "sh",
        sys.executable,
        "-c",
        listener,
    )
    result = me.run(*in_container("sys_admin"), *run)
    assert (result.returncode, result.stderr) == (0, "")
    online, memmap, uevent, entered = lines(result.stdout)
    assert (online, memmap, uevent) == ("online", "memmap", "add@/devices/system/memory/memory32")
    assert entered == "entered"
    doctor = me.run(*in_container("sys_admin"), "fakesysfs", "doctor")
    assert doctor.returncode == 0
    assert "FAULT" not in doctor.stdout


NO_USERS = "echo 0 > /proc/sys/user/max_user_namespaces"


def test_in_a_container_that_may_do_nothing(person: Person) -> None:
    """As Docker's default: root without CAP_SYS_ADMIN, and no user namespaces."""
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-ec", f'{NO_USERS}\nexec "$@"', "sh")
    privileges = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    for command in (("run", "--", "true"), ("run", "-d")):
        result = person.run(*prefix, *privileges, "fakesysfs", *command)
        assert (result.returncode, result.stdout) == (1, "")
        assert lines(result.stderr) == [
            "fakesysfs: no namespace of its own can be made for the command (unshare failed: No"
            " space left on device); `fakesysfs doctor` says what to do; `fakesysfs mount DIR`"
            " needs none"
        ]
    doctor = person.run(*prefix, *privileges, "fakesysfs", "doctor")
    assert doctor.returncode == 1
    assert "sudo sysctl -w user.max_user_namespaces=10000" in doctor.stdout


# ------------------------------------------------------------------------------------------- doctor


@pytest.mark.parametrize(
    ("lack", "finding", "advice", "works"),
    [
        (
            "mount -t tmpfs tmpfs /dev; touch /dev/null",
            "FAULT  /dev/fuse    there is no /dev/fuse",
            (
                "`modprobe fuse` as root; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
                " --security-opt apparmor:unconfined"
            ),
            False,
        ),
        (
            "mount -t tmpfs tmpfs /dev; touch /dev/null; mkdir /dev/fuse",
            "FAULT  /dev/fuse    /dev/fuse cannot be opened: Is a directory",
            "`chmod 666 /dev/fuse` as root",
            False,
        ),
        (
            "export FUSE_LIBRARY_PATH=/nosuch",
            "FAULT  libfuse      libfuse 2 cannot be loaded",
            "apt-get install libfuse2",
            False,
        ),
        (
            "mount -t tmpfs tmpfs /proc",
            "FAULT  /proc        is not there",
            "mount -t proc proc /proc",
            False,
        ),
        (
            (
                "for f in /usr/lib/systemd/systemd-udevd /lib/systemd/systemd-udevd; do\n"
                "[ ! -e $f ] || mount --bind /dev/null $f; done"
            ),
            "note   udevd        no systemd-udevd: `run --udev` needs it",
            "install the package udev",
            True,
        ),
    ],
    ids=["no-device", "no-right-to-the-device", "no-libfuse", "no-proc", "no-udevd"],
)
def test_the_doctor_finds_what_lacks(
    me: Person, lack: str, finding: str, advice: str, works: bool
) -> None:
    strange = elsewhere(me, lack)
    result = me.run(*strange, "fakesysfs", "doctor")
    assert result.returncode == (0 if works else 1), result.stdout
    assert result.stderr == ""
    at = next(
        (n for n, line in enumerate(result.stdout.splitlines()) if line.startswith(finding)), None
    )
    assert at is not None, result.stdout
    assert advice in result.stdout.splitlines()[at + 1]
    # What `run` says of it, where it cannot: one line, and nothing printed by the command.
    option = () if works is False else ("--udev",)
    result = me.run(*strange, "fakesysfs", "run", *option, "--", "echo", "reached")
    assert (result.returncode, result.stdout) == (1, "")
    assert len(lines(result.stderr)) == 1
    assert result.stderr.startswith("fakesysfs: ")


SETTINGS = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/kernel; echo 1 > /mnt/kernel/apparmor_restrict_unprivileged_userns; echo 0 > /mnt/kernel/unprivileged_userns_clone
mount --bind /mnt/kernel /proc/sys/kernel
echo 0 > /proc/sys/user/max_mnt_namespaces"""


def test_the_doctor_names_the_settings(me: Person) -> None:
    """Ubuntu's of AppArmor, Debian's, and the kernel's own."""
    strange = (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-ec",
        f'{SETTINGS}\nexec "$@"',
        "sh",
    )
    result = me.run(*strange, "fakesysfs", "doctor")
    assert result.returncode == 1
    advice = result.stdout.partition("FAULT  namespaces")[2].splitlines()[1]
    assert (
        advice.split("-> ")[1]
        == "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, sudo sysctl -w"
        " kernel.unprivileged_userns_clone=1, sudo sysctl -w user.max_mnt_namespaces=10000"
    )


def test_without_util_linux(me: Person) -> None:
    program = f"{command_directory()}/fakesysfs"
    result = me.run("env", "PATH=/nosuch", program, "run", "--", "/bin/true")
    assert (result.returncode, result.stderr) == (
        1,
        "fakesysfs: there is no unshare(1); install util-linux\n",
    )
    result = me.run("env", "PATH=/nosuch", program, "doctor")
    assert result.returncode == 1
    assert "FAULT  unshare      not there\n" in result.stdout


# ------------------------------------------------------------------------------------------- chroot

ROOT_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")


def fill(root: Path) -> str:
    """Shell commands that put this host's programs into a root file system."""
    commands = []
    for directory in ROOT_DIRECTORIES:
        place = f"{root}{directory}"
        if os.path.islink(directory):
            os.symlink(os.readlink(directory), place)
        elif os.path.isdir(directory):
            os.mkdir(place)
            commands.append(f"mount --rbind {directory} {place}")
    return "; ".join(commands)


@pytest.mark.parametrize("mounted", [False, True], ids=["empty", "mounted"])
def test_in_a_chroot(person: Person, mounted: bool) -> None:
    with person.directory() as directory:
        root = directory / "root"
        for name in ("", "sys", "proc"):
            (root / name).mkdir()
        prepare = fill(root)
        if mounted:
            prepare += f"; mount --rbind /sys {root}/sys; mount --rbind /proc {root}/proc"
        before = sorted(str(path) for path in root.rglob("*"))
        script = f"""
{ONLY_COVERED}
chroot {root} sh -c '
    test $(stat -f -c %t {MEMORY}) = {FUSE_MAGIC} || exit 99
    lsmem --noheadings --summary=never -o SIZE,STATE; head -n 1 /proc/meminfo; test -d /sys/devices/system/cpu && echo more
    echo 0x100000000 > {MEMORY}/probe'
ls -d {MEMORY}/memory32; cat {root}{MEMORY}/memory32/state"""
        run = (
            "fakesysfs",
            "run",
            "--memory",
            "2G,slots=2,maxmem=8G",
            "--bind-root",
            str(root),
            "--",
            "sh",
            "-c",
            script,
        )
        result = person.run(*elsewhere(person, prepare), *run)
        assert (result.returncode, result.stderr) == (0, "")
        size, total, more, block, state = lines(result.stdout)
        assert size.split() == ["2G", "online"]
        assert 1_900_000 < int(total.split()[1]) < 2_097_152
        assert (more, block, state) == ("more", f"{MEMORY}/memory32", "offline")
        assert sorted(str(path) for path in root.rglob("*")) == before


def test_a_root_file_system_with_a_sys_of_its_own(me: Person) -> None:
    """What is there stays, what is not is made to appear, and the disk does not see it."""
    with me.directory() as directory:
        for name in ("sys/devices/system/cpu", "sys/bus/pci", "proc"):
            (directory / name).mkdir(parents=True)
        (directory / "proc/meminfo").write_text("MemTotal: 1 kB\n")
        (directory / "proc/version").write_text("mine\n")
        before = sorted(str(path) for path in directory.rglob("*"))
        script = (
            f"cd {directory}; ls sys/devices/system sys/bus; cat sys{MEMORY[4:]}/memory7/state"
            " proc/version proc/meminfo"
        )
        result = me.inside(script, "--bind-root", str(directory), "--verbose")
        there = result.stdout.split()
        assert {"pci", "memory"} <= set(there[: there.index("sys/devices/system:")])
        system = there.index("sys/devices/system:")
        assert there[system + 1 : system + 6] == ["cpu", "memory", "node", "online", "mine"]
        assert "MemTotal: 1000" in re.sub(" +", " ", result.stdout)
        assert f"fakesysfs: there is no {directory}/proc/iomem, so there is none here" in lines(
            result.stderr
        )
        assert sorted(str(path) for path in directory.rglob("*")) == before


def test_no_root_file_system(me: Person) -> None:
    with me.directory() as directory:
        (directory / "sys").symlink_to("/sys")
        for root, message in (
            ("/nosuch", "there is no directory sys in it; mkdir /nosuch/sys"),
            (str(directory), f"there is no directory sys in it; mkdir {directory}/sys"),
        ):
            result = me.run("fakesysfs", "run", "--bind-root", root, "--", "true")
            assert (result.returncode, result.stderr) == (
                1,
                f"fakesysfs: --bind-root {root}: {message}\n",
            )


# --------------------------------------------------------------------------------- a run in another


def test_a_run_in_a_run_in_a_run(person: Person) -> None:
    """Each has files, uevents and an instance of its own; and the kernel may know nothing of
    memory.
    """
    inner = f"""
{ONLY_COVERED} echo 0x100000000 > {MEMORY}/probe; fakesysfs events | grep -c add@; fakesysfs exec -- echo third"""
    middle = (
        f'fakesysfs run --memory 2G -- sh -c "$INNER"; ls {MEMORY} | grep -c memory32; fakesysfs'
        " exec -- echo second"
    )
    outer = (
        f'fakesysfs run --keep-uid -- sh -c "$MIDDLE"; ls {MEMORY} | grep -c memory32; fakesysfs'
        " exec -- echo first"
    )
    result = person.inside(outer, env={"INNER": inner, "MIDDLE": middle})
    assert result.stderr == ""
    assert lines(result.stdout) == ["1", "third", "0", "second", "0", "first"]
