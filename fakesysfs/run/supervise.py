"""A command in other namespaces that behaves as if it had been started where it was typed.

Owns: signals, stops, the terminal and exit statuses of such a command, and how it is found and
started. Does not own the namespaces: `run` makes them (launch.py), `exec` enters them
(enter_instance.py).

    the shell ── CallerProcess ──...── CommandParent ── command

`CallerProcess` is the process that the user started, `CommandParent` the one that starts the command.
A socket pair is between them. The command's parent sends the words hello, stopped, continued and end
STATUS; the caller's process sends the numbers of signals.

Signals: the command is in the caller's process group. What the terminal sends reaches it directly, and
so does what anybody sends to the whole group. Both processes block every signal. `CallerProcess`
passes on those sent to it alone; see CommandParent.pass_on for how "alone" is told. When the command
stops, `CallerProcess` stops, so that the shell takes the terminal back.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from contextlib import suppress

from ..errors import CannotStart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, TypeVar

    Result = TypeVar("Result")

# Not blocked, not passed on: what cannot be, and the faults of the process itself.
OWN = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGABRT,
}  # fmt: skip
PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
KILLED = 128 + signal.SIGKILL
NOT_EXECUTABLE, NOT_FOUND = 126, 127
# how much later the last process of a group may get a signal sent to the group
GROUP_SECONDS = 0.01
DEATH_SECONDS = 5.0  # how long a process that was killed may take to be gone


# ---------------------------------------------------------------------------- the caller's process


def block_signals() -> tuple[set[int], set[int]]:
    """Block every signal that can be. Returns the mask there was, and which signals the caller had
    ignored.
    """
    mask = {
        int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()) - OWN)
    }
    ignored = {
        int(n)
        for n in signal.valid_signals() - PYTHON_IGNORES
        if signal.getsignal(n) == signal.SIG_IGN
    }
    return mask, ignored


class CallerProcess:
    """The process the user started, after block_signals() and after it has started what is inside.

    :param inside: its end of the socket pair.
    :param child: the process that is to be waited for; 0: the end is when `inside` is closed at the
        other end.
    """

    def __init__(self, inside: socket.socket, child: int = 0) -> None:
        import fcntl

        self._inside = inside
        self._child = child
        self.begun = False  # the process inside has said hello
        self.status: int | None = None  # of the command, once the process inside has said it
        self._closed = False
        self._process = -1  # a pidfd of the process inside
        # The kernel adds to a message who sent it, by the number that process has here.
        inside.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # A message from inside arrives as SIGIO: there is one thing to wait for, signals.
        fcntl.fcntl(inside, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(
            inside, fcntl.F_SETFL, fcntl.fcntl(inside, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK
        )

    def pass_signals(self, ignored: set[int]) -> int:
        """Pass signals on until it is over. Returns the exit status of the child, negative for a
        signal; 0 without child.

        :param ignored: signals the caller had ignored.
        """
        self._hear()  # what came before SIGIO was asked for
        waited = (
            set(signal.valid_signals())
            - OWN
            - PYTHON_IGNORES
            - (ignored - {signal.SIGCHLD, signal.SIGIO})
        )
        status = 0
        while self._child or not self._closed:
            info = signal.sigwaitinfo(waited)
            if info.si_signo == signal.SIGCHLD and self._child:
                pid, status = os.waitpid(self._child, os.WNOHANG)
                if pid:
                    break
            elif info.si_signo == signal.SIGIO:
                self._hear()
            # sent by a process; by the kernel, that is the terminal, it is > 0
            elif info.si_code <= 0:
                self.send(bytes([info.si_signo]))
        self._hear()
        if self._process >= 0:
            # It may have been killed, or the process between here and there, and still be dying.
            import select

            poll = select.poll()
            poll.register(self._process, select.POLLIN)
            poll.poll(DEATH_SECONDS * 1000)
        return os.waitstatus_to_exitcode(status)

    def _hear(self) -> None:
        stopped = False
        while not self._closed:
            try:
                data, ancillary, _, _ = self._inside.recvmsg(1 << 16, socket.CMSG_SPACE(12))
            except ConnectionResetError:  # it ended without having read all: what it said comes now
                continue
            except OSError:
                break
            word, _, rest = data.decode(errors="surrogateescape").partition(" ")
            if word == "hello":
                self.begun = True
                pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
                with suppress(ProcessLookupError):  # dead already
                    self._process = os.pidfd_open(pid)
            elif word == "end":
                self.status = int(rest)
            elif word in ("stopped", "continued"):
                stopped = word == "stopped"
            elif word:
                self.heard(word, rest)
            else:
                self._closed = True
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
            self.send(bytes([signal.SIGCONT]))

    def heard(self, word: str, rest: str) -> None:
        """One more word from inside, and what is behind it."""

    def send(self, message: bytes) -> None:
        """Send the number of a signal, or something else that the process inside knows."""
        with suppress(OSError):  # it has ended, that will be seen
            self._inside.send(message)

    def hang_up(self) -> None:
        """Let the process inside, which sees it, end."""
        with suppress(OSError):
            self._inside.shutdown(socket.SHUT_RDWR)


# ------------------------------------------------------------------------------------------- inside


class CommandParent:
    """The parent of the command: starts it, reports what becomes of it, passes signals on to it, and
    ends with its exit status.

    It has every signal blocked. To be made before the command is started.

    :param caller: its end of the socket pair.
    """

    def __init__(self, caller: socket.socket) -> None:
        import threading

        self._caller = caller
        self.command = 0  # its process id, once there is one
        # when this process last got a signal, which is: when its group did
        self._seen: dict[int, float] = {}
        self._ending = threading.Lock()

    def end(self, status: int) -> NoReturn:
        """End this process."""
        self._ending.acquire()  # for good: a second thread waits for the first to end it
        self.before_end()
        self.say(f"end {status}")
        os._exit(status)

    def before_end(self) -> None:
        """What is to be done first."""

    def say(self, message: str) -> None:
        """Send to the caller's process."""
        with suppress(OSError):  # it is dead, `listen` sees it
            self._caller.send(message.encode(errors="surrogateescape"))

    def listen(self) -> None:
        """Start the thread that hears the caller's process, whose end is the end of everything."""
        import threading

        threading.Thread(target=self._listen, name="caller", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                data = self._caller.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self.deserted()
            self.received(data)

    def deserted(self) -> NoReturn:
        """The caller's process has ended."""
        self.end(KILLED)

    def received(self, data: bytes) -> None:
        """A message of the caller's process."""
        self.pass_on(data[0])

    def pass_on(self, number: int) -> None:
        """Give the command a signal that the caller's process got from another one.

        If it was sent to that process's group, this process got it as well, and so did the command
        unless it has left the group: then it must not get it again. This process blocks the signal
        and takes note of it in `start_and_wait`.
        """
        if not self.command:
            if number in ENDING:
                self.end(128 + number)
            return
        try:
            if os.getpgid(self.command) == os.getpgrp():
                time.sleep(GROUP_SECONDS)
                if time.monotonic() - self._seen.get(number, -1.0) < 10 * GROUP_SECONDS:
                    return
            os.kill(self.command, number)
        except ProcessLookupError:
            pass  # it has ended

    def start_and_wait(self, start: Callable[[], int]) -> NoReturn:
        """Start the command, take care of it and of every orphan, and end with its exit status.

        :param start: starts it and returns its process id.
        """
        pending = signal.sigpending().intersection(ENDING)
        if pending:  # the terminal's, when there was no command yet
            self.end(128 + min(pending))
        self.command = start()
        for number in signal.sigpending().intersection(ENDING):
            os.kill(self.command, number)
        everything = set(signal.valid_signals()) - OWN
        while True:
            info = signal.sigwaitinfo(everything)
            if info.si_signo == signal.SIGCHLD:
                self._reap()
            else:
                self._seen[info.si_signo] = time.monotonic()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid != self.command:
                continue
            if os.WIFSTOPPED(status):
                self.say("stopped")
            elif os.WIFCONTINUED(status):
                self.say("continued")
            else:
                code = os.waitstatus_to_exitcode(status)
                self.end(code if code >= 0 else 128 - code)


def find(command: str, path: str, untouchable: Callable[[str], bool] = lambda _: False) -> str:
    """The file to execute for the first word of a command.

    :param path: the variable PATH.
    :param untouchable: says of an absolute path that it must not be looked up; nothing there is
        executable.
    :raises CannotStart: there is none.
    """
    candidates = (
        [command]
        if "/" in command
        else [os.path.join(part or ".", command) for part in path.split(":")]
    )
    status, found = NOT_FOUND, command
    for candidate in candidates:
        if untouchable(os.path.abspath(candidate)):
            status = NOT_EXECUTABLE if "/" in command else status
        elif os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
        elif os.path.exists(candidate) and ("/" in command or os.path.isfile(candidate)):
            found, status = candidate, NOT_EXECUTABLE
    reason = "command not found"
    if status == NOT_EXECUTABLE:
        reason = (
            "is a directory"
            if not untouchable(os.path.abspath(found)) and os.path.isdir(found)
            else "permission denied"
        )
    raise CannotStart(command, reason, status)


def started(
    command: str,
    start: Callable[[str, Sequence[str], Mapping[str, str]], Result],
    path: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> Result:
    """What `start` returns, which is called with the last three, or with a shell when the file is a
    script without #!.

    :param command: its name in messages.
    :raises CannotStart: an OSError of `start`, as a shell would say it.
    """
    try:
        try:
            return start(path, arguments, environment)
        except OSError as e:
            if e.errno != errno.ENOEXEC:
                raise
            return start("/bin/sh", ["sh", path, *arguments[1:]], environment)
    except OSError as e:
        # ENOENT of a file that is there: its interpreter is not.
        status = NOT_FOUND if e.errno == errno.ENOENT else NOT_EXECUTABLE
        raise CannotStart(command, (e.strerror or "").lower(), status) from None
