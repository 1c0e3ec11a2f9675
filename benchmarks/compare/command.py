"""`python -m benchmarks compare`: Cicely beside its peers, each at its settings for production."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.compare import tables
from benchmarks.compare.contest import contest
from benchmarks.compare.lines import QUICK, Sizes
from benchmarks.compare.measures import MEASURES
from benchmarks.compare.pages import write_comparisons
from benchmarks.compare.results import Comparison
from benchmarks.grounds import ENGINES
from benchmarks.machine import Machine
from benchmarks.peers.catalogue import OURS, PEERS, Peer, peer_of

RUNS: Final = 3


def main(words: Sequence[str]) -> None:
    """Measure, or read what was measured, and print the tables."""
    options = parser().parse_args(words)
    found = [msgspec.json.decode(path.read_bytes(), type=Comparison) for path in options.results]
    if not found:
        found = [_measured(options)]
    if options.page:
        write_comparisons(options.page, found)
    print("\n\n".join(_shown(comparison, options) for comparison in found))


def _shown(comparison: Comparison, options: argparse.Namespace) -> str:
    return msgspec.json.encode(comparison).decode() if options.json else tables.as_text(comparison)


def _measured(options: argparse.Namespace) -> Comparison:
    sizes = sizes_of(options)
    peers = [peer_of(OURS), *options.peers]
    before = os.getloadavg()[0]
    # Not /tmp, which may be memory: what is measured is a disk that keeps what it was given.
    with tempfile.TemporaryDirectory(prefix="cicely-compare-", dir=options.folder) as name:
        folder = Path(name)
        machine = Machine.here(folder)
        fields = tuple(
            contest(engine, peers, folder, sizes=sizes, runs=options.runs, only=options.only)
            for engine in options.engines
        )
    return Comparison(machine, sizes, options.runs, (before, os.getloadavg()[0]), fields)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return how much is asked for."""
    sizes = QUICK if options.quick else Sizes()
    if options.patience is None:
        return sizes
    return msgspec.structs.replace(sizes, patience_s=options.patience)


def parser() -> argparse.ArgumentParser:
    """Return the words that the command understands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    everyone = [peer for peer in PEERS if peer.name != OURS]
    parser.add_argument(
        "--peers", type=peers_in, default=everyone, help=f"some of {','.join(peer.name for peer in everyone)}"
    )
    parser.add_argument(
        "--engines", type=engines_in, default=list(ENGINES), help="some of sqlite,redis,postgres"
    )
    parser.add_argument(
        "--only", type=measures_in, default=list(MEASURES), help=f"some of {','.join(MEASURES)}"
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how often each is measured (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument(
        "--patience", type=float, help="how long a killed process's job is waited for, seconds"
    )
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument(
        "--page", type=Path, help="write the tables and their plots into this page of the docs"
    )
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        help="show what earlier runs printed with --json instead",
    )
    parser.add_argument("--folder", default="/var/tmp", help="where files go: a local disk")
    return parser


def peers_in(text: str) -> list[Peer]:
    """Return the systems that a list with commas names, Cicely not among them: it takes part in any case."""
    try:
        return [peer_of(name) for name in text.split(",") if name and name != OURS]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def engines_in(text: str) -> list[str]:
    """Return the engines that a list with commas names."""
    return _chosen(text, ENGINES)


def measures_in(text: str) -> list[str]:
    """Return the measurements that a list with commas names."""
    return _chosen(text, tuple(MEASURES))


def _chosen(text: str, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return names
