"""Two agents and a udev rule, tested with fakesysfs."""

from __future__ import annotations

import sys

import agent
import pytest

from fakesysfs.testing.hotplug import Hotplug


@pytest.mark.fakesysfs(inside=True)
def test_all_blocks_go_online(hotplug: Hotplug) -> None:
    hotplug.plug("512M")
    assert agent.online_all() == 4
    hotplug.expect("memory*/state = online", "memory32/valid_zones = Movable")
    assert agent.online_all() == 0


@pytest.mark.fakesysfs(inside=True, fault="write memory32/state EBUSY x2")
def test_it_tries_again(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    assert agent.online_all() == 1
    hotplug.expect("memory32/state = online")


@pytest.mark.fakesysfs(inside=True, fault="write memory32/state EBUSY")
def test_it_gives_up(hotplug: Hotplug) -> None:
    hotplug.plug("128M")
    with pytest.raises(OSError, match="Device or resource busy"):
        agent.online_all()


@pytest.mark.fakesysfs(inside=True, fault="vanish memory33")
def test_a_block_that_is_gone_when_it_looks(hotplug: Hotplug) -> None:
    hotplug.plug("256M")
    assert agent.online_all() == 1


def test_it_hears_of_new_blocks(hotplug: Hotplug) -> None:
    process = hotplug.popen([sys.executable, agent.__file__], stdout=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    hotplug.plug("512M")
    hotplug.wait("memory*/state = online", "uevent online memory* = 4", timeout="60s")


@pytest.mark.fakesysfs(machine="two-dimms", append="memhp_default_state=online_movable")
def test_the_shell_agent(hotplug: Hotplug, request: pytest.FixtureRequest) -> None:
    done = hotplug.run([request.path.parent / "agent.sh", "256"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    hotplug.expect("blocks offline = 2", "memory39/state = offline", "memory37/state = online")


def test_the_shell_agent_goes_on_with_another_block(
    hotplug: Hotplug, request: pytest.FixtureRequest
) -> None:
    hotplug.plug("512M")
    for number in range(32, 36):
        hotplug.write(f"memory{number}/state", "online_kernel")
    hotplug.allocate("slab", "4K", block=35)
    done = hotplug.run([request.path.parent / "agent.sh", "128"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "memory35 stays online\n")
    hotplug.expect("memory35/state = online", "memory34/state = offline", "log unmovable page")


@pytest.mark.fakesysfs(rules="80-hotplug.rules", kernels=["5.10", "6.1", "6.12"])
def test_the_udev_rule(hotplug: Hotplug) -> None:
    hotplug.plug("512M")
    hotplug.wait("memory*/state = online", "memory35/valid_zones = Movable", timeout="60s")
