#!/usr/bin/env python3
"""Replay recordings of real kernels through `fakesysfs run`, and write down how many steps agree.

    python3 tests/recordings/agreement.py [FOLDER]     (`make agreement` does it with this folder)

FOLDER holds NAME.CONFIG.json, this one by default; replay.py beside this file is the judge. The
result goes to fakesysfs/config/kernels/recorded.toml, which `fakesysfs presets --kernels` shows.
Steps that differ are printed. Needs `fakesysfs` on PATH, /dev/fuse, and namespaces.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT = HERE.parents[1] / "fakesysfs" / "config" / "kernels" / "recorded.toml"
HEADER = """\
# How far the profiles agree with recordings of real kernels, replayed through `fakesysfs run`.
# Made by `make agreement` (tests/recordings/agreement.py). Do not edit: run it again.
"""


def load_replay() -> Any:
    """Return replay.py as a module."""
    spec = importlib.util.spec_from_file_location("replay", HERE / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, order=True)
class Key:
    """What one line of the table is about."""

    version: tuple[int, ...]
    arch: str
    config: str


def key_of(recording: dict[str, Any], arches: tuple[str, ...]) -> Key:
    """Return the kernel version, the architecture and the configuration of a recording."""
    version = re.match(r"(\d+)\.(\d+)", recording["kernel"])
    assert version is not None, recording["kernel"]
    config = recording["config"]
    arch = next((arch for arch in arches if config.endswith(f"-{arch}")), "x86_64")
    return Key((int(version[1]), int(version[2])), arch, config)


def replay(path: Path) -> tuple[int, int]:
    """Replay one recording. Return how many steps were compared, and how many of them agree.

    :raises SystemExit: the replay did not come to its end.
    """
    judge = [sys.executable, str(HERE / "replay.py")]
    with tempfile.TemporaryDirectory() as folder:
        options = subprocess.run(
            [*judge, "--options", path], capture_output=True, text=True, check=True
        )
        line = f"fakesysfs run {options.stdout.strip()} --qmp q -- "
        line += " ".join([*judge, "--qmp", "q", str(path)])
        done = subprocess.run(
            line, shell=True, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    lines = done.stdout.splitlines()
    end = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1]) if lines else None
    if end is None:
        raise SystemExit(f"{path.name} was not replayed to its end:\n{done.stdout}{done.stderr}")
    if int(end[2]):
        print(f"{path.name}:", *lines, sep="\n  ")
    return int(end[1]) + int(end[2]), int(end[1])


def table(name: str, rows: dict[Key, list[tuple[int, int]]]) -> str:
    """Return the text of the result."""
    text = f"{HEADER}set = {json.dumps(name)}\n"
    for key, counts in sorted(rows.items()):
        text += f"""
[[recorded]]
kernel = "{".".join(map(str, key.version))}"
arch = "{key.arch}"
config = "{key.config}"
recordings = {len(counts)}
steps = {sum(steps for steps, _ in counts)}
agree = {sum(agree for _, agree in counts)}
"""
    return text


def main() -> None:
    """Replay them all and write the table."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("folder", nargs="?", type=Path, default=HERE)
    ap.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="replays at a time")
    ap.add_argument("--result", type=Path, default=RESULT)
    a = ap.parse_args()
    paths = sorted(a.folder.resolve().glob("*.json"))
    arches = load_replay().ARCHES
    rows: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    with ThreadPoolExecutor(a.jobs) as pool:
        for path, counts in zip(paths, pool.map(replay, paths), strict=True):
            rows[key_of(json.loads(path.read_text()), arches)].append(counts)
    name = "tests/recordings" if a.folder.resolve() == HERE else a.folder.resolve().name
    a.result.write_text(table(name, rows))
    every = [counts for row in rows.values() for counts in row]
    steps, agree = (sum(column) for column in zip(*every, strict=True))
    print(f"{len(every)} recordings, {steps} steps, {agree} agree: {a.result}")
    sys.exit(steps != agree)


if __name__ == "__main__":
    main()
