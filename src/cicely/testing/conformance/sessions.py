"""A session holds claims between its joining and its end, and then never again."""

from __future__ import annotations

from cicely.core.job import Tallies
from cicely.core.outcome import Crashed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Host
from cicely.errors import SessionClosed
from cicely.testing.conformance.bench import (
    LEASE_S,
    beat,
    demand,
    job,
    look,
    near,
    refused,
    session,
    settle,
    silent,
    start,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_session_is_kept_as_it_registered(harness: Harness) -> None:
    engine = harness.engine()
    joining = session(
        id="s",
        host=Host("boot", 4026531836, 1000),
        pid=7,
        start_time=123456,
        mark="mark",
        name="child 1",
        queues=("high", "low"),
    )

    engine.join(joining)

    [record] = engine.sessions()
    assert record.session == joining
    assert (record.beat, record.held) == (0, 0)


def test_joining_again_is_the_same_session(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    engine.join(session(id="s"))

    [record] = engine.sessions()
    assert record.held == 1
    assert beat(engine, claim).lost == ()


def test_sessions_are_listed_oldest_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="z"))
    harness.advance(1)
    engine.join(session(id="a"))

    assert [record.session.id for record in engine.sessions()] == ["z", "a"]


def test_a_beat_is_counted_at_the_engines_time(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    harness.advance(10)

    answer = beat(engine)

    [record] = engine.sessions()
    assert answer.alive
    assert record.beat == 1
    assert near(record.beat_at, record.joined_at + 10)


def test_one_call_beats_for_many_sessions(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.join(session(id="t"))

    answers = engine.beat({"s": [], "t": [], "stranger": []}, 1)

    assert {answer.session_id: answer.alive for answer in answers} == {
        "s": True,
        "t": True,
        "stranger": False,
    }


def test_a_beat_names_the_claims_that_were_lost(harness: Harness) -> None:
    engine = harness.engine()
    kept = start(engine, job(id="a"))
    gone = start(engine, job(id="b"))
    settle(engine, Succeeded(gone.token))

    assert beat(engine, kept, gone).lost == (gone.token,)


def test_a_beat_of_a_retired_session_loses_all_its_claims(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.retire("s")

    answer = beat(engine, claim)

    assert not answer.alive
    assert answer.lost == (claim.token,)


def test_a_claim_whose_reply_was_lost_is_handed_back(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    beat(engine)
    assert state_of(engine) is State.RUNNING
    beat(engine)

    assert state_of(engine) is State.READY
    assert look(engine).tallies == Tallies()


def test_one_beat_hands_back_nothing_however_old_the_claim(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    harness.advance(LEASE_S * 100)

    beat(engine)

    assert state_of(engine) is State.RUNNING


def test_a_beat_that_names_the_claim_in_between_keeps_it(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    beat(engine)
    beat(engine, claim)

    beat(engine)

    assert state_of(engine) is State.RUNNING


def test_a_claim_that_is_repeated_between_two_beats_stays(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand()
    engine.claim("s", wanted)
    beat(engine)
    engine.claim("s", wanted)

    beat(engine)
    assert state_of(engine) is State.RUNNING
    beat(engine)

    assert state_of(engine) is State.READY


def test_a_beat_that_was_overtaken_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    beat(engine, claim, number=7)

    late = [beat(engine, number=number) for number in (5, 6, 7)]

    assert (state_of(engine), silent(engine).beat) == (State.RUNNING, 7)
    assert all(answer.alive for answer in late)


def test_beats_whose_numbers_do_not_follow_each_other_hand_back_nothing(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    for number in (1, 3, 5):
        beat(engine, number=number)
    assert state_of(engine) is State.RUNNING
    beat(engine, number=6)

    assert state_of(engine) is State.READY


def test_a_beat_of_an_old_number_tells_what_was_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])
    beat(engine, number=1)

    asked = beat(engine, claim, number=1)

    assert asked.cancelled == (claim.token,)
    assert silent(engine).beat == 1
    beat(engine, number=2)
    assert state_of(engine) is State.CANCELLED


def test_a_beat_that_is_repeated_counts_once(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    beat(engine, number=1)
    beat(engine, number=1)

    assert state_of(engine) is State.RUNNING


def test_a_claim_that_is_named_stays_for_days(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(7 * 86_400)

    beat(engine, claim)
    sweep(engine)

    assert state_of(engine) is State.RUNNING
    assert settle(engine, Succeeded(claim.token)).value == "accepted"


def test_a_lost_reply_of_a_cancelled_job_ends_it(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    beat(engine)
    beat(engine)

    assert state_of(engine) is State.CANCELLED


def test_retiring_hands_back_at_no_cost(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    engine.retire("s")

    assert state_of(engine) is State.READY
    assert look(engine).tallies == Tallies()
    assert engine.sessions() == []


def test_retiring_settles_what_it_is_given_first(harness: Harness) -> None:
    engine = harness.engine()
    first = start(engine, job(id="a"))
    second = start(engine, job(id="b"))
    start(engine, job(id="c"))

    engine.retire("s", [Succeeded(first.token), Crashed(second.token, "exited with 3")])

    assert state_of(engine, "a") is State.SUCCEEDED
    assert look(engine, "b").tallies == Tallies(crashes=1)
    assert look(engine, "c").tallies == Tallies()


def test_retiring_ends_what_was_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    engine.retire("s")

    assert state_of(engine) is State.CANCELLED


def test_retiring_twice_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.retire("s", [Succeeded(claim.token)])
    before = look(engine)

    engine.retire("s", [Succeeded(claim.token)])

    assert look(engine) == before


def test_retiring_a_stranger_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    engine.retire("stranger")

    assert state_of(engine) is State.RUNNING


def test_a_claim_that_arrives_after_its_session_retired_takes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    in_flight = demand()
    engine.retire("s")

    with refused(SessionClosed):
        engine.claim("s", in_flight)

    assert state_of(engine) is State.READY


def test_a_repeated_claim_of_a_retired_session_takes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand()
    engine.claim("s", wanted)
    engine.retire("s")

    with refused(SessionClosed):
        engine.claim("s", wanted)


def test_a_join_that_arrives_after_its_session_retired_does_not_bring_it_back(
    harness: Harness,
) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    engine.retire("s")

    with refused(SessionClosed):
        engine.join(session(id="s"))

    assert engine.sessions() == []


def test_retiring_one_session_leaves_the_others_alone(harness: Harness) -> None:
    engine = harness.engine()
    mine = start(engine, job(id="a"), by="s")
    start(engine, job(id="b"), by="t")

    engine.retire("t")

    assert beat(engine, mine).lost == ()
    assert take_one(engine).job_id == "b"
    assert take(engine) == ()
