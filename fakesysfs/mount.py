"""The machine's tree as a FUSE file system: an adapter between libfuse 2 and Machine.

Owns: which FUSE operation is which call of Machine, the mount options that make FUSE behave like
sysfs, what must be true of the host before a mount is tried, and the threads that serve it. Does
not own any text, rule or state of a file (the engine), nor where in /sys the tree appears
(launch.py). The only importer of fusepy.

An operation is one call of Machine with an errno as its only failure. getattr, readlink, open,
read, poll, readdir and release are functions of the engine that libfuse calls directly, in threads
of its own and without Python; FAKESYSFS_NATIVE=0 in the environment takes the Python methods
instead, which call the same engine and give the same bytes.

Threads: libfuse's loop has as many as there are requests, so a long store never stands in the way
of a reader. The process that serves a mount should leave the touching of it to others: were it
killed while one of its threads waits for the others, nothing would end that wait.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from .errors import EnvironmentProblem
from .events import TEXT_LIMIT, caused_by

if TYPE_CHECKING:
    from .machine import Machine

FILE_SYSTEM = "fakesysfs"  # the source of the mount; its type is fuse.fakesysfs
LIBFUSE = "libfuse.so.2"
DEVICE = "/dev/fuse"
START_SECONDS = 20.0
END_SECONDS = 1.0
FUSE_ERRNO_MAX = 511  # of the kernel's protocol
INSTALL_LIBFUSE = (
    "`apt-get install libfuse2` (`libfuse2t64` on newer systems) or `dnf install fuse-libs`"
)
CONTAINER_OPTIONS = "--device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor:unconfined"

# direct_io: sizes and content are asked for each time and a write is one store.
# default_permissions: the kernel checks modes, as for sysfs. atomic_o_trunc: O_TRUNC is not a
# request of its own. big_writes: a long write arrives whole, so that the store cuts it to a page
# and the writer sees a short count. intr: a signal to a blocked writer reaches the store. The
# timeouts: nothing of names and attributes is kept, so that a block that went away is gone at once.
OPTIONS: dict[str, bool | str | int] = {
    "fsname": FILE_SYSTEM,
    "subtype": FILE_SYSTEM,
    "direct_io": True,
    "default_permissions": True,
    "atomic_o_trunc": True,
    "big_writes": True,
    "use_ino": True,
    "intr": True,
    "attr_timeout": 0,
    "entry_timeout": 0,
    "negative_timeout": 0,
}
NATIVE = ("getattr", "fgetattr", "readlink", "open", "read", "poll", "readdir", "release")


class Operations:
    """FUSE operations by fusepy's names, each one call of the machine.

    What is None is answered by libfuse itself, mostly "not supported, do not ask again"; fsync then
    succeeds in the kernel. `lock` and others that are missing are the kernel's business altogether.
    """

    use_ns = True
    access = flush = opendir = releasedir = fsync = fsyncdir = ioctl = destroy = None
    setxattr = getxattr = listxattr = removexattr = None

    def __init__(self, machine: Machine, ready: Callable[[], None], interrupted: int) -> None:
        self._machine = machine
        self._ready = ready
        self._interrupted = interrupted

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Call an operation by name, as fusepy does."""
        return getattr(self, operation)(*arguments)

    def init(self, path: str) -> None:
        """Called once, when the kernel and libfuse have agreed: the mount answers from now on."""
        self._ready()

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        """Attributes of a path."""
        mode, ino, nlink, uid, gid, size, mtime_ns = self._machine.stat(path)
        return {
            "st_mode": mode,
            "st_ino": ino,
            "st_nlink": nlink,
            "st_uid": uid,
            "st_gid": gid,
            "st_size": size,
            "st_mtime": mtime_ns,
            "st_ctime": mtime_ns,
            "st_atime": mtime_ns,
        }

    def readlink(self, path: str) -> str:
        """Target of a symbolic link."""
        return self._machine.readlink(path)

    def readdir(self, path: str, handle: int) -> Iterator[tuple[str, dict[str, int] | None, int]]:
        """Names with inode and type; programs such as qemu-ga look at the type."""
        yield ".", None, 0
        yield "..", None, 0
        for name, ino, mode in self._machine.readdir(path, self._interrupted):
            yield name, {"st_ino": ino, "st_mode": mode}, 0

    def open(self, path: str, flags: int) -> int:
        """Open an attribute."""
        handle = self._machine.open(path, flags, self._interrupted)
        try:  # see engine/fuse_ops.c
            self._machine.await_stores(handle, self._interrupted)
        except OSError:
            self._machine.release(handle)
            raise
        return handle

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Read of the text made when the file was opened or rewound."""
        return self._machine.read(handle, size, offset, self._interrupted)

    def poll(self, path: str, handle: int) -> int:
        """What a file is ready for, without waiting."""
        return self._machine.poll(handle)

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        """One store, wherever in the file it is written to."""
        writer = load_fusepy().fuse_get_context()[2]
        word = data[:TEXT_LIMIT].decode(errors="backslashreplace").rstrip("\n")
        try:
            with caused_by(f"write {word} to {path}", writer):
                return self._machine.write(handle, data, self._interrupted)
        except OSError as e:
            # FUSE has no way to say what notifier error injection can ask for, say -4095; libfuse
            # would complain.
            if e.errno is not None and e.errno > FUSE_ERRNO_MAX:
                raise OSError(errno.ERANGE, os.strerror(errno.ERANGE)) from None
            raise

    def release(self, path: str, handle: int) -> None:
        """Last close of an open file."""
        self._machine.release(handle)

    def truncate(self, path: str, length: int, handle: int | None = None) -> None:
        """Accepted and without effect, as for sysfs."""
        self._machine.truncate(path, length)

    def chmod(self, path: str, mode: int) -> None:
        """Change the mode bits."""
        self._machine.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Change owner and group; -1 leaves one alone."""
        self._machine.chown(path, uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        """Change the time of modification."""
        if times is None:
            import time

            times = (0, time.time_ns())
        self._machine.utimens(path, times[1])

    def statfs(self, path: str) -> dict[str, int]:
        """As of a file system without blocks."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    # Nobody makes, removes or renames a file of sysfs; the machine knows with which errno.

    def create(self, path: str, mode: int) -> None:
        """Refused."""
        self._machine.change("create", path)

    def mknod(self, path: str, mode: int, device: int) -> None:
        """Refused."""
        self._machine.change("mknod", path)

    def mkdir(self, path: str, mode: int) -> None:
        """Refused."""
        self._machine.change("mkdir", path)

    def rmdir(self, path: str) -> None:
        """Refused."""
        self._machine.change("rmdir", path)

    def unlink(self, path: str) -> None:
        """Refused."""
        self._machine.change("unlink", path)

    def rename(self, old: str, new: str) -> None:
        """Refused."""
        self._machine.change("rename", old)

    def symlink(self, path: str, target: str) -> None:
        """Refused."""
        self._machine.change("symlink", path)

    def link(self, path: str, source: str) -> None:
        """Refused."""
        self._machine.change("link", path)


@cache
def load_fusepy() -> Any:
    """The module fusepy, which loads libfuse 2.

    :raises EnvironmentProblem: one of them is not installed.
    """
    own = "FUSE_LIBRARY_PATH" not in os.environ
    if own:
        # fusepy would run ldconfig and a compiler to find it
        os.environ["FUSE_LIBRARY_PATH"] = LIBFUSE
    try:
        import fuse
    except OSError as e:
        raise EnvironmentProblem(f"libfuse 2 cannot be loaded ({e})", INSTALL_LIBFUSE) from e
    except ImportError as e:
        raise EnvironmentProblem(
            "the Python package fusepy is missing", "pip install fusepy"
        ) from e
    finally:
        if own:
            del os.environ["FUSE_LIBRARY_PATH"]
    if not hasattr(fuse, "FUSE"):  # fuse-python installs a module of the same name
        raise EnvironmentProblem(
            f"{fuse.__file__} is not fusepy's", "pip uninstall fuse-python; pip install fusepy"
        )
    return fuse


@cache
def server_class() -> Any:
    """fusepy's FUSE with native function pointers in the table it hands to libfuse."""
    import ctypes

    fuse = load_fusepy()
    base: Any = fuse.FUSE
    number, pointer, file_info = ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(fuse.fuse_file_info)

    class Table(ctypes.Structure):
        """libfuse's table of operations, of which fusepy knows all but the last few."""

        _fields_ = (
            *fuse.fuse_operations._fields_,
            (
                "poll",
                ctypes.CFUNCTYPE(
                    number, ctypes.c_char_p, file_info, pointer, ctypes.POINTER(ctypes.c_uint)
                ),
            ),
        )

    class Server(base):
        """`FUSE.__init__` once more, because it fills the table and runs the loop in one go."""

        def __init__(
            self,
            operations: Operations,
            mountpoint: str,
            native: dict[str, int],
            **options: bool | str | int,
        ) -> None:
            # latin-1: any bytes make a name, though only ASCII ones exist.
            self.operations, self.raw_fi, self.encoding, self.use_ns = (
                operations,
                False,
                "latin-1",
                True,
            )
            arguments = [
                b"fuse",
                b"-f",
                b"-o",
                ",".join(self._normalize_fuse_options(**options)).encode(),
            ]
            arguments.append(os.fsencode(mountpoint))
            argv = (ctypes.c_char_p * len(arguments))(*arguments)
            table = Table()
            keep = []  # ctypes forgets which closures a structure refers to
            for name, prototype in ((field[0], field[1]) for field in Table._fields_):
                pointer = self.pointer(name, prototype, native)
                if pointer is not None:
                    keep.append(pointer)
                    setattr(table, name, pointer)
            error = fuse._libfuse.fuse_main_real(
                len(arguments), argv, ctypes.byref(table), ctypes.sizeof(table), None
            )
            del keep
            if error:
                raise RuntimeError(error)

        def poll(self, path: bytes, info: Any, handle: int | None, events: Any) -> None:
            """What fusepy does not translate. Nobody is told later of a change, so the handle is
            given back.
            """
            if handle:
                fuse._libfuse.fuse_pollhandle_destroy(ctypes.c_void_p(handle))
            events[0] = self.operations("poll", path.decode(self.encoding), info.contents.fh)

        def pointer(self, name: str, prototype: Any, native: dict[str, int]) -> Any:
            """What libfuse calls for operation `name`: native function, closure around a method, or
            None.
            """
            if not hasattr(prototype, "argtypes"):
                return None  # no function
            if name in native:
                return prototype(native[name])
            if name in ("fgetattr", "ftruncate"):
                return None  # libfuse takes their namesakes without f
            if getattr(self.operations, name, None) is None:
                return None
            return prototype(partial(self._wrapper, getattr(self, name)))

    return Server


def preflight(directory: str | None = None, *, over: bool = False) -> None:
    """See that this host can mount FUSE, and at `directory`.

    :param over: an ordinary directory with something in it will do, and mount rights are there (a
        namespace of ours).
    :raises EnvironmentProblem: it cannot; says what to do.
    """
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"there is no {DEVICE}", f"`modprobe fuse` as root; in a container: {CONTAINER_OPTIONS}"
        ) from None
    except OSError as e:
        raise EnvironmentProblem(
            f"{DEVICE} cannot be opened: {e.strerror}",
            f"`chmod 666 {DEVICE}` as root; in a container: {CONTAINER_OPTIONS}",
        ) from None
    load_fusepy()
    if (
        os.geteuid() != 0
        and not over
        and not shutil.which("fusermount", path=f"{os.environ.get('PATH', '')}:/bin")
    ):
        raise EnvironmentProblem(
            "there is no fusermount, without which only root can mount",
            "install the package fuse3 (or fuse)",
        )
    if directory is not None:
        _preflight_directory(directory, over)


