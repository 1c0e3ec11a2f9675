"""What each outcome makes of a job, by its tallies and whether it was asked to cancel."""

import pytest

from cicely.core.job import Tallies
from cicely.core.outcome import (
    MAX_CRASHES,
    MAX_FREE_PROBES,
    MAX_LOST,
    PROBED,
    Again,
    Crashed,
    Deferred,
    ErrorRecord,
    Failed,
    Finish,
    HandedBack,
    Outcome,
    Stopped,
    Succeeded,
    after_loss,
    after_probe,
    after_visibility,
    decide,
    reason_of,
)
from cicely.core.states import State

TOKEN = b"t" * 16
SOME = Tallies(errors=1, crashes=1, lost=1)
ALL_OUTCOMES: list[Outcome] = [
    Succeeded(TOKEN),
    Failed(TOKEN, "error"),
    Failed(TOKEN, "error", retry_in_s=1),
    Crashed(TOKEN, "exited with 3"),
    HandedBack(TOKEN),
    Deferred(TOKEN, 1),
    Stopped(TOKEN),
]


def test_a_success_ends_with_its_result() -> None:
    step = decide(Succeeded(TOKEN, b"result"), SOME, cancelling=False)

    assert step == Finish(State.SUCCEEDED, SOME, "", result=b"result")


def test_a_failure_without_a_wait_ends_and_is_charged() -> None:
    step = decide(Failed(TOKEN, "timeout", b"why"), Tallies(), cancelling=False)

    assert step == Finish(State.FAILED, Tallies(errors=1), "timeout", error=b"why")


def test_a_failure_with_a_wait_runs_again_and_is_charged() -> None:
    step = decide(Failed(TOKEN, "error", b"why", retry_in_s=60), SOME, cancelling=False)

    assert step == Again(Tallies(2, 1, 1), "error", delay_s=60, error=b"why", has_started=True)


def test_a_crash_runs_again_at_once_and_is_charged() -> None:
    step = decide(Crashed(TOKEN, "exited with 3"), Tallies(), cancelling=False)

    assert isinstance(step, Again)
    assert (step.tallies, step.delay_s) == (Tallies(crashes=1), None)
    assert "exited with 3" in step.reason


def test_the_last_crash_is_poison_and_says_how_it_died() -> None:
    tallies = Tallies(crashes=MAX_CRASHES - 1)

    step = decide(Crashed(TOKEN, "killed by signal 11"), tallies, cancelling=False)

    assert isinstance(step, Finish)
    assert (step.state, step.reason) == (State.FAILED, "poison")
    assert "killed by signal 11" in ErrorRecord.decoded(step.error).message


def test_errors_and_losses_do_not_count_as_crashes() -> None:
    step = decide(Crashed(TOKEN, "exited with 3"), Tallies(errors=9, lost=9), cancelling=False)

    assert isinstance(step, Again)


@pytest.mark.parametrize("alone", [True, False])
def test_a_hand_back_is_free(*, alone: bool) -> None:
    step = decide(HandedBack(TOKEN, "stopped", alone=alone), SOME, cancelling=False)

    assert step == Again(SOME, "stopped", alone=alone, has_started=alone)


def test_a_deferral_is_free_and_waits() -> None:
    step = decide(Deferred(TOKEN, 20, "not yet"), SOME, cancelling=False)

    assert step == Again(SOME, "not yet", delay_s=20, has_started=True)


@pytest.mark.parametrize("retry_in_s", [None, 60.0])
def test_a_failed_probe_is_free_and_goes_behind_the_others(retry_in_s: float | None) -> None:
    outcome = Failed(TOKEN, "error", b"why", retry_in_s, blames=("db", "mail"))

    step = after_probe(outcome, SOME, last=("error",))

    reason = "a probe of breaker db, mail, which failed"
    assert step == Again(SOME, reason, delay_s=0.0, error=b"why", has_started=True)


