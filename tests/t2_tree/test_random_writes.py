"""Random bytes, and bytes that nearly make sense, to every writable file: never a crash, a hang or
an errno Linux has not.

FAKESYSFS_SEQUENCES says how many sequences of writes; the suite does a few hundred.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakesysfs import Machine, MachineConfig

SEQUENCES = int(os.environ.get("FAKESYSFS_SEQUENCES", "300"))
CONFIG = MachineConfig.from_options(memory="1G,slots=2,maxmem=4G")
POLLS = 40  # an offline that would wait for ever is interrupted after so many questions

# What each file may answer. Every write may find that its file is gone (ENODEV,
# ENOENT).
ALLOWED = {
    r".*/memory\d+/state": "EINVAL EBUSY EINTR ENOMEM EHWPOISON",
    r".*/memory\d+/online": "EINVAL EBUSY EINTR ENOMEM EHWPOISON",
    r".*/memory/auto_online_blocks": "EINVAL",
    r".*/memory/probe": "EINVAL ERANGE EEXIST E2BIG ENOMEM",
    r".*/memory/soft_offline_page": "EINVAL ENXIO EIO EBUSY",
    r".*/memory/hard_offline_page": "EINVAL ENXIO EBUSY EHWPOISON",
    r".*/uevent": "EINVAL",
    r".*/power/control": "EINVAL",
    r".*/power/autosuspend_delay_ms": "EIO",
    r".*/drivers_probe": "ENODEV EINVAL",
    r".*/drivers_autoprobe": "",
    r".*/parameters/.*": "EINVAL ERANGE",
    r".*/notifier-error-inject/.*": "EINVAL ERANGE",
    r".*/compact": "",
    r".*/reclaim": "EINVAL EAGAIN",
    r".*/PNP0C80:\w+/eject": "EINVAL ENODEV",
    r".*/hugepages-\w+/\w+": "EINVAL ENOMEM ERANGE",
    r".*/tracing/\w+": "EINVAL",
    r"/proc/sys/vm/\w+": "EINVAL",
    r".*": "EACCES EPERM EIO",
}
WORDS = [
    "online", "offline", "online_kernel", "online_movable", "0", "1", "on", "off", "Y", "n", "", "add", "remove", "change",
    "0x100000000", "0x108000000", "0x0", "4429185024", "0x10000000000", "-1", "-12", "auto", "contig-zones", "auto-movable",
    "301", "memory3", "memory32", "0x18000000", "0xfffffffffffff000", "99999999999999999999",
]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(WORDS),
    st.builds(
        lambda word, end: word + end,
        st.sampled_from(WORDS),
        st.sampled_from(["\n", "\n\n", " ", "\0", "\0x", "x"]),
    ),
    st.binary(max_size=40).map(lambda data: data.decode("latin1")),
    st.integers(0, 5000).map(lambda n: "x" * n),
)


def writable(machine: Machine, directory: str = "/") -> Iterator[str]:
    for name, _, mode in machine.readdir(directory):
        path = f"{directory.rstrip('/')}/{name}"
        if stat.S_ISDIR(mode):
            yield from writable(machine, path)
        elif stat.S_ISREG(mode) and mode & 0o222:
            yield path


def allowed(path: str) -> set[int]:
    names = next(names for pattern, names in ALLOWED.items() if re.fullmatch(pattern, path))
    numbers = {getattr(errno, name, 133) for name in names.split()}  # EHWPOISON is 133
    return numbers | {errno.ENODEV, errno.ENOENT}


@settings(max_examples=SEQUENCES, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 1 << 16), TEXT), min_size=1, max_size=8))
def test_random_writes(writes: list[tuple[int, str]]) -> None:
    machine = Machine.from_config(CONFIG)
    machine.acpi_device_check(0, 0, 4 << 30, 256 << 20)
    polls = [0]

    def ask() -> int:
        polls[0] += 1
        return polls[0] > POLLS

    asking = ctypes.CFUNCTYPE(ctypes.c_int)(ask)
    address = ctypes.cast(asking, ctypes.c_void_p).value or 0
    injected = set()
    for number, text in writes:
        paths = sorted(writable(machine))
        path = paths[number % len(paths)]
        polls[0] = 0
        try:
            handle = machine.open(path, os.O_WRONLY)
        except OSError as e:
            assert e.errno in {errno.EACCES, errno.ENOENT}, (path, e)
            continue
        try:
            data = text.encode("latin1")
            count = machine.write(handle, data, address)
            assert 0 <= count <= min(len(data), 4096), (path, text, count)
            if "notifier-error-inject" in path:
                injected = {-int(machine.read_text(p)) for p in paths if p.endswith("/error")}
        except OSError as e:
            assert e.errno in allowed(path) | injected, (path, text, e)
        finally:
            machine.release(handle)
    machine.check()
    machine.close()
