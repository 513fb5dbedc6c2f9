"""`fakesysfs exec -- CMD`: one more command inside a running instance, as if it had been started there.

Owns: entering the namespaces of an instance. Does not own: signals, terminal and exit statuses (command.py), how an
instance is found and asked for its namespaces (control.py).

    the shell ── outside ── minder ── CMD
                 execute()  inside, as CMD is

The process the user started enters the user and the pid namespace, of which the latter is for its children. Its child,
the minder, enters the rest and starts CMD. Who ends whom when one is killed:

    outside       the socket pair reports end of file, the minder kills CMD and ends
    minder        the kernel kills CMD, see syscall.end_with_parent; the socket pair tells the process outside
    the instance  the kernel kills minder and CMD

What CMD leaves running stays until the instance ends, as it would have if CMD had been started in there. The process
outside ignores SIGCHLD, so that the kernel buries the minder: the end of a pid namespace waits until all its processes
are buried, and a process outside that is stopped would be waited for.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from contextlib import suppress

from .command import KILLED, PYTHON_IGNORES, Minder, Outside, block_signals, find, started
from .errors import EnvironmentProblem, FakesysfsError
from .syscall import call, end_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn


def execute(namespaces: Mapping[str, int], command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command in the namespaces of an instance. Returns its exit status.

    :param namespaces: see namespace.Inside.namespaces.
    :raises EnvironmentProblem: they cannot be entered.
    """
    mask, ignored = block_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    directory = os.getcwd()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outside = Outside(ours)
    if _is_in(namespaces, "command"):
        namespaces = {}  # this is a process of the instance already
    other_user = not _is_in(namespaces, "user")
    if other_user and os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])  # root's, in the namespace of a user who is in none of them
    _join(namespaces, "user")
    _join(namespaces, "pid")
    try:
        child = os.fork()
    except OSError:  # ENOMEM: there is no pid 1 any more
        raise EnvironmentProblem("the instance has ended") from None
    if child == 0:
        ours.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _Entered(theirs, namespaces, mask, other_user).start(command, environment, directory)
    theirs.close()
    outside.pass_signals(ignored)
    if outside.status is None:
        print("fakesysfs: the instance ended, or the simulation was killed, and with it the command", file=sys.stderr)
        return KILLED
    return outside.status


def _is_in(namespaces: Mapping[str, int], name: str) -> bool:
    """Whether this process is in one of the namespaces, or it is none of them."""
    if name not in namespaces:
        return name != "command"
    try:
        own = os.stat(f"/proc/self/ns/{'user' if name == 'command' else name}")
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(namespaces[name]), own)


def _join(namespaces: Mapping[str, int], name: str) -> None:
    """Enter one namespace, unless this process is in it."""
    if _is_in(namespaces, name):
        return
    try:
        call("setns", namespaces[name], 0)
    except OSError as e:
        raise EnvironmentProblem(f"the instance's {name} namespace cannot be entered: {e.strerror}") from None


class _Entered(Minder):
    """The process next to the command."""

    def __init__(self, outside: socket.socket, namespaces: Mapping[str, int], mask: set[int], other_user: bool) -> None:
        super().__init__(outside)
        self._namespaces = namespaces
        self._mask = mask
        self._other_user = other_user

    def start(self, command: Sequence[str], environment: Mapping[str, str], directory: str) -> NoReturn:
        """The life of this process."""
        self.say("hello")
        status = 1
        try:
            _join(self._namespaces, "net")
            _join(self._namespaces, "mnt")
            os.chdir(directory)  # by its name: what it leads to may be another directory here
            self.mind(lambda: self._spawn(command, environment))
        except FakesysfsError as e:
            print(f"fakesysfs: {e}", file=sys.stderr)
            status = e.exit_status
        except OSError as e:
            print(f"fakesysfs: {e.filename or command[0]}: {e.strerror}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            self.end(status)

    def deserted(self) -> NoReturn:
        """The process outside was killed."""
        if self.command:  # else it is just being started, and is killed with this process; 0 would be the whole group
            with suppress(ProcessLookupError):
                os.kill(self.command, signal.SIGKILL)
        self.end(KILLED)

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        path = find(command[0], environment.get("PATH", os.defpath))
        pid = started(command[0], self._fork, path, command, environment)
        self.listen()  # now: forking goes before threads
        return pid

    def _fork(self, path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
        """As os.posix_spawn, with what that cannot."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                if self._other_user:  # the one user that there is; root of the host has no number there
                    os.setresgid(0, 0, 0)
                    os.setresuid(0, 0, 0)
                if "command" in self._namespaces:
                    _join(self._namespaces, "command")
                # Python's own handler would not end it by the signal, should one come before the command is there.
                handled = {signal.SIGINT} if callable(signal.getsignal(signal.SIGINT)) else set()
                for number in PYTHON_IGNORES | handled:
                    signal.signal(number, signal.SIG_DFL)
                end_with_parent()  # last: a change of credentials takes it back
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
                poll = select.poll()
                poll.register(writing, 0)
                if not poll.poll(0):  # else the parent was dead already
                    os.execve(path, list(arguments), environment)
            except EnvironmentProblem:
                os.write(writing, b"1")
            except OSError as e:
                os.write(writing, f"{e.errno}".encode())
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading, encoding="ascii") as file:
            error = file.read()
        if error:
            os.waitpid(pid, 0)
            raise OSError(int(error), os.strerror(int(error)))
        return pid
