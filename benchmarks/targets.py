"""The lines of the report and their bars: the columns first, done and goal of the speed budget."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Better(StrEnum):
    """Which way is up."""

    MORE = "more"
    LESS = "less"


class Judged(StrEnum):
    """What the bars are set on: the figure itself, or its share of the raw loop's."""

    VALUE = "value"
    RATIO = "ratio"


class Bars(msgspec.Struct, frozen=True):
    """What is to be reached; None where the bar is a peer's figure or there is none."""

    first: float | None = None
    done: float | None = None
    goal: float | None = None
    moonshot: float | None = None

    def reached(self, figure: float, better: Better) -> str:
        """Return the highest bar that `figure` reaches."""
        bars = [(name, bar) for name, bar in msgspec.structs.asdict(self).items() if bar is not None]
        if not bars:
            return ""
        passed = [name for name, bar in bars if _reaches(figure, bar, better)]
        return passed[-1] if passed else f"below {bars[0][0]}"


def _reaches(figure: float, bar: float, better: Better) -> bool:
    return figure >= bar if better is Better.MORE else figure <= bar


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    key: str
    text: str
    unit: str
    better: Better = Better.MORE
    bars: Bars = Bars()
    judged: Judged = Judged.VALUE


def _less(key: str, text: str, unit: str, bars: Bars | None = None) -> Line:
    return Line(key=key, text=text, unit=unit, better=Better.LESS, bars=bars or Bars())


#: Of the lines that have them; the bars of the others are those of every engine.
BARS = {
    "redis": {"run": Bars(15_000, 28_400, 40_000), "start_p50": Bars(1.5, 0.9, 0.8)},
    # Done for a start would be "below every peer on that server": 3.5 ms, which the first bar is already.
    "postgres": {"run": Bars(12_000, 24_600, 40_000), "start_p50": Bars(3.0, goal=2.0)},
}


def lines_of(engine: str) -> tuple[Line, ...]:
    """Return the lines with an engine's own bars."""
    own = BARS.get(engine, {})
    return tuple(msgspec.structs.replace(line, bars=own.get(line.key, line.bars)) for line in LINES)


LINES = (
    Line(
        key="run",
        text="no-op jobs run by 2 processes",
        unit="jobs/s",
        bars=Bars(20_000, 35_000, 60_000),
    ),
    Line(
        key="prototype",
        text="… beside the bare prototype",
        unit="jobs/s",
        bars=Bars(moonshot=0.60),
        judged=Judged.RATIO,
    ),
    Line(
        key="delay",
        text="enqueue one by one",
        unit="jobs/s",
        bars=Bars(0.60, 0.80, moonshot=0.95),
        judged=Judged.RATIO,
    ),
    Line(key="bulk", text="enqueue in bulk", unit="jobs/s", bars=Bars(30_000, goal=75_000)),
    # Done is "below every peer on that server": 0.9 ms, the best one's (huey).
    _less("start_p50", "idle enqueue to start, p50", "ms", Bars(1.5, 0.9, 0.5)),
    _less("start_p95", "idle enqueue to start, p95", "ms"),
    _less("start_p99", "idle enqueue to start, p99", "ms"),
    _less("result_p50", "idle enqueue to result, p50", "ms"),
    _less("result_p95", "idle enqueue to result, p95", "ms"),
    _less("result_p99", "idle enqueue to result, p99", "ms"),
    _less("idle_cpu", "idle worker of 4 children, CPU", "% of a core", Bars(done=0.5)),
    # One call a second for each of four children; the goal is one for all of them.
    _less("idle_calls", "idle worker of 4 children, calls", "calls/s", Bars(done=4.0, goal=1.0)),
    _less("memory", "worker of 4 children, PSS", "MB", Bars(120, 100, 60)),
    _less("memory_children", "… its 4 children alone, PSS", "MB"),
    _less("rerun", "SIGKILL of a child to its job's re-run", "ms", Bars(500, 100)),
    Line(key="backlog_run", text="run with a backlog, 2 processes", unit="jobs/s"),
    Line(
        key="backlog",
        text="… as a share of the empty drain",
        unit="share",
        bars=Bars(0.60, 0.80, 0.95),
    ),
    Line(
        key="chord_run",
        text="chord of 10,000, beside plain jobs",
        unit="jobs/s",
        bars=Bars(0.60),
        judged=Judged.RATIO,
    ),
    Line(
        key="chains_run",
        text="1,000 chains of 10, beside plain jobs",
        unit="jobs/s",
        bars=Bars(0.60),
        judged=Judged.RATIO,
    ),
    _less("chain_step", "one step of a chain, p50", "ms", Bars(2.0)),
    _less("large_chord", "chord of 100,000, with its enqueue", "s", Bars(60.0)),
    Line(
        key="lanes_run",
        text="under a limit, in 1,000 lanes, beside plain jobs",
        unit="jobs/s",
        bars=Bars(done=0.50),
        judged=Judged.RATIO,
    ),
    Line(
        key="blocked_run",
        text="plain jobs beside 100,000 blocked by a limit",
        unit="jobs/s",
        bars=Bars(done=0.80),
        judged=Judged.RATIO,
    ),
    Line(key="held_run", text="run beside an enqueue held open", unit="share", bars=Bars(0.90)),
    _less("held_start", "… from its commit to its last job's start", "s", Bars(2.0)),
    Line(
        key="snapshot_run",
        text="run under a held snapshot, last third to first",
        unit="share",
        bars=Bars(0.90),
    ),
    _less("snapshot_dead", "… dead rows that came with 1,000 jobs", "rows"),
    _less("snapshot_size", "… growth of ready, run and delta", "MB", Bars(1.0)),
)
