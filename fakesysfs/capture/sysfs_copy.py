"""Files of somebody else's /sys and /proc: of this host, of a directory that is a copy of them, or
of an archive.

Owns: reading them without trusting them. Nothing outside of the copy is read, whatever its links
say; nothing is waited for, unpacked to disk or read without end. Does not own: what the files mean
(machine_file.py).

    open_copy("/")  open_copy("report/")  open_copy("dump.tar.xz")      a Folder: names(), folder(name), text(name)

What cannot be trusted is a ConfigError of one line with the path and the reason.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import intern
from typing import IO, Any, Final, Self, cast

from ..config.sizes import show_about
from ..errors import ConfigError

__all__ = ["TABLE_LIMIT", "Folder", "open_copy", "printable"]

# : Bytes of a file. Attributes of sysfs have 4096; lists of CPUs may have more, tables of /proc
# many more.
TEXT_LIMIT: Final = 64 << 10
TABLE_LIMIT: Final = 16 << 20
TABLES: Final = ("zoneinfo", "iomem", "cpuinfo")
#: Names in a directory.
NAMES_LIMIT: Final = 2 << 20
#: What an archive may unpack to, in bytes; how many members it may have.
UNPACKED_LIMIT: Final = 4 << 30
MEMBERS_LIMIT: Final = 1_000_000
#: Bytes of a name in an archive: longer ones are an attack.
_HEADER_LIMIT: Final = 1 << 20
_DEPTH_LIMIT: Final = 40
_LINKS_LIMIT: Final = 40  # as many as Linux follows

_Parts = tuple[str, ...]


def printable(text: str, limit: int = 80) -> str:
    """Text of a copy as it can stand in a message or a comment: of one line, not too long."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


class Folder(ABC):
    """A directory of a copy. Close it, or use it with `with`.

    :param copy: of which it is.
    :param parts: names on the way to it, none of which is a link.
    """

    def __init__(self, copy: _Copy, parts: _Parts) -> None:
        self._copy = copy
        self._parts = parts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, *names: str) -> str:
        """What to call it, or something in it, in a message."""
        return self._copy.shown((*self._parts, *names))

    @abstractmethod
    def names(self) -> set[str]:
        """What is in it.

        :raises ConfigError: too much.
        """

    @abstractmethod
    def folder(self, name: str) -> Folder | None:
        """A directory in it; None when there is none of this name. `name` may be several, with
        slashes.

        :raises ConfigError: a link leads out of the copy, or nowhere.
        """

    @abstractmethod
    def _read(self, name: str, limit: int) -> bytes | None:
        """What is in a file; None when there is none."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""

    def text(self, name: str, limit: int = TEXT_LIMIT) -> str | None:
        """The text of a file in it, without blanks at the ends; None when there is none of this
        name.

        :param limit: bytes; more are refused.
        :raises ConfigError: it is no file, no text, too long, or a link that leads out of the copy.
        """
        data = self._read(name, limit)
        if data is None:
            return None
        data = data.rstrip(b"\0")  # tar fills up what it thought to be 4096 bytes
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path(name)}: not text") from None
        if "\0" in text:
            raise ConfigError(f"{self.path(name)}: not text")
        return text.strip()


class _Copy(ABC):
    """Where the folders of a copy come from."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shown(self, parts: Sequence[str]) -> str:
        path = "/".join(parts)
        name = "" if self.name == "/" and parts else self.name.rstrip("/") if parts else self.name
        return printable(f"{name}/{path}" if parts else name, 200)

    @abstractmethod
    def link(self, parts: _Parts) -> str | None:
        """The target, if this is a link; there are no links on the way to it."""

    def resolve(self, parts: _Parts) -> _Parts:
        """The path with its links followed, by hand: the kernel would follow them to anywhere."""
        real: list[str] = []
        todo = deque(part for part in parts if part not in ("", "."))
        links = 0
        while todo:
            part = todo.popleft()
            if part == "..":
                if not real:
                    raise ConfigError(
                        f"{self.shown(parts)}: a link that leads out of {self.shown(())}"
                    )
                real.pop()
                continue
            target = self.link((*real, part))
            if target is None:
                real.append(part)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise ConfigError(f"{self.shown(parts)}: links that lead in a circle")
            if target.startswith("/"):
                where = f"{self.shown((*real, part))}: a link to {printable(target)}"
                raise ConfigError(f"{where}, which leads out of {self.shown(())}")
            todo.extendleft(reversed([p for p in target.split("/") if p not in ("", ".")]))
        return tuple(real)


