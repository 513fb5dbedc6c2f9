"""The life of a mount: beginning, end, and every way in which either fails. Nothing is ever left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.conftest import Mounter
from t3_mount.host import SECONDS, Person, ended, lines, needs_fuse, people

from fakesysfs.control import instances

pytestmark = needs_fuse
ME = people()[0]


def server_of(person: Person, directory: Path) -> int:
    """Process id of the server of a mount, which is the number in its instance's name."""
    ask = f"from fakesysfs.control import connect; print(connect({str(directory)!r}).name)"
    return int(person.run(sys.executable, "-c", ask).stdout.rpartition("/")[2])


def test_mounting_and_unmounting(person: Person, mounted: Mounter) -> None:
    directory = mounted(person)
    assert person.sees_mount(directory)
    result = person.run("fakesysfs", "umount", str(directory))
    assert (result.returncode, result.stderr) == (0, "")
    assert not person.sees_mount(directory)
    assert os.listdir(directory) == []
    result = person.run("fakesysfs", "umount", str(directory))
    assert result.returncode == 1
    assert result.stderr == f"fakesysfs: {directory} is not a mounted fakesysfs\n"


def test_a_second_mount_is_refused(tree: Path) -> None:
    result = ME.run("fakesysfs", "mount", str(tree))
    assert result.returncode == 1
    assert lines(result.stderr) == [
        f"fakesysfs: {tree} is a mounted fakesysfs already; fakesysfs umount {tree}"
    ]


def test_a_place_that_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, message in (
        (tmp_path / "nosuch", f"there is no directory {tmp_path}/nosuch; mkdir {tmp_path}/nosuch"),
        (
            tmp_path / "file",
            f"{tmp_path}/file is not a directory; give an empty directory to mount at",
        ),
        (tmp_path, f"{tmp_path} is not empty; give an empty directory to mount at"),
    ):
        result = ME.run("fakesysfs", "mount", str(place))
        assert (result.returncode, result.stderr) == (1, f"fakesysfs: {message}\n")


def test_an_impossible_machine(tmp_path: Path) -> None:
    result = ME.run("fakesysfs", "mount", str(tmp_path), "--memory", "much")
    assert result.returncode == 2
    assert len(lines(result.stderr)) == 1
    assert not ME.sees_mount(tmp_path)


def test_without_libfuse_or_device(tmp_path: Path) -> None:
    result = ME.run("fakesysfs", "mount", str(tmp_path), env={"FUSE_LIBRARY_PATH": "libfuse.so.99"})
    assert result.returncode == 1
    assert len(lines(result.stderr)) == 1
    assert "libfuse 2 cannot be loaded" in result.stderr
    assert "apt-get install libfuse2" in result.stderr
    if os.geteuid() == 0:
        script = f"mount -t tmpfs tmpfs /dev && fakesysfs mount {tmp_path}"
        result = ME.run("unshare", "--mount", "sh", "-c", script)
        assert result.returncode == 1
        assert lines(result.stderr)[0].startswith("fakesysfs: there is no /dev/fuse; ")


def test_unmounting_what_is_in_use(tree: Path) -> None:
    with (tree / "proc/meminfo").open():
        result = ME.run("fakesysfs", "umount", str(tree))
    assert result.returncode == 1
    assert len(lines(result.stderr)) == 1
    assert "busy" in result.stderr
    assert (tree / "proc/meminfo").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_the_end_of_the_server_is_the_end_of_the_mount(
    person: Person, mounted: Mounter, number: signal.Signals
) -> None:
    directory = mounted(person)
    server = server_of(person, directory)
    assert person.sees_mount(directory)
    person.run("kill", f"-{int(number)}", str(server))
    wait_for(lambda: not person.sees_mount(directory))
    wait_for(lambda: str(server) not in [instance.id for instance in instances()])


def test_a_dead_mount_can_be_unmounted(mounted: Mounter) -> None:
    """When the process that would have cleaned up was killed as well."""
    directory = mounted(ME)
    server = server_of(ME, directory)
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: str(server) not in [instance.id for instance in instances()])
    assert "fakesysfs umount" in ME.run("fakesysfs", "mount", str(directory)).stderr
    assert ME.run("fakesysfs", "umount", str(directory)).returncode == 0
    assert not ME.sees_mount(directory)


def test_in_the_foreground(tmp_path: Path) -> None:
    with ended(ME.start("fakesysfs", "mount", "-f", str(tmp_path))) as process:
        wait_for(lambda: (tmp_path / "proc/meminfo").exists())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert not ME.sees_mount(tmp_path)


def test_the_server_holds_nothing_of_its_caller(tmp_path: Path) -> None:
    """Whoever reads the output of `mount` gets its end; nobody's directory stays busy."""
    (tmp_path / "machine").mkdir()
    (tmp_path / "cwd").mkdir()
    result = ME.run("fakesysfs", "mount", str(tmp_path / "machine"), cwd=str(tmp_path / "cwd"))
    assert result.returncode == 0
    try:
        server = server_of(ME, tmp_path / "machine")
        assert os.readlink(f"/proc/{server}/cwd") == "/"
        assert [os.readlink(f"/proc/{server}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    finally:
        ME.run("fakesysfs", "umount", str(tmp_path / "machine"))


def test_monitor_sockets(mounted: Mounter, tmp_path: Path) -> None:
    qmp, hmp = tmp_path / "qmp", tmp_path / "hmp"
    directory = mounted(ME, "--qmp", str(qmp), "--hmp", str(hmp))
    for socket in (qmp, hmp):
        assert socket.is_socket()
        assert (
            ME.run("fakesysfs", "monitor", "--instance", str(socket), "info status").stdout
            == "VM status: running\n"
        )
    assert ME.run("fakesysfs", "umount", str(directory)).returncode == 0
    assert not qmp.exists()
    assert not hmp.exists()
    directory = mounted(ME, "--qmp", str(qmp), "--hmp", str(hmp))
    os.kill(server_of(ME, directory), signal.SIGKILL)
    wait_for(lambda: not qmp.exists() and not hmp.exists())
    wait_for(lambda: not ME.sees_mount(directory))
