"""Events: which ends and attempts are told."""

import pytest

from cicely.core.event import KINDS, Event, EventFilter, kind_of_end, kind_of_pause, kind_of_step
from cicely.core.job import Tallies
from cicely.core.outcome import Again
from cicely.core.states import State


@pytest.mark.parametrize(
    ("run_s", "watched", "kind"),
    [
        (0.999999, False, None),
        (1.0, False, "job.succeeded"),
        (0.0, True, "job.succeeded"),
        (None, False, None),
    ],
)
def test_a_success_is_told_where_it_took_long_or_is_watched(
    run_s: float | None, *, watched: bool, kind: str | None
) -> None:
    assert kind_of_end(State.SUCCEEDED, run_s=run_s, watched=watched, cause="") == kind


def test_other_ends_are_told_but_for_a_cancellation_by_anothers_end() -> None:
    def told(state: State, cause: str = "") -> str | None:
        return kind_of_end(state, run_s=None, watched=False, cause=cause)

    assert [told(s) for s in (State.FAILED, State.EXPIRED, State.CANCELLED)] == [
        "job.failed",
        "job.expired",
        "job.cancelled",
    ]
    assert told(State.CANCELLED, "another") is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("error", "job.retried"),
        ("crashed", "job.crashed"),
        ("lost", "job.lost"),
        ("deferred", None),
        ("handed back", None),
    ],
)
def test_attempts_that_went_wrong_are_told(reason: str, kind: str | None) -> None:
    assert kind_of_step(Again(Tallies(), "", has_started=True), reason) == kind


def test_a_schedule_is_told_of_when_it_is_paused_or_resumed() -> None:
    assert kind_of_pause(was_paused=False, is_paused=True) == "schedule.paused"
    assert kind_of_pause(was_paused=True, is_paused=False) == "schedule.resumed"
    assert kind_of_pause(was_paused=True, is_paused=True) is None


def test_kinds_are_a_noun_and_a_verb() -> None:
    assert all(kind.count(".") == 1 for kind in KINDS)
    assert len(set(KINDS)) == len(KINDS)


def test_a_filter_takes_kinds_and_nouns() -> None:
    event = Event(kind="job.failed", at=5.0, task="t")

    assert EventFilter(kinds=("job",)).matches(event)
    assert EventFilter(kinds=("worker", "job.failed")).matches(event)
    assert not EventFilter(kinds=("job.lost",)).matches(event)
    assert not EventFilter(kinds=("job",), task="u").matches(event)
    assert not EventFilter(since=5.1).matches(event)
