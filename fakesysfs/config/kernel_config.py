"""Kernel configuration: the names that matter here, their defaults, and what was chosen.

Owns: CONFIG_DEFAULTS, and what a value may be. Does not own: what follows from one (the engine).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError
from .limits import CPUS_LIMIT
from .option_sources import OptionSources
from .option_text import parse_integer
from .profiles import suggest

__all__ = ["CONFIG_DEFAULTS", "parse_kernel_config"]

#: Kernel configuration where it matters, with the default: 0 and 1 are n and y. The engine has the
# same list.
CONFIG_DEFAULTS: Final[Mapping[str, int]] = MappingProxyType({
    "ARCH_MEMORY_PROBE": 1,
    "MEMORY_FAILURE": 1,
    "MEMORY_NOTIFIER_ERROR_INJECT": 1,
    "MEMORY_HOTPLUG_DEFAULT_ONLINE": 0,
    "MEMORY_HOTREMOVE": 1,
    "FIRMWARE_MEMMAP": 1,
    "MODULES": 1,
    "X86_SGX": 1,
    "CRASH_HOTPLUG": 0,
    "COMPACTION": 1,
    "NUMA": 1,
    "ZONE_DEVICE": 1,
    "HUGETLB_PAGE": 1,
    "TRANSPARENT_HUGEPAGE": 1,
    "CMA": 0,
    "ZSWAP": 0,
    "ZSMALLOC": 1,
    "NUMA_BALANCING": 1,
    "MEMORY_BALLOON": 1,
    "KSM": 1,
    "UNACCEPTED_MEMORY": 0,
    "IOMMU_SUPPORT": 1,
    "HYPERVISOR": 1,
    "STEP_DELAY_US": 0,
    "KERNEL_USE_AFTER": 0,
    "NR_CPUS": CPUS_LIMIT,
})  # fmt: skip

#: Those that are numbers, with least and greatest value.
_NUMBERS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({
    "STEP_DELAY_US": (0, 10_000_000),
    "NR_CPUS": (1, CPUS_LIMIT),
    "KERNEL_USE_AFTER": (1, 1_000_000),
})  # fmt: skip

#: Words that stand for a number.
_WORDS: Final[Mapping[tuple[str, str], int]] = MappingProxyType(
    {
        ("KERNEL_USE_AFTER", "never"): 0,
    }
)


def parse_kernel_config(options: OptionSources, arch: Mapping[str, Any]) -> dict[str, int]:
    """Return the kernel configuration: the table, then what the architecture has otherwise, then
    file and option. What the architecture cannot have is `n`, as Kconfig leaves it.

    :param arch: content of `arches/NAME.toml`.
    :raises ConfigError: a name that is not in the table, or a value that cannot be.
    """
    out = dict(CONFIG_DEFAULTS)
    out.update((k, int(str(v))) for k, v in arch.get("config", {}).items())
    for where, value in options.both("config"):
        items: Iterable[tuple[str, object]]
        if isinstance(value, Mapping):
            items = value.items()
        elif isinstance(value, str):
            split = [item.partition("=") for item in value.replace(",", " ").split()]
            for name, equals, _ in split:
                if not equals:
                    raise ConfigError(
                        f"{where}: {name!r} is not name=value; write {name}=y or {name}=n"
                    )
            items = [(name, text) for name, _, text in split]
        else:
            raise ConfigError(f"{where}: {value!r} is neither text nor a table")
        for item, setting in items:
            key = item.removeprefix("CONFIG_")
            if key not in CONFIG_DEFAULTS:
                raise ConfigError(
                    f"{where}: no configuration `{item}`{suggest(key, CONFIG_DEFAULTS)}"
                )
            out[key] = _config_value(key, setting, where)
    return out | dict.fromkeys(arch.get("cannot_have", ()), 0)


def _config_value(name: str, value: object, where: str) -> int:
    text = ("y" if value else "n") if isinstance(value, bool) else str(value).strip()
    if (name, text) in _WORDS:
        return _WORDS[name, text]
    if name in _NUMBERS:
        return parse_integer(text, f"{where}: {name}", *_NUMBERS[name])
    if text in ("y", "m", "1"):
        return 1
    if text in ("n", "0", ""):
        return 0
    raise ConfigError(f"{where}: {name}={text}: this is y or n")
