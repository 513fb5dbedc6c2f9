"""`run` where the process may have too little memory: one line, and nothing stays."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


@pytest.mark.parametrize("limit", [70 << 20, 110 << 20])
def test_too_little_address_space(limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fakesysfs", "run", "--", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.stderr == "fakesysfs: this process has no memory left; see `ulimit -v`\n"
    assert done.returncode == 1