def _preflight_directory(directory: str, over: bool) -> None:
    try:
        mode = os.stat(directory).st_mode
        if not stat.S_ISDIR(mode):
            raise EnvironmentProblem(
                f"{directory} is not a directory", "give an empty directory to mount at"
            )
        if over:
            return
        if mounted(directory):
            raise EnvironmentProblem(
                f"{directory} is a mounted fakesysfs already", f"fakesysfs umount {directory}"
            )
        if os.listdir(directory):
            raise EnvironmentProblem(
                f"{directory} is not empty", "give an empty directory to mount at"
            )
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"there is no directory {directory}", f"mkdir {directory}"
        ) from None
    except OSError as e:
        if e.errno == errno.ENOTCONN:
            raise EnvironmentProblem(
                f"{directory} is a mount whose server died", f"fakesysfs umount {directory}"
            ) from None
        raise EnvironmentProblem(
            f"{directory} cannot be used: {e.strerror}", "give an empty directory"
        ) from None


def mounted(directory: str) -> str | None:
    """The device number "0:47" of the fakesysfs mounted at `directory`, the topmost one; None:
    there is none.
    """
    return mounted_at(os.path.realpath(directory))


def mounted_at(path: str) -> str | None:
    """As `mounted`, of a path that is absolute and without links. Looks nothing up in the file
    system.
    """
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mountinfo:
        for line in mountinfo:
            fields = line.split(" ")
            # Blanks and the like are written \040 in the mount point.
            where = (
                fields[4]
                .encode("utf-8", "surrogateescape")
                .decode("unicode_escape")
                .encode("latin-1")
            )
            if os.fsdecode(where) == path:
                found = (
                    fields[2] if fields[fields.index("-") + 1] == f"fuse.{FILE_SYSTEM}" else None
                )
    return found


