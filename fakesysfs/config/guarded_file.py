"""Files as somebody else made them: read without waiting for ever, and not without end.

Owns: how a file is read, and the words for one that cannot be. Does not own: what is in it.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import Final

from ..errors import ConfigError

__all__ = ["read_guarded"]

#: How long a pipe may be silent.
_PIPE_SECONDS: Final = 10


def read_guarded(path: str | Path, limit: int, what: str) -> bytes:
    """Return the content of a file, or of a pipe like that of `<(fakesysfs capture)`.

    :param limit: bytes it may have.
    :param what: what it is to be, for the message: "machine file".
    :raises ConfigError: it is something else, too large, or nothing comes out of the pipe.
    :raises OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise ConfigError(f"{path}: not a file")
        content = bytearray()
        while len(content) <= limit:
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
    raise ConfigError(f"{path}: more than {limit >> 20}M; that is no {what}")
