"""What tests/conftest.py promises, tried on a small repository of its own: a file that a run leaves
fails the run, and whatever the parent ignores, masks or forbids, what a test starts does not
inherit it.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS

TESTS = Path(__file__).parent
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTSTP)

LEAVES = """
from pathlib import Path
def test_it(): Path({path!r}).touch()
"""
LOOKS = """
import os, subprocess
from pathlib import Path
LOOK = "cat /proc/self/status; umask; ulimit -n; ulimit -c; ulimit -f"
def test_it():
    shown = subprocess.run(["sh", "-c", LOOK], capture_output=True, text=True, check=True).stdout
    Path(os.environ["SHOWN"]).write_text(f"{shown}{os.getcwd()}{os.listdir()}")
"""


def run_in(repository: Path, test: str, *options: str, **how: object) -> tuple[int, str]:
    """Run a test with this conftest.py in a repository; its status and what it says."""
    (repository / "tests").mkdir()
    shutil.copy(TESTS / "conftest.py", repository / "tests")
    shutil.copytree(TESTS / "support", repository / "tests/support")
    shutil.copy(TESTS.parent / "setup.cfg", repository)
    shutil.copy(TESTS.parent / ".gitignore", repository)
    (repository / "tests/test_it.py").write_text(test)
    subprocess.run(["git", "init", "-q", str(repository)], check=True, timeout=LIMIT_SECONDS)
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options],
        cwd=repository,
        env=environment
        | {"SHOWN": f"{repository.parent / 'shown'}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        **how,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("options", "name", "fails"),
    [
        ((), "tests/stray", True),
        (("-n", "2"), "m0", True),
        ((), "build/made", False),  # .gitignore has it
        ((), None, False),
    ],
)
def test_a_run_that_leaves_a_file_fails(
    tmp_path: Path, options: tuple[str, ...], name: str | None, fails: bool
) -> None:
    repository = tmp_path / "repository"
    (repository / "build").mkdir(parents=True)
    path = f"{repository / name}" if name else "a file in the test's own directory"
    status, said = run_in(repository, LEAVES.format(path=path), *options)
    assert "1 passed" in said
    assert status == fails, said
    left = re.findall("left a file in the repository: (.*)", said)
    assert left == ([name] if fails else [])


def everything() -> None:
    """The parent ignores, masks and forbids what it can."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    os.umask(0o077)
    for limit, much in ((resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_FSIZE, 1 << 24)):
        resource.setrlimit(limit, (much, resource.getrlimit(limit)[1]))
    os.close(0)
    os.setsid()


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["", "parallel"])
def test_what_a_test_starts_inherits_nothing_of_the_parent(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    status, said = run_in(repository, LOOKS, *options, preexec_fn=everything)
    assert status == 0, said
    shown = (tmp_path / "shown").read_text()
    masks = dict(re.findall(r"(SigBlk|SigIgn):\t(\w+)", shown))
    # Signals 32 and 33 are the C library's; posix_spawn(3) of some versions leaves them ignored.
    assert {name: int(mask, 16) & 0x7FFFFFFF for name, mask in masks.items()} == {
        "SigBlk": 0,
        "SigIgn": 0,
    }
    umask, files, core, size, directory = shown.splitlines()[-5:]
    assert (umask, files, core, size) == ("0022", "1024", "0", "unlimited")
    assert directory.endswith("[]")  # nothing is in it
    assert f"{repository}" not in directory
