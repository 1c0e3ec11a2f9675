"""What a torture found, and what it makes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import ceil, inf
from typing import Any

import msgspec

from cicely.core.job import Job, Kind
from cicely.testing.ledger import Judgement, Line
from cicely.testing.torture.crowding import Crowding

#: Reasons of attempts that ended by themselves, after which another is no consequence of a fault.
_OWN_ENDS = frozenset({"error", "timeout", "stalled", "out of memory", "deferred"})


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one torture.

    `idle_re_runs` happened while nothing was done to the workers. `unexplained` counts attempts
    that followed one in a process to which nothing was done, and which did not fail by itself.
    `fences_out_of_order` counts starts whose fence was not above the one before. `due_late_s` is how late
    99 % of the `due_jobs` started, at most, that were due one after the other on an idle system: measured,
    and not judged. `crowding` is of limits, units and lanes, where the engine has them.
    """

    url: str
    seed: int
    seconds: float
    judgement: Judgement
    faults: Mapping[str, int]
    states: Mapping[str, int]
    idle_jobs: int
    idle_re_runs: int
    retries: int
    unexplained: int
    fences_out_of_order: int
    stale_refused: int
    still_moving: int
    due_jobs: int = 0
    due_late_s: float = 0.0
    crowding: Crowding | None = None

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return (
            self.judgement.is_clean
            and (self.crowding is None or self.crowding.is_clean)
            and not (self.idle_re_runs or self.unexplained or self.fences_out_of_order or self.still_moving)
        )

    @property
    def re_runs_per_fault(self) -> float:
        """How many attempts each injected fault cost, on average."""
        faults = sum(self.faults.values())
        return (self.judgement.re_runs - self.retries) / faults if faults else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return {
            **msgspec.to_builtins(self),
            "re_runs_per_fault": round(self.re_runs_per_fault, 3),
            "is_clean": self.is_clean,
        }

    def lines(self) -> list[str]:
        """Return the report for people to read; the figures that must be 0 say so."""
        found = self.judgement
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items()))
        figures = [
            ("attempted", found.attempted, ""),
            ("acknowledged", found.acknowledged, ""),
            ("lost", found.lost, "0"),
            ("accepted twice", found.accepted_twice, "0"),
            ("overlapped", found.overlapped, "0"),
            ("run again after an accepted end", found.run_again_after_accepted_end, "0"),
            ("started twice under one fence", found.started_twice_under_one_fence, "0"),
            ("succeeded without an end", found.never_ended, "0"),
            ("fences out of order", self.fences_out_of_order, "0"),
            (f"idle re-runs, of {self.idle_jobs:,} jobs", self.idle_re_runs, "0"),
            ("re-runs that no fault explains", self.unexplained, "0"),
            ("faults injected", sum(self.faults.values()), faults),
            ("re-runs per fault", round(self.re_runs_per_fault, 2), ""),
            ("retries of failed attempts", self.retries, ""),
            ("stale outcomes refused", self.stale_refused, ""),
        ]
        if self.crowding is not None:
            figures += self.crowding.figures()
        if self.due_jobs:
            late = f"ms late, p99 of {self.due_jobs:,} due jobs"
            figures.append((late, round(1_000 * self.due_late_s), "50 on a machine of its own"))
        lines = [f"{name:34} {figure:>10,}  {_remark(note)}".rstrip() for name, figure, note in figures]
        verdict = "every promise was kept" if self.is_clean else "A PROMISE WAS BROKEN"
        return [*lines, f"seed {self.seed}, {self.seconds:.0f} s: {verdict}"]


def _remark(note: str) -> str:
    if note == "0":
        return "must be 0"
    return f"({note})" if note else ""


def retries_in(jobs: Iterable[Job | None]) -> int:
    """Count the attempts that failed by themselves and were followed by another."""
    return sum(
        1 for job in jobs if job is not None for record in job.attempts[:-1] if record.reason in _OWN_ENDS
    )


def unexplained_in(
    lines: Iterable[Line], jobs: Mapping[str, Job | None], victims: Collection[int]
) -> list[Line]:
    """Return the starts that follow an attempt which neither failed nor was hit.

    Of shared processes only: an isolated attempt runs again when the child that would have settled
    it was hit, and its own process may be gone by then.
    """
    before: dict[str, Line] = {}
    found: list[Line] = []
    for line in lines:
        if line.what != "start":
            continue
        last = before.get(line.job_id)
        job = jobs.get(line.job_id)
        before[line.job_id] = line
        if last is None or job is None or job.kind is Kind.ISOLATED or last.pid in victims:
            continue
        if not _ended_by_itself(job, last.fence):
            found.append(line)
    return found


def _ended_by_itself(job: Job, fence: int) -> bool:
    return any(attempt.fence == fence and attempt.reason in _OWN_ENDS for attempt in job.attempts)


def late_s(lines: Iterable[Line], due: Mapping[str, float]) -> float:
    """Return how late 99 % of the jobs in `due` first started, at most, by the clock of the ledger.

    A job that never started counts as late for ever.
    """
    started: dict[str, float] = {}
    for line in lines:
        if line.what == "start":
            started.setdefault(line.job_id, line.at)
    delays = sorted(started.get(job_id, inf) - due_at for job_id, due_at in due.items())
    return delays[ceil(0.99 * len(delays)) - 1] if delays else 0.0


def fences_out_of_order_in(lines: Iterable[Line]) -> int:
    """Count the starts whose fence is not above that of the job's start before."""
    highest: dict[str, int] = {}
    found = 0
    for line in lines:
        if line.what != "start":
            continue
        if line.fence <= highest.get(line.job_id, 0):
            found += 1
        highest[line.job_id] = max(line.fence, highest.get(line.job_id, 0))
    return found
