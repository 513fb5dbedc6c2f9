"""Commands for a monitor, good and bad, from a seed: what people, programs and fuzzers type about
memory.

    Grammar(seed).requests(300) -> [Request, ...]

The names come from small pools, so that commands meet: an object is made twice, used twice, deleted
while in use. Half of the commands are such as should work, the rest have a value, an argument or a
character that should not be there. A request is bytes for a QMP connection that has negotiated; a
line of HMP goes by human-monitor-command. After any of them the connection is in order again:
what may have begun a message without end is followed by what ends any.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hmp_lines import HmpLines
from monitor_words import BACKENDS
from qmp_commands import QmpCommands

#: Ends whatever JSON has begun. How it is answered depends on what that was.
RESYNC = b"\n\xff\n]}\xff\n"

DEEP = b"[" * 1000 + b"]" * 1000
CURIOSITIES = (
    b"[" * 1030, b"{" * 5, b"[]", b"{}", b"null", b'"x"', b"7", b"[[[[]]]]", b"info numa\n", b"\x04", b"%i",
    b'{"execute":"query-name"' + b" " * 5000 + b"}", b"GET / HTTP/1.1\r\n\r\n", b'{"execute":null}',
    b'{"execute":"query-name","arguments":[]}', b'{"execute":"query-name","execute":"query-name"}',
    b"{'execute':'query-name'}", b'{"execute":"query-name"}' * 3, b'{"execute":"\\u0000"}', b'{"execute":"\\ud800"}',
    *(b'{"execute":"query-name",%s:' % key + DEEP + b"}" for key in (b'"id"', b'"arguments"', b'"x"')),
    *(b'{"execute":"%s","arguments":{%s:' % each + DEEP + b"}}" for each in (
        (b"object-del", b'"id"'), (b"device_add", b'"driver"'), (b"device_add", b'"driver":"pc-dimm","memdev"'),
        (b"device_add", b'"driver":"pc-dimm","memdev":"m0","slot"'), (b"qom-get", b'"path"'), (b"query-name", b'"x"'),
        (b"object-add", b'"qom-type":"memory-backend-ram","id":"x","size":1,"host-nodes"'),
        (b"object-add", b'"qom-type":"memory-backend-ram","id":"x","size"'),
        (b"qom-set", b'"path":"/objects/m0","property":"merge","value"'),
        (b"qom-set", b'"path":"/objects/m0","property":"host-nodes","value"'),
    )),
)  # fmt: skip


class Request(NamedTuple):
    """What is sent, and for people: what it is about."""

    data: bytes
    shown: str


class Grammar(HmpLines, QmpCommands):
    """Requests from a seed.

    :param files: existing paths and paths to be for memory-backend-file.
    :param virtio: with virtio-mem devices.
    """

    def requests(self, count: int) -> list[Request]:
        """That many."""
        return [self._request() for _ in range(count)]

    def _request(self) -> Request:
        kind = self.choices(("hmp", "qmp", "wrong member", "junk"), (45, 40, 10, 5))[0]
        if kind == "hmp":
            line = self.line()
            return Request(_qmp("human-monitor-command", {"command-line": line}), f"HMP {line!r}")
        if kind == "qmp":
            request = self.command()
            if self._often(0.3):
                request["id"] = self._json_value(2)
            return _shown(request)
        if kind == "wrong member":
            return _shown(self._wrong_members(self.command()))
        return self._junk()

    def _wrong_members(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request whose members are not those of a request."""
        for _ in range(self.choice((1, 1, 2))):
            key = self.choice(
                ("execute", "arguments", "id", "exec-oob", "foo", "command", "Execute")
            )
            if key in request and self._often(0.3):
                del request[key]
            else:
                request[key] = self._json_value(2)
        return request

    def _junk(self) -> Request:
        """Bytes that are no request, or not quite."""
        data = (
            _qmp("object-del", {"id": self._name(BACKENDS)})
            if self._often(0.3)
            else _shown(self.command()).data
        )
        what = self.randrange(5)
        if what == 0:
            data = data[: self.randrange(len(data))]
        elif what == 1:
            at = self.randrange(len(data))
            stray = self.choice(
                (b"\xff", b"\0", b"'", b'"', b"{", b"}", b"[", b",", b":", b"\\", b"x", b"\n")
            )
            data = data[:at] + stray + data[at + 1 :]
        elif what == 2:
            letters = b"{}[]:,\"'\\ \n\t019eE+-.abtruefalsn%\x00\x7f\x80\xc3\xa9\xfe\xff"
            data = bytes(self.choices(letters, k=self.randrange(1, 40)))
        elif what == 3:
            data = self.choice(CURIOSITIES)
        else:
            data = data.replace(b'"', b"'")
        return Request(data + RESYNC, f"QMP {data[:200]!r}")


def _qmp(command: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode()


def _shown(request: dict[str, Any]) -> Request:
    data = json.dumps(request).encode()
    return Request(data, f"QMP {data.decode()}")
