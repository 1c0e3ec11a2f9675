"""`python -m benchmarks scaling`: what grows with the backlog and with the workers, and where it ends."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bench import Bench, Sizes, say
from benchmarks.compare.command import engines_in
from benchmarks.grounds import ENGINES, ground_of
from benchmarks.machine import Machine
from benchmarks.scaling import pages
from benchmarks.scaling.growth import against_backlog, against_workers, burning
from benchmarks.scaling.pages import Growth, Scaling

BACKLOGS: Final = [1_000, 10_000, 100_000, 1_000_000]
WORKERS: Final = [1, 2, 4, 8, 16, 32]
JOBS: Final = 20_000


def main(words: Sequence[str]) -> None:
    """Measure, or read what was measured, and print the tables."""
    options = parser().parse_args(words)
    if options.results:
        found = msgspec.json.decode(options.results.read_bytes(), type=Scaling)
    else:
        found = _measured(options)
    if options.page:
        pages.write_scaling(options.page, found)
    print(msgspec.json.encode(found).decode() if options.json else pages.as_markdown(found))


def _measured(options: argparse.Namespace) -> Scaling:
    before = os.getloadavg()[0]
    # Not /tmp, which may be memory: what is measured is a disk that keeps what it was given.
    with tempfile.TemporaryDirectory(prefix="cicely-scaling-", dir=options.folder) as name:
        folder = Path(name)
        machine = Machine.here(folder)
        growths = tuple(
            _growth(engine, folder, options, sync_us=machine.fdatasync_us) for engine in options.engines
        )
    return Scaling(machine, (before, os.getloadavg()[0]), growths)


def _growth(engine: str, folder: Path, options: argparse.Namespace, *, sync_us: float) -> Growth:
    own = folder / engine
    own.mkdir()
    say(f"on {engine}")
    with ground_of(engine, own) as ground:
        bench = Bench(own, Sizes(), ground)
        return Growth(
            engine=engine,
            about=ground.about,
            backlogs=tuple(against_backlog(bench, options.backlogs, jobs=options.jobs)),
            workers=tuple(against_workers(bench, options.workers, jobs=options.jobs)),
            burning=burning(bench, jobs=max(500, options.jobs // 10)),
            sync_us=sync_us,
        )


def parser() -> argparse.ArgumentParser:
    """Return the words that the command understands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument(
        "--engines", type=engines_in, default=list(ENGINES), help="some of sqlite,redis,postgres"
    )
    parser.add_argument(
        "--backlogs",
        type=numbers_in,
        default=BACKLOGS,
        help="jobs that wait, rising; 10000000 may be among them",
    )
    parser.add_argument("--workers", type=numbers_in, default=WORKERS, help="processes, rising")
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs that each drain runs")
    parser.add_argument("--results", type=Path, help="show what an earlier run printed with --json instead")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument(
        "--page", type=Path, help="write the tables and their plots into this page of the docs"
    )
    parser.add_argument("--folder", default="/var/tmp", help="where files go: a local disk")
    return parser


def numbers_in(text: str) -> list[int]:
    """Return the rising numbers of a list with commas."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers with commas between them") from None
    if numbers != sorted(set(numbers)) or numbers[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: the numbers begin at 1 and rise")
    return numbers
