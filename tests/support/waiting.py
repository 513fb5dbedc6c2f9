"""Waiting for a condition, never for a time.

The limit only ends a test that would wait for ever: it is long enough for a machine that has ten
times as much to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

LIMIT_SECONDS = 200.0
Seen = TypeVar("Seen")
Given = TypeVar("Given")


def wait_for(
    condition: Callable[[], Seen], limit: float = LIMIT_SECONDS, every: float = 0.01
) -> Seen:
    """Look until a condition holds, and return what it was then; fail with what it is if it never
    does.

    :param condition: holds as soon as it returns something that is true.
    :param every: seconds between two looks.
    """
    end = time.monotonic() + limit
    while not (seen := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited for {limit:g} s, and it still is {seen!r}: {condition!r}")
        time.sleep(every)
    return seen


def given_more_time(times: Sequence[Given], attempt: Callable[[Given], None]) -> None:
    """For what must be done before a time is over: where a short one was too short, try again with
    a longer one.

    :param times: shortest first; with the last one the attempt must succeed.
    :param attempt: fails by an AssertionError.
    """
    for short in times[:-1]:
        try:
            return attempt(short)
        except AssertionError:
            continue
    return attempt(times[-1])
