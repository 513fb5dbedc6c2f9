"""Numbers that no rule of the kernel gives.

Owns: how measured.toml is read. Does not own: the numbers and where each comes from (that file),
what follows from them (the engine).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from .toml_file import read_toml

__all__ = ["measured_numbers"]

_FILE: Final = Path(__file__).parent / "measured.toml"


@cache
def measured_numbers() -> dict[str, Any]:
    """Return the numbers of measured.toml as the engine takes them: a part of a machine's spec."""
    tables = read_toml(_FILE)
    return {
        "first_use": list(tables["first_use"].items()),
        "idle": list(tables["idle"].items()),
    } | {f"{name}_kb": value for name, value in tables["meminfo"].items()}
