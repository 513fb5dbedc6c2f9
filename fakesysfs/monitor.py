"""The QEMU monitor: HMP for people, QMP for programs, as QEMU 7.2 speaks them about memory.

Owns: the syntax of both (command lines, key=value lists, JSON as QEMU reads it), which commands there are and what they
print, the QMP protocol (greeting, negotiation, replies, events) and the Unix socket it is served on. Does not own: what
the commands do and why QEMU refuses them (dimm.py). Commands for anything but memory are not known here, and are
answered as QEMU answers commands it does not know.

    bytes -> QmpSession.feed() -> step() -> bytes          the core does no I/O and has no thread
                                    |
             Monitor.execute(), HmpInterpreter.command()
                                    |
                                DimmBoard

Around it `serve_qmp()`: one thread for the sockets, one that carries out commands, one command at a time, the clients
in turn. A client that sends faster than it is answered is not read from meanwhile; one that sends a message without
end, or does not fetch what it is sent, is hung up on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import stat
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from .dimm import DimmBoard, HostEvent, device_help
from .errors import EnvironmentProblem, MonitorError
from .memdev import object_help
from .qemu_text import JsonError, JsonStream, as_qemu_keeps, is_identifier, parse_json, parse_keyval, parse_options, to_json

__all__ = ["HmpInterpreter", "Monitor", "QmpServer", "QmpSession", "serve_qmp"]

VERSION: Final = (7, 2, 22)
PACKAGE: Final = " (fakesysfs)"

CLIENT_LIMIT: Final = 64
READ_SIZE: Final = 1 << 16
INPUT_HIGH: Final = 1 << 16  # not read from while more than this waits to be carried out
OUTPUT_HIGH: Final = 1 << 18  # nothing is carried out for a client while more than this waits to be fetched
QUIT_PATIENCE: Final = 1.0  # seconds for clients to fetch what they are owed when somebody says `quit`
QUIT_PAUSE: Final = 0.05  # and for a reply that goes another way
EVENT_PAUSE: Final = 0.002  # seconds between two looks whether a client has read its reply
EVENT_PATIENCE: Final = 0.25  # an event waits no longer for that
OUTPUT_LIMIT: Final = 1 << 22  # hung up on when more than this does

_SPACE: Final = " \t\n\v\f\r"


# ------------------------------------------------------------------------------------------------------------------ QMP


class _Argument(NamedTuple):
    """An argument of a QMP command; `kind` "any" is not checked."""

    name: str
    kind: str
    required: bool = True


_KINDS: Final = {"string": str, "integer": int, "array": list}


def _check_arguments(arguments: Mapping[str, Any], schema: tuple[_Argument, ...]) -> None:
    for name, kind, required in schema:
        if name not in arguments:
            if required:
                raise MonitorError(f"Parameter '{name}' is missing")
        elif kind != "any":
            value = arguments[name]
            if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
                raise MonitorError(f"Invalid parameter type for '{name}', expected: {kind}")
    names = {argument.name for argument in schema}
    for name in arguments:
        if name not in names:
            raise MonitorError(f"Parameter '{name}' is unexpected")


class Monitor:
    """The commands of a machine's monitor. Every method may be called from any thread.

    :param board: the machine's DIMM slots.
    :param on_quit: called once when somebody has said `quit`; without it only the monitor's own connections end.
    """

    def __init__(self, board: DimmBoard, on_quit: Callable[[], object] | None = None) -> None:
        self.board = board
        self._on_quit = on_quit
        self._quit_watchers: list[Callable[[str], threading.Event]] = []
        self._hmp = HmpInterpreter(self)
        path = _Argument("path", "string")
        name = _Argument("property", "string")
        # "qmp_capabilities" is the session's
        self._commands: dict[str, tuple[tuple[_Argument, ...] | None, Callable[[dict[str, Any]], Any]]] = {
            "device_add": (None, self._device_add),
            "device_del": ((_Argument("id", "string"),), lambda a: board.device_del(a["id"])),
            "human-monitor-command": (
                (_Argument("command-line", "string"), _Argument("cpu-index", "integer", required=False)),
                self._human_monitor_command,
            ),
            "object-add": (None, self._object_add),
            "object-del": ((_Argument("id", "string"),), lambda a: board.object_del(a["id"])),
            "qom-get": ((path, name), lambda a: board.qom_get(a["path"], a["property"])),
            "qom-list": ((path,), lambda a: board.qom_list(a["path"])),
            "qom-set": (
                (path, name, _Argument("value", "any")),
                lambda a: board.qom_set(a["path"], a["property"], a["value"]),
            ),
            "query-acpi-ospm-status": ((), lambda a: board.ospm_status()),
            "query-commands": ((), lambda a: [{"name": name} for name in ("qmp_capabilities", *self._commands)]),
            "query-memdev": ((), lambda a: board.memdevs()),
            "query-memory-devices": ((), lambda a: board.memory_devices()),
            "query-memory-size-summary": ((), lambda a: board.memory_size_summary()),
            "query-name": ((), lambda a: {}),
            "query-status": ((), lambda a: {"status": "running", "singlestep": False, "running": True}),
            "query-version": ((), lambda a: version()),
            "quit": ((), lambda a: self.quit("host-qmp-quit")),
        }

    def command(self, line: str) -> str:
        """Carry out a line of HMP and return what QEMU would print, with line ends as files have them.

        An error is part of what is printed, as in QEMU: "Error: ..." or "unknown command: ...".
        """
        return self._hmp.command(line).replace("\r\n", "\n")

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Carry out a QMP command.

        :return: what stands behind "return" in the reply.
        :raises MonitorError: what stands behind "error".
        """
        if command not in self._commands:
            raise MonitorError(f"The command {command} has not been found", "CommandNotFound")
        schema, function = self._commands[command]
        given = dict(arguments or {})
        if schema is not None:
            _check_arguments(given, schema)
        result = function(given)
        return {} if result is None else result

    def knows(self, command: str) -> bool:
        """Whether there is a QMP command of that name."""
        return command in self._commands

    def quit(self, reason: str) -> None:
        """Have the monitor's connections told and ended, and then `on_quit` called, on a thread of its own.

        Whoever said it still gets the reply, as from QEMU.
        """
        told = [watcher(reason) for watcher in tuple(self._quit_watchers)]
        on_quit, self._on_quit = self._on_quit, None
        if on_quit is not None:
            threading.Thread(target=_end, args=(told, on_quit), name="quit", daemon=True).start()

    def watch_quit(self, watcher: Callable[[str], threading.Event]) -> Callable[[], None]:
        """Have `watcher` called with the reason at `quit`; `on_quit` waits a moment for the event it returns.

        :return: a function that ends this.
        """
        self._quit_watchers.append(watcher)
        return lambda: self._quit_watchers.remove(watcher) if watcher in self._quit_watchers else None

    def _object_add(self, arguments: dict[str, Any]) -> None:
        if "qom-type" not in arguments:
            raise MonitorError("Parameter 'qom-type' is missing")
        qom_type = arguments.pop("qom-type")
        if not isinstance(qom_type, str):
            raise MonitorError("Invalid parameter type for 'qom-type', expected: string")
        self.board.object_add(qom_type, arguments)

    def _device_add(self, arguments: dict[str, Any]) -> None:
        self.board.device_add(arguments.pop("driver", None), arguments)

    def _human_monitor_command(self, arguments: dict[str, Any]) -> str:
        cpus = sum(len(node.cpus) for node in self.board.config.nodes) or 1
        if not 0 <= arguments.get("cpu-index", 0) < cpus:
            raise MonitorError("Parameter 'cpu-index' expects a CPU number")
        return self._hmp.command(arguments["command-line"])


