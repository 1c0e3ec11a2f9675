"""What the demo makes of the engine's records and the ledger."""

import pytest

from cicely.cli.demonstration.grading import PASSED
from cicely.cli.demonstration.plan import Candidate
from cicely.cli.demonstration.report import (
    UNFINISHED,
    WRONG,
    Kill,
    faults,
    outcome_of,
    re_runs_after_kill,
    table,
)
from cicely.cli.demonstration.variants import Variant
from cicely.core.job import Job, Kind, Tallies
from cicely.core.outcome import Crashed, Finish, decide
from cicely.core.states import State
from cicely.testing.ledger import Judgement

KILL = Kill(pid=1, at_s=1.0, done=2)
GOOD = {PASSED: {Variant.RIGHT: 2}, WRONG: {Variant.OFF_BY_ONE: 2}, "timeout": {Variant.ENDLESS: 2}}
CLEAN = Judgement(attempted=6, acknowledged=6, started=6, re_runs=0)


def job(state, *, reason="", error=b"", crashes=0):
    return Job(
        id="j",
        task="t",
        kind=Kind.ISOLATED,
        queue="q",
        state=state,
        reason=reason,
        error=error,
        tallies=Tallies(crashes=crashes),
    )


@pytest.mark.parametrize(
    ("record", "verdict", "outcome"),
    [
        (job(State.SUCCEEDED), PASSED, PASSED),
        (job(State.SUCCEEDED), "AssertionError", WRONG),
        (job(State.SUCCEEDED), None, WRONG),
        (job(State.FAILED, reason="timeout"), None, "timeout"),
        (job(State.FAILED, reason="out of memory"), None, "out of memory"),
        (job(State.RUNNING), None, UNFINISHED),
        (None, None, UNFINISHED),
    ],
)
def test_an_outcome_is_named(record, verdict, outcome):
    assert outcome_of(record, verdict) == outcome


def test_a_program_that_ends_its_process_is_named_by_how_it_did():
    end = decide(Crashed(b"", "exited with 3"), Tallies(crashes=2), cancelling=False)
    assert isinstance(end, Finish)

    outcome = outcome_of(job(end.state, reason=end.reason, error=end.error, crashes=3), None)

    assert outcome == "exited with 3, 3 times"


def test_the_table_counts_by_outcome_and_variant():
    programs = [
        Candidate("a", "P/0", Variant.RIGHT, "", "", ""),
        Candidate("b", "P/0", Variant.ENDLESS, "", "", ""),
        Candidate("c", "P/1", Variant.RIGHT, "", "", ""),
    ]

    counts = table(programs, {"a": PASSED, "b": "timeout", "c": PASSED})

    assert counts == {PASSED: {Variant.RIGHT: 2}, "timeout": {Variant.ENDLESS: 1}}


def test_attempts_after_a_programs_own_crashes_are_not_blamed_on_the_kill():
    judgement = Judgement(attempted=2, acknowledged=2, started=5, re_runs=3)
    poison = job(State.FAILED, reason="poison", crashes=3)

    assert re_runs_after_kill(judgement, {"a": poison, "b": job(State.SUCCEEDED)}) == 1


def test_a_clean_run_has_no_faults():
    assert faults(GOOD, CLEAN, kill=KILL) == []


@pytest.mark.parametrize(
    ("outcomes", "judgement", "kill", "fault"),
    [
        (GOOD, CLEAN, None, "no worker was killed"),
        (
            {PASSED: {Variant.RIGHT: 1}, "timeout": {Variant.RIGHT: 1}},
            CLEAN,
            KILL,
            "1 of 2 right solutions did not pass",
        ),
        ({PASSED: {Variant.HOG: 1}}, CLEAN, KILL, "1 programs of the variant 'memory hog' passed"),
        (
            GOOD,
            Judgement(attempted=6, acknowledged=6, started=6, re_runs=0, lost=1),
            KILL,
            "1 jobs were lost",
        ),
        (
            GOOD,
            Judgement(attempted=6, acknowledged=6, started=6, re_runs=0, overlapped=2),
            KILL,
            "2 attempts overlapped another of the same job",
        ),
        (
            GOOD,
            Judgement(attempted=6, acknowledged=6, started=6, re_runs=0, run_again_after_accepted_end=1),
            KILL,
            "1 jobs ran again after an accepted end",
        ),
    ],
)
def test_what_should_not_be_is_said(outcomes, judgement, kill, fault):
    assert faults(outcomes, judgement, kill=kill) == [fault]
