"""udev rules as distributions ship them, in the hands of a real systemd-udevd: rule, machine,
outcome.

A DIMM of two blocks is plugged by the monitor and nobody writes but udevd. What a rule asks of its
surroundings is staged inside the run, by mounts that only the run sees: the DMI vendor, `uname` and
`systemd-detect-virt` where a rule calls them. CONST{virt} cannot be staged, because udevd asks the
processor: a row for each side of that test, in one of which the word compared is what this host is,
stands for the other side.

udevadm in a run is tested here as well: info, trigger, settle, monitor, test.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from t3_mount.host import MEMORY, Person, lines

pytestmark = pytest.mark.skipif(
    not shutil.which("udevadm"), reason="systemd-udevd is not installed (package udev)"
)

PLUG = (
    "fakesysfs monitor 'object_add memory-backend-ram,id=m0,size=256M' 'device_add"
    " pc-dimm,id=d0,memdev=m0'\n"
)

# Proxmox, SLES (80-hotplug-cpu-mem.rules), cloud images
GENERIC = """
SUBSYSTEM=="memory", ACTION=="add", TEST=="state", ATTR{state}=="offline", ATTR{state}="online"
"""
# Hyper-V (100-balloon.rules): does not look before it writes
BALLOON = """
SUBSYSTEM=="memory", ACTION=="add", ATTR{state}="online"
"""
# Ubuntu (40-vm-hotadd.rules)
UBUNTU = """
ATTR{[dmi/id]sys_vendor}=="Microsoft Corporation", ATTR{[dmi/id]product_name}=="Virtual Machine", GOTO="apply"
ATTR{[dmi/id]sys_vendor}=="Xen", GOTO="apply"
GOTO="end"
LABEL="apply"
SUBSYSTEM=="memory", ACTION=="add", DEVPATH=="/devices/system/memory/memory[0-9]*", TEST=="state", ATTR{state}!="online", ATTR{state}="online"
LABEL="end"
"""
# RHEL 8 and later (40-redhat.rules)
RHEL = """
SUBSYSTEM!="memory", GOTO="end"
ACTION!="add", GOTO="end"
CONST{arch}=="s390*", GOTO="end"
CONST{arch}=="ppc64*", GOTO="end"
ENV{.state}="online"
CONST{virt}=="none", ENV{.state}="online_movable"
ATTR{state}=="offline", ATTR{state}="$env{.state}"
LABEL="end"
"""
# RHEL 7, and SLES for a while: programs are asked, and one that fails does not match, whatever it
# prints
RHEL_7 = """
SUBSYSTEM!="memory", GOTO="end"
ACTION!="add", GOTO="end"
PROGRAM="/bin/uname -p", RESULT=="s390*", GOTO="end"
ENV{.state}="online"
PROGRAM="/usr/bin/systemd-detect-virt", RESULT=="none", ENV{.state}="online_movable"
ATTR{state}=="offline", ATTR{state}="$env{.state}"
LABEL="end"
"""
# Reloading the crash kernel; where they name a program of kdump's, it is one that takes notes.
KDUMP_RHEL = """
SUBSYSTEM=="memory", ATTRS{crash_hotplug}=="1", GOTO="end"
SUBSYSTEM=="memory", ACTION=="online", GOTO="reload"
SUBSYSTEM=="memory", ACTION=="offline", GOTO="reload"
GOTO="end"
LABEL="reload"
RUN+="/bin/sh @D@/kdump reload"
LABEL="end"
"""  # 98-kexec.rules
KDUMP_SUSE = """
SUBSYSTEM=="memory", ACTION=="add|remove", RUN+="/bin/sh @D@/kdump reload"
"""  # 70-kdump.rules
KDUMP_DEBIAN = """
SUBSYSTEM=="memory", ACTION=="online", PROGRAM="/bin/sh @D@/kdump try-reload"
SUBSYSTEM=="memory", ACTION=="offline", PROGRAM="/bin/sh @D@/kdump try-reload"
"""  # 50-kdump-tools.rules

HOST_VIRT = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True, check=False).stdout.strip() if (
    shutil.which("systemd-detect-virt")) else "none"  # fmt: skip
CRASH_HOTPLUG = "--config=CRASH_HOTPLUG=y"
ONLINE_AT_ONCE = "--append=memhp_default_state=online"


def dmi(vendor: str, product: str) -> str:
    """Shell commands after which DMI names this vendor and product."""
    return f"""
