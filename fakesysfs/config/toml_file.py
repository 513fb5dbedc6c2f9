"""TOML files as somebody else wrote them.

Owns: how large one may be, and the words for one that cannot be read or is no TOML. Does not own:
what may be in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .guarded_file import read_guarded

__all__ = ["FILE_LIMIT", "read_toml"]

#: Bytes of a file: a hundred thousand memory blocks, no two alike, are less.
FILE_LIMIT: Final = 16 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    :raises ConfigError: it cannot be read, or is none.
    """
    import tomllib

    try:
        return tomllib.loads(read_guarded(path, FILE_LIMIT, "machine file").decode())
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not a TOML file: {e}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a TOML file: brackets too deep within brackets") from None
    except ValueError:  # of int()
        raise ConfigError(f"{path}: not a TOML file: a number of thousands of digits") from None
