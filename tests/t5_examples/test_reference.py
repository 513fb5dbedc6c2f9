"""The reference in docs/reference/ names everything that there is: commands, options, configuration
names, events, fault words, keys of machine files, monitor commands, and the Python API.

What there is comes from the program itself, never from a list here. A planted option, and a planted
name of each other kind, show that a missing one would be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, get_type_hints

import click
import pytest
from support.commands_page import all_commands, options_of

import fakesysfs
from fakesysfs import errors, machine
from fakesysfs.binding import _engine
from fakesysfs.cli import commands
from fakesysfs.config import (
    block_list,
    fault_rules,
    kernel_config,
    memory_and_nodes,
    option_sources,
    workload,
)
from fakesysfs.config.fault_rules import parse_fault_rule
from fakesysfs.config.profiles import list_arches
from fakesysfs.events import Cause, Event
from fakesysfs.instance_requests import event_as_json
from fakesysfs.qemu import qmp_schema

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def words(text: str) -> set[str]:
    """What a page has in back quotes, taken apart into words."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return {
        word
        for code in re.findall(r"`([^`\n]+)`", outside)
        for word in [code, *re.split(r"[^A-Za-z0-9_.-]+", code), *re.split(r"[^A-Za-z0-9_]+", code)]
    }


def undocumented(names: Iterable[str], text: str) -> list[str]:
    """Return the names that a page does not have in back quotes."""
    return sorted(set(names) - words(text))


