"""A systemd-udevd for one `fakesysfs run`: the distribution's own daemon, with rules that the
caller chose.

Owns: which rules it is to know, which directories are made private for it, its start, and the wait
until it answers. Nothing ends it: it is killed with the other processes of the namespace. Does not
own the namespaces (launch.py), nor the uevents it receives (uevents.py).

/run/udev and /etc/udev are the run's own. The former is empty, so that no device of the host is
known; the latter is a copy, so that a command inside can write rules there and `udevadm control
--reload`. Other directories with rules are covered, unless the host's rules are asked for.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..config.guarded_file import read_guarded
from ..errors import ConfigError, EnvironmentProblem
from .covered_paths import make_appear
from .system_calls import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAEMON = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")
STATE, CONFIGURATION = "/run/udev", "/etc/udev"
RULES = f"{CONFIGURATION}/rules.d"
MORE_RULES = ("/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
HOST = "host"  # --rules=host
TOOLS = "/usr/bin:/bin:/usr/sbin:/sbin"
RULES_LIMIT = 16 << 20  # bytes of a file: all rules of a distribution are less than one of them
SECONDS = 10.0  # in which it must answer


class Rules:
    """What a udevd is to know, read before the caller's directories are covered by anything.

    :param places: files, directories whose *.rules are meant, or the word "host".
    :raises ConfigError: what is named is not there, or is no rules file.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._of_host = HOST in places
        # by the name of the file: the last of a name counts, as for udev
        self._texts: dict[str, bytes] = {}
        if self._of_host and len(places) > 1:
            raise ConfigError(
                "--rules=host takes the host's rules and no others; leave the other --rules out"
            )
        for place in () if self._of_host else places:
            names = (
                sorted(n for n in os.listdir(place) if n.endswith(".rules"))
                if os.path.isdir(place)
                else None
            )
            paths = [os.path.join(place, name) for name in names] if names is not None else [place]
            if not paths or not all(path.endswith(".rules") for path in paths):
                raise ConfigError(
                    f"--rules {place}: udev reads files whose name ends in .rules; there is none"
                )
            for path in paths:
                try:
                    text = read_guarded(path, RULES_LIMIT, "rules file")
                    self._texts[os.path.basename(path)] = text
                except OSError as e:
                    raise ConfigError(f"--rules {path}: {e.strerror}") from None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start a systemd-udevd that knows these rules, in the namespaces of this process; wait
        until it answers.

        :raises EnvironmentProblem: there is none, or it does not start.
        :raises ConfigError: a rules file that udev does not understand.
        """
        daemon = next((path for path in DAEMON if os.access(path, os.X_OK)), None)
        udevadm = shutil.which("udevadm", path=f"{environment.get('PATH', '')}:{TOOLS}")
        if daemon is None or udevadm is None:
            raise EnvironmentProblem("there is no systemd-udevd here", "install the package udev")
        try:
            self._set_up()
            if self._texts:
                _check(udevadm, environment)
            os.posix_spawn(daemon, [daemon], environment, **_quietly())
        except OSError as e:
            raise EnvironmentProblem(f"systemd-udevd cannot be started: {e.strerror}") from None
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            ping = os.posix_spawn(
                udevadm, ["udevadm", "control", "--ping", "--timeout=1"], environment, **_quietly()
            )
            if os.waitstatus_to_exitcode(os.waitpid(ping, 0)[1]) == 0:
                return
            time.sleep(0.01)
        raise EnvironmentProblem("systemd-udevd does not answer", "`fakesysfs run` without --udev")

    def _set_up(self) -> None:
        """Make the directories private, and put the rules there."""
        _cover(STATE)
        _cover(CONFIGURATION, keep=True)
        if self._of_host:
            return
        shutil.rmtree(RULES, ignore_errors=True)
        os.mkdir(RULES)
        # /lib may be /usr/lib
        for directory in {os.path.realpath(directory) for directory in MORE_RULES}:
            if os.path.isdir(directory):
                _cover(directory)
        for name, text in self._texts.items():
            with open(f"{RULES}/{name}", "wb") as file:
                file.write(text)


def _cover(directory: str, *, keep: bool = False) -> None:
    """Cover a directory by one that is seen here only, and can be written to.

    :param keep: copy what is in it. Else it is empty.
    """
    if not os.path.isdir(directory):
        make_appear(directory, read_only=False)
    hidden = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    mount("fakesysfs", directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    if keep:
        with suppress(shutil.Error):  # an ordinary user cannot read all of it
            shutil.copytree(f"/proc/self/fd/{hidden}", directory, symlinks=True, dirs_exist_ok=True)
    os.close(hidden)


def _quietly() -> dict[str, Any]:
    """How to spawn a process with default signals that reads and says nothing."""
    import signal

    actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    return {
        "setsigmask": [],
        "setsigdef": {signal.SIGPIPE, signal.SIGXFSZ},
        "file_actions": actions,
    }


def _check(udevadm: str, environment: Mapping[str, str]) -> None:
    """Let udev read its rules once and say what it does not understand; the daemon would tell
    nobody.
    """
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, fd) for fd in (1, 2)]
    words = ["udevadm", "test", "--action=change", "/sys/bus/memory"]
    child = os.posix_spawn(udevadm, words, environment, setsigmask=[], file_actions=actions)
    os.close(writing)
    with open(reading, errors="replace") as output:
        said = output.read()
    os.waitpid(child, 0)
    for line in said.splitlines():
        place, _, complaint = line.partition(" ")
        if place.startswith(RULES) and place.rpartition(":")[2].isdigit():
            name, _, number = place.removeprefix(f"{RULES}/").rpartition(":")
            raise ConfigError(
                f"udev rules {name}, line {number}: {complaint.removesuffix(', ignoring.')}"
            )