@contextmanager
def open_copy(path: str | Path) -> Iterator[Folder]:
    """The topmost directory of a copy.

    :param path: of a directory, or of an archive of tar, which may be compressed by gzip, bzip2 or
        xz.
    :raises ConfigError: it is neither, cut short, or larger than any copy of /sys.
    """
    name = printable(str(path), 200)
    root: Folder
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            root = _Disk(name).open(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        elif stat.S_ISREG(kind):
            root = _Archive(name, Path(path)).root()
        else:
            raise ConfigError(f"{name}: neither a directory nor an archive")
    except (OSError, ValueError) as e:
        raise ConfigError(f"{name}: {getattr(e, 'strerror', None) or 'no path'}") from None
    with root:
        yield root


# -------------------------------------------------------------------------------------- directories

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device", stat.S_IFLNK: "a link",
}  # fmt: skip


class _Disk(_Copy):
    """A directory. Every step is one openat() that follows no link, so what lies elsewhere is out
    of reach.
    """

    def open(self, fd: int) -> Folder:
        self._root = fd
        return _DiskFolder(self, (), fd)

    def enter(self, parts: _Parts, base: int | None = None) -> int | None:
        """A descriptor of a directory; None when there is none."""
        fd = os.dup(self._root if base is None else base)
        try:
            for part in parts:
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
        except (FileNotFoundError, NotADirectoryError):
            os.close(fd)
            return None
        except OSError as e:
            os.close(fd)
            raise ConfigError(f"{self.shown(parts)}: cannot be read: {e.strerror}") from None
        return fd

    def link(self, parts: _Parts) -> str | None:
        fd = self.enter(parts[:-1])
        if fd is None:
            return None
        try:
            return os.readlink(parts[-1], dir_fd=fd)
        except OSError:  # it is none, or is not there
            return None
        finally:
            os.close(fd)


class _DiskFolder(Folder):
    def __init__(self, copy: _Disk, parts: _Parts, fd: int) -> None:
        super().__init__(copy, parts)
        self._disk = copy
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)

    def names(self) -> set[str]:
        out: set[str] = set()
        try:
            with os.scandir(self._fd) as entries:
                for entry in entries:
                    out.add(entry.name)
                    if len(out) > NAMES_LIMIT:
                        raise ConfigError(
                            f"{self.path()}: more than {NAMES_LIMIT} names; this is no /sys"
                        )
        except OSError as e:
            raise ConfigError(f"{self.path()}: cannot be read: {e.strerror}") from None
        return out

    def folder(self, name: str) -> Folder | None:
        parts = (*self._parts, *name.split("/"))
        if "/" not in name:
            try:  # the usual case: a directory that stands right here
                return _DiskFolder(self._disk, parts, os.open(name, _DIRECTORY, dir_fd=self._fd))
            except OSError:
                pass
        parts = self._copy.resolve(parts)
        fd = self._disk.enter(parts)
        return None if fd is None else _DiskFolder(self._disk, parts, fd)

    def _read(self, name: str, limit: int) -> bytes | None:
        parts = (*self._parts, *name.split("/"))
        try:
            if "/" not in name:
                try:  # the usual case: a file that stands right here
                    found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                except FileNotFoundError:
                    return None
                if not stat.S_ISLNK(found.st_mode):
                    return self._read_at(parts, self._fd, found, limit)
            parts = self._copy.resolve(parts)
            base = self._disk.enter(parts[:-1]) if parts else None
            if base is None:
                return None
            try:
                found = os.stat(parts[-1], dir_fd=base, follow_symlinks=False)
                return self._read_at(parts, base, found, limit)
            except FileNotFoundError:
                return None
            finally:
                os.close(base)
        except OSError as e:
            raise ConfigError(f"{self._copy.shown(parts)}: cannot be read: {e.strerror}") from None

    def _read_at(self, parts: _Parts, base: int, found: os.stat_result, limit: int) -> bytes:
        # asked before it is opened: opening a device does something
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            raise ConfigError(f"{self._copy.shown(parts)}: {kind}, not a file")
        data = b""
        fd = os.open(parts[-1], _FILE, dir_fd=base)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{self._copy.shown(parts)}: not a file any more")
            while len(data) <= limit and found.st_size <= limit:
                piece = os.read(fd, limit + 1 - len(data))
                data += piece
                # a file of /sys, or of a disk, is read at once; those of /proc, which have no size,
                # are not
                if not piece or (found.st_size and len(piece) < 4096 and len(data) <= limit):
                    return data
        finally:
            os.close(fd)
        size = show_about(max(found.st_size, limit + 1))
        raise ConfigError(f"{self._copy.shown(parts)}: {size}; no such file has that")


