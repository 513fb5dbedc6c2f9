"""A small agent: brings hotplugged memory online, as ZONE_MOVABLE where the kernel allows it.

python agent.py --once      all blocks that are offline now
python agent.py             and then each that is added, by its uevent
"""

from __future__ import annotations

import errno
import re
import socket
import sys
import time
from pathlib import Path

MEMORY = Path("/sys/devices/system/memory")
NETLINK_KOBJECT_UEVENT = 15
TRIES = 5
PAUSE_SECONDS = 0.05


def online(block: Path) -> bool:
    """Bring a block online. False: it was online, or is gone."""
    try:
        if (block / "state").read_text() != "offline\n":
            return False
        zones = (block / "valid_zones").read_text().split()
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise
    word = "online_movable" if "Movable" in zones else "online"
    for last in (*[False] * (TRIES - 1), True):
        try:
            (block / "state").write_text(word)
        except OSError as e:
            if last or e.errno not in (errno.EBUSY, errno.EAGAIN):
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            break
    return True


def online_all() -> int:
    """Bring every block online that is offline, and return how many."""
    blocks = [path for path in MEMORY.iterdir() if re.fullmatch(r"memory\d+", path.name)]
    return sum(online(block) for block in blocks)


def listen() -> None:
    """Bring blocks online as they are added, for ever."""
    uevents = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    uevents.bind((0, 1))
    online_all()
    print("ready", flush=True)
    while True:
        header = uevents.recv(4096).split(b"\0")[0].decode()
        action, _, device = header.partition("@")
        if action == "add" and "/memory/memory" in device:
            online(Path(f"/sys{device}"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--once"]:
        print(online_all())
    else:
        listen()
