"""Linux memory hotplug without the hardware.

    from fakesysfs import Machine, MachineConfig

Names are loaded when they are first used: a command that only talks to a running instance needs
none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config.machine_config import MachineConfig
    from .errors import FakesysfsError
    from .virtual_machine import VirtualMachine as Machine

__all__ = ["FakesysfsError", "Machine", "MachineConfig"]

_HOMES = {
    "FakesysfsError": (".errors", "FakesysfsError"),
    "Machine": (".virtual_machine", "VirtualMachine"),
    "MachineConfig": (".config.machine_config", "MachineConfig"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, home_name = _HOMES[name]
    value: object = getattr(import_module(module, __name__), home_name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
