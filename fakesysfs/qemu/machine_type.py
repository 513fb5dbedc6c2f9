"""Which devices a machine's board takes: QEMU's machine type of its architecture.

Owns: the refusal of devices that a board has no place for, in QEMU's words. Does not own: what each
machine type has (config/arches), and the devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import MonitorError
from .dimm import DIMM_DRIVERS
from .virtio_mem import DRIVER

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig

__all__ = ["check_driver"]


def check_driver(config: MachineConfig, driver: str, bus: str | None) -> None:
    """Raise MonitorError when a machine has no device of this driver, or none on this bus.

    A bus is taken at its name: which PCI buses there are is not simulated. Those that QEMU makes by
    itself are not for hotplug.
    """
    refused = config.qemu.get("refused", {})
    if driver not in config.qemu["devices"]:
        if driver not in refused:
            raise MonitorError(f"'{driver}' is not a valid device model name")
        if bus in (None, "pcie.0"):
            raise MonitorError(refused[driver])
        raise MonitorError(f"'{driver}' is not simulated here: only pc-dimm and {DRIVER} are")
    if bus is not None and driver in DIMM_DRIVERS:
        raise MonitorError(f"Bus '{bus}' not found")
    if bus == "pcie.0":
        raise MonitorError("Bus 'pcie.0' does not support hotplugging")
