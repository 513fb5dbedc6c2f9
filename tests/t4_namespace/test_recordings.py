"""Recordings of real kernels and a real QEMU, replayed step by step from outside, as a user's script would."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from t3_mount.host import Person

RECORDINGS = Path(__file__).parents[1] / "recordings"
REPLAY = RECORDINGS / "replay.py"

STORIES = (
    "autoonline", "biscuitos", "bootparams", "dimm", "grammar", "inject", "kernelcore", "numa", "pageoffline", "policy",
    "probe", "semantics", "tools", "tree", "zones",
)  # fmt: skip

# Steps whose outcome cannot be had here, by what they do, and why.
BEYOND = {
    '"result": -4095': "FUSE passes no errno greater than 511",
    '"data": ""': "FUSE does not pass on a write of no bytes",
    "tail -c 4": "the recorded tail is busybox's; that of coreutils prints the end of the text, on a real sysfs too",
}

PARAMETERS = [path for story in STORIES for path in sorted(RECORDINGS.glob(f"{story}.*.json"))]


@pytest.mark.parametrize("recording", PARAMETERS, ids=lambda path: path.stem)
def test_replay(me: Person, recording: Path) -> None:
    options = subprocess.run(
        [sys.executable, str(REPLAY), "--options", str(recording)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    with me.directory() as directory:
        socket = str(directory / "qmp")
        result = me.run(
            "fakesysfs", "run", *shlex.split(options), "--qmp", socket, "--",
            sys.executable, str(REPLAY), "--qmp", socket, str(recording),
        )  # fmt: skip
    assert result.stdout.splitlines(), result.stderr
    *differences, summary = result.stdout.splitlines()
    steps = ["\n".join(differences[start : start + 3]) for start in range(0, len(differences), 3)]
    surprising = [step for step in steps if not any(sign in step for sign in BEYOND)]
    assert not surprising, "\n".join(surprising)
    assert summary.endswith(f"passed, {len(steps)} failed")
    assert result.stderr == ""
