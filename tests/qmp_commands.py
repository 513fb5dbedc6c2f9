"""Generated commands of QMP, good and bad: see monitor_grammar.py."""

from __future__ import annotations

import re
from typing import Any

from monitor_words import (
    ADDRESSES,
    BACKENDS,
    BAD_SIZES,
    COMMON_KEYS,
    COSTLY,
    DEVICES,
    DIMM_KEYS,
    FILE,
    FILE_KEYS,
    MEMFD,
    MEMFD_KEYS,
    MIB,
    QUERIES,
    SIZES,
    Words,
)


class QmpCommands(Words):
    """Commands of QMP from a seed."""

    def command(self) -> dict[str, Any]:
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
