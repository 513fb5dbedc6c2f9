"""A host whose /sys is a writable fake, so that a command that gets through to it does no harm, and a
program that tries to write to everything.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from t3_mount.host import FUSE_MAGIC, Person

HOST_TEXT = "the host's"
ACPI = "/sys/devices/LNXSYSTM:00/LNXSYBUS:00"
# Files of a host that has everything a machine may lack. Whoever may write to the real ones may write
# to these, and an ordinary user may, too.
FILES = (
    "/sys/bus/acpi/devices/PNP0C80:00/uevent",
    "/sys/bus/acpi/devices/PNP0A08:00/uevent",
    "/sys/bus/acpi/drivers_autoprobe",
    "/sys/bus/memory/drivers_autoprobe",
    "/sys/bus/node/drivers_autoprobe",
    "/sys/bus/pci/drivers_autoprobe",
    f"{ACPI}/PNP0A06:04/PNP0C80:00/eject",
    f"{ACPI}/PNP0A06:04/PNP0A05:00/eject",
    f"{ACPI}/PNP0A08:00/eject",
    "/sys/devices/platform/serial8250/uevent",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/cpu1/online",
    "/sys/devices/system/memory/auto_online_blocks",
    "/sys/devices/system/memory/crash_hotplug",
    "/sys/devices/system/memory/memory7000/state",
    "/sys/devices/system/memory/probe",
    "/sys/devices/system/node/node7/compact",
    "/sys/firmware/acpi/pm_profile",
    "/sys/firmware/efi/vars",
    "/sys/firmware/memmap/70/start",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_ONLINE/error",
    "/sys/kernel/debug/other",
    "/sys/kernel/debug/tracing/tracing_on",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "/sys/kernel/mm/hugepages/hugepages-7kB/nr_hugepages",
    "/sys/kernel/mm/ksm/run",
    "/sys/module/acpi/parameters/ec_delay",
    "/sys/module/memory_hotplug/parameters/online_policy",
    "/sys/module/printk/parameters/time",
    "/sys/power/state",
)

# Prints [path, what came of opening it to write to it, "host" where it says so] for everything below
# /sys and /proc, without processes, and the text the host's files were read with. What is on FUSE or
# below /sys is written to; the rest of /proc is the real one, which is opened and left alone.
TRY_EVERYTHING = f"""
import errno, json, os, signal, sys

FUSE, HOST = 0x{FUSE_MAGIC}, {HOST_TEXT!r}
WORDS = (b"offline", b"online", b"0x100000000", b"0", b"1\\n", b"add", b"-1", b"x" * 5000)

def interrupted(number, frame):
    raise InterruptedError(errno.EINTR, "it takes too long")

def is_fuse(path):
    import ctypes
    words = (ctypes.c_long * 32)()
    return ctypes.CDLL(None).statfs(os.fsencode(path), words) == 0 and words[0] == FUSE

def attempt(path):
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as e:
        return errno.errorcode[e.errno]
    try:
        ours = is_fuse(f"/proc/self/fd/{{descriptor}}")
        if ours or path.startswith("/sys/"):
            for word in WORDS:
                signal.setitimer(signal.ITIMER_REAL, 3)
                try:
                    os.write(descriptor, word)
                except OSError:
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
        return "ours" if ours else "opened"
    finally:
        os.close(descriptor)

def text(path):
    try:
        with open(path, "rb") as file:
            return file.read(64).decode(errors="replace")
    except OSError:
        return ""

signal.signal(signal.SIGALRM, interrupted)
for top in ("/sys", "/proc"):
    for directory, folders, names in os.walk(top):
        if directory == "/proc":
            folders[:] = [name for name in folders if not name.isdecimal()]
        for name in names:
            path = f"{{directory}}/{{name}}"
            if os.path.islink(path) or path in ("/proc/kcore", "/proc/kmsg"):
                continue
            host = top == "/sys" and text(path) == HOST
            mode = os.stat(path).st_mode if os.path.exists(path) else 0
            print(json.dumps([path, attempt(path), host, mode & 0o222]))
"""


@dataclass
class Outcome:
    """What trying everything came to.

    :param of_host: the host's files below /sys that the command saw.
    :param tried: what came of opening each file to write to it.
    :param writable: files whose mode allows somebody to write.
    :param afterwards: what the host's files said, the ones that changed.
    """

    of_host: set[str] = field(default_factory=set)
    tried: dict[str, str] = field(default_factory=dict)
    writable: set[str] = field(default_factory=set)
    afterwards: dict[str, str] = field(default_factory=dict)


def fake_sys() -> str:
    """Shell commands, for a mount namespace of its own, that replace /sys by the fake."""
    directories = sorted({path.rpartition("/")[0] for path in FILES})
    return "\n".join(
        (
            "mount -t tmpfs -o mode=755 tmpfs /sys",
            f"mkdir -p {shlex.join(directories)}",
            f"for file in {shlex.join(FILES)}; do printf %s {shlex.quote(HOST_TEXT)} > $file; done",
            f"chmod 666 {shlex.join(FILES)}",
        )
    )


def on_fake_host(person: Person, script: str) -> tuple[str, ...]:
    """A command that runs a shell script on the fake host."""
    user = () if person.name == "root" else ("--user", "--map-root-user")
    return (
        "unshare", *user, "--mount", "--propagation", "private",
        "sh", "-ec", f"{fake_sys()}\n{script}",
    )  # fmt: skip


def try_everything(person: Person, options: Sequence[str]) -> Outcome:
    """Try to write to everything inside a `run` with these options, on the fake host."""
    run = shlex.join(["fakesysfs", "run", *options, "--", "python3", "-c", TRY_EVERYTHING])
    look = f'for file in {shlex.join(FILES)}; do printf "%s=%s\\n" $file "$(tr \'\\n\' . < $file)"; done'
    result = person.run(*on_fake_host(person, f"{run}\necho\n{look}"))
    assert result.returncode == 0, result.stderr
    tried, _, texts = result.stdout.partition("\n\n")
    outcome = Outcome()
    for line in tried.splitlines():
        path, answer, host, write_bits = json.loads(line)
        outcome.tried[path] = answer
        if host:
            outcome.of_host.add(path)
        if write_bits:
            outcome.writable.add(path)
    found = dict(line.split("=", 1) for line in texts.splitlines())
    assert found.keys() == set(FILES)
    outcome.afterwards = {path: text for path, text in found.items() if text != HOST_TEXT}
    return outcome
