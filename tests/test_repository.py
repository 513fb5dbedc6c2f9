"""What is in the repository: text only, nothing large, all of it small enough to be cloned without
a thought.

A planted repository shows that each of these would be found.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LARGEST_FILE = 1 << 20
LARGEST_CHECKOUT = 8 << 20


def git(directory: Path, *arguments: str) -> bytes:
    # Whoever owns it: in CI it may be somebody else's.
    command = ["git", "-c", "safe.directory=*", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def in_repository(directory: Path) -> list[Path]:
    """Files that are in git, or would be by `git add .`."""
    names = (
        git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        .decode()
        .split("\0")
    )
    return [directory / name for name in sorted({*names} - {""}) if (directory / name).is_file()]


def is_text(path: Path) -> bool:
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def complaints(directory: Path, files: Iterable[Path]) -> list[str]:
    """What is wrong with these files of a repository, a line each."""
    found, total = [], 0
    for path in files:
        name, size = path.relative_to(directory), path.stat().st_size
        total += size
        if size > LARGEST_FILE:
            found.append(f"{name} is too large: {size} bytes of at most {LARGEST_FILE}")
        elif not is_text(path):
            found.append(f"{name} is not text")
    if total > LARGEST_CHECKOUT:
        found.append(
            f"all files together are too large: {total} bytes of at most {LARGEST_CHECKOUT}"
        )
    return found


def test_the_repository_holds_small_files_of_text() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("these sources are not in a git repository")
    files = in_repository(ROOT)
    assert Path(__file__) in files
    assert complaints(ROOT, files) == []


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "untracked"])
def test_what_does_not_belong_there_is_found(tmp_path: Path, tracked: bool) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "ignored").write_bytes(b"\0" * (2 << 20))
    (tmp_path / "good").write_text("é\n" * 1000)
    (tmp_path / "zeros").write_bytes(bytes(10))
    (tmp_path / "latin").write_bytes("é\n".encode("latin-1"))
    (tmp_path / "large").write_text("x" * (LARGEST_FILE + 1))
    if tracked:
        git(tmp_path, "add", ".")
    assert complaints(tmp_path, in_repository(tmp_path)) == [
        f"large is too large: {LARGEST_FILE + 1} bytes of at most {LARGEST_FILE}",
        "latin is not text",
        "zeros is not text",
    ]
    for number in range(8):
        (tmp_path / f"many{number}").write_text("x" * LARGEST_FILE)
    assert complaints(tmp_path, in_repository(tmp_path))[-1].startswith(
        "all files together are too large: "
    )