class Mount:
    """The tree of `machine` at `directory`, served by threads of this process.

    One machine can be mounted per process. As an ordinary user of the host everything belongs to
    that user, because the kernel checks owners and modes.

    :param over: see `preflight`.
    :param native: False serves everything by Python methods; the default is FAKESYSFS_NATIVE != 0.
    """

    def __init__(
        self, machine: Machine, directory: str, *, over: bool = False, native: bool | None = None
    ) -> None:
        # now: it is not to be looked up once it is ours
        self.directory = os.path.realpath(directory)
        self._machine = machine
        self._over = over
        self._native = os.environ.get("FAKESYSFS_NATIVE") != "0" if native is None else native
        self._ready = threading.Event()  # mounted, or failed
        self._thread: threading.Thread | None = None
        self._error: str | None = None

    def start(self) -> None:
        """Mount, and return when the kernel has been answered for the first time.

        :raises EnvironmentProblem: it cannot be mounted.
        """
        preflight(self.directory, over=self._over)
        serve = self._server()
        with _Stderr() as complaints:
            self._thread = threading.Thread(
                target=self._serve, args=(serve,), name="fuse", daemon=True
            )
            self._thread.start()
            in_time = self._ready.wait(START_SECONDS)
        if self._error is None and in_time:
            _keep_to_itself()
            if complaints.text:
                os.write(2, complaints.text.encode())
            return
        reason = (
            complaints.text.replace("fuse: ", "").strip().replace("\n", ": ")
            or self._error
            or "no answer"
        )
        raise EnvironmentProblem(
            f"cannot mount at {self.directory}: {reason}",
            "`fakesysfs doctor` says what this host lacks",
        )

    def wait(self) -> None:
        """Return when the file system is no longer mounted."""
        if self._thread is not None:
            self._thread.join()

    def unmount(self) -> None:
        """Take the mount away now, whoever uses it; files that are open are served as long as this
        process lives.
        """
        if self._thread is not None and self._thread.is_alive():
            import ctypes

            call = load_fusepy()._libfuse.fuse_unmount
            call.argtypes, call.restype = [ctypes.c_char_p, ctypes.c_void_p], None
            call(os.fsencode(self.directory), None)
            self._thread.join(END_SECONDS)

    def _server(self) -> Callable[[], object]:
        """What mounts and serves, and returns when it is over."""
        import ctypes

        fuse = load_fusepy()
        interrupted = ctypes.cast(fuse._libfuse.fuse_interrupted, ctypes.c_void_p).value or 0
        native: dict[str, int] = {}
        if self._native:
            forget_poll = (
                ctypes.cast(fuse._libfuse.fuse_pollhandle_destroy, ctypes.c_void_p).value or 0
            )
            addresses = self._machine.fuse_ops(interrupted, forget_poll)
            native = {name: address for name, address in addresses.items() if name in NATIVE}
        options = dict(OPTIONS)
        if os.geteuid() == 0:
            options["allow_other"] = True
        else:
            options |= {"uid": os.getuid(), "gid": os.getgid()}
        if self._over:
            options["nonempty"] = True
        operations = Operations(self._machine, self._ready.set, interrupted)
        return partial(server_class(), operations, self.directory, native, **options)

    def _serve(self, serve: Callable[[], object]) -> None:
        try:
            serve()
        except RuntimeError as e:
            self._error = f"libfuse gave up ({e})"
        finally:
            self._ready.set()


def _keep_to_itself() -> None:
    """Let no child inherit the device, which libfuse leaves open to all.

    The connection ends when nobody has the device open any more. A child with it that waits for an
    answer of the mount would wait for ever once this process is dead.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # of the directory just listed
            if os.readlink(f"/proc/self/fd/{name}") == DEVICE:
                os.set_inheritable(int(name), False)


class _Stderr:
    """What is written to file descriptor 2 meanwhile, which is where libfuse says why it failed."""

    def __enter__(self) -> _Stderr:
        self.text = ""
        self._memory = os.memfd_create("stderr")
        self._real = os.dup(2)
        os.dup2(self._memory, 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._real, 2)
        self.text = os.pread(self._memory, 1 << 16, 0).decode(errors="replace")
        os.close(self._memory)
        os.close(self._real)
