"""How fast fakesysfs is: `make bench`. Every figure stands beside a reference that was taken in the
same run.

Four tables: the engine alone (engine.c, linked with the engine's own files), machines from 1 GiB to
64 TiB through Python, DIMMs plugged at the monitor, and what a user of `fakesysfs run` waits for
(files.c reads its files). A figure is the median of many samples; of the tables' several runs the
least disturbed one counts. A figure that has an aim says whether it is met; with --strict a missed
one is an error. On a machine that others use too, look at the references first. Progress goes to
stderr.

Owns: what is compared with what, the aims, the tables. Does not own: what is timed within the
engine (engine.c) and how a file is read (files.c).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENGINE = ROOT / "fakesysfs" / "engine"
BUILD = ROOT / "build" / "bench"
CC = os.environ.get("CC", "cc")
C_FLAGS = ["-std=c11", "-D_GNU_SOURCE=1", "-O2", "-pthread", "-iquote", f"{ENGINE}"]

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SIZES = ("1G", "8G", "64G", "1T", "8T", "64T")
BLOCK = 128 * MIB  # the size of blocks where machines of all sizes are compared
LOAD = 0.10  # of all memory, in anonymous runs of 2 MiB

missed: list[str] = []


def progress(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------- tables


def table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a title; the first one is the heading, the first column is text, the rest
    are figures.
    """
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, width, strict=True))
        ]
        print("  " + "   ".join(cells).rstrip())
        if number == 0:
            print("  " + "   ".join("-" * w for w in width))
    sys.stdout.flush()


def aim(name: str, value: float, limit: float, text: str) -> str:
    """The cell that says what was aimed at, and whether it was met."""
    if value < limit:
        return f"< {text}: met"
    missed.append(f"{name}: {value:.4g} is not below {limit:.4g}")
    return f"< {text}: MISSED"


def ns_text(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 100 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.1f} ns"


def ratio(value: float, reference: float) -> str:
    return f"{value / reference:.3g}" if reference else "-"


# --------------------------------------------------------------------------------------- C programs


def compiled(name: str, with_engine: bool) -> Path:
    """Build tests/bench/NAME.c, with the whole engine or by itself, and return the program."""
    sources = [HERE / f"{name}.c", *(sorted(ENGINE.rglob("*.c")) if with_engine else ())]
    objects = BUILD / name
    objects.mkdir(parents=True, exist_ok=True)
    outputs = [objects / f"{source.parent.name}.{source.stem}.o" for source in sources]

    def compile_one(source: Path, output: Path) -> None:
        subprocess.run([CC, *C_FLAGS, "-c", f"{source}", "-o", f"{output}"], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, outputs))
    program = objects / name
    subprocess.run([CC, "-pthread", *map(str, outputs), "-o", f"{program}"], check=True)
    return program


def figures(command: Sequence[str]) -> dict[str, float]:
    """Run a program that prints `NAME NANOSECONDS` lines."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    pairs = (line.rsplit(None, 1) for line in done.stdout.splitlines())
    return {name: float(value) for name, value in pairs}


def least(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure, that of the least disturbed run."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def bench_engine(features: Sequence[str], rounds: int) -> None:
    progress("compiling the engine")
    program = compiled("engine", with_engine=True)
    progress("timing the engine")
    got = least([figures([f"{program}", *features]) for _ in range(rounds)])
    memset, walk = got["memset"], got["walk_block"]
    pages = BLOCK >> 12
    rows = [["128 MiB block, no Python", "median", "reference", "in the same run", "ratio", "aim"]]

    def add(
        text: str, name: str, reference: str, against: float, goal: tuple[float, str] | None = None
    ) -> None:
        cell = aim(text, got[name], *goal) if goal else ""
        row = [
            text,
            ns_text(got[name]),
            reference,
            ns_text(against),
            ratio(got[name], against),
            cell,
        ]
        rows.append(row)

    add("add a block", "add", "memset 2 MiB", memset)
    add(
        "online, fresh block", "online", "memset 2 MiB", memset, (min(memset, 5000), "5 us, memset")
    )
    add("offline, empty block", "offline", "memset 2 MiB", memset, (5000, "5 us"))
    add("remove a block", "remove", "memset 2 MiB", memset)
    add("offline, full of scattered 4 KiB pages, per page", "migrate_page", "64-byte walk, per page", walk / pages,
        (60, "60 ns"))  # fmt: skip
    add("allocate and free, order 0", "pair_order0", "memset 2 MiB", memset, (30, "30 ns"))
    add("allocate and free, order 9", "pair_order9", "memset 2 MiB", memset)
    add(
        "machine_check, per GiB of single pages",
        "check_gib",
        "64-byte walk of 1 GiB",
        got["walk_gib"],
    )
    table("The engine: one write(2) of `state`, and what is below it", rows)


# -------------------------------------------------------------------------------------------- scale


def rss_bytes() -> int:
    """Memory of this process that is resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def timed(function: Callable[[], object]) -> float:
    """Nanoseconds."""
    start = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - start


