"""Generated lines of HMP, good and bad: see monitor_grammar.py."""

from __future__ import annotations

from collections.abc import Callable

from monitor_words import (
    ADDRESSES,
    BACKENDS,
    BAD_SIZE_TEXTS,
    COMMON_KEYS,
    COSTLY,
    DEVICES,
    DIMM_KEYS,
    FILE,
    FILE_KEYS,
    MEMFD,
    MEMFD_KEYS,
    NUMBERS,
    SIZE_TEXTS,
    TOPICS,
    VERBS,
    WORDS,
    Words,
)

NONSENSE = (
    "", " ", "/", "!", "nope", "nope x y", "info nope", "info memory", "object", "dev", "device_add", "device_del", "object_add",
    "object_del", "qom-get", "qom-set /objects", "qom-get /objects", "object_add help", "object_add memory-backend-ram,help",
    "object_add memory-backend-memfd,?", "object_add memory-backend-file,help", "device_add pc-dimm,help", "\t info numa",
    'object_del "m0"', 'device_del "d0', 'object_del "m\\q"', "object_del m0 m1", "info/numa", "Info numa", "device-add",
    "object_del  m1 ", "query-memdev", "device_add nope,help", "object_add nope,help", "é", "x" * 300,
)  # fmt: skip


class HmpLines(Words):
    """Lines of HMP from a seed."""

    def line(self) -> str:
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
