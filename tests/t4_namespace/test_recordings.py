"""Recordings of real kernels and a real QEMU, replayed step by step from outside, as a user's script would.

What a step is not compared for stands in the recording; nothing else is forgiven.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from t3_mount.host import Person

RECORDINGS = Path(__file__).parents[1] / "recordings"
REPLAY = f"{RECORDINGS / 'replay.py'}"


@pytest.mark.parametrize(
    "recording", sorted(RECORDINGS.glob("*.json")), ids=lambda path: f"{path.stem}"
)
def test_replay(me: Person, recording: Path) -> None:
    options = me.run(sys.executable, REPLAY, "--options", f"{recording}")
    assert (options.returncode, options.stderr) == (0, "")
    with me.directory() as directory:
        socket = f"{directory / 'qmp'}"
        replay = (sys.executable, REPLAY, "--qmp", socket, f"{recording}")
        run = ("fakesysfs", "run", *shlex.split(options.stdout), "--qmp", socket)
        result = me.run(*run, "--", *replay)
    assert result.stdout.splitlines(), result.stderr
    *differences, summary = result.stdout.splitlines()
    assert summary.endswith(" passed, 0 failed"), "\n".join([*differences, summary])
    assert not summary.startswith("0 ")
    assert (result.returncode, result.stderr) == (0, "")
