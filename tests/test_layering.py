"""The rooms of the house, as tests: who may use whom. One table for Python's imports and for the
calls of the engine's C files.

A folder of the package is a room, a file beside the folders is one too. What a Python file imports
is read from its syntax tree, what a C file calls from the symbols of its object file, so comments
and macros do not fool it. Nothing here runs fakesysfs. Planted violations show that each would be
found.
"""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fakesysfs"
CC = os.environ.get("CC", "cc")

EVERYTHING = frozenset({
    "__main__", "cli", "pytest_plugin", "testing", "instance", "run", "qemu", "capture", "mount", "control",
    "control_server", "instance_requests", "virtual_machine", "machine", "events", "binding",
    "config", "errors", "__init__",
})  # fmt: skip
KERNEL_SIDE = frozenset({"machine", "events", "config", "errors"})

# Room: the rooms it may use, beside itself.
MAY_USE: Mapping[str, frozenset[str]] = {
    "__main__": EVERYTHING,
    "cli": EVERYTHING,
    "pytest_plugin": EVERYTHING,
    "testing": EVERYTHING,
    "__init__": frozenset({"virtual_machine", "config", "errors"}),
    "instance": frozenset(
        {
            "run",
            "qemu",
            "mount",
            "control",
            "control_server",
            "instance_requests",
            "virtual_machine",
        }
    )
    | KERNEL_SIDE,
    "run": KERNEL_SIDE,
    "qemu": KERNEL_SIDE,
    "capture": KERNEL_SIDE,
    "mount": KERNEL_SIDE,
    "control": KERNEL_SIDE,
    "control_server": frozenset({"control"}) | KERNEL_SIDE,
    "instance_requests": frozenset({"control_server", "virtual_machine"}) | KERNEL_SIDE,
    "virtual_machine": frozenset({"qemu"}) | KERNEL_SIDE,
    "machine": frozenset({"events", "binding", "config", "errors"}),
    "events": frozenset({"binding", "config", "errors"}),
    "config": frozenset({"errors"}),
    "errors": frozenset(),
    "binding": frozenset(),
}

# The same for the folders of the engine. "top": the files beside the folders, a machine as a whole.
ENGINE_MAY_USE: Mapping[str, frozenset[str]] = {
    "binding": frozenset({"top", "devices", "proc", "sysfs", "mm", "base"}),
    "top": frozenset({"devices", "proc", "sysfs", "mm", "base"}),
    "devices": frozenset({"proc", "sysfs", "mm", "base"}),
    "proc": frozenset({"mm", "base"}),
    "sysfs": frozenset({"mm", "base"}),
    "mm": frozenset({"base"}),
    "base": frozenset(),
}

# Packages of others, and parts of the standard library worth guarding: the rooms that may import
# them.
GUARDED = {
    "click": {"cli"},
    "ctypes": {"mount", "run"},
    "fuse": {"mount"},
    "psutil": {"config"},
    "pytest": {"pytest_plugin", "testing"},
    "_pytest": {"pytest_plugin", "testing"},
    "rich": {"cli", "testing"},
}

# What the engine must not call, and why.
FORBIDDEN_CALLS = {
    r"_?Py[A-Z_]\w*": "Python belongs to binding/",
    r"fuse_\w+": "libfuse belongs to mount.py",
    r"abort|exit|_exit|__assert_fail": (
        "a library in somebody's process returns -EIO and taints the machine"
    ),
    r"printf|puts|putchar|fprintf|fputs|perror": "a library prints nothing; it has a kernel log",
    r"sprintf|vsprintf|strcpy|strcat|gets": "text goes through a bounded printer",
    r"rand|random|srand|srandom|drand48|lrand48": (
        "there is one generator with one seed per machine"
    ),
}


def complain(wrong: Iterable[str]) -> None:
    """Fail with these lines and nothing else, if there are any."""
    if lines := list(wrong):
        pytest.fail("\n".join(lines), pytrace=False)


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The files of a circle in a graph, first and last the same; empty when there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as e:
        return list(e.args[1])
    return []


# ---- Python ----


