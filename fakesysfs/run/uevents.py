"""Uevents: from an event of the machine to a message that listeners receive from the kernel itself.

Owns the bytes of a message and the socket it leaves by. A privileged process of a network namespace
may ask the kernel to broadcast a uevent there (netlink NETLINK_KOBJECT_UEVENT, destination 0): the
kernel adds SEQNUM, and every listener of that namespace, udevd among them, receives it from
`nl_pid` 0, as if a driver had sent it. The broadcast is over when sendto() returns. Owns, too, what
fault rules do to uevents on their way. Does not own: which events there are and in what order (the
engine, Machine.subscribe), what the rules say (the event has it), and the network namespace (launch.py):
the socket must never be opened in the host's own, where the host's udevd listens.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..machine import Event

NETLINK_KOBJECT_UEVENT = 15
NLMSG_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
NLMSG_ERROR = 2
NLMSG_MIN_TYPE = 16
NLM_F_REQUEST, NLM_F_ACK = 1, 4  # without REQUEST the kernel drops the message and says nothing
UEVENT_BUFFER_SIZE = 2048  # what the kernel accepts
REORDER_SECONDS = 1.0  # so long a uevent waits for one that can be sent before it
_log = logging.getLogger(__name__)


def message(payload: Sequence[str]) -> bytes:
    """The bytes of a uevent: `payload` is the header "add@/devices/..." and the KEY=value strings,
    without SEQNUM.
    """
    body = b"".join(text.encode() + b"\0" for text in payload)
    header = NLMSG_HEADER.pack(
        NLMSG_HEADER.size + len(body), NLMSG_MIN_TYPE, NLM_F_REQUEST | NLM_F_ACK, 1, 0
    )
    return header + body


class UeventSender:
    """A socket in the calling thread's network namespace that makes the kernel broadcast uevents
    there.

    An instance is callable, so that it can be given to `Machine.subscribe`: events that are no
    uevents are ignored.

    :raises OSError: EPERM when the process may not do this in its network namespace; EMSGSIZE for a
        payload the kernel would not take.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
        self._lock = threading.Lock()  # one message and its acknowledgement at a time

    def __call__(self, event: Event) -> None:
        """Send `event` if it is a uevent. It has been received by every listener when this returns."""
        if event.kind == "uevent":
            self.send(event.payload)

    def send(self, payload: Sequence[str]) -> None:
        """Broadcast one uevent, given as for `message`."""
        data = message(payload)
        if len(data) - NLMSG_HEADER.size > UEVENT_BUFFER_SIZE:
            raise OSError(
                errno.EMSGSIZE, f"uevent of more than {UEVENT_BUFFER_SIZE} bytes", payload[0]
            )
        with self._lock:
            self._socket.sendto(data, (0, 0))
            answer = self._socket.recv(4096)
        if NLMSG_HEADER.unpack_from(answer)[1] == NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", answer, NLMSG_HEADER.size)
            if error:
                raise OSError(-error, os.strerror(-error), payload[0])

    def close(self) -> None:
        """Give the socket back; sending is over."""
        self._socket.close()


class UeventFaults:
    """What fault rules do to uevents, between `Machine.subscribe` and whoever is to receive them.

        machine.subscribe(UeventFaults(UeventSender()))

    `drop`: not received. `duplicate`: received twice. `delay`: received later, by another thread;
    the call that caused it does not wait, and later events are not held up. `reorder`: received
    after the next one, or alone after `REORDER_SECONDS` without one. The event before its files
    (`early`) is the engine's business.

    :param receive: called with each event that passes, not only uevents; it may be called by
        several threads at once.
    """

    def __init__(self, receive: Callable[[Event], object]) -> None:
        self._receive = receive
        self._lock = threading.Lock()
        self._held: Event | None = None  # waits for the next one
        self._held_until: threading.Timer | None = None

    def __call__(self, event: Event) -> None:
        """Let an event pass, or what becomes of it."""
        if event.kind != "uevent":
            self._receive(event)
            return
        effect, delay_us = event.verdict
        if effect == "delay":
            self._later(delay_us / 1e6, lambda: self._receive_late(event))
        elif effect == "reorder" and self._hold(event):
            pass
        elif effect != "drop":
            self._receive(event)
            if effect == "duplicate":
                self._receive(event)
            self._release()

    def _hold(self, event: Event) -> bool:
        """Keep the event back, unless one is: then they are two in the wrong order already."""
        with self._lock:
            if self._held is not None:
                return False
            self._held = event
            self._held_until = self._later(REORDER_SECONDS, self._release)
        return True

    def _release(self) -> None:
        with self._lock:
            event, self._held = self._held, None
            if event is not None and self._held_until is not None:
                self._held_until.cancel()
        if event is not None:
            self._receive_late(event)

    def _receive_late(self, event: Event) -> None:
        try:
            self._receive(event)
        except OSError as e:
            _log.error("uevent %s of %s was not sent: %s", event.data, event.path, e)

    def _later(self, seconds: float, call: Callable[[], object]) -> threading.Timer:
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        return timer
