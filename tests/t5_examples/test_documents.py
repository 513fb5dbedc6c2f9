"""Every example of README and of the pages in docs/ and examples/: it is run, or the page says why not.

The pages of the pytest plugin have a test of their own. A planted wrong output shows that one would be
found.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from support.documents import RUN, Example, as_script, examples, is_as_shown, outputs, steps
from t3_mount.host import Person

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
OWN_TEST = {"pytest.md": "test_pytest_plugin_docs.py"}
ALL = [example for page in PAGES if page.name not in OWN_TEST for example in examples(page)]
RUNNABLE = [example for example in ALL if example.language in RUN and not example.reason]

# Files that examples name: what a reader has of his own.
FILES = {
    "my-test.sh": (
        "#!/bin/sh\nset -e\nlsmem >/dev/null\n"
        "block=/sys/devices/system/memory/memory32/state\n"
        '[ "$(cat $block 2>&1)" != offline ] || echo online >$block\n'
    ),
    "80-hotplug.rules": 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}="online"\n',
    "manager": (
        "#!/usr/bin/env python3\nimport json, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        'assert "QMP" in json.loads(s.makefile("rb").readline())\n'
    ),
}


def named(example: Example) -> str:
    return f"{example.page}:{example.line}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the files that examples name."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def complaint(me: Person, example: Example, folder: Path) -> str:
    """Run an example, and return what is wrong; empty when nothing is."""
    if example.inside:
        return complaint_inside(me, example, folder)
    if example.language == "console":
        for step in steps(example.text):
            result = me.run("sh", "-c", step.command, cwd=str(folder))
            if result.returncode != 0 or not is_as_shown(step.output, result.stdout):
                return f"$ {step.command}\n{result.stdout}{result.stderr}"
        return ""
    if example.language == "python":
        (folder / "example.py").write_text(example.text)
        result = me.run(sys.executable, "example.py", cwd=str(folder))
    else:
        result = me.run("sh", "-e", "-c", example.text, cwd=str(folder))
    return "" if result.returncode == 0 else f"status {result.returncode}\n{result.stderr}"


def complaint_inside(me: Person, example: Example, folder: Path) -> str:
    """Type a block into one shell, which `example.inside` starts, and return what is wrong."""
    (folder / "typed.sh").write_text(as_script(example.text))
    result = me.run("sh", "-c", f"{example.inside} -- sh typed.sh", cwd=str(folder))
    shown, said = steps(example.text), outputs(result.stdout)
    for step, (output, _) in zip(shown, said, strict=False):
        if not is_as_shown(step.output, output):
            return f"$ {step.command}\n{output}"
    if len(said) < len(shown):
        return f"$ {shown[len(said)].command}\n{result.stdout[-1000:]}{result.stderr}"
    return ""


@pytest.mark.parametrize("example", RUNNABLE, ids=named)
def test_example(me: Person, example: Example, folder: Path) -> None:
    if "--udev" in example.text and not shutil.which("udevadm"):
        pytest.skip("there is no udevadm here")
    assert not (wrong := complaint(me, example, folder)), wrong


def test_most_examples_are_run() -> None:
    assert len(RUNNABLE) >= 7
    for example in ALL:
        if example.language not in RUN and example.language not in ("", "text", "toml"):
            assert example.reason, f"{named(example)}: say why it is not run"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ echo one\ntwo\n"),
        ("console", "$ false\n"),
        ("sh", "false\ntrue\n"),
        ("python", "assert 1 == 2\n"),
    ],
)
def test_planted_mistakes_are_found(me: Person, folder: Path, language: str, text: str) -> None:
    page = folder / "page.md"
    page.write_text(f"A page.\n\n```{language}\n{text}```\n")
    (example,) = examples(page)
    assert (example.line, example.reason) == (3, "")
    assert complaint(me, example, folder)


def test_output_may_be_shortened(me: Person, folder: Path) -> None:
    text = "$ seq 5\n1\n...\n5\n$ echo end\nend\n"
    assert not complaint(me, Example("page", 1, "console", text, ""), folder)


PLANTED = """\
<!-- inside: env -->
```console
$ cd /
$ x=one
```

Text.

<!-- continued -->
```console
$ pwd; echo $x
/
one
$ cat /no-such-file
cat: /no-such-file: No such file or directory
```
"""


@pytest.mark.parametrize(
    ("was", "becomes"), [("\none\n", "\ntwo\n"), ("such file or", "other"), ("pwd", "exit")]
)
def test_a_session_is_typed_into_one_shell(
    me: Person, folder: Path, was: str, becomes: str
) -> None:
    page = folder / "page.md"
    page.write_text(PLANTED)
    (example,) = examples(page)
    assert not complaint(me, example, folder)
    assert complaint(me, example._replace(text=example.text.replace(was, becomes, 1)), folder)


def test_every_page_is_linked_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"]({name})" in index, f"docs/index.md does not link to {name}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