mount -t tmpfs none /sys/class; mkdir -p /sys/class/dmi/id
echo '{vendor}' > /sys/class/dmi/id/sys_vendor; echo '{product}' > /sys/class/dmi/id/product_name
"""


def program(path: str, prints: str, status: int) -> str:
    """Shell commands after which a program prints this and has this exit status."""
    return f"""
printf '#!/bin/sh\\necho {prints}\\nexit {status}\\n' > $D/program; chmod 755 $D/program
mount --bind $D/program "$(readlink -f {path})"
"""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    :param name: what it is about.
    :param rules: the text of the rules file.
    :param options: of the machine.
    :param zone: in which the blocks are in the end, or "offline".
    :param wrote: what udevd wrote to the file `state` of each block, and the errno it got.
    :param stage: shell commands before the DIMM is plugged.
    """

    name: str
    rules: str
    options: tuple[str, ...]
    zone: str
    wrote: str
    stage: str = ""


REAL_VIRT = "Movable" if HOST_VIRT == "none" else "Normal"
ONLINING = [
    # name                     rules    machine            outcome    by
    Row("generic", GENERIC, (), "Normal", "online"),
    Row("generic-movable-node", GENERIC, ("--append=movable_node",), "Movable", "online"),
    Row("generic-policy-online", GENERIC, (ONLINE_AT_ONCE,), "Normal", ""),
    Row(
        "generic-policy-offline",
        GENERIC,
        ("--append=memhp_default_state=offline",),
        "Normal",
        "online",
    ),
    Row(
        "generic-policy-movable",
        GENERIC,
        ("--kernel=6.12", "--append=memhp_default_state=online_movable"),
        "Movable",
        "",
    ),
    Row("no-rule", "", (), "offline", ""),
    Row("hyper-v", BALLOON, (), "Normal", "online"),
    Row("hyper-v-policy-online", BALLOON, (ONLINE_AT_ONCE,), "Normal", "online EINVAL"),
    Row(
        "ubuntu-on-hyper-v",
        UBUNTU,
        (),
        "Normal",
        "online",
        dmi("Microsoft Corporation", "Virtual Machine"),
    ),
    Row(
        "ubuntu-on-surface", UBUNTU, (), "offline", "", dmi("Microsoft Corporation", "Surface Book")
    ),
    Row("ubuntu-on-xen", UBUNTU, (), "Normal", "online", dmi("Xen", "HVM domU")),
    Row("ubuntu-on-kvm", UBUNTU, (), "offline", "", dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)")),
    Row(
        f"rhel-virt-{HOST_VIRT}",
        RHEL,
        (),
        REAL_VIRT,
        "online_movable" if REAL_VIRT == "Movable" else "online",
    ),
    Row(
        "rhel-virt-test-true",
        RHEL.replace('"none"', f'"{HOST_VIRT}"'),
        (),
        "Movable",
        "online_movable",
    ),
    Row("rhel-virt-test-false", RHEL.replace('"none"', '"other"'), (), "Normal", "online"),
    Row(
        "rhel7-in-kvm",
        RHEL_7,
        (),
        "Normal",
        "online",
        program("/usr/bin/systemd-detect-virt", "kvm", 0),
    ),
    Row(
        "rhel7-bare",
        RHEL_7,
        (),
        "Movable",
        "online_movable",
        program("/usr/bin/systemd-detect-virt", "none", 0),
    ),
    # What it really does on bare metal: exit status 1, so the rule misses what it asked for.
    Row(
        "rhel7-bare-as-it-is",
        RHEL_7,
        (),
        "Normal",
        "online",
        program("/usr/bin/systemd-detect-virt", "none", 1),
    ),
    Row("rhel7-s390x", RHEL_7, (), "offline", "", program("/bin/uname", "s390x", 0)),
]


