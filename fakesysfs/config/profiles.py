"""The data files of kernels and architectures: which there are, what is in one, which is the
nearest.

Owns: `kernels/NAME.toml` (what a Linux version does, as feature flags), `kernels/recorded.toml` (how
far that agrees with real kernels) and `arches/NAME.toml` (sizes, zones, addresses); the words for a name that there is not. Does not own: what the flags mean
(kernels/features.toml, the engine), machines that have a name (machine_config.py).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .toml_file import read_toml

__all__ = [
    "Agreement",
    "list_arches",
    "list_kernels",
    "load_agreements",
    "load_arch",
    "load_callgraphs",
    "load_kernel",
    "names_in",
    "nearest_kernel",
    "suggest",
]

_HERE: Final = Path(__file__).parent
_NO_KERNELS: Final = ("features", "recorded")  # files beside the profiles


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a profile agrees with recordings of a real kernel.

    :param kernel: the profile's name.
    :param arch: the architecture that the kernel was built for.
    :param config: the configuration it was built with: a distribution's, or one of the recordings'.
    :param recordings: how many were replayed.
    :param steps: how many steps of them were compared.
    :param agree: how many of these were as recorded.
    """

    kernel: str
    arch: str
    config: str
    recordings: int
    steps: int
    agree: int


def names_in(folder: str) -> list[str]:
    """Names of the data files of one kind."""
    return sorted(p.stem for p in (_HERE / folder).glob("*.toml"))


def suggest(word: str, known: Iterable[str], what: str = "known") -> str:
    """The end of an error message: the nearest known word, or all of them."""
    from difflib import get_close_matches

    words = list(known)
    close = get_close_matches(word, words, 1) or get_close_matches(word.upper(), words, 1)
    return f"; did you mean {close[0]}?" if close else f"; {what}: {', '.join(words)}"


def list_kernels() -> list[str]:
    """Names of the kernel profiles, oldest first."""
    return sorted((n for n in names_in("kernels") if n not in _NO_KERNELS), key=_version)


def list_arches() -> list[str]:
    """Names of the architectures."""
    return names_in("arches")


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


def nearest_kernel(release: str) -> str:
    """The newest profile that is no newer than this release, "5.14.0-427.el9.x86_64" say; the
    oldest when all are newer, the newest when it is no version."""
    names = list_kernels()
    m = re.match(r"[0-9]{1,9}\.[0-9]{1,9}", release, re.ASCII)
    index = bisect_right([_version(name) for name in names], _version(m[0])) if m else len(names)
    return names[max(index - 1, 0)]


def load_kernel(name: str, where: str) -> dict[str, Any]:
    """The profile of this name: its "release", its "source" in words, and its "features".

    :param where: place of the name, for the error message.
    :raises ConfigError: there is none; the nearest is named.
    """
    names = list_kernels()
    if name in names:
        return read_toml(_HERE / "kernels" / f"{name}.toml")
    text = f"{where} {name}: no profile of this version"
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}", name, re.ASCII):
        raise ConfigError(f"{text}; known: {', '.join(names)}")
    raise ConfigError(f"{text}; the nearest is {nearest_kernel(name)}, known: {', '.join(names)}")


def load_callgraphs(kernel: str) -> str:
    """The call graphs of a kernel profile, or of the nearest that was recorded, as the engine takes
    them: see engine/base/trace_graph.c."""
    kernels = list_kernels()
    folder = _HERE / "kernels" / "callgraphs"
    recorded = sorted((path.stem for path in folder.glob("*.txt")), key=_version, reverse=True)
    here = kernels.index(kernel)
    nearest = min(recorded, key=lambda name: abs(kernels.index(name) - here))
    return (folder / f"{nearest}.txt").read_text()


def load_agreements() -> list[Agreement]:
    """Return what the last replay of all recordings found, by kernel. Kernels that were never
    recorded are missing."""
    rows = read_toml(_HERE / "kernels" / "recorded.toml")["recorded"]
    return [Agreement(**row) for row in rows]


def load_arch(name: str, where: str, features: frozenset[str]) -> dict[str, Any]:
    """The data of the architecture of this name, as a kernel with these features has it.

    :param where: place of the name, for the error message.
    :raises ConfigError: there is none.
    """
    if name not in list_arches():
        raise ConfigError(f"{where} {name}: no such architecture{suggest(name, list_arches())}")
    arch = read_toml(_HERE / "arches" / f"{name}.toml")
    for feature, other in arch.get("unless", {}).items():
        if feature not in features:
            arch.update(other)
    return arch