def scale_child(memory: str, same_blocks: bool) -> dict[str, float]:
    """Measure one machine, in a process of its own."""
    bare = rss_bytes()
    from fakesysfs import Machine, MachineConfig

    config = MachineConfig.from_options(memory=memory)
    if same_blocks:
        config = dataclasses.replace(config, block_bytes=BLOCK)
    out: dict[str, float] = {"config": timed(lambda: MachineConfig.from_options(memory=memory))}
    made: list[Machine] = []
    out["create"] = timed(lambda: made.append(Machine(config)))
    out["rss"] = rss_bytes() - bare
    machine = made[0]
    size = machine.block_bytes
    out["block"] = size
    # Behind all memory there is, so that it lies at the same place of the zone on machines of every
    # size.
    end = max(end for _, end, _ in config.ram)
    base = max(4 * GIB, -(-end // size) * size)
    machine.add_memory(0, base, 2 * size)

    def on_and_off(block: int, prefix: str) -> None:
        # write() of Machine would deliver the events to nobody; that of the engine is what is to be
        # timed.
        write = super(Machine, machine).write
        handle = machine.open(f"/sys/devices/system/memory/memory{block}/state", os.O_RDWR)
        online, offline = [], []
        for _ in range(101):
            online.append(timed(lambda: write(handle, b"online_movable")))
            offline.append(timed(lambda: write(handle, b"offline")))
            machine.take_events()
        machine.release(handle)
        out[f"{prefix}online"], out[f"{prefix}offline"] = median(online), median(offline)

    def add_and_remove() -> None:
        add, remove = [], []
        for _ in range(51):
            add.append(timed(lambda: machine.add_memory(0, base + 2 * size, size)))
            remove.append(timed(lambda: machine.remove_memory(base + 2 * size, size)))
        out["add"], out["remove"] = median(add), median(remove)

    on_and_off(base // size, "")
    add_and_remove()
    # Movable with one block at the start of memory and one at its end: when that goes, the zone
    # shrinks over the gap.
    low = next(
        (b.id for b in machine.blocks() if b.free_pages == b.present_pages and b.state == "online"),
        None,
    )
    if low is not None:
        machine.store(f"/sys/devices/system/memory/memory{low}/state", "offline")
        machine.store(f"/sys/devices/system/memory/memory{low}/state", "online_movable")
    on_and_off(base // size + 1, "far_")
    nr_pages = int(config.memory_bytes * LOAD) >> config.page_shift
    out["load"] = timed(lambda: super(Machine, machine).allocate_pages("anon", nr_pages, 9))
    out["loaded_rss"] = rss_bytes() - bare
    on_and_off(base // size, "loaded_")
    out["check"] = timed(machine.check)
    return out


def child(*arguments: str) -> dict[str, float]:
    """Run this file as a child; it prints its findings as JSON."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    command = [sys.executable, f"{Path(__file__).resolve()}", "--child", *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def bench_scale(rounds: int) -> None:
    real, same = {}, {}
    for memory in SIZES:
        progress(f"a machine of {memory}")
        real[memory] = least([child(memory, "own") for _ in range(rounds)])
        same[memory] = least([child(memory, "same") for _ in range(rounds)])

    def mib(value: float) -> str:
        return f"{value / MIB:.1f} MiB"

    last = SIZES[-1]
    head = [
        "machine",
        "create",
        "RSS",
        "with load",
        "block",
        "online",
        "offline",
        "add",
        "remove",
        "load 10%",
        "check",
    ]
    rows = [head]
    for memory in SIZES:
        f = real[memory]
        rows.append([memory, ns_text(f["create"]), mib(f["rss"]), mib(f["loaded_rss"]), f"{f['block'] / MIB:.0f} MiB",
                     *(ns_text(f[name]) for name in ("online", "offline", "add", "remove", "load", "check"))])  # fmt: skip
    rows.append([f"aim at {last}",
                 aim(f"create {last}", real[last]["create"], 0.2e9, "0.2 s"),
                 aim(f"RSS {last}", real[last]["rss"] / MIB, 100, "100 MiB"),
                 aim(f"RSS {last} with load", real[last]["loaded_rss"] / MIB, 100, "100 MiB"),
                 *[""] * (len(head) - 4)])  # fmt: skip
    table("Machines through Python, each in a process of its own, with the block size x86_64 gives them\n"
          "(RSS is over that of a bare interpreter; the load is anonymous, in runs of 2 MiB)", rows)  # fmt: skip

    first = SIZES[0]
    columns = {"online": "online", "offline": "offline", "loaded_online": "online, load 10%",
               "loaded_offline": "offline, load 10%", "far_offline": "offline, far end", "add": "add",
               "remove": "remove"}  # fmt: skip
    rows = [["machine", *columns.values()]]
    rows += [[memory, *(ns_text(same[memory][name]) for name in columns)] for memory in SIZES]
    growth = {name: same[last][name] / same[first][name] for name in columns}
    rows.append([f"{last} / {first}", *(f"{growth[name]:.2f}" for name in columns)])
    rows.append(
        [
            "aim",
            *(
                aim(f"{columns[name]} at {last} against {first}", growth[name], 1.5, "1.5")
                for name in columns
            ),
        ]
    )
    table("One block of 128 MiB on machines of every size: their block size is forced to 128 MiB\n"
          "(far end: Movable has one block at each end of memory, and loses the last one)", rows)  # fmt: skip


# ------------------------------------------------------------------------------------------ monitor


def monitor_child(memory: str, size: str, count: int) -> dict[str, float]:
    """Plug `count` DIMMs of `size`, ask about them, and unplug one of them, in a process of its
    own.
    """
    from fakesysfs import Machine, MachineConfig
    from fakesysfs.qemu.board import Board
    from fakesysfs.qemu.monitor import Monitor
    from fakesysfs.qemu.qmp import QmpSession

    out: dict[str, float] = {}
    with (
        Machine.from_config(MachineConfig.from_options(memory=memory)) as machine,
        Board(machine) as board,
    ):
        monitor = Monitor(board)
        session = QmpSession(monitor)
        session.receive(b'{"execute":"qmp_capabilities"}')
        before, plugged = len(machine.blocks()), []
        for number in range(count):
            monitor.command(f"object_add memory-backend-ram,id=m{number},size={size}")
            plug = f"device_add pc-dimm,id=d{number},memdev=m{number}"
            plugged.append(timed(partial(monitor.command, plug)))
        out["device_add"], out["last"] = median(plugged), median(plugged[-9:])
        out["block"] = machine.block_bytes
        out["dimms"], out["blocks"] = len(board.dimms), len(machine.blocks()) - before
        for name in ("query-memory-devices", "query-memdev", "query-acpi-ospm-status"):
            request = json.dumps({"execute": name}).encode()
            out[name] = median(timed(lambda: session.receive(request)) for _ in range(11))  # noqa: B023
        out["info memory-devices"] = median(
            timed(lambda: monitor.command("info memory-devices")) for _ in range(11)
        )
        out["device_del"] = timed(lambda: monitor.command("device_del d0"))
    return out


def bench_monitor(rounds: int) -> None:
    progress("plugging DIMMs")
    # The memmap of 1 TiB takes 16 GiB of the memory there is.
    cases = {
        "128 MiB": ("1G,slots=256,maxmem=64G", "128M", "256"),
        "1 TiB": ("40G,slots=2,maxmem=4T", "1T", "2"),
    }
    found = {
        name: least([child("monitor", *case) for _ in range(rounds)])
        for name, case in cases.items()
    }
    columns = (
        "device_add",
        "last",
        "device_del",
        "query-memory-devices",
        "info memory-devices",
        "query-memdev",
    )
    rows = [["DIMMs of", "DIMMs", "blocks of them", *columns]]
    for name, f in found.items():
        times = (ns_text(f[column]) for column in columns)
        rows.append(
            [name, f"{f['dimms']:.0f}", f"{f['blocks']:.0f} of {f['block'] / MIB:.0f} MiB", *times]
        )
    table("The monitor: a DIMM's blocks are there when device_add is answered\n"
          "(median, and of the last nine; the queries when all are plugged)", rows)  # fmt: skip


# ---------------------------------------------------------------------------------------------- run


def wall_ms(command: Sequence[str]) -> float:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    return (
        timed(
            lambda: subprocess.run(
                command, check=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL
            )
        )
        / 1e6
    )


def bench_run(rounds: int) -> None:
    fakesysfs = [sys.executable, "-m", "fakesysfs", "run"]
    commands = {
        "run": [*fakesysfs, "--", "true"],
        "unshare": ["unshare", "-Urmn", "true"],
        "python": [sys.executable, "-c", "pass"],
    }
    for name in ("unshare", "run"):
        done = subprocess.run(commands[name], check=False, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print(
                f"\nfakesysfs run is not timed: `{' '.join(commands[name])}` fails here:"
                f" {done.stderr.strip()}"
            )
            return
    progress("fakesysfs run")
    walls: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            walls[name].append(wall_ms(command))
    run, best = median(walls["run"]), min(walls["run"])
    rows = [["what a user waits for", "median", "reference", "in the same run", "ratio", "aim"]]

    def add(
        text: str, value: str, reference: str, against: str, factor: str, goal: str = ""
    ) -> None:
        rows.append([text, value, reference, against, factor, goal])

    for number, (name, text) in enumerate(
        {"unshare": "unshare -Urmn true", "python": "python -c pass"}.items()
    ):
        add("" if number else f"fakesysfs run -- true (best: {best:.0f} ms)", "" if number else f"{run:.0f} ms", text,
            f"{median(walls[name]):.1f} ms", ratio(run, median(walls[name])),
            "" if number else aim("fakesysfs run -- true", run, 150, "150 ms"))  # fmt: skip

    progress("files through the mount")
    program = f"{compiled('files', with_engine=False)}"
    memory = "/sys/devices/system/memory"
    state, cpus = f"{memory}/memory3/state", "/sys/devices/system/cpu/online"
    got = figures([*fakesysfs, "--", program, state, cpus])
    add("open, read, close of `state` through the mount", ns_text(got[state]), "cpu/online of real sysfs",
        ns_text(got[cpus]), ratio(got[state], got[cpus]))  # fmt: skip
    blocks = sorted(Path(memory).glob("memory[0-9]*/state"))
    if blocks:
        real = figures([program, f"{blocks[0]}"])[f"{blocks[0]}"]
        add(
            "",
            "",
            f"{blocks[0].parent.name}/state of the host",
            ns_text(real),
            ratio(got[state], real),
        )
    # Almost no load, so that there are blocks nobody uses.
    writes = ["-w", f"{memory}/memory6/state", "offline", "online"]
    stored = figures([*fakesysfs, "--workload", "anon=1M", "--", program, *writes])
    for word in ("offline", "online"):
        add(f"open, store `{word}`, close through the mount", ns_text(stored[word]), "cpu/online of real sysfs",
            ns_text(got[cpus]), ratio(stored[word], got[cpus]))  # fmt: skip
    table("fakesysfs run", rows)


# --------------------------------------------------------------------------------------------- main


def main() -> int:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description="How fast fakesysfs is.")
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help="engine, scale, monitor, run; all when none is named",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--strict", action="store_true", help="end with status 1 when an aim is missed"
    )
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.child[0] == "monitor":
            _, memory, size, count = options.child
            json.dump(monitor_child(memory, size, int(count)), sys.stdout)
        else:
            json.dump(scale_child(options.child[0], options.child[1] == "same"), sys.stdout)
        return 0
    wanted = options.tables or ["engine", "scale", "monitor", "run"]
    unknown = set(wanted) - {"engine", "scale", "monitor", "run"}
    if unknown:
        parser.error(
            f"no table is called {sorted(unknown)[0]}: there are engine, scale, monitor and run"
        )
    sys.path.insert(0, f"{ROOT}")
    from fakesysfs import MachineConfig

    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > cpus / 2:
        print(
            f"This machine is busy: load {load:.1f} on {cpus} CPUs. The figures below are worse"
            " than its own."
        )
    if "engine" in wanted:
        bench_engine(MachineConfig.from_options().features, 1 if options.quick else 5)
    if "scale" in wanted:
        bench_scale(1 if options.quick else 5)
    if "monitor" in wanted:
        bench_monitor(1 if options.quick else 5)
    if "run" in wanted:
        bench_run(5 if options.quick else 15)
    print()
    for line in missed:
        print(f"aim missed: {line}", file=sys.stderr)
    return 1 if missed and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
