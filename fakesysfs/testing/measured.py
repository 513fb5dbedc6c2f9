"""Coverage of a test that runs in another process: measured there, counted here.

Owns: what becomes of the data of coverage.py, when it is in use. With a data file for each process
(pytest-cov, `parallel`) the process inside leaves one more, which is combined like all. Otherwise
its data are sent and added in the end.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

SENT: Final = pytest.StashKey[list[bytes]]()


def _current() -> Any:
    """What measures this process; None when nothing does."""
    coverage = sys.modules.get("coverage")
    return None if coverage is None else coverage.Coverage.current()


def give() -> bytes | None:
    """In the process inside: stop measuring, and return what is to be sent, if anything is."""
    measuring = _current()
    if measuring is None:
        return None
    measuring.stop()
    data = measuring.get_data()
    if data.data_filename() != data.base_filename():
        data.write()
        return None
    sent: bytes = data.dumps()
    return sent


def take(config: pytest.Config, sent: bytes | None) -> None:
    """Outside: keep what was measured inside."""
    if sent is None:
        return
    if SENT not in config.stash:
        kept = config.stash[SENT] = list[bytes]()
        config.add_cleanup(lambda: _add(kept))
    config.stash[SENT].append(sent)


def _add(sent: Iterable[bytes]) -> None:
    measuring = _current()
    if measuring is None:
        return
    for each in sent:
        data = sys.modules["coverage"].CoverageData(no_disk=True)
        data.loads(each)
        measuring.get_data().update(data)
