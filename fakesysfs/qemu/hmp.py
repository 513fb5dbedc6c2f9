"""HMP, the QEMU monitor for people, as QEMU 7.2 speaks it about memory: a line in, text out.

Owns: the syntax of command lines, which commands there are, their help, what they print and how
errors are shown. Does not own: what the commands do and why QEMU refuses them (board.py), and where
lines come from and go to (monitor.py, and `fakesysfs monitor`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from ..errors import MonitorError
from .backends import object_help
from .board import DimmBoard
from .host_cpus import hotpluggable_cpus
from .placement import device_help
from .qemu_text import (
    PACKAGE,
    VERSION,
    JsonError,
    is_identifier,
    parse_json,
    parse_keyval,
    parse_options,
)

__all__ = ["HmpInterpreter"]

_SPACE: Final = " \t\n\v\f\r"
# in a list of types
_NAME_IN_HELP: Final = re.compile(r'^(?:  (?=\S+$)|name ")([^"\s]+)', re.MULTILINE)
_LAST_WORD: Final = re.compile(r"[^\s,=]*\Z")


class _Usage(Exception):
    """A line whose arguments cannot be read; str() is what QEMU prints before its hint where to
    find help.
    """


class _Refusal(Exception):
    """A line that was not carried out; `lines` is what QEMU prints."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines


class _HmpCommand(NamedTuple):
    """A command of HMP.

    :param name: its name, and others it goes by, with | between.
    :param usage: what help shows behind the name.
    :param about: what help says.
    :param function: carries it out, given the rest of the line; yields lines.
    """

    name: str
    usage: str
    about: str
    function: Callable[[str], Iterator[str]]

    @property
    def names(self) -> list[str]:
        return self.name.split("|")


