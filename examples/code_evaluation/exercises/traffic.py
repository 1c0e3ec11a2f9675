"""Change the share of the new side while 10,000 calls are split, and see that they follow within a second."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from cicely.migration import EngineShares, Migration, Which
from examples.code_evaluation.app import app
from examples.code_evaluation.stage import Promises, forget_share, stage

SHARES = (0, 50, 90, 100)
CALLS = 10_000
POINTS = 2
SPLIT_US = 50
_FOLLOWED_S = 1.0


def main(options: argparse.Namespace) -> int:
    """Set each share by the command line, and count where calls go."""
    promises = Promises()
    with stage(options.keep) as folder:
        split = _split(folder)
        split.traffic()  # opens the engine, which makes the file
        for percent in SHARES:
            _set(percent)
            time.sleep(_FOLLOWED_S)
            by_chance = Counter(split.submit(str(number), None) for number in range(CALLS))
            by_key = Counter(split.submit(str(number), None, key=f"user-{number}") for number in range(CALLS))
            for how, sides in (("chance", by_chance), ("key", by_key)):
                found = 100 * sides[Which.NEW] / CALLS
                promises.bound(
                    f"{percent:3} % by {how}: {found:.2f} %, off by",
                    abs(found - percent),
                    most=POINTS,
                    unit="points",
                )
        forget_share("default")
        promises.bound("one split, with its line in the book", _cost_us(split), most=SPLIT_US, unit="µs")
    return promises.report()


def _split(folder: Path) -> Migration:
    """Return a migration of two sides that do nothing, whose share the engine of this app keeps."""

    def nothing(*_given: object) -> None:
        return None

    shares = EngineShares(lambda: app.engine)
    return Migration(old=(nothing, nothing), new=(nothing, nothing), shares=shares, accounts=folder / "book")


def _set(percent: float) -> None:
    words = [
        sys.executable,
        "-m",
        "cicely",
        "traffic",
        "set",
        str(percent),
        "--url",
        os.environ["CICELY_URL"],
    ]
    if code := subprocess.run(words, check=False).returncode:
        sys.exit(code)  # the command has said why


def _cost_us(split: Migration) -> float:
    """Return what a split takes: the best of ten measurements, for others may be at work here."""

    def measured_us() -> float:
        began_at = time.perf_counter()
        for number in range(CALLS // 10):
            split.submit(str(number), None, key=str(number))
        return (time.perf_counter() - began_at) / (CALLS // 10) * 1e6

    return min(measured_us() for _ in range(10))
