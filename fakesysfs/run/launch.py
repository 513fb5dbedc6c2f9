"""`fakesysfs run -- CMD`: a private view of /sys and /proc for one command, of which nothing
outlives the command.

Owns: the processes of `run` and the namespaces. Does not own: signals, terminal and exit statuses
(supervise.py), what is mounted where (covered_paths.py), the machine and the FUSE server
(instance.py puts the pieces together in the process of `InstanceProcess`), the options (commands.py).

    the shell ── launcher ── unshare ── instance ──┬── mounter
                 launch()    util-linux  pid 1     └── CMD ── ...

launch() is the process the user started. It makes a socket pair and starts unshare(1) at once; the
options are parsed while the process inside loads what it needs, and sent to it. Then it passes on
signals, and waits. `InstanceProcess` is pid 1 of a pid namespace, serves the files, starts CMD and buries
orphans. When it ends, for whatever reason, the kernel kills every process of the namespace, and
with the last of them go the mounts and the network. It must never look up a path in what it serves:
were it killed meanwhile, one thread would wait for an answer from others that are dead, for ever,
and keep open the device whose closing would end the wait. So a child, the mounter, does what needs
that, and ends before CMD starts. Who ends whom when one is killed:

    launcher   the socket pair reports end of file, the instance ends
    unshare    --kill-child: the kernel kills the instance; the launcher sees its child end
    instance   the kernel kills the rest; unshare ends, the launcher removes the one file there may be (the QMP socket)

With --detach the process the user started makes a launcher in a session of its own, waits until CMD
has been started and has not failed at once, prints the name of the instance on standard output, and
how to enter and end it on standard error, and ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress

from ..errors import EnvironmentProblem, as_problem
from .covered_paths import Mounter, is_covered, is_kernels
from .supervise import (
    KILLED,
    PYTHON_IGNORES,
    CallerProcess,
    CommandParent,
    block_signals,
    find,
    started,
)
from .system_calls import CLONE_NEWNET, call, enter_quiet_network, loopback_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    # Makes a listening socket for an instance of a process id and a user id, and its name.
    Listen = Callable[[int, int], tuple[socket.socket, str]]

UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")

START_SECONDS = 5.0
DETACHED_SECONDS = 0.2  # in which a command that cannot do its work has failed
TIMED_OUT = 124  # as of timeout(1)
STOP_SECONDS = 5.0  # how long a command may take to end after SIGTERM
# What runs in an instance without a command, so that there is always a process to follow into its
# namespaces.
WAITING = ("sleep", "infinity")
# What an option of `run` is when nobody has given it; every other one is false then.
DEFAULTS = {"net": "own", "root": True}


# ------------------------------------------------------------------------------------- the launcher


def launch(
    arguments: Sequence[str],
    parse: Callable[[], dict[str, Any]],
    listen: Listen,
    on_ready: Callable[[str], bool] = lambda _: True,
) -> int:
    """Run a command in namespaces of its own. Returns its exit status.

    :param arguments: the command is at their end.
    :param parse: gives the options, among them "command", as something JSON can say. It is called
        while the process inside loads what it needs; what it raises is raised, after everything has
        been ended.
    :param listen: makes the socket at which the instance is to be found.
    :param on_ready: called with the name of the instance when the command has been started; False
        is to end it.
    :raises EnvironmentProblem: the namespaces cannot be made.
    """
    listener, name = listen(os.getpid(), os.geteuid())  # in the caller's network namespace
    mask, ignored = block_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    complaints, stderr = os.pipe()
    inherited = [theirs.fileno(), listener.fileno(), os.dup(2)]
    for fd in inherited:
        os.set_inheritable(fd, True)
    inside = [
        sys.executable,
        "-P",
        "-c",
        START_INSTANCE,
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    ]
    facts = [*map(str, inherited), name, str(os.getegid()), ",".join(map(str, mask))]
    try:
        child = os.posix_spawnp(
            UNSHARE[0],
            [*UNSHARE, *unshare_as(), "--", *inside, *facts, *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, stderr, 2)],
        )
    except FileNotFoundError:
        raise EnvironmentProblem("there is no unshare(1)", "install util-linux") from None
    for descriptor in (theirs, listener):
        descriptor.close()
    os.close(stderr)
    os.close(inherited[2])
    launcher = _Launcher(ours, child, complaints, lambda: on_ready(name))
    try:
        options = parse()
    except BaseException:
        ours.close()
        os.waitpid(child, 0)
        raise
    # How many words the command has: they are in the arguments.
    launcher.send(json.dumps({**options, "command": len(options["command"])}).encode())
    return launcher.wait(ignored)


def launch_detached(
    arguments: Sequence[str], parse: Callable[[], dict[str, Any]], listen: Listen
) -> int:
    """As `launch`, in a session of its own. Returns when the command has been started, or cannot
    be.
    """
    options = parse()
    result, answer = os.pipe()
    saying, stderr = os.pipe()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    launcher = os.fork()
    if launcher == 0:
        status = 1
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd, source in ((0, null), (1, null), (2, stderr)):
                os.dup2(source, fd)
            for fd in (result, saying, stderr):
                os.close(fd)

            def ready(name: str) -> bool:
                os.dup2(null, 2)
                try:
                    os.write(answer, f"ready {name}\n".encode())
                except BrokenPipeError:  # the process that started it was killed
                    return False
                return True

            try:
                status = launch(arguments, lambda: options, listen, ready)
            except Exception as e:
                problem = as_problem(e)
                if problem is None:
                    raise
                status = problem.exit_status
                print(f"fakesysfs: {problem}", file=sys.stderr, flush=True)
            with suppress(OSError):  # the process that started it is gone
                os.write(answer, f"{status}\n".encode())
        finally:
            os._exit(status)
    for fd in (answer, stderr):
        os.close(fd)
    word, _, name = _line_of(result).partition(" ")
    failed = word == "ready" and select.select([result], [], [], DETACHED_SECONDS)[0]
    os.set_blocking(saying, False)
    with suppress(BlockingIOError):
        while said := os.read(saying, 1 << 16):
            os.write(2, said)
    if word != "ready":
        return int(word or KILLED)
    if failed:
        status = int(_line_of(result) or KILLED)
        print(f"fakesysfs: {name}: the command has ended, status {status}", file=sys.stderr)
        return status
    try:
        print(name, flush=True)
    except OSError:  # nobody would know what to end
        os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)
        raise
    number = name.rpartition("/")[2]
    print("It runs in the background.", file=sys.stderr)
    print(f"  enter it: fakesysfs exec --instance {number} -- sh", file=sys.stderr)
    print(f"  end it:   fakesysfs stop --instance {number}", file=sys.stderr)
    return 0


def _line_of(pipe: int) -> str:
    """The next line that comes out of a pipe; empty when it ends first."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(pipe, 1)):
        line += byte
    return line.decode(errors="replace").strip()


