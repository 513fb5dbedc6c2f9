"""Where the value of an option comes from: the caller, else the machine file or preset.

Owns: the keys of a machine file; precedence; the words by which an error message calls the place of a value. Does not own: what
a value may be (memory_and_nodes.py, kernel_config.py, workload.py), what follows from it
(machine_config.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .address_map import GIB, round_up
from .block_list import FILE_KEYS as _BLOCK_KEYS
from .block_list import BlockList, read_block_list
from .limits import CPUS_LIMIT, MEMORY_LIMIT
from .machine_options import MACHINE_OPTIONS
from .profiles import names_in, suggest
from .toml_file import read_toml

__all__ = [
    "OptionSources",
    "Preset",
    "load_presets",
]

_HERE: Final = Path(__file__).parent


# Keys of a machine file, in the order an error message lists them
_FILE_KEYS: Final = (
    "title",
    "summary",
    *(option.key for option in MACHINE_OPTIONS if option.key),
    "dimms",
    "ram_base",
    "like_host",
    *_BLOCK_KEYS,
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A machine that has a name.

    :param name: what `--machine` takes.
    :param title: what it is, a few words.
    :param summary: why one would want it, a sentence.
    """

    name: str
    title: str
    summary: str


class OptionSources:
    """The options of one machine, each with the words an error message calls its place by."""

    def __init__(self, machine: str | Path | None, given: Mapping[str, object]) -> None:
        self._given = given
        self._file: Mapping[str, object] = {}
        self._file_name = ""
        self._folder = Path()
        if machine is not None and str(machine):
            path = _find_machine(str(machine))
            self._file_name = path.name if path.parent == _HERE / "presets" else str(path)
            self._folder = path.parent
            self._file = read_toml(path)
            for key in self._file:
                if key not in _FILE_KEYS:
                    raise ConfigError(
                        f"{self._file_name}: no key `{key}`{suggest(key, _FILE_KEYS)}"
                    )
            if self._file.get("like_host"):
                self._file = {**self._file, **_host_options()}

    def place(self, key: str) -> str:
        """How to call the place the value of `key` comes from."""
        if key in self._given or key not in self._file:
            return f"--{key}"
        return f"`{key}` in {self._file_name}"

    def get(self, key: str) -> object:
        """The value of `key`, None when nobody gave one."""
        return self._given.get(key, self._file.get(key))

    def path(self, key: str, name: str) -> Path:
        """The path `name` that `key` holds: relative to the machine file when that is where it
        stands.
        """
        return Path(name) if key in self._given else self._folder / name

    def block_list(self, arch: Mapping[str, Any], arch_name: str) -> BlockList | None:
        """The blocks that the machine file lists; None when it lists none."""
        if "block" in self._file:
            return read_block_list(self._file, self._file_name, arch, arch_name, MEMORY_LIMIT)
        for key in _BLOCK_KEYS:
            if key in self._file:
                raise ConfigError(
                    f"`{key}` in {self._file_name}: it is about blocks; list them as `block`"
                )
        return None

    def both(self, key: str) -> list[tuple[str, object]]:
        """(place, value) of `key` in the file and among the given options: what is merged, not
        replaced.
        """
        out: list[tuple[str, object]] = []
        if key in self._file:
            out.append((f"`{key}` in {self._file_name}", self._file[key]))
        if key in self._given:
            out.append((f"--{key}", self._given[key]))
        return out

    def text(self, key: str, default: str) -> str:
        """The value of `key` as text; a TOML integer will do, a float will not (6.10 would be 6.1)."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise ConfigError(f"{self.place(key)}: {value!r} is not text; write it in quotes")


def _find_machine(name: str) -> Path:
    if "/" not in name and not name.endswith(".toml"):
        preset = _HERE / "presets" / f"{name}.toml"
        if os.path.isfile(preset):  # Path.is_file() fails on a name that is too long
            return preset
        if not os.path.exists(name):
            raise ConfigError(
                f"--machine {name}: no such preset or file{suggest(name, names_in('presets'))}"
            )
    return Path(name)


def _host_options() -> dict[str, object]:
    """Memory and CPUs of the computer this runs on, as options."""
    import psutil

    # the kernel's own share is missing in MemTotal: the next GiB is what the mainboard has
    total = min(round_up(psutil.virtual_memory().total, GIB), MEMORY_LIMIT // 2)
    cpus = min(psutil.cpu_count() or 1, CPUS_LIMIT)
    return {
        "memory": f"{total >> 30}G,slots=32,maxmem={2 * total >> 30}G",
        "node": [f"cpus=0-{cpus - 1}"],
    }


def load_presets() -> list[Preset]:
    """The machines that have a name, by name."""
    out = []
    for name in names_in("presets"):
        data = read_toml(_HERE / "presets" / f"{name}.toml")
        out.append(Preset(name, str(data["title"]), str(data["summary"])))
    return out
