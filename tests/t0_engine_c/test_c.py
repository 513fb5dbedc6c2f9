"""Builds and runs the C unit tests of the engine under ASan and UBSan: one test per test_*.c beside
this.

FAKESYSFS_SANITIZE=0 in the environment leaves the sanitizers out, which builds and runs in a
fraction of the time.

Owns no test of the engine itself; it hands over to `run` and shows what that printed. The tests at
the end make sure that a mistake in C is noticed at all: a failing check, a read out of bounds, an
overflow, a leak.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD_SECONDS = 900  # on a machine that has ten times as much to do
SANITIZED = os.environ.get("FAKESYSFS_SANITIZE") != "0"


@pytest.fixture(autouse=True, scope="module")
def _sanitizers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip if the compiler cannot link with the sanitizers: their libraries may be packages of
    their own.
    """
    if not SANITIZED:
        return
    program = tmp_path_factory.mktemp("sanitizers") / "program"
    command = [
        os.environ.get("CC", "cc"),
        "-fsanitize=address,undefined",
        "-x",
        "c",
        "-",
        "-o",
        str(program),
    ]
    source = b"int main(void) { return 0; }"
    if subprocess.run(command, input=source, capture_output=True, check=False).returncode != 0:
        pytest.skip("the C compiler has no ASan and UBSan libraries (Fedora: libasan libubsan)")


def run(*names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HERE / "run", *names],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("program", sorted(path.stem for path in HERE.glob("test_*.c")))
def test_c(program: str) -> None:
    done = run(program)
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed\n", done.stdout)
    assert done.stderr == ""


ENGINE_C = """
#include "double.h"
static int one(void) { return 1; }
int twice(int value) { return value * (one() + one()); }
"""
ENGINE_H = "int twice(int value);\n"


MISTAKES = {  # what a test does, and what is said of it
    "good": ("CHECK_EQ(twice(21), 42);", ""),
    "CHECK": ("CHECK(twice(1) == 3);", "CHECK(twice(1) == 3)"),
    "CHECK_EQ": ("CHECK_EQ(twice(1), 3);", "twice(1) is 2 (0x2), not 3 = 3 (0x3)"),
    "CHECK_STR": ('CHECK_STR("a", "b");', 'is "a", not "b"'),
}
if SANITIZED:
    MISTAKES |= {
        "out-of-bounds": (
            "char *volatile p = malloc(4); CHECK_EQ(twice(p[4]), 0); free(p);",
            "heap-buffer-overflow",
        ),
        "overflow": ("CHECK_EQ(twice(0x7fffffff), -2);", "signed integer overflow"),
        "leak": ("CHECK(malloc(twice(4)) != NULL);", "detected memory leaks"),
    }


@pytest.mark.parametrize(("body", "output"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("how", ["included", "linked"])
def test_mistakes_are_noticed(tmp_path: Path, how: str, body: str, output: str) -> None:
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "double.c").write_text(ENGINE_C)
    (engine / "double.h").write_text(ENGINE_H)
    include = "double.c" if how == "included" else "double.h"
    (tmp_path / "test_it.c").write_text(
        f'#include <stdlib.h>\n#include "{include}"\n#include "testhelper.h"\n'
        f"TEST(other) {{ CHECK_EQ(twice(2), 4); }}\nTEST(it) {{ {body} }}\n"
    )
    done = run(ENGINE=str(engine), TESTS=str(tmp_path), BUILD=str(tmp_path / "build"))
    assert output in done.stderr
    if output:
        assert done.returncode == 1
        assert re.search(r"\d passed, 1 failed\n$", done.stdout)
    else:
        assert done.returncode == 0
        assert (done.stdout, done.stderr) == ("2 passed, 0 failed\n", "")
