"""A machine with its hardware, as a Python program has it: DIMMs of the configuration are there, the
monitor's commands are methods, and what QEMU or the kernel refuses is an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fakesysfs import Machine, MachineConfig
from fakesysfs.errors import ConfigError, MonitorError

BLOCK = "/sys/devices/system/memory/memory{}/{}"
G = 1 << 30


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(MachineConfig.from_options(memory="1G,slots=4,maxmem=8G")) as machine:
        yield machine


def test_dimms_of_a_preset_are_there() -> None:
    with Machine(MachineConfig.from_options(machine="two-dimms")) as machine:
        assert len(machine.blocks()) == 16
        dimms = machine.qmp("query-memory-devices")
        assert [(device["type"], device["data"]["hotplugged"]) for device in dimms] == [
            ("dimm", False)
        ] * 2


def test_from_config_is_the_same() -> None:
    config = MachineConfig.from_options(machine="two-dimms")
    with Machine.from_config(config) as machine:
        assert len(machine.blocks()) == 16


def test_plug_use_and_unplug(machine: Machine) -> None:
    machine.object_add("memory-backend-ram", id="m0", size="512M")
    machine.device_add("pc-dimm", id="d0", memdev="m0")
    assert [block.id for block in machine.blocks() if block.start >= 4 * G] == [32, 33, 34, 35]
    machine.write_text(BLOCK.format(32, "state"), "online_movable")
    assert machine.read_text(BLOCK.format(32, "valid_zones")) == "Movable\n"
    machine.device_del("d0")  # the kernel takes the block offline itself
    assert not [block for block in machine.blocks() if block.start >= 4 * G]
    machine.object_del("m0")
    assert machine.qmp("query-memory-devices") == []


def test_what_the_guest_keeps_stays(machine: Machine) -> None:
    machine.object_add("memory-backend-ram", id="m0", size="128M")
    machine.device_add("pc-dimm", id="d0", memdev="m0")
    machine.write_text(BLOCK.format(32, "state"), "online_kernel")
    machine.allocate("slab", "4K", block=32)
    machine.device_del("d0")
    (dimm,) = machine.qmp("query-memory-devices")
    assert dimm["data"]["id"] == "d0"
    with pytest.raises(MonitorError, match=r"^object 'm0' is in use, can not be deleted$"):
        machine.object_del("m0")


def test_virtio_mem_grows_and_shrinks(machine: Machine) -> None:
    machine.object_add("memory-backend-ram", id="m0", size="1G")
    machine.device_add("virtio-mem-pci", id="vm0", memdev="m0", requested_size="256M")
    assert machine.qom_get("vm0", "size") == 256 << 20
    machine.qom_set("/machine/peripheral/vm0", "requested-size", "512M")
    assert machine.qom_get("vm0", "size") == 512 << 20
    machine.qom_set("vm0", "requested-size", 0)
    assert machine.qom_get("vm0", "size") == 0


def test_lines_for_people(machine: Machine) -> None:
    assert machine.hmp("info memory_size_summary") == "base memory: 1073741824\nplugged memory: 0\n"
    assert machine.hmp("nosuch") == "unknown command: 'nosuch'\n"


def test_refusals(machine: Machine) -> None:
    with pytest.raises(MonitorError, match=r"^'memdev' property must be set$"):
        machine.device_add("pc-dimm", id="d0")
    with pytest.raises(MonitorError, match=r"^Device 'd9' not found$"):
        machine.device_del("d9")
    with pytest.raises(MonitorError, match=r"has not been found$"):
        machine.qmp("nosuch")
    with pytest.raises(ConfigError, match=r"^size: 'much' is not a size"):
        machine.object_add("memory-backend-ram", id="m0", size="much")


def test_text_that_a_file_refuses(machine: Machine) -> None:
    with pytest.raises(OSError, match=r"`state` takes online") as caught:
        machine.write_text(BLOCK.format(3, "state"), "nonsense")
    assert caught.value.filename == BLOCK.format(3, "state")


def test_a_dimm_that_does_not_fit_leaves_no_machine() -> None:
    config = MachineConfig.from_options(machine="two-dimms")
    dimms = tuple(replace(dimm, slot=0) for dimm in config.dimms)
    twice = replace(config, dimms=dimms)
    with pytest.raises(ConfigError, match=r"^DIMM 'd1': slot 0 is busy$"):
        Machine(twice)


def test_after_close(machine: Machine) -> None:
    machine.close()
    with pytest.raises(ValueError, match="closed"):
        machine.blocks()
    machine.close()
