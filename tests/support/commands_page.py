"""The reference of the commands as a Markdown page, made from click.

    python tests/support/commands_page.py > docs/reference/commands.md

Owns: the form of that page. Does not own: the words, which are those of --help.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import click

from fakesysfs.cli.commands import main

HEAD = """\
# Commands

These are the texts of `fakesysfs COMMAND --help`. Exit statuses: see
[Environment and exit statuses](environment.md). `-h` is the same as `--help`.
"""


def all_commands(
    group: click.Group = main, name: str = "fakesysfs"
) -> Iterator[tuple[str, click.Command]]:
    """Return every command with its full name, in the order of --help."""
    for word, command in group.commands.items():
        yield f"{name} {word}", command
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{name} {word}")


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options of a command, without --help."""
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def commands_page() -> str:
    """Return the page."""
    commands = list(all_commands())
    table = ["| command | what it does |", "|---|---|"]
    for name, command in commands:
        link = f"[{name}](#{name.replace(' ', '-')})"
        table.append(f"| {link} | {_cell((command.help or '').partition('.')[0])}. |")
    sections = (_section(name, command) for name, command in commands)
    return "\n".join([HEAD, *table, "", *sections]).rstrip("\n") + "\n"


def _section(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name) as context:
        usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{name}`", "", "```text", f"{name} {usage}".rstrip(), "```", ""]
    lines += _paragraphs(command.help or "")
    options = options_of(command)
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| {_flags(option)} | {_cell(option.help or '')} |" for option in options]
        lines.append("")
    if command.epilog:
        lines += ["Examples:", "", "```text", command.epilog.rstrip(), "```", ""]
    return "\n".join(lines)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n[ \t]*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b\n"):
            yield from ("```text", paragraph.removeprefix("\b\n"), "```", "")
        else:
            yield from (_escaped(" ".join(paragraph.split())), "")


def _flags(option: click.Option) -> str:
    words = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else f" {option.make_metavar(click.Context(main))}"
    return _cell(f"`{', '.join(words)}{value}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    # Pieces in back quotes stay; a star elsewhere would begin emphasis.
    pieces = text.split("`")
    return "`".join(p if i % 2 else p.replace("*", "\\*") for i, p in enumerate(pieces))


if __name__ == "__main__":
    sys.stdout.write(commands_page())
