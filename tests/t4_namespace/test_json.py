"""`--json` of the commands that print facts says what their text says."""

from __future__ import annotations

import json
from typing import Any

from t3_mount.host import Person


def both(me: Person, *command: str, before: str = "true", options: tuple[str, ...] = ()) -> Any:
    """What a command prints in one run as text and as JSON."""
    words = " ".join(command)
    script = f"{before} >&2; fakesysfs {words}; echo ---; fakesysfs {words} --json"
    result = me.run("fakesysfs", "run", *options, "--", "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    text, _, data = result.stdout.partition("---\n")
    assert data.count("\n") == 1
    return text, json.loads(data)


def test_map(me: Person) -> None:
    text, data = both(me, "map", options=("--machine", "two-dimms"))
    assert len(data["blocks"]) == 16
    assert [dimm["data"]["id"] for dimm in data["dimms"]] == ["d0", "d1"]
    assert all(f"memory{number}" in text for number in (0, 32))
    online = [block["id"] for block in data["blocks"] if block["state"] == "online"]
    assert online == list(range(8))


def test_load(me: Person) -> None:
    text, data = both(me, "load")
    lines = dict(line.split(":") for line in text.splitlines())
    assert {name: int(value.split()[0]) << 10 for name, value in lines.items()} == data
    change = "fakesysfs load anon=+4M slab=+8K --json"
    result = me.run("fakesysfs", "run", "--", "sh", "-c", f"{change}; fakesysfs load anon=-1M")
    first, second = result.stdout.splitlines()
    assert json.loads(first) == [
        {"kind": "anon", "bytes": 4 << 20},
        {"kind": "slab", "bytes": 8 << 10},
    ]
    assert second == "anon -1024 kB"


def test_huge_pages_are_bytes(me: Person) -> None:
    load = "fakesysfs load hugetlb=+8M"
    text, data = both(me, "load", before=load)
    assert "HugePages_Total:       4\n" in text
    assert data["HugePages_Total"] == 8 << 20


def test_page(me: Person) -> None:
    text, data = both(me, "page", "0x18000", before="fakesysfs load slab=+4K --block 3")
    assert (data["pfn"], data["block_id"]) == (0x18000, 3)
    assert f"pfn 0x18000: {data['kind']}" in text
    assert text.splitlines()[-1].strip() == data["fate"]


def test_fault_list(me: Person) -> None:
    rule = "read memory5/state EIO x2"
    read = "! cat /sys/devices/system/memory/memory5/state"
    text, data = both(me, "fault list", before=read, options=("--fault", rule))
    assert data == [{"number": 1, "rule": rule, "matched": 1, "fired": 1, "waiting": 0}]
    assert text == f"  1  {rule}  1 of 1\n"


def test_presets_and_kernels(me: Person) -> None:
    presets = json.loads(me.run("fakesysfs", "presets", "--json").stdout)
    text = me.run("fakesysfs", "presets").stdout
    assert [line.split()[0] for line in text.splitlines()] == [one["name"] for one in presets]
    kernels = json.loads(me.run("fakesysfs", "presets", "--kernels", "--json").stdout)
    text = me.run("fakesysfs", "presets", "--kernels").stdout
    assert [line.split()[0] for line in text.splitlines()] == [one["name"] for one in kernels]


def test_doctor(me: Person) -> None:
    result, shown = me.run("fakesysfs", "doctor", "--json"), me.run("fakesysfs", "doctor")
    findings = json.loads(result.stdout)
    assert result.returncode == shown.returncode
    marks = {True: "ok", False: "FAULT", None: "note"}
    lines = [line for line in shown.stdout.splitlines() if line[:1] != " "]
    assert [line[:19].split() for line in lines] == [
        [marks[one["good"]], one["what"]] for one in findings
    ]
    assert "run" in [one["what"] for one in findings]
