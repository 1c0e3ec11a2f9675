"""Medians, spreads and ratios of what several runs found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from benchmarks.targets import Better

#: Seconds until what did not happen as long as somebody looked; JSON has no infinity.
NEVER: Final = 1e9


class Spread(msgspec.Struct, frozen=True):
    """The median of some values, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of at least one value."""
        return cls(median(values), min(values), max(values))


def percentile(values: Sequence[float], share: int) -> float:
    """Return the value that `share` per cent of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def best_of(values: Mapping[str, Sequence[float]], better: Better) -> str:
    """Return the name with the best median."""
    choose = max if better is Better.MORE else min
    return choose(values, key=lambda name: median(values[name]))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Return the ratio of values that were found one after the other, run by run; None if there is none."""
    pairs = zip(ours, theirs, strict=False)
    ratios = [mine / other for mine, other in pairs if 0 < other < NEVER and mine < NEVER]
    return Spread.of(ratios) if ratios else None


def verdict(ratio: Spread, better: Better) -> str:
    """Return "ahead", "behind", or "even" where the runs do not agree on it."""
    up, down = ("ahead", "behind") if better is Better.MORE else ("behind", "ahead")
    if ratio.least > 1:
        return up
    return down if ratio.most < 1 else "even"
