"""Memory backends: memory of the host that a DIMM, or the machine's RAM, is made of.

Owns: the types of backends QEMU 7.2 has, their properties, what is checked when one is made or
changed, in QEMU's order and words, and the order in which it lists them. Nothing is allocated: the
host imagined here has all the memory one asks for. Does not own: which backends a machine has and
who uses them (board.py).

Sizes are bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterable, Mapping
from errno import EIO
from typing import Any, Final, NamedTuple

from ..errors import MonitorError
from .qemu_text import Warn, as_qemu_keeps, is_identifier, parse_integer, parse_size

__all__ = [
    "BACKEND_TYPES",
    "RAM_ALIGNMENT",
    "Backend",
    "HintedError",
    "ListingOrder",
    "check_identifier",
    "check_unexpected",
    "expects",
    "invalid_type",
    "make_backend",
    "object_help",
    "read_value",
    "unsigned",
]

# : RAM of the host comes in pieces of this alignment when QEMU allocates it, and so do addresses of
# DIMMs.
RAM_ALIGNMENT: Final = 0x200000
HOST_PAGE: Final = 0x1000
HUGE_PAGES: Final = (0x200000, 0x40000000)
#: A host process cannot map more: 47 bits of address space.
HOST_LIMIT: Final = 1 << 47
HOST_NODES: Final = 128

_U64: Final = (1 << 64) - 1


class HintedError(MonitorError):
    """An error to which QEMU adds a line of advice that only people see.

    :param hint: the line.
    """

    def __init__(self, desc: str, hint: str) -> None:
        super().__init__(desc)
        self.hint = hint


# ----------------------------------------------------------------------------------- reading values


class _Member(NamedTuple):
    """A member of an object's description: `kind` is one of the cases of read_value()."""

    name: str
    kind: str
    required: bool = False


#: What object-add takes, in the order in which QEMU looks at it
_COMMON: Final = (
    _Member("dump", "bool"),
    _Member("host-nodes", "uint16s"),
    _Member("merge", "bool"),
    _Member("policy", "policy"),
    _Member("prealloc", "bool"),
    _Member("prealloc-threads", "uint32"),
    _Member("prealloc-context", "str"),
    _Member("share", "bool"),
    _Member("reserve", "bool"),
    _Member("size", "size", required=True),
    _Member("x-use-canonical-path-for-ramblock-id", "bool"),
)
_TYPES: Final[Mapping[str, tuple[_Member, ...]]] = {
    "memory-backend-file": (
        *_COMMON,
        _Member("align", "size"),
        _Member("discard-data", "bool"),
        _Member("mem-path", "str", required=True),
        _Member("pmem", "bool"),
        _Member("readonly", "bool"),
    ),
    "memory-backend-memfd": (
        *_COMMON,
        _Member("hugetlb", "bool"),
        _Member("hugetlbsize", "size"),
        _Member("seal", "bool"),
    ),
    "memory-backend-ram": _COMMON,
}

BACKEND_TYPES: Final = tuple(_TYPES)

# : QOM properties of backends: type as qom-list shows it, and value when nobody gave one; in the
# order qom-list has
_COMMON_PROPERTIES: Final[Mapping[str, tuple[str, Any]]] = {
    "share": ("bool", False),
    "size": ("int", 0),
    "dump": ("bool", True),
    "prealloc-threads": ("int", 1),
    "x-use-canonical-path-for-ramblock-id": ("bool", False),
    "policy": ("HostMemPolicy", "default"),
    "prealloc-context": ("link<thread-context>", ""),
    "prealloc": ("bool", False),
    "reserve": ("bool", True),
    "host-nodes": ("int", []),
    "merge": ("bool", True),
}
_PROPERTIES: Final[Mapping[str, Mapping[str, tuple[str, Any]]]] = {
    "memory-backend-file": {
        **_COMMON_PROPERTIES,
        "readonly": ("bool", False),
        "align": ("int", 0),
        "pmem": ("bool", False),
        "mem-path": ("string", ""),
        "discard-data": ("bool", False),
    },
    "memory-backend-memfd": {
        **_COMMON_PROPERTIES,
        "share": ("bool", True),
        "hugetlb": ("bool", False),
        "seal": ("bool", True),
        "hugetlbsize": ("int", 0),
    },
    "memory-backend-ram": _COMMON_PROPERTIES,
}

