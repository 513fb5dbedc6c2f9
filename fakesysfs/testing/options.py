"""The options of an instance that a test asks for: what the marker takes, and what becomes of it.

Owns: the names of the marker's arguments, which of them are the machine's, how they are written for
`fakesysfs run`, and the axes a test can be repeated along. Does not own what a value may be
(config/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import product
from typing import Any, Final

from ..config.machine_options import MACHINE_OPTIONS, MachineOption
from ..errors import ConfigError

# Options of `fakesysfs run` that do not describe the machine, and how they are written there.
RUN_OPTIONS: Final = (
    MachineOption("udev", ("--udev",), "", "", ""),
    MachineOption("rules", ("--rules",), "", "", "", repeats=True),
    MachineOption("net", ("--net",), "", "", ""),
    MachineOption("bind_roots", ("--bind-root",), "", "", "", repeats=True),
    MachineOption("root", ("--root",), "", "", ""),
)
OPTIONS: Final = {option.name: option for option in (*MACHINE_OPTIONS, *RUN_OPTIONS)}
OTHER_NAMES: Final = {"fault": "faults", "node": "nodes", "distance": "distances"}
# What a test can be repeated along, and the option that each gives.
AXES: Final = {"kernels": "kernel", "machines": "machine", "arches": "arch"}


def checked(given: Mapping[str, Any], known: Iterable[str] = ()) -> dict[str, Any]:
    """Return options by the names that OPTIONS has.

    :param known: other names that may be given; they are kept.
    :raises ConfigError: there is no such option.
    """
    found = {}
    for name, value in given.items():
        right = OTHER_NAMES.get(name, name)
        if right not in OPTIONS and right not in known:
            names = (*OPTIONS, *OTHER_NAMES, *known)
            close = get_close_matches(name, names, 1)
            raise ConfigError(
                f"there is no option `{name}`"
                + (f"; did you mean `{close[0]}`?" if close else f"; there are: {', '.join(names)}")
            )
        if value is not None:
            repeats = right in OPTIONS and OPTIONS[right].repeats
            found[right] = _listed(value) if repeats else value
    return found


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def of_machine(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that MachineConfig.from_options() takes."""
    machine = {option.name for option in MACHINE_OPTIONS}
    return {name: value for name, value in options.items() if name in machine}


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """The words for the command line of `fakesysfs run`."""
    words: list[str] = []
    for name, value in options.items():
        flag = OPTIONS[name].flags[-1]
        if name == "root":
            words += [] if value else ["--keep-uid"]
        elif name == "udev":
            words += [flag] if value else []
        elif name == "config" and isinstance(value, Mapping):
            words += [flag, ",".join(f"{key}={_yes_or_no(item)}" for key, item in value.items())]
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, f"{item}")]
        else:
            words += [flag, f"{value}"]
    return words


def _yes_or_no(value: Any) -> Any:
    return ("n", "y")[value] if isinstance(value, bool) else value


def cells(axes: Mapping[str, Any]) -> list[dict[str, str]]:
    """The options of each cell of a matrix; none without axes.

    :param axes: for names of AXES a list, a text with commas, or "all".
    :raises ConfigError: a kernel, machine or architecture is not known.
    """
    columns = [
        [{AXES[name]: value} for value in _values(name, wanted)]
        for name, wanted in axes.items()
        if wanted
    ]
    if not columns:
        return []
    return [{k: v for part in parts for k, v in part.items()} for parts in product(*columns)]


def _values(axis: str, wanted: Any) -> list[str]:
    names = wanted.split(",") if isinstance(wanted, str) else [f"{value}" for value in wanted]
    names = [name.strip() for name in names]
    if names == ["all"]:
        return _known(axis)
    for name in names:
        if name not in _known(axis) and not (axis == "machines" and "." in name):
            raise ConfigError(f"{axis}: there is no {name}; there are: {', '.join(_known(axis))}")
    return names


def _known(axis: str) -> list[str]:
    from ..config import option_sources, profiles

    if axis == "kernels":
        return profiles.list_kernels()
    if axis == "arches":
        return profiles.list_arches()
    return [preset.name for preset in option_sources.load_presets()]
