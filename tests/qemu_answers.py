"""What may differ between a real QEMU's answers and ours, and how answers are compared.

Order is not compared where QEMU's is that of a hash table: members of objects, lists of objects and
of their properties, and which of several faults of a request is named. Every other kind of
difference has a check of its own, which says what exactly may differ and how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from monitor_grammar import Request

Ask = Callable[[bytes], list[bytes]]  # sends a request, returns the replies

# Nested too deep for Python's own JSON; see monitor_grammar.DEEP.
_DEEP = re.compile(rb"\[{100,}\]{100,}")

# ---- order


def without_order(value: Any) -> Any:
    """Return a reply, or what stands in one, with its unordered lists sorted."""
    if isinstance(value, dict):
        return {key: without_order(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [without_order(item) for item in value]
        named = all(isinstance(item, dict) and _unordered(item) for item in items)
        return sorted(items, key=json.dumps) if named else items
    if isinstance(value, str):
        value = backends_sorted(value)
        lines = value.split("\r\n")
        if lines[0] == "type (string)":
            return sorted(lines)
    return value


def backends_sorted(text: str, end: str = "\r\n") -> str:
    """Return text with the backends that `info memdev` prints sorted.

    :param end: the end of a line.
    """
    backend = rf"memory backend: [^ ]*{end}(?:  [^{end}]*{end})+"
    return re.sub(rf"(?:{backend})+", lambda m: "".join(sorted(re.findall(backend, m[0]))), text)


def _unordered(item: dict[str, Any]) -> bool:
    """Whether it is a property of qom-list, or a backend of query-memdev."""
    return set(item) == {"name", "type"} or {"id", "policy"} <= set(item)


def comparable(replies: bytes) -> list[Any]:
    """Return replies as they are compared."""
    lines = _DEEP.sub(b'"deep"', replies).splitlines()
    return [without_order(json.loads(line)) for line in lines]


def _reordered(data: bytes) -> Iterator[bytes]:
    """Yield the request with each of its members, arguments or options put first in turn."""
    try:
        request = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return
    if not isinstance(request, dict):
        return
    for key in request:
        yield json.dumps({key: request[key], **request}).encode()
    arguments = request.get("arguments")
    if not isinstance(arguments, dict):
        return
    for key in arguments:
        first = {**request, "arguments": {key: arguments[key], **arguments}}
        yield json.dumps(first).encode()
    line = arguments.get("command-line")
    if isinstance(line, str):
        for other in options_reordered(line):
            yield json.dumps({**request, "arguments": {"command-line": other}}).encode()


def options_reordered(line: str) -> Iterator[str]:
    """Yield a line of HMP with each of its options put first in turn."""
    head, *options = line.split(",")
    for option in options:
        yield ",".join((head, option, *(other for other in options if other != option)))


def _is_refusal(reply: Any) -> bool:
    said = reply.get("return")
    return "error" in reply or (isinstance(said, str) and said.startswith("Error: "))


def names_another_fault(request: Request, real: list[Any], ask: Ask) -> bool:
    """Return whether ours gives QEMU's answer when another part of the request comes first."""
    if len(real) != 1 or not _is_refusal(real[0]):
        return False
    return any(comparable(b"".join(ask(data))) == real for data in _reordered(request.data))


# ---- kinds of differences


class Difference(NamedTuple):
    """A kind of difference: its name, why it is there, and what makes one answer of QEMU's replies
    ours.

    `ours_of` is given the request, QEMU's replies and ours, and returns what ours should be if that
    is all that differs.
    """

    name: str
    why: str
    ours_of: Callable[[Request, bytes, bytes], bytes]


def _renamed(_: Request, real: bytes, our: bytes) -> bytes:
    """QEMU's own version in place of the package of ours."""
    packages = re.findall(rb'"package": "[^"]*"|7\.2\.22[^"\\]*', our)
    return re.sub(
        rb'"package": "[^"]*"|7\.2\.22[^"\\]*', lambda _: packages[0] if packages else b"", real
    )


