"""QMP, the protocol of the QEMU monitor for programs: one client's conversation, bytes in, messages
out.

Owns: greeting, negotiation, the members of a request, replies, errors and events as QEMU 7.2 words
them. Does no I/O and has no thread. Does not own: JSON as QEMU reads it (qemu_text.py), the
commands (monitor.py), sockets and whose turn it is (monitor_server.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import MonitorError
from .host_events import HostEvent
from .monitor import Monitor, version
from .qemu_json import JsonError, JsonStream, to_json
from .qmp_schema import check_arguments

__all__ = ["QmpSession", "event_message"]


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
        return event_message(event.time_us, event.name, event.data)

    def _dispatch(self, request: Any) -> Any:
        if not isinstance(request, dict):
            raise MonitorError("QMP input must be a JSON object")
        keys = ("execute", "exec-oob") if self._oob else ("execute",)
        used = [key for key in keys if key in request]
        if len(used) > 1:
            raise MonitorError("QMP input member 'execute' clashes with 'exec-oob'")
        for key, value in request.items():
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
            raise MonitorError(
                "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
            )
        if used[0] == "exec-oob" and (
            command == "qmp_capabilities" or self._monitor.knows(command)
        ):
            raise MonitorError(f"The command {command} does not support OOB")
        if command == "qmp_capabilities":
            return self._negotiate(arguments)
        return self._monitor.execute(command, arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        check_arguments("qmp_capabilities", arguments)
        wanted = arguments.get("enable", ())
        for i, capability in enumerate(wanted):
            if not isinstance(capability, str):
                raise MonitorError(f"Invalid parameter type for 'enable[{i}]', expected: string")
            if capability != "oob":
                # QEMU has forgotten the name by then
                raise MonitorError(f"Parameter 'null' does not accept value '{capability}'")
        if self.negotiated:
            raise MonitorError(
                "Capabilities negotiation is already complete, command ignored", "CommandNotFound"
            )
        self._oob = bool(wanted)
        self.negotiated = True
        return {}


def event_message(time_us: int, name: str, data: Mapping[str, Any]) -> bytes:
    """Return the message that tells of an event: `time_us` is in microseconds since 1970."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    when = {"seconds": seconds, "microseconds": microseconds}
    message = {"timestamp": when, "event": name}
    return to_json(message | ({"data": data} if data else {}))
