"""The kernel's command line: what Linux understands of it, where memory hotplug is concerned.

Owns: the words, their number formats and what happens to malformed ones (Linux ignores them, so
does this). Does not own: what follows from them. `mem=` is applied in address_map.py, the rest in
the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .sizes import memparse, strtoull

__all__ = ["CommandLine", "parse_command_line"]


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the kernel makes of its command line.

    :param text: the line as given; what /proc/cmdline would hold.
    :param mem: limit of `mem=`, 0 without one. What it limits is the architecture's affair.
    :param movable_node: `movable_node` was there.
    :param numa_off: `numa=off`: all memory and CPUs are of node 0.
    :param kernelcore: bytes of `kernelcore=`; 0 when it is not there or was given in percent.
    :param memhp_default_state: a word the kernel knows, or "".
    :param memmap_on_memory: 0 no, 1 yes, 2 force.
    :param ignored: the words that change nothing here, in order, malformed ones among them.
    """

    text: str = ""
    mem: int = 0
    movable_node: bool = False
    numa_off: bool = False
    kernelcore: int = 0
    kernelcore_percent: int = 0
    movablecore: int = 0
    movablecore_percent: int = 0
    memhp_default_state: str = ""
    memmap_on_memory: int = 0
    online_policy: str = "contig-zones"
    auto_movable_ratio: int = 301
    auto_movable_numa_aware: bool = True
    nokaslr: bool = False
    ignored: tuple[str, ...] = ()


def parse_command_line(
    text: str, where: str, features: frozenset[str], page_shift: int
) -> CommandLine:
    """What the kernel of these features understands; what it does not, it ignores, and so does
    this.

    :raises ConfigError: for what this kernel would understand and the simulation cannot do.
    """
    found: dict[str, Any] = {}
    ignored = []

    def core(name: str, value: str) -> bool:
        if name == "kernelcore" and value == "mirror":
            raise ConfigError(
                f"{where}: there is no mirrored memory for kernelcore=mirror; give a size"
            )
        number, rest = strtoull(value)
        percent = rest[:1] == "%"
        size = 0 if percent else memparse(value)[0]
        if percent and number > 100:
            raise ConfigError(f"{where}: {name}={value} is more than all memory; 100% is the most")
        found[name] = size >> page_shift << page_shift
        found[f"{name}_percent"] = number if percent else 0
        return size > 0 or percent

    for word in _words(text):
        name, equals, value = word.partition("=")
        key = name.replace("-", "_")
        ok = False
        if key == "mem" and equals:
            size = memparse(value)[0]
            if ok := size > 0:
                found["mem"] = min(size, found.get("mem", size))
        elif key == "movable_node":
            ok = found["movable_node"] = True
        elif key == "numa" and value.startswith("off"):
            ok = found["numa_off"] = True
        elif key == "nokaslr":
            ok = found["nokaslr"] = True
        elif key in ("kernelcore", "movablecore") and equals:
            ok = core(key, value)
        elif key == "memhp_default_state" and equals:
            states = ("offline", "online", "online_kernel", "online_movable")
            if ok := value in states[: 4 if "auto_online_four_words" in features else 2]:
                found[key] = value
        elif key == "memory_hotplug.memmap_on_memory" and "memmap_on_memory" in features:
            flag = _boolean(value, features) if equals else True
            if value == "force" and "memmap_on_memory_force" in features:
                found["memmap_on_memory"], ok = 2, True
            elif flag is not None:
                found["memmap_on_memory"], ok = int(flag), True
        elif key == "memory_hotplug.online_policy" and "online_policy" in features:
            if ok := value in ("contig-zones", "auto-movable"):
                found["online_policy"] = value
        elif key == "memory_hotplug.auto_movable_ratio" and "online_policy" in features:
            number, rest = strtoull(value)
            if ok := bool(value) and not rest and number < 1 << 32:
                found["auto_movable_ratio"] = number
        elif key == "memory_hotplug.auto_movable_numa_aware" and "online_policy" in features:
            flag = _boolean(value, features) if equals else True
            if ok := flag is not None:
                found["auto_movable_numa_aware"] = flag
        if not ok:
            ignored.append(word)
    return CommandLine(text=text, ignored=tuple(ignored), **found)


def _words(line: str) -> list[str]:
    """Words as Linux's next_arg() sees them: quotes keep blanks, `--` ends the kernel's part."""
    words, word, quoted, there = [], "", False, False
    for c in line:
        if c == '"':
            quoted, there = not quoted, True
        elif c.isspace() and not quoted:
            if there:
                words.append(word)
            word, there = "", False
        else:
            word, there = word + c, True
    if there:
        words.append(word)
    return words[: words.index("--")] if "--" in words else words


def _boolean(text: str, features: frozenset[str]) -> bool | None:
    """Linux's kstrtobool(); None when it would be EINVAL."""
    true, false = "yY1", "nN0"
    if "kstrtobool_true_false" in features:
        true, false = true + "tT", false + "fF"
    if "kstrtobool_enable_disable" in features:
        true, false = true + "eE", false + "dD"
    if text[:1] and text[0] in true:
        return True
    if text[:1] and text[0] in false:
        return False
    if text[:1] in ("o", "O") and text[1:2] and text[1] in "nNfF":
        return text[1] in "nN"
    return None