def _end(told: list[threading.Event], on_quit: Callable[[], object]) -> None:
    for gone in told:
        gone.wait(2 * QUIT_PATIENCE)
    time.sleep(QUIT_PAUSE)
    on_quit()


def version() -> dict[str, Any]:
    """What query-version returns: the QEMU whose words these are."""
    major, minor, micro = VERSION
    return {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": PACKAGE}


class QmpSession:
    """One client of QMP: bytes in, messages out. No I/O, no thread, no lock: one caller at a time.

    :ivar negotiated: the client has said qmp_capabilities, and may be sent events.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._stream = JsonStream()
        self._oob = False
        self.negotiated = False

    @property
    def flooded(self) -> bool:
        """The client sent a message without end: hang up when it has been told."""
        return self._stream.flooded

    def __len__(self) -> int:
        """Bytes fed and not yet looked at."""
        return len(self._stream)

    def greeting(self) -> bytes:
        """What a client is sent first."""
        return to_json({"QMP": {"version": version(), "capabilities": ["oob"]}})

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        self._stream.feed(data)

    def step(self) -> bytes | None:
        """Carry out the next command and return the reply; None when no whole command has come."""
        request: Any = None
        try:
            message = self._stream.next()
            if message is None:
                return None
            request = message[0]
            reply = {"return": self._dispatch(request)}
        except JsonError as e:
            reply = {"error": {"class": "GenericError", "desc": str(e)}}
        except MonitorError as e:
            reply = {"error": {"class": e.klass, "desc": e.desc}}
        except Exception as e:  # a fault of ours; the client is told and goes on
            import logging

            logging.getLogger(__name__).exception("a QMP command failed")
            reply = {"error": {"class": "GenericError", "desc": f"internal error: {e!r}"}}
        if isinstance(request, dict) and "id" in request:
            reply["id"] = request["id"]
        return to_json(reply)

    def receive(self, data: bytes) -> list[bytes]:
        """Take what the client sent, carry out all of it, and return the replies."""
        self.feed(data)
        replies = []
        while (reply := self.step()) is not None:
            replies.append(reply)
        return replies

    def event(self, event: HostEvent) -> bytes:
        """The message that tells the client of an event."""
        return _event_message(event.time_us, event.name, event.data)

    def _dispatch(self, request: Any) -> Any:
        if not isinstance(request, dict):
            raise MonitorError("QMP input must be a JSON object")
        keys = ("execute", "exec-oob") if self._oob else ("execute",)
        used = [key for key in keys if key in request]
        if len(used) > 1:
            raise MonitorError("QMP input member 'execute' clashes with 'exec-oob'")
        for key, value in as_qemu_keeps(request):
            if key in keys:
                if not isinstance(value, str):
                    raise MonitorError(f"QMP input member '{key}' must be a string")
            elif key == "arguments":
                if not isinstance(value, dict):
                    raise MonitorError("QMP input member 'arguments' must be an object")
            elif key != "id":
                raise MonitorError(f"QMP input member '{key}' is unexpected")
        if not used:
            raise MonitorError("QMP input lacks member 'execute'")
        command, arguments = request[used[0]], request.get("arguments", {})
        if not self.negotiated and command != "qmp_capabilities":
            raise MonitorError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        if used[0] == "exec-oob" and (command == "qmp_capabilities" or self._monitor.knows(command)):
            raise MonitorError(f"The command {command} does not support OOB")
        if command == "qmp_capabilities":
            return self._negotiate(arguments)
        return self._monitor.execute(command, arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.negotiated:
            raise MonitorError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        _check_arguments(arguments, (_Argument("enable", "array", required=False),))
        for i, capability in enumerate(arguments.get("enable", ())):
            if not isinstance(capability, str):
                raise MonitorError(f"Invalid parameter type for 'enable[{i}]', expected: string")
            if capability != "oob":
                # QEMU has forgotten the name by then
                raise MonitorError(f"Parameter 'null' does not accept value '{capability}'")
            self._oob = True
        self.negotiated = True
        return {}


def _event_message(time_us: int, name: str, data: Mapping[str, Any]) -> bytes:
    seconds, microseconds = divmod(time_us, 1_000_000)
    when = {"seconds": seconds, "microseconds": microseconds}
    return to_json({"timestamp": when, "event": name, "data": data})


# ------------------------------------------------------------------------------------------------------------------ HMP


class _Usage(Exception):
    """A line whose arguments cannot be read; str() is what QEMU prints before its hint where to find help."""


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
    """The monitor people speak to: a line in, text out with CR LF, as human-monitor-command returns it."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._board = monitor.board
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
        lines: list[str] = []
        for text in self._run(line.replace("\0", "")):
            lines.append(text.replace("\n", "\r\n") + "\r\n")
        return "".join(lines)

    def _run(self, line: str) -> Iterator[str]:
        name, rest = _command_name(line)
        if name is None:
            return
        table, prefix = self._commands, ""
        command = _find_command(table, name)
        if command is not None and command.name == "info" and rest:
            table, prefix = self._infos, "info "
            name, rest = _command_name(rest)
            command = _find_command(table, name or "")
        if command is None:
            consumed = line[: len(line) - len(rest)].rstrip(_SPACE) if rest else line.rstrip(_SPACE)
            yield f"unknown command: '{consumed}'"
            return
        try:
            yield from command.function(rest)
        except _Usage as e:
            if str(e):
                yield f"{command.name}: {e}" if str(e)[0] != "!" else str(e)[1:]
            yield f'Try "help {prefix}{name}" for more information'
        except MonitorError as e:
            yield f"Error: {e.desc}"
            if hint := getattr(e, "hint", ""):
                yield hint

    # --------------------------------------------------------------------------------------------------------- commands

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
        while len(rest) > 1 and rest[0] == "-":
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
        self._board.qom_set(path, name, value, text=not as_json)
        return iter(())

    def _quit(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        self._monitor.quit("host-qmp-quit")
        return iter(())

    def _help(self, rest: str) -> Iterator[str]:
        words = _words(rest)
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

    # ------------------------------------------------------------------------------------------------------------- info

    def _info_memory_devices(self, rest: str) -> Iterator[str]:
        _end_of_line(rest)
        for device in self._board.memory_devices():
            data = device["data"]
            yield f'Memory device [{device["type"]}]: "{data.get("id", "")}"'
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


# --------------------------------------------------------------------------------------------------------- HMP's syntax


def _command_name(line: str) -> tuple[str | None, str]:
    """The first word, which / ends too, and what follows it without spaces before; None when there is no word."""
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
        try:
            word, text = _string(text)
        except _Usage:
            break
        words.append(word)
    return words


# ------------------------------------------------------------------------------------------------------- the QMP socket


class _Connection:
    """A client of the server. `session` belongs to the command thread, all else to the server's lock."""

    __slots__ = (
        "broken", "ended", "events", "events_since", "inbox", "outbox", "queued", "session", "sock", "unfinished",
        "watched",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, session: QmpSession) -> None:
        self.sock = sock
        self.session = session
        self.inbox = bytearray()
        self.outbox = bytearray(session.greeting())
        self.events = bytearray()  # not sent yet; see QmpServer._owe_events
        self.events_since = 0.0
        self.queued = False  # waits for the command thread, or has it
        self.unfinished = False  # there may be whole commands in `session`
        self.ended = False  # the client sends no more, or is to be hung up on: close when the outbox is empty
        self.broken = False  # close now
        self.watched = 0  # what the selector watches it for


class QmpServer:
    """QMP on a Unix socket, until `close()`. Made by serve_qmp()."""

    def __init__(self, path: str, monitor: Monitor) -> None:
        self._path = os.path.abspath(path)
        self._monitor = monitor
        self._listener, self._identity = _listen(self._path, path)
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_end.setblocking(False)
        self._lock = threading.Lock()
        self._ready_changed = threading.Condition(self._lock)
        self._ready: deque[_Connection] = deque()  # with something to carry out, in turn
        self._current: _Connection | None = None
        self._connections: set[_Connection] = set()
        self._closing = False
        self._end_at: float | None = None  # when `quit` was said: hang up on everybody by then
        self._gone = threading.Event()  # everybody has been hung up on
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup_end, selectors.EVENT_READ)
        self._unsubscribes = [monitor.board.subscribe(self._on_event), monitor.watch_quit(self._on_quit)]
        self._threads = [
            threading.Thread(target=self._serve, name="qmp", daemon=True),
            threading.Thread(target=self._carry_out, name="qmp-commands", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def path(self) -> str:
        """Where it listens: an absolute path."""
        return self._path

    def __enter__(self) -> QmpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, hang up on the clients, remove the socket's file if it is still ours."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        with self._lock:
            self._closing = True
            self._ready.clear()
            self._ready_changed.notify_all()
        self._wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5.0)
        _remove(self._path, self._identity)

    # ----------------------------------------------------------------------------------------------- the command thread

    def _carry_out(self) -> None:
        while True:
            with self._lock:
                while not self._ready and not self._closing:
                    self._ready_changed.wait()
                if self._closing:
                    return
                connection = self._current = self._ready.popleft()
                data = bytes(connection.inbox)
                connection.inbox.clear()
                if data:
                    connection.outbox += connection.events  # older than this command: before its reply
                    connection.events.clear()
            session = connection.session
            session.feed(data)
            reply = None if connection.broken else session.step()
            with self._lock:
                self._current = None
                connection.queued = False
                if reply is not None:
                    connection.outbox += reply
                connection.unfinished = reply is not None and not session.flooded
                connection.ended |= session.flooded
                self._queue(connection)
            self._wake()

    def _queue(self, connection: _Connection) -> None:
        """Put a client in line if there is something to do, and not much for it to fetch. Called with the lock held."""
        todo = connection.inbox or connection.unfinished
        if todo and not connection.queued and not connection.broken and len(connection.outbox) <= OUTPUT_HIGH:
            connection.queued = True
            self._ready.append(connection)
            self._ready_changed.notify()

    def _on_event(self, event: HostEvent) -> None:
        self._broadcast(_event_message(event.time_us, event.name, event.data))

    def _on_quit(self, reason: str) -> threading.Event:
        data = {"guest": False, "reason": reason}
        self._broadcast(_event_message(time.time_ns() // 1000, "SHUTDOWN", data))
        with self._lock:
            self._end_at = time.monotonic() + QUIT_PATIENCE
        self._wake()
        return self._gone

    def _broadcast(self, message: bytes) -> None:
        with self._lock:
            for connection in self._connections:
                if not connection.session.negotiated:
                    continue
                if not connection.events:
                    connection.events_since = time.monotonic()
                connection.events += message
                if len(connection.outbox) + len(connection.events) > OUTPUT_LIMIT:
                    connection.broken = True
        self._wake()

    def _owe_events(self, connection: _Connection) -> None:
        """Let events follow the replies before them, once the client has read those. Called with the lock held.

        A guest takes a while, so with QEMU an event never arrives in one piece with the reply of the command that caused
        it, and there are clients that lose what does: Python's text files drop what they have read ahead at each write.
        """
        if not connection.events or connection.outbox or connection is self._current:
            return
        unread = int.from_bytes(fcntl.ioctl(connection.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if unread == 0 or time.monotonic() >= connection.events_since + EVENT_PATIENCE:
            connection.outbox += connection.events
            connection.events.clear()

    # ------------------------------------------------------------------------------------------------ the socket thread

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake enough, or gone
            self._wakeup.send(b"w")

    def _serve(self) -> None:
        try:
            while self._look():
                pass
        finally:
            with self._lock:
                connections, self._connections = self._connections, set()
            for connection in connections:
                connection.sock.close()
            self._selector.close()
            self._listener.close()
            self._wakeup.close()
            self._wakeup_end.close()
            self._gone.set()

    def _look(self) -> bool:
        """Wait for something to do and do it. False when it is all over."""
        wait = None if self._end_at is None else max(0.0, self._end_at - time.monotonic())
        with self._lock:
            if any(connection.events and not connection.outbox for connection in self._connections):
                wait = EVENT_PAUSE  # until the client has read what came before
        for key, mask in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wakeup_end:
                self._wakeup_end.recv(4096)
            elif mask & selectors.EVENT_READ:
                self._read(key.data)
        with self._lock:
            if self._closing:
                return False
            finished = [connection for connection in self._connections if not self._attend(connection)]
            self._connections.difference_update(finished)
            over = self._end_at is not None and (
                time.monotonic() >= self._end_at
                or (not any(c.outbox or c.events or c.queued for c in self._connections) and self._current is None)
            )
            if over:
                self._closing = True
                self._ready.clear()
                self._ready_changed.notify_all()
        return not over

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            time.sleep(0.01)  # out of file descriptors, say; do not spin
            return
        if len(self._connections) >= CLIENT_LIMIT:
            sock.close()
            return
        sock.setblocking(False)
        with self._lock:
            self._connections.add(_Connection(sock, QmpSession(self._monitor)))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            connection.broken = True
            return
        with self._lock:
            if data:
                connection.inbox += data
                self._queue(connection)
            else:
                connection.ended = True

    def _attend(self, connection: _Connection) -> bool:
        """Send what a client is owed and decide what to wait for next. False when it is gone. Called with the lock."""
        if not connection.broken:
            self._owe_events(connection)
        if connection.outbox and not connection.broken:
            try:
                sent = connection.sock.send(connection.outbox)
                del connection.outbox[:sent]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                connection.broken = True
        if connection.session.flooded:
            connection.inbox.clear()
        self._queue(connection)  # it may have been left out while it had much to fetch
        idle = not (connection.queued or connection.inbox or connection.unfinished)
        done = connection.ended and idle and (not connection.outbox or connection.session.flooded)
        if connection.broken or done:
            if connection.watched:
                self._selector.unregister(connection.sock)
            connection.sock.close()
            connection.broken = True
            return False
        want = 0
        if connection.outbox:
            want |= selectors.EVENT_WRITE
        room = idle or len(connection.inbox) + len(connection.session) <= INPUT_HIGH
        if room and not connection.ended and len(connection.outbox) <= OUTPUT_HIGH:
            want |= selectors.EVENT_READ
        if want != connection.watched:
            if not connection.watched:
                self._selector.register(connection.sock, want, connection)
            elif not want:
                self._selector.unregister(connection.sock)
            else:
                self._selector.modify(connection.sock, want, connection)
            connection.watched = want
        return True


def serve_qmp(path: str, board: DimmBoard | Monitor, on_quit: Callable[[], object] | None = None) -> QmpServer:
    """Serve QMP on a Unix socket, readable and writable by its owner alone, in threads of its own.

    :param path: where; a socket nobody listens at any more is replaced, everything else there is left alone.
    :param board: the machine's DIMM slots, or a Monitor of them.
    :param on_quit: called when a client has said `quit` and the clients have been hung up on, on a thread of its own.
    :raises EnvironmentProblem: something is there already, or no socket can be made there.
    """
    return QmpServer(path, board if isinstance(board, Monitor) else Monitor(board, on_quit))


def _listen(path: str, shown: str) -> tuple[socket.socket, tuple[int, int]]:
    """A socket that listens at `path`, and the identity of its file."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the file the mode the socket had; no umask to race with
        if os.path.lexists(path):
            _remove_stale(path, shown)
        listener.bind(path)
        listener.listen(CLIENT_LIMIT)
        listener.setblocking(False)
        status = os.lstat(path)
        return listener, (status.st_dev, status.st_ino)
    except OSError as e:
        listener.close()
        reason = e.strerror or str(e)
        raise EnvironmentProblem(f"cannot make the QMP socket {shown}: {reason}", "choose another --qmp path") from None
    except BaseException:
        listener.close()
        raise


def _remove_stale(path: str, shown: str) -> None:
    """Remove the socket of a program that has ended.

    :raises EnvironmentProblem: it is no socket, or somebody listens.
    """
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        raise EnvironmentProblem(
            f"cannot make the QMP socket {shown}: a file of that name exists", "remove it or choose another --qmp path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _remove(path, (status.st_dev, status.st_ino))
            return
        except OSError:
            pass
    raise EnvironmentProblem(f"cannot make the QMP socket {shown}: another program listens there", "choose another --qmp path")


def _remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the file if it is the one meant."""
    with contextlib.suppress(OSError):  # somebody else has removed it, or its directory
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
