"""Commands for a monitor, good and bad, from a seed: what people, programs and fuzzers type about
memory.

    Grammar(seed).requests(300) -> [Request, ...]

The names come from small pools, so that commands meet: an object is made twice, used twice, deleted
while in use. Half of the commands are such as should work, the rest have a value, an argument or a
character that should not be there. A request is bytes for a QMP connection that has negotiated; a
line of HMP goes by human-monitor-command. After any of them them the connection is in order again:
what may have begun a message without end is followed by what ends any.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: Ends whatever JSON has begun. How it is answered depends on what that was.
RESYNC = b"\n\xff\n]}\xff\n"

BACKENDS = ("m0", "m1", "m2", "m3", "m4", "m5")
DEVICES = ("d0", "d1", "d2", "d3")
BAD_NAMES = ("", "0x", "a b", "m0,", "é", "m/0", "-", "x" * 200, "nope", "pc.ram", "m0[0]", "d9")
RAM, FILE, MEMFD = "memory-backend-ram", "memory-backend-file", "memory-backend-memfd"
TYPES = (RAM, RAM, RAM, RAM, MEMFD, FILE)
BAD_TYPES = ("memory-backend", "container", "nope", "", "object")
MIB = 1 << 20
SIZES = (
    128 * MIB,
    128 * MIB,
    256 * MIB,
    512 * MIB,
    1024 * MIB,
    2 * MIB,
    100 * MIB,
    3 * MIB,
    4096,
    1,
    12345,
)
BAD_SIZES = (0, 1 << 47, 1 << 63, 1 << 64)  # QEMU itself aborts at those just below 1 << 64
SIZE_TEXTS = (
    "128M",
    "128M",
    "256M",
    "1G",
    "512M",
    "0.5G",
    "2M",
    "0x8000000",
    "1k",
    "010M",
    "1b",
    "4096",
    "1.5M",
    "+2M",
    "2m",
)
BAD_SIZE_TEXTS = ("0", "", "-1", "1X", "1MB", "1e9", "1.5", "0x1G", "16E", "99999999999999999999", " 1M", "1M ", "1..5M", "k",
                  "0x")  # fmt: skip
COMMON_KEYS = ("share", "merge", "dump", "reserve", "prealloc-threads", "policy", "host-nodes", "prealloc",
               "x-use-canonical-path-for-ramblock-id", "prealloc-context")  # fmt: skip
FILE_KEYS = ("mem-path", "align", "discard-data", "pmem", "readonly")
MEMFD_KEYS = ("hugetlb", "hugetlbsize", "seal")
# have QEMU touch all of the memory, and need huge pages of the host: never on
COSTLY = ("prealloc", "hugetlb")
# Not "realized": at that, QEMU aborts.
DIMM_KEYS = ("node", "slot", "addr", "memdev", "bus", "size", "hotplugged", "type", "foo")
WORDS = ("on", "off", "yes", "no", "true", "false", "y", "n", "ON", "1", "", "maybe")
NUMBERS = ("0", "1", "2", "3", "-1", "-2", "4", "7", "0x2", "010", "4294967295", "4294967296", "9223372036854775808", "x", "",
           "1.0", " 1", "1 ", "18446744073709551615", "18446744073709551616", "--1", "+1", "08")  # fmt: skip
ADDRESSES = ("0x100000000", "0x108000000", "0x140000000", "4294967296", "0x100000001", "0x100200000", "0", "0x200000",
             "0x7fffffe00000", "0xfffffffffffe0000", "-0x200000", "0x2c0000000", "0x300000000")  # fmt: skip
DIMM_PROPERTIES = ("node", "slot", "addr", "memdev", "realized", "size", "hotplugged", "hotpluggable", "type", "parent_bus",
                   "legacy-memdev", "nope", "")  # fmt: skip
VIRTIO_OPTIONS = {
    "requested-size": ("0", "2M", "128M", "64M", "1G", "4M", "6M", "3M", "1M"),
    "block-size": ("2M", "4M", "128M", "1M", "3M", "512k", "0", "1G"),
    "memaddr": ADDRESSES,
    "node": ("0", "0", "1"),
    "unplugged-inaccessible": ("on", "off", "auto"),
    "prealloc": ("off",),
}
VIRTIO_PROPERTIES = ("requested-size", "size", "block-size", "memaddr", "node", "memdev", "unplugged-inaccessible", "type",
                     "hotplugged", "realized", "nope")  # fmt: skip
TOPICS = (
    "memory-devices",
    "memory_size_summary",
    "memdev",
    "numa",
    "status",
    "name",
    "version",
    "hotpluggable-cpus",
)
QUERIES = ("query-memory-devices", "query-memory-size-summary", "query-memdev", "query-acpi-ospm-status", "query-status",
           "query-name", "query-version", "query-hotpluggable-cpus")  # fmt: skip
VERBS = (
    "device_add",
    "device_del",
    "object_add",
    "object_del",
    "info",
    "help",
    "qom-list",
    "qom-get",
    "qom-set",
)
COMMANDS = (*QUERIES, "object-add", "object-del", "device_add", "device_del", "qom-list", "qom-get", "qom-set",
            "human-monitor-command", "qmp_capabilities")  # fmt: skip


DEEP = b"[" * 1000 + b"]" * 1000
NONSENSE = (
    "", " ", "/", "!", "nope", "nope x y", "info nope", "info memory", "object", "dev", "device_add", "device_del", "object_add",
    "object_del", "qom-get", "qom-set /objects", "qom-get /objects", "object_add help", "object_add memory-backend-ram,help",
    "object_add memory-backend-memfd,?", "object_add memory-backend-file,help", "device_add pc-dimm,help", "\t info numa",
    'object_del "m0"', 'device_del "d0', 'object_del "m\\q"', "object_del m0 m1", "info/numa", "Info numa", "device-add",
    "object_del  m1 ", "query-memdev", "device_add nope,help", "object_add nope,help", "é", "x" * 300,
)  # fmt: skip
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


class Grammar(random.Random):
    """Requests from a seed.

    :param files: existing paths and paths to be for memory-backend-file.
    :param virtio: with virtio-mem devices.
    """

    def __init__(
        self, seed: int, files: Sequence[str] = ("/nonexistent/file",), virtio: bool = False
    ) -> None:
        super().__init__(seed)
        self._files = files
        self._virtio = virtio

    def requests(self, count: int) -> list[Request]:
        """That many."""
        return [self._request() for _ in range(count)]

    def _request(self) -> Request:
        kind = self.choices(("hmp", "qmp", "wrong member", "junk"), (45, 40, 10, 5))[0]
        if kind == "hmp":
            line = self._line()
            return Request(_qmp("human-monitor-command", {"command-line": line}), f"HMP {line!r}")
        if kind == "qmp":
            request = self._command()
            if self._often(0.3):
                request["id"] = self._json_value(2)
            return _shown(request)
        if kind == "wrong member":
            return _shown(self._wrong_members(self._command()))
        return self._junk()

    def _often(self, share: float) -> bool:
        return self.random() < share

    # --------------------------------------------------------------------------------------- values

    def _name(self, pool: Sequence[str]) -> str:
        return self.choice(pool if self._often(0.93) else BAD_NAMES)

    def _type(self) -> str:
        return self.choice(TYPES if self._often(0.95) else BAD_TYPES)

    def _path(self) -> str:
        backend, device = self._name(BACKENDS), self._name(DEVICES)
        inner = (f"{device}/virtio-backend", device) if self._virtio else ()
        path: str = self.choice((
            "/", "/objects", "/machine/peripheral", "/machine/peripheral-anon", "objects", "peripheral", "/nope", "",
            "//objects", "/objects/", "/machine/peripheral-anon/device[0]", "peripheral-anon/device[1]", backend,
            f"/objects/{backend}", f"/objects/{backend}", *inner,
            f"/machine/peripheral/{device}", f"/machine/peripheral/{device}", device, f"/machine/peripheral/{device}/memdev",
            f"/objects/{backend}/{backend}[0]", f"peripheral/{device}", f"objects/{backend}", f"{device}/memdev",
        ))  # fmt: skip
        return path

    def _property(self) -> str:
        if self._virtio and self._often(0.5):
            return self.choice(VIRTIO_PROPERTIES)
        if self._often(0.5):
            return self.choice((*COMMON_KEYS, "size", *FILE_KEYS, *MEMFD_KEYS))
        return self.choice(DIMM_PROPERTIES)

    def _json_value(self, depth: int = 1) -> Any:
        kind = self.randrange(9 if depth else 7)
        if kind == 7:
            return [self._json_value(depth - 1) for _ in range(self.randrange(3))]
        if kind == 8:
            names = ("a", "id", "execute", "é", "size", "x-y", "")
            return {
                self.choice(names): self._json_value(depth - 1) for _ in range(self.randrange(3))
            }
        return self.choice(
            (
                None,
                True,
                False,
                0,
                1,
                -1,
                1 << 31,
                (1 << 63) - 1,
                1 << 63,
                -(1 << 63),
                (1 << 64) - 1,
                1.5,
                1e300,
                0.1,
                -0.0,
            )
            if kind < 3
            else (
                "",
                "m0",
                "d0",
                "on",
                "1",
                "é\u20ac\U0001f600",
                'q"\\\b\f\n\r\t\x01\x7f',
                "memory-backend-ram",
            )
        )

    def _key_value(self, key: str) -> str:
        """A value for a key of object_add, as text."""
        if key in ("prealloc-threads", "hugetlbsize", "align"):
            return self.choice((*NUMBERS, "2M", "4096", "3000", "8192"))
        if key == "policy":
            return self.choice(("default", "bind", "preferred", "interleave", "nope", ""))
        if key == "host-nodes":
            return self.choice(NUMBERS)
        if key == "mem-path":
            return self.choice(self._files)
        if key == "prealloc-context":
            return self.choice(("", "nope", *BACKENDS))
        if key in COSTLY:
            return "off"
        return self.choice(WORDS)

    # ------------------------------------------------------------------------------------------ HMP

    def _line(self) -> str:
        kinds: tuple[Callable[[], str], ...] = (
            self._object_add, self._device_add, self._short, self._qom, self._info, self._help, self._nonsense,
        )  # fmt: skip
        line: str = self.choices(kinds, (24, 22, 16, 14, 14, 5, 5))[0]()
        if self._often(0.06):
            line = self._damaged(line)
        return line

    def _object_add(self) -> str:
        kind = self._type()
        parts = [f"id={self._name(BACKENDS)}"]
        if self._often(0.95):
            parts.append(f"size={self.choice(SIZE_TEXTS if self._often(0.85) else BAD_SIZE_TEXTS)}")
        keys = [
            *COMMON_KEYS,
            *(FILE_KEYS if kind == FILE else ()),
            *(MEMFD_KEYS if kind == MEMFD else ()),
        ]
        if kind == FILE and self._often(0.9):
            parts.append(f"mem-path={self.choice(self._files)}")
        for key in self.sample(keys, self.choice((0, 0, 0, 1, 1, 2))):
            at = (
                self.choice(("", "", "", ".0", ".1", ".a"))
                if key == "host-nodes" or self._often(0.03)
                else ""
            )
            parts.append(f"{key}{at}={self._key_value(key)}")
        if self._often(0.05):
            parts.append(
                self.choice(
                    (
                        "foo=1",
                        "",
                        "share",
                        "noshare",
                        "help",
                        "?",
                        "size",
                        "id=m0",
                        "size=2M",
                        "0=1",
                        "a b=1",
                    )
                )
            )
        self.shuffle(parts)
        head = kind if self._often(0.95) else f"qom-type={kind}"
        return (
            f"object_add {','.join([head, *parts])}"
            if self._often(0.97)
            else f"object_add {','.join(parts)}"
        )

    def _virtio_add(self) -> dict[str, str]:
        """Options of a virtio-mem-pci as text, id and memdev too."""
        options = {"memdev": self._name(BACKENDS), "id": self._name(DEVICES)}
        for key in self.sample(list(VIRTIO_OPTIONS), self.choice((0, 1, 1, 2, 3))):
            options[key] = self.choice(
                VIRTIO_OPTIONS[key] if self._often(0.8) else (*NUMBERS, *BAD_SIZE_TEXTS, *WORDS)
            )
        if self._often(0.1):
            del options[self.choice(list(options))]
        return options

    def _device_add(self) -> str:
        if self._virtio and self._often(0.6):
            options = list(self._virtio_add().items())
            self.shuffle(options)
            return ",".join(
                ["device_add virtio-mem-pci", *(f"{key}={value}" for key, value in options)]
            )
        parts = [f"memdev={self._name(BACKENDS)}"] if self._often(0.95) else []
        if self._often(0.85):
            parts.append(f"id={self._name(DEVICES)}")
        for key in self.sample(("node", "slot", "addr"), self.choice((0, 0, 1, 1, 2, 3))):
            good = {"node": ("0", "0", "1"), "slot": ("0", "1", "2", "3"), "addr": ADDRESSES}[key]
            parts.append(f"{key}={self.choice(good if self._often(0.8) else NUMBERS)}")
        if self._often(0.06):
            key = self.choice(DIMM_KEYS)
            parts.append(f"{key}={self.choice((*WORDS, *NUMBERS))}")
        if self._often(0.04):
            parts.append(
                self.choice(
                    ("foo", "nofoo", "", "slot", "noslot", "id", "memdev", "help", "memdev=")
                )
            )
        self.shuffle(parts)
        driver = (
            "pc-dimm"
            if self._often(0.95)
            else self.choice(("nvdimm", "nope", "driver=pc-dimm", "", "memory-backend-ram"))
        )
        return f"device_add {','.join([driver, *parts] if self._often(0.98) else parts)}"

    def _short(self) -> str:
        if self._often(0.5):
            return f"object_del {self._name(BACKENDS)}"
        target = self._name(DEVICES) if self._often(0.8) else self._path()
        return f"device_del {target}"

    def _qom(self) -> str:
        verb = self.choice(("qom-list", "qom-get", "qom-get", "qom-set"))
        line = f"{verb} {self._path()}"
        if verb != "qom-list":
            name = self._property()
            line += f" {name}"
            if verb == "qom-set" and self._virtio and self._often(0.5):
                line = (
                    f"qom-set {self._name(DEVICES)} requested-size"
                    f" {self.choice((*SIZE_TEXTS, *BAD_SIZE_TEXTS, *NUMBERS))}"
                )
            elif verb == "qom-set":
                value = (
                    "off"
                    if name in COSTLY
                    else self.choice((*WORDS, *NUMBERS, *SIZE_TEXTS, "0-3,7", "bind", "m0"))
                )
                line += f" {value}"
                if name not in COSTLY and self._often(0.2):
                    value = self.choice(
                        ('"x"', "1", "[0,1]", "{", "true", "null", "'a'", "[1", '{"a": 1}', "1.5")
                    )
                    line = f"qom-set -j {self._path()} {name} {value}"
        return line

    def _info(self) -> str:
        return f"info {self.choice(TOPICS)}{self.choice(('', '', '', '', ' ', ' x', '/x'))}"

    def _help(self) -> str:
        topics = (f"info {topic}" for topic in (*TOPICS, "nope"))
        return f"{self.choice(('help', '?'))} {self.choice((*VERBS, *topics, 'nope'))}"

    def _nonsense(self) -> str:
        return self.choice(NONSENSE)

    def _damaged(self, text: str) -> str:
        """With a character changed, or cut short; not within the first word, for `q` is to quit and
        `o` writes to ports.
        """
        at = self.randrange(4, max(len(text) + 1, 5))
        if self._often(0.3):
            return text[:at]
        stray: str = self.choice((*" ,=\"'\\./\t[]{}0-é", ""))
        return text[:at] + stray + text[at + self.randrange(2) :]

    # ------------------------------------------------------------------------------------------ QMP

    def _command(self) -> dict[str, Any]:
        name = self.choices(
            (
                "object-add",
                "device_add",
                "object-del",
                "device_del",
                "qom-list",
                "qom-get",
                "qom-set",
                "query",
                "other",
            ),
            (22, 22, 9, 9, 5, 9, 6, 13, 5),
        )[0]
        if name == "query":
            return {"execute": self.choice(QUERIES)}
        if name == "other":
            return {
                "execute": self.choice(
                    (
                        "nope",
                        "",
                        "query",
                        "Query-name",
                        "query_name",
                        "qmp_capabilities",
                        "device-add",
                    )
                )
            }
        arguments = getattr(self, f"_qmp_{name.replace('-', '_')}")()
        if self._often(0.12):
            arguments = self._damaged_arguments(arguments)
        return {"execute": name, "arguments": arguments}

    def _damaged_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        what = self.randrange(3)
        if what == 0 and arguments:
            del arguments[self.choice(list(arguments))]
        elif what == 1 and arguments:
            key = self.choice(list(arguments))
            arguments[key] = False if key in COSTLY else self._json_value(2)
        else:
            arguments[self.choice(("foo", "id", "x", "driver", "qom-type", "props"))] = (
                self._json_value(1)
            )
        return arguments

    def _qmp_object_add(self) -> dict[str, Any]:
        kind = self._type()
        arguments: dict[str, Any] = {"qom-type": kind, "id": self._name(BACKENDS)}
        arguments["size"] = (
            self.choice(SIZES) if self._often(0.9) else self.choice((*BAD_SIZES, "1M", 1.5, None))
        )
        if kind == FILE and self._often(0.9):
            arguments["mem-path"] = self.choice(self._files)
        keys = [
            *COMMON_KEYS,
            *(FILE_KEYS if kind == FILE else ()),
            *(MEMFD_KEYS if kind == MEMFD else ()),
        ]
        for key in self.sample(keys, self.choice((0, 0, 1, 1, 2))):
            good: Any = self.choice((True, False))
            if key in ("prealloc-threads", "hugetlbsize", "align"):
                good = self.choice((0, 1, 2, 4096, 2 * MIB, 3000, 1 << 32, -1))
            elif key == "policy":
                good = self._key_value(key)
            elif key == "host-nodes":
                good = self.choice(
                    ([], [0], [0, 1], [3, 0], [127], [128], [70000], [-1], ["0"], [None], 0)
                )
            elif key in ("mem-path", "prealloc-context"):
                good = self._key_value(key)
            elif key in COSTLY:
                good = False
            arguments[key] = good if key in COSTLY or self._often(0.9) else self._json_value(1)
        if isinstance(arguments.get("mem-path"), str):  # QEMU makes a file of any other name
            arguments["mem-path"] = self.choice(self._files)
        return arguments

    def _qmp_device_add(self) -> dict[str, Any]:
        if self._virtio and self._often(0.6):
            given: dict[str, Any] = {"driver": "virtio-mem-pci", **self._virtio_add()}
            return given | {
                key: int(value)
                for key, value in given.items()
                if re.fullmatch("[1-9][0-9]*", value)
            }
        arguments: dict[str, Any] = {
            "driver": (
                "pc-dimm" if self._often(0.95) else self.choice(("nvdimm", "nope", "", 5, None))
            )
        }
        if self._often(0.95):
            arguments["memdev"] = self._name(BACKENDS)
        if self._often(0.85):
            arguments["id"] = self._name(DEVICES)
        for key in self.sample(("node", "slot", "addr"), self.choice((0, 0, 1, 1, 2, 3))):
            if key == "addr":
                value: Any = int(self.choice(ADDRESSES), 0)
            else:
                value = self.choice((0, 0, 1, 2, 3, -1, 4, 1 << 31, 1 << 32, 1.5, 2.0))
            arguments[key] = value if self._often(0.8) else self._json_value(1)
        if self._often(0.06):
            arguments[self.choice(DIMM_KEYS)] = self._json_value(1)
        return arguments

    def _qmp_object_del(self) -> dict[str, Any]:
        return {"id": self._name(BACKENDS)}

    def _qmp_device_del(self) -> dict[str, Any]:
        return {"id": self._name(DEVICES) if self._often(0.8) else self._path()}

    def _qmp_qom_list(self) -> dict[str, Any]:
        return {"path": self._path()}

    def _qmp_qom_get(self) -> dict[str, Any]:
        return {"path": self._path(), "property": self._property()}

    def _qmp_qom_set(self) -> dict[str, Any]:
        if self._virtio and self._often(0.5):
            size = self.choice((*SIZES, *BAD_SIZES)) if self._often(0.9) else self._json_value(1)
            return {"path": self._name(DEVICES), "property": "requested-size", "value": size}
        name = self._property()
        value = False if name in COSTLY else self._json_value(2)
        if name == "host-nodes" and self._often(0.5):
            value = self.choice(([], [0], [0, 1], [3, 0, 3], [127], [128], ["0"]))
        return {"path": self._path(), "property": name, "value": value}

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
            else _shown(self._command()).data
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
