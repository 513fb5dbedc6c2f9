"""What a running instance can be asked over its control socket.

Owns: the list of requests, with their arguments, and the events as JSON. Does not own the protocol
(control.py, control_server.py), nor what the requests do.
"""

from __future__ import annotations

import threading

from .control_server import Descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from .control_server import Handler
    from .events import Event
    from .machine import Machine
    from .virtual_machine import VirtualMachine


class EventLog:
    """The newest events of a machine, for readers that come later or follow."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._newest = 0  # number of the newest event
        self._changed = threading.Condition()
        machine.subscribe(self._notice)

    def _notice(self, event: Event) -> None:
        with self._changed:
            self._newest = event.seq
            self._changed.notify_all()

    def read(self, since: int = 0, follow: bool = False) -> Iterator[dict[str, Any] | None]:
        """Events with a number greater than `since`, oldest first; with `follow` also those that
        come, and None when there are no more for now, and every second in which none comes."""
        while True:
            for event in self._machine.events(since):
                since = event.seq
                yield event_as_json(event)
            if not follow:
                return
            yield None
            with self._changed:
                # Not by asking the machine, which delivers: another thread that does would wait for
                # this lock.
                if self._newest <= since:
                    self._changed.wait(1.0)


def event_as_json(event: Event) -> dict[str, Any]:
    """An event as `fakesysfs events` prints it."""
    fields = event._asdict()
    del fields["verdict"]  # that is between the engine and who sends uevents
    return {**fields, "cause": event.cause._asdict() if event.cause is not None else None}


def request_handlers(
    machine: VirtualMachine,
    info: Mapping[str, Any],
    namespaces: Callable[[], Mapping[str, int]],
    stop: Callable[[], object],
) -> dict[str, Handler]:
    """Return what every instance answers: the handlers of requests by their names.

    :param info: what `info` answers; at least "directory", "qmp", "hmp" and "command".
    :param namespaces: returns the open namespaces of the instance's command, by their names.
    :param stop: begins the end of the instance.
    """
    return {
        "info": lambda: info,
        "namespaces": lambda: Descriptors(namespaces()),
        "stop": stop,
        "dmesg": machine.dmesg,
        "trace": machine.trace,
        "trace end": machine.trace_end,
        "events": EventLog(machine).read,
        "map": lambda: {
            "block_bytes": machine.block_bytes,
            "blocks": machine.blocks(),
            "dimms": machine.monitor.board.memory_devices(),
        },
        "qmp events": machine.host_events,
        "hmp": lambda line: machine.hmp(text(line)),
        "monitor": lambda line: machine.monitor.carry_out(text(line)),
        "complete": lambda line: machine.monitor.hmp.complete(text(line)),
        "check": machine.check,
        "page": machine.page,
        "read": lambda path: machine.read_text(text(path)),
        "store": lambda path, data: machine.store(text(path), text(data)),
        "allocate": machine.allocate,
        "free": machine.free,
        "pin": machine.pin,
        "free_page": machine.free_page,
        "fault add": lambda rule: machine.fault_rule_add(text(rule)),
        "fault list": machine.fault_rules,
        "fault clear": machine.fault_rule_clear,
    }


def text(value: Any) -> str:
    """An argument that has to be text.

    :raises TypeError: it is something else.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value
