"""Whether the options of `fakesysfs run` say that it is to stay in the background.

That has to be known before the options are looked at (click is not loaded until the process inside
is starting). Owns: which words are options, and which are their values. Does not own what an option
means (run_commands.py), nor what is wrong with one.
"""

from __future__ import annotations

import getopt

from ..config.machine_options import MACHINE_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Options of `run` that are not the machine's, without dashes, with "=" when a value follows.
RUN_OPTIONS = (
    "qmp=", "hmp=", "udev", "rules=", "net=", "root", "keep-uid", "bind-root=", "host-writes", "d", "detach", "v",
    "verbose", "help",
)  # fmt: skip


def option_words() -> list[str]:
    """Return every option of `run`, as RUN_OPTIONS has them."""
    machine = (flag.lstrip("-") + "=" for option in MACHINE_OPTIONS for flag in option.flags)
    return [*machine, *RUN_OPTIONS]


def is_detached(arguments: Sequence[str]) -> bool:
    """Return whether `--detach` or `-d` is among the options in front of the command.

    :param arguments: of `fakesysfs run`. When they are wrong, parse_run() will say so.
    """
    words = option_words()
    short = "".join(word.replace("=", ":") for word in words if len(word.rstrip("=")) == 1)
    try:
        found, _ = getopt.getopt(
            list(arguments), short, [word for word in words if len(word.rstrip("=")) > 1]
        )
    except getopt.GetoptError:
        return False
    return any(option in ("-d", "--detach") for option, _ in found)
