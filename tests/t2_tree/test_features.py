"""Every feature flag, seen from outside: two machines that differ in one flag, and what each of
them does.

The list of flags is the engine's own, so one that is added fails here until somebody shows what it
is good for. Each case does something on a machine with the flag and on one without it, says what
must be seen on either side, and stands on a kernel profile near the change. Which profile has which
flag is checked against the dates in kernels/features.toml.

The cases are in tests/feature_cases.
"""

from __future__ import annotations

import re
import tomllib

import pytest
from feature_cases import adding, blocks, file_lines, numbers, offlining
from feature_cases.case import (
    CASES,
    KERNELS,
    declared,
    machine_with,
    profile,
)

from fakesysfs.config.profiles import list_kernels

CASE_FILES = (adding, blocks, file_lines, numbers, offlining)

# The tests


def test_every_flag_has_a_case() -> None:
    assert sorted(CASES) == sorted(declared())


@pytest.mark.parametrize("flag", declared())
def test_flag_shows(flag: str) -> None:
    case = CASES[flag]
    for wanted, expected in ((True, case.on), (False, case.off)):
        with machine_with(case.kernel, {**case.also, flag: wanted}, **case.options) as machine:
            assert case.look(machine) == expected, f"{flag} is {'on' if wanted else 'off'}"
    assert case.on != case.off


# Which kernel has which flag

# : Stable kernels that have what their release had not, or lack what it should have: see
# kernels/features.toml.
STABLE = {
    "removable_const": {"5.4"},
    "online_refusal_shrinks_span": {"5.4"},
    "span_shrink_at_offline": {"5.4"},
    "hard_offline_action_line": {"6.12"},
    "inject_signed": {"5.15", "6.1"},
    "acpi_add_failure_status": {"5.10"},
}


def version(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


def dated(text: str) -> set[str]:
    """The profiles that the first words of a flag's description speak of."""
    kernels = list_kernels()
    if found := re.match(r"until (\S+), and since (\S+)", text):
        return {
            k for k in kernels if version(k) < version(found[1]) or version(k) >= version(found[2])
        }
    if found := re.match(r"since ([\d.]+)", text):
        return {k for k in kernels if version(k) >= version(found[1])}
    if found := re.match(r"until ([\d.]+)", text):
        return {k for k in kernels if version(k) < version(found[1])}
    if found := re.match(r"([\d.]+) to ([\d.]+)", text):
        return {k for k in kernels if version(found[1]) <= version(k) <= version(found[2])}
    if found := re.match(r"([\d.]+) only", text):
        return {found[1]}
    if found := re.match(r"stable ([\d., and]+):", text):
        return set(re.findall(r"\d+\.\d+", found[1]))
    assert text.startswith("all profiles"), text
    return set(kernels)


@pytest.mark.parametrize("flag", declared())
def test_profiles_are_as_the_dates_say(flag: str) -> None:
    text = tomllib.loads((KERNELS / "features.toml").read_text())[flag]
    have = {kernel for kernel in list_kernels() if flag in profile(kernel)["features"]}
    assert have == dated(text) ^ STABLE.get(flag, set())
    assert have, "no profile has it"
