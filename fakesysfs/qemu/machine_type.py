"""Which QEMU machine is imagined for an architecture, and which devices its board takes.

Owns: names of machine types and of their RAM, and the refusal of devices that a board has no place
for, in QEMU's words. Does not own: the devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import MonitorError
from .dimm import DIMM_DRIVERS
from .virtio_mem import DRIVER, TYPE

if TYPE_CHECKING:
    from ..config.machine_config import MachineConfig

__all__ = ["check_driver", "machine_type"]


class MachineType(NamedTuple):
    """A machine type of QEMU.

    :param ram: name of the backend that is the machine's RAM.
    :param qom_type: its QOM type.
    """

    ram: str
    qom_type: str


_MACHINES: Final = {
    "x86_64": MachineType("pc.ram", "pc-q35-7.2-machine"),
    "aarch64": MachineType("mach-virt.ram", "virt-7.2-machine"),
    "ppc64le": MachineType("ppc_spapr.ram", "pseries-7.2-machine"),
    "s390x": MachineType("s390.ram", "s390-ccw-virtio-7.2-machine"),
}
#: Devices of QEMU that are not simulated, but refused as QEMU does on a bus without hotplug.
_NOT_SIMULATED: Final = ("virtio-pmem-pci", "cxl-type3")


def machine_type(config: MachineConfig) -> MachineType:
    """Return the machine type that QEMU would have for a machine."""
    return _MACHINES.get(config.arch, _MACHINES["x86_64"])


def check_driver(config: MachineConfig, driver: str, bus: str | None) -> None:
    """Raise MonitorError when a machine has no device of this driver, or none on this bus.

    A bus is taken at its name: which PCI buses there are is not simulated. Those of a q35 itself
    are not for hotplug.
    """
    if driver == TYPE:
        raise MonitorError(f"No 'virtio-bus' bus found for device '{TYPE}'")
    if bus == "pcie.0" or bus is None:
        if driver in _NOT_SIMULATED or (driver == DRIVER and bus):
            raise MonitorError("Bus 'pcie.0' does not support hotplugging")
    elif driver in _NOT_SIMULATED:
        raise MonitorError(f"'{driver}' is not simulated here: only pc-dimm and {DRIVER} are")
    if driver not in (*DIMM_DRIVERS, DRIVER) or config.arch == "s390x":
        raise MonitorError(f"'{driver}' is not a valid device model name")
    if bus is not None and driver != DRIVER:
        raise MonitorError(f"Bus '{bus}' not found")
