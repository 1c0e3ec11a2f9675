"""What growth costs, as tables, plots and a page of the docs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.compare.plots import Curve, curves
from benchmarks.grounds import TITLES
from benchmarks.machine import Machine
from benchmarks.page import write_between
from benchmarks.report import number
from benchmarks.scaling.cluster import Costs, fitted, jobs_per_s, saturation
from benchmarks.scaling.growth import AtBacklog, AtWorkers, Exchange

CLUSTER: Final = (1, 2, 4, 8, 16, 32, 64, 128)
#: How long jobs take, and how that is called.
LENGTHS: Final = ((0.0, "no-op"), (0.001, "1 ms"), (0.1, "100 ms"))
#: The way to a server in the same room and back.
WAY_US: Final = 200.0
#: Units of an engine that work at the same time: one writes to a file, one runs Redis's commands;
#: PostgreSQL has a process per connection, here on four cores.
UNITS: Final = {"sqlite": 1, "redis": 1, "postgres": 4}


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine's costs grow with."""

    engine: str
    about: str
    backlogs: tuple[AtBacklog, ...]
    workers: tuple[AtWorkers, ...]
    burning: Exchange
    sync_us: float

    @property
    def costs(self) -> Costs:
        """What a cluster is simulated with."""
        runs = [row.run for row in self.workers]
        call_us, job_us = fitted([(run.batch, run.engine_us) for run in [*runs, self.burning]])
        two = next((row.run for row in self.workers if row.processes == 2), runs[0])
        # A file is on the worker's own machine, and nobody else writes while it waits for the disk.
        is_file = self.engine == "sqlite"
        return Costs(
            call_us=call_us + (self.sync_us if is_file else 0.0),
            job_us=job_us,
            worker_us=two.children_us,
            way_us=0.0 if is_file else WAY_US,
            batch=two.batch,
        )


class Scaling(msgspec.Struct, frozen=True):
    """One run of the command."""

    machine: Machine
    load: tuple[float, float]
    growths: tuple[Growth, ...]


def write_scaling(page: Path, scaling: Scaling) -> None:
    """Put the tables between the page's marks, and the plots into the folder of the page's name."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    drawn = _drawn(scaling.growths)
    for name, picture in drawn.items():
        (folder / f"{name}.svg").write_text(picture)
    pictures = [f"![{name}]({folder.name}/{name}.svg)" for name in drawn]
    write_between(page, "\n\n".join([as_markdown(scaling), *pictures]))


def _drawn(growths: Sequence[Growth]) -> dict[str, str]:
    return {
        "backlog-exchange": curves(
            "Settle and claim, beside the backlog",
            "jobs that wait",
            "µs per job",
            [_curve(growth, lambda row: row.run.exchange_us / row.run.batch) for growth in growths],
        ),
        "backlog-enqueue": curves(
            "Enqueue one by one, beside the backlog",
            "jobs that wait",
            "µs per job",
            [_curve(growth, lambda row: row.single_us) for growth in growths],
        ),
        "workers": curves(
            "No-op jobs, on the cores of one machine",
            "processes",
            "jobs/s",
            [
                Curve(growth.engine, tuple((row.processes, row.run.per_s) for row in growth.workers))
                for growth in growths
            ],
        ),
        "cluster": curves(
            "Jobs of 1 ms, simulated: each worker has a core of its own",
            "workers",
            "jobs/s",
            [
                Curve(growth.engine, tuple((n, _simulated(growth, n, 0.001)) for n in CLUSTER))
                for growth in growths
            ],
        ),
    }


def _curve(growth: Growth, of: Callable[[AtBacklog], float]) -> Curve:
    return Curve(growth.engine, tuple((row.backlog, of(row)) for row in growth.backlogs))


def _simulated(growth: Growth, workers: int, work_s: float) -> float:
    return jobs_per_s(growth.costs, workers, work_s=work_s, units=UNITS[growth.engine])


def as_markdown(scaling: Scaling) -> str:
    """Return all tables."""
    before, after = scaling.load
    lines = [f"- {line}" for line in scaling.machine.lines()]
    lines.append(f"- load of the machine {before:.1f} before, {after:.1f} after")
    for growth in scaling.growths:
        lines += ["", f"### {TITLES[growth.engine]}", "", f"- {growth.about}", ""]
        lines += [*_of_backlogs(growth), "", *_of_workers(growth), "", *_of_cluster(growth)]
    return "\n".join(lines)


def _of_backlogs(growth: Growth) -> list[str]:
    heads = ("jobs that wait", "`delay`, µs", "`delay_many`, µs per job", "settle and claim, µs per job")
    rows = [
        (
            f"{row.backlog:,}",
            number(row.single_us),
            number(row.bulk_us),
            number(row.run.exchange_us / row.run.batch),
            number(row.run.batch),
            number(row.run.engine_us),
            number(row.run.per_s),
        )
        for row in growth.backlogs
    ]
    return _table((*heads, "jobs per call", "engine's CPU, µs per job", "2 processes, jobs/s"), rows)


def _of_workers(growth: Growth) -> list[str]:
    heads = ("processes", "jobs/s", "settle and claim, µs per call", "jobs per call")
    rows = [
        (
            str(row.processes),
            number(row.run.per_s),
            number(row.run.exchange_us),
            number(row.run.batch),
            number(row.run.engine_us),
            number(row.run.children_us),
        )
        for row in growth.workers
    ]
    return _table((*heads, "engine's CPU, µs per job", "processes' CPU, µs per job"), rows)


def _of_cluster(growth: Growth) -> list[str]:
    costs, units = growth.costs, UNITS[growth.engine]
    lines = [
        f"Simulated with {number(costs.call_us)} µs of the engine per call, {number(costs.job_us)} per job, "
        f"{number(costs.worker_us)} µs of a worker per job, {number(costs.way_us)} µs for the way, up to "
        f"{costs.batch:.0f} jobs per call, {units} of the engine's units; jobs/s:",
        "",
    ]
    rows = [
        (
            text,
            *(number(_simulated(growth, workers, work_s)) for workers in CLUSTER),
            number(costs.ceiling(work_s, units=units)),
            f"{saturation(costs, work_s=work_s, units=units):,} workers",
        )
        for work_s, text in LENGTHS
    ]
    heads = ("jobs of", *(f"{workers} workers" for workers in CLUSTER), "at most", "90 % of it by")
    return lines + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---:|" * len(heads),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
