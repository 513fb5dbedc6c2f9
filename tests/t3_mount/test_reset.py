"""A mounted machine that is reset: its files are those of the new boot, at the same place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from t3_mount.conftest import Mounter
from t3_mount.host import Person, needs_fuse, people

pytestmark = needs_fuse
ME = people()[0]


def monitor(person: Person, directory: Path, *lines: str) -> str:
    done = person.run("fakesysfs", "monitor", "--instance", str(directory), *lines)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("native", [True, False])
def test_files_after_a_reset(mounted: Mounter, native: bool) -> None:
    directory = mounted(ME, "--memory", "1G,slots=4,maxmem=8G", native=native)
    memory = directory / "sys/devices/system/memory"
    monitor(
        ME, directory, "object_add memory-backend-ram,id=m0,size=256M", "device_add pc-dimm,id=d0,memdev=m0"
    )  # fmt: skip
    (memory / "memory32/state").write_text("online_movable")
    total = (directory / "proc/meminfo").read_text().splitlines()[0]
    fd = os.open(memory / "memory32/state", os.O_RDONLY)
    try:
        assert os.pread(fd, 100, 0) == b"online\n"
        assert monitor(ME, directory, "system_reset") == ""
        with pytest.raises(OSError, match="No such device") as gone:
            os.pread(fd, 100, 0)
        assert gone.value.errno == errno.ENODEV
    finally:
        os.close(fd)
    assert (memory / "memory32/state").read_text() == "offline\n"
    assert (directory / "proc/meminfo").read_text().splitlines()[0] != total
    monitor(ME, directory, "device_del d0", "system_reset")
    assert not (memory / "memory32").exists()
    assert sorted(path.name for path in memory.glob("memory[0-9]*")) == [
        f"memory{number}" for number in range(8)
    ]
