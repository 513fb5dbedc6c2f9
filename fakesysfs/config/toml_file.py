"""TOML files as somebody else wrote them: read without waiting for ever, and not without end.

Owns: how a file is read, and the words for one that cannot be read or is no TOML. Does not own:
what may be in it.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError

__all__ = ["FILE_LIMIT", "read_toml"]

#: Bytes of a file: a hundred thousand memory blocks, no two alike, are less.
FILE_LIMIT: Final = 16 << 20
#: How long a pipe may be silent.
_PIPE_SECONDS: Final = 10


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    :raises ConfigError: it cannot be read, or is none.
    """
    import tomllib

    try:
        return tomllib.loads(_read_whole(path).decode())
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not a TOML file: {e}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a TOML file: brackets too deep within brackets") from None
    except ValueError:  # of int()
        raise ConfigError(f"{path}: not a TOML file: a number of thousands of digits") from None


def _read_whole(path: Path) -> bytes:
    """A file, or a pipe like that of `<(fakesysfs capture)`."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise ConfigError(f"{path}: not a file")
        content = bytearray()
        while len(content) <= FILE_LIMIT:
            try:
                piece = os.read(fd, 1 << 20)
            except BlockingIOError:  # a pipe, and its writer has not written yet
                if not select.select([fd], [], [], _PIPE_SECONDS)[0]:
                    raise ConfigError(
                        f"{path}: nothing has come for {_PIPE_SECONDS} seconds"
                    ) from None
                continue
            if not piece and not content and stat.S_ISFIFO(kind):
                raise ConfigError(f"{path}: nothing comes out of this pipe")
            if not piece:
                return bytes(content)
            content += piece
    finally:
        os.close(fd)
    raise ConfigError(f"{path}: more than {FILE_LIMIT >> 20}M; that is no machine file")