def unshare_as() -> tuple[str, ...]:
    """Options of unshare(1): with a user namespace, unless this is a root that may do without.

    :raises EnvironmentProblem: without /proc nobody knows.
    """
    if os.geteuid() == 0:
        try:
            with open("/proc/self/status", encoding="ascii", errors="replace") as status:
                effective = next(
                    int(line.split()[1], 16) for line in status if line.startswith("CapEff:")
                )
        except FileNotFoundError:
            raise EnvironmentProblem("there is no /proc here", "mount -t proc proc /proc") from None
        if effective & 1 << 21:  # CAP_SYS_ADMIN
            return ()
    return ("--user", "--map-root-user")


# What the process inside runs. A directory of the caller's is no place to import from, hence -P;
# the package is found where the launcher found it.
START_INSTANCE = (
    "import sys; sys.path[:0] = [] if sys.argv[1] in sys.path else sys.argv[1:2]; "
    "from fakesysfs.instance import serve_instance; serve_instance(sys.argv[2:])"
)


class _Launcher(CallerProcess):
    """The launcher after it has started unshare.

    :param complaints: a pipe with what unshare wrote to stderr.
    :param on_ready: called when the command has been started; False is to end everything.
    """

    def __init__(
        self, inside: socket.socket, child: int, complaints: int, on_ready: Callable[[], bool]
    ) -> None:
        super().__init__(inside, child)
        self._complaints = complaints
        self._on_ready = on_ready
        self._files: dict[str, str] = {}  # path -> identity_of() it

    def heard(self, word: str, rest: str) -> None:
        """What is said in `run` only: files that are made and removed, and that the command has
        been started.
        """
        if word == "file":
            identity, _, path = rest.partition(" ")
            self._files[path] = identity
        elif word == "removed":
            self._files.pop(rest, None)
        elif word == "ready" and not self._on_ready():
            self.hang_up()

    def wait(self, ignored: set[int]) -> int:
        """Pass signals on until unshare ends; then clean up. Returns the exit status.

        :param ignored: signals the caller had ignored.
        :raises EnvironmentProblem: unshare failed.
        """
        code = self.pass_signals(ignored)
        if not self.begun:
            self._refused(code)
            return code  # the process inside has said why
        for path, identity in self._files.items():
            remove_socket(path, identity)
        if self.status is None:
            print("fakesysfs: the simulation was killed, and with it the command", file=sys.stderr)
            return KILLED
        return self.status

    def _refused(self, code: int) -> None:
        os.set_blocking(self._complaints, False)
        try:
            text = os.read(self._complaints, 1 << 16).decode(errors="replace").strip()
        except BlockingIOError:
            text = ""
        if code < 0 or "sigprocmask" in text:  # the latter is unshare's, about SIGKILL of its child
            raise EnvironmentProblem("the simulation was killed before it had begun")
        lines = text.splitlines()
        if not lines:
            return
        what = lines[-1].removeprefix("unshare: ")
        raise EnvironmentProblem(
            f"no namespace of its own can be made for the command ({what})",
            "`fakesysfs doctor` says what to do; `fakesysfs mount DIR` needs none",
        )


