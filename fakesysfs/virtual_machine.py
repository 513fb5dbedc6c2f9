"""A machine with the hardware around it: what `from fakesysfs import Machine` gives.

Owns: that a machine has one set of DIMM slots and one QEMU monitor, when they are made, and the
monitor's commands as methods. Does not own what the commands do (qemu/), nor what the kernel does
then (machine.py and the engine).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config.machine_config import MachineConfig
    from .qemu.monitor import Monitor

__all__ = ["VirtualMachine"]

# Properties that are sizes, and that may be given as text like "512M".
_SIZES = frozenset({"size", "align", "requested-size", "block-size"})


class VirtualMachine(Machine):
    """A machine, its DIMM slots and its QEMU monitor.

        with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
            machine.object_add("memory-backend-ram", id="m0", size="512M")
            machine.device_add("pc-dimm", id="d0", memdev="m0")
            machine.write_text("/sys/devices/system/memory/memory32/state", "online")

    DIMMs of the configuration are plugged. What QEMU would refuse is a MonitorError in QEMU's words.

    :param config: what the machine is made from.
    :param on_quit: called when somebody tells the monitor to quit.
    :raises ConfigError: there can be no such machine, or a DIMM does not fit.
    """

    def __init__(self, config: MachineConfig, on_quit: Callable[[], object] = lambda: None) -> None:
        super().__init__(config)
        self._on_quit = on_quit
        self._making = threading.Lock()
        self._monitor: Monitor | None = None
        self._host_events: list[tuple[str, dict[str, Any]]] = []
        if config.dimms:
            try:
                _ = self.monitor
            except BaseException:
                super().close()
                raise

    @property
    def monitor(self) -> Monitor:
        """The monitor and, behind it, the DIMM slots. They are made when they are first asked for,
        which takes a while.
        """
        with self._making:
            if self._monitor is None:
                from .qemu.board import Board
                from .qemu.monitor import Monitor

                board = Board(self)
                board.subscribe(lambda event: self._host_events.append((event.name, event.data)))
                self._monitor = Monitor(board, self._on_quit)
            return self._monitor

    def host_events(self, start: int = 0, /) -> list[tuple[str, dict[str, Any]]]:
        """Return what QMP clients were told, as (name, data): DEVICE_DELETED, ACPI_DEVICE_OST, ...

        :param start: number of the first one wanted; the first of the machine is 0.
        """
        return self._host_events[start:]

    def close(self) -> None:
        """Give the machine's memory back. After it every method raises ValueError."""
        with self._making:
            if self._monitor is not None:
                self._monitor.board.close()
        super().close()

    def object_add(self, qom_type: str, /, **properties: Any) -> None:
        """Make a memory backend, as `object_add` of QEMU.

        :param qom_type: "memory-backend-ram", "memory-backend-file" or "memory-backend-memfd".
        :param properties: `id`, `size` in bytes or as text like "512M", and others by their names
            in QEMU with `_` for `-`.
        :raises MonitorError: QEMU's reason not to.
        :raises ConfigError: when the text is no size.
        """
        self.qmp("object-add", qom_type=qom_type, **properties)

    def object_del(self, name: str, /) -> None:
        """Give a memory backend back.

        :raises MonitorError: there is none of that name, or a device is made of it.
        """
        self.qmp("object-del", id=name)

    def device_add(self, driver: str, /, **properties: Any) -> None:
        """Plug a device, as `device_add` of QEMU, and wait a moment for the guest to find it.

        :param driver: "pc-dimm" or "virtio-mem-pci".
        :param properties: `id`, `memdev`, and others by their names in QEMU with `_` for `-`.
        :raises MonitorError: QEMU's reason not to.
        :raises ConfigError: when the text is no size.
        """
        self.qmp("device_add", driver=driver, **properties)

    def device_del(self, name: str, /) -> None:
        """Ask the guest to let a device go, and wait a moment for its answer.

        The device is still there when the guest refuses or takes longer; host_events() has what
        the guest said.

        :raises MonitorError: there is no such device, or it is being unplugged already.
        """
        self.qmp("device_del", id=name)

    def qom_set(self, path: str, property_name: str, value: Any, /) -> None:
        """Set a property of an object, such as "requested-size" of a virtio-mem device.

        :param path: of the object: "/machine/peripheral/vm0", or "vm0" alone.
        :param value: as JSON has it; a size in bytes or as text like "512M".
        :raises MonitorError: QEMU's reason not to.
        :raises ConfigError: when the text is no size.
        """
        value = _in_bytes(property_name, value)
        self.qmp("qom-set", path=path, property=property_name, value=value)

    def qom_get(self, path: str, property_name: str, /) -> Any:
        """Return a property of an object, as JSON has it.

        :raises MonitorError: there is no such object or property.
        """
        return self.qmp("qom-get", path=path, property=property_name)

    def qmp(self, command: str, /, **arguments: Any) -> Any:
        """Carry out a QMP command.

            machine.qmp("query-memory-devices")

        :param arguments: by their names in QMP with `_` for `-`.
        :returns: what stands behind "return" in QEMU's reply.
        :raises MonitorError: what stands behind "error".
        :raises ConfigError: when a size is text that is no size.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        given = {name: _in_bytes(name, value) for name, value in named.items()}
        return self.monitor.execute(command, given)

    def hmp(self, line: str, /) -> str:
        """Carry out a line of the monitor for people and return what QEMU would print.

        print(machine.hmp("info memory-devices"))
        """
        return self.monitor.command(line)


def _in_bytes(name: str, value: Any) -> Any:
    if name not in _SIZES or not isinstance(value, str):
        return value
    from .config.sizes import parse_size

    return parse_size(value, name)
