"""The CPUs of a machine as its host lists them: where each sits, and on which NUMA node.

Owns: what query-hotpluggable-cpus returns, as QEMU 7.2 does. Which CPUs there are says the
machine's description; nothing else of CPUs is simulated, and none can be plugged.
"""

from __future__ import annotations

from typing import Any

from ..errors import MonitorError
from .board import Board

__all__ = ["hotpluggable_cpus"]


def hotpluggable_cpus(board: Board) -> list[dict[str, Any]]:
    """What query-hotpluggable-cpus returns: the last CPU first, each a core of the one socket.

    :raises MonitorError: it is not known how this machine numbers them.
    """
    cpu_type = board.config.qemu.get("cpu")
    if cpu_type is None:
        raise MonitorError("The feature 'query-hotpluggable-cpus' is not enabled")
    node_of = {cpu: node.id for node in board.numa() for cpu in node.cpus}
    cpus = sorted({cpu for node in board.config.nodes for cpu in node.cpus}) or [0]
    return [
        {
            "type": cpu_type,
            "vcpus-count": 1,
            "props": {
                **({"node-id": node_of[cpu]} if cpu in node_of else {}),
                "socket-id": 0,
                "core-id": cpu,
                "thread-id": 0,
            },
            # the first CPU's interrupt controller stands before the second CPU
            "qom-path": f"/machine/unattached/device[{cpu + (cpu > 0)}]",
        }
        for cpu in reversed(cpus)
    ]
