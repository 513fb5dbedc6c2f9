"""The examples of examples/: each runs by itself, from a copy.

A planted mistake in the program or the rule makes its test fail, so the tests of the examples test
something.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.documents import examples
from t3_mount.host import Person

HERE = Path(__file__).parents[2] / "examples"
PROJECTS = sorted(path.parent.name for path in HERE.glob("*/test.sh"))
MISTAKES = {
    "udev-rule": ("80-memory-hotplug.rules", 'ATTR{state}="online_movable"', 'ENV{x}="y"'),
    "shell-agent": ("offline.sh", "for attempt in 1 2 3", "for attempt in 1"),
    "c-agent": ("agent.c", "ATTEMPTS = 5", "ATTEMPTS = 1"),
}


def run(me: Person, project: Path) -> Any:
    if project.name == "udev-rule" and not shutil.which("udevadm"):
        pytest.skip("there is no udevadm here")
    return me.run("sh", "./test.sh", cwd=str(project))


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example."""
    return Path(shutil.copytree(HERE / request.param, tmp_path / request.param))


def test_an_example_runs_by_itself(me: Person, project: Path) -> None:
    result = run(me, project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(line.startswith("ok: ") for line in result.stdout.splitlines())
    assert "ok: " in result.stdout


def test_its_test_finds_a_mistake(me: Person, project: Path) -> None:
    name, was, becomes = MISTAKES[project.name]
    text = (project / name).read_text()
    assert was in text
    (project / name).write_text(text.replace(was, becomes))
    script = (project / "test.sh").read_text()  # what never happens need not be waited for long
    (project / "test.sh").write_text(script.replace("--timeout 30s", "--timeout 1s"))
    assert run(me, project).returncode != 0


def test_every_example_has_a_page_and_a_mistake() -> None:
    assert set(PROJECTS) == set(MISTAKES)
    for project in PROJECTS:
        assert f"({project}/README.md)" in (HERE / "README.md").read_text()
        assert examples(HERE / project / "README.md")
