"""How the value of a property is read: JSON that a program sent, or words that a person typed.

Owns: the types that properties are declared with, and QEMU's words for a value that is none of the
type. Each form of input has a reader; all that is below the monitors has typed values. Does not
own: which properties there are (backends.py, dimm.py, virtio_mem.py), and the grammar of numbers
and sizes (qemu_text.py).

    JsonReader      QMP: {"size": 536870912, "share": true}
    OptionReader    object_add and device_add: size=512M,share=on
    WordReader      qom-set of HMP: requested-size 512M

The types are bool, str, size, uint32, uint64, int32, OnOffAuto, and "uint16s", a list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from ..errors import MonitorError
from .qemu_text import Warn, is_identifier, is_size_too_large, parse_integer, parse_size

__all__ = [
    "HintedError",
    "JsonReader",
    "OptionReader",
    "ValueReader",
    "WordReader",
    "check_identifier",
    "expects",
    "invalid_type",
    "not_found",
    "option_text",
    "unexpected_argument",
]

_U64: Final = (1 << 64) - 1
_BOOLS: Final = {
    "on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False,
}  # fmt: skip
#: What a property may say whose type is an enumeration.
_ENUMERATIONS: Final = {
    "HostMemPolicy": ("default", "preferred", "bind", "interleave"),
    "OnOffAuto": ("on", "off", "auto"),
}


class HintedError(MonitorError):
    """An error to which QEMU adds a line of advice that only people see.

    :param hint: the line.
    """

    def __init__(self, desc: str, hint: str) -> None:
        super().__init__(desc)
        self.hint = hint


def invalid_type(name: str, expected: str) -> MonitorError:
    """Return the error of a parameter of another JSON type."""
    return MonitorError(f"Invalid parameter type for '{name}', expected: {expected}")


def expects(name: str, what: str) -> MonitorError:
    """Return the error of a parameter whose value is impossible."""
    return MonitorError(f"Parameter '{name}' expects {what}")


def not_found(name: str) -> MonitorError:
    """Return the error of a device or an object that does not exist."""
    return MonitorError(f"Device '{name}' not found", "DeviceNotFound")


def unexpected_argument(name: str) -> MonitorError:
    """Return the error of an argument that a command does not take."""
    return MonitorError(f"Parameter '{name}' is unexpected")


def check_identifier(name: str) -> None:
    """Raise MonitorError unless QEMU takes `name` as an ID."""
    if not is_identifier(name):
        raise HintedError(
            "Parameter 'id' expects an identifier",
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
        )


def option_text(value: object) -> str | None:
    """Return a JSON value as the text of an option; None for lists, objects and null.

    QEMU makes options of what device_add is given, so numbers and words are alike there.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return str(value)
    return f"{value:.17g}" if isinstance(value, float) else None


class ValueReader(ABC):
    """Reads values of one form of input."""

    def read(self, kind: str, name: str, value: Any) -> Any:
        """Return the value of property `name`, which is declared with the type `kind`.

        :raises MonitorError: it is of another type, in QEMU's words.
        """
        if kind == "uint16s":
            return sorted({self._uint16(*item) for item in self._items(name, value)})
        value = self._single(name, value)
        if kind == "bool":
            return self._bool(name, value)
        if kind == "size":
            return self._size(name, value)
        if kind in ("uint32", "uint64"):
            number = self._unsigned(name, value)
            if kind == "uint32" and number >> 32:
                raise expects(name, "uint32_t")
            return number
        if kind == "int32":
            return self._int32(name, value)
        if not isinstance(value, str):
            raise invalid_type(name, "string")
        if value not in _ENUMERATIONS.get(kind, (value,)):
            raise MonitorError(f"Parameter '{name}' does not accept value '{value}'")
        return value

    def _uint16(self, name: str, value: Any) -> int:
        number = self._unsigned(name, self._single(name, value))
        if number >> 16:
            raise expects("null", "uint16_t")  # QEMU has forgotten the name by then
        return number

    def _single(self, name: str, value: Any) -> Any:
        """Return `value`, which is to be no list."""
        return value

    @abstractmethod
    def _items(self, name: str, value: Any) -> list[tuple[str, Any]]:
        """Return the elements of a list, with their names."""

    @abstractmethod
    def _bool(self, name: str, value: Any) -> bool: ...

    @abstractmethod
    def _size(self, name: str, value: Any) -> int: ...

    @abstractmethod
    def _unsigned(self, name: str, value: Any) -> int:
        """Return a uint64; negative ones wrap, as in QEMU."""

    @abstractmethod
    def _int32(self, name: str, value: Any) -> int: ...


