"""The words of a fault rule: what each becomes, and what is said of words that are no rule."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from fakesysfs.config.fault_rules import (
    ALWAYS,
    CERTAIN,
    FaultRuleSpec,
    parse_duration_us,
    parse_fault_rule,
)
from fakesysfs.errors import ConfigError

MEMORY = "/sys/devices/system/memory"


def spec(op: str, pattern: str, text: str, **fields: Any) -> FaultRuleSpec:
    usual = FaultRuleSpec(op, "", text, pattern, None, 0, False, 0, 1, ALWAYS, CERTAIN)
    return usual._replace(**fields)


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("EIO", {}),
        ("EIO always", {}),
        ("EIO x3", {"times": 3}),
        ("EIO nth=5", {"nth": 5, "times": 1}),
        ("EIO nth=5 x2", {"nth": 5, "times": 2}),
        ("EIO x2 nth=5", {"nth": 5, "times": 2}),
        ("EIO nth=5 always", {"nth": 5}),
        ("EIO p=1", {}),
        ("EIO p=1.0 x4", {"times": 4}),
        ("EIO p=0.000000001", {"chance": 1}),
        ("p=.25 EIO", {"chance": 250_000_000}),
        ("delay 2s EIO", {"wait_us": 2_000_000}),
        ("hang EIO", {"hang": True}),
    ],
)
def test_when_and_what(rule: str, fields: dict[str, Any]) -> None:
    text = f"read memory3/state {rule}"
    expected = spec("read", f"{MEMORY}/memory3/state", text, errno=errno.EIO, **fields)
    assert parse_fault_rule(text) == expected


@pytest.mark.parametrize(
    ("rule", "op", "pattern", "fields"),
    [
        ("hide memory3/", "hide", f"{MEMORY}/memory3", {}),
        ("hide /", "hide", "/", {}),
        ("list . ENOENT x1", "list", MEMORY, {"errno": errno.ENOENT, "times": 1}),
        ("write\tmemory3/*   EBUSY ", "write", f"{MEMORY}/memory3/*", {"errno": errno.EBUSY}),
        ("read '/proc/a b' EIO", "read", "/proc/a b", {"errno": errno.EIO}),
        (r"read memory\* EIO", "read", rf"{MEMORY}/memory\*", {"errno": errno.EIO}),
        ("uevent * duplicate", "uevent", f"{MEMORY}/*", {"effect": "duplicate"}),
        ("uevent * memory3 drop", "uevent", f"{MEMORY}/memory3", {"effect": "drop"}),
        (
            "uevent remove /devices/system/node/* reorder nth=2",
            "uevent",
            "/sys/devices/system/node/*",
            {"action": "remove", "effect": "reorder", "nth": 2, "times": 1},
        ),
        (
            "uevent add memory3 early",
            "uevent",
            f"{MEMORY}/memory3",
            {"action": "add", "effect": "early", "wait_us": 100_000},
        ),
        (
            "uevent add memory3 early 40ms x1",
            "uevent",
            f"{MEMORY}/memory3",
            {"action": "add", "effect": "early", "wait_us": 40_000, "times": 1},
        ),
        ("unplug d* delay 300ms", "unplug", "d*", {"effect": "delay", "wait_us": 300_000}),
        ("unplug d0 twice", "unplug", "d0", {"effect": "twice"}),
    ],
)
def test_files_and_devices(rule: str, op: str, pattern: str, fields: dict[str, Any]) -> None:
    assert parse_fault_rule(rule) == spec(op, pattern, " ".join(rule.split()), **fields)


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("EPERM", errno.EPERM),
        ("E2BIG", errno.E2BIG),
        ("EOPNOTSUPP", errno.EOPNOTSUPP),
        ("ENOTSUP", errno.EOPNOTSUPP),
        ("EWOULDBLOCK", errno.EAGAIN),
        ("EHWPOISON", 133),
        ("5", errno.EIO),
        ("511", 511),
    ],
)
def test_an_errno_is_a_name_or_a_number(word: str, number: int) -> None:
    assert parse_fault_rule(f"write memory3/state {word}").errno == number


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2s", 2_000_000),
        ("250ms", 250_000),
        ("1500us", 1500),
        ("1.5s", 1_500_000),
        ("0.25ms", 250),
        (".5s", 500_000),
        ("1.s", 1_000_000),
        ("2min", 120_000_000),
        ("24h", 86_400_000_000),
        ("0s", 0),
        ("0.0000004s", 0),
        *(
            (wrong, None)
            for wrong in ("", "2", "s", "2x", "-1s", "1e3s", "2 s", "25h", ".s", "1..s")
        ),
        ("99999999999999999999s", None),
    ],
)
def test_durations(text: str, us: int | None) -> None:
    assert parse_duration_us(text) == us


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("", "it is empty"),
        (" \t\n", "it is empty"),
        ("erase memory3/state EIO", "`erase`: a rule begins with open, read"),
        ("read", "which file?"),
        ("read EIO", "which file?"),
        ("write hang", "which file?"),
        ("write x3", "which file?"),
        ("hide", "which file?"),
        ("read memory3/state", "what is to happen?"),
        (
            "read memory3/state always",
            "what is to happen? an errno such as EBUSY, delay TIME, or hang",
        ),
        ("list memory3", "what is to happen? an errno such as EBUSY"),
        ("list memory3 hang", "`hang`: a listing cannot wait"),
        ("list . delay 1s", "`delay`: a listing cannot wait"),
        ("read memory3/state nth=4 x2", "what is to happen?"),
        ("read memory3/state EWHAT", "`EWHAT` is neither an errno"),
        ("read memory3/state eio", "`eio` is neither an errno"),
        ("read memory3/state 0", "`0` is neither an errno"),
        ("read memory3/state 512", "`512` is neither an errno"),
        ("read memory3/state -5", "`-5` is neither an errno"),
        ("read memory3/state EIO sometimes", "`sometimes` is neither an errno"),
        ("read memory3/state drop", "`drop` is neither an errno"),
        ("read memory3/state EIO EBUSY", "`EBUSY`: this has been said"),
        ("read memory3/state EIO x2 x3", "`x3`: this has been said"),
        ("read memory3/state EIO x2 always", "`always`: this has been said"),
        ("read memory3/state EIO nth=2 nth=3", "`nth=3`: this has been said"),
        ("read memory3/state EIO p=0.5 p=0.6", "`p=0.6`: this has been said"),
        ("read memory3/state hang delay 1s", "`delay`: this has been said"),
        ("read memory3/state delay 1s delay 1s", "`delay`: this has been said"),
        ("read memory3/state delay", "how long?"),
        ("read memory3/state delay 2", "how long? `2`"),
        ("read memory3/state delay EIO", "how long? `EIO`"),
        ("read memory3/state EIO x0", "`x0`: how often?"),
        ("read memory3/state EIO x9999999999999999999", "`x9999999999999999999`: how often?"),
        ("read memory3/state EIO x", "`x` is neither"),
        ("read memory3/state EIO nth=0", "`nth=0`: the first pass is nth=1"),
        ("read memory3/state EIO nth=", "`nth=`: the first pass is nth=1"),
        ("read memory3/state EIO nth=-1", "`nth=-1`: the first pass is nth=1"),
        ("read memory3/state EIO p=0", "`p=0`: a probability"),
        ("read memory3/state EIO p=1.1", "`p=1.1`: a probability"),
        ("read memory3/state EIO p=10%", "`p=10%`: a probability"),
        ("read memory3/state EIO p=", "`p=`: a probability"),
        ("read ../node/node0/meminfo EIO", "`../node/node0/meminfo`: no name has"),
        ("read ./memory3/state EIO", "`./memory3/state`: no name has"),
        ("read /proc/.. EIO", "`/proc/..`: no name has"),
        ("read memory3\x01 EIO", "this is not text"),
        ("hide memory3 EIO", "`EIO`: `hide` takes a file and no more"),
        ("vanish memory3 x2", "`x2`: `vanish` takes a file and no more"),
        ("uevent", "of which device?"),
        ("uevent drop", "of which device?"),
        ("uevent add", "of which device?"),
        ("uevent add drop", "of which device?"),
        ("uevent explode memory3 drop", "`explode` is no action of a uevent"),
        ("uevent memory3", "what is to happen?"),
        ("uevent add memory3", "what is to happen?"),
        ("uevent add memory3 always", "what is to happen?"),
        ("uevent add memory3 EIO", "`EIO` is neither drop"),
        ("uevent add memory3 hang", "`hang` is neither drop"),
        ("uevent add memory3 drop duplicate", "`duplicate`: this has been said"),
        ("uevent add memory3 delay", "how long?"),
        ("uevent memory3 early", "only `uevent add` can be early"),
        ("uevent online memory3 early", "only `uevent add` can be early"),
        ("uevent add memory3 early 5", "how long? `5`"),
        ("read a b c d e f g h i j k l m n o p q", "this is too long"),
        ("x" * 520, "this is too long for a rule"),
        ("read \udcff EIO", "this is not text"),
        ("read 'memory3 EIO", "a quote has no end"),
    ],
)
def test_what_is_no_rule(rule: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_fault_rule(rule)
    assert f"{refused.value}".partition("': ")[2].startswith(reason)
