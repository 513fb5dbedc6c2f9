"""The rules of the house, as tests: who may call whom, who may import what, how a file looks.

Python modules have a digit and import only lower digits. C files of the engine have a letter, written in
engine/mm.h, and call only earlier letters and those of `a`; what a file calls is read from the symbols of its
object file, so comments and macros do not fool it. The map in README.md is walked hop by hop. Nothing here
runs fakesysfs.

A new module or C file fails here until it has a digit or a letter: the moment to think where it belongs.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fakesysfs"
ENGINE = PACKAGE / "engine"

LAYERS = {
    "cause": 0,
    "errors": 0,
    "address_map": 1,
    "block_list": 1,
    "cmdline": 1,
    "config": 1,
    "profiles": 1,
    "sysfs_copy": 1,
    "syscall": 1,
    "toml_file": 1,
    "_engine": 2,
    "machine": 2,
    "qemu_text": 2,
    "memdev": 2,
    "qmp_schema": 3,
    "devices": 3,
    "dimm": 3,
    "virtio_mem": 3,
    "uevent": 3,
    "view": 3,
    "command": 3,
    "control": 3,
    "mount": 3,
    "survey": 3,
    "capture": 4,
    "hmp": 4,
    "prompt": 4,
    "host_cpus": 4,
    "monitor": 4,
    "qmp": 4,
    "hmp_session": 4,
    "monitor_server": 4,
    "control_server": 4,
    "enter": 4,
    "namespace": 4,
    "udev": 4,
    "render": 4,
    "instance": 5,
    "bench": 5,
    "doctor": 5,
    "demo": 5,
    "cli": 5,
    "pytest_plugin": 5,
    "__init__": 6,
    "__main__": 6,
}
SAME_LAYER = {  # importer, imported: the only pairs within one layer
    ("machine", "_engine"),
    ("block_list", "address_map"),
    ("config", "address_map"),
    ("config", "block_list"),
    ("config", "cmdline"),
    ("config", "profiles"),
    ("config", "toml_file"),
    ("dimm", "devices"),
    ("dimm", "virtio_mem"),
    ("memdev", "qemu_text"),
    ("hmp", "host_cpus"),
    ("monitor", "hmp"),
    ("monitor", "host_cpus"),
    ("profiles", "toml_file"),
    ("virtio_mem", "devices"),
    ("qmp", "monitor"),
    ("hmp_session", "monitor"),
    ("monitor_server", "monitor"),
    ("monitor_server", "qmp"),
    ("monitor_server", "hmp_session"),
    ("cli", "instance"),
    ("cli", "doctor"),
    ("cli", "bench"),
    ("cli", "demo"),
}
ENGINE_IMPORTERS = {"machine"}

# Packages of others, and parts of the standard library worth guarding: the modules that may import them.
GUARDED = {
    "click": {"cli"},
    "ctypes": {"mount", "syscall"},
    "fuse": {"mount"},
    "psutil": {"config"},
    "pytest": {"pytest_plugin"},
    "_pytest": {"pytest_plugin"},
    "rich": {"cli", "render"},
}

# Calls within one letter, caller and callee, each with its reason. Short, or the letters mean nothing.
SAME_LETTER: dict[tuple[str, str], str] = {}

# What the engine must not call, and why.
FORBIDDEN_CALLS = {
    r"_?Py[A-Z_]\w*": "Python belongs to _enginemodule.c",
    r"fuse_\w+": "libfuse belongs to mount.py",
    r"abort|exit|_exit|__assert_fail": "a library in somebody's process returns -EIO and taints the machine",
    r"printf|puts|putchar|fprintf|fputs|perror": "a library prints nothing; it has a kernel log",
    r"sprintf|vsprintf|strcpy|strcat|gets": "text goes through a bounded printer",
    r"rand|random|srand|srandom|drand48|lrand48": "there is one generator with one seed per machine",
}
ALLOWED_CALLS = {
    ("record", "abort"): "this process itself has no memory left",
    ("record", "fprintf"): "the last words before that",
}
STATE_HOLDERS = {"fuse_ops"}  # libfuse's callbacks carry no user data, so the mounted machine is a global

# Functions that compare versions all the same, by module and name.
ALLOWED_COMPARISONS = {
    ("doctor", "_util_linux"): "that is the version of the host's util-linux, whose options `run` needs",
}

MAX_LINES = 1000
README_HOPS = ["mount.py", "_enginemodule.c", "sysfs.c", "memory_block.c", "memory_hotplug.c", "buddy.c"]

PYTHON = sorted(PACKAGE.glob("*.py"))
ENGINE_C = sorted(ENGINE.glob("*.c"))
CC = os.environ.get("CC", "cc")


@functools.cache
def files_of_the_project() -> list[Path]:
    """Every file that is or could be in git; without git, every file that is not made by a tool."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = listing.stdout.decode().split("\0")
        files = [ROOT / name for name in names if name]
    else:
        made = {".venv", "build", "dist", "__pycache__"}
        files = [path for path in ROOT.rglob("*") if not made & set(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def complain(wrong: list[str]) -> None:
    """Fail with these lines and nothing else, if there are any."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def build_settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def without_comments(source: str) -> str:
    """C source without comments and with empty string literals, lines kept."""

    def blank(match: re.Match[str]) -> str:
        return '""' if match[0].startswith('"') else "\n" * match[0].count("\n")

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.DOTALL)


# Python


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, top-level package and (in fakesysfs) module of every import, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                assert node.level == 1, f"{named(path)}:{node.lineno}: there are no sub-packages"
                base = f"fakesysfs.{base}".rstrip(".")
            # "from . import errors" imports a module, "from .errors import X" does not.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "fakesysfs" else [base]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            yield node.lineno, package, rest.partition(".")[0]


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_python_imports_go_down(path: Path) -> None:
    module = path.stem
    assert module in LAYERS, f"{named(path)} has no layer; give it one in {Path(__file__).name}"
    wrong = []
    for line, package, target in imports(path):
        where = f"{named(path)}:{line}"
        if package == "fakesysfs":
            # `from fakesysfs import Machine` goes by way of __init__, the top of the house.
            target = target if target in LAYERS else "__init__"
            if target == "_engine" and module not in ENGINE_IMPORTERS:
                wrong.append(f"{where}: only {ENGINE_IMPORTERS} may import _engine")
            if LAYERS[target] >= LAYERS[module] and (module, target) not in SAME_LAYER:
                wrong.append(f"{where}: {module} ({LAYERS[module]}) imports {target} ({LAYERS[target]})")
        elif package in GUARDED:
            if module not in GUARDED[package]:
                wrong.append(f"{where}: only {sorted(GUARDED[package])} may import {package}")
        elif package not in sys.stdlib_module_names:
            wrong.append(f"{where}: {package} is in no list of what may be imported")
    complain(wrong)


def test_requirements_are_those_that_are_imported() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    required = {re.split(r"[\s<>=!~]", line)[0] for line in lines if line}
    imported = {package for path in PYTHON for _, package, _ in imports(path)}
    optional = {"ctypes", "pytest", "_pytest"}  # of the standard library, or there whenever the plugin is
    expected = imported & (GUARDED.keys() - optional)
    assert {"fuse" if name == "fusepy" else name for name in required} == expected


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
    """Is this a comparison, a membership, a prefix, a look-up or a match of a kernel's name or version?"""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        ordered = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        return (ordered or any(map(is_constant, sides))) and any(map(speaks_of_versions, sides))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("startswith", "endswith") and speaks_of_versions(node.func.value)
    if isinstance(node, ast.Subscript):  # {"5.0": ..., "6.1": ...}[kernel]
        return isinstance(node.value, ast.Dict) and speaks_of_versions(node.slice)
    return isinstance(node, ast.Match) and speaks_of_versions(node.subject)


def compared_versions(tree: ast.AST, allowed: Collection[str] = ()) -> Iterator[int]:
    """Lines that decide by a kernel's name or version: `kernel < ...`, `cfg.release == "6.1"`.

    :param allowed: names of functions that are passed over.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name in allowed:
            continue
        yield from compared_versions(node, allowed)
        if decides_by_version(node):
            yield getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_python_asks_for_features_not_versions(path: Path) -> None:
    allowed = {function for module, function in ALLOWED_COMPARISONS if module == path.stem}
    lines = list(compared_versions(ast.parse(path.read_text()), allowed))
    assert not lines, f"{named(path)}: lines {lines} compare versions; ask for a feature of kernels/"


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
    for line in ["kernel_zones[0] != kernel", "kernel in profiles", "profile.release == other.release", "size < limit"]:
        assert not list(compared_versions(ast.parse(line))), line


# C


def letters() -> dict[str, str]:
    """The letter of each engine file, from the table in mm.h."""
    text = (ENGINE / "mm.h").read_text()
    table = re.search(r"call only files of earlier letters.*?:\n(.*?)\n \*\n", text, re.DOTALL)
    assert table, "mm.h has no table of files and letters"
    found: dict[str, str] = {}
    letter = ""
    for word in table[1].replace("*", " ").split():
        if re.fullmatch(r"[a-z]", word):
            letter = word
        else:
            assert letter, f"mm.h: {word} stands before any letter"
            found[word.removesuffix(".c")] = letter
    return found


Symbols = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Symbols:
    """For each engine file, its symbols and their types as nm(1) has them: T code, U called, D and B data."""
    folder = tmp_path_factory.mktemp("objects")
    found = {}
    for path in ENGINE_C:
        target = folder / f"{path.stem}.o"
        # Not position-independent, so that constant tables of pointers are seen as constant; not optimized,
        # so that no call is inlined away.
        flags = ["-std=c11", "-D_GNU_SOURCE=1", "-DNDEBUG", "-O0", "-fno-pic", "-fno-pie", "-w"]
        done = subprocess.run(
            [CC, *flags, "-c", path, "-o", target], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        nm = subprocess.run(
            ["nm", "--format=posix", target], capture_output=True, text=True, check=True, timeout=60
        )
        found[path.stem] = dict(line.split()[:2] for line in nm.stdout.splitlines())
    return found


def test_every_engine_file_has_a_letter() -> None:
    assert sorted(path.stem for path in ENGINE_C) == sorted(letters()), "mm.h has the table of letters"


@pytest.mark.parametrize("name", [path.stem for path in ENGINE_C])
def test_c_calls_go_to_earlier_letters(name: str, symbols: Symbols) -> None:
    home = {symbol: file for file in symbols for symbol, kind in symbols[file].items() if kind in "TDBRCVW"}
    letter = letters()
    wrong = []
    for symbol, kind in sorted(symbols[name].items()):
        callee = home.get(symbol)
        if kind != "U" or callee is None or (name, callee) in SAME_LETTER:
            continue
        upper, lower = letter.get(name, "no letter"), letter.get(callee, "no letter")
        if len(upper + lower) > 2 or not (lower < upper or lower == "a"):
            wrong.append(f"{name}.c ({upper}) uses {symbol} of {callee}.c ({lower})")
    complain(wrong)


def test_exceptions_within_a_letter_are_used(symbols: Symbols) -> None:
    letter = letters()
    for (caller, callee), reason in SAME_LETTER.items():
        assert letter[caller] == letter[callee]
        assert reason
        provided = {symbol for symbol, kind in symbols[callee].items() if kind in "TDBR"}
        wanted = {symbol for symbol, kind in symbols[caller].items() if kind == "U"}
        assert provided & wanted, f"{caller}.c calls nothing of {callee}.c any more; drop the exception"


@pytest.mark.parametrize("name", [path.stem for path in ENGINE_C])
def test_engine_is_a_library(name: str, symbols: Symbols) -> None:
    """No Python, no libfuse, no output, no sudden end; and no state outside struct machine."""
    wrong = []
    for symbol, kind in sorted(symbols[name].items()):
        for pattern, reason in FORBIDDEN_CALLS.items():
            allowed = (name, symbol) in ALLOWED_CALLS
            if kind == "U" and re.fullmatch(pattern, symbol) and not allowed:
                wrong.append(f"{name}.c calls {symbol}: {reason}")
        if kind in "DdBbC" and name not in STATE_HOLDERS:
            wrong.append(f"{name}.c has a global variable: {symbol}")
    complain(wrong)


@pytest.mark.parametrize("path", sorted(ENGINE.glob("*.[ch]")), ids=named)
def test_engine_includes_no_python_and_no_fuse(path: Path) -> None:
    includes = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)
    ours = {header.name for header in ENGINE.glob("*.h")}
    foreign = [name for name in includes if name not in ours]
    assert not [name for name in foreign if re.search(r"Python\.h|structmember\.h|fuse.*\.h", name)]


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
        "strncpy(m->release, config->release != NULL ? config->release : x, sizeof m->release - 1);",
        "int file_release(struct machine *m, int64_t handle);",
        "resource_release(m, start, start + size_bytes - 1);",
    ]:
        assert not C_VERSIONS.search(line), line


def test_build_lists_every_c_file() -> None:
    (extension,) = build_settings()["tool"]["setuptools"]["ext-modules"]
    on_disk = sorted(named(path) for path in PACKAGE.glob("**/*.c"))
    assert sorted(extension["sources"]) == on_disk, "sources in pyproject.toml must be: " + ", ".join(on_disk)


def test_package_data_lists_every_data_file() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["fakesysfs"].split()
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    ours = {path for path in files_of_the_project() if path.is_relative_to(PACKAGE)}
    data = {path for path in ours if path.suffix not in {".py", ".c"}}
    assert sorted(map(named, data)) == sorted(map(named, packaged))


# Every file

WRITTEN = [path for path in files_of_the_project() if "recordings" not in path.parts]
CODE = [path for path in WRITTEN if path.suffix in {".py", ".pyi", ".c", ".h"}]
SCRIPTS = [
    path
    for path in WRITTEN
    if path.suffix in {".bash", ".cfg", ".toml"} or path.name == "Makefile" or os.access(path, os.X_OK)
]


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
    assert len(opening.split()) >= 3, f"{named(path)} does not open with a comment that says what it is"


@pytest.mark.parametrize("path", CODE, ids=named)
def test_file_is_not_too_long(path: Path) -> None:
    length = len(path.read_text().splitlines())
    assert length <= MAX_LINES, f"{named(path)} has {length} lines: it is more than one thing"


@pytest.mark.parametrize("path", [path for path in CODE if path.suffix in {".c", ".h"}], ids=named)
def test_c_has_no_long_lines_and_no_tabs(path: Path) -> None:
    """What Ruff sees to in Python."""
    columns = build_settings()["tool"]["ruff"]["line-length"]
    complain(
        [
            f"{named(path)}:{number}: {reason}"
            for number, line in enumerate(path.read_text().splitlines(), 1)
            for reason, bad in (
                (f"longer than {columns} columns", len(line) > columns),
                ("tab", "\t" in line),
                ("blank at the end", line != line.rstrip()),
            )
            if bad
        ]
    )


# The map


def defines(path: Path, function: str) -> bool:
    text = path.read_text()
    if path.suffix == ".py":
        nodes = ast.walk(ast.parse(text))
        return function in {
            node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    definition = rf"^[a-z][^;{{}}()]*\b{function}\([^;{{}}]*\)\s*\{{"
    made = rf"^METHOD\({function},"  # the binding's methods are made by a macro
    return bool(re.search(f"{definition}|{made}", without_comments(text), re.MULTILINE))


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