# : What QEMU says of a property that cannot be changed once the memory is there; {} is the object's
# type
_FIXED: Final = {
    "share": "cannot change property value",
    "reserve": "cannot change property value",
    "size": "cannot change property size of {} ",
    "align": "cannot change property 'align' of {}",
    "mem-path": "cannot change property 'mem-path' of {}",
    "pmem": "cannot change property 'pmem' of {}.",
    "readonly": "cannot change property 'readonly' of {}.",
    "hugetlbsize": "cannot change property value",
}
#: Those of them that refuse before they look at the value
_FIXED_UNSEEN: Final = ("size", "align", "hugetlbsize")

_POLICIES: Final = ("default", "preferred", "bind", "interleave")
_BOOLS: Final = {
    "on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False,
}  # fmt: skip


def invalid_type(name: str, expected: str) -> MonitorError:
    """The error of a parameter of another JSON type."""
    return MonitorError(f"Invalid parameter type for '{name}', expected: {expected}")


def expects(name: str, what: str) -> MonitorError:
    """The error of a parameter with a value that cannot be."""
    return MonitorError(f"Parameter '{name}' expects {what}")


def unsigned(name: str, value: Any, text: bool) -> int:
    """A uint64, negative ones wrapped, as QEMU's visitors do. `text` as for read_value().

    :raises MonitorError: it is none.
    """
    if text:
        number = parse_integer(value)
        if number is None or not -_U64 <= number <= _U64:
            raise expects(name, "integer")
        return number & _U64
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value <= _U64:
        raise expects(name, "uint64")
    return value & _U64


def read_value(kind: str, name: str, value: Any, text: bool, warn: Warn | None = None) -> Any:
    """The value of a member.

    :param kind: bool, str, size, uint32, uint16s or policy.
    :param text: the value is a string, or a list or mapping of them, as key=value,... gives them;
        else it is JSON.
    :raises MonitorError: it is of another type, in QEMU's words.
    """
    if kind == "uint16s":
        if not isinstance(value, list):
            raise invalid_type(name, "array")
        return sorted(
            {
                _uint16(f"{name}.{i}" if text else f"{name}[{i}]", x, text)
                for i, x in enumerate(value)
            }
        )
    if text and not isinstance(value, str):
        raise MonitorError(f"Parameters '{name}.*' are unexpected")
    if kind == "bool":
        if text:
            if value not in _BOOLS:
                raise expects(name, "'on' or 'off'")
            return _BOOLS[value]
        if not isinstance(value, bool):
            raise invalid_type(name, "boolean")
        return value
    if kind == "size":
        size = parse_size(value, warn) if text else unsigned(name, value, text)
        if size is None:
            raise expects(name, "size")
        return size
    if kind == "uint32":
        number = unsigned(name, value, text)
        if number >> 32:
            raise expects(name, "uint32_t")
        return number
    if not isinstance(value, str):
        raise invalid_type(name, "string")
    if kind == "policy" and value not in _POLICIES:
        raise MonitorError(f"Parameter '{name}' does not accept value '{value}'")
    return value


def _uint16(name: str, value: Any, text: bool) -> int:
    if text and not isinstance(value, str):
        raise MonitorError(f"Parameters '{name}.*' are unexpected")
    number = unsigned(name, value, text)
    if number >> 16:
        raise expects("null", "uint16_t")  # QEMU has forgotten the name by then
    return number


# ----------------------------------------------------------------------------------------- backends


def make_backend(
    qom_type: str,
    props: Mapping[str, Any],
    taken: Container[str],
    *,
    leads: Callable[[str], bool] = lambda path: False,
    text: bool = False,
    warn: Warn | None = None,
) -> Backend:
    """A backend as object-add makes it, before it has its memory: see Backend.allocate().

    :param props: `id`, `size` and the properties of the type, by their names in QEMU.
    :param taken: IDs there are already.
    :param leads: whether a QOM path leads to an object.
    :param text: as for read_value().
    :param warn: told what QEMU would warn of.
    :raises MonitorError: QEMU's reason not to.
    """
    if qom_type not in _TYPES:
        raise MonitorError(f"Parameter 'qom-type' does not accept value '{qom_type}'")
    if "id" not in props:
        raise MonitorError("Parameter 'id' is missing")
    name = read_value("str", "id", props["id"], text)
    values: dict[str, Any] = {}
    for member in _TYPES[qom_type]:
        if member.name in props:
            values[member.name] = read_value(
                member.kind, member.name, props[member.name], text, warn
            )
        elif member.required:
            raise MonitorError(f"Parameter '{member.name}' is missing")
    check_unexpected(props, ("qom-type", "id", *(member.name for member in _TYPES[qom_type])))
    check_identifier(name)
    backend = Backend(qom_type, name)
    for key, value in as_qemu_keeps(values):
        if key == "prealloc-context" and value and leads(value):
            raise invalid_type(key, "thread-context")
        backend._set(key, value)
    if name in taken:
        raise MonitorError(
            f"attempt to add duplicate property '{name}' to object (type 'container')"
        )
    return backend


