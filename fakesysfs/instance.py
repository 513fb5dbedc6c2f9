"""A running instance: a machine and everything that speaks for it, wired together.

Owns: which part is given to which, in what order they start, and what is cleaned up in the end.
Does not own what any of them does, nor options and their help (cli/), which arrive as a
dictionary. It is the whole life of two processes: the one inside the namespaces of `run`, and the
server of `mount`.

A process that serves files must never look one of them up itself: see launch.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from .errors import (
    ConfigError,
    EnvironmentProblem,
    FakesysfsError,
    InstanceError,
    as_problem,
)
from .run.launch import NO_FILE, identity_of, remove_socket

if TYPE_CHECKING:
    from .config.machine_config import MachineConfig
    from .qemu.monitor_server import MonitorServer
    from .run.launch import InstanceProcess
    from .virtual_machine import VirtualMachine

COMMAND_SHOWN = 4096  # characters of a command in the list of instances
MONITOR_SOCKETS = ("qmp", "hmp")  # options, and what is spoken there
Value = TypeVar("Value")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def configure(options: Mapping[str, Any]) -> MachineConfig:
    """Return what the machine of an instance is made from.

    :param options: those of MACHINE_OPTIONS that were given are the machine's.
    :raises ConfigError: there can be no such machine.
    """
    from .config.machine_config import MachineConfig
    from .config.machine_options import given_options

    return MachineConfig.from_options(**given_options(options))


def boot(
    config: MachineConfig,
    on_quit: Callable[[], object],
    meanwhile: Callable[[], object] = lambda: None,
) -> VirtualMachine:
    """Make the machine of an instance, without its fault rules; see add_faults().

    :param on_quit: called when somebody tells the monitor to quit.
    :param meanwhile: called while the engine boots in another thread, which takes a while.
    :raises ConfigError: there can be no such machine.
    """
    from .virtual_machine import VirtualMachine

    machine = _Call(lambda: VirtualMachine(replace(config, faults=()), on_quit))
    meanwhile()
    return machine.result()


def add_faults(machine: VirtualMachine, config: MachineConfig) -> None:
    """Add the fault rules that the options ask for. In `run` that is when the files are where they
    can be missing.

    :raises ConfigError: one is no rule, or its file can never be.
    """
    for rule in config.faults:
        machine.fault_rule_add(rule)


def monitor_sockets(options: Mapping[str, Any]) -> dict[str, str]:
    """Return where the monitor is to be spoken to: "qmp", "hmp", and the path of each."""
    return {name: os.path.abspath(options[name]) for name in MONITOR_SOCKETS if options.get(name)}


def described(
    machine: VirtualMachine,
    sockets: Mapping[str, str],
    *,
    directory: str | None,
    command: str | None,
) -> dict[str, Any]:
    """Return what an instance says of itself when it is asked for "info"."""
    config = machine.config
    return {
        "memory": config.memory,
        "kernel": config.kernel,
        "arch": config.arch,
        "directory": directory,
        "command": command,
        **{name: sockets.get(name) for name in MONITOR_SOCKETS},
    }


class _Call(threading.Thread, Generic[Value]):
    """A call that has begun in a thread of its own."""

    def __init__(self, call: Callable[[], Value]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._value: Value | None = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        """The thread."""
        try:
            self._value = self._call()
        except Exception as e:  # noqa: BLE001 - whoever asks for the result gets it
            self._error = e

    def result(self) -> Value:
        """Wait for the end and return what the call returned, or raise what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return cast("Value", self._value)


# ---------------------------------------------------------------------------------------------- run


def serve_instance(arguments: Sequence[str]) -> NoReturn:
    """The life of the process inside the namespaces of `run`. `arguments` are from
    launch.launch().
    """
    import gc

    # until the command starts: what is loaded stays, and looking for garbage in it takes
    # milliseconds
    gc.disable()
    from .run.launch import InstanceProcess

    process = None
    try:
        process = InstanceProcess(arguments)
        _inside(process)
    except Exception as e:
        problem = as_problem(e)
        if problem is None:
            raise
    with suppress(OSError):
        print(f"fakesysfs: {problem}", file=sys.stderr, flush=True)
    if process is None:
        os._exit(problem.exit_status)
    process.end(problem.exit_status)