def _current_directory() -> str:
    """The path of the current directory, "" when somebody has removed it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


NO_FILE = "0:0"


def identity_of(path: str) -> str:
    """The file at `path`, as "device:inode", or NO_FILE."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return NO_FILE
    return f"{status.st_dev}:{status.st_ino}"


def remove_socket(path: str, identity: str) -> None:
    """Remove the socket file of a process that was killed. One that somebody listens at is left
    alone.

    :param identity: identity_of(path) when the process had made it; NO_FILE when it was about to:
        then any will do.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode) or identity not in (
            NO_FILE,
            identity_of(path),
        ):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
    except OSError:
        pass  # it is gone, or not ours to remove


# --------------------------------------------------------------------------------- inside, as pid 1


class Options(dict[str, "Any"]):
    """The options of `run` by name, of which those that were not given may be missing."""

    def __missing__(self, name: str) -> Any:
        return DEFAULTS.get(name)


class InstanceProcess(CommandParent):
    """The process inside the namespaces: pid 1.

    :param arguments: what launch() gives: three descriptors, the instance's name, the group id
        outside, the signal mask the caller had; then what the user wrote after `run`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        facts, self._arguments = arguments[:6], arguments[6:]
        launcher, listener, stderr = map(int, facts[:3])
        self.name = facts[3]  # of the instance
        self.uid = int(self.name.split("/")[1])  # of the caller, as the host knows it
        self.gid = int(facts[4])
        self._mask = [int(number) for number in facts[5].split(",") if number]
        os.dup2(stderr, 2)
        os.close(stderr)
        for fd in (launcher, listener):
            os.set_inheritable(fd, False)
        super().__init__(socket.socket(fileno=launcher))
        self.listener = socket.socket(fileno=listener)  # in the caller's network namespace
        self._mounter = Mounter()  # before there are threads
        self._roots: list[str] = []
        self._at_end: list[Callable[[], object]] = []
        import queue
        import threading

        self._options: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._running = threading.Event()  # the command has been started
        self._keep_uid = False
        self._timed_out = False
        #: What is being waited for in the machine, a sentence each.
        self.what_waits: Callable[[], Sequence[str]] = lambda: ()
        self.listen()
        self.say("hello")

    def options(self) -> dict[str, Any]:
        """The options of `run`, "command" among them, once the launcher has parsed them. To be
        called once.
        """
        options = Options(self._options.get())
        options["command"] = self._arguments[len(self._arguments) - options["command"] :] or list(
            WAITING
        )
        return options

    def received(self, data: bytes) -> None:
        """A message of the launcher: the options, or the number of a signal."""
        if data.startswith(b"{"):
            self._options.put(json.loads(data))
        else:
            super().received(data)

    # The end

    def before_end(self) -> None:
        """Remove what would be left. With this process the kernel ends all others of its pid
        namespace.
        """
        for remove in self._at_end:
            with suppress(OSError):
                remove()

    def stop(self) -> None:
        """Let the command end, and everything with it; by force if it takes too long."""
        if self.command:
            with suppress(ProcessLookupError):
                os.kill(self.command, signal.SIGTERM)
                os.kill(self.command, signal.SIGCONT)
        self._after(STOP_SECONDS if self.command else 0, self.end, 128 + signal.SIGTERM)

    def _after(self, seconds: float, call: Callable[..., object], argument: object) -> None:
        import threading

        timer = threading.Timer(seconds, call, [argument])
        timer.daemon = True
        timer.start()

    def _time_out(self, seconds: float) -> None:
        """End the command, which has taken too long."""
        held = "".join(f"; {line}" for line in self.what_waits())
        with suppress(OSError):
            print(f"fakesysfs: timeout after {seconds:g} s{held}", file=sys.stderr, flush=True)
        self._timed_out = True
        self.stop()

    def end(self, status: int) -> NoReturn:
        """End this process; with TIMED_OUT if the command took too long."""
        super().end(TIMED_OUT if self._timed_out else status)

    @contextmanager
    def making(self, path: str) -> Iterator[None]:
        """Around the making of a socket file at `path`, of which nothing is left however this
        process ends.

        `end` removes it, and waits while it is being made; the launcher removes it should this
        process be killed.
        """
        path = os.path.abspath(path)
        with self._ending:
            self.say(f"file {NO_FILE} {path}")
            yield
            identity = identity_of(path)
            self.say(f"file {identity} {path}")

            def remove() -> None:
                if identity_of(path) == identity:
                    os.unlink(path)
                self.say(f"removed {path}")

            self._at_end.append(remove)

    # Namespaces and mounts

    def enter_network(self) -> list[str]:
        """Make a network namespace with loopback up. To be called before any thread that needs to
        be in it is started.

        :returns: what could not be done and is not fatal, a sentence each.
        :raises EnvironmentProblem: there can be none.
        """
        try:
            if self.uid != 0 or not enter_quiet_network():
                call("unshare", CLONE_NEWNET)
        except OSError as e:
            raise EnvironmentProblem(
                f"no network namespace can be made for uevents ({e.strerror})",
                "`fakesysfs run --net=host` does without uevents",
            ) from None
        try:
            loopback_up()
        except OSError as e:  # root of a container may not have CAP_NET_ADMIN
            return [f"the loopback device cannot be switched on: {e.strerror}"]
        return []

    def seal(self, *, host_writes: bool) -> None:
        """See Mounter.seal."""
        self._mounter.seal(host_writes=host_writes)

    def sealed(self) -> list[str]:
        """See Mounter.sealed. To be called by the main thread, before it starts others that serve or
        look up files.
        """
        return self._mounter.sealed()

    def cover(self, stage: str, roots: Sequence[str], *, acpi: bool) -> list[str]:
        """See Mounter.cover."""
        self._roots = list(roots)
        return self._mounter.cover(stage, roots, acpi=acpi)

    # The command

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], options: Mapping[str, Any]
    ) -> NoReturn:
        """Start `command`, take care of it and of every orphan, and end with its exit status.

        :param options: "root": False is to give it the caller's user id instead of 0, in a user
            namespace of its own; "detach": it has no streams, and neither has this process from
            then on.
        :raises CannotStart: there is no such command.
        """
        self._keep_uid = not options["root"] and self.uid != 0
        if options["timeout"]:
            self._after(options["timeout"], self._time_out, options["timeout"])

        def start() -> int:
            pid = self._spawn(command, environment, options["detach"])
            if options["detach"]:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 2)
                os.close(null)
            self._running.set()
            self.say("ready")
            return pid

        self.start_and_wait(start)

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str], detach: bool) -> int:
        def untouchable(path: str) -> bool:
            return is_covered(path, self._roots)

        search = environment.get("PATH", os.defpath)
        path = find(command[0], search, untouchable)
        arguments = list(command)
        here = _current_directory()
        if here and is_kernels(here, self._roots):
            # It is the host's, as it was before anything covered it; going there again leads to ours.
            arguments = ["sh", "-c", 'cd -- "$0" && exec "$@"', here, *arguments]
            path = "/bin/sh"
        if self._keep_uid:
            mapping = [f"--map-user={self.uid}", f"--map-group={self.gid}"]
            arguments = ["unshare", "--user", *mapping, "--", path, *arguments[1:]]
            path = find("unshare", search, untouchable)
        how: dict[str, Any] = {"setsigmask": self._mask, "setsigdef": PYTHON_IGNORES}
        if detach:
            how["file_actions"] = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0)]
        return started(
            command[0], lambda *what: os.posix_spawn(*what, **how), path, arguments, environment
        )

    # Others that want to be next to the command

    def namespaces(self) -> dict[str, int]:
        """The namespaces of the command, once it has been started, by their names in /proc/PID/ns;
        to be closed.

        "user" is this process's, "command" the one of the command if that has another.

        :raises OSError: there is no /proc to find them in.
        :raises EnvironmentProblem: it is not one of this pid namespace, where the command's could
            be found.
        """
        self._running.wait()
        if self._keep_uid and os.readlink("/proc/self") != str(os.getpid()):
            raise EnvironmentProblem(
                "without a /proc of its own nobody can enter an instance that keeps the user",
                "run --root",
            )
        paths = {name: f"/proc/self/ns/{name}" for name in ("user", "mnt", "net", "pid")}
        if self._keep_uid:
            # unshare(1), which becomes the command, may not have got so far.
            end = time.monotonic() + START_SECONDS
            own, path = os.readlink("/proc/self/ns/user"), f"/proc/{self.command}/ns/user"
            while os.readlink(path) == own and time.monotonic() < end:
                time.sleep(0.005)
            paths["command"] = path
        found: dict[str, int] = {}
        try:
            for name, path in paths.items():
                found[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            for fd in found.values():
                os.close(fd)
            raise
        return found