# ----------------------------------------------------------------------------------------- archives

# Members that tell something; the rest of an archive is passed over.
_KEPT: Final = re.compile(
    r"""(?:^|/)(?:
        block_size_bytes | auto_online_blocks | probe | crash_hotplug | soft_offline_page
      | memory/memory\d+ | node/node\d+  # the directories, too: one that is empty is cut short
      | memory\d+/(?: state | online | valid_zones | removable | phys_device | phys_index | subsystem | node\d+ )
      | node/(?: possible | online | has_memory | has_generic_initiator )
      | node\d+/(?: cpulist | distance | meminfo | reclaim | memory_failure/total | memory\d+
                  | hugepages/hugepages-\d+kB/nr_hugepages )
      | memory_hotplug/parameters/\w+
      | memmap/\d+/(?: start | end | type )
      | proc/(?: version | cmdline | zoneinfo | iomem | cpuinfo | sys/kernel/osrelease | sys/kernel/arch )
      | uname
    )$""",
    re.VERBOSE | re.ASCII,
)

# How a compressed file begins, and what reads it
_UNPACKERS: Final[tuple[tuple[bytes, Any], ...]] = (
    (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open),
)  # fmt: skip
_Directory = dict[str, Any]  # name -> _Directory, bytes, _Link or _Strange


class _Link(str):
    """Target of a link."""

    __slots__ = ()


class _Strange(str):
    """Why a member is not read."""

    __slots__ = ()


