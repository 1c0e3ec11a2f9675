"""Where each microsecond of a no-op job goes: `python -m benchmarks profile [--page FILE]`.

Runs a drain by two processes, samples one of them and their supervisor with py-spy (installed beside the
peers when it is first asked for), and divides what a job costs by what the samples show. The thread that
runs jobs is sampled while it holds the interpreter's lock; those that talk to the engine by the clock,
because there the disk, the server and the other writers count. `--instructions` counts those of a
producer with valgrind as well: a busy machine hardly changes them.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bench import Bench, Sizes, say
from benchmarks.clock import boottime
from benchmarks.compare.command import engines_in
from benchmarks.compare.environments import tool
from benchmarks.compare.servers import Server, behind
from benchmarks.grounds import ENGINES, TITLES, ground_of
from benchmarks.instructions import instructions_of_delay
from benchmarks.machine import Machine
from benchmarks.page import write_between
from benchmarks.processes import cpu_s, thread_cpu_s
from benchmarks.report import number
from benchmarks.runs import Moved, Run
from benchmarks.stages import CLERK, DELAY, RUN, TALK, stage_of
from benchmarks.worker import Worker

PROCESSES: Final = 2
JOBS: Final = {"sqlite": 600_000, "redis": 400_000, "postgres": 300_000}
SINGLES: Final = 1_000_000
WARM_UP_S: Final = 1.5
SAMPLE_S: Final = 2
SAMPLES_PER_S: Final = 500
LIMIT_S: Final = 60.0
LEAST_SHARE: Final = 0.004


class Sample(msgspec.Struct, frozen=True):
    """A stack that was seen so often, outermost frame first, without line numbers."""

    thread_id: int
    thread: str
    frames: tuple[str, ...]
    count: int


class Table(msgspec.Struct, frozen=True):
    """Microseconds per job, and what for, the largest part first."""

    title: str
    parts: tuple[tuple[str, float], ...]

    @property
    def total_us(self) -> float:
        """All parts together."""
        return sum(us for _, us in self.parts)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    options = _parser().parse_args(words)
    with tempfile.TemporaryDirectory(prefix="cicely-profile-", dir=options.folder) as name:
        folder = Path(name)
        machine = Machine.here(folder)
        parts = ["\n".join(f"- {line}" for line in machine.lines())]
        for engine in options.engines:
            parts += _profile(engine, folder, options)
    text = "\n\n".join(parts)
    print(text)
    if options.page:
        write_between(options.page, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument(
        "--engines", type=engines_in, default=list(ENGINES), help="some of sqlite,redis,postgres"
    )
    parser.add_argument("--page", type=Path, help="write the tables into this page of the docs")
    parser.add_argument("--folder", default="/var/tmp", help="where files go: a local disk")
    parser.add_argument("--py-spy", help="the sampler's program, instead of one that is installed for this")
    parser.add_argument(
        "--instructions", action="store_true", help="count those of a producer with valgrind, too"
    )
    return parser


def _profile(engine: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """Return the tables of one engine, below its heading."""
    own = folder / engine
    own.mkdir()
    say(f"on {engine}")
    sampler = Sampler(options.py_spy or tool("py-spy"), own / "samples")
    with ground_of(engine, own) as ground:
        bench = Bench(own, Sizes(), ground)
        tables = [*tables_of_running(bench, sampler), table_of_delay(bench, sampler)]
        found = [f"### {TITLES[engine]}", f"- {ground.about}", *map(as_markdown, tables)]
        if options.instructions:
            bench.clear()
            count = instructions_of_delay(bench.environment, own)
            found.append(f"One `delay` is {count:,} instructions of its process, by valgrind.")
        return found


def as_markdown(table: Table) -> str:
    """Return a table for a page of the docs."""
    lines = [f"**{table.title}: {number(table.total_us)} µs**", "", "| µs | |", "|---:|---|"]
    lines += [f"| {number(us)} | {what} |" for what, us in table.parts]
    return "\n".join(lines)


class Sampler:
    """py-spy, and the file that it leaves its samples in."""

    def __init__(self, program: str, path: Path) -> None:
        self._program = program
        self._path = path

    def look_at(self, pid: int, *words: str) -> list[Sample]:
        """Return what a process's threads did during `SAMPLE_S` seconds."""
        command = [self._program, "record", "--pid", str(pid), "--duration", str(SAMPLE_S)]
        command += ["--rate", str(SAMPLES_PER_S), "--format", "raw", "--threads", "--output"]
        subprocess.run(
            [*command, str(self._path), *words],
            check=True,
            timeout=SAMPLE_S + LIMIT_S,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return [_sample(line) for line in self._path.read_text().splitlines()]


def _sample(line: str) -> Sample:
    stack, _, count = line.rpartition(" ")
    head, *frames = stack.split(";")
    thread_id, _, name = head.removeprefix("thread (").partition(")")
    bare = tuple(frame.rpartition(":")[0].replace(" (", "\t").rstrip(")") for frame in frames)
    return Sample(int(thread_id), name.removeprefix(": "), bare, int(count))


# --- running a job --------------------------------------------------------------------------------
def tables_of_running(bench: Bench, sampler: Sampler) -> list[Table]:
    """Sample one of two children, and their supervisor, in the middle of a drain."""
    engine = bench.ground.engine
    jobs = JOBS[engine]
    server = behind(bench.ground)
    bench.clear()
    bench.moved("bulk", jobs, limit_s=LIMIT_S)
    look = Run("benchmarks.producer", "watch", jobs, LIMIT_S, environment=bench.environment)
    with look.looking_on(), Worker(bench.url, processes=PROCESSES) as worker:
        worker.wait_until_up(PROCESSES)
        time.sleep(WARM_UP_S)
        child = worker.children[0]
        began_at, cpu, others_s = boottime(), thread_cpu_s(child), _others_s(worker, server)
        holding = sampler.look_at(child, "--gil")
        by_clock = sampler.look_at(child)
        clerks = _of(sampler.look_at(worker.pid), "cicely-clerk")
        seconds = boottime() - began_at
        cpu = {thread: spent - cpu.get(thread, 0.0) for thread, spent in thread_cpu_s(child).items()}
        clerks_s, server_s = (
            now - then for now, then in zip(_others_s(worker, server), others_s, strict=True)
        )
        rate = msgspec.convert(look.result(LIMIT_S), Moved).per_s
    say(f"{rate:,.0f} jobs/s while being sampled")
    ran = rate * seconds
    runs, talks = _of(holding, "MainThread"), _of(by_clock, "cicely-engine")
    run_us = cpu[runs[0].thread_id] / (ran / PROCESSES) * 1e6
    between_us = PROCESSES / rate * 1e6
    everything = [
        ("a child's thread that runs jobs", run_us),
        ("a child's thread that talks to its clerk", cpu[talks[0].thread_id] / (ran / PROCESSES) * 1e6),
        ("the supervisor with the clerks", clerks_s / ran * 1e6),
        *([("the server", server_s / ran * 1e6)] if server else []),
    ]
    return [
        Table("All processes, CPU per job", tuple(everything)),
        divided("A child's thread that runs jobs, CPU per job", run_us, runs, RUN),
        divided("A child's thread that talks to its clerk, time per job", between_us, talks, TALK),
        divided("A clerk, time per job of its child", between_us, clerks, CLERK[engine]),
    ]


def _others_s(worker: Worker, server: Server | None) -> tuple[float, float]:
    return cpu_s([worker.pid]), server.cpu_s() if server else 0.0


def _of(samples: Sequence[Sample], thread: str) -> list[Sample]:
    return [sample for sample in samples if sample.thread == thread]


# --- asking for one -------------------------------------------------------------------------------
def table_of_delay(bench: Bench, sampler: Sampler) -> Table:
    """Sample a producer that calls `delay` as fast as it can."""
    bench.clear()
    limit_s = SAMPLE_S + WARM_UP_S + 2
    run = Run("benchmarks.producer", "single", SINGLES, limit_s, environment=bench.environment)
    run.wait_until_ready()
    run.go()
    time.sleep(WARM_UP_S)
    samples = sampler.look_at(run.pid)
    moved = msgspec.convert(run.result(limit_s), Moved)
    return divided(
        "One `delay`, time", 1e6 / moved.per_s, _of(samples, "MainThread"), DELAY[bench.ground.engine]
    )


def divided(title: str, total_us: float, samples: Sequence[Sample], stages: dict[str, str]) -> Table:
    """Divide `total_us` by the share of the samples that each stage has."""
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[stage_of(sample.frames, stages)] += sample.count
    total = counts.total()
    return Table(
        title,
        tuple(
            (what, total_us * count / total)
            for what, count in counts.most_common()
            if count / total >= LEAST_SHARE
        ),
    )


if __name__ == "__main__":
    main()
