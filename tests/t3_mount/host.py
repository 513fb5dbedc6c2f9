"""What tests of mounts and namespaces need of this host: the command, the two kinds of users, what
to say when it cannot.

`Person` is who starts a command: root, or an ordinary user. Where the interpreter or these sources
are in a directory that only root can enter, the ordinary user lives in a mount namespace of its
own; so look at its mounts by `sees_mount`. An ordinary user becomes root by a sudo that asks
nothing. Everything a test starts has `fakesysfs` in PATH.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS

from fakesysfs.errors import EnvironmentProblem
from fakesysfs.mount import preflight
from fakesysfs.run.launch import UNSHARE

SOURCES = Path(__file__).parents[2]
MEMORY = "/sys/devices/system/memory"
FUSE_MAGIC = "65735546"
ORDINARY_UID = 1000
SECONDS = LIMIT_SECONDS

# What every script starts with that is about to write to /sys: never to the real one.
ONLY_COVERED = f'test "$(stat -f -c %t {MEMORY})" = {FUSE_MAGIC} || exit 99; '


@functools.cache
def command_directory() -> str:
    """A directory with the command `fakesysfs` of this interpreter."""
    own = os.path.dirname(sys.executable)
    if os.access(os.path.join(own, "fakesysfs"), os.X_OK):
        return own
    directory = tempfile.mkdtemp(prefix="fakesysfs-tests-")
    os.chmod(directory, 0o755)
    script = Path(directory, "fakesysfs")
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m fakesysfs "$@"\n')
    script.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a test's commands: as here, with `fakesysfs`, its sources, and English
    messages.
    """
    env = {**os.environ, "LC_ALL": "C"}
    env.pop("FAKESYSFS", None)
    env["PATH"] = f"{command_directory()}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    env["PYTHONPATH"] = f"{SOURCES}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    return {**env, **(extra or {})}


@dataclass(frozen=True)
class Person:
    """Somebody who starts commands.

    :param name: "root" or "user".
    :param prefix: what is put before a command to be that person; it ends by exec, so that the
        process stays.
    """

    name: str
    prefix: tuple[str, ...]

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cwd: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Carry out a command to its end, with its output."""
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment(env),
            input=stdin,
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )

    def start(
        self, *command: str, env: Mapping[str, str] | None = None, **how: object
    ) -> subprocess.Popen[str]:
        """Start a command; the caller ends it, see `ended`."""
        keywords = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            **how,
        }
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [*self.prefix, *command], text=True, env=environment(env), **keywords
        )

    def inside(self, script: str, *options: str, **how: object) -> subprocess.CompletedProcess[str]:
        """A shell script in a `fakesysfs run` with these options."""
        command = ("fakesysfs", "run", *options, "--", "sh", "-c", ONLY_COVERED + script)
        return self.run(*command, **how)  # type: ignore[arg-type]

    def sees_mount(self, directory: Path) -> bool:
        """Whether something is mounted at a directory."""
        return self.run("mountpoint", "-q", str(directory)).returncode == 0

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """An empty directory this person may use, that others can reach."""
        directory = Path(tempfile.mkdtemp(prefix="fakesysfs-tests-"))
        try:
            directory.chmod(0o755)
            if self.prefix and os.geteuid() == 0:
                os.chown(directory, ORDINARY_UID, ORDINARY_UID)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """See to it that a process has ended afterwards."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@functools.cache
def people() -> tuple[Person, ...]:
    """Root and an ordinary user, as far as this process can be both."""
    if os.geteuid() != 0:
        user = Person("user", ())
        can = (
            subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
            if shutil.which("sudo")
            else None
        )
        return (
            (Person("root", ("sudo", "-n", "-E", "--")), user)
            if can and can.returncode == 0
            else (user,)
        )
    return (Person("root", ()), *([_ordinary()] if shutil.which("setpriv") else []))


def _ordinary() -> Person:
    """An ordinary user, from root."""
    become = (
        "setpriv",
        "--reuid",
        str(ORDINARY_UID),
        "--regid",
        str(ORDINARY_UID),
        "--clear-groups",
        "env",
        "HOME=/",
    )
    script = "\n".join(_open_doors())
    if not script:
        return Person("user", become)
    # Everything this user does is in one mount namespace, which a process keeps.
    holder = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            f"{script}\necho\nexec sleep infinity",
        ],
        stdout=subprocess.PIPE,
    )
    atexit.register(holder.kill)
    assert holder.stdout is not None
    assert holder.stdout.read(1) == b"\n", "the mount namespace of an ordinary user cannot be made"
    return Person("user", ("nsenter", "--target", str(holder.pid), "--mount", "--", *become))


def _open_doors() -> Iterator[str]:
    """Shell commands, for a mount namespace of its own, after which an ordinary user can reach what
    the tests need.

    Directories that only root can enter are covered by ones with nothing but what is needed.
    """
    closed: dict[Path, list[Path]] = {}
    for path in {Path(sys.base_prefix), Path(sys.prefix), SOURCES, Path(command_directory())}:
        door = next(
            (parent for parent in path.parents[::-1] if not parent.stat().st_mode & 0o001), None
        )
        if door is not None:
            closed.setdefault(door, []).append(path)
    for door, paths in closed.items():
        yield "mount -t tmpfs -o mode=755 tmpfs /mnt"
        for path in paths:
            place = shlex.quote(f"/mnt/{path.relative_to(door)}")
            yield f"mkdir -p {place}; mount --rbind {shlex.quote(str(path))} {place}"
        yield f"mount --rbind /mnt {shlex.quote(str(door))}; umount --lazy /mnt"
    if not os.stat("/dev/fuse").st_mode & 0o006:
        yield "mount -t tmpfs -o mode=755 tmpfs /mnt; mknod -m 666 /mnt/fuse c 10 229"
        yield "mount --bind /mnt/fuse /dev/fuse; umount --lazy /mnt"


def why_no_mount() -> str:
    """Why nothing can be mounted here; empty when it can."""
    try:
        preflight()
    except EnvironmentProblem as e:
        return f"no FUSE here: {e}"
    return ""


def why_no_namespaces(person: Person) -> str:
    """Why that person can have no namespaces here; empty when there is no reason."""
    command = [*person.prefix, *UNSHARE, "--user", "--map-root-user", "--net", "--", "true"]
    if person.name == "root":
        command.remove("--user")
        command.remove("--map-root-user")
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    return (
        f"no namespaces for {person.name} here: {result.stderr.strip()}"
        if result.returncode
        else ""
    )


needs_fuse = pytest.mark.skipif(bool(why_no_mount()), reason=why_no_mount() or "it can")


def lines(text: str) -> Sequence[str]:
    """Lines without blanks at their ends, and without empty ones."""
    return [line.strip() for line in text.splitlines() if line.strip()]