def _inside(process: InstanceProcess) -> NoReturn:
    import gc

    # They take a while, and so does the launcher with the options
    from . import instance_requests, virtual_machine  # noqa: F401
    from .run.covered_paths import checked_root, stage
    from .run.host_files import keep_log

    options = process.options()
    process.seal(host_writes=options["host_writes"])
    own_network = options["net"] == "own"
    rules = None
    if options["udev"] or options["rules"]:
        from .run.udev import Rules

        if not own_network:
            raise ConfigError(
                "--udev does not go with --net=host: it would hear the host's uevents; leave one of"
                " them out"
            )
        rules = Rules(options["rules"])
    notes = process.enter_network() if own_network else []

    def load() -> None:
        from .mount import server_class

        server_class()

    roots = [checked_root(directory) for directory in options["bind_roots"] or ()]
    config = configure(options)
    machine = boot(config, on_quit=lambda: process.end(0), meanwhile=load)
    notes += process.sealed()
    from .control import environment, listen_as
    from .control_server import Server
    from .instance_requests import request_handlers
    from .mount import Mount
    from .run.uevents import UeventFaults, UeventSender

    sockets = monitor_sockets(options)
    for name, path in sockets.items():
        from .qemu.monitor_server import serve as serve_monitor

        with process.making(path):
            serve_monitor(name, path, machine.monitor)
    info = described(
        machine, sockets, directory=None, command=" ".join(options["command"])[:COMMAND_SHOWN]
    )
    server = Server(request_handlers(machine, info, process.namespaces, process.stop))
    place = stage()
    Mount(machine, place, over=True).start()
    notes += process.cover(place, roots, acpi=config.has_acpi)
    add_faults(machine, config)
    if own_network:
        machine.subscribe(UeventFaults(UeventSender()))
        server.serve(listen_as(process.name))
    server.serve(process.listener)
    notes += keep_log()
    if options["verbose"]:
        for note in notes:
            print(f"fakesysfs: {note}", file=sys.stderr, flush=True)
    surroundings = environment(process.name)
    if rules is not None:
        rules.start(surroundings)
    gc.freeze()
    gc.enable()
    process.what_waits = lambda: [
        f"fault rule `{rule.rule}` keeps {rule.waiting} waiting"
        for rule in machine.fault_rules()
        if rule.waiting
    ]
    process.run(options["command"], surroundings, options)


# -------------------------------------------------------------------------------------------- mount


def serve(directory: str, options: Mapping[str, Any], ready: Callable[[], None]) -> None:
    """Serve a machine at `directory` until it is unmounted or a signal says so.

    :param ready: called when the files are there.
    :raises FakesysfsError: there can be no such machine, or no mount.
    """
    from .control import listen
    from .control_server import Server
    from .instance_requests import request_handlers
    from .mount import Mount, mounted_at

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    # before there are threads: sigwait() is to get them
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    guardian = _Guardian(os.path.realpath(directory))
    config = configure(options)
    machine = boot(config, on_quit=end)
    add_faults(machine, config)
    sockets = monitor_sockets(options)
    monitors: list[MonitorServer] = []
    for name, path in sockets.items():
        from .qemu.monitor_server import serve as serve_monitor

        guardian.tell("socket", path, NO_FILE)
        monitors.append(serve_monitor(name, path, machine.monitor))
        guardian.tell("socket", path, identity_of(path))
    mount = Mount(machine, directory)
    mount.start()
    guardian.tell("mount", mounted_at(mount.directory) or "")
    listener, _ = listen(os.getpid(), os.geteuid())
    info = described(machine, sockets, directory=os.path.realpath(directory), command=None)
    handlers = request_handlers(machine, info, lambda: _nothing_to_enter(mount.directory), end)
    Server(handlers).serve(listener)
    ready()

    def unmounted() -> None:
        mount.wait()
        end()

    threading.Thread(target=unmounted, daemon=True).start()
    signal.sigwait(ENDING)
    mount.unmount()
    for monitor in monitors:
        monitor.close()