def run(person: Person, rules: str, script: str, *options: str) -> list[str]:
    """The lines that a script prints in a run with udevd and these rules; $D is a directory for
    notes.
    """
    with person.directory() as directory:
        (directory / "50-test.rules").write_text(rules.replace("@D@", str(directory)))
        (directory / "kdump").write_text(
            f'echo "$1 $ACTION ${{DEVPATH##*/}}" >> {directory}/notes\n'
        )
        result = person.inside(
            script,
            "--udev",
            f"--rules={directory}/50-test.rules",
            *options,
            env={"D": str(directory)},
        )
    assert result.returncode == 0, result.stderr
    return list(lines(result.stdout))


@pytest.mark.parametrize("row", ONLINING, ids=lambda row: row.name)
def test_onlining(me: Person, row: Row) -> None:
    script = f"""{row.stage}{PLUG}udevadm settle
cat {MEMORY}/memory32/state {MEMORY}/memory32/valid_zones {MEMORY}/memory33/state
fakesysfs events"""
    state, zones, other, *events = run(me, row.rules, script, *row.options)
    assert state == other
    assert (zones if state == "online" else state) == row.zone
    told = [json.loads(event) for event in events]
    assert [event["data"] for event in told if event["kind"] == "uevent"].count("add") == 2
    word, _, error = row.wrote.partition(" ")
    stores = [event for event in told if event["kind"] == "store"]
    assert sorted((e["path"], e["data"], e["errno"]) for e in stores) == [
        (f"{MEMORY}/memory{block}/state", word, getattr(errno, error) if error else 0)
        for block in (32, 33)
        if word
    ]
    assert all("udev" in event["cause"]["comm"] for event in stores)


KDUMP = [
    # name            rules         machine        noted when a block comes, goes online, goes offline, goes away
    ("rhel", KDUMP_RHEL, (), ["reload online", "reload offline"]),
    # The kernel sees to it itself; from 6.11 on it says so only when there is a crash kernel.
    ("rhel-6.6", KDUMP_RHEL, ("--kernel=6.6", CRASH_HOTPLUG), []),
    (
        "rhel-6.12",
        KDUMP_RHEL,
        ("--kernel=6.12", CRASH_HOTPLUG),
        ["reload online", "reload offline"],
    ),
    ("suse", KDUMP_SUSE, (), ["reload add", "reload remove"]),
    ("debian", KDUMP_DEBIAN, (), ["try-reload online", "try-reload offline"]),
]


@pytest.mark.parametrize(
    ("rules", "options", "noted"), [row[1:] for row in KDUMP], ids=[row[0] for row in KDUMP]
)
def test_kdump(me: Person, rules: str, options: tuple[str, ...], noted: list[str]) -> None:
    script = f"""{PLUG}udevadm settle
for word in online_movable offline; do
    for block in 32 33; do echo $word > {MEMORY}/memory$block/state; done; udevadm settle
done
fakesysfs monitor 'device_del d0'; udevadm settle
[ ! -e $D/notes ] || cat $D/notes"""
    assert sorted(run(me, rules, script, *options)) == sorted(
        f"{note} memory{n}" for note in noted for n in (32, 33)
    )


def test_onlining_and_kdump_together(person: Person) -> None:
    """As on a real system: several files, and a rule whose effect is the next rule's event."""
    script = f"""{PLUG}udevadm settle; udevadm settle
cat {MEMORY}/memory3[23]/state; sort $D/notes"""
    assert run(person, GENERIC + KDUMP_DEBIAN, script) == [
        "online", "online", "try-reload online memory32", "try-reload online memory33",
    ]  # fmt: skip


