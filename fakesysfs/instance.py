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
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from .errors import ConfigError, EnvironmentProblem, FakesysfsError, InstanceError
from .run.launch import NO_FILE, identity_of, remove_socket

if TYPE_CHECKING:
    from .control_server import Server
    from .machine import Machine
    from .qemu.monitor import Monitor
    from .qemu.monitor_server import MonitorServer
    from .run.launch import Inside

COMMAND_SHOWN = 4096  # characters of a command in the list of instances
MONITOR_SOCKETS = ("qmp", "hmp")  # options, and what is spoken there
Value = TypeVar("Value")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Parts:
    """A machine, its DIMM slots and monitor, and a control server that knows them.

    :param options: those of MACHINE_OPTIONS that were given are the machine's.
    :param where: what else the control request "info" is to answer: "directory", "command".
    :param on_quit: called when somebody tells the monitor to quit.
    :param meanwhile: called while the engine boots in another thread, which takes a while.
    :raises ConfigError: there can be no such machine.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        where: Mapping[str, Any],
        on_quit: Callable[[], object],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        from .config.machine_config import MachineConfig
        from .config.machine_options import given_options
        from .machine import Machine

        config = MachineConfig.from_options(**given_options(options))
        boot = _Call(lambda: Machine.from_config(config))
        from .control_server import Server, machine_handlers, text

        meanwhile()
        self.machine: Machine = boot.result()
        self._on_quit = on_quit
        self._making = threading.Lock()
        self._monitor: Monitor | None = None
        self._host_events: list[tuple[str, dict[str, Any]]] = []  # name and data
        if config.dimms:
            self.monitor()
        self.sockets = {
            name: os.path.abspath(options[name]) for name in MONITOR_SOCKETS if options.get(name)
        }
        info = {"memory": config.memory, "kernel": config.kernel, "arch": config.arch, **where}
        info |= {name: self.sockets.get(name) for name in MONITOR_SOCKETS}
        handlers = machine_handlers(self.machine, lambda line: self.monitor().command(line), info)
        handlers["monitor"] = lambda line: self.monitor().carry_out(text(line))
        handlers["complete"] = lambda line: self.monitor().hmp.complete(text(line))
        handlers["map"] = self._map
        handlers["qmp events"] = lambda start=0: self._host_events[start:]
        self.server: Server = Server(handlers)

    def monitor(self) -> Monitor:
        """The machine's monitor and, behind it, its DIMM slots: made when they are first asked for,
        as that takes a while.
        """
        with self._making:
            if self._monitor is None:
                from .qemu.board import Board
                from .qemu.monitor import Monitor

                board = Board(self.machine)
                board.subscribe(lambda event: self._host_events.append((event.name, event.data)))
                self._monitor = Monitor(board, self._on_quit)
            return self._monitor

    def _map(self) -> dict[str, Any]:
        return {
            "block_bytes": self.machine.block_bytes,
            "blocks": self.machine.blocks(),
            "dimms": self.monitor().board.memory_devices(),
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


def inside(arguments: Sequence[str]) -> NoReturn:
    """The life of the process inside the namespaces of `run`. `arguments` are from
    namespace.launch().
    """
    import gc

    # until the command starts: what is loaded stays, and looking for garbage in it takes
    # milliseconds
    gc.disable()
    from .run.launch import Inside

    process = Inside(arguments)
    try:
        _inside(process)
    except FakesysfsError as e:
        print(f"fakesysfs: {e}", file=sys.stderr)
        status = e.exit_status
    except OSError as e:
        print(f"fakesysfs: {e.filename or 'the simulation'}: {e.strerror}", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    process.end(status)


def _inside(process: Inside) -> NoReturn:
    import gc

    # They take a while, and so does the launcher with the options
    from . import machine  # noqa: F401
    from .run.covered_paths import checked_root, stage

    options = process.options()
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

    where = {"directory": None, "command": " ".join(options["command"])[:COMMAND_SHOWN]}
    roots = [checked_root(directory) for directory in options["bind_roots"] or ()]
    parts = Parts(options, where, on_quit=lambda: process.end(0), meanwhile=load)
    from .control import environment, listen_as
    from .control_server import Descriptors
    from .mount import Mount
    from .run.uevents import UeventFaults, UeventSender

    for name, path in parts.sockets.items():
        from .qemu.monitor_server import serve as serve_monitor

        with process.making(path):
            serve_monitor(name, path, parts.monitor())
    parts.server.add("namespaces", lambda: Descriptors(process.namespaces()))
    parts.server.add("stop", process.stop)
    place = stage()
    Mount(parts.machine, place, over=True).start()
    notes += process.cover(place, roots)
    if own_network:
        parts.machine.subscribe(UeventFaults(UeventSender()))
        parts.server.serve(listen_as(process.name))
    parts.server.serve(process.listener)
    if options["verbose"]:
        for note in notes:
            print(f"fakesysfs: {note}", file=sys.stderr, flush=True)
    surroundings = environment(process.name)
    if rules is not None:
        rules.start(surroundings)
    gc.freeze()
    gc.enable()
    process.run(options["command"], surroundings, options)


# -------------------------------------------------------------------------------------------- mount


def serve(directory: str, options: Mapping[str, Any], ready: Callable[[], None]) -> None:
    """Serve a machine at `directory` until it is unmounted or a signal says so.

    :param ready: called when the files are there.
    :raises FakesysfsError: there can be no such machine, or no mount.
    """
    from .control import listen
    from .mount import Mount, mounted_at

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    # before there are threads: sigwait() is to get them
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    guardian = _Guardian(os.path.realpath(directory))
    parts = Parts(options, {"directory": os.path.realpath(directory), "command": None}, on_quit=end)
    monitors: list[MonitorServer] = []
    for name, path in parts.sockets.items():
        from .qemu.monitor_server import serve as serve_monitor

        guardian.tell("socket", path, NO_FILE)
        monitors.append(serve_monitor(name, path, parts.monitor()))
        guardian.tell("socket", path, identity_of(path))
    mount = Mount(parts.machine, directory)
    mount.start()
    guardian.tell("mount", mounted_at(mount.directory) or "")
    listener, _ = listen(os.getpid(), os.geteuid())
    parts.server.add("namespaces", lambda: _nothing_to_enter(mount.directory))
    parts.server.add("stop", end)
    parts.server.serve(listener)
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
        except FakesysfsError as e:
            os.write(report, json.dumps({"error": str(e), "status": e.exit_status}).encode())
        except OSError as e:
            os.write(
                report, json.dumps({"error": f"{directory}: {e.strerror}", "status": 1}).encode()
            )
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
