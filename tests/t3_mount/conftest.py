"""Fixtures of tier 3: a machine mounted at a directory by the command itself, as root and as an
ordinary user.

Every mount is taken away again by the fixture that made it, also when the test failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from t3_mount.host import Person, people


@pytest.fixture(params=people(), ids=lambda person: person.name)
def person(request: pytest.FixtureRequest) -> Person:
    assert isinstance(request.param, Person)
    return request.param


Mounter = Callable[..., Path]


@pytest.fixture
def mounted() -> Iterator[Mounter]:
    """A function (person, *options, native=True) that mounts a machine and returns the directory."""
    yield from _mounter()


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """The files of a machine that all tests of a file share: they leave it as it was."""
    for mount in _mounter():
        yield mount(people()[0], "--memory", "1G,slots=4,maxmem=8G")


def _mounter() -> Iterator[Mounter]:
    with ExitStack() as stack:

        def mount(person: Person, *options: str, native: bool = True) -> Path:
            directory = stack.enter_context(person.directory())

            def unmount() -> None:
                person.run("fakesysfs", "umount", str(directory))
                if person.sees_mount(directory):
                    person.run("fusermount", "-u", "-z", str(directory))

            stack.callback(unmount)
            result = person.run(
                "fakesysfs",
                "mount",
                str(directory),
                *options,
                env={"FAKESYSFS_NATIVE": "1" if native else "0"},
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
            return directory

        yield mount


@pytest.fixture
def tree(mounted: Mounter) -> Path:
    """The files of a machine with 1 GiB, mounted by whoever runs the tests."""
    return mounted(people()[0])