# What is private, and what cannot be


def test_rules_of_the_host(person: Person) -> None:
    """They are there, and what a run adds to them stays in it; so does what it does in /run."""
    there = sorted(path.name for path in Path("/usr/lib/udev/rules.d").glob("*.rules"))
    script = """
ls /usr/lib/udev/rules.d | grep 'rules$'; echo > /etc/udev/rules.d/zz-mine.rules; echo > /run/udev/mine; ls /etc/udev/rules.d
ls /etc/udev/udev.conf /run/udev; udevadm control --ping"""
    result = person.inside(script, "--rules=host")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[: len(there)] == there
    assert {"zz-mine.rules", "/etc/udev/udev.conf", "control", "mine"} <= set(result.stdout.split())
    assert not Path("/etc/udev/rules.d/zz-mine.rules").exists()
    assert not Path("/run/udev/mine").exists()
    none = person.inside("ls /usr/lib/udev/rules.d /etc/udev/rules.d", "--udev")
    assert none.stdout.split() == ["/etc/udev/rules.d:", "/usr/lib/udev/rules.d:"]
    if not Path("/run/udev").exists():  # then /run is covered, and has to be as it was
        names = sorted(os.listdir("/run"))
        result = person.inside("ls -A /run; echo > /run/mine", "--udev")
        assert (sorted(result.stdout.split()), result.stderr) == (sorted([*names, "udev"]), "")
        assert sorted(os.listdir("/run")) == names


def test_several_places_with_rules(me: Person) -> None:
    """A directory and a file; of two files of one name the last counts."""
    with me.directory() as directory:
        (directory / "dir").mkdir()
        mark = 'SUBSYSTEM=="memory", ENV{{{}}}="yes"\n'
        for name, variable in (("dir/50-one", "ONE"), ("dir/60-two", "TWO"), ("60-two", "LAST")):
            (directory / f"{name}.rules").write_text(mark.format(variable))
        (directory / "dir/README").write_text("no rules\n")
        script = (
            f"udevadm trigger --settle {MEMORY}/memory7; udevadm info --query=property"
            f" {MEMORY}/memory7 | grep =yes"
        )
        result = me.inside(script, f"--rules={directory}/dir", f"--rules={directory}/60-two.rules")
    assert sorted(result.stdout.split()) == ["LAST=yes", "ONE=yes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--udev", "--net=host"),
            "--udev does not go with --net=host: it would hear the host's uevents",
        ),
        (("--rules=/nosuch.rules",), "--rules /nosuch.rules: No such file or directory"),
        (
            ("--rules=/etc",),
            "--rules /etc: udev reads files whose name ends in .rules; there is none",
        ),
        (("--rules=host", "--rules=/etc"), "--rules=host takes the host's rules and no others"),
    ],
)
def test_what_cannot_be(me: Person, options: tuple[str, ...], said: str) -> None:
    result = me.run("fakesysfs", "run", *options, "--", "true")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fakesysfs: {said}")
    assert len(lines(result.stderr)) == 1


# udevadm


def test_udevadm_info(person: Person) -> None:
    script = (
        f"udevadm info --attribute-walk {MEMORY}/memory7; udevadm info --export-db | grep -c"
        " P:.*/memory/memory"
    )
    *walk, exported = run(person, GENERIC, script)
    device, parent = "\n".join(walk).split("looking at parent device '/devices/system/memory'")
    for fact in (
        "looking at device '/devices/system/memory/memory7'", 'KERNEL=="memory7"', 'SUBSYSTEM=="memory"',
        'ATTR{online}=="1"', 'ATTR{phys_device}=="0"', 'ATTR{phys_index}=="00000007"', 'ATTR{state}=="online"',
        'ATTR{valid_zones}=="DMA32"', 'ATTR{removable}=="1"', 'ATTR{power/control}=="auto"',
    ):  # fmt: skip
        assert fact in device
    for fact in (
        'KERNELS=="memory"',
        'ATTRS{block_size_bytes}=="8000000"',
        'ATTRS{auto_online_blocks}=="offline"',
    ):
        assert fact in parent
    assert exported == "8"


