"""How a command ends: its exit status, and one line on standard error for what went wrong.

Owns: what becomes of every exception that is no mistake of the program, and of standard output that
takes no more. Does not own errors of usage (options.py).
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from ..errors import FakesysfsError, as_problem, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# of a write, which has no file name
OUTPUT_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def reporting(command: Callable[[], int]) -> int:
    """The exit status of `command`; an error is one line on stderr."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        forget_output()
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        problem = as_problem(e)
        if problem is None:
            raise
        if isinstance(e, OSError) and not e.filename and e.errno in OUTPUT_FULL:
            forget_output()
            problem = FakesysfsError(f"standard output: {e.strerror}")
        return complain(problem)
    return status


def complain(problem: FakesysfsError) -> int:
    """Say what is wrong, and return the exit status."""
    with suppress(OSError):  # standard error is full or closed
        print(f"fakesysfs: {printable(str(problem))}", file=sys.stderr, flush=True)
    return problem.exit_status


def forget_output() -> None:
    """Give up what standard output has not taken: Python would say so once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
