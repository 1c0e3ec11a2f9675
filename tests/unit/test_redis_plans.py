"""What is sent to a script is what the core decides, for every case that the script may find."""

import pytest

from cicely.core.job import Tallies
from cicely.core.outcome import (
    MAX_CRASHES,
    MAX_LOST,
    Again,
    Crashed,
    Deferred,
    Failed,
    Finish,
    HandedBack,
    Outcome,
    Stopped,
    Succeeded,
    after_loss,
    decide,
    reason_of,
)
from cicely.engines.redis.plans import WHY, Planned, Step, loss, planned

OUTCOMES = [
    Succeeded(b"", b"result"),
    Failed(b"", "error", b"why"),
    Failed(b"", "timeout", b"why", retry_in_s=5.0),
    Crashed(b"", "killed by signal 9"),
    HandedBack(b"", "stopped"),
    HandedBack(b"", "its process died", alone=True),
    HandedBack(b"", "stopped", has_started=True),
    Deferred(b"", 20.0, "not yet"),
    Stopped(b"", "asked to"),
]
EARLIER = [
    Tallies(errors=errors, crashes=crashes, lost=lost)
    for errors in (0, 7)
    for crashes in range(MAX_CRASHES)
    for lost in (0, 3)
]


@pytest.mark.parametrize("earlier", EARLIER, ids=str)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_an_outcome_is_carried_out_as_the_core_decides(outcome: Outcome, earlier: Tallies) -> None:
    right = decide(outcome, earlier, cancelling=False)

    assert _carried_out(planned(outcome), earlier) == _as_seen(right)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_an_outcome_of_a_cancelled_job_is_carried_out_as_the_core_decides(outcome: Outcome) -> None:
    right = decide(outcome, Tallies(), cancelling=True, why="by hand")

    stopped = planned(outcome).plan[5]

    assert isinstance(right, Finish)
    assert stopped == (right.state.value, WHY, None, False, False)
    assert right.reason == "by hand"


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_an_attempt_is_recorded_under_its_outcomes_word(outcome: Outcome) -> None:
    plan = planned(outcome).plan

    assert (plan[0], plan[6]) == (reason_of(outcome), reason_of(outcome))


@pytest.mark.parametrize("lost", range(MAX_LOST))
def test_a_loss_is_carried_out_as_the_core_decides(lost: int) -> None:
    earlier = Tallies(errors=2, lost=lost)

    assert _carried_out(loss(), earlier) == _as_seen(after_loss(earlier, cancelling=False))


def _carried_out(one: Planned, earlier: Tallies) -> tuple[Step, bytes, Tallies]:
    """Do what `decisions.lua` does with a plan."""
    _, charge, limit, step, last, *_ = one.plan
    tallies = [earlier.errors, earlier.crashes, earlier.lost]
    payload = one.payload
    if charge:
        tallies[charge - 1] += 1
        if limit and tallies[charge - 1] >= limit:
            assert last is not None
            step, payload = last, one.last_payload
    return step, payload, Tallies(*tallies)


def _as_seen(decided: Again | Finish) -> tuple[Step, bytes, Tallies]:
    if isinstance(decided, Finish):
        step: Step = (decided.state.value, decided.reason, None, False, False)
        return step, decided.result or decided.error, decided.tallies
    step = ("", decided.reason, decided.delay_s, decided.alone, decided.has_started)
    return step, decided.error, decided.tallies


def test_what_an_outcome_keeps_and_frees_is_told_behind_what_it_tells_valves() -> None:
    kept = planned(Succeeded(b"", keeps=("gpu 1",), frees=("tpu",))).plan[7]
    stopped = planned(Stopped(b"", frees=("",))).plan[7]
    silent = planned(Succeeded(b"", spent={"tokens": 3.0})).plan[7]

    assert kept is not None
    assert kept[0] is True
    assert kept[7:] == (["gpu%201"], ["tpu"])
    assert stopped is not None
    assert not any(stopped[:7])
    assert stopped[7:] == (None, [""])
    assert silent is not None
    assert len(silent) < 8
