"""How a file of the project looks: what it opens with, how long it is, and that no code compares
kernel versions.

The map of one write in README.md is walked hop by hop. Nothing here runs fakesysfs.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fakesysfs"
FILE_LINES, TEST_LINES, CLASS_LINES = 600, 800, 300

README_HOPS = [
    "mount.py",
    "file_methods.c",
    "sysfs.c",
    "memory_block_files.c",
    "memory_hotplug.c",
    "buddy.c",
]


def files_of_the_project() -> list[Path]:
    """Every file that is or could be in git; without git, every file that is not made by a tool."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        files = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        made = {".venv", "build", "dist", "__pycache__"}
        files = [path for path in ROOT.rglob("*") if not made & set(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


WRITTEN = [path for path in files_of_the_project() if "recordings" not in path.parts]
PYTHON = [path for path in WRITTEN if path.suffix == ".py" and path.is_relative_to(PACKAGE)]
CODE = [path for path in WRITTEN if path.suffix in {".py", ".pyi", ".c", ".h"}]
SCRIPTS = [
    path
    for path in WRITTEN
    if path.suffix in {".bash", ".cfg", ".toml"}
    or path.name == "Makefile"
    or os.access(path, os.X_OK)
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def complain(wrong: list[str]) -> None:
    """Fail with these lines and nothing else, if there are any."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def without_comments(source: str) -> str:
    """C source without comments and with empty string literals, lines kept."""

    def blank(match: re.Match[str]) -> str:
        return '""' if match[0].startswith('"') else "\n" * match[0].count("\n")

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.DOTALL)


# ---- what a file looks like ----


@pytest.mark.parametrize("path", sorted({*CODE, *SCRIPTS}), ids=named)
def test_file_opens_by_saying_what_it_is(path: Path) -> None:
    text = path.read_text()
    if path.suffix in {".py", ".pyi"}:
        opening = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix in {".c", ".h"}:
        match = re.match(r"/\*(.*?)\*/", text, re.DOTALL)
        opening = match[1] if match else ""
    else:
        match = re.match(r"(?:#!.*\n)?(?:# |title = )(.*)", text)
        opening = match[1] if match else ""
    assert len(opening.split()) >= 3, (
        f"{named(path)} does not open with a comment that says what it is"
    )


def size_complaints(path: Path, text: str) -> list[str]:
    """What is too long in a file: the file, or a class in it."""
    limit = TEST_LINES if "tests" in path.parts else FILE_LINES
    length = len(text.splitlines())
    found = [f"{path.name} has {length} lines, more than {limit}"] if length > limit else []
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.ClassDef)
                and (lines := (node.end_lineno or 0) - node.lineno + 1) > CLASS_LINES
            ):
                found.append(
                    f"{path.name}: class {node.name} has {lines} lines, more than {CLASS_LINES}"
                )
    return found


@pytest.mark.parametrize("path", CODE, ids=named)
def test_file_is_not_too_long(path: Path) -> None:
    complain(size_complaints(path, path.read_text()))


def test_what_is_too_long_is_found() -> None:
    line, method = "x = 1\n", "    x = 1\n"
    assert size_complaints(PACKAGE / "a.py", line * 600) == []
    assert size_complaints(PACKAGE / "a.py", line * 601) == ["a.py has 601 lines, more than 600"]
    assert size_complaints(PACKAGE / "a.c", "int a;\n" * 601) == [
        "a.c has 601 lines, more than 600"
    ]
    assert size_complaints(ROOT / "tests" / "a.py", line * 800) == []
    assert size_complaints(ROOT / "tests" / "a.py", line * 801) == [
        "a.py has 801 lines, more than 800"
    ]
    assert size_complaints(PACKAGE / "a.py", "class A:\n" + method * 299) == []
    assert size_complaints(PACKAGE / "a.py", "class A:\n" + method * 300) == [
        "a.py: class A has 301 lines, more than 300"
    ]


# ---- no code compares versions ----


VERSION_WORDS = re.compile(r"(?:^|_)(?:kernel|release|version)(?:_|$)", re.IGNORECASE)


def speaks_of_versions(node: ast.AST) -> bool:
    """Does an expression name a kernel, release or version?"""
    parts = list(ast.walk(node))
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    names += [part.attr for part in parts if isinstance(part, ast.Attribute)]
    return any(VERSION_WORDS.search(name) for name in names)


def is_constant(node: ast.AST) -> bool:
    """A value written down, or a collection of such."""
    values = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(value, ast.Constant) and value.value for value in values)


def decides_by_version(node: ast.AST) -> bool:
    """Is this a comparison, a membership, a prefix, a look-up or a match of a kernel's name or
    version?
    """
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        ordered = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        return (ordered or any(map(is_constant, sides))) and any(map(speaks_of_versions, sides))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("startswith", "endswith") and speaks_of_versions(node.func.value)
    if isinstance(node, ast.Subscript):  # {"5.0": ..., "6.1": ...}[kernel]
        return isinstance(node.value, ast.Dict) and speaks_of_versions(node.slice)
    return isinstance(node, ast.Match) and speaks_of_versions(node.subject)


def compared_versions(tree: ast.AST) -> Iterator[int]:
    """Lines that decide by a kernel's name or version: `kernel < ...`, `cfg.release == "6.1"`."""
    for node in ast.iter_child_nodes(tree):
        yield from compared_versions(node)
        if decides_by_version(node):
            yield getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_python_asks_for_features_not_versions(path: Path) -> None:
    lines = list(compared_versions(ast.parse(path.read_text())))
    assert not lines, (
        f"{named(path)}: lines {lines} compare versions; ask for a feature of kernels/"
    )


def test_version_comparisons_would_be_found() -> None:
    for line in [
        "kernel < (6, 1)",
        'm.release == "6.1"',
        "parse(cfg.kernel_version) >= x",
        'version[0] == "6"',
        'kernel in ("5.0", "5.4")',
        'kernel.startswith("5.")',
        '{"5.0": 1}[kernel]',
        "match kernel:\n    case '6.1': pass",
    ]:
        assert list(compared_versions(ast.parse(line))), line
    for line in [
        "kernel_zones[0] != kernel",
        "kernel in profiles",
        "profile.release == other.release",
        "size < limit",
    ]:
        assert not list(compared_versions(ast.parse(line))), line


C_VERSION = r"\b(?:\w+->)?(?:release|kernel_version|linux_version)\b"
C_VERSIONS = re.compile(
    rf"LINUX_VERSION|\bKERNEL_VERSION\b"
    rf"|{C_VERSION}(?:\[[^\]]*\])?\s*(?:<=?|>=?|==|!=)(?!\s*NULL)"
    rf"|(?:<=?|[^-]>=?|==|!=)\s*{C_VERSION}"
    rf"|\b(?:str\w*cmp|str\w*str|sscanf|strto\w+|ato\w+)\s*\([^;]*{C_VERSION}"
    rf"|\bswitch\s*\([^;]*{C_VERSION}"
)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("**/*.[ch]")), ids=named)
def test_c_asks_for_features_not_versions(path: Path) -> None:
    wrong = [
        f"{named(path)}:{number}: {line.strip()}"
        for number, line in enumerate(without_comments(path.read_text()).splitlines(), 1)
        if C_VERSIONS.search(line)
    ]
    complain(wrong)


def test_version_comparisons_in_c_would_be_found() -> None:
    for line in [
        "if (m->release == 6)",
        "if (config->release[0] == '5')",
        "if (strcmp(m->release, x) == 0)",
        'if (strncmp(m->release, "", 2) == 0)',
        "switch (m->kernel_version)",
        "sscanf(m->release, x, &major)",
        "#if LINUX_VERSION_CODE > 5",
        "if (6 < m->linux_version)",
    ]:
        assert C_VERSIONS.search(line), line
    for line in [
        (
            "strncpy(m->release, config->release != NULL ? config->release : x, sizeof m->release"
            " - 1);"
        ),
        "int file_release(struct machine *m, int64_t handle);",
        "resource_release(m, start, start + size_bytes - 1);",
    ]:
        assert not C_VERSIONS.search(line), line


# ---- the map of one write ----


def defines(path: Path, function: str) -> bool:
    text = path.read_text()
    if path.suffix == ".py":
        nodes = ast.walk(ast.parse(text))
        return function in {
            node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    definition = rf"^[a-z][^;{{}}()]*\b{function}\([^;{{}}]*\)\s*\{{"
    return bool(re.search(definition, without_comments(text), re.MULTILINE))


def hops() -> list[tuple[str, str]]:
    """File and function of every `file: function` in README.md, in order."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"\b(?:[\w/]+/)?(\w+\.(?:py|c)):\s+(\w+)", text)


def test_readme_map_leads_through_the_layers() -> None:
    files = list(dict.fromkeys(name for name, _ in hops()))
    assert [name for name in files if name in README_HOPS] == README_HOPS, (
        "README's map of a write is not whole"
    )


def test_readme_map_names_what_exists() -> None:
    wrong = []
    for name, function in hops():
        places = list(PACKAGE.glob(f"**/{name}"))
        if not any(defines(place, function) for place in places):
            wrong.append(f"README.md: {name}: {function}")
    complain(wrong)
