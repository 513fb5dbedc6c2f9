"""What `info` of HMP prints about memory, as QEMU 7.2 prints it.

Owns: the topics and the form of the text. Does not own: what there is to tell (board.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from .board import Board
from .hmp_syntax import HmpCommand, end_of_line
from .host_cpus import hotpluggable_cpus
from .qemu_text import PACKAGE, VERSION

__all__ = ["HmpInfo"]


class HmpInfo:
    """The topics of `info`.

    :ivar commands: the topics.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.commands = [
            HmpCommand(
                "hotpluggable-cpus", "", "Show information about hotpluggable CPUs", self._hotpluggable_cpus
            ),
            HmpCommand("memdev", "", "show memory backends", self._memdev),
            HmpCommand("memory-devices", "", "show memory devices", self._memory_devices),
            HmpCommand(
                "memory_size_summary", "",
                "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.",
                self._memory_size_summary,
            ),
            HmpCommand("name", "", "show the current VM name", self._name),
            HmpCommand("numa", "", "show NUMA information", self._numa),
            HmpCommand("status", "", "show the current VM status (running|paused)", self._status),
            HmpCommand("version", "", "show the version of QEMU", self._version),
        ]  # fmt: skip

    def _memory_devices(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        for device in self._board.memory_devices():
            data = device["data"]
            yield f'Memory device [{device["type"]}]: "{data.get("id", "")}"'
            if device["type"] == "virtio-mem":
                yield f"  memaddr: {data['memaddr']:#x}"
                for name in ("node", "requested-size", "size", "max-size", "block-size", "memdev"):
                    yield f"  {name}: {data[name]}"
                continue
            yield f"  addr: {data['addr']:#x}"
            yield f"  slot: {data['slot']}"
            yield f"  node: {data['node']}"
            yield f"  size: {data['size']}"
            yield f"  memdev: {data['memdev']}"
            yield f"  hotplugged: {_word(data['hotplugged'])}"
            yield f"  hotpluggable: {_word(data['hotpluggable'])}"

    def _memory_size_summary(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        summary = self._board.memory_size_summary()
        yield f"base memory: {summary['base-memory']}"
        yield f"plugged memory: {summary['plugged-memory']}"

    def _memdev(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        for memdev in self._board.memdevs():
            yield f"memory backend: {memdev['id']}"
            yield f"  size:  {memdev['size']}"
            for name in ("merge", "dump", "prealloc", "share", "reserve"):
                yield f"  {name}: {_word(memdev[name])}"
            yield f"  policy: {memdev['policy']}"
            yield f"  host nodes: {_ranges(memdev['host-nodes'])}"
        yield ""

    def _hotpluggable_cpus(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        cpus = hotpluggable_cpus(self._board)
        yield "Hotpluggable CPUs:"
        for cpu in cpus:
            yield f'  type: "{cpu["type"]}"'
            yield f'  vcpus_count: "{cpu["vcpus-count"]}"'
            yield f'  qom_path: "{cpu["qom-path"]}"'
            yield "  CPUInstance Properties:"
            yield from (f'    {name}: "{number}"' for name, number in cpu["props"].items())

    def _numa(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        nodes = self._board.numa()
        yield f"{len(nodes)} nodes"
        for node in nodes:
            yield f"node {node.id} cpus:{''.join(f' {cpu}' for cpu in node.cpus)}"
            yield f"node {node.id} size: {node.bytes >> 20} MB"
            yield f"node {node.id} plugged: {node.plugged_bytes >> 20} MB"

    def _name(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        return iter(())

    def _status(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        state = self._board.run_state.name
        yield f"VM status: {'paused (prelaunch)' if state == 'prelaunch' else state}"

    def _version(self, rest: str) -> Iterator[str]:
        end_of_line(rest)
        yield ".".join(str(number) for number in VERSION) + PACKAGE


def _word(value: bool) -> str:
    return "true" if value else "false"


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as QEMU prints a list of them: 0-2,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(str(number) for number in part) for part in parts)
