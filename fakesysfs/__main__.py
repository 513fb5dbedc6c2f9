"""The command `fakesysfs`, also as `python -m fakesysfs`.

Owns: which way an invocation goes. `run` and a plain `dmesg` must start quickly and take ways of
their own that import little, or late; everything else is that of cli/commands.py. Every FakesysfsError ends
here as one line on stderr.
"""

from __future__ import annotations

import os
import sys

from .errors import FakesysfsError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main() -> int:
    """Carry out the command line and return the exit status."""
    open_closed_streams()
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if arguments[:1] == ["run"] and "--help" not in options:
        status = reporting(lambda: run(arguments[1:]))
        os._exit(status)  # what is left to tidy up takes as long as a small command
    if arguments == ["dmesg"]:
        return reporting(dmesg)
    from .cli.commands import run_command_line

    return reporting(lambda: run_command_line(arguments))


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


def run(arguments: list[str]) -> int:
    """`fakesysfs run`: the process inside is started first, the options are looked at then."""
    from .cli.run_options import is_detached
    from .control import listen
    from .run.launch import launch, launch_detached

    def parse() -> dict[str, Any]:
        from .cli.run_commands import parse_run

        return parse_run(arguments)

    if arguments[:1] == ["--"] and len(arguments) > 1:
        # There are no options. Loading what parses them takes half as long as all the rest.
        return launch(arguments, lambda: {"command": arguments[1:]}, listen)
    if is_detached(arguments):
        options = parse()
        return launch_detached(arguments, lambda: options, listen)
    return launch(arguments, parse, listen)


def dmesg() -> int:
    """Print the kernel log of the running instance."""
    from .cli.kernel_log import log_text
    from .control import connect

    sys.stdout.write(log_text(connect().call("dmesg")))
    return 0


def reporting(command: Callable[[], int]) -> int:
    """The exit status of `command`; an error is one line on stderr."""
    try:
        status = command()
        sys.stdout.flush()
    except FakesysfsError as e:
        print(f"fakesysfs: {printable(str(e))}", file=sys.stderr)
        return e.exit_status
    except MemoryError:
        print("fakesysfs: this process has no memory left; see `ulimit -v`", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # What is still buffered has nowhere to go, and Python would say so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
