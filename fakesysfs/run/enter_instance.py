"""`fakesysfs exec -- CMD`: one more command inside a running instance, as if it had been started
there.

Owns: entering the namespaces of an instance, and what has to be true of them first. Does not own:
signals, terminal and exit statuses (supervise.py), how an instance is found and asked for its
namespaces (control.py).

    the shell ── caller ── parent ── CMD
                 execute() inside, as CMD is

The process the user started enters the user and the pid namespace, of which the latter is for its
children. Its child, the parent of CMD, enters the rest and starts CMD. Who ends whom when one is killed:

    caller        the socket pair reports end of file, the parent kills CMD and ends
    parent        the kernel kills CMD, see system_calls.end_with_parent; the socket pair tells the caller
    the instance  the kernel kills the parent and CMD

What CMD leaves running stays until the instance ends, as it would have if CMD had been started in
there. The caller ignores SIGCHLD, so that the kernel reaps the parent: the end of a pid namespace waits until
all its processes are reaped, and a caller that is stopped would be waited for.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from contextlib import suppress

from ..errors import EnvironmentProblem, FakesysfsError, InstanceError, printable
from .host_files import keep_log
from .supervise import (
    KILLED,
    PYTHON_IGNORES,
    CallerProcess,
    CommandParent,
    block_signals,
    find,
    started,
)
from .system_calls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    call,
    end_with_parent,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

KINDS = {
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "command": CLONE_NEWUSER,
}
NS_GET_USERNS, NS_GET_NSTYPE, NS_GET_OWNER_UID = 0xB701, 0xB703, 0xB704  # ioctl_ns(2)


def execute(
    namespaces: Mapping[str, int],
    command: Sequence[str],
    environment: Mapping[str, str],
    is_own: Callable[[int], bool],
) -> int:
    """Run a command in the namespaces of an instance. Returns its exit status.

    :param namespaces: see launch.InstanceProcess.namespaces.
    :param is_own: whether a user id is this process's user.
    :raises EnvironmentProblem: they cannot be entered.
    :raises InstanceError: they are not such as this user could have made.
    """
    if _is_in(namespaces, "command"):
        namespaces = {}  # this is a process of the instance already
    else:
        check(namespaces, is_own)
    mask, ignored = block_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    directory = _current_directory()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    caller = CallerProcess(ours)
    other_user = not _is_in(namespaces, "user")
    _join(namespaces, "user")
    _join(namespaces, "pid")
    try:
        child = os.fork()
    except OSError:  # ENOMEM: there is no pid 1 any more
        raise EnvironmentProblem("the instance has ended") from None
    if child == 0:
        ours.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _EnteredParent(theirs, namespaces, mask, other_user).start(command, environment, directory)
    theirs.close()
    caller.pass_signals(ignored)
    if caller.status is None:
        print(
            "fakesysfs: the instance ended, or the simulation was killed, and with it the command",
            file=sys.stderr,
        )
        return KILLED
    return caller.status


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise EnvironmentProblem(
            "the current directory has been removed", "change to another one"
        ) from None


def fork_inside(
    namespaces: Mapping[str, int],
    is_own: Callable[[int], bool],
    life: Callable[[Exception | None], object],
) -> int:
    """Fork a process into the namespaces of an instance; it has all that this one has in memory.

    It is where a command of execute() would be, with the streams, signals and directory of this
    one. It is killed when this process ends, or the instance does.

    :param namespaces: see launch.InstanceProcess.namespaces.
    :param is_own: whether a user id is this process's user.
    :param life: called in there with None, and the process ends when it returns; or called with the
        reason why there is no process in there.
    :returns: the process id of a child, which ends as the process inside does: with its exit status
        or 128+N when signal N ended it.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        end_with_parent()
        check(namespaces, is_own)
        other_user = not _is_in(namespaces, "user")
        _join(namespaces, "user")
        _join(namespaces, "pid")
        inside = os.fork()
        if inside == 0:
            _live_inside(namespaces, other_user, life)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: who is inside gets it, too
        _, waited = os.waitpid(inside, 0)
        code = os.waitstatus_to_exitcode(waited)
        status = code if code >= 0 else 128 - code
    except (FakesysfsError, OSError) as e:
        life(e)
    finally:
        os._exit(status)


def _live_inside(
    namespaces: Mapping[str, int], other_user: bool, life: Callable[[Exception | None], object]
) -> NoReturn:
    status = 1
    try:
        directory = _current_directory()
        _join(namespaces, "net")
        _join(namespaces, "mnt")
        os.chdir(directory)
        _become_the_command(namespaces, other_user)
        end_with_parent()  # last: a change of credentials takes it back
        status = 0
    except (FakesysfsError, OSError) as e:
        life(e)
    try:
        if status == 0:
            life(None)
    finally:
        os._exit(status)


