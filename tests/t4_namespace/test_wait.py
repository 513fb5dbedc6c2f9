"""`fakesysfs wait` and `fakesysfs expect`: a shell test without a sleep and without a loop."""

from __future__ import annotations

import time

import pytest
from t3_mount.host import MEMORY, Person, ended

PLUG = (
    "fakesysfs monitor 'object_add memory-backend-ram,id=m,size=512M'"
    " 'device_add pc-dimm,id=d,memdev=m'"
)


def test_a_script_waits_for_what_another_process_does(person: Person) -> None:
    script = f"""
    (read start; {PLUG}; echo online_movable > {MEMORY}/memory32/state) < begin &
    fakesysfs expect 'blocks = 8' 'memory32 missing' 'no uevent add memory*' || exit 1
    echo start > begin
    fakesysfs wait 'blocks = 12' 'memory32/state = online' 'uevent online memory32' || exit 2
    wait
    fakesysfs monitor 'device_del d'
    fakesysfs wait 'qmp ACPI_DEVICE_OST info.device=d' || exit 3
    fakesysfs wait 'qmp DEVICE_DELETED device=d' 'log Policy zone' 'blocks = 8' || exit 4
    """
    with person.directory() as directory:
        result = person.inside(f"cd {directory}; mkfifo begin; {script}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_it_sees_what_is_no_event(me: Person) -> None:
    script = """
    mkfifo begin; (read start; fakesysfs load shmem=+64M > /dev/null) < begin &
    echo start > begin
    fakesysfs wait '/proc/meminfo ~ Shmem: +6[0-9]{4} kB' || exit 1
    wait"""
    with me.directory() as directory:
        result = me.inside(f"cd {directory}; {script}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_what_is_not_so_is_said(me: Person) -> None:
    result = me.inside(
        "fakesysfs expect 'blocks = 8' 'memory7/state = offline' 'uevent add memory32'"
    )
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "fakesysfs: memory7/state = offline: it is 'online'\n"
        "fakesysfs: uevent add memory32: it never happened; the last to happen: nothing\n",
    )
    start = time.monotonic()
    result = me.inside("fakesysfs wait --timeout 200ms 'blocks = 8' 'blocks offline = 1'")
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "fakesysfs: not within 200ms: blocks offline = 1: there are 0\n",
    )
    assert time.monotonic() - start > 0.2


def test_since(me: Person) -> None:
    script = f"""
    {PLUG}
    newest=$(fakesysfs events | grep -c .)
    fakesysfs expect 'uevent add memory32' || exit 1
    fakesysfs expect --since $newest 'no uevent add memory32' || exit 2
    echo online > {MEMORY}/memory32/state
    fakesysfs wait --since $newest 'uevent online memory32'"""
    result = me.inside(script)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("command", ["wait", "expect"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("memory7",), "fakesysfs: condition 'memory7': it has no such form; "),
        (("--instance", "/nowhere", "blocks = 1"), "fakesysfs: there is no instance /nowhere; "),
        ((), "fakesysfs: Missing argument 'CONDITION...'; "),
    ],
)
def test_errors(me: Person, command: str, arguments: tuple[str, ...], message: str) -> None:
    result = me.run("fakesysfs", command, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_wait_ends_with_the_instance(me: Person) -> None:
    result = me.run("fakesysfs", "run", "-d")
    number = result.stdout.split()[0].rpartition("/")[2]
    with ended(me.start("fakesysfs", "wait", "--instance", number, "blocks = 9")) as process:
        me.run("fakesysfs", "stop", "--instance", number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output.startswith("fakesysfs: ")
    assert output.count("\n") == 1
