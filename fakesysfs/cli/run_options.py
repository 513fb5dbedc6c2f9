"""The options of `fakesysfs run` that have to be known before the others are looked at.

click is not loaded until the process inside is starting. Owns: which words are options, and which
are their values. Does not own what an option
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
    "qmp=", "hmp=", "udev", "rules=", "net=", "root", "keep-uid", "bind-root=", "host-writes", "d", "detach", "name=",
    "timeout=", "v", "verbose", "h", "help",
)  # fmt: skip


def option_words() -> list[str]:
    """Return every option of `run`, as RUN_OPTIONS has them."""
    machine = (flag.lstrip("-") + "=" for option in MACHINE_OPTIONS for flag in option.flags)
    return [*machine, *RUN_OPTIONS]


def early_options(arguments: Sequence[str]) -> dict[str, str]:
    """Return what is said in front of the command of "detach", "help" and "name": the options that
    are there, by their long names, and their values.

    :param arguments: of `fakesysfs run`. When they are wrong, parse_run() will say so.
    """
    words = option_words()
    short = "".join(word.replace("=", ":") for word in words if len(word.rstrip("=")) == 1)
    long = [word for word in words if len(word.rstrip("=")) > 1]
    try:
        found, _ = getopt.getopt(list(arguments), short, long)
    except getopt.GetoptError:
        return {}
    whole = {"-d": "detach", "-h": "help"}
    given = {whole.get(option, option.lstrip("-")): value for option, value in found}
    return {name: given[name] for name in ("detach", "help", "name") if name in given}