def _become_the_command(namespaces: Mapping[str, int], other_user: bool) -> None:
    """Take the user and the user namespace of the command.

    :param other_user: this process entered another user namespace.
    """
    if other_user:  # its group may be another one than that of the run
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if "command" in namespaces:
        _join(namespaces, "command")


def check(namespaces: Mapping[str, int], is_own: Callable[[int], bool]) -> None:
    """See that namespaces are such as this user's `run` makes: nobody else has a say in what is
    seen in there.

    :param namespaces: see launch.InstanceProcess.namespaces.
    :param is_own: whether a user id is this process's user.
    :raises InstanceError: they are not.
    """
    if namespaces.keys() - {"command"} != KINDS.keys() - {"command"}:
        raise InstanceError(
            "the instance does not give the namespaces of a run; nothing is entered"
        )
    for name, fd in namespaces.items():
        if not _is_namespace(fd, name):
            raise InstanceError(
                f"what the instance gives is no {name} namespace; nothing is entered"
            )
    strange = [name for name in namespaces if not _is_in(namespaces, name)]
    if os.geteuid() != 0 and strange and "user" not in strange:
        raise InstanceError(
            "nobody but root makes namespaces in the user namespace there is; nothing is entered"
        )
    for name in strange:
        if not _is_trusted(namespaces, name, is_own):
            raise InstanceError(
                f"the {name} namespace of the instance is not of its user; nothing is entered"
            )


def _is_namespace(fd: int, name: str) -> bool:
    """Whether an open file is a namespace of that name."""
    # The name comes first: it is got without asking whoever is behind a file of another kind.
    kind = "user" if name == "command" else name
    try:
        return (
            os.readlink(f"/proc/self/fd/{fd}").startswith(f"{kind}:[")
            and _ask(fd, NS_GET_NSTYPE) == KINDS[name]
        )
    except FileNotFoundError:
        raise EnvironmentProblem("there is no /proc here", "mount -t proc proc /proc") from None


def _is_trusted(namespaces: Mapping[str, int], name: str, is_own: Callable[[int], bool]) -> bool:
    """Whether this process's user made a namespace; all but the user namespace belong to that one."""
    if name == "user":
        return _is_ours(namespaces[name], is_own)
    owner = _ask(namespaces[name], NS_GET_USERNS)  # of a user namespace: its parent
    if owner < 0:
        return False
    try:
        if name in ("net", "mnt") and _is_ours(owner, is_own):
            # `run` of root makes these in user namespaces of their own, see
            # system_calls.enter_quiet_network() and host_files.locked_namespace()
            return True
        return os.path.sameopenfile(owner, namespaces["user"]) and (
            name != "command" or _is_ours(namespaces[name], is_own)
        )
    finally:
        os.close(owner)


def _ask(fd: int, what: int) -> int:
    """ioctl_ns(2): the answer, or -1 when there is none."""
    import fcntl

    try:
        return fcntl.ioctl(fd, what)
    except OSError:
        return -1


def _is_ours(user_namespace: int, is_own: Callable[[int], bool]) -> bool:
    """Whether it was made by this process's user, or is the one of this process."""
    import fcntl

    if _is_in({"user": user_namespace}, "user"):
        return True
    uid = bytearray(4)
    try:
        fcntl.ioctl(user_namespace, NS_GET_OWNER_UID, uid)
    except OSError:
        return False
    return is_own(int.from_bytes(uid, sys.byteorder))


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
        raise EnvironmentProblem(
            f"the instance's {name} namespace cannot be entered: {e.strerror}"
        ) from None


class _EnteredParent(CommandParent):
    """The process next to the command."""

    def __init__(
        self,
        caller: socket.socket,
        namespaces: Mapping[str, int],
        mask: set[int],
        other_user: bool,
    ) -> None:
        super().__init__(caller)
        self._namespaces = namespaces
        self._mask = mask
        self._other_user = other_user

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], directory: str
    ) -> NoReturn:
        """The life of this process."""
        self.say("hello")
        status = 1
        try:
            _join(self._namespaces, "net")
            _join(self._namespaces, "mnt")
            os.chdir(directory)  # by its name: what it leads to may be another directory here
            self.start_and_wait(lambda: self._spawn(command, environment))
        except FakesysfsError as e:
            print(f"fakesysfs: {printable(str(e))}", file=sys.stderr)
            status = e.exit_status
        except OSError as e:
            print(f"fakesysfs: {e.filename or command[0]}: {e.strerror}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            self.end(status)

    def deserted(self) -> NoReturn:
        """The caller was killed."""
        # else it is just being started, and is killed with this process; 0 would be the whole group
        if self.command:
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
                _become_the_command(self._namespaces, self._other_user)
                # Python's own handler would not end it by the signal, should one come before the
                # command is there.
                handled = {signal.SIGINT} if callable(signal.getsignal(signal.SIGINT)) else set()
                for number in PYTHON_IGNORES | handled:
                    signal.signal(number, signal.SIG_DFL)
                keep_log()
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