def sections(text: str) -> Mapping[str, str]:
    """Return the sections of the page of commands by the command's name."""
    parts = re.split(r"^## `(.+)`$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def undocumented_options(group: click.Group, text: str) -> list[str]:
    """Return what the page of commands lacks: commands, and options in the section of theirs."""
    found = sections(text)
    missing = []
    for name, command in all_commands(group):
        if name not in found:
            missing.append(name)
            continue
        names = [
            n for option in options_of(command) for n in [*option.opts, *option.secondary_opts]
        ]
        missing += [f"{name} {option}" for option in undocumented(names, found[name])]
    return missing


# ------------------------------------------------------------------------------------- commands


def test_every_command_and_option_is_in_the_reference() -> None:
    """After a change of --help: python tests/support/commands_page.py > docs/reference/commands.md"""
    assert undocumented_options(commands.main, page("commands")) == []


def test_the_reference_names_no_command_or_option_that_is_gone() -> None:
    there = dict(all_commands(commands.main))
    for name, text in sections(page("commands")).items():
        names = {n for o in options_of(there[name]) for n in [*o.opts, *o.secondary_opts]}
        listed = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
        shown = {word for row in listed for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}
        assert shown <= names, f"{name}: {sorted(shown - names)}"


def test_a_planted_option_is_found() -> None:
    group = click.Group("fakesysfs", commands=dict(commands.main.commands))

    @group.command("ls")
    @click.option("--planted")
    def planted_ls() -> None: ...

    @group.command("planted")
    def planted() -> None: ...

    found = undocumented_options(group, page("commands"))
    assert {"fakesysfs ls --planted", "fakesysfs planted"} <= set(found)


# ------------------------------------------------------------------- names of every other kind


class Names(NamedTuple):
    """What a page has to name."""

    page: str
    names: Iterable[str]


def fault_words() -> set[str]:
    """The words of fault rules, as the reader of rules has them."""
    effects = {word for some in fault_rules._EFFECTS.values() for word in some}
    return {*fault_rules._OPS, *fault_rules._ACTIONS, *effects, "delay", "hang", "always"}


def event_kinds() -> set[str]:
    """The kinds of events, from the table in C that gives them their names."""
    source = (ROOT / "fakesysfs/binding/record_methods.c").read_text()
    return set(re.findall(r'\[EVENT_\w+\] = "([a-z-]+)"', source))


def event_fields() -> set[str]:
    event = Event(1, 2, "store", "/p", "d", 0, (), ("", 0), Cause("what", 1, "sh"))
    shown = event_as_json(event)
    return {*Event._fields, *shown, *shown["cause"]}


def dimm_keys() -> list[str]:
    """The keys of a DIMM, as the message about a wrong one lists them."""
    options = option_sources.OptionSources(None, {"dimms": [{"qqqq": 1}]})
    nodes = (memory_and_nodes.Node(0, 1 << 30, (0,)),)
    with pytest.raises(errors.ConfigError, match="known: ") as wrong:
        memory_and_nodes.parse_dimms(options, memory_and_nodes.MemorySize(1, 1, 2), nodes)
    return str(wrong.value).partition("known: ")[2].split(", ")


def public(thing: type | object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def hmp_names() -> set[str]:
    with fakesysfs.Machine(fakesysfs.MachineConfig.from_options()) as one:
        hmp = one.monitor.hmp
        both = [*hmp._commands, *hmp._infos]
    return {name for command in both for name in command.name.split("|")}


def qmp_entities() -> set[str]:
    return set(qmp_schema._ENTITIES)


def error_names() -> set[str]:
    return {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FakesysfsError)
    }


KINDS = {
    "machine file keys": lambda: Names("machine-file", option_sources._FILE_KEYS),
    "keys of dimms": lambda: Names("machine-file", dimm_keys()),
    "keys of block": lambda: Names("machine-file", block_list._RUN_KEYS),
    "architectures": lambda: Names("machine-file", list_arches()),
    "workload kinds": lambda: Names("workload-file", [*workload.WORKLOAD_KINDS, "aged", "swap"]),
    "config names": lambda: Names("config-names", kernel_config.CONFIG_DEFAULTS),
    "config names of the engine": lambda: Names("config-names", _engine.configs()),
    "fault words": lambda: Names("fault-rules", fault_words()),
    "event kinds": lambda: Names("events", event_kinds()),
    "event fields": lambda: Names("events", event_fields()),
    "HMP": lambda: Names("monitor", hmp_names()),
    "QMP": lambda: Names("monitor", qmp_entities()),
    "package": lambda: Names("python-api", fakesysfs.__all__),
    "Machine": lambda: Names("python-api", public(fakesysfs.Machine)),
    "MachineConfig": lambda: Names("python-api", public(fakesysfs.MachineConfig)),
    "MachineConfig fields": lambda: Names(
        "python-api", [field.name for field in fields(fakesysfs.MachineConfig)]
    ),
    "options": lambda: Names(
        "python-api", set(get_type_hints(fakesysfs.MachineConfig.from_options)) - {"return"}
    ),
    "Block": lambda: Names("python-api", machine.Block._fields),
    "FaultRule": lambda: Names("python-api", machine.FaultRule._fields),
    "PageInfo": lambda: Names("python-api", get_type_hints(machine.PageInfo)),
    "errors": lambda: Names("python-api", error_names()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_is_in_the_reference(kind: str) -> None:
    wanted = KINDS[kind]()
    assert len(list(wanted.names)) > 1
    assert undocumented(wanted.names, page(wanted.page)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_name_is_found(kind: str) -> None:
    wanted = KINDS[kind]()
    text = page(wanted.page)
    missing = undocumented(wanted.names, text)
    assert undocumented([*wanted.names, "planted"], text) == sorted([*missing, "planted"])


def test_a_name_in_plain_text_is_no_documentation() -> None:
    assert undocumented(
        ["seed", "swap"], "The seed is a number.\n```text\nseed\n```\n`swap=1`"
    ) == ["seed"]


# ------------------------------------------------------------------------------- what it says


def test_defaults_of_the_configuration_are_the_real_ones() -> None:
    text = page("config-names")
    shown = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| `?([a-z0-9]+)`? \|", text, re.MULTILINE))
    spoken = {"never": "0", "y": "1", "n": "0"}
    for name, default in kernel_config.CONFIG_DEFAULTS.items():
        assert spoken.get(shown[name], shown[name]) == str(default), name


def test_variables_of_the_environment_are_in_the_reference() -> None:
    read = set()
    for source in ROOT.glob("fakesysfs/**/*.py"):
        read |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source.read_text()))
        read |= set(re.findall(r'"([A-Z_]+)" (?:not )?in os\.environ', source.read_text()))
    assert {"FAKESYSFS_NATIVE", "NO_COLOR"} <= read
    assert undocumented([*read, "FAKESYSFS"], page("environment")) == []


def test_a_word_of_the_page_is_a_word_of_fault_rules() -> None:
    for word in ("open", "read", "write"):
        assert parse_fault_rule(f"{word} memory1/state hang").hang
    for word in fault_rules._EFFECTS["unplug"]:
        rule = f"unplug d0 {word}{' 2s' if word == 'delay' else ''}"
        assert parse_fault_rule(rule).effect == word


# ------------------------------------------------------------------------------- architecture


def gone(text: str) -> list[str]:
    """Return the files and functions that a page names and that are not there."""
    hops = re.findall(r"^(fakesysfs/\S+): (\w+)", text, re.MULTILINE)
    assert hops
    missing = []
    for file, function in hops:
        path = ROOT / file
        if not path.is_file() or not re.search(rf"\b{function}\(", path.read_text()):
            missing.append(f"{file}: {function}")
    for file in re.findall(r"`((?:fakesysfs|tests|config)/[\w./*]+)`", text):
        base = ROOT / "fakesysfs" if file.startswith("config/") else ROOT
        if not list(base.glob(file)):
            missing.append(file)
    return missing


def test_files_and_functions_of_the_architecture_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    assert gone(text) == []
    planted = text + "\nfakesysfs/machine.py: no_such\nsee `fakesysfs/gone.py`\n"
    assert gone(planted) == ["fakesysfs/machine.py: no_such", "fakesysfs/gone.py"]


def test_every_room_has_a_paragraph() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for room in ROOT.glob("fakesysfs/*/__init__.py"):
        assert f"**`{room.parent.name}/`**" in text, room.parent.name
    for room in ROOT.glob("fakesysfs/engine/*/"):
        assert f"**`engine/{room.name}/`**" in text, room.name