def _running(_: Request, real: bytes, our: bytes) -> bytes:
    stopped = b'"status": "prelaunch", "singlestep": false, "running": false'
    real = real.replace(stopped, b'"status": "running", "singlestep": false, "running": true')
    return real.replace(b"VM status: paused (prelaunch)", b"VM status: running")


def _cpus(_: Request, real: bytes, our: bytes) -> bytes:
    entry = b", ".join(
        re.findall(rb'\{"source": 0, "status": 0, "slot": "\d+", "slot-type": "CPU"\}', our)
    )
    return real.replace(b'"return": []', b'"return": [%s]' % entry).replace(
        b'"DIMM"}]', b'"DIMM"}, %s]' % entry
    )


def _fewer_lines(_: Request, real: bytes, our: bytes) -> bytes:
    """Of lists of what there is, only the lines that ours have."""
    start, end = b'{"return": "', b'"}\r\n'
    if not (
        real.startswith(
            (
                start + b"List of user creatable objects:",
                start + b"info balloon",
                start + b"announce_self",
            )
        )
    ):
        return real
    lines = our[len(start) : -len(end)].split(b"\\r\\n")
    return (
        start
        + b"\\r\\n".join(
            line for line in real[len(start) : -len(end)].split(b"\\r\\n") if line in lines
        )
        + end
    )


def _objects(_: Request, real: bytes, our: bytes) -> bytes:
    real = real.replace(b', {"name": "chardevs", "type": "child<container>"}', b"")
    return real.replace(b"\\r\\nchardevs (child<container>)", b"")


def _machine(_: Request, real: bytes, our: bytes) -> bytes:
    return _objects(_, real.replace(b"pc-i440fx-7.2-machine", b"pc-q35-7.2-machine"), our)


def _pci(_: Request, real: bytes, our: bytes) -> bytes:
    """Of the lists of a virtio-mem device's properties, only what ours have; and its PCI address is
    not known.
    """
    if b"Property 'virtio-mem-pci.addr' not found" in our:
        return our
    for parts in (rb'\{"name": "[^"]*", "type": "[^"]*"\}', rb'[^"\\]+\\r\\n'):
        listed = re.findall(parts, real)
        if any(b"x-disable-pcie" in part or b"notify_on_empty" in part for part in listed):
            between = b", " if listed[0].startswith(b"{") else b""
            kept = between.join(part for part in listed if part in re.findall(parts, our))
            return real.replace(between.join(listed), kept)
    return real


def _commands(_: Request, real: bytes, our: bytes) -> bytes:
    """Only of those that a line cut short can be."""
    unknown = (
        b'{"return": "unknown command: \'%s\'\\r\\n"}\r\n' % name
        for name in (b"info mem", b"i", b"o")
    )
    return our if our in unknown else real


KINDS = (
    Difference("version", "the package is ours", _renamed),
    Difference("status", "QEMU was started with -S, ours runs", _running),
    Difference(
        "CPUs of query-acpi-ospm-status", "they come when the guest's firmware has run", _cpus
    ),
    Difference("objects", "QEMU's root also has the connections of its monitors", _objects),
    Difference(
        "machine type",
        "ours is a q35; where PCI devices are plugged it is a pc, whose bus need not be named",
        _machine,
    ),
    Difference("PCI", "what a PCI device has beside its memory is not here", _pci),
    Difference(
        "commands", "QEMU has `info mem`, about page tables, `i` and `o` for ports", _commands
    ),
    Difference("help", "QEMU has objects and devices that are not memory", _fewer_lines),
)


def compare(request: Request, real: bytes, our: bytes, ask: Ask) -> str | None:
    """Return None when the answers are the same but for order.

    Otherwise the kind of difference, "" for one nobody has explained.

    :param ask: asks ours again.
    """
    ours = comparable(our)
    if comparable(real) == ours:
        return None
    for kind in KINDS:
        if comparable(kind.ours_of(request, real, our)) == ours:
            return kind.name
    if (
        len(ours) == 1
        and _is_refusal(ours[0])
        and names_another_fault(request, comparable(real), ask)
    ):
        return "several faults"
    return ""
