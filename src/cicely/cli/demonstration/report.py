"""What came of the demo, from the engine's records and the ledger, and whether it may be so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cicely.cli.demonstration.grading import PASSED
from cicely.cli.demonstration.plan import Candidate
from cicely.cli.demonstration.variants import Variant
from cicely.core.job import Job
from cicely.core.outcome import MAX_CRASHES, ErrorRecord
from cicely.core.states import State
from cicely.testing.ledger import Judgement

WRONG: Final = "wrong answer"
UNFINISHED: Final = "not finished"

_POISON: Final = "poison"
_BEFORE_THE_DEATH: Final = "the last: "


class Kill(msgspec.Struct, frozen=True):
    """The worker that was killed, when, and how many jobs had ended by then."""

    pid: int
    at_s: float
    done: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result. `outcomes` counts programs by outcome and variant."""

    problems: int
    jobs: int
    outcomes: Mapping[str, Mapping[Variant, int]]
    right: int
    right_passed: int
    attempts: int
    re_runs_after_kill: int
    kill: Kill | None
    judgement: Judgement
    wall_s: float
    faults: Sequence[str] = ()


def outcome_of(job: Job | None, verdict: object) -> str:
    """Say in a few words how a program ended; `verdict` is what the grader answered, if it did."""
    if job is None or not job.state.is_final:
        return UNFINISHED
    if job.state is State.SUCCEEDED:
        return PASSED if verdict == PASSED else WRONG
    if job.state is State.FAILED and job.reason == _POISON:
        death = ErrorRecord.decoded(job.error).message.rpartition(_BEFORE_THE_DEATH)[2]
        return f"{death}, {MAX_CRASHES} times"
    return job.reason or str(job.state)


def table(candidates: Sequence[Candidate], outcomes: Mapping[str, str]) -> dict[str, dict[Variant, int]]:
    """Count the programs by outcome and variant, in the order in which they are met."""
    counts: dict[str, dict[Variant, int]] = {}
    for candidate in candidates:
        row = counts.setdefault(outcomes[candidate.job_id], {})
        row[candidate.variant] = row.get(candidate.variant, 0) + 1
    return counts


def re_runs_after_kill(judgement: Judgement, jobs: Mapping[str, Job | None]) -> int:
    """Count the starts beyond a job's first that its own crashes do not explain."""
    known = [job for job in jobs.values() if job is not None]
    after_crashes = sum(min(job.tallies.crashes, MAX_CRASHES - 1) for job in known)
    return max(0, judgement.re_runs - after_crashes)


def faults(
    outcomes: Mapping[str, Mapping[Variant, int]], judgement: Judgement, *, kill: Kill | None
) -> list[str]:
    """Return what should not be so, one sentence each; none when the demo has shown its point."""
    found = [_of_variant(variant, counts) for variant, counts in _by_variant(outcomes).items()]
    found += [f"{number} {what}" for what, number in _must_be_none(judgement).items() if number]
    if kill is None:
        found.append("no worker was killed")
    return [fault for fault in found if fault]


def _by_variant(outcomes: Mapping[str, Mapping[Variant, int]]) -> dict[Variant, Counter[str]]:
    counts: dict[Variant, Counter[str]] = {}
    for outcome, row in outcomes.items():
        for variant, number in row.items():
            counts.setdefault(variant, Counter())[outcome] += number
    return counts


def _of_variant(variant: Variant, counts: Counter[str]) -> str:
    passed = counts[PASSED]
    if variant is Variant.RIGHT:
        missing = counts.total() - passed
        return f"{missing} of {counts.total()} right solutions did not pass" if missing else ""
    return f"{passed} programs of the variant '{variant}' passed" if passed else ""


def _must_be_none(judgement: Judgement) -> dict[str, int]:
    return {
        "jobs were lost": judgement.lost,
        "attempts overlapped another of the same job": judgement.overlapped,
        "jobs ran again after an accepted end": judgement.run_again_after_accepted_end,
        "jobs were accepted twice": judgement.accepted_twice,
        "claims were started twice": judgement.started_twice_under_one_fence,
        "jobs succeeded and did not write down their end": judgement.never_ended,
    }
