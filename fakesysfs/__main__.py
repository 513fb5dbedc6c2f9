"""The command `fakesysfs`, also as `python -m fakesysfs`.

Owns: which way an invocation goes. `run` and a plain `dmesg` must start quickly and take ways of
their own that import little, or late; everything else is that of cli/commands.py. Does not own how
an error is told (cli/reporting.py).
"""

from __future__ import annotations

import os
import sys

from .cli.reporting import complain, reporting
from .errors import EnvironmentProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

FILES_LEAST = 20  # open files, in each process
MEMORY_LEAST = 160 << 20  # bytes of address space, most of them stacks of threads


def main() -> int:
    """Carry out the command line and return the exit status."""
    try:
        check_limits(sys.argv[1:2])
    except EnvironmentProblem as e:
        return complain(e)
    open_closed_streams()
    # What a terminal or file cannot show is escaped, and is no reason to fail.
    if getattr(sys.stdout, "errors", "") == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        from .cli.run_options import early_options

        early = early_options(arguments[1:])
        if "help" not in early:
            status = reporting(lambda: run(arguments[1:], early))
            os._exit(status)  # what is left to tidy up takes as long as a small command
    if arguments == ["dmesg"]:
        return reporting(dmesg)
    from .cli.commands import run_command_line

    return reporting(lambda: run_command_line(arguments))


def check_limits(command: list[str]) -> None:
    """See that this process may have the files and the memory that it needs.

    :param command: the first argument, if there is one.
    :raises EnvironmentProblem: it may not.
    """
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < FILES_LEAST:
        raise EnvironmentProblem(
            f"a process may have {files} open files here, and {FILES_LEAST} are needed",
            f"ulimit -n {FILES_LEAST}",
        )
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if command[:1] in (["run"], ["mount"], ["demo"]) and 0 <= memory < MEMORY_LEAST:
        raise EnvironmentProblem(
            f"a process may have {memory >> 20} MiB of address space here, and"
            f" {MEMORY_LEAST >> 20} MiB are needed",
            f"ulimit -v {MEMORY_LEAST >> 10}",
        )


def open_closed_streams() -> None:
    """See that no standard stream is closed: something else would take its number."""
    try:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(fd)
    except FileNotFoundError:
        return  # a /dev without null: the commands say what else is missing there
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # For good
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def run(arguments: list[str], early: dict[str, str]) -> int:
    """`fakesysfs run`: the process inside is started first, the options are looked at then."""
    from .control import listen, listen_named
    from .run.launch import launch, launch_detached

    def parse() -> dict[str, Any]:
        from .cli.run_commands import parse_run

        return parse_run(arguments)

    def named(_: int, uid: int) -> tuple[socket.socket, str]:
        return listen_named(early["name"], uid)

    listening = named if "name" in early else listen
    if arguments[:1] == ["--"] and len(arguments) > 1:
        # There are no options. Loading what parses them takes half as long as all the rest.
        return launch(arguments, lambda: {"command": arguments[1:]}, listening)
    if "detach" in early:
        options = parse()
        return launch_detached(arguments, lambda: options, listening)
    return launch(arguments, parse, listening)


def dmesg() -> int:
    """Print the kernel log of the running instance."""
    from .cli.kernel_log import log_text
    from .control import connect

    sys.stdout.write(log_text(connect().call("dmesg")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