class _Archive(_Copy):
    """An archive of tar, of which the members that matter are in memory."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._top: _Directory = {}
        self._same: dict[bytes, bytes] = {}  # hundred thousand blocks have few different states
        with open(path, "rb") as file:
            self._load_or_refuse(file)

    def _load_or_refuse(self, file: IO[bytes]) -> None:
        name = self.name
        try:
            self._load(file)
        except tarfile.TarError as e:
            raise ConfigError(
                f"{name}: neither a directory nor a whole archive: {printable(str(e))}"
            ) from None
        except (
            EOFError,
            OSError,
            zlib.error,
            lzma.LZMAError,
            ValueError,
            RecursionError,
            OverflowError,
        ) as e:
            raise ConfigError(f"{name}: cut short or damaged: {printable(str(e))}") from None

    def root(self) -> Folder:
        return _ArchiveFolder(self, (), self._top)

    def find(self, parts: _Parts) -> object:
        found: object = self._top
        for part in parts:
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return found

    def link(self, parts: _Parts) -> str | None:
        found = self.find(parts)
        return str(found) if isinstance(found, _Link) else None

    def _load(self, file: IO[bytes]) -> None:
        magic = file.read(6)
        file.seek(0)
        opens = next((opens for start, opens in _UNPACKERS if magic.startswith(start)), None)
        if opens is None:
            self._load_members(_Bounded(file, self.name))
            return
        with opens(file) as unpacked:
            bounded = _Bounded(unpacked, self.name, UNPACKED_LIMIT)
            self._load_members(bounded)
            while bounded.read(1 << 20):  # up to the checksum at its end
                pass

    def _load_members(self, file: _Bounded) -> None:
        # A TarFile remembers every member that it gives itself, so each is read from its header.
        with tarfile.open(fileobj=cast("IO[bytes]", file), mode="r:", errorlevel=2) as tar:
            file.seek(0)
            for count in range(MEMBERS_LIMIT + 1):
                try:
                    member = tarfile.TarInfo.fromtarfile(tar)
                except tarfile.HeaderError:
                    break
                if member.size < 0:
                    raise ConfigError(
                        f"{self.name}: damaged: {printable(member.name)} has a negative size"
                    )
                if count == MEMBERS_LIMIT:
                    raise ConfigError(
                        f"{self.name}: more than {MEMBERS_LIMIT} members; pack less than all of"
                        " /sys"
                    )
                following = tar.offset
                self._keep(tar, member)
                file.skip_to(following)
        if not file.ended:
            raise ConfigError(f"{self.name}: cut short or damaged: the archive has no end")

    def _keep(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = tuple(intern(part) for part in member.name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ConfigError(f"{self.name}: {printable(member.name)} leads out of the archive")
        if not _KEPT.search("/".join(parts[-5:])) or not parts or len(parts) > _DEPTH_LIMIT:
            return
        folder = self._top
        for part in parts[:-1]:
            below = folder.setdefault(part, {})
            if not isinstance(below, dict):
                raise ConfigError(
                    f"{self.shown(parts)}: on the way to it is something that is no directory"
                )
            folder = below
        folder[parts[-1]] = self._content(tar, member, parts)

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: _Parts) -> object:
        if member.issym():
            return _Link(member.linkname)
        if member.isdir():
            known = self.find(parts)
            return known if isinstance(known, dict) else {}
        if member.islnk():
            found = self.find(
                tuple(part for part in member.linkname.split("/") if part not in ("", "."))
            )
            return (
                found
                if isinstance(found, bytes)
                else _Strange("a hard link to what is not in the archive")
            )
        if not member.isreg():
            return _Strange("neither a file nor a directory")
        limit = TABLE_LIMIT if parts[-1] in TABLES else TEXT_LIMIT
        if member.size > limit:
            return _Strange(f"{show_about(member.size)}; no such file has that")
        # of this kind of member it gives a file that reads from the archive
        bounded = cast("_Bounded", tar.fileobj)
        bounded.most = max(limit, io.DEFAULT_BUFFER_SIZE)
        file = tar.extractfile(member)
        data = file.read() if file is not None else b""
        bounded.most = _HEADER_LIMIT
        if len(data) != member.size:
            raise ConfigError(f"{self.shown(parts)}: cut short")
        return self._same.setdefault(data, data) if len(data) <= 4096 else data


class _ArchiveFolder(Folder):
    def __init__(self, copy: _Archive, parts: _Parts, entries: _Directory) -> None:
        super().__init__(copy, parts)
        self._archive = copy
        self._entries = entries

    def close(self) -> None:
        """Nothing to give back: it is in memory."""

    def names(self) -> set[str]:
        return set(self._entries)

    def folder(self, name: str) -> Folder | None:
        parts = self._copy.resolve((*self._parts, *name.split("/")))
        found = self._archive.find(parts)
        return _ArchiveFolder(self._archive, parts, found) if isinstance(found, dict) else None

    def _read(self, name: str, limit: int) -> bytes | None:
        parts = self._copy.resolve((*self._parts, *name.split("/")))
        found = self._archive.find(parts)
        if isinstance(found, _Strange) or (isinstance(found, bytes) and len(found) > limit):
            raise ConfigError(
                f"{self._copy.shown(parts)}:"
                f" {found if isinstance(found, str) else show_about(len(found))}"
            )
        if isinstance(found, dict):
            raise ConfigError(f"{self._copy.shown(parts)}: a directory, not a file")
        return cast("bytes | None", found)


class _Bounded:
    """An archive, of which no more is read than a copy of /sys and /proc can have.

    :param limit: what a decompressor may give, in bytes; None where nothing is decompressed.
    """

    def __init__(self, file: IO[bytes], name: str, limit: int | None = None) -> None:
        self._file = file
        self._name = name
        self._limit = limit
        self.most = _HEADER_LIMIT  # bytes that may be asked for at once
        self.ended = False  # the block read last is the one of zeros that ends an archive

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer at the end only."""
        if size > self.most:
            raise ConfigError(
                f"{self._name}: a header of {show_about(size)}; no copy of /sys has that"
            )
        data = self._file.read(size)
        self._check(self._file.tell())
        self.ended = len(data) == tarfile.BLOCKSIZE and not any(data)
        return data

    def tell(self) -> int:
        """Return the position in what was decompressed."""
        return self._file.tell()

    def seek(self, offset: int) -> int:
        """Go to a position."""
        self._check(offset)
        return self._file.seek(offset)

    def skip_to(self, offset: int) -> None:
        """Go to a position that is not behind the end.

        :raises EOFError: it is.
        """
        if offset:
            self.seek(offset - 1)
            if not self._file.read(1):
                raise EOFError("a member goes on behind the end")

    def _check(self, position: int) -> None:
        if self._limit is not None and position > self._limit:
            raise ConfigError(
                f"{self._name}: unpacks to more than {show_about(self._limit)}; pack less than all"
                " of /sys and /proc"
            )