def test_after_ten_probes_in_a_row_one_is_charged() -> None:
    outcome = Failed(TOKEN, "error", blames=("db",))

    assert MAX_FREE_PROBES == 10
    assert after_probe(outcome, SOME, last=[PROBED] * 10) is None
    assert after_probe(outcome, SOME, last=[PROBED] * 9) is not None
    assert after_probe(outcome, SOME, last=[*[PROBED] * 9, "deferred"]) is not None


def test_a_stopped_attempt_ends_as_cancelled() -> None:
    step = decide(Stopped(TOKEN, "asked to"), SOME, cancelling=False)

    assert step == Finish(State.CANCELLED, SOME, "asked to")


@pytest.mark.parametrize("outcome", ALL_OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_whatever_a_cancelled_job_reports_it_ends_as_cancelled(outcome: Outcome) -> None:
    step = decide(outcome, SOME, cancelling=True)

    assert isinstance(step, Finish)
    assert (step.state, step.tallies, step.result) == (State.CANCELLED, SOME, b"")


def test_a_loss_runs_again_at_once_and_is_charged() -> None:
    step = after_loss(Tallies(crashes=2), cancelling=False)

    assert isinstance(step, Again)
    assert (step.tallies, step.delay_s) == (Tallies(crashes=2, lost=1), None)


def test_the_last_loss_gives_up() -> None:
    step = after_loss(Tallies(lost=MAX_LOST - 1), cancelling=False)

    assert isinstance(step, Finish)
    assert (step.state, step.reason) == (State.FAILED, "lost")


def test_a_lost_job_that_was_cancelled_ends_at_no_cost() -> None:
    step = after_loss(Tallies(), cancelling=True)

    assert isinstance(step, Finish)
    assert (step.state, step.tallies) == (State.CANCELLED, Tallies())


def test_a_message_not_acknowledged_in_time_comes_again() -> None:
    step = after_visibility(Tallies(), max_receives=2)

    assert isinstance(step, Again)
    assert step.tallies == Tallies(errors=1)


def test_a_message_is_given_up_after_its_last_receive() -> None:
    step = after_visibility(Tallies(errors=1), max_receives=2)

    assert isinstance(step, Finish)
    assert (step.state, step.reason) == (State.FAILED, "max_receives")


def test_each_outcome_is_recorded_under_a_word() -> None:
    assert [reason_of(outcome) for outcome in ALL_OUTCOMES] == [
        "succeeded",
        "error",
        "error",
        "crashed",
        "handed back",
        "deferred",
        "cancelled",
    ]


def test_an_error_record_comes_back_as_it_was() -> None:
    record = ErrorRecord("ValueError", "no \u202e such \x00 thing", "line 1", "evals")

    assert ErrorRecord.decoded(record.encoded()) == record


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80\x04K\x01.", b"\x93\x01\x02\x03", b"{}"])
def test_an_error_record_that_cannot_be_read_says_so(data: bytes) -> None:
    assert ErrorRecord.decoded(data).type_name == "Malformed"


def test_the_cut_offs_are_three_and_ten() -> None:
    assert (MAX_CRASHES, MAX_LOST) == (3, 10)


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(TOKEN, "error", retry_in_s=1),
        Crashed(TOKEN, "exited with 3"),
        Deferred(TOKEN, 1),
        HandedBack(TOKEN, alone=True),
        HandedBack(TOKEN, has_started=True),
    ],
    ids=repr,
)
def test_what_ran_has_started(outcome: Outcome) -> None:
    step = decide(outcome, Tallies(), cancelling=False)

    assert isinstance(step, Again)
    assert step.has_started


def test_a_claim_that_is_handed_back_has_not_started_unless_it_says_so() -> None:
    step = decide(HandedBack(TOKEN, "stopped"), Tallies(), cancelling=False)

    assert isinstance(step, Again)
    assert not step.has_started


def test_a_cancelled_job_ends_for_the_reason_that_was_given() -> None:
    settled = decide(Crashed(TOKEN, "exited with 3"), SOME, cancelling=True, why="wrong model")
    lost = after_loss(SOME, cancelling=True, why="wrong model")

    assert settled == lost == Finish(State.CANCELLED, SOME, "wrong model")
