"""The mounted files, touched by programs that know nothing of fakesysfs: what they print, what they
are refused.

The same holds for real sysfs and was seen there. Native operations and Python's must not differ in
a byte.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.waiting import wait_for
from t3_mount.conftest import Mounter
from t3_mount.host import FUSE_MAGIC, SECONDS, Person, environment, needs_fuse, people

pytestmark = needs_fuse

MEMORY = "sys/devices/system/memory"
MACHINE = ("--memory", "1G,slots=4,maxmem=8G")


def sh(tree: Path, script: str) -> tuple[int, str]:
    """Exit status and output of a script in the directory of the memory blocks."""
    result = subprocess.run(
        ["sh", "-c", f"exec 2>&1; {script}"],
        cwd=tree / MEMORY,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment(),
    )
    return result.returncode, result.stdout


def test_it_is_ours(tree: Path) -> None:
    assert sh(tree, "stat -f -c %t .") == (0, f"{FUSE_MAGIC}\n")
    assert sorted(os.listdir(tree)) == ["proc", "sys"]


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        ("cat memory1/state", 0, "online\n"),
        ("cat memory1/state memory1/state", 0, "online\nonline\n"),
        ("head -c 3 memory1/state", 0, "onl"),
        ("tail -c 4 memory1/state", 0, "ine\n"),
        ("wc -c memory1/state", 0, "7 memory1/state\n"),
        ("grep . memory1/state", 0, "online\n"),
        ("dd if=memory1/state bs=2 status=none", 0, "online\n"),
        ("dd if=memory1/state bs=1 skip=3 status=none", 0, "ine\n"),
        ("while read l; do echo got $l; done < memory1/state", 0, "got online\n"),
        ("cp memory1/state $TMP/x && cat $TMP/x", 0, "online\n"),
        ("test -s memory1/state && stat -c '%s %b %A' memory1/state", 0, "4096 0 -rw-r--r--\n"),
        ("stat -c '%s %F' memory1 memory1/subsystem", 0, "0 directory\n0 symbolic link\n"),
        ("du -s memory1", 0, "0\tmemory1\n"),
        ("readlink memory1/subsystem", 0, "../../../../bus/memory\n"),
        ("cat memory1/node0/memory1/phys_index", 0, "00000001\n"),
        ("cat memory1", 1, "cat: memory1: Is a directory\n"),
        ("cat memory1/nosuch", 1, "cat: memory1/nosuch: No such file or directory\n"),
        ("cat probe", 1, "cat: probe: Permission denied\n"),
        ("cat memory1/power/autosuspend_delay_ms", 1, "cat: memory1/power/autosuspend_delay_ms: Input/output error\n"),
        ("echo x > memory1/phys_index", 2, "sh: 1: cannot create memory1/phys_index: Permission denied\n"),
        ("echo bogus > memory1/state", 1, "sh: 1: echo: echo: I/O error\n"),
        ("bash -c 'echo bogus > memory1/state'", 1, "bash: line 1: echo: write error: Invalid argument\n"),
        ("printf bogus | tee memory1/state", 1, "bogustee: memory1/state: Invalid argument\n"),
        ("echo bogus >> memory1/state", 1, "sh: 1: echo: echo: I/O error\n"),
        ("dd if=/dev/zero of=memory1/state bs=1 count=1 status=none", 1,
         "dd: error writing 'memory1/state': Invalid argument\n"),
        ("cp /dev/null memory1/state", 0, ""),
        (": > memory1/state; truncate -s 100 memory1/state && stat -c %s memory1/state", 0, "4096\n"),
        ("touch memory2/state && chmod 600 memory2/state && stat -c %a memory2/state", 0, "600\n"),
        ("touch new", 1, "touch: cannot touch 'new': Permission denied\n"),
        ("mkdir new", 1, "mkdir: cannot create directory 'new': Operation not permitted\n"),
        ("mkfifo new", 1, "mkfifo: cannot create fifo 'new': Operation not permitted\n"),
        ("ln -s memory1 new", 1, "ln: failed to create symbolic link 'new': Operation not permitted\n"),
        ("ln memory1/state new", 1, "ln: failed to create hard link 'new' => 'memory1/state': Operation not permitted\n"),
        ("mv memory1/state memory1/x", 1, "mv: cannot move 'memory1/state' to 'memory1/x': Operation not permitted\n"),
        ("rm -f memory1/state", 1, "rm: cannot remove 'memory1/state': Operation not permitted\n"),
        ("rmdir memory1", 1, "rmdir: failed to remove 'memory1': Operation not permitted\n"),
        ("ls -1d memory?/ | tr -d '\\n'", 0, "memory0/memory1/memory2/memory3/memory4/memory5/memory6/memory7/"),
        ("find . -maxdepth 1 -type d -name 'memory*' | wc -l", 0, "8\n"),
    ],
)  # fmt: skip
def test_what_programs_see(
    shared: Path, tmp_path: Path, script: str, status: int, output: str
) -> None:
    assert sh(shared, f"TMP={tmp_path}; {script}") == (status, output)


def test_both_ways_of_serving_are_the_same(mounted: Mounter) -> None:
    """Every file of the tree: attributes, names in order, links, content or the error."""
    trees = [mounted(people()[0], *MACHINE, native=native) for native in (True, False)]
    native, python = (everything(tree) for tree in trees)
    assert native == python
    assert len(native) > 200


def everything(tree: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for directory, directories, files in os.walk(tree):
        where = os.path.relpath(directory, tree)
        with os.scandir(directory) as entries:
            found[where] = [
                (e.name, e.inode(), e.is_dir(follow_symlinks=False), e.is_symlink())
                for e in entries
            ]
        for name in (*directories, *files):
            path = Path(directory, name)
            status = path.lstat()
            attributes = (
                status.st_mode,
                status.st_ino,
                status.st_nlink,
                status.st_uid,
                status.st_gid,
                status.st_size,
            )
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                try:
                    content = path.read_bytes()
                except OSError as e:
                    content = e.errno
            found[os.path.join(where, name)] = (attributes, content)
    return found


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_a_long_write_is_one_store_of_a_page(mounted: Mounter, native: bool) -> None:
    state = mounted(people()[0], *MACHINE, native=native) / MEMORY / "auto_online_blocks"
    fd = os.open(state, os.O_WRONLY)
    try:
        assert os.write(fd, b"online".ljust(10000, b"\0")) == 4096
        assert os.pwrite(fd, b"offline", 77) == 7
        assert os.write(fd, b"") == 0
    finally:
        os.close(fd)
    assert state.read_text() == "offline\n"


def test_names_come_with_their_types(shared: Path) -> None:
    """Guest agents take only what readdir itself calls a directory; so does find, which then asks
    nothing more.
    """
    names = sh(shared, "find . -maxdepth 1 -type d -name 'memory[0-9]*' -printf '%y %f\\n' | sort")[
        1
    ].split("\n")[:-1]
    assert names == [f"d memory{block}" for block in range(8)]
    with os.scandir(shared / MEMORY / "memory1") as entries:
        types = {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink())
            for entry in entries
        }
    assert types["power"] == (True, False)
    assert types["subsystem"] == (False, True)
    assert types["state"] == (False, False)


def test_a_removed_block_is_gone_at_once_and_open_files_are_dead(tree: Path) -> None:
    monitor(
        tree, "object_add memory-backend-ram,id=m0,size=128M", "device_add pc-dimm,id=d0,memdev=m0"
    )
    block = tree / MEMORY / "memory32"
    fd = os.open(block / "state", os.O_RDWR)
    try:
        assert os.read(fd, 100) == b"offline\n"
        monitor(tree, "device_del d0")
        assert not block.exists()
        assert "memory32" not in os.listdir(block.parent)
        for call in (lambda: os.pread(fd, 100, 0), lambda: os.write(fd, b"online")):
            with pytest.raises(OSError, match="No such device"):
                call()
    finally:
        os.close(fd)


@pytest.mark.parametrize("native", [True, False], ids=["native", "python"])
def test_readers_do_not_wait_for_a_long_store_and_a_signal_ends_it(
    mounted: Mounter, native: bool
) -> None:
    tree = mounted(people()[0], *MACHINE, "--config", "STEP_DELAY_US=20000", native=native)
    monitor(
        tree, "object_add memory-backend-ram,id=m0,size=128M", "device_add pc-dimm,id=d0,memdev=m0"
    )
    state = tree / MEMORY / "memory32/state"
    state.write_text("online_movable")
    fill = (
        f"from fakesysfs.control import connect; connect({str(tree)!r}).call('allocate', 'anon',"
        " '64M', block=32)"
    )
    subprocess.run([sys.executable, "-c", fill], check=True, timeout=SECONDS, env=environment())
    writer = subprocess.Popen(
        ["sh", "-c", f"exec printf offline > {state}"], stderr=subprocess.PIPE, text=True
    )
    with writer:
        wait_for(lambda: state.read_text() == "going-offline\n")
        assert state.read_text() == "going-offline\n"
        assert (tree / MEMORY / "memory1/state").read_text() == "online\n"
        writer.send_signal(2)
        writer.communicate(timeout=SECONDS)
    assert writer.returncode != 0
    assert state.read_text() == "online\n"


def test_many_readers_at_once(tree: Path) -> None:
    wrong: list[str] = []

    def read() -> None:
        for _ in range(200):
            for block in range(1, 8):
                text = (tree / MEMORY / f"memory{block}/state").read_text()
                if text != "online\n":
                    wrong.append(text)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lsmem_with_another_root(person: Person, mounted: Mounter) -> None:
    tree = mounted(person, *MACHINE)
    monitor(
        tree,
        "object_add memory-backend-ram,id=m0,size=1G",
        "device_add pc-dimm,id=d0,memdev=m0",
        person=person,
    )
    result = person.run(
        "lsmem", "--sysroot", str(tree), "--noheadings", "--output", "RANGE,SIZE,STATE,BLOCK"
    )
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [
        ["0x0000000000000000-0x000000003fffffff", "1G", "online", "0-7"],
        ["0x0000000100000000-0x000000013fffffff", "1G", "offline", "32-39"],
    ]


def test_whoever_mounts_may_write(person: Person, mounted: Mounter) -> None:
    tree = mounted(person, *MACHINE)
    policy = tree / MEMORY / "auto_online_blocks"
    result = person.run("sh", "-c", f"echo online > {policy} && cat {policy}")
    assert (result.returncode, result.stdout) == (0, "online\n")


def monitor(tree: Path, *lines: str, person: Person | None = None) -> None:
    """Carry out lines of the monitor of the machine at `tree`, which must succeed."""
    result = (person or people()[0]).run("fakesysfs", "monitor", "--instance", str(tree), *lines)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
