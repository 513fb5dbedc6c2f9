"""The kernel log as text.

Importing this file is cheap on purpose: `fakesysfs dmesg` is asked for very often.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def log_text(lines: Iterable[tuple[int, str]]) -> str:
    """Return lines of a kernel log as dmesg(1) prints them, from what the control request "dmesg"
    gives.
    """
    return "".join(f"[{us // 1000000:5d}.{us % 1000000:06d}] {text}\n" for us, text in lines)
