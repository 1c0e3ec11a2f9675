"""`python -m cicely.testing.cluster`: run seeds of the simulated cluster, or show one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from cicely.testing.cluster.run import Cluster, Verdict

_SAY_EVERY: Final = 500


def verdict_of(seed: int) -> Verdict:
    """Run one seed."""
    return Cluster(seed).live()


def verdicts(seeds: Sequence[int], *, jobs: int) -> Iterator[Verdict]:
    """Run seeds in so many processes; their verdicts come in the order of the seeds."""
    if jobs == 1:
        yield from map(verdict_of, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(verdict_of, seeds, chunksize=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m cicely.testing.cluster", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="print what happens, with --seed")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _one(asked.seed, trace=asked.trace)
    return _many(range(asked.first, asked.first + asked.seeds), jobs=asked.jobs)


def _one(seed: int, *, trace: bool) -> int:
    verdict = Cluster(seed, show=_say if trace else None).live()
    _say(_line(verdict))
    return 1 if verdict.broken else 0


def _many(seeds: Sequence[int], *, jobs: int) -> int:
    began_at = time.monotonic()
    broken: list[Verdict] = []
    starts = re_runs = stale = 0
    for count, verdict in enumerate(verdicts(seeds, jobs=jobs), start=1):
        starts, re_runs, stale = starts + verdict.starts, re_runs + verdict.re_runs, stale + verdict.stale
        if verdict.broken:
            broken.append(verdict)
            _say(_line(verdict))
        if count % _SAY_EVERY == 0:
            _say(f"{count} seeds in {time.monotonic() - began_at:.0f} s, {len(broken)} broken")
    _say(
        f"{len(seeds)} seeds of 24 h in {time.monotonic() - began_at:.1f} s: {starts} attempts, "
        f"{re_runs} of them again, {stale} late outcomes refused; {len(broken)} seeds broken"
    )
    return 1 if broken else 0


def _line(verdict: Verdict) -> str:
    said = verdict.broken or "kept"
    return (
        f"seed {verdict.seed}: {said} ({verdict.events} events, {verdict.jobs} jobs, trace {verdict.digest})"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