def test_udevadm_trigger_settle_and_properties(person: Person) -> None:
    rules = """
SUBSYSTEM=="memory", ACTION=="change", ATTR{state}=="online", ENV{SEEN}="$attr{phys_index}"
SUBSYSTEM=="node", ACTION=="change", ENV{SEEN}="node $kernel"
"""
    script = f"""
udevadm trigger --subsystem-match=memory --subsystem-match=node --action=change --settle
udevadm info --query=property --property=SEEN --value {MEMORY}/memory7
udevadm info --query=property --property=SEEN --value /sys/devices/system/node/node0
udevadm trigger --action=change --dry-run --verbose --subsystem-match=memory
fakesysfs events | grep -c SYNTH_UUID=........-"""
    index, node, *devices, synthetic = run(person, rules, script)
    assert (index, node) == ("00000007", "node node0")
    assert sorted(devices) == sorted([f"{MEMORY}/memory{n}" for n in range(8)])
    assert int(synthetic) == 9


def test_udevadm_trigger_applies_a_rule_to_what_is_there(person: Person) -> None:
    """As at the end of boot: blocks that were added before there was a udevd, or a rule."""
    script = f"""{PLUG}udevadm settle; cat {MEMORY}/memory32/state
echo '{GENERIC.strip()}' > /etc/udev/rules.d/80-hotplug.rules; udevadm control --reload
udevadm trigger --action=add --subsystem-match=memory; udevadm settle; cat {MEMORY}/memory32/state"""
    assert run(person, "", script) == ["offline", "online"]
    assert not Path("/etc/udev/rules.d/80-hotplug.rules").exists()


def test_udevadm_monitor(person: Person) -> None:
    """The kernel's events, and udevd's after its rules."""
    script = f"""
udevadm monitor --kernel --udev --property --subsystem-match=memory > $D/heard &
until grep -q ^UDEV.*memory1 $D/heard; do echo change > {MEMORY}/memory1/uevent; sleep 0.05; done  # it listens
{PLUG}udevadm settle
until [ "$(grep -c '^UDEV .* online ' $D/heard)" = 2 ]; do sleep 0.1; done
kill $!; cat $D/heard"""
    heard = run(person, GENERIC + 'SUBSYSTEM=="memory", ENV{MARK}="mine"\n', script)
    events = [line.split() for line in heard if line.startswith(("KERNEL[", "UDEV  ["))]
    per_block = {
        block: [
            (line[0].partition("[")[0], *line[-3:-2])
            for line in events
            if line[-2].endswith(f"/memory{block}")
        ]
        for block in (32, 33)
    }
    for block, seen in per_block.items():
        assert sorted(seen) == [
            ("KERNEL", "add"),
            ("KERNEL", "online"),
            ("UDEV", "add"),
            ("UDEV", "online"),
        ], block
        # It hears the kernel and udevd at two sockets, of which it may read either first.
        for source in ("KERNEL", "UDEV"):
            assert seen.index((source, "add")) < seen.index((source, "online")), block
    assert heard.count("MARK=mine") == sum(line[0].startswith("UDEV") for line in events)


def test_udevadm_test(person: Person) -> None:
    script = f"""{PLUG}udevadm settle
udevadm test --action=add {MEMORY}/memory33 2>&1"""
    said = run(
        person,
        GENERIC + 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="online", ENV{SEEN}="yes"\n',
        script,
    )
    assert "SEEN=yes" in said
    assert any("50-test.rules" in line for line in said)
    assert not any("fail" in line.lower() and "memory33" in line for line in said)
