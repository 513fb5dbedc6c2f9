"""`fakesysfs run -- CMD`: a private view of /sys and /proc for one command, of which nothing outlives the command.

Owns: the processes of `run`, the namespaces, signals and exit statuses. Does not own: what is mounted where (view.py),
the machine and the FUSE server (instance.py puts the pieces together in `Inside`'s process), the options (cli.py).

    the shell ── launcher ── unshare ── inside ──┬── mounter
                 launch()    util-linux  pid 1   └── CMD ── ...

launch() is the process the user started. It makes a socket pair and starts unshare(1) at once; the options are parsed
while the process inside loads what it needs, and sent to it. Then it passes on signals, and waits. `Inside` is pid 1 of
a pid namespace, serves the files, starts CMD and buries orphans. When it ends, for whatever reason, the kernel kills
every process of the namespace, and with the last of them go the mounts and the network. It must never look up a path
in what it serves: were it killed meanwhile, one thread would wait for an answer from others that are dead, for ever,
and keep open the device whose closing would end the wait. So a child, the mounter, does what needs that, and ends
before CMD starts. Who ends whom when one is killed:

    launcher   the socket pair reports end of file, Inside ends
    unshare    --kill-child: the kernel kills Inside; the launcher sees its child end
    inside     the kernel kills the rest; unshare ends, the launcher removes the one file there may be (the QMP socket)

Signals: CMD is in the launcher's process group, so what the terminal sends reaches it directly, and so does what
anybody sends to the whole group. Launcher, unshare and Inside block every signal. The launcher passes on those sent to
it alone; see Inside._pass_on for how "alone" is told. When CMD stops, the launcher stops, so that the shell takes the
terminal back.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress

from .errors import EnvironmentProblem
from .syscall import CLONE_NEWNET, call, loopback_up
from .view import Mounter, is_covered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")

# Not blocked, not passed on: what cannot be, and the faults of the process itself.
OWN = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGABRT,
}  # fmt: skip
PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND = 126, 127
GROUP_SECONDS = 0.01  # how much later the last process of a group may get a signal sent to the group


# ------------------------------------------------------------------------------------------------------ the launcher


def launch(arguments: Sequence[str], listener: socket.socket, name: str, parse: Callable[[], dict[str, Any]]) -> int:
    """Run a command in namespaces of its own. Returns its exit status.

    :param arguments: the command is at their end.
    :param listener: a control socket in the caller's network namespace, for the process inside.
    :param name: of the instance.
    :param parse: gives the options, among them "command", as something JSON can say. It is called while the process
        inside loads what it needs; what it raises is raised, after everything has been ended.
    :raises EnvironmentProblem: the namespaces cannot be made.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()) - OWN)
    ignored: set[int] = {n for n in signal.valid_signals() - PYTHON_IGNORES if signal.getsignal(n) == signal.SIG_IGN}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    complaints, stderr = os.pipe()
    inherited = [theirs.fileno(), listener.fileno(), os.dup(2)]
    for fd in inherited:
        os.set_inheritable(fd, True)
    inside = [sys.executable, "-P", "-c", INSIDE, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    facts = [*map(str, inherited), name, str(os.getegid()), ",".join(str(int(n)) for n in mask)]
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
    launcher = _Launcher(ours, child)
    try:
        options = parse()
    except BaseException:
        ours.close()
        os.waitpid(child, 0)
        raise
    options["command"] = len(options["command"])  # how many: they are in its arguments
    launcher.send(json.dumps(options).encode())
    return launcher.wait(ignored, complaints)


def unshare_as() -> tuple[str, ...]:
    """Options of unshare(1): with a user namespace, unless this is a root that may do without."""
    if os.geteuid() == 0:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
        if effective & 1 << 21:  # CAP_SYS_ADMIN
            return ()
    return ("--user", "--map-root-user")


# What the process inside runs. A directory of the caller's is no place to import from, hence -P; the package is found
# where the launcher found it.
INSIDE = (
    "import sys; sys.path[:0] = [] if sys.argv[1] in sys.path else sys.argv[1:2]; "
    "from fakesysfs.instance import inside; inside(sys.argv[2:])"
)


class _Launcher:
    """The launcher after it has started unshare: messages from inside, signals, the end."""

    def __init__(self, inside: socket.socket, child: int) -> None:
        import fcntl

        self._inside = inside
        self._child = child
        self._begun = False  # the process inside has said hello
        self._ended = False  # ... and that it is about to end
        self._process = -1  # its pidfd
        self._files: dict[str, str] = {}  # path -> identity_of() it
        # The kernel adds to a message who sent it, by the number that process has here.
        inside.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # A message from inside arrives as SIGIO: there is one thing to wait for, signals.
        fcntl.fcntl(inside, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(inside, fcntl.F_SETFL, fcntl.fcntl(inside, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)

    def wait(self, ignored: set[int], complaints: int) -> int:
        """Pass signals on until unshare ends; then clean up. Returns the exit status.

        :param ignored: signals the caller had ignored.
        :param complaints: a pipe with what unshare wrote to stderr.
        :raises EnvironmentProblem: unshare failed.
        """
        self._hear()  # what came before SIGIO was asked for
        waited = set(signal.valid_signals()) - OWN - PYTHON_IGNORES - (ignored - {signal.SIGCHLD})
        while True:
            info = signal.sigwaitinfo(waited)
            if info.si_signo == signal.SIGCHLD:
                pid, status = os.waitpid(self._child, os.WNOHANG)
                if pid:
                    break
            elif info.si_signo == signal.SIGIO:
                self._hear()
            elif info.si_code <= 0:  # sent by a process; by the kernel, that is the terminal, it is > 0
                self.send(bytes([info.si_signo]))
        self._hear()
        code = os.waitstatus_to_exitcode(status)
        if not self._begun:
            self._refused(complaints, code)
        if self._process >= 0:
            # Had unshare been killed, the process inside may still be dying.
            import select

            poll = select.poll()
            poll.register(self._process, select.POLLIN)
            poll.poll(5000)
        for path, identity in self._files.items():
            remove_socket(path, identity)
        if not self._ended:
            print("fakesysfs: the simulation was killed, and with it the command", file=sys.stderr)
            return 128 + signal.SIGKILL
        return code if code >= 0 else 128 - code

    def _hear(self) -> None:
        stopped = False
        while True:
            try:
                data, ancillary, _, _ = self._inside.recvmsg(1 << 16, socket.CMSG_SPACE(12))
            except OSError:
                break
            word, _, rest = data.decode(errors="surrogateescape").partition(" ")
            if word == "hello":
                self._begun = True
                pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
                with suppress(ProcessLookupError):  # dead already
                    self._process = os.pidfd_open(pid)
            elif word == "file":
                identity, _, path = rest.partition(" ")
                self._files[path] = identity
            elif word == "removed":
                self._files.pop(rest, None)
            elif word == "end":
                self._ended = True
            elif word == "stopped":
                stopped = True
            elif word == "continued":
                stopped = False
            else:
                break  # end of file
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
            self.send(bytes([signal.SIGCONT]))

    def send(self, message: bytes) -> None:
        """Send the options, or the number of a signal."""
        with suppress(OSError):  # it has ended, SIGCHLD says so
            self._inside.send(message)

    def _refused(self, complaints: int, code: int) -> None:
        os.set_blocking(complaints, False)
        try:
            text = os.read(complaints, 1 << 16).decode(errors="replace").strip()
        except BlockingIOError:
            text = ""
        if code < 0 or "sigprocmask" in text:  # the latter is unshare's, about SIGKILL of its child
            raise EnvironmentProblem("the simulation was killed before it had begun")
        lines = text.splitlines() or [f"unshare: exit status {code}"]
        what = lines[-1].removeprefix("unshare: ")
        raise EnvironmentProblem(
            f"no namespace of its own can be made for the command ({what})",
            "`fakesysfs doctor` says what to do; `fakesysfs mount DIR` needs none",
        )


NO_FILE = "0:0"


def identity_of(path: str) -> str:
    """The file at `path`, as "device:inode", or NO_FILE."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return NO_FILE
    return f"{status.st_dev}:{status.st_ino}"


def remove_socket(path: str, identity: str) -> None:
    """Remove the socket file of a process that was killed. One that somebody listens at is left alone.

    :param identity: identity_of(path) when the process had made it; NO_FILE when it was about to: then any will do.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode) or identity not in (NO_FILE, identity_of(path)):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
    except OSError:
        pass  # it is gone, or not ours to remove


# ---------------------------------------------------------------------------------------------------- inside, as pid 1


class Inside:
    """The process inside the namespaces: pid 1.

    :param arguments: what launch() gives: three descriptors, the instance's name, the group id outside, the signal mask
        the caller had; then what the user wrote after `run`.
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
        self._launcher = socket.socket(fileno=launcher)
        self.listener = socket.socket(fileno=listener)  # in the caller's network namespace
        self._mounter = Mounter()  # before there are threads
        self._command = 0
        self._seen: dict[int, float] = {}  # when this process last got a signal, which is: when its group did
        self._at_end: list[Callable[[], object]] = []
        import queue
        import threading

        self._options: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ending = threading.Lock()
        self._say("hello")
        threading.Thread(target=self._listen, name="launcher", daemon=True).start()

    def options(self) -> dict[str, Any]:
        """The options of `run`, "command" among them, once the launcher has parsed them. To be called once."""
        options = self._options.get()
        options["command"] = self._arguments[len(self._arguments) - options["command"] :]
        return options

    # Life and death

    def end(self, status: int) -> NoReturn:
        """End this process and everything in its namespace."""
        self._ending.acquire()  # for good: a second thread waits for the first to end it
        for remove in self._at_end:
            with suppress(OSError):
                remove()
        self._say("end")
        os._exit(status)

    @contextmanager
    def making(self, path: str) -> Iterator[None]:
        """Around the making of a socket file at `path`, of which nothing is left however this process ends.

        `end` removes it, and waits while it is being made; the launcher removes it should this process be killed.
        """
        path = os.path.abspath(path)
        with self._ending:
            self._say(f"file {NO_FILE} {path}")
            yield
            identity = identity_of(path)
            self._say(f"file {identity} {path}")

            def remove() -> None:
                if identity_of(path) == identity:
                    os.unlink(path)
                self._say(f"removed {path}")

            self._at_end.append(remove)

    def _say(self, message: str) -> None:
        with suppress(OSError):  # it is dead, _listen sees it
            self._launcher.send(message.encode(errors="surrogateescape"))

    def _listen(self) -> None:
        """A thread: options and numbers of signals from the launcher; its end is the end of everything."""
        while True:
            try:
                data = self._launcher.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self.end(128 + signal.SIGKILL)
            if data.startswith(b"{"):
                self._options.put(json.loads(data))
            else:
                self._pass_on(data[0])

    def _pass_on(self, number: int) -> None:
        """Give CMD a signal that the launcher got from another process.

        If it was sent to the launcher's process group, this process got it as well, and so did CMD unless it has left
        the group: then it must not get it again. This process blocks the signal and takes note of it in `run`.
        """
        if not self._command:
            if number in ENDING:
                self.end(128 + number)
            return
        try:
            if os.getpgid(self._command) == os.getpgrp():
                time.sleep(GROUP_SECONDS)
                if time.monotonic() - self._seen.get(number, -1.0) < 10 * GROUP_SECONDS:
                    return
            os.kill(self._command, number)
        except ProcessLookupError:
            pass  # it has ended

    # Namespaces and mounts

    def enter_network(self) -> None:
        """Make a network namespace with loopback up. To be called before any thread that needs to be in it is started.

        :raises EnvironmentProblem: there can be none.
        """
        try:
            call("unshare", CLONE_NEWNET)
        except OSError as e:
            raise EnvironmentProblem(
                f"no network namespace can be made for uevents ({e.strerror})",
                "`fakesysfs run --net=host` does without uevents",
            ) from None
        loopback_up()

    def cover(self, stage: str) -> list[str]:
        """Put the parts of the tree mounted at `stage` over the real /sys and /proc, and take it away from there.

        :returns: what could not be done and is not fatal, a sentence each.
        :raises EnvironmentProblem: it cannot be done.
        """
        return self._mounter.cover(stage)

    # The command

    def run(self, command: Sequence[str], environment: Mapping[str, str], keep_uid: bool) -> NoReturn:
        """Start `command`, take care of it and of every orphan, and end with its exit status.

        :param keep_uid: give it the caller's user id instead of 0, in a user namespace of its own.
        """
        pending = signal.sigpending().intersection(ENDING)
        if pending:  # the terminal's, when there was no command yet
            self.end(128 + min(pending))
        self._command = self._spawn(command, environment, keep_uid)
        for number in signal.sigpending().intersection(ENDING):
            os.kill(self._command, number)
        everything = set(signal.valid_signals()) - OWN
        while True:
            info = signal.sigwaitinfo(everything)
            if info.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._seen[info.si_signo] = time.monotonic()

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str], keep_uid: bool) -> int:
        path, status = _find(command[0], environment.get("PATH", os.defpath))
        if status:
            reason = "command not found"
            if status == COMMAND_NOT_EXECUTABLE:
                reason = "is a directory" if os.path.isdir(path) else "permission denied"
            self._cannot_start(command[0], reason, status)
        arguments = list(command)
        if is_covered(os.getcwd()):
            # The way there leads to what it covers; going it again leads to ours.
            arguments = ["sh", "-c", 'cd -- "$0" && exec "$@"', os.getcwd(), *arguments]
            path = "/bin/sh"
        if keep_uid and self.uid != 0:
            mapping = [f"--map-user={self.uid}", f"--map-group={self.gid}"]
            arguments = ["unshare", "--user", *mapping, "--", path, *arguments[1:]]
            path, _ = _find("unshare", environment.get("PATH", os.defpath))
        how: dict[str, Any] = {"setsigmask": self._mask, "setsigdef": PYTHON_IGNORES}
        try:
            try:
                return os.posix_spawn(path, arguments, environment, **how)
            except OSError as e:
                if e.errno != errno.ENOEXEC:
                    raise
                # A script without #!, as shells take it.
                return os.posix_spawn("/bin/sh", ["sh", path, *arguments[1:]], environment, **how)
        except OSError as e:
            # ENOENT of a file that is there: its interpreter is not.
            status = COMMAND_NOT_FOUND if e.errno == errno.ENOENT else COMMAND_NOT_EXECUTABLE
            self._cannot_start(command[0], (e.strerror or "").lower(), status)

    def _cannot_start(self, command: str, reason: str, status: int) -> NoReturn:
        print(f"fakesysfs: {command}: {reason}", file=sys.stderr, flush=True)
        self.end(status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid != self._command:
                continue
            if os.WIFSTOPPED(status):
                self._say("stopped")
            elif os.WIFCONTINUED(status):
                self._say("continued")
            else:
                code = os.waitstatus_to_exitcode(status)
                self.end(code if code >= 0 else 128 - code)


def _find(command: str, path: str) -> tuple[str, int]:
    """The file to execute and 0, or what the exit status is to be."""
    candidates = [command] if "/" in command else [os.path.join(part or ".", command) for part in path.split(":")]
    status = COMMAND_NOT_FOUND
    for candidate in candidates:
        if is_covered(os.path.abspath(candidate)):  # not to be touched, and nothing there is executable
            status = COMMAND_NOT_EXECUTABLE if "/" in command else status
        elif os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate, 0
        elif os.path.exists(candidate) and ("/" in command or os.path.isfile(candidate)):
            command, status = candidate, COMMAND_NOT_EXECUTABLE
    return command, status