class JsonReader(ValueReader):
    """Reads JSON values."""

    def _items(self, name: str, value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, list):
            raise invalid_type(name, "array")
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]

    def _bool(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise invalid_type(name, "boolean")
        return value

    def _size(self, name: str, value: Any) -> int:
        return self._unsigned(name, value)

    def _unsigned(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value <= _U64:
            raise expects(name, "uint64")
        return value & _U64

    def _int32(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid_type(name, "integer")
        if not -(1 << 31) <= value < 1 << 31:
            raise expects(name, "int32_t")
        return value


class OptionReader(ValueReader):
    """Reads the values of options: text, and lists and mappings of text.

    :param warn: told what QEMU would warn of.
    """

    def __init__(self, warn: Warn | None = None) -> None:
        self._warn = warn

    def _single(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            raise MonitorError(f"Parameters '{name}.*' are unexpected")
        return value

    def _items(self, name: str, value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, list):
            raise invalid_type(name, "array")
        return [(f"{name}.{i}", item) for i, item in enumerate(value)]

    def _bool(self, name: str, value: Any) -> bool:
        if value not in _BOOLS:
            raise expects(name, "'on' or 'off'")
        return _BOOLS[value]

    def _size(self, name: str, value: Any) -> int:
        size = parse_size(value, self._warn)
        if size is None:
            raise expects(name, "size")
        return size

    def _unsigned(self, name: str, value: Any) -> int:
        number = parse_integer(value)
        if number is None or not -_U64 <= number <= _U64:
            raise expects(name, "integer")
        return number & _U64

    def _int32(self, name: str, value: Any) -> int:
        number = parse_integer(value)
        if number is None or not -(1 << 63) <= number < 1 << 63:
            raise expects(name, "integer")
        if not -(1 << 31) <= number < 1 << 31:
            raise expects(name, "int32_t")
        return number


class WordReader(OptionReader):
    """Reads the rest of a line of qom-set."""

    def _items(self, name: str, value: Any) -> list[tuple[str, Any]]:
        """Return the numbers of "0-2,5" as text."""
        items: list[tuple[str, Any]] = []
        for part in value.split(","):
            low = high = parse_integer(part)
            if low is not None and -_U64 <= low < 0:  # wrapped, as anywhere
                low = high = low & _U64
            elif low is None:
                first, _, last = part.partition("-")
                low, high = parse_integer(first), parse_integer(last)
            if low is None or high is None or not 0 <= low <= high <= min(_U64, low + 0xFFFF):
                # QEMU has forgotten the name by then
                raise expects("null", "list of uint64 values or ranges")
            items += [(name, str(number)) for number in range(low, high + 1)]
        return items

    def _size(self, name: str, value: Any) -> int:
        size = parse_size(value, self._warn)
        if size is None and is_size_too_large(value):
            raise MonitorError(f"Value '{value}' is out of range for parameter '{name}'")
        if size is None:
            raise HintedError(
                f"Parameter '{name}' expects a non-negative number below 2^64",
                "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand"
                " exabytes, respectively.",
            )
        return size

    def _unsigned(self, name: str, value: Any) -> int:
        number = parse_integer(value)
        if number is None or not -_U64 <= number <= _U64:
            raise expects(name, "uint64")
        return number & _U64
