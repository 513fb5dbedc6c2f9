"""The project in tests/projects, and every example of docs/pytest.md, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from t3_mount.host import Person

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "tests" / "projects" / "agents"
PAGE = (ROOT / "docs" / "pytest.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def _plain(line: str) -> str:
    """A line without what depends on the width of the terminal."""
    return re.sub(r"-{3,}", "---", line.rstrip())


@pytest.fixture
def project(pytester: pytest.Pytester, me: Person, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, where pytest runs."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    shutil.copytree(PROJECT, pytester.path, dirs_exist_ok=True)
    return pytester.path


def test_the_project(pytester: pytest.Pytester, project: Path) -> None:
    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=10)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_examples(pytester: pytest.Pytester, project: Path, number: int) -> None:
    (project / "test_agents.py").unlink()
    text = blocks("python")[number]
    (project / "test_example.py").write_text(text)
    result = pytester.runpytest_subprocess("-p", "no:asyncio")
    outcomes = result.parseoutcomes()
    if "def test_fails" in text:
        assert outcomes == {"failed": 1}
        (report,) = blocks("text")
        said = iter([_plain(line) for line in result.outlines])
        for line in report.splitlines():
            assert _plain(line) in said, f"{line!r} is not said, or not in this place"
    else:
        assert outcomes.keys() == {"passed"}
        assert outcomes["passed"] >= text.count("def test_")


def test_the_tables_name_what_there_is() -> None:
    from fakesysfs.testing.conditions import parse
    from fakesysfs.testing.hotplug import Hotplug
    from fakesysfs.testing.options import OPTIONS, OTHER_NAMES

    rows = re.findall(r"^\| (`.*?`) \| ", PAGE, re.MULTILINE)
    methods, conditions = rows[:11], rows[11:]
    words = re.findall(r"`(\w+)", " ".join(methods))
    assert words
    for name in words:
        assert hasattr(Hotplug, name), name
    listed = re.findall(r"`(.*?)`", " ".join(conditions))
    assert len(listed) == 11
    for text in listed:
        parse(text)
    marker = PAGE.partition("The marker takes the options of `fakesysfs run`: ")[2].partition(". ")[
        0
    ]
    taken = re.findall(r"`(\w+)`", marker)
    assert {OTHER_NAMES.get(name, name) for name in taken} == OPTIONS.keys()
