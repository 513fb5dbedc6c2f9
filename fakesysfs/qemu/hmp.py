"""HMP, the QEMU monitor for people, as QEMU 7.2 speaks it about memory: a line in, text out.

Owns: which commands there are, what they print and how errors are shown. Text becomes typed values
here. Does not own: the syntax of lines (hmp_syntax.py), `info` (hmp_info.py), completion
(hmp_completion.py), what the commands do and why QEMU refuses them (board.py), and where lines come
from and go to (monitor.py, and `fakesysfs monitor`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import MonitorError
from .backends import read_backend_options
from .board import Board
from .hmp_completion import HmpCompletion
from .hmp_info import HmpInfo
from .hmp_syntax import (
    SPACE,
    HmpCommand,
    RefusedLineError,
    UsageError,
    command_name,
    end_of_line,
    find_command,
    help_lines,
    split_words,
    take_word,
)
from .option_help import object_help
from .property_values import JsonReader, OptionReader, WordReader
from .qemu_json import JsonError, parse_json
from .qemu_text import is_identifier, parse_keyval, parse_options

__all__ = ["HmpInterpreter"]


class HmpInterpreter:
    """The monitor people speak to: a line in, text out with CR LF, as human-monitor-command returns
    it.

    :param board: the machine's hardware.
    :param on_quit: called with the reason when somebody says `quit`.
    :ivar complete: returns what the last word of a line can become: see HmpCompletion.complete().
    """

    def __init__(self, board: Board, on_quit: Callable[[str], object]) -> None:
        self._board = board
        self._on_quit = on_quit
        self._commands = [
            HmpCommand("cont|c", "", "resume emulation", self._plain(board.run_state.go_on)),
            HmpCommand(
                "device_add", "driver[,prop=value][,...]", "add device, like -device on the command line",
                self._device_add,
            ),
            HmpCommand("device_del", "device", "remove device", self._device_del),
            HmpCommand("help|?", "[cmd]", "show the help", self._help),
            HmpCommand("info", "[subcommand]", "show various information about the system state", self._info),
            HmpCommand(
                "object_add", "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object", self._object_add
            ),
            HmpCommand("object_del", "id", "destroy QOM object", self._object_del),
            HmpCommand("qom-get", "path property", "print QOM property", self._qom_get),
            HmpCommand("qom-list", "path", "list QOM properties", self._qom_list),
            HmpCommand(
                "qom-set", "[-j] path property value",
                "set QOM property.\n\t\t\t-j: the value is specified in json format.", self._qom_set,
            ),
            HmpCommand("quit|q", "", "quit the emulator", self._quit),
            HmpCommand("stop|s", "", "stop emulation", self._plain(board.run_state.stop)),
            HmpCommand(
                "system_powerdown", "", "send system power down event", self._plain(board.run_state.power_button)
            ),
            HmpCommand("system_reset", "", "reset the system", self._plain(board.reset)),
            HmpCommand("system_wakeup", "", "wakeup guest from suspend", self._plain(board.run_state.wake_up)),
        ]  # fmt: skip
        self._infos = HmpInfo(board).commands
        self.complete = HmpCompletion(board, self._commands, self._infos).complete

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
        except RefusedLineError as e:
            lines += e.lines
            refused = True
        return "".join(text.replace("\n", "\r\n") + "\r\n" for text in lines), refused

    def _run(self, line: str) -> Iterator[str]:
        name, rest = command_name(line)
        if name is None:
            return
        table = self._commands
        command = find_command(table, name)
        if command is not None and command.name == "info" and rest:
            table = self._infos
            name, rest = command_name(rest)
            command = find_command(table, name or "")
        consumed = line[: len(line) - len(rest)] if rest else line
        if name:
            consumed = consumed.rstrip(SPACE)
        if command is None:
            raise RefusedLineError([f"unknown command: '{consumed}'"])
        try:
            yield from command.function(rest)
        except UsageError as e:
            said = [f"{command.name}: {e}"] if str(e) else []
            raise RefusedLineError([*said, f'Try "help {consumed}" for more information']) from None
        except MonitorError as e:
            hint = getattr(e, "hint", "")
            raise RefusedLineError([f"Error: {e.desc}", *([hint] if hint else [])]) from None

    # ------------------------------------------------------------------------------------- commands

    def _object_add(self, rest: str) -> Iterator[str]:
        if not rest:
            raise UsageError("string expected")
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
            wanted = read_backend_options(qom_type, options, OptionReader(warnings.append))
            self._board.add_backend(wanted, warnings.append)
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _object_del(self, rest: str) -> Iterator[str]:
        name, rest = take_word(rest)
        end_of_line(rest)
        self._board.object_del(name)
        return iter(())

    def _device_add(self, rest: str) -> Iterator[str]:
        options: dict[str, str] = {}
        if rest:
            try:
                text, rest = take_word(rest)
            except UsageError:
                raise UsageError from None
            options = parse_options(text, "driver")
            if "id" in options and not is_identifier(options["id"]):
                raise UsageError
            end_of_line(rest)
        driver = options.pop("driver", None)
        if driver in ("help", "?"):
            yield from self._board.device_help(None)
            return
        if driver is not None and ("help" in options or "?" in options):
            try:
                yield from self._board.device_help(driver)
            except MonitorError as e:
                yield e.desc
            return
        warnings: list[str] = []
        try:
            self._board.device_add(driver, options, warn=warnings.append)
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _device_del(self, rest: str) -> Iterator[str]:
        name, rest = take_word(rest)
        end_of_line(rest)
        self._board.device_del(name)
        return iter(())

    def _qom_list(self, rest: str) -> Iterator[str]:
        if not rest:
            yield "/"
            return
        path, rest = take_word(rest)
        end_of_line(rest)
        for p in self._board.qom_list(path):
            yield f"{p['name']} ({p['type']})"

    def _qom_get(self, rest: str) -> Iterator[str]:
        path, rest = take_word(rest)
        name, rest = take_word(rest)
        end_of_line(rest)
        value = self._board.qom_get(path, name)
        yield "[\n]" if value == [] else json.dumps(value, indent=4)

    def _qom_set(self, rest: str) -> Iterator[str]:
        as_json = False
        if rest == "-":  # QEMU prints the NUL behind it, and so no line end
            raise RefusedLineError(
                ['qom-set: unsupported option -Try "help qom-set" for more information']
            )
        if rest[:1] == "-":
            if rest[1] != "j":
                raise UsageError(f"unsupported option -{rest[1]}")
            as_json, rest = True, rest[2:].lstrip(SPACE)
        path, rest = take_word(rest)
        name, rest = take_word(rest)
        if not rest:
            raise UsageError("string expected")
        warnings: list[str] = []
        try:
            value: Any = parse_json(rest) if as_json else rest
            reader = JsonReader() if as_json else WordReader(warnings.append)
            kind = self._board.qom_type_to_set(path, name)
            self._board.qom_set(path, name, reader.read(kind, name, value))
        except JsonError as e:
            raise MonitorError(str(e)) from None
        finally:
            yield from (f"warning: {warning}" for warning in warnings)

    def _plain(self, action: Callable[[], None]) -> Callable[[str], Iterator[str]]:
        """Return the function of a command without arguments, which prints nothing."""

        def carry_out(rest: str) -> Iterator[str]:
            end_of_line(rest)
            action()
            return iter(())

        return carry_out

    def _quit(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        self._on_quit("host-qmp-quit")
        return iter(())

    def _help(self, rest: str) -> Iterator[str]:
        try:
            words = split_words(rest)
        except UsageError:  # of a string without end QEMU says nothing
            return
        if not words:
            yield from help_lines("", self._commands)
            return
        command = find_command(self._commands, words[0])
        if command is not None and command.name == "info":
            if len(words) == 1:
                yield from help_lines("info ", self._infos)
                return
            command = find_command(self._infos, words[1])
            if command is None:
                yield f"unknown command: 'info {words[1]}'"
                return
            yield from help_lines("info ", [command])
        elif command is None:
            yield f"unknown command: '{words[0]}'"
        else:
            yield from help_lines("", [command])

    def _info(self, rest: str) -> Iterator[str]:
        return help_lines("info ", self._infos)
