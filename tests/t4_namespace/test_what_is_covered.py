"""The table of docs/what-is-covered.md is the list in the code, and each line of it is what a command
inside `run` sees.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from t3_mount.host import FUSE_MAGIC, SOURCES, Person

from fakesysfs.run.covered_paths import ACPI_DIRECTORIES, DIRECTORIES, FILES, SLOT, SLOT_PLACES
from fakesysfs.run.host_files import LOG_FILES

MACHINES = {
    "5.10": ("--kernel=5.10",),
    "6.1": ("--kernel=6.1",),
    "7.1": ("--kernel=7.1",),
    "s390x": ("--arch=s390x",),
    "s390x 7.1": ("--arch=s390x", "--kernel=7.1"),
    "aarch64": ("--arch=aarch64",),
    "ppc64le": ("--arch=ppc64le",),
    "little": ("--config=NUMA=n,HUGETLB_PAGE=n,FIRMWARE_MEMMAP=n,MEMORY_NOTIFIER_ERROR_INJECT=n",),
}
X86 = {"5.10", "6.1", "7.1", "little"}
# Words of the column "absent", and the machines of which they speak
ABSENT = {
    "": set(),
    "the host's": set(),
    "older kernels": {"5.10"},
    "other architectures": set(MACHINES) - X86,
    "s390x": {"s390x", "s390x 7.1"},
    "ppc64le": {"ppc64le"},
    "all others": set(MACHINES) - {"s390x 7.1"},
    "`NUMA=n`": {"little"},
    "`HUGETLB_PAGE=n`": {"little"},
    "`FIRMWARE_MEMMAP=n`": {"little"},
    "`MEMORY_NOTIFIER_ERROR_INJECT=n`": {"little"},
}


def table() -> dict[str, set[str]]:
    """Path: the machines that do not have it."""
    text = (Path(SOURCES) / "docs" / "what-is-covered.md").read_text()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if "| `/" in line]
    found: dict[str, set[str]] = {}
    for path, _, *absent in rows:
        words = [word for cell in absent for word in cell.split(", ")]
        found[path.strip("`")] = set().union(*(ABSENT[word] for word in words))
    return found


def test_the_table_has_every_path() -> None:
    slots = [f"{place}/{SLOT}*" for place in SLOT_PLACES]
    assert sorted(table()) == sorted([
        *DIRECTORIES, *ACPI_DIRECTORIES, *slots, *FILES, *LOG_FILES,
    ])  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_each_line_is_so(me: Person, machine: str) -> None:
    paths = [path for path in table() if not path.endswith("*")]
    script = "\n".join(f"echo {path} $(stat -f -c %t {path} 2>&1)" for path in paths)
    result = me.inside(f"LC_ALL=C; {script}", *MACHINES[machine])
    seen = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    assert seen.keys() == set(paths), result.stderr
    missing = {path for path, said in seen.items() if "No such file" in said}
    # what the host lacks, and cannot be made to appear, is missing as well
    lacking = {
        path
        for path in paths
        if not Path(path).exists()
        and (path.startswith(("/proc", "/dev")) or path in ACPI_DIRECTORIES)
    }
    assert missing == {path for path in paths if machine in table()[path]} | lacking
    ours = {path for path, said in seen.items() if said == FUSE_MAGIC}
    assert ours == set(paths) - missing - set(ACPI_DIRECTORIES) - set(LOG_FILES)
