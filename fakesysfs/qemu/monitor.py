"""The QEMU monitor of a machine: which commands programs can give it, and what `quit` sets off.

Owns: the commands of QMP, as QEMU 7.2 has them for memory: which part of the machine carries out
each, and `quit`. Does not own: what they take and return (qmp_schema.py), the protocol that carries
them (qmp.py), sockets (monitor_server.py), the monitor for people (hmp.py) and how its lines are
typed (hmp_session.py), what the commands do and why QEMU refuses them (board.py). Commands for
anything but memory are not known here, and are answered as QEMU answers commands it does not know.

    bytes -> monitor_server.py -> QmpSession, HmpSession .feed() -> .step() -> bytes      only the server has I/O and threads
                                  |
              Monitor.execute(), HmpInterpreter.command()
                                  |
                              Board
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import MonitorError
from ..events import caused_by
from .board import Board
from .hmp import HmpInterpreter
from .host_cpus import hotpluggable_cpus
from .property_values import JsonReader, expects, invalid_type
from .qemu_text import PACKAGE, VERSION
from .qmp_schema import check_arguments, command_names, introspection

__all__ = ["QUIT_PATIENCE", "Monitor", "version"]

# seconds for clients to fetch what they are owed when somebody says `quit`
QUIT_PATIENCE: Final = 1.0
QUIT_PAUSE: Final = 0.05  # and for a reply that goes another way

_CHECK_THEMSELVES: Final = ("device_add", "object-add")


class Monitor:
    """The commands of a machine's monitor. Every method may be called from any thread.

    :param board: the machine's hardware.
    :param on_quit: called once when somebody has said `quit`; without it only the monitor's own
        connections end.
    :ivar hmp: the same commands for people.
    :ivar quitting: somebody has said `quit`.
    """

    def __init__(self, board: Board, on_quit: Callable[[], object] | None = None) -> None:
        self.board = board
        self._on_quit = on_quit
        self.quitting = False
        self._quit_watchers: list[Callable[[str], threading.Event]] = []
        self.hmp = HmpInterpreter(board, self.quit)
        # "qmp_capabilities" is the session's
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "cont": lambda a: board.run_state.go_on(),
            "device_add": self._device_add,
            "device_del": lambda a: board.device_del(a["id"]),
            "human-monitor-command": self._human_monitor_command,
            "object-add": self._object_add,
            "object-del": lambda a: board.object_del(a["id"]),
            "qom-get": lambda a: board.qom_get(a["path"], a["property"]),
            "qom-list": lambda a: board.qom_list(a["path"]),
            "qom-set": self._qom_set,
            "query-acpi-ospm-status": lambda a: board.ospm_status(),
            "query-commands": lambda a: [{"name": name} for name in command_names()],
            "query-hotpluggable-cpus": lambda a: hotpluggable_cpus(board),
            "query-memdev": lambda a: board.memdevs(),
            "query-memory-devices": lambda a: board.memory_devices(),
            "query-memory-size-summary": lambda a: board.memory_size_summary(),
            "query-name": lambda a: {},
            "query-qmp-schema": lambda a: introspection(),
            "query-status": lambda a: board.run_state.status(),
            "query-version": lambda a: version(),
            "quit": lambda a: self.quit("host-qmp-quit"),
            "stop": lambda a: board.run_state.stop(),
            "system_powerdown": lambda a: board.run_state.power_button(),
            "system_reset": lambda a: board.reset(),
            "system_wakeup": lambda a: board.run_state.wake_up(),
        }

    def command(self, line: str) -> str:
        """Carry out a line of HMP and return what QEMU would print, with line ends as files have
        them.

        An error is part of what is printed, as in QEMU: "Error: ..." or "unknown command: ...".
        """
        return self.carry_out(line)[0]

    def carry_out(self, line: str) -> tuple[str, bool]:
        """As command(), and whether the line was refused."""
        with caused_by(f"monitor {line}"):
            text, refused = self.hmp.carry_out(line)
        return text.replace("\r\n", "\n"), refused

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Carry out a QMP command.

        :return: what stands behind "return" in the reply.
        :raises MonitorError: what stands behind "error".
        """
        if command not in self._commands:
            raise MonitorError(f"The command {command} has not been found", "CommandNotFound")
        given = dict(arguments or {})
        if command not in _CHECK_THEMSELVES:
            check_arguments(command, given)
        with caused_by(
            " ".join(
                (f"qmp {command}", *(f"{key}={_shown(value)}" for key, value in given.items()))
            )
        ):
            result = self._commands[command](given)
        return {} if result is None else result

    def knows(self, command: str) -> bool:
        """Whether there is a QMP command of that name."""
        return command in self._commands

    def quit(self, reason: str) -> None:
        """Have the monitor's connections told and ended, and then `on_quit` called, on a thread of
        its own.

        Whoever said it still gets the reply, as from QEMU.
        """
        self.quitting = True
        told = [watcher(reason) for watcher in tuple(self._quit_watchers)]
        on_quit, self._on_quit = self._on_quit, None
        if on_quit is not None:
            threading.Thread(target=_end, args=(told, on_quit), name="quit", daemon=True).start()

    def watch_quit(self, watcher: Callable[[str], threading.Event]) -> Callable[[], None]:
        """Have `watcher` called with the reason at `quit`; `on_quit` waits a moment for the event
        it returns.

        :return: a function that ends this.
        """
        self._quit_watchers.append(watcher)
        return lambda: (
            self._quit_watchers.remove(watcher) if watcher in self._quit_watchers else None
        )

    def _object_add(self, arguments: dict[str, Any]) -> None:
        if "qom-type" not in arguments:
            raise MonitorError("Parameter 'qom-type' is missing")
        qom_type = arguments.pop("qom-type")
        if not isinstance(qom_type, str):
            raise invalid_type("qom-type", "string")
        self.board.object_add(qom_type, arguments)

    def _device_add(self, arguments: dict[str, Any]) -> None:
        self.board.device_add(arguments.pop("driver", None), arguments)

    def _qom_set(self, arguments: dict[str, Any]) -> None:
        path, name = arguments["path"], arguments["property"]
        kind = self.board.qom_type_to_set(path, name)
        self.board.qom_set(path, name, JsonReader().read(kind, name, arguments["value"]))

    def _human_monitor_command(self, arguments: dict[str, Any]) -> str:
        if not 0 <= arguments.get("cpu-index", 0) < self.board.cpu_count:
            raise expects("cpu-index", "a CPU number")
        return self.hmp.command(arguments["command-line"])


def _end(told: list[threading.Event], on_quit: Callable[[], object]) -> None:
    for gone in told:
        gone.wait(2 * QUIT_PATIENCE)
    time.sleep(QUIT_PAUSE)
    on_quit()


def _shown(value: object) -> str:
    """A value in a line for people; what a list or object holds, and how deep, is the client's
    affair.
    """
    return (
        "[...]" if isinstance(value, list) else "{...}" if isinstance(value, dict) else f"{value}"
    )


def version() -> dict[str, Any]:
    """What query-version returns: the QEMU whose words these are."""
    major, minor, micro = VERSION
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": PACKAGE}
