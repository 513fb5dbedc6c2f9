"""The table behind `fakesysfs presets --kernels`: it is of the recordings that are here, and it is
what the command prints."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from fakesysfs.cli.commands import main
from fakesysfs.config.profiles import Agreement, list_kernels, load_agreements, load_kernel

RECORDINGS = Path(__file__).parents[1] / "recordings"
SCRIPT = RECORDINGS / "agreement.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agreement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agreement"] = module  # for its dataclass
    spec.loader.exec_module(module)
    return module


def test_the_table_is_of_the_recordings_that_are_here() -> None:
    """One that comes or changes asks for `make agreement`."""
    script = load_script()
    judge = script.load_replay()
    recordings: Counter[Any] = Counter()
    steps: Counter[Any] = Counter()
    for path in RECORDINGS.glob("*.json"):
        recording = json.loads(path.read_text())
        key = script.key_of(recording, judge.ARCHES)
        recordings[key] += 1
        steps[key] += sum(map(judge.compared, recording["steps"]))
    told = [
        (row.kernel, row.arch, row.config, row.recordings, row.steps) for row in load_agreements()
    ]
    assert told == [
        (".".join(map(str, key.version)), key.arch, key.config, recordings[key], steps[key])
        for key in sorted(recordings)
    ]


def test_every_recorded_kernel_has_a_profile() -> None:
    for row in load_agreements():
        assert row.kernel in list_kernels()
        assert 0 < row.agree <= row.steps


def test_presets_tells_it() -> None:
    result = CliRunner().invoke(main, ["presets", "--kernels"])
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert list(lines) == list_kernels()
    for kernel in list_kernels():
        rows = [row for row in load_agreements() if row.kernel == kernel]
        steps, agree = sum(row.steps for row in rows), sum(row.agree for row in rows)
        told = f"{agree} of {steps} recorded steps agree" if rows else "not recorded"
        assert lines[kernel].startswith(told)
        assert lines[kernel].endswith(load_kernel(kernel, "")["source"])
    assert "(also aarch64)" in lines["6.1"]


def test_the_script_writes_what_the_replays_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recordings of one kernel add up; steps that differ are printed, and the status says so."""
    script = load_script()
    for name, kernel in (("a", "6.1.2"), ("b", "6.1.2"), ("c", "7.3.4+deb13")):
        recording = {"kernel": kernel, "config": f"test-{kernel[0]}", "steps": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(recording))
    counts = {"a.json": (10, 10), "b.json": (5, 4), "c.json": (7, 7)}
    monkeypatch.setattr(script, "replay", lambda path: counts[path.name])
    result = tmp_path / "recorded.toml"
    monkeypatch.setattr(sys, "argv", ["agreement.py", str(tmp_path), "--result", str(result)])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code is True
    written = tomllib.loads(result.read_text())
    assert written["set"] == tmp_path.name
    assert [Agreement(**row) for row in written["recorded"]] == [
        Agreement("6.1", "x86_64", "test-6", 2, 15, 14),
        Agreement("7.3", "x86_64", "test-7", 1, 7, 7),
    ]


def test_a_replay_that_breaks_off_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script()
    done = subprocess.CompletedProcess([], 1, stdout="3 passed\n", stderr="no /dev/fuse\n")
    monkeypatch.setattr(script.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(SystemExit, match=r"was not replayed to its end:\n.*\nno /dev/fuse"):
        script.replay(tmp_path / "a.json")
