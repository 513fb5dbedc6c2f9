"""Many threads that read and write the files of one memory block, and the log of what each of them
saw.

    python hammer.py DIRECTORY-OF-THE-BLOCK SECONDS THREADS OFFLINES > log.json

It takes SECONDS, and longer if by then the block has not gone offline so many times, or has not
been seen on its way. Run by test_threads.py in a process of its own: if it hung, so would the
process. What is written has a NUL and a number behind the word, which sysfs does not look at, so
that the machine's log of stores shows which write is which. Meanwhile writers are disturbed by
signals, after which Python writes once more.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time

READ = (
    "state",
    "state",
    "online",
    "valid_zones",
    "removable",
    "phys_index",
    "power/control",
    "uevent",
)
WRITTEN = {
    "state": ("online", "online_movable", "online_kernel", "offline", "offline", "offline"),
    "power/control": ("on", "auto"),
}
# between two writes of a thread: the machine remembers so many events, and is to remember all
WRITER_SECONDS = 0.02

# file, thread, start and end in nanoseconds, what was read or written, its number or -1, errno
Operation = tuple[str, int, int, int, str, int, int]


def access(directory: str, name: str, number: int, word: str | None, identity: int) -> Operation:
    """One read, or one write of a word."""
    error, text = 0, word or ""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY if word is None else os.O_WRONLY)
    start = time.monotonic_ns()
    try:
        if word is None:
            text = os.read(fd, 4096).decode()
        else:
            os.write(fd, f"{word}\0{identity}".encode())
    except OSError as e:
        error = e.errno or 0
    end = time.monotonic_ns()
    os.close(fd)
    return name, number, start, end, text, identity, error


def thread(
    directory: str, number: int, writes: bool, enough: threading.Event, log: list[Operation]
) -> None:
    """What one thread does until the end."""
    chance = random.Random(number)
    for step in range(1 << 30):
        if enough.is_set():
            return
        if not writes:
            log.append(access(directory, chance.choice(READ), number, None, -1))
            continue
        name = chance.choice(("state", "state", "state", "power/control"))
        log.append(
            access(directory, name, number, chance.choice(WRITTEN[name]), number << 24 | step)
        )
        time.sleep(chance.random() * 2 * WRITER_SECONDS)


def seen(logs: list[list[Operation]], offlines: int) -> bool:
    """Whether `offline` succeeded so many times, and somebody read that the block was on its way."""
    operations = [op for log in logs for op in list(log) if op[0] == "state"]
    succeeded = sum(op[4] == "offline" and op[6] == 0 for op in operations)
    return succeeded >= offlines and any(op[4] == "going-offline\n" for op in operations)


def main() -> None:
    """Start the threads, disturb them, print the log."""
    directory, seconds, count, offlines = (
        sys.argv[1],
        float(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
    signal.signal(signal.SIGUSR1, lambda *_: None)
    begin, enough = time.monotonic(), threading.Event()
    logs: list[list[Operation]] = [[] for _ in range(count)]
    threads = [
        threading.Thread(
            target=thread, args=(directory, n, n % 5 == 0, enough, logs[n]), daemon=True
        )
        for n in range(count)
    ]
    for each in threads:
        each.start()
    chance = random.Random(0)
    disturbed = 0
    while time.monotonic() < begin + seconds or not seen(logs, offlines):
        time.sleep(0.01)
        victim = threads[chance.randrange(0, count, 5)]
        if victim.is_alive() and victim.ident is not None:
            signal.pthread_kill(victim.ident, signal.SIGUSR1)
            disturbed += 1
    enough.set()
    took = time.monotonic() - begin
    for each in threads:
        each.join(100)
    stuck = sum(each.is_alive() for each in threads)
    json.dump(
        {
            "stuck": stuck,
            "seconds": took,
            "disturbed": disturbed,
            "log": [op for log in logs for op in log],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
