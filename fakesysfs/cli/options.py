"""What the commands have in common: options that several take, help that ends with examples, how a
mistake is told.

Owns: the options of a machine, of the monitor, and which instance is meant; the form of --help and
of an error. Does not own any command.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config.machine_options import MACHINE_OPTIONS

if TYPE_CHECKING:
    from ..control import Client

#: Context settings of every command.
FORM = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
Function = TypeVar("Function", bound=Callable[..., Any])


class Epilog(click.Command):
    """A command whose help ends with lines printed as they are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(Epilog, click.Group):
    """Keeps commands in the order they are written below, which is the order to read them in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in that order."""
        return list(self.commands)

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands that help lists under a title of their own."""
        for one in commands:
            self.add_command(one)
        self._sections = {**getattr(self, "_sections", {}), title: tuple(commands)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their titles."""
        sections = getattr(self, "_sections", {"Commands": tuple(self.commands.values())})
        limit = formatter.width - 6 - max(map(len, self.commands))
        for title, commands in sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(one.name or "", one.get_short_help_str(limit)) for one in commands]
                )


def command(
    name: str | None = None, **attributes: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, as click.command()."""
    made: Callable[[Callable[..., Any]], click.Command] = click.command(name, **attributes)
    return made


class Duration(click.ParamType[float]):
    """A time like 30s, 1500ms or 5m; a number alone is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)", str(value), re.ASCII)
        if match is None or not (seconds := float(match[1]) * units[match[2]]):
            self.fail(f"'{value}' is no time; write one like 30s or 5m", param, ctx)
        return seconds


def examples(text: str) -> dict[str, Any]:
    """Keyword arguments of a command with these examples, one a line."""
    return {"cls": Epilog, "epilog": text, "context_settings": FORM}


def machine_options(function: Function) -> Function:
    """Add the options that describe a machine; each arrives under its own name."""
    for option in reversed(MACHINE_OPTIONS):
        function = click.option(
            *option.flags,
            option.name,
            metavar=option.metavar,
            help=option.help,
            multiple=option.repeats,
            type=int if option.number else None,
        )(function)
    return function


instance_option = click.option(
    "--instance",
    metavar="DIR|SOCKET|NAME",
    help="Choose a running instance by its name, number, directory, or QMP or HMP socket.",
)


def monitor_options(function: Function) -> Function:
    """Add the options that say where the QEMU monitor can be spoken to."""
    for option in reversed((
        click.option("--qmp", type=click.Path(), metavar="SOCKET", help="Serve QMP, the QEMU monitor for programs, at this Unix socket."),
        click.option("--hmp", type=click.Path(), metavar="SOCKET", help="Serve HMP, the QEMU monitor for people, at this Unix socket; one client at a time."),
    )):  # fmt: skip
        function = option(function)
    return function


verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print notes on what this host cannot do."
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    import json

    click.echo(json.dumps(value))


def client_of(instance: str | None) -> Client:
    """Return a connection to the instance that is meant.

    :raises InstanceError: none, several, or no answer.
    """
    from ..control import connect

    return connect(instance)


# What pictures are drawn with, where standard output knows ASCII only.
_IN_ASCII = dict(zip("▁▂▃▄▅▆▇█·", ".:-=+*%#_", strict=True))


def _drawn_in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c, "?") for c in text), error.end


def print_wide(what: Any) -> None:
    """Print something of rich; where it is no terminal, nothing is cut."""
    from rich.console import Console

    if getattr(sys.stdout, "errors", "") == "backslashreplace":
        codecs.register_error("fakesysfs.drawn", _drawn_in_ascii)
        sys.stdout.reconfigure(errors="fakesysfs.drawn")  # type: ignore[union-attr]
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    # Not a terminal: nobody knows how wide it is, and nothing is to be cut.
    if not sys.stdout.isatty():
        console.width = 200
    console.print(what)


def complain(e: click.ClickException) -> int:
    """Say in one line what is wrong with the command line."""
    context = getattr(e, "ctx", None)
    where = context.command_path if context is not None else "fakesysfs"
    with suppress(OSError):  # standard error is full
        click.echo(f"fakesysfs: {e.format_message().rstrip('.')}; see `{where} --help`", err=True)
    return e.exit_code
