"""What can go wrong for a user of fakesysfs, as a tree of exceptions.

    FakesysfsError                 a mistake of the user or a limit of the host; str() is one line to print
     |- ConfigError                a machine option, machine file or preset that cannot be
     |- EnvironmentProblem         this host cannot do it: no /dev/fuse, no libfuse, no namespaces
     |- CannotStart                a command that is not there or not executable
     |- InstanceError              no running instance, several of them, or one that does not answer
     `- MonitorError               a command of the QEMU monitor that QEMU would refuse

What the simulated kernel refuses is not here: that is `OSError` with the errno Linux gives and a
reason. This file owns the names, the fields, and how text that somebody else wrote becomes one line
that can be shown; no policy and no printing.
"""

from __future__ import annotations

import errno
import re


def printable(text: str) -> str:
    """Return `text` as one line that does nothing to a terminal: what is not printable is escaped
    as in Python.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class FakesysfsError(Exception):
    """A mistake of the user or a limit of the host. `str()` says in one line what, where, and what
    to do.
    """

    exit_status = 1


class ConfigError(FakesysfsError):
    """A machine that cannot be built from what was asked for.

    :param message: may quote whatever somebody wrote; `str()` is one line nevertheless, and of a
        length one can read.
    """

    exit_status = 2

    def __init__(self, message: str) -> None:
        text = "".join(c if c.isprintable() else "?" for c in message)
        text = re.sub(r"\S{400,}", lambda word: f"{word[0][:60]}...{word[0][-20:]}", text)
        super().__init__(text if len(text) <= 1500 else f"{text[:1000]} ... {text[-300:]}")


class EnvironmentProblem(FakesysfsError):
    """Something this host lacks or forbids.

    :param message: what does not work.
    :param hint: what to do about it; part of `str()`.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


class CannotStart(FakesysfsError):
    """A command that cannot be started.

    :param exit_status: what a shell would exit with: 126 or 127.
    """

    def __init__(self, command: str, reason: str, exit_status: int) -> None:
        super().__init__(f"{command}: {reason}")
        self.exit_status = exit_status


class InstanceError(FakesysfsError):
    """The running instance a command should speak to was not found or does not answer."""


class MonitorError(FakesysfsError):
    """An error of the QEMU monitor.

    :param desc: QEMU's own words.
    :param klass: QEMU's error class: `GenericError`, `DeviceNotFound`, `CommandNotFound`, ...
    """

    def __init__(self, desc: str, klass: str = "GenericError") -> None:
        super().__init__(desc)
        self.desc = desc
        self.klass = klass


def as_problem(error: Exception) -> FakesysfsError | None:
    """Return what the system refused to this process, as a line for the user.

    :param error: an OSError, MemoryError, or Python's way to say that there is no new thread.
    :returns: None for an exception that is a mistake of the program.
    """
    if isinstance(error, FakesysfsError):
        return error
    if isinstance(error, MemoryError):
        return EnvironmentProblem("this process has no memory left", "see `ulimit -v`")
    if isinstance(error, RuntimeError) and "new thread" in str(error):
        return EnvironmentProblem(
            "no more threads can be started", "see `ulimit -u` and `ulimit -v`"
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return EnvironmentProblem("no more files can be opened", "see `ulimit -n`")
    if error.errno == errno.EAGAIN:  # of fork(2); nothing that is read here is non-blocking
        return EnvironmentProblem("no more processes can be started", "see `ulimit -u`")
    where = f"{error.filename}: " if error.filename else ""
    return FakesysfsError(f"{where}{error.strerror or error}")