def room_of(path: Path, package: Path) -> str:
    """The folder a file is in, or its own name beside the folders."""
    parts = path.relative_to(package).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, also inside functions and for type
    checking.

    What comes from a package, as in `from ..config import profiles`, is given as the module it is.
    """
    inside = ("fakesysfs", *path.relative_to(package).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                (*inside[: -node.level], *filter(None, [node.module]))
                if node.level
                else ((node.module or ""),)
            )
            name = ".".join(base)
            folder = package.joinpath(*name.split(".")[1:])
            for alias in node.names:
                is_module = (
                    name.split(".")[0] == "fakesysfs" and (folder / f"{alias.name}.py").exists()
                )
                yield node.lineno, f"{name}.{alias.name}" if is_module else name


def import_complaints(package: Path) -> list[str]:
    """Imports that go up or sideways, and packages in the wrong room, a line each; and a circle
    between files.
    """
    wrong = []
    edges: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room, me = (
            room_of(path, package),
            ".".join(path.relative_to(package.parent).with_suffix("").parts),
        )
        if room not in MAY_USE:
            wrong.append(f"{path.relative_to(package)}: the table has no room {room}")
            continue
        for line, name in imports(path, package):
            where = f"{path.relative_to(package)}:{line}"
            top, *rest = name.split(".")
            if top == "fakesysfs":
                target = rest[0] if rest and rest[0] in MAY_USE else "__init__"
                if target != room and target not in MAY_USE[room]:
                    wrong.append(f"{where}: {room} may not use {target}")
                if name != me:
                    edges.setdefault(me, set()).add(name)
            elif top in GUARDED:
                if room not in GUARDED[top]:
                    wrong.append(
                        f"{where}: only {', '.join(sorted(GUARDED[top]))} may import {top}"
                    )
            elif top not in sys.stdlib_module_names:
                wrong.append(f"{where}: {top} is in no list of what may be imported")
    if found := circle(edges):
        wrong.append(f"imports go in a circle: {' -> '.join(found)}")
    return wrong


def test_python_imports_go_down() -> None:
    complain(import_complaints(PACKAGE))


def test_rooms_import_nothing_when_they_are_entered() -> None:
    """Start-up time is felt in every `run`."""
    for path in PACKAGE.glob("*/__init__.py"):
        assert not list(imports(path, PACKAGE)), f"{path.parent.name}/__init__.py imports something"
        assert ast.get_docstring(ast.parse(path.read_text())), (
            f"{path.parent.name}/ does not say what it is"
        )


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("config/a.py", "from ..machine import Machine", "config may not use machine"),
        ("qemu/a.py", "def f():\n    from ..run import b", "qemu may not use run"),
        ("qemu/a.py", "from fakesysfs import Machine", "qemu may not use __init__"),
        ("qemu/a.py", "from . import b", "circle"),
        ("errors.py", "import click", "only cli may import click"),
        ("run/a.py", "import numpy", "numpy is in no list"),
        ("attic/a.py", "", "the table has no room attic"),
    ],
)
def test_planted_imports_are_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    package = tmp_path / "fakesysfs"
    for name in ("machine.py", "run/b.py", "config/b.py", "errors.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (package / "qemu").mkdir()
    (package / "qemu" / "b.py").write_text("from .a import x")
    assert import_complaints(package) == []
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    found = import_complaints(package)
    assert len(found) == 1
    assert complaint in found[0]


def test_requirements_are_those_that_are_imported() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    required = {
        re.split(r"[\s<>=!~]", line)[0] for line in lines if line and not line.startswith("#")
    }
    imported = {
        name.split(".")[0] for path in PACKAGE.rglob("*.py") for _, name in imports(path, PACKAGE)
    }
    # of the standard library, or there whenever the plugin is
    optional = {"ctypes", "pytest", "_pytest"}
    expected = imported & (GUARDED.keys() - optional)
    assert {"fuse" if name == "fusepy" else name for name in required} == expected


# ---- C ----

# a symbol of an object file, and its type as nm(1) has it: T code, U called, D and B data
Symbols = dict[str, str]


def symbols_of(files: Iterable[Path], folder: Path, include: Iterable[Path]) -> dict[Path, Symbols]:
    """The symbols of each C file, compiled into `folder`."""
    # Not position-independent, so that constant tables of pointers are seen as constant; not
    # optimized, so that no call is inlined away.
    flags = ["-std=c11", "-D_GNU_SOURCE=1", "-DNDEBUG", "-O0", "-fno-pic", "-fno-pie", "-w"]
    flags += [f"-I{path}" for path in include]
    found = {}
    for path in files:
        target = folder / f"{path.stem}.o"
        command = [CC, *flags, "-c", f"{path}", "-o", f"{target}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        command = ["nm", "--format=posix", f"{target}"]
        nm = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        found[path] = {words[0]: words[1] for words in map(str.split, nm.stdout.splitlines())}
    return found


def engine_room(path: Path) -> str:
    """The folder of the engine, or `binding`, that a C file is in."""
    return "top" if path.parent.name == "engine" else path.parent.name


def call_complaints(symbols: Mapping[Path, Symbols]) -> list[str]:
    """Calls that go up or sideways, calls a library must not make, globals, a line each; and a
    circle between files.
    """
    home = {
        s: path for path, names in symbols.items() for s, kind in names.items() if kind in "TDBRCVW"
    }
    wrong = []
    edges: dict[str, set[str]] = {}
    for path, names in symbols.items():
        room = engine_room(path)
        for symbol, kind in sorted(names.items()):
            target = home.get(symbol)
            if kind == "U" and target is not None:
                edges.setdefault(path.name, set()).add(target.name)
                other = engine_room(target)
                if other != room and other not in ENGINE_MAY_USE[room]:
                    wrong.append(
                        f"{path.name}: {room} may not use {symbol} of {other}/{target.name}"
                    )
            for pattern, reason in FORBIDDEN_CALLS.items():
                if kind == "U" and room != "binding" and re.fullmatch(pattern, symbol):
                    wrong.append(f"{path.name} calls {symbol}: {reason}")
            if kind in "DdBbC" and room != "binding":
                wrong.append(f"{path.name} has a global variable: {symbol}")
    if found := circle(edges):
        wrong.append(f"calls go in a circle: {' -> '.join(found)}")
    return wrong


def test_c_calls_go_down(tmp_path: Path) -> None:
    files = [*sorted((PACKAGE / "engine").rglob("*.c")), PACKAGE / "binding" / "fuse_ops.c"]
    complain(call_complaints(symbols_of(files, tmp_path, [PACKAGE, PACKAGE / "engine"])))


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("base/a.c", "int b(void); int a(void) { return b(); }", "base may not use b of mm/b.c"),
        (
            "sysfs/a.c",
            "int p(void); int a(void) { return p(); }",
            "sysfs may not use p of proc/p.c",
        ),
        ("mm/c.c", "int b(void); int c(void) { return b(); }", "circle: b.c -> c.c -> b.c"),
        ("mm/a.c", "void abort(void); void a(void) { abort(); }", "a.c calls abort"),
        ("mm/a.c", "int counter = 1;", "a.c has a global variable: counter"),
    ],
)
def test_planted_calls_are_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    engine = tmp_path / "engine"
    for name, code in {
        "mm/b.c": "int c(void); int b(void) { return c(); }",
        "mm/c.c": "int c(void) { return 1; }",
        "proc/p.c": "int p(void) { return 2; }",
        "sysfs/s.c": "int b(void); int s(void) { return b(); }",
    }.items():
        (engine / name).parent.mkdir(parents=True, exist_ok=True)
        (engine / name).write_text(code)
    assert call_complaints(symbols_of(engine.rglob("*.c"), tmp_path, [])) == []
    (engine / file).parent.mkdir(exist_ok=True)
    (engine / file).write_text(text)
    found = call_complaints(symbols_of(sorted(engine.rglob("*.c")), tmp_path, []))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "engine").rglob("*.[ch]")), ids=lambda path: path.name
)
def test_engine_includes_no_python_and_no_fuse(path: Path) -> None:
    includes = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)
    assert not [
        name
        for name in includes
        if re.search(r"Python\.h|structmember\.h|fuse.*\.h|binding/", name)
    ]


def test_build_lists_every_c_file() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extension,) = settings["tool"]["setuptools"]["ext-modules"]
    on_disk = sorted(str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.c"))
    assert sorted(extension["sources"]) == on_disk, (
        "sources in pyproject.toml must be: " + ", ".join(on_disk)
    )


def test_package_data_lists_every_data_file() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["fakesysfs"].split()
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    here = {
        path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    data = {path for path in here if path.suffix not in {".py", ".c", ".h", ".so"}}
    assert sorted(data) == sorted(packaged)
