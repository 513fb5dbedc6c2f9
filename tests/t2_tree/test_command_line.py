"""The command line before anything runs: the lists of options agree, and what is in front of the
command is told from the command.
"""

from __future__ import annotations

import inspect

import pytest

from fakesysfs import MachineConfig
from fakesysfs.cli.run_commands import parse_run, run
from fakesysfs.cli.run_options import early_options, option_words
from fakesysfs.config.machine_options import MACHINE_OPTIONS, given_options


def test_options_of_run_are_those_that_click_knows() -> None:
    known = {
        flag.lstrip("-") + ("" if getattr(parameter, "is_flag", False) else "=")
        for parameter in run.params
        for flag in [*parameter.opts, *parameter.secondary_opts]
        if flag.startswith("-")
    }
    assert set(option_words()) == known | {"h", "help"}


def test_options_of_a_machine_are_arguments_of_the_api() -> None:
    arguments = inspect.signature(MachineConfig.from_options).parameters
    assert {option.name for option in MACHINE_OPTIONS} == set(arguments)


def test_given_options_are_those_of_a_machine_with_a_value() -> None:
    options = {"memory": "1G", "kernel": None, "nodes": (), "faults": ["hide x"], "qmp": "/tmp/q"}
    assert given_options(options) == {"memory": "1G", "faults": ["hide x"]}


@pytest.mark.parametrize(
    ("words", "detached"),
    [
        ("-d", True),
        ("--detach -- sleep 1", True),
        ("-vd sleep 1", True),
        ("-dv sleep 1", True),
        ("-m 2G -d -- sleep 1", True),
        ("--memory=2G --detach sleep 1", True),
        ("-m d -- sleep 1", False),
        ("-md sleep 1", False),
        ("--machine d -v sleep 1", False),
        ("--append -d sleep 1", False),
        ("sleep -d", False),
        ("--distance 0,1,21 -- cmd --detach", False),
        ("--udev -- cmd -d", False),
    ],
)
def test_detach_is_found_among_options_only(words: str, detached: bool) -> None:
    arguments = words.split()
    assert ("detach" in early_options(arguments)) is detached
    assert parse_run(arguments)["detach"] is detached


def test_name_and_help_are_found_among_options_only() -> None:
    assert early_options(["--name", "x", "-d", "--", "sleep", "-h"]) == {"name": "x", "detach": ""}
    assert early_options(["--name=x", "cmd", "--name", "y"]) == {"name": "x"}
    assert early_options(["-vh"]) == {"help": ""}
    assert early_options(["--machine", "-h", "--", "cmd"]) == {}
    assert early_options(["--nosuch", "-d"]) == {}
