"""A running instance: a machine and everything that speaks for it, wired together.

Owns: which part is given to which, and in what order they start. Does not own what any of them does, nor options and
their help (cli.py), which arrive as a dictionary. It is the whole life of two processes: the one inside the namespaces
of `run`, and the server of `mount`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import FakesysfsError

if TYPE_CHECKING:
    from .control import Server
    from .machine import Machine
    from .monitor import Monitor
    from .namespace import Inside

MACHINE_KEYS = ("machine", "memory", "kernel", "append", "config", "nodes", "distances", "arch", "seed", "workload")


class Parts:
    """A machine, its monitor, and a control server that knows both.

    :param options: those of MACHINE_KEYS that were given are the machine's.
    :param info: what the control request "info" answers.
    :raises ConfigError: there can be no such machine.
    """

    def __init__(self, options: Mapping[str, Any], info: dict[str, Any]) -> None:
        from .config import MachineConfig
        from .control import Server, machine_handlers
        from .machine import Machine
        from .monitor import Monitor

        given = {key: options[key] for key in MACHINE_KEYS if options.get(key) not in (None, (), [])}
        self.machine: Machine = Machine.from_config(MachineConfig.from_options(**given))
        self.monitor: Monitor = Monitor(self.machine)
        self.server: Server = Server(machine_handlers(self.machine, self.monitor.hmp, info))


def inside(arguments: Sequence[str]) -> NoReturn:
    """The life of the process inside the namespaces of `run`. `arguments` are from namespace.launch()."""
    from .namespace import Inside

    process = Inside(arguments)
    try:
        _inside(process)
    except FakesysfsError as e:
        print(f"fakesysfs: {e}", file=sys.stderr)
        status = e.exit_status
    except OSError as e:
        print(f"fakesysfs: {e.strerror}: {e.filename or ''}", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    process.end(status)


def _inside(process: Inside) -> NoReturn:
    # These take most of the time until the command starts; the options are parsed meanwhile.
    from . import config, machine, monitor  # noqa: F401
    from .control import VARIABLE, listen_as
    from .mount import Mount, load_fusepy
    from .uevent import UeventSender

    load_fusepy()
    options = process.options()
    own_network = options["net"] == "own"
    if own_network:
        process.enter_network()
    qmp = os.path.abspath(options["qmp"]) if options["qmp"] else None
    parts = Parts(options, {"directory": None, "qmp": qmp, "command": " ".join(options["command"])})
    stage = process.stage()
    Mount(parts.machine, stage, over=True).start()
    notes = process.cover(stage)
    if own_network:
        parts.machine.subscribe(UeventSender())
        parts.server.serve(listen_as(process.name))
    parts.server.serve(process.listener)
    if options["verbose"]:
        for note in notes:
            print(f"fakesysfs: {note}", file=sys.stderr, flush=True)
    environment = {**os.environ, VARIABLE: process.name, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    process.run(options["command"], environment, options["keep_uid"])