class HmpInterpreter:
    """The monitor people speak to: a line in, text out with CR LF, as human-monitor-command returns
    it.

    :param board: the machine's DIMM slots.
    :param on_quit: called with the reason when somebody says `quit`.
    """

    def __init__(self, board: DimmBoard, on_quit: Callable[[str], object]) -> None:
        self._board = board
        self._on_quit = on_quit
        self._commands = [
            _HmpCommand(
                "device_add", "driver[,prop=value][,...]", "add device, like -device on the command line",
                self._device_add,
            ),
            _HmpCommand("device_del", "device", "remove device", self._device_del),
            _HmpCommand("help|?", "[cmd]", "show the help", self._help),
            _HmpCommand("info", "[subcommand]", "show various information about the system state", self._info),
            _HmpCommand(
                "object_add", "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object", self._object_add
            ),
            _HmpCommand("object_del", "id", "destroy QOM object", self._object_del),
            _HmpCommand("qom-get", "path property", "print QOM property", self._qom_get),
            _HmpCommand("qom-list", "path", "list QOM properties", self._qom_list),
            _HmpCommand(
                "qom-set", "[-j] path property value",
                "set QOM property.\n\t\t\t-j: the value is specified in json format.", self._qom_set,
            ),
            _HmpCommand("quit|q", "", "quit the emulator", self._quit),
        ]  # fmt: skip
        self._infos = [
            _HmpCommand(
                "hotpluggable-cpus", "", "Show information about hotpluggable CPUs", self._info_hotpluggable_cpus
            ),
            _HmpCommand("memdev", "", "show memory backends", self._info_memdev),
            _HmpCommand("memory-devices", "", "show memory devices", self._info_memory_devices),
            _HmpCommand(
                "memory_size_summary", "",
                "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.",
                self._info_memory_size_summary,
            ),
            _HmpCommand("name", "", "show the current VM name", self._info_name),
            _HmpCommand("numa", "", "show NUMA information", self._info_numa),
            _HmpCommand("status", "", "show the current VM status (running|paused)", self._info_status),
            _HmpCommand("version", "", "show the version of QEMU", self._info_version),
        ]  # fmt: skip

    def command(self, line: str) -> str:
        """What QEMU prints when given the line."""
        return self.carry_out(line)[0]

    def carry_out(self, line: str) -> tuple[str, bool]:
        """What QEMU prints when given the line, and whether it refused it, which nobody else can
        tell from the text.
        """
        lines: list[str] = []
        refused = False
        try:
            for text in self._run(line.replace("\0", "")):
                lines.append(text)
        except _Refusal as e:
            lines += e.lines
            refused = True
        return "".join(text.replace("\n", "\r\n") + "\r\n" for text in lines), refused

    def _run(self, line: str) -> Iterator[str]:
        name, rest = _command_name(line)
        if name is None:
            return
        table = self._commands
        command = _find_command(table, name)
        if command is not None and command.name == "info" and rest:
            table = self._infos
            name, rest = _command_name(rest)
            command = _find_command(table, name or "")
        consumed = line[: len(line) - len(rest)] if rest else line
        if name:
            consumed = consumed.rstrip(_SPACE)
        if command is None:
            raise _Refusal([f"unknown command: '{consumed}'"])
        try:
            yield from command.function(rest)
        except _Usage as e:
            said = [f"{command.name}: {e}"] if str(e) else []
            raise _Refusal([*said, f'Try "help {consumed}" for more information']) from None
        except MonitorError as e:
            hint = getattr(e, "hint", "")
            raise _Refusal([f"Error: {e.desc}", *([hint] if hint else [])]) from None

    # ----------------------------------------------------------------------------------- completion

    def complete(self, line: str) -> list[str]:
        """What the last word of a line that is being typed can become, with what is to be typed
        behind it.

        A word is what stands behind a blank, a comma or an equals sign. There are names of
        commands, topics, types of objects and devices, their properties, IDs and QOM paths.
        """
        match = _LAST_WORD.search(line)
        word = match[0] if match else ""
        head = line[: len(line) - len(word)]
        name, rest = _command_name(head)
        command = _find_command(self._commands, name) if name else None
        if name is None:
            candidates = [f"{name} " for command in self._commands for name in command.names]
        else:
            try:
                candidates = self._candidates(command.names[0], rest, word) if command else []
            except MonitorError:  # a type or path that is not there has nothing
                candidates = []
        return [candidate for candidate in candidates if candidate.startswith(word)]

    def _candidates(self, command: str, rest: str, word: str) -> list[str]:
        """What can stand behind `command` and `rest`."""
        if command == "device_add":
            return self._options(rest, "driver", device_help)
        if command == "object_add":
            return self._options(rest, "qom-type", object_help)
        if command.startswith("qom-"):
            return self._paths_and_properties(rest.removeprefix("-j").lstrip(), word, command)
        if command == "help" and rest.split() == ["info"]:
            return [info.name for info in self._infos]
        if rest:
            return []
        if command == "device_del":
            return [dimm.id for dimm in self._board.dimms if dimm.id]
        if command == "object_del":
            return self._free_backends()
        if command == "info":
            return [info.name for info in self._infos]
        return [name for each in self._commands for name in each.names] if command == "help" else []

    def _free_backends(self) -> list[str]:
        return [backend.id for backend in self._board.backends if backend.used is None]

    def _options(
        self, rest: str, first: str, help_of: Callable[[str | None], list[str]]
    ) -> list[str]:
        """What can follow `TYPE,key=value,key=` of object_add and device_add, as far as their own
        help tells.
        """
        *done, last = rest.split(",")
        if not rest or (last == f"{first}=" and not done):
            return [f"{name}," for name in _NAME_IN_HELP.findall("\n".join(help_of(None)))]
        described = {
            line.strip().partition("=")[0]: line
            for line in help_of(done[0].removeprefix(f"{first}="))[1:]
        }
        if last == "memdev=":
            return self._free_backends()
        if last.endswith("="):
            return ["on", "off"] if "=<bool>" in described.get(last[:-1], "") else []
        given = {option.partition("=")[0] for option in done}
        return [f"{name}=" for name in ("id", *described) if name not in given] if not last else []

    def _paths_and_properties(self, rest: str, word: str, command: str) -> list[str]:
        words = rest.split()
        if not words:
            parent = word.rpartition("/")[0]
            children = self._board.qom_list(parent or "/")
            return [
                f"{parent}/{child['name']}"
                for child in children
                if child["type"].startswith("child<")
            ]
        if command == "qom-list" or len(words) > 1:
            return []
        return [p["name"] for p in self._board.qom_list(words[0])]

    # ------------------------------------------------------------------------------------- commands

    def _object_add(self, rest: str) -> Iterator[str]:
        if not rest:
            raise _Usage("string expected")
        warnings: list[str] = []
        try:
            options, wants_help = parse_keyval(rest, "qom-type")
            qom_type = options.pop("qom-type", None)
            if wants_help:
                yield from object_help(qom_type if isinstance(qom_type, str) else None)
                return
            if qom_type is None:
                raise MonitorError("Parameter 'qom-type' is missing")
            if not isinstance(qom_type, str):
                raise MonitorError("Parameters 'qom-type.*' are unexpected")
            self._board.object_add(qom_type, options, text=True, warn=warnings.append)
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _object_del(self, rest: str) -> Iterator[str]:
        name, rest = _string(rest)
        _end_of_line(rest)
        self._board.object_del(name)
        return iter(())

    def _device_add(self, rest: str) -> Iterator[str]:
        options: dict[str, str] = {}
        if rest:
            try:
                text, rest = _string(rest)
            except _Usage:
                raise _Usage from None
            options = parse_options(text, "driver")
            if "id" in options and not is_identifier(options["id"]):
                raise _Usage
            _end_of_line(rest)
        driver = options.pop("driver", None)
        if driver in ("help", "?"):
            yield from device_help(None)
            return
        if driver is not None and ("help" in options or "?" in options):
            try:
                yield from device_help(driver)
            except MonitorError as e:
                yield e.desc
            return
        warnings: list[str] = []
        try:
            self._board.device_add(driver, options, warn=warnings.append)
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _device_del(self, rest: str) -> Iterator[str]:
        name, rest = _string(rest)
        _end_of_line(rest)
        self._board.device_del(name)
        return iter(())

    def _qom_list(self, rest: str) -> Iterator[str]:
        if not rest:
            yield "/"
            return
        path, rest = _string(rest)
        _end_of_line(rest)
        for p in self._board.qom_list(path):
            yield f"{p['name']} ({p['type']})"

    def _qom_get(self, rest: str) -> Iterator[str]:
        path, rest = _string(rest)
        name, rest = _string(rest)
        _end_of_line(rest)
        value = self._board.qom_get(path, name)
        yield "[\n]" if value == [] else json.dumps(value, indent=4)

    def _qom_set(self, rest: str) -> Iterator[str]:
        as_json = False
        if rest == "-":  # QEMU prints the NUL behind it, and so no line end
            raise _Refusal(['qom-set: unsupported option -Try "help qom-set" for more information'])
        if rest[:1] == "-":
            if rest[1] != "j":
                raise _Usage(f"unsupported option -{rest[1]}")
            as_json, rest = True, rest[2:].lstrip(_SPACE)
        path, rest = _string(rest)
        name, rest = _string(rest)
        if not rest:
            raise _Usage("string expected")
        value: Any = rest
        if as_json:
            try:
                value = parse_json(rest)
            except JsonError as e:
                raise MonitorError(str(e)) from None
        warnings: list[str] = []
        try:
            self._board.qom_set(path, name, value, text=not as_json, warn=warnings.append)
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _quit(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        self._on_quit("host-qmp-quit")
        return iter(())

    def _help(self, rest: str) -> Iterator[str]:
        try:
            words = _words(rest)
        except _Usage:  # of a string without end QEMU says nothing
            return
        if not words:
            yield from _help_lines("", self._commands)
            return
        command = _find_command(self._commands, words[0])
        if command is not None and command.name == "info":
            if len(words) == 1:
                yield from _help_lines("info ", self._infos)
                return
            command = _find_command(self._infos, words[1])
            if command is None:
                yield f"unknown command: 'info {words[1]}'"
                return
            yield from _help_lines("info ", [command])
        elif command is None:
            yield f"unknown command: '{words[0]}'"
        else:
            yield from _help_lines("", [command])

    def _info(self, rest: str) -> Iterator[str]:
        return _help_lines("info ", self._infos)

    # ----------------------------------------------------------------------------------------- info

    def _info_memory_devices(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        for device in self._board.memory_devices():
            data = device["data"]
            yield f'Memory device [{device["type"]}]: "{data.get("id", "")}"'
            if device["type"] == "virtio-mem":
                yield f"  memaddr: {data['memaddr']:#x}"
                for name in ("node", "requested-size", "size", "max-size", "block-size", "memdev"):
                    yield f"  {name}: {data[name]}"
                continue
            yield f"  addr: {data['addr']:#x}"
            yield f"  slot: {data['slot']}"
            yield f"  node: {data['node']}"
            yield f"  size: {data['size']}"
            yield f"  memdev: {data['memdev']}"
            yield f"  hotplugged: {_word(data['hotplugged'])}"
            yield f"  hotpluggable: {_word(data['hotpluggable'])}"

    def _info_memory_size_summary(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        summary = self._board.memory_size_summary()
        yield f"base memory: {summary['base-memory']}"
        yield f"plugged memory: {summary['plugged-memory']}"

    def _info_memdev(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        for memdev in self._board.memdevs():
            yield f"memory backend: {memdev['id']}"
            yield f"  size:  {memdev['size']}"
            for name in ("merge", "dump", "prealloc", "share", "reserve"):
                yield f"  {name}: {_word(memdev[name])}"
            yield f"  policy: {memdev['policy']}"
            yield f"  host nodes: {_ranges(memdev['host-nodes'])}"
        yield ""

    def _info_hotpluggable_cpus(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        cpus = hotpluggable_cpus(self._board)
        yield "Hotpluggable CPUs:"
        for cpu in cpus:
            yield f'  type: "{cpu["type"]}"'
            yield f'  vcpus_count: "{cpu["vcpus-count"]}"'
            yield f'  qom_path: "{cpu["qom-path"]}"'
            yield "  CPUInstance Properties:"
            yield from (f'    {name}: "{number}"' for name, number in cpu["props"].items())

    def _info_numa(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        nodes = self._board.numa()
        yield f"{len(nodes)} nodes"
        for node in nodes:
            yield f"node {node.id} cpus:{''.join(f' {cpu}' for cpu in node.cpus)}"
            yield f"node {node.id} size: {node.bytes >> 20} MB"
            yield f"node {node.id} plugged: {node.plugged_bytes >> 20} MB"

    def _info_name(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        return iter(())

    def _info_status(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        yield "VM status: running"

    def _info_version(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        yield ".".join(str(number) for number in VERSION) + PACKAGE


def _find_command(table: list[_HmpCommand], name: str) -> _HmpCommand | None:
    return next((command for command in table if name in command.names), None)


def _help_lines(prefix: str, commands: list[_HmpCommand]) -> Iterator[str]:
    for command in commands:
        yield f"{prefix}{command.name} {command.usage} -- {command.about}"


def _word(value: bool) -> str:
    return "true" if value else "false"


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as QEMU prints a list of them: 0-2,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(str(number) for number in part) for part in parts)


# ------------------------------------------------------------------------------------- HMP's syntax


def _command_name(line: str) -> tuple[str | None, str]:
    """The first word, which / ends too, and what follows it without spaces before; None when there
    is no word.
    """
    text = line.lstrip(_SPACE)
    if not text:
        return None, ""
    end = next((i for i, c in enumerate(text) if c in _SPACE or c == "/"), len(text))
    return text[:end], text[end:].lstrip(_SPACE)


def _string(text: str) -> tuple[str, str]:
    """A word, or a string in quotes, and what follows it.

    :raises _Usage: there is none.
    """
    text = text.lstrip(_SPACE)
    if not text:
        raise _Usage("string expected")
    if text[0] != '"':
        end = next((i for i, c in enumerate(text) if c in _SPACE), len(text))
        return text[:end], text[end:].lstrip(_SPACE)
    value, at = "", 1
    while at < len(text) and text[at] != '"':
        c = text[at]
        if c == "\\":
            at += 1
            c = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}.get(text[at : at + 1], "")
            if not c:
                raise _Usage("string expected")
        value += c
        at += 1
    if at >= len(text):
        raise _Usage("string expected")
    return value, text[at + 1 :].lstrip(_SPACE)


def _end_of_line(rest: str) -> None:
    if rest.strip(_SPACE):
        raise _Usage("extraneous characters at the end of line")


def _words(text: str) -> list[str]:
    words = []
    while text.strip(_SPACE):
        word, text = _string(text)
        words.append(word)
    return words
