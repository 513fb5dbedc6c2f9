"""What conditions are asked about: a running instance, over its control socket.

Owns: where the facts of conditions.py come from, and waiting for them. A wait is told of every
event of the machine, so it looks as soon as something has happened, and now and then besides,
because not everything is an event. Does not own the words.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..control import Client
from ..errors import InstanceError
from .conditions import Finding, Looked

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS: Final = 0.1  # so often it is looked when no event comes
PAUSE_SECONDS: Final = 0.005  # at least between two looks
DEFAULT_SECONDS: Final = 30.0


class Since(NamedTuple):
    """A moment in the life of an instance: what came after it is newer.

    :param event: the number of the newest event.
    :param line: how many lines the log has.
    :param qmp: how many events the monitor has had.
    """

    event: int = 0
    line: int = 0
    qmp: int = 0


class Watched:
    """An instance as conditions see it.

    :param since: uevents, events of the monitor and lines of the log from before it do not count.
    """

    def __init__(self, client: Client, since: Since = Since()) -> None:  # noqa: B008 - immutable
        self._client = client
        self._since = since
        self._newest = since.event
        self._uevents: list[tuple[str, str]] = []

    def read(self, path: str) -> str:
        """Return the content of a file, by its absolute path.

        :raises OSError: as read(2) of the file.
        """
        text: str = self._client.call("read", path)
        return text

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this absolute path."""
        try:
            self._client.call("read", path)
        except OSError as e:
            return e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV)
        return True

    def block_states(self) -> dict[str, str]:
        """Return the state of each memory block by its name."""
        return {f"memory{number}": state for number, _, state, *_ in self._blocks()}

    def uevents(self) -> Sequence[tuple[str, str]]:
        """Return action and device path of each uevent, oldest first."""
        for event in self._client.stream("events", since=self._newest):
            self._newest = event["seq"]
            if event["kind"] == "uevent":
                self._uevents.append((event["data"], event["path"]))
        return self._uevents

    def qmp_events(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return name and data of each event of the monitor, oldest first."""
        return [(name, data) for name, data in self._client.call("qmp events", self._since.qmp)]

    def log(self) -> Sequence[str]:
        """Return the lines of the kernel log, oldest first."""
        return [text for _, text in self._client.call("dmesg", self._since.line)]

    def _blocks(self) -> list[list[Any]]:
        blocks: list[list[Any]] = self._client.call("map")["blocks"]
        return blocks


def expect(subject: Watched, conditions: Sequence[Looked]) -> list[Finding]:
    """Return what is wrong: the conditions that do not hold now."""
    found = [condition.look(subject) for condition in conditions]
    return [finding for finding in found if not finding.holds]


def wait(
    connect: Callable[[], Client],
    conditions: Sequence[Looked],
    seconds: float,
    since: Since = Since(),  # noqa: B008 - immutable
) -> list[Finding]:
    """Wait until all conditions hold at the same time, and return nothing; or, when that does not
    happen, what is wrong in the end.

    :param connect: makes a connection to the instance.
    :raises InstanceError: the instance ended meanwhile, or does not answer.
    """
    end = time.monotonic() + seconds
    with closing(connect()) as client, closing(connect()) as news:
        news.send("events", since=since.event, follow=True)
        subject = Watched(client, since)
        poll = select.poll()
        poll.register(news, select.POLLIN)
        while (wrong := expect(subject, conditions)) and (left := end - time.monotonic()) > 0:
            time.sleep(min(PAUSE_SECONDS, left))
            if poll.poll(1000 * min(LOOK_SECONDS, left)) and not news.heard():
                raise InstanceError(f"instance {client.name} ended")
        return wrong


def now(client: Client, known: Since = Since()) -> Since:  # noqa: B008 - immutable
    """This moment in the life of an instance.

    :param known: an earlier one, to ask for less.
    """
    event = known.event
    for newer in client.stream("events", since=event):
        event = newer["seq"]
    return Since(
        event,
        known.line + len(client.call("dmesg", known.line)),
        known.qmp + len(client.call("qmp events", known.qmp)),
    )
