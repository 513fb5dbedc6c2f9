"""What a schema, as query-qmp-schema returns it, says: types written out, and whether a value is of
a type.

Made for tests, from QEMU's documentation of introspection; it knows nothing of how fakesysfs makes
its schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON_TYPES = {
    "string": str,
    "int": int,
    "boolean": bool,
    "number": float,
    "null": type(None),
    "value": object,
}


class Schema:
    """The entries of a schema by name."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self.entries = {entry["name"]: entry for entry in entries}
        assert len(self.entries) == len(entries), "two entries of one name"

    def named(self, *meta_types: str) -> list[str]:
        """Names of the entries of these kinds, in order."""
        return [name for name, entry in self.entries.items() if entry["meta-type"] in meta_types]

    def references(self, name: str) -> Iterator[str]:
        """The types an entry speaks of."""
        entry = self.entries[name]
        yield from (entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry)
        if entry["meta-type"] in ("object", "alternate"):
            yield from (member["type"] for member in entry["members"])
            yield from (variant["type"] for variant in entry.get("variants", ()))

    def written_out(self, name: str) -> Any:
        """An entry with types in place of their names; the names themselves, which mean nothing,
        are left out.
        """
        entry = dict(self.entries[name])
        if entry["meta-type"] not in ("command", "event", "builtin"):
            del entry["name"]
        for key in ("arg-type", "ret-type", "element-type"):
            if key in entry:
                entry[key] = self.written_out(entry[key])
        if entry["meta-type"] in ("object", "alternate"):
            for key in ("members", "variants"):
                if key in entry:
                    entry[key] = [
                        item | {"type": self.written_out(item["type"])} for item in entry[key]
                    ]
        return entry

    def complaints(self, name: str, value: Any, where: str = "") -> list[str]:
        """Where and why a value is not of the type `name`."""
        entry = self.entries[name]
        kind = entry["meta-type"]
        if kind == "builtin":
            fits = isinstance(value, JSON_TYPES[entry["json-type"]])
            if isinstance(value, bool) and entry["json-type"] in ("int", "number"):
                fits = False
            return [] if fits else [f"{where}: {value!r} is no {name}"]
        if kind == "enum":
            return (
                []
                if value in entry["values"]
                else [f"{where}: {value!r} is none of {entry['values']}"]
            )
        if kind == "array":
            if not isinstance(value, list):
                return [f"{where}: {value!r} is no list"]
            return [
                c
                for i, item in enumerate(value)
                for c in self.complaints(entry["element-type"], item, f"{where}[{i}]")
            ]
        assert kind == "object"
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        members = list(entry["members"])
        for variant in entry.get("variants", ()):
            if variant["case"] == value.get(entry["tag"]):
                members += self.entries[variant["type"]]["members"]
        types = {member["name"]: member["type"] for member in members}
        wrong = [
            f"{where}: {m['name']} is missing"
            for m in members
            if "default" not in m and m["name"] not in value
        ]
        wrong += [f"{where}: {key} is unexpected" for key in value if key not in types]
        for key in types.keys() & value.keys():
            wrong += self.complaints(types[key], value[key], f"{where}.{key}")
        return wrong