def _nothing_to_enter(directory: str) -> NoReturn:
    raise InstanceError(
        f"a mount has no namespaces to run a command in; its files are below {directory}"
    )


def serve_in_background(directory: str, options: Mapping[str, Any]) -> None:
    """Serve a machine at `directory` in a process of its own. Returns when its files are there.

    :raises FakesysfsError: as `serve`.
    """
    result, report = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(result)
            os.setsid()

            def ready() -> None:
                _leave_terminal()
                os.write(report, b"{}")
                os.close(report)

            serve(directory, options, ready)
            status = 0
        except Exception as e:
            problem = as_problem(e)
            if problem is None:
                raise
            answer = {"error": str(problem), "status": problem.exit_status}
            os.write(report, json.dumps(answer).encode())
        finally:
            os._exit(status)
    os.close(report)
    with os.fdopen(result, "rb") as file:
        answer = json.loads(file.read() or b'{"error": "the server was killed", "status": 1}')
    if "error" in answer:
        os.waitpid(child, 0)
        problem = FakesysfsError(answer["error"])
        problem.exit_status = answer["status"]
        raise problem


def _leave_terminal() -> None:
    """Nobody waits for the output of a server, and no file system stays busy because of it."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


class _Guardian:
    """A process that sees to it that nothing is left when the server is killed: no mount without a
    server, no socket.

    It is forked before the server opens /dev/fuse, and ends with it.
    """

    def __init__(self, directory: str) -> None:
        end, self._pipe = os.pipe()
        server = os.getpid()
        if os.fork() == 0:
            try:
                os.close(self._pipe)
                _leave_terminal()
                _close_all_but(end)
                self._guard(directory, end, os.pidfd_open(server))
            finally:
                os._exit(0)
        os.close(end)

    def tell(self, what: str, *values: str) -> None:
        """Say what there will be to remove: "mount" and its device number, "socket", path and
        identity_of(path).
        """
        os.write(self._pipe, json.dumps([what, *values]).encode() + b"\n")

    def _guard(self, directory: str, pipe: int, server: int) -> None:
        import select

        from .mount import mounted_at

        device = None
        sockets: dict[str, str] = {}
        with os.fdopen(pipe, "rb") as file:
            for line in file:  # until the server has ended
                what, *values = json.loads(line)
                if what == "mount":
                    device = values[0]
                else:
                    path, sockets[path] = values
        # Its end of the pipe is not the last thing a dying process closes.
        poll = select.poll()
        poll.register(server, select.POLLIN)
        poll.poll(5000)
        for path, identity in sockets.items():
            remove_socket(path, identity)
        left = mounted_at(directory)
        if left is not None and device in (None, left):
            os.execvp(*unmounting(directory, lazy=True))


def _close_all_but(fd: int) -> None:
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))


def unmounting(directory: str, *, lazy: bool = False) -> tuple[str, list[str]]:
    """Program and arguments that unmount a FUSE file system, for root or for the user who mounted
    it.
    """
    if os.geteuid() == 0:
        return "umount", ["umount", *(["--lazy"] if lazy else []), "--", directory]
    import shutil

    program = "fusermount" if shutil.which("fusermount") else "fusermount3"
    return program, [program, "-u", *(["-z"] if lazy else []), "--", directory]


def unmount(directory: str) -> None:
    """Unmount what `fakesysfs mount` mounted, and wait for the end of its server.

    :raises EnvironmentProblem: it is in use.
    :raises FakesysfsError: it is no fakesysfs.
    """
    import subprocess

    from .control import Client, connect
    from .mount import mounted

    if mounted(directory) is None:
        raise FakesysfsError(f"{directory} is not a mounted fakesysfs")
    server: Client | None = None
    with suppress(InstanceError):  # it has died
        server = connect(directory)
    _, command = unmounting(os.path.realpath(directory))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()
        raise EnvironmentProblem(
            f"{directory} cannot be unmounted: {said[-1] if said else command[0]}",
            f"who uses it: fuser -vm {directory}",
        )
    if server is not None:
        server.wait_end(5.0)
        server.close()