class Backend:
    """Memory of the host that a DIMM, or the machine's RAM, can be made of.

    :ivar id: its name.
    :ivar qom_type: memory-backend-ram, -file or -memfd.
    :ivar values: its QOM properties.
    :ivar alignment: of the physical address it can be mapped at, and of its size.
    :ivar used: what is made of it, if anything: "machine", or the DIMM.
    :ivar region: the name its memory region goes by.
    """

    __slots__ = ("alignment", "id", "qom_type", "region", "used", "values")

    def __init__(self, qom_type: str, name: str, size: int = 0) -> None:
        self.id = name
        self.qom_type = qom_type
        self.values: dict[str, Any] = {
            key: value for key, (_, value) in _PROPERTIES[qom_type].items()
        }
        self.values["size"] = size
        self.alignment = RAM_ALIGNMENT
        self.used: object = None
        self.region = f"{name}[0]"

    def __repr__(self) -> str:
        return f"Backend({self.id!r}, {self.size:#x})"

    @property
    def path(self) -> str:
        """Its QOM path."""
        return f"/objects/{self.id}"

    @property
    def size(self) -> int:
        """Bytes."""
        size: int = self.values["size"]
        return size

    def change(self, name: str, value: Any, text: bool) -> None:
        """Give a property a value, with the memory in place.

        :param text: as for read_value(); a list of numbers is "0-2,5".
        :raises MonitorError: QEMU's reason not to.
        """
        fixed = _FIXED.get(name, "").format(self.qom_type)
        if fixed and name in _FIXED_UNSEEN:
            raise MonitorError(fixed)
        kind = next(member.kind for member in _TYPES[self.qom_type] if member.name == name)
        if text and kind == "uint16s":
            value = _number_list(value)
        elif text and kind == "uint32":
            number = parse_integer(value)
            if number is None or not -_U64 <= number <= _U64:
                raise expects(name, "uint64")
        read = read_value(kind, name, value, text)
        if fixed:
            raise MonitorError(fixed)
        self._set(name, read)

    @property
    def properties(self) -> list[tuple[str, str, Any]]:
        """Its QOM properties as qom-list has them: name, type, value."""
        return [
            (name, kind, self.values[name])
            for name, (kind, _) in _PROPERTIES[self.qom_type].items()
        ]

    def _set(self, name: str, value: Any) -> None:
        if name in ("size", "prealloc-threads") and value == 0:
            raise MonitorError(f"property '{name}' of {self.qom_type} doesn't take value '0'")
        if name == "hugetlbsize" and value == 0:
            raise MonitorError(f"Property '{self.qom_type}.hugetlbsize' doesn't take value '0'")
        if name == "host-nodes":
            for node in value:
                if node >= HOST_NODES:
                    raise MonitorError(f"Invalid host-nodes value: {node}")
        if name == "prealloc-context" and value:
            raise MonitorError(f"Device '{value}' not found", "DeviceNotFound")  # none here is one
        if name == "prealloc" and self.values["prealloc"]:
            return  # what has been allocated stays so
        self.values[name] = value

    def allocate(self, warn: Warn | None = None) -> None:
        """Check what QEMU checks when it gets the memory from the host. Nothing is really
        allocated.

        The host imagined here has all the memory and all the NUMA nodes one asks for; only what no
        process can map is refused. Files are looked at and left alone.

        :param warn: told what QEMU would warn of.
        :raises MonitorError: the host would refuse.
        """
        if self.qom_type == "memory-backend-file":
            self.alignment = self._file_alignment(warn)
        elif self.qom_type == "memory-backend-memfd":
            self.alignment = self._memfd_alignment()
        self._check_host()
        if self.values["x-use-canonical-path-for-ramblock-id"]:
            self.region = f"{self.path}[0]".replace("/", r"\x2f")
        policy, nodes = self.values["policy"], self.values["host-nodes"]
        if nodes and policy == "default":
            raise MonitorError(
                "host-nodes must be empty for policy default, or you should explicitly specify a"
                " policy other than default"
            )
        if not nodes and policy != "default":
            raise MonitorError(f"host-nodes must be set for policy {policy}")

    def _check_host(self, align: int = 0) -> None:
        """No process can map more, or find a place at a multiple of `align`, than it has addresses."""
        if self.size + align >= HOST_LIMIT:
            if self.qom_type == "memory-backend-ram":
                name = self.path if self.values["x-use-canonical-path-for-ramblock-id"] else self.id
                raise MonitorError(f"cannot set up guest memory '{name}': Cannot allocate memory")
            raise MonitorError("unable to map backing store for guest RAM: Cannot allocate memory")

    def _check_store(self, size: int) -> None:
        """QEMU maps whole pages, and a file that has a size is to hold them."""
        needed = -(-self.size // HOST_PAGE) * HOST_PAGE
        if 0 < size < needed:
            raise MonitorError(
                f"backing store size {size:#x} does not match 'size' option {needed:#x}"
            )

    def _memfd_alignment(self) -> int:
        huge, size = self.values["hugetlb"], self.values["hugetlbsize"]
        if size % 2:
            size = 0  # an odd one is not noticed: QEMU looks at the lowest bit
        if size & (size - 1):
            raise MonitorError("Hugepage size must be a power of 2")
        if huge and size and size not in HUGE_PAGES:
            flags = 5 | (2 if self.values["seal"] else 0) | (size.bit_length() - 1) << 26
            raise MonitorError(f"failed to create memfd with flags {flags:#x}: No such device")
        alignment: int = (size or RAM_ALIGNMENT) if huge else HOST_PAGE
        if self.size >> 63 or (huge and self.size % alignment):
            raise MonitorError(f"failed to resize memfd to {self.size}: Invalid argument")
        self._check_store(self.size)
        return alignment

    def _file_alignment(self, warn: Warn | None) -> int:
        """Look at the file, in the order in which QEMU does."""
        path, align = self.values["mem-path"], self.values["align"]
        mappable = True
        try:
            try:
                status = os.stat(path)
                directory = stat.S_ISDIR(status.st_mode)
                # in a directory QEMU makes a file, to write to
                if not directory or self.values["readonly"]:
                    self._check_store(0 if directory else status.st_size)
                    mappable = stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)
            except FileNotFoundError:
                if not path:
                    raise
                os.stat(os.path.dirname(path) or ".")
            block = os.statvfs(
                path if os.path.exists(path) else os.path.dirname(path) or "."
            ).f_bsize
        except OSError as e:
            why = os.strerror(e.errno or EIO)
            raise MonitorError(f"can't open backing store {path} for guest RAM: {why}") from None
        except ValueError:  # a NUL in the path
            raise MonitorError(
                f"can't open backing store {path} for guest RAM: Invalid argument"
            ) from None
        # a hugetlbfs, or not
        page = block if block >= RAM_ALIGNMENT and block & (block - 1) == 0 else HOST_PAGE
        if align % page:
            raise MonitorError(f"alignment {align:#x} must be multiples of page size {page:#x}")
        if align & (align - 1):
            raise MonitorError(f"alignment {align:#x} must be a power of two")
        mapped = -(-self.size // HOST_PAGE) * HOST_PAGE & _U64
        if mapped < page:
            raise MonitorError(
                f"memory size {mapped:#x} must be equal to or larger than page size {page:#x}"
            )
        self._check_host(align)
        if self.values["pmem"] and self.values["share"] and warn:
            warn("Using non DAX backing file with 'pmem=on' option is deprecated")
        if not mappable:
            raise MonitorError("unable to map backing store for guest RAM: No such device")
        alignment: int = max(page, align)
        return alignment


_BACKEND_HELP: Final = {
    "dump": "Set to 'off' to exclude from core dump",
    "host-nodes": "Binds memory to the list of NUMA host nodes",
    "hugetlb": "Use huge pages",
    "hugetlbsize": "Huge pages size (ex: 2M, 1G)",
    "merge": "Mark memory as mergeable",
    "policy": "Set the NUMA policy",
    "prealloc-context": "Context to use for creating CPU threads for preallocation",
    "prealloc-threads": "Number of CPU threads to use for prealloc",
    "prealloc": "Preallocate memory",
    "reserve": "Reserve swap space (or huge pages) if applicable",
    "seal": "Seal growing & shrinking",
    "share": "Mark the memory as private to QEMU or shared",
    "size": "Size of the memory region (ex: 500M)",
}


#: The primes of glib's hash tables, by the logarithm of their size.
_PRIMES: Final = (
    1,
    2,
    3,
    7,
    13,
    31,
    61,
    127,
    251,
    509,
    1021,
    2039,
    4093,
    8191,
    16381,
    32749,
    65521,
    131071,
    262139,
    524287,
)


class ListingOrder:
    """The order in which QEMU lists its objects, which is that of the hash table it keeps them in,
    backwards.

    The table is glib's: open addressing, its size a power of two, a removed name leaves a mark
    behind until the table is made anew. Programs and people see this order, so it is part of what
    QEMU prints.
    """

    def __init__(self) -> None:
        # a name, True for the mark of a removed one, None
        self._cells: list[str | bool | None] = [None] * 8
        self._count = 0
        self._occupied = 0  # names and marks

    def add(self, name: str) -> None:
        """A name that is not there has come."""
        cell = self._find(name)
        fresh = self._cells[cell] is None
        self._cells[cell] = name
        self._count += 1
        if fresh:
            self._occupied += 1
            self._maybe_resize()

    def remove(self, name: str, *, undo: bool = False) -> None:
        """A name is gone.

        :param undo: it was not to stay; QEMU then takes another way, on which the table may shrink.
        """
        self._cells[self._find(name)] = True
        self._count -= 1
        if undo:
            self._maybe_resize()

    def names(self) -> list[str]:
        """The names as QEMU lists them."""
        return [name for name in reversed(self._cells) if isinstance(name, str)]

    def _find(self, name: str) -> int:
        """The cell a name is in, or would go to."""
        cells = self._cells
        cell, step, mark = _home(name, len(cells)), 0, -1
        while (there := cells[cell]) is not None:
            if there == name:
                return cell
            if there is True and mark < 0:
                mark = cell
            step += 1
            cell = (cell + step) % len(cells)
        return cell if mark < 0 else mark

    def _maybe_resize(self) -> None:
        """Make the table anew if it is too full or too empty: in place, a name pushes out who is in
        its new cell.
        """
        old = len(self._cells)
        if old > self._occupied + self._occupied // 16 and not 8 < old > self._count * 4:
            return
        size = max(8, 1 << int(self._count * 1.333).bit_length())
        cells = self._cells + [None] * (size - old)
        done: set[int] = set()
        for start in range(old):
            if start in done:
                continue
            name, cells[start] = cells[start], None
            while isinstance(name, str):
                cell, step = _home(name, size), 0
                while cell in done:
                    step += 1
                    cell = (cell + step) % size
                done.add(cell)
                name, cells[cell] = cells[cell], name
        self._cells = cells[:size]
        self._occupied = self._count


def _home(name: str, size: int) -> int:
    """The cell of a table of `size` where the search for a name begins."""
    value = 5381
    for byte in name.encode(errors="surrogatepass"):
        value = (value * 33 + (byte ^ 0x80) - 0x80) & 0xFFFFFFFF  # char has a sign
    return max(value, 2) * 11 % (1 << 32) % _PRIMES[min(size.bit_length(), len(_PRIMES)) - 1]


def check_unexpected(arguments: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise MonitorError for the argument that is not known; of several, for the one QEMU comes
    upon first.

    :param known: the arguments that are, in the order in which QEMU looks at them.
    """
    waiting = ListingOrder()
    for name, _ in as_qemu_keeps(arguments):
        waiting.add(name)
    for name in known:
        if name in arguments:
            waiting.remove(name, undo=True)
    for name in reversed(waiting.names()):
        raise MonitorError(f"Parameter '{name}' is unexpected")


def object_help(qom_type: str | None) -> list[str]:
    """The lines of `object_add TYPE,help`; of `object_add help` when there is no such type."""
    if qom_type in ("container", "object"):
        return [f"There are no options for {qom_type}."]
    properties = (
        _COMMON_PROPERTIES if qom_type == "memory-backend" else _PROPERTIES.get(qom_type or "")
    )
    if properties is None:
        return ["List of user creatable objects:", *(f"  {name}" for name in sorted(_TYPES))]
    lines = []
    # QEMU sorts the lines, not the names: "prealloc-context=" comes before "prealloc="
    for name, (kind, _) in sorted(properties.items(), key=lambda item: f"{item[0]}="):
        option = f"{name}=<{kind}>"
        lines.append(
            f"  {option:<22} - {_BACKEND_HELP[name]}" if name in _BACKEND_HELP else f"  {option}"
        )
    return [f"{qom_type} options:", *lines]


def check_identifier(name: str) -> None:
    """Raise MonitorError unless QEMU takes `name` as an ID."""
    if not is_identifier(name):
        raise HintedError(
            "Parameter 'id' expects an identifier",
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
        )


def _number_list(value: str) -> list[str]:
    """The numbers of "0-2,5", each as text.

    :raises MonitorError: it is no such list.
    """
    numbers: list[str] = []
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
        numbers += [str(number) for number in range(low, high + 1)]
    return numbers
